//! Latency from a record's intended send time to its receipt by a `read_committed` reader, open loop at a fixed rate.
//!
//! `cargo bench --bench stream_latency -- [--rate N] [--seconds N] [--model default|small]`, on real Apache Kafka. Records are
//! due at fixed moments whatever became of those before, and their latency counts from the moment they were due: a stall
//! delays all that were due in it (no coordinated omission). `--rate` should be half of what `stream_throughput` found.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, not a part of the library"
)]

mod payments;
mod rig;

use hdrhistogram::Histogram;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use rig::{PARTITIONS, PATIENCE, Topics, argument};
use std::path::Path;
use std::time::{Duration, Instant};

/// Records due in the first second warm connections and caches, and are not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// When record `row` is due, after the start.
fn due(row: usize, rate: f64) -> Duration {
    Duration::from_secs_f64(row as f64 / rate)
}

/// Sends every record when it is due; its key is its number.
fn send_all(topics: &Topics, messages: &[Vec<u8>], rate: f64, start: Instant) {
    let mut config = topics.broker.producer_config();
    config.set("linger.ms", "0");
    let producer: BaseProducer = config.create().unwrap();
    for (row, message) in messages.iter().enumerate() {
        let wait = (start + due(row, rate)).saturating_duration_since(Instant::now());
        std::thread::sleep(wait);
        let key = row.to_string();
        let record = BaseRecord::to(&topics.input)
            .partition(row as i32 % PARTITIONS)
            .key(&key)
            .payload(message);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE).unwrap();
}

/// Receives every output and tells the latencies, in microseconds.
fn receive_all(topics: &Topics, records: usize, rate: f64, start: Instant) -> Histogram<u64> {
    let mut config = topics.broker.client_config();
    config.set("group.id", "nobody");
    config.set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&topics.scores, partition, Position::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut latencies = Histogram::new_with_bounds(1, 300_000_000, 3).unwrap();
    let deadline = Instant::now() + PATIENCE;
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
        let row: usize = std::str::from_utf8(message.key().unwrap())
            .unwrap()
            .parse()
            .unwrap();
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

fn latencies(
    bundle: &Path,
    folder: &Path,
    more: &str,
    rate: f64,
    messages: &[Vec<u8>],
) -> Histogram<u64> {
    let topics = Topics::new();
    let (mut daemon, _) = topics.serve(bundle, folder, more);
    // The group is joined when the daemon is ready; both ends below connect before the first record is due.
    let start = Instant::now() + Duration::from_secs(2);
    let found = std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive_all(&topics, messages.len(), rate, start));
        send_all(&topics, messages, rate, start);
        reader.join().unwrap()
    });
    daemon.terminate();
    daemon.wait(PATIENCE);
    found
}

fn main() {
    let rate: f64 = argument("--rate", "500").parse().unwrap();
    let seconds: f64 = argument("--seconds", "20").parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("model");
    payments::train(rig::model_config(), &bundle);
    let count = (rate * (seconds + WARM_UP.as_secs_f64())) as usize;
    let batch = payments::fresh_generator().next_batch(count).unwrap();
    let messages = payments::json(&batch);
    println!(
        "| delivery | records/s | p50 ms | p99 ms | p99.9 ms | most ms |\n|---|---|---|---|---|---|"
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
        let found = latencies(&bundle, folder.path(), more, rate, &messages);
        let at = |quantile| found.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "| {name} | {rate:.0} | {:.1} | {:.1} | {:.1} | {:.1} |",
            at(0.5),
            at(0.99),
            at(0.999),
            found.max() as f64 / 1e3
        );
    }
}
