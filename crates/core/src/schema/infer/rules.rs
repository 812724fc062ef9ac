//! Which field a column becomes, from its name, its type and its [`Profile`].
//!
//! The first rule that holds decides, and its reason becomes the field's comment:
//!
//! 1. The column asked for is the label, whatever it holds. Else it is the surest column that is called so and whose
//!    values fit (`labels`). Other columns about the label are ignored.
//! 2. A type that no kind reads (lists, maps, bytes, durations) is ignored.
//! 3. A column without one value is ignored. (A column with one single value stays: its change is a
//!    signal.)
//! 4. A column of which each value goes with one label only is the label in disguise: ignored.
//! 5. Booleans are boolean, dates and moments timestamps. Floats and decimals with a fraction are numeric, always.
//! 6. Integers named as a time (`*_time`, `*_ts`, `*_at`, `timestamp*`) or a date (`*_date`, `dt`) that all lie in the
//!    years 2000 to 2100 in one of the units s, ms, us, ns, days are timestamps of that unit (`times`), but for stand-ins
//!    and lone values. Days need the name of a date, or a name of a time or `day` and a column of moments near them. So
//!    is text in RFC 3339. Stand-ins far from all other moments are null values.
//! 7. Integers and text that are named as an identifier (`id`, `*_id`, `*_uuid`, `customerId`; `*_num`, `*_number`,
//!    `*_no`, `*_ref` unless they are small counts) are ignored.
//! 8. Integers whose name is no quantity's are ignored where they are running numbers or long codes, and categorical
//!    where they are codes in repeated use (`numbers`). How many are distinct never makes one an identifier by itself.
//! 9. Text that is (nearly) always a number, in one of the forms that people write, is numeric with `parse` if it has
//!    fractions, a currency, the name of a quantity, or more values than [`CATEGORIES_OF_NUMBERS_MAX`]; rule 8 holds for
//!    it too, and zeros in front mark a code.
//! 10. Text of which over half of the values are distinct is an identifier: ignored.
//! 11. Integers are numeric, also those with the two values 0 and 1, which training predicts as one of two; text is
//!     categorical.
//!
//! A number then gets what `schema::tails` finds in it: a transform, null values, a warning.

use arrow::datatypes::DataType;

use super::super::field::{DEFAULT_MAX_CARDINALITY, Kind, Role, TimeUnit, Transform};
use super::super::fit::{decimal_scale, is_text};
use super::super::moments::MomentGroup;
use super::super::tails::{BLIND_SHARE, examine, number};
use super::super::value::SINGLE_EXACT_MAX;
use super::super::variable_decimal::is_variable_decimal;
use super::decision::Decision;
use super::names::{
    IdentifierName, identifier_name, is_code_name, is_money_name, is_quantity_name, is_thing_name,
    is_time_name,
};
use super::numbers::Numbers;
use super::profile::Profile;
use super::texts::NumberText;
use super::times::with_far_moments;

/// Text of whole numbers with at most so many values is a category: as many as a category head tells apart.
pub(super) const CATEGORIES_OF_NUMBERS_MAX: u64 = 1_024;

/// Text with fractions and more values than this is a quantity; fewer may be versions or sizes.
const FRACTIONS_MIN: u64 = 32;

