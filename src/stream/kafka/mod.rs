//! What speaks to Kafka and to what stands beside it.

mod registry;

pub use registry::{Registry, RegistryConfig, RegistryConfigError, Secret};
