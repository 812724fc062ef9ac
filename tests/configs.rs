//! The files under `config/` and `schemas/` and the configurations in documents are inputs of these tests, so that they
//! cannot rot.
//!
//! In: every TOML file of the two folders, README and quickstart, and no variable of the environment. Out: that the program
//! accepts each configuration and schema, that `maskwatch.toml` names every key there is, and that what it says of defaults
//! is so. `documents.rs` is about the documents themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use maskwatch::config::{Config, ConfigError};
use maskwatch::kafka::decoders::InputFormat;
use maskwatch::recipe::TrainConfig;
use maskwatch::schema::Schema;
use std::path::{Path, PathBuf};

/// How the names of training configurations end; the others are of `serve`.
const TRAINING: &str = "train.toml";
/// The complete configuration of `serve`.
const COMPLETE: &str = "maskwatch.toml";
/// What cannot be left out.
const SMALLEST: &str = "[kafka]\nbootstrap_servers = \"localhost:9092\"\n\
                        input_topics = [\"payments\"]\n[model]\ndir = \"model\"\n";

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Path and text of every TOML file of a folder.
fn toml_files(name: &str) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder(name)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    assert!(!files.is_empty(), "no TOML file in {name}");
    files
}

fn complete() -> String {
    std::fs::read_to_string(folder("config").join(COMPLETE)).unwrap()
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new(COMPLETE), text, std::iter::empty())
}

/// The text with the keys that it shows as comments (`#key = value`) put to use where `chosen` says
/// so, and every reference to a secret replaced by a text.
fn with_commented(text: &str, chosen: impl Fn(&str) -> bool) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if chosen(key) => key.to_owned(),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    let text = lines.join("\n");
    let mut parts = text.split("\"${");
    let mut resolved = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once("}\"").unwrap();
        resolved.push_str("\"hidden\"");
        resolved.push_str(rest);
    }
    resolved
}

/// The keys that a section may have, as the program itself lists them when it meets another.
fn known_keys(section: &str) -> Vec<String> {
    let header = format!("[{section}]\n");
    let wrong = format!("{header}no_such_key = 1\n");
    let text = match SMALLEST.contains(&header) {
        true => SMALLEST.replace(&header, &wrong),
        false => format!("{SMALLEST}{wrong}"),
    };
    let error = parse(&text).unwrap_err().to_string();
    let (_, expected) = error.split_once("unknown key").expect(&error);
    // What else is wrong with so short a section is told behind it.
    let expected = expected.split(';').next().unwrap();
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn every_shipped_configuration_is_accepted() {
    for (path, text) in toml_files("config") {
        let name = path.file_name().unwrap().to_string_lossy();
        if name.ends_with(TRAINING) {
            let config: TrainConfig = toml::from_str(&text).unwrap();
            assert_eq!(config.faults(), [], "{}", path.display());
        } else {
            Config::parse(&path, &text, std::iter::empty()).unwrap();
        }
    }
}

#[test]
fn every_shipped_schema_is_accepted() {
    for (path, text) in toml_files("schemas") {
        let schema = Schema::parse(&text, &path.display().to_string()).unwrap();
        assert!(schema.features().count() > 0, "{}", path.display());
    }
}

#[test]
fn the_complete_configuration_says_the_defaults() {
    let (written, default) = (parse(&complete()).unwrap(), parse(SMALLEST).unwrap());
    assert_eq!(written.listen, default.listen);
    assert_eq!(written.stream.delivery, default.stream.delivery);
    assert_eq!(written.stream.batch, default.stream.batch);
    assert_eq!(written.stream.alerts, default.stream.alerts);
    assert_eq!(written.stream.input, default.stream.input);
    let (written_kafka, kafka) = (&written.stream.kafka, &default.stream.kafka);
    assert_eq!(written_kafka.group_id, kafka.group_id);
    assert_eq!(written_kafka.instance_id, kafka.instance_id);
    let timeout = kafka.transaction_timeout();
    assert_eq!(written_kafka.transaction_timeout(), timeout);
    // `[train]` has no default as a whole, but its seed has one.
    let train = parse(&format!(
        "{SMALLEST}[train]\ndata = [\"a\"]\nschema = \"s\"\n"
    ))
    .unwrap();
    assert_eq!(written.train.unwrap().seed, train.train.unwrap().seed);
}

#[test]
fn the_complete_configuration_names_every_key() {
    let text = complete();
    let sections = [
        "kafka", "input", "delivery", "batch", "alerts", "http", "model", "train",
    ];
    for section in sections {
        let header = format!("[{section}]\n");
        let (_, rest) = text.split_once(&header).expect(section);
        let end = rest.find("\n[").map(|end| &rest[..end]);
        let lines = || end.unwrap_or(rest).lines();
        let keys = known_keys(section);
        assert!(!keys.is_empty(), "no key of [{section}] was found");
        // The properties of Kafka are a section of their own.
        for key in keys.iter().filter(|key| *key != "properties") {
            let named = |line: &str| {
                let line = line.strip_prefix('#').unwrap_or(line);
                line.strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.starts_with(" = "))
            };
            assert!(lines().any(named), "{section}.{key} is missing");
        }
    }
}

#[test]
fn the_security_settings_that_are_shown_as_comments_are_accepted() {
    let config = parse(&with_commented(&complete(), |key| key.starts_with('"'))).unwrap();
    let properties = &config.stream.kafka.properties;
    assert_eq!(properties.get("security.protocol"), Some("SASL_SSL"));
    assert_eq!(properties.get("sasl.password"), Some("hidden"));
    assert!(!format!("{config:?}").contains("hidden"));
}

#[test]
fn both_sources_of_avro_schemas_that_are_shown_as_comments_are_accepted() {
    let avro = complete().replace("format = \"json\"", "format = \"avro\"");
    let input = |beginning: &str| {
        let text = with_commented(&avro, |key| key.starts_with(beginning));
        parse(&text).unwrap().stream.input.format
    };
    let registry = input("schema_registry_");
    assert!(matches!(
        registry,
        InputFormat::AvroRegistry {
            basic_auth: Some(_),
            ..
        }
    ));
    assert!(matches!(input("schema_files"), InputFormat::AvroFiles(_)));
}

#[test]
fn the_configurations_in_readme_and_quickstart_are_accepted() {
    for document in ["README.md", "docs/quickstart.md"] {
        let text = std::fs::read_to_string(folder(document)).unwrap();
        let blocks = text.split("```toml\n").skip(1);
        let blocks = blocks.map(|block| block.split("```").next().unwrap());
        let configurations: Vec<&str> = blocks.filter(|block| block.contains("[kafka]")).collect();
        assert_eq!(configurations.len(), 1, "{document}");
        let config = parse(configurations[0]).unwrap();
        assert_eq!(config.listen, parse(SMALLEST).unwrap().listen);
    }
}
