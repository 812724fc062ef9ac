//! The `maskwatch` program: parse, run, exit code.

use clap::Parser;
use maskwatch::cli::{Arguments, exit_code, guard_program, run};
use std::io::Write;
use std::process::ExitCode;

// A step of training and a batch of records take and give back megabytes: glibc returns those to the system each time, and
// the pages have to be zeroed again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    guard_program(|| match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // One chain on one line: what failed, and why, down to the cause.
            let _ = writeln!(std::io::stderr(), "maskwatch: error: {error:#}");
            exit_code(&error)
        }
    })
}
