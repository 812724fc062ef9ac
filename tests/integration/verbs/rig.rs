//! A folder with payments, a training configuration and the binary that works in it.

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, nullif};
use arrow::datatypes::{Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// Rows of `payments.parquet`.
pub const PAYMENTS: usize = 6_000;

/// A model that is trained in a tenth of a second.
pub const SMALL: &str = "[model]\nwidth = 16\nblocks = 1\n\
                         [views]\nratios = [0.35, 1.0]\nrounds = 1\n\
                         [training]\nsteps = 40\nevaluate_every_steps = 20\n";

/// A temporary folder that holds `payments.parquet` and `train.toml`.
pub struct Rig {
    folder: TempDir,
}

impl Rig {
    /// With payments and nothing learned.
    #[track_caller]
    pub fn new() -> Self {
        let rig = Self::empty();
        fs::write(rig.path("train.toml"), SMALL).expect("the configuration");
        let world = "--rows 6000 --seed 3 --customers 200 --terminals 100";
        rig.run(&format!("generate --out payments.parquet {world}"))
            .succeeded();
        rig
    }

    /// With nothing in it.
    #[track_caller]
    pub fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// With `schema.toml` and `bundle` besides.
    #[track_caller]
    pub fn trained() -> Self {
        let rig = Self::new();
        rig.init();
        rig.train("schema.toml", "bundle", &[]);
        rig
    }

    /// Infers `schema.toml` from the payments.
    #[track_caller]
    pub fn init(&self) {
        self.run("init --data payments.parquet --label is_fraud --out schema.toml")
            .succeeded();
    }

    /// Trains on the payments, and returns what was printed.
    #[track_caller]
    pub fn train(&self, schema: &str, out: &str, further: &[&str]) -> String {
        let line = format!(
            "train --data payments.parquet --schema {schema} --config train.toml --out {out} {}",
            further.join(" ")
        );
        self.run(&line).succeeded()
    }

    /// The file as `bundle` scores it.
    #[track_caller]
    pub fn score(&self, data: &str) -> RecordBatch {
        let line = format!("score --model bundle --data {data} --out scored.tmp");
        self.run(&line).succeeded();
        let scored = read(&self.path("scored.tmp"));
        fs::remove_file(self.path("scored.tmp")).expect("the scored file");
        scored
    }

    /// The `model_id` in a bundle's manifest.
    pub fn model_id(&self, bundle: &str) -> String {
        let manifest = fs::read(self.path(bundle).join("manifest.json")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("JSON");
        manifest["model_id"].as_str().expect("a text").to_owned()
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names of all that is in the folder, hidden ones too, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// Runs the binary in the folder; `line` is cut at spaces.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ran {
        self.run_with(line, &[])
    }

    /// As [`run`](Self::run), with environment variables.
    #[track_caller]
    pub fn run_with(&self, line: &str, environment: &[(&str, &str)]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_maskwatch"))
            .args(line.split_whitespace())
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts");
        Ran {
            line: line.to_owned(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// How a run of the binary ended.
pub struct Ran {
    line: String,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// What it printed.
    ///
    /// # Panics
    /// Unless the exit code is 0.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}: {}", self.line, self.stderr);
        self.stdout
    }

    /// What it wrote to stderr.
    ///
    /// # Panics
    /// Unless the exit code is `code`, or if a backtrace shows, or anything was printed as a result
    /// of an error.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}: {}", self.line, self.stderr);
        for noise in ["panicked", "backtrace", "internal error"] {
            assert!(
                !self.stderr.contains(noise),
                "{}: {}",
                self.line,
                self.stderr
            );
        }
        self.stderr
    }
}

/// All rows of a Parquet file, read by the library alone.
#[track_caller]
pub fn read(path: &Path) -> RecordBatch {
    let file = File::open(path).expect("a Parquet file");
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a footer");
    let schema = builder.schema().clone();
    let batches: Result<Vec<_>, _> = builder.build().expect("a reader").collect();
    concat_batches(&schema, &batches.expect("sound pages")).expect("one batch")
}

/// Writes a Parquet file, in row groups of 2,000.
#[track_caller]
pub fn write(path: &Path, batch: &RecordBatch) {
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(2_000))
        .build();
    let file = File::create(path).expect("a file");
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("a writer");
    writer.write(batch).expect("rows");
    writer.close().expect("a footer");
}

/// The batch with a column replaced, or put behind the others.
#[track_caller]
pub fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    let field = Arc::new(Field::new(name, column.data_type().clone(), true));
    match batch.schema().index_of(name) {
        Ok(at) => (fields[at], columns[at]) = (field, column),
        Err(_) => {
            fields.push(field);
            columns.push(column);
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("a batch")
}

/// The batch without some of its columns.
#[track_caller]
pub fn without_columns(batch: &RecordBatch, names: &[&str]) -> RecordBatch {
    let schema = batch.schema();
    let kept =
        (0..batch.num_columns()).filter(|&at| !names.contains(&schema.field(at).name().as_str()));
    batch.project(&kept.collect::<Vec<_>>()).expect("a batch")
}

/// The batch with nulls in some rows of a column.
#[track_caller]
pub fn with_nulls(batch: &RecordBatch, name: &str, rows: &[usize]) -> RecordBatch {
    let nulls: BooleanArray = (0..batch.num_rows())
        .map(|row| Some(rows.contains(&row)))
        .collect();
    let column = nullif(&batch[name], &nulls).expect("a column with nulls");
    with_column(batch, name, column)
}
