//! Files and folders that are written whole or not at all, and survive a power cut once they are there.
//!
//! What is to be written goes into a temporary sibling, is synced, and takes its name in one step; on any failure the
//! sibling is removed and the name keeps what it had. The caller says in its own error which file it was.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::{NamedTempFile, TempDir};

/// The folder of `path`; the working folder for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file beside `path`, removed when dropped, with the permissions that new files have.
///
/// # Errors
/// If the folder takes no file.
pub fn temporary_sibling(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".maskwatch-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Narrowed by the process's umask, as for any new file.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder_of(path))
}

/// Gives a finished sibling its name, replacing what had it.
///
/// # Errors
/// If it cannot be synced or renamed; the name then keeps what it had.
pub fn persist(sibling: NamedTempFile, path: &Path) -> io::Result<File> {
    sibling.as_file().sync_all()?;
    let file = sibling.persist(path)?;
    sync_folder(folder_of(path))?;
    Ok(file)
}

/// Gives a finished sibling its name, if nothing has it.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if something has; if it cannot be synced or renamed.
pub fn persist_new(sibling: NamedTempFile, path: &Path) -> io::Result<File> {
    sibling.as_file().sync_all()?;
    let file = sibling.persist_noclobber(path)?;
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
    let aside = tempfile::Builder::new()
        .prefix(".maskwatch-")
        .tempdir_in(folder_of(target))?;
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
        let folder = tempfile::Builder::new()
            .prefix(".maskwatch-")
            .tempdir_in(parent)
            .unwrap();
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
}
