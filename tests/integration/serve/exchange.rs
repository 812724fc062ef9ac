//! The model is exchanged while the daemon runs: nothing lost, nothing doubled, one model a transaction; and a model that does
//! not fit changes nothing.

use super::material::{Records, another_model, model, number};
use super::setting::{PATIENCE, Served, Setting, score_of};
use maskwatch::models::{Actor, CHAMPION, ModelId, ModelsFolder};
use maskwatch_testing::daemon::{http_get, http_order, http_post, metric};
use maskwatch_testing::kafka_topics::OutputRecord;
use maskwatch_testing::poll_until;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const PARTITIONS: i32 = 4;
/// Different records; they are taken over and over.
const RECORDS: usize = 1_000;
const TOKEN: &str = "a-token-of-twenty-characters";
/// Batches so small that an exchange finds several in work.
const SECTIONS: &str = "reload_token = \"a-token-of-twenty-characters\"\n[batch]\nrows_max = 64\n";

fn actor() -> Actor {
    Actor {
        by: "a test".to_owned(),
        note: None,
    }
}

/// A folder with two models of the same payments, the first of them the champion; and what each says of the records.
struct Models {
    folder: ModelsFolder,
    ids: [ModelId; 2],
    records: [Records; 2],
}

impl Models {
    fn new(parent: PathBuf) -> Self {
        let second = parent.join("second");
        another_model(1, &second);
        let folder = ModelsFolder::create(&parent.join("models")).unwrap();
        let bundles = [model().bundle.clone(), second];
        let ids = bundles
            .each_ref()
            .map(|bundle| folder.add(bundle, &actor()).unwrap());
        let records = bundles
            .each_ref()
            .map(|bundle| Records::payments_by(bundle, RECORDS));
        folder.promote(&ids[0], &actor()).unwrap();
        Self {
            folder,
            ids,
            records,
        }
    }

    /// Which of the two an envelope is of, if it says what that one says.
    fn model_of(&self, envelope: &Value, number: usize) -> usize {
        let id = envelope["model_id"].as_str().unwrap();
        let which = self.ids.iter().position(|of| of.as_str() == id).unwrap();
        let expected = self.records[which].records[number % RECORDS].anomaly_score;
        assert_eq!(
            score_of(envelope),
            expected,
            "record {number} by model {which}"
        );
        which
    }
}

/// A setting whose scores lie in one partition, so that a transaction's are neighbours, and its models.
fn setting(stem: &str) -> (Setting, Models) {
    let folder = tempfile::tempdir().unwrap().keep();
    let models = Models::new(folder);
    let mut setting = Setting::new(stem, PARTITIONS, models.folder.dir());
    setting.scores = setting.broker.new_topic(&format!("{stem}-one"), 1);
    (setting, models)
}

impl Drop for Models {
    fn drop(&mut self) {
        let parent = self.folder.dir().parent().unwrap();
        let _ = std::fs::remove_dir_all(parent);
    }
}

/// Lines of a log with this message.
fn lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message).collect()
}

const EXCHANGED: &str = "model exchanged";

/// Has the daemon look for another model at once.
fn reload(served: &mut Served) -> (u16, Value) {
    let (status, text) = http_order(&served.url("/v1/models/reload"), TOKEN).unwrap();
    (
        status,
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
    )
}

/// What a run of exchanges and kills left in logs.
#[derive(Default)]
struct Told {
    pauses_ms: Vec<f64>,
    /// The model by the first offset that a line names, the latest line of each.
    firsts: BTreeMap<(String, i64), String>,
}

impl Told {
    fn note(&mut self, served: &Served) {
        let log = served.0.log();
        let pauses = lines(&log, EXCHANGED);
        let pause = |line: &Value| line["pause_ms"].as_f64().unwrap();
        self.pauses_ms.extend(pauses.iter().map(pause));
        for line in lines(&log, "first offsets of the model") {
            let model_id = line["model_id"].as_str().unwrap();
            for first in line["firsts"].as_str().unwrap().split(' ') {
                let (partition, offset) = first.rsplit_once('@').unwrap();
                let key = (partition.to_owned(), offset.parse().unwrap());
                self.firsts.insert(key, model_id.to_owned());
            }
        }
    }

    /// After a kill: who begins where nothing is committed yet is said by the pointer at the next start.
    fn forget_uncommitted(&mut self, setting: &Setting) {
        let offsets = setting
            .broker
            .committed_offsets(&setting.group, &setting.input);
        self.firsts.retain(|(place, offset), _| {
            let partition = place.rsplit('-').next().unwrap().parse::<i32>().unwrap();
            offsets.get(&partition).is_some_and(|next| offset < next)
        });
    }
}

