//! A server on a free loopback port for the tests of this module: a scorer flows in as a function,
//! answers of real requests flow out. It is gone when it is dropped.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::{HttpState, Limits, RequestScorer, ScoreOutcome, SubmitError, bind, run};
use crate::records::FaultReason;
use crate::telemetry::{Metrics, Readiness};

mod router;
mod server;

type Submitted = Result<oneshot::Receiver<Vec<ScoreOutcome>>, SubmitError>;

/// Status, headers and body of an answer.
pub type Answer = (u16, BTreeMap<String, String>, String);

struct Function<F>(F);

impl<F: Fn(Vec<Vec<u8>>) -> Submitted + Send + Sync> RequestScorer for Function<F> {
    fn submit(&self, records: Vec<Vec<u8>>) -> Submitted {
        self.0(records)
    }
}

/// Scores every record with itself; what is no JSON is malformed.
pub fn echo(records: Vec<Vec<u8>>) -> Submitted {
    let outcome = |record: Vec<u8>| match serde_json::from_slice::<serde_json::Value>(&record) {
        Ok(record) => {
            ScoreOutcome::Scored(serde_json::json!({ "topic": null, "record": record }).to_string())
        }
        Err(error) => ScoreOutcome::Bad {
            reason: FaultReason::Malformed,
            detail: error.to_string(),
        },
    };
    let (sender, receiver) = oneshot::channel();
    sender
        .send(records.into_iter().map(outcome).collect())
        .unwrap();
    Ok(receiver)
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub readiness: Arc<Readiness>,
    agent: ureq::Agent,
    shutdown: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Server {
    pub fn start<F>(scorer: F, limits: Limits) -> Self
    where
        F: Fn(Vec<Vec<u8>>) -> Submitted + Send + Sync + 'static,
    {
        let readiness = Arc::new(Readiness::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let scorer = Arc::new(Function(scorer));
        let state = HttpState::new(metrics, Arc::clone(&readiness), scorer, limits);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(bind(([127, 0, 0, 1], 0).into())).unwrap();
        let address = listener.local_addr().unwrap();
        let (shutdown, stop) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(run(listener, state, async {
                let _ = stop.await;
            }));
        });
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let (shutdown, thread) = (Mutex::new(Some(shutdown)), Mutex::new(Some(thread)));
        Self {
            address,
            readiness,
            agent,
            shutdown,
            thread,
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        read(self.agent.get(self.url(path)).call().unwrap())
    }

    pub fn score(&self, body: &[u8]) -> Answer {
        self.post("/v1/score", body)
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        read(self.agent.post(self.url(path)).send(body).unwrap())
    }

    /// Tells the server to stop, and does not wait.
    pub fn begin_shutdown(&self) {
        drop(self.shutdown.lock().unwrap().take());
    }

    /// Waits until the server has stopped.
    pub fn wait(&self) {
        if let Some(thread) = self.thread.lock().unwrap().take() {
            thread.join().unwrap();
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that fails leaves its requests behind: do not wait for them.
        if let Ok(mut shutdown) = self.shutdown.lock() {
            drop(shutdown.take());
        }
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Answer {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let status = response.status().as_u16();
    (
        status,
        headers,
        response.body_mut().read_to_string().unwrap(),
    )
}
