//! README, quickstart and references, held against the program: what a new user types works as printed, on fewer rows and with
//! a smaller model, and what the daemon writes follows the JSON Schemas under `schemas/`.
//!
//! Commands of the shell are run by the shell. Kafka's own tools and `curl` are stand-ins that write down what they are asked
//! for; the rig then does it on a real broker and on the daemon's real port.

mod json_schema;

use crate::serve::material::Records;
use crate::serve::setting::{PATIENCE, Served, Setting};
use crate::support::start_daemon;
use crate::verbs::rig::{Rig, SMALL, read};
use crate::verbs::tune;
use arrow::array::Array;
use json_schema::Schemas;
use maskwatch::Detector;
use maskwatch::generate::to_json_lines;
use maskwatch::records::{DecodeLimits, JsonDecoder};
use maskwatch_testing::daemon::{Daemon, http_get, http_post};
use maskwatch_testing::kafka_broker::Broker;
use maskwatch_testing::kafka_topics::{InputRecord, Isolation, OutputRecord, TopicSpec};
use maskwatch_testing::poll_until;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../README.md");
const QUICKSTART: &str = include_str!("../../docs/quickstart.md");

/// What stands for a cluster in the documents.
const CLUSTER: &str = "localhost:9092";
/// Payments that are sent to the topic.
const SENT: usize = 300;
/// Programs that a machine with this repository may lack.
const STAND_INS: [&str; 3] = ["kafka-topics.sh", "kafka-console-consumer.sh", "curl"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The blocks of code of a kind, in order.
fn blocks<'a>(document: &'a str, kind: &str) -> Vec<&'a str> {
    let opening = format!("```{kind}\n");
    let blocks = document.split(opening.as_str()).skip(1);
    blocks
        .map(|block| block.split("\n```").next().unwrap())
        .collect()
}

/// The commands of this program in the blocks of a console, in order, without the program's name.
fn commands(document: &str) -> Vec<&str> {
    let lines = blocks(document, "console").into_iter().flat_map(str::lines);
    lines
        .filter_map(|line| line.strip_prefix("$ maskwatch "))
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
        "generate" if words.contains(&"--brokers") => words.extend(["--rows", "300"]),
        "generate" if words.contains(&"--after") => words.extend(["--rows", "2000"]),
        "generate" => words.extend(["--rows", "6000"]),
        "train" => words.extend(["--config", "small.toml"]),
        _ => {}
    }
    words.join(" ")
}

/// Runs the commands in order, all but `serve`, which is returned with those that need a cluster.
fn run(rig: &Rig, commands: &[&'static str]) -> Vec<&'static str> {
    fs::write(rig.path("small.toml"), SMALL).unwrap();
    let (mut verbs, mut left) = (Vec::new(), Vec::new());
    for command in commands {
        verbs.push(command.split(' ').next().unwrap());
        if command.starts_with("serve ") || command.contains("--brokers") {
            left.push(*command);
        } else {
            rig.run(&small(command)).succeeded();
        }
    }
    left
}

fn write_configuration(rig: &Rig, document: &str, change: impl Fn(&str) -> String) {
    let blocks = blocks(document, "toml");
    let of_serve: Vec<&&str> = blocks
        .iter()
        .filter(|block| block.contains("[kafka]"))
        .collect();
    assert_eq!(of_serve.len(), 1);
    fs::write(rig.path("serve.toml"), change(of_serve[0])).unwrap();
}

#[test]
fn the_commands_of_the_readme_work_as_printed() {
    let rig = Rig::empty();
    write_configuration(&rig, README, str::to_owned);
    for line in [
        "generate --out payments.parquet",
        "generate --out later.parquet --after payments.parquet",
    ] {
        rig.run(&small(line)).succeeded();
    }
    let commands = commands(README);
    let verbs: Vec<&str> = commands
        .iter()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        verbs,
        [
            "init", "train", "inspect", "score", "evaluate", "check", "serve"
        ]
    );
    assert_eq!(run(&rig, &commands), ["serve serve.toml"]);
    assert_eq!(read(&rig.path("scored.parquet")).num_rows(), 6_000);
}

/// A folder of stand-ins, each of which writes its arguments to a file of its name with `.asked`, one a line and a blank line
/// behind each call.
fn stand_ins(rig: &Rig) -> String {
    let folder = rig.path("stand-ins");
    fs::create_dir(&folder).unwrap();
    for name in STAND_INS {
        let path = folder.join(name);
        let body =
            "#!/bin/bash\nprintf '%s\\0' \"$@\" >> \"$0.asked\"; printf '\\0' >> \"$0.asked\"\n";
        fs::write(&path, body).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder.display().to_string()
}

/// The arguments of every call of a stand-in.
fn asked(rig: &Rig, name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(rig.path(&format!("stand-ins/{name}.asked"))).expect(name);
    let calls = text.split("\0\0").filter(|call| !call.is_empty());
    calls
        .map(|call| call.split('\0').map(str::to_owned).collect())
        .collect()
}

/// The value behind a flag.
fn value<'a>(call: &'a [String], flag: &str) -> &'a str {
    let at = call.iter().position(|word| word == flag);
    &call[at.unwrap_or_else(|| panic!("{flag}: {call:?}")) + 1]
}

