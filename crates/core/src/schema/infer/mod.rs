//! From records to a commented schema file: what `init` writes.
//!
//! In flow batches of one Arrow schema, out flows TOML text that [`Schema::parse`](super::Schema::parse)
//! accepts and that fits those records. Every row is seen once; memory is bounded a column
//! (`distinct`, `profile`). Which field a column becomes is decided in `rules`.

mod decision;
mod distinct;
mod labels;
mod names;
mod numbers;
mod profile;
mod rules;
mod text;
mod texts;
mod times;

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema as ArrowSchema};
use arrow::error::ArrowError;

use super::check::FIELDS_MAX;
use super::field::{Role, Transform};
use super::fit::{column_at, is_text};
use super::moments::MomentGroup;
use super::variable_decimal::is_variable_decimal;
use decision::Decision;
use labels::{LabelFit, candidates};
use names::{LabelName, label_name};
use profile::{Hashes, Profile, hashes};
use rules::{certain_moments, decide};

/// Why no schema can be inferred.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The column that should be the label is not there.
    #[error("no column `{column}` for the label; there are {columns}")]
    NoLabelColumn {
        /// The column that was asked for.
        column: String,
        /// The columns that there are.
        columns: String,
    },
    /// The label's column has a type that holds no labels.
    #[error(
        "column `{column}` of type {found} cannot be the label: expected booleans, numbers or text"
    )]
    LabelType {
        /// The column that was asked for.
        column: String,
        /// Its type.
        found: String,
    },
    /// No column is left that the model could see.
    #[error("no column can be a feature: {reasons}")]
    NoFeature {
        /// Each column with why it is none.
        reasons: String,
    },
    /// There are more columns than a schema may have fields.
    #[error("{columns} columns are over the limit of {limit} fields")]
    TooManyColumns {
        /// The columns, those in structs counted each.
        columns: usize,
        /// The limit, [`FIELDS_MAX`].
        limit: usize,
    },
    /// Arrow could not look into a column.
    #[error("cannot look into column `{column}`: {message}")]
    Column {
        /// The column.
        column: String,
        /// What Arrow said.
        message: String,
    },
}

/// Looks at records batch by batch, then writes their schema.
pub struct Inference {
    leaves: Vec<Leaf>,
    profiles: Vec<Profile>,
    /// Index in `leaves` of the label that was asked for.
    forced: Option<usize>,
    /// Indices in `leaves` of the columns that may be the label, the likeliest first.
    candidates: Vec<usize>,
    rows: u64,
    /// Columns at the top that only the names of folders give.
    folder_columns: BTreeSet<String>,
}

/// A schema file, and what a person should know of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Inferred {
    /// The commented TOML.
    pub text: String,
    /// The label, if there is one, and why it is.
    pub label: Option<(String, String)>,
    /// Every column that is ignored, and why.
    pub ignored: Vec<(String, String)>,
    /// Every number that is transformed, and how.
    pub transformed: Vec<(String, Transform)>,
    /// Columns that a person should look at, and why.
    pub doubts: Vec<(String, String)>,
}

/// A column that is no struct: at the top, or inside of structs.
struct Leaf {
    segments: Vec<String>,
    indices: Vec<usize>,
    data_type: DataType,
}

impl Leaf {
    fn name(&self) -> String {
        self.segments.join(".")
    }

    /// The last of its names.
    fn last(&self) -> &str {
        self.segments.last().map_or("", String::as_str)
    }

    /// Whether the names can stand in a schema.
    fn is_usable(&self) -> bool {
        let usable = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
        self.segments.iter().all(usable)
    }

    /// The type of the values, dictionaries looked through.
    fn plain_type(&self) -> &DataType {
        match &self.data_type {
            DataType::Dictionary(_, values) => values,
            other => other,
        }
    }
}

impl Inference {
    /// For records of the Arrow schema `records`, with the column `label` (dots between levels), if
    /// given, as the label.
    ///
    /// # Errors
    /// When the label's column is absent or cannot be one, or there are more than [`FIELDS_MAX`]
    /// columns.
    pub fn new(records: &ArrowSchema, label: Option<&str>) -> Result<Self, InferenceError> {
        let mut leaves = Vec::new();
        collect_leaves(
            records.fields(),
            &mut Vec::new(),
            &mut Vec::new(),
            &mut leaves,
        );
        // One field is kept back for the event time.
        if leaves.len() >= FIELDS_MAX {
            let columns = leaves.len();
            return Err(InferenceError::TooManyColumns {
                columns,
                limit: FIELDS_MAX - 1,
            });
        }
        let forced = label.map(|label| find_label(label, &leaves)).transpose()?;
        let named = leaves.iter().enumerate();
        let named = named.filter(|(_, leaf)| leaf.is_usable() && may_be_label(leaf.plain_type()));
        let candidates = candidates(named.map(|(index, leaf)| (index, leaf.last())), forced);
        let profile = |leaf: &Leaf| Profile::new(candidates.len(), leaf.last());
        let profiles = leaves.iter().map(profile).collect();
        Ok(Self {
            leaves,
            profiles,
            forced,
            candidates,
            rows: 0,
            folder_columns: BTreeSet::new(),
        })
    }

