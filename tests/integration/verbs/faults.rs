//! What must be refused: with which exit code, with which words, and with nothing left behind.

use super::rig::{PAYMENTS, Rig, SMALL, read, with_column, without_columns, write};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array, new_null_array,
};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Float32Type, TimestampMillisecondType};
use std::fs;
use std::sync::Arc;

/// A training on `data` that must fail with `code`; its message, and a folder as it was before.
#[track_caller]
fn training_refused(rig: &Rig, data: &str, code: i32) -> String {
    let before = rig.names();
    let line = format!("train --data {data} --schema schema.toml --config train.toml --out new");
    let message = rig.run(&line).failed(code);
    assert_eq!(rig.names(), before, "{message}");
    message
}

#[test]
fn bad_training_data_is_refused_by_file_and_column_and_leaves_no_bundle() {
    let rig = Rig::new();
    rig.init();
    let payments = read(&rig.path("payments.parquet"));
    write(
        &rig.path("lacks.parquet"),
        &without_columns(&payments, &["amount", "channel"]),
    );
    let message = training_refused(&rig, "lacks.parquet", 65);
    for part in ["lacks.parquet", "amount", "channel"] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let text: ArrayRef = Arc::new(StringArray::from(vec!["much"; PAYMENTS]));
    write(
        &rig.path("text.parquet"),
        &with_column(&payments, "amount", text),
    );
    let message = training_refused(&rig, "text.parquet", 65);
    for part in ["text.parquet", "amount", "Utf8"] {
        assert!(message.contains(part), "{part}: {message}");
    }

    write(&rig.path("none.parquet"), &payments.slice(0, 0));
    let message = training_refused(&rig, "none.parquet", 65);
    assert!(
        message.contains("none.parquet has no rows: at least 1"),
        "{message}"
    );

    let nulls = new_null_array(&DataType::Float64, PAYMENTS);
    write(
        &rig.path("null.parquet"),
        &with_column(&payments, "amount", nulls),
    );
    let message = training_refused(&rig, "null.parquet", 65);
    for part in ["null.parquet", "'amount'", "are null"] {
        assert!(message.contains(part), "{part}: {message}");
    }

    let bytes = fs::read(rig.path("payments.parquet")).unwrap();
    fs::write(rig.path("cut.parquet"), &bytes[..bytes.len() - 100]).unwrap();
    let message = training_refused(&rig, "cut.parquet", 65);
    assert!(
        message.contains("cut.parquet is not a Parquet file, or its footer is corrupt"),
        "{message}"
    );
    let message = training_refused(&rig, "absent.parquet", 65);
    assert!(message.contains("absent.parquet"), "{message}");

    // Five in a shop and four online: six of them train, so that no field is null in all.
    let channel = payments["channel"].as_string::<i32>();
    let of = |name: &str, rows: usize| {
        let fitting = (0..PAYMENTS as u32).filter(|&row| channel.value(row as usize) == name);
        fitting.take(rows).collect::<Vec<u32>>()
    };
    let rows = UInt32Array::from([of("card_present", 5), of("online", 4)].concat());
    write(
        &rig.path("few.parquet"),
        &take_record_batch(&payments, &rows).unwrap(),
    );
    let message = training_refused(&rig, "few.parquet", 65);
    assert!(message.contains("training needs at least 50"), "{message}");
}

#[test]
fn schema_and_configuration_faults_are_told_together_and_end_with_64() {
    let rig = Rig::new();
    rig.init();
    let schema = fs::read_to_string(rig.path("schema.toml")).unwrap();
    fs::write(
        rig.path("train.toml"),
        "[model]\nwidht = 3\n[training]\nsteps = 0\n",
    )
    .unwrap();
    let message = training_refused(&rig, "payments.parquet", 64);
    for part in [
        "train.toml",
        "model.widht: unknown key, did you mean `width`?",
        "training.steps = 0",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }

    fs::write(
        rig.path("schema.toml"),
        schema.replace("kind = \"numeric\"", "kind = \"number\""),
    )
    .unwrap();
    let message = training_refused(&rig, "absent.parquet", 64);
    let parts = [
        "3 faults",
        "schema.toml",
        "amount",
        "found \"number\"",
        "train.toml",
        "model.widht",
        "absent.parquet",
    ];
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }

    fs::write(
        rig.path("schema.toml"),
        "[[field]]\nname = \"amount\"\nkind = \"numeric\"\n",
    )
    .unwrap();
    fs::write(
        rig.path("train.toml"),
        "[calibration]\nsplit = \"latest\"\n",
    )
    .unwrap();
    let message = training_refused(&rig, "payments.parquet", 64);
    assert!(
        message.contains("needs a field with role \"time\""),
        "{message}"
    );
    let message = training_refused(&rig, "payments.parquet --exclude-labelled", 64);
    assert!(
        message.contains("needs a field with role \"label\""),
        "{message}"
    );
}

