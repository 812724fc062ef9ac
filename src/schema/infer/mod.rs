//! From records to a commented schema file: what `init` writes.
//!
//! In flow batches of one Arrow schema, out flows TOML text that [`Schema::parse`](super::Schema::parse)
//! accepts and that fits those records. Every row is seen once; memory is bounded a column
//! (`distinct`, `profile`). Which field a column becomes is decided in `rules`.

mod distinct;
mod profile;
mod rules;
mod text;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Fields, Schema as ArrowSchema};
use arrow::error::ArrowError;

use super::definition::FIELDS_MAX;
use super::field::Role;
use super::fit::column_at;
use profile::{Profile, label_hashes};
use rules::{Decision, decide};

/// Why no schema can be inferred.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The column that should be the label is not there.
    #[error("no column `{column}` for the label; there are {columns}")]
    NoLabelColumn {
        /// The column that was asked for.
        column: String,
        /// The columns that there are.
        columns: String,
    },
    /// The label's column has a type that holds no labels.
    #[error(
        "column `{column}` of type {found} cannot be the label: expected booleans, numbers or text"
    )]
    LabelType {
        /// The column that was asked for.
        column: String,
        /// Its type.
        found: String,
    },
    /// No column is left that the model could see.
    #[error("no column can be a feature: {reasons}")]
    NoFeature {
        /// Each column with why it is none.
        reasons: String,
    },
    /// There are more columns than a schema may have fields.
    #[error("{columns} columns are over the limit of {limit} fields")]
    TooManyColumns {
        /// The columns, those in structs counted each.
        columns: usize,
        /// The limit, [`FIELDS_MAX`].
        limit: usize,
    },
    /// Arrow could not look into a column.
    #[error("cannot look into column `{column}`: {message}")]
    Column {
        /// The column.
        column: String,
        /// What Arrow said.
        message: String,
    },
}

/// Looks at records batch by batch, then writes their schema.
pub struct Inference {
    leaves: Vec<Leaf>,
    profiles: Vec<Profile>,
    /// Index of the label in `leaves`.
    label: Option<usize>,
    rows: u64,
}

/// A column that is no struct: at the top, or inside of structs.
struct Leaf {
    segments: Vec<String>,
    indices: Vec<usize>,
    data_type: DataType,
}

impl Leaf {
    fn name(&self) -> String {
        self.segments.join(".")
    }

    /// Whether the names can stand in a schema.
    fn is_usable(&self) -> bool {
        let usable = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
        self.segments.iter().all(usable)
    }

    /// The type of the values, dictionaries looked through.
    fn plain_type(&self) -> &DataType {
        match &self.data_type {
            DataType::Dictionary(_, values) => values,
            other => other,
        }
    }
}

impl Inference {
    /// For records of the Arrow schema `records`, with the column `label` (dots between levels), if
    /// given, as the label.
    ///
    /// # Errors
    /// When the label's column is absent or cannot be one, or there are more than [`FIELDS_MAX`]
    /// columns.
    pub fn new(records: &ArrowSchema, label: Option<&str>) -> Result<Self, InferenceError> {
        let mut leaves = Vec::new();
        collect_leaves(
            records.fields(),
            &mut Vec::new(),
            &mut Vec::new(),
            &mut leaves,
        );
        // One field is kept back for the event time.
        if leaves.len() >= FIELDS_MAX {
            let columns = leaves.len();
            return Err(InferenceError::TooManyColumns {
                columns,
                limit: FIELDS_MAX - 1,
            });
        }
        let label = label.map(|label| find_label(label, &leaves)).transpose()?;
        let profiles = leaves.iter().map(|_| Profile::new()).collect();
        Ok(Self {
            leaves,
            profiles,
            label,
            rows: 0,
        })
    }

    /// Looks at the rows of `batch`, which must be of the Arrow schema given at first.
    ///
    /// # Errors
    /// When it is not.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), InferenceError> {
        self.rows += batch.num_rows() as u64;
        let error = |leaf: &Leaf, error: ArrowError| InferenceError::Column {
            column: leaf.name(),
            message: error.to_string(),
        };
        let labels = match self.label.map(|label| &self.leaves[label]) {
            None => None,
            Some(leaf) => {
                let column = column_at(batch, &leaf.indices);
                let hashes = column.and_then(|column| label_hashes(&column));
                Some(hashes.map_err(|fault| error(leaf, fault))?)
            }
        };
        for (leaf, profile) in self.leaves.iter().zip(&mut self.profiles) {
            if rules::is_readable(leaf.plain_type()) {
                let column = column_at(batch, &leaf.indices);
                let added = column.and_then(|column| profile.add(&column, labels.as_deref()));
                added.map_err(|fault| error(leaf, fault))?;
            }
        }
        Ok(())
    }

    /// The schema file of the rows seen; `origin` says in its first line where they came from.
    ///
    /// # Errors
    /// [`InferenceError::NoFeature`] when no column can be a feature, with the reason of each.
    pub fn finish(self, origin: &str) -> Result<String, InferenceError> {
        let decisions: Vec<Decision> = (0..self.leaves.len()).map(|i| self.decision(i)).collect();
        if !decisions
            .iter()
            .any(|decision| decision.role == Role::Feature)
        {
            let reason = |(leaf, decision): (&Leaf, &Decision)| {
                format!(
                    "`{}`: {}",
                    leaf.name(),
                    decision.reason.as_deref().unwrap_or_default()
                )
            };
            let reasons: Vec<String> = self.leaves.iter().zip(&decisions).map(reason).collect();
            return Err(InferenceError::NoFeature {
                reasons: reasons.join(" "),
            });
        }
        Ok(text::write(&self, &decisions, origin))
    }

    fn decision(&self, index: usize) -> Decision {
        let leaf = &self.leaves[index];
        if self.label == Some(index) {
            return Decision::label();
        }
        if !leaf.is_usable() {
            return Decision::ignored("Its name cannot stand in a schema.");
        }
        let name = leaf.segments.last().map_or("", String::as_str);
        decide(name, leaf.plain_type(), &self.profiles[index])
    }
}

