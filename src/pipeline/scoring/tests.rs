//! The threads with scorers and decoders that do as they are told: orders, turns, exchanges and ends.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Mutex;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use super::*;
use crate::pipeline::decoder::{Decoders, RecordDecoder};
use crate::pipeline::message::Incoming;
use crate::pipeline::options::{AlertsConfig, Emit, OutputTopics, ReasonsFor, Tombstones};
use crate::pipeline::types::{Offset, Partition, Topic};
use crate::pipeline::{PipelineOptions, RecordScorer, ScorerFailure};
use crate::records::{DecodeError, DecodeLimits, Decoded, JsonDecoder, RecordRoot};
use crate::schema::Schema;
use crate::score::{AlertBudget, Assessment, Explain, Scores};
use crate::telemetry::{Metrics, ModelFacts};
use maskwatch_testing::amount::{self, SCHEMA};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a record asks of [`Obedient`] by its amount.
const AT_ONCE: f64 = 1.0;
const WHEN_ALLOWED: f64 = 2.0;
const PANIC: f64 = 3.0;
const REFUSE: f64 = 4.0;
const A_MOMENT: f64 = 5.0;

/// How long a batch of [`A_MOMENT`] takes.
const MOMENT: Duration = Duration::from_millis(3);

/// Scores by the amount.
struct Amount;

impl RecordScorer for Amount {
    fn model_id(&self) -> &str {
        "amount"
    }

    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure> {
        Ok(amount::assess(batch, explain))
    }
}

fn schema() -> Schema {
    Schema::parse(SCHEMA, "schema.toml").unwrap()
}

/// What scores as `scorer` does, with envelopes of every record.
fn pipeline(scorer: impl RecordScorer + 'static) -> Arc<Pipeline> {
    pipeline_of(scorer, Decoders::json(&schema(), &RecordRoot::default()))
}

/// As [`pipeline`], with decoders of the caller's.
fn pipeline_of(scorer: impl RecordScorer + 'static, decoders: Decoders) -> Arc<Pipeline> {
    let budget = AlertBudget::new(0.001).unwrap();
    let options = PipelineOptions {
        alerts: AlertsConfig {
            budget,
            budget_by: None,
            reasons: ReasonsFor::Alerts,
            reasons_max: 5,
            allow_unattainable_budget: false,
        },
        emit: Emit::All,
        tombstones: Tombstones::DeadLetter,
        root: RecordRoot::default(),
        outputs: OutputTopics {
            scores: Some(Topic::new("scores")),
            alerts: Some(Topic::new("alerts")),
            dead_letters: Some(Topic::new("dead")),
        },
    };
    let metrics = Arc::new(Metrics::new().unwrap()).model(ModelFacts {
        model_id: scorer.model_id(),
        created_at_unix_s: 0,
        fields: &["amount"],
        alert_budget: budget.share(),
        cascade_share: None,
    });
    Arc::new(Pipeline::new(
        Arc::new(scorer),
        decoders,
        &schema(),
        options,
        metrics,
    ))
}

/// A scorer that does as the first amount of a batch says.
struct Obedient {
    allowed: Receiver<()>,
    /// What the first thread did of [`A_MOMENT`], in order: whether it was a request.
    first: Arc<Mutex<Vec<bool>>>,
}

fn first_thread(batch: &RecordBatch) -> Option<bool> {
    let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
    let first = std::thread::current().name() == Some("scoring-0");
    first.then(|| ids.value(0) == REQUEST)
}

/// The id of records that come over HTTP.
const REQUEST: &str = "request";

impl RecordScorer for Obedient {
    fn model_id(&self) -> &str {
        "obedient"
    }

    fn assess(&self, batch: &RecordBatch, _: Explain) -> Result<Assessment, ScorerFailure> {
        let amounts = batch.column_by_name("amount").unwrap();
        match amounts.as_primitive::<Float64Type>().value(0) {
            WHEN_ALLOWED => self.allowed.recv_timeout(PATIENCE).unwrap(),
            PANIC => panic!("as it was told"),
            REFUSE => return Err("as it was told".into()),
            A_MOMENT => {
                std::thread::sleep(MOMENT);
                self.first.lock().unwrap().extend(first_thread(batch));
            }
            _ => {}
        }
        let rows = batch.num_rows();
        Ok(Assessment {
            scores: Scores {
                anomaly_score: vec![1.0; rows],
                p_value: vec![1.0; rows],
                field_surprise: vec![1.0; rows],
                in_full: rows,
                parts: None,
            },
            reasons: vec![Vec::new(); rows],
        })
    }
}

