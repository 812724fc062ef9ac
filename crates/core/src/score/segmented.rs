//! An alert budget that is held in every segment: p-values among the calibration rows of a record's own kind.
//!
//! Mondrian conformal prediction (Vovk, Lindsay, Nouretdinov & Gammerman 2003; Vovk 2012): rows are divided by the value
//! of one field, and a record ranks among the calibration rows of its own segment, so that P(p <= a) <= a holds within
//! it. Segments too small to ever reach the budget share a pool. In flow [`ConformalScores`] with their segments, out
//! flow p-values, each by one binary search. Invariant: a p-value depends on the record, the bundle and the budget alone.

use super::budget::AlertBudget;
use super::conformal::{ConformalScores, SegmentCodes, p_value_among};
use super::segment::{NO_SEGMENT, SegmentField};
use crate::encode::Records;

/// Segments that a byte can name.
const SEGMENTS: usize = 256;
/// The place of the pool, or of all calibration rows in its stead, among the samples.
const POOL: u16 = 0;

/// Which calibration rows the records of a segment rank among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RankedAmong {
    /// Those of their own segment.
    Own,
    /// Those of all segments that are too small.
    Pool,
    /// All, as the pool is too small too.
    All,
}

/// One segment, for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// 1..=255, or 0 for null and unknown values.
    pub code: u8,
    /// Calibration rows of the segment.
    pub rows: usize,
    /// What its records rank among.
    pub among: RankedAmong,
    /// How many rows that are.
    pub among_rows: usize,
}

/// Calibration scores divided by a field, for one budget.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentedScores {
    field: SegmentField,
    budget: AlertBudget,
    /// Calibration rows that a segment needs to rank alone.
    needed: usize,
    /// Ascending scores each: the pool (or all), then the segments that have enough rows of their own.
    samples: Vec<Vec<f32>>,
    /// Which sample each segment's records rank among.
    sample_of: [u16; SEGMENTS],
    /// Calibration rows of each segment.
    rows: [usize; SEGMENTS],
    /// Whether the pool was too small, so that all rows stand in its stead.
    pool_is_all: bool,
}

impl SegmentedScores {
    /// Divides the scores by `field`; `None` if their segments by it are not known. A segment ranks alone where it can reach
    /// the part `part`, in (0, 1], of the budget.
    pub fn new(
        scores: &ConformalScores,
        field: SegmentField,
        budget: AlertBudget,
        part: f64,
    ) -> Option<Self> {
        let by = |by: &&SegmentCodes| by.field == field.field();
        let codes = &scores.segments().iter().find(by)?.codes;
        let mut rows = [0; SEGMENTS];
        codes.iter().for_each(|&code| rows[usize::from(code)] += 1);
        let needed = budget.part(part).rows_needed();
        let mut samples = vec![Vec::new()];
        let mut sample_of = [POOL; SEGMENTS];
        for code in (0..=u8::MAX).filter(|&code| code != NO_SEGMENT) {
            if rows[usize::from(code)] >= needed {
                sample_of[usize::from(code)] = samples.len() as u16;
                samples.push(Vec::with_capacity(rows[usize::from(code)]));
            }
        }
        for (&score, &code) in scores.sorted().iter().zip(codes) {
            let own = sample_of[usize::from(code)];
            if own != POOL {
                samples[usize::from(own)].push(score);
            }
            // A segment with exactly as many rows as are needed stands for itself and in the pool: were the fresh record
            // one of its rows, and that row fresh, it would be one short. Only so does the pool treat the fresh record
            // and its own rows alike, whichever of them is the fresh one, and keeps the promise exactly.
            if code == NO_SEGMENT || rows[usize::from(code)] <= needed {
                samples[usize::from(POOL)].push(score);
            }
        }
        let pool_is_all = samples[usize::from(POOL)].len() < needed;
        if pool_is_all {
            samples[usize::from(POOL)] = scores.sorted().to_vec();
        }
        Some(Self {
            field,
            budget,
            needed,
            samples,
            sample_of,
            rows,
            pool_is_all,
        })
    }