fn collect_leaves(
    fields: &Fields,
    segments: &mut Vec<String>,
    indices: &mut Vec<usize>,
    leaves: &mut Vec<Leaf>,
) {
    for (index, field) in fields.iter().enumerate() {
        segments.push(field.name().clone());
        indices.push(index);
        match field.data_type() {
            DataType::Struct(children) => collect_leaves(children, segments, indices, leaves),
            data_type => leaves.push(Leaf {
                segments: segments.clone(),
                indices: indices.clone(),
                data_type: data_type.clone(),
            }),
        }
        segments.pop();
        indices.pop();
    }
}

fn find_label(label: &str, leaves: &[Leaf]) -> Result<usize, InferenceError> {
    let Some(index) = leaves.iter().position(|leaf| leaf.name() == label) else {
        let columns: Vec<String> = leaves
            .iter()
            .map(|leaf| format!("`{}`", leaf.name()))
            .collect();
        let (column, columns) = (label.to_owned(), columns.join(", "));
        return Err(InferenceError::NoLabelColumn { column, columns });
    };
    let found = leaves[index].plain_type();
    let moment = matches!(
        found,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _)
    );
    if rules::is_readable(found) && !moment {
        return Ok(index);
    }
    Err(InferenceError::LabelType {
        column: label.to_owned(),
        found: found.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray, StructArray,
        TimestampMillisecondArray,
    };
    use arrow::datatypes::Field as ArrowField;

    use super::*;
    use crate::schema::{Kind, Schema};

    fn records(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let columns = columns
            .into_iter()
            .map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn inferred(batch: &RecordBatch, label: Option<&str>) -> String {
        let mut inference = Inference::new(batch.schema_ref(), label).unwrap();
        inference.add(batch).unwrap();
        inference.finish("x.parquet").unwrap()
    }

    fn roles(schema: &Schema) -> Vec<(String, String, Kind, Role)> {
        let field = |field: &crate::schema::Field| {
            (
                field.name.clone(),
                field.path.to_string(),
                field.kind,
                field.role,
            )
        };
        schema.fields().iter().map(field).collect()
    }

    fn floats() -> ArrayRef {
        Arc::new(Float64Array::from(vec![1.0, 2.0, 2.0]))
    }

    #[test]
    fn the_first_moment_is_also_the_time_of_the_record() {
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]));
        let columns = vec![
            ("paid", Arc::clone(&times)),
            ("event_time", times),
            ("x", floats()),
        ];
        let schema = Schema::parse(&inferred(&records(columns), None), "s").unwrap();
        let expected = [
            ("paid", "paid", Kind::Timestamp, Role::Feature),
            ("event_time_2", "paid", Kind::Timestamp, Role::Time),
            ("event_time", "event_time", Kind::Timestamp, Role::Feature),
            ("x", "x", Kind::Numeric, Role::Feature),
        ];
        let expected =
            expected.map(|(name, path, kind, role)| (name.into(), path.into(), kind, role));
        assert_eq!(roles(&schema), expected);
    }

    #[test]
    fn nested_and_oddly_named_columns_keep_their_paths() {
        let leaf = |name: &str| Arc::new(ArrowField::new(name, DataType::Float64, true));
        let inner = StructArray::from(vec![(leaf("b"), floats()), (leaf("c.d"), floats())]);
        let columns = vec![
            ("a", Arc::new(inner) as ArrayRef),
            ("a.b", floats()),
            ("say \"hi\"", floats()),
            ("line\nbreak", floats()),
        ];
        let text = inferred(&records(columns), None);
        let schema = Schema::parse(&text, "s").unwrap();
        let places: Vec<(&str, usize)> = schema
            .fields()
            .iter()
            .map(|field| (field.name.as_str(), field.path.segments().len()))
            .collect();
        assert_eq!(
            places,
            [("a.b", 2), ("a.c.d", 2), ("a.b_2", 1), ("say \"hi\"", 1)]
        );
        assert!(
            text.contains("# The column line?break cannot be named"),
            "{text}"
        );
    }

    #[test]
    fn what_no_kind_reads_is_ignored_with_its_reason() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"x"[..]; 3]));
        let text = inferred(&records(vec![("blob", bytes), ("x", floats())]), None);
        assert!(
            text.contains(
                "# Values of type Binary are no kind of field.\nname = \"blob\"\nrole = \"ignore\""
            ),
            "{text}"
        );
    }

    #[test]
    fn the_label_is_the_column_asked_for_whatever_it_holds() {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = records(vec![("some_id", ids), ("x", floats())]);
        let schema = Schema::parse(&inferred(&batch, Some("some_id")), "s").unwrap();
        assert_eq!(schema.label().unwrap().name, "some_id");
        let error = Inference::new(batch.schema_ref(), Some("fraud"))
            .err()
            .unwrap()
            .to_string();
        assert_eq!(
            error,
            "no column `fraud` for the label; there are `some_id`, `x`"
        );
    }

    #[test]
    fn data_without_a_feature_is_refused_with_every_reason() {
        let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let batch = records(vec![("some_id", ids)]);
        let mut inference = Inference::new(batch.schema_ref(), None).unwrap();
        inference.add(&batch).unwrap();
        let error = inference.finish("x.parquet").unwrap_err().to_string();
        let start = "no column can be a feature: `some_id`: An identifier, by its name.";
        assert!(error.starts_with(start), "{error}");
    }
}
