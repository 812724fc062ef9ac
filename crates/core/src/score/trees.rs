//! Boosted decision trees as a bundle stores them: records' inputs in, log-odds and what each input adds to them out.
//!
//! How trees are grown is another matter (`tune`); here they are plain numbers, checked before they are used, so that a file
//! of a bundle can hold any numbers at all. Invariant: in a checked ensemble every path goes forward through the nodes, so
//! that it ends.

/// Nodes of an ensemble at most: far above what tuning grows (400 trees of 31 leaves), and 40 MB in memory.
pub const TREE_NODES_MAX: usize = 1 << 20;
/// Levels of a tree at most: contributions take a square of it at each leaf.
pub const TREE_DEPTH_MAX: usize = 32;
/// The feature of a node that is a leaf.
pub const LEAF: u32 = u32::MAX;

/// A node. A leaf has the feature [`LEAF`] and no children.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TreeNode {
    /// Which input decides.
    pub feature: u32,
    /// Inputs below it go left; of a leaf, what it adds to the log-odds.
    pub value: f32,
    /// The left child's place in the ensemble.
    pub left: u32,
    /// The right child's.
    pub right: u32,
    /// Whether an input that is missing (NaN) goes left.
    pub missing_left: bool,
    /// How much of the training data came here, > 0: the sum of the loss's second derivatives.
    pub cover: f32,
}

/// Trees that are walked side by side, so that one waits for memory while another is at work.
const ABREAST: usize = 8;
/// The bit of a walked node's feature that says whether a missing input goes left.
const MISSING_LEFT: u32 = 1 << 31;

/// A node as scoring walks it: the right child stands behind the left one, and a leaf leads to itself.
#[derive(Debug, Clone, Copy)]
struct Walked {
    feature: u32,
    value: f32,
    left: u32,
}

/// An ensemble for K inputs.
#[derive(Debug, Clone)]
pub struct Trees {
    inputs: usize,
    base: f32,
    /// Where each tree begins.
    roots: Vec<u32>,
    nodes: Vec<TreeNode>,
    /// One a node.
    walked: Vec<Walked>,
    /// Levels of the deepest of every [`ABREAST`] trees.
    depths: Vec<usize>,
}

impl PartialEq for Trees {
    /// What is walked follows from the rest.
    fn eq(&self, other: &Self) -> bool {
        let parts = |trees: &Self| (trees.inputs, trees.base);
        parts(self) == parts(other) && self.parts() == other.parts()
    }
}

impl Trees {
    /// Of stored parts, for records of `inputs` numbers; `base` is the log-odds of no tree. A right child must stand right
    /// behind the left one.
    ///
    /// # Errors
    /// What of them is no ensemble.
    pub fn from_parts(
        inputs: usize,
        base: f32,
        roots: Vec<u32>,
        nodes: Vec<TreeNode>,
    ) -> Result<Self, String> {
        if !base.is_finite() {
            return Err(format!("the base of the trees is {base}"));
        }
        if roots.is_empty() || nodes.len() > TREE_NODES_MAX {
            let (trees, nodes) = (roots.len(), nodes.len());
            return Err(format!(
                "{trees} trees of {nodes} nodes, expected at least one tree and at most {TREE_NODES_MAX} nodes"
            ));
        }
        if inputs == 0 || inputs >= MISSING_LEFT as usize {
            return Err(format!("trees of {inputs} inputs"));
        }
        // A node's level, from the level of the one node that leads to it.
        let mut levels = vec![None; nodes.len()];
        for &root in &roots {
            match levels.get_mut(root as usize) {
                Some(level @ None) => *level = Some(0),
                _ => return Err(format!("no tree can begin at node {root}")),
            }
        }
        for (at, node) in nodes.iter().enumerate() {
            let level = levels[at].ok_or_else(|| format!("nothing leads to node {at}"))?;
            if !(node.value.is_finite() && node.cover > 0.0 && node.cover.is_finite()) {
                let TreeNode { value, cover, .. } = node;
                return Err(format!("node {at} has value {value} and cover {cover}"));
            }
            if node.feature == LEAF {
                continue;
            }
            if node.feature as usize >= inputs {
                let feature = node.feature;
                return Err(format!("node {at} asks for input {feature} of {inputs}"));
            }
            if level == TREE_DEPTH_MAX {
                return Err(format!("node {at} is deeper than {TREE_DEPTH_MAX} levels"));
            }
            if node.left.checked_add(1) != Some(node.right) {
                let TreeNode { left, right, .. } = node;
                return Err(format!(
                    "node {at} has children {left} and {right}, expected neighbours"
                ));
            }
            for child in [node.left, node.right] {
                match levels.get_mut(child as usize) {
                    Some(of @ None) if child as usize > at => *of = Some(level + 1),
                    _ => return Err(format!("node {at} cannot lead to node {child}")),
                }
            }
        }
        let level = |at: usize| levels.get(at).copied().flatten().unwrap_or(0);
        Ok(Self {
            inputs,
            base,
            depths: depths(&roots, &nodes, level),
            walked: (0..).zip(&nodes).map(Walked::new).collect(),
            roots,
            nodes,
        })
    }

