//! From the input topics to scores, alerts and dead letters, exactly once, whatever the client is.
//!
//! ```text
//! Source -> Batcher -> ScoringLink -> [scoring threads: Pipeline] -> ScoringLink -> Sink
//!    \__________________ session, on the stream's thread ______________________/
//! ```
//!
//! [`run`] has one session after the other; a `session` is a consumer and a producer whose offsets and outputs commit
//! together. The traits [`Source`](source::Source), [`Sink`](sink::Sink) and [`Connector`](sink::Connector) are all that it
//! knows of both ends. `kafka` implements them; `tests/delivery` has an in-process twin that fails on demand, and holds
//! the promises against it.

pub mod batcher;
pub mod calls;
pub mod fault;
mod fencing;
pub mod options;
pub mod refusal;
pub mod session;
mod sessions;
mod shared;
pub mod shutdown;
pub mod sink;
pub mod source;
pub mod watchdog;

pub use sessions::{SESSIONS_MAX, run};
pub use shared::{Carried, Shared};
