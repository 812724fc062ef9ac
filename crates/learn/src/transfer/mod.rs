//! A trained model's weights as the start of a model with another encoder: what a training on later data begins with.
//!
//! In: the trained model (the *parent*) with its encoder, and a fresh one (the *child*). Out: the child's parameters are
//! set. The function is preserved as far as the new encoding allows (Chen et al. 2016, "Net2Net"): on records of the
//! fields that both know, the child predicts what the parent predicted, where a number keeps its rank; a field that only the parent knew counts as
//! hidden; one that only the child knows is not heard at first, since its rows of the input layer start at zero, which
//! does not keep them from learning.
//!
//! [`fields`] says which field is which, [`mixes`] which row or column is made of which, and the table [`RULES`] which
//! tensor follows from what. Invariant: nothing depends on the order of fields or codes, only on names and values.

mod categories;
mod fields;
mod inputs;
mod mixes;
mod outputs;
mod weights;

use crate::encode::Encoder;
use crate::model::{MaskedAutoencoder, ModelConfig};
use crate::settings::written_key;
use categories::CategoryMatch;
use fields::{FieldMatch, match_fields};
use inputs::InputRows;
use mixes::{mix_columns, mix_rows};
use outputs::OutputMixes;
use serde_json::Value;
use weights::{Tensors, Weights};

/// Keys of `[model]` on which shapes depend that are not matched: parent and child must agree on them.
const AGREED_KEYS: [&str; 7] = [
    "architecture",
    "denoising",
    "masking",
    "likelihood",
    "width",
    "blocks",
    "histogram_bins",
];

/// How a tensor of the child follows from the parent's; `name` is the child's.
type Rule = fn(&Transfer, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>>;

/// The rule of every parameter by the beginning of its name; the first that fits counts.
const RULES: [(&str, Rule); 8] = [
    ("block.", Transfer::as_it_is),
    ("embedding.", Transfer::embedding),
    ("input.bias", Transfer::input_bias),
    ("input.weight", Transfer::input_weight),
    ("output.bias", Transfer::output_bias),
    ("output.weight", Transfer::output_weight),
    ("token.numbers", Transfer::number_tokens),
    ("token.", Transfer::category_token),
];

/// Fields that a message names before the rest is only counted.
const NAMES_SHOWN_MAX: usize = 8;

/// Why a model cannot start from another.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The configurations ask for shapes that do not fit each other; all of them.
    #[error("training cannot start from model {parent}: {}", faults.join("; "))]
    Disagreement {
        /// The parent's `model_id`.
        parent: String,
        /// Key and both values of each.
        faults: Vec<String>,
    },
    /// A parameter of which nobody said how it is carried over.
    #[error(
        "a training of this kind of model cannot start from a bundle: parameter '{name}' has no rule"
    )]
    NoRule {
        /// The parameter.
        name: String,
    },
    /// The tensor library failed.
    #[error("the tensor library failed")]
    Tensor(#[from] candle_core::Error),
}

/// A model with the encoder of its records.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The fitted encoder.
    pub encoder: &'a Encoder,
    /// The model of its fields.
    pub model: &'a MaskedAutoencoder,
}

/// What was carried over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transferred {
    /// The child's fields that have the parent's weights.
    pub carried: Vec<String>,
    /// Those of them that are predicted anew: numbers that had two values and now have others or more, or the reverse.
    pub predicted_anew: Vec<String>,
    /// The child's fields that start anew.
    pub new: Vec<String>,
    /// The parent's fields whose weights are used for none.
    pub dropped: Vec<String>,
}

impl Transferred {
    /// The fields in words for a person: how many were carried over, which are new, which were dropped.
    pub fn sentence(&self) -> String {
        let anew = match self.predicted_anew.is_empty() {
            true => String::new(),
            false => format!(" (predicted anew: {})", listed(&self.predicted_anew)),
        };
        format!(
            "{} fields carried over{anew}, new: {}, dropped: {}",
            self.carried.len(),
            listed(&self.new),
            listed(&self.dropped)
        )
    }
}

fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN_MAX)].join(", ");
    match names.len() {
        0 => "none".to_owned(),
        n if n > NAMES_SHOWN_MAX => format!("{shown} and {} more", n - NAMES_SHOWN_MAX),
        _ => shown,
    }
}

/// Why a model of the configuration `child` cannot start from one of `parent`: key and both values, empty if it can.
pub fn disagreements(parent: &ModelConfig, child: &ModelConfig) -> Vec<String> {
    let (parent, child) = (serde_json::to_value(parent), serde_json::to_value(child));
    let (Ok(Value::Object(parent)), Ok(Value::Object(child))) = (parent, child) else {
        return vec!["model: cannot be compared".to_owned()];
    };
    let fault = |key: &&str| {
        let (child, parent) = (child.get(*key)?, parent.get(*key)?);
        let key_of = written_key("model", key);
        let fault = || format!("{key_of} = {child}: must be {parent} as in the bundle");
        (child != parent).then(fault)
    };
    AGREED_KEYS.iter().filter_map(fault).collect()
}

/// Sets the child's parameters from the parent's.
///
/// The models must agree: see [`disagreements`]. What cannot be matched keeps the child's fresh weights.
///
/// # Errors
/// [`TransferError::NoRule`] for a parameter without a rule, [`TransferError::Tensor`].
pub fn transfer(parent: Side<'_>, child: Side<'_>) -> Result<Transferred, TransferError> {
    let transfer = Transfer::new(parent, child)?;
    let mut flat = Vec::with_capacity(child.model.parameters().count());
    // Name order is the order of the flat form.
    for (name, fresh) in transfer.fresh.iter() {
        let rule = RULES.iter().find(|(start, _)| name.starts_with(start));
        let Some((_, rule)) = rule else {
            let name = name.to_owned();
            return Err(TransferError::NoRule { name });
        };
        flat.extend(rule(&transfer, name, fresh)?);
    }
    child.model.parameters().set_flat(&flat)?;
    Ok(transfer.summary(parent.encoder, child.encoder))
}

