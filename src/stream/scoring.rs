//! The scoring threads: batches of the stream go in and come back scored, in order; requests over HTTP are answered in
//! between by the first, whenever no batch of the stream waits, and for a bounded share of its time where some always do.
//!
//! Each thread takes the next batch there is and does all of it, so that one decodes or writes while another scores. They may
//! finish in another order than they began; [`ScoringLink`] numbers batches and keeps those that come back early.
//!
//! Both queues are bounded. The stream's is never over-full, because the one [`ScoringLink`] counts what is in flight; of
//! requests, what finds the queue full is told so at once.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use tokio::sync::oneshot;
use tracing::error;

use super::fault::{StreamError, chain};
use super::message::MessageBatch;
use super::output::ScoredBatch;
use super::turns::Turns;
use super::worker::{ScoreOutcome, Worker, WorkerError};

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
}

/// What comes back from the threads.
enum Back {
    Scored {
        number: Number,
        result: Result<ScoredBatch, WorkerError>,
    },
    /// A thread has panicked: its batch will not come.
    Lost,
}

struct Request {
    records: Vec<Vec<u8>>,
    reply: oneshot::Sender<Vec<ScoreOutcome>>,
}

/// The stream's end of the scoring threads.
#[derive(Debug)]
pub struct ScoringLink {
    jobs: Sender<Job>,
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
    early: BTreeMap<Number, Result<ScoredBatch, WorkerError>>,
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

    /// Hands a batch over. Only when not [`is_full`](Self::is_full).
    ///
    /// # Errors
    /// [`Gone`].
    pub fn submit(&mut self, batch: MessageBatch) -> Result<(), Gone> {
        let number = self.submitted;
        self.jobs.send(Job { number, batch }).map_err(|_| Gone)?;
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
    ) -> Result<Option<Result<ScoredBatch, WorkerError>>, Gone> {
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

/// How often a thread that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

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
            std::thread::sleep(LOOK_EVERY);
        }
        let (ended, left): (Vec<_>, Vec<_>) = self.0.into_iter().partition(JoinHandle::is_finished);
        // All are taken back, whatever became of the first.
        let ended: Vec<_> = ended.into_iter().map(JoinHandle::join).collect();
        ended.into_iter().collect::<std::thread::Result<()>>()?;
        Ok(left.len())
    }
}

/// Starts a thread for each worker, which should differ in nothing; at least one. They end when both ends are dropped.
///
/// # Errors
/// A thread that the system refuses.
pub fn start(
    workers: Vec<Worker>,
) -> Result<(ScoringLink, ScoringClient, ScoringThreads), StreamError> {
    let (jobs, job_queue) = bounded(IN_FLIGHT_MAX);
    // Room for every batch and for the last word of every thread: nothing that comes back has to wait.
    let (back_queue, back) = bounded(IN_FLIGHT_MAX + workers.len());
    let (requests, request_queue) = bounded(REQUESTS_MAX);
    // Requests have the first thread only, so that a batch never waits for two of them.
    let mut request_queue = Some(request_queue);
    let threads = workers.into_iter().enumerate().map(|(index, worker)| {
        let (jobs, back, requests) = (job_queue.clone(), back_queue.clone(), request_queue.take());
        std::thread::Builder::new()
            .name(format!("scoring-{index}"))
            .spawn(move || serve(worker, jobs, &LastWord(back), requests))
            .map_err(StreamError::Thread)
    });
    let threads = ScoringThreads(threads.collect::<Result<_, _>>()?);
    let link = ScoringLink {
        jobs,
        back,
        threads: threads.0.len(),
        submitted: 0,
        next: 0,
        answered: 0,
        pending: BTreeMap::new(),
        early: BTreeMap::new(),
    };
    Ok((link, ScoringClient { requests }, threads))
}

/// The way back, on which a panic is told: the other threads hold it open.
struct LastWord(Sender<Back>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Fails only when the stream has ended.
            let _ = self.0.try_send(Back::Lost);
        }
    }
}

