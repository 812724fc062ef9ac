//! Keeps of the plan of the house what borders of crates cannot: which module of a crate may use which, which library may
//! be named where, and how long a file or a function may get.
//!
//! In: every `.rs` file of `src`, `crates`, `tests` and `benches`. Out: one list of all faults, each with file
//! and line. The source is only scanned, not parsed: comments and the insides of literals are
//! blanked out first, after which names, braces and paths can be found by looking at the text.
//! Invariant: blanking keeps every line break and every byte position.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Folders of source and their top-level modules in the order in which data flows. A module may use those of the groups
/// before its own; those of one group do not know each other.
const HOUSES: [(&str, &[&[&str]]); 3] = [
    (
        "crates/core/src/",
        &[
            &["durable", "rng", "schema"],
            &["records"],
            &["encode"],
            &["model"],
            &["score"],
            &["bundle"],
            &["detector"],
            &["first_records"],
        ],
    ),
    (
        "crates/learn/src/",
        &[
            &["transfer", "train"],
            &["evaluate"],
            &["tune"],
            &["recipe"],
        ],
    ),
    (
        "src/",
        &[
            &["telemetry"],
            &["pipeline"],
            &["delivery"],
            &["kafka"],
            &["http"],
            &["config"],
            &["cli"],
        ],
    ),
];

/// Libraries that only some places of the daemon may name. The other crates do not depend on them.
const FENCES: [(&str, &[&str]); 5] = [
    ("rdkafka", &["src/kafka"]),
    ("prometheus", &["src/telemetry"]),
    ("clap", &["src/cli", "src/main"]),
    ("anyhow", &["src/cli", "src/main"]),
    (
        "tokio",
        &[
            "src/pipeline",
            "src/delivery",
            "src/kafka",
            "src/http",
            "src/cli",
        ],
    ),
];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "helpers", "helper", "common", "misc"];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates", "tests", "benches"] {
        rust_files(&root.join(folder), &mut files);
    }
    assert!(
        files.len() > 3,
        "only {} files found below {}",
        files.len(),
        root.display()
    );
    let mut faults = Vec::new();
    for file in &files {
        let path = file.strip_prefix(root).expect("a file below the root");
        let text = fs::read_to_string(file).expect("a readable source file");
        faults.extend(faults_of(path.to_str().expect("a UTF-8 path"), &text));
    }
    let list: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(
        list.is_empty(),
        "{} faults:\n{}",
        list.len(),
        list.join("\n")
    );
}

/// Files of the product that only tests use, beside those named `tests.rs`.
const TEST_FILES: [&str; 4] = [
    "records/agreement.rs",
    "comparison.rs",
    "forged.rs",
    "testing.rs",
];

/// Two draws from one stream are the same numbers, so that what one leaves to chance is known to the other.
#[test]
fn no_two_draws_of_the_product_share_a_random_stream() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "crates/core", "crates/generate", "crates/learn"] {
        rust_files(&root.join(folder), &mut files);
    }
    let mut draws: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in &files {
        let path = file.strip_prefix(root).expect("a file below the root");
        let path = path.to_str().expect("a UTF-8 path");
        let only_tests =
            path.ends_with("tests.rs") || TEST_FILES.iter().any(|of| path.ends_with(of));
        if only_tests || path == "crates/core/src/rng.rs" {
            continue;
        }
        let code = blank_comments_and_literals(&fs::read_to_string(file).expect("a source file"));
        for (at, purpose) in draws_of(&code) {
            let place = format!("{path}:{}", line_of(&code, at));
            draws.entry(purpose.to_owned()).or_default().push(place);
        }
    }
    assert!(draws.len() > 15, "only {} purposes found", draws.len());
    draws.retain(|_, places| places.len() > 1);
    assert!(draws.is_empty(), "{draws:#?}");
}

/// Position and purpose of every draw of a file, without those of the tests at its end.
fn draws_of(code: &str) -> Vec<(usize, &str)> {
    let product = code.split("\nmod tests {").next().unwrap_or(code);
    let named = words(product, "Purpose").filter(|&at| product[at..].starts_with("Purpose::"));
    named
        .map(|at| (at, name_at(product, at + "Purpose::".len())))
        .collect()
}

