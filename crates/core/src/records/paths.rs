//! The paths of a schema's fields as one tree, so that a decoder walks a nested record once and skips what no field wants.
//!
//! A node is a place in a record; it knows the columns whose value stands there (several fields may share a path) and
//! the names below it. Column numbers count the fields that are read (role not `ignore`) in schema order.

use std::collections::HashMap;

use crate::schema::{Field, FieldPath};

/// The place of the whole record.
pub(crate) const ROOT: usize = 0;

/// One place in a record.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Columns whose value stands here.
    pub columns: Vec<usize>,
    /// Names below, with their nodes, in schema order.
    pub children: Vec<(Box<str>, usize)>,
    by_name: HashMap<Box<str>, usize>,
}

/// Every place that some field of a schema names.
#[derive(Debug)]
pub(crate) struct PathTree {
    places: Vec<Place>,
}

impl PathTree {
    /// The tree of `fields`, numbered from 0 in the order given.
    pub fn new<'a>(fields: impl Iterator<Item = &'a Field>) -> Self {
        Self::of_paths(fields.map(|field| &field.path))
    }

    /// The tree of `paths`, numbered from 0 in the order given.
    pub fn of_paths<'a>(paths: impl Iterator<Item = &'a FieldPath>) -> Self {
        let mut tree = Self {
            places: vec![Place::default()],
        };
        for (column, path) in paths.enumerate() {
            let place = tree.insert(path);
            tree.places[place].columns.push(column);
        }
        tree
    }

    fn insert(&mut self, path: &FieldPath) -> usize {
        let mut at = ROOT;
        for name in path.segments() {
            at = match self.places[at].by_name.get(name.as_str()) {
                Some(&position) => self.places[at].children[position].1,
                None => self.add_child(at, name),
            };
        }
        at
    }

    fn add_child(&mut self, parent: usize, name: &str) -> usize {
        let child = self.places.len();
        self.places.push(Place::default());
        let parent = &mut self.places[parent];
        parent.by_name.insert(name.into(), parent.children.len());
        parent.children.push((name.into(), child));
        child
    }

    /// How many places there are; nodes are numbered below it.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The place with this number.
    pub fn place(&self, node: usize) -> &Place {
        &self.places[node]
    }

    /// Columns at or below `node`, in the order in which their places were first named.
    pub fn columns_below(&self, node: usize) -> Vec<usize> {
        let mut columns = self.places[node].columns.clone();
        for (_, child) in &self.places[node].children {
            columns.extend(self.columns_below(*child));
        }
        columns
    }
}

impl Place {
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
