//! A leash: a small shell that ends a child process, and removes a folder, once this process is
//! gone, however it went.
//!
//! A value in a `static` is never dropped, and a killed process drops nothing at all, so a broker
//! that all tests share would outlive them. The shell reads from a pipe whose other end only this
//! process holds (Rust opens pipes close-on-exec, so no sibling inherits it): the read ends when
//! this process does. Invariant: a process on a leash does not outlive the test process.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input; then kills process `$1`, if one is named, waits for up to 2 s until
/// it is gone, and removes the folder `$2`, if one is named. Others may still write there for a moment.
const SCRIPT: &str = r#"
read -r _
tries=0
if [ -n "$1" ]; then
    kill -KILL "$1"
    while [ "$tries" -lt 40 ] && kill -0 "$1"; do sleep 0.05; tries=$((tries + 1)); done
fi
[ -n "$2" ] || exit 0
while [ "$tries" -lt 80 ] && ! rm -rf "$2"; do sleep 0.05; tries=$((tries + 1)); done
"#;

/// Holds one child process, one folder, or both, to the life of this process.
#[derive(Debug)]
pub struct Leash {
    /// The watching shell. Its input stays open as long as this value, or this process, lives.
    shell: Child,
}

impl Leash {
    /// Puts process `pid` on a leash; `folder`, if given, is removed after it has ended.
    pub fn on(pid: u32, folder: Option<&Path>) -> Self {
        Self::start(&pid.to_string(), folder.unwrap_or(Path::new("")))
    }

    /// Has `folder` removed at the end of this process; whoever writes there is on a leash of its own.
    pub fn on_folder(folder: &Path) -> Self {
        Self::start("", folder)
    }

    fn start(pid: &str, folder: &Path) -> Self {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "leash", pid])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C on the terminal is meant for the tests; the leash must survive it to act.
            .process_group(0)
            .spawn()
            .expect("cannot start sh");
        Self { shell }
    }
}

impl Drop for Leash {
    /// Lets the process go: its owner has ended it, and its number may soon be another's.
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
