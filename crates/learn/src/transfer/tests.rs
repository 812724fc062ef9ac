//! What a child predicts at its start, against what its parent predicts of the same records.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::encode::{EncoderFitter, FieldShape, Records};
use crate::model::{InputBuilder, Likelihood, Masking, ModelConfig, ObjectiveKind};
use crate::rng::{Purpose, stream};
use crate::schema::{Field, Kind};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use rand::RngExt;
use std::sync::Arc;

const ROWS: i64 = 600;

/// A batch of six kinds of fields with nulls: `amount` around `middle`, `shop` of one of `shops`, `fee` of one of `fees`.
struct World<'a> {
    middle: f64,
    spread: f64,
    shops: &'a [&'a str],
    fees: &'a [f64],
}

/// The world of the parent.
const OLD: World<'_> = World {
    middle: 0.0,
    spread: 1.0,
    shops: &["a", "b", "b", "c", "c", "c", "d", "d", "d", "d"],
    fees: &[0.0, 0.0, 2.5],
};

impl World<'_> {
    fn column(&self, name: &str) -> ArrayRef {
        let some = |i: i64, every: i64| i % every != 0;
        let x = |i: i64| ((i * 7919) % 1000) as f64 / 500.0 - 1.0;
        let shop = |i: i64| self.shops[(i * 31) as usize % self.shops.len()];
        match name {
            "amount" => {
                let amount = |i| some(i, 29).then(|| self.middle + self.spread * x(i));
                Arc::new(Float64Array::from_iter((0..ROWS).map(amount)))
            }
            "ratio" => {
                let ratio = |i| Some(x(i).powi(3) + 0.1 * (i % 7) as f64);
                Arc::new(Float64Array::from_iter((0..ROWS).map(ratio)))
            }
            "fee" => {
                let fee = |i| some(i, 41).then(|| self.fees[(i * 31) as usize % self.fees.len()]);
                Arc::new(Float64Array::from_iter((0..ROWS).map(fee)))
            }
            "shop" => {
                let shop = |i| some(i, 23).then(|| shop(i));
                Arc::new(StringArray::from_iter((0..ROWS).map(shop)))
            }
            "chip" => {
                let chip = |i: i64| some(i, 31).then_some(i % 3 == 0);
                Arc::new(BooleanArray::from_iter((0..ROWS).map(chip)))
            }
            _ => {
                let at = |i: i64| some(i, 37).then_some(i * 3_600_000_000);
                Arc::new(TimestampMicrosecondArray::from_iter((0..ROWS).map(at)))
            }
        }
    }

    /// Batch and encoder of the named fields in that order, with two classes and `rare`.
    fn records(&self, names: &[&str]) -> (RecordBatch, Encoder) {
        let columns = names.iter().map(|&name| (name, self.column(name)));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let fields: Vec<Field> = names.iter().map(|name| field(name)).collect();
        let mut fitter = EncoderFitter::new(&fields, 2).unwrap();
        fitter.observe(&batch).unwrap();
        (batch, fitter.finish().unwrap())
    }
}

fn field(name: &str) -> Field {
    let kind = match name {
        "amount" | "ratio" | "fee" => Kind::Numeric,
        "shop" => Kind::Categorical,
        "chip" => Kind::Boolean,
        _ => Kind::Timestamp,
    };
    Field::feature(name, kind)
}

fn config(masking: Masking) -> ModelConfig {
    ModelConfig {
        width: 24,
        blocks: 2,
        masking,
        histogram_bins: 64,
        likelihood: vec![
            Likelihood::Histogram,
            Likelihood::StudentT,
            Likelihood::SquaredError,
            Likelihood::RobustSquaredError,
            Likelihood::QuantileHistogram,
            Likelihood::QuantileRobustSquaredError,
        ],
        ..ModelConfig::default()
    }
}

/// A model whose every parameter, biases too, was drawn.
fn model(encoder: &Encoder, config: &ModelConfig, seed: u64) -> MaskedAutoencoder {
    let model = MaskedAutoencoder::new(config, ObjectiveKind::Masked, encoder, seed).unwrap();
    let mut rng = stream(seed, Purpose::Initialisation);
    let drawn = (0..model.parameters().count()).map(|_| rng.random_range(-0.4..0.4f32));
    let drawn: Vec<f32> = drawn.collect();
    model.parameters().set_flat(&drawn).unwrap();
    model
}

