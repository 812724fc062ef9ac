//! The daemon on three brokers that are stopped, killed and frozen, while it is killed, frozen and doubled.
//!
//! All tests here share one cluster and take turns (`support::kafka_cluster`).

// The rig: that brokers go and come as they are told, and let in whom they should.
mod rig;
