//! Whole bundles: trained, kept, loaded and used.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// Every objective and every architecture.
mod comparison;

// Contents of any kind under digests that are right.
mod forged;

// Scores in two stages.
mod two_stages;

// Newer calibration rows.
mod recalibration;
