//! The masked objective on a batch of every kind of field, which other tests of training use too.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::model::config::Masking;
use crate::model::likelihood::Likelihood;
use crate::model::loss::OutputLayer;
use crate::model::{ModelConfig, ObjectiveKind};
use crate::schema::{Field, Kind};
use crate::train::{Unobserved, fit};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use std::sync::Arc;

/// Fields of [`batch`].
pub(in crate::train) const FIELDS: usize = 6;
const MASKED: ObjectiveKind = ObjectiveKind::Masked;

/// A batch in which y = 2 x, the category follows the sign of x, `fee` has two values, and nulls occur in every kind.
pub(in crate::train) fn batch(rows: i64) -> RecordBatch {
    let x = |i: i64| ((i * 7919) % 1000) as f64 / 500.0 - 1.0;
    let some = |i: i64, every: i64| i % every != 0;
    let numbers = |f: &dyn Fn(i64) -> Option<f64>| -> ArrayRef {
        Arc::new(Float64Array::from_iter((0..rows).map(f)))
    };
    let sign = |i: i64| some(i, 23).then_some(if x(i) > 0.0 { "up" } else { "down" });
    let columns: [(&str, ArrayRef); 6] = [
        ("x", numbers(&|i| some(i, 29).then(|| x(i)))),
        ("y", numbers(&|i| Some(2.0 * x(i)))),
        (
            "sign",
            Arc::new(StringArray::from_iter((0..rows).map(sign))),
        ),
        (
            "even",
            Arc::new(BooleanArray::from_iter(
                (0..rows).map(|i| some(i, 31).then_some(i % 2 == 0)),
            )),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from_iter(
                (0..rows).map(|i| some(i, 37).then_some(i * 3_600_000_000)),
            )),
        ),
        (
            "fee",
            numbers(&|i| some(i, 41).then_some(if x(i) > 0.7 { 2.5 } else { 0.0 })),
        ),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The same with a third fee in row 2, which no encoder of [`batch`] knows.
pub(in crate::train) fn with_a_third_fee(batch: &RecordBatch) -> RecordBatch {
    let fee = batch["fee"].as_primitive::<arrow::datatypes::Float64Type>();
    let fee = (0..batch.num_rows()).map(|row| match row {
        2 => Some(9.0),
        _ => fee.is_valid(row).then(|| fee.value(row)),
    });
    let mut columns = batch.columns().to_vec();
    columns[FIELDS - 1] = Arc::new(Float64Array::from_iter(fee));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

pub(in crate::train) fn encoder(batch: &RecordBatch) -> Encoder {
    let kinds = [
        ("x", Kind::Numeric),
        ("y", Kind::Numeric),
        ("sign", Kind::Categorical),
        ("even", Kind::Boolean),
        ("at", Kind::Timestamp),
        ("fee", Kind::Numeric),
    ];
    let fields = kinds.map(|(name, kind)| Field::feature(name, kind));
    let mut fitter = crate::encode::EncoderFitter::new(&fields, 1024).unwrap();
    fitter.observe(batch).unwrap();
    fitter.finish().unwrap()
}

/// The records with one field of row 1 taken from row 10.
pub(in crate::train) fn with_other_value(records: &Records, field: usize) -> Records {
    let mut changed = records.clone();
    let other = records.select([10]);
    let mut mixed = records.select([1]);
    match field {
        0 | 1 => {
            (2 * field..2 * field + 2).for_each(|at| mixed.set_number(0, at, other.numbers(0)[at]))
        }
        2 | 3 => mixed.set_code(0, field - 2, other.codes(0)[field - 2]),
        4 => mixed.set_number(0, 4, other.numbers(0)[4]),
        _ => {
            mixed.set_number(0, 5, other.numbers(0)[5]);
            mixed.set_code(0, 4, other.codes(0)[4]);
        }
    }
    changed.replace_row(1, &mixed, 0);
    changed
}

pub(in crate::train) fn all_readings() -> ModelConfig {
    ModelConfig {
        width: 24,
        blocks: 2,
        masking: Masking::Token,
        dropout: 0.1,
        histogram_bins: 16,
        likelihood: vec![
            Likelihood::Histogram,
            Likelihood::StudentT,
            Likelihood::Gaussian,
            Likelihood::SquaredError,
            Likelihood::RobustSquaredError,
        ],
        ..ModelConfig::default()
    }
}

/// The loss of the next batch with the graphs of all its shards.
pub(in crate::train) fn next_batch_loss(objective: &mut MaskedObjective<'_>) -> Tensor {
    let shards = objective.next_batch().unwrap().into_iter();
    let losses = shards.map(|shard| objective.loss_by(objective.model, shard).unwrap());
    losses.reduce(|a, b| (a + b).unwrap()).unwrap()
}

#[test]
fn every_parameter_gets_a_gradient_and_moves() {
    let batch = batch(400);
    let encoder = encoder(&batch);
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 0).unwrap();
    let config = TrainingConfig {
        steps: 3,
        unknown_share: 0.2,
        ..TrainingConfig::default()
    };
    let mut objective =
        MaskedObjective::new(&model, &encoder, &records, &records, &config, 0).unwrap();
    let gradients = next_batch_loss(&mut objective).backward().unwrap();
    for (name, var) in model.parameters().iter() {
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{name} has no gradient"));
        let size = gradient
            .abs()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(size > 0.0 && size.is_finite(), "{name}: gradient {size}");
    }
    let before = model.parameters().to_flat().unwrap();
    fit(&mut objective, &config, &mut Unobserved).unwrap();
    let after = model.parameters().to_flat().unwrap();
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    assert!(
        moved as f64 > 0.99 * before.len() as f64,
        "{moved} of {}",
        before.len()
    );
}

#[test]
fn the_loss_has_the_gradient_of_finite_differences_in_latent_weights_and_biases() {
    for histogram_gamma in [0.0, 1.0] {
        assert_gradients_of_the_loss(&ModelConfig {
            histogram_gamma,
            ..all_readings()
        });
    }
}

fn assert_gradients_of_the_loss(config: &ModelConfig) {
    let batch = with_a_third_fee(&batch(12));
    let encoder = encoder(&self::batch(400));
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(config, MASKED, &encoder, 1).unwrap();
    let heads = Arc::new(model.heads().clone());
    let reader = TargetReader::new(&encoder);
    let targets =
        (0..12 * FIELDS).map(|i| reader.target(&encoder, &records, i / FIELDS, i % FIELDS));
    let hidden: Vec<bool> = (0..12 * FIELDS)
        .map(|i| i % 5 != 0 && i / FIELDS != 7)
        .collect();
    // Some of the counted fields count half.
    let weights = hidden.iter().zip([1.0, 1.0, 0.5, 1.0, 1.0].iter().cycle());
    let hidden = HiddenTargets {
        targets: targets.collect(),
        counted: 31.5,
        weights: weights.map(|(&h, weight)| f32::from(h) * weight).collect(),
    };
    let waves = |shape: (usize, usize), size: f32| {
        let values = (0..shape.0 * shape.1).map(|i| size * (i as f32 * 0.37).sin());
        let values: Vec<f32> = values.collect();
        candle_core::Var::from_vec(values, shape, &candle_core::Device::Cpu).unwrap()
    };
    // A place a row, and a place a field with one more that no head reads.
    for positions in [1, FIELDS + 1] {
        let latent = waves((12 * positions, 4), 1.0);
        let weight = waves((4, heads.outputs()), 0.7);
        let bias = waves((1, heads.outputs()), 0.5).flatten_all().unwrap();
        let bias = candle_core::Var::from_tensor(&bias).unwrap();
        let output = OutputLayer {
            heads: &heads,
            weight: &weight,
            bias: &bias,
            buffers: None,
            positions,
        };
        let loss = || masked_loss(output, &latent, hidden.clone()).unwrap();
        let value = || masked_loss_value(output, &latent, &hidden).unwrap();
        let at = loss();
        assert!((f64::from(at.to_scalar::<f32>().unwrap()) - value()).abs() < 1e-6);
        let gradients = at.backward().unwrap();
        for var in [&latent, &weight, &bias] {
            let gradient = gradients.get(var).unwrap().flatten_all().unwrap();
            let gradient = gradient.to_vec1::<f32>().unwrap();
            let original = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let shape = var.shape().clone();
            let set = |values: &[f32]| {
                let device = candle_core::Device::Cpu;
                let values = Tensor::from_slice(values, shape.clone(), &device);
                var.set(&values.unwrap()).unwrap();
            };
            for i in (0..original.len()).step_by(3) {
                let moved = |step: f32| {
                    let mut values = original.clone();
                    values[i] += step;
                    set(&values);
                    value()
                };
                let numeric = (moved(0.01) - moved(-0.01)) / 0.02;
                assert!(
                    (numeric - f64::from(gradient[i])).abs() < 1e-3 * numeric.abs().max(1.0),
                    "{positions} positions, {i}: {numeric} {}",
                    gradient[i]
                );
            }
            set(&original);
        }
    }
}

#[test]
fn the_surprises_of_rows_are_those_of_their_logits() {
    let batch = with_a_third_fee(&batch(40));
    let encoder = encoder(&self::batch(400));
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 1).unwrap();
    let reader = TargetReader::new(&encoder);
    let targets =
        (0..40 * FIELDS).map(|i| reader.target(&encoder, &records, i / FIELDS, i % FIELDS));
    let targets: Vec<Target> = targets.collect();
    let hidden: Vec<bool> = (0..40 * FIELDS).map(|i| i % 5 != 0).collect();
    let mut builder = InputBuilder::new(model.shapes(), 40);
    (0..40).for_each(|row| builder.push(&records, row, |field| hidden[row * FIELDS + field]));
    let latent = model.latent(&builder.finish().unwrap(), None).unwrap();
    let logits = model.logits(&latent).unwrap().to_vec2::<f32>().unwrap();
    let batch = HiddenTargets {
        targets: targets.clone(),
        weights: hidden.iter().map(|&h| f32::from(h)).collect(),
        counted: 1.0,
    };
    let found = row_surprises(model.output_layer(), &latent, &batch).unwrap();
    let readings = model.heads().trained_readings();
    let mut surprises = vec![0f32; readings];
    for (row, found) in found.chunks_exact(readings).enumerate() {
        let mut sums = vec![0f64; readings];
        for field in (0..FIELDS).filter(|field| hidden[row * FIELDS + field]) {
            let head = model.heads().field(field);
            let logits = &logits[row][head.outputs()];
            head.surprises(logits, &targets[row * FIELDS + field], &mut surprises);
            sums.iter_mut()
                .zip(&surprises)
                .for_each(|(sum, &s)| *sum += f64::from(s));
        }
        for (a, b) in found.iter().zip(sums) {
            assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "{row}: {a} {b}");
        }
    }
}

