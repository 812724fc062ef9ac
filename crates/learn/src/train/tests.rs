//! Tests of what holds for every objective and every architecture, so that they can be compared: every parameter is
//! trained, what is not visible stays unseen, and the result is the same at any thread count.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::masked::tests::{
    FIELDS, all_readings, batch, encoder, next_batch_loss, with_a_third_fee, with_other_value,
};
use super::trainer::loss_and_gradient;
use super::{MaskedObjective, Objective, Unobserved, fit};
use crate::bundle::TrainingConfig;
use crate::encode::{Encoder, Records};
use crate::model::ops::composed;
use crate::model::{
    Architecture, InputBuilder, MaskedAutoencoder, Masking, ModelConfig, ObjectiveKind,
};
use candle_core::Tensor;

const OBJECTIVES: [ObjectiveKind; 3] = [
    ObjectiveKind::Masked,
    ObjectiveKind::Autoencoder,
    ObjectiveKind::Variational,
];

/// Every architecture with every masking.
fn models() -> Vec<ModelConfig> {
    let mut models = Vec::new();
    for architecture in [Architecture::Mlp, Architecture::Transformer] {
        for masking in [Masking::Token, Masking::Drop] {
            models.push(ModelConfig {
                architecture,
                masking,
                attention_heads: 3,
                // A bounded loss of the histogram in half of them.
                histogram_gamma: match masking {
                    Masking::Token => 1.0,
                    Masking::Drop => 0.0,
                },
                ..all_readings()
            });
        }
    }
    models
}

/// Calls `f` with every objective, architecture and masking, under a name for messages.
fn each(mut f: impl FnMut(&str, ObjectiveKind, &ModelConfig)) {
    for objective in OBJECTIVES {
        for model in models() {
            let (architecture, masking) = (model.architecture, model.masking);
            let name = format!("{objective:?}, {architecture:?}, {masking:?}");
            f(&name, objective, &model);
        }
    }
}

fn training(objective: ObjectiveKind, steps: usize) -> TrainingConfig {
    TrainingConfig {
        objective,
        steps,
        warmup_steps: 10,
        batch_rows: 64,
        unknown_share: 0.2,
        ..TrainingConfig::default()
    }
}

fn records() -> (Encoder, Records) {
    let batch = batch(400);
    let encoder = encoder(&batch);
    let records = encoder.encode(&with_a_third_fee(&batch)).unwrap();
    (encoder, records)
}

#[test]
fn every_parameter_gets_a_gradient_and_moves() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let model = MaskedAutoencoder::new(config, kind, &encoder, 0).unwrap();
        let config = training(kind, 3);
        let objective = MaskedObjective::new(&model, &encoder, &records, &records, &config, 0);
        let mut objective = objective.unwrap();
        let gradients = next_batch_loss(&mut objective).backward().unwrap();
        for (parameter, var) in model.parameters().iter() {
            let gradient = gradients.get(var);
            let gradient = gradient.unwrap_or_else(|| panic!("{name}: {parameter} has none"));
            let size = gradient.abs().unwrap().sum_all().unwrap();
            let size = size.to_scalar::<f32>().unwrap();
            assert!(size > 0.0 && size.is_finite(), "{name}: {parameter} {size}");
        }
        let before = model.parameters().to_flat().unwrap();
        fit(&mut objective, &config, &mut Unobserved).unwrap();
        let after = model.parameters().to_flat().unwrap();
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let share = moved as f64 / before.len() as f64;
        assert!(share > 0.98, "{name}: {share} of {}", before.len());
    });
}

