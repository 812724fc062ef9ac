//! How near scoring comes to the machine's matrix products, one thread, by batch size.
//!
//! `cargo bench --bench roofline -- [--rounds N]`, on records of 29 numbers: the default model with its cascade, all views for every
//! record, and fast scoring. A round takes
//! the largest rate that products of several shapes reach (`gemm`, f32) and each batch size once; the table has medians over
//! the rounds, a line for each set of vector instructions that the processor has, and the share is the median of each round's own
//! ratio. Times are those of the thread on the processor, so that the ratios hold on a machine that does other work.
//! Scoring is everything from canonical columns to scores: encoding, all views, p-values.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark, not a part of the library"
)]

mod records;

use arrow::array::RecordBatch;
use maskwatch::Detector;
use maskwatch::model::ops::product::{Matrix, product};
use maskwatch::model::ops::simd::Instructions;
use maskwatch::records::Canonicaliser;
use maskwatch::score::kernel_instructions;
use records::Kind;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;

const MODELS: [(&str, &str); 3] = [
    ("cascade", ""),
    ("full", "[cascade]\nshare = 0.0\n"),
    (
        "fast",
        "[views]\nscoring = \"fast\"\n[cascade]\nshare = 0.0\n",
    ),
];
const BATCH_ROWS: [usize; 4] = [1, 32, 256, 1_024];
/// Rows, inner side and columns of products: a tile of a kernel, a block of a batch, and what is usually quoted.
const SHAPES: [(usize, usize, usize); 3] = [(128, 192, 192), (1_024, 192, 192), (4_096, 256, 256)];
/// Each measurement repeats its work for at least so many seconds.
const SLICE: f64 = 0.06;

struct Case {
    name: &'static str,
    instructions: &'static str,
    batch: RecordBatch,
    /// Million useful operations a record.
    megaflop: f64,
    /// Seconds a record, a round each.
    seconds: Vec<f64>,
    /// Of the round's peak.
    shares: Vec<f64>,
}

/// Seconds of the processor that this thread has had.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Seconds of the processor that one call of `work` takes, the mean over a slice.
fn seconds(mut work: impl FnMut()) -> f64 {
    let (start, mut calls) = (processor_time(), 0);
    loop {
        work();
        calls += 1;
        let taken = processor_time() - start;
        if taken >= SLICE {
            return taken / f64::from(calls);
        }
    }
}

/// GFLOP/s of the best shape.
fn peak() -> f64 {
    let rate = |&(m, k, n): &(usize, usize, usize)| {
        let (a, b) = (vec![0.5f32; m * k], vec![0.25f32; k * n]);
        let mut out = vec![0f32; m * n];
        let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
        let seconds = seconds(|| product(a, b, black_box(&mut out), false));
        2.0 * (m * k * n) as f64 / seconds / 1e9
    };
    SHAPES.iter().map(rate).fold(0.0, f64::max)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What scoring can run with on this processor; one number at a time only where there is nothing else.
fn instruction_sets() -> Vec<Instructions> {
    let mut sets = Instructions::available();
    let vectors = sets.iter().any(|set| set.lanes() > 1);
    sets.retain(|set| set.lanes() > 1 || !vectors);
    sets
}

/// The processor's name and family as Linux tells them: on another one the ratios are others.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(": "));
        value.map_or("unknown", |(_, value)| value).to_owned()
    };
    format!(
        "{}, family {}, model {}",
        of("model name"),
        of("cpu family"),
        of("model\t")
    )
}

fn rounds() -> usize {
    let mut arguments = std::env::args();
    match arguments.by_ref().find(|argument| argument == "--rounds") {
        Some(_) => arguments.next().unwrap().parse().unwrap(),
        None => 21,
    }
}

/// Million useful operations a record of a batch: the first stage of all, if there is one, and all views of some.
fn megaflop(detector: &Detector, batch: &RecordBatch) -> f64 {
    let full = detector.scorer().model().operations().unwrap().total();
    let first = detector.scorer().cascade();
    let first = first.map(|of| of.first().model().operations().unwrap().total());
    let in_full = detector.score(batch).unwrap().in_full as f64 / batch.num_rows() as f64;
    (first.map_or(0.0, |first| first as f64) + in_full * full as f64) / 1e6
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Kind::Numbers.schema();
    let fresh = Kind::Numbers.fresh(1_024);
    let canonicaliser = Canonicaliser::new(&schema, &fresh.schema(), "records").unwrap();
    let canonical = canonicaliser.canonicalise(&fresh).unwrap().batch;
    let mut detectors = Vec::new();
    for (name, config) in MODELS {
        let out = folder.path().join(name);
        Kind::Numbers.train(&format!("{config}[training]\nsteps = 20\n"), &out);
        for instructions in instruction_sets() {
            let detector = Detector::load(&out).unwrap();
            let detector = detector.with_instructions(instructions).unwrap();
            detectors.push((name, instructions.name(), detector));
        }
    }
    let mut cases = Vec::new();
    for (name, instructions, detector) in &detectors {
        cases.push(BATCH_ROWS.map(|rows| Case {
            name,
            instructions,
            batch: canonical.slice(0, rows),
            megaflop: megaflop(detector, &canonical.slice(0, rows)),
            seconds: Vec::new(),
            shares: Vec::new(),
        }));
    }
    let mut peaks = Vec::new();
    for _ in 0..rounds() {
        let peak = peak();
        peaks.push(peak);
        for ((_, _, detector), cases) in detectors.iter().zip(&mut cases) {
            for case in cases {
                let once = seconds(|| {
                    black_box(detector.score(&case.batch).unwrap());
                });
                let record = once / case.batch.num_rows() as f64;
                case.seconds.push(record);
                case.shares.push(case.megaflop / 1e3 / record / peak);
            }
        }
    }
    report(&mut peaks, cases.iter_mut().flatten());
}

/// Prints what was measured.
fn report<'a>(peaks: &mut [f64], cases: impl Iterator<Item = &'a mut Case>) {
    println!(
        "processor: {}; scoring takes {}",
        processor(),
        kernel_instructions().name()
    );
    if cfg!(debug_assertions) {
        println!(
            "built with debug assertions: `gemm` checks its pointers, the peak is far too low and every share too high"
        );
    }
    println!(
        "matrix product, the best of {SHAPES:?}: {:.1} GFLOP/s\n",
        median(peaks)
    );
    println!(
        "| scoring | instructions | million operations a record | batch | µs a record | records/s | share of the peak |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for case in cases {
        let record = median(&mut case.seconds);
        println!(
            "| {} | {} | {:.2} | {} | {:.1} | {:.0} | {:.0} % |",
            case.name,
            case.instructions,
            case.megaflop,
            case.batch.num_rows(),
            record * 1e6,
            1.0 / record,
            100.0 * median(&mut case.shares)
        );
    }
}

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.unwrap().install(measure);
}
