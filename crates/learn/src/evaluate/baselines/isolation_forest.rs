//! Isolation forest (Liu, Ting & Zhou 2008, "Isolation Forest"): what few random cuts set apart is abnormal.
//!
//! Every tree is grown on a random sample of the training records, by cutting a random column that is not constant there at
//! a random value, until a record is alone or the tree is as deep as log2 of the sample. Trees are stored flat; growing and
//! scoring are shared among Rayon's threads, by tree and by record.

use crate::rng::{ChaCha8Rng, Purpose, fork, stream};
use rand::RngExt;
use rayon::prelude::*;

/// Trees; path lengths converge well before that (section 5 of the paper).
pub const DEFAULT_TREES: usize = 100;
/// Training records a tree: more would hide anomalies among each other (section 5 of the paper).
pub const DEFAULT_TREE_ROWS: usize = 256;

/// Records that a task scores at least.
const TASK_ROWS: usize = 256;

/// A fitted forest.
#[derive(Debug)]
pub struct IsolationForest {
    trees: Vec<Vec<Node>>,
    width: usize,
    /// c of the records a tree was grown on.
    typical_path: f64,
}

/// A place in a tree; the root is the first.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Cut {
        column: u32,
        /// Records at most that go to the node that follows, others to `above`.
        at: f32,
        above: u32,
    },
    Leaf {
        /// Its depth, and the depth that a tree of its records would add.
        path: f32,
    },
}

impl IsolationForest {
    /// Grows [`DEFAULT_TREES`] trees on `numbers`, `[T, width]` row-major, T at least 2.
    pub fn fit(numbers: &[f32], width: usize, seed: u64) -> Self {
        let rows = numbers.len() / width;
        let tree_rows = rows.min(DEFAULT_TREE_ROWS);
        let depth_max = (tree_rows.max(2) as f64).log2().ceil() as usize;
        // A generator a tree, so that trees can be grown in any order.
        let mut rng = stream(seed, Purpose::Baselines);
        let generators: Vec<ChaCha8Rng> = (0..DEFAULT_TREES).map(|_| fork(&mut rng)).collect();
        let grow = |mut rng: ChaCha8Rng| {
            let sample = rand::seq::index::sample(&mut rng, rows, tree_rows);
            let mut grower = Grower {
                numbers,
                width,
                depth_max,
                rng,
                nodes: Vec::with_capacity(2 * tree_rows),
            };
            grower.grow(&mut sample.into_vec(), 0);
            grower.nodes
        };
        Self {
            trees: generators.into_par_iter().map(grow).collect(),
            width,
            typical_path: typical_path(tree_rows),
        }
    }

    /// The scores 2^(-E(h) / c) of B records, `[B, W]` row-major (equation 2 of the paper): `[B]`, in (0, 1], about one half
    /// for normal records.
    pub fn scores(&self, numbers: &[f32]) -> Vec<f32> {
        let records = numbers.par_chunks_exact(self.width).with_min_len(TASK_ROWS);
        records.map(|record| self.score(record)).collect()
    }

    fn score(&self, record: &[f32]) -> f32 {
        let paths = self.trees.iter().map(|tree| f64::from(path(tree, record)));
        let mean = paths.sum::<f64>() / self.trees.len() as f64;
        (-mean / self.typical_path.max(f64::MIN_POSITIVE)).exp2() as f32
    }
}

/// h: cuts until the record is alone.
fn path(tree: &[Node], record: &[f32]) -> f32 {
    let mut node = 0;
    loop {
        match tree[node] {
            Node::Leaf { path } => return path,
            Node::Cut { column, at, above } => {
                node = if record[column as usize] <= at {
                    node + 1
                } else {
                    above as usize
                };
            }
        }
    }
}

/// c(n): the mean path of an unsuccessful search in a binary search tree of n records (equation 1 of the paper, with the
/// exact values 0 and 1 for one and two records).
fn typical_path(n: usize) -> f64 {
    match n {
        0 | 1 => 0.0,
        2 => 1.0,
        _ => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER_GAMMA) - 2.0 * (n - 1.0) / n
        }
    }
}

const EULER_GAMMA: f64 = 0.577_215_664_901_532_9;

struct Grower<'a> {
    numbers: &'a [f32],
    width: usize,
    depth_max: usize,
    rng: ChaCha8Rng,
    nodes: Vec<Node>,
}

impl Grower<'_> {
    /// Appends the tree of these records; it is at most `depth_max` deep, and so is the recursion.
    fn grow(&mut self, rows: &mut [usize], depth: usize) {
        let cut = (depth < self.depth_max && rows.len() > 1)
            .then(|| self.cut(rows))
            .flatten();
        let Some((column, at)) = cut else {
            let path = (depth as f64 + typical_path(rows.len())) as f32;
            self.nodes.push(Node::Leaf { path });
            return;
        };
        let (numbers, width) = (self.numbers, self.width);
        let below = partition(rows, |row| numbers[row * width + column] <= at);
        let node = self.nodes.len();
        self.nodes.push(Node::Leaf { path: 0.0 });
        self.grow(&mut rows[..below], depth + 1);
        let above = self.nodes.len() as u32;
        let column = column as u32;
        self.nodes[node] = Node::Cut { column, at, above };
        self.grow(&mut rows[below..], depth + 1);
    }

    /// A random column that is not constant in these records, and a random value within its range: at least the smallest
    /// and below the largest, so that both sides get a record. None if all records are equal.
    fn cut(&mut self, rows: &[usize]) -> Option<(usize, f32)> {
        // Columns are tried in random order, each once: a partial shuffle.
        let mut columns: Vec<u32> = (0..self.width as u32).collect();
        for tried in 0..self.width {
            let at = self.rng.random_range(tried..self.width);
            columns.swap(tried, at);
            let column = columns[tried] as usize;
            let values = rows
                .iter()
                .map(|row| self.numbers[row * self.width + column]);
            let (low, high) = values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| {
                (low.min(x), high.max(x))
            });
            if low < high {
                return Some((column, self.rng.random_range(low..high)));
            }
        }
        None
    }
}

