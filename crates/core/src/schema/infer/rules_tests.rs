//! The rules of inference, each held by values made up for it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, StringArray, UInt64Array};

use super::super::distinct::hash;
use super::super::profile::hashes;
use super::*;
use crate::schema::moment_from_text;

fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<Int64Array>())
}

fn floats(values: impl IntoIterator<Item = f64>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<Float64Array>())
}

fn texts(values: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(values.into_iter().map(Some).collect::<StringArray>())
}

fn decided(name: &str, column: &ArrayRef) -> Decision {
    beside(name, column, "")
}

/// What becomes of a column beside one whose moments are all on the day `moment`, if there is one.
fn beside(name: &str, column: &ArrayRef, moment: &str) -> Decision {
    let mut profile = Profile::new(0, name);
    profile.add(column, &[]).unwrap();
    let moments = moment_from_text(moment).map(|micros| MomentGroup {
        first: micros,
        last: micros,
        rows: 1,
    });
    decide(name, column.data_type(), &profile, None, moments.as_slice())
}

fn kind(name: &str, column: &ArrayRef) -> Option<Kind> {
    let decision = decided(name, column);
    assert_eq!(decision.role == Role::Ignore, decision.kind.is_none());
    decision.kind
}

/// Even draws from 0..n, the same at every run.
fn draws(rows: u64, n: u64) -> impl Iterator<Item = i64> {
    (0..rows).map(move |i| (hash(&i.to_le_bytes()) % n) as i64)
}

/// Normal draws by the central limit.
fn normals(rows: u64, mean: f64, deviation: f64) -> impl Iterator<Item = f64> {
    (0..rows).map(move |i| {
        let sum: u64 = (0..12)
            .map(|k| hash(&(i * 12 + k).to_le_bytes()) % 1_000_000)
            .sum();
        mean + deviation * (sum as f64 / 1e6 - 6.0)
    })
}

/// Draws whose logarithm is normal, as amounts are.
fn lognormals(rows: u64, mean: f64, deviation: f64) -> impl Iterator<Item = f64> {
    normals(rows, mean, deviation).map(f64::exp)
}

#[test]
fn an_amount_in_cents_is_never_an_identifier() {
    // Over 80 % of them are distinct, whatever they are called.
    let cents: Vec<i64> = lognormals(20_000, 13.0, 1.2).map(|x| x as i64).collect();
    let distinct: std::collections::HashSet<i64> = cents.iter().copied().collect();
    assert!(distinct.len() > 16_000, "{}", distinct.len());
    for name in ["amount_cents", "x", "transfer", "betrag"] {
        assert_eq!(
            kind(name, &integers(cents.clone())),
            Some(Kind::Numeric),
            "{name}"
        );
    }
}

#[test]
fn ages_in_days_unix_times_and_balances_are_quantities() {
    let ages = draws(3_000, 25_000).map(|x| 6_500 + x);
    assert_eq!(kind("account_age", &integers(ages)), Some(Kind::Numeric));
    let times = draws(3_000, 90 * 86_400).map(|x| 1_530_403_200 + x);
    assert_eq!(kind("when", &integers(times)), Some(Kind::Numeric));
    let balances = normals(3_000, 250_000.0, 400_000.0).map(|x| x as i64);
    assert_eq!(kind("b", &integers(balances)), Some(Kind::Numeric));
    let seconds = lognormals(3_000, 10.0, 2.0).map(|x| 1 + x as i64);
    let decision = decided("seconds_since_last", &integers(seconds));
    assert_eq!(
        (decision.kind, decision.transform),
        (Some(Kind::Numeric), Transform::Log1p)
    );
}

#[test]
fn running_numbers_and_long_codes_are_identifiers_and_say_so() {
    for column in [
        integers((0..3_000).map(|i| 1_000_000 + i)),
        integers((0..3_000).map(|i| 1_000_000 + (i * 1_777) % 3_000)),
        integers(draws(3_000, 1_900_000_000_000_000).map(|x| 4_000_000_000_000_000 + x)),
        // Hashes of 64 bits have 18 to 20 digits, and signs where they are read as signed.
        integers((0..3_000_u64).map(|i| hash(&i.to_le_bytes()).cast_signed())),
        Arc::new(
            (0..3_000_u64)
                .map(|i| Some(hash(&i.to_le_bytes())))
                .collect::<UInt64Array>(),
        ),
    ] {
        let decision = decided("x", &column);
        assert_eq!(decision.role, Role::Ignore);
        assert!(
            decision.reasons[0].starts_with("An identifier: "),
            "{decision:?}"
        );
        assert!(
            decision.reasons[0].contains("role = \"key\""),
            "{decision:?}"
        );
        // Money is money, whatever it looks like.
        assert_eq!(kind("total_amount", &column), Some(Kind::Numeric));
    }
}

