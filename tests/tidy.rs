//! Keeps of the plan of the house what borders of crates cannot: which room may use which, where a library may be named, and
//! how long a file or a function may get.
//!
//! In: every `.rs` file of `src`, `crates`, `tests` and `benches`, as rustfmt leaves them. Out: one list of all faults, each
//! with file and line. Lines are read, not parsed: a comment has a line of its own, and a function ends with the first brace
//! that stands as far left as it began.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of source and their rooms in the order in which data flows. A room may use those of the groups before its own;
/// those of one group do not know each other.
const HOUSES: [(&str, &[&str]); 3] = [
    (
        "crates/core/src/",
        &[
            "durable rng toml_file",
            "schema",
            "records",
            "encode",
            "model",
            "score",
            "bundle",
            "detector",
            "first_records monitor",
        ],
    ),
    (
        "crates/learn/src/",
        &["settings", "transfer train", "evaluate", "tune", "recipe"],
    ),
    (
        "src/",
        &[
            "models telemetry",
            "pipeline",
            "delivery",
            "kafka",
            "http",
            "config",
            "cli",
        ],
    ),
];

/// Libraries that only some places of the daemon may name.
const FENCES: [(&str, &[&str]); 4] = [
    ("rdkafka", &["src/kafka/"]),
    ("prometheus", &["src/telemetry/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("anyhow", &["src/cli/", "src/main.rs"]),
];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_house_is_tidy() {
    let files = sources(&["src", "crates", "tests", "benches"]);
    assert!(files.len() > 300, "only {} files found", files.len());
    let faults = files.iter().flat_map(|(path, text)| faults_of(path, text));
    let faults: Vec<String> = faults.collect();
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

/// Two draws from one stream are the same numbers, so that what one leaves to chance is known to the other.
#[test]
fn no_two_draws_of_the_product_share_a_random_stream() {
    let mut draws: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources(&[
        "src",
        "crates/core/src",
        "crates/generate",
        "crates/learn/src",
    ]) {
        if !path.ends_with("tests.rs") && path != "crates/core/src/rng.rs" {
            for (line, purpose) in draws_of(&text) {
                draws
                    .entry(purpose)
                    .or_default()
                    .push(format!("{path}:{line}"));
            }
        }
    }
    assert!(draws.len() > 15, "only {} purposes found", draws.len());
    draws.retain(|_, places| places.len() > 1);
    assert!(draws.is_empty(), "{draws:#?}");
}

/// All `.rs` files below folders of the project, with their paths from its root, in a fixed order. Folders named `target` hold
/// what was built.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("target") {
            let entries = fs::read_dir(&path).expect("a readable folder");
            open.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable file");
            let below = path.strip_prefix(root).expect("a file below the root");
            found.push((below.to_str().expect("a UTF-8 path").to_owned(), text));
        }
    }
    found.sort();
    found
}

/// Every fault of one file, given by its path from the root.
fn faults_of(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut report = |line: usize, what: String| faults.push(format!("{path}:{line}: {what}"));
    if !text.starts_with("//!") {
        report(1, "does not open with `//!`".to_owned());
    }
    let count = text.lines().count();
    if count > FILE_LINES_MAX {
        report(1, format!("{count} lines, more than {FILE_LINES_MAX}"));
    }
    for name in path.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&name) {
            report(1, format!("`{name}` says nothing about what it holds"));
        }
    }
    for (line, name, lines) in functions(text) {
        if lines > FUNCTION_LINES_MAX {
            let limit = FUNCTION_LINES_MAX;
            report(
                line,
                format!("function `{name}` has {lines} lines, over {limit}"),
            );
        }
    }
    let code = without_comments(text);
    if let Some((folder, house)) = HOUSES.iter().find(|(folder, _)| path.starts_with(folder)) {
        layering_faults(house, &path[folder.len()..], &code, &mut report);
    }
    for (name, places) in FENCES {
        let is_inside = places.iter().any(|place| path.starts_with(place));
        if path.starts_with("src/") && !is_inside {
            for at in words(&code, name).filter(|&at| names_a_crate(&code, at, name)) {
                let places = places.join(", ");
                report(
                    line_of(&code, at),
                    format!("`{name}` may be named only in {places}"),
                );
            }
        }
    }
    faults
}