    /// The same where only the names of folders give these columns, which no record of a stream has.
    #[must_use]
    pub fn with_folder_columns(mut self, names: BTreeSet<String>) -> Self {
        self.folder_columns = names;
        self
    }

    /// Looks at the rows of `batch`, which must be of the Arrow schema given at first.
    ///
    /// # Errors
    /// When it is not.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), InferenceError> {
        self.rows += batch.num_rows() as u64;
        let error = |leaf: &Leaf, error: ArrowError| InferenceError::Column {
            column: leaf.name(),
            message: error.to_string(),
        };
        let mut labels: Vec<Hashes> = Vec::new();
        for &candidate in &self.candidates {
            let leaf = &self.leaves[candidate];
            let column = column_at(batch, &leaf.indices);
            let of_label = column.and_then(|column| hashes(&column));
            labels.push(of_label.map_err(|fault| error(leaf, fault))?);
        }
        for (leaf, profile) in self.leaves.iter().zip(&mut self.profiles) {
            if rules::is_readable(leaf.plain_type()) {
                let column = column_at(batch, &leaf.indices);
                let added = column.and_then(|column| profile.add(&column, &labels));
                added.map_err(|fault| error(leaf, fault))?;
            }
        }
        Ok(())
    }

    /// The schema file of the rows seen; `origin` says in its first line where they came from.
    ///
    /// # Errors
    /// [`InferenceError::NoFeature`] when no column can be a feature, with the reason of each.
    pub fn finish(self, origin: &str) -> Result<Inferred, InferenceError> {
        let label = self.label();
        let moments = self.moments();
        let decisions: Vec<Decision> = (0..self.leaves.len())
            .map(|index| self.decision(index, label, &moments))
            .collect();
        if !decisions
            .iter()
            .any(|decision| decision.role == Role::Feature)
        {
            let reason = |(leaf, decision): (&Leaf, &Decision)| {
                format!("`{}`: {}", leaf.name(), decision.reasons.join(" "))
            };
            let reasons: Vec<String> = self.leaves.iter().zip(&decisions).map(reason).collect();
            return Err(InferenceError::NoFeature {
                reasons: reasons.join(" "),
            });
        }
        Ok(self.summary(&decisions, text::write(&self, &decisions, origin)))
    }

    fn summary(&self, decisions: &[Decision], text: String) -> Inferred {
        let named = || self.leaves.iter().map(Leaf::name).zip(decisions);
        let of_role = |role: Role| {
            let of_role = named().filter(move |(_, decision)| decision.role == role);
            of_role.map(|(name, decision)| (name, short(decision)))
        };
        let doubt = |(name, decision): (String, &Decision)| Some((name, decision.doubt.clone()?));
        let transform = |(name, decision): (String, &Decision)| (name, decision.transform);
        Inferred {
            text,
            label: of_role(Role::Label).next(),
            ignored: of_role(Role::Ignore).collect(),
            transformed: named()
                .map(transform)
                .filter(|(_, transform)| *transform != Transform::None)
                .collect(),
            doubts: named().filter_map(doubt).collect(),
        }
    }

    /// The place of the label among the candidates: the one that was asked for, or the first whose values fit.
    fn label(&self) -> Option<usize> {
        let fits = |&place: &usize| matches!(self.fit(self.candidates[place]), LabelFit::Label(_));
        match self.forced {
            Some(_) => Some(0),
            None => (0..self.candidates.len()).find(fits),
        }
    }

    /// Where the moments of those columns lie of which nobody doubts that they hold moments.
    fn moments(&self) -> Vec<MomentGroup> {
        let columns = self.leaves.iter().zip(&self.profiles);
        columns
            .filter_map(|(leaf, profile)| certain_moments(leaf.last(), leaf.plain_type(), profile))
            .collect()
    }

    /// What the values of a column say that is named as a label.
    fn fit(&self, index: usize) -> LabelFit {
        let is_number = self.leaves[index].plain_type().is_numeric();
        let values = self.profiles[index].label_values.as_ref();
        values.map_or(LabelFit::Other, |values| values.fit(is_number))
    }

    fn decision(&self, index: usize, label: Option<usize>, moments: &[MomentGroup]) -> Decision {
        let leaf = &self.leaves[index];
        if label.is_some_and(|label| self.candidates[label] == index) {
            return match self.fit(index) {
                LabelFit::Label(share) if self.forced.is_none() => Decision::label(&format!(
                    "Known by its name and its values, of which {} mean fraud. Give `--label` for another.",
                    percent(share)
                )),
                _ => Decision::label(""),
            };
        }
        if !leaf.is_usable() {
            return Decision::ignored("Its name cannot stand in a schema.");
        }
        let profile = &self.profiles[index];
        if leaf.segments.len() == 1 && self.folder_columns.contains(leaf.last()) {
            if profile.distinct_values() <= 1 {
                return Decision::ignored(
                    "Only the names of folders give it, with one value: no record of a stream has it.",
                );
            }
            let decision = decide(leaf.last(), leaf.plain_type(), profile, label, moments);
            return match decision.role {
                Role::Feature => decision
                    .because("Only the names of folders give it: it is null in every record of a stream.")
                    .doubted("only the names of folders give it, and no record of a stream"),
                _ => decision,
            };
        }
        let plain = || decide(leaf.last(), leaf.plain_type(), profile, label, moments);
        let Some(name) = label_name(leaf.last()).filter(|_| may_be_label(leaf.plain_type())) else {
            return plain();
        };
        match self.fit(index) {
            LabelFit::Label(_) | LabelFit::Kinds => Decision::ignored(
                "About the label, by its name and its values: the model must not see it.",
            ),
            LabelFit::TwoValues => {
                let of_label = profile.label_values.as_ref();
                let values = of_label.map(labels::LabelValues::shown);
                let values = values.unwrap_or_default();
                // Economy and business, not sick and healthy: nobody has as many frauds as that.
                if name == LabelName::Class
                    && is_text(leaf.plain_type())
                    && of_label.is_some_and(labels::LabelValues::is_balanced)
                {
                    return may_be_a_label(plain(), &values);
                }
                Decision::ignored(format!(
                    "Named as a label, but its values ({values}) do not say which is fraud: write 0 and 1 for a label."
                ))
                .doubted(format!("named as a label, but its values are {values}"))
            }
            LabelFit::Other if name == LabelName::About && profile.distinct.count() <= 64 => {
                Decision::ignored("About the label, by its name: the model must not see it.")
            }
            LabelFit::Other => match plain() {
                feature if feature.role == Role::Feature && feature.doubt.is_none() => {
                    feature.doubted("named as a label, but its values are none")
                }
                decision => decision,
            },
        }
    }
}

