//! JSON messages become canonical rows: one object a message, read strictly.
//!
//! The object may lie inside of an envelope (`envelope.rs`), and the message may have the framing of a schema registry's
//! serialiser, which is stripped: no JSON begins with its zero byte.
//!
//! Payload bytes flow in, [`Decoded`] flows out. One pass of `serde_json` drives a visitor that knows the paths of the
//! schema; values go straight into columns that can take a row back, and what no field wants is checked but not kept.
//! Malformed are: bytes that are not UTF-8, anything but one object, bytes after it, a key twice in any object, bare
//! `NaN` and `Infinity`, numbers beyond f64, nesting deeper than `serde_json`'s 128. A message that is both malformed
//! and of wrong types is malformed. The invariant: a row depends on its own payload only.

mod decimal;
mod envelope;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::columns::{Columns, Value, wrong_type};
use super::decode::{DecodeLimits, Decoded, FRAMING_BYTES, decode_rows, framed_id};
use super::decode_error::DecodeError;
use super::empty::{Names, detail};
use super::fault::{Fault, FaultReason, shown};
use super::paths::{PathTree, ROOT};
use super::root::{RecordRoot, Roots};
use super::target::Target;
use crate::schema::Schema;

/// Reads JSON messages of one schema; keeps its buffers between batches.
#[derive(Debug)]
pub struct JsonDecoder {
    schema: Schema,
    limits: DecodeLimits,
    columns: Columns,
    reader: Reader,
}

impl JsonDecoder {
    /// A decoder for records of `schema`.
    pub fn new(schema: &Schema, limits: DecodeLimits) -> Self {
        let tree = PathTree::new(schema.read_fields());
        let reader = Reader {
            seen: vec![0; tree.len()],
            tree,
            roots: None,
            message: 0,
            unknown_keys: Vec::new(),
        };
        Self {
            schema: schema.clone(),
            limits,
            columns: Columns::new(schema),
            reader,
        }
    }

    /// The same decoder for records at `root` of a message.
    #[must_use]
    pub fn with_root(mut self, root: &RecordRoot) -> Self {
        self.reader.roots = Roots::new(root);
        self
    }

    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// # Errors
    /// [`DecodeError::BatchTooLarge`] if one text column of the batch exceeds 2 GiB; never for a bad payload.
    pub fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        let reader = &mut self.reader;
        let mut decoded = decode_rows(
            payloads,
            self.limits,
            &self.schema,
            &mut self.columns,
            |bytes, columns| {
                Ok(unframed(bytes).and_then(|(at, bytes)| reader.read(at, bytes, columns)))
            },
        )?;
        decoded.explain_empty(|row| {
            let (_, bytes) = unframed((*payloads.get(row)?)?).ok()?;
            let json = serde_json::from_slice(bytes).ok()?;
            Some(detail(&Names::of_json(&json), &self.schema))
        });
        Ok(decoded)
    }
}

/// The message behind the framing of a schema registry's JSON serialiser, if it has one, and where it begins.
fn unframed(bytes: &[u8]) -> Result<(usize, &[u8]), Fault> {
    match bytes {
        [0, ..] => {
            framed_id(bytes)?;
            Ok((FRAMING_BYTES, &bytes[FRAMING_BYTES..]))
        }
        _ => Ok((0, bytes)),
    }
}

/// The part of the decoder that lives as long as the decoder does.
#[derive(Debug)]
struct Reader {
    tree: PathTree,
    /// Where the record lies; `None` if it is the message itself.
    roots: Option<Roots>,
    /// For every place, the number of the message that last named it; tells a key that comes twice.
    seen: Vec<u64>,
    /// The number of the message in hand, from 1.
    message: u64,
    /// Hashes of the keys that no field wants, of the objects that are open, outermost first.
    unknown_keys: Vec<u64>,
}

impl Reader {
    /// Puts the values of one message into `columns`; it begins at byte `at` of its payload.
    fn read(&mut self, at: usize, bytes: &[u8], columns: &mut Columns) -> Result<(), Fault> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            malformed(format!(
                "invalid utf-8 at byte {}",
                at + error.valid_up_to()
            ))
        })?;
        self.message += 1;
        self.unknown_keys.clear();
        let text = match &self.roots {
            Some(roots) => envelope::record_of(text, roots, &mut self.unknown_keys)?,
            None => text,
        };
        let mut row = Row {
            reader: self,
            columns,
            fault: None,
        };
        let mut json = serde_json::Deserializer::from_str(text);
        row.record(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| malformed(error.to_string()))?;
        row.fault.map_or(Ok(()), Err)
    }
}

fn malformed(detail: String) -> Fault {
    (FaultReason::Malformed, detail)
}

/// One message being read.
struct Row<'r> {
    reader: &'r mut Reader,
    columns: &'r mut Columns,
    /// The first value that its field did not take; reading goes on, as the rest may be malformed.
    fault: Option<Fault>,
}