fn run_in_shell(rig: &Rig, path: &str, block: &str) {
    let output = Command::new("bash")
        .args(["-e", "-c", block])
        .current_dir(rig.path(""))
        .env(
            "PATH",
            format!("{path}:{}", std::env::var("PATH").unwrap_or_default()),
        )
        .output()
        .expect("bash");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{block}\n{said}");
}

/// The quickstart in a folder, on topics that have a name of this run in front: others may use the cluster too.
struct Quickstart {
    rig: Rig,
    broker: &'static Broker,
    prefix: String,
}

impl Quickstart {
    fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Everything up to the scored file; then the shell's commands, so that the stand-ins know what they are asked for. The
    /// commands that need a cluster are returned.
    fn work_on_files(&self) -> Vec<&'static str> {
        let path = stand_ins(&self.rig);
        let commands = commands(QUICKSTART);
        let mut shell = blocks(QUICKSTART, "sh").into_iter();
        // The shell's first block changes the schema, between `init` and `train`.
        let train = commands
            .iter()
            .position(|line| line.starts_with("train "))
            .unwrap();
        let mut left = run(&self.rig, &commands[..train]);
        run_in_shell(&self.rig, &path, shell.next().unwrap());
        let schema = fs::read_to_string(self.rig.path("payments.toml")).unwrap();
        assert!(
            schema.contains("name = \"payment_id\"\nrole = \"key\""),
            "{schema}"
        );
        left.extend(run(&self.rig, &commands[train..]));
        assert_eq!(read(&self.rig.path("scored.parquet")).num_rows(), 2_000);
        shell.for_each(|block| run_in_shell(&self.rig, &path, block));
        left
    }

    fn create_topics(&self) {
        let spec = |call: &Vec<String>| {
            assert!(call.contains(&"--create".to_owned()), "{call:?}");
            assert_eq!(value(call, "--bootstrap-server"), CLUSTER);
            let partitions = value(call, "--partitions").parse().unwrap();
            TopicSpec::new(&self.topic(value(call, "--topic")), partitions)
        };
        let calls = asked(&self.rig, "kafka-topics.sh");
        assert_eq!(calls.len(), 4);
        self.broker
            .create_topics(&calls.iter().map(spec).collect::<Vec<_>>());
    }

    fn serve(&self) -> Daemon {
        let configuration = self.rig.path("serve.toml");
        let model = self.rig.path("model").display().to_string();
        let environment = [
            ("MASKWATCH__KAFKA__GROUP_ID", self.prefix.as_str()),
            ("MASKWATCH__MODEL__DIR", &model),
            ("MASKWATCH__HTTP__LISTEN", "127.0.0.1:0"),
        ];
        start_daemon(&["serve".as_ref(), configuration.as_os_str()], &environment)
    }

    fn send(&self, generate: &str) {
        let topic = format!("--topic {}", self.topic("payments"));
        let generate = small(generate).replace(CLUSTER, self.broker.bootstrap_servers());
        self.rig
            .run(&generate.replace("--topic payments", &topic))
            .succeeded();
    }

    /// What the console's consumer would show, beside all scores.
    fn assert_the_reader_sees_every_alert(&self, sent: usize) {
        let read = |name: &str, count| {
            let topic = self.topic(name);
            self.broker
                .read_at_least(&topic, Isolation::ReadCommitted, count, PATIENCE)
        };
        let scores = read("payments-scores", sent);
        assert_eq!(scores.len(), sent);
        let calls = asked(&self.rig, "kafka-console-consumer.sh");
        assert_eq!(value(&calls[0], "--bootstrap-server"), CLUSTER);
        assert_eq!(value(&calls[0], "--isolation-level"), "read_committed");
        let flagged = scores
            .iter()
            .filter(|score| json(score)["alert"] == true)
            .count();
        assert_eq!(read(value(&calls[0], "--topic"), 0).len(), flagged);
    }

    /// The record that `curl` was given is whole, and the daemon scores it.
    fn assert_the_record_is_scored(&self, address: &str) {
        let calls = asked(&self.rig, "curl");
        let record = value(&calls[0], "-d");
        assert_eq!(value(&calls[0], "-X"), "POST");
        let (_, path) = calls[0][2].split_once("127.0.0.1:9477").unwrap();
        let (status, answer) =
            http_post(&format!("http://{address}{path}"), record.as_bytes()).unwrap();
        assert_eq!(status, 200, "{answer}");
        the_record_is_whole(&self.rig, record);
    }
}