    /// K.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The log-odds of no tree.
    pub fn base(&self) -> f32 {
        self.base
    }

    /// Where each tree begins, and all nodes.
    pub fn parts(&self) -> (&[u32], &[TreeNode]) {
        (&self.roots, &self.nodes)
    }

    /// The log-odds of a record with these inputs, `[K]`; NaN where one is missing.
    pub fn log_odds(&self, inputs: &[f32]) -> f32 {
        let mut sum = f64::from(self.base);
        for (roots, &depth) in self.roots.chunks(ABREAST).zip(&self.depths) {
            let mut at = [0; ABREAST];
            at[..roots.len()].copy_from_slice(roots);
            for _ in 0..depth {
                for at in &mut at {
                    *at = self.walked[*at as usize].next(inputs);
                }
            }
            let leaves = at[..roots.len()].iter();
            sum += leaves
                .map(|&at| f64::from(self.nodes[at as usize].value))
                .sum::<f64>();
        }
        sum as f32
    }

    /// What each input adds to the log-odds of a record, `[K]`: Shapley values of the trees under their own covers (Lundberg,
    /// Erion & Lee 2018, *Consistent Individualized Feature Attribution for Tree Ensembles*, algorithm 2). Their sum is the
    /// log-odds less the mean over the training data.
    pub fn contributions(&self, inputs: &[f32]) -> Vec<f64> {
        let mut sums = vec![0.0; self.inputs];
        // Paths of all levels, one behind the other: level l has l + 1 steps at most.
        let mut room = vec![Step::default(); (TREE_DEPTH_MAX + 2) * (TREE_DEPTH_MAX + 3) / 2];
        for &root in &self.roots {
            self.add_contributions(root, inputs, (&mut room, 0), Step::first(), &mut sums);
        }
        sums
    }

    /// Adds those of the subtree at `at`, reached by the path in the first `steps` places of the room, which is extended by
    /// `last` behind them and left as it is.
    fn add_contributions(
        &self,
        at: u32,
        inputs: &[f32],
        (room, steps): (&mut [Step], usize),
        last: Step,
        sums: &mut [f64],
    ) {
        let (before, room) = room.split_at_mut(steps);
        room[..steps].copy_from_slice(before);
        let mut steps = steps + 1;
        extend(&mut room[..steps], last);
        let node = &self.nodes[at as usize];
        if node.feature == LEAF {
            return add_leaf(&room[..steps], f64::from(node.value), sums);
        }
        let hot = node.child(inputs);
        let cold = if hot == node.left {
            node.right
        } else {
            node.left
        };
        // An input that decided before decides once: its shares multiply.
        let (mut zero, mut one) = (1.0, 1.0);
        let path = &room[..steps];
        if let Some(i) = path.iter().position(|s| s.feature == Some(node.feature)) {
            (zero, one) = (path[i].zero, path[i].one);
            unwind(&mut room[..steps], i);
            steps -= 1;
        }
        for (child, one) in [(hot, one), (cold, 0.0)] {
            let share = f64::from(self.nodes[child as usize].cover) / self.children_cover(node);
            let last = Step {
                feature: Some(node.feature),
                zero: zero * share,
                one,
                weight: 0.0,
            };
            self.add_contributions(child, inputs, (&mut *room, steps), last, sums);
        }
    }