/// The value at a share of a sorted list, the upper one.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

#[test]
fn twenty_exchanges_and_ten_kills_lose_and_double_nothing_and_no_transaction_has_two_models() {
    let exchanges = number("MASKWATCH_TEST_EXCHANGES").unwrap_or(20);
    let count = number("MASKWATCH_TEST_RECORDS").unwrap_or(100_000);
    let kills_max = number("MASKWATCH_TEST_KILLS").unwrap_or(exchanges / 2);
    let (setting, models) = setting("exchange");
    let portion = count / exchanges / RECORDS * RECORDS;
    let growth = setting.broker.watch_growth(&setting.scores);
    let total = portion * exchanges;
    let (mut told, mut kills) = (Told::default(), 0);
    let mut served = setting.start(SECTIONS);
    std::thread::scope(|scope| {
        // Records keep coming, so that an exchange finds some in work.
        let produce = || setting.produce(&models.records[0].records, 0, RECORDS);
        scope.spawn(move || (0..total / RECORDS).for_each(|_| produce()));
        for exchange in 0..exchanges {
            let due = (portion * exchange + 1) as i64;
            let begun = poll_until(PATIENCE, || {
                (growth.offsets_given() >= due || !served.0.is_running()).then_some(())
            });
            assert!(
                begun.is_some() && served.0.is_running(),
                "{}",
                served.0.log()
            );
            let next = &models.ids[(exchange + 1) % 2];
            models.folder.promote(next, &actor()).unwrap();
            if exchange % 2 == 0 || kills == kills_max {
                let (status, answer) = reload(&mut served);
                assert!(status < 300, "{answer}");
                continue;
            }
            // At any moment of the exchange, which the pointer alone begins within a second.
            std::thread::sleep(Duration::from_millis((exchange * 397 % 2_000) as u64));
            served.0.kill();
            kills += 1;
            told.note(&served);
            told.forget_uncommitted(&setting);
            served = setting.start(SECTIONS);
        }
    });
    setting.wait_for(&mut served, total);
    told.note(&served);
    served.drain();

    let outputs = setting.read(&setting.scores);
    let seen = check_outputs(&setting, &models, &outputs, total);
    for ((partition, offset), model_id) in &told.firsts {
        let found = seen.get(&(partition.clone(), *offset));
        assert!(
            found.is_none_or(|found| found == model_id),
            "{partition}@{offset}"
        );
    }
    let pauses = &mut told.pauses_ms;
    assert!(
        pauses.len() >= exchanges / 2,
        "{} exchanges while it ran",
        pauses.len()
    );
    eprintln!(
        "{total} records, {exchanges} exchanges, {kills} kills; {}",
        pauses_line(pauses)
    );
}

/// How many exchanges a running daemon made, and how long each held the stream up.
fn pauses_line(pauses_ms: &mut [f64]) -> String {
    pauses_ms.sort_by(f64::total_cmp);
    // Of nothing in work an exchange takes microseconds.
    let under_traffic = pauses_ms.iter().filter(|pause| **pause >= 1.0).count();
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|share| percentile(pauses_ms, share));
    format!(
        "{} of them in a running daemon, {under_traffic} under traffic; pause in ms: p50 {p50:.1}, p99 {p99:.1}, longest \
         {longest:.1}",
        pauses_ms.len()
    )
}

/// Each record has one score, by the model that it names, and neighbours in a transaction have one model. The model of each
/// record, by partition and offset.
fn check_outputs(
    setting: &Setting,
    models: &Models,
    outputs: &[OutputRecord],
    total: usize,
) -> BTreeMap<(String, i64), String> {
    let mut seen = BTreeMap::new();
    let mut before: Option<(i64, usize)> = None;
    let mut changes = 0;
    for output in outputs {
        let envelope: Value = serde_json::from_str(output.text()).unwrap();
        let which = models.model_of(&envelope, setting.number_of(&envelope));
        // Between two transactions lies the marker that ends the first.
        if let Some((offset, model)) = before
            && model != which
        {
            assert!(
                output.offset > offset + 1,
                "two models in the transaction around {offset}"
            );
            changes += 1;
        }
        before = Some((output.offset, which));
        let place = format!("{}-{}", setting.input, envelope["partition"]);
        let key = (place, envelope["offset"].as_i64().unwrap());
        let doubled = seen.insert(key, models.ids[which].to_string());
        assert_eq!(doubled, None, "a record has two scores");
    }
    assert_eq!(seen.len(), total, "records with a score");
    assert!(changes > 0, "no exchange shows");
    for alert in setting.read(&setting.alerts) {
        let envelope: Value = serde_json::from_str(alert.text()).unwrap();
        models.model_of(&envelope, setting.number_of(&envelope));
    }
    seen
}

