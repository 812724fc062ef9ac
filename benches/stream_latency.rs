//! Latency from the moment at which a record was due to its receipt by a `read_committed` reader, open loop at a fixed rate.
//!
//! ```sh
//! cargo bench --bench stream_latency -- [--data payments|numbers] [--model default|fast|small] [--rate N] [--seconds N]
//! ```
//!
//! On real Apache Kafka. Records are due at fixed moments whatever became of those before, and their latency counts from the
//! moment they were due, not from when they were sent or appended: a stall delays all that were due in it (no coordinated
//! omission). `--rate` should be half of what `stream_throughput` found. Sender, reader, broker and daemon share the machine;
//! how much of it each takes is told, since on two cores they take turns.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, not a part of the library"
)]

mod records;
mod rig;

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use records::Kind;
use rig::ends::Ends;
use rig::{PARTITIONS, PATIENCE, Serving, Topics, argument, processor_seconds};
use std::path::Path;
use std::time::{Duration, Instant};

/// Records due in the first seconds warm connections, caches and the compiler of the broker, and are not counted.
const WARM_UP: Duration = Duration::from_secs(10);
/// Transactions whose commits are timed before anything else.
const COMMITS: usize = 200;
/// The bar of the processing part, and the bucket of the daemon's histogram that ends there.
const PROCESSING_BUCKET: &str = "maskwatch_scoring_seconds_bucket{le=\"0.005\"}";
const PROCESSING_COUNT: &str = "maskwatch_scoring_seconds_count";

/// When record `row` is due, after the start.
fn due(row: usize, rate: f64) -> Duration {
    Duration::from_secs_f64(row as f64 / rate)
}

/// Sends every record when it is due; its key is its number. Tells by how much the sender itself was late at most.
fn send_all(topics: &Topics, messages: &[Vec<u8>], rate: f64, start: Instant) -> Duration {
    let mut config = topics.broker.producer_config();
    // As producers are by default: what is due within 5 ms goes out together. The wait counts.
    config.set("linger.ms", "5");
    let producer: BaseProducer = config.create().unwrap();
    let mut late = Duration::ZERO;
    for (row, message) in messages.iter().enumerate() {
        let moment = start + due(row, rate);
        std::thread::sleep(moment.saturating_duration_since(Instant::now()));
        late = late.max(moment.elapsed());
        let key = row.to_string();
        let record = BaseRecord::to(&topics.input)
            .partition(row as i32 % PARTITIONS)
            .key(&key)
            .payload(message);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
    late
}

/// Receives every output and tells the latencies, in microseconds.
fn receive_all(topics: &Topics, records: usize, rate: f64, start: Instant) -> Histogram<u64> {
    let mut config = topics.broker.client_config();
    config.set("group.id", "nobody");
    config.set("isolation.level", "read_committed");
    // The broker may collect for 5 ms, and is asked two hundred times a second at most. The wait counts.
    config.set("fetch.min.bytes", "100000");
    config.set("fetch.wait.max.ms", "5");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&topics.scores, partition, Position::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut latencies = Histogram::new_with_bounds(1, 300_000_000, 3).unwrap();
    let mut seen = vec![false; records];
    let deadline = start + due(records, rate) + PATIENCE;
    let mut received = 0;
    while received < records {
        assert!(
            Instant::now() < deadline,
            "{received} of {records} outputs came in time"
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        let key = std::str::from_utf8(message.key().unwrap()).unwrap();
        let row: usize = key.parse().unwrap();
        assert!(!std::mem::replace(&mut seen[row], true), "{row} came twice");
        received += 1;
        if due(row, rate) >= WARM_UP {
            let latency = start.elapsed().saturating_sub(due(row, rate));
            latencies
                .record((latency.as_micros() as u64).max(1))
                .unwrap();
        }
    }
    latencies
}

/// What the daemon has done so far.
struct Work {
    batches: f64,
    /// Those decoded and scored within the bar.
    within: f64,
    at: Instant,
    /// Of daemon, broker, and this process.
    seconds: [f64; 3],
}

impl Work {
    fn of(serving: &Serving, topics: &Topics) -> Self {
        Self {
            batches: serving.metric(PROCESSING_COUNT),
            within: serving.metric(PROCESSING_BUCKET),
            at: Instant::now(),
            seconds: [
                processor_seconds(serving.daemon.pid()),
                topics.broker_seconds(),
                processor_seconds(std::process::id()),
            ],
        }
    }
}

/// What one run showed.
struct Found {
    latencies: Histogram<u64>,
    /// Share of batches that were decoded and scored within 5 ms.
    within: f64,
    /// Mean records of a batch.
    batch: f64,
    /// Of the daemon, a record.
    processor_seconds: f64,
    /// Cores that daemon, broker and this process kept busy.
    cores: [f64; 3],
    sender_late: Duration,
}

fn run(bundle: &Path, folder: &Path, more: &str, rate: f64, messages: &[Vec<u8>]) -> Found {
    let topics = Topics::new();
    let serving = topics.serve(bundle, folder, more);
    // The group is joined when the daemon is ready; both ends below connect before the first record is due.
    let start = Instant::now() + Duration::from_secs(2);
    let (latencies, warm, sender_late) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive_all(&topics, messages.len(), rate, start));
        let warm = scope.spawn(|| {
            std::thread::sleep((start + WARM_UP).saturating_duration_since(Instant::now()));
            Work::of(&serving, &topics)
        });
        let late = send_all(&topics, messages, rate, start);
        (reader.join().unwrap(), warm.join().unwrap(), late)
    });
    let all = Work::of(&serving, &topics);
    serving.stop();
    let used: [f64; 3] = std::array::from_fn(|of| all.seconds[of] - warm.seconds[of]);
    let elapsed = all.at.duration_since(warm.at).as_secs_f64();
    let (batches, records) = (all.batches - warm.batches, latencies.len() as f64);
    Found {
        latencies,
        within: (all.within - warm.within) / batches,
        batch: records / batches,
        processor_seconds: used[0] / records,
        cores: used.map(|seconds| seconds / elapsed),
        sender_late,
    }
}

