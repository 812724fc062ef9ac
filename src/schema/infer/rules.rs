//! Which field a column becomes, from its name, its type and its [`Profile`].
//!
//! The first rule that holds decides, and its reason becomes the field's comment:
//!
//! 1. The column named as the label is the label, whatever it holds.
//! 2. A type that no kind reads (lists, maps, bytes, durations) is ignored.
//! 3. A column without one value is ignored. (A column with one single value stays: its change is a
//!    signal.)
//! 4. A column of which each value goes with one label only is the label in disguise: ignored.
//! 5. Floats and decimals with a fraction are numeric, booleans boolean, dates and moments timestamps.
//! 6. Integers named as a time (`*_time`, `*_ts`, `*_at`, `timestamp*`) that all lie in the years 2000
//!    to 2100 in one of the units s, ms, us, ns are timestamps of that unit.
//! 7. Text that is always RFC 3339 is a timestamp.
//! 8. Integers and text that are named as an identifier (`id`, `*_id`, `*_num`, `*_number`, `*_uuid`,
//!    `*_guid`, `customerId`) are ignored.
//! 9. Text that is always a number is numeric with `parse` if it has more values than
//!    [`CATEGORIES_OF_NUMBERS_MAX`], unless zeros in front mark it as a code; whole numbers that are
//!    mostly distinct are left to rule 10.
//! 10. Integers and text of which over half of the values are distinct are identifiers: ignored.
//! 11. Integers are numeric, also those with the two values 0 and 1, which training predicts as one of two; text is
//!     categorical.

use arrow::datatypes::DataType;

use super::super::field::{DEFAULT_MAX_CARDINALITY, Kind, Role, TimeUnit};
use super::super::fit::{decimal_scale, is_text};
use super::super::value::microseconds;
use super::profile::Profile;

/// Text of numbers with at most so many values is a category: as many as a category head tells apart.
pub(super) const CATEGORIES_OF_NUMBERS_MAX: u64 = 1_024;

/// 2000-01-01T00:00:00Z and 2100-01-01T00:00:00Z in microseconds: integers named as a time lie between.
const TIMES: std::ops::Range<i64> = 946_684_800_000_000..4_102_444_800_000_000;

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) role: Role,
    pub(super) kind: Option<Kind>,
    pub(super) unit: Option<TimeUnit>,
    pub(super) parse: bool,
    /// Why, where it does not go without saying; a sentence.
    pub(super) reason: Option<String>,
}

impl Decision {
    fn feature(kind: Kind) -> Self {
        Self {
            role: Role::Feature,
            kind: Some(kind),
            unit: None,
            parse: false,
            reason: None,
        }
    }

    fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    pub(super) fn ignored(reason: impl Into<String>) -> Self {
        let nothing = Self {
            role: Role::Ignore,
            kind: None,
            ..Self::feature(Kind::Categorical)
        };
        nothing.because(reason)
    }

    /// The label, which needs no kind.
    pub(super) fn label() -> Self {
        let label = Self {
            role: Role::Label,
            ..Self::ignored("")
        };
        label.because("The label: never seen by the model, only used to evaluate it.")
    }
}

/// Applies the rules to a column called `name` (the last of its path) of a plain (not dictionary) type.
pub(super) fn decide(name: &str, data_type: &DataType, profile: &Profile) -> Decision {
    if !is_readable(data_type) {
        return Decision::ignored(format!("Values of type {data_type} are no kind of field."));
    }
    if profile.present() == 0 {
        return Decision::ignored("There is no value in any row.");
    }
    if profile.gives_label_away() {
        return Decision::ignored("Each of its values goes with one label: the label in disguise.");
    }
    match data_type {
        DataType::Boolean => Decision::feature(Kind::Boolean),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
            Decision::feature(Kind::Timestamp)
        }
        text if is_text(text) => decide_text(name, profile),
        whole if whole.is_integer() || decimal_scale(whole) == Some(0) => {
            decide_integer(name, profile)
        }
        _ => Decision::feature(Kind::Numeric),
    }
}

/// Whether some kind of field reads the type.
pub(super) fn is_readable(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || decimal_scale(data_type).is_some()
        || is_text(data_type)
        || matches!(
            data_type,
            DataType::Null
                | DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Timestamp(_, _)
        )
}

fn decide_integer(name: &str, profile: &Profile) -> Decision {
    if let Some(unit) = unit_of_times(name, profile) {
        let timestamp = Decision {
            unit: Some(unit),
            ..Decision::feature(Kind::Timestamp)
        };
        return timestamp
            .because("Named as a time, and within the years 2000 to 2100 in this unit.");
    }
    identifier(name, profile).unwrap_or_else(|| Decision::feature(Kind::Numeric))
}

