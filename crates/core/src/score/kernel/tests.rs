//! The kernel against candle's forward, on random schemas, records, models and views.

#![allow(clippy::unwrap_used)]

use crate::encode::{Encoder, EncoderFitter, Records};
use crate::model::inputs::takes_noise;
use crate::model::likelihood::Scale;
use crate::model::ops::simd::Instructions;
use crate::model::{
    Likelihood, MaskPlan, MaskedAutoencoder, Masking, ModelConfig, ObjectiveKind, Scoring, Views,
};
use crate::rng::{Purpose, stream};
use crate::schema::{Field, Kind};
use crate::score::surprise::{Axes, Tile};
use crate::score::{Distances, LatentDistance, SurpriseModel, Surprises};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use proptest::prelude::*;
use rand::{Rng, RngExt};
use std::sync::Arc;

const ROWS: usize = 100;
/// Of which the encoder is fitted to the first: enough of them for a number to be known to have two values.
const FIT_ROWS: usize = 70;

/// What a column holds.
#[derive(Debug, Clone, Copy)]
enum Held {
    /// Values of a kind; a number has many.
    Many(Kind),
    /// One of two numbers, and a third after the rows that the encoder is fitted to.
    TwoNumbers,
}

const NUMBER: Held = Held::Many(Kind::Numeric);

/// A column with nulls, or without, so that some heads learn nullness and others do not.
fn column(held: Held, rng: &mut impl Rng) -> ArrayRef {
    let nulls = if rng.random::<bool>() { 0.2 } else { 0.0 };
    let values = rng.random_range(1..40);
    let mut some = Vec::new();
    for _ in 0..ROWS {
        let x: f64 = rng.random_range(-1.0..1.0);
        some.push((rng.random::<f64>() >= nulls).then_some(x));
    }
    let numbers = some.iter();
    match held {
        Held::TwoNumbers => {
            let value = |(row, x): (usize, &Option<f64>)| {
                let one = if x.is_some_and(|x| x > 0.5) { 2.5 } else { 0.0 };
                x.map(|_| {
                    if row >= FIT_ROWS && row % 5 == 0 {
                        7.0
                    } else {
                        one
                    }
                })
            };
            Arc::new(Float64Array::from_iter(numbers.enumerate().map(value)))
        }
        Held::Many(Kind::Numeric) => Arc::new(Float64Array::from_iter(
            numbers.map(|x| x.map(|x| x.powi(5) * 9.0)),
        )),
        Held::Many(Kind::Categorical) => {
            let text = |x: f64| format!("v{}", (x.abs() * f64::from(values)) as u32);
            Arc::new(StringArray::from_iter(numbers.map(|x| x.map(text))))
        }
        Held::Many(Kind::Boolean) => {
            Arc::new(BooleanArray::from_iter(numbers.map(|x| x.map(|x| x > 0.3))))
        }
        Held::Many(Kind::Timestamp) => {
            let micros = |x: f64| (x * 1e16) as i64;
            Arc::new(TimestampMicrosecondArray::from_iter(
                numbers.map(|x| x.map(micros)),
            ))
        }
    }
}

/// Encoder and records of random fields that hold what is said; of the records the encoder has seen the first `FIT_ROWS`.
fn records(held: &[Held], seed: u64) -> (Encoder, Records) {
    let rng = &mut stream(seed, Purpose::Batches);
    let names: Vec<String> = (0..held.len()).map(|i| format!("f{i}")).collect();
    let columns = names
        .iter()
        .zip(held)
        .map(|(name, &held)| (name, column(held, rng)));
    let batch = RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap();
    let fields: Vec<Field> = names
        .iter()
        .zip(held)
        .map(|(name, &held)| match held {
            Held::Many(kind) => Field::feature(name, kind),
            Held::TwoNumbers => Field::feature(name, Kind::Numeric),
        })
        .collect();
    let mut fitter = EncoderFitter::new(&fields, 6).unwrap();
    fitter.observe(&batch.slice(0, FIT_ROWS)).unwrap();
    let encoder = fitter.finish().unwrap();
    let records = encoder.encode(&batch).unwrap();
    (encoder, records)
}

