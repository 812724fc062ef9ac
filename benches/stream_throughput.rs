//! What the stream costs a record, each part measured alone, and how near the daemon comes to what their sum allows.
//!
//! ```sh
//! cargo bench --bench stream_throughput -- [--data payments|numbers] [--model default|fast|small] [--records N]
//!     [--rounds N] [--peer "COMMAND"]
//! ```
//!
//! On real Apache Kafka (`tests/setup.sh test` fetches it): JSON in, JSON out, exactly once, one instance. A peer is any
//! program that reads its orders from the environment (`BENCH_BROKERS`, `BENCH_INPUT`, `BENCH_OUTPUT`, `BENCH_GROUP`,
//! `BENCH_BUNDLE`) and commits offsets in transactions, as `benches/peers/kafka_consumer.py` does on `--data numbers`. Parts,
//! daemon and peer take turns on the same records, so that ratios hold on a shared machine. After every run the output is
//! read back: every record must be there once, and its score must be right.

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

use arrow::array::RecordBatch;
use maskwatch::Detector;
use maskwatch::pipeline::envelope::{Envelope, event_time};
use maskwatch::pipeline::types::{Offset, Partition};
use maskwatch::records::{DecodeLimits, JsonDecoder};
use maskwatch_testing::daemon::Daemon;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation};
use records::Kind;
use rig::ends::Ends;
use rig::{PARTITIONS, PATIENCE, Topics, argument, peak_memory_mib, processor_seconds};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows of a batch, as the daemon's default.
const BATCH_ROWS: usize = 512;
/// Between two commits, as the daemon's default.
const INTERVAL: Duration = Duration::from_millis(100);
/// Records on which the parts without Kafka are measured, and scores are checked.
const SAMPLE_ROWS: usize = 2_048;
/// Processor time of ours after which a part is measured, a hundred times the steps in which Linux counts it.
const MEASURED_SECONDS: f64 = 1.0;
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What all runs share.
struct Bench {
    kind: Kind,
    /// The bundle's folder, and one for configurations.
    bundle: std::path::PathBuf,
    folder: tempfile::TempDir,
    detector: Detector,
    messages: Vec<Vec<u8>>,
    /// Of the first [`SAMPLE_ROWS`] records, by key: the daemon's score, and the mean surprise that a peer tells.
    expected: BTreeMap<Vec<u8>, (f32, f32)>,
    input: String,
}

/// Processor seconds a record of one part.
#[derive(Debug, Clone, Copy)]
struct Part {
    ours: f64,
    broker: f64,
}

/// Repeats `work`, which tells how many records it did, until a second of processor time is gone.
fn measure(topics: &Topics, mut work: impl FnMut() -> usize) -> Part {
    let own = || processor_seconds(std::process::id());
    let (ours, broker) = (own(), topics.broker_seconds());
    let mut done = 0;
    while own() - ours < MEASURED_SECONDS {
        done += work();
    }
    let done = done as f64;
    Part {
        ours: (own() - ours) / done,
        broker: (topics.broker_seconds() - broker) / done,
    }
}

/// Reads everything into batches as the stream does, and does nothing with it, until it is measured; also tells how many
/// records a second come once the first is there: the ceiling.
fn consume(bench: &Bench) -> (Part, f64) {
    let records = bench.messages.len();
    let topics = Topics::on_input(bench.input.clone());
    let (mut done, mut seconds) = (0, 0.0);
    let part = measure(&topics, || {
        // A new group, which begins at the beginning.
        let topics = Topics::on_input(bench.input.clone());
        seconds += Ends::open(&topics).read(records, BATCH_ROWS).as_secs_f64();
        done += records;
        records
    });
    (part, done as f64 / seconds)
}