#[test]
fn a_hidden_value_cannot_leak_into_the_logits() {
    let batch = batch(50);
    let encoder = encoder(&self::batch(400));
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 2).unwrap();
    let logits = |row: usize, hidden: usize| {
        let mut builder = InputBuilder::new(model.shapes(), 1);
        builder.push(&records, row, |field| field == hidden);
        let latent = model.latent(&builder.finish().unwrap(), None).unwrap();
        model.logits(&latent).unwrap().to_vec2::<f32>().unwrap()
    };
    for field in 0..FIELDS {
        let changed = with_other_value(&records, field);
        assert_ne!(
            changed, records,
            "field {field} must differ for the test to mean anything"
        );
        let plain = logits(1, field);
        let mut builder = InputBuilder::new(model.shapes(), 1);
        builder.push(&changed, 1, |f| f == field);
        let latent = model.latent(&builder.finish().unwrap(), None).unwrap();
        assert_eq!(
            model.logits(&latent).unwrap().to_vec2::<f32>().unwrap(),
            plain
        );
    }
}

#[test]
fn swap_noise_takes_its_share_of_the_visible_values_from_other_rows() {
    let batch = batch(2000);
    let encoder = encoder(&batch);
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 4).unwrap();
    let config = TrainingConfig {
        swap_noise: 0.15,
        ..TrainingConfig::default()
    };
    let objective =
        || MaskedObjective::new(&model, &encoder, &records, &records, &config, 4).unwrap();
    let rows: Vec<usize> = (0..2000).collect();
    let sources = objective().swapped_rows(&rows);
    let swapped = |i: &usize| sources[*i] != i / FIELDS;
    let share = (0..sources.len()).filter(swapped).count() as f64 / sources.len() as f64;
    // Binomial: 3 standard deviations of the share of 12,000 are 0.0098.
    assert!((share - 0.15).abs() < 0.0098, "{share}");
    assert_eq!(objective().swapped_rows(&rows), sources);

    // A fifth is hidden, the rest shows the source's value, null or not; y is number 1.
    let hidden: Vec<bool> = (0..sources.len()).map(|i| i % 5 == 0).collect();
    let mut objective = objective();
    let shards = objective.shards(&rows, &hidden, &[]);
    let (mut visible, mut numbers) = (Vec::new(), Vec::new());
    for mut shard in shards {
        let inputs = objective.training_inputs(&mut shard).finish().unwrap();
        visible.extend(inputs.visible.to_vec2::<f32>().unwrap());
        numbers.extend(inputs.numbers.to_vec2::<f32>().unwrap());
    }
    for (i, &source) in sources.iter().enumerate() {
        let (row, field) = (i / FIELDS, i % FIELDS);
        let is_visible = !hidden[i] && records.present(source)[field];
        assert_eq!(visible[row][field] == 1.0, is_visible);
        if field == 1 {
            let expected = if is_visible {
                records.numbers(source)[2..4].to_vec()
            } else {
                vec![0.0; 2]
            };
            assert_eq!(numbers[row][2..4], expected);
        }
    }
}