/// Moves the rows that `first` holds for before the others; how many they are.
fn partition(rows: &mut [usize], first: impl Fn(usize) -> bool) -> usize {
    let mut count = 0;
    for at in 0..rows.len() {
        if first(rows[at]) {
            rows.swap(at, count);
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn typical_paths_agree_with_scikit_learn() {
        // from sklearn.ensemble._iforest import _average_path_length
        // _average_path_length([1, 2, 3, 10, 256])
        let expected = [
            0.0,
            1.0,
            1.207_392_357_589_623,
            3.748_880_484_475_505,
            10.244_770_920_119_917,
        ];
        for (n, expected) in [1, 2, 3, 10, 256].into_iter().zip(expected) {
            assert!((typical_path(n) - expected).abs() < 1e-11, "{n}");
        }
    }

    #[test]
    fn a_path_counts_cuts_and_adds_what_the_leaf_would() {
        // x <= 1 | y <= 0 | two records | three records.
        let tree = [
            Node::Cut {
                column: 0,
                at: 1.0,
                above: 4,
            },
            Node::Cut {
                column: 1,
                at: 0.0,
                above: 3,
            },
            Node::Leaf { path: 2.0 + 1.0 },
            Node::Leaf { path: 2.0 },
            Node::Leaf {
                path: 1.0 + 1.207_392_3,
            },
        ];
        assert_eq!(path(&tree, &[1.0, 0.0]), 3.0);
        assert_eq!(path(&tree, &[0.0, 0.5]), 2.0);
        assert_eq!(path(&tree, &[1.5, 0.0]), 2.207_392_3);
    }

    /// A grid of 32 x 32 points in the unit square.
    fn grid() -> Vec<f32> {
        let point = |i: usize| [(i % 32) as f32 / 31.0, (i / 32) as f32 / 31.0];
        (0..1_024).flat_map(point).collect()
    }

    #[test]
    fn scores_are_near_those_of_scikit_learn() {
        // import numpy as np; from sklearn.ensemble import IsolationForest
        // i = np.arange(1024); X = np.stack([i % 32 / 31, i // 32 / 31], 1).astype(np.float32)
        // q = [[.5, .5], [0, 0], [0, .5], [3, .5], [3, 3]]
        // np.mean([-IsolationForest(n_estimators=100, max_samples=256, random_state=s).fit(X).score_samples(q)
        //          for s in range(50)], 0)
        let expected = [0.482_850, 0.646_985, 0.574_191, 0.571_079, 0.646_110];
        let queries = [0.5, 0.5, 0.0, 0.0, 0.0, 0.5, 3.0, 0.5, 3.0, 3.0];
        let mut mean = [0.0; 5];
        for seed in 0..20 {
            let scores = IsolationForest::fit(&grid(), 2, seed).scores(&queries);
            mean.iter_mut()
                .zip(scores)
                .for_each(|(m, s)| *m += s / 20.0);
        }
        // The mean of 2,000 trees has a deviation of about 0.001 here.
        for (found, expected) in mean.iter().zip(expected) {
            assert!((found - expected).abs() < 0.006, "{mean:?} {expected:?}");
        }
    }

    #[test]
    fn equal_records_make_leaves_and_constant_columns_are_never_cut() {
        let forest = IsolationForest::fit(&[7.0; 40], 2, 0);
        assert!(forest.trees.iter().all(|tree| tree.len() == 1));
        let numbers: Vec<f32> = (0..300).flat_map(|i| [1.0, i as f32]).collect();
        let forest = IsolationForest::fit(&numbers, 2, 0);
        let cuts = forest.trees.iter().flatten();
        assert!(
            cuts.clone()
                .all(|node| !matches!(node, Node::Cut { column: 0, .. }))
        );
        assert!(cuts.count() > 100 * 100);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn scores_are_shares_fixed_by_the_seed_and_by_the_record_alone(
            rows in 2..400_usize, width in 1..6_usize, seed: u64
        ) {
            let cell = |i: usize| ((i * i + seed as usize % 97) as f32).sin();
            let numbers: Vec<f32> = (0..rows * width).map(cell).collect();
            let forest = IsolationForest::fit(&numbers, width, seed);
            let scores = forest.scores(&numbers);
            prop_assert!(scores.iter().all(|&s| s > 0.0 && s <= 1.0));
            prop_assert_eq!(&scores, &IsolationForest::fit(&numbers, width, seed).scores(&numbers));
            let last = forest.scores(&numbers[(rows - 1) * width..]);
            prop_assert_eq!(last[0], scores[rows - 1]);
            // Every training record ends in a leaf of at least one record, no deeper than the limit and its leaf's rest.
            for tree in &forest.trees {
                let deepest = (rows.min(256) as f64).log2().ceil() + typical_path(rows.min(256));
                prop_assert!(numbers.chunks(width).all(|r| f64::from(path(tree, r)) <= deepest + 1e-3));
            }
        }
    }
}