/// The link, what keeps the threads from ending, and what allows a batch that waits.
fn started() -> (ScoringLink, (ScoringClient, ScoringThreads), Sender<()>) {
    started_noting(Arc::default())
}

fn started_noting(
    first: Arc<Mutex<Vec<bool>>>,
) -> (ScoringLink, (ScoringClient, ScoringThreads), Sender<()>) {
    let (allow, allowed) = bounded(IN_FLIGHT_MAX);
    let pipeline = pipeline(Obedient { allowed, first });
    let (link, client, threads) = start(pipeline, SCORING_THREADS).unwrap();
    (link, (client, threads), allow)
}

fn batch(amount: f64, offset: i64) -> MessageBatch {
    let mut batch = MessageBatch::new(1_000);
    let payload = format!("{{\"amount\": {amount}, \"id\": \"a\"}}");
    batch.push(&Incoming {
        topic: "in",
        partition: Partition(0),
        offset: Offset(offset),
        timestamp_ms: None,
        key: None,
        payload: Some(payload.as_bytes()),
    });
    batch
}

fn offset(scored: Result<Option<Result<ScoredBatch, PipelineError>>, Gone>) -> Option<i64> {
    let batch = scored.unwrap()?.unwrap();
    Some(batch.input.get(0).unwrap().offset().0)
}

/// Keeps batches waiting until `done` says so.
fn catch_up(link: &mut ScoringLink, mut done: impl FnMut() -> bool) {
    let (begin, mut next) = (Instant::now(), 0);
    while !done() {
        assert!(begin.elapsed() < PATIENCE);
        while !link.is_full() {
            link.submit(batch(A_MOMENT, next)).unwrap();
            next += 1;
        }
        let _ = link.collect(Duration::from_millis(1)).unwrap();
    }
}

fn request(client: &ScoringClient) -> oneshot::Receiver<Vec<ScoreOutcome>> {
    let record = format!("{{\"amount\": {A_MOMENT}, \"id\": \"{REQUEST}\"}}");
    client.submit(vec![record.into_bytes()]).unwrap()
}

#[test]
fn requests_get_their_share_and_no_more_while_the_stream_catches_up() {
    let first = Arc::new(Mutex::new(Vec::new()));
    let (mut link, (client, _threads), _allow) = started_noting(Arc::clone(&first));
    let mut waiting = std::collections::VecDeque::new();
    catch_up(&mut link, || {
        while waiting.len() < REQUESTS_MAX / 2 {
            waiting.push_back(request(&client));
        }
        while waiting
            .front_mut()
            .is_some_and(|reply| reply.try_recv().is_ok())
        {
            waiting.pop_front();
        }
        first.lock().unwrap().len() >= 200
    });
    let first = first.lock().unwrap();
    let requests = first.iter().filter(|request| **request).count();
    // A quarter, were all moments alike; a machine under load makes some longer than others.
    assert!(
        (10..=80).contains(&requests),
        "{requests} of {}",
        first.len()
    );
}

#[test]
fn batches_come_back_in_the_order_of_submission_whatever_each_took() {
    let (mut link, _threads, allow) = started();
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    link.submit(batch(AT_ONCE, 1)).unwrap();
    link.submit(batch(AT_ONCE, 2)).unwrap();
    // Those behind the first are done, and kept until it is.
    while link.early.len() < 2 {
        assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
    }
    assert!(!link.is_idle());
    allow.send(()).unwrap();
    let came = (0..3).map(|_| offset(link.collect(PATIENCE)).unwrap());
    assert_eq!(came.collect::<Vec<_>>(), [0, 1, 2]);
    assert!(link.is_idle());
}

