//! The daemon, put together: start-up and drain in one readable order.
//!
//! ```text
//! listen -> (train) -> load the bundle -> scoring threads -> models thread, stream thread ... signal ... drain -> HTTP ends
//! ```
//!
//! HTTP answers from the first step on: `/healthz` at once, `/readyz` when there is a model and a share of the
//! partitions. Used by `serve` and, with the in-process broker, by `demo`.

use super::budget_by;
use super::exit::Several;
use super::exit_service::Panicked;
use super::minutes;
use super::model_home::ModelHome;
use super::model_start::{Model, Training, prepare};
use super::model_watch::{self, ModelWatch};
use super::report::warn_all;
use crate::Detector;
use crate::config::Config;
use crate::config::StreamConfig;
use crate::delivery::calls::BoundedCalls;
use crate::delivery::fault::StreamError;
use crate::delivery::options::DeliveryConfig;
use crate::delivery::shutdown::Shutdown;
use crate::delivery::watchdog::{self, Limits as WatchLimits, Watched};
use crate::delivery::{self, Shared};
use crate::http::{self, HttpState, Limits, Reload, RequestScorer, ScoreOutcome, SubmitError};
use crate::kafka::KafkaConnector;
use crate::kafka::decoders::decoders;
use crate::pipeline::first_records::FirstRecordsMonitor;
use crate::pipeline::scoring::{self, SCORING_THREADS, ScoringClient, ScoringThreads};
use crate::pipeline::stream_monitor::StreamMonitor;
use crate::pipeline::{Pipeline, PipelineOptions, RecordScorer};
use crate::recipe::{Recipe, learn};
use crate::telemetry::heartbeat::Operation;
use crate::telemetry::{Heartbeat, Metrics, ModelFacts, Readiness, TrainingGauges};
use anyhow::Context;
use crossbeam_channel::Receiver;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

/// Threads of the HTTP server: it parses and waits; scoring has threads of its own.
const HTTP_THREADS: usize = 2;

/// How long the process may take to exit once the watchdog has asked for it; then it is aborted.
const EXIT_WITHIN: Duration = Duration::from_secs(2);

/// What ends HTTP and the scoring threads may take of a drain, at most; the watchdog ends the process where they take longer.
const ENDS_WITHIN_SHARE: u32 = 10;

/// How long the scoring threads may take to end after a drain, when only batches that nobody waits for are left with them.
const SCORING_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A running daemon.
pub struct Daemon {
    http: HttpServer,
    runtime: Runtime,
    stream: JoinHandle<Result<(), StreamError>>,
    scoring: ScoringThreads,
    readiness: Arc<Readiness>,
    shutdown: Shutdown,
    drain_timeout: Duration,
    bootstrap_servers: String,
    /// Looked at by the watchdog.
    heartbeat: Arc<Heartbeat>,
}

/// HTTP, listening.
struct HttpServer {
    /// Ends the server when it becomes true or is dropped.
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    address: SocketAddr,
}

fn http_runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start the threads of HTTP")
}

