//! What the process says of itself: metrics, logs and readiness. Facts flow in from training, the
//! stream and HTTP; text flows out to Prometheus, standard error and probes. Nothing here can fail
//! or slow the work that it describes: recording is infallible, a batch at a time, and every label
//! comes from a closed list.

pub mod heartbeat;
pub mod logging;
pub mod metrics;
mod model_metrics;
pub mod readiness;
mod table;
mod training;
mod window;

pub use heartbeat::Heartbeat;
pub use metrics::Metrics;
pub use model_metrics::{ModelFacts, ModelMetrics};
pub use readiness::Readiness;
pub use table::MetricsError;
pub use training::TrainingGauges;
