//! The example of `maskwatch-core`, run on a bundle that this crate makes.
#![allow(clippy::unwrap_used)]

#[path = "../../core/examples/score.rs"]
#[allow(dead_code)]
mod score;

use maskwatch_core::records::ParquetSource;
use maskwatch_core::schema::Schema;
use maskwatch_generate::{Generator, GeneratorConfig, write_parquet};
use maskwatch_learn::recipe::{Recipe, TrainConfig, learn};
use maskwatch_learn::train::Unobserved;

#[test]
fn the_example_scores_a_file_with_a_bundle_and_prints_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (
        folder.path().join("payments.parquet"),
        folder.path().join("bundle"),
    );
    let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
    write_parquet(&mut generator, 600, &data, |_| {}).unwrap();
    let data = data.display().to_string();
    let text = include_str!("../../../schemas/payments.toml");
    let mut config = TrainConfig::default();
    (
        config.training.steps,
        config.model.width,
        config.model.blocks,
    ) = (15, 16, 1);
    let recipe = Recipe {
        source: &ParquetSource::open(std::slice::from_ref(&data)).unwrap(),
        schema: &Schema::parse(text, "schemas/payments.toml").unwrap(),
        config: &config,
        seed: 0,
        exclude_labelled: false,
        from: None,
        out: &out,
    };
    learn(&recipe, &mut Unobserved).unwrap();

    let mut printed = Vec::new();
    score::score(&out, &data, 0.05, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let lines = printed.lines().count();
    // A budget of 5 % of 600 records, give or take what chance allows.
    assert!((10..=60).contains(&lines), "{printed}");
    let line = printed.lines().next().unwrap();
    assert!(
        line.starts_with("row ") && line.contains("\"observed\""),
        "{line}"
    );
}
