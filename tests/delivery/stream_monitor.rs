//! What committed records say of the budget and of fields: that each counts once, whatever is done again, and that a stream
//! unlike the training is noticed.

use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch};
use maskwatch::Detector;
use maskwatch::kafka::decoders::decoders;
use maskwatch::monitor::{ALARM_WEALTH, FIELD_MOVED_BITS, WINDOW_RECORDS};
use maskwatch::pipeline::stream_monitor::{StreamMonitor, Watch};
use maskwatch::pipeline::{Pipeline, RecordScorer};
use maskwatch::records::Canonicaliser;
use maskwatch::score::{AlertBudget, Scores};
use maskwatch::telemetry::{Metrics, ModelFacts, ModelMetrics};

use crate::memory::{Accident, Cluster, Shared as Memory};
use crate::segments::detectors;
use crate::stream::{config, facts, messages, options, stream_of};

/// A monitor at its beginning, with a batch of payments and their scores.
struct Stream {
    metrics: Arc<Metrics>,
    model: Arc<ModelMetrics>,
    monitor: Arc<StreamMonitor>,
    batch: RecordBatch,
    scores: Scores,
    alerts: Vec<bool>,
}

impl Stream {
    fn new(change: impl Fn(RecordBatch) -> RecordBatch) -> Self {
        let (detector, _, payments) = detectors();
        let detector = Arc::new(detector);
        let metrics = Arc::new(Metrics::new().unwrap());
        let model = model_of(&metrics, &detector);
        let budget = AlertBudget::new(0.01).unwrap();
        let monitor = StreamMonitor::new(Arc::clone(&detector), budget, Arc::clone(&model));
        let schema = detector.schema();
        let canonicaliser = Canonicaliser::new(schema, &payments.schema(), "payments").unwrap();
        let batch = change(canonicaliser.canonicalise(&payments).unwrap().batch);
        let scores = detector.score(&batch).unwrap();
        let alerts = scores.p_value.iter().map(|&p| budget.is_alert(p)).collect();
        Self {
            metrics,
            model,
            monitor: Arc::new(monitor),
            batch,
            scores,
            alerts,
        }
    }

    fn watch(&self) -> Watch {
        let evidence = self.monitor.take(&self.batch, &self.scores, &self.alerts);
        let messages: Vec<usize> = (0..self.batch.num_rows()).collect();
        Watch::new(&self.monitor, evidence, &messages)
    }

    /// Takes the batch in, again and again, until as many records have come.
    fn run(&self, records: usize) {
        let rows = self.batch.num_rows();
        let watch = self.watch();
        (0..records.div_ceil(rows)).for_each(|_| watch.committed(&(0..rows)));
    }

    /// The value of a series of the model, if there is one.
    fn value(&self, name: &str) -> Option<f64> {
        value(&self.metrics, name)
    }

    fn divergence(&self, field: &str) -> Option<f64> {
        let text = self.metrics.encode().unwrap();
        let series = format!("maskwatch_field_divergence_bits{{field=\"{field}\"");
        let line = text.lines().find(|line| line.starts_with(&series))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }
}

/// The metrics of a detector, of all its fields.
fn model_of(metrics: &Arc<Metrics>, detector: &Detector) -> Arc<ModelMetrics> {
    let fields = detector.schema().features();
    let fields: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
    metrics.model(ModelFacts {
        fields: &fields,
        ..facts(detector.model_id(), &config(""))
    })
}

