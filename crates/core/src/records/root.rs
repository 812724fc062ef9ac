//! Where the record lies in a message: at its top, or inside of the envelope of Kafka Connect or Debezium.
//!
//! Paths flow in with the configuration; for each message the decoders say what they found at each path, and out flows the
//! object that is the record, or the fault of a message that deletes one. JSON and Avro decide by the same rule.

use std::fmt;

use super::fault::Fault;
use super::fault::FaultReason;
use super::paths::PathTree;
use crate::schema::FieldPath;

/// Paths at most: an envelope has a handful of places.
pub const ROOTS_MAX: usize = 16;

/// The name under which Debezium writes a row as it is after the change.
const AFTER: &str = "after";
/// The name beside it of what was done to the row.
const OPERATION: &str = "op";
/// The name beside it of the row as it was before the change.
pub(crate) const BEFORE: &str = "before";
/// What [`OPERATION`] says of a delete.
const DELETE: &str = "d";

/// The paths at which the record is looked for, in this order; none means the top of the message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordRoot {
    paths: Vec<FieldPath>,
}

impl RecordRoot {
    /// Looks for the record at `paths`, the first that is an object; [`ROOTS_MAX`] at most, which the caller checks.
    pub fn new(paths: Vec<FieldPath>) -> Self {
        Self { paths }
    }

    /// Whether the message itself is the record.
    pub fn is_top(&self) -> bool {
        self.paths.is_empty()
    }
}

impl fmt::Display for RecordRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<String> = self.paths.iter().map(ToString::to_string).collect();
        f.write_str(&paths.join(", "))
    }
}

/// What a message has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<T> {
    /// Nothing.
    Absent,
    /// Null.
    Null,
    /// An object, and how the decoder reaches it.
    Record(T),
    /// The text `d`.
    Delete,
    /// Anything else.
    Other,
}

impl<T> Found<T> {
    /// What some text is.
    pub fn text(text: &str) -> Self {
        match text {
            DELETE => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// One path of a [`RecordRoot`].
#[derive(Debug)]
struct Root {
    name: String,
    /// The slots of `op` and `before` beside it, where it is Debezium's `after`.
    debezium: Option<[usize; 2]>,
}

/// Tells the record of a message from what was found in it.
#[derive(Debug)]
pub(crate) struct Roots {
    roots: Vec<Root>,
    tree: PathTree,
    slots: usize,
}

impl Roots {
    /// `None` where the message itself is the record.
    pub fn new(root: &RecordRoot) -> Option<Self> {
        if root.is_top() {
            return None;
        }
        let mut paths = root.paths.clone();
        let mut roots = Vec::with_capacity(root.paths.len());
        for path in &root.paths {
            let debezium = match path.segments().split_last() {
                Some((last, parent)) if last == AFTER => {
                    let beside = |name: &str| {
                        let mut segments = parent.to_vec();
                        segments.push(name.to_owned());
                        FieldPath::from_segments(segments)
                    };
                    paths.extend([OPERATION, BEFORE].into_iter().filter_map(beside));
                    Some([paths.len() - 2, paths.len() - 1])
                }
                _ => None,
            };
            let name = path.to_string();
            roots.push(Root { name, debezium });
        }
        Some(Self {
            roots,
            tree: PathTree::of_paths(paths.iter()),
            slots: paths.len(),
        })
    }

    /// The places that are looked at: the columns of a place are slots of [`nothing`](Self::nothing).
    pub fn tree(&self) -> &PathTree {
        &self.tree
    }

    /// A slot for each place that is looked at, with nothing found yet.
    pub fn nothing<T: Clone>(&self) -> Vec<Found<T>> {
        vec![Found::Absent; self.slots]
    }

    /// The record of a message with `found` in its slots; `None` if it is the message itself, as no path leads anywhere.
    ///
    /// # Errors
    /// The `tombstone` of a message that deletes a row: the first path that is there is null, or Debezium's `op` says so.
    pub fn choose<T: Copy>(&self, found: &[Found<T>]) -> Result<Option<T>, Fault> {
        for (root, here) in self.roots.iter().zip(found) {
            let deletes = |[operation, before]: [usize; 2]| {
                let by_name = matches!(found[operation], Found::Delete);
                // `op` alone may be a field of a record that is no envelope.
                by_name && !matches!(found[before], Found::Absent)
            };
            let why = match here {
                Found::Null => format!("a delete: `{}` is null", root.name),
                _ if root.debezium.is_some_and(deletes) => {
                    format!("a delete: `op` beside `{}` is \"d\"", root.name)
                }
                Found::Record(record) => return Ok(Some(*record)),
                Found::Absent | Found::Delete | Found::Other => continue,
            };
            return Err((FaultReason::Tombstone, why));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_path_that_is_an_object_is_the_record_and_null_is_a_delete() {
        let paths = ["payload.after", "after", "payload"].map(FieldPath::parse);
        let roots = Roots::new(&RecordRoot::new(paths.to_vec())).unwrap();
        let nothing = roots.nothing::<u8>();
        assert_eq!(nothing.len(), 3 + 4);
        let with = |here: &[(usize, Found<u8>)]| {
            let mut found = nothing.clone();
            here.iter().for_each(|&(slot, value)| found[slot] = value);
            roots.choose(&found).map_err(|(reason, _)| reason)
        };
        let deleted = Err(FaultReason::Tombstone);
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(
            with(&[(1, Found::Record(1)), (2, Found::Record(2))]),
            Ok(Some(1))
        );
        assert_eq!(
            with(&[(0, Found::Other), (2, Found::Record(2))]),
            Ok(Some(2))
        );
        assert_eq!(with(&[(0, Found::Null), (2, Found::Record(2))]), deleted);
        assert_eq!(with(&[(2, Found::Null)]), deleted);
        // `op` counts only in an envelope: beside `before`.
        let operation = (3, Found::Delete);
        assert_eq!(with(&[operation, (2, Found::Record(2))]), Ok(Some(2)));
        assert_eq!(
            with(&[operation, (4, Found::Record(9)), (2, Found::Record(2))]),
            deleted
        );
    }
}