/// Applies the rules to a column called `name` (the last of its path) of a plain (not dictionary) type; `label` is
/// the place of the label among the columns that may be it, `moments` is where those of other columns lie.
pub(super) fn decide(
    name: &str,
    data_type: &DataType,
    profile: &Profile,
    label: Option<usize>,
    moments: &[MomentGroup],
) -> Decision {
    if !is_readable(data_type) {
        return Decision::ignored(format!("Values of type {data_type} are no kind of field."));
    }
    if profile.present() == 0 {
        return Decision::ignored("There is no value in any row.");
    }
    if label.is_some_and(|label| profile.gives_away(label)) {
        return Decision::ignored("Each of its values goes with one label: the label in disguise.");
    }
    let decision = match data_type {
        DataType::Boolean => Decision::feature(Kind::Boolean),
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
            with_far_moments(Decision::feature(Kind::Timestamp), &profile.moments)
        }
        text if is_text(text) => decide_text(name, profile),
        whole if whole.is_integer() || decimal_scale(whole) == Some(0) => {
            decide_integer(name, profile, moments)
        }
        _ => decide_float(name, data_type, profile),
    };
    if decision.role == Role::Ignore && is_money_name(name) {
        return decision.doubted("it is named as money, and ignored");
    }
    if decision.role == Role::Feature && profile.distinct_values() == 1 && decision.doubt.is_none()
    {
        return decision
            .because("One value in all rows: any other value will be unusual. `role = \"ignore\"` if that is expected.")
            .doubted("one value in all rows");
    }
    decision
}

/// Whether some kind of field reads the type.
pub(super) fn is_readable(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_floating()
        || decimal_scale(data_type).is_some()
        || is_text(data_type)
        || is_variable_decimal(data_type)
        || matches!(
            data_type,
            DataType::Null
                | DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Timestamp(_, _)
        )
}

/// Where (nearly) all moments of a column lie, if it holds moments without a doubt.
pub(super) fn certain_moments(
    name: &str,
    data_type: &DataType,
    profile: &Profile,
) -> Option<MomentGroup> {
    match data_type {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => profile.moments.bulk(),
        text if is_text(text) => {
            let texts = profile.texts.as_ref()?;
            texts.moments().and_then(|_| texts.when.bulk())
        }
        _ => {
            let times = profile.times.as_ref()?;
            times.in_unit(times.unit(name, &[])?)?.bulk()
        }
    }
}

fn decide_integer(name: &str, profile: &Profile, moments: &[MomentGroup]) -> Decision {
    if let Some(times) = &profile.times
        && let Some(unit) = times.unit(name, moments)
        && let Some(tally) = times.in_unit(unit)
    {
        let timestamp = Decision {
            unit: Some(unit),
            ..Decision::feature(Kind::Timestamp)
        };
        let why = match unit {
            TimeUnit::Days => {
                "Named as a date, and within the years 2000 to 2100 as days since 1970."
            }
            _ => "Named as a time, and within the years 2000 to 2100 in this unit.",
        };
        return with_far_moments(timestamp.because(why), tally);
    }
    let numbers = &profile.numbers;
    named_identifier(name, profile, Some(numbers))
        .or_else(|| identifier_or_code(name, profile, numbers))
        .unwrap_or_else(|| numeric(name, profile, numbers))
}

/// A float is never an identifier and never a category; what looks like a code is named.
fn decide_float(name: &str, data_type: &DataType, profile: &Profile) -> Decision {
    let decision = numeric(name, profile, &profile.numbers);
    let spread = &profile.numbers.spread;
    let most = spread.highest().first().map_or(0.0, |(value, _)| *value);
    if *data_type == DataType::Float32 && profile.numbers.whole && most >= SINGLE_EXACT_MAX {
        let hint = "Whole numbers above 16,777,216, which are rounded as Float32. Codes need integers, Float64 or text.";
        return decision
            .because(hint)
            .doubted("whole numbers that are rounded as Float32");
    }
    let points = code_points(name, profile, &profile.numbers);
    if points.is_some_and(|points| points >= 2) && decision.doubt.is_none() {
        let hint = "Whole numbers that look like codes. Floats are no categories: as integers or text they could be.";
        return decision
            .because(hint)
            .doubted("whole numbers that look like codes");
    }
    decision
}