#[test]
fn a_start_that_does_not_fit_is_refused_by_key_and_both_values() {
    let rig = Rig::trained();
    let wider = fs::read_to_string(rig.path("train.toml"))
        .unwrap()
        .replace("width = 16", "width = 24\nlikelihood = [\"gaussian\"]");
    fs::write(rig.path("train.toml"), wider).unwrap();
    let message = training_refused(&rig, "payments.parquet --from bundle", 64);
    let parent = rig.model_id("bundle");
    for part in [
        &format!("cannot start from model {parent}"),
        "model.width = 24: must be 16",
        "model.likelihood = [\"gaussian\"]: must be [\"histogram\",\"robust_squared_error\",",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let message = training_refused(&rig, "payments.parquet --from absent", 65);
    assert!(
        message.contains("absent: there is nothing of this name"),
        "{message}"
    );
}

#[test]
fn a_start_that_would_calibrate_on_rows_it_was_fitted_to_is_refused() {
    let rig = Rig::trained();
    let message = training_refused(&rig, "payments.parquet --from bundle --seed 5", 64);
    assert!(
        message.contains("--seed = 5: must be 0 on the data of the bundle"),
        "{message}"
    );
}

#[test]
fn what_a_slip_could_destroy_is_not_replaced() {
    let rig = Rig::trained();
    let schema = fs::read(rig.path("schema.toml")).unwrap();
    let message = rig
        .run("init --data payments.parquet --out schema.toml")
        .failed(64);
    assert!(
        message.contains("schema.toml: exists and is not replaced"),
        "{message}"
    );
    assert_eq!(fs::read(rig.path("schema.toml")).unwrap(), schema);

    let payments = fs::read(rig.path("payments.parquet")).unwrap();
    for verb in ["score", "embed"] {
        let line =
            format!("{verb} --model bundle --data payments.parquet --out ./payments.parquet");
        let message = rig.run(&line).failed(64);
        assert!(message.contains("one of the inputs"), "{message}");
        let line = format!("{verb} --model bundle --data payments.parquet --out bundle");
        assert!(rig.run(&line).failed(64).contains("is a folder"));
    }
    assert!(fs::read(rig.path("payments.parquet")).unwrap() == payments);

    fs::create_dir(rig.path("new")).unwrap();
    fs::write(rig.path("new/mine.txt"), "mine").unwrap();
    let message = training_refused(&rig, "payments.parquet", 64);
    assert!(
        message.contains("new: exists and is not a bundle"),
        "{message}"
    );
    assert_eq!(fs::read_dir(rig.path("new")).unwrap().count(), 1);
}

#[test]
fn a_column_with_the_name_of_an_output_is_refused() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let more =
        |name: &str, batch: &RecordBatch| with_column(batch, name, payments["amount"].clone());
    write(
        &rig.path("again.parquet"),
        &more("p_value", &more("alert", &payments)),
    );
    let message = rig
        .run("score --model bundle --data again.parquet --out z.parquet")
        .failed(65);
    for part in ["again.parquet", "'p_value'", "'alert'"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!rig.path("z.parquet").exists());
    // `reasons` is an output only where they are asked for.
    write(&rig.path("told.parquet"), &more("reasons", &payments));
    rig.run("score --model bundle --data told.parquet --out z.parquet --explain")
        .failed(65);
    rig.run("score --model bundle --data told.parquet --out z.parquet")
        .succeeded();
}

