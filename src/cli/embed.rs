//! `maskwatch embed`: Parquet in, the latent of every row out, beside its key and its time.

use super::args::EmbedArguments;
use super::bad_rows::{BadRows, without};
use super::exit::BadData;
use super::output::{ParquetOutput, parquet_target, refuse_input, refuse_url};
use super::progress::RowsDisplay;
use super::report::{print, warn, warn_all};
use crate::Detector;
use crate::records::{ParquetSource, ReadOptions, RowFault, canonical_schema};
use crate::schema::{Role, Schema};
use anyhow::Context;
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema as ArrowSchema, SchemaRef};
use std::process::ExitCode;
use std::sync::Arc;

/// The name of the column that is added.
const LATENT: &str = "latent";

/// Runs the verb.
///
/// # Errors
/// Bad bundle or data (65), an output that is an input or no regular file (64), anything else (1).
pub fn run(arguments: &EmbedArguments) -> anyhow::Result<ExitCode> {
    refuse_url(&arguments.model, "--model")?;
    parquet_target(&arguments.out)?;
    let detector = Detector::load(&arguments.model)?;
    let source = ParquetSource::open(&arguments.data)?;
    refuse_input(&source, &arguments.out)?;
    let roles = [Role::Feature, Role::Context, Role::Key, Role::Time];
    let schema = detector.schema().with_roles(&roles)?;
    source.check(&schema)?;
    warn_all(&source.notes(&schema));
    let columns = Columns::new(&schema, detector.latent_width())?;
    let mut output = ParquetOutput::create(&arguments.out, Arc::clone(&columns.schema))?;
    let mut display = RowsDisplay::new("embedding", source.rows());
    let (mut bad, mut rows) = (BadRows::default(), 0);
    for batch in source.batches(&schema, ReadOptions::default()) {
        let batch = detector.screen(batch?);
        bad.observe(&source, &batch);
        let latents = detector.embed(&without(&batch.canonical, &batch.faults)?)?;
        output.write(&columns.batch(&batch.canonical, &batch.faults, &latents)?)?;
        rows += batch.canonical.num_rows() as u64;
        display.at(rows);
    }
    drop(display);
    output.finish()?;
    print(&format!(
        "{}: {rows} rows, latents of {} numbers, {} rows without; model {}\n",
        arguments.out.display(),
        detector.latent_width(),
        bad.count(),
        detector.model_id(),
    ))?;
    if let Some(summary) = bad.summary(rows, "cannot be embedded (their latent is null)") {
        warn(&summary);
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of the output.
struct Columns {
    schema: SchemaRef,
    /// Where key and time stand in a canonical batch.
    kept: Vec<usize>,
    item: FieldRef,
    /// E.
    width: usize,
}

impl Columns {
    fn new(schema: &Schema, width: usize) -> anyhow::Result<Self> {
        let roles = schema.read_fields().enumerate();
        let kept: Vec<usize> = roles
            .filter(|(_, field)| !field.role.is_seen())
            .map(|(index, _)| index)
            .collect();
        let canonical = canonical_schema(schema);
        let fields = kept
            .iter()
            .map(|&index| Arc::clone(&canonical.fields()[index]));
        let mut fields: Vec<FieldRef> = fields.collect();
        if fields.iter().any(|field| field.name() == LATENT) {
            let taken = format!(
                "field '{LATENT}' of the schema has the name of a column that embed writes"
            );
            return Err(BadData(taken).into());
        }
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let size = i32::try_from(width).context("the latent is too wide for Arrow")?;
        let latent = DataType::FixedSizeList(Arc::clone(&item), size);
        fields.push(Arc::new(Field::new(LATENT, latent, true)));
        Ok(Self {
            schema: Arc::new(ArrowSchema::new(Fields::from(fields))),
            kept,
            item,
            width,
        })
    }

    /// Key, time and latent of every row; `latents` are those of the good rows, `[B, E]` row-major.
    fn batch(
        &self,
        canonical: &RecordBatch,
        faults: &[RowFault],
        latents: &[f32],
    ) -> anyhow::Result<RecordBatch> {
        let rows = canonical.num_rows();
        let mut good = vec![true; rows];
        faults.iter().for_each(|fault| good[fault.row] = false);
        let mut values = vec![0.0; rows * self.width];
        let places = values.chunks_exact_mut(self.width).zip(&good);
        let places = places.filter(|(_, good)| **good).map(|(place, _)| place);
        for (place, latent) in places.zip(latents.chunks_exact(self.width)) {
            place.copy_from_slice(latent);
        }
        let size = i32::try_from(self.width).context("the latent is too wide for Arrow")?;
        let latent = FixedSizeListArray::try_new(
            Arc::clone(&self.item),
            size,
            Arc::new(Float32Array::from(values)),
            Some(NullBuffer::from(good)),
        )?;
        let kept = self
            .kept
            .iter()
            .map(|&index| Arc::clone(canonical.column(index)));
        let columns: Vec<ArrayRef> = kept.chain([Arc::new(latent) as ArrayRef]).collect();
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}