#[test]
fn the_quickstart_works_as_printed_from_files_to_alerts_in_kafka() {
    let broker = Broker::shared();
    let prefix = broker.unique_name("quickstart");
    let tour = Quickstart {
        rig: Rig::empty(),
        broker,
        prefix,
    };
    write_configuration(&tour.rig, QUICKSTART, |text| {
        let text = text.replace("\"payments", &format!("\"{}", tour.topic("payments")));
        text.replace(CLUSTER, broker.bootstrap_servers())
    });
    let [serve, generate] = tour.work_on_files()[..] else {
        panic!("one daemon and one sender are expected")
    };
    assert_eq!(serve, "serve serve.toml");
    tour.create_topics();
    let mut daemon = tour.serve();
    let address = address(&mut daemon);
    daemon.wait_for_http(&format!("http://{address}/readyz"), PATIENCE);
    tour.send(generate);
    tour.assert_the_reader_sees_every_alert(SENT);
    tour.assert_the_record_is_scored(&address);
    let shown = blocks(QUICKSTART, "json");
    assert_eq!(shown.len(), 1);
    assert_follows(
        "envelope.schema.json",
        &serde_json::from_str(shown[0]).unwrap(),
    );
    daemon.terminate();
    assert_eq!(daemon.wait(PATIENCE).code(), Some(0));
}

/// Where a daemon listens.
fn address(daemon: &mut Daemon) -> String {
    daemon.wait_for_log("\"listening\"", PATIENCE);
    let log = daemon.log();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["message"] == "listening").unwrap();
    line["address"].as_str().unwrap().to_owned()
}

/// The record has every field that the training rows always had.
fn the_record_is_whole(rig: &Rig, record: &str) {
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
}

/// The documents for users that hold commands.
fn documents() -> BTreeMap<String, String> {
    fn below(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("notebook") {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.insert(
                    path.display().to_string(),
                    fs::read_to_string(&path).unwrap(),
                );
            }
        }
    }
    let mut found = BTreeMap::new();
    below(&root().join("docs"), &mut found);
    for name in ["README.md", "CONTRIBUTING.md"] {
        found.insert(
            name.to_owned(),
            fs::read_to_string(root().join(name)).unwrap(),
        );
    }
    found
}

/// Lines of blocks of code, and code within lines.
fn code_of(text: &str) -> Vec<&str> {
    let mut code = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        match number % 2 {
            0 => code.extend(part.split('`').skip(1).step_by(2)),
            _ => code.extend(part.lines().skip(1)),
        }
    }
    code
}

#[test]
fn every_command_in_the_documents_has_a_verb_and_flags_of_the_program() {
    let rig = Rig::empty();
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let mut flags = 0;
    for (name, text) in documents() {
        let text = text.replace("\\\n", " ");
        let code = code_of(&text);
        let commands = code.iter().filter_map(|code| {
            let code = code.trim().trim_start_matches("$ ");
            // Variables of the environment may stand before the program.
            let is_first = |before: &str| {
                before
                    .split(' ')
                    .all(|word| word.is_empty() || word.contains('='))
            };
            code.split_once("maskwatch ")
                .filter(|(before, _)| is_first(before))
        });
        for (_, command) in commands {
            let command = command.split(['#', '|', ';']).next().unwrap();
            let mut words = command
                .split_whitespace()
                .map(|word| word.trim_matches(['[', ']', ',', '.']));
            let is_verb = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
            let Some(mut verb) = words.next().filter(is_verb).map(str::to_owned) else {
                continue;
            };
            // It has verbs of its own.
            if verb == "models"
                && let Some(of_models) = words.next().filter(is_verb)
            {
                verb = format!("models {of_models}");
            }
            let help = help
                .entry(verb.clone())
                .or_insert_with(|| rig.run(&format!("{verb} --help")).succeeded());
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(
                    help.contains(flag),
                    "{name}: maskwatch {command}: {flag} is no flag of {verb}"
                );
                flags += 1;
            }
        }
    }
    assert!(
        flags > 40 && help.len() > 8,
        "{flags} flags of {:?}",
        help.keys()
    );
}

