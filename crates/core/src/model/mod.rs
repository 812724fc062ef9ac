//! The masked autoencoder: pure maths from encoded records to what each hidden field was expected to be.
//!
//! In: [`Records`](crate::encode::Records) and which fields are hidden. Out: a latent, logits, losses and surprises.
//! Nothing here knows of files, threads of its own, or Kafka.

pub mod bottleneck;
pub mod config;
pub mod heads;
pub mod inputs;
pub mod likelihood;
pub mod loss;
pub mod mask;
mod masked_autoencoder;
mod mlp;
pub mod ops;
pub mod parameters;
pub mod target;
mod transformer;
mod trunk;

pub use config::{Architecture, Masking, ModelConfig, ObjectiveKind, ViewsConfig};
pub use heads::Heads;
pub use inputs::{InputBuilder, Inputs};
pub use likelihood::Likelihood;
pub use mask::{MaskPlan, Scoring, Stratum, View, Views};
pub use masked_autoencoder::{MaskedAutoencoder, Pass};
pub use target::{Target, TargetReader};
