//! From scores to p-values that keep their promise.
//!
//! In flow the scores of the calibration rows, each with the segments that its row belongs to; out flow p-values.
//! Nothing is fitted on these rows, so a fresh exchangeable record is as likely to have any rank among them:
//! P(p <= a) <= a (Vovk, Gammerman & Shafer 2005; inductive conformal anomaly detection, Laxhammar & Falkman 2015).
//! Invariant: the scores are exact and ascending, and the segments stand in their order.

use super::segment::{SegmentField, segment_fields};
use crate::encode::{FieldShape, Records};

/// The calibration part's scores, exact and sorted: the only thing that a p-value rests on. Each keeps the segments of
/// its row by every field that a budget can be held by.
#[derive(Debug, Clone, PartialEq)]
pub struct ConformalScores {
    sorted: Vec<f32>,
    segments: Vec<SegmentCodes>,
}

/// The segments of the calibration rows by one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentCodes {
    /// The field's place in the axis F.
    pub field: usize,
    /// \[n\], in the order of the sorted scores; 0 stands for null and for values that the encoder does not know.
    pub codes: Vec<u8>,
}

/// Gathers the scores of calibration rows and the segments of the rows, batch by batch.
#[derive(Debug, Clone)]
pub struct CalibrationSample {
    fields: Vec<SegmentField>,
    scores: Vec<f32>,
    /// One column a field.
    codes: Vec<Vec<u8>>,
}

impl CalibrationSample {
    /// For records of these shapes.
    pub fn new(shapes: &[FieldShape]) -> Self {
        let fields = segment_fields(shapes);
        Self {
            codes: vec![Vec::new(); fields.len()],
            scores: Vec::new(),
            fields,
        }
    }

    /// Adds B records and their scores, `[B]`.
    pub fn observe(&mut self, scores: &[f32], records: &Records) {
        debug_assert_eq!(scores.len(), records.rows(), "one score a record");
        self.scores.extend_from_slice(scores);
        for (field, codes) in self.fields.iter().zip(&mut self.codes) {
            codes.extend((0..scores.len()).map(|row| field.segment(records, row)));
        }
    }

    /// The scores, sorted, with the segments in their order; equal scores keep the order of the rows.
    ///
    /// # Errors
    /// As [`ConformalScores::new`].
    pub fn finish(self) -> Result<ConformalScores, String> {
        let scores = &self.scores;
        check_scores(scores)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let segments = self.fields.iter().zip(&self.codes);
        let segments = segments.map(|(field, codes)| SegmentCodes {
            field: field.field(),
            codes: order.iter().map(|&row| codes[row]).collect(),
        });
        Ok(ConformalScores {
            sorted: order.iter().map(|&row| scores[row]).collect(),
            segments: segments.collect(),
        })
    }
}

impl ConformalScores {
    /// Sorts the scores of calibration rows whose segments are not known.
    ///
    /// # Errors
    /// If there is none, or one is no number.
    pub fn new(mut scores: Vec<f32>) -> Result<Self, String> {
        check_scores(&scores)?;
        scores.sort_unstable_by(f32::total_cmp);
        Ok(Self {
            sorted: scores,
            segments: Vec::new(),
        })
    }

    /// Of stored parts: ascending scores, and a code each for every field.
    ///
    /// # Errors
    /// As [`new`](Self::new), or what does not belong together.
    pub fn from_parts(sorted: Vec<f32>, segments: Vec<SegmentCodes>) -> Result<Self, String> {
        check_scores(&sorted)?;
        if !sorted.is_sorted() {
            return Err("the calibration scores are not ascending".to_owned());
        }
        let n = sorted.len();
        match segments.iter().find(|by| by.codes.len() != n) {
            Some(SegmentCodes { field, codes }) => {
                let found = codes.len();
                Err(format!(
                    "{found} segments by field {field}, expected {n}, one a calibration score"
                ))
            }
            None => Ok(Self { sorted, segments }),
        }
    }

