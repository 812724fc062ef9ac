//! The verbs as a user runs them: the real binary on files, from generated payments to scores.
//!
//! Every test has its own folder with its own payments and, where it needs one, its own small bundle:
//! both take tenths of a second. `rig` is that folder; `baselines` is what a bundle is compared with;
//! `faults` is what must be refused, and how; `places` is what may be named as a bundle or an output; `folders` is odd files
//! read as one table; `small_data` is what few rows allow; `real_data` is public data, where
//! there is any; `schemas` is what `init` makes of tables; `tune` is learning from labels; `budget_by` is about segments and
//! groups; `cascade` is about two stages of scoring; `context` is about fields that are
//! seen and not judged; `models` is about folders of bundles.

mod baselines;
mod budget_by;
mod cascade;
mod context;
mod faults;
mod folders;
mod models;
mod places;
mod real_data;
mod recalibrate;
pub mod rig;
mod schemas;
mod small_data;
pub mod tune;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use rig::{PAYMENTS, Rig, SMALL, read, with_column, with_nulls, without_columns, write};
use serde_json::Value;
use std::fs;

fn scores(batch: &RecordBatch) -> Vec<Option<u32>> {
    let scores = batch["anomaly_score"].as_primitive::<Float32Type>();
    scores.iter().map(|score| score.map(f32::to_bits)).collect()
}

fn p_values(batch: &RecordBatch) -> Vec<Option<f64>> {
    batch["p_value"]
        .as_primitive::<Float64Type>()
        .iter()
        .collect()
}

fn alerts(batch: &RecordBatch) -> Vec<Option<bool>> {
    batch["alert"].as_boolean().iter().collect()
}