fn envelope(row: usize, model_id: &str, bytes: &mut Vec<u8>) {
    let row = row as i64;
    let envelope = Envelope {
        event_id: Some("0123456789abcdef".into()),
        topic: Some("bench-in-0101000000-12345-1"),
        partition: Some(Partition((row % 4) as i32)),
        offset: Some(Offset(row)),
        event_time: event_time(1_767_571_200_123_000 + row * 1_000_000),
        model_id,
        anomaly_score: 1.0 + row as f32 / 7.0,
        p_value: 1.0 / (row as f64 + 3.0),
        alert: false,
        reasons: &[],
        p_value_unsupervised: None,
        p_value_supervised: None,
        fired: None,
    };
    envelope.write(bytes).unwrap();
}

/// Decode, score and serialise, on one thread.
fn parts_without_kafka(bench: &Bench, topics: &Topics) -> [Part; 3] {
    let messages = &bench.messages[..SAMPLE_ROWS.min(bench.messages.len())];
    let mut decoder = JsonDecoder::new(&bench.kind.schema(), DecodeLimits::default());
    let mut batches: Vec<RecordBatch> = Vec::new();
    let decoded = measure(topics, || {
        batches.clear();
        for chunk in messages.chunks(BATCH_ROWS) {
            let payloads: Vec<Option<&[u8]>> = chunk.iter().map(|m| Some(&m[..])).collect();
            batches.push(decoder.decode(&payloads).unwrap().batch);
        }
        messages.len()
    });
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let scored = alone.unwrap().install(|| {
        measure(topics, || {
            for batch in &batches {
                std::hint::black_box(bench.detector.score(batch).unwrap());
            }
            messages.len()
        })
    });
    let mut bytes = Vec::new();
    let serialised = measure(topics, || {
        bytes.clear();
        for row in 0..BATCH_ROWS {
            envelope(row, bench.detector.model_id(), &mut bytes);
        }
        std::hint::black_box(&bytes);
        BATCH_ROWS
    });
    [decoded, scored, serialised]
}

/// Envelopes in transactions with the offsets of their records; the commits' times are put into `commits`, in ms.
fn produce(commits: &mut Vec<f64>) -> Part {
    let envelopes: Vec<Vec<u8>> = (0..BATCH_ROWS)
        .map(|row| {
            let mut bytes = Vec::new();
            envelope(row, "0123456789abcdef", &mut bytes);
            bytes
        })
        .collect();
    let topics = Topics::new();
    let mut ends = Ends::open(&topics);
    let mut row = 0_usize;
    measure(&topics, || {
        let (begun, first) = (Instant::now(), row);
        // The daemon commits at as many outputs, whatever the time.
        while begun.elapsed() < INTERVAL && row - first < 1 << 15 {
            ends.send(row.to_string().as_bytes(), &envelopes[row % BATCH_ROWS]);
            row += 1;
        }
        commits.push(ends.commit().as_secs_f64() * 1e3);
        row - first
    })
}

const PARTS: [&str; 5] = ["consume", "decode", "score", "serialise", "produce"];

/// One measurement of every part, alone, on one thread of ours.
struct Parts {
    /// In the order of [`PARTS`].
    parts: [Part; 5],
    /// Raw consume: records a second, nothing scored.
    ceiling: f64,
}

