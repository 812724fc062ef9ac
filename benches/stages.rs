//! What each stage between Kafka and the model costs: decode JSON, decode Avro, canonicalise and encode, write envelopes.
//!
//! `cargo bench --bench stages`, on 1,024 generated payments. Criterion reports time and records a second; on a shared
//! machine compare ratios within one run. Scoring itself is measured by `--bench scoring`, Kafka by `stream_throughput`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark, not a part of the library"
)]

mod records;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maskwatch::Detector;
use maskwatch::pipeline::envelope::{Envelope, event_time};
use maskwatch::pipeline::types::{Offset, Partition};
use maskwatch::records::{AvroDecoder, Canonicaliser, DecodeLimits, FileSchemas, JsonDecoder};
use maskwatch::score::{Expected, Reason};
use records::{Kind, avro};
use std::collections::BTreeMap;
use std::hint::black_box;

const ROWS: usize = 1_024;

/// A small model: only its encoder is used here.
const CONFIG: &str = "[model]\nwidth = 32\nblocks = 1\n[training]\nsteps = 20\n";

fn decode(criterion: &mut Criterion) {
    let batch = Kind::Payments.fresh(ROWS);
    let schema = Kind::Payments.schema();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(ROWS as u64));

    let messages = records::json(&batch);
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|message| Some(&message[..])).collect();
    let mut json = JsonDecoder::new(&schema, DecodeLimits::default());
    assert_eq!(json.decode(&payloads).unwrap().batch.num_rows(), ROWS);
    group.bench_function("json", |bencher| {
        bencher.iter(|| black_box(json.decode(&payloads).unwrap()));
    });

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payment.avsc");
    std::fs::write(&file, avro::schema(&batch)).unwrap();
    let writers = FileSchemas::load(&BTreeMap::from([(avro::SCHEMA_ID, file)])).unwrap();
    let messages = avro::messages(&batch);
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|message| Some(&message[..])).collect();
    let mut avro = AvroDecoder::new(&schema, DecodeLimits::default(), Box::new(writers));
    assert_eq!(avro.decode(&payloads).unwrap().batch.num_rows(), ROWS);
    group.bench_function("avro", |bencher| {
        bencher.iter(|| black_box(avro.decode(&payloads).unwrap()));
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("model");
    Kind::Payments.train(CONFIG, &bundle);
    let detector = Detector::load(&bundle).unwrap();
    let batch = Kind::Payments.fresh(ROWS);
    let schema = Kind::Payments.schema();
    let canonicaliser = Canonicaliser::new(&schema, &batch.schema(), "payments").unwrap();
    let encoder = detector.scorer().model().encoder();
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("canonicalise", |bencher| {
        bencher.iter(|| black_box(canonicaliser.canonicalise(&batch).unwrap()));
    });
    let canonical = canonicaliser.canonicalise(&batch).unwrap().batch;
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(encoder.encode(&canonical).unwrap()));
    });
    group.finish();
}

fn reason() -> Reason {
    Reason {
        field: "amount".to_owned(),
        surprise: 6.25,
        p_value: 0.000_25,
        observed: serde_json::json!(1234.5),
        expected: Expected::Interval {
            value: serde_json::json!(23.5),
            low: serde_json::json!(2.25),
            high: serde_json::json!(180.75),
        },
        contribution: None,
    }
}

fn envelopes(criterion: &mut Criterion) {
    let reasons = vec![reason(); 5];
    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut bytes = Vec::new();
    for (name, reasons) in [("plain", &[][..]), ("five reasons", &reasons[..])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                bytes.clear();
                for row in 0..ROWS as i64 {
                    let envelope = Envelope {
                        event_id: Some("0123456789abcdef".into()),
                        topic: Some("payments"),
                        partition: Some(Partition(3)),
                        offset: Some(Offset(1_000_000 + row)),
                        event_time: event_time(1_767_571_200_123_000 + row * 1_000_000),
                        model_id: "0123456789abcdef",
                        anomaly_score: 1.0 + row as f32 / 7.0,
                        p_value: 1.0 / (row as f64 + 3.0),
                        alert: !reasons.is_empty(),
                        reasons,
                        p_value_unsupervised: None,
                        p_value_supervised: None,
                        fired: None,
                    };
                    envelope.write(&mut bytes).unwrap();
                }
                black_box(bytes.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, envelopes);
criterion_main!(benches);
