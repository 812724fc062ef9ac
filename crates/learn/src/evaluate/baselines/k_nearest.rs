//! Distance to the k-th nearest training record (Ramaswamy, Rastogi & Shim 2000), by brute force.
//!
//! In blocks: a matrix product gives all |t|^2 - 2 q t of a block of queries q and training records t at once, from which
//! each query keeps a few candidates; their distances are then computed again without cancellation. So a record that is in
//! the training data has a distance of exactly 0 to it, and a score is off by rounding at most where more records than there
//! are candidates are nearly equally near. Queries are shared among Rayon's threads by blocks.

use crate::model::ops::product::{Matrix, product};
use rayon::prelude::*;

/// Which neighbour's distance is the score: PyOD's default, `KNN(n_neighbors=5, method="largest")`, with which the
/// published figures were made.
pub const DEFAULT_NEIGHBOURS: usize = 5;

/// Queries of a block; with [`TRAINING_ROWS`] its distances take half a megabyte and stay in the second-level cache.
const QUERY_ROWS: usize = 128;
/// Training records of a block.
const TRAINING_ROWS: usize = 1_024;
/// Candidates kept for each neighbour asked for: the order by rounded distances may swap only what is nearly equal.
const CANDIDATES: usize = 2;
/// Distances looked at together: most groups hold no candidate, and finding that out is one vector comparison.
const GROUP: usize = 16;

/// Training records to be near to.
#[derive(Debug)]
pub struct NearestNeighbours {
    /// `[T, W]`.
    rows: Vec<f32>,
    /// `[T]`: squared norms.
    norms: Vec<f32>,
    width: usize,
    neighbours: usize,
}

impl NearestNeighbours {
    /// Keeps `numbers`, `[T, width]` row-major; the score is the distance to neighbour `neighbours` of them, from 1, or to
    /// the last if there are fewer.
    pub fn new(numbers: Vec<f32>, width: usize, neighbours: usize) -> Self {
        let norm = |row: &[f32]| row.iter().map(|x| x * x).sum();
        Self {
            norms: numbers.chunks_exact(width).map(norm).collect(),
            rows: numbers,
            width,
            neighbours: neighbours.max(1),
        }
    }

    /// The Euclidean distances of B records, `[B, W]` row-major, to their k-th neighbour, `[B]`.
    pub fn distances(&self, numbers: &[f32]) -> Vec<f32> {
        let blocks = numbers.par_chunks(QUERY_ROWS * self.width);
        blocks.flat_map_iter(|block| self.block(block)).collect()
    }

    /// The distances of at most [`QUERY_ROWS`] records.
    fn block(&self, queries: &[f32]) -> Vec<f32> {
        let rows = queries.len() / self.width;
        let wanted = CANDIDATES * self.neighbours;
        let mut nearest = vec![Nearest::new(wanted); rows];
        let mut dots = vec![0.0; rows * TRAINING_ROWS];
        let q = Matrix::row_major(queries, rows, self.width);
        for (index, training) in self.rows.chunks(TRAINING_ROWS * self.width).enumerate() {
            let count = training.len() / self.width;
            let first = index * TRAINING_ROWS;
            let t = Matrix::row_major(training, count, self.width).transposed();
            let dots = &mut dots[..rows * count];
            product(q, t, dots, false);
            let norms = &self.norms[first..first + count];
            for (nearest, dots) in nearest.iter_mut().zip(dots.chunks_exact(count)) {
                nearest.offer(norms, dots, first as u32);
            }
        }
        let queries = queries.chunks_exact(self.width);
        let pairs = queries.zip(&nearest);
        pairs
            .map(|(query, nearest)| self.exact(query, nearest))
            .collect()
    }

    /// The distance to the k-th of the candidates.
    fn exact(&self, query: &[f32], nearest: &Nearest) -> f32 {
        let squared = |&(_, row): &(f32, u32)| {
            let row = &self.rows[row as usize * self.width..][..self.width];
            let terms = query.iter().zip(row).map(|(a, b)| f64::from(a - b).powi(2));
            terms.sum::<f64>()
        };
        let mut all: Vec<f64> = nearest.candidates.iter().map(squared).collect();
        all.sort_unstable_by(f64::total_cmp);
        let at = self.neighbours.min(all.len()).saturating_sub(1);
        all.get(at).map_or(f32::INFINITY, |d| d.sqrt() as f32)
    }
}

/// The candidates of one query so far: `(|t|^2 - 2 q t, row)`, ascending, at most `wanted`.
#[derive(Debug, Clone)]
struct Nearest {
    candidates: Vec<(f32, u32)>,
    wanted: usize,
}

