//! Records of 29 dependent numbers, a key and a time.
//!
//! A seed flows in, a batch flows out. Each number is a mixture of a few hidden causes, the same mixture for every seed, so
//! that there is something to learn of each from the others; values have six decimals, as data in JSON mostly do.

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use maskwatch::rng::{ChaCha8Rng, Purpose, stream};
use rand_distr::{Distribution, StandardNormal};
use std::fmt::Write;
use std::sync::Arc;

const FIELDS: usize = 29;
const CAUSES: usize = 6;
/// Of every value that its causes do not explain, beside causes of size 1.
const NOISE: f64 = 0.5;
/// Seed of the mixture: none of the seeds of records.
const MIXTURE_SEED: u64 = 1 << 32;
/// 5 January 2026, midnight UTC; a record a second.
const START_MS: i64 = 1_767_571_200_000;

fn name(field: usize) -> String {
    format!("v{field:02}")
}

/// The schema, as text.
pub fn schema() -> String {
    let mut text = String::from(
        "[[field]]\nname = \"id\"\nkind = \"categorical\"\nrole = \"key\"\n\
         [[field]]\nname = \"time\"\nkind = \"timestamp\"\nrole = \"time\"\n",
    );
    for field in 0..FIELDS {
        let name = name(field);
        write!(
            text,
            "[[field]]\nname = \"{name}\"\nkind = \"numeric\"\nnullable = false\n"
        )
        .unwrap();
    }
    text
}

fn normal(rng: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// `rows` records of `seed`.
pub fn batch(rows: usize, seed: u64) -> RecordBatch {
    let mut rng = stream(MIXTURE_SEED, Purpose::Generation);
    let mixture: Vec<[f64; CAUSES]> = (0..FIELDS)
        .map(|_| std::array::from_fn(|_| normal(&mut rng)))
        .collect();
    let mut rng = stream(seed, Purpose::Generation);
    let mut columns = vec![Vec::new(); FIELDS];
    for _ in 0..rows {
        let causes: [f64; CAUSES] = std::array::from_fn(|_| normal(&mut rng));
        for (column, weights) in columns.iter_mut().zip(&mixture) {
            let explained: f64 = weights.iter().zip(causes).map(|(w, cause)| w * cause).sum();
            let value = explained + NOISE * normal(&mut rng);
            column.push((value * 1e6).round() / 1e6);
        }
    }
    let ids = StringArray::from_iter_values((0..rows).map(|row| format!("{seed}-{row}")));
    let times = (0..rows as i64).map(|row| START_MS + row * 1_000);
    let times = TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC");
    let mut named: Vec<(String, ArrayRef)> = vec![
        ("id".to_owned(), Arc::new(ids)),
        ("time".to_owned(), Arc::new(times)),
    ];
    for (field, column) in columns.into_iter().enumerate() {
        named.push((name(field), Arc::new(Float64Array::from(column))));
    }
    RecordBatch::try_from_iter(named).unwrap()
}