fn decide_text(name: &str, profile: &Profile) -> Decision {
    let Some(texts) = &profile.texts else {
        return Decision::feature(Kind::Categorical);
    };
    if let Some(null_values) = texts.moments() {
        let timestamp = Decision {
            null_values,
            ..Decision::feature(Kind::Timestamp)
        };
        let but = if timestamp.null_values.is_empty() {
            ""
        } else {
            " but for the null values"
        };
        let timestamp = timestamp.because(format!("Every text is a moment in RFC 3339{but}."));
        return with_far_moments(timestamp, &texts.when);
    }
    if let Some(identifier) = named_identifier(name, profile, None) {
        return identifier;
    }
    if let Some((form, numbers)) = texts.numbers()
        && (texts.is_plain || !numbers.whole)
        && let Some(decision) = decide_number_text(name, profile, form, numbers)
    {
        return decision;
    }
    if profile.distinct_values().saturating_mul(2) > profile.present() {
        let reason = "An identifier: text, and over half of its values are distinct.";
        return Decision::ignored(with_key_hint(reason, profile));
    }
    let categorical = Decision::feature(Kind::Categorical);
    if profile.distinct.count() > DEFAULT_MAX_CARDINALITY as u64 {
        let reason = format!("The most frequent {DEFAULT_MAX_CARDINALITY} values are told apart.");
        return categorical.because(reason);
    }
    categorical
}

/// What becomes of text that is numbers; `None` if it is as good as any other text.
fn decide_number_text(
    name: &str,
    profile: &Profile,
    form: NumberText,
    numbers: &Numbers,
) -> Option<Decision> {
    let values = profile.distinct_values();
    let many = values > CATEGORIES_OF_NUMBERS_MAX;
    let written = !form.strip.is_empty() || form.thousands.is_some() || !numbers.whole;
    let quantity = is_quantity_name(name) && !is_code_name(name);
    let is_number = many
        || (quantity && values > 2)
        || (written && values > FRACTIONS_MIN)
        || (!form.strip.is_empty() && values > 2);
    if !is_number {
        return None;
    }
    if !written
        && !quantity
        && let Some(decision) = identifier_or_code(name, profile, numbers)
    {
        return Some(decision);
    }
    let but = if form.null_values.is_empty() {
        ""
    } else {
        " but for the null values"
    };
    let plain = form.is_plain();
    let mut decision = numeric(name, profile, numbers);
    decision
        .reasons
        .insert(0, format!("Every text is a number{but}."));
    if !plain {
        decision.reasons.push(
            "Text in this form is read by `parse` alone: no other writing counts as a number."
                .to_owned(),
        );
    }
    if form.strip.len() > 1 {
        let hint = format!(
            "Amounts of several units stand in one column: {}. They are read as if they were one.",
            form.strip.join(", ")
        );
        decision = decision
            .because(hint)
            .doubted("amounts of several units in one column");
    }
    let either = profile.texts.as_ref().and_then(|texts| texts.either(&form));
    if let Some((text, read, other)) = either {
        decision = decision
            .because(format!(
                "`{text}` is read as {read}; no text of the column tells whether {other} is meant. If it is, change \
                 `decimal_separator` and `thousands_separator`."
            ))
            .doubted(format!("`{text}` is read as {read}, and may be {other}"));
    }
    decision.parse = Some(form);
    Some(decision)
}

/// Ignored for its name, if that is an identifier's and the values do not speak against it.
fn named_identifier(name: &str, profile: &Profile, numbers: Option<&Numbers>) -> Option<Decision> {
    let named = identifier_name(name)?;
    let count = numbers.is_some_and(|numbers| numbers.is_small_count(&profile.distinct));
    if named == IdentifierName::Likely && (count || is_money_name(name)) {
        return None;
    }
    Some(Decision::ignored(with_key_hint(
        "An identifier, by its name.",
        profile,
    )))
}

