//! Panics of the Parquet reader become errors, quietly.
//!
//! The reader panics on some damage (a page that needs a dictionary which is not there, lengths that
//! contradict each other), and damaged input must not end the program. A panic hook cannot see that a
//! panic will be caught; it asks [`panic_is_guarded`], so that only defects are reported as such.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Guarded steps that this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic on this thread is one that a reader of damaged data will catch and report as bad
/// data: a panic hook should then stay silent.
pub fn panic_is_guarded() -> bool {
    DEPTH.get() > 0
}

/// Runs a step of the Parquet reader, and turns its errors and its panics into a message. What
/// panicked must never be used again.
///
/// # Errors
/// What the step said, or what its panic did.
pub(crate) fn guarded<T, E: std::fmt::Display>(
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    DEPTH.set(DEPTH.get() + 1);
    let outcome = catch_unwind(AssertUnwindSafe(step));
    DEPTH.set(DEPTH.get() - 1);
    match outcome {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let reason = text.unwrap_or("no reason given");
            Err(format!("damaged beyond reading ({reason})"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn a_panic_becomes_a_message_and_is_known_as_guarded_only_within() {
        let step = || -> Result<(), String> {
            assert!(panic_is_guarded());
            panic!("no dictionary {}", 7);
        };
        let message = "damaged beyond reading (no dictionary 7)".to_owned();
        assert_eq!(guarded(step), Err(message));
        assert!(!panic_is_guarded());
        assert_eq!(
            guarded(|| Err::<(), _>("short page")),
            Err("short page".to_owned())
        );
        assert_eq!(guarded(|| Ok::<_, String>(3)), Ok(3));
    }
}
