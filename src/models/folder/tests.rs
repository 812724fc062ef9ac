//! The folder with real bundles: what moves which pointer, what is refused, and what a process leaves that is killed in between.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::OnceLock;

use tempfile::TempDir;

use super::*;
use crate::generate::{Generator, GeneratorConfig, write_parquet};
use crate::recipe::{Recipe, TrainConfig, learn};
use crate::records::ParquetSource;
use crate::schema::Schema;
use crate::train::Unobserved;

/// Three bundles that differ by their seeds, made once.
fn bundles() -> &'static [PathBuf] {
    static MADE: OnceLock<(TempDir, Vec<PathBuf>)> = OnceLock::new();
    let (_, bundles) = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("payments.parquet");
        let mut generator = Generator::new(&GeneratorConfig::default()).unwrap();
        write_parquet(&mut generator, 600, &data, |_| {}).unwrap();
        let text = include_str!("../../../schemas/payments.toml");
        let mut config = TrainConfig::default();
        (
            config.training.steps,
            config.model.width,
            config.model.blocks,
        ) = (2, 8, 1);
        let bundle = |seed| {
            let out = folder.path().join(format!("bundle-{seed}"));
            let recipe = Recipe {
                source: &ParquetSource::open(&[data.display().to_string()]).unwrap(),
                schema: &Schema::parse(text, "schemas/payments.toml").unwrap(),
                config: &config,
                seed,
                exclude_labelled: false,
                from: None,
                out: &out,
            };
            learn(&recipe, &mut Unobserved).unwrap();
            out
        };
        let bundles = (0..3).map(bundle).collect();
        (folder, bundles)
    });
    bundles
}

fn ada() -> Actor {
    Actor {
        by: "ada".to_owned(),
        note: Some("a test".to_owned()),
    }
}

/// A models folder with all three, none of them pointed at.
fn folder() -> (TempDir, ModelsFolder, Vec<ModelId>) {
    let parent = tempfile::tempdir().unwrap();
    let folder = ModelsFolder::create(&parent.path().join("models")).unwrap();
    let ids = bundles()
        .iter()
        .map(|bundle| folder.add(bundle, &ada()).unwrap())
        .collect();
    (parent, folder, ids)
}