#[test]
fn replicas_leave_the_gradient_that_the_graph_has() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let model = MaskedAutoencoder::new(config, kind, &encoder, 0).unwrap();
        let mut config = training(kind, 3);
        config.batch_rows = 300;
        // A new objective draws the same batches again.
        let objective =
            || MaskedObjective::new(&model, &encoder, &records, &records, &config, 0).unwrap();
        let (mut graphs, mut replicas) = (objective(), objective());
        let mut gradient = vec![f32::NAN; model.parameters().count()];
        // What the first batch leaves in the buffers must not reach the second.
        for batch in 0..2 {
            let graph = next_batch_loss(&mut graphs).backward().unwrap();
            loss_and_gradient(&mut replicas, &mut gradient).unwrap();
            let mut at = 0;
            for (parameter, var) in model.parameters().iter() {
                let expected = graph.get(var).unwrap().flatten_all().unwrap();
                for expected in expected.to_vec1::<f32>().unwrap() {
                    let error = (gradient[at] - expected).abs();
                    assert!(
                        error < 1e-5 * expected.abs().max(0.1),
                        "{name}, batch {batch}: {parameter} {expected} {}",
                        gradient[at]
                    );
                    at += 1;
                }
            }
        }
    });
}

#[test]
fn the_whole_model_has_the_gradient_of_finite_differences() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let config = ModelConfig {
            dropout: 0.0,
            ..config.clone()
        };
        let model = MaskedAutoencoder::new(&config, kind, &encoder, 1).unwrap();
        // Biases start at zero, and rows that hide everything then have nothing to normalise: too steep for differences.
        let mut original = model.parameters().to_flat().unwrap();
        let shifts = (0..original.len()).map(|i| 0.1 * (i as f32 * 0.7).sin());
        original.iter_mut().zip(shifts).for_each(|(p, s)| *p += s);
        model.parameters().set_flat(&original).unwrap();
        // A new objective draws the same batch, masks and noise again.
        let loss = || {
            let config = training(kind, 1);
            let objective = MaskedObjective::new(&model, &encoder, &records, &records, &config, 1);
            next_batch_loss(&mut objective.unwrap())
        };
        let gradients = loss().backward().unwrap();
        let mut at = 0;
        for (parameter, var) in model.parameters().iter() {
            let gradient = gradients.get(var).unwrap().flatten_all().unwrap();
            let gradient = gradient.to_vec1::<f32>().unwrap();
            // The steepest element stands out most from the rounding of the loss.
            let size = |i: &usize| gradient[*i].abs();
            let steepest = (0..gradient.len()).max_by(|a, b| size(a).total_cmp(&size(b)));
            let steepest = steepest.unwrap();
            let moved = |step: f32| {
                let mut flat = original.clone();
                flat[at + steepest] += step;
                model.parameters().set_flat(&flat).unwrap();
                f64::from(loss().to_scalar::<f32>().unwrap())
            };
            let numeric = (moved(5e-3) - moved(-5e-3)) / 1e-2;
            let error = (numeric - f64::from(gradient[steepest])).abs();
            assert!(
                error < 0.03 * numeric.abs() + 2e-3,
                "{name}: {parameter}[{steepest}] {numeric} {}",
                gradient[steepest]
            );
            at += gradient.len();
            model.parameters().set_flat(&original).unwrap();
        }
    });
}

/// The logits of one record under a set of hidden fields.
fn logits(model: &MaskedAutoencoder, records: &Records, row: usize, hidden: &[usize]) -> Vec<f32> {
    let mut builder = InputBuilder::new(model.shapes(), 1);
    builder.push(records, row, |field| hidden.contains(&field));
    let latent = model.latent(&builder.finish().unwrap(), None).unwrap();
    let logits = model.logits(&latent).unwrap().flatten_all().unwrap();
    logits.to_vec1::<f32>().unwrap()
}

#[test]
fn a_hidden_value_does_not_reach_the_logits_and_a_visible_one_does() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let model = MaskedAutoencoder::new(config, kind, &encoder, 2).unwrap();
        for field in 0..FIELDS {
            let changed = with_other_value(&records, field);
            assert_ne!(changed, records, "the test would mean nothing");
            let of = |records: &Records, hidden: &[usize]| logits(&model, records, 1, hidden);
            assert_eq!(of(&changed, &[field]), of(&records, &[field]), "{name}");
            assert_ne!(
                of(&changed, &[]),
                of(&records, &[]),
                "{name}: field {field}"
            );
        }
    });
}