fn json(output: &OutputRecord) -> Value {
    serde_json::from_str(output.text()).unwrap()
}

fn schemas() -> Schemas {
    Schemas::read(&root().join("schemas"))
}

#[track_caller]
fn assert_follows(file: &str, value: &Value) {
    let faults = schemas().faults(file, value);
    assert!(faults.is_empty(), "{file}: {faults:?}\n{value:#}");
}

/// The headers of a dead letter that the daemon has added, as one object.
fn added_headers(letter: &OutputRecord) -> Value {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let all = letter.headers.iter();
    let headers =
        all.map(|(name, value)| (text(name), Value::String(text(value.as_deref().unwrap()))));
    let added: Map<String, Value> = headers
        .filter(|(name, _)| name.starts_with("maskwatch-error-"))
        .collect();
    Value::Object(added)
}

#[test]
fn what_the_daemon_writes_and_answers_follows_the_json_schemas() {
    let records = Records::payments(200);
    let setting = Setting::new("json-schemas", 1, &records.bundle);
    let mut served = setting.start_with("budget = 0.05\nreasons = \"all\"", "");
    every_report_of_readiness_follows_its_schema(&mut served);
    everything_that_is_written_follows_its_schema(&setting, &records, &mut served);
    every_answer_follows_its_schema(&records, &mut served);
    served.drain();
}

fn parsed((status, body): (u16, String)) -> (u16, Value) {
    let json = serde_json::from_str(&body);
    (
        status,
        json.unwrap_or_else(|error| panic!("{error}: {body}")),
    )
}

/// Not ready at first, ready later.
fn every_report_of_readiness_follows_its_schema(served: &mut Served) {
    let url = served.url("/readyz");
    let mut statuses = Vec::new();
    let ready = poll_until(PATIENCE, || {
        let (status, report) = parsed(http_get(&url).ok()?);
        assert_follows("readyz.schema.json", &report);
        assert_eq!(report["ready"], status == 200);
        statuses.push(status);
        (status == 200).then_some(())
    });
    assert_eq!(ready, Some(()), "{statuses:?}");
    assert_eq!(statuses[0], 503, "ready before any partition was assigned");
}

fn everything_that_is_written_follows_its_schema(
    setting: &Setting,
    records: &Records,
    served: &mut Served,
) {
    let good = records.records.len();
    setting.produce(&records.records, 0, good);
    let bad = [
        InputRecord::of("nonsense"),
        InputRecord::of("{\"amount\": \"dear\"}"),
        InputRecord::of(""),
        InputRecord::of("{\"other\": 1}"),
        InputRecord::of("x".repeat(2 << 20)),
        InputRecord::tombstone(),
    ];
    let count = bad.len();
    let bad = bad.map(|record| record.key("k").partition(0).header("trace", "t"));
    setting.broker.produce(&setting.input, &bad);
    setting.wait_for(served, good + count);
    let scores = setting.read(&setting.scores);
    assert_eq!(scores.len(), good);
    for output in scores.iter().chain(&setting.read(&setting.alerts)) {
        assert_follows("envelope.schema.json", &json(output));
    }
    let reasons = scores
        .iter()
        .map(|output| json(output)["reasons"].as_array().unwrap().len());
    assert!(
        reasons.sum::<usize>() > good / 4,
        "few reasons were looked at"
    );
    let letters = setting.read(&setting.dead);
    assert_eq!(letters.len(), count);
    for letter in &letters {
        assert_follows("dead-letter-headers.schema.json", &added_headers(letter));
    }
}

