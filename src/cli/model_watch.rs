//! The thread that exchanges the model while the daemon runs.
//!
//! It looks at the pointer of the models folder, loads and checks a new model beside the running one, warms it up, and offers it
//! to the stream, which takes it at a transaction boundary. In flow the pointer and orders over HTTP, out flow an offer, or the
//! refusal in log, metric and readiness. Invariant: a model that is refused changes nothing, and is not tried again until
//! somebody names it anew.

use super::budget_by;
use super::model_fit::{check_follows, warm_up};
use super::model_home::{ModelHome, Wanted};
use crate::Detector;
use crate::config::StreamConfig;
use crate::delivery::watchdog::Watched;
use crate::http::{ModelReloader, ReloadBusy, Reloaded};
use crate::pipeline::Pipeline;
use crate::pipeline::exchange::PipelineExchange;
use crate::telemetry::Metrics;
use anyhow::{Context, ensure};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// How often the pointer is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon the end of the daemon is noticed.
const SLICE: Duration = Duration::from_millis(50);
/// How long the stream is waited for to take an offer before the order is answered: it has no session meanwhile.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at whether it has.
const TAKEN_POLL: Duration = Duration::from_millis(2);
/// Orders that wait; each leads to one look.
const ORDERS_MAX: usize = 4;

/// An order to look for another model: where the answer goes.
pub type Order = oneshot::Sender<Reloaded>;

/// The way in for orders.
pub struct Orders(Sender<Order>);

impl ModelReloader for Orders {
    fn reload(&self) -> Result<oneshot::Receiver<Reloaded>, ReloadBusy> {
        let (order, answer) = oneshot::channel();
        // Where nobody takes orders any more, the sender is dropped: that is the answer.
        match self.0.try_send(order) {
            Err(error) if error.is_full() => Err(ReloadBusy),
            _ => Ok(answer),
        }
    }
}

/// A way in for orders, and where they come out.
pub fn orders() -> (Arc<Orders>, Receiver<Order>) {
    let (sender, receiver) = bounded(ORDERS_MAX);
    (Arc::new(Orders(sender)), receiver)
}

/// Builds what scores by a model.
pub type Build = dyn Fn(&StreamConfig, &Arc<Detector>, &Arc<Metrics>) -> anyhow::Result<Arc<Pipeline>>
    + Send
    + Sync;

/// What the thread works with.
pub struct ModelWatch {
    /// Where the model is.
    pub home: ModelHome,
    /// What the stream runs on.
    pub config: StreamConfig,
    /// The model that serves, or was offered last.
    pub running: Arc<Detector>,
    /// Where it is offered.
    pub exchange: PipelineExchange,
    /// Counts, what `/readyz` answers, and what ends the thread.
    pub watched: Watched,
    /// How a pipeline is built.
    pub build: Box<Build>,
}

/// What is not tried again: a model as somebody named it, or trouble with the pointer.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Model(String, Option<SystemTime>),
    Pointer(String),
}

impl ModelWatch {
    /// Starts the thread. It ends when the daemon is asked to stop.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(self, orders: Receiver<Order>) -> anyhow::Result<()> {
        let watch = std::thread::Builder::new().name("models".to_owned());
        let started = watch.spawn(move || self.run(&orders));
        started
            .map(drop)
            .context("cannot start the thread that exchanges models")
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let (mut refusal, mut looked) = (None, Instant::now());
        while !self.watched.shutdown.is_requested() {
            match orders.recv_timeout(SLICE) {
                Ok(order) => {
                    let reloaded = self.look(&mut refusal, true);
                    // Fails only when the client has gone.
                    let _ = order.send(reloaded);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(SLICE),
            }
            if self.home.is_folder() && looked.elapsed() >= LOOK_EVERY {
                self.look(&mut refusal, false);
                looked = Instant::now();
            }
        }
    }

