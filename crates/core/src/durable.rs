//! Files and folders that are written whole or not at all, and survive a power cut once they are there.
//!
//! What is to be written goes into a temporary sibling, is synced, and takes its name in one step; on any failure the
//! sibling is removed and the name keeps what it had. The caller says in its own error which file it was.
//!
//! A name may be given away only if it is free or that of a regular file or a folder: renaming over a device, a FIFO or a
//! socket would remove it. A symbolic link stays, and what it points at is replaced.

use std::fs::{self, File, FileType};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempDir};

/// The folder of `path`; the working folder for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Links that are followed at most, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// Why nothing is written under a name.
#[derive(Debug, thiserror::Error)]
#[error("{}: {found}, expected {expected}", path.display())]
pub struct TargetError {
    /// The name as it was given.
    pub path: PathBuf,
    /// What it is.
    pub found: String,
    /// What it should be.
    pub expected: &'static str,
}

/// Where a file of this name is written: `path` itself, or what it points at if it is a symbolic link.
///
/// # Errors
/// [`TargetError`] if it is a folder, a device, a FIFO, a socket, an open file of a process (`/dev/stdout`), a link to
/// nothing, or in a folder that is not there.
pub fn file_target(path: &Path) -> Result<PathBuf, TargetError> {
    let expected = "the name of a file, new or to be replaced as a whole";
    let real = target(path, expected, FileType::is_file)?;
    check_folder_of(path, &real)?;
    Ok(real)
}

/// Whether the folder of a file that is to be written is there: none is made, as a misspelt name would be.
fn check_folder_of(path: &Path, real: &Path) -> Result<(), TargetError> {
    let folder = folder_of(real);
    if folder.is_dir() {
        return Ok(());
    }
    let is = match folder.exists() {
        true => "is no folder",
        false => "is not there",
    };
    Err(TargetError {
        path: path.to_owned(),
        found: format!("the folder {} {is}", folder.display()),
        expected: "a folder that exists",
    })
}

/// Where a folder of this name is written: `path` itself, or what it points at if it is a symbolic link.
///
/// # Errors
/// [`TargetError`] as for [`file_target`], but for a folder where a file is no folder. The folder that it is to be in may
/// be absent.
pub fn folder_target(path: &Path) -> Result<PathBuf, TargetError> {
    target(path, "the name of a folder", |kind| {
        // A file is told by who looks into the folder.
        kind.is_dir() || kind.is_file()
    })
}

fn target(
    path: &Path,
    expected: &'static str,
    is_fine: impl Fn(&FileType) -> bool,
) -> Result<PathBuf, TargetError> {
    let refused = |found: String| TargetError {
        path: path.to_owned(),
        found,
        expected,
    };
    let mut real = path.to_owned();
    for _ in 0..LINKS_MAX {
        if real.starts_with("/dev/fd") || real.starts_with("/proc") {
            return Err(refused("is an open file of a process".to_owned()));
        }
        // What cannot be looked at is told by who tries to write there.
        let Ok(metadata) = real.symlink_metadata() else {
            return match real == path {
                true => Ok(real),
                false => Err(refused(format!(
                    "is a link to {}, which is not there",
                    real.display()
                ))),
            };
        };
        if !metadata.is_symlink() {
            return match kind_of(&metadata.file_type()) {
                _ if is_fine(&metadata.file_type()) => Ok(real),
                kind => Err(refused(format!("is {kind}"))),
            };
        }
        match fs::read_link(&real) {
            Ok(next) => real = folder_of(&real).join(next),
            Err(error) => return Err(refused(format!("is a link that cannot be read ({error})"))),
        }
    }
    Err(refused("is a chain of links without an end".to_owned()))
}

/// What stands under a name, in words.
fn kind_of(kind: &FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_block_device() {
            return "a block device";
        }
        if kind.is_char_device() {
            return "a character device";
        }
    }
    match kind.is_dir() {
        true => "a folder",
        false => "a file",
    }
}

/// What `path` is in words, links followed, if it is neither a regular file nor a folder nor absent: reading it may
/// never end.
pub fn irregular(path: &Path) -> Option<&'static str> {
    let kind = fs::metadata(path).ok()?.file_type();
    (!kind.is_file() && !kind.is_dir()).then(|| kind_of(&kind))
}