/// Everything that the rules need.
struct Transfer {
    parent: Tensors,
    fresh: Tensors,
    parent_rows: Vec<InputRows>,
    child_rows: Vec<InputRows>,
    /// `[F]` of the child.
    matches: Vec<Option<FieldMatch>>,
    /// `[F]` of the child; none for fields that are no category or start anew.
    categories: Vec<Option<CategoryMatch>>,
    /// Fields of the parent that no field of the child continues.
    dropped: Vec<usize>,
    outputs: OutputMixes,
}

impl Transfer {
    fn new(parent: Side<'_>, child: Side<'_>) -> candle_core::Result<Self> {
        let tensors = Tensors::read(parent.model.parameters())?;
        let fresh = Tensors::read(child.model.parameters())?;
        let matches = match_fields(parent.encoder, child.encoder);
        let dropped = (0..parent.encoder.fields().len())
            .filter(|&field| matches.iter().flatten().all(|m| m.parent != field))
            .collect();
        let parent_rows = inputs::input_rows(parent.model.shapes(), &tensors)?;
        let child_rows = inputs::input_rows(child.model.shapes(), &fresh)?;
        let mut categories = Vec::with_capacity(matches.len());
        for (field, matched) in matches.iter().enumerate() {
            let parent_field = |m: &FieldMatch| {
                let to = &child.encoder.fields()[field].value;
                let from = &parent.encoder.fields()[m.parent].value;
                let rows = &parent_rows[m.parent].embedding;
                let dim = child_rows[field].embedding.len();
                CategoryMatch::new(from, to, m.parent, rows, dim, &tensors)
            };
            categories.push(matched.as_ref().map(parent_field).transpose()?.flatten());
        }
        let outputs = OutputMixes::new(parent, child, &matches);
        Ok(Self {
            parent: tensors,
            fresh,
            parent_rows,
            child_rows,
            matches,
            categories,
            dropped,
            outputs,
        })
    }

    fn summary(&self, parent: &Encoder, child: &Encoder) -> Transferred {
        let named = |wanted: fn(&Option<FieldMatch>) -> bool| {
            let fields = child.fields().iter().zip(&self.matches);
            let chosen = fields.filter(|(_, matched)| wanted(matched));
            chosen.map(|(field, _)| field.name.clone()).collect()
        };
        let dropped = self.dropped.iter().map(|&field| &parent.fields()[field]);
        Transferred {
            carried: named(Option::is_some),
            predicted_anew: named(|matched| matched.is_some_and(|m| !m.predicted_alike)),
            new: named(Option::is_none),
            dropped: dropped.map(|field| field.name.clone()).collect(),
        }
    }

    /// Tensors that have nothing to do with single fields.
    fn as_it_is(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let parent = self.parent.get(name)?;
        if (parent.rows, parent.columns) != (fresh.rows, fresh.columns) {
            candle_core::bail!("parameter '{name}' has another shape in the bundle");
        }
        Ok(parent.data.clone())
    }

    fn input_weight(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let mixes = inputs::row_mixes(self, fresh.rows);
        Ok(mix_rows(self.parent.get(name)?, &mixes))
    }

    /// A dropped field is hidden for good: what its token added to the input layer becomes a part of the bias.
    fn input_bias(&self, name: &str, _fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let mut bias = self.parent.get(name)?.data.clone();
        let weight = self.parent.get("input.weight")?;
        for &field in &self.dropped {
            for (row, value) in inputs::token(&self.parent, &self.parent_rows[field], field) {
                let weights = weight.row(row).iter();
                bias.iter_mut()
                    .zip(weights)
                    .for_each(|(b, w)| *b += value * w);
            }
        }
        Ok(bias)
    }

    fn number_tokens(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let mixes = inputs::token_mixes(self, fresh.columns);
        Ok(mix_columns(self.parent.find(name), &mixes, fresh, false))
    }

    fn embedding(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        self.of_category(name, fresh, CategoryMatch::embedding)
    }

    fn category_token(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        self.of_category(name, fresh, CategoryMatch::token)
    }

    /// A tensor of one categorical field: its name ends with the field's number.
    fn of_category(
        &self,
        name: &str,
        fresh: &Weights,
        carry: impl Fn(&CategoryMatch, &Weights, &Weights) -> Vec<f32>,
    ) -> candle_core::Result<Vec<f32>> {
        let number = name
            .rsplit_once('.')
            .map(|(start, field)| (start, field.parse()));
        let Some((start, Ok(field))) = number else {
            candle_core::bail!("parameter '{name}' does not end with a field's number");
        };
        let field: usize = field;
        match self.categories.get(field).and_then(Option::as_ref) {
            Some(category) => {
                let parent = self
                    .parent
                    .get(&format!("{start}.{:04}", category.parent))?;
                Ok(carry(category, parent, fresh))
            }
            None => Ok(fresh.data.clone()),
        }
    }

    fn output_weight(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let parent = self.outputs.with_means(self.parent.get(name)?);
        Ok(mix_columns(
            Some(&parent),
            &self.outputs.columns,
            fresh,
            false,
        ))
    }

    fn output_bias(&self, name: &str, fresh: &Weights) -> candle_core::Result<Vec<f32>> {
        let parent = self.outputs.with_means(self.parent.get(name)?);
        Ok(mix_columns(
            Some(&parent),
            &self.outputs.columns,
            fresh,
            true,
        ))
    }
}

#[cfg(test)]
mod tests;