    /// Exchanges the model if another one is to serve. One that was refused is tried again only if that is `ordered`.
    fn look(&mut self, refusal: &mut Option<Refusal>, ordered: bool) -> Reloaded {
        let model_id = || self.running.model_id().to_owned();
        let (refused, error) = match self.home.wanted() {
            Ok(wanted) if wanted.model_id == self.running.model_id() => {
                *refusal = None;
                self.tell_refused(None);
                let model_id = model_id();
                return match self.exchange.standing().model_id() == model_id {
                    true => Reloaded::Unchanged { model_id },
                    false => Reloaded::Pending { model_id },
                };
            }
            Ok(wanted) => {
                let of = Refusal::Model(wanted.model_id.clone(), wanted.since);
                if !ordered && refusal.as_ref() == Some(&of) {
                    let model_id = model_id();
                    return Reloaded::Unchanged { model_id };
                }
                match self.prepare(&wanted) {
                    Ok((detector, pipeline)) => {
                        *refusal = None;
                        self.tell_refused(None);
                        return self.offer(detector, pipeline);
                    }
                    Err(error) => (of, error.context(format!("model {}", wanted.model_id))),
                }
            }
            Err(error) => (Refusal::Pointer(format!("{error:#}")), error),
        };
        let why = format!("{error:#}; {} goes on", model_id());
        if ordered || refusal.as_ref() != Some(&refused) {
            tracing::error!(error = why, running = model_id(), "model refused");
            self.watched.metrics.model_refused();
            self.tell_refused(Some(&why));
            *refusal = Some(refused);
        }
        Reloaded::Refused { why }
    }

    fn tell_refused(&self, why: Option<&str>) {
        let why = why.map(|why| format!("refused: {why}"));
        self.watched.readiness.model_refused(why.as_deref());
        self.watched.metrics.set_model_refused(why.is_some());
    }

    /// Loads, checks and warms up the model that is to serve.
    fn prepare(&self, wanted: &Wanted) -> anyhow::Result<(Arc<Detector>, Arc<Pipeline>)> {
        let begin = Instant::now();
        let detector = Arc::new(self.home.load(Some(&self.config.alerts))?);
        ensure!(
            detector.model_id() == wanted.model_id,
            "it was changed while it was loaded"
        );
        let fields = check_follows(self.running.schema(), detector.schema())?;
        warm_up(&detector)?;
        let pipeline = (self.build)(&self.config, &detector, &self.watched.metrics)?;
        let (model_id, running) = (detector.model_id(), self.running.model_id());
        let seconds = begin.elapsed().as_secs_f64();
        let bundle = wanted.bundle.display().to_string();
        tracing::info!(
            model_id,
            running,
            bundle,
            seconds,
            "model loaded beside the running one"
        );
        if let Some(fields) = fields {
            tracing::warn!(model_id, "{fields}");
        }
        if let Some(line) = budget_by::headline(&detector) {
            tracing::info!("{line}");
        }
        if let Some(line) = detector.cascade_warning(self.config.alerts.budget) {
            tracing::warn!("{line}");
        }
        Ok((detector, pipeline))
    }

    /// Offers a model, and waits until the stream has taken it. The one before is kept meanwhile, so that the stream need not
    /// take it apart.
    fn offer(&mut self, detector: Arc<Detector>, pipeline: Arc<Pipeline>) -> Reloaded {
        let model_id = detector.model_id().to_owned();
        let _before = self.exchange.standing();
        let _detector = std::mem::replace(&mut self.running, detector);
        self.exchange.offer(Arc::clone(&pipeline));
        let begin = Instant::now();
        while !Arc::ptr_eq(&self.exchange.standing(), &pipeline) {
            if begin.elapsed() >= TAKEN_WITHIN || self.watched.shutdown.is_requested() {
                return Reloaded::Pending { model_id };
            }
            std::thread::sleep(TAKEN_POLL);
        }
        Reloaded::Exchanged { model_id }
    }
}
