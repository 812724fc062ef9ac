//! Defects end with one line and the code 70, never with a backtrace at a user.
//!
//! In flows what a verb does, out flows its exit code. A panic that a reader of damaged data catches
//! ([`panic_is_guarded`]) is none of these: it becomes bad data, and nothing is printed here.

use super::exit::INTERNAL;
use crate::records::panic_is_guarded;
use std::io::Write;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;

/// Runs `program`; a panic that reaches this thread gives the exit code 70. What `program` holds is
/// dropped on the way, so that its temporary files are gone.
pub fn guard_program(program: impl FnOnce() -> ExitCode) -> ExitCode {
    std::panic::set_hook(Box::new(report));
    catch_unwind(AssertUnwindSafe(program)).unwrap_or(ExitCode::from(INTERNAL))
}

fn report(panic: &PanicHookInfo<'_>) {
    if panic_is_guarded() {
        return;
    }
    let reason = panic.payload_as_str().unwrap_or("no reason given");
    let place = panic
        .location()
        .map_or_else(String::new, |at| format!(" ({at})"));
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed").to_owned();
    // A closed stderr is no reason to panic again.
    let _ = writeln!(
        std::io::stderr(),
        "maskwatch: internal error: thread '{thread}': {}{place}",
        reason.replace('\n', " ")
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn a_defect_ends_with_70_and_drops_what_it_held() {
        struct Sibling<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Sibling<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let removed = std::cell::Cell::new(false);
        let code = guard_program(|| {
            let _sibling = Sibling(&removed);
            panic!("an index out of range, as this test wants it");
        });
        let _ = std::panic::take_hook();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(70)));
        assert!(removed.get());
        let fine = guard_program(|| ExitCode::from(7));
        let _ = std::panic::take_hook();
        assert_eq!(format!("{fine:?}"), format!("{:?}", ExitCode::from(7)));
    }
}