    /// The field.
    pub fn field(&self) -> SegmentField {
        self.field
    }

    /// The budget that segments must be able to reach.
    pub fn budget(&self) -> AlertBudget {
        self.budget
    }

    /// Calibration rows that a segment needs to rank alone.
    pub fn rows_needed(&self) -> usize {
        self.needed
    }

    /// The p-value of a record with this score among the calibration rows that it belongs to.
    pub fn p_value(&self, score: f32, records: &Records, row: usize) -> f64 {
        p_value_among(&self.samples[self.sample(records, row)], score)
    }

    /// Which of the samples a record ranks among.
    pub fn sample(&self, records: &Records, row: usize) -> usize {
        self.sample_of_segment(self.field.segment(records, row))
    }

    /// How many rows each sample has.
    pub fn sample_rows(&self) -> Vec<usize> {
        self.samples.iter().map(Vec::len).collect()
    }

    /// The segment of records without a known value, then every segment with a calibration row, by code.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        let codes =
            (0..=u8::MAX).filter(move |&c| c == NO_SEGMENT || self.rows[usize::from(c)] > 0);
        codes.map(move |code| Segment {
            code,
            rows: self.rows[usize::from(code)],
            among: match (self.sample_of[usize::from(code)], self.pool_is_all) {
                (POOL, true) => RankedAmong::All,
                (POOL, false) => RankedAmong::Pool,
                _ => RankedAmong::Own,
            },
            among_rows: self.samples[self.sample_of_segment(code)].len(),
        })
    }

    fn sample_of_segment(&self, segment: u8) -> usize {
        usize::from(self.sample_of[usize::from(segment)])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::FieldShape;
    use crate::rng::{ChaCha8Rng, Purpose, stream};
    use crate::score::conformal::CalibrationSample;
    use crate::score::segment::segment_fields;
    use proptest::prelude::*;
    use rand::RngExt;
    use rand::seq::SliceRandom;

    const SHAPES: [FieldShape; 2] = [
        FieldShape::Numeric,
        FieldShape::Categorical {
            codes: 255,
            classes: 10,
        },
    ];

    /// One record a code; 0 is a null.
    fn records(codes: &[u8]) -> Records {
        let mut records = Records::absent(&SHAPES, codes.len());
        for (row, &code) in codes.iter().enumerate().filter(|(_, code)| **code > 0) {
            records.set_present(row, 1);
            records.set_code(row, 0, u32::from(code));
        }
        records
    }

    fn scores_of(rows: &[(f32, u8)]) -> ConformalScores {
        let (scores, codes): (Vec<f32>, Vec<u8>) = rows.iter().copied().unzip();
        let mut sample = CalibrationSample::new(&SHAPES);
        sample.observe(&scores, &records(&codes));
        sample.finish().unwrap()
    }

    fn segmented(rows: &[(f32, u8)], budget: f64) -> SegmentedScores {
        let field = segment_fields(&SHAPES)[0];
        let budget = AlertBudget::new(budget).unwrap();
        SegmentedScores::new(&scores_of(rows), field, budget, 1.0).unwrap()
    }

    fn p_value(segmented: &SegmentedScores, score: f32, code: u8) -> f64 {
        segmented.p_value(score, &records(&[code]), 0)
    }

    /// `count` rows of a segment with the scores 1, 2, ...
    fn rising(code: u8, count: usize) -> impl Iterator<Item = (f32, u8)> {
        (1..=count).map(move |score| (score as f32, code))
    }

    #[test]
    fn large_segments_rank_alone_and_the_others_together() {
        // A budget of 0.25 needs 3 rows.
        let rows: Vec<_> = rising(1, 4)
            .chain(rising(2, 2))
            .chain(rising(3, 1))
            .chain([(9.0, 0)])
            .collect();
        let by = segmented(&rows, 0.25);
        assert_eq!(p_value(&by, 4.0, 1), 2.0 / 5.0);
        // The pool: 1, 2 of segment 2, 1 of segment 3, 9 of a null.
        for code in [2, 3, 0, 200] {
            assert_eq!(p_value(&by, 2.0, code), 3.0 / 5.0);
        }
        let segment = |code, rows, among, among_rows| Segment {
            code,
            rows,
            among,
            among_rows,
        };
        let expected = [
            segment(0, 1, RankedAmong::Pool, 4),
            segment(1, 4, RankedAmong::Own, 4),
            segment(2, 2, RankedAmong::Pool, 4),
            segment(3, 1, RankedAmong::Pool, 4),
        ];
        assert_eq!(by.segments().collect::<Vec<_>>(), expected);
        assert_eq!(by.sample_rows(), [4, 4]);
    }

    #[test]
    fn a_pool_that_is_too_small_gives_way_to_all_rows() {
        let rows: Vec<_> = rising(1, 5).chain(rising(2, 2)).collect();
        let by = segmented(&rows, 0.25);
        assert_eq!(p_value(&by, 5.0, 2), 2.0 / 8.0);
        assert_eq!(p_value(&by, 5.0, 1), 2.0 / 6.0);
        assert_eq!(by.segments().last().unwrap().among, RankedAmong::All);
        // A budget that no sample reaches divides nothing.
        let whole = scores_of(&rows);
        let by = segmented(&rows, 0.001);
        for (score, code) in [(0.5, 1), (2.0, 2), (7.0, 0)] {
            assert_eq!(p_value(&by, score, code), whole.p_value(score));
        }
    }

    #[test]
    fn scores_without_segments_by_the_field_cannot_be_divided() {
        let field = segment_fields(&SHAPES)[0];
        let budget = AlertBudget::new(0.1).unwrap();
        let scores = ConformalScores::new(vec![1.0]).unwrap();
        assert_eq!(SegmentedScores::new(&scores, field, budget, 1.0), None);
    }

    /// Whether `hits` of `draws` independent events of a probability of at most `a` are too many: five standard
    /// deviations, a false alarm in a million at most.
    fn exceeds(hits: u32, draws: u32, a: f64) -> bool {
        let (mean, draws) = (f64::from(draws) * a, f64::from(draws));
        f64::from(hits) > mean + 5.0 * (draws * a * (1.0 - a)).sqrt()
    }

    /// A row of one of three segments; the rarest is by far the most abnormal.
    fn draw(rng: &mut ChaCha8Rng) -> (f32, u8) {
        let (which, score) = (rng.random::<f64>(), rng.random::<f64>() as f32);
        match which {
            x if x < 0.5 => (score, 1),
            x if x < 0.8 => (2.0 * score * score, 2),
            _ => (1.0 + 3.0 * score, 3),
        }
    }

    #[test]
    fn within_every_large_segment_fresh_records_are_rejected_no_more_than_promised() {
        // One fresh record a calibration draw makes the rejections independent.
        let mut rng = stream(19, Purpose::Tests);
        let levels = [0.05, 0.1, 0.3];
        let (mut drawn, mut hits, mut hits_of_all) = ([0; 4], [[0; 3]; 4], [[0; 3]; 4]);
        for _ in 0..20_000 {
            let rows: Vec<_> = (0..150).map(|_| draw(&mut rng)).collect();
            let by = segmented(&rows, 0.05);
            let (score, code) = draw(&mut rng);
            let records = records(&[code]);
            if by.sample(&records, 0) == usize::from(POOL) {
                continue;
            }
            let (p, p_of_all) = (
                by.p_value(score, &records, 0),
                scores_of(&rows).p_value(score),
            );
            drawn[usize::from(code)] += 1;
            for (level, &a) in levels.iter().enumerate() {
                hits[usize::from(code)][level] += u32::from(p <= a);
                hits_of_all[usize::from(code)][level] += u32::from(p_of_all <= a);
            }
        }
        for segment in 1..=3 {
            assert!(drawn[segment] > 2_000, "{drawn:?}");
            for (level, &a) in levels.iter().enumerate() {
                let found = hits[segment][level];
                assert!(
                    !exceeds(found, drawn[segment], a),
                    "{segment}: {found} of {} at {a}",
                    drawn[segment]
                );
                // Nor far fewer: a sample of m rows gives floor(a (m + 1)) / (m + 1), and m is at least 19.
                assert!(f64::from(found) > (a - 0.05) * f64::from(drawn[segment]));
            }
        }
        // The promise of the whole does not hold within the abnormal segment: that is what segments are for.
        assert!(exceeds(hits_of_all[3][0], drawn[3], levels[0]));
    }

    #[test]
    fn the_pool_keeps_its_promise_where_a_segment_is_just_too_small_with_the_fresh_record_in_it() {
        // 19 rows of segment 1, all more abnormal than the 180 of ten smaller segments; one of the 199 is fresh. With
        // the fresh record from segment 1, 18 of its rows are left, one too few for a budget of 0.05. A pool of the
        // small segments alone would flag nearly twice the budget.
        let mut rng = stream(20, Purpose::Tests);
        let mut rows: Vec<(f32, u8)> = rising(1, 19)
            .map(|(score, code)| (1_000.0 + score, code))
            .chain(rising(0, 180).map(|(score, _)| (score, 2 + (score as u8) % 10)))
            .collect();
        assert_eq!(rows.len(), 199);
        let draws = 20_000;
        let (mut pooled, mut hits) = (0, 0);
        for _ in 0..draws {
            rows.shuffle(&mut rng);
            let ((score, code), calibration) = rows.split_last().unwrap();
            let by = segmented(calibration, 0.05);
            let fresh = records(&[*code]);
            pooled += u32::from(by.sample(&fresh, 0) == usize::from(POOL));
            hits += u32::from(by.p_value(*score, &fresh, 0) <= 0.05);
        }
        assert_eq!(pooled, draws);
        assert!(!exceeds(hits, draws, 0.05), "{hits} of {draws}");
    }

    proptest! {
        #[test]
        fn a_p_value_is_its_definition_whoever_stands_beside_the_record(
            calibration in prop::collection::vec((0.0..10.0f32, 0u8..6), 1..120),
            fresh in prop::collection::vec((0.0..10.0f32, 0u8..9), 1..20),
            budget in 0.02..0.5f64,
        ) {
            let by = segmented(&calibration, budget);
            let needed = by.budget().rows_needed();
            let count = |code: u8| calibration.iter().filter(|row| row.1 == code).count();
            let pooled = |code: u8| code == 0 || count(code) <= needed;
            let pool = calibration.iter().filter(|row| pooled(row.1)).count();
            let codes: Vec<u8> = fresh.iter().map(|row| row.1).collect();
            let together = records(&codes);
            for (row, &(score, code)) in fresh.iter().enumerate() {
                let own = code > 0 && count(code) >= needed;
                let ranks = |other: u8| match own {
                    true => other == code,
                    false => pool < needed || pooled(other),
                };
                let sample: Vec<f32> =
                    calibration.iter().filter(|row| ranks(row.1)).map(|row| row.0).collect();
                let at_least = sample.iter().filter(|&&c| c >= score).count();
                let expected = (1 + at_least) as f64 / (1 + sample.len()) as f64;
                prop_assert_eq!(by.p_value(score, &together, row), expected);
                prop_assert_eq!(p_value(&by, score, code), expected);
                prop_assert!(sample.len() >= needed || sample.len() == calibration.len());
            }
        }
    }
}
