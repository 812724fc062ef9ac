//! Budgets by segment and reports by group, through the verbs: batch, HTTP and `evaluate` say the same,
//! and what cannot be divided is refused with what can.
//!
//! The bundle of the rig has 1,200 calibration rows; a budget of 0.05 needs 19 of a segment.

use super::rig::{PAYMENTS, Rig, read, with_column, with_nulls, without_columns, write};
use crate::support::start_daemon;
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{Float32Type, Float64Type, UInt8Type};
use maskwatch::generate::JsonRows;
use maskwatch_testing::daemon::http_post;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

/// A daemon that has not answered by then is not going to.
const PATIENCE: Duration = Duration::from_secs(60);

const BY_CHANNEL: &str = "--alert-budget 0.05 --budget-by channel";

fn scored(rig: &Rig, data: &str, flags: &str) -> RecordBatch {
    let line = format!("score --model bundle --data {data} --out z.tmp {flags}");
    rig.run(&line).succeeded();
    read(&rig.path("z.tmp"))
}

fn p_values(batch: &RecordBatch) -> Vec<f64> {
    batch["p_value"]
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}

/// The calibration scores of each value of a categorical feature, from the files of the bundle alone.
fn calibration_by(rig: &Rig, field: &str) -> BTreeMap<Option<String>, Vec<f32>> {
    let manifest = fs::read(rig.path("bundle/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let encoder = manifest["description"]["encoder"].as_array().unwrap();
    let at = encoder.iter().position(|f| f["name"] == field).unwrap();
    let values = encoder[at]["value"]["values"].as_array().unwrap();
    let file = read(&rig.path("bundle/calibration.parquet"));
    let tables = file["table"].as_string::<i32>();
    let scores = file["value"].as_primitive::<Float32Type>();
    let codes = file[format!("segment_{at}").as_str()].as_primitive::<UInt8Type>();
    let mut by: BTreeMap<Option<String>, Vec<f32>> = BTreeMap::new();
    for row in 0..file.num_rows() {
        let is_score = tables.value(row) == "score";
        assert_eq!(codes.is_valid(row), is_score, "row {row}");
        if is_score {
            let code = usize::from(codes.value(row)).checked_sub(1);
            let value = code.map(|code| values[code].as_str().unwrap().to_owned());
            by.entry(value).or_default().push(scores.value(row));
        }
    }
    by
}

#[test]
fn a_p_value_by_segment_is_that_of_the_rows_with_the_same_value() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let (whole, by_country) = (
        scored(&rig, "payments.parquet", "--alert-budget 0.05"),
        scored(
            &rig,
            "payments.parquet",
            "--alert-budget 0.05 --budget-by home_country",
        ),
    );
    assert_eq!(&whole["anomaly_score"], &by_country["anomaly_score"]);
    let calibration = calibration_by(&rig, "home_country");
    assert_eq!(calibration.values().map(Vec::len).sum::<usize>(), 1_200);
    let pooled = |rows: usize, value: &Option<String>| value.is_none() || rows <= 19;
    let pool: Vec<f32> = calibration
        .iter()
        .filter(|(value, scores)| pooled(scores.len(), value))
        .flat_map(|(_, scores)| scores.clone())
        .collect();
    let all: Vec<f32> = calibration.values().flatten().copied().collect();
    let pool = if pool.len() < 19 { &all } else { &pool };
    let countries = payments["home_country"].as_string::<i32>();
    let scores = whole["anomaly_score"]
        .as_primitive::<Float32Type>()
        .values();
    let found = p_values(&by_country);
    let alerts = by_country["alert"].as_boolean();
    let mut own_rows = 0;
    for row in 0..PAYMENTS {
        let value = countries
            .is_valid(row)
            .then(|| countries.value(row).to_owned());
        let own = calibration
            .get(&value)
            .filter(|own| value.is_some() && own.len() >= 19);
        own_rows += usize::from(own.is_some());
        let sample = own.unwrap_or(pool);
        let at_least = sample.iter().filter(|&&c| c >= scores[row]).count();
        let expected = (1 + at_least) as f64 / (1 + sample.len()) as f64;
        assert_eq!(found[row], expected, "row {row}, {value:?}");
        assert_eq!(alerts.value(row), expected <= 0.05, "row {row}");
    }
    assert!(own_rows > PAYMENTS / 2, "{own_rows}");
    assert_ne!(p_values(&whole), found);
    // A record's p-value does not depend on its neighbours, and one without the flag is as it was.
    for row in [3, 4_321] {
        write(&rig.path("one.parquet"), &payments.slice(row, 1));
        let one = scored(
            &rig,
            "one.parquet",
            "--alert-budget 0.05 --budget-by home_country",
        );
        assert_eq!(p_values(&one), [found[row]]);
    }
    assert_eq!(p_values(&rig.score("payments.parquet")), p_values(&whole));
}

#[test]
fn the_daemon_holds_the_budget_as_score_does() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let p_value = p_values(&scored(&rig, "payments.parquet", BY_CHANNEL));

    let config = "[kafka]\nbootstrap_servers = \"embedded\"\ninput_topics = [\"in\"]\n\
                  [http]\nlisten = \"127.0.0.1:0\"\n[alerts]\nbudget = 0.05\n\
                  budget_by = \"channel\"\n";
    let bundle = rig.path("bundle");
    fs::write(
        rig.path("serve.toml"),
        format!("{config}[model]\ndir = {bundle:?}\n"),
    )
    .unwrap();
    let said = rig.run("check serve.toml").succeeded();
    let headline = "alert budget 0.05 by channel: 2 segments, 2 rank alone (at least 19";
    for part in [
        headline,
        "online",
        "card_present",
        "its own",
        "null or unseen",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let config = rig.path("serve.toml");
    let mut daemon = start_daemon(&["serve", "--config", config.to_str().unwrap()], &[]);
    daemon.wait_for_log("model loaded", PATIENCE);
    assert!(daemon.log().contains(headline), "{}", daemon.log());
    let log = daemon.log();
    let address = log.split("\"address\":\"").nth(1).unwrap();
    let address = address.split('"').next().unwrap();
    daemon.wait_for_http(&format!("http://{address}/healthz"), PATIENCE);
    let some = without_columns(&payments.slice(0, 500), &["is_fraud", "fraud_scenario"]);
    let json = JsonRows::new(&some).unwrap();
    let mut body = b"[".to_vec();
    for row in 0..some.num_rows() {
        body.extend(if row > 0 { &b","[..] } else { b"" });
        json.write(row, &mut body).unwrap();
    }
    body.push(b']');
    let (status, answer) = http_post(&format!("http://{address}/v1/score"), &body).unwrap();
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    for (row, envelope) in answer.as_array().unwrap().iter().enumerate() {
        assert_eq!(
            envelope["p_value"].as_f64(),
            Some(p_value[row]),
            "row {row}"
        );
        assert_eq!(envelope["alert"], p_value[row] <= 0.05, "row {row}");
    }
    daemon.terminate();
    assert_eq!(daemon.wait(PATIENCE).code(), Some(0), "{}", daemon.log());
}

#[test]
fn evaluate_holds_the_budget_as_score_does() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let batch = scored(&rig, "payments.parquet", BY_CHANNEL);
    let (p_value, channels) = (p_values(&batch), payments["channel"].as_string::<i32>());
    let line = "evaluate --model bundle --data payments.parquet --label is_fraud --by channel";
    let report = rig.run(&format!("{line} {BY_CHANNEL} --json")).succeeded();
    let report: Value = serde_json::from_str(&report).unwrap();
    let budgets = report["at_budget"].as_array().unwrap();
    let at = budgets.iter().position(|at| at["budget"] == 0.05).unwrap();
    let alerts = p_value.iter().filter(|&&p| p <= 0.05).count();
    assert_eq!(budgets[at]["alerts"], alerts);
    let groups = report["by"]["groups"].as_array().unwrap();
    assert_eq!(
        (groups.len(), &report["by"]["field"]),
        (2, &Value::from("channel"))
    );
    for group in groups {
        let of_group = |row: &usize| group["value"] == channels.value(*row);
        let rows: Vec<usize> = (0..PAYMENTS).filter(of_group).collect();
        let alerts = rows.iter().filter(|&&row| p_value[row] <= 0.05).count();
        let found = &group["at_budget"][at];
        assert_eq!(
            (&group["rows"], &found["alerts"]),
            (&rows.len().into(), &alerts.into())
        );
        let share = alerts as f64 / rows.len() as f64;
        assert_eq!(found["alert_rate"]["share"].as_f64(), Some(share));
        // Of the training's own rows about the budget is flagged, in each channel now.
        assert!((0.02..0.1).contains(&share), "{group}");
        assert_eq!(found["exceeds"], false, "{group}");
    }
}