fn layering_faults(
    house: &[&str],
    below: &str,
    code: &str,
    report: &mut impl FnMut(usize, String),
) {
    let place_of = |room: &str| {
        let mut groups = house.iter();
        groups.position(|group| group.split(' ').any(|of| of == room))
    };
    let room = below
        .split('/')
        .next()
        .unwrap_or(below)
        .trim_end_matches(".rs");
    if room == "lib" || room == "main" {
        return;
    }
    let Some(place) = place_of(room) else {
        return report(
            1,
            format!("`{room}` has no place in the plan (HOUSES in tests/tidy.rs)"),
        );
    };
    for at in words(code, "crate") {
        let Some(rest) = code[at..].strip_prefix("crate::") else {
            continue;
        };
        // `crate::{a, b::{c}}` names several: all of its words are looked at.
        let names = match rest.strip_prefix('{') {
            Some(group) => group.split(';').next().unwrap_or(group),
            None => &rest[..rest.find(|c| !is_name_char(c)).unwrap_or(rest.len())],
        };
        for used in names
            .split(|c| !is_name_char(c))
            .filter(|used| *used != room)
        {
            if place_of(used).is_some_and(|other| other >= place) {
                report(line_of(code, at), format!("`{room}` may not use `{used}`"));
            }
        }
    }
}

/// Whether the word at `at` is a crate: it begins a path, or is what a `use` begins with.
fn names_a_crate(code: &str, at: usize, name: &str) -> bool {
    let (before, after) = (&code[..at], &code[at + name.len()..]);
    let is_inside_a_path = before
        .strip_suffix("::")
        .is_some_and(|rest| rest.ends_with(is_name_char));
    !is_inside_a_path && (after.starts_with("::") || before.trim_end().ends_with("use"))
}

/// Line, name and length of every function with a body; attributes and documentation do not count.
fn functions(text: &str) -> Vec<(usize, &str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (begin, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let words = code.split(' ').skip_while(|word| {
            word.starts_with("pub")
                || ["const", "async", "unsafe", "extern", "\"C\""].contains(word)
        });
        let [Some("fn"), Some(name)] = [0, 1].map(|skipped| words.clone().nth(skipped)) else {
            continue;
        };
        let name = name.split(|c| !is_name_char(c)).next().unwrap_or(name);
        let ends = |line: &&str| {
            let rest = line.strip_prefix(indent).unwrap_or_default();
            rest == "}" || (rest.ends_with(';') && !rest.starts_with(' ')) || rest.ends_with("{}")
        };
        if let Some(end) = lines[begin..].iter().position(ends) {
            found.push((begin + 1, name, end + 1));
        }
    }
    found
}

/// Line and purpose of every draw of a file, without those of the tests at its end.
fn draws_of(text: &str) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let product = code.split("\nmod tests {").next().unwrap_or(&code);
    let named = product.match_indices("Purpose::").map(|(at, path)| {
        let rest = &product[at + path.len()..];
        let purpose = rest.split(|c| !is_name_char(c)).next().unwrap_or(rest);
        (line_of(product, at), purpose.to_owned())
    });
    named.collect()
}

/// The same lines, those empty that hold nothing but a comment.
fn without_comments(text: &str) -> String {
    let code = text
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line,
        });
    code.collect::<Vec<_>>().join("\n")
}

/// Every position of a name that is no part of a longer one.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_whole = move |at: &usize| {
        !code[..*at].ends_with(is_name_char) && !code[at + name.len()..].starts_with(is_name_char)
    };
    code.match_indices(name).map(|(at, _)| at).filter(is_whole)
}