fn decide_text(name: &str, profile: &Profile) -> Decision {
    let shape = profile.text;
    if shape.moments {
        return Decision::feature(Kind::Timestamp).because("Every text is a moment in RFC 3339.");
    }
    if is_identifier_name(name) {
        return named_as_identifier(profile);
    }
    let many = profile.distinct.count() > CATEGORIES_OF_NUMBERS_MAX;
    let quantity = shape.numbers && shape.plain && many;
    if quantity && !(shape.whole && is_mostly_distinct(profile)) {
        let numeric = Decision {
            parse: true,
            ..Decision::feature(Kind::Numeric)
        };
        return numeric.because("Every text is a number, and there are too many for categories.");
    }
    if let Some(decision) = identifier(name, profile) {
        return decision;
    }
    let categorical = Decision::feature(Kind::Categorical);
    if profile.distinct.count() > DEFAULT_MAX_CARDINALITY as u64 {
        let reason = format!("The most frequent {DEFAULT_MAX_CARDINALITY} values are told apart.");
        return categorical.because(reason);
    }
    categorical
}

/// Whether the column is an identifier by its name or by its values.
fn identifier(name: &str, profile: &Profile) -> Option<Decision> {
    if is_identifier_name(name) {
        return Some(named_as_identifier(profile));
    }
    is_mostly_distinct(profile).then(|| {
        let reason = "An identifier: over half of its values are distinct.";
        Decision::ignored(with_key_hint(reason, profile))
    })
}

fn named_as_identifier(profile: &Profile) -> Decision {
    Decision::ignored(with_key_hint("An identifier, by its name.", profile))
}

fn with_key_hint(reason: &str, profile: &Profile) -> String {
    // Beyond the exact range the count is an estimate, so a few in a hundred may be missing.
    let unique = profile.distinct.count() as f64 > 0.95 * profile.rows as f64;
    let hint = " It differs in (nearly) every row: `role = \"key\"` would name records by it.";
    let hint = if unique { hint } else { "" };
    format!("{reason}{hint}")
}

fn is_mostly_distinct(profile: &Profile) -> bool {
    profile.distinct.count().saturating_mul(2) > profile.present()
}

/// Whether a name ends in a word that identifiers end in, after `_`, `-` or a change to upper case.
fn is_identifier_name(name: &str) -> bool {
    const WORDS: [&str; 5] = ["id", "num", "number", "uuid", "guid"];
    let lower = name.to_ascii_lowercase();
    let alone = ["id", "uuid", "guid"].contains(&lower.as_str());
    alone || WORDS.iter().any(|word| ends_in_word(name, &lower, word))
}

fn ends_in_word(name: &str, lower: &str, word: &str) -> bool {
    let Some(before) = lower.strip_suffix(word).filter(|before| !before.is_empty()) else {
        return false;
    };
    let capital = name[before.len()..].starts_with(|c: char| c.is_ascii_uppercase());
    let after_small = name[..before.len()].ends_with(|c: char| c.is_ascii_lowercase());
    before.ends_with(['_', '-']) || (capital && after_small)
}

