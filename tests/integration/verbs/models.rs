//! `maskwatch models` as a user runs it: a folder of bundles, who serves, who changed it, and what a kill leaves.

use super::rig::Rig;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

/// A rig with three bundles and a folder `models` that holds them; their ids.
fn with_models() -> (Rig, [String; 3]) {
    let rig = Rig::new();
    rig.init();
    rig.train("schema.toml", "first", &[]);
    rig.train("schema.toml", "second", &["--seed 1"]);
    rig.train("schema.toml", "third", &["--from first"]);
    let ids = ["first", "second", "third"].map(|bundle| {
        let added = rig
            .run(&format!("models add models {bundle} --by ada"))
            .succeeded();
        let id = rig.model_id(bundle);
        assert!(added.contains(&id), "{added}");
        id
    });
    (rig, ids)
}

fn list(rig: &Rig) -> Value {
    let text = rig.run("models list models --json").succeeded();
    serde_json::from_str(&text).expect("JSON")
}

fn journal(rig: &Rig) -> Vec<Value> {
    let text = fs::read_to_string(rig.path("models/log.jsonl")).expect("a log");
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON a line")
}

#[test]
fn a_folder_of_models_says_which_one_serves_and_who_changed_that() {
    let (rig, [first, second, third]) = with_models();
    let listed = list(&rig);
    assert_eq!(listed["champion"], Value::Null);
    assert_eq!(listed["models"].as_array().expect("models").len(), 3);
    let user = [("USER", "grace")];
    let promoted = rig
        .run_with(&format!("models promote models {first}"), &user)
        .succeeded();
    assert_eq!(promoted, format!("champion: none -> {first}\n"));
    let prefix = &second[..8];
    rig.run(&format!(
        "models challenge models {prefix} --by ada --note try"
    ))
    .succeeded();
    let listed = list(&rig);
    assert_eq!(
        (&listed["champion"], &listed["challenger"]),
        (&Value::from(first.as_str()), &Value::from(second.as_str()))
    );
    let promoted = rig
        .run("models promote models challenger --by ada")
        .succeeded();
    assert_eq!(promoted, format!("champion: {first} -> {second}\n"));
    let back = rig
        .run("models rollback models --by ada --note alerts")
        .succeeded();
    assert_eq!(back, format!("champion: {second} -> {first}\n"));
    assert_eq!(list(&rig)["challenger"], Value::Null);
    check_pages(&rig, [&first, &third]);
    rig.run(&format!("models retire models {third} --delete --by ada"))
        .succeeded();
    assert!(!rig.path("models").join(&third).exists());
    check_journal(&journal(&rig), [&first, &second]);
}

