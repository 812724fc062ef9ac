//! What a record is: fields with kinds and roles, read from a schema file and checked whole.
//!
//! In flow TOML text (`raw`), Arrow schemas (`fit`) and records (`infer`); out flow a checked
//! [`Schema`], the place of every field in a file, and a commented schema file. The order of the
//! fields in a schema is the order of the axis F everywhere else.

mod check;
mod definition;
mod error;
mod field;
mod fit;
mod infer;
mod moments;
mod raw;
mod spelling;
mod spread;
mod tails;
pub mod value;
mod variable_decimal;

pub use check::FIELDS_MAX;
pub use definition::{SCHEMA_BYTES_MAX, Schema};
pub use error::SchemaError;
pub use field::{DEFAULT_MAX_CARDINALITY, Field, FieldPath, Kind, Role, TimeUnit, Transform};
pub use infer::{Inference, InferenceError, Inferred};
pub use moments::{FAR_MICROS, FarMoments, MomentGroup, MomentTally, YEARS_MAX, named};
pub use spelling::Spelling;
pub use spread::{Points, Spread};
pub use tails::{FewValues, Findings, StandIn, blinding, examine};
pub use value::{
    MICROSECONDS_MAX, MICROSECONDS_MIN, flag_from_text, label_from_text, microseconds,
    microseconds_of_number, moment_from_text, moment_to_text, number_from_text, number_to_json,
};

pub use fit::{Binding, Mismatch, column_at, duplicate_columns, fit, fit_part};
pub(crate) use fit::{decimal_scale, is_text};
pub(crate) use variable_decimal::{
    SCALE, VALUE, is_binary, is_variable_decimal, variable_decimals,
};
