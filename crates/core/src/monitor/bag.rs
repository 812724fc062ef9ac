//! Where a score ranks among all scores so far: the calibration rows' and the stream's own, in a bag that grows.
//!
//! Ranks among a fixed set of n calibration scores are not independent: all of them share its luck, and a million records
//! show it. Ranks among all that came before are (Vovk, Gammerman & Shafer 2005, *Algorithmic Learning in a Random World*,
//! theorem 11.1): if the scores come in no order, then
//!
//! ```text
//! p = (#{scores before > s} + theta #{scores before = s, with s itself}) / #{scores before, with s itself}
//! ```
//!
//! with theta uniform on (0, 1) are independent and uniform.
//!
//! Memory is bounded by a histogram. Its K <= 4,096 bins are cut at calibration scores. The n scores leave n + 1 gaps, and a
//! next score falls into each of them with the same probability; after t scores of the stream the probability of a bin with g
//! gaps that took c of them is (g + c)/(n + 1 + t) (Hill 1968; Blackwell & MacQueen 1973). So p with "equal" for "in one bin"
//! and g + c for the count of a bin is as independent and as uniform as the exact rank: nothing is lost but what lies within
//! a bin. Equal scores are put in order at random, those of the calibration rows too.

use crate::rng::{ChaCha8Rng, Purpose, stream};
use rand::RngExt;

/// Bins at most: the most abnormal one in 4,096 records still has a bin of its own.
const BINS_MAX: usize = 4_096;

/// A histogram of scores that ranks each score and then takes it in.
#[derive(Debug, Clone)]
pub struct GrowingBag {
    /// Scores at which bins begin, each with its place among equal ones; ascending.
    edges: Vec<(f32, u32)>,
    counts: PrefixSums,
    /// 1 where a bin is empty at first, so that a score counts itself; 0 where gaps stand for it.
    own: u64,
    rng: ChaCha8Rng,
}

impl GrowingBag {
    /// A bag that holds the calibration scores, ascending.
    pub fn of_calibration(sorted: &[f32], seed: u64) -> Self {
        let (edges, gaps, rng) = cut(sorted, seed);
        Self {
            edges,
            counts: PrefixSums::new(gaps),
            own: 0,
            rng,
        }
    }

    /// A bag that is empty and cut at the calibration scores: where the stream is not of the calibration rows' kind from the
    /// start, as frauds were left out of these.
    pub fn empty(sorted: &[f32], seed: u64) -> Self {
        let (edges, gaps, rng) = cut(sorted, seed);
        Self {
            edges,
            counts: PrefixSums::new(vec![0; gaps.len()]),
            own: 1,
            rng,
        }
    }

    /// An empty bag of what lies within (0, 1], as p-values, in bins of one width.
    pub fn empty_of_p_values(seed: u64) -> Self {
        let inner = 1..BINS_MAX as u16;
        let edges = inner.map(|bin| (f32::from(bin) / BINS_MAX as f32, 0));
        Self {
            edges: edges.collect(),
            counts: PrefixSums::new(vec![0; BINS_MAX]),
            own: 1,
            rng: ties(seed),
        }
    }

    /// The share of the scores so far that are above `score`, with a random part of those in its bin, in [0, 1); the bag then
    /// holds it too.
    pub fn rank(&mut self, score: f32) -> f64 {
        let tie: u32 = self.rng.random();
        let theta: f64 = self.rng.random();
        let bin = self.edges.partition_point(|&edge| edge < (score, tie));
        let total = self.counts.total() + self.own;
        let up_to = self.counts.up_to(bin);
        let within = self.counts.count(bin) + self.own;
        let above = self.counts.total() - up_to;
        self.counts.add(bin);
        (above as f64 + theta * within as f64) / total as f64
    }
}

/// What puts equal scores in order. A bag has one.
fn ties(seed: u64) -> ChaCha8Rng {
    stream(seed, Purpose::RankTies)
}

/// Bins of nearly equal numbers of gaps: their inner edges, and how many gaps each has.
fn cut(sorted: &[f32], seed: u64) -> (Vec<(f32, u32)>, Vec<u64>, ChaCha8Rng) {
    let mut rng = ties(seed);
    let mut scores: Vec<(f32, u32)> = sorted.iter().map(|&score| (score, rng.random())).collect();
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let gaps = scores.len() + 1;
    let bins = gaps.min(BINS_MAX);
    let begin = |bin: usize| bin * gaps / bins;
    let edges = (1..bins).map(|bin| scores[begin(bin) - 1]).collect();
    let counts = (0..bins).map(|bin| (begin(bin + 1) - begin(bin)) as u64);
    (edges, counts.collect(), rng)
}

/// Counts with their running sums, each change and each sum in log2 K steps (Fenwick 1994).
#[derive(Debug, Clone)]
struct PrefixSums {
    counts: Vec<u64>,
    /// Node i, from 1, has the sum of the i & -i counts that end with count i - 1.
    nodes: Vec<u64>,
    total: u64,
}

impl PrefixSums {
    fn new(counts: Vec<u64>) -> Self {
        let mut nodes = vec![0; counts.len() + 1];
        for (index, count) in counts.iter().enumerate() {
            let node = index + 1;
            nodes[node] += count;
            let parent = node + (node & node.wrapping_neg());
            if parent < nodes.len() {
                nodes[parent] += nodes[node];
            }
        }
        let total = counts.iter().sum();
        Self {
            counts,
            nodes,
            total,
        }
    }