/// Times commits with nothing else running: transactions of as many outputs as come in 100 ms.
fn time_commits(rate: f64, payload: &[u8]) {
    let topics = Topics::new();
    let mut ends = Ends::open(&topics);
    let mut times = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).unwrap();
    let outputs = (rate / 10.0).max(1.0) as usize;
    for round in 0..COMMITS {
        for row in 0..outputs {
            ends.send(row.to_string().as_bytes(), payload);
        }
        // Delivered before the commit, as nearly all are in a stream: what is timed is the end of the transaction.
        std::thread::sleep(Duration::from_millis(20));
        let time = ends.commit();
        if round >= COMMITS / 4 {
            times.record(time.as_micros() as u64).unwrap();
        }
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "commit with offsets, {outputs} outputs, nothing else running: p50 {:.1} ms, p99 {:.1} ms\n",
        at(0.5),
        at(0.99)
    );
}

fn main() {
    let rate: f64 = argument("--rate", "500").parse().unwrap();
    let seconds: f64 = argument("--seconds", "20").parse().unwrap();
    let kind = Kind::of(&argument("--data", "payments"));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("model");
    kind.train(&rig::model_config(), &bundle);
    let count = (rate * (seconds + WARM_UP.as_secs_f64())) as usize;
    let messages = records::json(&kind.fresh(count));
    time_commits(rate, &messages[0]);
    println!(
        "| delivery | records/s | p50 ms | p99 ms | p99.9 ms | most ms | batches within 5 ms | records a batch | µs of processor a record | cores: daemon, broker, bench | sender late, most ms |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    );
    let modes = [
        ("at least once", "[delivery]\nmode = \"at_least_once\"\n"),
        ("exactly once, every 100 ms", ""),
        (
            "exactly once, every 20 ms",
            "[delivery]\ntransaction_interval_ms = 20\n",
        ),
    ];
    for (name, more) in modes {
        let found = run(&bundle, folder.path(), more, rate, &messages);
        let at = |quantile| found.latencies.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "| {name} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} % | {:.1} | {:.1} | {:.2}, {:.2}, {:.2} | {:.1} |",
            at(0.5),
            at(0.99),
            at(0.999),
            found.latencies.max() as f64 / 1e3,
            100.0 * found.within,
            found.batch,
            found.processor_seconds * 1e6,
            found.cores[0],
            found.cores[1],
            found.cores[2],
            found.sender_late.as_secs_f64() * 1e3
        );
    }
}
