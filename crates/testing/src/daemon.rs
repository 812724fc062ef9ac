//! The daemon as a child process: start, signal, wait, and read its log and its endpoints.
//!
//! In: arguments and environment. Out: an exit status, the text of its stderr, HTTP answers.
//! Invariant: no child outlives its [`Daemon`], nor the test process where that is killed.

use crate::leash::Leash;
use crate::signals;
use crate::wait::{poll_until, tail};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::NamedTempFile;

/// An endpoint on this machine that has not answered by then is not going to.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running (or ended) child. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Let go as soon as the child has been waited for.
    leash: Option<Leash>,
    /// Holds what the child writes to stdout and stderr; gone with this value.
    log: NamedTempFile,
}

impl Daemon {
    /// Starts a program with arguments and further environment variables.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(
        program: &str,
        arguments: &[A],
        environment: &[(&str, &str)],
    ) -> Self {
        let log = NamedTempFile::with_prefix("maskwatch-log-").expect("a temporary file");
        let output = || -> File { log.reopen().expect("the log file") };
        // One open file for both streams: two would each write from their own position.
        let stdout = output();
        let stderr = stdout.try_clone().expect("a second handle of the log file");
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let leash = Some(Leash::on(child.id(), None));
        Self { child, leash, log }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the child has not ended.
    pub fn is_running(&mut self) -> bool {
        self.status().is_none()
    }

    /// Sends a signal by name (`TERM`, `INT`, `STOP`, ...).
    #[track_caller]
    pub fn signal(&mut self, name: &str) {
        assert!(
            self.is_running(),
            "no process to signal; its log ends:\n{}",
            self.log_tail()
        );
        if let Err(fault) = signals::send(name, self.child.id()) {
            panic!("{fault}");
        }
    }

    /// SIGTERM: asks the daemon to drain and leave.
    #[track_caller]
    pub fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// SIGKILL: the daemon gets no chance to do anything. Returns once it is gone.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().expect("cannot kill the child");
        self.child.wait().expect("cannot wait for the child");
        self.leash = None;
    }

    /// Waits until the child has ended.
    ///
    /// # Panics
    /// When it still runs after `patience`, with the end of its log.
    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        match poll_until(patience, || self.status()) {
            Some(status) => status,
            None => panic!(
                "still running after {patience:?}; its log ends:\n{}",
                self.log_tail()
            ),
        }
    }

    /// Everything that the child has written so far.
    #[track_caller]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log.path()).expect("the log file");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the child has written `text`.
    ///
    /// # Panics
    /// When it has not after `patience`, or has ended without, with the end of its log.
    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str, patience: Duration) {
        let found = poll_until(patience, || {
            // Asked first: what an ended child has written is all there.
            let running = self.is_running();
            let written = self.log().contains(text);
            (written || !running).then_some(written)
        });
        if found != Some(true) {
            panic!(
                "no {text:?} within {patience:?}; its log ends:\n{}",
                self.log_tail()
            );
        }
    }

    /// Waits until the endpoint answers 200, and returns the body; as for `/readyz`.
    ///
    /// # Panics
    /// When it has not after `patience`, or the child has ended, with its last answer and log.
    #[track_caller]
    pub fn wait_for_http(&mut self, url: &str, patience: Duration) -> String {
        let mut last = "nothing".to_owned();
        let found = poll_until(patience, || match http_get(url) {
            Ok((200, body)) => Some(Ok(body)),
            answer => {
                last = format!("{answer:?}");
                (!self.is_running()).then_some(Err(()))
            }
        });
        match found {
            Some(Ok(body)) => body,
            _ => panic!("{url} answered {last}; the log ends:\n{}", self.log_tail()),
        }
    }

    fn status(&mut self) -> Option<ExitStatus> {
        let status = self
            .child
            .try_wait()
            .expect("cannot ask for the child's status");
        if status.is_some() {
            self.leash = None;
        }
        status
    }

    fn log_tail(&self) -> String {
        tail(&self.log(), 40)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a GET; an answer of any status is an answer.
///
/// # Errors
/// When there is no answer: nobody listens, or not in time.
pub fn http_get(url: &str) -> Result<(u16, String), String> {
    answer(http_agent().get(url).call())
}

/// Status and body of a POST; an answer of any status is an answer.
///
/// # Errors
/// As [`http_get`].
pub fn http_post(url: &str, body: &[u8]) -> Result<(u16, String), String> {
    answer(http_agent().post(url).send(body))
}

/// As [`http_post`], with a bearer token and no body.
///
/// # Errors
/// As [`http_get`].
pub fn http_order(url: &str, token: &str) -> Result<(u16, String), String> {
    let request = http_agent().post(url);
    let request = request.header("Authorization", format!("Bearer {token}"));
    answer(request.send_empty())
}

fn http_agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(HTTP_TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into()
}

fn answer(
    outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<(u16, String), String> {
    let mut response = outcome.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .read_to_string()
        .map_err(|error| error.to_string())?;
    Ok((status, body))
}

/// The value of one series in Prometheus's text format, named as there, with its labels:
/// `maskwatch_records_total{outcome="scored",source="kafka"}`.
pub fn metric(text: &str, series: &str) -> Option<f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == series).then(|| value.parse().ok())?
        })
}