#[test]
fn a_field_without_segments_is_refused_with_those_that_have_some() {
    let rig = Rig::trained();
    let score = "score --model bundle --data payments.parquet --out z.parquet --budget-by";
    let evaluate = "evaluate --model bundle --data payments.parquet --label is_fraud --budget-by";
    for (line, field) in [
        (score, "amount"),
        (evaluate, "customer_id"),
        ("inspect bundle --budget-by", "nothing"),
    ] {
        let refused = rig.run(&format!("{line} {field}")).failed(64);
        let expected = format!("no budget can be held by '{field}': expected a categorical");
        for part in [expected.as_str(), "channel", "home_country"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
    assert!(!rig.path("z.parquet").exists());
    let config = |field: &str, bundle: &str, more: &str| {
        let text = format!(
            "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\ninput_topics = [\"in\"]\n\
             [http]\nlisten = \"127.0.0.1:0\"\n[model]\ndir = \"{bundle}\"\n\
             [alerts]\nbudget = 0.05\nbudget_by = \"{field}\"\n{more}"
        );
        fs::write(rig.path("serve.toml"), text).unwrap();
    };
    config("amount", "bundle", "");
    for line in ["check serve.toml", "serve --config serve.toml"] {
        let refused = rig.run(line);
        assert_eq!(refused.code, Some(64), "{}", refused.stderr);
        for part in ["alerts.budget_by", "'amount'", "home_country"] {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    // Where a training comes first, what the schema tells is told before it.
    let train = "[train]\ndata = [\"payments.parquet\"]\nschema = \"schema.toml\"\n";
    config("customer_id", "none", train);
    for line in ["check serve.toml", "serve --config serve.toml"] {
        let refused = rig.run(line);
        assert_eq!(refused.code, Some(64), "{}", refused.stderr);
        let expected = "'customer_id' is no feature, expected a categorical or boolean feature";
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    assert!(!rig.path("none").exists());
    config("channel", "none", train);
    rig.run("check serve.toml").succeeded();
}

#[test]
fn what_is_shown_of_segments_is_bounded_and_redacted() {
    let rig = Rig::new();
    rig.init();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    // 200 customers, of whom nearly all have calibration rows; a name that is not for everybody.
    let customer = "name = \"customer_id\"\nrole = \"ignore\"\n";
    let country = "name = \"home_country\"\n";
    assert!(
        schema.contains(customer) && schema.contains(country),
        "{schema}"
    );
    let schema = schema
        .replace(customer, "name = \"customer_id\"\nkind = \"categorical\"\n")
        .replace(country, &format!("{country}redact = true\n"));
    fs::write(rig.path("schema.toml"), schema).unwrap();
    let trained = rig.train("schema.toml", "bundle", &[]);
    assert!(
        trained.contains("can be held by segment (one with 999"),
        "{trained}"
    );
    assert!(trained.contains("channel (0 of 2)"), "{trained}");
    let page = rig.run("inspect bundle --alert-budget 0.05").succeeded();
    assert!(page.contains("channel (2 of 2)"), "{page}");
    let line = "inspect bundle --budget-by customer_id --alert-budget 0.05";
    let page = rig.run(line).succeeded();
    let rows = page.lines().filter(|line| line.contains("the pool, "));
    assert!((1..=50).contains(&rows.count()), "{page}");
    assert!(
        page.lines().any(|line| line.trim().starts_with("and 1")),
        "{page}"
    );
    let line = "inspect bundle --budget-by home_country --alert-budget 0.05";
    let page = rig.run(line).succeeded();
    let table = page.split("by home_country").nth(1).unwrap();
    let table = table.split("rows         ").next().unwrap();
    assert!(table.contains("***1") && !table.contains("DE"), "{table}");
    let line = "evaluate --model bundle --data payments.parquet --label is_fraud --by home_country";
    let text = rig.run(line).succeeded();
    let groups = text.split("by home_country").nth(1).unwrap();
    assert!(
        groups.contains("***1") && !groups.contains("DE "),
        "{groups}"
    );
}

/// `evaluate --json` on `data` with further flags.
fn evaluation(rig: &Rig, data: &str, flags: &str) -> Value {
    let line = format!("evaluate --model bundle --data {data} --label is_fraud --json {flags}");
    serde_json::from_str(&rig.run(&line).succeeded()).unwrap()
}

/// The payments with columns that the schema does not know, as `more.parquet`: `shift`, integers with nulls, of which 0
/// loses two rows, and `branch.kind`, a nested text.
fn write_more(rig: &Rig) {
    let payments = read(&rig.path("payments.parquet"));
    let shifts: Int32Array = (0..PAYMENTS).map(|row| Some((row % 3) as i32)).collect();
    let more = with_column(&payments, "shift", Arc::new(shifts));
    let more = with_nulls(&more, "shift", &[0, 1, 2, 3]);
    let texts = (0..PAYMENTS).map(|row| Some(["a", "b"][row % 2]));
    let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
    let kind = texts.data_type().clone();
    let inner = Arc::new(arrow::datatypes::Field::new("kind", kind, true));
    let nested = arrow::array::StructArray::from(vec![(inner, texts)]);
    let more = with_column(&more, "branch", Arc::new(nested));
    write(&rig.path("more.parquet"), &more);
}

#[test]
fn beyond_fifty_groups_the_rest_is_one() {
    let rig = Rig::trained();
    let without = evaluation(&rig, "payments.parquet", "");
    assert_eq!(without.get("by"), None);
    // An ignored field with more values than are shown.
    let by = evaluation(&rig, "payments.parquet", "--by customer_id");
    let by = &by["by"];
    let groups = by["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 50);
    let customers = by["values"].as_u64().unwrap();
    assert_eq!(by["other"]["values"], customers - 50);
    let rows: u64 = groups
        .iter()
        .map(|group| group["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(
        rows + by["other"]["rows"].as_u64().unwrap(),
        PAYMENTS as u64
    );
}

#[test]
fn groups_are_made_by_any_column_with_few_values_and_by_no_other() {
    let rig = Rig::trained();
    write_more(&rig);
    let report = |flags: &str| evaluation(&rig, "more.parquet", flags);
    let by = report("--by shift");
    let values: Vec<&Value> = by["by"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| &group["value"])
        .collect();
    assert_eq!(
        values,
        [&Value::from("1"), &"2".into(), &"0".into(), &Value::Null]
    );
    assert_eq!(by["by"]["groups"][3]["rows"], 4);
    // Asking for groups changes nothing else.
    let mut rest = by.clone();
    rest.as_object_mut().unwrap().remove("by");
    assert_eq!(rest, report(""));
    let by = report("--by branch.kind");
    assert_eq!(by["by"]["groups"][1]["rows"], PAYMENTS / 2);
    // The label itself makes groups too, and a feature that is a flag.
    let by = report("--by is_fraud");
    assert_eq!(by["by"]["groups"][1]["value"], "true");
    assert_eq!(by["by"]["groups"][1]["uniformity"], Value::Null);

    let line = "evaluate --model bundle --data more.parquet --label is_fraud --by";
    let refused = rig.run(&format!("{line} amount")).failed(65);
    assert!(
        refused.contains("amount") && refused.contains("Float64"),
        "{refused}"
    );
    let refused = rig.run(&format!("{line} nowhere")).failed(65);
    assert!(
        refused.contains("column 'nowhere' (--by) is missing"),
        "{refused}"
    );

    let text = rig.run(&format!("{line} channel")).succeeded();
    for part in [
        "by channel: 2 values",
        "at 0.001",
        "of negatives",
        "uniformity",
        "online",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