/// `show` and `list` tell of the champion `first` and of its child `third`.
fn check_pages(rig: &Rig, [first, third]: [&str; 2]) {
    let page = rig.run(&format!("models show models {third}")).succeeded();
    for part in [
        third,
        "kept",
        &format!("trained from {first}"),
        "realised rate",
        "by ada",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(
        rig.run("models show models").succeeded().contains(first),
        "the champion"
    );
    let table = rig.run("models list models").succeeded();
    let line = |id: &str| {
        table
            .lines()
            .find(|line| line.starts_with(id))
            .expect(id)
            .to_owned()
    };
    assert!(line(first).contains("champion"), "{table}");
    assert!(
        line(third).contains(&format!("trained from {first}")),
        "{table}"
    );
}

/// The log of what was done: who, what, from and to.
fn check_journal(journal: &[Value], [first, second]: [&str; 2]) {
    let told: Vec<&str> = journal
        .iter()
        .map(|of| of["what"].as_str().expect("a word"))
        .collect();
    assert_eq!(
        told,
        [
            "added",
            "added",
            "added",
            "promoted",
            "challenged",
            "promoted",
            "rolled_back",
            "retired",
            "deleted"
        ]
    );
    assert_eq!(journal[3]["by"], "grace", "the user of the environment");
    assert_eq!(
        (&journal[6]["by"], &journal[6]["note"]),
        (&Value::from("ada"), &Value::from("alerts"))
    );
    assert_eq!(
        (&journal[6]["from"], &journal[6]["to"]),
        (&Value::from(second), &Value::from(first))
    );
}

#[test]
fn what_a_models_folder_refuses_is_told_with_its_remedy() {
    let (rig, [first, second, _]) = with_models();
    rig.run(&format!("models promote models {first}"))
        .succeeded();
    let refused = [
        ("retire models FIRST", 64, "promote another one first"),
        ("challenge models FIRST", 64, "is the champion"),
        ("rollback models", 64, "no earlier champion"),
        ("promote models feed", 64, "no model `feed`, there are: "),
        ("show models challenger", 64, "there is no challenger"),
        ("list first", 64, "is a bundle, expected a models folder"),
        ("list absent", 64, "there is nothing of this name"),
        ("add models absent", 65, "absent"),
        ("add first second", 64, "is a bundle"),
        ("challenge models", 2, "ID"),
        ("list s3://bucket/models", 64, "s3://bucket/models"),
    ];
    for (line, code, part) in refused {
        let line = format!("models {}", line.replace("FIRST", &first));
        let said = rig.run(&line).failed(code);
        assert!(said.contains(part), "{line}: {said}");
    }
    // Damaged on the disk: whoever is to serve is looked at first.
    let weights = rig.path("models").join(&second).join("weights.safetensors");
    let mut bytes = fs::read(&weights).expect("weights");
    bytes[100] ^= 1;
    fs::write(&weights, bytes).expect("weights");
    let said = rig
        .run(&format!("models promote models {second}"))
        .failed(65);
    assert!(said.contains("weights.safetensors"), "{said}");
    assert_eq!(list(&rig)["champion"], first.as_str());
    // A bundle under another name.
    rig.run("models add models second").succeeded();
    rig.train("schema.toml", "models/mine", &["--seed 3"]);
    let ran = rig.run("models list models");
    assert!(
        ran.stderr.contains("models/mine: a bundle whose folder"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_program_that_is_killed_while_it_promotes_leaves_the_old_champion_or_the_new_one() {
    const KILLS: u32 = 40;
    let (rig, [first, second, _]) = with_models();
    rig.run(&format!("models promote models {first} --by ada"))
        .succeeded();
    let begin = Instant::now();
    rig.run(&format!("models promote models {second} --by ada"))
        .succeeded();
    let whole = begin.elapsed();
    let (mut killed, mut moved) = (0, 0);
    for round in 0..KILLS {
        let before = fs::read_to_string(rig.path("models/champion")).expect("a pointer");
        let next = if before.trim() == first {
            &second
        } else {
            &first
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_maskwatch"))
            .args(["models", "promote", "models", next, "--by", "ada"])
            .current_dir(rig.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        // From the start of the program to beyond its end.
        let moment = round * 7 % KILLS;
        std::thread::sleep(whole.mul_f64(1.5 * f64::from(moment) / f64::from(KILLS)));
        killed += usize::from(child.try_wait().expect("a status").is_none());
        child.kill().expect("a signal");
        child.wait().expect("an end");
        let after = fs::read_to_string(rig.path("models/champion")).expect("a pointer");
        assert!(after == before || after == format!("{next}\n"), "{after:?}");
        moved += usize::from(after != before);
    }
    eprintln!("{killed} of {KILLS} killed, {moved} moved the pointer");
    assert!(killed > 0 && moved > 0, "{killed} killed, {moved} moved");
    // Whatever was left, the folder goes on: the log tells of the champion, and the lock is free.
    rig.run("models promote models challenger").failed(64);
    let champion = list(&rig)["champion"].clone();
    let next = if champion == first.as_str() {
        &second
    } else {
        &first
    };
    rig.run(&format!("models promote models {next} --by ada"))
        .succeeded();
    let mut standing = Value::Null;
    for entry in journal(&rig) {
        if entry["what"] != "added" {
            assert_eq!(entry["from"], standing, "{entry}");
            standing = entry["to"].clone();
        }
    }
    assert_eq!(standing, next.as_str());
}

#[test]
fn a_configuration_may_name_a_folder_of_models() {
    let (rig, [first, ..]) = with_models();
    let text = "[kafka]\nbootstrap_servers = \"localhost:9092\"\ninstance_id = \"a\"\ninput_topics = [\"in\"]\n\
                [alerts]\nbudget = 0.01\n[model]\ndir = \"models\"\n";
    fs::write(rig.path("serve.toml"), text).expect("a configuration");
    let said = rig.run("check serve.toml").failed(64);
    assert!(
        said.contains("there is no champion; `maskwatch models promote models ID`"),
        "{said}"
    );
    rig.run(&format!("models promote models {first}"))
        .succeeded();
    let said = rig.run("check serve.toml").succeeded();
    assert!(
        said.contains(&format!("model: {first} in models, its champion")),
        "{said}"
    );
    fs::write(rig.path("models/champion"), "../first\n").expect("a pointer");
    let said = rig.run("check serve.toml").failed(65);
    assert!(said.contains("\"../first\", expected a model_id"), "{said}");
}
