//! Two stages of scoring: a few views for every record, all of them for those that the few find unusual.
//!
//! ```text
//! a         the rule's power mean over the terms that the first stage works out
//! c         the threshold: the share `cascade.share` of the reference rows have a >= c
//! score     a                          where a < c
//!           (c^q + f^q)^(1/q)          else; f the power mean over all terms, q the rule's exponent
//! ```
//!
//! So every record that gets all views has a score of at least c, above that of every other record. The first stage has what
//! costs at most one pass of the network: the views that show nothing, whose predictions are constants, the denoising view in
//! standard deviations, and the distances. Where numbers do not far outnumber other fields, these say little, and the views that
//! hide most belong to it too, with all of the denoising view. Invariants: the score depends on the record and the bundle alone, and never falls when a surprise rises.

use super::calibration::{ReferenceSample, ReferenceTables, field_surprises, measure};
use super::component::Component;
use super::rule::ScoreRule;
use super::surprise::{SurpriseModel, Surprises, Tile};
use crate::encode::Records;
use crate::model::likelihood::Scale;
use crate::model::ops::simd::Instructions;
use crate::model::{Stratum, Views};
use crate::toml_file::{KeyFault, KeyFaults};
use candle_core::Result;
use serde::{Deserialize, Serialize};

/// The share of the reference rows that get all views, unless one is given.
pub const DEFAULT_CASCADE_SHARE: f64 = 0.02;
/// The largest share: of more a cascade saves little.
pub const CASCADE_SHARE_MAX: f64 = 0.5;

/// The weight of numbers below which the views that hide most are in the first stage: on payments with as many categories as
/// numbers average precision falls by 2.9 points without them and by nothing with them.
const FEW_NUMBERS: f32 = 0.5;

/// The `[cascade]` section: which records get all views.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CascadeConfig {
    /// The share of the reference rows that get all views, 0..=0.5; 0: every record does.
    pub share: f64,
}

impl Default for CascadeConfig {
    fn default() -> Self {
        Self {
            share: DEFAULT_CASCADE_SHARE,
        }
    }
}

impl CascadeConfig {
    /// Everything that is wrong, each with key, value and limit; empty if nothing is.
    pub fn faults(&self) -> Vec<KeyFault> {
        let mut faults = KeyFaults::default();
        let must = format!("must be within 0..={CASCADE_SHARE_MAX}");
        let is_share = (0.0..=CASCADE_SHARE_MAX).contains(&self.share);
        faults.require(is_share, "cascade.share", self.share, &must);
        faults.into_vec()
    }

    /// What to say of an alert budget that is larger than the share, if it is: beyond the share the first stage alone ranks.
    pub fn warning(&self, budget: f64) -> Option<String> {
        (budget > self.share).then(|| {
            format!(
                "alert budget {budget} is above cascade.share = {}: p-values hold, but alerts beyond that share are ranked by \
                 the first stage alone; train with cascade.share of at least {budget}, or 0",
                self.share
            )
        })
    }
}

/// The model in the views of the first stage, and the terms of the score that they tell.
#[derive(Debug, Clone)]
pub struct FirstStage {
    model: SurpriseModel,
    views: Views,
    /// Its strata among those of all views, ascending.
    strata: Vec<usize>,
    terms: Vec<FirstTerm>,
    /// The power mean over these terms.
    rule: ScoreRule,
}

/// A term of the first stage.
#[derive(Debug, Clone, Copy)]
struct FirstTerm {
    /// Its place among all terms of the score.
    place: usize,
    /// Its name in the views of the first stage, whose strata are counted anew.
    own: Component,
}

/// Whether a stratum costs at most one pass of the network: it shows nothing of a record, or it is the one denoising view.
fn is_cheap(stratum: &Stratum, fields: usize) -> bool {
    stratum.denoising.is_some() || hides_everything(stratum, fields)
}