/// A model of which every parameter, biases too, was moved from where it starts.
fn model(config: &ModelConfig, kind: ObjectiveKind, encoder: &Encoder) -> MaskedAutoencoder {
    let model = MaskedAutoencoder::new(config, kind, encoder, 3).unwrap();
    let mut flat = model.parameters().to_flat().unwrap();
    let rng = &mut stream(4, Purpose::Initialisation);
    flat.iter_mut()
        .for_each(|p| *p += rng.random_range(-0.1..0.1));
    model.parameters().set_flat(&flat).unwrap();
    model
}

/// How far two ways to the same surprise may be apart, beside what a [`Conditioning`] allows.
const NEAR: f32 = 1e-5;

/// Whether two numbers differ by at most `tolerance` times the larger of 1 and the first.
fn near(x: f32, y: f32, tolerance: f32) -> bool {
    (x - y).abs() <= tolerance * x.abs().max(1.0) || (x.is_nan() && y.is_nan())
}

/// Every place of the surprises of a record.
fn places(axes: Axes) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..axes.fields).flat_map(move |f| {
        (0..axes.strata).flat_map(move |s| (0..axes.readings).map(move |r| (f, s, r)))
    })
}

/// Equal to `tolerance(row)` times the larger of 1 and the surprise.
fn assert_near(a: &Surprises, b: &Surprises, tolerance: impl Fn(usize) -> f32) {
    let axes = a.axes();
    assert_eq!((a.rows(), axes), (b.rows(), b.axes()));
    for row in 0..a.rows() {
        for (f, s, r) in places(axes) {
            let (x, y) = (a.at(row, f, s, r), b.at(row, f, s, r));
            assert!(near(x, y, tolerance(row)), "{row} {f} {s} {r}: {x} {y}");
        }
    }
}

/// How much the rounding of a weight shows in the surprises of each record.
///
/// A layer norm over a few numbers that happen to lie close together magnifies rounding some hundred times, and each of
/// up to four norms does. So two correct orders of the same sums may differ visibly, in the few records that meet such
/// a place; how far is measured, as what moving each weight by a unit in its last place does to the oracle.
struct Conditioning {
    /// Of the surprises of each record, relative to the larger of 1 and the surprise.
    surprises: Vec<f32>,
    /// The same of the logits of the record `EXPLAINED`.
    logits: f32,
}

/// A record whose logits are compared too: explanations read them.
const EXPLAINED: usize = 9;

impl Conditioning {
    /// Of 2,000 random models one record differed by 9 times what three copies showed; there are eight.
    const ROOM: f32 = 32.0;

    /// `model` computes through tensors and gives `oracle`; `copies` are as many copies of its network.
    fn of(
        model: &SurpriseModel,
        copies: [MaskedAutoencoder; 8],
        views: &Views,
        records: &Records,
        oracle: &Surprises,
    ) -> Self {
        let mut largest = vec![0f32; oracle.rows()];
        let mut of_logits = 0f32;
        let logits = |model: &SurpriseModel| {
            let of_record = model.logits(records, EXPLAINED).unwrap();
            let fields = 0..records.present(EXPLAINED).len();
            let all = fields.flat_map(|field| of_record[field].concat());
            all.collect::<Vec<f32>>()
        };
        let expected = logits(model);
        for (seed, copy) in (0..).zip(copies) {
            move_by_units(&copy, seed);
            let moved = SurpriseModel::new(model.encoder().clone(), copy, views).unwrap();
            let moved = moved.through_tensors(views).unwrap();
            for (x, y) in expected.iter().zip(logits(&moved)) {
                of_logits = of_logits.max((x - y).abs() / x.abs().max(1.0));
            }
            let moved = moved.surprises(records).unwrap();
            for (row, largest) in largest.iter_mut().enumerate() {
                for (f, s, r) in places(oracle.axes()) {
                    let (x, y) = (oracle.at(row, f, s, r), moved.at(row, f, s, r));
                    *largest = largest.max((x - y).abs() / x.abs().max(1.0));
                }
            }
        }
        let held = largest.iter().filter(|&&x| Self::allowed(x) < 1e-3).count();
        assert!(
            2 * held > largest.len(),
            "{held}: too few records are told apart"
        );
        Self {
            surprises: largest,
            logits: of_logits,
        }
    }