/// Encoder and records of two numbers and a category, of [`batch`].
fn mostly_numbers(rows: i64) -> (Encoder, Records) {
    let batch = batch(rows).project(&[0, 1, 2]).unwrap();
    let kinds = [
        ("x", Kind::Numeric),
        ("y", Kind::Numeric),
        ("sign", Kind::Categorical),
    ];
    let fields = kinds.map(|(name, kind)| Field::feature(name, kind));
    let mut fitter = crate::encode::EncoderFitter::new(&fields, 1024).unwrap();
    fitter.observe(&batch).unwrap();
    let encoder = fitter.finish().unwrap();
    let records = encoder.encode(&batch).unwrap();
    (encoder, records)
}

#[test]
fn a_noised_row_shows_all_its_numbers_through_noise_and_hides_other_fields_the_more_of_it_there_is()
{
    const SIGN: usize = 2;
    let (encoder, records) = mostly_numbers(1000);
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 4).unwrap();
    let config = TrainingConfig::default();
    let mut objective =
        MaskedObjective::new(&model, &encoder, &records, &records, &config, 4).unwrap();
    let rows: Vec<usize> = (0..1000).cycle().take(12_000).collect();
    let mut hidden = vec![true; rows.len() * 3];
    let levels = objective.noise_rows(&mut hidden);
    let weights = objective.weights(&hidden, &levels);
    let (mut noised, mut hidden_little, mut hidden_much) = (0, Vec::new(), Vec::new());
    for (row, &level) in levels.iter().enumerate() {
        let (hidden, weights) = (&hidden[row * 3..][..3], &weights[row * 3..][..3]);
        if level == 0.0 {
            assert_eq!((hidden, weights), (&[true; 3][..], &[1.0; 3][..]));
            continue;
        }
        noised += 1;
        assert!((0.05..=2.5).contains(&level), "{level}");
        assert_eq!(
            (&hidden[..2], &weights[..2]),
            (&[false; 2][..], &[0.5; 2][..])
        );
        assert_eq!(weights[SIGN], f32::from(hidden[SIGN]));
        let of_level = match level < 0.2 {
            true => &mut hidden_little,
            false => &mut hidden_much,
        };
        of_level.push(f64::from(hidden[SIGN]));
    }
    // Two of three fields are numbers, so that a third of the half is noised. Binomial: a sixth of 12,000, 5 standard
    // deviations are 204.
    assert!(usize::abs_diff(noised, 2000) < 204, "{noised}");
    let mean = |shares: &[f64]| shares.iter().sum::<f64>() / shares.len() as f64;
    assert!(mean(&hidden_little) < 0.17 && mean(&hidden_much) > 0.3);
    // The noise of the numbers has the deviation that the model is told of.
    let mut shards = objective.shards(&rows, &hidden, &levels);
    let counted: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let (mut squares, mut row) = (Vec::new(), 0);
    for shard in &mut shards {
        assert_eq!(shard.counted, counted);
        let inputs = objective.training_inputs(shard).finish().unwrap();
        let numbers = inputs.numbers.to_vec2::<f32>().unwrap();
        for (numbers, noise) in numbers.iter().zip(inputs.noise.to_vec2::<f32>().unwrap()) {
            let level = levels[row];
            match level > 0.0 {
                true => {
                    assert_eq!(noise, [1.0, level.ln()]);
                    let noise = (numbers[1] - records.numbers(rows[row])[1]) / level;
                    squares.push(f64::from(noise * noise));
                }
                false => assert_eq!(noise, [0.0; 2]),
            }
            row += 1;
        }
    }
    // The mean of some 2,000 squares of a standard normal: 5 standard deviations are 0.16.
    assert!((mean(&squares) - 1.0).abs() < 0.16, "{}", mean(&squares));
}

