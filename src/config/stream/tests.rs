//! What a configuration may say, what it may not, and what it means where it says nothing.

#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kafka: RawKafka,
    #[serde(default)]
    input: RawInput,
    #[serde(default)]
    delivery: RawDelivery,
    #[serde(default)]
    batch: RawBatch,
    #[serde(default)]
    alerts: RawAlerts,
}

const KAFKA: &str = "[kafka]\nbootstrap_servers = \"b:9092\"\ninput_topics = [\"payments\"]\n";

fn check(text: &str) -> Result<StreamConfig, Vec<String>> {
    let file: File = toml::from_str(text).map_err(|error| vec![error.to_string()])?;
    let File {
        kafka,
        input,
        delivery,
        batch,
        alerts,
    } = file;
    RawStream {
        kafka,
        input,
        delivery,
        batch,
        alerts,
    }
    .check()
    .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

#[test]
fn what_is_not_written_has_its_default() {
    let config = check(KAFKA).unwrap();
    assert_eq!(config.delivery.mode, Mode::ExactlyOnce);
    assert_eq!(
        config.delivery.transaction_interval,
        Duration::from_millis(100)
    );
    assert_eq!(config.batch.rows_max, DEFAULT_ROWS_MAX);
    assert_eq!(config.kafka.group_id, "maskwatch");
    assert!(!config.kafka.instance_id.is_empty());
    assert_eq!(config.kafka.transaction_timeout(), Duration::from_secs(15));
    assert_eq!(config.kafka.outputs, OutputTopics::default());
}

#[test]
fn a_lost_offset_is_treated_as_an_absent_one_unless_it_is_said() {
    let policies = |kafka: &str, properties: &str| {
        let text = format!("{KAFKA}{kafka}\n[kafka.properties]\n{properties}\n");
        let kafka = check(&text).unwrap().kafka;
        (kafka.offset_absent, kafka.offset_lost)
    };
    let (earliest, latest) = (OffsetPolicy::Earliest, OffsetPolicy::Latest);
    let reset_latest = "\"auto.offset.reset\" = \"latest\"";
    assert_eq!(policies("", ""), (earliest, earliest));
    assert_eq!(policies("", reset_latest), (latest, latest));
    let fail = "offset_lost = \"fail\"";
    assert_eq!(policies(fail, reset_latest), (latest, OffsetPolicy::Fail));
    let faults = check(&format!(
        "{KAFKA}[kafka.properties]\n\"auto.offset.reset\" = \"newest\"\n"
    ));
    let faults = faults.unwrap_err();
    assert!(
        faults[0].contains("newest") && faults[0].contains("latest"),
        "{faults:?}"
    );
    assert!(check(&format!("{KAFKA}offset_lost = \"newest\"\n")).is_err());
}

#[test]
fn a_stall_is_longer_than_any_call_that_is_in_order() {
    let delivery = |timeout: &str, stall: &str| {
        let properties = format!("[kafka.properties]\n\"transaction.timeout.ms\" = {timeout}\n");
        check(&format!("{KAFKA}{properties}[delivery]\n{stall}"))
    };
    let stall_of = |timeout: &str| delivery(timeout, "").unwrap().delivery.stall_timeout;
    assert_eq!(stall_of("15000"), Duration::from_secs(120));
    assert_eq!(stall_of("600000"), Duration::from_secs(615));
    assert!(delivery("15000", "stall_timeout_ms = 45000").is_ok());
    let faults = delivery("15000", "stall_timeout_ms = 44999").unwrap_err();
    assert!(faults[0].contains("expected 45000 to"), "{faults:?}");
    let faults = delivery("600000", "stall_timeout_ms = 120000").unwrap_err();
    assert!(faults[0].contains("expected 615000 to"), "{faults:?}");
}

#[test]
fn an_unknown_key_is_refused() {
    for section in ["kafka", "input", "delivery", "batch", "alerts"] {
        let text = match section {
            "kafka" => format!("{KAFKA}colour = 1\n"),
            other => format!("{KAFKA}[{other}]\ncolour = 1\n"),
        };
        let faults = check(&text).unwrap_err();
        assert!(faults[0].contains("colour"), "{section}: {faults:?}");
    }
}

#[test]
fn all_faults_are_reported_at_once_with_their_keys() {
    let text = r#"
        [kafka]
        bootstrap_servers = " "
        input_topics = ["a", "a", "b c"]
        instance_id = ""
        scores_topic = "a"
        alerts_topic = "out"
        dead_letter_topic = "out"
        [kafka.properties]
        "isolation.level" = "read_uncommitted"
        [input]
        schema_registry_url = "http://r"
        [delivery]
        transaction_interval_ms = 8000
        drain_timeout_ms = 0
        [batch]
        rows_max = 0
        [alerts]
        budget = nan
        budget_by = ""
        reasons_max = 0
    "#;
    let faults = check(text).unwrap_err();
    for part in [
        "kafka.bootstrap_servers",
        "\"a\" is named twice",
        "\"b c\"",
        "kafka.instance_id",
        "kafka.scores_topic: \"a\" is an input topic",
        "topics of their own",
        "isolation.level",
        "input.format: \"json\"",
        "delivery.transaction_interval_ms: 8000: expected 1 to 7500",
        "delivery.drain_timeout_ms",
        "batch.rows_max: 0",
        "alerts.budget: alert budget NaN",
        "alerts.budget_by: is empty",
        "alerts.reasons_max",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part}: {faults:#?}"
        );
    }
    assert_eq!(faults.len(), 14, "{faults:#?}");
}