#[test]
fn a_batch_is_scored_by_the_pipeline_that_was_current_when_it_was_handed_over() {
    let (mut link, _threads, allow) = started();
    // What this one scores, the other would wait for, or refuse.
    let other = pipeline(Amount);
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    link.submit(batch(REFUSE, 1)).unwrap();
    let before = std::mem::replace(&mut link.pipeline, other);
    link.submit(batch(REFUSE, 2)).unwrap();
    link.pipeline = before;
    link.submit(batch(REFUSE, 3)).unwrap();
    allow.send(()).unwrap();
    let model = |scored: ScoredBatch| {
        let envelope: serde_json::Value = serde_json::Deserializer::from_slice(&scored.json)
            .into_iter()
            .next()
            .unwrap()
            .unwrap();
        envelope["model_id"].as_str().unwrap().to_owned()
    };
    let said = (0..4).map(|_| {
        loop {
            if let Some(scored) = link.collect(PATIENCE).unwrap() {
                break scored.ok().map(model);
            }
        }
    });
    let said: Vec<Option<String>> = said.collect();
    let expected = [Some("obedient"), None, Some("amount"), None];
    assert_eq!(said, expected.map(|id| id.map(str::to_owned)));
}

/// Notes when records of an amount are decoded and scored; those of [`SLOW`] take long to decode.
struct Noting<T> {
    inner: T,
    notes: Arc<Mutex<Vec<(&'static str, f64)>>>,
}

const SLOW: f64 = 6.0;

impl<T> Noting<T> {
    fn note(&self, step: &'static str, batch: &RecordBatch) {
        let amounts = batch.column_by_name("amount").unwrap();
        let amount = amounts.as_primitive::<Float64Type>().value(0);
        if (step, amount) == ("decoded", SLOW) {
            std::thread::sleep(Duration::from_millis(100));
        }
        self.notes.lock().unwrap().push((step, amount));
    }
}

impl<T: RecordDecoder> RecordDecoder for Noting<T> {
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        let decoded = self.inner.decode(payloads)?;
        self.note("decoded", &decoded.batch);
        Ok(decoded)
    }
}

impl RecordScorer for Noting<Amount> {
    fn model_id(&self) -> &str {
        "noting"
    }

    fn assess(&self, batch: &RecordBatch, by: Explain) -> Result<Assessment, ScorerFailure> {
        self.note("scored", batch);
        self.inner.assess(batch, by)
    }
}

#[test]
fn no_batch_is_scored_before_all_that_came_before_are_decoded() {
    let notes: Arc<Mutex<Vec<_>>> = Arc::default();
    let noted = Arc::clone(&notes);
    let decoders = Decoders::new(move || {
        Box::new(Noting {
            inner: JsonDecoder::new(&schema(), DecodeLimits::default()),
            notes: Arc::clone(&noted),
        })
    });
    let scorer = Noting {
        inner: Amount,
        notes: Arc::clone(&notes),
    };
    let pipeline = pipeline_of(scorer, decoders);
    let (mut link, _client, _threads) = start(pipeline, SCORING_THREADS).unwrap();
    for (offset, amount) in [(0, SLOW), (1, 7.0), (2, 8.0)] {
        link.submit(batch(amount, offset)).unwrap();
    }
    let came = (0..3).map(|_| offset(link.collect(PATIENCE)).unwrap());
    assert_eq!(came.collect::<Vec<_>>(), [0, 1, 2]);
    let notes = notes.lock().unwrap();
    let at = |step, amount| notes.iter().position(|note| *note == (step, amount));
    // Threads decode at the same time, and yet only the scoring of the first may begin.
    assert!(at("decoded", 7.0) < at("decoded", SLOW), "{notes:?}");
    assert!(at("scored", 7.0) > at("decoded", SLOW), "{notes:?}");
    assert!(at("scored", 8.0) > at("decoded", 7.0), "{notes:?}");
}

#[test]
fn batches_that_came_early_count_as_in_flight() {
    let (mut link, _threads, allow) = started();
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    for offset in 1..IN_FLIGHT_MAX as i64 {
        link.submit(batch(AT_ONCE, offset)).unwrap();
    }
    while link.pending.len() > 1 {
        assert!(link.is_full());
        assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
    }
    assert!(link.is_full());
    allow.send(()).unwrap();
    assert_eq!(offset(link.collect(PATIENCE)), Some(0));
    assert!(!link.is_full());
}

