//! Sums over the recent past, in slots of equal length: batches flow in with the time at which they
//! were scored, and the alert ratio and the mean surprise of each field flow out. Memory is bounded
//! by the number of slots, and a slot older than the window never counts, even if nothing has been
//! added since.

use std::collections::VecDeque;
use std::time::Duration;

/// Length of the window. Five minutes hold enough records for a ratio to mean something, and show a
/// surge while it lasts.
pub const DEFAULT_WINDOW_SECONDS: u64 = 300;
/// Length of one slot: the resolution with which the past is forgotten.
const SLOT_SECONDS: u64 = 10;
/// Slots that are kept.
const SLOTS: u64 = DEFAULT_WINDOW_SECONDS / SLOT_SECONDS;

/// Sums over one batch or one slot.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    /// Records that were scored.
    pub scored: u64,
    /// Records that were flagged.
    pub alerts: u64,
    /// Sum of each field's surprise where it was predicted, `[F]`.
    pub surprise: Vec<f64>,
    /// Number of records in which each field was predicted, `[F]`.
    pub predicted: Vec<u64>,
}

impl Sums {
    /// The sums of one batch. `field_surprise` is `[B*F]`, row-major; a value that is not finite
    /// was not predicted.
    pub fn of_batch(scored: u64, alerts: u64, field_surprise: &[f32], fields: usize) -> Self {
        let mut sums = Self {
            scored,
            alerts,
            surprise: vec![0.0; fields],
            predicted: vec![0; fields],
        };
        if fields == 0 {
            return sums;
        }
        for row in field_surprise.chunks_exact(fields) {
            for (field, &surprise) in row.iter().enumerate() {
                if surprise.is_finite() {
                    sums.surprise[field] += f64::from(surprise);
                    sums.predicted[field] += 1;
                }
            }
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.alerts += other.alerts;
        self.surprise
            .resize(self.surprise.len().max(other.surprise.len()), 0.0);
        self.predicted
            .resize(self.predicted.len().max(other.predicted.len()), 0);
        for (total, value) in self.surprise.iter_mut().zip(&other.surprise) {
            *total += value;
        }
        for (total, value) in self.predicted.iter_mut().zip(&other.predicted) {
            *total += value;
        }
    }

    /// Share of the scored records that were flagged, in `[0, 1]`; none if nothing was scored.
    pub fn alert_ratio(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.alerts as f64 / self.scored as f64)
    }

    /// Mean surprise of a field; none if the field was not predicted.
    pub fn mean_surprise(&self, field: usize) -> Option<f64> {
        let predicted = *self.predicted.get(field)?;
        (predicted > 0).then(|| self.surprise[field] / predicted as f64)
    }
}

/// The last [`DEFAULT_WINDOW_SECONDS`]; the newest slot is still being filled.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Slot numbers (time over slot length) with their sums, ascending.
    slots: VecDeque<(u64, Sums)>,
}

impl Window {
    /// Adds a batch scored at `now`, counted from any fixed start.
    pub fn add(&mut self, now: Duration, batch: &Sums) {
        let slot = now.as_secs() / SLOT_SECONDS;
        self.forget(slot);
        match self.slots.back_mut() {
            // Two threads may take the time in one order and the lock in the other: the newest slot
            // takes both.
            Some((newest, sums)) if *newest >= slot => sums.add(batch),
            _ => self.slots.push_back((slot, batch.clone())),
        }
    }

    /// The sums over the window that ends at `now`.
    pub fn total(&mut self, now: Duration) -> Sums {
        self.forget(now.as_secs() / SLOT_SECONDS);
        let mut total = Sums::default();
        for (_, sums) in &self.slots {
            total.add(sums);
        }
        total
    }

    /// Drops the slots that have left the window.
    fn forget(&mut self, newest: u64) {
        while self
            .slots
            .front()
            .is_some_and(|(slot, _)| slot + SLOTS <= newest)
        {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(scored: u64, alerts: u64) -> Sums {
        Sums::of_batch(scored, alerts, &[], 0)
    }

    #[test]
    fn the_ratio_is_over_the_whole_window_not_over_the_last_batch() {
        let mut window = Window::default();
        window.add(Duration::from_secs(1), &batch(90, 0));
        window.add(Duration::from_secs(61), &batch(10, 5));
        assert_eq!(
            window.total(Duration::from_secs(62)).alert_ratio(),
            Some(0.05)
        );
    }

    #[test]
    fn a_slot_older_than_the_window_does_not_count_even_if_nothing_came_since() {
        let mut window = Window::default();
        window.add(Duration::from_secs(5), &batch(10, 5));
        let last = DEFAULT_WINDOW_SECONDS - 1;
        assert_eq!(
            window.total(Duration::from_secs(last)).alert_ratio(),
            Some(0.5)
        );
        let gone = DEFAULT_WINDOW_SECONDS + SLOT_SECONDS;
        assert_eq!(window.total(Duration::from_secs(gone)).alert_ratio(), None);
    }

    #[test]
    fn memory_is_bounded_by_the_number_of_slots() {
        let mut window = Window::default();
        for second in 0..10 * DEFAULT_WINDOW_SECONDS {
            window.add(Duration::from_secs(second), &batch(1, 0));
        }
        assert!(window.slots.len() as u64 <= SLOTS);
    }

    #[test]
    fn a_late_batch_joins_the_newest_slot() {
        let mut window = Window::default();
        window.add(Duration::from_secs(100), &batch(1, 0));
        window.add(Duration::from_secs(80), &batch(1, 1));
        assert_eq!(window.slots.len(), 1);
        assert_eq!(
            window.total(Duration::from_secs(100)).alert_ratio(),
            Some(0.5)
        );
    }

    #[test]
    fn the_mean_surprise_leaves_out_what_was_not_predicted() {
        let sums = Sums::of_batch(
            3,
            0,
            &[1.0, f32::NAN, 3.0, f32::NAN, f32::INFINITY, f32::NAN],
            2,
        );
        assert_eq!(sums.mean_surprise(0), Some(2.0));
        assert_eq!(sums.mean_surprise(1), None);
        assert_eq!(sums.mean_surprise(2), None);
    }
}