#[test]
fn only_a_model_that_is_told_of_noise_is_trained_with_it_and_only_where_most_fields_are_numbers() {
    let (numbers, records) = mostly_numbers(100);
    let half = encoder(&batch(100));
    let half_records = half.encode(&batch(100)).unwrap();
    let levels = |model: &ModelConfig, kind: ObjectiveKind, of: (&Encoder, &Records)| {
        let (encoder, records) = of;
        let model = MaskedAutoencoder::new(model, kind, encoder, 4).unwrap();
        let config = TrainingConfig {
            objective: kind,
            ..TrainingConfig::default()
        };
        let mut objective =
            MaskedObjective::new(&model, encoder, records, records, &config, 4).unwrap();
        let fields = records.fields();
        objective.noise_rows(&mut vec![true; 50 * fields]).len()
    };
    let transformer = ModelConfig {
        architecture: crate::model::Architecture::Transformer,
        ..all_readings()
    };
    let undisturbed = ModelConfig {
        denoising: false,
        ..all_readings()
    };
    let most = (&numbers, &records);
    assert_eq!(levels(&all_readings(), MASKED, most), 50);
    assert_eq!(levels(&all_readings(), MASKED, (&half, &half_records)), 0);
    assert_eq!(levels(&undisturbed, MASKED, most), 0);
    assert_eq!(levels(&transformer, MASKED, most), 0);
    assert_eq!(levels(&all_readings(), ObjectiveKind::Autoencoder, most), 0);
}

