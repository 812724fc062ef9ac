//! From surprises to a record's score, and from scores to p-values that keep their promise.
//!
//! Two disjoint parts of the training rows take part: the *reference* part shapes the score (tables per field and per
//! stratum), the *calibration* part only ranks it. Nothing is fitted on the latter, so a fresh exchangeable record is
//! as likely to have any rank among them: P(p <= a) <= a (Vovk, Gammerman & Shafer 2005; inductive conformal anomaly
//! detection, Laxhammar & Falkman 2015).

use super::combination::Combination;
use super::rule::ScoreRule;
use super::surprise::{Axes, Surprises};
use super::survival::SurvivalTable;

/// What the reference part says of every field and stratum.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTables {
    axes: Axes,
    /// `[S * R]`: distributions of a record's total surprise.
    strata: Vec<SurvivalTable>,
    /// `[F * R]`: distributions of a field's mean surprise.
    readings: Vec<SurvivalTable>,
    /// `[F]`: distributions of a field's readings combined.
    fields: Vec<SurvivalTable>,
    rule: ScoreRule,
    combination: Combination,
}

/// The surprises of the reference part, reduced to what the tables need.
#[derive(Debug, Clone)]
pub struct ReferenceSample {
    axes: Axes,
    strata: Vec<Vec<f32>>,
    readings: Vec<Vec<f32>>,
}

impl ReferenceSample {
    /// An empty sample.
    pub fn new(axes: Axes) -> Self {
        Self {
            axes,
            strata: vec![Vec::new(); axes.strata * axes.readings],
            readings: vec![Vec::new(); axes.fields * axes.readings],
        }
    }

    /// Adds the records of a batch.
    pub fn observe(&mut self, surprises: &Surprises) {
        let Axes {
            fields,
            strata,
            readings,
        } = self.axes;
        for row in 0..surprises.rows() {
            for reading in 0..readings {
                for stratum in 0..strata {
                    let total = surprises.total(row, stratum, reading);
                    self.strata[stratum * readings + reading].push(total);
                }
                for field in 0..fields {
                    let surprise = surprises.field(row, field, reading);
                    self.readings[field * readings + reading].push(surprise);
                }
            }
        }
    }

    /// The tables.
    pub fn fit(self) -> ReferenceTables {
        let readings: Vec<_> = self
            .readings
            .iter()
            .map(|s| SurvivalTable::fit(s))
            .collect();
        let per_field = self.axes.readings;
        let fields = self
            .readings
            .chunks_exact(per_field)
            .zip(readings.chunks_exact(per_field));
        let fields = fields.map(|(samples, tables)| {
            let rows = samples[0].len();
            let combined: Vec<f32> = (0..rows)
                .map(|row| mean(samples.iter().zip(tables).map(|(s, t)| t.surprisal(s[row]))))
                .collect();
            SurvivalTable::fit_whole(&combined)
        });
        ReferenceTables {
            axes: self.axes,
            strata: self.strata.iter().map(|s| SurvivalTable::fit(s)).collect(),
            fields: fields.collect(),
            readings,
            rule: ScoreRule::mean(self.axes.readings),
            combination: Combination::default(),
        }
    }
}

impl ReferenceTables {
    /// The tables of stored parts: `[S * R]`, `[F * R]` and `[F]` of them.
    ///
    /// # Errors
    /// Which count differs from what the axes ask for.
    pub fn from_parts(
        axes: Axes,
        strata: Vec<SurvivalTable>,
        readings: Vec<SurvivalTable>,
        fields: Vec<SurvivalTable>,
    ) -> Result<Self, String> {
        let counts = [
            ("stratum", strata.len(), axes.strata * axes.readings),
            ("reading", readings.len(), axes.fields * axes.readings),
            ("field", fields.len(), axes.fields),
        ];
        match counts.iter().find(|(_, found, expected)| found != expected) {
            Some((kind, found, expected)) => {
                Err(format!("{found} {kind} tables, expected {expected}"))
            }
            None => Ok(Self {
                axes,
                strata,
                readings,
                fields,
                rule: ScoreRule::mean(axes.readings),
                combination: Combination::default(),
            }),
        }
    }

