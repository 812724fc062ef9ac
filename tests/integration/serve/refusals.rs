//! Training first, and what `serve` and `check` refuse, with which exit code.
//!
//! Nothing here needs a cluster but the training, so the servers named elsewhere need not exist.

use super::material::{Records, model};
use super::setting::{PATIENCE, Setting};
use crate::support::start_daemon;
use maskwatch::Detector;
use maskwatch::bundle::{MANIFEST, WEIGHTS};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What a configuration names besides its sections: a cluster that nobody runs.
const NOWHERE: &str = "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\ninput_topics = [\"in\"]\n\
                       [http]\nlisten = \"127.0.0.1:0\"\n";

/// Exit code and output of `maskwatch verb` on a configuration for the bundle in `bundle`.
fn run(verb: &[&str], bundle: &Path, more: &str) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("maskwatch.toml");
    let text = format!("{NOWHERE}[model]\ndir = {bundle:?}\n{more}");
    fs::write(&config, text).unwrap();
    let mut arguments = verb.to_vec();
    arguments.push(config.to_str().unwrap());
    let mut ended = start_daemon(&arguments, &[]);
    let status = ended.wait(PATIENCE);
    (status.code(), ended.log())
}

const SERVE: &[&str] = &["serve", "--config"];
const CHECK: &[&str] = &["check"];

#[test]
fn serve_trains_first_where_there_is_no_bundle_and_makes_the_same_one_as_train() {
    let (model, records) = (model(), Records::payments(500));
    let folder = TempDir::new().unwrap();
    let bundle = folder.path().join("models/payments");
    let section = format!(
        "[train]\ndata = [{:?}]\nschema = {:?}\nconfig = {:?}\n",
        model.data, model.schema, model.training
    );
    let setting = Setting::new("trains", 1, &bundle);
    let (code, said) = run(CHECK, &bundle, &section);
    assert_eq!(code, Some(64), "800 calibration rows are too few: {said}");
    let attainable = format!("{section}[alerts]\nbudget = 0.05\n");
    let (code, said) = run(CHECK, &bundle, &attainable);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("serve trains one first"), "{said}");
    assert!(!bundle.exists(), "check made something");

    setting.produce(&records.records, 0, 500);
    let mut served = setting.start(&section);
    setting.wait_for(&mut served, 500);
    served.drain();
    let trained = Detector::load(&bundle).unwrap();
    assert_eq!(trained.model_id(), model.detector.model_id());
    setting.assert_exactly_once(&records);
}

#[test]
fn what_the_client_does_not_take_is_refused_by_check_and_serve_before_any_contact() {
    let bundle = &model().bundle;
    let ssl = "\"security.protocol\" = \"SSL\"\n";
    for (properties, parts) in [
        (
            "\"sesion.timeout.ms\" = 6000\n\"linger.ms\" = \"soon\"\n".to_owned(),
            ["did you mean \"session.timeout.ms\"?", "linger.ms"],
        ),
        (
            format!("{ssl}\"ssl.ca.location\" = \"/no/such/ca.pem\"\n"),
            ["ssl.ca.location", "/no/such/ca.pem"],
        ),
        (
            "\"sasl.mechanism\" = \"GSSAPI\"\n".to_owned(),
            ["\"GSSAPI\" is not supported", "SCRAM-SHA-512"],
        ),
        (
            "\"security.protocol\" = \"SASL_SSL\"\n\"sasl.mechanism\" = \"OAUTHBEARER\"\n"
                .to_owned(),
            ["no source of tokens", "sasl.oauthbearer.token.endpoint.url"],
        ),
    ] {
        let section = format!("[kafka.properties]\n{properties}");
        for verb in [SERVE, CHECK, &["serve"], &["check", "--config"]] {
            let (code, said) = run(verb, bundle, &section);
            assert_eq!(code, Some(64), "{said}");
            for part in parts {
                assert!(said.contains(part), "{part}: {said}");
            }
            assert!(!said.contains("listening"), "{said}");
        }
    }
}

#[test]
fn a_port_in_use_names_the_key_and_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("maskwatch.toml");
    let text = NOWHERE.replace("127.0.0.1:0", &address);
    fs::write(
        &config,
        format!("{text}[model]\ndir = {:?}\n", model().bundle),
    )
    .unwrap();
    let mut ended = start_daemon(&["serve", config.to_str().unwrap()], &[]);
    assert_eq!(ended.wait(PATIENCE).code(), Some(1));
    let said = ended.log();
    for part in ["http.listen", &address, "another port"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_budget_that_the_calibration_rows_cannot_reach_is_refused_unless_it_is_allowed() {
    let bundle = &model().bundle;
    let unattainable = "[alerts]\nbudget = 0.001\n";
    for verb in [SERVE, CHECK] {
        let (code, said) = run(verb, bundle, unattainable);
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains("alerts.budget = 0.001"), "{said}");
        assert!(said.contains("800 calibration rows"), "{said}");
    }
    let allowed = format!("{unattainable}allow_unattainable_budget = true\n");
    let (code, said) = run(CHECK, bundle, &allowed);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("warning: alert budget 0.001"), "{said}");

    let records = Records::payments(100);
    let setting = Setting::new("allowed", 1, bundle);
    setting.produce(&records.records, 0, 100);
    let mut served = setting.start_with("budget = 0.001\nallow_unattainable_budget = true", "");
    setting.wait_for(&mut served, 100);
    served.drain();
    assert_eq!(setting.read(&setting.scores).len(), 100);
    assert_eq!(setting.read(&setting.alerts).len(), 0);
}