impl HttpServer {
    fn start(runtime: &Runtime, listen: SocketAddr, state: HttpState) -> anyhow::Result<Self> {
        let listener = runtime.block_on(http::bind(listen))?;
        let address = listener
            .local_addr()
            .context("the address that HTTP listens on")?;
        let (stop, mut stopped) = watch::channel(false);
        let task = runtime.spawn(http::run(listener, state, async move {
            // An error means that the daemon is gone: stop as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        tracing::info!(%address, "listening");
        Ok(Self {
            stop,
            task,
            address,
        })
    }
}

/// The scoring client, once there is one: HTTP listens before the model is loaded.
#[derive(Default)]
struct LateScorer(OnceLock<ScoringClient>);

impl RequestScorer for LateScorer {
    fn submit(
        &self,
        records: Vec<Vec<u8>>,
    ) -> Result<oneshot::Receiver<Vec<ScoreOutcome>>, SubmitError> {
        match self.0.get() {
            Some(client) => client.submit(records),
            None => Err(SubmitError::Unavailable),
        }
    }
}

impl Daemon {
    /// Starts everything; trains first if there is no bundle and the configuration says how.
    ///
    /// # Errors
    /// An address that is taken, a bundle that is refused, a budget that it cannot reach (64), a training that fails.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new()?);
        let readiness = Arc::new(Readiness::default());
        let shutdown = Shutdown::new();
        let runtime = http_runtime()?;

        let scorer = Arc::new(LateScorer::default());
        let late = Arc::clone(&scorer) as Arc<dyn RequestScorer>;
        let (state, orders) = http_state(&config, late, (&metrics, &readiness));
        let http = HttpServer::start(&runtime, config.listen, state)?;
        let training = Arc::new(AtomicBool::new(false));
        drain_on_signals(&runtime, &shutdown, &training)?;
        let heartbeat = Arc::new(Heartbeat::default());
        metrics.watch(Arc::clone(&heartbeat));
        let delivery = config.stream.delivery;
        let watched = Watched {
            heartbeat: Arc::clone(&heartbeat),
            shutdown: shutdown.clone(),
            readiness: Arc::clone(&readiness),
            metrics: Arc::clone(&metrics),
        };
        watch(watched.clone(), &delivery)?;

        let detector = Arc::new(load_or_train(&config, &metrics, &training)?);
        let pipeline = pipeline(&config.stream, &detector, &metrics)?;
        let (mut link, client, scoring) = scoring::start(pipeline, SCORING_THREADS)?;
        let exchange = client.exchange();
        let _ = scorer.0.set(client);
        readiness.model_loaded(detector.model_id());
        let watch = ModelWatch {
            home: ModelHome::at(&config.model_dir),
            config: config.stream.clone(),
            running: Arc::clone(&detector),
            exchange,
            watched,
            build: Box::new(self::pipeline),
        };
        watch.start(orders)?;

        let drain = delivery.drain_timeout;
        let calls = BoundedCalls::new(shutdown.clone(), drain, Arc::clone(&heartbeat));
        let mut connector = KafkaConnector::new(&config.stream.kafka, &delivery, calls.clone())?;
        let bootstrap_servers = connector.bootstrap_servers().to_owned();
        let cluster = minutes::Cluster {
            config: &config.stream,
            servers: &bootstrap_servers,
        };
        minutes::begin(&runtime, cluster, &detector, (&metrics, &readiness));
        let shared = Shared {
            options: config.stream.session_options(),
            metrics,
            readiness: Arc::clone(&readiness),
            shutdown: shutdown.clone(),
            calls,
        };
        let stream = stream_thread(move || delivery::run(&mut connector, &mut link, &shared))?;
        Ok(Self {
            http,
            runtime,
            stream,
            scoring,
            readiness,
            shutdown,
            drain_timeout: delivery.drain_timeout,
            bootstrap_servers,
            heartbeat,
        })
    }

    /// `host:port,...` of the cluster, the in-process one's too.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Where HTTP listens.
    pub fn address(&self) -> SocketAddr {
        self.http.address
    }

    /// Asks the daemon to drain; clones share the request.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Whether there is a model and a share of the partitions, and all goes well.
    pub fn is_ready(&self) -> bool {
        self.readiness.report().ready
    }

    /// Whether the stream has ended, by itself or because it was asked to.
    pub fn has_ended(&self) -> bool {
        self.stream.is_finished()
    }

    /// Waits until the stream has ended, then ends everything else.
    ///
    /// # Errors
    /// Why the stream ended, if nobody asked it to.
    pub fn join(self) -> anyhow::Result<()> {
        let ended = self.stream.join();
        // Whatever follows has to end in time too, also where nobody asked the stream to stop.
        self.shutdown.request();
        self.readiness.stopping();
        let limit = self.drain_timeout / ENDS_WITHIN_SHARE;
        // Nobody is left to receive only if HTTP has ended already.
        let _ = self.http.stop.send(true);
        let http = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, self.http.task).await });
        // Connections that are still open are cut off.
        self.runtime.shutdown_background();
        let stream = ended.map_err(|_| Panicked("the stream"))?;
        // A stream that failed may have left a scoring thread that never ends, which is not waited for.
        stream?;
        http.unwrap_or(Ok(())).context("the HTTP server failed")?;
        // The last client went with HTTP's state.
        let left = self.scoring.join(SCORING_ENDS_WITHIN.min(limit));
        let left = left.map_err(|_| Panicked("scoring"))?;
        if left > 0 {
            tracing::warn!(threads = left, "left scoring threads that do not end");
        }
        // Whatever the process does now has no limit of a drain: `demo` goes on to score a file.
        self.heartbeat.enter(Operation::Over);
        Ok(())
    }
}

/// What HTTP answers with, and where orders for another model come out.
fn http_state(
    config: &Config,
    scorer: Arc<dyn RequestScorer>,
    (metrics, readiness): (&Arc<Metrics>, &Arc<Readiness>),
) -> (HttpState, Receiver<model_watch::Order>) {
    let (reloader, orders) = model_watch::orders();
    let token = config.reload_token.clone();
    let reload = token.map(|token| Reload::new(token, reloader));
    let (metrics, readiness) = (Arc::clone(metrics), Arc::clone(readiness));
    let state = HttpState::new(metrics, readiness, scorer, Limits::default());
    (state.with_reload(reload), orders)
}

