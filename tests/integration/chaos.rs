//! The daemon on three brokers that are stopped, killed and frozen, while it is killed, frozen and doubled.
//!
//! All tests here share one cluster and take turns (`maskwatch_testing::kafka_cluster`). Together they take
//! minutes; `make chaos SEED=1 SECONDS=600` runs them for longer.

// The rig: that brokers go and come as they are told, and let in whom they should.
mod rig;

// Topics, configurations and daemons of one test; daemons that are started again; records that flow.
mod arena;
mod feeder;
mod fleet;

// What goes wrong, from a seed, and what it comes to.
mod counts;
mod ends;
mod plan;

// Everything at once.
mod storm;

// The ways in, with the right credentials and with wrong ones.
mod credentials;

// Output topics that are missing, and some that refuse what they get.
mod topics;
