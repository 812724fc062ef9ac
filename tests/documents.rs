//! The documents are inputs of these tests, so that they cannot rot.
//!
//! In: every Markdown file, the commented files under `config/` and `schemas/`, the source, the Makefile. Out: that links
//! lead somewhere, that prose is narrow enough to read, that generated pages are those of today, and that what is named
//! (targets of make, variables, labels, messages) exists. The commands are run by `tests/integration/documents.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "documents/generated.rs"]
mod generated;
#[path = "documents/markdown.rs"]
mod markdown;

use markdown::{Document, documents, root};
use std::collections::BTreeSet;
use std::path::Path;

/// Columns of a line of prose at most.
const WIDTH_MAX: usize = 120;
/// Lines of the README at most.
const README_LINES_MAX: usize = 150;

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// The documents that are written for users: all but the notebook, the changelog and the working rules.
fn for_users() -> Vec<Document> {
    let inner = ["docs/notebook/", "CHANGELOG.md"];
    let all = documents().into_iter();
    all.filter(|document| !inner.iter().any(|name| document.name.starts_with(name)))
        .collect()
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let all = documents();
    let (mut links, mut faults) = (0, Vec::new());
    for document in &all {
        for link in document.links() {
            links += 1;
            if let Some(fault) = document.fault_of(&link, &all) {
                faults.push(format!("{}: {link}: {fault}", document.name));
            }
        }
    }
    assert!(links > 100, "{links} links are too few to be all of them");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let all = documents();
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut next = vec!["README.md".to_owned()];
    while let Some(name) = next.pop() {
        let document = all.iter().find(|document| document.name == name);
        for target in document.expect(&name).targets() {
            if all.iter().any(|document| document.name == target) && reached.insert(target.clone())
            {
                next.push(target);
            }
        }
    }
    let lost: Vec<&str> = all
        .iter()
        .map(|document| document.name.as_str())
        .filter(|name| !reached.contains(*name))
        .collect();
    assert_eq!(lost, Vec::<&str>::new(), "no link leads there");
}

#[test]
fn lines_of_prose_are_at_most_120_columns_wide() {
    let mut wide = Vec::new();
    for document in for_users() {
        for (number, line) in document.prose() {
            let columns = line.chars().count();
            if columns > WIDTH_MAX {
                wide.push(format!("{}:{number}: {columns} columns", document.name));
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

#[test]
fn the_readme_is_short() {
    let lines = text("README.md").lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "{lines} lines, {README_LINES_MAX} at most"
    );
}

#[test]
fn generated_pages_are_those_of_the_files_that_they_come_from() {
    let mut differing = Vec::new();
    for page in generated::pages() {
        if generated::writing() {
            std::fs::write(root().join(page.path), &page.text).unwrap();
        }
        if text(page.path) != page.text {
            differing.push(format!("{} is not what {} says", page.path, page.source));
        }
    }
    assert!(
        differing.is_empty(),
        "{}\nwrite them anew with: {}=1 cargo test --locked --test documents",
        differing.join("\n"),
        generated::WRITE
    );
}

#[test]
fn every_label_of_the_metrics_is_explained() {
    let page = text("docs/reference/metrics.md");
    let (_, labels) = page.split_once("## Labels").unwrap();
    for metric in generated::metrics(&text("src/telemetry/table.rs")) {
        for label in &metric.labels {
            let found = labels.contains(&format!("`{label}`"));
            assert!(
                found,
                "{}: the label {label} is not in the table",
                metric.name
            );
        }
    }
}

#[test]
fn every_alert_rule_is_in_its_table() {
    let (page, rules) = (
        text("docs/reference/metrics.md"),
        text("config/prometheus/alerts.yml"),
    );
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is missing");
    }
}

#[test]
fn every_exit_code_is_explained_in_the_reference_and_in_troubleshooting() {
    let (reference, troubleshooting) = (
        text("docs/reference/exit-codes.md"),
        text("docs/troubleshooting.md"),
    );
    let source = text("src/cli/exit.rs");
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": u8 = "))
        .map(|(_, code)| code.trim_end_matches(';'))
        .collect();
    assert_eq!(codes.len(), 5, "{codes:?}");
    for code in codes {
        assert!(reference.contains(&format!("| {code} | ")), "{code}");
        let heading = format!("### Exit code {code}: ");
        assert!(troubleshooting.contains(&heading), "{code}");
    }
}

#[test]
fn every_target_of_make_that_is_named_exists() {
    let makefile = text("Makefile");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '.', ' ']))
        .filter_map(|line| line.split_once(':').map(|(target, _)| target))
        .collect();
    let mut named = BTreeSet::new();
    for document in for_users() {
        for code in document.code() {
            if let Some(rest) = code.strip_prefix("make ") {
                let target = rest.split([' ', '`']).next().unwrap().to_owned();
                let known = targets.contains(target.as_str());
                assert!(known, "{}: make {target}", document.name);
                named.insert(target);
            }
        }
    }
    for target in ["demo", "install", "test", "quality", "chaos"] {
        assert!(named.contains(target), "make {target} is in no document");
    }
}

#[test]
fn every_variable_of_a_key_names_a_key_that_there_is() {
    let configuration = text("config/maskwatch.toml");
    let sections = generated::sections(&configuration);
    let mut named = 0;
    for document in for_users() {
        for rest in document.text.split("MASKWATCH__").skip(1) {
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            if name == "SECTION__KEY" {
                continue;
            }
            let (section, key) = name.split_once("__").expect(&name);
            let (section, key) = (section.to_lowercase(), key.to_lowercase());
            // A property of the client has dots for underscores.
            let (section, key) = match key.strip_prefix("properties__") {
                Some(property) => (format!("{section}.properties"), property.replace('_', ".")),
                None => (section, key),
            };
            let found = sections.iter().any(|known| {
                known.name == section && known.keys.iter().any(|known| known.name == key)
            });
            assert!(found, "{}: MASKWATCH__{name}", document.name);
            named += 1;
        }
    }
    assert!(named > 3, "{named}");
}

/// The text of all Rust files below a folder, lines that a backslash continues joined.
fn source(folder: &Path, into: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            source(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut parts = text.split("\\\n");
            into.push_str(parts.next().unwrap());
            parts.for_each(|part| into.push_str(part.trim_start()));
        }
    }
}

#[test]
fn every_message_of_the_troubleshooting_page_is_one_of_the_program() {
    let mut code = String::new();
    for folder in ["src", "crates"] {
        source(&root().join(folder), &mut code);
    }
    let code = code.replace("\\\"", "\"");
    let page = text("docs/troubleshooting.md");
    let mut messages = 0;
    let mut of_messages = false;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let first = line.split('|').nth(1).unwrap().trim();
        match first {
            "message" | "the warning says" => of_messages = true,
            _ if !first.starts_with(['`', '-']) => of_messages = false,
            _ if of_messages => {
                for fragment in first.split('`').skip(1).step_by(2) {
                    assert!(code.contains(fragment), "no message says `{fragment}`");
                    messages += 1;
                }
            }
            _ => {}
        }
    }
    assert!(messages > 30, "{messages}");
}
