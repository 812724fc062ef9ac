//! Which fields are hidden: the random masks of training and the fixed views of scoring.
//!
//! Letters: F fields, K views, S strata (mask ratios). A view is one set of hidden fields; a stratum is the views of one
//! mask ratio. Views are drawn once, stored in the bundle and used for every record, so that a record has one score.
//! Under a view the fields that it hides are read; a model that was trained with nothing hidden has one view, which hides
//! nothing and reads every field.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Mask ratios of scoring: low ones see broken dependence between fields, 1.0 sees marginal extremes.
const DEFAULT_RATIOS: [f32; 3] = [0.15, 0.65, 1.0];
/// Times that each field is hidden at each ratio; two halve the noise of the drawn partition.
const DEFAULT_ROUNDS: usize = 2;
/// Mask ratios of fast scoring: one low enough to see broken dependence, and 1.0, which costs next to nothing.
const FAST_RATIOS: [f32; 2] = [0.35, 1.0];
/// Views of a model at most: a bound on the cost of a record.
pub const VIEWS_MAX: usize = 4096;

/// How the views of scoring are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskPlan {
    /// Every field is hidden equally often at every ratio: up to 0.5 each part of a random partition is hidden in turn,
    /// above it each part is the only one visible, at 1 nothing is visible.
    Balanced,
    /// Every field of a view is hidden with the ratio's probability, as many views as `balanced` would have.
    Random,
    /// One view a field, which hides only that field; ratios and rounds do not matter.
    LeaveOneOut,
}

/// How many views scoring spends on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// Three mask ratios, each field hidden twice at each: what detection quality is reported with.
    Full,
    /// Two mask ratios, each field hidden once: a sixth of the cost.
    Fast,
}

impl Scoring {
    /// The mask ratios, each in (0, 1].
    pub fn ratios(self) -> &'static [f32] {
        match self {
            Self::Full => &DEFAULT_RATIOS,
            Self::Fast => &FAST_RATIOS,
        }
    }

    /// Times that each field is hidden at each ratio.
    pub fn rounds(self) -> usize {
        match self {
            Self::Full => DEFAULT_ROUNDS,
            Self::Fast => 1,
        }
    }
}

/// The views of one mask ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stratum {
    /// The share of hidden fields, in (0, 1]; 0 for the one view that hides nothing.
    pub ratio: f32,
    /// The hidden fields of each view, ascending.
    pub hidden: Vec<Vec<u32>>,
    /// Of the denoising stratum: what its one view, which hides nothing, tells the model and reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denoising: Option<Denoising>,
}

impl Stratum {
    /// The views that hide these fields at this ratio.
    fn masked(ratio: f32, hidden: Vec<Vec<u32>>) -> Self {
        Self {
            ratio,
            hidden,
            denoising: None,
        }
    }

    /// Whether so much is hidden that a distribution says how extreme a value is, more than how ill it fits the others.
    pub fn hides_most(&self) -> bool {
        self.ratio > 0.5
    }
}

/// A view in which the model is told that the visible numbers carry noise, though they are the record's own: what it makes of
/// them is where the training rows lie densest nearby (Alain & Bengio 2014, *What regularized auto-encoders learn from the
/// data-generating distribution*).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Denoising {
    /// The standard deviation of the noise that the model is told of, in those of the numbers, > 0.
    pub level: f32,
    /// The fields that are read, the numbers, ascending, at least one.
    pub reads: Vec<u32>,
    /// Whether they are read in standard deviations alone and not as quantiles, which half of the outputs are for. No bundle says
    /// so: the first stage of a cascade sets it for itself.
    #[serde(skip)]
    pub in_deviations: bool,
}

/// One view of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View<'a> {
    /// The index of its stratum.
    pub stratum: usize,
    /// The fields that the model does not see, ascending.
    pub hidden: &'a [u32],
    /// Of the denoising view.
    pub denoising: Option<&'a Denoising>,
}