fn serve(
    mut worker: Worker,
    mut jobs: Receiver<Job>,
    back: &LastWord,
    requests: Option<Receiver<Request>>,
) {
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
            answer(&mut worker, request);
            turns.request_took(begun.elapsed());
            continue;
        }
        // Biased: beyond that the stream's batch is taken.
        crossbeam_channel::select_biased! {
            recv(jobs) -> job => match job {
                Ok(Job { number, batch }) => {
                    let begun = Instant::now();
                    let result = worker.process(batch);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::sync::{Arc, Mutex};

    use arrow::array::{AsArray, RecordBatch};
    use arrow::datatypes::Float64Type;

    use super::*;
    use crate::score::{Assessment, Explain, Scores};
    use crate::stream::message::Incoming;
    use crate::stream::promises::{config, worker};
    use crate::stream::types::{Offset, Partition};
    use crate::stream::worker::{RecordScorer, ScorerFailure};
    use crate::telemetry::Metrics;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a record asks of [`Obedient`] by its amount.
    const AT_ONCE: f64 = 1.0;
    const WHEN_ALLOWED: f64 = 2.0;
    const PANIC: f64 = 3.0;
    const REFUSE: f64 = 4.0;
    const A_MOMENT: f64 = 5.0;

    /// How long a batch of [`A_MOMENT`] takes.
    const MOMENT: Duration = Duration::from_millis(3);

    /// A scorer that does as the first amount of a batch says.
    struct Obedient {
        allowed: Receiver<()>,
        /// What the first thread did of [`A_MOMENT`], in order: whether it was a request.
        first: Arc<Mutex<Vec<bool>>>,
    }

    fn first_thread(batch: &RecordBatch) -> Option<bool> {
        let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
        let first = std::thread::current().name() == Some("scoring-0");
        first.then(|| ids.value(0) == REQUEST)
    }

    /// The id of records that come over HTTP.
    const REQUEST: &str = "request";

    impl RecordScorer for Obedient {
        fn model_id(&self) -> &str {
            "obedient"
        }

        fn assess(&self, batch: &RecordBatch, _: Explain) -> Result<Assessment, ScorerFailure> {
            let amounts = batch.column_by_name("amount").unwrap();
            match amounts.as_primitive::<Float64Type>().value(0) {
                WHEN_ALLOWED => self.allowed.recv_timeout(PATIENCE).unwrap(),
                PANIC => panic!("as it was told"),
                REFUSE => return Err("as it was told".into()),
                A_MOMENT => {
                    std::thread::sleep(MOMENT);
                    self.first.lock().unwrap().extend(first_thread(batch));
                }
                _ => {}
            }
            let rows = batch.num_rows();
            Ok(Assessment {
                scores: Scores {
                    anomaly_score: vec![1.0; rows],
                    p_value: vec![1.0; rows],
                    field_surprise: vec![1.0; rows],
                    in_full: rows,
                    parts: None,
                },
                reasons: vec![Vec::new(); rows],
            })
        }
    }

    /// The link, what keeps the threads from ending, and what allows a batch that waits.
    fn started() -> (ScoringLink, (ScoringClient, ScoringThreads), Sender<()>) {
        started_noting(Arc::default())
    }

    fn started_noting(
        first: Arc<Mutex<Vec<bool>>>,
    ) -> (ScoringLink, (ScoringClient, ScoringThreads), Sender<()>) {
        let (allow, allowed) = bounded(IN_FLIGHT_MAX);
        let scorer = Arc::new(Obedient { allowed, first });
        let metrics = Arc::new(Metrics::new().unwrap());
        let config = config("");
        let workers =
            (0..SCORING_THREADS).map(|_| worker(Arc::clone(&scorer) as _, &config, &metrics));
        let (link, client, threads) = start(workers.collect()).unwrap();
        (link, (client, threads), allow)
    }

    fn batch(amount: f64, offset: i64) -> MessageBatch {
        let mut batch = MessageBatch::new(1_000);
        let payload = format!("{{\"amount\": {amount}, \"id\": \"a\"}}");
        batch.push(&Incoming {
            topic: "in",
            partition: Partition(0),
            offset: Offset(offset),
            timestamp_ms: None,
            key: None,
            payload: Some(payload.as_bytes()),
        });
        batch
    }

    fn offset(scored: Result<Option<Result<ScoredBatch, WorkerError>>, Gone>) -> Option<i64> {
        let batch = scored.unwrap()?.unwrap();
        Some(batch.input.get(0).unwrap().offset().0)
    }

    /// Keeps batches waiting until `done` says so.
    fn catch_up(link: &mut ScoringLink, mut done: impl FnMut() -> bool) {
        let (begin, mut next) = (Instant::now(), 0);
        while !done() {
            assert!(begin.elapsed() < PATIENCE);
            while !link.is_full() {
                link.submit(batch(A_MOMENT, next)).unwrap();
                next += 1;
            }
            let _ = link.collect(Duration::from_millis(1)).unwrap();
        }
    }

    fn request(client: &ScoringClient) -> oneshot::Receiver<Vec<ScoreOutcome>> {
        let record = format!("{{\"amount\": {A_MOMENT}, \"id\": \"{REQUEST}\"}}");
        client.submit(vec![record.into_bytes()]).unwrap()
    }

    #[test]
    fn requests_get_their_share_and_no_more_while_the_stream_catches_up() {
        let first = Arc::new(Mutex::new(Vec::new()));
        let (mut link, (client, _threads), _allow) = started_noting(Arc::clone(&first));
        let mut waiting = std::collections::VecDeque::new();
        catch_up(&mut link, || {
            while waiting.len() < REQUESTS_MAX / 2 {
                waiting.push_back(request(&client));
            }
            while waiting
                .front_mut()
                .is_some_and(|reply| reply.try_recv().is_ok())
            {
                waiting.pop_front();
            }
            first.lock().unwrap().len() >= 200
        });
        let first = first.lock().unwrap();
        let requests = first.iter().filter(|request| **request).count();
        // A quarter, were all moments alike; a machine under load makes some longer than others.
        assert!(
            (10..=80).contains(&requests),
            "{requests} of {}",
            first.len()
        );
    }

    #[test]
    fn batches_come_back_in_the_order_of_submission_whatever_each_took() {
        let (mut link, _threads, allow) = started();
        link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
        link.submit(batch(AT_ONCE, 1)).unwrap();
        link.submit(batch(AT_ONCE, 2)).unwrap();
        // Those behind the first are done, and kept until it is.
        while link.early.len() < 2 {
            assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
        }
        assert!(!link.is_idle());
        allow.send(()).unwrap();
        let came = (0..3).map(|_| offset(link.collect(PATIENCE)).unwrap());
        assert_eq!(came.collect::<Vec<_>>(), [0, 1, 2]);
        assert!(link.is_idle());
    }

    #[test]
    fn batches_that_came_early_count_as_in_flight() {
        let (mut link, _threads, allow) = started();
        link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
        for offset in 1..IN_FLIGHT_MAX as i64 {
            link.submit(batch(AT_ONCE, offset)).unwrap();
        }
        while link.pending.len() > 1 {
            assert!(link.is_full());
            assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
        }
        assert!(link.is_full());
        allow.send(()).unwrap();
        assert_eq!(offset(link.collect(PATIENCE)), Some(0));
        assert!(!link.is_full());
    }

    #[test]
    fn what_was_forgotten_does_not_come_back() {
        let (mut link, _threads, allow) = started();
        link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
        link.submit(batch(AT_ONCE, 1)).unwrap();
        while link.early.is_empty() {
            assert_eq!(offset(link.collect(Duration::from_millis(1))), None);
        }
        link.forget();
        assert!(link.is_idle(), "nothing is to be taken back");
        for offset in 2..=IN_FLIGHT_MAX as i64 {
            assert!(!link.is_full());
            link.submit(batch(AT_ONCE, offset)).unwrap();
        }
        assert!(link.is_full(), "one is still being scored");
        for number in 2..=IN_FLIGHT_MAX as i64 {
            assert_eq!(offset(link.collect(PATIENCE)), Some(number));
        }
        allow.send(()).unwrap();
        assert_eq!(offset(link.collect(PATIENCE)), None);
        assert!(link.is_idle() && link.pending.is_empty());
    }

    #[test]
    fn a_batch_that_hangs_is_told_by_its_time_though_it_was_forgotten_and_others_come_back() {
        let (mut link, _threads, allow) = started();
        assert_eq!(link.in_work(), Duration::ZERO);
        link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
        link.forget();
        let begin = Instant::now();
        for offset in 1..20 {
            link.submit(batch(AT_ONCE, offset)).unwrap();
            assert!(link.collect(PATIENCE).unwrap().is_some());
        }
        let elapsed = begin.elapsed();
        assert!(link.in_work() >= elapsed);
        allow.send(()).unwrap();
        assert_eq!(offset(link.collect(PATIENCE)), None);
        assert_eq!(link.in_work(), Duration::ZERO);
    }

    #[test]
    fn the_time_of_a_batch_begins_when_a_thread_is_free_for_it() {
        let (mut link, _threads, allow) = started();
        for offset in 0..IN_FLIGHT_MAX as i64 {
            link.submit(batch(WHEN_ALLOWED, offset)).unwrap();
        }
        let queued = link.pending.clone();
        allow.send(()).unwrap();
        while link.answered == 0 {
            let _ = link.collect(Duration::from_millis(1)).unwrap();
        }
        let begun = SCORING_THREADS as Number;
        assert!(link.pending[&begun] > queued[&begun]);
        assert_eq!(link.pending[&(begun + 1)], queued[&(begun + 1)]);
        (1..IN_FLIGHT_MAX).for_each(|_| allow.send(()).unwrap());
    }

    #[test]
    fn the_error_of_a_batch_comes_in_its_turn() {
        let (mut link, _threads, _allow) = started();
        link.submit(batch(AT_ONCE, 0)).unwrap();
        link.submit(batch(REFUSE, 1)).unwrap();
        link.submit(batch(AT_ONCE, 2)).unwrap();
        assert_eq!(offset(link.collect(PATIENCE)), Some(0));
        let refused = link.collect(PATIENCE).unwrap().unwrap();
        assert!(matches!(refused, Err(WorkerError::Score(_))));
        assert_eq!(offset(link.collect(PATIENCE)), Some(2));
    }

    #[test]
    fn a_panic_of_one_thread_is_told_at_once_though_the_other_lives() {
        let (mut link, (client, threads), _allow) = started();
        link.submit(batch(PANIC, 0)).unwrap();
        assert_eq!(link.collect(PATIENCE).unwrap_err(), Gone);
        drop((link, client));
        assert!(threads.join(PATIENCE).is_err());
    }

    #[test]
    fn a_thread_that_hangs_is_left_behind_and_counted() {
        let (mut link, (client, threads), allow) = started();
        link.submit(batch(WHEN_ALLOWED, 0)).unwrap();
        link.forget();
        drop((link, client));
        let begin = Instant::now();
        while !threads.0.iter().any(JoinHandle::is_finished) {
            assert!(begin.elapsed() < PATIENCE);
        }
        assert_eq!(threads.join(Duration::from_millis(50)).unwrap(), 1);
        allow.send(()).unwrap();
    }

    #[test]
    fn a_panic_of_a_request_is_told_to_a_stream_that_waits_for_nothing() {
        let (mut link, (client, threads), _allow) = started();
        let record = format!("{{\"amount\": {PANIC}, \"id\": \"a\"}}").into_bytes();
        assert!(
            client
                .submit(vec![record])
                .unwrap()
                .blocking_recv()
                .is_err()
        );
        let begin = Instant::now();
        while link.collect(Duration::ZERO).is_ok() {
            assert!(begin.elapsed() < PATIENCE);
        }
        drop((link, client));
        assert!(threads.join(PATIENCE).is_err());
    }
}
