//! The place in a document where the tables stand: between two markers, which stay.

use anyhow::{Context, anyhow};
use maskwatch_core::durable::{persist, temporary_sibling};
use std::io::Write;
use std::path::Path;

/// Before the tables.
pub const BEGIN: &str = "<!-- quality:begin -->";
/// Behind the tables.
pub const END: &str = "<!-- quality:end -->";

/// Replaces what stands between the markers of a document.
///
/// # Errors
/// If the document cannot be read or written, or has no markers in their order; it is then as it was.
pub fn write(path: &Path, tables: &str) -> anyhow::Result<()> {
    let file = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(file)?;
    let text = replaced(&text, tables).with_context(file)?;
    let mut sibling = temporary_sibling(path)?;
    sibling.write_all(text.as_bytes())?;
    persist(sibling, path).with_context(file)?;
    Ok(())
}

fn replaced(text: &str, tables: &str) -> anyhow::Result<String> {
    let missing = || anyhow!("needs the lines {BEGIN} and {END}, once each and in that order");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (between, after) = rest.split_once(END).ok_or_else(missing)?;
    if [before, between, after]
        .iter()
        .any(|part| part.contains(BEGIN) || part.contains(END))
    {
        return Err(missing());
    }
    Ok(format!(
        "{before}{BEGIN}\n\n{}\n\n{END}{after}",
        tables.trim()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replaced(&text, "| new |\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\n\n| new |\n\n{END}\nb\n"));
        assert_eq!(replaced(&once, "| new |\n").unwrap(), once);
    }

    #[test]
    fn a_document_without_its_markers_is_refused() {
        for text in [
            "",
            BEGIN,
            &format!("{END}{BEGIN}"),
            &format!("{BEGIN}{BEGIN}{END}"),
            &format!("{BEGIN}{END}{END}"),
        ] {
            assert!(replaced(text, "x").is_err(), "{text}");
        }
    }

    #[test]
    fn the_document_of_this_repository_has_its_markers() {
        let text = include_str!("../../../docs/results.md");
        assert!(replaced(text, "x").is_ok());
    }
}
