//! The paths of a schema's fields as one tree, so that a decoder walks a nested record once and skips what no field wants.
//!
//! A node is a place in a record; it knows the columns whose value stands there (several fields may share a path) and
//! the names below it. Column numbers count the fields that are read (role not `ignore`) in schema order.

use std::collections::HashMap;

use crate::schema::{Field, FieldPath};

/// The node of the whole record.
pub(crate) const ROOT: usize = 0;

/// One place in a record.
#[derive(Debug, Default)]
pub(crate) struct PathNode {
    /// Columns whose value stands here.
    pub columns: Vec<usize>,
    /// Names below, with their nodes, in schema order.
    pub children: Vec<(Box<str>, usize)>,
    by_name: HashMap<Box<str>, usize>,
}

/// Every place in a record that some field of a schema names.
#[derive(Debug)]
pub(crate) struct PathTree {
    nodes: Vec<PathNode>,
}

impl PathTree {
    /// The tree of `fields`, numbered from 0 in the order given.
    pub fn new<'a>(fields: impl Iterator<Item = &'a Field>) -> Self {
        Self::of_paths(fields.map(|field| &field.path))
    }

    /// The tree of `paths`, numbered from 0 in the order given.
    pub fn of_paths<'a>(paths: impl Iterator<Item = &'a FieldPath>) -> Self {
        let mut tree = Self {
            nodes: vec![PathNode::default()],
        };
        for (column, path) in paths.enumerate() {
            let node_id = tree.insert(path);
            tree.nodes[node_id].columns.push(column);
        }
        tree
    }

    fn insert(&mut self, path: &FieldPath) -> usize {
        let mut at = ROOT;
        for name in path.segments() {
            at = match self.nodes[at].by_name.get(name.as_str()) {
                Some(&position) => self.nodes[at].children[position].1,
                None => self.add_child(at, name),
            };
        }
        at
    }

    fn add_child(&mut self, parent: usize, name: &str) -> usize {
        let child = self.nodes.len();
        self.nodes.push(PathNode::default());
        let parent = &mut self.nodes[parent];
        parent.by_name.insert(name.into(), parent.children.len());
        parent.children.push((name.into(), child));
        child
    }

    /// How many nodes there are; they are numbered from 0.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node with this number.
    pub fn node(&self, node: usize) -> &PathNode {
        &self.nodes[node]
    }

    /// Columns at or below `node`, in the order in which their places were first named.
    pub fn columns_below(&self, node: usize) -> Vec<usize> {
        let mut columns = self.nodes[node].columns.clone();
        for (_, child) in &self.nodes[node].children {
            columns.extend(self.columns_below(*child));
        }
        columns
    }
}

impl PathNode {
    /// The position among `children` of the name `key`.
    ///
    /// Writers keep the order of their fields, so the caller's `guess` (the position after the last one found) is
    /// usually right and spares the hash.
    pub fn position(&self, key: &str, guess: usize) -> Option<usize> {
        match self.children.get(guess) {
            Some((name, _)) if **name == *key => Some(guess),
            _ => self.by_name.get(key).copied(),
        }
    }
}