impl View<'_> {
    /// Whether the prediction of `field` counts under this view: what is hidden, everything where nothing is, or what is
    /// told to carry noise.
    pub fn reads(&self, field: u32) -> bool {
        match self.denoising {
            Some(denoising) => denoising.reads.binary_search(&field).is_ok(),
            None => self.hidden.is_empty() || self.hidden.binary_search(&field).is_ok(),
        }
    }

    /// What the model is told of noise.
    pub fn noise(&self) -> NoiseInputs {
        match self.denoising {
            Some(denoising) => noise_inputs(denoising.level),
            None => NO_NOISE,
        }
    }
}

/// The two inputs that tell the model of noise: whether the visible numbers carry any, and the logarithm of its standard
/// deviation.
pub type NoiseInputs = [f32; 2];

/// What the model is told where there is no noise.
pub const NO_NOISE: NoiseInputs = [0.0, 0.0];

/// What the model is told of noise of the standard deviation `level` > 0.
pub fn noise_inputs(level: f32) -> NoiseInputs {
    [1.0, level.ln()]
}

/// All views, stratum by stratum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Views {
    strata: Vec<Stratum>,
}

impl Views {
    /// Draws the views of `fields` fields. Every field is hidden in at least one view.
    ///
    /// `ratios` lie in (0, 1], `rounds` >= 1.
    pub fn draw(
        plan: MaskPlan,
        ratios: &[f32],
        rounds: usize,
        fields: usize,
        rng: &mut impl Rng,
    ) -> Self {
        if plan == MaskPlan::LeaveOneOut {
            let hidden = (0..fields as u32).map(|field| vec![field]).collect();
            return Self {
                strata: vec![Stratum::masked(1.0 / fields as f32, hidden)],
            };
        }
        let strata = ratios.iter().map(|&ratio| {
            let mut hidden = balanced(ratio, rounds, fields, rng);
            if plan == MaskPlan::Random {
                hidden = random(ratio, hidden.len(), fields, rng);
            }
            Stratum::masked(ratio, hidden)
        });
        Self {
            strata: strata.collect(),
        }
    }

    /// The same views of other fields: field i of these is `fields[i]`, ascending, and what else a record has is always visible.
    pub fn of_fields(mut self, fields: &[u32]) -> Self {
        let hidden = self.strata.iter_mut().flat_map(|of| &mut of.hidden);
        for field in hidden.flatten() {
            *field = fields[*field as usize];
        }
        self
    }

    /// The one view that hides nothing and reads every field.
    pub fn nothing_hidden() -> Self {
        Self {
            strata: vec![Stratum::masked(0.0, vec![Vec::new()])],
        }
    }

    /// The same views and, behind them, one in which the model is told of noise of the standard deviation `level` in the
    /// fields `reads`, ascending; without such a field the same views.
    pub fn with_denoising(mut self, level: f32, reads: Vec<u32>) -> Self {
        if !reads.is_empty() {
            self.strata.push(Stratum {
                ratio: 0.0,
                hidden: vec![Vec::new()],
                denoising: Some(Denoising {
                    level,
                    reads,
                    in_deviations: false,
                }),
            });
        }
        self
    }

    /// The views of some strata, in their order.
    pub fn only(&self, strata: &[usize]) -> Self {
        let strata = strata.iter().filter_map(|&at| self.strata.get(at));
        Self {
            strata: strata.cloned().collect(),
        }
    }

    /// The same views, whose denoising view is read in standard deviations alone.
    pub fn denoising_in_deviations(mut self) -> Self {
        let denoising = self
            .strata
            .iter_mut()
            .filter_map(|of| of.denoising.as_mut());
        denoising.for_each(|denoising| denoising.in_deviations = true);
        self
    }

    /// Whether fields are hidden: in every view, or in the only one not.
    pub fn hides_fields(&self) -> bool {
        *self != Self::nothing_hidden()
    }

    /// The strata, in the order of the configured ratios.
    pub fn strata(&self) -> &[Stratum] {
        &self.strata
    }

    /// K.
    pub fn len(&self) -> usize {
        self.strata.iter().map(|s| s.hidden.len()).sum()
    }

