//! Finds the record inside the envelope of a JSON message.
//!
//! Text flows in, the part of it that is the record flows out. The whole message has been read strictly before any part
//! of it is looked at, so that what is malformed outside of the record is found as well.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::SkipSeed;
use crate::records::fault::Fault;
use crate::records::paths::{PathTree, ROOT};
use crate::records::root::{Found, Roots};

/// The text of the record in a message; all of it where no path leads to an object, or where it is malformed, which
/// reading it as a record then tells.
///
/// # Errors
/// The `tombstone` of a message that deletes a row.
pub(super) fn record_of<'a>(
    text: &'a str,
    roots: &Roots,
    keys: &mut Vec<u64>,
) -> Result<&'a str, Fault> {
    let mut json = serde_json::Deserializer::from_str(text);
    let strict = SkipSeed { keys }.deserialize(&mut json);
    if strict.and_then(|()| json.end()).is_err() {
        keys.clear();
        return Ok(text);
    }
    let mut found = roots.nothing();
    note_objects(text, ROOT, roots.tree(), &mut found);
    Ok(roots.choose(&found)?.unwrap_or(text))
}

/// Notes what stands at the places below `place`, whose object is `text`. As deep as the paths are.
fn note_objects<'a>(text: &'a str, node_id: usize, tree: &PathTree, found: &mut [Found<&'a str>]) {
    let mut json = serde_json::Deserializer::from_str(text);
    let members = json.deserialize_any(MembersVisitor { tree, node_id });
    // Strictly read before: only something other than an object is no object here.
    for (child, value) in members.unwrap_or_default() {
        let text = value.get();
        let here = match text.as_bytes().first() {
            Some(b'{') => Found::Record(text),
            Some(b'n') => Found::Null,
            Some(b'"') => Found::text(text.trim_matches('"')),
            _ => Found::Other,
        };
        let node = tree.node(child);
        node.columns.iter().for_each(|&slot| found[slot] = here);
        if !node.children.is_empty() && matches!(here, Found::Record(_)) {
            note_objects(text, child, tree, found);
        }
    }
}

/// Takes the members of an object that the tree names, each as its text.
struct MembersVisitor<'t> {
    tree: &'t PathTree,
    node_id: usize,
}

impl<'de> Visitor<'de> for MembersVisitor<'_> {
    type Value = Vec<(usize, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let node = self.tree.node(self.node_id);
        let mut members = Vec::with_capacity(node.children.len());
        while let Some(child) = map.next_key_seed(ChildSeed {
            tree: self.tree,
            node_id: self.node_id,
        })? {
            let value: &'de RawValue = map.next_value()?;
            members.extend(child.map(|child| (child, value)));
        }
        Ok(members)
    }
}

/// The place of a key below a place, if the tree has it.
struct ChildSeed<'t> {
    tree: &'t PathTree,
    node_id: usize,
}

impl<'de> DeserializeSeed<'de> for ChildSeed<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for ChildSeed<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        let node = self.tree.node(self.node_id);
        let position = node.position(key, 0);
        Ok(position.map(|position| node.children[position].1))
    }
}
