//! How to read the messages of one writer: its types laid over the paths of our schema.
//!
//! A writer's schema and the path tree flow in, a [`Plan`] flows out, which walks a message once, puts what our fields
//! want and skips the rest. A field that the writer's schema does not have is null, as one that is absent from a JSON
//! object. Invariants: a plan exists only for a writer whose every value of a field may fit its kind; reading checks
//! every byte of a message, also of what is skipped.

use super::cursor::{Cursor, ReadError};
use super::types::{Type, TypeId, Types};
use crate::records::columns::{Columns, Value};
use crate::records::empty::{NAMES_DEPTH_MAX, Names};
use crate::records::fault::Fault;
use crate::records::fault::FaultReason;
use crate::records::paths::{PathTree, ROOT};
use crate::records::root::{Found, Roots};
use crate::records::target::Target;
use crate::records::value::{Unscaled, decimal_of_scale, microseconds};
use crate::schema::TimeUnit;

/// Records within records a message may have, as in JSON: what recursive types could otherwise do to the stack.
const DEPTH_MAX: usize = 128;

/// Names of a writer's schema that are looked at when its messages turn out to be empty.
const NAMES_MAX: usize = 2_048;

/// Mismatches between a writer's schema and ours that a fault's detail lists.
const MISMATCHES_SHOWN_MAX: usize = 8;

/// One step of a plan.
#[derive(Debug)]
enum Step {
    /// No field wants this.
    Skip(TypeId),
    /// These columns take the value.
    Take(TypeId, Vec<usize>),
    /// A record, field by field.
    Record(Vec<Step>),
    /// A union of which some branch holds what fields want.
    Union(Vec<Step>),
}

/// How to read every message of one writer.
#[derive(Debug)]
pub(super) struct Plan {
    types: Types,
    /// How each record type is read that may be a message's record: the whole message first.
    records: Vec<(TypeId, Result<Step, Fault>)>,
}

/// Why a field cannot be read from a writer's messages.
#[derive(Debug, Clone)]
struct Mismatch {
    column: usize,
    why: String,
}

impl Plan {
    /// Lays the writer's schema (JSON text) over the paths of ours, from every place in it where `roots` may find the
    /// record.
    ///
    /// # Errors
    /// The fault that every message of this writer then is: all mismatches in one detail.
    pub fn new(
        text: &str,
        tree: &PathTree,
        columns: &Columns,
        roots: Option<&Roots>,
    ) -> Result<Self, Fault> {
        let types = Types::parse(text).map_err(|why| {
            (
                FaultReason::UnknownSchema,
                format!("the writer's schema is not valid avro: {why}"),
            )
        })?;
        if !matches!(types.get(types.root), Type::Record(_)) {
            let why = format!(
                "the writer's schema is {}, not a record",
                words(types.get(types.root))
            );
            return Err((FaultReason::WrongType, why));
        }
        let mut nodes = vec![types.root];
        if let Some(roots) = roots {
            candidates(&types, types.root, ROOT, roots.tree(), &mut nodes);
        }
        let steps = nodes.into_iter().map(|id| {
            let mut layout = Layout {
                types: &types,
                tree,
                columns,
                mismatches: Vec::new(),
            };
            let step = layout.step(id, ROOT);
            match layout.mismatches.as_slice() {
                [] => (id, Ok(step)),
                mismatches => (id, Err(describe(mismatches, columns))),
            }
        });
        let records: Vec<_> = steps.collect();
        match records.as_slice() {
            [(_, Err(fault))] => Err(fault.clone()),
            _ => Ok(Self { types, records }),
        }
    }

    /// The names of the writer's fields.
    pub fn names(&self) -> Names {
        names_of(
            &self.types,
            self.types.root,
            NAMES_DEPTH_MAX,
            &mut NAMES_MAX.clone(),
        )
    }