    /// Whether there is no view.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The views one after the other.
    pub fn iter(&self) -> impl Iterator<Item = View<'_>> {
        let strata = self.strata.iter().enumerate();
        strata.flat_map(|(stratum, of)| {
            of.hidden.iter().map(move |hidden| View {
                stratum,
                hidden,
                denoising: of.denoising.as_ref(),
            })
        })
    }

    /// Whether the views of each stratum hide what they read, `[S]`: by these a field is judged, since in the denoising view it
    /// is seen.
    pub fn masked(&self) -> Vec<bool> {
        let strata = self.strata.iter();
        strata.map(|of| of.denoising.is_none()).collect()
    }

    /// What is wrong with views of `fields` fields of which `predicted`, ascending, are hidden in some view and no other in
    /// any, if anything.
    pub fn fault(&self, fields: usize, predicted: &[u32]) -> Option<String> {
        if self.len() > VIEWS_MAX {
            let count = self.len();
            return Some(format!(
                "{count} views, the limit is {VIEWS_MAX}: fewer ratios or rounds"
            ));
        }
        if !self.hides_fields() {
            let all = predicted.len() == fields;
            return (!all).then(|| "views that hide nothing read context too".to_owned());
        }
        let mut strata = self.strata.iter();
        if strata.any(|stratum| stratum.hidden.is_empty()) {
            return Some("a stratum has no view".to_owned());
        }
        let denoising = self.strata.iter().filter(|of| of.denoising.is_some());
        if denoising.count() > 1 {
            return Some("more than one denoising stratum".to_owned());
        }
        let mut seen = vec![false; fields];
        for View {
            hidden, denoising, ..
        } in self.iter()
        {
            if let Some(denoising) = denoising {
                if let Some(fault) = denoising.fault(hidden, predicted) {
                    return Some(fault);
                }
                continue;
            }
            for &field in hidden {
                match seen.get_mut(field as usize) {
                    Some(seen) => *seen = true,
                    None => return Some(format!("a view hides field {field} of {fields}")),
                }
            }
            if hidden.is_empty() || !hidden.is_sorted_by(|a, b| a < b) {
                return Some(format!(
                    "hidden fields {hidden:?} are not ascending and distinct"
                ));
            }
        }
        let of = |field: usize| predicted.binary_search(&(field as u32)).is_ok();
        let wrong = (0..fields).find(|&field| seen[field] != of(field))?;
        Some(match seen[wrong] {
            true => format!("a view hides the context field {wrong}"),
            false => format!("no view hides field {wrong}"),
        })
    }
}

impl Denoising {
    /// What is wrong with it as the view that hides `hidden` and reads some of the fields `predicted`, if anything.
    fn fault(&self, hidden: &[u32], predicted: &[u32]) -> Option<String> {
        let Self { level, reads, .. } = self;
        let known = !reads.is_empty() && reads.iter().all(|f| predicted.binary_search(f).is_ok());
        if !hidden.is_empty() || !known || !reads.is_sorted_by(|a, b| a < b) {
            return Some(format!(
                "a denoising view hides {hidden:?} and reads {reads:?}: it must hide nothing and read ascending fields that \
                 are predicted"
            ));
        }
        let is_level = *level > 0.0 && level.is_finite();
        (!is_level).then(|| format!("a denoising view of level {level}: must be above 0"))
    }
}

/// Views of one ratio under the plan `balanced`.
fn balanced(ratio: f32, rounds: usize, fields: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let all: Vec<u32> = (0..fields as u32).collect();
    if ratio >= 1.0 || fields == 1 {
        return vec![all];
    }
    let share = ratio.min(1.0 - ratio);
    // The small number keeps 1 / 0.2 at five parts in spite of f32.
    let parts = ((1.0 / share - 1e-4).ceil() as usize).clamp(1, fields);
    let mut views = Vec::with_capacity(rounds * parts);
    for _ in 0..rounds {
        let mut order = all.clone();
        order.shuffle(rng);
        for part in 0..parts {
            // Parts differ by at most one field.
            let (start, end) = (part * fields / parts, (part + 1) * fields / parts);
            let outside = || {
                order[..start]
                    .iter()
                    .chain(&order[end..])
                    .copied()
                    .collect()
            };
            let mut hidden: Vec<u32> = if ratio <= 0.5 {
                order[start..end].to_vec()
            } else {
                outside()
            };
            hidden.sort_unstable();
            views.push(hidden);
        }
    }
    views
}