/// A category that is named as a label: kept, and named for a person to look at.
fn may_be_a_label(category: Decision, values: &str) -> Decision {
    if category.role != Role::Feature {
        return category;
    }
    category
        .because(format!(
            "Named as a label, but its values ({values}) are no words of one, and none is rare: a category. If it does \
             say which records are fraud, write 0 and 1, or ignore it."
        ))
        .doubted(format!("may be a label; its values are {values}"))
}

/// The first reason of a decision up to its first full stop or colon; of the label how it was known.
fn short(decision: &Decision) -> String {
    if decision.role == Role::Label {
        let how = match decision.reasons.len() {
            0 | 1 => "as asked for",
            _ => "by its name and its values",
        };
        return how.to_owned();
    }
    let reason = decision.reasons.first().map(String::as_str);
    let reason = reason.unwrap_or_default();
    let end = reason.find(['.', ':', ';']).unwrap_or(reason.len());
    let mut characters = reason[..end].chars();
    let first = characters.next().map(|c| c.to_lowercase().to_string());
    format!("{}{}", first.unwrap_or_default(), characters.as_str())
}

fn percent(share: f64) -> String {
    let text = format!("{:.2} %", 100.0 * share);
    if share > 0.0 && text == "0.00 %" {
        "under 0.01 %".to_owned()
    } else {
        text
    }
}

/// Whether a column of this type can be a label.
fn may_be_label(data_type: &DataType) -> bool {
    let moment = matches!(
        data_type,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _)
    );
    rules::is_readable(data_type) && !moment && !is_variable_decimal(data_type)
}

fn collect_leaves(
    fields: &Fields,
    segments: &mut Vec<String>,
    indices: &mut Vec<usize>,
    leaves: &mut Vec<Leaf>,
) {
    for (index, field) in fields.iter().enumerate() {
        segments.push(field.name().clone());
        indices.push(index);
        match field.data_type() {
            DataType::Struct(children) if !is_variable_decimal(field.data_type()) => {
                collect_leaves(children, segments, indices, leaves);
            }
            data_type => leaves.push(Leaf {
                segments: segments.clone(),
                indices: indices.clone(),
                data_type: data_type.clone(),
            }),
        }
        segments.pop();
        indices.pop();
    }
}

fn find_label(label: &str, leaves: &[Leaf]) -> Result<usize, InferenceError> {
    let Some(index) = leaves.iter().position(|leaf| leaf.name() == label) else {
        let columns: Vec<String> = leaves
            .iter()
            .map(|leaf| format!("`{}`", leaf.name()))
            .collect();
        let (column, columns) = (label.to_owned(), columns.join(", "));
        return Err(InferenceError::NoLabelColumn { column, columns });
    };
    let found = leaves[index].plain_type();
    if may_be_label(found) {
        return Ok(index);
    }
    Err(InferenceError::LabelType {
        column: label.to_owned(),
        found: found.to_string(),
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