#[test]
fn draws_are_found_outside_tests_only() {
    let code = "fn f() { stream(1, Purpose::Masks); }\nmod tests {\n Purpose::Views }";
    let found: Vec<&str> = draws_of(code).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["Masks"]);
}

/// One departure from the plan.
#[derive(Debug, PartialEq)]
struct Fault {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// All `.rs` files below a folder, in a fixed order; none where the folder does not exist. Folders
/// named `target` hold what was built.
fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every fault of one file, given by its path from the root.
fn faults_of(path: &str, text: &str) -> Vec<Fault> {
    let code = blank_comments_and_literals(text);
    let mut faults = Vec::new();
    let mut report = |at: usize, what: String| {
        faults.push(Fault {
            file: path.to_owned(),
            line: line_of(text, at),
            what,
        });
    };
    if !text.starts_with("//!") {
        report(0, "does not open with `//!`".to_owned());
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        report(0, format!("{lines} lines, more than {FILE_LINES_MAX}"));
    }
    for part in path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| EMPTY_NAMES.contains(part))
    {
        report(0, format!("`{part}` says nothing about what it holds"));
    }
    for (at, name, lines) in functions(&code) {
        if lines > FUNCTION_LINES_MAX {
            report(
                at,
                format!("function `{name}` has {lines} lines, over {FUNCTION_LINES_MAX}"),
            );
        }
    }
    if let Some((folder, house)) = HOUSES.iter().find(|(folder, _)| path.starts_with(folder)) {
        layering_faults(house, &path[folder.len()..], &code, &mut report);
    }
    if path.starts_with("src/") {
        fence_faults(path, &code, &mut report);
    }
    faults
}

/// The top-level module that a file belongs to, by its path in the source folder: `train/trainer.rs` -> `train`.
fn module_of(below: &str) -> &str {
    below
        .split('/')
        .next()
        .unwrap_or(below)
        .trim_end_matches(".rs")
}

fn layering_faults(
    house: &[&[&str]],
    below: &str,
    code: &str,
    report: &mut impl FnMut(usize, String),
) {
    // The group that a module stands in.
    let place_of = |module: &str| house.iter().position(|group| group.contains(&module));
    let module = module_of(below);
    if module == "lib" || module == "main" {
        return;
    }
    let Some(place) = place_of(module) else {
        report(
            0,
            format!("`{module}` has no place in the plan (see HOUSES in tests/tidy.rs)"),
        );
        return;
    };
    for (at, used) in crate_paths(code) {
        let forbidden = place_of(used).is_some_and(|other| used != module && other >= place);
        if forbidden {
            report(at, format!("`{module}` may not use `{used}`"));
        }
    }
}

fn fence_faults(path: &str, code: &str, report: &mut impl FnMut(usize, String)) {
    for (name, places) in FENCES {
        let allowed = places.iter().any(|place| {
            path.strip_prefix(place)
                .is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
        });
        if allowed {
            continue;
        }
        for at in words(code, name).filter(|&at| names_a_crate(code, at, name.len())) {
            report(
                at,
                format!("`{name}` may be named only in {}", places.join(", ")),
            );
        }
    }
}

/// Whether the word at `at` is a crate: it begins a path, or is what a `use` begins with.
fn names_a_crate(code: &str, at: usize, length: usize) -> bool {
    let before = code[..at].trim_end();
    let begins_a_path = code[at + length..].trim_start().starts_with("::");
    // A leading `::` belongs to the crate's own path only where nothing stands before it.
    let inside_a_path = before
        .strip_suffix("::")
        .is_some_and(|rest| rest.ends_with(is_name_char));
    let used = before.ends_with("use") || before.ends_with("extern crate");
    !inside_a_path && !before.ends_with('.') && (begins_a_path || used)
}

/// The first names of all `crate::...` paths with their positions, those in groups among them:
/// `crate::{a, b::{c, d}}` gives `a` and `b`.
fn crate_paths(code: &str) -> Vec<(usize, &str)> {
    let mut paths = Vec::new();
    for at in words(code, "crate") {
        let after = at + "crate".len();
        let Some(rest) = code[after..].strip_prefix("::") else {
            continue;
        };
        let start = after + "::".len();
        if rest.starts_with('{') {
            for item in group_items(code, start) {
                paths.push((item, name_at(code, item)));
            }
        } else {
            paths.push((start, name_at(code, start)));
        }
    }
    paths
}

