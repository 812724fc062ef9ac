//! The scoring thread: batches of the stream go in and come back scored, in order; requests over HTTP are answered in
//! between, whenever no batch of the stream waits.
//!
//! Both queues are bounded. The stream's is never over-full, because the one [`ScoringLink`] counts what is in flight; of
//! requests, what finds the queue full is told so at once.

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use tokio::sync::oneshot;
use tracing::error;

use super::fault::{StreamError, chain};
use super::message::MessageBatch;
use super::output::ScoredBatch;
use super::worker::{ScoreOutcome, Worker, WorkerError};

/// Batches handed over and not yet taken back: one in work, one waiting, and two that hide the time of a commit.
pub const IN_FLIGHT_MAX: usize = 4;
/// Requests that wait: at some milliseconds each, more would time out anyway.
pub const REQUESTS_MAX: usize = 64;

/// Batches of sessions that have ended are told by their epoch, and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Epoch(u64);

struct Job {
    epoch: Epoch,
    batch: MessageBatch,
}

struct Done {
    epoch: Epoch,
    result: Result<ScoredBatch, WorkerError>,
}

struct Request {
    records: Vec<Vec<u8>>,
    reply: oneshot::Sender<Vec<ScoreOutcome>>,
}

/// The stream's end of the scoring thread.
#[derive(Debug)]
pub struct ScoringLink {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Batches handed over and not yet taken back, of all epochs; at most [`IN_FLIGHT_MAX`].
    in_flight: usize,
    epoch: Epoch,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job of {:?}", self.epoch)
    }
}

/// The scoring thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl ScoringLink {
    /// Whether no more batches may be handed over until one was taken back.
    pub fn is_full(&self) -> bool {
        self.in_flight >= IN_FLIGHT_MAX
    }

    /// Whether nothing is to come back.
    pub fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Hands a batch over. Only when not [`is_full`](Self::is_full).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn submit(&mut self, batch: MessageBatch) -> Result<(), Gone> {
        self.jobs
            .send(Job {
                epoch: self.epoch,
                batch,
            })
            .map_err(|_| Gone)?;
        self.in_flight += 1;
        Ok(())
    }

    /// Takes the next scored batch back, in the order of submission; `None` if none came within `timeout`.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn collect(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Result<ScoredBatch, WorkerError>>, Gone> {
        while self.in_flight > 0 {
            let done = match self.done.try_recv() {
                Ok(done) => done,
                Err(TryRecvError::Disconnected) => return Err(Gone),
                Err(TryRecvError::Empty) if timeout.is_zero() => return Ok(None),
                Err(TryRecvError::Empty) => match self.done.recv_timeout(timeout) {
                    Ok(done) => done,
                    Err(RecvTimeoutError::Timeout) => return Ok(None),
                    Err(RecvTimeoutError::Disconnected) => return Err(Gone),
                },
            };
            self.in_flight -= 1;
            if done.epoch == self.epoch {
                return Ok(Some(done.result));
            }
        }
        Ok(None)
    }

    /// Forgets everything in flight: it will be dropped when it comes back.
    pub fn forget(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
    }
}

/// HTTP's end of the scoring thread; clones share it.
#[derive(Debug, Clone)]
pub struct ScoringClient {
    requests: Sender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request of {} records", self.records.len())
    }
}

/// Why records of a request were not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: the stream has priority.
    #[error("the scoring queue is full: {REQUESTS_MAX} requests are waiting")]
    QueueFull,
    /// Nothing scores: no model is loaded yet, or the daemon is draining.
    #[error("nothing scores at present")]
    Unavailable,
}

impl ScoringClient {
    /// Hands over `records`, each the JSON text of one record whatever the stream's format, and returns at once.
    ///
    /// The receiver gets one outcome a record, in the order given. Its sender is dropped where the records cannot be scored
    /// through no fault of theirs. The caller bounds the number of records and the time it waits: the stream has priority,
    /// and records that nobody waits for any more are dropped unscored.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(
        &self,
        records: Vec<Vec<u8>>,
    ) -> Result<oneshot::Receiver<Vec<ScoreOutcome>>, SubmitError> {
        let (reply, outcomes) = oneshot::channel();
        self.requests
            .try_send(Request { records, reply })
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::QueueFull,
                TrySendError::Disconnected(_) => SubmitError::Unavailable,
            })?;
        Ok(outcomes)
    }
}

/// Starts the scoring thread. It ends when both ends are dropped.
///
/// # Errors
/// A thread that the system refuses.
pub fn start(worker: Worker) -> Result<(ScoringLink, ScoringClient, JoinHandle<()>), StreamError> {
    let (jobs, job_queue) = bounded(IN_FLIGHT_MAX);
    let (done_queue, done) = bounded(IN_FLIGHT_MAX);
    let (requests, request_queue) = bounded(REQUESTS_MAX);
    let thread = std::thread::Builder::new()
        .name("scoring".to_owned())
        .spawn(move || serve(worker, job_queue, &done_queue, request_queue))
        .map_err(StreamError::Thread)?;
    let link = ScoringLink {
        jobs,
        done,
        in_flight: 0,
        epoch: Epoch(0),
    };
    Ok((link, ScoringClient { requests }, thread))
}

fn serve(
    mut worker: Worker,
    mut jobs: Receiver<Job>,
    done: &Sender<Done>,
    mut requests: Receiver<Request>,
) {
    let (mut stream_open, mut http_open) = (true, true);
    while stream_open || http_open {
        // Biased: where both wait, the stream's batch is taken.
        crossbeam_channel::select_biased! {
            recv(jobs) -> job => match job {
                Ok(Job { epoch, batch }) => {
                    // Fails only when the stream has ended: the batch is of no use then.
                    let _ = done.send(Done { epoch, result: worker.process(batch) });
                }
                Err(_) => {
                    stream_open = false;
                    jobs = crossbeam_channel::never();
                }
            },
            recv(requests) -> request => match request {
                Ok(request) => answer(&mut worker, request),
                Err(_) => {
                    http_open = false;
                    requests = crossbeam_channel::never();
                }
            },
        }
    }
}

fn answer(worker: &mut Worker, request: Request) {
    if request.reply.is_closed() {
        return;
    }
    match worker.answer(&request.records) {
        Ok(outcomes) => {
            // Fails only when the client has gone.
            let _ = request.reply.send(outcomes);
        }
        Err(error) => error!(error = %chain(&error), "a request cannot be scored"),
    }
}
