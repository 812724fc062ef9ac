//! What few rows allow: every verb names its minimum, and what cannot be promised is said before the work.

use super::rig::{Rig, read, write};
use std::fs;

/// The payments' first rows as a file of their own.
fn first(rig: &Rig, rows: usize, name: &str) {
    let payments = read(&rig.path("payments.parquet"));
    write(&rig.path(name), &payments.slice(0, rows));
}

#[test]
fn what_500_rows_cannot_promise_is_said_before_training() {
    let rig = Rig::new();
    rig.init();
    first(&rig, 500, "few.parquet");
    let line = "train --data few.parquet --schema schema.toml --config train.toml --out bundle";
    let ran = rig.run(line);
    let told = "100 calibration rows (a fifth of the training rows) are too few";
    let (warning, training) = (ran.stderr.find(told), ran.stderr.find("training the model"));
    assert!(warning.is_some() && warning < training, "{}", ran.stderr);
    assert!(ran.stderr.contains("4995 training rows"), "{}", ran.stderr);
    // Once is enough.
    assert_eq!(ran.stderr.matches("warning").count(), 1, "{}", ran.stderr);
    ran.succeeded();

    let line = "tune --model bundle --data payments.parquet --calibration few.parquet --out tuned";
    let message = rig.run(line).stderr;
    for told in [
        "500 calibration rows (all that --calibration names) are too few",
        "needs 1999 calibration rows, since two detectors share the budget",
        "a budget of 0.0040 or more",
    ] {
        assert!(message.contains(told), "{message}");
    }
}

#[test]
fn a_daemon_that_could_never_alert_is_refused_before_it_trains() {
    let rig = Rig::new();
    rig.init();
    first(&rig, 500, "few.parquet");
    let config = "[kafka]\nbootstrap_servers = \"embedded\"\ngroup_id = \"g\"\ninput_topics = [\"t\"]\n\
                  scores_topic = \"s\"\n[delivery]\nmode = \"at_least_once\"\n[input]\nformat = \"json\"\n\
                  [model]\ndir = \"bundle\"\n[alerts]\nbudget = 0.001\n[http]\nlisten = \"127.0.0.1:0\"\n\
                  [train]\ndata = [\"few.parquet\"]\nschema = \"schema.toml\"\n";
    fs::write(rig.path("serve.toml"), config).unwrap();
    let message = rig.run("serve --config serve.toml").failed(64);
    let told = "alerts.budget = 0.001: could never be reached: 500 rows leave 100 calibration rows";
    assert!(message.contains(told), "{message}");
    assert!(!message.contains("training the model"), "{message}");
    assert!(!rig.path("bundle").exists());
}

#[test]
fn with_10_rows_every_verb_names_its_minimum_or_does_its_work() {
    let rig = Rig::trained();
    first(&rig, 10, "ten.parquet");
    let refused = [
        (
            "init --data ten.parquet --out s.toml",
            "10 rows; init needs at least 20",
        ),
        (
            "train --data ten.parquet --schema schema.toml --out new",
            "10 rows to train on; training needs at least 50",
        ),
        (
            "tune --model bundle --data ten.parquet --calibration payments.parquet --out new",
            "0 rows labelled 1, at least 10 are needed",
        ),
        (
            "evaluate --model bundle --data ten.parquet --label is_fraud",
            "0 of 10 labelled rows are positive: both classes are needed, at least 1 row of each",
        ),
    ];
    for (line, told) in refused {
        let message = rig.run(line).failed(65);
        assert!(message.contains(told), "{line}: {message}");
        assert!(message.contains("ten.parquet"), "{line}: {message}");
    }
    assert_eq!(rig.score("ten.parquet").num_rows(), 10);
    rig.run("embed --model bundle --data ten.parquet --out e.parquet")
        .succeeded();
    first(&rig, 0, "none.parquet");
    for verb in ["score", "embed"] {
        let line = format!("{verb} --model bundle --data none.parquet --out z.parquet");
        let message = rig.run(&line).failed(65);
        assert!(
            message.contains("none.parquet has no rows: at least 1"),
            "{message}"
        );
    }
}
