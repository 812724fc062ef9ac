//! What the stream costs a record, each part measured alone, and how near the daemon comes to what their sum allows.
//!
//! `cargo bench --bench stream_throughput -- [--records N] [--model default|small] [--peer "COMMAND"]`, on real Apache Kafka
//! (`tests/setup.sh test` fetches it). JSON in, JSON out, exactly once, one instance. A peer is any program that reads its
//! orders from the environment (`BENCH_BROKERS`, `BENCH_INPUT`, `BENCH_OUTPUT`, `BENCH_GROUP`, `BENCH_BUNDLE`) and commits
//! offsets in transactions; it is measured on the same records in the same way. Runs of both take turns.

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

use arrow::array::RecordBatch;
use maskwatch::artifact::Detector;
use maskwatch::features::{DecodeLimits, JsonDecoder};
use maskwatch::stream::envelope::{Envelope, event_time};
use maskwatch::stream::types::{Offset, Partition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use rig::support::daemon::Daemon;
use rig::support::kafka_topics::InputRecord;
use rig::{PARTITIONS, PATIENCE, Topics, argument, peak_memory_mib, processor_seconds};
use std::path::Path;
use std::time::{Duration, Instant};

/// Rows of a batch, as the daemon's default.
const BATCH_ROWS: usize = 512;
/// Between two commits, as the daemon's default.
const INTERVAL: Duration = Duration::from_millis(100);
/// Records on which the parts without Kafka are measured.
const SAMPLE_ROWS: usize = 4_096;
/// Runs of the daemon, and of the peer, in turns.
const ROUNDS: usize = 3;

/// Processor seconds a record of one part.
struct Part {
    name: &'static str,
    ours: f64,
    broker: f64,
}

fn broker_seconds(topics: &Topics) -> f64 {
    topics.broker.pid().map_or(0.0, processor_seconds)
}

/// Runs `work` over `records` and tells its processor seconds a record.
fn measure(name: &'static str, topics: &Topics, records: usize, work: impl FnOnce()) -> Part {
    let before = (
        processor_seconds(std::process::id()),
        broker_seconds(topics),
    );
    work();
    let after = (
        processor_seconds(std::process::id()),
        broker_seconds(topics),
    );
    Part {
        name,
        ours: (after.0 - before.0) / records as f64,
        broker: (after.1 - before.1) / records as f64,
    }
}

/// Reads everything and does nothing with it: the ceiling.
fn consume(topics: &Topics, records: usize) -> (Part, f64) {
    let mut config = topics.broker.client_config();
    config.set("group.id", "nobody");
    config.set("isolation.level", "read_committed");
    config.set("queued.min.messages", "20000");
    config.set("fetch.queue.backoff.ms", "10");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&topics.input, partition, Position::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut begin = Instant::now();
    let part = measure("consume", topics, records, || {
        let deadline = Instant::now() + PATIENCE;
        let mut read = 0;
        while read < records && Instant::now() < deadline {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                message.unwrap();
                if read == 0 {
                    begin = Instant::now();
                }
                read += 1;
            }
        }
        assert_eq!(read, records, "the input was not read to its end");
    });
    (part, records as f64 / begin.elapsed().as_secs_f64())
}

fn envelope(row: usize, model_id: &str, id: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(320);
    let row = row as i64;
    let envelope = Envelope {
        event_id: Some(id.into()),
        topic: Some("bench-in"),
        partition: Some(Partition((row % 4) as i32)),
        offset: Some(Offset(row)),
        event_time: event_time(1_767_571_200_123_000 + row * 1_000_000),
        model_id,
        anomaly_score: 1.0 + row as f32 / 7.0,
        p_value: 1.0 / (row as f64 + 3.0),
        alert: false,
        reasons: &[],
    };
    envelope.write(&mut bytes).unwrap();
    bytes
}