    /// Puts the values of one message, which begin at byte `at`, into `columns`.
    ///
    /// # Errors
    /// `malformed` if the bytes are not exactly one message of the writer's schema, the `tombstone` of a delete, else the
    /// first `wrong_type`.
    pub fn read(
        &self,
        bytes: &[u8],
        at: usize,
        columns: &mut Columns,
        roots: Option<&Roots>,
    ) -> Result<(), Fault> {
        let malformed = |error: ReadError| (FaultReason::Malformed, error.to_string());
        let mut row = Row {
            types: &self.types,
            cursor: Cursor::new(bytes, at),
            columns,
            fault: None,
        };
        let Some(roots) = roots else {
            row.step(self.step(self.types.root)?)
                .and_then(|()| row.end())
                .map_err(malformed)?;
            return row.fault.map_or(Ok(()), Err);
        };
        // All of the message is read past before any of it is taken, so that every byte of it is checked.
        let mut found = roots.nothing();
        row.locate(self.types.root, ROOT, roots.tree(), &mut found)
            .and_then(|()| row.end())
            .map_err(malformed)?;
        let (id, at) = roots.choose(&found)?.unwrap_or((self.types.root, at));
        row.cursor = Cursor::new(bytes, at);
        row.step(self.step(id)?).map_err(malformed)?;
        row.fault.map_or(Ok(()), Err)
    }

    /// How records of type `id` are read.
    fn step(&self, id: TypeId) -> Result<&Step, Fault> {
        let known = self.records.iter().find(|(record, _)| *record == id);
        // `candidates` goes where `locate` does.
        let unknown = || (FaultReason::WrongType, "no record is there".to_owned());
        let (_, step) = known.ok_or_else(unknown)?;
        step.as_ref().map_err(Clone::clone)
    }
}

/// Adds the record types that messages may have at a place of `tree`, and below it. As deep as the paths are.
fn candidates(types: &Types, id: TypeId, node_id: usize, tree: &PathTree, found: &mut Vec<TypeId>) {
    let node = tree.node(node_id);
    match types.get(id) {
        Type::Union(branches) => branches
            .iter()
            .for_each(|&branch| candidates(types, branch, node_id, tree, found)),
        Type::Record(fields) => {
            if !node.columns.is_empty() && !found.contains(&id) {
                found.push(id);
            }
            for (i, (name, field)) in fields.iter().enumerate() {
                if let Some(position) = node.position(name, i) {
                    candidates(types, *field, node.children[position].1, tree, found);
                }
            }
        }
        _ => {}
    }
}

/// The names of a record's fields, and of those below them, through unions; recursive types end with the depth.
fn names_of(types: &Types, id: TypeId, depth: usize, left: &mut usize) -> Names {
    let Some(deeper) = depth.checked_sub(1) else {
        return Names::default();
    };
    match types.get(id) {
        Type::Union(branches) => {
            let branches = branches.iter().map(|&id| names_of(types, id, depth, left));
            Names(branches.flat_map(|names| names.0).collect())
        }
        Type::Record(fields) => {
            let mut names = Vec::new();
            for (name, field) in fields {
                let Some(fewer) = left.checked_sub(1) else {
                    break;
                };
                *left = fewer;
                names.push((name.clone(), names_of(types, *field, deeper, left)));
            }
            Names(names)
        }
        _ => Names::default(),
    }
}

/// All mismatches of a writer in one fault.
fn describe(mismatches: &[Mismatch], columns: &Columns) -> Fault {
    let mut lines: Vec<String> = mismatches
        .iter()
        .take(MISMATCHES_SHOWN_MAX)
        .map(|mismatch| format!("field `{}` {}", columns.name(mismatch.column), mismatch.why))
        .collect();
    if mismatches.len() > MISMATCHES_SHOWN_MAX {
        lines.push(format!(
            "and {} more",
            mismatches.len() - MISMATCHES_SHOWN_MAX
        ));
    }
    (
        FaultReason::WrongType,
        format!("the writer's schema does not fit: {}", lines.join("; ")),
    )
}

/// A plan in the making.
struct Layout<'a> {
    types: &'a Types,
    tree: &'a PathTree,
    columns: &'a Columns,
    mismatches: Vec<Mismatch>,
}