fn parts(bench: &Bench, commits: &mut Vec<f64>) -> Parts {
    let topics = Topics::on_input(bench.input.clone());
    let (consumed, ceiling) = consume(bench);
    let [decoded, scored, serialised] = parts_without_kafka(bench, &topics);
    let produced = produce(commits);
    Parts {
        parts: [consumed, decoded, scored, serialised, produced],
        ceiling,
    }
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
    let commits = topics.broker.watch_commits(&topics.group, &topics.input);
    let deadline = Instant::now() + PATIENCE;
    let mut first = None;
    loop {
        let done: i64 = commits.offsets().values().sum();
        let ours = processor_seconds(program.pid());
        let state = (done, Instant::now(), ours, topics.broker_seconds());
        if done > 0 && first.is_none() {
            first = Some(state);
        }
        if let Some(first) = first.filter(|_| done as usize >= records) {
            let count = (done - first.0) as f64;
            assert!(count > 0.0, "too few records: all were in the first commit");
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
        std::thread::sleep(LOOK);
    }
}

/// Every record must have one output, and the sampled ones the score that `expected` names, within a relative `tolerance`.
fn check_outputs(
    bench: &Bench,
    topics: &Topics,
    expected: impl Fn(&(f32, f32)) -> f32,
    tolerance: f64,
) {
    let outputs = topics
        .broker
        .read_to_end(&topics.scores, Isolation::ReadCommitted, PATIENCE);
    let mut seen = vec![0_u32; bench.messages.len()];
    for output in &outputs {
        let key = output.key.as_deref().expect("an output without its key");
        let row: usize = std::str::from_utf8(key).unwrap().parse().unwrap();
        seen[row] += 1;
        let Some(known) = bench.expected.get(key) else {
            continue;
        };
        let envelope: serde_json::Value = serde_json::from_str(output.text()).unwrap();
        let found = envelope["anomaly_score"].as_f64().unwrap();
        let known = f64::from(expected(known));
        assert!(
            (found - known).abs() <= tolerance * known.abs().max(1.0),
            "record {row}: a score of {found}, expected {known}"
        );
    }
    let wrong = seen.iter().filter(|count| **count != 1).count();
    assert_eq!(wrong, 0, "records with no output or several");
}

fn run_daemon(bench: &Bench) -> Run {
    let topics = Topics::on_input(bench.input.clone());
    let mut serving = topics.serve(&bench.bundle, bench.folder.path(), "");
    let ready = Some(serving.ready_after);
    let run = watch(&topics, &mut serving.daemon, bench.messages.len(), ready);
    serving.stop();
    check_outputs(bench, &topics, |(score, _)| *score, 1e-6);
    run
}

fn run_peer(bench: &Bench, command: &str) -> Run {
    let topics = Topics::on_input(bench.input.clone());
    let environment = [
        ("BENCH_BROKERS", topics.broker.bootstrap_servers()),
        ("BENCH_INPUT", &topics.input),
        ("BENCH_OUTPUT", &topics.scores),
        ("BENCH_GROUP", &topics.group),
        ("BENCH_BUNDLE", bench.bundle.to_str().unwrap()),
    ];
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut program = Daemon::start(words[0], &words[1..], &environment);
    let run = watch(&topics, &mut program, bench.messages.len(), None);
    program.kill();
    check_outputs(bench, &topics, |(_, surprise)| *surprise, 1e-3);
    run
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

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Medians of the parts over all rounds; returns records a second that two cores allow.
fn print_parts(rounds: &[Parts], commits: &[f64]) -> f64 {
    println!(
        "\n| part, alone, one thread | µs of processor a record | of the broker |\n|---|---:|---:|"
    );
    let (mut ours, mut broker) = (0.0, 0.0);
    for (index, name) in PARTS.iter().enumerate() {
        let own = median(rounds.iter().map(|round| round.parts[index].ours));
        let its = median(rounds.iter().map(|round| round.parts[index].broker));
        println!("| {name} | {:.2} | {:.2} |", own * 1e6, its * 1e6);
        ours += own;
        // What the broker does while the others are measured is idling.
        if ["consume", "produce"].contains(name) {
            broker += its;
        }
    }
    println!("| sum | {:.2} | {:.2} |", ours * 1e6, broker * 1e6);
    let ceiling = median(rounds.iter().map(|round| round.ceiling));
    let commit = median(commits.iter().copied());
    println!("\nraw consume, nothing scored: {ceiling:.0} records/s");
    println!(
        "commit with offsets of a full transaction, nothing else running: median {commit:.1} ms"
    );
    2.0 / (ours + broker)
}

fn prepare() -> Bench {
    let kind = Kind::of(&argument("--data", "payments"));
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("model");
    kind.train(&rig::model_config(), &bundle);
    let detector = Detector::load(&bundle).unwrap();
    let rows: usize = argument("--records", "60000").parse().unwrap();
    let messages = records::json(&kind.fresh(rows));
    let topics = Topics::new();
    let key = |row: usize| row.to_string().into_bytes();
    let inputs: Vec<InputRecord> = (0..)
        .zip(&messages)
        .map(|(row, message)| {
            InputRecord::of(&message[..])
                .key(key(row))
                .partition(row as i32 % PARTITIONS)
        })
        .collect();
    topics.broker.produce(&topics.input, &inputs);
    let expected = expected_scores(kind, &detector, &messages);
    let operations = detector
        .scorer()
        .model()
        .operations()
        .map_or(0, |o| o.total());
    let bytes: usize = messages.iter().map(Vec::len).sum();
    println!(
        "{kind:?}, {rows} records of {} bytes; {:.1} million operations a record",
        bytes / rows,
        operations as f64 / 1e6
    );
    Bench {
        kind,
        bundle,
        folder,
        detector,
        messages,
        expected: (0..).map(key).zip(expected).collect(),
        input: topics.input,
    }
}

/// Score, and mean surprise over strata of masks and trained readings, of the first records.
fn expected_scores(kind: Kind, detector: &Detector, messages: &[Vec<u8>]) -> Vec<(f32, f32)> {
    let messages = &messages[..SAMPLE_ROWS.min(messages.len())];
    let mut decoder = JsonDecoder::new(&kind.schema(), DecodeLimits::default());
    let payloads: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(&m[..])).collect();
    let batch = decoder.decode(&payloads).unwrap().batch;
    assert_eq!(batch.num_rows(), messages.len(), "every record is good");
    let scores = detector.score(&batch).unwrap().anomaly_score;
    let model = detector.scorer().model();
    let records = model.encoder().encode(&batch).unwrap();
    let surprises = model.surprises(&records).unwrap();
    let axes = surprises.axes();
    // What a peer works out: what training fits, where a view hides fields.
    let strata = detector.manifest().description.views.strata();
    let masked: Vec<usize> = (0..axes.strata)
        .filter(|&stratum| strata[stratum].denoising.is_none())
        .collect();
    let mean = |row| {
        let mut sum = 0.0;
        for &stratum in &masked {
            for reading in 0..axes.trained {
                sum += surprises.total(row, stratum, reading);
            }
        }
        sum / (masked.len() * axes.trained) as f32
    };
    scores
        .into_iter()
        .enumerate()
        .map(|(row, score)| (score, mean(row)))
        .collect()
}

fn main() {
    let peer = argument("--peer", "");
    let rounds: usize = argument("--rounds", "3").parse().unwrap();
    let bench = prepare();
    // The first use of the broker compiles it; that is not what is measured.
    parts(&bench, &mut Vec::new());
    println!(
        "\n| program | records/s | µs of processor a record | of the broker | peak MiB | ready after s |\n\
         |---|---:|---:|---:|---:|---:|"
    );
    let (mut alone, mut commits) = (Vec::new(), Vec::new());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        alone.push(parts(&bench, &mut commits));
        ours.push(run_daemon(&bench));
        print_run("maskwatch", ours.last().unwrap());
        if !peer.is_empty() {
            theirs.push(run_peer(&bench, &peer));
            print_run("peer", theirs.last().unwrap());
        }
    }
    let allowed = print_parts(&alone, &commits);
    let rate = |runs: &[Run]| median(runs.iter().map(|run| run.rate));
    println!("2 cores / sum: {allowed:.0} records/s");
    let share = 100.0 * rate(&ours) / allowed;
    println!(
        "\nmedian of maskwatch: {:.0} records/s, {share:.0} % of what the sum allows",
        rate(&ours)
    );
    if !theirs.is_empty() {
        let ratio = rate(&ours) / rate(&theirs);
        println!("median of maskwatch over the peer's: {ratio:.2}");
    }
}
