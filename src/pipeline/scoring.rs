//! The scoring threads: batches of the stream go in and come back scored, in order; requests over HTTP are answered in
//! between by the first, whenever no batch of the stream waits, and for a bounded share of its time where some always do.
//!
//! Each thread takes the next batch there is and does both its steps, so that one decodes or writes while another scores. Batches
//! leave decoding in the order in which they were handed over ([`Turnstile`]), so that a step that must see the records of a
//! partition in their order can stand there. They may
//! finish in another order than they began; [`ScoringLink`] numbers batches and keeps those that come back early.
//!
//! A batch and a request carry the pipeline that scores them: an exchange concerns what is handed over after it. Batches come
//! back in order, so that the stream knows which of them is the first of a new pipeline ([`ScoringLink::boundary`]).
//!
//! Both queues are bounded. The stream's is never over-full, because the one [`ScoringLink`] counts what is in flight; of
//! requests, what finds the queue full is refused at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use tokio::sync::oneshot;
use tracing::error;

use super::exchange::PipelineExchange;
use super::handle::{Pipeline, PipelineError, ScoreOutcome};
use super::message::MessageBatch;
use super::output::ScoredBatch;
use super::turns::Turns;
use super::turnstile::{Place, Turnstile};
use crate::telemetry::logging::chain;

/// Threads that score the stream. A second one keeps the processors busy while the first is at what is not shared out among
/// Rayon's threads; a third would find nothing left to do.
pub const SCORING_THREADS: usize = 2;
/// Batches handed over and not yet taken back: one in work on each thread, and two that hide the time of a commit.
pub const IN_FLIGHT_MAX: usize = SCORING_THREADS + 2;
/// Requests that wait: at some milliseconds each, more would time out anyway.
pub const REQUESTS_MAX: usize = 64;

/// Batches of a link are numbered as they are handed over, from 0.
type Number = u64;

struct Job {
    number: Number,
    batch: MessageBatch,
    pipeline: Arc<Pipeline>,
    /// In the line of the batches that are decoded.
    place: Place,
}

/// What comes back from the threads.
enum Back {
    Scored {
        number: Number,
        result: Result<ScoredBatch, PipelineError>,
    },
    /// A thread has panicked: its batch will not come.
    Lost,
}

struct Request {
    pipeline: Arc<Pipeline>,
    records: Vec<Vec<u8>>,
    reply: oneshot::Sender<Vec<ScoreOutcome>>,
}

/// The stream's end of the scoring threads.
#[derive(Debug)]
pub struct ScoringLink {
    /// Scores what is handed over from now on.
    pipeline: Arc<Pipeline>,
    /// Where others are offered.
    exchange: PipelineExchange,
    /// Pipelines that do not stand yet, each with the number of its first batch.
    following: VecDeque<(Number, Arc<Pipeline>)>,
    jobs: Sender<Job>,
    line: Turnstile,
    back: Receiver<Back>,
    threads: usize,
    /// The number of the next batch to hand over.
    submitted: Number,
    /// The number of the next batch to take back; those before it were taken, or forgotten.
    next: Number,
    /// How many batches something was heard of, forgotten ones too.
    answered: Number,
    /// Batches of which nothing was heard yet, forgotten ones too, and since when each may have been worked at.
    pending: BTreeMap<Number, Instant>,
    /// Results that came before their turn.
    early: BTreeMap<Number, Result<ScoredBatch, PipelineError>>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job {}", self.number)
    }
}

impl std::fmt::Debug for Back {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scored { number, .. } => write!(f, "Scored {number}"),
            Self::Lost => write!(f, "Lost"),
        }
    }
}

