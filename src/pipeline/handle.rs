//! Everything that scores a batch, as one handle: a detector, decoders, the names of fields and options. Built once and never
//! changed; a batch and a request carry the one that was current when they were handed over.
//!
//! From a batch of messages to what is said of each in two steps: `decode` separates good records from faults, `score` scores,
//! explains and writes the good ones. Used by the stream and by HTTP alike, so that both say the same of the same record. Both
//! steps are functions of the batch alone, but for metrics and the decoders' caches.
//!
//! The invariant: every message leads to either its envelopes or one dead letter (or nothing, where the configuration says
//! so), in the order of the messages, whatever its neighbours are.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::decoder::Decoders;
use super::envelope::{Envelope, event_time};
use super::first_records::FirstRecordsMonitor;
use super::message::{MessageBatch, MessageRef};
use super::options::{AlertsConfig, Emit, OutputTopics, ReasonsFor, Tombstones};
use super::output::{Planned, ScoredBatch, Target};
use super::stream_monitor::{StreamMonitor, Watch};
use crate::Detector;
use crate::records::{
    DEFAULT_RECORD_BYTES_MAX, DecodeError, Decoded, FaultReason, RecordRoot, RowFault,
};
use crate::schema::{Field, Schema};
use crate::score::{Assessment, Explain, Reason, Scores};
use crate::telemetry::ModelMetrics;
use crate::telemetry::metrics::{BatchReport, Source};

/// Bytes of a message beyond which it is not decoded.
pub const RECORD_BYTES_MAX: usize = DEFAULT_RECORD_BYTES_MAX;

/// Why a scorer failed.
pub type ScorerFailure = Box<dyn Error + Send + Sync>;

/// A loaded model: what a pipeline needs of a detector.
pub trait RecordScorer: Send + Sync {
    /// Names the model in every envelope.
    fn model_id(&self) -> &str;

    /// The rows of canonical records that the model refuses, ascending, one fault a row; none unless it says so.
    fn faults(&self, _batch: &RecordBatch) -> Vec<RowFault> {
        Vec::new()
    }

    /// Scores canonical records (B rows), and explains those that `explain` asks of: one list of reasons a row, most
    /// surprising field first.
    ///
    /// # Errors
    /// A batch that the model cannot take; no bad record causes it.
    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure>;
}

impl RecordScorer for Detector {
    fn model_id(&self) -> &str {
        Detector::model_id(self)
    }

    fn faults(&self, batch: &RecordBatch) -> Vec<RowFault> {
        Detector::faults(self, batch)
    }

    fn assess(&self, batch: &RecordBatch, explain: Explain) -> Result<Assessment, ScorerFailure> {
        Ok(Detector::assess(self, batch, explain)?)
    }
}

/// Why a batch could not be scored.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The decoder lacks something that is no message's fault, as a schema registry that does not answer.
    #[error("messages cannot be decoded")]
    Decode(#[from] DecodeError),
    /// The model refused a batch of good records.
    #[error("records cannot be scored")]
    Score(#[source] ScorerFailure),
    /// The model returned another number of values than it was asked for.
    #[error("the model returned {found} {what} for {expected} records")]
    Count {
        /// Scores, p-values, or lists of reasons.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many records there were.
        expected: usize,
    },
    /// An envelope could not be written.
    #[error("an envelope cannot be written")]
    Write(#[from] serde_json::Error),
}

impl PipelineError {
    /// Whether the same batch may succeed a little later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Decode(error) => error.is_retriable(),
            Self::Score(_) | Self::Count { .. } | Self::Write(_) => false,
        }
    }
}

/// What a pipeline does beyond scoring.
#[derive(Debug, Clone)]
pub struct PipelineOptions {
    /// Budget and reasons.
    pub alerts: AlertsConfig,
    /// What the scores topic gets.
    pub emit: Emit,
    /// What becomes of a null payload.
    pub tombstones: Tombstones,
    /// Where the record lies in what is asked over HTTP, as in the stream's messages.
    pub root: RecordRoot,
    /// Which outputs there are.
    pub outputs: OutputTopics,
}

/// The fields that outputs and metrics name.
#[derive(Debug, Clone, Default)]
struct Names {
    key: Option<String>,
    time: Option<String>,
    features: Vec<String>,
}