/// The unit in which every integer of a column named as a time lies between 2000 and 2100.
fn unit_of_times(name: &str, profile: &Profile) -> Option<TimeUnit> {
    let lower = name.to_ascii_lowercase();
    let ends = ["time", "_ts", "_at", "timestamp"]
        .iter()
        .any(|end| lower.ends_with(end));
    if !(ends || lower.starts_with("timestamp") || lower == "ts") {
        return None;
    }
    let (least, most) = profile.integers?;
    let within = |count, unit| microseconds(count, unit).is_some_and(|time| TIMES.contains(&time));
    [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns]
        .into_iter()
        .find(|&unit| within(least, unit) && within(most, unit))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(values.into_iter().map(Some).collect::<Int64Array>())
    }

    fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
        Arc::new(values.into_iter().map(Some).collect::<StringArray>())
    }

    fn decided(name: &str, column: &ArrayRef) -> Decision {
        decided_with(name, column, None)
    }

    fn decided_with(name: &str, column: &ArrayRef, labels: Option<&[Option<u64>]>) -> Decision {
        let mut profile = Profile::new();
        profile.add(column, labels).unwrap();
        decide(name, column.data_type(), &profile)
    }

    fn kind(name: &str, column: &ArrayRef) -> Option<Kind> {
        let decision = decided(name, column);
        assert_eq!(decision.role == Role::Ignore, decision.kind.is_none());
        decision.kind
    }

    #[test]
    fn integers_are_numbers_unless_they_identify_or_tell_the_time() {
        assert_eq!(
            kind("flag", &integers((0..10).map(|i| i % 2))),
            Some(Kind::Numeric)
        );
        assert_eq!(
            kind("pages", &integers((0..10).map(|i| i % 5))),
            Some(Kind::Numeric)
        );
        assert_eq!(kind("pages", &integers((0..10).map(|i| i % 6))), None);
        assert_eq!(kind("customer_id", &integers([1, 1, 1, 1])), None);
        let time = decided(
            "created_at",
            &integers((0..9).map(|i| 1_530_446_400_000 + i)),
        );
        assert_eq!(
            (time.kind, time.unit),
            (Some(Kind::Timestamp), Some(TimeUnit::Ms))
        );
        assert_eq!(
            kind("waiting_time", &integers([5, 5, 7, 7])),
            Some(Kind::Numeric)
        );
    }

    #[test]
    fn a_float_is_never_an_identifier() {
        let distinct: ArrayRef = Arc::new(
            (0..50)
                .map(|i| Some(f64::from(i)))
                .collect::<Float64Array>(),
        );
        assert_eq!(kind("card_num", &distinct), Some(Kind::Numeric));
    }

    #[test]
    fn text_is_a_category_unless_it_identifies_or_counts_or_tells_the_time() {
        let of = |rows: i64, write: &dyn Fn(i64) -> String| texts((0..rows).map(write));
        assert_eq!(
            kind("state", &of(100, &|i| format!("s{}", i % 50))),
            Some(Kind::Categorical)
        );
        assert_eq!(kind("state", &of(100, &|i| format!("s{}", i % 51))), None);
        assert_eq!(kind("cardNumber", &of(9, &|_| "x".to_owned())), None);
        let day = of(9, &|i| format!("2018-07-0{}", i + 1));
        assert_eq!(kind("day", &day), Some(Kind::Timestamp));
        let prices = decided("price", &of(2_000, &|i| format!("{i}.5")));
        assert_eq!((prices.kind, prices.parse), (Some(Kind::Numeric), true));
        assert_eq!(
            kind("code", &of(2_000, &|i| format!("{}", i % 900))),
            Some(Kind::Categorical)
        );
        assert_eq!(
            kind("zip", &of(4_000, &|i| format!("0{}", i % 1_999))),
            Some(Kind::Categorical)
        );
        let whole = decided("size", &of(4_000, &|i| format!("{}", i % 1_999)));
        assert_eq!((whole.kind, whole.parse), (Some(Kind::Numeric), true));
        assert_eq!(kind("order", &of(4_000, &|i| format!("{i}"))), None);
    }

    #[test]
    fn only_nulls_are_ignored_and_a_constant_is_kept() {
        let nulls: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::NAN)]));
        assert_eq!(kind("x", &nulls), None);
        assert_eq!(kind("x", &integers([3, 3, 3])), Some(Kind::Numeric));
    }

    #[test]
    fn a_column_that_gives_the_label_away_is_ignored() {
        let labels: Vec<Option<u64>> = (0..60).map(|i| Some(u64::from(i % 3 == 0))).collect();
        let scenario = integers((0..60).map(|i| if i % 3 == 0 { 1 + i % 2 } else { 0 }));
        let decision = decided_with("scenario", &scenario, Some(&labels));
        assert!(decision.reason.unwrap().contains("label in disguise"));
        let other = integers((0..60).map(|i| i % 2));
        assert_eq!(
            decided_with("other", &other, Some(&labels)).kind,
            Some(Kind::Numeric)
        );
        // Nine rows of one label are too few to tell.
        let few: Vec<Option<u64>> = (0..60).map(|i| Some(u64::from(i < 9))).collect();
        let split = integers((0..60).map(|i| i64::from(i < 9)));
        assert_eq!(
            decided_with("split", &split, Some(&few)).kind,
            Some(Kind::Numeric)
        );
    }

    #[test]
    fn identifiers_are_known_by_the_last_word_of_their_name() {
        for name in [
            "id",
            "ID",
            "cc_num",
            "TERMINAL_ID",
            "customerId",
            "account-number",
            "x_uuid",
        ] {
            assert!(is_identifier_name(name), "{name}");
        }
        for name in [
            "paid", "num", "humid", "PAID", "number", "id_count", "idle", "Covid",
        ] {
            assert!(!is_identifier_name(name), "{name}");
        }
    }
}
