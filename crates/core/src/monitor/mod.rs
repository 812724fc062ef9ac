//! Whether a stream still is what its model was calibrated for: tests that may be looked at after every record.
//!
//! In flow the records of a stream in their order, each once; out flow two wealths and, for each field, how far its values
//! have moved. A wealth is what a gambler has who began with 1 and bets against a claim at fair odds: while the claim holds
//! its mean stays at most 1, so that it ever reaches 1,000 with a chance of at most one in 1,000 (Ville 1939; Shafer 2021,
//! *Testing by Betting*). It may be read at any moment.
//!
//! - `budget` bets against "the alert rate is at most the limit that the calibration rows leave".
//! - `exchangeability` bets against "the records come in no order": ranks in a `bag` that grows, bets of `betting`.
//! - `fields` compares windows of the stream with the reference rows, field by field.
//! - `stream` is all of them for one detector.
//!
//! `horizon` keeps a wealth alive: bets begin all the time. Memory is bounded, and nothing here changes a score or an alert.

mod bag;
mod betting;
mod budget;
mod exchangeability;
mod fields;
mod horizon;
mod stream;

pub use bag::GrowingBag;
pub use budget::{BUDGET_LIMIT_LEVEL, BudgetTest};
pub use exchangeability::ExchangeabilityTest;
pub use fields::{FIELD_MOVED_BITS, FieldWatch, WINDOW_RECORDS, jensen_shannon_bits};
pub use horizon::{ALARM_WEALTH, WEALTH_MAX};
pub use stream::{Evidence, EvidenceTaker, Standing, StreamTests};