impl Nearest {
    fn new(wanted: usize) -> Self {
        Self {
            candidates: Vec::with_capacity(wanted + 1),
            wanted,
        }
    }

    /// What a candidate must be below.
    fn limit(&self) -> f32 {
        match self.candidates.last() {
            Some(last) if self.candidates.len() == self.wanted => last.0,
            _ => f32::INFINITY,
        }
    }

    /// Looks at the training records from `first` on.
    fn offer(&mut self, norms: &[f32], dots: &[f32], first: u32) {
        let mut limit = self.limit();
        let groups = norms.chunks(GROUP).zip(dots.chunks(GROUP));
        for (group, (norms, dots)) in groups.enumerate() {
            let pairs = norms.iter().zip(dots);
            let near = pairs.fold(false, |near, (n, d)| near | (n - 2.0 * d < limit));
            if !near {
                continue;
            }
            for (at, (n, d)) in norms.iter().zip(dots).enumerate() {
                let distance = n - 2.0 * d;
                if distance < limit {
                    self.insert(distance, first + (group * GROUP + at) as u32);
                    limit = self.limit();
                }
            }
        }
    }

    fn insert(&mut self, distance: f32, row: u32) {
        let at = self.candidates.partition_point(|c| c.0 <= distance);
        self.candidates.insert(at, (distance, row));
        self.candidates.truncate(self.wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The distances by the definition.
    fn naive(training: &[f32], queries: &[f32], width: usize, k: usize) -> Vec<f32> {
        let distance = |q: &[f32], t: &[f32]| {
            let terms = q.iter().zip(t).map(|(a, b)| f64::from(a - b).powi(2));
            terms.sum::<f64>().sqrt() as f32
        };
        let kth = |q: &[f32]| {
            let mut all: Vec<f32> = training.chunks(width).map(|t| distance(q, t)).collect();
            all.sort_by(f32::total_cmp);
            all[k.min(all.len()) - 1]
        };
        queries.chunks(width).map(kth).collect()
    }

    /// Row i, column j of a table without repetition: sines of squares.
    fn table(first: usize, rows: usize, width: usize) -> Vec<f32> {
        let cell = |i: usize, j: usize| (((i + 1) * (j + 2)) as f64).powi(2).sin() as f32 * 3.0;
        (first..first + rows)
            .flat_map(|i| (0..width).map(move |j| cell(i, j)))
            .collect()
    }

    #[test]
    fn distances_agree_with_scikit_learn() {
        // import numpy as np; from sklearn.neighbors import NearestNeighbors
        // t = lambda first, rows: np.array([[3 * np.sin(((i + 1) * (j + 2)) ** 2) for j in range(4)]
        //                                   for i in range(first, first + rows)], np.float32)
        // NearestNeighbors(n_neighbors=5).fit(t(0, 1500)).kneighbors(t(1500, 3))[0][:, 4]
        let neighbours = NearestNeighbours::new(table(0, 1_500, 4), 4, 5);
        let found = neighbours.distances(&table(1_500, 3, 4));
        let expected = [0.301_377_06, 0.182_635_44, 0.186_806_7];
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_training_record_is_at_distance_zero_however_far_out_it_lies() {
        let width = 30;
        let mut training = table(0, 2_000, width);
        for x in &mut training[..width] {
            *x = x.signum() * 10.0;
        }
        let far = training[..width].to_vec();
        for _ in 0..4 {
            training.extend_from_slice(&far);
        }
        let neighbours = NearestNeighbours::new(training, width, 5);
        assert_eq!(neighbours.distances(&far), [0.0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn blocks_change_nothing(
            training in 1..2_500_usize, queries in 1..300_usize, width in 1..9_usize, k in 1..8_usize
        ) {
            let (t, q) = (table(0, training, width), table(7_000, queries, width));
            let neighbours = NearestNeighbours::new(t.clone(), width, k);
            let found = neighbours.distances(&q);
            let expected = naive(&t, &q, width, k);
            // Candidates are exact to the rounding of squared norms, which are at most 2 * 9 * width here.
            let rounding = 18.0 * width as f32 * 4.0 * f32::EPSILON;
            for (found, expected) in found.iter().zip(&expected) {
                let (above, below) = (found * found - expected * expected, expected - found);
                prop_assert!(above <= rounding && below <= 1e-6, "{} {}", found, expected);
            }
            let last = neighbours.distances(&q[(queries - 1) * width..]);
            prop_assert_eq!(last[0], found[queries - 1]);
        }
    }
}