/// The value of a series of the only model, if there is one.
fn value(metrics: &Metrics, name: &str) -> Option<f64> {
    let text = metrics.encode().unwrap();
    let series = format!("maskwatch_{name}{{");
    let line = text.lines().find(|line| line.starts_with(&series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Every amount is a hundred times as large: cents.
fn in_cents(batch: RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match field.name().as_str() {
        "amount" => {
            let amounts = column.as_any().downcast_ref::<Float64Array>().unwrap();
            let cents: Float64Array = amounts.unary(|amount| 100.0 * amount);
            (field.name().clone(), Arc::new(cents) as _, true)
        }
        _ => (field.name().clone(), Arc::clone(column), true),
    });
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

#[test]
fn nothing_is_told_of_the_stream_but_what_is_committed() {
    let stream = Stream::new(|batch| batch);
    assert_eq!(stream.value("budget_wealth"), Some(1.0));
    assert_eq!(stream.value("exchangeability_wealth"), Some(1.0));
    assert!(stream.value("budget_limit_ratio").unwrap() > 0.01);
    // Evidence that is taken and never committed, as of a transaction that is aborted, leaves no trace.
    let taken = stream.watch();
    assert_eq!(stream.value("budget_wealth"), Some(1.0));
    taken.committed(&(0..0));
    assert_eq!(stream.value("budget_wealth"), Some(1.0));
    taken.committed(&(0..40));
    let after = stream.value("budget_wealth").unwrap();
    assert_ne!(after, 1.0);
    // The rest of the batch in portions is the whole of it at once.
    let rows = stream.batch.num_rows();
    taken.committed(&(40..41));
    taken.committed(&(41..rows));
    let whole = Stream::new(|batch| batch);
    whole.watch().committed(&(0..rows));
    for name in ["budget_wealth", "exchangeability_wealth"] {
        assert_eq!(stream.value(name), whole.value(name), "{name}");
    }
}

#[test]
fn a_stream_like_the_training_keeps_its_budget_and_its_fields() {
    let stream = Stream::new(|batch| batch);
    assert_eq!(stream.divergence("amount"), None);
    stream.run(WINDOW_RECORDS as usize);
    let wealth = stream.value("budget_wealth").unwrap();
    assert!(wealth < ALARM_WEALTH, "{wealth}");
    let bits = stream.divergence("amount").unwrap();
    assert!(bits < FIELD_MOVED_BITS, "{bits}");
}

#[test]
fn amounts_in_cents_break_the_budget_and_name_the_field() {
    let stream = Stream::new(in_cents);
    stream.run(WINDOW_RECORDS as usize);
    for name in ["budget_wealth", "exchangeability_wealth"] {
        let wealth = stream.value(name).unwrap();
        assert!(wealth >= ALARM_WEALTH, "{name}: {wealth}");
    }
    let bits = stream.divergence("amount").unwrap();
    assert!(bits > 10.0 * FIELD_MOVED_BITS, "{bits}");
    assert!(
        stream
            .divergence("country")
            .is_none_or(|bits| bits < FIELD_MOVED_BITS)
    );
    // Everything ends with the model.
    let Stream {
        metrics,
        model,
        monitor,
        ..
    } = stream;
    drop((model, monitor));
    let text = metrics.encode().unwrap();
    let named = [
        "budget_wealth",
        "exchangeability_wealth",
        "field_divergence_bits",
        "budget_limit",
    ];
    let left = named.map(|name| text.contains(&format!("\nmaskwatch_{name}")));
    assert_eq!(left, [false; 4], "{text}");
}

#[test]
fn a_record_that_is_scored_again_after_an_aborted_transaction_counts_once() {
    let (detector, _, payments) = detectors();
    let detector = Arc::new(detector);
    let schema = detector.schema();
    let memory = Memory::new(Cluster {
        input: vec![messages(&payments)],
        is_transactional: true,
        at_commit: [0, 2, 3].map(|commit| (commit, Accident::Abort)).into(),
        ..Cluster::default()
    });
    let config = config("[alerts]\nbudget = 0.01\n[delivery]\ntransaction_interval_ms = 2");
    let budget = config.alerts.budget;
    let metrics = Arc::new(Metrics::new().unwrap());
    let model = model_of(&metrics, &detector);
    let monitor = StreamMonitor::new(Arc::clone(&detector), budget, Arc::clone(&model));
    let decoders = decoders(&config.input, schema).unwrap();
    let scorer = Arc::clone(&detector) as Arc<dyn RecordScorer>;
    let pipeline = Pipeline::new(scorer, decoders, schema, options(&config), model);
    let pipeline = Arc::new(pipeline.with_stream_monitor(monitor));
    stream_of(&pipeline, &memory, &config, &metrics).unwrap();

    let scored = metrics.stream_totals().scored;
    assert!(scored > payments.num_rows() as u64, "{scored}");
    // The same records once, in one batch, with another monitor.
    let once = Stream::new(|batch| batch);
    let alerts: Vec<bool> = once
        .scores
        .p_value
        .iter()
        .map(|&p| budget.is_alert(p))
        .collect();
    assert_eq!(alerts, once.alerts);
    once.watch().committed(&(0..payments.num_rows()));
    for name in ["budget_wealth", "exchangeability_wealth"] {
        let found = value(&metrics, name);
        assert!(
            found.is_some_and(|wealth| wealth != 1.0),
            "{name}: {found:?}"
        );
        assert_eq!(found, once.value(name), "{name}");
    }
}
