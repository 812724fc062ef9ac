//! Where outputs go: the one trait that Kafka's producer and its in-process twin implement.

use std::time::Duration;

use super::fault::DeliveryFault;
use super::refusal::{SendOptions, TopicLimits};
use super::source::{Owed, Source};
use crate::pipeline::output::OutputRecord;
use crate::pipeline::types::{Positions, Topic};

/// What became of an output that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// On its way: [`Sink::commit`] says whether it arrived.
    Accepted,
    /// Refused at once for its size; the open transaction is unharmed.
    TooLarge,
}

/// A producer whose outputs become visible together with the offsets of what they were made from.
///
/// Exactly once: outputs are in a transaction that the first [`send`](Self::send) or [`commit`](Self::commit) begins.
/// At least once: they are visible at once, and `commit` stores offsets only after all of them are acknowledged.
pub trait Sink {
    /// Hands over an output. `ticket` names it in [`DeliveryFault::Refused`].
    ///
    /// # Errors
    /// A fault that ends the session.
    fn send(&mut self, record: &OutputRecord<'_>, ticket: usize) -> Result<Sent, DeliveryFault>;

    /// Makes everything sent since the last commit visible, and `positions` the group's offsets.
    ///
    /// # Errors
    /// A fault that ends the session: neither or, where the cluster's answer was lost, perhaps both have happened. A new
    /// session finds out by starting from the committed offsets.
    fn commit(&mut self, positions: &Positions, timeout: Duration) -> Result<(), DeliveryFault>;

    /// Takes back what was sent since the last commit, as far as that can be done at once; never fails, as the next
    /// session fences whatever is left.
    fn abandon(&mut self);

    /// Makes the sink ready for what is sent next, after outputs were refused and [`abandon`](Self::abandon) was called.
    ///
    /// # Errors
    /// A fault that ends the session: what was abandoned may not be taken back, or the cluster does not answer.
    fn renew(&mut self) -> Result<(), DeliveryFault>;
}

/// Opens sessions: a consumer and a producer that belong together.
pub trait Connector {
    /// The consumer.
    type Source: Source;
    /// The producer.
    type Sink: Sink;

    /// Fences whatever an earlier session left, then joins the group.
    ///
    /// # Errors
    /// A fault, as of a session.
    fn open(&mut self, options: SendOptions) -> Result<(Self::Source, Self::Sink), DeliveryFault>;

    /// What the output topics take, as far as the cluster said when [`open`](Self::open) asked.
    fn limits(&self) -> &[(Topic, TopicLimits)];

    /// What the group owes of every partition of the input topics, asked without joining the group: for sessions that
    /// cannot begin. Empty where the cluster does not answer within seconds.
    fn owed(&mut self) -> Vec<Owed>;

    /// Whether the group has a member of this instance's name, asked without joining the group, while no session is open.
    /// `None` where the cluster does not answer within seconds.
    fn has_member(&mut self) -> Option<bool>;
}
