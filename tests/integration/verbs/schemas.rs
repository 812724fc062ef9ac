//! What `init` makes of a table that nobody explained to it, and what `train` says of it.

use super::rig::{Rig, read, with_column, write};
use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use std::fs;
use std::sync::Arc;

#[test]
fn generated_payments_need_no_explanation_and_lose_nothing_worth_learning() {
    let rig = Rig::new();
    let told = rig
        .run("init --data payments.parquet --out schema.toml")
        .succeeded();
    assert!(
        told.contains("label: `is_fraud` (by its name and its values)"),
        "{told}"
    );
    for name in ["payment_id", "customer_id", "terminal_id", "fraud_scenario"] {
        assert!(told.contains(&format!("`{name}` (")), "{name}: {told}");
    }
    let text = fs::read_to_string(rig.path("schema.toml")).unwrap();
    let of = |name: &str| {
        let name = format!("\nname = \"{name}\"\n");
        let field = text
            .split("\n[[field]]\n")
            .find(|field| format!("\n{field}\n").contains(&name));
        field.unwrap_or_default().to_owned()
    };
    assert!(
        of("seconds_since_last").contains("kind = \"numeric\""),
        "{text}"
    );
    for name in ["amount", "distance_km"] {
        let expected = "kind = \"numeric\"\ntransform = \"log1p\"";
        assert!(of(name).contains(expected), "{name}: {}", of(name));
    }
    assert!(of("is_fraud").contains("role = \"label\""), "{text}");
    rig.train("schema.toml", "bundle", &[]);
}

#[test]
fn one_absurd_amount_is_named_by_init_and_by_train() {
    let rig = Rig::new();
    let payments = read(&rig.path("payments.parquet"));
    let amounts = payments["amount"].as_primitive::<Float64Type>().iter();
    // One row alone might be a calibration row, where it blinds nothing.
    let absurd = |(row, amount): (usize, Option<f64>)| match row % 2_000 {
        1 => Some(1e9),
        _ => amount,
    };
    let amounts: ArrayRef = Arc::new(amounts.enumerate().map(absurd).collect::<Float64Array>());
    let odd = with_column(&payments, "amount", amounts);
    write(&rig.path("odd.parquet"), &odd);
    let told = rig
        .run("init --data odd.parquet --out odd.toml")
        .succeeded();
    assert!(
        told.contains("look at: `amount` (3 of 6000 rows hold most of its variance (1000000000))"),
        "{told}"
    );
    let text = fs::read_to_string(rig.path("odd.toml")).unwrap();
    let blind = text.replace(
        "name = \"amount\"\nkind = \"numeric\"\ntransform = \"log1p\"",
        "name = \"amount\"\nkind = \"numeric\"",
    );
    assert_ne!(blind, text);
    fs::write(rig.path("blind.toml"), blind).unwrap();
    let line = "train --data odd.parquet --schema blind.toml --config train.toml --out blind";
    let ran = rig.run(line);
    assert!(
        ran.stderr.contains("warning: field `amount`: "),
        "{}",
        ran.stderr
    );
    ran.succeeded();
    let page = rig.run("inspect blind").succeeded();
    assert!(page.contains("warning      field `amount`: "), "{page}");
}