fn side<'a>(encoder: &'a Encoder, model: &'a MaskedAutoencoder) -> Side<'a> {
    Side { encoder, model }
}

/// The logits of every field of record `row` with the fields of the given names hidden.
fn logits(side: Side<'_>, records: &Records, row: usize, hidden: &[&str]) -> Vec<Vec<f32>> {
    let fields = side.encoder.fields();
    let mut inputs = InputBuilder::new(side.model.shapes(), 1);
    inputs.push(records, row, |f| hidden.contains(&fields[f].name.as_str()));
    let latent = side.model.latent(&inputs.finish().unwrap(), None).unwrap();
    let logits = side.model.logits(&latent).unwrap();
    let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let heads = side.model.heads();
    let columns = (0..fields.len()).map(|field| heads.field(field).outputs());
    columns.map(|columns| logits[columns].to_vec()).collect()
}

#[track_caller]
fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= tolerance, "{a} {b}");
    }
}

#[test]
fn a_child_with_the_same_encoder_has_the_same_logits_to_the_last_bit() {
    let (batch, encoder) = OLD.records(&["amount", "shop", "chip", "at", "ratio", "fee"]);
    let records = encoder.encode(&batch).unwrap();
    for masking in [Masking::Drop, Masking::Token] {
        let (old, new) = (
            model(&encoder, &config(masking), 1),
            model(&encoder, &config(masking), 2),
        );
        let (parent, child) = (side(&encoder, &old), side(&encoder, &new));
        let transferred = transfer(parent, child).unwrap();
        assert_eq!(transferred.carried.len(), 6);
        assert_eq!(
            transferred.sentence(),
            "6 fields carried over, new: none, dropped: none"
        );
        for row in [0, 1, 23, 29, 31] {
            for hidden in [&[][..], &["shop", "amount"], &["at"]] {
                let [a, b] = [parent, child].map(|side| logits(side, &records, row, hidden));
                assert_eq!(a, b);
            }
        }
        assert_eq!(
            old.parameters().to_flat().unwrap(),
            new.parameters().to_flat().unwrap()
        );
    }
}

#[test]
fn other_orders_of_fields_and_codes_change_the_order_of_logits_and_nothing_else() {
    // Other counts, hence other codes: the parent's order is d c | b a, the child's a b | c d.
    let shops = ["d", "c", "c", "b", "b", "b", "a", "a", "a", "a"];
    let later = World {
        shops: &shops,
        ..OLD
    };
    for masking in [Masking::Drop, Masking::Token] {
        let (batch, old_encoder) = OLD.records(&["amount", "shop", "chip", "at"]);
        let (_, new_encoder) = later.records(&["at", "chip", "shop", "amount"]);
        let (old, new) = (
            model(&old_encoder, &config(masking), 1),
            model(&new_encoder, &config(masking), 2),
        );
        let (parent, child) = (side(&old_encoder, &old), side(&new_encoder, &new));
        transfer(parent, child).unwrap();
        let of_old = old_encoder.encode(&batch).unwrap();
        let of_new = new_encoder.encode(&batch).unwrap();
        for row in 0..60 {
            for hidden in [&[][..], &["shop", "at"], &["amount", "chip"]] {
                let a = logits(parent, &of_old, row, hidden);
                let b = logits(child, &of_new, row, hidden);
                for (field, of_child) in [(0, 3), (2, 1), (3, 0)] {
                    assert_close(&a[field], &b[of_child], 2e-5);
                }
                // Both heads have nullness, two values and `rare`. The child's values were rare to the parent, with the
                // shares (180 or 60 or so, plus a half) of their mass.
                let (a, b) = (&a[1], &b[2]);
                let share = |value| match &old_encoder.fields()[1].value {
                    crate::encode::ValueEncoder::Categorical(shop) => {
                        -shop.surprise_within_class(shop.encode(value))
                    }
                    _ => f32::NAN,
                };
                let expected = [a[0], a[3] + share("a"), a[3] + share("b"), a[3]];
                assert_close(&expected, b, 2e-5);
            }
        }
    }
}