/// The thread that the stream runs on.
fn stream_thread(
    run: impl FnOnce() -> Result<(), StreamError> + Send + 'static,
) -> anyhow::Result<JoinHandle<Result<(), StreamError>>> {
    let thread = std::thread::Builder::new().name("stream".to_owned());
    thread
        .spawn(run)
        .context("cannot start the stream's thread")
}

/// The configured bundle, trained first if it is not there.
fn load_or_train(
    config: &Config,
    metrics: &Arc<Metrics>,
    training: &AtomicBool,
) -> anyhow::Result<Detector> {
    let dir = &config.model_dir;
    let detector = match prepare(&config.model()).map_err(Several::of)? {
        Model::Bundle(detector) => *detector,
        Model::Training(prepared) => {
            training.store(true, Ordering::Release);
            train(&prepared, dir, metrics)?;
            training.store(false, Ordering::Release);
            ModelHome::at(dir).load(Some(&config.stream.alerts))?
        }
    };
    if let Some(line) = budget_by::headline(&detector) {
        tracing::info!("{line}");
    }
    if let Some(line) = detector.cascade_warning(config.stream.alerts.budget) {
        tracing::warn!("{line}");
    }
    Ok(detector)
}

fn train(training: &Training, out: &Path, metrics: &Arc<Metrics>) -> anyhow::Result<()> {
    warn_all(&training.source.notes(&training.schema));
    let recipe = Recipe {
        source: &training.source,
        schema: &training.schema,
        config: &training.config,
        seed: training.seed,
        exclude_labelled: false,
        from: training.from.as_ref(),
        out,
    };
    let (manifest, run) = learn(&recipe, &mut TrainingGauges::new(Arc::clone(metrics)))?;
    tracing::info!(
        model_id = manifest.model_id,
        seconds = run.seconds,
        "trained"
    );
    Ok(())
}

/// Ends the process where the stream stands still or a drain takes too long.
fn watch(watched: Watched, delivery: &DeliveryConfig) -> anyhow::Result<()> {
    let limits = WatchLimits {
        stall: delivery.stall_timeout,
        drain: delivery.drain_timeout,
    };
    let end = |verdict| {
        // What libraries do at the end of a process could wait for the very thread that hangs, and so could the line.
        let _ = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(EXIT_WITHIN);
            std::process::abort()
        });
        watchdog::say(move || eprintln!("maskwatch: {verdict}"));
        std::process::exit(1)
    };
    watchdog::start(watched, limits, end).context("cannot start the watchdog's thread")
}

/// What scores a batch, built once: the detector with the decoders, options and metrics that go with it.
fn pipeline(
    config: &StreamConfig,
    detector: &Arc<Detector>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Arc<Pipeline>> {
    let schema = detector.schema();
    let options = PipelineOptions {
        alerts: config.alerts.clone(),
        emit: config.delivery.emit,
        tombstones: config.delivery.tombstones,
        root: config.input.root.clone(),
        outputs: config.kafka.outputs.clone(),
    };
    let decoders = decoders(&config.input, schema)?;
    let budget = config.alerts.budget;
    let fields: Vec<&str> = schema.features().map(|field| field.name.as_str()).collect();
    let of_model = metrics.model(ModelFacts {
        model_id: detector.model_id(),
        created_at_unix_s: detector.created_at_unix_s(),
        fields: &fields,
        alert_budget: budget.share(),
        cascade_share: detector.cascade_share(),
    });
    let first_records =
        FirstRecordsMonitor::new(Arc::clone(detector), budget, Arc::clone(&of_model));
    let monitor = StreamMonitor::new(Arc::clone(detector), budget, Arc::clone(&of_model));
    let scorer = Arc::clone(detector) as Arc<dyn RecordScorer>;
    let pipeline = Pipeline::new(scorer, decoders, schema, options, of_model)
        .with_first_records(first_records)
        .with_stream_monitor(monitor);
    Ok(Arc::new(pipeline))
}

/// The first SIGTERM or SIGINT asks for a drain, a second one ends the process at once; so does the first during
/// training, which has nothing to drain and leaves nothing behind but a temporary folder.
fn drain_on_signals(
    runtime: &Runtime,
    shutdown: &Shutdown,
    training: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (shutdown, training) = (shutdown.clone(), Arc::clone(training));
    runtime.spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if training.load(Ordering::Acquire) {
                tracing::warn!(
                    signal = name,
                    "stopped during training, no bundle was written"
                );
                std::process::exit(0);
            }
            if shutdown.is_requested() {
                tracing::warn!(signal = name, "stopped without waiting for the drain");
                std::process::exit(1);
            }
            tracing::info!(signal = name, "draining");
            shutdown.request();
        }
    });
    Ok(())
}