#[test]
fn nanoseconds_without_a_name_are_no_hashes() {
    let at = draws(3_000, 30_000_000_000_000_000).map(|x| 1_767_600_000_000_000_000 + x);
    assert_eq!(kind("x", &integers(at)), Some(Kind::Numeric));
}

#[test]
fn numbers_named_as_identifiers_are_ignored_unless_they_are_counts() {
    assert_eq!(kind("customer_id", &integers([1, 1, 1, 1])), None);
    assert_eq!(
        kind("cc_num", &integers(draws(900, 900).map(|x| 5_000_000 + x))),
        None
    );
    assert_eq!(
        kind("failed_num", &integers(draws(900, 6))),
        Some(Kind::Numeric)
    );
    assert_eq!(kind("customer_no", &integers(draws(9_000, 5_000))), None);
}

#[test]
fn codes_are_categories_by_name_or_by_their_values() {
    let shops: Vec<i64> = draws(40_000, 160_000)
        .map(|x| 10_000 + (hash(&((x as f64).sqrt() as u64).to_le_bytes()) % 89_000) as i64)
        .collect();
    assert_eq!(kind("x", &integers(shops.clone())), Some(Kind::Categorical));
    assert_eq!(
        kind("addr1", &integers(shops.clone())),
        Some(Kind::Categorical)
    );
    assert_eq!(
        kind("amount", &integers(shops.clone())),
        Some(Kind::Numeric)
    );
    // Floats are no categories, and say what they look like.
    let decision = decided("card2", &floats(shops.iter().map(|&x| x as f64)));
    assert_eq!(decision.kind, Some(Kind::Numeric));
    assert!(decision.doubt.unwrap().contains("look like codes"));
    let codes = draws(900, 9).map(|x| 5_411 + 37 * x);
    assert_eq!(
        kind("merchant_category_code", &integers(codes)),
        Some(Kind::Categorical)
    );
    assert_eq!(
        kind("zip", &integers(draws(900, 40).map(|x| 8_000 + x))),
        Some(Kind::Categorical)
    );
}

#[test]
fn integers_are_numbers_unless_they_name_something_or_tell_the_time() {
    assert_eq!(
        kind("flag", &integers((0..10).map(|i| i % 2))),
        Some(Kind::Numeric)
    );
    assert_eq!(
        kind("pages", &integers((0..10).map(|i| i % 6))),
        Some(Kind::Numeric)
    );
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
    let clock = decided("t", &integers((0..900).map(|i| i * i)));
    assert_eq!(clock.doubt.as_deref(), Some("it rises from row to row"));
}

#[test]
fn a_float_is_never_an_identifier() {
    assert_eq!(
        kind("card_num", &floats((0..500).map(f64::from))),
        Some(Kind::Numeric)
    );
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
    let prices = decided("x", &of(2_000, &|i| format!("{i}.5")));
    assert_eq!(
        (prices.kind, prices.parse.is_some()),
        (Some(Kind::Numeric), true)
    );
    assert_eq!(
        kind("code", &of(2_000, &|i| format!("{}", i % 900))),
        Some(Kind::Categorical)
    );
    assert_eq!(
        kind("zip", &of(4_000, &|i| format!("0{}", i % 1_999))),
        Some(Kind::Categorical)
    );
    let whole = decided("size", &of(4_000, &|i| format!("{}", i % 1_999)));
    assert_eq!(
        (whole.kind, whole.parse.is_some()),
        (Some(Kind::Numeric), true)
    );
    assert_eq!(kind("order", &of(4_000, &|i| format!("{i}"))), None);
    assert_eq!(
        kind("version", &of(400, &|i| format!("{}.5", i % 3))),
        Some(Kind::Categorical)
    );
}

#[test]
fn amounts_in_text_with_markers_and_separators_are_numbers() {
    let of = |write: fn(f64) -> String| {
        let mut amounts: Vec<String> = lognormals(3_000, 6.0, 1.0).map(write).collect();
        amounts[17] = String::new();
        amounts[1_700] = "N/A".to_owned();
        decided("amount", &texts(amounts))
    };
    let plain = of(|x| format!("{x:.2}"));
    assert_eq!(plain.kind, Some(Kind::Numeric));
    let form = plain.parse.unwrap();
    assert_eq!(
        (form.is_plain(), form.null_values),
        (true, vec![String::new(), "N/A".to_owned()])
    );
    let euros = of(|x| format!("{x:.2} €").replace('.', ","));
    let form = euros.parse.unwrap();
    assert_eq!(
        (form.decimal, form.thousands, form.strip),
        (',', None, vec!["€".to_owned()])
    );
    let cents = of(|x| format!("{:.0}", 100.0 * x));
    assert_eq!(
        (cents.kind, cents.parse.is_some()),
        (Some(Kind::Numeric), true)
    );
}