#[test]
fn rows_unlike_the_others_are_left_out_and_weights_from_before_are_no_candidates() {
    let batch = batch(1000);
    let encoder = encoder(&batch);
    let mut records = encoder.encode(&batch).unwrap();
    // Twenty rows that all say the same, which no other row does: y far from 2 x.
    let planted = |row: &usize| row % 50 == 10;
    for row in (0..1000).filter(planted) {
        // Both scales of x, then of y.
        let values = [-1.5, -1.5, 6.0, 4.0];
        (0..4).for_each(|at| records.set_number(row, at, values[at]));
    }
    let held_out = records.select((0..1000).filter(|row| !planted(row)).take(200));
    let config = TrainingConfig {
        steps: 200,
        evaluate_every_steps: 10,
        patience: 1000,
        trim: 0.03125,
        swap_noise: 0.1,
        ..TrainingConfig::default()
    };
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 6).unwrap();
    let objective = MaskedObjective::new(&model, &encoder, &records, &held_out, &config, 6);
    let mut objective = objective.unwrap();
    let report = fit(&mut objective, &config, &mut Unobserved).unwrap();
    // 31 rows are judged unusual, of which 3 stay.
    assert_eq!(objective.order.len(), 972);
    let left = objective.order.iter().filter(|row| planted(row)).count();
    assert!(left <= 5, "{left} of 20 planted rows are still trained on");
    assert!(report.best_step >= 120, "{report:?}");
    let sources = objective.swapped_rows(&(0..500).collect::<Vec<_>>());
    let known = |row: &usize| *row < 500 || objective.order.contains(row);
    assert!(sources.iter().all(known));
}

