//! What a record costs: encoding and scoring, by batch size, with the default model on generated payments.
//!
//! `cargo bench --bench scoring`. The model is trained for a few steps only: its cost does not depend on its weights.
//! Criterion reports time and records a second; on a shared machine compare ratios within one run.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark, not a part of the library"
)]

use arrow::array::RecordBatch;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use maskwatch::Detector;
use maskwatch::generate::{Generator, GeneratorConfig, write_parquet};
use maskwatch::recipe::{Recipe, TrainConfig, learn};
use maskwatch::records::{Canonicaliser, ParquetSource};
use maskwatch::schema::Schema;
use maskwatch::train::Unobserved;
use std::hint::black_box;

const BATCH_ROWS: [usize; 4] = [1, 32, 256, 1024];

/// A detector with the default model, and a canonical batch of payments that it has not seen.
fn detector() -> (Detector, RecordBatch) {
    let folder = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
    let data = folder.path().join("payments.parquet");
    write_parquet(&mut generator, 5_000, &data, |_| {}).unwrap();
    let text = include_str!("../schemas/payments.toml");
    let schema = Schema::parse(text, "schemas/payments.toml").unwrap();
    let source = ParquetSource::open(&[data.display().to_string()]).unwrap();
    let mut config = TrainConfig::default();
    config.training.steps = 20;
    let out = folder.path().join("model");
    let recipe = Recipe {
        source: &source,
        schema: &schema,
        config: &config,
        seed: 0,
        exclude_labelled: false,
        from: None,
        out: &out,
    };
    learn(&recipe, &mut Unobserved).unwrap();
    let batch = generator.next_batch(1024).unwrap();
    let canonicaliser = Canonicaliser::new(&schema, &batch.schema(), "payments").unwrap();
    let batch = canonicaliser.canonicalise(&batch).unwrap().batch;
    (Detector::load(&out).unwrap(), batch)
}

fn scoring(criterion: &mut Criterion) {
    let (detector, batch) = detector();
    let mut group = criterion.benchmark_group("score");
    group.sample_size(20);
    for rows in BATCH_ROWS {
        let batch = batch.slice(0, rows);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_with_input(
            BenchmarkId::from_parameter(rows),
            &batch,
            |bencher, batch| {
                bencher.iter(|| black_box(detector.score(batch).unwrap()));
            },
        );
    }
    group.finish();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1024));
    let encoder = detector.scorer().model().encoder();
    group.bench_function("1024", |bencher| {
        bencher.iter(|| black_box(encoder.encode(&batch).unwrap()));
    });
    group.finish();
}

criterion_group!(benches, scoring);
criterion_main!(benches);