    /// Without the largest floor(`share` n) scores, 0 <= share < 1: those of rows presumed abnormal. p-values are then
    /// relative to the rows that are left.
    pub fn without_largest(mut self, share: f64) -> Self {
        let left = self.sorted.len() - (share * self.sorted.len() as f64) as usize;
        self.sorted.truncate(left);
        let codes = self.segments.iter_mut().map(|by| &mut by.codes);
        codes.for_each(|codes| codes.truncate(left));
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

    /// The segments by every field that a budget can be held by, in the order of the axis F.
    pub fn segments(&self) -> &[SegmentCodes] {
        &self.segments
    }

    /// p = (1 + #{calibration >= score}) / (1 + n), in (0, 1]; ties count against the record, a NaN is the largest.
    pub fn p_value(&self, score: f32) -> f64 {
        p_value_among(&self.sorted, score)
    }

    /// The smallest p-value there can be, 1 / (n + 1).
    pub fn smallest_p_value(&self) -> f64 {
        1.0 / (1 + self.sorted.len()) as f64
    }
}

/// p = (1 + #{sorted >= score}) / (1 + n) by one binary search in n ascending scores; ties count against the record, a
/// NaN is the largest.
pub(super) fn p_value_among(sorted: &[f32], score: f32) -> f64 {
    let below = sorted.partition_point(|&c| c < score);
    let at_least = if score.is_nan() {
        0
    } else {
        sorted.len() - below
    };
    (1 + at_least) as f64 / (1 + sorted.len()) as f64
}

fn check_scores(scores: &[f32]) -> Result<(), String> {
    if scores.is_empty() {
        return Err("no calibration scores, at least 1 is needed".to_owned());
    }
    match scores.iter().position(|s| !s.is_finite()) {
        Some(at) => Err(format!("calibration score {at} is {}", scores[at])),
        None => Ok(()),
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
        let sorted: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let codes: Vec<u8> = (0..1000).map(|i| (i % 7) as u8).collect();
        let by = SegmentCodes { field: 2, codes };
        let all = ConformalScores::from_parts(sorted, vec![by]).unwrap();
        let normal = all.clone().without_largest(0.02);
        assert_eq!((normal.len(), normal.segments()[0].codes.len()), (980, 980));
        assert_eq!(all.clone().without_largest(0.0), all);
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
        let mut rng = stream(11, Purpose::Tests);
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

    #[test]
    fn sorting_keeps_every_score_beside_the_segments_of_its_row() {
        let shapes = [
            FieldShape::Numeric,
            FieldShape::Categorical {
                codes: 3,
                classes: 3,
            },
            FieldShape::Boolean,
        ];
        let mut records = Records::absent(&shapes, 4);
        // Row 0 has no category, row 1 one that the encoder does not know.
        for (row, code) in [(1, 0), (2, 3), (3, 1)] {
            records.set_present(row, 1);
            records.set_code(row, 0, code);
        }
        for row in [0, 3] {
            records.set_present(row, 2);
            records.set_code(row, 1, u32::from(row == 3));
        }
        let mut sample = CalibrationSample::new(&shapes);
        sample.observe(&[5.0, 1.0], &records.select([0, 1]));
        sample.observe(&[3.0, 1.0], &records.select([2, 3]));
        let scores = sample.finish().unwrap();
        assert_eq!(scores.sorted(), [1.0, 1.0, 3.0, 5.0]);
        let by = |field, codes: [u8; 4]| SegmentCodes {
            field,
            codes: codes.to_vec(),
        };
        let expected = [by(1, [0, 1, 3, 0]), by(2, [0, 2, 0, 1])];
        assert_eq!(scores.segments(), expected);
        let again = ConformalScores::from_parts(scores.sorted().to_vec(), expected.to_vec());
        assert_eq!(again, Ok(scores));
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let by = |codes: &[u8]| {
            vec![SegmentCodes {
                field: 4,
                codes: codes.to_vec(),
            }]
        };
        let error = |sorted: &[f32], codes: &[u8]| {
            ConformalScores::from_parts(sorted.to_vec(), by(codes)).unwrap_err()
        };
        assert!(error(&[2.0, 1.0], &[1, 1]).contains("not ascending"));
        assert!(error(&[1.0, 2.0], &[1]).contains("1 segments by field 4, expected 2"));
        assert!(error(&[], &[]).contains("at least 1"));
        assert!(error(&[f32::NAN], &[1]).contains("is NaN"));
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
