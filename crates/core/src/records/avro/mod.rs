//! Avro messages in Confluent framing become canonical rows.
//!
//! Payload bytes flow in (magic byte 0, the writer's schema id as 4 bytes big-endian, one record), [`Decoded`] flows
//! out. The writer's schema is laid over ours once (`plan.rs`) and each message is read on its own from the first byte
//! to the last (`cursor.rs`), so the invariant of the house holds by construction: a row depends on its own payload only.
//!
//! Messages are read here and not by `arrow-avro` because that (60.1) decodes a batch or nothing: invalid UTF-8 or an
//! enum symbol out of range fails the flush without naming the row, a cut-off record leaves the decoder broken, a union
//! branch out of range is silently taken for another, and a recursive type anywhere refuses the whole writer. The tests
//! read what its writer wrote.

mod cursor;
mod files;
mod plan;
mod types;

#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

pub use files::{FileSchemas, FileSchemasError};

use self::plan::Plan;
use super::columns::Columns;
use super::decode::{
    DecodeLimits, Decoded, FRAMING_BYTES, WriterSchemas, decode_rows, framed_id, screen,
};
use super::decode_error::{DecodeError, WriterSchemaError};
use super::empty::detail;
use super::fault::{Fault, FaultReason};
use super::paths::PathTree;
use super::root::{RecordRoot, Roots};
use crate::schema::Schema;

/// Writers whose plans are kept; a topic has a handful, and beyond this all are forgotten and laid out anew.
const PLANS_MAX: usize = 1_024;

/// Checks that `text` is an Avro schema.
///
/// # Errors
/// A sentence that says what is no valid Avro schema.
pub(crate) fn check_writer_schema(text: &str) -> Result<(), String> {
    types::Types::parse(text).map(drop)
}

/// Reads Avro messages of any writer into records of one schema; keeps its buffers and plans between batches.
pub struct AvroDecoder {
    schema: Schema,
    limits: DecodeLimits,
    columns: Columns,
    plans: Plans,
}

impl AvroDecoder {
    /// A decoder for records of `schema` that asks `writers` for each writer's schema once.
    pub fn new(schema: &Schema, limits: DecodeLimits, writers: Box<dyn WriterSchemas>) -> Self {
        let plans = Plans {
            tree: PathTree::new(schema.read_fields()),
            roots: None,
            writers,
            known: HashMap::new(),
            unknown: Vec::new(),
        };
        Self {
            schema: schema.clone(),
            limits,
            columns: Columns::new(schema),
            plans,
        }
    }

    /// The same decoder for records at `root` of a message.
    #[must_use]
    pub fn with_root(mut self, root: &RecordRoot) -> Self {
        self.plans.roots = Roots::new(root);
        self
    }

    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// A writer with a field of a type that ours cannot be makes every one of its messages a fault that says why; a field
    /// that it does not have is null. May block while a
    /// registry is asked for a schema that was not seen before.
    ///
    /// # Errors
    /// [`DecodeError::WriterSchema`] if a registry does not answer or refuses: nothing is decoded then, and the same
    /// payloads may be given again. [`DecodeError::BatchTooLarge`]. Never for a bad payload.
    pub fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        let plans = &mut self.plans;
        plans.forget_unknown();
        plans.prepare(payloads, self.limits)?;
        let mut decoded = decode_rows(
            payloads,
            self.limits,
            &self.schema,
            &mut self.columns,
            |bytes, columns| {
                let id = match framed_id(bytes) {
                    Ok(id) => id,
                    Err(fault) => return Ok(Err(fault)),
                };
                Ok(match plans.plan(id, columns)? {
                    Ok((plan, roots)) => plan.read(bytes, FRAMING_BYTES, columns, roots),
                    Err(fault) => Err(fault.clone()),
                })
            },
        )?;
        decoded.explain_empty(|row| {
            let id = framed_id((*payloads.get(row)?)?).ok()?;
            let plan = plans.known.get(&id)?.as_ref().ok()?;
            Some(detail(&plan.names(), &self.schema))
        });
        Ok(decoded)
    }
}

impl std::fmt::Debug for AvroDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AvroDecoder")
            .field("limits", &self.limits)
            .field("writers_known", &self.plans.known.len())
            .finish_non_exhaustive()
    }
}

/// A plan with where its records lie, or the fault that each message of its writer is.
type Known<'p> = Result<(&'p Plan, Option<&'p Roots>), &'p Fault>;

/// How the messages of each writer are read.
struct Plans {
    tree: PathTree,
    /// Where the record lies; `None` if it is the message itself.
    roots: Option<Roots>,
    writers: Box<dyn WriterSchemas>,
    /// Plans and faults by schema id, [`PLANS_MAX`] at most; an id is never given to another schema.
    known: HashMap<u32, Result<Plan, Fault>>,
    /// The ids in `known` that had no usable schema: asked for once a call, as they may be registered later.
    unknown: Vec<u32>,
}

impl Plans {
    fn forget_unknown(&mut self) {
        for id in self.unknown.drain(..) {
            self.known.remove(&id);
        }
    }

    /// Has the schemas looked up together that are not known yet.
    fn prepare(
        &mut self,
        payloads: &[Option<&[u8]>],
        limits: DecodeLimits,
    ) -> Result<(), DecodeError> {
        let ids = payloads
            .iter()
            .filter_map(|payload| framed_id(screen(*payload, limits).ok()?).ok())
            .filter(|id| !self.known.contains_key(id));
        let ids: BTreeSet<u32> = ids.collect();
        let ids: Vec<u32> = ids.into_iter().collect();
        Ok(self.writers.prepare(&ids)?)
    }

    /// The plan for messages with schema id `id`, or the fault that each of them is.
    fn plan(&mut self, id: u32, columns: &Columns) -> Result<Known<'_>, DecodeError> {
        let roots = self.roots.as_ref();
        if self.known.len() >= PLANS_MAX && !self.known.contains_key(&id) {
            self.known.clear();
            self.unknown.clear();
        }
        let entry = match self.known.entry(id) {
            Entry::Occupied(entry) => {
                return Ok(entry.into_mut().as_ref().map(|plan| (plan, roots)));
            }
            Entry::Vacant(entry) => entry,
        };
        let plan = match self.writers.writer_schema(id) {
            Ok(Some(text)) => Plan::new(&text, &self.tree, columns, roots)
                .map_err(|(reason, why)| (reason, format!("schema {id}: {why}"))),
            Ok(None) => Err((
                FaultReason::UnknownSchema,
                format!("schema {id} is not known"),
            )),
            Err(error @ WriterSchemaError::Unusable { .. }) => {
                Err((FaultReason::UnknownSchema, error.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
        if matches!(plan, Err((FaultReason::UnknownSchema, _))) {
            self.unknown.push(id);
        }
        Ok(entry.insert(plan).as_ref().map(|plan| (plan, roots)))
    }
}