    /// How far two correct passes over a record may be apart.
    fn tolerance(&self, row: usize) -> f32 {
        Self::allowed(self.surprises[row])
    }

    fn allowed(measured: f32) -> f32 {
        NEAR + Self::ROOM * measured
    }
}

/// Moves every parameter by one unit in the last place, up or down.
fn move_by_units(model: &MaskedAutoencoder, seed: u64) {
    let mut flat = model.parameters().to_flat().unwrap();
    let rng = &mut stream(seed, Purpose::SwapNoise);
    for p in &mut flat {
        *p = if rng.random() {
            p.next_up()
        } else {
            p.next_down()
        };
    }
    model.parameters().set_flat(&flat).unwrap();
}

/// Under every set of instructions the kernel gives the oracle's surprises, and the same bits of a record alone and among others;
/// wide vectors all give the same bits, so that the fastest may be taken.
fn assert_all_sets_agree(
    fused: &SurpriseModel,
    views: &Views,
    records: &Records,
    oracle: &Surprises,
    tolerance: impl Fn(usize) -> f32,
) {
    let mut of_wide: Option<Surprises> = None;
    for instructions in Instructions::available() {
        let fused = fused.clone();
        let fused = fused.with_instructions(views, instructions).unwrap();
        let all = fused.surprises(records).unwrap();
        assert_near(&all, oracle, &tolerance);
        for row in [0, 7, ROWS - 1] {
            let alone = fused.surprises(&records.select([row])).unwrap();
            assert!(same(&alone, 0, &all, row), "{instructions:?}, row {row}");
        }
        let some = fused.surprises(&records.select(5..17)).unwrap();
        assert!((0..12).all(|row| same(&some, row, &all, 5 + row)));
        if instructions.lanes() >= 8 {
            let first = of_wide.get_or_insert_with(|| all.clone());
            let all_same = (0..ROWS).all(|row| same(first, row, &all, row));
            assert!(all_same, "{instructions:?}");
        }
    }
}

fn same(a: &Surprises, from: usize, b: &Surprises, at: usize) -> bool {
    places(a.axes()).all(|(f, s, r)| a.at(from, f, s, r).to_bits() == b.at(at, f, s, r).to_bits())
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        Just(NUMBER),
        Just(Held::TwoNumbers),
        Just(Held::Many(Kind::Categorical)),
        Just(Held::Many(Kind::Boolean)),
        Just(Held::Many(Kind::Timestamp)),
    ]
}

fn likelihood() -> impl Strategy<Value = Vec<Likelihood>> {
    let all = vec![
        Likelihood::Histogram,
        Likelihood::StudentT,
        Likelihood::Gaussian,
        Likelihood::SquaredError,
        Likelihood::RobustSquaredError,
        Likelihood::QuantileHistogram,
        Likelihood::QuantileRobustSquaredError,
    ];
    proptest::sample::subsequence(all, 1..=7).prop_shuffle()
}

