//! Public data as it is: `init`, `train` and `score` need no option that belongs to a data set.

use super::rig::{Rig, SMALL, read};
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use std::fs;
use std::path::Path;

#[test]
fn mixed_real_tables_are_trained_on_and_scored_with_nothing_but_their_label() {
    let Some(folder) = std::env::var_os("MASKWATCH_DATA_DIR") else {
        eprintln!("skipped: MASKWATCH_DATA_DIR is not set");
        return;
    };
    for name in ["nsl_kdd.parquet", "sparkov_2019_01_04.parquet"] {
        let rig = Rig::new();
        let data = Path::new(&folder).join(name);
        let data = data.to_str().expect("UTF-8");
        assert_eq!(fs::read_to_string(rig.path("train.toml")).unwrap(), SMALL);
        rig.run(&format!(
            "init --data {data} --label label --out schema.toml"
        ))
        .succeeded();
        rig.run(&format!(
            "train --data {data} --schema schema.toml --config train.toml --out bundle"
        ))
        .succeeded();
        rig.run(&format!(
            "score --model bundle --data {data} --out z.parquet"
        ))
        .succeeded();
        let (raw, scored) = (read(Path::new(data)), read(&rig.path("z.parquet")));
        assert_eq!(
            &scored.columns()[..raw.num_columns()],
            raw.columns(),
            "{name}"
        );
        let p_values = scored["p_value"].as_primitive::<Float64Type>();
        let flagged = p_values.iter().flatten().filter(|&p| p <= 0.1).count() as f64;
        // Its own training data is a fair sample of itself: a tenth is at or below 0.1.
        let share = flagged / raw.num_rows() as f64;
        assert!((share - 0.1).abs() < 0.02, "{name}: {share}");
        let page = rig.run("inspect bundle").succeeded();
        assert!(page.contains("label"), "{page}");
    }
}
