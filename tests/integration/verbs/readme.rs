//! The tour of the README, run as printed, on fewer rows and with a smaller model: what a new user types works.

use super::rig::{Rig, SMALL, read};
use arrow::array::Array;
use maskwatch::artifact::Detector;
use maskwatch::features::{DecodeLimits, JsonDecoder};
use std::fs;

const README: &str = include_str!("../../../README.md");

/// The part of the README from one heading to the next.
fn section(heading: &str) -> &'static str {
    let (_, rest) = README.split_once(heading).expect(heading);
    rest.split("\n## ").next().expect("a section")
}

/// The commands of the tour, in order.
fn commands() -> Vec<&'static str> {
    let lines = section("\n## Five minutes").lines();
    lines
        .filter_map(|line| line.strip_prefix("$ maskwatch "))
        .map(|line| line.split('#').next().expect("a command").trim())
        .collect()
}

/// The command on fewer rows and with a smaller model.
fn small(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "--rows");
    let mut words = match at {
        Some(at) => [&words[..at], &words[at + 2..]].concat(),
        None => words,
    };
    match words[0] {
        "generate" if words.contains(&"--after") => words.extend(["--rows", "2000"]),
        "generate" => words.extend(["--rows", "6000"]),
        "train" => words.extend(["--config", "small.toml"]),
        _ => {}
    }
    words.join(" ")
}

#[test]
fn the_commands_of_the_tour_work_as_printed() {
    let rig = Rig::empty();
    fs::write(rig.path("small.toml"), SMALL).expect("the configuration");
    let blocks = README.split("```toml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().expect("a block"));
    let serve: Vec<&str> = blocks.filter(|block| block.contains("[kafka]")).collect();
    fs::write(rig.path("serve.toml"), serve[0]).expect("the configuration of serve");

    let mut verbs = Vec::new();
    for command in commands() {
        let verb = command.split(' ').next().expect("a verb");
        verbs.push(verb);
        match verb {
            // Runs until it is stopped: the tests of the daemon are about it.
            "serve" => continue,
            // There is no such cluster here; that it is looked for shows that the flags are right.
            "generate" if command.contains("--brokers") => {
                let nowhere = command.replace("localhost:9092", "127.0.0.1:1");
                let error = rig.run(&nowhere).failed(1);
                assert!(error.contains("127.0.0.1:1: no broker answers"), "{error}");
            }
            _ => {
                rig.run(&small(command)).succeeded();
            }
        }
    }
    let expected = [
        "generate", "generate", "init", "train", "inspect", "evaluate", "score", "check", "serve",
        "generate",
    ];
    assert_eq!(verbs, expected);
    assert_eq!(read(&rig.path("scored.parquet")).num_rows(), 2_000);

    the_record_that_is_sent_over_http_is_whole(&rig);
}

/// The record of the curl line has every field that the training rows always had, and is scored.
fn the_record_that_is_sent_over_http_is_whole(rig: &Rig) {
    let (_, record) = README.split_once("/v1/score -d '").expect("the curl line");
    let record = record.split('\'').next().expect("a record");
    let detector = Detector::load(&rig.path("model")).expect("the bundle of the tour");
    let mut decoder = JsonDecoder::new(detector.schema(), DecodeLimits::default());
    let decoded = decoder
        .decode(&[Some(record.as_bytes())])
        .expect("a decoded record");
    assert_eq!(decoded.faults, []);
    for field in detector.scorer().model().encoder().fields() {
        let column = &decoded.batch[field.name.as_str()];
        assert!(
            field.nulls > 0 || column.is_valid(0),
            "{} is missing",
            field.name
        );
    }
    let scores = detector.score(&decoded.batch).expect("scores");
    assert!(scores.p_value[0] > 0.0);
}
