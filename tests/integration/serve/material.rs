//! What the daemon is fed with: a model, and records with the scores that they must get.
//!
//! A recipe flows in, a bundle and [`Records`] flow out. The scores come from the library, from the
//! same rows as Parquet: what the daemon reads as JSON must mean the same. Invariant: one model a
//! test process, and the records are none that it was trained on.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use maskwatch::Detector;
use maskwatch::generate::{Generator, GeneratorConfig, JsonRows, write_parquet};
use maskwatch::recipe::{Recipe, TrainConfig, learn};
use maskwatch::records::{ParquetSource, ReadOptions};
use maskwatch::schema::Schema;
use maskwatch::train::Unobserved;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tempfile::TempDir;

/// Payments that the model learns from: a fifth of them, 800, are calibration rows.
const TRAINING_ROWS: u64 = 4_000;

/// A model that takes seconds to train and microseconds to score with; how good it is matters not.
const TRAINING: &str = "[model]\nwidth = 32\nblocks = 1\nhistogram_bins = 32\n\
                        [views]\nratios = [0.5]\nrounds = 1\n\
                        [training]\nsteps = 60\nbatch_rows = 256\n";

/// One alert in twenty: within reach of 800 calibration rows, and frequent in every test.
pub const BUDGET: f64 = 0.05;

/// A bundle and what it was made of.
#[derive(Debug)]
pub struct Model {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The training file.
    pub data: PathBuf,
    /// The schema file.
    pub schema: PathBuf,
    /// The training configuration.
    pub training: PathBuf,
    /// The bundle as the library loads it.
    pub detector: Detector,
}

/// The model of payments of this test process, trained by the first caller.
pub fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        // A place that the next run writes over: nobody cleans up after a static.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("serve-model");
        std::fs::create_dir_all(&folder).unwrap();
        let bundle = folder.join("model-0");
        let data = folder.join("payments.parquet");
        let training = folder.join("training.toml");
        let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/payments.toml");
        write_parquet(&mut generator(), TRAINING_ROWS, &data, |_| {}).unwrap();
        std::fs::write(&training, TRAINING).unwrap();
        train(&data, &Schema::load(&schema).unwrap(), 0, &bundle);
        let detector = Detector::load(&bundle).unwrap();
        Model {
            bundle,
            data,
            schema,
            training,
            detector,
        }
    })
}

fn train(data: &Path, schema: &Schema, seed: u64, out: &Path) {
    let config: TrainConfig = toml::from_str(TRAINING).unwrap();
    assert_eq!(config.faults(), []);
    let recipe = Recipe {
        source: &ParquetSource::open(&[data.display().to_string()]).unwrap(),
        schema,
        config: &config,
        seed,
        exclude_labelled: false,
        from: None,
        out,
    };
    learn(&recipe, &mut Unobserved).unwrap();
}

/// A bundle like that of [`model`], from the same payments with another seed.
pub fn another_model(seed: u64, out: &Path) {
    let of = model();
    train(&of.data, &Schema::load(&of.schema).unwrap(), seed, out);
}

fn generator() -> Generator {
    let config = GeneratorConfig {
        customers: 300,
        terminals: 200,
        ..GeneratorConfig::default()
    };
    Generator::new(&config).unwrap()
}

/// One record, and what the library says of it.
#[derive(Debug, Clone)]
pub struct Record {
    /// What `event_id` must be; `None` without a key field.
    pub id: Option<String>,
    /// The record as JSON.
    pub json: Vec<u8>,
    /// The library's score of the same row in Parquet.
    pub anomaly_score: f32,
}

/// Records for a bundle.
#[derive(Debug)]
pub struct Records {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The bundle.
    pub detector: Arc<Detector>,
    /// In the order of the file.
    pub records: Vec<Record>,
    /// The rows behind the records, in batches.
    pub rows: Vec<RecordBatch>,
}

impl Records {
    /// `count` payments that follow those of the training.
    pub fn payments(count: usize) -> Self {
        Self::payments_by(&model().bundle, count)
    }

