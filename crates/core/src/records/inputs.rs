//! From what a user names (files, folders, glob patterns) to the Parquet files behind it.
//!
//! A file is taken whatever its name. A folder gives every `.parquet` file below it, but for names that
//! start with `.`, or with `_` unless they hold a `=`: as Spark does, which keeps there what is not finished or no
//! data (`_SUCCESS`, `_delta_log`, `.part-0.parquet.crc`). A pattern gives the files and folders that match it.
//! Files of one input come out sorted by path; nothing is opened here.

use std::path::{Path, PathBuf};

use super::error::DataError;
use crate::durable::irregular;

/// Files that one input may bring at most: a bound on what is kept of each (path, rows, schema).
pub const FILES_MAX: usize = 100_000;

/// Folders that are entered below a given one at most; a loop of links ends here.
const DEPTH_MAX: usize = 16;

/// The files behind `input`, sorted.
///
/// # Errors
/// When nothing is found, a folder cannot be read, or the pattern is none.
pub(super) fn files_of(input: &str) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Found {
        input,
        files: Vec::new(),
    };
    let literal = Path::new(input);
    // What exists is meant as it is, even where its name looks like a pattern or a URL.
    if literal.exists() {
        found.add(literal, 0)?;
    } else if let Some(remedy) = url_remedy(input) {
        let input = input.to_owned();
        return Err(DataError::Url { input, remedy });
    } else if input.contains(['*', '?', '[']) {
        found.add_matches()?;
    } else {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or folder");
        return Err(DataError::Io {
            file: input.to_owned(),
            source,
        });
    }
    if found.files.is_empty() {
        return Err(DataError::NoFiles {
            input: input.to_owned(),
        });
    }
    found.files.sort();
    Ok(found.files)
}

struct Found<'a> {
    input: &'a str,
    files: Vec<PathBuf>,
}

impl Found<'_> {
    fn add_matches(&mut self) -> Result<(), DataError> {
        let pattern = |error: glob::PatternError| DataError::Pattern {
            input: self.input.to_owned(),
            message: error.to_string(),
        };
        for entry in glob::glob(self.input).map_err(pattern)? {
            let path =
                entry.map_err(|error| io_error(&PathBuf::from(error.path()), error.into()))?;
            self.add(&path, 0)?;
        }
        Ok(())
    }

    /// Adds a file, or what lies below a folder.
    fn add(&mut self, path: &Path, depth: usize) -> Result<(), DataError> {
        if let Some(found) = irregular(path) {
            let file = path.display().to_string();
            return Err(DataError::NotRegular { file, found });
        }
        if !path.is_dir() {
            if self.files.len() == FILES_MAX {
                let input = self.input.to_owned();
                return Err(DataError::TooManyFiles {
                    input,
                    limit: FILES_MAX,
                });
            }
            self.files.push(path.to_owned());
            return Ok(());
        }
        if depth > DEPTH_MAX {
            let source = std::io::Error::other(format!("over {DEPTH_MAX} folders deep"));
            return Err(io_error(path, source));
        }
        for entry in std::fs::read_dir(path).map_err(|source| io_error(path, source))? {
            let child = entry.map_err(|source| io_error(path, source))?.path();
            if is_finished(&child) && (child.is_dir() || is_parquet(&child)) {
                self.add(&child, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn is_finished(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A column's name may begin with an underscore: `_batch=3`.
    !(name.starts_with('.') || (name.starts_with('_') && !name.contains('=')))
}

/// How to get at what a URL names, if `text` is one.
pub fn url_remedy(text: &str) -> Option<&'static str> {
    let (scheme, _) = text.split_once("://")?;
    let letters = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(letters) {
        return None;
    }
    Some(match scheme.to_ascii_lowercase().as_str() {
        "s3" | "s3a" | "s3n" => "`aws s3 cp --recursive`",
        "gs" | "gcs" => "`gcloud storage cp --recursive`",
        "abfs" | "abfss" | "az" | "adl" | "wasb" | "wasbs" => "`azcopy copy --recursive`",
        "http" | "https" | "ftp" => "`curl -O`",
        "hdfs" | "viewfs" => "`hdfs dfs -get`",
        "file" => "or leave out `file://`, if they are on it",
        _ => "with the tool of their store",
    })
}

fn is_parquet(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

fn io_error(path: &Path, source: std::io::Error) -> DataError {
    DataError::Io {
        file: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn folder_with(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, input: &str) -> Vec<String> {
        let input = folder.path().join(input);
        let files = files_of(input.to_str().unwrap()).unwrap();
        let name = |file: &PathBuf| {
            file.strip_prefix(folder.path())
                .unwrap()
                .display()
                .to_string()
        };
        files.iter().map(name).collect()
    }

    #[test]
    fn a_folder_gives_its_finished_parquet_files_sorted() {
        let files = [
            "b.parquet",
            "a/x.parquet",
            "_tmp/y.parquet",
            ".z.parquet",
            ".b.parquet.crc",
            "c.txt",
            "_SUCCESS",
            "_delta_log/00000000000000000010.checkpoint.parquet",
            "_batch=3/d.parquet",
        ];
        assert_eq!(
            names(&folder_with(&files), ""),
            ["_batch=3/d.parquet", "a/x.parquet", "b.parquet"]
        );
    }

    #[test]
    fn a_url_is_refused_with_the_remedy_and_a_file_of_that_name_is_a_file() {
        for (url, remedy) in [
            ("s3://bucket/day=1/*.parquet", "aws s3 cp"),
            ("https://example.org/x.parquet", "curl"),
            ("file:///data/x.parquet", "leave out `file://`"),
            ("odd+1://x", "the tool of their store"),
        ] {
            let error = files_of(url).unwrap_err().to_string();
            let refusal = format!("{url} is a URL, and URLs are not supported");
            assert!(
                error.starts_with(&refusal) && error.contains(remedy),
                "{error}"
            );
        }
        for path in ["C:/x", "a b://x", "1s://x", "://x", "x"] {
            assert_eq!(url_remedy(path), None, "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_device_or_a_socket_is_no_input() {
        let error = files_of("/dev/null").unwrap_err().to_string();
        let expected = "/dev/null is a character device, expected a regular file or a folder";
        assert_eq!(error, expected);
        let folder = folder_with(&[]);
        let socket = folder.path().join("x.parquet");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let error = files_of(folder.path().to_str().unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("x.parquet is a socket"),
            "{error}"
        );
    }

    #[test]
    fn a_pattern_gives_what_matches_and_a_name_with_brackets_is_itself() {
        let folder = folder_with(&["p[1].parquet", "p1.parquet", "p2.parquet"]);
        assert_eq!(names(&folder, "p?.parquet"), ["p1.parquet", "p2.parquet"]);
        assert_eq!(names(&folder, "p[1].parquet"), ["p[1].parquet"]);
    }

    #[test]
    fn nothing_found_is_an_error_that_names_the_input() {
        let folder = folder_with(&["notes.txt"]);
        for input in ["", "*.parquet", "absent.parquet"] {
            let input = folder.path().join(input).display().to_string();
            let error = files_of(&input).unwrap_err().to_string();
            assert!(error.contains(&input), "{error}");
        }
    }
}
