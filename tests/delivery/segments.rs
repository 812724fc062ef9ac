//! A budget that is held by segment, through the whole stream: what comes out of the topics is what a batch says.
//!
//! In: a small bundle of generated payments and the in-process twin of Kafka. The scorer is a loaded bundle, as in the
//! daemon.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use serde_json::Value;

use crate::memory::{Cluster, Shared as Memory};
use crate::stream::{config, facts, messages, options, stream_of};
use maskwatch::Detector;
use maskwatch::generate::{Generator, GeneratorConfig, write_parquet};
use maskwatch::kafka::decoders::decoders;
use maskwatch::pipeline::Pipeline;
use maskwatch::recipe::{Recipe, TrainConfig, learn};
use maskwatch::records::{Canonicaliser, ParquetSource};
use maskwatch::schema::Schema;
use maskwatch::score::AlertBudget;
use maskwatch::telemetry::Metrics;
use maskwatch::train::Unobserved;

/// A model that is trained in a tenth of a second.
const TRAINING: &str = "[model]\nwidth = 16\nblocks = 1\n[views]\nratios = [0.5]\nrounds = 1\n\
                        [training]\nsteps = 20\n";
/// With 600 calibration rows even the segments of a rare channel have the 19 rows that it needs.
const BUDGET: f64 = 0.05;

/// A bundle, loaded twice: as it is, and with the budget held by channel; and payments that it has not seen.
pub fn detectors() -> (Detector, Detector, RecordBatch) {
    let folder = tempfile::tempdir().unwrap();
    let mut generator = Generator::new(&GeneratorConfig {
        customers: 100,
        terminals: 50,
        ..GeneratorConfig::default()
    })
    .unwrap();
    let data = folder.path().join("payments.parquet");
    write_parquet(&mut generator, 3_000, &data, |_| {}).unwrap();
    let text = include_str!("../../schemas/payments.toml");
    let config: TrainConfig = toml::from_str(TRAINING).unwrap();
    let out = folder.path().join("model");
    let recipe = Recipe {
        source: &ParquetSource::open(&[data.display().to_string()]).unwrap(),
        schema: &Schema::parse(text, "schemas/payments.toml").unwrap(),
        config: &config,
        seed: 0,
        exclude_labelled: false,
        from: None,
        out: &out,
    };
    learn(&recipe, &mut Unobserved).unwrap();
    let by = Detector::load(&out)
        .unwrap()
        .with_budget_by("channel", AlertBudget::new(BUDGET).unwrap())
        .unwrap();
    let payments = generator.next_batch(400).unwrap();
    (Detector::load(&out).unwrap(), by, payments)
}

#[test]
fn the_stream_takes_p_values_and_alerts_from_the_segment_of_each_record() {
    let (whole, by, payments) = detectors();
    let schema = by.schema().clone();
    let canonicaliser = Canonicaliser::new(&schema, &payments.schema(), "payments").unwrap();
    let canonical = canonicaliser.canonicalise(&payments).unwrap().batch;
    let (expected, of_all) = (
        by.score(&canonical).unwrap(),
        whole.score(&canonical).unwrap(),
    );
    assert_eq!(expected.anomaly_score, of_all.anomaly_score);
    assert_ne!(expected.p_value, of_all.p_value);

    let memory = Memory::new(Cluster {
        input: vec![messages(&payments)],
        is_transactional: true,
        ..Cluster::default()
    });
    let config = config(&format!(
        "[alerts]\nbudget = {BUDGET}\nbudget_by = \"channel\""
    ));
    assert_eq!(config.alerts.budget_by.as_deref(), Some("channel"));
    let metrics = Arc::new(Metrics::new().unwrap());
    let of_model = metrics.model(facts(by.model_id(), &config));
    let decoders = decoders(&config.input, &schema).unwrap();
    let pipeline = Pipeline::new(Arc::new(by), decoders, &schema, options(&config), of_model);
    stream_of(&Arc::new(pipeline), &memory, &config, &metrics).unwrap();

    let cluster = memory.lock();
    let (mut seen, mut alerts) = (0, 0);
    for output in &cluster.outputs {
        let envelope: Value = serde_json::from_slice(&output.payload).unwrap();
        let row = envelope["offset"].as_u64().unwrap() as usize;
        let p_value = expected.p_value[row];
        assert_eq!(envelope["p_value"].as_f64(), Some(p_value), "row {row}");
        assert_eq!(envelope["alert"], p_value <= BUDGET, "row {row}");
        seen += usize::from(output.topic == "scores");
        alerts += usize::from(output.topic == "alerts");
    }
    assert_eq!(seen, payments.num_rows());
    let budget = |p: &&f64| **p <= BUDGET;
    assert_eq!(alerts, expected.p_value.iter().filter(budget).count());
    assert!(alerts > 0 && alerts != of_all.p_value.iter().filter(budget).count());
    assert!(
        payments["channel"]
            .as_string::<i32>()
            .iter()
            .any(|c| c == Some("online"))
    );
}
