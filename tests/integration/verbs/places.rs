//! What may be named as a bundle, as data and as an output, and what is refused with a word.

use super::rig::{PAYMENTS, Rig, read};
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;

#[test]
fn whatever_is_no_bundle_is_told_as_such_with_one_exit_code() {
    let rig = Rig::new();
    rig.init();
    fs::create_dir(rig.path("folder")).unwrap();
    let verbs = [
        "score --out z.parquet --data payments.parquet --model",
        "embed --out z.parquet --data payments.parquet --model",
        "evaluate --label is_fraud --data payments.parquet --model",
        "tune --calibration payments.parquet --out t --data payments.parquet --model",
        "train --schema schema.toml --data payments.parquet --out t --from",
        "inspect",
    ];
    for verb in verbs {
        for (place, found) in [
            ("absent", "there is nothing of this name"),
            ("payments.parquet/x", "there is nothing of this name"),
            ("payments.parquet", "a file"),
            ("folder", "a folder without a manifest.json"),
            ("/dev/null", "a character device"),
        ] {
            let message = rig.run(&format!("{verb} {place}")).failed(65);
            let told = format!("{place}: {found}, expected a bundle");
            assert!(message.contains(&told), "{verb}: {message}");
        }
    }
    assert!(!rig.path("z.parquet").exists() && !rig.path("t").exists());
}

#[test]
fn urls_are_not_supported_and_the_message_says_what_to_do() {
    let rig = Rig::trained();
    let at = "s3://bucket/x.parquet";
    for line in [
        format!("init --out s.toml --data {at}"),
        format!("train --schema schema.toml --out new --data {at}"),
        format!("score --model bundle --out z.parquet --data {at}"),
        format!("embed --model bundle --out z.parquet --data {at}"),
        format!("evaluate --model bundle --label is_fraud --data {at}"),
        format!("tune --model bundle --calibration payments.parquet --out t --data {at}"),
        format!(
            "evaluate --model bundle --label is_fraud --data payments.parquet --baselines {at}"
        ),
    ] {
        let message = rig.run(&line).failed(64);
        assert!(message.contains("aws s3 cp"), "{line}: {message}");
    }
    for line in [
        format!("init --data payments.parquet --out {at}"),
        format!("train --data payments.parquet --schema {at} --out new"),
        format!("train --data payments.parquet --schema schema.toml --out {at}"),
        format!("score --model {at} --data payments.parquet --out z.parquet"),
        format!("score --model bundle --data payments.parquet --out {at}"),
        format!("embed --model bundle --data payments.parquet --out {at}"),
        format!("evaluate --model {at} --data payments.parquet --label is_fraud"),
        format!("inspect {at}"),
        format!("generate --rows 10 --out {at}"),
    ] {
        let message = rig.run(&line).failed(64);
        assert!(
            message.contains("URLs are not supported"),
            "{line}: {message}"
        );
    }
    assert!(!rig.path("s3:").exists());
}

/// Lines of every verb that writes, up to the name of its output.
const WRITERS: [&str; 6] = [
    "init --data payments.parquet --out",
    "train --data payments.parquet --schema schema.toml --config train.toml --out",
    "score --model bundle --data payments.parquet --out",
    "embed --model bundle --data payments.parquet --out",
    "tune --model bundle --data payments.parquet --calibration payments.parquet --out",
    "generate --rows 10 --out",
];

#[test]
fn a_device_a_socket_or_stdout_is_never_an_output() {
    let rig = Rig::trained();
    let _listener = UnixListener::bind(rig.path("socket")).unwrap();
    symlink("/dev/null", rig.path("to_null")).unwrap();
    symlink("nothing", rig.path("dangling")).unwrap();
    let before = rig.names();
    for writer in WRITERS {
        for (out, found) in [
            ("/dev/null", "is a character device"),
            ("to_null", "is a character device"),
            ("/dev/stdout", "is an open file of a process"),
            ("socket", "is a socket"),
        ] {
            let message = rig.run(&format!("{writer} {out}")).failed(64);
            assert!(message.contains(found), "{writer} {out}: {message}");
        }
        let message = rig.run(&format!("{writer} dangling")).failed(64);
        assert!(message.contains("dangling"), "{writer}: {message}");
    }
    assert_eq!(rig.names(), before);
    let kind = |path: &str| fs::symlink_metadata(path).unwrap().file_type();
    assert!(kind("/dev/null").is_char_device());
    let socket = fs::symlink_metadata(rig.path("socket")).unwrap();
    assert!(socket.file_type().is_socket());
}

#[test]
fn an_output_behind_a_link_is_replaced_and_the_link_stays() {
    let rig = Rig::trained();
    fs::write(rig.path("real.parquet"), "old").unwrap();
    fs::create_dir(rig.path("elsewhere")).unwrap();
    symlink("real.parquet", rig.path("link.parquet")).unwrap();
    symlink("elsewhere", rig.path("current")).unwrap();
    rig.run("score --model bundle --data payments.parquet --out link.parquet")
        .succeeded();
    assert_eq!(read(&rig.path("real.parquet")).num_rows(), PAYMENTS);
    for seed in ["1", "2"] {
        rig.train("schema.toml", "current", &["--seed", seed]);
        let id = rig.model_id("elsewhere");
        assert_eq!(rig.model_id("current"), id);
        assert_ne!(rig.model_id("bundle"), id);
    }
    for link in ["link.parquet", "current"] {
        assert!(fs::symlink_metadata(rig.path(link)).unwrap().is_symlink());
    }
}

#[test]
fn a_name_of_another_format_is_no_output() {
    let rig = Rig::trained();
    for verb in [
        "generate --rows 10",
        "score --model bundle --data payments.parquet",
        "embed --model bundle --data payments.parquet",
    ] {
        let message = rig.run(&format!("{verb} --out x.csv")).failed(64);
        let told =
            "x.csv: the ending .csv is of another format, expected a name that ends in .parquet";
        assert!(message.contains(told), "{message}");
    }
    assert!(!rig.path("x.csv").exists());
}
