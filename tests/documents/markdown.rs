//! Markdown as far as the tests of documents need it: links, headings, prose and code.

use std::path::{Component, Path, PathBuf};

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A Markdown file.
pub struct Document {
    /// Its path in the repository, with `/`.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Every Markdown file at the top and below `docs/`.
pub fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = Vec::new();
    below(root(), false, &mut paths);
    below(&root().join("docs"), true, &mut paths);
    paths.sort();
    let document = |path: PathBuf| Document {
        name: name_of(path.strip_prefix(root()).unwrap()),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    let documents: Vec<Document> = paths.into_iter().map(document).collect();
    assert!(documents.len() > 20, "{} documents", documents.len());
    documents
}

fn below(folder: &Path, deep: bool, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if deep && path.is_dir() {
            below(&path, deep, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

fn name_of(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

impl Document {
    /// Lines outside of code blocks, with their numbers from 1.
    fn outside_code(&self) -> Vec<(usize, &str)> {
        let mut lines = Vec::new();
        let mut in_code = false;
        for (number, line) in self.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            } else if !in_code {
                lines.push((number + 1, line));
            }
        }
        lines
    }

    /// Lines of prose with their numbers: neither code, nor tables, nor headings.
    pub fn prose(&self) -> Vec<(usize, &str)> {
        let lines = self.outside_code().into_iter();
        lines
            .filter(|(_, line)| !line.starts_with(['|', '#', '<']) && !line.starts_with("    "))
            .collect()
    }

    /// What stands in code: lines of code blocks without their prompt, and code within lines.
    pub fn code(&self) -> Vec<String> {
        let outside = self.outside_code();
        let mut code: Vec<String> = Vec::new();
        let mut blocks = self.text.split("\n```").skip(1).step_by(2);
        for block in &mut blocks {
            let joined = block.replace("\\\n", " ");
            let lines = joined.lines().skip(1);
            code.extend(
                lines.map(|line| line.strip_prefix("$ ").unwrap_or(line).trim().to_owned()),
            );
        }
        let prose: Vec<&str> = outside.into_iter().map(|(_, line)| line).collect();
        let prose = prose.join("\n");
        code.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
        code
    }

    /// The targets of its links, but those to other hosts.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for (_, line) in self.outside_code() {
            for rest in line.split("](").skip(1) {
                let target = rest.split(')').next().unwrap();
                if !target.contains("://") {
                    links.push(target.to_owned());
                }
            }
        }
        links
    }

    /// The files that it links to, by their names in the repository.
    pub fn targets(&self) -> Vec<String> {
        self.links()
            .iter()
            .map(|link| self.resolve(link).0)
            .collect()
    }

    /// The file of a link, by its name in the repository, and the heading.
    fn resolve<'a>(&self, link: &'a str) -> (String, Option<&'a str>) {
        let (path, heading) = match link.split_once('#') {
            Some((path, heading)) => (path, Some(heading)),
            None => (link, None),
        };
        if path.is_empty() {
            return (self.name.clone(), heading);
        }
        let mut parts: Vec<&str> = self.name.split('/').collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                ".." => drop(parts.pop()),
                "." => {}
                part => parts.push(part),
            }
        }
        (parts.join("/"), heading)
    }

    /// What is wrong with a link.
    pub fn fault_of(&self, link: &str, all: &[Document]) -> Option<String> {
        let (path, heading) = self.resolve(link);
        let target = all.iter().find(|document| document.name == path);
        if target.is_none() && !root().join(&path).exists() {
            return Some(format!("{path} does not exist"));
        }
        let heading = heading?;
        match target {
            None => Some(format!("{path} is no document with headings")),
            Some(target) if target.anchors().iter().any(|anchor| anchor == heading) => None,
            Some(_) => Some(format!("{path} has no heading #{heading}")),
        }
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let headings = self.outside_code().into_iter();
        headings
            .filter_map(|(_, line)| {
                let title = line.trim_start_matches('#');
                (title.len() < line.len() && title.starts_with(' ')).then(|| anchor(title.trim()))
            })
            .collect()
    }
}

/// The anchor of a heading: lower case, blanks as hyphens, nothing but letters, digits, hyphens and underscores.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn an_anchor_is_what_github_makes_of_a_heading() {
    assert_eq!(anchor("`/readyz` answers 503"), "readyz-answers-503");
    assert_eq!(anchor("Files of `score`"), "files-of-score");
    assert_eq!(anchor("11. Labels"), "11-labels");
}

#[test]
fn a_link_is_resolved_from_the_folder_of_its_document() {
    let document = Document {
        name: "docs/guide/a.md".to_owned(),
        text: "# A\n[b](../b.md#c) `make x`\n```sh\nmake y \\\n  z\n```\n".to_owned(),
    };
    assert_eq!(document.targets(), ["docs/b.md"]);
    assert_eq!(
        document.code(),
        ["make y    z", "make x"],
        "{:?}",
        document.code()
    );
    assert!(document.fault_of("../nowhere.md", &[]).is_some());
    assert!(
        document
            .fault_of("#b", std::slice::from_ref(&document))
            .is_some()
    );
    assert!(
        document
            .fault_of("#a", std::slice::from_ref(&document))
            .is_none()
    );
}
