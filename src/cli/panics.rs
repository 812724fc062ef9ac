//! Defects end with one line and the code 70, never with a backtrace at a user.
//!
//! In flows what a verb does, out flows its exit code. A panic that a reader of damaged data catches
//! ([`panic_is_guarded`]) is none of these: it becomes bad data, and nothing is printed here.

use super::exit::INTERNAL;
use crate::features::panic_is_guarded;
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