/// What is said of one record of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScoreOutcome {
    /// The output envelope as JSON text, with `topic`, `partition` and `offset` null.
    Scored(String),
    /// The record cannot be scored.
    Bad {
        /// Which of the closed list.
        reason: FaultReason,
        /// Field or byte offset, value and what was expected, for a person.
        detail: String,
    },
}

/// Decodes, scores and writes. Shared by the scoring threads: see the module.
pub struct Pipeline {
    scorer: Arc<dyn RecordScorer>,
    /// Of the stream's format.
    decoders: Decoders,
    /// Requests are JSON whatever the stream's format.
    request_decoders: Decoders,
    options: PipelineOptions,
    names: Names,
    metrics: Arc<ModelMetrics>,
    /// Compares the stream's first records with the training's; none where nobody asked.
    first_records: Option<FirstRecordsMonitor>,
    /// Tests the stream against what the model was calibrated for; none where nobody asked.
    stream_monitor: Option<Arc<StreamMonitor>>,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline")
            .field("model_id", &self.scorer.model_id())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A batch of the stream after its first step: which of its messages are good records is settled.
#[derive(Debug)]
pub struct DecodedBatch {
    input: MessageBatch,
    decoded: Decoded,
    /// Time that decoding took.
    spent: Duration,
}

/// Records after scoring; B good rows.
struct Assessed {
    decoded: Decoded,
    scores: Scores,
    /// \[B\].
    alerts: Vec<bool>,
    /// \[B\]; empty where not asked for.
    reasons: Vec<Vec<Reason>>,
}

impl Pipeline {
    /// A pipeline for records of `schema`.
    pub fn new(
        scorer: Arc<dyn RecordScorer>,
        decoders: Decoders,
        schema: &Schema,
        options: PipelineOptions,
        metrics: Arc<ModelMetrics>,
    ) -> Self {
        let name = |field: &Field| field.name.clone();
        let names = Names {
            key: schema.key().map(name),
            time: schema.time().map(name),
            features: schema.features().map(name).collect(),
        };
        let request_decoders = Decoders::json(schema, &options.root);
        Self {
            scorer,
            decoders,
            request_decoders,
            options,
            names,
            metrics,
            first_records: None,
            stream_monitor: None,
        }
    }

    /// The same pipeline, whose stream's first records are compared with the training.
    pub fn with_first_records(self, first_records: FirstRecordsMonitor) -> Self {
        Self {
            first_records: Some(first_records),
            ..self
        }
    }

    /// The id of its model.
    pub fn model_id(&self) -> &str {
        self.scorer.model_id()
    }

    /// The same pipeline, whose stream is tested against what the model was calibrated for.
    pub fn with_stream_monitor(self, monitor: StreamMonitor) -> Self {
        Self {
            stream_monitor: Some(Arc::new(monitor)),
            ..self
        }
    }

    /// The first step of a batch of the stream: the messages of all its partitions become records or faults, in their order.
    ///
    /// # Errors
    /// [`PipelineError`]; the batch is then as if it had not come.
    pub fn decode(&self, input: MessageBatch) -> Result<DecodedBatch, PipelineError> {
        let begin = Instant::now();
        let payloads: Vec<Option<&[u8]>> = input.iter().map(|message| message.payload()).collect();
        let mut decoded = self.screened(self.decoders.decode(&payloads)?)?;
        note_full_sizes(&input, &mut decoded.faults);
        if self.options.tombstones == Tombstones::Skip {
            decoded
                .faults
                .retain(|fault| fault.reason != FaultReason::Tombstone);
        }
        Ok(DecodedBatch {
            input,
            decoded,
            spent: begin.elapsed(),
        })
    }

    /// The second step: scores a batch and plans its outputs.
    ///
    /// # Errors
    /// [`PipelineError`]; the batch is then as if it had not come.
    pub fn score(&self, batch: DecodedBatch) -> Result<ScoredBatch, PipelineError> {
        let begin = Instant::now();
        let DecodedBatch {
            input,
            decoded,
            spent,
        } = batch;
        let assessed = self.assess(decoded)?;
        self.report(&assessed, Source::Kafka, spent + begin.elapsed());
        if let Some(first_records) = &self.first_records {
            let Assessed { scores, alerts, .. } = &assessed;
            first_records.observe(&assessed.decoded.batch, scores, alerts);
        }
        let watch = self.stream_monitor.as_ref().map(|monitor| {
            let Assessed {
                decoded,
                scores,
                alerts,
                ..
            } = &assessed;
            let evidence = monitor.take(&decoded.batch, scores, alerts);
            Watch::new(monitor, evidence, &decoded.payloads)
        });
        let (outputs, json) = self.plan(&input, assessed)?;
        Ok(ScoredBatch {
            input,
            outputs,
            json,
            watch,
        })
    }