#[test]
fn what_a_number_is_predicted_to_be_does_not_change_with_its_standardisation() {
    let later = World {
        middle: 0.7,
        spread: 1.6,
        ..OLD
    };
    let names = ["amount", "shop", "ratio"];
    for masking in [Masking::Drop, Masking::Token] {
        let (batch, old_encoder) = OLD.records(&names);
        let (_, new_encoder) = later.records(&names);
        let (old, new) = (
            model(&old_encoder, &config(masking), 1),
            model(&new_encoder, &config(masking), 2),
        );
        smooth(&old, 1..65);
        let (parent, child) = (side(&old_encoder, &old), side(&new_encoder, &new));
        transfer(parent, child).unwrap();
        let [from, to] = [&old_encoder, &new_encoder].map(|e| match &e.fields()[0].value {
            crate::encode::ValueEncoder::Numeric(amount) => amount.clone(),
            _ => unreachable!(),
        });
        assert!((to.scale / from.scale - 1.6).abs() < 0.01 && (to.mean - from.mean) > 0.6);
        let of_old = old_encoder.encode(&batch).unwrap();
        let mut of_new = new_encoder.encode(&batch).unwrap();
        for row in 1..40 {
            // The same amount has another rank among other amounts. What is carried over speaks of equal ranks.
            of_new.set_number(row, 1, of_old.numbers(row)[1]);
            for hidden in [&["amount"][..], &["shop"], &["ratio", "shop"]] {
                let a = logits(parent, &of_old, row, hidden);
                let b = logits(child, &of_new, row, hidden);
                // Other fields do not notice that a number is shown on another scale.
                assert_close(&a[1], &b[1], 5e-5);
                assert_close(&a[2], &b[2], 5e-5);
                let (a, b) = (&a[0], &b[0]);
                // Nullness; then 64 bins, Student's location and log scale, the squared error's location, the robust one's
                // location and log scale. The readings of ranks are behind them.
                assert!((a[0] - b[0]).abs() < 5e-5);
                assert_eq!(a.len(), 70 + 64 + 2);
                assert_close(&a[70..], &b[70..], 5e-5);
                for at in [65, 67, 68] {
                    let [of_old, of_new] = [from.decode(a[at]), to.decode(b[at])];
                    assert!((of_old - of_new).abs() < 1e-4, "{of_old} {of_new}");
                }
                for at in [66, 69] {
                    let [of_old, of_new] = [
                        f64::from(a[at]) + from.scale.ln(),
                        f64::from(b[at]) + to.scale.ln(),
                    ];
                    assert!((of_old - of_new).abs() < 1e-4);
                }
                let [of_old, of_new] = [(a, &from), (b, &to)].map(|(logits, encoder)| {
                    cumulative(&logits[1..65], move |z| encoder.decode(z))
                });
                for amount in [-1.0, -0.4, 0.3, 1.0] {
                    let (p, q) = (of_old(amount), of_new(amount));
                    assert!((p - q).abs() < 0.01, "P(x <= {amount}): {p} {q}");
                }
            }
        }
    }
}

/// Averages every output column of `columns` with its neighbours: the targets of training are as smooth.
fn smooth(model: &MaskedAutoencoder, columns: std::ops::Range<usize>) {
    let mut flat = Vec::new();
    for (name, weights) in Tensors::read(model.parameters()).unwrap().iter() {
        let mut data = weights.data.clone();
        if name.starts_with("output.") {
            for (row, out) in data.chunks_mut(weights.columns).enumerate() {
                for column in columns.clone() {
                    let near =
                        column.saturating_sub(4).max(columns.start)..columns.end.min(column + 5);
                    let count = near.len() as f32;
                    out[column] = weights.row(row)[near].iter().sum::<f32>() / count;
                }
            }
        }
        flat.extend(data);
    }
    model.parameters().set_flat(&flat).unwrap();
}

/// P(x <= amount) under a histogram's logits, bins filled evenly on the squashed scale.
fn cumulative(logits: &[f32], decode: impl Fn(f32) -> f64) -> impl Fn(f64) -> f64 {
    use crate::model::likelihood::histogram::Histogram;
    let bins = logits.len();
    let histogram = Histogram::new(bins, 1.0);
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let shares: Vec<f64> = logits.iter().map(|&l| f64::from(l).exp() / total).collect();
    let edges: Vec<f64> = (0..=8 * bins)
        .map(|edge| decode(histogram.edge(edge as f32 / 8.0)))
        .collect();
    move |amount| {
        let below = edges.partition_point(|&edge| edge <= amount);
        (0..below.min(8 * bins))
            .map(|part| shares[part / 8] / 8.0)
            .sum()
    }
}