/// The bytes of a regular file, links followed. A FIFO or a device is refused before it is opened, since that may never
/// end.
///
/// # Errors
/// What it is instead of a regular file, that it is longer than `bytes_max`, or why it cannot be read.
pub fn read_regular(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    if let Some(found) = irregular(path) {
        let found = format!("is {found}, expected a regular file");
        return Err(io::Error::other(found));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > bytes_max {
        true => Err(io::Error::other(format!(
            "longer than {bytes_max} bytes, which is the limit"
        ))),
        false => Ok(bytes),
    }
}

/// The same as text.
///
/// # Errors
/// As [`read_regular`], and for bytes that are not UTF-8.
pub fn read_regular_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read_regular(path, bytes_max)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// A file beside a name that it may get, removed when dropped. No error of it names its path, which nobody has ever seen.
#[derive(Debug)]
pub struct Sibling(NamedTempFile);

impl Write for Sibling {
    // By the file itself: `tempfile` would add its path to an error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_file_mut().flush()
    }
}

/// A file beside `path`, with the permissions that new files have.
///
/// # Errors
/// If the folder takes no file.
pub fn temporary_sibling(path: &Path) -> io::Result<Sibling> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".maskwatch-").suffix(".tmp");
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    // Opened here, so that an error is the system's own.
    let made = builder.make_in(folder_of(path), |sibling| options.open(sibling));
    made.map(Sibling).map_err(without_path)
}

/// A folder in `parent`, removed when dropped.
///
/// # Errors
/// If the parent takes no folder.
pub fn temporary_folder(parent: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".maskwatch-");
    builder.tempdir_in(parent).map_err(without_path)
}

/// An error of `tempfile` without the path of what could not be made. Only its text holds what the system said.
fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((said, _)) => io::Error::new(error.kind(), said.to_owned()),
        None => error,
    }
}

/// Gives a finished sibling its name, replacing what had it.
///
/// # Errors
/// If it cannot be synced or renamed; the name then keeps what it had.
pub fn persist(sibling: Sibling, path: &Path) -> io::Result<File> {
    sibling.0.as_file().sync_all()?;
    let file = sibling.0.persist(path)?;
    sync_folder(folder_of(path))?;
    Ok(file)
}

/// Gives a finished sibling its name, if nothing has it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something has; if it cannot be synced or renamed.
pub fn persist_new(sibling: Sibling, path: &Path) -> io::Result<File> {
    sibling.0.as_file().sync_all()?;
    let file = sibling.0.persist_noclobber(path)?;
    sync_folder(folder_of(path))?;
    Ok(file)
}

/// Makes the names in a folder durable.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

/// Gives a finished folder, made beside `target`, that name, and removes the folder that had it.
///
/// The two are exchanged in one step, so that there is a whole folder under the name at every moment. A file system that
/// cannot do that gets two renames; a crash between them leaves the old folder beside the name, under one that begins
/// with `.maskwatch-`.
///
/// # Errors
/// If it cannot be renamed; the name then keeps what it had.
pub fn replace_folder(finished: TempDir, target: &Path) -> io::Result<()> {
    if !target.exists() {
        fs::rename(finished.path(), target)?;
        // The folder has its name now: it must not be removed with the handle.
        let _ = finished.keep();
        return sync_folder(folder_of(target));
    }
    match exchange(finished.path(), target) {
        Ok(()) => remove_old(finished),
        Err(error) if cannot_exchange(&error) => step_aside(finished, target)?,
        Err(error) => return Err(error),
    }
    sync_folder(folder_of(target))
}

#[cfg(target_os = "linux")]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn cannot_exchange(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
}

fn step_aside(finished: TempDir, target: &Path) -> io::Result<()> {
    let aside = temporary_folder(folder_of(target))?;
    // Kept until the new folder is in place, so that no failure between can lose the old one.
    let aside = aside.keep();
    let old = aside.join("old");
    fs::rename(target, &old)?;
    if let Err(error) = fs::rename(finished.path(), target) {
        fs::rename(&old, target)?;
        fs::remove_dir(&aside)?;
        return Err(error);
    }
    let _ = finished.keep();
    fs::remove_dir_all(&aside)
}