/// A scoring thread has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl ScoringLink {
    /// Whether no more batches may be handed over until something came back.
    pub fn is_full(&self) -> bool {
        self.pending.len() + self.early.len() >= IN_FLIGHT_MAX
    }

    /// Whether nothing is to be taken back. Batches that were forgotten may still be in work, and take up room.
    pub fn is_idle(&self) -> bool {
        self.next == self.submitted
    }

    /// How long the oldest batch has been in work, a forgotten one too: a thread that hangs is of no more use to those after.
    pub fn in_work(&self) -> Duration {
        let oldest = self.pending.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    /// Takes a pipeline that is offered: it scores what is handed over from now on.
    pub fn take_offer(&mut self) {
        let Some(pipeline) = self.exchange.take() else {
            return;
        };
        // One without a batch is overtaken.
        let first = self.submitted;
        self.following.retain(|(number, _)| *number < first);
        self.following.push_back((first, Arc::clone(&pipeline)));
        self.pipeline = pipeline;
    }

    /// The pipeline of the next batch to take back, if it is another one than that of all batches before: what was taken back is
    /// to be committed first, and then the pipeline [`stands`](Self::stand).
    pub fn boundary(&self) -> Option<&Arc<Pipeline>> {
        let (first, pipeline) = self.following.front()?;
        (*first <= self.next).then_some(pipeline)
    }

    /// The pipeline behind the boundary stands from now on: requests are scored by it too.
    pub fn stand(&mut self) {
        if self.boundary().is_some()
            && let Some((_, pipeline)) = self.following.pop_front()
        {
            self.exchange.stand(pipeline);
        }
    }

    /// Hands a batch over. Only when not [`is_full`](Self::is_full).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn submit(&mut self, batch: MessageBatch) -> Result<(), Gone> {
        let number = self.submitted;
        let job = Job {
            number,
            batch,
            pipeline: Arc::clone(&self.pipeline),
            place: self.line.place(),
        };
        self.jobs.send(job).map_err(|_| Gone)?;
        self.submitted += 1;
        self.pending.insert(number, Instant::now());
        Ok(())
    }

    /// Takes the next scored batch back, in the order of submission; `None` if it did not come within `timeout`, or if room
    /// was made by one that had been forgotten.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn collect(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Result<ScoredBatch, PipelineError>>, Gone> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(result) = self.early.remove(&self.next) {
                self.next += 1;
                return Ok(Some(result));
            }
            let back = match self.back.try_recv() {
                Ok(back) => back,
                Err(TryRecvError::Disconnected) => return Err(Gone),
                Err(TryRecvError::Empty) if self.pending.is_empty() || timeout.is_zero() => {
                    return Ok(None);
                }
                Err(TryRecvError::Empty) => match self.back.recv_deadline(deadline) {
                    Ok(back) => back,
                    Err(RecvTimeoutError::Timeout) => return Ok(None),
                    Err(RecvTimeoutError::Disconnected) => return Err(Gone),
                },
            };
            let Back::Scored { number, result } = back else {
                return Err(Gone);
            };
            self.answered(number);
            if number < self.next {
                return Ok(None);
            }
            self.early.insert(number, result);
        }
    }

    /// Batches are begun in order: with this answer a thread is free for the next.
    fn answered(&mut self, number: Number) {
        self.pending.remove(&number);
        let begun = self.answered + self.threads as Number;
        self.answered += 1;
        if let Some(since) = self.pending.get_mut(&begun) {
            *since = Instant::now();
        }
    }

    /// Forgets everything in flight: it will be dropped when it comes back.
    pub fn forget(&mut self) {
        self.next = self.submitted;
        self.early.clear();
    }
}

/// HTTP's end of the scoring threads; clones share it.
#[derive(Debug, Clone)]
pub struct ScoringClient {
    /// Has the pipeline that answers what is handed over from now on.
    exchange: PipelineExchange,
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
    /// Where another pipeline is offered. It keeps no thread from its end.
    pub fn exchange(&self) -> PipelineExchange {
        self.exchange.clone()
    }

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
            .try_send(Request {
                pipeline: self.exchange.standing(),
                records,
                reply,
            })
            .map_err(|error| match error {
                TrySendError::Full(_) => SubmitError::QueueFull,
                TrySendError::Disconnected(_) => SubmitError::Unavailable,
            })?;
        Ok(outcomes)
    }
}

/// How often a thread that is waited for is asked whether it has ended.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// The threads, to be waited for once both ends are dropped.
#[derive(Debug)]
pub struct ScoringThreads(Vec<JoinHandle<()>>);

impl ScoringThreads {
    /// Waits at most `patience` for all to end, and says how many did not: a batch that hangs was forgotten by the stream,
    /// and must not keep the process.
    ///
    /// # Errors
    /// The payload of the first that panicked.
    pub fn join(self, patience: Duration) -> std::thread::Result<usize> {
        let begin = Instant::now();
        let all_ended = || self.0.iter().all(JoinHandle::is_finished);
        while !all_ended() && begin.elapsed() < patience {
            std::thread::sleep(POLL_EVERY);
        }
        let (ended, left): (Vec<_>, Vec<_>) = self.0.into_iter().partition(JoinHandle::is_finished);
        // All are taken back, whatever became of the first.
        let ended: Vec<_> = ended.into_iter().map(JoinHandle::join).collect();
        ended.into_iter().collect::<std::thread::Result<()>>()?;
        Ok(left.len())
    }
}