    fn total(&self) -> u64 {
        self.total
    }

    fn count(&self, index: usize) -> u64 {
        self.counts[index]
    }

    /// The sum of the counts up to `index`, with it.
    fn up_to(&self, index: usize) -> u64 {
        let (mut node, mut sum) = (index + 1, 0);
        while node > 0 {
            sum += self.nodes[node];
            node &= node - 1;
        }
        sum
    }

    fn add(&mut self, index: usize) {
        self.counts[index] += 1;
        self.total += 1;
        let mut node = index + 1;
        while node < self.nodes.len() {
            self.nodes[node] += 1;
            node += node & node.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The largest distance of the empirical distribution from the uniform one, times the root of the count: above 1.95
    /// with a chance of 0.001 (Kolmogorov).
    fn kolmogorov(mut p: Vec<f64>) -> f64 {
        p.sort_unstable_by(f64::total_cmp);
        let n = p.len() as f64;
        let gaps = p.iter().enumerate();
        let gap = |(i, p): (usize, &f64)| (p - i as f64 / n).max((i + 1) as f64 / n - p);
        gaps.map(gap).fold(0.0, f64::max) * n.sqrt()
    }

    /// Scores of which many are equal, or none.
    fn scores(rng: &mut ChaCha8Rng, count: usize, levels: Option<u32>) -> Vec<f32> {
        let draw = |_| match levels {
            Some(levels) => rng.random_range(0..levels) as f32,
            None => rng.random(),
        };
        (0..count).map(draw).collect()
    }

    #[test]
    fn ranks_are_uniform_and_independent_also_where_most_scores_are_equal() {
        for (seed, levels) in [None, Some(2), Some(7), Some(1_000)]
            .into_iter()
            .enumerate()
        {
            let mut rng = stream(seed as u64, Purpose::Tests);
            let mut calibration = scores(&mut rng, 500, levels);
            calibration.sort_unstable_by(f32::total_cmp);
            for mut bag in [
                GrowingBag::of_calibration(&calibration, 1),
                GrowingBag::empty(&calibration, 1),
            ] {
                let stream = scores(&mut rng, 100_000, levels);
                let p: Vec<f64> = stream.iter().map(|&s| bag.rank(s)).collect();
                // One rank says nothing of the next: their sum, folded at 1, is uniform too.
                let folded = p.windows(2).map(|pair| (pair[0] + pair[1]).fract());
                let folded = kolmogorov(folded.step_by(2).collect());
                let distance = kolmogorov(p);
                assert!(distance < 1.95, "{levels:?}: {distance}");
                assert!(folded < 1.95, "{levels:?}: {folded}");
            }
        }
    }

    #[test]
    fn the_rank_is_that_of_an_independent_program() {
        // With calibration scores 1, 2, 3 the four gaps are four bins. numpy: counts = [1, 1, 1, 1]; scores 5, 5, 2.5
        // above = 0, 0, 2 + 1 = 3; within = 1, 2, 1; total = 4, 5, 6 -> p in [0, 1/4), [0, 2/5), [3/6, 4/6)
        let mut bag = GrowingBag::of_calibration(&[1.0, 2.0, 3.0], 9);
        let p = [5.0, 5.0, 2.5].map(|score| bag.rank(score));
        let within = [(0.0, 0.25), (0.0, 0.4), (0.5, 4.0 / 6.0)];
        for (p, (low, high)) in p.into_iter().zip(within) {
            assert!((low..high).contains(&p), "{p}");
        }
    }

    #[test]
    fn a_bag_of_p_values_begins_empty_and_ranks_the_smaller_one_lower_down() {
        let mut bag = GrowingBag::empty_of_p_values(3);
        let first = bag.rank(0.5);
        assert!((0.0..1.0).contains(&first));
        assert!(bag.rank(0.9) < 0.5 && bag.rank(0.1) > 0.6);
    }

    proptest! {
        #[test]
        fn a_rank_is_that_among_gaps_and_scores_above_and_a_part_of_those_in_its_gap(
            calibration in prop::collection::btree_set(0u8..40, 0..40), stream in prop::collection::vec(0u8..40, 1..80)
        ) {
            // Between whole numbers, so that no score of the stream is one of the calibration rows.
            let calibration: Vec<f32> = calibration.into_iter().map(f32::from).collect();
            let mut bag = GrowingBag::of_calibration(&calibration, 5);
            let gap = |score: f32| calibration.partition_point(|&edge| edge < score);
            let mut counts = vec![1; calibration.len() + 1];
            for score in stream.into_iter().map(|score| f32::from(score) + 0.5) {
                let total: i32 = counts.iter().sum();
                let above: i32 = counts[gap(score) + 1..].iter().sum();
                let within = counts[gap(score)];
                let p = bag.rank(score) * f64::from(total);
                prop_assert!(p >= f64::from(above) - 1e-9 && p < f64::from(above + within) + 1e-9, "{}", p);
                counts[gap(score)] += 1;
            }
        }

        #[test]
        fn the_order_of_equal_calibration_scores_does_not_matter(swap in 0usize..49) {
            let mut calibration = vec![1.0f32; 50];
            let mut bag = GrowingBag::of_calibration(&calibration, 2);
            calibration.swap(swap, swap + 1);
            let mut other = GrowingBag::of_calibration(&calibration, 2);
            for score in [1.0, 0.5, 1.0, 2.0] {
                prop_assert_eq!(bag.rank(score), other.rank(score));
            }
        }
    }
}