    /// The same tables under another rule of the untuned score; without one it is the plain mean.
    ///
    /// # Errors
    /// If the rule has another number of readings.
    pub fn with_rule(self, rule: ScoreRule) -> Result<Self, String> {
        let (found, expected) = (rule.readings(), self.axes.readings);
        if found == expected {
            return Ok(Self { rule, ..self });
        }
        Err(format!("a rule of {found} readings, expected {expected}"))
    }

    /// The same tables under another combination.
    ///
    /// # Errors
    /// What of it does not fit them.
    pub fn with_combination(self, combination: Combination) -> Result<Self, String> {
        match combination.fault(self.axes) {
            Some(fault) => Err(fault),
            None => Ok(Self {
                combination,
                ..self
            }),
        }
    }

    /// How components become a score.
    pub fn combination(&self) -> &Combination {
        &self.combination
    }

    /// F, S and R.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// Tables of the strata `[S * R]`, of the readings `[F * R]`, of the fields `[F]`.
    pub fn parts(&self) -> (&[SurvivalTable], &[SurvivalTable], &[SurvivalTable]) {
        (&self.strata, &self.readings, &self.fields)
    }

    /// The score of a record without labels: the totals' -log survivals under the rule, nats, >= 0.
    pub(super) fn untuned_score(&self, surprises: &Surprises, row: usize) -> f32 {
        let surprisal = |stratum, reading| {
            let total = surprises.total(row, stratum, reading);
            self.strata[stratum * self.axes.readings + reading].surprisal(total)
        };
        self.rule.score(self.axes.strata, surprisal)
    }

    /// The anomaly score of a record: its components combined, >= 0, finite, higher = more abnormal.
    pub fn anomaly_score(&self, surprises: &Surprises, row: usize) -> f32 {
        let value = |component| self.component(component, surprises, row);
        let score = self.combination.score(value);
        // A total that overflowed is the most abnormal there is, and outputs hold finite numbers only.
        if score.is_finite() { score } else { f32::MAX }
    }

    /// How unusual a field of a record is among reference records: -log of the share of them whose same field is at
    /// least as surprising, nats, >= 0.
    pub fn field_surprisal(&self, surprises: &Surprises, row: usize, field: usize) -> f32 {
        self.fields[field].surprisal(self.combined(surprises, row, field))
    }

    /// The share of reference records whose same field is at least as surprising, in (0, 1].
    pub fn field_p_value(&self, surprises: &Surprises, row: usize, field: usize) -> f64 {
        self.fields[field].share_at_least(self.combined(surprises, row, field))
    }

    /// The mean over the readings of a field's -log survival.
    fn combined(&self, surprises: &Surprises, row: usize, field: usize) -> f32 {
        let readings = self.axes.readings;
        mean((0..readings).map(|reading| {
            let table = &self.readings[field * readings + reading];
            table.surprisal(surprises.field(row, field, reading))
        }))
    }

    /// The distribution of a field's mean surprise under one reading.
    pub fn reading(&self, field: usize, reading: usize) -> &SurvivalTable {
        &self.readings[field * self.axes.readings + reading]
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0f64, 0u32), |(sum, n), x| (sum + f64::from(x), n + 1));
    (sum / f64::from(count.max(1))) as f32
}

/// The calibration part's scores, exact and sorted: the only thing that a p-value rests on.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformalScores {
    sorted: Vec<f32>,
}

impl ConformalScores {
    /// Sorts the scores of the calibration rows.
    ///
    /// # Errors
    /// If there is none, or one is no number.
    pub fn new(mut scores: Vec<f32>) -> Result<Self, String> {
        if scores.is_empty() {
            return Err("no calibration scores, at least 1 is needed".to_owned());
        }
        if let Some(at) = scores.iter().position(|s| !s.is_finite()) {
            return Err(format!("calibration score {at} is {}", scores[at]));
        }
        scores.sort_unstable_by(f32::total_cmp);
        Ok(Self { sorted: scores })
    }

