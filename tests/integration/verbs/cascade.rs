//! Two stages of scoring as a user meets them: the page of `inspect`, a budget above the share, batches against single files.

use super::rig::{PAYMENTS, Rig, SMALL, read, write};
use super::{alerts, p_values, scores};
use std::fs;

/// A bundle whose first stage has something to leave out.
fn trained() -> Rig {
    let rig = Rig::new();
    let config = SMALL.replace("ratios = [0.35, 1.0]", "ratios = [0.35, 0.65, 1.0]");
    assert_ne!(config, SMALL);
    fs::write(rig.path("train.toml"), config).expect("the configuration");
    rig.init();
    rig.train("schema.toml", "bundle", &[]);
    rig
}

#[test]
fn inspect_shows_both_stages_and_a_budget_above_the_share_is_warned_of() {
    let rig = trained();
    let page = rig.run("inspect bundle").succeeded();
    for part in [
        "cascade      share 0.02, threshold",
        "in the first stage",
        "on average",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let line = "score --model bundle --data payments.parquet --out scored.parquet";
    let within = rig.run(line);
    assert!(
        !within.stderr.contains("cascade.share"),
        "{}",
        within.stderr
    );
    let above = rig.run(&format!("{line} --alert-budget 0.05"));
    let warning = "alert budget 0.05 is above cascade.share = 0.02";
    assert!(above.stderr.contains(warning), "{}", above.stderr);
    above.succeeded();
}

#[test]
fn a_share_of_0_is_a_bundle_without_a_first_stage() {
    let rig = trained();
    let config = fs::read_to_string(rig.path("train.toml")).expect("the configuration");
    fs::write(
        rig.path("train.toml"),
        format!("{config}[cascade]\nshare = 0.0\n"),
    )
    .expect("it");
    rig.train("schema.toml", "full", &[]);
    let page = rig.run("inspect full").succeeded();
    assert!(
        page.contains("cascade      none: every record gets all views"),
        "{page}"
    );
    fs::write(
        rig.path("train.toml"),
        format!("{config}[cascade]\nshare = 0.6\n"),
    )
    .expect("it");
    let line = "train --data payments.parquet --schema schema.toml --config train.toml --out other";
    let refused = rig.run(line).failed(64);
    assert!(
        refused.contains("cascade.share = 0.6: must be within 0..=0.5"),
        "{refused}"
    );
}

#[test]
fn a_file_cut_in_pieces_has_the_scores_of_the_whole() {
    let rig = trained();
    let (whole, rows) = (
        rig.score("payments.parquet"),
        read(&rig.path("payments.parquet")),
    );
    for (first, count) in [(0, 1), (1, 700), (PAYMENTS - 37, 37)] {
        write(&rig.path("piece.parquet"), &rows.slice(first, count));
        let piece = rig.score("piece.parquet");
        let expected = whole.slice(first, count);
        assert_eq!(scores(&piece), scores(&expected));
        assert_eq!(p_values(&piece), p_values(&expected));
        assert_eq!(alerts(&piece), alerts(&expected));
    }
}