#[test]
fn moments_in_another_unit_than_the_trainings_are_bad_rows_and_stop_nothing() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    let millis = payments["time"].as_primitive::<TimestampMillisecondType>();
    // Seconds that a writer put into a column of milliseconds, in every tenth row.
    let mixed = (0..PAYMENTS).map(|row| match row % 10 {
        0 => millis.value(row) / 1_000,
        _ => millis.value(row),
    });
    let mixed: ArrayRef = Arc::new(TimestampMillisecondArray::from_iter_values(mixed));
    write(
        &rig.path("mixed.parquet"),
        &with_column(&payments, "time", mixed),
    );
    let sound = rig.score("payments.parquet");
    let scored = rig.score("mixed.parquet");
    let scores = |of: &RecordBatch| of["anomaly_score"].as_primitive::<Float32Type>().clone();
    let (sound, found) = (scores(&sound), scores(&scored));
    let errors = scored["error"].as_string::<i32>();
    for row in 0..PAYMENTS {
        if row % 10 > 0 {
            assert_eq!(found.value(row).to_bits(), sound.value(row).to_bits());
            assert!(errors.is_null(row));
            continue;
        }
        assert!(found.is_null(row));
        let error = errors.value(row);
        for part in [
            "wrong_type: field `time`",
            "20 years",
            "1970-01-",
            "the unit",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let line = "evaluate --model bundle --data mixed.parquet --label is_fraud";
    rig.run(line).succeeded();
    rig.run("embed --model bundle --data mixed.parquet --out e.parquet")
        .succeeded();
    let strict = "score --model bundle --data mixed.parquet --out z.parquet --strict";
    let message = rig.run(strict).failed(65);
    assert!(message.contains("600 of 6000 rows"), "{message}");
    let text = rig.run("inspect bundle").succeeded();
    assert!(text.contains("moments from "), "{text}");
}

#[test]
fn a_stand_in_date_is_named_by_init_and_by_train_and_does_not_widen_what_the_bundle_knows() {
    let rig = Rig::empty();
    // Payments of 2026 with days since 1970, of which one is 4488-02-03 and one is the beginning of 1970.
    let rows = 2_000_i64;
    let day = |row: i64| match row {
        7 => 919_714,
        11 => 0,
        _ => 20_400 + row % 300,
    };
    let days: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(day)));
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values(
        (0..rows).map(|row| ((row * 37) % 101) as f64 + 0.5),
    ));
    let batch = RecordBatch::try_from_iter([("value_date", days), ("amount", amounts)]).unwrap();
    write(&rig.path("days.parquet"), &batch);
    let said = rig
        .run("init --data days.parquet --out days.toml")
        .succeeded();
    let slip = "1 row has a moment far from all others: 4488-02-03T00:00:00Z";
    assert!(said.contains(slip), "{said}");
    let text = fs::read_to_string(rig.path("days.toml")).unwrap();
    let keys = "unit = \"days\"\nnull_values = [\"1970-01-01T00:00:00Z\"]";
    assert!(text.contains(keys), "{text}");

    fs::write(rig.path("train.toml"), SMALL).unwrap();
    let line = "train --data days.parquet --schema days.toml --config train.toml --out days";
    let said = rig.run(line);
    assert_eq!(said.code, Some(0));
    let said = said.stderr;
    assert!(said.contains("4488-02-03T00:00:00Z"), "{said}");
    assert!(!said.contains("1970-01-01"), "{said}");
    let shown = rig.run("inspect days").succeeded();
    let kept = "moments from 2025-11-08T00:00:00Z to 2026-09-03T00:00:00Z, 1 left out: 4488-02-03T00:00:00Z";
    assert_eq!(
        shown.matches(kept).count(),
        2,
        "the feature and the time: {shown}"
    );
    rig.run("score --model days --data days.parquet --out days-scored.parquet")
        .succeeded();
    let scored = read(&rig.path("days-scored.parquet"));
    let errors = scored["error"].as_string::<i32>();
    let bad: Vec<usize> = (0..rows as usize)
        .filter(|&row| errors.is_valid(row))
        .collect();
    assert_eq!(bad, [7]);
    assert!(
        errors.value(7).contains("training had a row like it"),
        "{}",
        errors.value(7)
    );
}

#[test]
fn a_bundle_with_a_changed_byte_is_refused_by_file() {
    let rig = Rig::trained();
    let score = "score --model bundle --data payments.parquet --out z.parquet";
    for name in [
        "manifest.json",
        "weights.safetensors",
        "calibration.parquet",
        "distances.safetensors",
    ] {
        let gone = |message: &str| message.contains(name) && message.contains("bundle");
        let path = rig.path("bundle").join(name);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len())
            .step_by(sound.len() / 24)
            .chain([sound.len() - 1])
        {
            let mut changed = sound.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            let message = rig.run("inspect bundle").failed(65);
            assert!(message.contains(name), "byte {at}: {message}");
        }
        fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert!(rig.run(score).failed(65).contains(name));
        fs::remove_file(&path).unwrap();
        assert!(gone(&rig.run(score).failed(65)));
        // A folder in place of the file.
        fs::create_dir(&path).unwrap();
        let message = rig.run(score).failed(65);
        assert!(
            message.contains(name) && message.contains("is a folder"),
            "{message}"
        );
        fs::remove_dir(&path).unwrap();
        fs::write(&path, sound).unwrap();
    }
    assert!(!rig.path("z.parquet").exists());
    // run.json counts for nothing: a bundle without it, or with an edited one, is whole.
    fs::write(rig.path("bundle/run.json"), "{\"seconds\": \"long\"}").unwrap();
    assert!(rig.run("inspect bundle").succeeded().contains("- steps"));
    fs::remove_file(rig.path("bundle/run.json")).unwrap();
    assert!(
        rig.run("inspect bundle")
            .succeeded()
            .contains("run.json is missing")
    );
    rig.run(score).succeeded();
}