#[test]
fn a_training_that_makes_nothing_better_keeps_what_it_started_from() {
    let batch = batch(400);
    let encoder = encoder(&batch);
    let records = encoder.encode(&batch).unwrap();
    let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 5).unwrap();
    let config = TrainingConfig {
        steps: 6,
        warmup_steps: 1,
        evaluate_every_steps: 2,
        learning_rate: 3.0,
        ..TrainingConfig::default()
    };
    let mut objective =
        MaskedObjective::new(&model, &encoder, &records, &records, &config, 5).unwrap();
    let start = objective.held_out_loss().unwrap();
    let before = model.parameters().to_flat().unwrap();
    let report = fit(&mut objective, &config, &mut Unobserved).unwrap();
    assert_eq!((report.best_step, report.held_out_loss), (0, start));
    assert!(model.parameters().to_flat().unwrap() == before);
}

#[test]
fn early_stopping_waits_for_a_declared_trimming() {
    let batch = batch(400);
    let encoder = encoder(&batch);
    let records = encoder.encode(&batch).unwrap();
    let steps_of = |trim: f32| {
        let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 5).unwrap();
        // So large a rate makes every evaluation worse than the start, so that patience is used up at once.
        let config = TrainingConfig {
            steps: 40,
            warmup_steps: 1,
            evaluate_every_steps: 2,
            patience: 1,
            learning_rate: 3.0,
            trim,
            ..TrainingConfig::default()
        };
        let objective = MaskedObjective::new(&model, &encoder, &records, &records, &config, 5);
        let mut objective = objective.unwrap();
        let report = fit(&mut objective, &config, &mut Unobserved).unwrap();
        (report.steps, objective.order.len())
    };
    assert_eq!(steps_of(0.0), (2, 400));
    let (steps, left) = steps_of(0.1);
    // The rows are judged for the last time before step 25.
    assert!(steps >= 25, "{steps}");
    assert_eq!(left, 364);
}

#[test]
fn training_learns_the_dependence_and_is_the_same_at_any_thread_count() {
    let batch = batch(2000);
    let encoder = encoder(&batch);
    let records = encoder.encode(&batch).unwrap();
    let fitted = records.select(0..1600);
    let held_out = records.select(1600..2000);
    let config = TrainingConfig {
        steps: 120,
        warmup_steps: 10,
        ..TrainingConfig::default()
    };
    let run = || {
        let model = MaskedAutoencoder::new(&all_readings(), MASKED, &encoder, 3).unwrap();
        let mut objective =
            MaskedObjective::new(&model, &encoder, &fitted, &held_out, &config, 3).unwrap();
        let before = objective.held_out_loss().unwrap();
        let report = fit(&mut objective, &config, &mut Unobserved).unwrap();
        (
            before,
            report.held_out_loss,
            model.parameters().to_flat().unwrap(),
        )
    };
    // Within a pool products stay on their thread, outside they are shared among Rayon's.
    let within = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(run)
    };
    let (before, after, parameters) = run();
    assert!(after < before - 1.0, "{before} -> {after}");
    assert!(within(1).2 == parameters && within(3).2 == parameters);
}
