//! From canonical batches to numbers: one fitted encoder makes [`Records`] of a batch.
//!
//! An [`EncoderFitter`] sees the training batches in one streaming pass. The [`Encoder`] that it leaves is the same for batch,
//! stream and HTTP. `moment_check` finds what only a model can refuse: moments far from those of its training.

pub mod binary;
mod bins;
pub mod categorical;
pub mod encoder;
mod error;
mod moment_check;
pub mod numeric;
mod ordinary;
pub mod quantiles;
mod records;
pub mod temporal;

pub use bins::{FieldTable, ValueBins};
pub use encoder::{Encoder, EncoderFitter, FieldEncoder, ValueEncoder};
pub use error::EncodeError;
pub use numeric::NumericEncoder;
pub use records::{FieldShape, HOURS, Records, WEEKDAYS};
pub use temporal::{TrainedMoments, far_moments};

#[cfg(test)]
pub mod tests;