/// Decode, score and serialise, on this thread alone.
fn parts_without_kafka(topics: &Topics, detector: &Detector, messages: &[Vec<u8>]) -> [Part; 3] {
    let messages = &messages[..SAMPLE_ROWS.min(messages.len())];
    let schema = payments::schema();
    let mut decoder = JsonDecoder::new(&schema, DecodeLimits::default());
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut decode = || {
        batches.clear();
        for chunk in messages.chunks(BATCH_ROWS) {
            let payloads: Vec<Option<&[u8]>> = chunk.iter().map(|m| Some(&m[..])).collect();
            batches.push(decoder.decode(&payloads).unwrap().batch);
        }
    };
    decode();
    let repeats = 8;
    let decoded = measure("decode", topics, repeats * messages.len(), || {
        (0..repeats).for_each(|_| decode());
    });
    detector.score(&batches[0]).unwrap();
    let scored = measure("score", topics, messages.len(), || {
        for batch in &batches {
            std::hint::black_box(detector.score(batch).unwrap());
        }
    });
    let serialised = measure("serialise", topics, repeats * messages.len(), || {
        for row in 0..repeats * messages.len() {
            std::hint::black_box(envelope(row, detector.model_id(), "0123456789abcdef"));
        }
    });
    [decoded, scored, serialised]
}

/// Produces `records` envelopes in transactions; also tells the median time of a commit, in ms.
fn produce(topics: &Topics, records: usize) -> (Part, f64) {
    let mut config = topics.broker.client_config();
    config
        .set("transactional.id", topics.broker.unique_name("bench"))
        .set("linger.ms", "2")
        .set("compression.type", "lz4");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let envelopes: Vec<Vec<u8>> = (0..records.min(SAMPLE_ROWS))
        .map(|row| envelope(row, "0123456789abcdef", "0123456789abcdef"))
        .collect();
    let mut commits = Vec::new();
    let part = measure("produce", topics, records, || {
        producer.begin_transaction().unwrap();
        let mut begun = Instant::now();
        for row in 0..records {
            let payload = &envelopes[row % envelopes.len()];
            let mut record = BaseRecord::<[u8], [u8]>::to(&topics.scores).payload(payload);
            while let Err((_, returned)) = producer.send(record) {
                record = returned;
                producer.poll(Duration::from_millis(5));
            }
            if begun.elapsed() >= INTERVAL || row + 1 == records {
                let begin = Instant::now();
                producer.commit_transaction(PATIENCE).unwrap();
                commits.push(begin.elapsed().as_secs_f64() * 1e3);
                if row + 1 < records {
                    producer.begin_transaction().unwrap();
                }
                begun = Instant::now();
            }
        }
    });
    commits.sort_by(f64::total_cmp);
    (part, commits[commits.len() / 2])
}

/// What a program did with the records of a topic.
struct Run {
    /// Records a second between the first commit seen and the last.
    rate: f64,
    ours: f64,
    broker: f64,
    memory_mib: f64,
    ready: Option<Duration>,
}