fn names(folder: &ModelsFolder) -> Vec<String> {
    let mut names: Vec<String> = read_folder(folder.dir())
        .unwrap()
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn pointers_move_and_the_log_says_who_moved_them_and_why() {
    let (_parent, folder, ids) = folder();
    let [a, b, c] = [&ids[0], &ids[1], &ids[2]];
    assert_eq!(folder.champion().unwrap(), None);
    folder.promote(a, &ada()).unwrap();
    folder.challenge(b, &ada()).unwrap();
    assert_eq!(folder.challenger().unwrap().as_ref(), Some(b));
    let exchange = folder.promote(b, &ada()).unwrap();
    assert_eq!(
        (exchange.from.as_ref(), exchange.to.as_ref()),
        (Some(a), Some(b))
    );
    assert_eq!(
        folder.challenger().unwrap(),
        None,
        "it has become the champion"
    );
    folder.promote(c, &ada()).unwrap();
    assert!(!folder.promote(c, &ada()).unwrap().is_change());
    for back in [b, a] {
        assert_eq!(folder.rollback(&ada()).unwrap().to.as_ref(), Some(back));
        assert_eq!(folder.champion().unwrap().as_ref(), Some(back));
    }
    let error = folder.rollback(&ada()).unwrap_err();
    assert!(
        matches!(error, ModelsError::NothingBefore { .. }),
        "{error}"
    );

    let log = folder.journal().unwrap();
    let told: Vec<Change> = log.iter().map(|entry| entry.what).collect();
    use Change::{Added, Challenged, Promoted, RolledBack};
    let expected = [
        Added, Added, Added, Promoted, Challenged, Promoted, Promoted, RolledBack, RolledBack,
    ];
    assert_eq!(told, expected);
    for entry in &log {
        assert_eq!(
            (entry.by.as_str(), entry.note.as_deref()),
            ("ada", Some("a test"))
        );
        assert!(chrono::DateTime::parse_from_rfc3339(&entry.when).is_ok());
    }
    let expected = [&ids[0], &ids[1], &ids[2]].map(ModelId::to_string);
    let mut expected: Vec<String> = expected.to_vec();
    expected.extend([".lock", CHAMPION, JOURNAL].map(str::to_owned));
    expected.sort();
    assert_eq!(names(&folder), expected, "nothing temporary is left");
}

#[test]
fn the_champion_is_neither_retired_nor_challenged_and_a_retired_model_serves_no_more() {
    let (_parent, folder, ids) = folder();
    let [a, b, c] = [&ids[0], &ids[1], &ids[2]];
    folder.promote(a, &ada()).unwrap();
    for error in [
        folder.retire(a, true, &ada()).unwrap_err(),
        folder.challenge(a, &ada()).unwrap_err(),
    ] {
        assert!(matches!(error, ModelsError::IsChampion { .. }), "{error}");
    }
    folder.challenge(b, &ada()).unwrap();
    folder.retire(b, false, &ada()).unwrap();
    assert_eq!(folder.challenger().unwrap(), None);
    assert!(folder.bundle(b).join(MANIFEST).exists(), "its bundle stays");
    let listing = folder.list().unwrap();
    let standing = |id| {
        listing
            .models
            .iter()
            .find(|of| &of.id == id)
            .unwrap()
            .standing
    };
    assert_eq!(
        [a, b, c].map(standing),
        [Standing::Champion, Standing::Retired, Standing::Kept]
    );
    let error = folder.promote(b, &ada()).unwrap_err();
    assert!(matches!(error, ModelsError::Retired { .. }), "{error}");
    // It comes back as any other bundle comes in.
    folder.add(&folder.bundle(b), &ada()).unwrap();
    folder.promote(b, &ada()).unwrap();
    folder.retire(a, true, &ada()).unwrap();
    assert!(!folder.bundle(a).exists(), "it was to be deleted");
    let error = folder.rollback(&ada()).unwrap_err();
    assert!(matches!(error, ModelsError::Retired { .. }), "{error}");
}

#[test]
fn a_bundle_that_is_not_whole_is_never_pointed_at() {
    let (_parent, folder, ids) = folder();
    folder.promote(&ids[0], &ada()).unwrap();
    let weights = folder.bundle(&ids[1]).join(bundle::WEIGHTS);
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    for error in [
        folder.promote(&ids[1], &ada()).unwrap_err(),
        folder.challenge(&ids[1], &ada()).unwrap_err(),
        folder.add(&folder.bundle(&ids[1]), &ada()).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(matches!(error, ModelsError::Bundle(_)), "{text}");
        assert!(text.contains(bundle::WEIGHTS), "{text}");
    }
    assert_eq!(folder.champion().unwrap().as_ref(), Some(&ids[0]));
    // A sound copy mends it.
    folder.add(&bundles()[1], &ada()).unwrap();
    folder.promote(&ids[1], &ada()).unwrap();
    // A folder that has the name of another model.
    fs::rename(folder.bundle(&ids[0]), folder.dir().join("0".repeat(16))).unwrap();
    let error = folder.promote(&folder.find(&"0".repeat(16)).unwrap(), &ada());
    assert!(
        matches!(error, Err(ModelsError::OtherName { .. })),
        "{error:?}"
    );
}

#[test]
fn a_process_that_is_killed_between_two_steps_leaves_the_old_pointer_or_the_new_one() {
    let (_parent, folder, ids) = folder();
    let [a, b, c] = [&ids[0], &ids[1], &ids[2]];
    folder.promote(a, &ada()).unwrap();
    folder.promote(b, &ada()).unwrap();
    folder.challenge(c, &ada()).unwrap();
    // Killed after the log and before the pointer: the old one, and nothing of the change is remembered.
    let entry = Entry::now(&ada(), Change::Promoted, Some(b.clone()), Some(c.clone()));
    journal::append(folder.dir(), &entry).unwrap();
    assert_eq!(folder.champion().unwrap().as_ref(), Some(b));
    assert_eq!(folder.rollback(&ada()).unwrap().to.as_ref(), Some(a));
    // Killed within the log: as if it had not begun.
    let path = folder.dir().join(JOURNAL);
    let mut log = fs::read(&path).unwrap();
    log.extend_from_slice(b"{\"when\":\"2026-01-01T00:00:00.000Z\",\"by\":\"a");
    fs::write(&path, log).unwrap();
    // Killed while the new pointer was written: its temporary file is nobody's.
    fs::write(folder.dir().join(".maskwatch-x.tmp"), "0123").unwrap();
    assert_eq!(folder.champion().unwrap().as_ref(), Some(a));
    // Killed between the pointers: the challenger has become the champion, and is no challenger.
    let entry = Entry::now(&ada(), Change::Promoted, Some(a.clone()), Some(c.clone()));
    journal::append(folder.dir(), &entry).unwrap();
    folder.point(CHAMPION, c).unwrap();
    assert_eq!(folder.challenger().unwrap(), None);
    assert_eq!(folder.rollback(&ada()).unwrap().to.as_ref(), Some(a));
    let told: Vec<Change> = folder.journal().unwrap().iter().map(|of| of.what).collect();
    assert_eq!(
        told.iter().filter(|what| **what == Change::NotDone).count(),
        1
    );
}

#[test]
fn programs_that_change_the_folder_at_once_do_so_one_after_the_other() {
    let (_parent, folder, ids) = folder();
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (folder, ids) = (&folder, &ids);
            scope.spawn(move || {
                for step in 0..3 {
                    folder.promote(&ids[(number + step) % 3], &ada()).unwrap();
                }
            });
        }
    });
    let mut champion = None;
    for entry in folder.journal().unwrap() {
        if entry.what == Change::Added {
            continue;
        }
        assert_eq!(entry.what, Change::Promoted);
        assert_eq!(entry.from, champion, "it knew of the one before");
        champion = entry.to;
    }
    assert_eq!(folder.champion().unwrap(), champion);
}

