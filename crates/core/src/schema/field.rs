//! What a field of a record is: its kind, its role, where it is found, and how it may look.

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Input embeddings a categorical field may have at most, unless the schema says less.
///
/// 100,000 rows of 16 numbers are 6 MB; a field with more values than that is an identifier.
pub const DEFAULT_MAX_CARDINALITY: usize = 100_000;

/// Between whole and fraction of a number in text, unless the schema says otherwise.
pub const DEFAULT_DECIMAL_SEPARATOR: char = '.';

/// How the values of a field are to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quantity: becomes an f64, then a standardised number.
    Numeric,
    /// One of a set of values, compared by its canonical text.
    Categorical,
    /// True or false.
    Boolean,
    /// A moment: enters the model as hour of the day and day of the week.
    Timestamp,
}

impl Kind {
    /// The word that schema files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
        }
    }
}

/// What a field is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The model sees and predicts it.
    #[default]
    Feature,
    /// The model always sees it and never predicts it: what is normal of the features may depend on it, and no value of it is
    /// unusual by itself (Song et al. 2007, *Conditional anomaly detection*).
    Context,
    /// Names the record in outputs (`event_id`); never seen by the model.
    Key,
    /// The record's own time (`event_time`); never seen by the model.
    Time,
    /// 1 or true for fraud; used by `evaluate` and `--exclude-labelled` only, never seen by the model.
    Label,
    /// Not read.
    Ignore,
}

impl Role {
    /// Whether the model sees the field.
    pub fn is_seen(self) -> bool {
        matches!(self, Self::Feature | Self::Context)
    }
}

/// A function applied to a number before it is standardised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    /// The number as it is.
    #[default]
    None,
    /// ln(1 + x) for x >= 0, odd continuation -ln(1 - x) below zero.
    Log1p,
    /// asinh(x).
    Asinh,
}

impl Transform {
    /// The word that schema files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Log1p => "log1p",
            Self::Asinh => "asinh",
        }
    }

    /// The transform of a finite value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Log1p => x.abs().ln_1p().copysign(x),
            Self::Asinh => x.asinh(),
        }
    }
}

/// The unit of an integer timestamp (since 1970-01-01T00:00:00Z). The unit of Arrow or of an Avro writer wins over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// Days, as Kafka Connect and Debezium write dates.
    Days,
    /// Seconds.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Every unit, the longest first.
    pub const ALL: [Self; 5] = [Self::Days, Self::S, Self::Ms, Self::Us, Self::Ns];

    /// The word that schema files use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Days => "days",
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Ns => "ns",
        }
    }
}

/// Where a field is found in a record: one name a level of nesting, at least one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The path `a.b.c` of nested objects.
    pub fn parse(text: &str) -> Self {
        Self(text.split('.').map(str::to_owned).collect())
    }

    /// The path of a value at the top, whose name is taken as it is, dots included.
    pub fn top(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    /// The path of `segments`, from the outside in; `None` of none.
    pub fn from_segments(segments: Vec<String>) -> Option<Self> {
        if segments.is_empty() {
            None
        } else {
            Some(Self(segments))
        }
    }

    /// The names from the outside in; never empty.
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

impl std::fmt::Display for FieldPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// A checked field of a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Unique in the schema, not empty.
    pub name: String,
    /// How its values are understood.
    pub kind: Kind,
    /// What it is used for.
    pub role: Role,
    /// Where it is found.
    pub path: FieldPath,
    /// Whether null or absent is a value of its own (true) or bad data (false).
    pub nullable: bool,
    /// Applied before standardising; `None` unless the kind is numeric.
    pub transform: Transform,
    /// The unit of integer timestamps; only for the kind timestamp.
    pub unit: Option<TimeUnit>,
    /// The zone in which hour and weekday are read.
    pub time_zone: Tz,
    /// Whether text is accepted where a number is expected, and 0, 1 and their words where a boolean is.
    pub parse: bool,
    /// Digits behind the point of a decimal that is written as its unscaled bytes, or as those in base64; only for the
    /// kind numeric. An Avro decimal's own scale wins.
    pub decimal_scale: Option<i16>,
    /// Values that mean null, as text; one that writes a number also stands for that number. Empty by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub null_values: Vec<String>,
    /// Between whole and fraction of a number in text.
    #[serde(
        default = "default_decimal_separator",
        skip_serializing_if = "is_default_decimal_separator"
    )]
    pub decimal_separator: char,
    /// Between groups of digits of a number in text, if at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thousands_separator: Option<char>,
    /// Texts that may stand before or behind a number in text, such as a currency sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strip: Vec<String>,
    /// Input embeddings at most, 1..=100,000.
    pub max_cardinality: usize,
    /// Whether outputs show `"***"` instead of the value and what was expected.
    pub redact: bool,
}

impl Field {
    /// A label in the column at `path`, everything else as by default.
    pub(super) fn label(name: &str, path: FieldPath) -> Self {
        Self::beside(name, path, Kind::Boolean, Role::Label)
    }

    /// A key in the column at `path`, everything else as by default.
    pub(super) fn key(name: &str, path: FieldPath) -> Self {
        Self::beside(name, path, Kind::Categorical, Role::Key)
    }

    /// A feature at the path `name`, everything else as by default.
    #[cfg(any(test, feature = "testing"))]
    pub fn feature(name: &str, kind: Kind) -> Self {
        Self::beside(name, FieldPath::parse(name), kind, Role::Feature)
    }

    fn beside(name: &str, path: FieldPath, kind: Kind, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            role,
            path,
            nullable: true,
            transform: Transform::None,
            unit: None,
            time_zone: Tz::UTC,
            parse: false,
            decimal_scale: None,
            null_values: Vec::new(),
            decimal_separator: DEFAULT_DECIMAL_SEPARATOR,
            thousands_separator: None,
            strip: Vec::new(),
            max_cardinality: DEFAULT_MAX_CARDINALITY,
            redact: false,
        }
    }
}

// A key at its default is not written, so that bundles and digests made without it stay valid.
fn default_decimal_separator() -> char {
    DEFAULT_DECIMAL_SEPARATOR
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_default_decimal_separator(separator: &char) -> bool {
    *separator == DEFAULT_DECIMAL_SEPARATOR
}