/// Watches a program from its first commit to its last.
fn watch(topics: &Topics, program: &mut Daemon, records: usize, ready: Option<Duration>) -> Run {
    let deadline = Instant::now() + PATIENCE;
    let mut first = None;
    loop {
        let done = topics.committed();
        let ours = processor_seconds(program.pid());
        let state = (done, Instant::now(), ours, broker_seconds(topics));
        if done > 0 && first.is_none() {
            first = Some(state);
        }
        if let Some(first) = first.filter(|_| done as usize >= records) {
            let count = (done - first.0).max(1) as f64;
            return Run {
                rate: count / (state.1 - first.1).as_secs_f64(),
                ours: (state.2 - first.2) / count,
                broker: (state.3 - first.3) / count,
                memory_mib: peak_memory_mib(program.pid()),
                ready,
            };
        }
        assert!(
            program.is_running() && Instant::now() < deadline,
            "{done} of {records} records; its log: {}",
            program.log()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run_daemon(input: &str, bundle: &Path, folder: &Path, records: usize) -> Run {
    let topics = Topics::on_input(input.to_owned());
    let (mut daemon, ready) = topics.serve(bundle, folder, "");
    let run = watch(&topics, &mut daemon, records, Some(ready));
    daemon.terminate();
    daemon.wait(PATIENCE);
    run
}

fn run_peer(input: &str, bundle: &Path, command: &str, records: usize) -> Run {
    let topics = Topics::on_input(input.to_owned());
    let environment = [
        ("BENCH_BROKERS", topics.broker.bootstrap_servers()),
        ("BENCH_INPUT", &topics.input),
        ("BENCH_OUTPUT", &topics.scores),
        ("BENCH_GROUP", &topics.group),
        ("BENCH_BUNDLE", bundle.to_str().unwrap()),
    ];
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut program = Daemon::start_program(words[0], &words[1..], &environment);
    watch(&topics, &mut program, records, None)
}

fn print_run(name: &str, run: &Run) {
    let ready = run.ready.map_or("-".to_owned(), |ready| {
        format!("{:.2}", ready.as_secs_f64())
    });
    println!(
        "| {name} | {:.0} | {:.1} | {:.1} | {:.0} | {ready} |",
        run.rate,
        run.ours * 1e6,
        run.broker * 1e6,
        run.memory_mib
    );
}

fn median_rate(runs: &[Run]) -> f64 {
    let mut rates: Vec<f64> = runs.iter().map(|run| run.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn print_parts(topics: &Topics, detector: &Detector, messages: &[Vec<u8>]) -> f64 {
    let records = messages.len();
    let (consumed, ceiling) = consume(topics, records);
    let (produced, commit_ms) = produce(topics, records);
    let mut parts = vec![consumed, produced];
    parts.extend(parts_without_kafka(topics, detector, messages));
    println!("| part, alone | us of processor a record | of the broker |\n|---|---|---|");
    for part in &parts {
        let broker = part.broker * 1e6;
        println!("| {} | {:.2} | {broker:.2} |", part.name, part.ours * 1e6);
    }
    let [ours, broker] = [
        parts.iter().map(|part| part.ours).sum::<f64>(),
        parts[..2].iter().map(|part| part.broker).sum(),
    ];
    println!("| sum | {:.2} | {:.2} |", ours * 1e6, broker * 1e6);
    println!(
        "\nraw consume, nothing scored: {ceiling:.0} records/s; commit of a transaction, alone: {commit_ms:.1} ms"
    );
    2.0 / (ours + broker)
}

fn main() {
    let records: usize = argument("--records", "30000").parse().unwrap();
    let peer = argument("--peer", "");
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("model");
    payments::train(rig::model_config(), &bundle);
    let detector = Detector::load(&bundle).unwrap();
    let batch = payments::fresh_generator().next_batch(records).unwrap();
    let messages = payments::json(&batch);
    let topics = Topics::new();
    let inputs: Vec<InputRecord> = (0..)
        .zip(&messages)
        .map(|(row, message)| InputRecord::of(&message[..]).partition(row % PARTITIONS))
        .collect();
    topics.broker.produce(&topics.input, &inputs);

    let allowed = print_parts(&topics, &detector, &messages);
    println!("2 cores / sum: {allowed:.0} records/s\n");
    println!(
        "| program | records/s | us of processor a record | of the broker | peak MiB | ready after s |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(run_daemon(&topics.input, &bundle, folder.path(), records));
        print_run("maskwatch", ours.last().unwrap());
        if !peer.is_empty() {
            theirs.push(run_peer(&topics.input, &bundle, &peer, records));
            print_run("peer", theirs.last().unwrap());
        }
    }
    let share = 100.0 * median_rate(&ours) / allowed;
    println!("\nmedian of maskwatch: {share:.0} % of what the sum allows");
    if !theirs.is_empty() {
        let ratio = median_rate(&ours) / median_rate(&theirs);
        println!("median of maskwatch over the peer's: {ratio:.1}");
    }
}