fn every_answer_follows_its_schema(records: &Records, served: &mut Served) {
    let [first, second] = [&records.records[0].json, &records.records[1].json];
    let array = [
        &b"["[..],
        first,
        b", {\"amount\": \"dear\"}, ",
        second,
        b"]",
    ]
    .concat();
    for body in [first.clone(), array, b"[]".to_vec()] {
        let (status, answer) = served.score(&body);
        assert_eq!(status, 200, "{answer}");
        assert_follows("score-answer.schema.json", &answer);
    }
    let many = format!("[{}]", vec!["{}"; 1_001].join(","));
    for (body, status) in [
        ("7", 422),
        ("{\"amount\": \"dear\"}", 422),
        (many.as_str(), 413),
    ] {
        let (found, answer) = served.score(body.as_bytes());
        assert_eq!(found, status, "{answer}");
        assert_follows("http-error.schema.json", &answer);
    }
    for (path, status) in [("/v1/nowhere", 404), ("/v1/score", 405)] {
        let (found, answer) = parsed(http_get(&served.url(path)).unwrap());
        assert_eq!(found, status, "{answer}");
        assert_follows("http-error.schema.json", &answer);
    }
}

#[test]
fn an_envelope_of_two_detectors_follows_its_schema_too() {
    let rig = tune::rig();
    rig.run(tune::TUNE).succeeded();
    let text = "[kafka]\nbootstrap_servers = \"embedded\"\ninput_topics = [\"payments\"]\n\
                [alerts]\nbudget = 0.2\n[http]\nlisten = \"127.0.0.1:0\"\n[model]\ndir = \"tuned\"\n";
    let configuration = rig.path("serve.toml");
    fs::write(
        &configuration,
        text.replace("\"tuned\"", &format!("{:?}", rig.path("tuned"))),
    )
    .unwrap();
    let mut daemon = start_daemon(&["serve".as_ref(), configuration.as_os_str()], &[]);
    let address = address(&mut daemon);
    daemon.wait_for_log("\"model loaded\"", PATIENCE);
    let lines = to_json_lines(&read(&rig.path("fresh.parquet"))).unwrap();
    let (mut fired, mut contributions) = (0, 0);
    let records = lines
        .split(|&byte| byte == b'\n')
        .filter(|record| !record.is_empty());
    for record in records.take(300) {
        let url = format!("http://{address}/v1/score");
        let (status, answer) = http_post(&url, record).unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_follows("score-answer.schema.json", &answer);
        fired += answer["fired"].as_array().expect("two detectors").len();
        let reasons = answer["reasons"].as_array().unwrap().iter();
        contributions += reasons
            .filter(|reason| reason.get("contribution").is_some())
            .count();
    }
    assert!(
        fired > 0 && contributions > 0,
        "{fired} fired, {contributions} contributions"
    );
    daemon.terminate();
    assert_eq!(daemon.wait(PATIENCE).code(), Some(0));
}

/// Names of properties in a schema, at any depth.
fn properties(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                names.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| properties(value, names));
        }
        Value::Array(array) => array.iter().for_each(|value| properties(value, names)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_json_schemas_is_in_the_reference() {
    let page = |name: &str| fs::read_to_string(root().join("docs/reference").join(name)).unwrap();
    let pages = page("outputs.md") + &page("http.md");
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let words: BTreeSet<&str> = pages.split(|c| !is_word(c)).collect();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("schemas")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".schema.json") {
            properties(
                &serde_json::from_slice(&fs::read(&path).unwrap()).unwrap(),
                &mut names,
            );
        }
    }
    assert!(names.len() > 30, "{names:?}");
    for name in &names {
        assert!(words.contains(name.as_str()), "{name} is in neither page");
    }
}

#[test]
fn every_verb_is_in_the_reference() {
    let page = fs::read_to_string(root().join("docs/reference/exit-codes.md")).unwrap();
    let help = Rig::empty().run("--help").succeeded();
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let verbs = verbs.lines().take_while(|line| line.starts_with("  "));
    let verbs: Vec<&str> = verbs
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 10, "{verbs:?}");
    for verb in verbs.into_iter().filter(|verb| *verb != "help") {
        assert!(page.contains(&format!("| `{verb} ")), "{verb} is missing");
    }
}

#[test]
fn every_json_schema_is_held_against_real_outputs() {
    let source = include_str!("documents.rs");
    for name in schemas().names() {
        assert!(
            source.contains(&format!("assert_follows(\"{name}\"")),
            "{name} is used by no test"
        );
    }
}