/// What the pass over a tile is asked of a record is what a pass of its own says, whatever was asked of the tile before.
fn assert_a_tile_tells_the_logits_of_each_record(model: &SurpriseModel, records: &Records) {
    let predicted = |tile: &Tile<'_>| {
        let fields = (0..model.axes().fields).rev();
        let predicted = fields.filter(|&field| tile.surprises.is_predicted(field));
        predicted.collect::<Vec<usize>>()
    };
    let of_tiles = model.each_tile(records, |mut tile| {
        let fields = predicted(&tile);
        for (t, row) in tile.rows.clone().enumerate().skip(1).step_by(3) {
            let alone = model.logits(records, row)?;
            for &field in &fields {
                assert_eq!(
                    tile.logits(t, field)?,
                    alone[field],
                    "record {row}, field {field}"
                );
            }
        }
        Ok(fields.len())
    });
    assert!(of_tiles.unwrap().iter().all(|&fields| fields > 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_kernel_gives_the_surprises_of_candles_forward(
        held in prop::collection::vec(held(), 1..9),
        likelihood in likelihood(),
        objective in prop_oneof![
            3 => Just(ObjectiveKind::Masked),
            1 => Just(ObjectiveKind::Autoencoder),
            1 => Just(ObjectiveKind::Variational),
        ],
        plan in prop_oneof![
            Just(MaskPlan::Balanced), Just(MaskPlan::Random), Just(MaskPlan::LeaveOneOut)
        ],
        token: bool,
        (denoising, in_deviations) in any::<(bool, bool)>(),
        // Narrow models often: there a norm magnifies rounding most.
        width in prop_oneof![1 => 1usize..5, 4 => 5usize..70],
        blocks in 1usize..4,
        bins in 2usize..70,
        seed: u64,
    ) {
        let (encoder, records) = records(&held, seed);
        let config = ModelConfig {
            masking: if token { Masking::Token } else { Masking::Drop },
            likelihood,
            width,
            blocks,
            histogram_bins: bins,
            denoising,
            ..ModelConfig::default()
        };
        let rng = &mut stream(seed, Purpose::Views);
        let mut views = match objective.hides_fields() {
            true => Views::draw(plan, &[0.2, 0.5, 0.7, 1.0], 2, held.len(), rng),
            false => Views::nothing_hidden(),
        };
        if config.denoises(objective) {
            let shapes = encoder.shapes().into_iter().zip(0..);
            let numbers = shapes.filter(|(shape, _)| takes_noise(*shape)).map(|(_, f)| f);
            views = views.with_denoising(0.1, numbers.collect());
            if in_deviations {
                views = views.denoising_in_deviations();
            }
        }
        let copy = || model(&config, objective, &encoder);
        let fused = SurpriseModel::new(encoder.clone(), copy(), &views).unwrap();
        let tensors = fused.clone().through_tensors(&views).unwrap();
        let oracle = tensors.surprises(&records).unwrap();
        let copies = std::array::from_fn(|_| copy());
        let conditioning = Conditioning::of(&tensors, copies, &views, &records, &oracle);
        let tolerance = |row| conditioning.tolerance(row);
        assert_all_sets_agree(&fused, &views, &records, &oracle, tolerance);
        // Explanations read the same logits.
        let a = fused.logits(&records, EXPLAINED).unwrap();
        let b = tensors.logits(&records, EXPLAINED).unwrap();
        let allowed = Conditioning::allowed(conditioning.logits);
        for field in 0..held.len() {
            prop_assert_eq!(a[field].len(), b[field].len());
            for (x, y) in a[field].iter().flatten().zip(b[field].iter().flatten()) {
                prop_assert!(near(*x, *y, allowed), "{} {}", x, y);
            }
        }
        for model in [&fused, &tensors] {
            assert_a_tile_tells_the_logits_of_each_record(model, &records);
        }
    }
}

#[test]
fn the_distance_of_a_latent_is_that_of_candles_forward_and_changes_no_surprise() {
    let held = [NUMBER, NUMBER, Held::Many(Kind::Categorical), NUMBER];
    let (encoder, records) = records(&held, 5);
    let config = ModelConfig {
        width: 40,
        ..ModelConfig::default()
    };
    let rng = &mut stream(5, Purpose::Views);
    let views = Views::draw(MaskPlan::Balanced, &[0.3, 1.0], 1, 4, rng);
    let views = views.with_denoising(0.2, vec![0, 1, 3]);
    let model = model(&config, ObjectiveKind::Masked, &encoder);
    let plain = SurpriseModel::new(encoder, model, &views).unwrap();
    let latents = plain.latents(&records).unwrap();
    let latent = LatentDistance::fit(&latents, 40).unwrap();
    let distances = Distances {
        latent: Some(latent.clone()),
        nearest: None,
    };
    let before = plain.surprises(&records).unwrap();
    let measured = plain.with_distances(&views, distances).unwrap();
    for instructions in Instructions::available() {
        let measured = measured
            .clone()
            .with_instructions(&views, instructions)
            .unwrap();
        let found = measured.surprises(&records).unwrap();
        assert_near(&found, &before, |_| 1e-4);
        for (row, z) in latents.chunks_exact(40).enumerate() {
            let (found, expected) = (found.distances(row).latent, latent.of(z));
            assert!(near(expected, found, 1e-3), "{row}: {found} {expected}");
        }
    }
}

#[test]
fn a_denoising_view_in_deviations_alone_reads_the_same_bits_for_two_thirds_of_the_cost() {
    let kinds = [NUMBER, Held::Many(Kind::Categorical), NUMBER, NUMBER];
    let (encoder, records) = records(&kinds, 7);
    let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
    let heads = model.heads().clone();
    let rng = &mut stream(3, Purpose::Views);
    // Nothing is visible in the other view, which costs nothing, whatever it is read by.
    let both = Views::draw(MaskPlan::Balanced, &[1.0], 1, 4, rng);
    let both = both.with_denoising(0.2, vec![0, 2, 3]);
    let alone = both.clone().denoising_in_deviations();
    let in_both = SurpriseModel::new(encoder, model, &both).unwrap();
    let in_one = in_both.in_views(&alone).unwrap();
    assert_agrees(&in_one, &alone, &records, 1e-4);
    let operations = |of: &SurpriseModel| of.operations().unwrap().heads;
    // Of each number 64 bins, a location and its scale, twice; of these 80 columns instead of 132.
    assert!(3 * operations(&in_one) <= 2 * operations(&in_both));
    let (of_both, of_one) = (in_both.surprises(&records), in_one.surprises(&records));
    let (of_both, of_one) = (of_both.unwrap(), of_one.unwrap());
    for row in 0..records.rows() {
        for field in [0, 2, 3] {
            for reading in 0..heads.readings() {
                let at = |of: &Surprises, stratum| of.at(row, field, stratum, reading);
                assert_eq!(at(&of_one, 0), at(&of_both, 0), "what sees nothing");
                let expected = match heads.scale(reading) {
                    Scale::Deviation => at(&of_both, 1),
                    Scale::Quantile => 0.0,
                };
                assert_eq!(at(&of_one, 1), expected, "{row} {field} {reading}");
            }
        }
    }
}

#[test]
fn the_operations_of_a_record_are_those_that_its_views_require() {
    let (encoder, _) = records(&[NUMBER; 4], 1);
    let config = ModelConfig {
        width: 10,
        blocks: 2,
        likelihood: vec![Likelihood::SquaredError],
        ..ModelConfig::default()
    };
    let model = model(&config, ObjectiveKind::Masked, &encoder);
    let outputs = model.heads().outputs() as u64;
    let rng = &mut stream(0, Purpose::Views);
    // Two views that hide two fields each, and one that hides all four and costs nothing.
    let views = Views::draw(MaskPlan::Balanced, &[0.5, 1.0], 1, 4, rng);
    let fused = SurpriseModel::new(encoder, model, &views).unwrap();
    let operations = fused.operations().unwrap();
    // Of the four products of the blocks the first comes with the input layer, 10 more columns of it.
    assert_eq!(operations.blocks, 2 * 3 * (2 * 10 * 10));
    assert_eq!(operations.heads, 2 * 10 * outputs);
    // Four fields of two numbers each.
    assert_eq!(operations.input, 2 * 10 * (2 * 8 + 4 + 2 * 2));
}

#[test]
fn views_that_are_the_same_are_computed_once_and_count_as_often_as_they_are_drawn() {
    // Of two fields every balanced view with one of them hidden is one of two.
    let (encoder, records) = records(&[NUMBER, Held::Many(Kind::Categorical)], 2);
    let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
    let blocks_with = |rounds| {
        let rng = &mut stream(0, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &[0.15, 0.5, 1.0], rounds, 2, rng);
        let fused = SurpriseModel::new(encoder.clone(), model.clone(), &views).unwrap();
        assert_agrees(&fused, &views, &records, 1e-5);
        fused.operations().unwrap().blocks
    };
    // Two views, and of three blocks with two products of 192 x 192 each the first `up` comes with the input layer.
    let two_views = 2 * 5 * (2 * 192 * 192);
    assert_eq!((blocks_with(1), blocks_with(3)), (two_views, two_views));
}

/// The kernel agrees with candle's forward under every set of instructions.
fn assert_agrees(fused: &SurpriseModel, views: &Views, records: &Records, tolerance: f32) {
    let oracle = fused.clone().through_tensors(views).unwrap();
    let oracle = oracle.surprises(records).unwrap();
    for instructions in Instructions::available() {
        let fused = fused.clone();
        let fused = fused.with_instructions(views, instructions).unwrap();
        assert_near(&fused.surprises(records).unwrap(), &oracle, |_| tolerance);
    }
}

/// The same of a narrow model with one view for each of `fields` numbers.
fn assert_narrow_agrees(fields: usize, config: ModelConfig) {
    let config = ModelConfig {
        width: 9,
        blocks: 1,
        ..config
    };
    let (encoder, records) = records(&vec![NUMBER; fields], 6);
    let model = model(&config, ObjectiveKind::Masked, &encoder);
    let rng = &mut stream(0, Purpose::Views);
    let views = Views::draw(MaskPlan::LeaveOneOut, &[0.5], 1, fields, rng);
    let fused = SurpriseModel::new(encoder, model, &views).unwrap();
    assert_agrees(&fused, &views, &records, 5.0 * NEAR);
}

#[test]
fn a_head_with_more_logits_than_are_held_at_once_is_read_in_parts() {
    // 100 records under one view with 8,192 logits each are more than the 2^18 that are held.
    let config = ModelConfig {
        likelihood: vec![Likelihood::Histogram],
        histogram_bins: 8192,
        ..ModelConfig::default()
    };
    assert_narrow_agrees(2, config);
}

#[test]
fn more_views_than_a_tile_has_rows_are_scored_a_record_at_a_time() {
    assert_narrow_agrees(130, ModelConfig::default());
}

#[test]
fn fast_scoring_of_29_numbers_costs_at_most_5_million_operations() {
    let (encoder, _) = records(&[NUMBER; 29], 1);
    let operations = |scoring: Scoring| {
        let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
        let rng = &mut stream(0, Purpose::Views);
        let (ratios, rounds) = (scoring.ratios(), scoring.rounds());
        let views = Views::draw(MaskPlan::Balanced, ratios, rounds, 29, rng);
        let fused = SurpriseModel::new(encoder.clone(), model, &views).unwrap();
        fused.operations().unwrap().total()
    };
    let (full, fast) = (operations(Scoring::Full), operations(Scoring::Fast));
    assert!(fast <= 5_000_000 && 6 * fast <= full, "{fast} of {full}");
}

#[test]
fn a_hidden_value_does_not_reach_the_logits_of_its_field() {
    // Rows 2 i and 2 i + 1 differ in the first field only, and there as much as a value can.
    let fields: Vec<Field> = (0..6)
        .map(|i| Field::feature(&format!("f{i}"), Kind::Numeric))
        .collect();
    let value = |field: usize, row: usize| match field {
        0 if row < 4 => [-1e6, 1e6][row % 2],
        0 => (row as f64).sin(),
        _ => ((row / 2 * 7 + field * 3) as f64).sin(),
    };
    let column = |f: usize| {
        Arc::new(Float64Array::from_iter_values(
            (0..ROWS).map(|r| value(f, r)),
        ))
    };
    let columns = (0..6).map(|f| (format!("f{f}"), column(f) as ArrayRef));
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut fitter = EncoderFitter::new(&fields, 6).unwrap();
    fitter.observe(&batch.slice(4, ROWS - 4)).unwrap();
    let encoder = fitter.finish().unwrap();
    let records = encoder.encode(&batch).unwrap();
    let (low, high) = (records.numbers(0)[0], records.numbers(1)[0]);
    assert!(high - low > 19.0 && records.numbers(0)[2..] == records.numbers(1)[2..]);
    let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
    // Views that hide few fields take them out of a sum of all, those that hide many never put them in.
    for ratio in [0.2, 0.5, 0.7] {
        let rng = &mut stream(1, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &[ratio], 2, 6, rng);
        let fused = SurpriseModel::new(encoder.clone(), model.clone(), &views).unwrap();
        for row in [0, 2] {
            let (a, b) = (
                fused.logits(&records, row).unwrap(),
                fused.logits(&records, row + 1).unwrap(),
            );
            for (x, y) in a[0].iter().flatten().zip(b[0].iter().flatten()) {
                let near = (x - y).abs() <= 1e-5 * x.abs().max(1.0);
                assert!(near, "{ratio}: {x} {y}");
            }
            // What is visible does reach the others.
            let others = (1..6).any(|f| a[f] != b[f]);
            assert!(others, "{ratio}");
        }
    }
}

#[test]
fn the_default_model_of_29_numbers_gives_the_surprises_of_candles_forward_to_one_in_100_000() {
    let (encoder, records) = records(&[NUMBER; 29], 5);
    let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
    for scoring in [Scoring::Full, Scoring::Fast] {
        let rng = &mut stream(0, Purpose::Views);
        let (ratios, rounds) = (scoring.ratios(), scoring.rounds());
        let views = Views::draw(MaskPlan::Balanced, ratios, rounds, 29, rng);
        let fused = SurpriseModel::new(encoder.clone(), model.clone(), &views).unwrap();
        assert_agrees(&fused, &views, &records, 1e-5);
    }
}

#[test]
fn avx2_and_avx_512_give_the_same_bits_of_the_default_model() {
    // Heads of 29 numbers and of a category: logits in panels, alone, and in softmaxes of several lengths.
    let held = [vec![NUMBER; 29], vec![Held::Many(Kind::Categorical); 2]].concat();
    let (encoder, records) = records(&held, 8);
    let model = model(&ModelConfig::default(), ObjectiveKind::Masked, &encoder);
    let rng = &mut stream(0, Purpose::Views);
    let (ratios, rounds) = (Scoring::Full.ratios(), Scoring::Full.rounds());
    let views = Views::draw(MaskPlan::Balanced, ratios, rounds, held.len(), rng);
    let fused = SurpriseModel::new(encoder.clone(), model, &views).unwrap();
    let mut sets = Instructions::available();
    sets.retain(|set| set.lanes() >= 8);
    let of = |set| fused.clone().with_instructions(&views, set).unwrap();
    let results = sets.iter().map(|&set| of(set).surprises(&records).unwrap());
    let results: Vec<Surprises> = results.collect();
    for (set, other) in sets.iter().zip(&results) {
        let all_same = (0..ROWS).all(|row| same(&results[0], row, other, row));
        assert!(all_same, "{}", set.name());
    }
}