#[test]
fn a_new_field_is_not_heard_at_first_and_a_dropped_one_is_as_if_hidden() {
    for masking in [Masking::Drop, Masking::Token] {
        let (batch, old_encoder) = OLD.records(&["amount", "shop", "chip", "ratio"]);
        let (new_batch, new_encoder) = OLD.records(&["at", "amount", "chip"]);
        let (old, new) = (
            model(&old_encoder, &config(masking), 1),
            model(&new_encoder, &config(masking), 2),
        );
        let (parent, child) = (side(&old_encoder, &old), side(&new_encoder, &new));
        let fresh = new.field_output(0).unwrap().0.to_vec2::<f32>().unwrap();
        let transferred = transfer(parent, child).unwrap();
        assert_eq!(transferred.carried, ["amount", "chip"]);
        assert_eq!(transferred.new, ["at"]);
        assert_eq!(transferred.dropped, ["shop", "ratio"]);
        assert_eq!(
            new.field_output(0).unwrap().0.to_vec2::<f32>().unwrap(),
            fresh
        );
        let of_old = old_encoder.encode(&batch).unwrap();
        let of_new = new_encoder.encode(&new_batch).unwrap();
        for row in 0..40 {
            let a = logits(parent, &of_old, row, &["shop", "ratio"]);
            for hidden in [&[][..], &["at"]] {
                let b = logits(child, &of_new, row, hidden);
                assert_close(&a[0], &b[1], 2e-5);
                assert_close(&a[2], &b[2], 2e-5);
            }
        }
    }
}

#[test]
fn a_new_value_is_seen_as_the_parent_saw_it_and_starts_as_likely_as_others() {
    let shops = ["new", "new", "new", "new", "d", "d", "d", "c", "c", "b"];
    let later = World {
        shops: &shops,
        ..OLD
    };
    let (_, old_encoder) = OLD.records(&["amount", "shop"]);
    let (batch, new_encoder) = later.records(&["amount", "shop"]);
    let (old, new) = (
        model(&old_encoder, &config(Masking::Drop), 1),
        model(&new_encoder, &config(Masking::Drop), 2),
    );
    let (parent, child) = (side(&old_encoder, &old), side(&new_encoder, &new));
    transfer(parent, child).unwrap();
    let of_old = old_encoder.encode(&batch).unwrap();
    let of_new = new_encoder.encode(&batch).unwrap();
    let unknown = (0..60).filter(|&row| of_old.present(row)[1] && of_old.codes(row)[0] == 0);
    let unknown: Vec<usize> = unknown.collect();
    assert!(unknown.len() > 5);
    for row in unknown {
        let a = logits(parent, &of_old, row, &[]);
        let b = logits(child, &of_new, row, &[]);
        assert_close(&a[0], &b[0], 2e-5);
        // The parent's classes are d, c and rare; the child's new, d and rare.
        let mean = (a[1][1] + a[1][2] + a[1][3]) / 3.0;
        assert_close(&[a[1][0], mean, a[1][1], a[1][3]], &b[1], 2e-5);
    }
}

#[test]
fn a_wider_embedding_says_the_same_and_a_narrower_one_keeps_what_matters() {
    let many: Vec<String> = (0..9).map(|i| format!("s{i}")).collect();
    let mut shops: Vec<&str> = OLD.shops.to_vec();
    shops.extend(many.iter().map(String::as_str));
    let later = World {
        shops: &shops,
        ..OLD
    };
    let (batch, few) = OLD.records(&["amount", "shop"]);
    let (_, more) = later.records(&["amount", "shop"]);
    let (small, wide) = (
        model(&few, &config(Masking::Token), 1),
        model(&more, &config(Masking::Token), 2),
    );
    let dim = |model: &MaskedAutoencoder| {
        let tensors = Tensors::read(model.parameters()).unwrap();
        tensors.get("embedding.0001").unwrap().columns
    };
    assert!(dim(&wide) > dim(&small));
    let (parent, child) = (side(&few, &small), side(&more, &wide));
    transfer(parent, child).unwrap();
    let [of_old, of_new] = [&few, &more].map(|encoder| encoder.encode(&batch).unwrap());
    for row in 0..60 {
        for hidden in [&[][..], &["shop"]] {
            let a = logits(parent, &of_old, row, hidden);
            let b = logits(child, &of_new, row, hidden);
            assert_close(&a[0], &b[0], 2e-5);
        }
    }
    // Back again: the columns that were added add nothing, so they are those that are left out.
    let back = model(&few, &config(Masking::Token), 3);
    let again = side(&few, &back);
    transfer(child, again).unwrap();
    for row in 0..60 {
        let a = logits(parent, &of_old, row, &[]);
        assert_close(&a[0], &logits(again, &of_old, row, &[])[0], 2e-5);
    }
}