#[test]
fn what_was_forgotten_does_not_come_back() {
    let (mut link, _threads, allow) = started();
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    link.submit(batch(AT_ONCE, 1)).unwrap();
    while link.early.is_empty() {
        assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
    }
    link.forget();
    assert!(link.is_idle(), "nothing is to be taken back");
    for offset in 2..=IN_FLIGHT_MAX as i64 {
        assert!(!link.is_full());
        link.submit(batch(AT_ONCE, offset)).unwrap();
    }
    assert!(link.is_full(), "one is still being scored");
    for number in 2..=IN_FLIGHT_MAX as i64 {
        assert_eq!(offset(link.collect(PATIENCE)), Some(number));
    }
    allow.send(()).unwrap();
    assert_eq!(offset(link.collect(PATIENCE)), None);
    assert!(link.is_idle() && link.pending.is_empty());
}

#[test]
fn a_batch_that_hangs_is_told_by_its_time_though_it_was_forgotten_and_others_come_back() {
    let (mut link, _threads, allow) = started();
    assert_eq!(link.in_work(), Duration::ZERO);
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    link.forget();
    let begin = Instant::now();
    for offset in 1..20 {
        link.submit(batch(AT_ONCE, offset)).unwrap();
        assert!(link.collect(PATIENCE).unwrap().is_some());
    }
    let elapsed = begin.elapsed();
    assert!(link.in_work() >= elapsed);
    allow.send(()).unwrap();
    assert_eq!(offset(link.collect(PATIENCE)), None);
    assert_eq!(link.in_work(), Duration::ZERO);
}

#[test]
fn the_time_of_a_batch_begins_when_a_thread_is_free_for_it() {
    let (mut link, _threads, allow) = started();
    for offset in 0..IN_FLIGHT_MAX as i64 {
        link.submit(batch(WHEN_ALLOWED, offset)).unwrap();
    }
    let queued = link.pending.clone();
    allow.send(()).unwrap();
    while link.answered == 0 {
        let _ = link.collect(Duration::from_millis(1)).unwrap();
    }
    let begun = SCORING_THREADS as Number;
    assert!(link.pending[&begun] > queued[&begun]);
    assert_eq!(link.pending[&(begun + 1)], queued[&(begun + 1)]);
    (1..IN_FLIGHT_MAX).for_each(|_| allow.send(()).unwrap());
}

#[test]
fn the_error_of_a_batch_comes_in_its_turn() {
    let (mut link, _threads, _allow) = started();
    link.submit(batch(AT_ONCE, 0)).unwrap();
    link.submit(batch(REFUSE, 1)).unwrap();
    link.submit(batch(AT_ONCE, 2)).unwrap();
    assert_eq!(offset(link.collect(PATIENCE)), Some(0));
    let refused = link.collect(PATIENCE).unwrap().unwrap();
    assert!(matches!(refused, Err(PipelineError::Score(_))));
    assert_eq!(offset(link.collect(PATIENCE)), Some(2));
}

#[test]
fn a_panic_of_one_thread_is_told_at_once_though_the_other_lives() {
    let (mut link, (client, threads), _allow) = started();
    link.submit(batch(PANIC, 0)).unwrap();
    assert_eq!(link.collect(PATIENCE).unwrap_err(), Gone);
    drop((link, client));
    assert!(threads.join(PATIENCE).is_err());
}

#[test]
fn a_thread_that_hangs_is_left_behind_and_counted() {
    let (mut link, (client, threads), allow) = started();
    link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
    link.forget();
    drop((link, client));
    let begin = Instant::now();
    while !threads.0.iter().any(JoinHandle::is_finished) {
        assert!(begin.elapsed() < PATIENCE);
    }
    assert_eq!(threads.join(Duration::from_millis(50)).unwrap(), 1);
    allow.send(()).unwrap();
}

#[test]
fn a_panic_of_a_request_is_told_to_a_stream_that_waits_for_nothing() {
    let (mut link, (client, threads), _allow) = started();
    let record = format!("{{\"amount\": {PANIC}, \"id\": \"a\"}}").into_bytes();
    assert!(
        client
            .submit(vec![record])
            .unwrap()
            .blocking_recv()
            .is_err()
    );
    let begin = Instant::now();
    while link.collect(Duration::ZERO).is_ok() {
        assert!(begin.elapsed() < PATIENCE);
    }
    drop((link, client));
    assert!(threads.join(PATIENCE).is_err());
}
