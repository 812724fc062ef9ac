//! A line in which turns come in the order in which places were taken, whichever thread is ready first.
//!
//! Places flow out as work is handed over, turns flow out one at a time. The invariant: a turn begins when all places before it
//! have had theirs or were given up, also by a panic, so that nobody waits for one who will not come.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The line. Turns are numbered as their places are taken, from 0.
#[derive(Debug, Default)]
pub struct Turnstile {
    line: Arc<Line>,
    /// Of the next place.
    next: u64,
}

#[derive(Debug, Default)]
struct Line {
    passed: Mutex<Passed>,
    /// Told when somebody has passed.
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Passed {
    /// All before this one have passed.
    before: u64,
    /// Those of later ones that have; as many as places are out, at most.
    early: BTreeSet<u64>,
}

impl Turnstile {
    /// The last place in the line.
    pub fn place(&mut self) -> Place {
        let number = self.next;
        self.next += 1;
        Place {
            line: Arc::clone(&self.line),
            number,
        }
    }
}

/// A place in the line; dropping it gives it up.
#[derive(Debug)]
pub struct Place {
    line: Arc<Line>,
    number: u64,
}

/// While it is held, nobody behind has a turn.
#[derive(Debug)]
#[must_use]
pub struct Turn {
    _place: Place,
}

impl Place {
    /// Waits until all before have passed.
    pub fn turn(self) -> Turn {
        let mut passed = self.line.passed();
        while passed.before < self.number {
            let moved = self.line.moved.wait(passed);
            passed = moved.unwrap_or_else(PoisonError::into_inner);
        }
        drop(passed);
        Turn { _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut passed = self.line.passed();
        passed.early.insert(self.number);
        while passed.before_is_early() {
            passed.before += 1;
        }
        drop(passed);
        self.line.moved.notify_all();
    }
}

impl Passed {
    /// Takes the first that has not passed from the early ones, if it is there.
    fn before_is_early(&mut self) -> bool {
        self.early.remove(&self.before)
    }
}

impl Line {
    /// A number and a set are whole whenever the lock is free.
    fn passed(&self) -> MutexGuard<'_, Passed> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_come_in_the_order_of_places_though_the_last_is_ready_first() {
        let mut line = Turnstile::default();
        let places: Vec<Place> = (0..8).map(|_| line.place()).collect();
        let (sender, arrived) = channel();
        let mut threads = Vec::new();
        for place in places.into_iter().rev() {
            let sender = sender.clone();
            threads.push(std::thread::spawn(move || {
                let number = place.number;
                let turn = place.turn();
                sender.send(number).unwrap();
                drop(turn);
            }));
            std::thread::sleep(Duration::from_millis(2));
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop(sender);
        assert_eq!(
            arrived.iter().collect::<Vec<_>>(),
            (0..8).collect::<Vec<_>>()
        );
    }

    #[test]
    fn nobody_has_a_turn_while_another_holds_it() {
        let mut line = Turnstile::default();
        let (first, second) = (line.place().turn(), line.place());
        let (sender, arrived) = channel();
        let thread = std::thread::spawn(move || {
            drop(second.turn());
            sender.send(()).unwrap();
        });
        let early = arrived.recv_timeout(Duration::from_millis(30));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        drop(first);
        arrived.recv_timeout(Duration::from_secs(20)).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_place_that_is_given_up_or_lost_to_a_panic_keeps_nobody_waiting() {
        let mut line = Turnstile::default();
        let (lost, given_up, last) = (line.place(), line.place(), line.place());
        drop(given_up);
        let panicking = std::thread::spawn(move || {
            let _lost = lost;
            panic!("as it was told");
        });
        assert!(panicking.join().is_err());
        drop(last.turn());
        assert!(line.line.passed().early.is_empty());
    }
}