/// Where the items of the brace group that opens at `open` begin, without those nested deeper.
fn group_items(code: &str, open: usize) -> Vec<usize> {
    let mut items = Vec::new();
    let mut depth = 0;
    let mut expected = false;
    for (offset, character) in code[open..].char_indices() {
        match character {
            '{' => {
                depth += 1;
                expected = depth == 1;
            }
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => expected = true,
            _ if expected && is_name_char(character) => {
                items.push(open + offset);
                expected = false;
            }
            _ => {}
        }
    }
    items
}

/// Position, name and length in lines of every function with a body, nested ones and those of
/// traits included; attributes and documentation do not count.
fn functions(code: &str) -> Vec<(usize, &str, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name_start = at + code[at..].find(char::is_whitespace).unwrap_or(0);
        let name_start =
            name_start + code[name_start..].len() - code[name_start..].trim_start().len();
        let name = name_at(code, name_start);
        // A function pointer's type, as `fn(usize) -> f32`, has no name.
        if let Some(body) = body_after(code, name_start).filter(|_| !name.is_empty()) {
            let lines = code[at..body.end].matches('\n').count() + 1;
            found.push((at, name, lines));
        }
    }
    found
}

/// The braces of the function whose signature begins at `start`; `None` where a `;` ends it.
fn body_after(code: &str, start: usize) -> Option<Range<usize>> {
    let mut depth = 0_i32;
    let mut open = None;
    for (offset, character) in code[start..].char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ';' if depth == 0 => return None,
            '{' => {
                open = open.or(Some(start + offset));
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return open.map(|open| open..start + offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Every position of a name that is no part of a longer one.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(name)
        .map(|(at, _)| at)
        .filter(move |&at| {
            !code[..at].ends_with(is_name_char)
                && !code[at + name.len()..].starts_with(is_name_char)
        })
}

fn name_at(code: &str, at: usize) -> &str {
    let rest = &code[at..];
    &rest[..rest
        .find(|character| !is_name_char(character))
        .unwrap_or(rest.len())]
}

fn is_name_char(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The source with comments and the insides of string and character literals as spaces.
fn blank_comments_and_literals(text: &str) -> String {
    let mut code = text.as_bytes().to_vec();
    let mut at = 0;
    while at < code.len() {
        let end = match blank_span(text.as_bytes(), at) {
            Some(span) => {
                for byte in &mut code[span.clone()] {
                    *byte = if *byte == b'\n' { b'\n' } else { b' ' };
                }
                span.end
            }
            None => at,
        };
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole literals and comments were blanked")
}

/// The comment or literal that begins at `at`, quotes included.
fn blank_span(text: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = &text[at..];
    let inside_a_name = at > 0 && (text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
    let length = match rest {
        [b'/', b'/', ..] => rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_length(rest),
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'r', b'"' | b'#', ..] if !inside_a_name => raw_string_length(rest)?,
        [b'b', b'r', b'"' | b'#', ..] if !inside_a_name => 1 + raw_string_length(&rest[1..])?,
        // A character, not a lifetime: its closing quote follows one character or one escape.
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        [b'\'', first, ..] => {
            let width = utf8_width(*first);
            (rest.get(1 + width) == Some(&b'\'')).then_some(2 + width)?
        }
        _ => return None,
    };
    Some(at..at + length)
}

/// Block comments nest.
fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"..."` or `r#"..."#`; `None` for a raw name, as `r#type`.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let start = 2 + hashes;
    let found = rest[start..]
        .windows(close.len())
        .position(|window| window == close);
    Some(found.map_or(rest.len(), |at| start + at + close.len()))
}

fn utf8_width(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

mod the_scanner {
    //! That the scanner finds what it should, and leaves alone what it should.
    use super::faults_of;

    fn faults(path: &str, code: &str) -> Vec<String> {
        let found = faults_of(path, &format!("//! A file.\n{code}"));
        found
            .iter()
            .map(|fault| format!("{}: {}", fault.line, fault.what))
            .collect()
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        let found = faults_of("tests/a.rs", "use std::fmt;\n");
        assert_eq!(
            found[0].to_string(),
            "tests/a.rs:1: does not open with `//!`"
        );
    }

    #[test]
    fn a_use_against_the_flow_is_found_with_its_line() {
        let upwards = ["3: `records` may not use `model`"];
        assert_eq!(
            faults(
                "crates/core/src/records/json.rs",
                "\nuse crate::model::Loss;"
            ),
            upwards
        );
        assert_eq!(
            faults(
                "crates/core/src/records.rs",
                "\nfn f() { crate::model::g() }"
            ),
            upwards
        );
        assert_eq!(
            faults(
                "crates/core/src/model/mask.rs",
                "use crate::encode::Records;"
            ),
            [""; 0]
        );
        assert_eq!(
            faults("crates/core/src/model/mask.rs", "use crate::model::Loss;"),
            [""; 0]
        );
    }

    #[test]
    fn every_item_of_a_group_is_looked_at_where_it_stands() {
        let group =
            "use crate::{\n    rng::{self, detector},\n    bundle,\n    detector::args,\n};";
        let expected = [
            "4: `score` may not use `bundle`",
            "5: `score` may not use `detector`",
        ];
        assert_eq!(faults("crates/core/src/score/scorer.rs", group), expected);
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
        assert_eq!(count(recipe, "use crate::train::T;"), 0);
        assert_eq!(count(recipe, "use crate::evaluate::E;"), 0);
    }

    #[test]
    fn a_module_without_a_place_is_found() {
        let found = faults("src/misc/a.rs", "");
        assert!(found[0].contains("`misc` says nothing"), "{found:?}");
        assert!(
            found[1].contains("`misc` has no place in the plan"),
            "{found:?}"
        );
    }

    #[test]
    fn a_fenced_crate_is_found_outside_its_fence_only() {
        let named = "use rdkafka::config::ClientConfig;\nfn f() -> ::tokio::time::Instant {}";
        assert_eq!(faults("src/delivery/worker.rs", named).len(), 1);
        assert_eq!(faults("src/config/mod.rs", named).len(), 2);
        assert_eq!(faults("src/kafka/source.rs", named).len(), 0);
        assert_eq!(faults("src/kafka/mod.rs", named).len(), 0);
        assert_eq!(faults("src/delivery/kafka_like.rs", named).len(), 1);
        assert_eq!(faults("tests/integration/a.rs", named).len(), 0);
        assert_eq!(
            faults("src/config/mod.rs", "#[tokio::main]\nfn f() {}").len(),
            1
        );
        assert_eq!(faults("src/config/mod.rs", "use anyhow as a;").len(), 1);
    }

    #[test]
    fn a_name_that_is_no_crate_passes() {
        let innocent = "mod prometheus;\nuse crate::telemetry::prometheus::A;\nfn tokio() {}\n\
                        let x = config.rdkafka; let y = my_tokio::z();";
        assert_eq!(faults("src/http/a.rs", innocent), [""; 0]);
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let quoted = "// use crate::cli;\n/* crate::cli /* { */ tokio:: */\n\
                      const A: &str = \"crate::cli { \\\" {\";\nconst B: &[u8] = br#\"tokio::\"#;\n\
                      fn f<'a>(x: &'a str) -> char { '{' }\nconst C: char = '\\'';\n\
                      use crate::cli;";
        assert_eq!(
            faults("src/telemetry.rs", quoted),
            ["8: `telemetry` may not use `cli`"]
        );
    }

    #[test]
    fn a_long_function_is_found_and_one_at_the_limit_is_not() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\nfn g();\n", "x;\n".repeat(lines));
        assert_eq!(faults("tests/a.rs", &function(68)), [""; 0]);
        assert_eq!(
            faults("tests/a.rs", &function(69)),
            ["2: function `f` has 71 lines, over 70"]
        );
    }

    #[test]
    fn a_declaration_ends_where_it_ends() {
        let between = "x;\n".repeat(100);
        let trait_like = format!("trait T {{ fn f(a: [u8; 2]); }}\n{between}fn g() {{}}\n");
        assert_eq!(faults("tests/a.rs", &trait_like), [""; 0]);
        let pointer = format!("type F = fn(usize);\n{between}mod m {{}}\n");
        assert_eq!(faults("tests/a.rs", &pointer), [""; 0]);
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(faults("tests/a.rs", &"\n".repeat(799)), [""; 0]);
        assert_eq!(
            faults("tests/a.rs", &"\n".repeat(800)),
            ["1: 801 lines, more than 800"]
        );
    }
}