    /// Scores the records of a request, JSON each: one outcome a record, in order.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn answer(&self, records: &[Vec<u8>]) -> Result<Vec<ScoreOutcome>, PipelineError> {
        let begin = Instant::now();
        let payloads: Vec<Option<&[u8]>> = records.iter().map(|record| Some(&record[..])).collect();
        let decoded = self.screened(self.request_decoders.decode(&payloads)?)?;
        let mut assessed = self.assess(decoded)?;
        self.report(&assessed, Source::Http, begin.elapsed());
        let faults = std::mem::take(&mut assessed.decoded.faults);
        let columns = Columns::of(&assessed.decoded.batch, &self.names);
        let mut outcomes: Vec<(usize, ScoreOutcome)> = Vec::with_capacity(records.len());
        for (row, &record) in assessed.decoded.payloads.iter().enumerate() {
            let envelope = self.envelope(&assessed, &columns, row, None);
            outcomes.push((
                record,
                ScoreOutcome::Scored(serde_json::to_string(&envelope)?),
            ));
        }
        outcomes.extend(faults.into_iter().map(
            |RowFault {
                 row,
                 reason,
                 detail,
             }| { (row, ScoreOutcome::Bad { reason, detail }) },
        ));
        outcomes.sort_by_key(|(record, _)| *record);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    /// The same without the records that the model refuses, which are faults.
    fn screened(&self, decoded: Decoded) -> Result<Decoded, PipelineError> {
        let refused = self.scorer.faults(&decoded.batch);
        Ok(decoded.without(refused)?)
    }

    fn assess(&self, decoded: Decoded) -> Result<Assessed, PipelineError> {
        let rows = decoded.batch.num_rows();
        let alerts = &self.options.alerts;
        let (budget, reasons_max) = (alerts.budget, alerts.reasons_max);
        let explain = match alerts.reasons {
            ReasonsFor::All => Explain::All { reasons_max },
            ReasonsFor::Alerts => Explain::Alerts {
                budget,
                reasons_max,
            },
        };
        let Assessment { scores, reasons } = match rows {
            0 => Assessment::default(),
            _ => {
                let assessed = self.scorer.assess(&decoded.batch, explain);
                assessed.map_err(PipelineError::Score)?
            }
        };
        expect_count("anomaly scores", scores.anomaly_score.len(), rows)?;
        expect_count("p-values", scores.p_value.len(), rows)?;
        if let Some(parts) = &scores.parts {
            expect_count("p-values without labels", parts.unsupervised.len(), rows)?;
            expect_count("p-values by labels", parts.supervised.len(), rows)?;
        }
        expect_count("lists of reasons", reasons.len(), rows)?;
        let p_values = scores.p_value.iter();
        let alerts = p_values.map(|&p_value| budget.is_alert(p_value)).collect();
        Ok(Assessed {
            decoded,
            scores,
            alerts,
            reasons,
        })
    }

    fn report(&self, assessed: &Assessed, source: Source, scoring: Duration) {
        let batch = &assessed.decoded.batch;
        let nulls: Vec<u64> = self
            .names
            .features
            .iter()
            .map(|name| {
                batch
                    .column_by_name(name)
                    .map_or(0, |column| column.null_count() as u64)
            })
            .collect();
        self.metrics.record_batch(&BatchReport {
            source,
            scoring,
            anomaly_score: &assessed.scores.anomaly_score,
            p_value: &assessed.scores.p_value,
            field_surprise: &assessed.scores.field_surprise,
            nulls: &nulls,
            in_full: assessed.scores.in_full as u64,
            alerts: assessed.alerts.iter().filter(|alert| **alert).count() as u64,
            faults: &assessed.decoded.faults,
        });
    }