impl Layout<'_> {
    /// The step for a type at a place of the tree; ends, as paths do, also for recursive types.
    fn step(&mut self, id: TypeId, node_id: usize) -> Step {
        let node = self.tree.node(node_id);
        match self.types.get(id) {
            Type::Record(fields) if !node.children.is_empty() => {
                self.mismatch(&node.columns, "is a record");
                self.record(fields, node_id)
            }
            Type::Union(branches) if !node.children.is_empty() => self.union(branches, node_id),
            Type::Null => Step::Skip(id),
            found => {
                for (_, child) in &node.children {
                    let why = format!("lies below {}, expected a record", words(found));
                    self.mismatch(&self.tree.columns_below(*child), &why);
                }
                for &column in &node.columns {
                    self.check(id, column);
                }
                Step::Take(id, node.columns.clone())
            }
        }
    }

    fn mismatch(&mut self, columns: &[usize], why: &str) {
        let mismatches = columns.iter().map(|&column| Mismatch {
            column,
            why: why.to_owned(),
        });
        self.mismatches.extend(mismatches);
    }

    fn record(&mut self, fields: &[(String, TypeId)], node_id: usize) -> Step {
        let node = self.tree.node(node_id);
        let steps = fields
            .iter()
            .enumerate()
            .map(|(i, (name, id))| match node.position(name, i) {
                Some(position) => self.step(*id, node.children[position].1),
                None => Step::Skip(*id),
            });
        Step::Record(steps.collect())
    }

    /// What any branch can give is no mismatch of the whole; which branch a message takes is seen as it is read.
    fn union(&mut self, branches: &[TypeId], node_id: usize) -> Step {
        let before = std::mem::take(&mut self.mismatches);
        let mut steps = Vec::with_capacity(branches.len());
        let mut of_branches: Vec<Vec<Mismatch>> = Vec::new();
        for &branch in branches {
            steps.push(self.step(branch, node_id));
            let found = std::mem::take(&mut self.mismatches);
            if *self.types.get(branch) != Type::Null {
                of_branches.push(found);
            }
        }
        self.mismatches = before;
        if let Some((first, others)) = of_branches.split_first() {
            let everywhere = first.iter().filter(|mismatch| {
                others
                    .iter()
                    .all(|other| other.iter().any(|m| m.column == mismatch.column))
            });
            self.mismatches.extend(everywhere.cloned());
        }
        Step::Union(steps)
    }

    /// Notes a mismatch unless `column` may take a value of this type.
    fn check(&mut self, id: TypeId, column: usize) {
        let target = self.columns.target(column);
        if !self.fits(id, target) {
            let why = format!("is {}, expected {}", self.all_words(id), target.expected());
            self.mismatch(&[column], &why);
        }
    }

    fn fits(&self, id: TypeId, target: Target) -> bool {
        match self.types.get(id) {
            Type::Null => true,
            Type::Union(branches) => {
                let null = |id: TypeId| *self.types.get(id) == Type::Null;
                branches.iter().all(|&branch| null(branch))
                    || branches
                        .iter()
                        .any(|&branch| !null(branch) && self.fits(branch, target))
            }
            found => {
                let is_number = matches!(target, Target::Number { .. });
                fits(found, target) || (is_number && self.types.variable_decimal(id).is_some())
            }
        }
    }

    fn all_words(&self, id: TypeId) -> String {
        match self.types.get(id) {
            Type::Union(branches) => {
                let branches: Vec<&str> = branches
                    .iter()
                    .map(|&branch| words(self.types.get(branch)))
                    .collect();
                format!("a union of {}", branches.join(", "))
            }
            found => words(found).to_owned(),
        }
    }
}

/// Whether some value of this type, which is neither null nor a union, is taken.
fn fits(found: &Type, target: Target) -> bool {
    match target {
        Target::Number {
            parse,
            decimal_scale,
        } => match found {
            Type::Int | Type::Long | Type::Float | Type::Double | Type::Decimal { .. } => true,
            Type::String => parse || decimal_scale.is_some(),
            Type::Enum(_) => parse,
            Type::Bytes | Type::Fixed(_) => decimal_scale.is_some(),
            _ => false,
        },
        Target::Category | Target::Key => match found {
            Type::Boolean
            | Type::Int
            | Type::Long
            | Type::Float
            | Type::Double
            | Type::String
            | Type::Enum(_)
            | Type::Uuid => true,
            Type::Decimal { scale, .. } => *scale == 0,
            Type::Date | Type::Timestamp(_) => target == Target::Key,
            _ => false,
        },
        Target::Flag { parse: false } => *found == Type::Boolean,
        Target::Flag { parse: true } | Target::Label => matches!(
            found,
            Type::Boolean
                | Type::Int
                | Type::Long
                | Type::Float
                | Type::Double
                | Type::Decimal { .. }
                | Type::String
                | Type::Enum(_)
        ),
        Target::Moment { unit } => match found {
            Type::Date | Type::Timestamp(_) | Type::String => true,
            Type::Int | Type::Long | Type::Float | Type::Double => unit.is_some(),
            Type::Decimal { scale, .. } => *scale == 0 && unit.is_some(),
            _ => false,
        },
    }
}