    /// The same payments, with the scores of another bundle.
    pub fn payments_by(bundle: &Path, count: usize) -> Self {
        let mut generator = generator();
        generator.next_batch(TRAINING_ROWS as usize).unwrap();
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("records.parquet");
        write_parquet(&mut generator, count as u64, &file, |_| {}).unwrap();
        Self::read(bundle, &file, count)
    }

    /// `count` records, or what the environment asks for (see [`super`]).
    pub fn of_environment(count: usize) -> Self {
        let count = number("MASKWATCH_TEST_RECORDS").unwrap_or(count);
        if !is_ulb() {
            return Self::payments(count);
        }
        let variable = |name: &str| {
            let value = std::env::var_os(name);
            PathBuf::from(value.unwrap_or_else(|| panic!("MASKWATCH_TEST_ULB needs {name}")))
        };
        let file = variable("MASKWATCH_DATA_DIR").join("ulb_creditcard.parquet");
        Self::read(&variable("MASKWATCH_TEST_BUNDLE"), &file, count)
    }

    fn read(bundle: &Path, file: &Path, count: usize) -> Self {
        let detector = Detector::load(bundle).unwrap();
        let source = ParquetSource::open(&[file.display().to_string()]).unwrap();
        let options = ReadOptions {
            keep_raw: true,
            ..ReadOptions::default()
        };
        let (mut records, mut rows) = (Vec::new(), Vec::new());
        for batch in source.batches(detector.schema(), options) {
            let batch = batch.unwrap();
            assert_eq!(batch.faults, []);
            let take = batch.canonical.num_rows().min(count - records.len());
            if take == 0 {
                break;
            }
            let raw = plain(batch.raw.as_ref().unwrap(), detector.schema()).slice(0, take);
            let scores = detector.score(&batch.canonical.slice(0, take)).unwrap();
            let json = JsonRows::new(&raw).unwrap();
            for (row, &anomaly_score) in scores.anomaly_score.iter().enumerate() {
                let mut bytes = Vec::new();
                json.write(row, &mut bytes).unwrap();
                let (id, json) = (id_of(&raw, row, detector.schema()), bytes);
                records.push(Record {
                    id,
                    json,
                    anomaly_score,
                });
            }
            rows.push(raw);
        }
        assert_eq!(records.len(), count, "{} has fewer rows", file.display());
        Self {
            bundle: bundle.to_owned(),
            detector: Arc::new(detector),
            records,
            rows,
        }
    }

    /// The p-value that belongs to a score.
    pub fn p_value(&self, score: f32) -> f64 {
        self.detector.scorer().conformal().p_value(score)
    }
}

/// The columns that the schema reads, in types that [`JsonRows`] writes; without the label and
/// whatever else the file holds.
fn plain(batch: &RecordBatch, schema: &Schema) -> RecordBatch {
    let names: Vec<&str> = schema
        .features()
        .chain(schema.key())
        .map(|field| field.name.as_str())
        .collect();
    let source = batch.schema();
    let kept = source.fields().iter().zip(batch.columns());
    let (fields, columns): (Vec<Field>, Vec<_>) = kept
        .filter(|(field, _)| names.contains(&field.name().as_str()))
        .map(|(field, column)| match field.data_type() {
            DataType::Float32 | DataType::Int8 | DataType::Int16 | DataType::Int32 => (
                Field::new(field.name(), DataType::Float64, true),
                cast(column, &DataType::Float64).unwrap(),
            ),
            _ => (field.as_ref().clone(), Arc::clone(column)),
        })
        .unzip();
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns).unwrap()
}

fn id_of(batch: &RecordBatch, row: usize, schema: &Schema) -> Option<String> {
    let column = batch.column_by_name(&schema.key()?.name)?;
    let text = column.as_string_opt::<i32>()?;
    text.is_valid(row).then(|| text.value(row).to_owned())
}

/// Whether the records are those of the ULB set.
pub fn is_ulb() -> bool {
    number("MASKWATCH_TEST_ULB") == Some(1)
}

/// A whole number from the environment; panics where it is none.
pub fn number(name: &str) -> Option<usize> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text}: expected a whole number")))
}