#[test]
fn money_that_is_ignored_is_named() {
    let odd = decided(
        "amount",
        &texts((0..300).map(|i| format!("about {i} or so"))),
    );
    assert_eq!(odd.role, Role::Ignore);
    assert!(odd.doubt.unwrap().contains("named as money"));
}

#[test]
fn one_absurd_amount_is_named_and_a_transform_is_written() {
    let mut amounts: Vec<f64> = normals(20_000, 50.0, 15.0).map(f64::abs).collect();
    assert_eq!(
        decided("amount", &floats(amounts.clone())).transform,
        Transform::None
    );
    amounts[7_777] = 1e9;
    let decision = decided("amount", &floats(amounts.clone()));
    assert_eq!(
        (decision.kind, decision.transform),
        (Some(Kind::Numeric), Transform::Log1p)
    );
    let doubt = decision.doubt.unwrap();
    assert!(
        doubt.contains("1 of 20000 rows") && doubt.contains("1000000000"),
        "{doubt}"
    );
    assert!(
        decision.reasons[0].contains("over 99.9 % of the variance"),
        "{:?}",
        decision.reasons
    );
    // With refunds the transform is one of both signs.
    amounts[3] = -20.0;
    assert_eq!(
        decided("amount", &floats(amounts)).transform,
        Transform::Asinh
    );
}

#[test]
fn stand_ins_for_missing_values_are_null_values() {
    let of = |stand_in: f64, every: usize| {
        let values = normals(5_000, 40.0, 10.0).enumerate();
        floats(values.map(|(i, x)| if i % every == 0 { stand_in } else { x.abs() }))
    };
    for (stand_in, word) in [(-999.0, "-999"), (9_999.0, "9999"), (-1e6 + 1.0, "-999999")] {
        let decision = decided("x", &of(stand_in, 50));
        assert_eq!(decision.null_values, [word], "{decision:?}");
        assert_eq!(decision.transform, Transform::None);
    }
    // A number that nobody writes for "missing" is named only, and so is a limit of amounts.
    let decision = decided("x", &of(5_000.0, 50));
    assert!(decision.null_values.is_empty() && decision.doubt.unwrap().contains("5000"));
    let decision = decided("amount", &of(9_999.0, 50));
    assert!(decision.null_values.is_empty() && decision.doubt.unwrap().contains("9999"));
    // -1 among small numbers is one of them, and so is each of three.
    let trend = integers(draws(5_000, 3).map(|x| x - 1));
    assert!(decided("x", &trend).null_values.is_empty());
    let near = integers(draws(5_000, 40).map(|x| x - 1));
    assert!(decided("x", &near).null_values.is_empty());
}

#[test]
fn heavy_tails_are_transformed_and_ordinary_ones_are_not() {
    let transform = |values: Vec<f64>| decided("x", &floats(values)).transform;
    assert_eq!(
        transform(lognormals(20_000, 3.0, 1.5).collect()),
        Transform::Log1p
    );
    assert_eq!(
        transform(normals(20_000, 0.0, 1.0).collect()),
        Transform::None
    );
    let exponential = draws(20_000, 1_000_000).map(|x| -30.0 * ((x as f64 + 0.5) / 1e6).ln());
    assert_eq!(transform(exponential.collect()), Transform::None);
    let signed = lognormals(20_000, 3.0, 2.0).enumerate();
    let signed = signed.map(|(i, x)| if i % 2 == 0 { x } else { -x });
    assert_eq!(transform(signed.collect()), Transform::Asinh);
    // A logarithm does not help what is small or far from zero.
    assert_eq!(
        transform(lognormals(20_000, -12.0, 1.5).collect()),
        Transform::None
    );
}

#[test]
fn a_constant_is_kept_and_named_for_a_person_to_look_at() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["EUR"; 60]));
    for column in [integers([3; 60]), floats([2.5; 60]), text] {
        let mut profile = Profile::new(0, "");
        profile.add(&column, &[]).unwrap();
        let decision = decide("currency", column.data_type(), &profile, None, &[]);
        assert_eq!(decision.role, Role::Feature);
        assert_eq!(decision.doubt.as_deref(), Some("one value in all rows"));
    }
}

#[test]
fn only_nulls_are_ignored_and_a_constant_is_kept() {
    let nulls: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(f64::NAN)]));
    assert_eq!(kind("x", &nulls), None);
    assert_eq!(kind("x", &integers([3, 3, 3])), Some(Kind::Numeric));
}