#[test]
fn whatever_byte_of_a_file_is_damaged_the_end_is_orderly() {
    let rig = Rig::trained();
    let payments = read(&rig.path("payments.parquet"));
    write(&rig.path("part.parquet"), &payments.slice(0, 300));
    let sound = fs::read(rig.path("part.parquet")).unwrap();
    let before = rig.names();
    let mut refused = 0;
    for at in (4..sound.len()).step_by(sound.len() / 60) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0xff;
        fs::write(rig.path("part.parquet"), damaged).unwrap();
        let ran = rig.run("score --model bundle --data part.parquet --out z.parquet");
        match ran.code {
            // A changed value is still a value.
            Some(0) => fs::remove_file(rig.path("z.parquet")).unwrap(),
            _ => {
                assert!(ran.failed(65).contains("part.parquet"), "byte {at}");
                refused += 1;
            }
        }
        assert_eq!(rig.names(), before, "byte {at}");
    }
    assert!(refused > 5, "{refused}");
}

#[test]
fn labels_that_are_none_cannot_be_evaluated() {
    let rig = Rig::trained();
    let evaluate = |data: &str, label: &str, code: i32| {
        let line = format!("evaluate --model bundle --data {data} --label {label}");
        rig.run(&line).failed(code)
    };
    let message = evaluate("payments.parquet", "fraud", 65);
    assert!(
        message.contains("payments.parquet: column 'fraud' (--label) is missing"),
        "{message}"
    );
    let message = evaluate("payments.parquet", "amount", 64);
    assert!(
        message.contains("`amount` is a feature of this bundle")
            && message.contains("`is_fraud` (--label)"),
        "{message}"
    );
    let message = evaluate("payments.parquet", "payment_id", 65);
    assert!(message.contains("column `payment_id`, row 0"), "{message}");
    let payments = read(&rig.path("payments.parquet"));
    write(&rig.path("one.parquet"), &payments.slice(0, 1));
    let message = evaluate("one.parquet", "is_fraud", 65);
    assert!(
        message.contains("one.parquet") && message.contains("both classes"),
        "{message}"
    );
}

#[test]
fn a_wrong_command_line_ends_with_2_and_other_failures_with_1() {
    let rig = Rig::trained();
    let lines = [
        "score",
        "praise",
        "generate --out g.parquet --rows 0",
        "generate --out g.parquet --rows 9 --customers 3",
        "score --model bundle --data payments.parquet --out z.parquet --alert-budget 1",
    ];
    for line in lines {
        rig.run(line).failed(2);
    }
    // A folder that is not there is named, and no file that nobody has asked for.
    for line in [
        "generate --rows 9 --out no/such/g.parquet",
        "score --model bundle --data payments.parquet --out no/such/g.parquet",
        "embed --model bundle --data payments.parquet --out no/such/g.parquet",
        "init --data payments.parquet --out no/such/g.parquet",
    ] {
        let message = rig.run(line).failed(64);
        let named =
            "no/such/g.parquet: the folder no/such is not there, expected a folder that exists";
        assert!(message.contains(named), "{message}");
        assert!(!message.contains(".tmp"), "{message}");
    }
    let message = rig
        .run("score --model bundle --data nothere.parquet --out z.parquet")
        .failed(65);
    assert!(
        message.contains("cannot read nothere.parquet: no such file"),
        "{message}"
    );
    let message = rig
        .run("score --model nowhere --data payments.parquet --out z.parquet")
        .failed(65);
    assert!(message.contains("nowhere"), "{message}");
    assert!(!rig.path("z.parquet").exists());
}

#[test]
fn a_budget_that_cannot_be_reached_is_warned_of() {
    let rig = Rig::trained();
    let line = "score --model bundle --data payments.parquet --out z.parquet --alert-budget 0.0001";
    let ran = rig.run(line);
    assert!(
        ran.stderr.contains("alert budget 0.0001 cannot be reached"),
        "{}",
        ran.stderr
    );
    assert!(ran.succeeded().contains(" 0 alerts"));
}