/// What whole numbers become that name something, by their values.
fn identifier_or_code(name: &str, profile: &Profile, numbers: &Numbers) -> Option<Decision> {
    let code_name = is_code_name(name);
    if is_quantity_name(name) && !code_name {
        return None;
    }
    if numbers.is_long_code() {
        let reason = "An identifier: nearly all have the same number of digits, nine or more, or 17 and more, as codes and hashes have.";
        return Some(Decision::ignored(with_key_hint(reason, profile)));
    }
    if numbers.is_running_number(&profile.distinct) && !is_time_name(name) {
        let reason = "An identifier: a running number, which differs in every row and leaves few places free.";
        return Some(Decision::ignored(with_key_hint(reason, profile)));
    }
    let values = profile.distinct_values();
    let points = code_points(name, profile, numbers)?;
    if points >= 3 && values <= DEFAULT_MAX_CARDINALITY as u64 {
        let reason = if code_name {
            "A code, by its name: its numbers have no order."
        } else {
            "A code, by its values: how often they occur has nothing to do with their order."
        };
        return Some(Decision::feature(Kind::Categorical).because(reason));
    }
    if points == 2 {
        let hint = "Perhaps a code: if its numbers have no order, set `kind = \"categorical\"`.";
        let numeric = numeric(name, profile, numbers).because(hint);
        return Some(numeric.doubted("a quantity, or a code in repeated use?"));
    }
    None
}

/// Points for a code: those of the values, and of the name.
fn code_points(name: &str, profile: &Profile, numbers: &Numbers) -> Option<i32> {
    let values = profile.distinct_values();
    let repeated = values > 2 && values.saturating_mul(2) <= profile.present();
    let whole = numbers.whole
        && numbers
            .spread
            .lowest()
            .first()
            .is_some_and(|least| least.0 >= 0.0);
    if is_code_name(name) && repeated && whole {
        return Some(3);
    }
    if is_quantity_name(name) {
        return None;
    }
    let points = numbers.code_points(&profile.distinct)?;
    Some(points + i32::from(points > 0 && is_thing_name(name)))
}

/// A number, with what its spread asks for.
fn numeric(name: &str, profile: &Profile, numbers: &Numbers) -> Decision {
    let mut decision = Decision::feature(Kind::Numeric);
    if profile.distinct.count() <= 2 {
        return decision;
    }
    let findings = examine(&numbers.spread);
    for stand_in in &findings.stand_ins {
        let value = number(stand_in.value);
        // A limit of an amount looks like a stand-in too.
        let sure = stand_in.is_usual && !(is_money_name(name) && stand_in.value > 0.0);
        decision = decision.because(format!("{}.", stand_in.sentence()));
        if sure {
            decision.null_values.push(value.clone());
        }
        let doubt = format!("{value} looks like \"missing\"");
        decision.doubt.get_or_insert(doubt);
    }
    if let Some(few) = &findings.few {
        decision = decision.because(format!("{}.", few.sentence()));
        let named: Vec<String> = few.values.iter().map(|&value| number(value)).collect();
        let (rows, of) = (few.rows, few.of);
        // What a transform spreads out again is only worth a look where it was all that could be seen.
        if few.share >= BLIND_SHARE || findings.transform == Transform::None {
            let hold = if rows == 1 { "holds" } else { "hold" };
            decision.doubt = Some(format!(
                "{rows} of {of} rows {hold} most of its variance ({})",
                named.join(", ")
            ));
        }
    }
    decision.transform = findings.transform;
    if findings.transform != Transform::None && findings.few.is_none() {
        decision = decision.because(format!(
            "A heavy tail: one row in a thousand lies {:.0} times as far out as the quartile.",
            findings.tail
        ));
    }
    if numbers.is_clock() && !is_time_name(name) {
        decision = decision.because(
            "It rises from row to row, as clocks and counters do: later records lie beyond all that training sees.",
        );
        decision
            .doubt
            .get_or_insert("it rises from row to row".to_owned());
    }
    decision
}

fn with_key_hint(reason: &str, profile: &Profile) -> String {
    let hint = " It differs in (nearly) every row: `role = \"key\"` would name records by it.";
    let hint = if profile.is_unique() { hint } else { "" };
    format!("{reason}{hint}")
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