#[test]
fn two_values_that_became_others_are_seen_as_before_and_predicted_anew() {
    let names = ["fee", "chip"];
    let (batch, old_encoder) = OLD.records(&names);
    // One in three, and so rare that the larger value is clipped.
    let mut rare = [0.0; 299];
    rare[7] = 2.5;
    for (fees, alike) in [
        (&rare[..], true),
        (&[0.0, 0.0, 0.0, 0.0, 2.5], true),
        (&[0.0, 0.0, 3.0], false),
        (&[0.0, 1.0, 2.5], false),
    ] {
        let later = World { fees, ..OLD };
        let (_, new_encoder) = later.records(&names);
        let config = config(Masking::Token);
        let (old, new) = (
            model(&old_encoder, &config, 1),
            model(&new_encoder, &config, 2),
        );
        let (parent, child) = (side(&old_encoder, &old), side(&new_encoder, &new));
        let said = transfer(parent, child).unwrap().sentence();
        let expected = match alike {
            true => "2 fields carried over, new: none, dropped: none",
            false => "2 fields carried over (predicted anew: fee), new: none, dropped: none",
        };
        assert_eq!(said, expected);
        let of_old = old_encoder.encode(&batch).unwrap();
        let of_new = new_encoder.encode(&batch).unwrap();
        for row in 1..40 {
            // What the fee says of the chip is what it said, on whatever scale it is shown.
            let [a, b] = [&["chip"][..], &["chip", "fee"]].map(|hidden| {
                let of_parent = logits(parent, &of_old, row, hidden);
                (of_parent, logits(child, &of_new, row, hidden))
            });
            assert_close(&a.0[1], &a.1[1], 2e-5);
            // Nullness of the fee and its value.
            let (of_parent, of_child) = (&b.0[0], &b.1[0]);
            assert!((of_parent[0] - of_child[0]).abs() < 2e-5);
            if alike {
                assert_close(of_parent, of_child, 2e-5);
            } else if of_parent.len() == of_child.len() {
                assert!((of_parent[1] - of_child[1]).abs() > 1e-3);
            }
        }
    }
}

#[test]
fn a_number_of_another_size_starts_anew() {
    let names = ["amount", "ratio"];
    let (_, old_encoder) = OLD.records(&names);
    for (middle, spread) in [(0.0, 50.0), (0.0, 0.01), (100.0, 1.0)] {
        let later = World {
            middle,
            spread,
            ..OLD
        };
        let (_, new_encoder) = later.records(&names);
        let matches = match_fields(&old_encoder, &new_encoder);
        assert!(matches[0].is_none() && matches[1].is_some());
    }
}

#[test]
fn models_that_do_not_agree_are_refused_by_key_and_both_values() {
    let parent = config(Masking::Drop);
    assert_eq!(disagreements(&parent, &parent), Vec::<String>::new());
    let child = ModelConfig {
        width: 25,
        likelihood: vec![Likelihood::Gaussian],
        dropout: 0.5,
        embedding_dim_max: 3,
        ..config(Masking::Token)
    };
    assert_eq!(
        disagreements(&parent, &child),
        [
            "experimental.masking = \"token\": must be \"drop\" as in the bundle",
            "model.likelihood = [\"gaussian\"]: must be [\"histogram\",\"student_t\",\"squared_error\",\"robust_squared_error\",\"quantile_histogram\",\"quantile_robust_squared_error\"] as in the bundle",
            "model.width = 25: must be 24 as in the bundle",
        ]
    );
}

#[test]
fn every_kind_of_field_has_a_shape_in_these_tests() {
    let (_, encoder) = OLD.records(&["amount", "shop", "chip", "at", "fee"]);
    let shapes = encoder.shapes();
    assert_eq!(shapes[0], FieldShape::Numeric);
    let shop = FieldShape::Categorical {
        codes: 4,
        classes: 3,
    };
    assert_eq!(
        shapes[1..],
        [
            shop,
            FieldShape::Boolean,
            FieldShape::Timestamp,
            FieldShape::Binary
        ]
    );
}
