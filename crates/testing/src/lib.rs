//! What tests and benchmarks of several packages stand on. Nothing of it is in the product.
//!
//! It uses core alone. The packages to the right of core (`generate`, `learn`, `quality`, the daemon) may use it in their
//! tests. Core may not: its unit tests are another compilation of core, whose types are not the ones that stand here.
//! For the same reason nothing here names a type of the daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails here is a test"
)]

pub mod amount;