    fn children_cover(&self, node: &TreeNode) -> f64 {
        let cover = |child: u32| f64::from(self.nodes[child as usize].cover);
        cover(node.left) + cover(node.right)
    }
}

/// The levels below the roots of every [`ABREAST`] trees, whose nodes need not stand together.
fn depths(roots: &[u32], nodes: &[TreeNode], level: impl Fn(usize) -> usize) -> Vec<usize> {
    // Which tree a node is of, from the root on: children stand behind their parents.
    let mut tree_of = vec![0; nodes.len()];
    for (tree, &root) in roots.iter().enumerate() {
        tree_of[root as usize] = tree;
    }
    let mut depths = vec![0; roots.len().div_ceil(ABREAST)];
    for (at, node) in nodes.iter().enumerate() {
        let tree: usize = tree_of[at];
        let deepest = &mut depths[tree / ABREAST];
        *deepest = level(at).max(*deepest);
        if node.feature != LEAF {
            tree_of[node.left as usize] = tree;
            tree_of[node.right as usize] = tree;
        }
    }
    depths
}

impl Walked {
    fn new((at, node): (u32, &TreeNode)) -> Self {
        match node.feature {
            // No number is at or above what is none, and a missing one goes left: to the leaf again.
            LEAF => Self {
                feature: MISSING_LEFT,
                value: f32::NAN,
                left: at,
            },
            feature => Self {
                feature: feature | if node.missing_left { MISSING_LEFT } else { 0 },
                value: node.value,
                left: node.left,
            },
        }
    }

    /// Where a record goes on, without a branch that the processor would have to guess.
    fn next(self, inputs: &[f32]) -> u32 {
        let x = inputs[(self.feature & !MISSING_LEFT) as usize];
        let missing_right = x.is_nan() & (self.feature & MISSING_LEFT == 0);
        self.left + u32::from((x >= self.value) | missing_right)
    }
}

impl TreeNode {
    fn child(&self, inputs: &[f32]) -> u32 {
        let x = inputs[self.feature as usize];
        let left = if x.is_nan() {
            self.missing_left
        } else {
            x < self.value
        };
        if left { self.left } else { self.right }
    }
}

/// One input on a path: the share of the training data that would go on without it, whether the record does, and the
/// weight of all sets of inputs of this size.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    feature: Option<u32>,
    zero: f64,
    one: f64,
    weight: f64,
}

impl Step {
    /// The root, which no input decides.
    fn first() -> Self {
        Self {
            feature: None,
            zero: 1.0,
            one: 1.0,
            weight: 0.0,
        }
    }
}

/// Puts `last` into the last place of a path and weighs the sets of inputs with and without it.
fn extend(path: &mut [Step], last: Step) {
    let depth = path.len() - 1;
    path[depth] = last;
    path[depth].weight = if depth == 0 { 1.0 } else { 0.0 };
    let n = (depth + 1) as f64;
    for i in (0..depth).rev() {
        path[i + 1].weight += last.one * path[i].weight * (i + 1) as f64 / n;
        path[i].weight *= last.zero * (depth - i) as f64 / n;
    }
}