/// A scoring thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("a scoring thread could not be started")]
pub struct NoThread(#[source] pub std::io::Error);

/// Starts as many threads, at least one, to score by `pipeline`. They end when both ends are dropped.
///
/// # Errors
/// [`NoThread`].
pub fn start(
    pipeline: Arc<Pipeline>,
    threads: usize,
) -> Result<(ScoringLink, ScoringClient, ScoringThreads), NoThread> {
    let (jobs, job_queue) = bounded(IN_FLIGHT_MAX);
    // Room for every batch and for the last word of every thread: nothing that comes back has to wait.
    let (back_queue, back) = bounded(IN_FLIGHT_MAX + threads);
    let (requests, request_queue) = bounded(REQUESTS_MAX);
    // Requests have the first thread only, so that a batch never waits for two of them.
    let mut request_queue = Some(request_queue);
    let threads = (0..threads).map(|index| {
        let (jobs, back, requests) = (job_queue.clone(), back_queue.clone(), request_queue.take());
        std::thread::Builder::new()
            .name(format!("scoring-{index}"))
            .spawn(move || serve(jobs, &LastWord(back), requests))
            .map_err(NoThread)
    });
    let threads = ScoringThreads(threads.collect::<Result<_, _>>()?);
    let exchange = PipelineExchange::new(Arc::clone(&pipeline));
    let link = ScoringLink {
        pipeline,
        exchange: exchange.clone(),
        following: VecDeque::new(),
        jobs,
        line: Turnstile::default(),
        back,
        threads: threads.0.len(),
        submitted: 0,
        next: 0,
        answered: 0,
        pending: BTreeMap::new(),
        early: BTreeMap::new(),
    };
    Ok((link, ScoringClient { exchange, requests }, threads))
}

/// The way back, on which a panic is reported: the other threads hold it open.
struct LastWord(Sender<Back>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Fails only when the stream has ended.
            let _ = self.0.try_send(Back::Lost);
        }
    }
}

fn serve(mut jobs: Receiver<Job>, back: &LastWord, requests: Option<Receiver<Request>>) {
    let (mut stream_open, mut http_open) = (true, requests.is_some());
    let mut requests = requests.unwrap_or_else(crossbeam_channel::never);
    let mut turns = Turns::default();
    while stream_open || http_open {
        // Where both wait, requests go first for their share of the time.
        if !jobs.is_empty()
            && turns.request_goes_first()
            && let Ok(request) = requests.try_recv()
        {
            let begun = Instant::now();
            answer(request);
            turns.request_took(begun.elapsed());
            continue;
        }
        // Biased: beyond that the stream's batch is taken.
        crossbeam_channel::select_biased! {
            recv(jobs) -> job => match job {
                Ok(job) => {
                    let begun = Instant::now();
                    let number = job.number;
                    let result = score(job);
                    turns.batch_took(begun.elapsed());
                    // Fails only when the stream has ended: the batch is of no use then.
                    let _ = back.0.send(Back::Scored { number, result });
                }
                Err(_) => {
                    stream_open = false;
                    jobs = crossbeam_channel::never();
                }
            },
            recv(requests) -> request => match request {
                Ok(request) => answer(request),
                Err(_) => {
                    http_open = false;
                    requests = crossbeam_channel::never();
                }
            },
        }
    }
}

/// Both steps of a batch, by the pipeline that it came with.
fn score(job: Job) -> Result<ScoredBatch, PipelineError> {
    let decoded = job.pipeline.decode(job.batch);
    // All batches before have been decoded: what must see records in the order of their partitions happens here, while the
    // turn is held.
    drop(job.place.turn());
    job.pipeline.score(decoded?)
}

fn answer(request: Request) {
    if request.reply.is_closed() {
        return;
    }
    match request.pipeline.answer(&request.records) {
        Ok(outcomes) => {
            // Fails only when the client has gone.
            let _ = request.reply.send(outcomes);
        }
        Err(error) => error!(error = %chain(&error), "a request cannot be scored"),
    }
}

#[cfg(test)]
mod tests;