#[test]
fn a_null_field_is_not_visible_where_nothing_is_hidden() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let model = MaskedAutoencoder::new(config, kind, &encoder, 3).unwrap();
        // Row 0 lacks all fields but y; its logits are those of a row with the same y and the others hidden.
        assert_eq!(
            records.present(0),
            [false, true, false, false, false, false]
        );
        let mut full = records.select([1]);
        (2..4).for_each(|at| full.set_number(0, at, records.numbers(0)[at]));
        let null = logits(&model, &records, 0, &[]);
        assert_eq!(null, logits(&model, &full, 0, &[0, 2, 3, 4, 5]), "{name}");
    });
}

#[test]
fn a_dropped_token_is_seen_by_no_other() {
    let (encoder, records) = records();
    for config in models() {
        if config.architecture != Architecture::Transformer {
            continue;
        }
        let model = MaskedAutoencoder::new(&config, ObjectiveKind::Masked, &encoder, 4).unwrap();
        let of_y = || {
            let outputs = model.heads().field(1).outputs();
            logits(&model, &records, 1, &[0, 1])[outputs].to_vec()
        };
        // Everything of x in the table of tokens, its place included, becomes something else.
        let before = of_y();
        let (_, tokens) = model.parameters().iter().find(|p| p.0 == "tokens").unwrap();
        let mut rows = tokens.to_vec2::<f32>().unwrap();
        let stand_in = 6; // Five fields and the summary stand before the stand-ins.
        rows[0].iter_mut().for_each(|x| *x += 1.0);
        if config.masking == Masking::Token {
            rows[stand_in].iter_mut().for_each(|x| *x -= 3.0);
        }
        let rows = candle_core::Tensor::new(rows, &candle_core::Device::Cpu).unwrap();
        tokens.set(&rows).unwrap();
        assert_eq!(of_y() == before, config.masking == Masking::Drop);
    }
}

#[test]
fn training_lowers_the_loss_and_is_the_same_at_any_thread_count() {
    let (encoder, records) = records();
    let (fitted, held_out) = (records.select(0..320), records.select(320..400));
    each(|name, kind, config| {
        let training = training(kind, 40);
        let run = || {
            let model = MaskedAutoencoder::new(config, kind, &encoder, 5).unwrap();
            let objective =
                MaskedObjective::new(&model, &encoder, &fitted, &held_out, &training, 5);
            let mut objective = objective.unwrap();
            let before = objective.held_out_loss().unwrap();
            let report = fit(&mut objective, &training, &mut Unobserved).unwrap();
            let after = report.held_out_loss;
            assert!(after < before - 0.3, "{name}: {before} -> {after}");
            model.parameters().to_flat().unwrap()
        };
        let within = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(run)
        };
        let parameters = run();
        assert!(within(1) == parameters && within(3) == parameters, "{name}");
    });
}

/// The gradient of the composed ops is that of the hand-written ones but for rounding, and for that it is another: else an
/// op would be compared with itself.
fn assert_composed(name: &str, native: &[f32], composed: &[f32]) {
    let largest = native.iter().fold(0f32, |largest, g| largest.max(g.abs()));
    let error = native.iter().zip(composed).map(|(a, b)| (a - b).abs());
    let error = error.fold(0f32, f32::max);
    assert!(error < 1e-4 * largest, "{name}: {error} of {largest}");
    assert_ne!(native, composed, "{name}");
}

/// A loss and its gradients by all parameters.
fn loss_and_gradients(model: &MaskedAutoencoder, loss: &Tensor) -> (f32, Vec<f32>) {
    let gradients = loss.backward().unwrap();
    let flat = model.parameters().iter().flat_map(|(_, var)| {
        let gradient = gradients.get(var).unwrap().flatten_all().unwrap();
        gradient.to_vec1::<f32>().unwrap()
    });
    (loss.to_scalar().unwrap(), flat.collect())
}