/// Takes step `i` out of a path, whose last place is then free.
fn unwind(path: &mut [Step], i: usize) {
    let depth = path.len() - 1;
    let taken = path[i];
    let mut next = path[depth].weight;
    for j in (0..depth).rev() {
        (path[j].weight, next) = unwound_weight(path, j, taken, next);
    }
    for j in i..depth {
        path[j] = Step {
            weight: path[j].weight,
            ..path[j + 1]
        };
    }
}

/// The weight in place `j` of a path without the step `taken`, and what the place before it needs to know.
fn unwound_weight(path: &[Step], j: usize, taken: Step, next: f64) -> (f64, f64) {
    let depth = path.len() - 1;
    let n = (depth + 1) as f64;
    let rest = (depth - j) as f64;
    let weight = path[j].weight;
    if taken.one == 0.0 {
        return (weight * n / (taken.zero * rest), next);
    }
    let unwound = next * n / ((j + 1) as f64 * taken.one);
    (unwound, weight - unwound * taken.zero * rest / n)
}

/// Adds what the inputs on a path have of the leaf at its end.
fn add_leaf(path: &[Step], value: f64, sums: &mut [f64]) {
    let depth = path.len() - 1;
    let n = (depth + 1) as f64;
    // Without an input that sends the record elsewhere all weights are divided by its share: one sum serves all such.
    let rest = |j: usize| path[j].weight * n / (depth - j) as f64;
    let elsewhere: f64 = (0..depth).rev().map(rest).sum();
    for &step in &path[1..] {
        let Some(feature) = step.feature else {
            continue;
        };
        let share = if step.one == 0.0 {
            -elsewhere
        } else {
            let mut next = path[depth].weight;
            let mut sum = 0.0;
            for j in (0..depth).rev() {
                let unwound;
                (unwound, next) = unwound_weight(path, j, step, next);
                sum += unwound;
            }
            sum * (step.one - step.zero)
        };
        sums[feature as usize] += share * value;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn leaf(value: f32, cover: f32) -> TreeNode {
        TreeNode {
            feature: LEAF,
            value,
            left: 0,
            right: 0,
            missing_left: false,
            cover,
        }
    }

    fn split(feature: u32, value: f32, children: (u32, u32), cover: f32) -> TreeNode {
        TreeNode {
            feature,
            value,
            left: children.0,
            right: children.1,
            missing_left: false,
            cover,
        }
    }

    /// Two trees of three inputs; input 0 decides twice on one path.
    fn trees() -> Trees {
        let nodes = vec![
            split(0, 1.0, (1, 2), 10.0),
            split(1, 0.5, (3, 4), 7.0),
            leaf(3.0, 3.0),
            split(0, -1.0, (5, 6), 4.0),
            leaf(-2.0, 3.0),
            leaf(0.25, 1.0),
            leaf(-1.0, 3.0),
            split(2, 0.0, (8, 9), 10.0),
            leaf(0.5, 6.0),
            leaf(-0.75, 4.0),
        ];
        Trees::from_parts(3, -1.5, vec![0, 7], nodes).unwrap()
    }

    /// The mean of a tree's leaves where the inputs outside of `known` are not known.
    fn expected(trees: &Trees, at: u32, inputs: &[f32], known: u32) -> f64 {
        let node = &trees.nodes[at as usize];
        if node.feature == LEAF {
            return f64::from(node.value);
        }
        if known >> node.feature & 1 == 1 {
            return expected(trees, node.child(inputs), inputs, known);
        }
        let of = |child: u32| {
            f64::from(trees.nodes[child as usize].cover) * expected(trees, child, inputs, known)
        };
        (of(node.left) + of(node.right)) / trees.children_cover(node)
    }

    #[test]
    fn contributions_are_the_shapley_values_by_their_definition() {
        let trees = trees();
        let orders = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        for inputs in [
            [0.0, 0.0, 0.0],
            [-2.0, 0.0, 1.0],
            [2.0, 1.0, -1.0],
            [f32::NAN, 0.1, 1.0],
        ] {
            let worth = |known| -> f64 {
                let roots = trees.roots.iter();
                roots
                    .map(|&root| expected(&trees, root, &inputs, known))
                    .sum()
            };
            let mut by_definition = [0.0; 3];
            for order in orders {
                let mut known = 0;
                for input in order {
                    let with = known | 1 << input;
                    by_definition[input as usize] += (worth(with) - worth(known)) / 6.0;
                    known = with;
                }
            }
            let found = trees.contributions(&inputs);
            for (found, expected) in found.iter().zip(by_definition) {
                assert!(
                    (found - expected).abs() < 1e-9,
                    "{inputs:?}: {found} {expected}"
                );
            }
            let sum: f64 = found.iter().sum();
            let log_odds = f64::from(trees.log_odds(&inputs)) + 1.5;
            assert!((sum + worth(0) - log_odds).abs() < 1e-6);
        }
    }

    #[test]
    fn trees_side_by_side_say_what_each_says_alone() {
        let mut nodes = Vec::new();
        let mut roots = Vec::new();
        // Nineteen trees of depths 0 to 4, whose leaves tell how far a record went right.
        for tree in 0..19u32 {
            roots.push(nodes.len() as u32);
            for level in 0..tree % 5 {
                let left = nodes.len() as u32 + 1;
                let feature = (tree + level) % 3;
                let mut node = split(feature, level as f32 * 0.3 - 0.5, (left, left + 1), 2.0);
                node.missing_left = level % 2 == 0;
                nodes.push(node);
                nodes.push(leaf(tree as f32 + level as f32 * 0.1, 1.0));
            }
            nodes.push(leaf(-(tree as f32), 1.0));
        }
        let trees = Trees::from_parts(3, 0.25, roots.clone(), nodes.clone()).unwrap();
        for inputs in [
            [0.0, -1.0, 2.0],
            [f32::NAN, 0.3, -0.5],
            [f32::INFINITY, f32::NAN, 0.1],
        ] {
            let mut sum = 0.25;
            for &root in &roots {
                let mut node = &nodes[root as usize];
                while node.feature != LEAF {
                    node = &nodes[node.child(&inputs) as usize];
                }
                sum += f64::from(node.value);
            }
            assert_eq!(trees.log_odds(&inputs), sum as f32, "{inputs:?}");
        }
    }

    #[test]
    fn what_is_no_ensemble_is_refused() {
        let (roots, nodes) = (trees().roots, trees().nodes);
        let error = |change: &dyn Fn(&mut Vec<u32>, &mut Vec<TreeNode>)| {
            let (mut roots, mut nodes) = (roots.clone(), nodes.clone());
            change(&mut roots, &mut nodes);
            Trees::from_parts(3, 0.0, roots, nodes).unwrap_err()
        };
        let children = |node: &mut TreeNode, left| (node.left, node.right) = (left, left + 1);
        assert!(error(&|_, nodes| children(&mut nodes[3], 0)).contains("cannot lead to node 0"));
        assert!(error(&|_, nodes| children(&mut nodes[1], 4)).contains("nothing leads to node 3"));
        assert!(error(&|_, nodes| children(&mut nodes[1], 900)).contains("node 900"));
        assert!(error(&|_, nodes| nodes[1].left = 4).contains("expected neighbours"));
        assert!(error(&|_, nodes| nodes[0].feature = 3).contains("input 3 of 3"));
        assert!(error(&|_, nodes| nodes[2].value = f32::NAN).contains("node 2 has value NaN"));
        assert!(error(&|_, nodes| nodes[2].cover = 0.0).contains("cover 0"));
        assert!(error(&|roots, _| roots[1] = 90).contains("no tree can begin at node 90"));
        assert!(error(&|roots, _| roots.truncate(1)).contains("nothing leads to node 7"));
        assert!(error(&|roots, _| roots.clear()).contains("0 trees"));
        assert!(Trees::from_parts(3, f32::NAN, roots, nodes).is_err());
    }
}