#[test]
fn init_train_and_inspect_agree() {
    let rig = Rig::new();
    rig.init();
    let trained = rig.train("schema.toml", "bundle", &[]);
    let model_id = rig.model_id("bundle");
    assert!(trained.contains(&format!("model {model_id}")), "{trained}");
    assert!(trained.contains("realised rate within"), "{trained}");
    let page = rig.run("inspect bundle").succeeded();
    let amount = "amount               numeric      feature";
    let views = "views        4 (balanced)";
    for part in [&model_id, amount, "frauds included", views, "40 steps"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn a_declared_contamination_and_a_bounded_loss_shape_the_bundle_and_are_shown() {
    let rig = Rig::new();
    rig.init();
    rig.train("schema.toml", "plain", &[]);
    let page = rig.run("inspect plain").succeeded();
    assert!(
        !page.contains("bounded") && !page.contains("presumed"),
        "{page}"
    );
    let declared = format!("{SMALL}[calibration]\ncontamination = 0.02\n");
    fs::write(rig.path("train.toml"), &declared).unwrap();
    rig.train("schema.toml", "declared", &[]);
    let bounded = declared.replace("[model]\n", "[model]\nhistogram_gamma = 1.0\n");
    fs::write(rig.path("train.toml"), bounded).unwrap();
    rig.train("schema.toml", "bundle", &[]);
    let page = rig.run("inspect bundle").succeeded();
    // Of 1,200 calibration rows.
    for part in [
        "of the histogram bounded, gamma 1",
        "0.02 of the fit rows",
        "24 calibration rows are presumed abnormal",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(rig.score("payments.parquet").num_rows(), PAYMENTS);
    let ids = ["plain", "declared", "bundle"].map(|bundle| rig.model_id(bundle));
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[test]
fn a_transformer_that_hides_nothing_is_shown_and_used_as_any_other_model() {
    let rig = Rig::new();
    rig.init();
    let model = "[model]\narchitecture = \"transformer\"\n";
    let experimental = "[experimental]\nbottleneck_width = 5\nobjective = \"variational\"\n";
    let config = SMALL.replace("[model]\n", &format!("{experimental}{model}"));
    fs::write(rig.path("train.toml"), &config).unwrap();
    rig.train("schema.toml", "bundle", &[]);
    let page = rig.run("inspect bundle").succeeded();
    let objective = "objective    variational: nothing hidden, a bottleneck of 5 numbers";
    for part in [
        "transformer, width 16, 1 blocks of 4 attention heads",
        objective,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert_eq!(rig.score("payments.parquet").num_rows(), PAYMENTS);
    rig.run("embed --model bundle --data payments.parquet --out e.parquet")
        .succeeded();
    let latents = read(&rig.path("e.parquet"))["latent"].clone();
    assert_eq!(latents.as_fixed_size_list().value_length(), 5);
    // Sixteen numbers cannot be shared among three heads.
    fs::write(
        rig.path("train.toml"),
        config.replace("[model]\n", "[model]\nheads = 3\n"),
    )
    .unwrap();
    let train = "train --data payments.parquet --schema schema.toml --config train.toml --out b";
    let error = rig.run(train).failed(64);
    assert!(error.contains("model.heads = 3: must divide"), "{error}");
}

#[test]
fn score_adds_its_columns_to_an_untouched_input() {
    let rig = Rig::trained();
    let scored = rig.score("payments.parquet");
    let payments = read(&rig.path("payments.parquet"));
    let (inputs, added) = scored.columns().split_at(payments.num_columns());
    assert_eq!(inputs, payments.columns());
    let schema = scored.schema();
    let fields = schema.fields()[payments.num_columns()..].iter();
    let fields: Vec<_> = fields.map(|f| (f.name().as_str(), f.data_type())).collect();
    let expected = [
        ("anomaly_score", &DataType::Float32),
        ("p_value", &DataType::Float64),
        ("alert", &DataType::Boolean),
        ("error", &DataType::Utf8),
    ];
    assert_eq!(fields, expected);
    assert_eq!(added[0].null_count() + added[1].null_count(), 0);
    let p_values = added[1].as_primitive::<Float64Type>().values();
    assert!(p_values.iter().all(|&p| p > 0.0 && p <= 1.0));
    let expected: Vec<_> = p_values.iter().map(|&p| Some(p <= 0.001)).collect();
    assert_eq!(alerts(&scored), expected);
    assert_eq!(added[3].null_count(), PAYMENTS);
    // A higher score never has a larger p-value.
    let anomaly_score = added[0].as_primitive::<Float32Type>().values();
    let mut ranked: Vec<_> = anomaly_score.iter().zip(p_values).collect();
    ranked.sort_by(|a, b| a.0.total_cmp(b.0));
    assert!(ranked.is_sorted_by(|a, b| a.1 >= b.1));
}

#[test]
fn evaluate_counts_the_alerts_that_score_gives() {
    let rig = Rig::trained();
    let line = "score --model bundle --data payments.parquet --out z.parquet --alert-budget 0.01";
    let said = rig.run(line).succeeded();
    let scored = read(&rig.path("z.parquet"));
    let alerts = scored["alert"].as_boolean().true_count();
    assert!(alerts > 0, "{said}");
    assert!(said.contains(&format!("{alerts} alerts")), "{said}");
    let line = "evaluate --model bundle --data payments.parquet --label is_fraud";
    let report = rig.run(&format!("{line} --json")).succeeded();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["rows"], PAYMENTS);
    let positives = scored["is_fraud"].as_boolean().true_count();
    assert_eq!(report["positives"], positives);
    let mut budgets = report["at_budget"].as_array().unwrap().iter();
    let at = budgets.find(|at| at["budget"] == 0.01).unwrap();
    assert_eq!(at["alerts"], alerts);
    let text = rig.run(line).succeeded();
    assert!(
        text.contains("alert budget 0.01: realised rate within"),
        "{text}"
    );
}

#[test]
fn figures_on_the_rows_of_the_training_are_said_to_be_optimistic() {
    let rig = Rig::trained();
    let evaluate = |data: &str| {
        let line = format!("evaluate --model bundle --data {data} --label is_fraud");
        let ran = rig.run(&line);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    let payments = read(&rig.path("payments.parquet"));
    write(&rig.path("copy.parquet"), &payments);
    write(&rig.path("half.parquet"), &payments.slice(0, PAYMENTS / 2));
    for same in ["payments.parquet", "copy.parquet"] {
        let said = evaluate(same);
        assert!(
            said.contains("trained on these very rows"),
            "{same}: {said}"
        );
        assert!(said.contains("optimistic"), "{same}: {said}");
    }
    // Half of the rows are known by nothing; under the name of the training file they are suspect.
    assert!(!evaluate("half.parquet").contains("optimistic"));
    fs::copy(rig.path("half.parquet"), rig.path("payments.parquet")).unwrap();
    let said = evaluate("payments.parquet");
    assert!(said.contains("file of this path (run.json)"), "{said}");
}

#[test]
fn a_row_has_one_score_whatever_else_is_in_the_file() {
    let rig = Rig::trained();
    let all = rig.score("payments.parquet");
    let payments = read(&rig.path("payments.parquet"));
    for row in [0, 7, 4_000] {
        write(&rig.path("one.parquet"), &payments.slice(row, 1));
        let one = rig.score("one.parquet");
        assert_eq!(scores(&one)[0], scores(&all)[row]);
        assert_eq!(p_values(&one)[0], p_values(&all)[row]);
    }
    let backwards = arrow::array::UInt32Array::from_iter_values((0..PAYMENTS as u32).rev());
    write(
        &rig.path("turned.parquet"),
        &take_record_batch(&payments, &backwards).unwrap(),
    );
    let mut turned = scores(&rig.score("turned.parquet"));
    turned.reverse();
    assert_eq!(turned, scores(&all));
}

#[test]
fn the_same_seed_gives_the_same_bundle_at_any_thread_count() {
    let rig = Rig::new();
    rig.init();
    let digested = |name: &str| {
        [
            "manifest.json",
            "weights.safetensors",
            "calibration.parquet",
            "distances.safetensors",
        ]
        .map(|file| fs::read(rig.path(name).join(file)).unwrap())
    };
    rig.train("schema.toml", "first", &[]);
    rig.train("schema.toml", "again", &[]);
    let one = [("RAYON_NUM_THREADS", "1")];
    let line = "train --data payments.parquet --schema schema.toml --config train.toml --out one";
    rig.run_with(line, &one).succeeded();
    rig.train("schema.toml", "other", &["--seed", "1"]);
    assert!(digested("first") == digested("again"));
    assert!(digested("first") == digested("one"));
    let (first, other) = (digested("first"), digested("other"));
    assert!(first.iter().zip(&other).all(|(a, b)| a != b));
}

#[test]
fn a_training_over_a_bundle_replaces_it_and_leaves_nothing_else() {
    let rig = Rig::trained();
    let before = rig.model_id("bundle");
    rig.train("schema.toml", "bundle", &["--seed", "9"]);
    assert_ne!(rig.model_id("bundle"), before);
    assert_eq!(
        rig.names(),
        ["bundle", "payments.parquet", "schema.toml", "train.toml"]
    );
    rig.train("schema.toml", "normal", &["--exclude-labelled"]);
    assert!(
        rig.run("inspect normal")
            .succeeded()
            .contains("at most a share b of normal records")
    );
}

#[test]
fn a_training_can_start_from_a_bundle_and_says_from_which() {
    let rig = Rig::trained();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let fields: Vec<&str> = schema.split_inclusive("\n\n").collect();
    // The fields in another order, and without one of them: what is left is matched by name.
    let without = |field: &&&str| !field.contains("name = \"channel\"");
    let turned: Vec<&str> = fields.iter().filter(without).rev().copied().collect();
    assert!(turned.len() < fields.len());
    fs::write(rig.path("turned.toml"), turned.join("\n")).unwrap();

    let parent = rig.model_id("bundle");
    let line = |out: &str| {
        format!(
            "train --data payments.parquet --schema turned.toml --config train.toml --from bundle --out {out}"
        )
    };
    let ran = rig.run(&line("later"));
    let told = format!("starting from model {parent}:");
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("new: none, dropped: channel"),
        "{}",
        ran.stderr
    );
    ran.succeeded();
    let page = rig.run("inspect later").succeeded();
    assert!(page.contains(&format!("from         {parent} ")), "{page}");
    assert!(
        !rig.run("inspect bundle")
            .succeeded()
            .contains("from         ")
    );

    // The same again at one thread; and without the bundle another model.
    let id = rig.model_id("later");
    let one = [("RAYON_NUM_THREADS", "1")];
    rig.run_with(&line("again"), &one).succeeded();
    assert_eq!(rig.model_id("again"), id);
    rig.train("turned.toml", "cold", &[]);
    let loss = |bundle: &str| {
        let run = fs::read(rig.path(bundle).join("run.json")).unwrap();
        let run: Value = serde_json::from_slice(&run).unwrap();
        run["fit"]["held_out_loss"].as_f64().unwrap()
    };
    assert!(loss("later") < loss("cold"));

    // A bundle may be continued in its place.
    rig.train("schema.toml", "bundle", &["--from", "bundle"]);
    let page = rig.run("inspect bundle").succeeded();
    assert!(page.contains(&format!("from         {parent} ")), "{page}");
}

#[test]
fn only_the_feature_columns_are_needed_to_score() {
    let rig = Rig::trained();
    let all = rig.score("payments.parquet");
    let payments = read(&rig.path("payments.parquet"));
    let bare = without_columns(&payments, &["is_fraud", "fraud_scenario", "payment_id"]);
    write(&rig.path("bare.parquet"), &bare);
    assert_eq!(scores(&rig.score("bare.parquet")), scores(&all));
    // A label that holds no labels is another column that is ignored.
    let text = payments["channel"].clone();
    write(
        &rig.path("odd.parquet"),
        &with_column(&payments, "is_fraud", text),
    );
    assert_eq!(scores(&rig.score("odd.parquet")), scores(&all));
}

#[test]
fn files_follow_each_other_in_order_and_what_one_lacks_is_null() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let (first, second) = (
        payments.slice(0, 2_500),
        payments.slice(2_500, PAYMENTS - 2_500),
    );
    fs::create_dir(rig.path("parts")).unwrap();
    write(&rig.path("parts/b.parquet"), &second);
    write(&rig.path("parts/a.parquet"), &first);
    assert_eq!(rig.score("parts"), rig.score("payments.parquet"));

    write(
        &rig.path("parts/b.parquet"),
        &without_columns(&second, &["payment_id"]),
    );
    let lacking = rig.score("parts");
    assert_eq!(scores(&lacking), scores(&rig.score("payments.parquet")));
    assert_eq!(lacking["payment_id"].null_count(), PAYMENTS - 2_500);
    // Latents need no more than the schema's fields.
    rig.run("embed --model bundle --data parts --out latent.parquet")
        .succeeded();
    assert_eq!(read(&rig.path("latent.parquet")).num_rows(), PAYMENTS);
}

/// Rows of `bad.parquet` without the amount that its schema asks for: the first two and the last.
const BAD: [usize; 3] = [0, 1, PAYMENTS - 1];

/// A bundle that needs the amount and has a key, and `bad.parquet`.
fn rig_with_bad_rows() -> Rig {
    let rig = Rig::new();
    rig.init();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let (amount, id) = ("name = \"amount\"\n", "name = \"payment_id\"\nrole = \"");
    assert!(schema.contains(amount) && schema.contains(id), "{schema}");
    let schema = schema
        .replace(amount, &format!("{amount}nullable = false\n"))
        .replace(&format!("{id}ignore"), &format!("{id}key"));
    fs::write(rig.path("schema.toml"), schema).unwrap();
    rig.train("schema.toml", "bundle", &[]);
    let bad = with_nulls(&read(&rig.path("payments.parquet")), "amount", &BAD);
    write(&rig.path("bad.parquet"), &bad);
    rig
}

#[test]
fn bad_rows_keep_their_place_and_leave_their_neighbours_alone() {
    let rig = rig_with_bad_rows();
    let clean = scores(&rig.score("payments.parquet"))
        .into_iter()
        .enumerate();
    let line = "score --model bundle --data bad.parquet --out z.parquet --explain";
    let lenient = rig.run(line);
    let warning = "3 of 6000 rows could not be scored";
    for part in [warning, "bad.parquet, row 0"] {
        assert!(lenient.stderr.contains(part), "{}", lenient.stderr);
    }
    lenient.succeeded();
    let scored = read(&rig.path("z.parquet"));
    let expected = clean.map(|(row, score)| score.filter(|_| !BAD.contains(&row)));
    assert_eq!(scores(&scored), expected.collect::<Vec<_>>());
    let errors = scored["error"].as_string::<i32>();
    for row in 0..PAYMENTS {
        let is_bad = BAD.contains(&row);
        for column in ["p_value", "alert", "reasons"] {
            assert_eq!(scored[column].is_null(row), is_bad, "{column} of row {row}");
        }
        assert_eq!(errors.is_valid(row), is_bad, "error of row {row}");
    }
    let error = errors.value(0);
    assert!(
        error.starts_with("missing_field: ") && error.contains("amount"),
        "{error}"
    );

    let refused = rig.run(&format!("{line} --strict")).failed(65);
    assert!(refused.contains(warning), "{refused}");
    assert_eq!(read(&rig.path("z.parquet")), scored);
}

#[test]
fn bad_rows_have_no_latent_and_keep_their_key() {
    let rig = rig_with_bad_rows();
    let embed = |data: &str| {
        rig.run(&format!(
            "embed --model bundle --data {data} --out e.parquet"
        ))
        .succeeded();
        read(&rig.path("e.parquet"))
    };
    let (some, all) = (embed("bad.parquet"), embed("payments.parquet"));
    let schema = some.schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    assert_eq!(names, ["payment_id", "event_time", "latent"]);
    assert_eq!(
        &some["payment_id"],
        &read(&rig.path("bad.parquet"))["payment_id"]
    );
    let (some, all) = (
        some["latent"].as_fixed_size_list(),
        all["latent"].as_fixed_size_list(),
    );
    assert_eq!((all.value_length(), all.null_count()), (16, 0));
    for row in 0..PAYMENTS {
        assert_eq!(some.is_null(row), BAD.contains(&row), "row {row}");
        assert!(
            some.is_null(row) || some.value(row) == all.value(row),
            "row {row}"
        );
    }
}

#[test]
fn every_reason_is_about_its_row() {
    let rig = Rig::new();
    rig.init();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let secret = "name = \"home_country\"\n";
    fs::write(
        rig.path("schema.toml"),
        schema.replace(secret, &format!("{secret}redact = true\n")),
    )
    .unwrap();
    rig.train("schema.toml", "bundle", &[]);
    rig.run("score --model bundle --data payments.parquet --out z.parquet --explain")
        .succeeded();
    let scored = read(&rig.path("z.parquet"));
    let lists = scored["reasons"].as_list::<i32>();
    let (mut numbers_seen, mut texts_seen, mut redacted) = (0, 0, 0);
    // The longest list, and how many are empty: most payments are ordinary.
    let mut seen = (0, 0);
    for row in 0..PAYMENTS {
        let reasons: ArrayRef = lists.value(row);
        let reasons = reasons.as_struct();
        assert!(reasons.len() <= 5);
        seen.0 = seen.0.max(reasons.len());
        seen.1 += usize::from(reasons.is_empty());
        let text =
            |column: &str, at: usize| reasons[column].as_string::<i32>().value(at).to_owned();
        let p = reasons["p_value"].as_primitive::<Float64Type>();
        assert!(p.values().is_sorted() && p.values().iter().all(|&p| p > 0.0 && p <= 0.05));
        for at in 0..reasons.len() {
            let observed: Value = serde_json::from_str(&text("observed", at)).unwrap();
            let expected: Value = serde_json::from_str(&text("expected", at)).unwrap();
            match text("field", at).as_str() {
                "home_country" => {
                    assert_eq!((observed, expected), ("***".into(), "***".into()));
                    redacted += 1;
                }
                field if expected["low"].is_number() && observed.is_number() => {
                    let numbers = scored[field].as_primitive_opt::<Float64Type>();
                    let number = observed.as_f64().unwrap();
                    assert!(numbers.is_none_or(|numbers| numbers.value(row) == number));
                    let edge = |key: &str| expected[key].as_f64().unwrap();
                    assert!(edge("low") <= edge("value") && edge("value") <= edge("high"));
                    let outside = number < edge("low") || number > edge("high");
                    assert!(
                        scored[field].null_count() > 0 || outside,
                        "{field}: {expected}"
                    );
                    numbers_seen += 1;
                }
                field => {
                    let Some(texts) = scored[field].as_string_opt::<i32>() else {
                        continue;
                    };
                    if texts.is_null(row) {
                        continue;
                    }
                    assert_eq!(observed, texts.value(row));
                    let likeliest = &expected["categories"][0];
                    assert!(likeliest["probability"].as_f64().unwrap() > 0.0);
                    // Where null is possible, a likely value may stand out as null was expected.
                    assert!(texts.null_count() > 0 || observed != likeliest["value"]);
                    texts_seen += 1;
                }
            }
        }
    }
    let counts = [numbers_seen, texts_seen, redacted];
    assert!(counts.iter().all(|&seen| seen > 0), "{counts:?}");
    assert!(seen.0 > 1 && seen.1 > PAYMENTS / 10, "{seen:?}");
}

#[test]
fn generated_payments_depend_on_their_seed_alone() {
    let rig = Rig::new();
    let make = |seed: u32, out: &str| {
        let world = format!("generate --out {out} --rows 3000 --seed {seed} --customers 50");
        rig.run(&world).succeeded();
        fs::read(rig.path(out)).unwrap()
    };
    let first = make(5, "a.parquet");
    assert!(first == make(5, "b.parquet"));
    assert!(first != make(6, "c.parquet"));
    assert_eq!(read(&rig.path("a.parquet")).num_rows(), 3_000);
}

#[test]
fn later_payments_go_on_where_a_file_ends_without_a_flag_repeated() {
    let rig = Rig::new();
    let world = "--seed 3 --customers 200 --terminals 100";
    let whole = format!("generate --out whole.parquet --rows 7000 {world}");
    rig.run(&whole).succeeded();
    rig.run("generate --out later.parquet --rows 1000 --after payments.parquet")
        .succeeded();
    let whole = read(&rig.path("whole.parquet")).slice(PAYMENTS, 1_000);
    let later = read(&rig.path("later.parquet"));
    assert_eq!(whole.columns(), later.columns());
    // The two files are read as one table.
    rig.run("init --data payments.parquet later.parquet --label is_fraud --out both.toml")
        .succeeded();

    let line = "generate --out z.parquet --rows 10 --after";
    let refused = rig
        .run(&format!("{line} payments.parquet --seed 1"))
        .failed(2);
    assert!(refused.contains("--seed"), "{refused}");
    write(&rig.path("other.parquet"), &later);
    let refused = rig.run(&format!("{line} other.parquet")).failed(65);
    assert!(
        refused.contains("other.parquet: not a file that"),
        "{refused}"
    );
    let refused = rig.run(&format!("{line} none.parquet")).failed(65);
    assert!(refused.contains("none.parquet"), "{refused}");
}

#[test]
fn a_broker_that_is_not_there_is_named_with_the_cause() {
    let rig = Rig::new();
    let line = "generate --brokers 127.0.0.1:1 --topic payments --rows 5";
    let error = rig.run(line).failed(1);
    assert!(error.contains("127.0.0.1:1: no broker answers"), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn a_file_of_other_records_is_said_to_be_one_and_why() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let score = |name: &str, batch: &RecordBatch| {
        write(&rig.path(name), batch);
        let line =
            format!("score --model bundle --data {name} --out z.parquet --alert-budget 0.01");
        let ran = rig.run(&line);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stderr
    };
    // What the model was trained on is no surprise, all of it or a few rows.
    for rows in [PAYMENTS, 40] {
        let said = score("same.parquet", &payments.slice(0, rows));
        assert!(!said.contains("warning"), "{said}");
    }
    // Cents for euros in several fields, and a field that does not come.
    let scaled = |batch: &RecordBatch, name: &str| {
        let values = batch[name].as_primitive::<Float64Type>();
        let scaled = values.unary::<_, Float64Type>(|value| value * 1_000.0);
        with_column(batch, name, std::sync::Arc::new(scaled))
    };
    let mut other = payments.clone();
    for name in ["amount", "amount_ratio", "distance_km", "profile_age_days"] {
        other = scaled(&other, name);
    }
    let all: Vec<usize> = (0..PAYMENTS).collect();
    let other = with_nulls(&other, "entry_mode", &all);
    for rows in [PAYMENTS, 300] {
        let said = score("other.parquet", &other.slice(0, rows));
        let first = if rows < 1_000 { "300" } else { "1,000" };
        for part in [
            format!("null in all of the first {first} records: 'entry_mode'"),
            format!("{first} alerts in the first {first} records, 100.00 %"),
            "budget 1.00 %, promised".to_owned(),
            "The alerts are everywhere".to_owned(),
            "'entry_mode' is null in 100 %".to_owned(),
            "another unit?".to_owned(),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
        assert_eq!(said.matches("warning").count(), 2, "{said}");
    }
}