#[test]
fn a_column_that_gives_the_label_away_is_ignored() {
    let with = |name: &str, column: &ArrayRef, labels: &ArrayRef| {
        let mut profile = Profile::new(1, "");
        profile.add(column, &[hashes(labels).unwrap()]).unwrap();
        decide(name, column.data_type(), &profile, Some(0), &[])
    };
    let labels = integers((0..60).map(|i| i64::from(i % 3 == 0)));
    let scenario = integers((0..60).map(|i| if i % 3 == 0 { 1 + i % 2 } else { 0 }));
    let decision = with("scenario", &scenario, &labels);
    assert!(decision.reasons[0].contains("label in disguise"));
    let other = integers((0..60).map(|i| i % 2));
    assert_eq!(with("other", &other, &labels).kind, Some(Kind::Numeric));
    // Nine rows of one label are too few to tell.
    let few = integers((0..60).map(|i| i64::from(i < 9)));
    assert_eq!(with("split", &few, &few).kind, Some(Kind::Numeric));
    // In a small file every amount comes once, and so with one label only.
    let amounts = floats((0..60).map(|i| f64::from(i) + 0.5));
    assert_eq!(with("amount", &amounts, &labels).kind, Some(Kind::Numeric));
}

#[test]
fn days_since_1970_are_dates_where_name_and_values_agree() {
    let days = || integers(draws(3_000, 900).map(|day| 19_800 + day));
    for name in ["value_date", "dt", "bookingDate", "date_of_birth"] {
        let decision = decided(name, &days());
        let found = (decision.kind, decision.unit);
        assert_eq!(
            found,
            (Some(Kind::Timestamp), Some(TimeUnit::Days)),
            "{name}"
        );
    }
    // Less of a name needs moments of another column nearby.
    for name in ["posting_day", "settled_at", "event_time"] {
        assert_eq!(decided(name, &days()).kind, Some(Kind::Numeric), "{name}");
        assert_eq!(
            beside(name, &days(), "1999-01-01").kind,
            Some(Kind::Numeric),
            "{name}"
        );
        let decision = beside(name, &days(), "2026-01-01");
        assert_eq!(decision.unit, Some(TimeUnit::Days), "{name}");
    }
    // A value alone says nothing: so old are people of fifty.
    for name in ["age_days", "days", "x", "payments_per_day", "amount"] {
        assert_eq!(
            beside(name, &days(), "2026-01-01").kind,
            Some(Kind::Numeric),
            "{name}"
        );
    }
    // Nor does a name: these are no days of this century.
    for values in [
        draws(3_000, 28).collect(),
        vec![20_260_105; 50],
        vec![2026; 50],
    ] {
        assert_eq!(decided("date", &integers(values)).unit, None);
    }
}

#[test]
fn stand_ins_for_a_moment_are_null_values_and_other_far_moments_are_named() {
    let with = |odd: i64, rows: u64| {
        let days = draws(1_000, 900).map(move |day| 19_800 + day);
        integers(days.chain((0..rows).map(move |_| odd)))
    };
    for (odd, rows, null) in [
        (0, 1, "1970-01-01T00:00:00Z"),
        (0, 300, "1970-01-01T00:00:00Z"),
        (-1, 3, "1969-12-31T00:00:00Z"),
        (2_932_896, 50, "9999-12-31T00:00:00Z"),
    ] {
        let decision = decided("value_date", &with(odd, rows));
        assert_eq!(decision.unit, Some(TimeUnit::Days), "{odd}");
        assert_eq!(decision.null_values, [null]);
        assert!(decision.doubt.unwrap().contains(null));
    }
    let slip = decided("value_date", &with(919_714, 1));
    assert_eq!(
        (slip.unit, slip.null_values.len()),
        (Some(TimeUnit::Days), 0)
    );
    let doubt = "1 row has a moment far from all others: 4488-02-03T00:00:00Z";
    assert_eq!(slip.doubt.as_deref(), Some(doubt));
    let dates = (0..200).map(|i| match i {
        7 => "4488-02-03".to_owned(),
        9 => "1970-01-01 00:00:00".to_owned(),
        _ => format!("2026-01-{:02}", 1 + i % 28),
    });
    let found = decided("x", &texts(dates));
    assert_eq!(found.kind, Some(Kind::Timestamp));
    assert_eq!(found.null_values, ["1970-01-01T00:00:00Z"]);
    assert_eq!(found.doubt.as_deref(), Some(doubt));
}

#[test]
fn whole_numbers_that_single_precision_rounds_are_named() {
    let single = |offset: i64| {
        let values = draws(2_000, 1_000).map(move |x| Some((offset + x) as f32));
        let column: ArrayRef = Arc::new(values.collect::<Float32Array>());
        decided("code", &column).doubt
    };
    assert_eq!(
        single(20_000_000).as_deref(),
        Some("whole numbers that are rounded as Float32")
    );
    assert_ne!(
        single(5_000).as_deref(),
        Some("whole numbers that are rounded as Float32")
    );
}
