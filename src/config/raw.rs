//! The sections as they are written: serde refuses unknown keys, and nothing else is checked here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::delivery::options::Mode;
use crate::kafka::Secret;
use crate::kafka::options::OffsetPolicy;
use crate::kafka::properties::RawProperty;
use crate::pipeline::options::{Emit, ReasonsFor, Tombstones};

/// `[kafka]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawKafka {
    /// `host:port,...`, or `"embedded"`.
    pub bootstrap_servers: String,
    /// Consumer group.
    pub group_id: Option<String>,
    /// Unique per live instance; default the host name.
    pub instance_id: Option<String>,
    /// At least one.
    pub input_topics: Vec<String>,
    /// Gets an envelope a record.
    pub scores_topic: Option<String>,
    /// Gets an envelope an alert.
    pub alerts_topic: Option<String>,
    /// Gets the bad records.
    pub dead_letter_topic: Option<String>,
    /// Where to go on when a committed offset is gone; default as `auto.offset.reset`, else the earliest.
    #[serde(default)]
    pub offset_lost: Option<OffsetPolicy>,
    /// Passed through to librdkafka.
    pub properties: BTreeMap<String, RawProperty>,
}

/// `[input]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawInput {
    /// `"json"` or `"avro"`.
    pub format: Format,
    /// Where the record lies in a message, dots between levels; the first that is an object.
    pub root: Vec<String>,
    /// The registry of Avro writer schemas, without credentials.
    pub schema_registry_url: Option<String>,
    /// User of its basic authentication; a text or a reference.
    pub schema_registry_user: Option<String>,
    /// Password of its basic authentication; a text or a reference, never printed.
    pub schema_registry_password: Option<Secret>,
    /// Instead of a registry: the file of each Confluent schema id.
    pub schema_files: BTreeMap<String, PathBuf>,
}

/// `[delivery]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDelivery {
    /// `"exactly_once"` or `"at_least_once"`.
    pub mode: Mode,
    /// What the scores topic gets.
    pub emit: Emit,
    /// Milliseconds between commits.
    pub transaction_interval_ms: Option<u64>,
    /// Milliseconds that a drain may take.
    pub drain_timeout_ms: Option<u64>,
    /// Milliseconds that the stream may stand still.
    pub stall_timeout_ms: Option<u64>,
    /// Bytes of a bad payload that are kept.
    pub dead_letter_bytes_max: Option<usize>,
    /// What becomes of a null payload.
    pub tombstones: Tombstones,
}

/// `[batch]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBatch {
    /// Records a batch.
    pub rows_max: Option<usize>,
    /// Milliseconds that a record may wait for others.
    pub deadline_ms: Option<u64>,
}

/// `[alerts]` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAlerts {
    /// Share of normal records that may be flagged.
    pub budget: Option<RawShare>,
    /// The field in whose segments the budget is held.
    pub budget_by: Option<String>,
    /// Which records get reasons.
    pub reasons: ReasonsFor,
    /// Reasons a record at most.
    pub reasons_max: Option<usize>,
    /// Accept a budget below the smallest p-value of the model.
    pub allow_unattainable_budget: bool,
}

/// A share as TOML or a variable may write it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a share such as 0.001, or a percentage as text such as \"0.1%\""
)]
pub enum RawShare {
    /// As in `0.001`.
    Number(f64),
    /// As in `"0.1%"`.
    Text(String),
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a message.
    #[default]
    Json,
    /// Avro in Confluent framing.
    Avro,
}
