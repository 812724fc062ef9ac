//! Signals to children, by the system call: a bare machine has no program `kill`.

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal by name (`TERM`, `STOP`, `CONT`, ...) to a process.
///
/// # Errors
/// In words, if the name is unknown or there is no such process.
pub fn send(name: &str, pid: u32) -> Result<(), String> {
    let signal = match name {
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        unknown => {
            return Err(format!(
                "SIG{unknown} is not among the signals of the tests"
            ));
        }
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or("no process has this id")?;
    kill_process(pid, signal).map_err(|error| format!("SIG{name} was not sent: {error}"))
}
