//! Records in motion: where messages come from, and where what was found about them goes.

pub mod kafka;