#[test]
fn composed_of_candles_ops_a_model_has_the_same_loss_and_gradients() {
    let (encoder, records) = records();
    each(|name, kind, config| {
        let model = MaskedAutoencoder::new(config, kind, &encoder, 5).unwrap();
        let config = training(kind, 3);
        let next = || {
            let objective = MaskedObjective::new(&model, &encoder, &records, &records, &config, 5);
            let loss = next_batch_loss(&mut objective.unwrap());
            loss_and_gradients(&model, &loss)
        };
        let ((loss, gradient), (composed_loss, composed)) = (next(), composed::force(next));
        assert!(
            (loss - composed_loss).abs() < 1e-5 * loss,
            "{name}: {loss} {composed_loss}"
        );
        assert_composed(name, &gradient, &composed);
    });
}

#[test]
fn composed_on_a_replica_a_batch_has_the_same_gradient() {
    // On one thread, since composed ops are forced by thread.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let pool = pool.unwrap();
    let (encoder, records) = records();
    each(|name, kind, config| {
        let training = training(kind, 3);
        let model = MaskedAutoencoder::new(config, kind, &encoder, 7).unwrap();
        let gradient = |is_composed: bool| {
            let objective =
                MaskedObjective::new(&model, &encoder, &records, &records, &training, 7);
            let mut objective = objective.unwrap();
            let mut gradient = vec![0f32; model.parameters().count()];
            let mut step = || loss_and_gradient(&mut objective, &mut gradient).unwrap();
            match is_composed {
                true => pool.install(|| composed::force(step)),
                false => step(),
            };
            gradient
        };
        assert_composed(name, &gradient(false), &gradient(true));
    });
}

/// A model with a bottleneck of `width` numbers, trained on all records, and its loss on them.
fn reproducing(
    (encoder, records): &(Encoder, Records),
    width: usize,
    training: &TrainingConfig,
) -> (MaskedAutoencoder, f64) {
    let config = ModelConfig {
        bottleneck_width: width,
        dropout: 0.0,
        ..all_readings()
    };
    let model = MaskedAutoencoder::new(&config, training.objective, encoder, 6).unwrap();
    let objective = MaskedObjective::new(&model, encoder, records, records, training, 6);
    let report = fit(&mut objective.unwrap(), training, &mut Unobserved).unwrap();
    (model, report.held_out_loss)
}

#[test]
fn a_wider_bottleneck_lets_more_pass() {
    let data = records();
    let training = training(ObjectiveKind::Autoencoder, 200);
    let (narrow, narrow_loss) = reproducing(&data, 1, &training);
    let (wide, wide_loss) = reproducing(&data, 8, &training);
    assert_eq!((narrow.embedding_width(), wide.embedding_width()), (1, 8));
    assert!(wide_loss < narrow_loss - 0.1, "{wide_loss} {narrow_loss}");
}

#[test]
fn the_weight_of_the_divergence_decides_how_much_passes() {
    let data = records();
    let mean_square = |kl_weight| {
        let training = TrainingConfig {
            kl_weight,
            ..training(ObjectiveKind::Variational, 200)
        };
        let (model, _) = reproducing(&data, 3, &training);
        let mut builder = InputBuilder::new(model.shapes(), 100);
        (0..100).for_each(|row| builder.push(&data.1, row, |_| false));
        let means = model.embedding(&builder.finish().unwrap()).unwrap();
        let square = means.sqr().unwrap().mean_all().unwrap();
        square.to_scalar::<f32>().unwrap()
    };
    let (free, bound) = (mean_square(0.0), mean_square(100.0));
    assert!(free > 0.3 && bound < 0.05, "{free} {bound}");
}
