//! The daemon itself: the binary with a trained model, between real Kafka and HTTP.
//!
//! `material` makes the model and the records with the scores that the library gives them,
//! `setting` the topics, the configuration and the running daemon. Then one file a promise.
//!
//! Larger runs, as for an acceptance, by environment variables: `MASKWATCH_TEST_RECORDS`,
//! `MASKWATCH_TEST_KILLS` and `MASKWATCH_TEST_EXCHANGES` set the numbers; `MASKWATCH_TEST_ULB=1` takes the records of
//! `ulb_creditcard.parquet` in `MASKWATCH_DATA_DIR` and the bundle in `MASKWATCH_TEST_BUNDLE`.
//! With `--nocapture` the runs print their rates.

pub mod material;
pub mod setting;

// Every record exactly once, killed or drained or fenced; at least once; alerts.
mod delivery;

// One bad record never touches its neighbours, whatever the format.
mod bad_records;

// What lies in an envelope is scored as it is alone; deletes are tombstones.
mod envelopes;

// The model is exchanged while the daemon runs, and while it is killed.
mod exchange;

// What the running daemon answers over HTTP.
mod endpoints;

// A schema registry that does not answer is waited for.
mod registry;

// What the cluster does not allow is named, or done without.
mod rights;

// A drain ends in time, whatever it has to wait for.
mod liveness;

// Training first, and what is refused with which exit code.
mod refusals;