/// The new folder is in place: what is left of the old one only takes room, which is worth a line but no failure.
fn remove_old(old: TempDir) {
    let path = old.path().to_owned();
    if let Err(error) = old.close() {
        tracing::warn!(path = %path.display(), %error, "the replaced folder cannot be removed");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn finished(parent: &Path, text: &str) -> TempDir {
        let folder = temporary_folder(parent).unwrap();
        fs::write(folder.path().join("a"), text).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_folder_takes_its_name_whether_something_had_it_or_not() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        for text in ["first", "second"] {
            replace_folder(finished(parent.path(), text), &target).unwrap();
            assert_eq!(fs::read_to_string(target.join("a")).unwrap(), text);
            assert_eq!(names(parent.path()), ["target"]);
        }
    }

    #[test]
    fn where_folders_cannot_be_exchanged_the_old_one_steps_aside() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        replace_folder(finished(parent.path(), "first"), &target).unwrap();
        step_aside(finished(parent.path(), "second"), &target).unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "second");
        assert_eq!(names(parent.path()), ["target"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_what_is_no_file_is_never_replaced() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").unwrap();
        fs::create_dir(at("folder")).unwrap();
        symlink("file", at("link")).unwrap();
        symlink("link", at("second")).unwrap();
        symlink("absent", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        symlink("folder", at("to_folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, target) in [("file", "file"), ("new", "new"), ("second", "file")] {
            assert_eq!(file_target(&at(name)).unwrap(), at(target));
        }
        let real = file_target(&at("second")).unwrap();
        persist(temporary_sibling(&real).unwrap(), &real).unwrap();
        assert!(at("second").symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"");
        for (name, found) in [
            ("socket", "is a socket"),
            ("folder", "is a folder"),
            ("to_folder", "is a folder"),
            ("dangling", "absent, which is not there"),
            ("loop", "without an end"),
            ("/dev/null", "is a character device"),
            ("/dev/stdout", "is an open file of a process"),
            ("/dev/fd/1", "is an open file of a process"),
            ("/proc/self/fd/1", "is an open file of a process"),
        ] {
            let error = file_target(&at(name)).unwrap_err().to_string();
            assert!(error.contains(found), "{error}");
        }
        assert_eq!(folder_target(&at("to_folder")).unwrap(), at("folder"));
        assert!(folder_target(Path::new("/dev/null")).is_err());
        assert_eq!(irregular(&at("socket")), Some("a socket"));
        let refused = read_regular(&at("socket"), 9).unwrap_err().to_string();
        assert_eq!(refused, "is a socket, expected a regular file");
        assert_eq!(irregular(&at("to_folder")), None);
        assert_eq!(irregular(&at("absent")), None);
    }

    #[test]
    fn a_sibling_that_is_dropped_leaves_the_name_as_it_was() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "old").unwrap();
        drop(temporary_sibling(&path).unwrap());
        let error = persist_new(temporary_sibling(&path).unwrap(), &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(parent.path()), ["file"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_error_names_a_temporary_path_and_each_says_what_the_system_said() {
        let inside = Path::new("/proc/self");
        let file = temporary_sibling(&inside.join("file")).unwrap_err();
        let folder = temporary_folder(inside).unwrap_err();
        let expected = fs::create_dir(inside.join("folder")).unwrap_err();
        assert_eq!(file.to_string(), expected.to_string());
        assert_eq!(file.raw_os_error(), expected.raw_os_error());
        assert_eq!(folder.to_string(), expected.to_string());
        assert_eq!(folder.kind(), expected.kind());

        // A file system without room.
        let parent = tempfile::tempdir().unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let place = temporary_sibling(&parent.path().join("file")).unwrap();
        let (_, path) = place.0.into_parts();
        let mut sibling = Sibling(NamedTempFile::from_parts(full, path));
        let error = sibling.write_all(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!error.to_string().contains(".maskwatch-"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_sibling_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let (usual, path) = (parent.path().join("usual"), parent.path().join("file"));
        fs::write(&usual, "").unwrap();
        persist(temporary_sibling(&path).unwrap(), &path).unwrap();
        assert_eq!(mode(&path), mode(&usual));
    }
}