#[test]
fn an_unknown_key_and_a_value_out_of_range_are_refused_by_serve_and_check_alike() {
    for (more, named) in [
        ("[delivery]\nmood = \"good\"\n", "mood"),
        ("[batch]\nrows_max = 0\n", "batch.rows_max"),
    ] {
        for verb in [SERVE, CHECK] {
            let (code, said) = run(verb, &model().bundle, more);
            assert_eq!(code, Some(64), "{verb:?}: {said}");
            assert!(said.contains(named), "{verb:?}: {said}");
            assert!(said.contains("maskwatch.toml"), "{verb:?}: {said}");
        }
    }
}

#[test]
fn schema_files_that_cannot_be_used_are_refused_by_serve_and_check_alike() {
    let more = "[input]\nformat = \"avro\"\nschema_files = { 7 = \"nowhere.avsc\" }\n\
                [alerts]\nbudget = 0.05\n";
    for verb in [SERVE, CHECK] {
        let (code, said) = run(verb, &model().bundle, more);
        assert_eq!(code, Some(64), "{verb:?}: {said}");
        assert!(said.contains("nowhere.avsc"), "{verb:?}: {said}");
    }
}

#[test]
fn a_damaged_bundle_is_refused_by_serve_and_check_alike_naming_the_file() {
    let folder = TempDir::new().unwrap();
    let bundle = folder.path().join("model");
    fs::create_dir(&bundle).unwrap();
    for entry in fs::read_dir(&model().bundle).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), bundle.join(entry.file_name())).unwrap();
    }
    let weights = bundle.join(WEIGHTS);
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    for verb in [SERVE, CHECK] {
        let (code, said) = run(verb, &bundle, "[alerts]\nbudget = 0.05\n");
        assert_eq!(code, Some(65), "{verb:?}: {said}");
        assert!(said.contains(WEIGHTS), "{verb:?}: {said}");
    }
}

#[test]
fn no_bundle_and_no_training_is_refused_by_serve_and_check_alike() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (dir, found) in [
        (folder.path().join("none"), "no bundle there, and"),
        (empty, "no bundle there, and"),
        (file, "no bundle there but something that is no folder, and"),
    ] {
        for verb in [SERVE, CHECK] {
            let (code, said) = run(verb, &dir, "");
            assert_eq!(code, Some(64), "{verb:?}: {said}");
            let expected = format!("{}: {found} no [train] section to make one", dir.display());
            assert!(said.contains(&expected), "{verb:?}: {said}");
        }
    }
}

#[test]
fn faults_of_the_model_are_told_beside_those_of_the_configuration() {
    let folder = TempDir::new().unwrap();
    let none = folder.path().join("none");
    let damaged = folder.path().join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join(MANIFEST), "{").unwrap();
    let schema = folder.path().join("schema.toml");
    fs::write(&schema, "[[field]]\nname = \"a\"\nkind = \"odd\"\n").unwrap();
    let training = format!(
        "[batch]\nrows_max = 0\n[train]\ndata = [\"nowhere.parquet\"]\nschema = {schema:?}\n\
         config = \"nowhere.toml\"\n"
    );
    let bad_batch = "[batch]\nrows_max = 0\n";
    let bad_key = "[delivery]\nmood = \"good\"\n";
    for (dir, more, parts) in [
        (&none, bad_batch, vec!["batch.rows_max", "no bundle there"]),
        (&none, bad_key, vec!["mood", "no bundle there"]),
        (&damaged, bad_batch, vec!["batch.rows_max", MANIFEST]),
        (
            &none,
            training.as_str(),
            vec![
                "batch.rows_max",
                "schema.toml",
                "nowhere.toml",
                "nowhere.parquet",
            ],
        ),
        (
            &model().bundle,
            "[batch]\nrows_max = 0\n[alerts]\nbudget = 0.001\n",
            vec!["batch.rows_max", "800 calibration rows"],
        ),
    ] {
        for verb in [SERVE, CHECK] {
            let (code, said) = run(verb, dir, more);
            assert_eq!(code, Some(64), "{verb:?}: {said}");
            for part in &parts {
                assert!(said.contains(part), "{verb:?}: {part}: {said}");
            }
        }
    }
}