#[test]
fn properties_take_numbers_and_set_the_transaction_timeout() {
    let text = format!("{KAFKA}[kafka.properties]\n\"transaction.timeout.ms\" = 4000\n");
    assert_eq!(
        check(&text).unwrap().kafka.transaction_timeout(),
        Duration::from_secs(4)
    );
    let text = format!("{KAFKA}[kafka.properties]\n\"transaction.timeout.ms\" = 4\n");
    assert!(check(&text).unwrap_err()[0].contains("transaction.timeout.ms"));
}

#[test]
fn avro_needs_one_source_of_schemas() {
    let input =
        |keys: &str| check(&format!("{KAFKA}[input]\n{keys}")).map(|config| config.input.format);
    let files = input("format = \"avro\"\nschema_files = { 7 = \"a.avsc\" }").unwrap();
    assert_eq!(
        files,
        InputFormat::AvroFiles(BTreeMap::from([(7, PathBuf::from("a.avsc"))]))
    );
    for (keys, part) in [
        (
            "format = \"avro\"",
            "either schema_registry_url or schema_files",
        ),
        (
            "format = \"avro\"\nschema_files = { x = \"a\" }",
            "\"x\": expected a Confluent",
        ),
        (
            "format = \"avro\"\nschema_registry_url = \"http://r\"\nschema_registry_user = \"u\"",
            "or neither",
        ),
        ("schema_registry_url = \"http://r\"", "expected \"avro\""),
    ] {
        let faults = input(keys).unwrap_err();
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{keys}: {faults:?}"
        );
    }
}

#[test]
fn the_root_of_records_is_a_list_of_paths_and_each_bad_one_is_told() {
    let root = |list: &str| check(&format!("{KAFKA}[input]\nroot = {list}\n"));
    assert!(check(KAFKA).unwrap().input.root.is_top());
    let config = root(r#"["payload.after", "after", "payload"]"#).unwrap();
    assert_eq!(
        config.input.root.to_string(),
        "payload.after, after, payload"
    );
    let faults = root(r#"["", "a..b", "after", "after", ".x"]"#).unwrap_err();
    for part in [
        "input.root: \"\": expected names",
        "\"a..b\"",
        "\"after\" is named twice",
        "\".x\"",
    ] {
        assert!(
            faults.iter().any(|fault| fault.contains(part)),
            "{part}: {faults:?}"
        );
    }
    assert_eq!(faults.len(), 4, "{faults:?}");
    let many: Vec<String> = (0..17).map(|i| format!("\"p{i}\"")).collect();
    let faults = root(&format!("[{}]", many.join(", "))).unwrap_err();
    assert_eq!(faults, ["input.root: 17 paths: expected at most 16"]);
}

#[test]
fn credentials_of_the_registry_are_not_printed() {
    let text = format!(
        "{KAFKA}[input]\nformat = \"avro\"\nschema_registry_url = \"http://r\"\n\
         schema_registry_user = \"u\"\nschema_registry_password = \"hunter2\"\n"
    );
    let config = check(&text).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let InputFormat::AvroRegistry {
        basic_auth: Some((user, password)),
        ..
    } = config.input.format
    else {
        panic!("{:?}", config.input);
    };
    assert_eq!((user.as_str(), password.reveal()), ("u", "hunter2"));
}