fn hides_everything(stratum: &Stratum, fields: usize) -> bool {
    let all = stratum.hidden.iter().all(|hidden| hidden.len() == fields);
    stratum.denoising.is_none() && (all || stratum.ratio >= 1.0)
}

impl FirstStage {
    /// The first stage of a model that is scored in `views` by `rule`; `None` where it would save nothing, say nothing of the
    /// fields one by one, or too little of fields that are no numbers.
    ///
    /// # Errors
    /// If candle cannot cut the output layer.
    pub fn of(model: &SurpriseModel, views: &Views, rule: &ScoreRule) -> Result<Option<Self>> {
        let fields = model.axes().fields;
        let heads = model.model().heads();
        let few_numbers = heads.weight_of_numbers() < FEW_NUMBERS;
        let is_denoising = |stratum: usize| views.strata()[stratum].denoising.is_some();
        let on_scale = |component: &Component, wanted| match *component {
            Component::Total { stratum, reading } => {
                is_denoising(stratum) && heads.scale(reading) == wanted
            }
            _ => false,
        };
        // Terms in quantiles are left out if others of the denoising view stay.
        let mut components = rule.components();
        let in_deviations = !few_numbers && components.any(|of| on_scale(&of, Scale::Deviation));
        let is_first = |of: &Stratum| {
            is_cheap(of, fields) || (few_numbers && of.hides_most() && of.denoising.is_none())
        };
        let strata = || views.strata().iter().enumerate();
        let first = strata().filter(|(_, of)| is_first(of));
        let first: Vec<usize> = first.map(|(at, _)| at).collect();
        let judges_fields = strata().any(|(_, of)| hides_everything(of, fields));
        let has_terms_enough =
            !few_numbers || strata().any(|(_, of)| of.hides_most() && !is_cheap(of, fields));
        if !views.hides_fields() || !judges_fields || !has_terms_enough {
            return Ok(None);
        }
        let own = |(place, component)| {
            let of = |stratum| first.binary_search(&stratum).ok();
            let own = match component {
                left_out if in_deviations && on_scale(&left_out, Scale::Quantile) => return None,
                Component::Total { stratum, reading } => Component::Total {
                    stratum: of(stratum)?,
                    reading,
                },
                Component::Largest { stratum, reading } => Component::Largest {
                    stratum: of(stratum)?,
                    reading,
                },
                distance => distance,
            };
            Some(FirstTerm { place, own })
        };
        let terms: Vec<FirstTerm> = rule.components().enumerate().filter_map(own).collect();
        if terms.is_empty() || terms.len() == rule.components().len() {
            return Ok(None);
        }
        let views = match (views.only(&first), in_deviations) {
            (views, true) => views.denoising_in_deviations(),
            (views, false) => views,
        };
        Ok(Some(Self {
            model: model.in_views(&views)?,
            views,
            strata: first,
            rule: rule.part(terms.iter().map(|term| term.place)),
            terms,
        }))
    }

    /// The model in its views.
    pub fn model(&self) -> &SurpriseModel {
        &self.model
    }

    /// Its views.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Terms of the score that it works out.
    pub fn terms(&self) -> usize {
        self.terms.len()
    }

    /// The power mean over this stage's terms, given what each measures of a record: >= 0, finite.
    fn combine(&self, reference: &ReferenceTables, measured: impl Fn(&FirstTerm) -> f32) -> f32 {
        let tables = reference.parts().0;
        let surprisal = |term: &FirstTerm| tables[term.place].surprisal(measured(term));
        finite(self.rule.score(self.terms.iter().map(surprisal)))
    }

    /// The score of a record by its surprises in the views of this stage.
    fn score(&self, reference: &ReferenceTables, surprises: &Surprises, row: usize) -> f32 {
        self.combine(reference, |term| measure(term.own, surprises, row))
    }

    /// The same by its surprises in all views.
    fn score_of_all(&self, reference: &ReferenceTables, surprises: &Surprises, row: usize) -> f32 {
        let components: Vec<Component> = reference.rule().components().collect();
        self.combine(reference, |term| {
            measure(components[term.place], surprises, row)
        })
    }