#[test]
fn a_model_that_is_refused_leaves_the_old_one_running_and_is_told_of_until_it_is_gone() {
    let (setting, models) = setting("refused-model");
    let [first, second] = &models.ids;
    let mut served = setting.start(SECTIONS);
    served.wait_until_ready();
    let ready = served.url("/readyz");
    let notes = || {
        let (status, body) = http_get(&ready).unwrap();
        let report: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{body}");
        (report["notes"].clone(), report["model_id"].clone())
    };
    assert_eq!(notes().0, Value::Array(Vec::new()));
    // Damaged after somebody has promoted it.
    models.folder.promote(second, &actor()).unwrap();
    let weights = models.folder.bundle(second).join("weights.safetensors");
    let sound = std::fs::read(&weights).unwrap();
    let mut damaged = sound.clone();
    damaged[100] ^= 1;
    std::fs::write(&weights, &damaged).unwrap();
    let (status, answer) = reload(&mut served);
    // The thread may have been quicker with the sound one: then that one serves.
    assert!([200, 409].contains(&status), "{answer}");
    if status == 200 {
        models.folder.promote(first, &actor()).unwrap();
        assert_eq!(reload(&mut served).0, 200);
        std::fs::write(models.folder.dir().join(CHAMPION), format!("{second}\n")).unwrap();
        assert_eq!(reload(&mut served).0, 409);
    }
    let (told, running) = notes();
    let told = told[0].as_str().unwrap().to_owned();
    for part in [
        "model: refused: model ",
        second.as_str(),
        "weights.safetensors",
        "goes on",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(running, first.as_str());
    let metrics = http_get(&served.url("/metrics")).unwrap().1;
    let value = |name: &str| metric(&metrics, &format!("maskwatch_{name}"));
    assert!(value("model_swaps_total{result=\"refused\"}") >= Some(1.0));
    assert_eq!(value("model_refused"), Some(1.0));
    assert!(!lines(&served.0.log(), "model refused").is_empty());
    let of = |answer: &Value| answer["model_id"].clone();
    let record = &models.records[0].records[0].json;
    assert_eq!(
        of(&served.score(record).1),
        first.as_str(),
        "records are scored"
    );
    // Mended, it is taken when it is named anew, without any order.
    std::fs::write(&weights, &sound).unwrap();
    std::fs::write(models.folder.dir().join(CHAMPION), format!("{second}\n")).unwrap();
    let taken = poll_until(PATIENCE, || (notes().1 == second.as_str()).then_some(()));
    assert!(taken.is_some(), "{}", served.0.log());
    assert_eq!(notes().0, Value::Array(Vec::new()));
    let answer = served.score(record).1;
    assert_eq!(
        models.model_of(&answer, 0),
        1,
        "requests have the new model"
    );
    setting.produce(&models.records[0].records, 0, RECORDS);
    setting.wait_for(&mut served, RECORDS);
    served.drain();
}

#[test]
fn only_who_knows_the_token_may_ask_for_another_model_and_without_one_nobody_may() {
    let (setting, models) = setting("token");
    let mut served = setting.start(SECTIONS);
    served.wait_until_ready();
    let url = served.url("/v1/models/reload");
    let (status, answer) = http_order(&url, "a-token-of-twenty-characterz").unwrap();
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("unauthorized"), "{answer}");
    assert_eq!(http_post(&url, b"").unwrap().0, 401);
    assert_eq!(http_get(&url).unwrap().0, 405);
    assert_eq!(
        reload(&mut served),
        (
            200,
            serde_json::json!({"result": "unchanged", "model_id": models.ids[0]})
        )
    );
    models.folder.promote(&models.ids[1], &actor()).unwrap();
    let (status, answer) = reload(&mut served);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["model_id"], models.ids[1].as_str());
    assert!(!served.0.log().contains(TOKEN), "the token is never shown");
    served.drain();
    let mut served = setting.start("");
    served.wait_until_ready();
    let url = served.url("/v1/models/reload");
    assert_eq!(http_order(&url, TOKEN).unwrap().0, 404);
    served.drain();
}
