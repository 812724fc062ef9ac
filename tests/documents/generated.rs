//! Pages that are made of the commented files under `config/` and `schemas/`, and of the table of metrics.
//!
//! A key of a commented file is a line `key = value`, or `#key = value` where the default depends on the machine or is none.
//! The comment above it is its description. A comment that a blank line ends is about the section or the file.

use super::markdown::root;

/// The variable that has the pages written instead of compared.
pub const WRITE: &str = "MASKWATCH_WRITE_DOCS";

/// Whether pages are to be written.
pub fn writing() -> bool {
    std::env::var_os(WRITE).is_some()
}

/// A page and what it is made of.
pub struct Page {
    /// Its path in the repository.
    pub path: &'static str,
    /// What it is made of.
    pub source: &'static str,
    /// What it has to hold.
    pub text: String,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect(path)
}

/// Every generated page as it has to be.
pub fn pages() -> Vec<Page> {
    let configuration = |source: &'static str, path, title, lead| Page {
        path,
        source,
        text: configuration_page(source, &read(source), title, lead),
    };
    vec![
        configuration(
            "config/maskwatch.toml",
            "docs/reference/configuration.md",
            "Configuration",
            "Every key of the configuration of `maskwatch serve`, with its default.",
        ),
        configuration(
            "config/train.toml",
            "docs/reference/training.md",
            "Training configuration",
            "Every key of the configuration of `maskwatch train --config`, with its default.",
        ),
        Page {
            path: "docs/reference/schema.md",
            source: "schemas/example.toml",
            text: schema_page(&read("schemas/example.toml")),
        },
        Page {
            path: "docs/reference/metrics.md",
            source: "src/telemetry/table.rs",
            text: metrics_page(
                &read("docs/reference/metrics.md"),
                &read("src/telemetry/table.rs"),
            ),
        },
    ]
}

/// A section of a commented configuration.
pub struct Section {
    /// Its name, as in `[name]`.
    pub name: String,
    /// The comment above it and below it.
    pub about: Vec<String>,
    /// Its keys, in order.
    pub keys: Vec<Key>,
}

/// A key of a section.
pub struct Key {
    /// Its name, without quotes.
    pub name: String,
    /// The value that stands there, as TOML.
    pub value: String,
    /// Whether it stands there as a comment.
    pub commented: bool,
    /// The comment above it.
    pub about: Vec<String>,
}

/// The key of a line `key = value`, which may stand behind a `#` without a blank.
fn key(line: &str) -> Option<(String, String, bool)> {
    let (line, commented) = match line.strip_prefix('#') {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let (name, value) = line.split_once(" = ")?;
    let bare = name.trim_matches('"');
    let is_name = !bare.is_empty()
        && bare
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.');
    is_name.then(|| (bare.to_owned(), value.to_owned(), commented))
}

/// The comment lines before the first section, and the sections.
fn parsed(text: &str) -> (Vec<String>, Vec<Section>) {
    let (mut head, mut sections): (Vec<String>, Vec<Section>) = (Vec::new(), Vec::new());
    let mut pending: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            let about = std::mem::take(&mut pending);
            sections.push(Section {
                name: name.to_owned(),
                about,
                keys: Vec::new(),
            });
        } else if let Some((name, value, commented)) = key(line) {
            let about = std::mem::take(&mut pending);
            let section = sections.last_mut().expect("a key belongs to a section");
            section.keys.push(Key {
                name,
                value,
                commented,
                about,
            });
        } else if let Some(comment) = line.strip_prefix('#') {
            pending.push(comment.strip_prefix(' ').unwrap_or(comment).to_owned());
        } else if line.trim().is_empty() {
            let about = std::mem::take(&mut pending);
            let owner = match sections.last_mut() {
                Some(section) => &mut section.about,
                None => &mut head,
            };
            if !owner.is_empty() && !about.is_empty() {
                owner.push(String::new());
            }
            owner.extend(about);
        } else {
            panic!("neither a section, a key nor a comment: {line}");
        }
    }
    assert!(pending.is_empty(), "a comment about nothing: {pending:?}");
    (head, sections)
}

/// The sections of a commented configuration.
pub fn sections(text: &str) -> Vec<Section> {
    parsed(text).1
}

/// Comment lines as Markdown: lines that are indented by two blanks or more are code.
fn prose(lines: &[String], page: &mut String) {
    let mut in_code = false;
    for line in lines {
        let is_code = line.starts_with("  ");
        if is_code != in_code {
            page.push_str(if is_code { "\n```text\n" } else { "```\n" });
            in_code = is_code;
        }
        page.push_str(if is_code { line.trim_start() } else { line });
        page.push('\n');
    }
    if in_code {
        page.push_str("```\n");
    }
}

fn notice(source: &str) -> String {
    let name = source.rsplit('/').next().unwrap();
    format!("This page is generated from [`{name}`](../../{source}), which is a valid file itself.")
}

fn configuration_page(source: &str, text: &str, title: &str, lead: &str) -> String {
    let (head, sections) = parsed(text);
    let mut page = format!("# {title}\n\n{lead}\n{}\n\n", notice(source));
    // The first paragraph of the file says what the file is: the lead has said so.
    let beyond = head
        .iter()
        .position(String::is_empty)
        .map_or(head.len(), |at| at + 1);
    prose(&head[beyond..], &mut page);
    for section in &sections {
        let title = match section.name.split_once('.') {
            Some(_) => format!("`[{}]`", section.name),
            None => format!("[{}]", section.name),
        };
        page.push_str(&format!("\n## {title}\n"));
        if !section.about.is_empty() {
            page.push('\n');
            prose(&section.about, &mut page);
        }
        for key in &section.keys {
            page.push_str(&format!("\n### `{}`\n\n", key.name));
            let without = ["Required", "No default"];
            let about = key.about.join(" ");
            let is_example = key.commented || without.iter().any(|word| about.contains(word));
            let word = if is_example { "Example" } else { "Default" };
            page.push_str(&format!("{word}: `{}`\n", key.value));
            if !key.about.is_empty() {
                page.push('\n');
                prose(&key.about, &mut page);
            }
        }
    }
    tidied(&page)
}