impl Row<'_> {
    fn record<'de, D: Deserializer<'de>>(&mut self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(NodeSeed {
            row: self,
            node_id: ROOT,
        })
    }

    /// Puts a scalar where the schema expects one, and is a fault where it expects an object.
    fn scalar(&mut self, node_id: usize, value: Value<'_>) {
        if self.fault.is_some() {
            return;
        }
        let node = self.reader.tree.node(node_id);
        for &column in &node.columns {
            if let Err(fault) = self.columns.put(column, value) {
                self.fault = Some(fault);
                return;
            }
        }
        if !node.children.is_empty() && value != Value::Null {
            self.not_an_object(node_id);
        }
    }

    /// Notes that the fields below `place` cannot be reached, as there is no object.
    fn not_an_object(&mut self, node_id: usize) {
        let below = self
            .reader
            .tree
            .node(node_id)
            .children
            .first()
            .map(|(_, child)| *child);
        let column = below.and_then(|child| self.reader.tree.columns_below(child).first().copied());
        if let Some(column) = column {
            let found = "something else on its path";
            self.fault = Some(wrong_type(
                self.columns.name(column),
                found,
                "an object there",
            ));
        }
    }

    /// Whether only numbers are expected at `place`, so that an object there can only be a decimal with its scale.
    fn takes_decimals(&self, node_id: usize) -> bool {
        let node = self.reader.tree.node(node_id);
        let number = |&column: &usize| matches!(self.columns.target(column), Target::Number { .. });
        node.children.is_empty() && !node.columns.is_empty() && node.columns.iter().all(number)
    }

    /// Notes that the fields at `place` itself take no object or array.
    fn container(&mut self, node_id: usize, words: &'static str) {
        if self.fault.is_none()
            && let Some(&column) = self.reader.tree.node(node_id).columns.first()
        {
            self.fault = self.columns.put(column, Value::Other(words)).err();
        }
    }

    /// Reads the members of an object whose fields some column may want.
    fn object<'de, A: MapAccess<'de>>(
        &mut self,
        node_id: usize,
        mut map: A,
    ) -> Result<(), A::Error> {
        let first_unknown = self.reader.unknown_keys.len();
        let mut guess = 0;
        while let Some(key) = map.next_key_seed(KeySeed {
            tree: &self.reader.tree,
            node_id,
            guess,
        })? {
            match key {
                Key::Known(position) => {
                    guess = position + 1;
                    let child = self.reader.tree.node(node_id).children[position].1;
                    if self.reader.seen[child] == self.reader.message {
                        return Err(self.twice(node_id, position));
                    }
                    self.reader.seen[child] = self.reader.message;
                    map.next_value_seed(NodeSeed {
                        row: self,
                        node_id: child,
                    })?;
                }
                Key::Unknown(hash) => {
                    self.reader.unknown_keys.push(hash);
                    map.next_value_seed(SkipSeed {
                        keys: &mut self.reader.unknown_keys,
                    })?;
                }
            }
        }
        end_object(&mut self.reader.unknown_keys, first_unknown)
    }

    #[cold]
    fn twice<E: Error>(&self, node_id: usize, position: usize) -> E {
        let name = &self.reader.tree.node(node_id).children[position].0;
        E::custom(format_args!("key `{}` comes twice", shown(name)))
    }
}

/// Ends an object: the hashes from `first` on are its keys, and no two may be the same.
///
/// Keys are told apart by 64-bit SipHash: two different keys of one object meet with odds of about n^2 / 2^65.
fn end_object<E: Error>(keys: &mut Vec<u64>, first: usize) -> Result<(), E> {
    let own = &mut keys[first..];
    own.sort_unstable();
    let twice = own.windows(2).any(|pair| pair[0] == pair[1]);
    keys.truncate(first);
    if twice {
        Err(E::custom("an object has a key twice"))
    } else {
        Ok(())
    }
}

fn hash_of(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A key of an object at a place.
enum Key {
    /// The position among the place's children.
    Known(usize),
    /// The hash of a key that no field wants.
    Unknown(u64),
}

/// Looks a key up without keeping it.
struct KeySeed<'t> {
    tree: &'t PathTree,
    node_id: usize,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Key, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        let node_id = self.tree.node(self.node_id);
        Ok(node_id
            .position(key, self.guess)
            .map_or_else(|| Key::Unknown(hash_of(key)), Key::Known))
    }
}

/// Reads the value at a place of the schema.
struct NodeSeed<'s, 'r> {
    row: &'s mut Row<'r>,
    node_id: usize,
}

impl NodeSeed<'_, '_> {
    /// A record must be an object; below it a scalar goes to the columns.
    fn scalar<E: Error>(self, value: Value<'_>) -> Result<(), E> {
        if self.node_id == ROOT {
            return Err(E::custom("expected one object, found a single value"));
        }
        self.row.scalar(self.node_id, value);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.scalar(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.scalar(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.scalar(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.scalar(Value::whole(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.scalar(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.scalar(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.node_id == ROOT {
            return Err(A::Error::custom("expected one object, found an array"));
        }
        self.row.container(self.node_id, "an array");
        if self.row.fault.is_none() {
            self.row.not_an_object(self.node_id);
        }
        let keys = &mut self.row.reader.unknown_keys;
        while seq
            .next_element_seed(SkipSeed { keys: &mut *keys })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.row.takes_decimals(self.node_id) {
            let value = decimal::read(map, &mut self.row.reader.unknown_keys)?;
            self.row.scalar(self.node_id, value);
            return Ok(());
        }
        self.row.container(self.node_id, "an object");
        self.row.object(self.node_id, map)
    }
}

/// Checks a value that no field wants, and keeps nothing of it.
struct SkipSeed<'s> {
    keys: &'s mut Vec<u64>,
}

impl<'de> DeserializeSeed<'de> for SkipSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SkipSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq
            .next_element_seed(SkipSeed {
                keys: &mut *self.keys,
            })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let first = self.keys.len();
        while let Some(hash) = map.next_key_seed(HashSeed)? {
            self.keys.push(hash);
            map.next_value_seed(SkipSeed {
                keys: &mut *self.keys,
            })?;
        }
        end_object(self.keys, first)
    }
}

/// Hashes a key of an object that no field wants.
struct HashSeed;

impl<'de> DeserializeSeed<'de> for HashSeed {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<u64, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for HashSeed {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<u64, E> {
        Ok(hash_of(key))
    }
}

#[cfg(test)]
mod tests;