/// A type in words.
fn words(found: &Type) -> &'static str {
    match found {
        Type::Null => "null",
        Type::Boolean => "a boolean",
        Type::Int => "an int",
        Type::Date => "a date",
        Type::Long => "a long",
        Type::Timestamp(_) => "a timestamp",
        Type::Float => "a float",
        Type::Double => "a double",
        Type::Bytes => "bytes",
        Type::String => "a string",
        Type::Decimal { .. } => "a decimal",
        Type::Fixed(_) => "a fixed",
        Type::Uuid => "a uuid",
        Type::Enum(_) => "an enum",
        Type::Array(_) => "an array",
        Type::Map(_) => "a map",
        Type::Union(_) => "a union",
        Type::Record(_) => "a record",
    }
}

/// One message being read.
struct Row<'a, 'c> {
    types: &'a Types,
    cursor: Cursor<'a>,
    columns: &'c mut Columns,
    /// The first value that its field did not take; reading goes on, as the rest may be malformed.
    fault: Option<Fault>,
}

impl<'a> Row<'a, '_> {
    /// Checks that nothing is left.
    fn end(&self) -> Result<(), ReadError> {
        match self.cursor.left() {
            0 => Ok(()),
            left => {
                let why = format!("{left} bytes left after the record");
                Err(self.cursor.error(why))
            }
        }
    }

    /// Reads past a value and notes what stands at the places of `tree`: of a record its type and offset. As deep as the
    /// paths are.
    fn locate(
        &mut self,
        id: TypeId,
        node_id: usize,
        tree: &PathTree,
        found: &mut [Found<(TypeId, usize)>],
    ) -> Result<(), ReadError> {
        let node = tree.node(node_id);
        let here = match self.types.get(id) {
            Type::Union(branches) => {
                let branch = branches[self.cursor.index(branches.len(), "branch")?];
                return self.locate(branch, node_id, tree, found);
            }
            Type::Record(fields) => {
                let here = Found::Record((id, self.cursor.at()));
                for (i, (name, field)) in fields.iter().enumerate() {
                    match node.position(name, i) {
                        Some(position) => {
                            self.locate(*field, node.children[position].1, tree, found)?;
                        }
                        None => self.skip(*field, 0)?,
                    }
                }
                here
            }
            _ => match self.value(id)? {
                Value::Null => Found::Null,
                Value::Text(text) => Found::text(text),
                _ => Found::Other,
            },
        };
        node.columns.iter().for_each(|&slot| found[slot] = here);
        Ok(())
    }

    /// Plans are as deep as our paths, so this recursion needs no bound of its own.
    fn step(&mut self, step: &Step) -> Result<(), ReadError> {
        match step {
            Step::Skip(id) => self.skip(*id, 0),
            Step::Take(id, columns) => self.put(*id, columns),
            Step::Record(steps) => steps.iter().try_for_each(|step| self.step(step)),
            Step::Union(steps) => {
                let branch = self.cursor.index(steps.len(), "branch")?;
                self.step(&steps[branch])
            }
        }
    }

    fn put(&mut self, id: TypeId, columns: &[usize]) -> Result<(), ReadError> {
        let value = self.value(id)?;
        for &column in columns {
            if self.fault.is_none() {
                self.fault = self.columns.put(column, value).err();
            }
        }
        Ok(())
    }

    /// The value of a type, where it is one that a field may take.
    fn value(&mut self, id: TypeId) -> Result<Value<'a>, ReadError> {
        self.cursor.spend()?;
        Ok(match self.types.get(id) {
            Type::Null => Value::Null,
            Type::Boolean => Value::Boolean(self.cursor.boolean()?),
            Type::Int => Value::Integer(self.cursor.int()?.into()),
            Type::Date => moment(self.cursor.int()?.into(), TimeUnit::Days),
            Type::Long => Value::Integer(self.cursor.long()?),
            Type::Timestamp(unit) => moment(self.cursor.long()?.into(), *unit),
            Type::Float => Value::Single(f32::from_le_bytes(self.cursor.array()?)),
            Type::Double => Value::Float(f64::from_le_bytes(self.cursor.array()?)),
            Type::String => Value::Text(self.cursor.text()?),
            Type::Decimal { fixed, scale } => {
                let bytes = match fixed {
                    Some(size) => self.cursor.take(*size)?,
                    None => self.cursor.bytes()?,
                };
                decimal(bytes, *scale)
            }
            Type::Bytes => Value::Bytes(self.cursor.bytes()?),
            Type::Fixed(size) => Value::Bytes(self.cursor.take(*size)?),
            Type::Uuid => Value::Uuid(self.cursor.array()?),
            Type::Enum(symbols) => {
                Value::Text(&symbols[self.cursor.index(symbols.len(), "symbol")?])
            }
            Type::Union(branches) => {
                let branch = branches[self.cursor.index(branches.len(), "branch")?];
                self.value(branch)?
            }
            found => match self.types.variable_decimal(id) {
                Some(scale_first) => self.variable_decimal(scale_first)?,
                None => {
                    self.skip(id, 0)?;
                    Value::Other(words(found))
                }
            },
        })
    }

    /// The decimal that carries its own scale.
    fn variable_decimal(&mut self, scale_first: bool) -> Result<Value<'a>, ReadError> {
        let before = if scale_first {
            Some(self.cursor.int()?)
        } else {
            None
        };
        let unscaled = self.cursor.bytes()?;
        let scale = match before {
            Some(scale) => scale,
            None => self.cursor.int()?,
        };
        let number = decimal_of_scale(unscaled, scale.into());
        Ok(number.map_or(Value::Other("a decimal out of range"), Value::Float))
    }

    /// Reads past a value, checking it as if it were wanted.
    fn skip(&mut self, id: TypeId, depth: usize) -> Result<(), ReadError> {
        self.cursor.spend()?;
        if depth == DEPTH_MAX {
            return Err(self.cursor.error(format!("nested deeper than {DEPTH_MAX}")));
        }
        match self.types.get(id) {
            Type::Record(fields) => fields
                .iter()
                .try_for_each(|(_, field)| self.skip(*field, depth + 1)),
            Type::Array(items) => self.skip_blocks(|row| row.skip(*items, depth + 1)),
            Type::Map(values) => self.skip_blocks(|row| {
                row.cursor.text()?;
                row.skip(*values, depth + 1)
            }),
            Type::Union(branches) => {
                let branch = branches[self.cursor.index(branches.len(), "branch")?];
                self.skip(branch, depth + 1)
            }
            _ => self.value(id).map(drop),
        }
    }

    /// Reads past the blocks of an array or a map; a negative count is followed by the bytes of its block.
    fn skip_blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        loop {
            let count = self.cursor.long()?;
            if count == 0 {
                return Ok(());
            }
            let size = if count < 0 {
                Some(self.cursor.long()?)
            } else {
                None
            };
            let before = self.cursor.left();
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
            let read = (before - self.cursor.left()) as u64;
            if size.is_some_and(|size| u64::try_from(size) != Ok(read)) {
                let size = size.unwrap_or(0);
                return Err(self
                    .cursor
                    .error(format!("a block of {size} bytes has {read}")));
            }
        }
    }
}

/// A moment `count` units after 1970, if the calendar of RFC 3339 holds it.
fn moment(count: i128, unit: TimeUnit) -> Value<'static> {
    microseconds(count, unit).map_or(
        Value::Other("a moment outside the years 0000 to 9999"),
        Value::Moment,
    )
}

/// The decimal whose unscaled number is `bytes`; an integer where the scale is 0, for categories and keys.
fn decimal(bytes: &[u8], scale: i32) -> Value<'static> {
    match Unscaled::from_bytes(bytes) {
        Unscaled::Exact(unscaled) if scale == 0 => Value::whole(unscaled),
        unscaled => Value::Float(unscaled.scaled(scale)),
    }
}
