//! `maskwatch init`: Parquet in, a commented schema file out.

use super::args::InitArguments;
use super::output::{refuse_existing, write_new};
use super::report::{print, warn_all};
use super::small_data::check_init;
use crate::records::{ParquetSource, infer_schema};
use crate::schema::{Inferred, Role, Schema};
use anyhow::Context;
use std::process::ExitCode;

/// Columns that one line of remarks names before the rest is only counted.
const NAMED_MAX: usize = 100;

/// Runs the verb.
///
/// # Errors
/// A file that is there already (64), bad data (65), anything else (1).
pub fn run(arguments: &InitArguments) -> anyhow::Result<ExitCode> {
    let InitArguments { data, label, out } = arguments;
    refuse_existing(out)?;
    let source = ParquetSource::open(data)?;
    check_init(&source)?;
    let inferred = infer_schema(&source, label.as_deref()).with_context(|| data.join(", "))?;
    // What is written is read back first, so that no file is left that `train` would refuse.
    let schema = Schema::parse(&inferred.text, &out.display().to_string())?;
    write_new(out, &inferred.text)?;
    warn_all(&source.notes(&schema));
    let fields = |role: Role| schema.fields().iter().filter(|f| f.role == role).count();
    print(&format!(
        "{}: {} features, {} ignored, {} key, {} time, {} label, of {} rows\n{}\
         Read it before training: its comments say why each column became what it is.\n",
        out.display(),
        fields(Role::Feature),
        fields(Role::Ignore),
        fields(Role::Key),
        fields(Role::Time),
        fields(Role::Label),
        source.rows(),
        remarks(&inferred),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What a person should know before training, a line for each kind of remark.
fn remarks(inferred: &Inferred) -> String {
    let because = |(name, why): &(String, String)| format!("{} ({why})", shown(name));
    let line = |word: &str, items: Vec<String>| {
        let more = items.len().saturating_sub(NAMED_MAX);
        let named = items[..items.len() - more].join(", ");
        match (items.is_empty(), more) {
            (true, _) => String::new(),
            (_, 0) => format!("{word}: {named}\n"),
            _ => format!("{word}: {named}, and {more} more\n"),
        }
    };
    let transformed = inferred.transformed.iter();
    let transformed =
        transformed.map(|(name, transform)| format!("{} {}", shown(name), transform.as_str()));
    [
        line("label", inferred.label.iter().map(because).collect()),
        line("ignored", inferred.ignored.iter().map(because).collect()),
        line("transformed", transformed.collect()),
        line("look at", inferred.doubts.iter().map(because).collect()),
    ]
    .concat()
}

/// A column's name on one line of a terminal, whatever it holds.
fn shown(name: &str) -> String {
    let printable = name.chars().map(|c| if c.is_control() { '?' } else { c });
    format!("`{}`", printable.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Transform;

    #[test]
    fn everything_ignored_is_named_with_its_reason_and_a_long_list_is_cut() {
        let ignored = |n: usize| (0..n).map(|i| (format!("c{i}"), "an identifier".to_owned()));
        let mut inferred = Inferred {
            text: String::new(),
            label: Some(("is_fraud".to_owned(), "known by its name".to_owned())),
            ignored: ignored(2).collect(),
            transformed: vec![("a\nb".to_owned(), Transform::Log1p)],
            doubts: Vec::new(),
        };
        let expected = "label: `is_fraud` (known by its name)\n\
                        ignored: `c0` (an identifier), `c1` (an identifier)\n\
                        transformed: `a?b` log1p\n";
        assert_eq!(remarks(&inferred), expected);
        inferred.ignored = ignored(NAMED_MAX + 3).collect();
        assert!(remarks(&inferred).contains("(an identifier), and 3 more\n"));
    }
}