/// `count` views that hide each field with probability `ratio`, and none too few: no view is empty, no field forgotten.
fn random(ratio: f32, count: usize, fields: usize, rng: &mut impl Rng) -> Vec<Vec<u32>> {
    let mut views: Vec<Vec<u32>> = (0..count)
        .map(|_| {
            (0..fields as u32)
                .filter(|_| rng.random::<f32>() < ratio)
                .collect()
        })
        .collect();
    for view in &mut views {
        if view.is_empty() {
            view.push(rng.random_range(0..fields as u32));
        }
    }
    for field in 0..fields as u32 {
        if !views.iter().any(|view| view.contains(&field)) {
            let view = rng.random_range(0..views.len());
            let at = views[view].partition_point(|&f| f < field);
            views[view].insert(at, field);
        }
    }
    views
}

/// Draws a training mask for each of `rows` records: `[rows * fields]`, true = hidden.
///
/// The ratio of each record is uniform in `ratio_min..=ratio_max` and hides each field with that probability; at least
/// one field is hidden, so that no record is wasted.
pub fn training_masks(
    rows: usize,
    fields: usize,
    (ratio_min, ratio_max): (f32, f32),
    rng: &mut impl Rng,
) -> Vec<bool> {
    let mut hidden = Vec::with_capacity(rows * fields);
    for row in 0..rows {
        let ratio = ratio_min + (ratio_max - ratio_min) * rng.random::<f32>();
        hidden.extend((0..fields).map(|_| rng.random::<f32>() < ratio));
        let chosen = rng.random_range(0..fields);
        let mask = &mut hidden[row * fields..];
        if !mask.contains(&true) {
            mask[chosen] = true;
        }
    }
    hidden
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use proptest::prelude::*;

    fn all(fields: usize) -> Vec<u32> {
        (0..fields as u32).collect()
    }

    fn times_hidden(stratum: &Stratum, fields: usize) -> Vec<usize> {
        let mut times = vec![0; fields];
        for view in &stratum.hidden {
            view.iter().for_each(|&f| times[f as usize] += 1);
        }
        times
    }

    #[test]
    fn context_is_hidden_in_no_view_and_all_else_in_some() {
        let mut rng = stream(0, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &DEFAULT_RATIOS, 2, 3, &mut rng);
        let views = views.of_fields(&[0, 2, 5]);
        assert_eq!(views.fault(6, &[0, 2, 5]), None);
        let fault = |predicted: &[u32]| views.fault(6, predicted).unwrap();
        assert_eq!(fault(&all(6)), "no view hides field 1");
        assert_eq!(fault(&[0, 2]), "a view hides the context field 5");
        assert!(Views::nothing_hidden().fault(6, &[0]).is_some());
    }

    #[test]
    fn a_balanced_plan_has_the_views_of_the_prototype() {
        let mut rng = stream(0, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &DEFAULT_RATIOS, 2, 29, &mut rng);
        let counts: Vec<_> = views.strata().iter().map(|s| s.hidden.len()).collect();
        assert_eq!(counts, [14, 6, 1]);
    }

    proptest! {
        #[test]
        fn a_balanced_plan_hides_every_field_equally_often(
            fields in 1usize..70, rounds in 1usize..4, ratio in 0.01f32..=1.0, seed: u64
        ) {
            let mut rng = stream(seed, Purpose::Views);
            let views = Views::draw(MaskPlan::Balanced, &[ratio], rounds, fields, &mut rng);
            prop_assert_eq!(views.fault(fields, &all(fields)), None);
            let times = times_hidden(&views.strata()[0], fields);
            prop_assert!(times.iter().all(|&t| t == times[0]), "{:?}", times);
        }

        #[test]
        fn every_plan_hides_every_field(fields in 1usize..40, seed: u64) {
            for plan in [MaskPlan::Balanced, MaskPlan::Random, MaskPlan::LeaveOneOut] {
                let mut rng = stream(seed, Purpose::Views);
                let views = Views::draw(plan, &DEFAULT_RATIOS, 1, fields, &mut rng);
                prop_assert_eq!(views.fault(fields, &all(fields)), None);
            }
        }

        #[test]
        fn a_training_mask_always_hides_something(fields in 1usize..20, seed: u64) {
            let mut rng = stream(seed, Purpose::Masks);
            let hidden = training_masks(50, fields, (0.0, 0.2), &mut rng);
            prop_assert!(hidden.chunks(fields).all(|mask| mask.contains(&true)));
        }
    }

    #[test]
    fn a_view_reads_what_it_hides_and_everything_where_nothing_is_hidden() {
        let views = Views::nothing_hidden();
        assert_eq!(
            (views.fault(3, &all(3)), views.len(), views.hides_fields()),
            (None, 1, false)
        );
        assert!(views.iter().all(|view| (0..3).all(|f| view.reads(f))));
        let mut rng = stream(2, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &[0.5], 1, 4, &mut rng);
        assert!(views.hides_fields());
        for view in views.iter() {
            assert!((0..4).all(|f| view.reads(f) == view.hidden.contains(&f)));
        }
        // Beside others a view that hides nothing would be read for what is hidden elsewhere.
        let mut mixed = views.clone();
        mixed.strata.extend(Views::nothing_hidden().strata);
        assert!(mixed.fault(4, &all(4)).unwrap().contains("[]"));
    }

    #[test]
    fn a_denoising_view_hides_nothing_and_reads_the_numbers_alone() {
        let mut rng = stream(3, Purpose::Views);
        let masked = Views::draw(MaskPlan::Balanced, &[0.5], 1, 4, &mut rng);
        assert_eq!(masked.clone().with_denoising(0.1, Vec::new()), masked);
        let views = masked.clone().with_denoising(0.1, vec![1, 3]);
        assert_eq!(
            (views.fault(4, &all(4)), views.hides_fields()),
            (None, true)
        );
        let last = views.iter().last().unwrap();
        assert_eq!(
            [0, 1, 2, 3].map(|f| last.reads(f)),
            [false, true, false, true]
        );
        assert_eq!(last.noise(), [1.0, 0.1f32.ln()]);
        assert_eq!(views.iter().next().unwrap().noise(), NO_NOISE);
        assert_eq!(views.masked(), [true, false]);
        for (level, reads) in [
            (0.0, vec![1]),
            (f32::NAN, vec![1]),
            (0.1, vec![4]),
            (0.1, vec![2, 1]),
        ] {
            let wrong = masked.clone().with_denoising(level, reads);
            assert!(wrong.fault(4, &all(4)).unwrap().contains("denoising"));
        }
    }

    #[test]
    fn a_stratum_without_a_view_and_a_second_denoising_one_are_refused() {
        let mut rng = stream(4, Purpose::Views);
        let views = Views::draw(MaskPlan::Balanced, &[0.5], 1, 4, &mut rng);
        let mut empty = views.clone().with_denoising(0.1, vec![1]);
        empty.strata[1].hidden.clear();
        assert!(empty.fault(4, &all(4)).unwrap().contains("no view"));
        let twice = views
            .with_denoising(0.1, vec![1])
            .with_denoising(0.2, vec![2]);
        assert!(twice.fault(4, &all(4)).unwrap().contains("more than one"));
    }

    #[test]
    fn training_ratios_are_spread_over_their_range() {
        let mut rng = stream(1, Purpose::Masks);
        let hidden = training_masks(4000, 50, (0.2, 1.0), &mut rng);
        let share = hidden.iter().filter(|&&h| h).count() as f64 / hidden.len() as f64;
        assert!((share - 0.6).abs() < 0.01, "{share}");
    }
}