    /// Without the largest floor(`share` n) scores, 0 <= share < 1: those of rows presumed abnormal. p-values are then
    /// relative to the rows that are left.
    pub fn without_largest(mut self, share: f64) -> Self {
        let n = self.sorted.len();
        self.sorted.truncate(n - (share * n as f64) as usize);
        self
    }

    /// n.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Never: at least one score is needed to make one.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The scores, ascending.
    pub fn sorted(&self) -> &[f32] {
        &self.sorted
    }

    /// p = (1 + #{calibration >= score}) / (1 + n), in (0, 1]; ties count against the record, a NaN is the largest.
    pub fn p_value(&self, score: f32) -> f64 {
        let below = self.sorted.partition_point(|&c| c < score);
        let at_least = if score.is_nan() {
            0
        } else {
            self.sorted.len() - below
        };
        (1 + at_least) as f64 / (1 + self.sorted.len()) as f64
    }

    /// The smallest p-value there can be, 1 / (n + 1).
    pub fn smallest_p_value(&self) -> f64 {
        1.0 / (1 + self.sorted.len()) as f64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, stream};
    use proptest::prelude::*;
    use rand::RngExt;

    #[test]
    fn rows_presumed_abnormal_no_longer_take_the_budget() {
        let scores: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let all = ConformalScores::new(scores).unwrap();
        let normal = all.clone().without_largest(0.02);
        assert_eq!(
            (normal.len(), all.clone().without_largest(0.0)),
            (980, all.clone())
        );
        assert!(all.p_value(985.0) > 0.015);
        assert_eq!(normal.p_value(985.0), 1.0 / 981.0);
    }

    #[test]
    fn p_values_equal_their_definition_with_ties_against_the_record() {
        let scores = ConformalScores::new(vec![3.0, 1.0, 2.0, 2.0]).unwrap();
        assert_eq!(scores.p_value(0.0), 1.0);
        assert_eq!(scores.p_value(2.0), 0.8);
        assert_eq!(scores.p_value(2.5), 0.4);
        assert_eq!(scores.p_value(9.0), 0.2);
        assert_eq!(scores.smallest_p_value(), 0.2);
    }

    /// Counts p <= a over `draws` fresh calibration samples of n scores with one fresh record each.
    fn rejections(draws: u64, n: usize, a: f64, score: impl Fn(f64) -> f32) -> u32 {
        let mut rng = stream(11, Purpose::Sampling);
        (0..draws)
            .filter(|_| {
                let mut draw = || score(rng.random::<f64>());
                let calibration = (0..n).map(|_| draw()).collect();
                let fresh = draw();
                ConformalScores::new(calibration).unwrap().p_value(fresh) <= a
            })
            .count() as u32
    }

    #[test]
    fn fresh_records_are_rejected_as_often_as_promised() {
        // One fresh record per calibration draw makes the rejections independent: their number is Binomial(draws, q)
        // with q <= a, and q = a for continuous scores when a (n + 1) is whole. The bounds are five standard deviations
        // of that binomial: chance of a false alarm below 1e-6 each.
        for (a, n, draws) in [
            (0.1, 99, 20_000u64),
            (0.01, 199, 20_000),
            (0.001, 999, 20_000),
        ] {
            let mean = draws as f64 * a;
            let bound = 5.0 * (mean * (1.0 - a)).sqrt();
            let continuous = f64::from(rejections(draws, n, a, |u| u as f32));
            assert!(
                (continuous - mean).abs() <= bound,
                "{a}: {continuous} against {mean}"
            );
            let tied = f64::from(rejections(draws, n, a, |u| (u * 20.0).floor() as f32));
            assert!(
                tied <= mean + bound,
                "{a} with ties: {tied} against at most {mean}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_higher_score_never_has_a_higher_p_value(
            calibration in prop::collection::vec(0.0..10.0f32, 1..200),
            a in 0.0..12.0f32, b in 0.0..12.0f32,
        ) {
            let scores = ConformalScores::new(calibration).unwrap();
            prop_assert!(scores.p_value(a.max(b)) <= scores.p_value(a.min(b)));
            prop_assert!(scores.p_value(a) >= scores.smallest_p_value());
        }
    }
}