    /// The mean surprise of every field of a record under the first reading in the views of this stage, `[F]`, by its surprises
    /// in all views.
    pub(super) fn field_surprises_of_all(
        &self,
        surprises: &Surprises,
        row: usize,
    ) -> impl Iterator<Item = f32> {
        let of = move |field| surprises.field_in(self.strata.iter().copied(), row, field, 0);
        (0..surprises.axes().fields).map(of)
    }

    /// The cascade that gives all views to the share of the reference rows with the largest scores, at least one of them, and
    /// to all that tie with it; `sample` has the rows that made the tables.
    pub fn fit(self, reference: &ReferenceTables, sample: &ReferenceSample, share: f64) -> Cascade {
        let score = |row: usize| self.combine(reference, |term| sample.value(term.place, row));
        let mut scores: Vec<f32> = (0..sample.rows()).map(score).collect();
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        let rows = (share * scores.len() as f64).ceil() as usize;
        let at = rows.clamp(1, scores.len().max(1)) - 1;
        let threshold = scores.get(at).copied().unwrap_or(0.0);
        Cascade {
            first: self,
            threshold,
        }
    }

    /// The cascade of a stored threshold.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn with_threshold(self, threshold: f32) -> std::result::Result<Cascade, String> {
        match threshold >= 0.0 && threshold.is_finite() {
            true => Ok(Cascade {
                first: self,
                threshold,
            }),
            false => Err(format!(
                "the threshold of the cascade is {threshold}: must be finite and at least 0"
            )),
        }
    }
}

/// A first stage with the score from which on a record gets all views.
#[derive(Debug, Clone)]
pub struct Cascade {
    first: FirstStage,
    threshold: f32,
}

/// The anomaly scores of some records.
pub(super) struct CascadeScores<T> {
    /// `[B]`.
    pub scores: Vec<f32>,
    /// `[B, F]`: the mean surprise of every field under the first reading in the views of the first stage.
    pub field_surprise: Vec<f32>,
    /// The records that got all views, ascending, with what was made of each.
    pub in_full: Vec<(usize, T)>,
}

impl Cascade {
    /// What every record gets.
    pub fn first(&self) -> &FirstStage {
        &self.first
    }

    /// c: a record gets all views if the first stage gives it as much.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The same cascade with the kernel of the given instructions.
    ///
    /// # Errors
    /// If candle fails.
    pub(super) fn with_instructions(self, instructions: Instructions) -> Result<Self> {
        let FirstStage { model, views, .. } = self.first;
        let model = model.with_instructions(&views, instructions)?;
        let first = FirstStage {
            model,
            views,
            ..self.first
        };
        Ok(Self { first, ..self })
    }

