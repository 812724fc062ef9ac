//! What the benchmarks of the stream are fed with: records of two kinds as JSON and as Avro, and bundles that know them.
//!
//! A kind flows in, records and a model's folder flow out. The invariant: a model was fitted on none of the records that
//! [`Kind::fresh`] gives.

#![allow(
    dead_code,
    reason = "each benchmark is a program of its own and uses a part of this"
)]

/// The same records in Confluent framing.
pub mod avro;
mod numbers;

use arrow::array::RecordBatch;
use maskwatch::generate::{Generator, GeneratorConfig, JsonRows};
use maskwatch::recipe::{Recipe, TrainConfig, learn};
use maskwatch::records::ParquetSource;
use maskwatch::schema::Schema;
use maskwatch::train::Unobserved;
use parquet::arrow::ArrowWriter;
use std::path::Path;

/// Records that a model learns from; a fifth of them are calibration rows.
const TRAINING_ROWS: usize = 5_000;

/// Which records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Generated card payments under the schema that ships with the project: numbers, categories, times, nulls.
    Payments,
    /// 29 numbers without nulls, as many as the public card data of ULB has: what a peer that knows numbers only can take.
    Numbers,
}

impl Kind {
    /// The kind called `payments` or `numbers`.
    pub fn of(name: &str) -> Self {
        match name {
            "payments" => Self::Payments,
            "numbers" => Self::Numbers,
            other => panic!("--data {other}: it is payments or numbers"),
        }
    }

    /// Their schema.
    pub fn schema(self) -> Schema {
        match self {
            Self::Payments => {
                let text = include_str!("../../schemas/payments.toml");
                Schema::parse(text, "schemas/payments.toml").unwrap()
            }
            Self::Numbers => Schema::parse(&numbers::schema(), "numbers.toml").unwrap(),
        }
    }

    /// Records that no model of [`train`](Self::train) saw.
    pub fn fresh(self, rows: usize) -> RecordBatch {
        match self {
            Self::Payments => {
                let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
                generator.next_batch(TRAINING_ROWS).unwrap();
                generator.next_batch(rows).unwrap()
            }
            Self::Numbers => numbers::batch(rows, 1),
        }
    }

    fn training(self) -> RecordBatch {
        match self {
            Self::Payments => {
                let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
                generator.next_batch(TRAINING_ROWS).unwrap()
            }
            Self::Numbers => numbers::batch(TRAINING_ROWS, 0),
        }
    }

    /// Trains the model of `config` (TOML) into `out`. A few steps do: its cost does not depend on its weights.
    pub fn train(self, config: &str, out: &Path) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("records.parquet");
        let batch = self.training();
        let file = std::fs::File::create(&data).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let source = ParquetSource::open(&[data.display().to_string()]).unwrap();
        let config: TrainConfig = toml::from_str(config).unwrap();
        let recipe = Recipe {
            source: &source,
            schema: &self.schema(),
            config: &config,
            seed: 0,
            exclude_labelled: false,
            from: None,
            out,
        };
        learn(&recipe, &mut Unobserved).unwrap();
    }
}

/// One JSON object a row.
pub fn json(batch: &RecordBatch) -> Vec<Vec<u8>> {
    let rows = JsonRows::new(batch).unwrap();
    let text = |row| {
        let mut bytes = Vec::new();
        rows.write(row, &mut bytes).unwrap();
        bytes
    };
    (0..batch.num_rows()).map(text).collect()
}
