//! Which column is the label, when nobody says so.
//!
//! In flow names before the first row and values after the last, out flow at most one label and the other columns
//! about it, which must not become features: a model that sees the label learns to expect it, and a stream
//! without it is one alarm. The rules: the name must say so, and the values must fit: 0 and 1, booleans, or words
//! such as `fraud` and `normal`, which is what the decoders read as a label.

use std::collections::BTreeMap;

use super::super::value::label_from_text;
use super::names::{LabelName, label_name};

/// Columns that may be the label and are followed at most.
const CANDIDATES_MAX: usize = 3;

/// Values of a column about a label that are kept; with more it is neither the label nor a list of kinds of fraud.
const VALUES_MAX: usize = 64;

/// The columns that may be the label by their names, the likeliest first. `forced` is the one asked for.
pub(super) fn candidates<'n>(
    names: impl Iterator<Item = (usize, &'n str)>,
    forced: Option<usize>,
) -> Vec<usize> {
    if let Some(forced) = forced {
        return vec![forced];
    }
    let known = names.filter_map(|(index, name)| Some((label_name(name)?, index)));
    let mut known: Vec<(LabelName, usize)> = known
        .filter(|(name, _)| *name != LabelName::About)
        .collect();
    known.sort_unstable();
    known
        .into_iter()
        .map(|(_, index)| index)
        .take(CANDIDATES_MAX)
        .collect()
}

/// Share that the rarer of two values has at least where they are a category: labels of fraud are rarer.
const BALANCED_SHARE_MIN: f64 = 0.1;

/// The values of a column whose name is that of a label.
#[derive(Debug, Default)]
pub(super) struct LabelValues {
    rows_of: BTreeMap<String, u64>,
    is_full: bool,
}

/// What such values say.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum LabelFit {
    /// Yes and no, with the share of yes.
    Label(f64),
    /// Two values, of which nobody knows which is fraud.
    TwoValues,
    /// A list of kinds, one of which is a word for "normal".
    Kinds,
    /// Something else.
    Other,
}

impl LabelValues {
    /// Counts one value.
    pub(super) fn add(&mut self, text: impl Fn() -> String) {
        if self.is_full {
            return;
        }
        *self.rows_of.entry(text()).or_insert(0) += 1;
        if self.rows_of.len() > VALUES_MAX {
            self.is_full = true;
            self.rows_of.clear();
        }
    }

    /// What the values say; `is_number` of a column of numbers.
    pub(super) fn fit(&self, is_number: bool) -> LabelFit {
        let read = || {
            self.rows_of
                .iter()
                .map(|(text, rows)| (label_from_text(text), *rows))
        };
        let rows: u64 = self.rows_of.values().sum();
        if rows == 0 {
            return LabelFit::Other;
        }
        if read().all(|(label, _)| label.is_some()) {
            let yes = read().filter(|(label, _)| *label == Some(true));
            return LabelFit::Label(yes.map(|(_, rows)| rows).sum::<u64>() as f64 / rows as f64);
        }
        if !is_number && read().any(|(label, _)| label == Some(false)) {
            return LabelFit::Kinds;
        }
        if self.rows_of.len() <= 2 {
            return LabelFit::TwoValues;
        }
        LabelFit::Other
    }

    /// Whether there are two values, and neither is rare.
    pub(super) fn is_balanced(&self) -> bool {
        let rows: u64 = self.rows_of.values().sum();
        let frequent = |&of: &u64| of as f64 >= BALANCED_SHARE_MIN * rows as f64;
        self.rows_of.len() == 2 && self.rows_of.values().all(frequent)
    }

    /// The values, for a comment; at most four.
    pub(super) fn shown(&self) -> String {
        let values: Vec<&str> = self.rows_of.keys().take(4).map(String::as_str).collect();
        values.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(values: &[&str], is_number: bool) -> LabelFit {
        let mut seen = LabelValues::default();
        for value in values {
            seen.add(|| (*value).to_owned());
        }
        seen.fit(is_number)
    }

    #[test]
    fn the_surest_names_come_first_and_those_about_a_label_never() {
        let names = ["Class", "amount", "isFlaggedFraud", "is_fraud", "label"];
        let named = || names.into_iter().enumerate();
        assert_eq!(candidates(named(), None), [3, 0, 4]);
        assert_eq!(candidates(named(), Some(1)), [1]);
    }

    #[test]
    fn values_fit_where_the_decoders_read_them() {
        assert_eq!(fit(&["0", "0", "0", "1"], true), LabelFit::Label(0.25));
        assert_eq!(fit(&["0", "0"], true), LabelFit::Label(0.0));
        assert_eq!(fit(&["fraud", "normal"], false), LabelFit::Label(0.5));
        assert_eq!(fit(&["Yes", "No"], false), LabelFit::Label(0.5));
        assert_eq!(fit(&["-1", "1"], true), LabelFit::TwoValues);
        assert_eq!(fit(&["normal", "neptune", "smurf"], false), LabelFit::Kinds);
        assert_eq!(fit(&["0", "1", "2", "3"], true), LabelFit::Other);
        assert_eq!(fit(&[], true), LabelFit::Other);
    }
}