    /// The scores of some records: the first stage of all, then all views of those that it finds unusual, put together so
    /// that their tiles are full. `then` is called for each of these, while its pass can still be asked, with the tile, the
    /// record's place in the tile and among `records`, and its score.
    ///
    /// # Errors
    /// If candle fails.
    pub(super) fn scores<T: Send>(
        &self,
        all: &SurpriseModel,
        reference: &ReferenceTables,
        records: &Records,
        then: impl Fn(&mut Tile<'_>, usize, usize, f32) -> Result<T> + Sync + Send,
    ) -> Result<CascadeScores<T>> {
        let first = self.first.model.each_tile(records, |tile| {
            let surprises = &tile.surprises;
            let rows = 0..surprises.rows();
            let score = |row| self.first.score(reference, surprises, row);
            let fields = |row| field_surprises(surprises, row);
            Ok((
                rows.clone().map(score).collect(),
                rows.flat_map(fields).collect(),
            ))
        })?;
        let (mut scores, field_surprise): (Vec<f32>, Vec<f32>) = concat(first);
        let unusual = (0..records.rows()).filter(|&row| scores[row] >= self.threshold);
        let unusual: Vec<usize> = unusual.collect();
        let chosen = records.select(unusual.iter().copied());
        let in_full = all.each_tile(&chosen, |mut tile| {
            let rows = &unusual[tile.rows.clone()];
            let of = |(t, &row): (usize, &usize)| {
                let full = reference.anomaly_score(&tile.surprises, t);
                let score = lifted(self.threshold, reference.rule().power(), full);
                Ok((row, score, then(&mut tile, t, row, score)?))
            };
            rows.iter().enumerate().map(of).collect::<Result<Vec<_>>>()
        })?;
        let in_full = in_full.into_iter().flatten().map(|(row, score, made)| {
            scores[row] = score;
            (row, made)
        });
        Ok(CascadeScores {
            in_full: in_full.collect(),
            scores,
            field_surprise,
        })
    }

    /// The same score of a record by its surprises in all views, and whether it gets them.
    pub(super) fn score_of_all(
        &self,
        reference: &ReferenceTables,
        surprises: &Surprises,
        row: usize,
    ) -> (f32, bool) {
        let first = self.first.score_of_all(reference, surprises, row);
        match first < self.threshold {
            true => (first, false),
            false => {
                let full = reference.anomaly_score(surprises, row);
                let score = lifted(self.threshold, reference.rule().power(), full);
                (score, true)
            }
        }
    }
}

/// A score by all views as it is told: at least the threshold, and nearly itself where it is far above.
fn lifted(threshold: f32, power: f64, full: f32) -> f32 {
    let (c, f) = (f64::from(threshold), f64::from(full));
    let lifted = (c.powf(power) + f.powf(power)).powf(1.0 / power) as f32;
    // Rounding, or an exponent for which the sum overflows.
    finite(lifted).max(threshold)
}

/// What overflowed is the most abnormal there is, and outputs hold finite numbers only.
fn finite(score: f32) -> f32 {
    if score.is_finite() { score } else { f32::MAX }
}

/// The parts of all tiles, one behind the other.
fn concat(tiles: Vec<(Vec<f32>, Vec<f32>)>) -> (Vec<f32>, Vec<f32>) {
    let (mut scores, mut fields) = (Vec::new(), Vec::new());
    for (of_tile, fields_of_tile) in tiles {
        scores.extend(of_tile);
        fields.extend(fields_of_tile);
    }
    (scores, fields)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_share_beyond_its_range_is_told_with_its_limit() {
        let faults = |share| CascadeConfig { share }.faults();
        for share in [0.0, 0.02, 0.5] {
            assert!(faults(share).is_empty(), "{share}");
        }
        for share in [-0.01, 0.51, f64::NAN] {
            let fault = faults(share)[0].to_string();
            assert!(
                fault.contains("cascade.share") && fault.contains("0..=0.5"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_budget_above_the_share_is_told_with_both() {
        let cascade = CascadeConfig { share: 0.02 };
        assert_eq!(cascade.warning(0.02), None);
        let warning = cascade.warning(0.05).unwrap();
        assert!(
            warning.contains("budget 0.05") && warning.contains("share = 0.02"),
            "{warning}"
        );
    }

    proptest! {
        #[test]
        fn a_score_in_full_is_at_least_the_threshold_and_keeps_its_order(
            threshold in 0.0..50.0f32,
            power in 1.0..16.0f64,
            full in prop::collection::vec(prop_oneof![0.0..100.0f32, Just(0.0), Just(f32::MAX)], 2),
        ) {
            let [low, high] = [full[0].min(full[1]), full[0].max(full[1])];
            let [a, b] = [low, high].map(|full| lifted(threshold, power, full));
            prop_assert!(threshold <= a && a <= b && b.is_finite(), "{} {} {}", threshold, a, b);
            prop_assert!(a >= low * 0.999_999 && a <= (threshold + low) * 1.000_001 || low == f32::MAX);
        }
    }
}