#[test]
fn who_holds_the_folder_for_too_long_is_told_of_and_readers_do_not_wait() {
    let (_parent, folder, ids) = folder();
    let held = folder.hold().unwrap();
    let error = folder.hold_within(Duration::from_millis(50)).map(drop);
    let error = error.unwrap_err();
    assert!(matches!(error, ModelsError::Busy { .. }), "{error}");
    assert_eq!(folder.list().unwrap().models.len(), 3);
    drop(held);
    folder.promote(&ids[0], &ada()).unwrap();
}

#[test]
fn a_model_is_found_by_its_beginning_or_by_its_pointer() {
    let (_parent, folder, ids) = folder();
    folder.promote(&ids[1], &ada()).unwrap();
    assert_eq!(&folder.find(CHAMPION).unwrap(), &ids[1]);
    assert_eq!(&folder.find(&ids[2].as_str()[..12]).unwrap(), &ids[2]);
    for asked in ["", "abc", "../x", CHALLENGER, "ffffffffffffffff"] {
        let error = folder.find(asked).unwrap_err().to_string();
        assert!(error.contains("models"), "{error}");
    }
}

#[test]
fn only_a_folder_of_models_becomes_one() {
    let parent = tempfile::tempdir().unwrap();
    let of = |name: &str| parent.path().join(name);
    // Bundles that `train --out` made there.
    fs::create_dir_all(of("mine/first")).unwrap();
    fs::write(of("mine/first").join(MANIFEST), "{}").unwrap();
    assert!(ModelsFolder::create(&of("mine")).is_ok());
    fs::write(of("mine/letter.txt"), "").unwrap();
    for path in [of("mine"), of("mine/first")] {
        let error = ModelsFolder::create(&path).unwrap_err();
        assert!(matches!(error, ModelsError::NoFolder { .. }), "{error}");
    }
    assert!(ModelsFolder::open(&of("absent")).is_err());
    fs::create_dir(of("odd")).unwrap();
    fs::write(of("odd").join(CHAMPION), "../../etc/passwd\n").unwrap();
    let error = ModelsFolder::open(&of("odd")).unwrap().champion();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("champion: \"../../etc/passwd\""), "{error}");
}