    /// The outputs of a batch, ascending by message, and the JSON of its envelopes.
    fn plan(
        &self,
        input: &MessageBatch,
        mut assessed: Assessed,
    ) -> Result<(Vec<Planned>, Vec<u8>), PipelineError> {
        let faults = std::mem::take(&mut assessed.decoded.faults);
        let columns = Columns::of(&assessed.decoded.batch, &self.names);
        let mut json = Vec::new();
        let mut outputs = Vec::with_capacity(input.len());
        for (row, &payload) in assessed.decoded.payloads.iter().enumerate() {
            let targets = self.targets(assessed.alerts[row]);
            let Some(message) = input.get(payload).filter(|_| !targets.is_empty()) else {
                continue;
            };
            let begin = json.len();
            self.envelope(&assessed, &columns, row, Some(&message))
                .write(&mut json)?;
            outputs.extend(targets.into_iter().map(|target| Planned::Envelope {
                row: payload,
                target,
                json: begin..json.len(),
            }));
        }
        outputs.extend(faults.into_iter().map(|fault| Planned::DeadLetter {
            row: fault.row,
            reason: fault.reason,
            detail: fault.detail,
        }));
        // Stable: the outputs of one record stay in their order.
        outputs.sort_by_key(Planned::row);
        Ok((outputs, json))
    }

    /// Where the envelope of a record goes.
    fn targets(&self, alert: bool) -> Vec<Target> {
        let mut targets = Vec::with_capacity(2);
        if self.options.outputs.scores.is_some() && (alert || self.options.emit == Emit::All) {
            targets.push(Target::Scores);
        }
        if self.options.outputs.alerts.is_some() && alert {
            targets.push(Target::Alerts);
        }
        targets
    }

    /// What is said of the good record `row`.
    fn envelope<'a>(
        &'a self,
        assessed: &'a Assessed,
        columns: &Columns<'a>,
        row: usize,
        message: Option<&MessageRef<'a>>,
    ) -> Envelope<'a> {
        let made_up = || {
            let message = message?;
            Some(Cow::Owned(format!(
                "{}-{}",
                message.partition(),
                message.offset().0
            )))
        };
        let arrived = || message?.timestamp_ms()?.checked_mul(1_000);
        let parts = assessed.scores.parts.as_ref();
        Envelope {
            event_id: columns.key(row).map(Cow::Borrowed).or_else(made_up),
            topic: message.map(|message| message.partition().topic.as_str()),
            partition: message.map(|message| message.partition().partition),
            offset: message.map(MessageRef::offset),
            event_time: columns.time(row).or_else(arrived).and_then(event_time),
            model_id: self.scorer.model_id(),
            anomaly_score: assessed.scores.anomaly_score[row],
            p_value: assessed.scores.p_value[row],
            p_value_unsupervised: parts.map(|parts| parts.unsupervised[row]),
            p_value_supervised: parts.map(|parts| parts.supervised[row]),
            fired: parts.map(|parts| parts.fired(row, self.options.alerts.budget)),
            alert: assessed.alerts[row],
            reasons: &assessed.reasons[row],
        }
    }
}

/// The columns that an envelope is written from.
struct Columns<'a> {
    key: Option<&'a StringArray>,
    time: Option<&'a TimestampMicrosecondArray>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch, names: &Names) -> Self {
        let column = |name: &Option<String>| batch.column_by_name(name.as_deref()?);
        Self {
            key: column(&names.key).and_then(|column| column.as_string_opt()),
            time: column(&names.time).and_then(|column| column.as_primitive_opt()),
        }
    }

    fn key(&self, row: usize) -> Option<&'a str> {
        self.key
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row))
    }

    /// Microseconds since 1970.
    fn time(&self, row: usize) -> Option<i64> {
        self.time
            .filter(|column| column.is_valid(row))
            .map(|column| column.value(row))
    }
}

fn expect_count(what: &'static str, found: usize, expected: usize) -> Result<(), PipelineError> {
    if found == expected {
        Ok(())
    } else {
        Err(PipelineError::Count {
            what,
            found,
            expected,
        })
    }
}

/// Gives faults of messages of which only a prefix was kept the size that was received.
fn note_full_sizes(input: &MessageBatch, faults: &mut [RowFault]) {
    for fault in faults
        .iter_mut()
        .filter(|fault| fault.reason == FaultReason::TooLarge)
    {
        if let Some(message) = input.get(fault.row).filter(MessageRef::is_cut) {
            let bytes = message.payload_bytes();
            fault.detail = format!("{bytes} bytes, the limit is {RECORD_BYTES_MAX}");
        }
    }
}