/// One blank line where there are several.
fn tidied(page: &str) -> String {
    let mut page = page.to_owned();
    while page.contains("\n\n\n") {
        page = page.replace("\n\n\n", "\n\n");
    }
    page
}

/// The keys of a schema, each with the comment above it and the line that shows it.
fn schema_page(text: &str) -> String {
    let source = "schemas/example.toml";
    let mut page = format!(
        "# Schema\n\nEvery key of a schema file, by an example for each. [Inference](inference.md) says how `init` chooses.\n{}\n\n",
        notice(source)
    );
    let (head, fields) = text.split_once("\n[[field]]\n").unwrap();
    let comment = |line: &str| line.trim_start_matches('#').trim_start().to_owned();
    // The first paragraph says what the file is.
    let (_, head) = head.split_once("\n#\n").unwrap();
    let lines = head.lines().filter(|line| !line.trim().is_empty());
    prose(&lines.map(comment).collect::<Vec<_>>(), &mut page);
    let mut seen = Vec::new();
    for field in fields.split("\n[[field]]\n") {
        let mut about: Vec<String> = Vec::new();
        let name = field
            .lines()
            .find_map(|line| line.strip_prefix("name = "))
            .expect("a field has a name")
            .trim_matches('"');
        for line in field.lines() {
            if let Some(text) = line.strip_prefix('#') {
                about.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
            } else if let Some((key, value, _)) = key(line) {
                if !about.is_empty() {
                    let again = match seen.contains(&key) {
                        true => format!(" (field `{name}`)"),
                        false => String::new(),
                    };
                    page.push_str(&format!(
                        "\n## `{key}`{again}\n\nExample: `{key} = {value}`\n\n"
                    ));
                    prose(&std::mem::take(&mut about), &mut page);
                    seen.push(key);
                } else if !seen.contains(&key) && !["name", "kind"].contains(&key.as_str()) {
                    page.push_str(&format!("\nExample: `{key} = {value}`\n"));
                    seen.push(key);
                }
            }
        }
        assert!(about.is_empty(), "a comment about nothing: {about:?}");
    }
    tidied(&page)
}

/// A metric of the program's table.
pub struct Metric {
    /// Without `maskwatch_`.
    pub name: String,
    /// counter, gauge or histogram.
    pub kind: &'static str,
    /// Names of labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

/// The metrics of `table.rs`, in order.
pub fn metrics(table: &str) -> Vec<Metric> {
    let (_, rows) = table.split_once("\ntable! {").unwrap();
    let (rows, _) = rows.split_once("\n}").unwrap();
    let rows = rows.split(";\n").filter(|row| !row.trim().is_empty());
    let metrics: Vec<Metric> = rows.map(metric).collect();
    assert!(metrics.len() > 15, "{}", metrics.len());
    metrics
}

fn metric(row: &str) -> Metric {
    let quoted: Vec<&str> = row.split('"').skip(1).step_by(2).collect();
    let (name, others) = quoted.split_first().expect(row);
    let (help, labels) = others.split_last().expect(row);
    let kinds = [
        ("IntCounterVec", "counter"),
        ("GaugeVec", "gauge"),
        ("HistogramVec", "histogram"),
    ];
    let kind = kinds
        .iter()
        .find(|(kind, _)| row.contains(kind))
        .expect(row)
        .1;
    let mut parts = help.split("\\\n");
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.trim_start()));
    Metric {
        name: (*name).to_owned(),
        kind,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        help: text,
    }
}

fn metrics_page(page: &str, table: &str) -> String {
    const BEGIN: &str = "<!-- generated:begin -->";
    const END: &str = "<!-- generated:end -->";
    let (before, rest) = page.split_once(BEGIN).expect(BEGIN);
    let (_, after) = rest.split_once(END).expect(END);
    let mut rows = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    for metric in metrics(table) {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let Metric {
            name, kind, help, ..
        } = metric;
        rows.push_str(&format!(
            "| `{name}` | {kind} | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    format!("{before}{BEGIN}\n\n{rows}\n{END}{after}")
}

#[test]
fn a_key_has_the_comment_above_it_and_a_section_what_a_blank_line_ends() {
    let text = "# A file.\n#\n# More of it.\n\n[a]\n\n# Of the section.\n\n# Of b.\n#   c = 1\nb = 2\n#\"d.e\" = 3\n";
    let (head, sections) = parsed(text);
    assert_eq!(head, ["A file.", "", "More of it."]);
    assert_eq!(sections[0].about, ["Of the section."]);
    let keys: Vec<(&str, bool)> = sections[0]
        .keys
        .iter()
        .map(|key| (key.name.as_str(), key.commented))
        .collect();
    assert_eq!(keys, [("b", false), ("d.e", true)]);
    let page = configuration_page("config/a.toml", text, "A", "Lead.");
    assert!(
        page.contains("### `b`\n\nDefault: `2`\n\nOf b.\n\n```text\nc = 1\n```\n"),
        "{page}"
    );
}