fn is_name_char(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

mod the_scanner {
    //! That the scanner finds what it should, and leaves alone what it should.
    use super::{draws_of, faults_of};

    fn faults(path: &str, code: &str) -> Vec<String> {
        faults_of(path, &format!("//! A file.\n{code}"))
    }

    #[test]
    fn a_file_that_is_long_or_has_no_opening_or_an_empty_name_is_found() {
        let found = faults_of("tests/utils.rs", &"\n".repeat(801));
        assert!(found[0].ends_with("does not open with `//!`"), "{found:?}");
        assert!(found[1].ends_with("801 lines, more than 800"), "{found:?}");
        assert!(
            found[2].ends_with("`utils` says nothing about what it holds"),
            "{found:?}"
        );
        assert_eq!(faults("tests/a.rs", &"\n".repeat(799)), [""; 0]);
    }

    #[test]
    fn a_use_against_the_flow_is_found_with_its_line() {
        let path = "crates/core/src/records/json.rs";
        let upwards = [format!("{path}:3: `records` may not use `model`")];
        for code in [
            "\nuse crate::model::Loss;",
            "\nfn f() { crate::model::g() }",
        ] {
            assert_eq!(faults(path, code), upwards);
        }
        let path = "crates/core/src/model/mask.rs";
        let innocent = "use crate::encode::Records;\nuse crate::model::Loss;\n// crate::score\n";
        assert_eq!(faults(path, innocent), [""; 0]);
        let group = "use crate::{\n    rng::{self, detector},\n    bundle,\n};";
        assert_eq!(faults("crates/core/src/score/scorer.rs", group).len(), 2);
        let found = faults("src/stream/a.rs", "");
        assert!(
            found[0].contains("`stream` has no place in the plan"),
            "{found:?}"
        );
    }

    #[test]
    fn neighbours_do_not_know_each_other() {
        let count = |path, code| faults(path, code).len();
        assert_eq!(
            count("crates/learn/src/train/a.rs", "use crate::transfer::T;"),
            1
        );
        assert_eq!(count("crates/core/src/rng.rs", "use crate::schema::S;"), 1);
        let recipe = "crates/learn/src/recipe/a.rs";
        assert_eq!(
            count(recipe, "use crate::train::T;\nuse crate::evaluate::E;"),
            0
        );
    }

    #[test]
    fn a_fenced_crate_is_found_outside_its_fence_only() {
        let named = "use rdkafka::config::ClientConfig;\nfn f() -> anyhow::Result<()> {}";
        for (path, count) in [
            ("src/delivery/session.rs", 2),
            ("src/kafka/source.rs", 1),
            ("src/cli/serve.rs", 1),
            ("tests/integration/a.rs", 0),
        ] {
            assert_eq!(faults(path, named).len(), count, "{path}");
        }
        let innocent = "mod prometheus;\nuse crate::telemetry::prometheus::A;\nfn clap() {}\n\
                        let x = config.rdkafka; let y = my_anyhow::z();";
        assert_eq!(faults("src/http/a.rs", innocent), [""; 0]);
    }

    #[test]
    fn a_long_function_is_found_and_one_at_the_limit_is_not() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    x;\n".repeat(lines));
        assert_eq!(faults("tests/a.rs", &function(68)), [""; 0]);
        let found = faults("tests/a.rs", &function(69));
        assert_eq!(found, ["tests/a.rs:2: function `f` has 71 lines, over 70"]);
        let method = function(69).replace("\n", "\n    ");
        let found = faults(
            "tests/a.rs",
            &format!("impl A {{\n    pub(crate) async {method}}}\n"),
        );
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_declaration_ends_where_it_ends() {
        let between = "    x;\n".repeat(100);
        let declared = "trait T {\n    fn f(\n        a: [u8; 2],\n    ) -> u8;\n}\n";
        let after = format!("{declared}type F = fn(usize);\nfn e() {{}}\nmod m {{\n{between}}}\n");
        assert_eq!(faults("tests/a.rs", &after), [""; 0]);
    }

    #[test]
    fn draws_are_found_outside_tests_only() {
        let code = "fn f() { stream(1, Purpose::Masks); }\nmod tests {\n Purpose::Views }";
        assert_eq!(draws_of(code), [(1, "Masks".to_owned())]);
    }
}
