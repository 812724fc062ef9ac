//! One program at a time changes a models folder.
//!
//! The lock is the system's, on a file of the folder: it ends with the process that holds it, however that ends. It is for
//! those who change the folder; whoever reads it waits for nobody.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::ModelsError;

/// The file that is locked. It stays, empty.
const FILE: &str = ".lock";
/// How long another program is waited for: adding a large bundle to a slow disk takes seconds.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two tries.
const TRY_EVERY: Duration = Duration::from_millis(20);

/// While it is held nobody else changes the folder.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock ends with the file")] File);

impl Lock {
    /// Waits for the lock of `dir`, at most `wait_max`.
    pub(super) fn take(dir: &Path, wait_max: Duration) -> Result<Self, ModelsError> {
        let path = dir.join(FILE);
        let mut options = File::options();
        let file = options.create(true).append(true).open(&path);
        let file = file.map_err(ModelsError::io(&path, "open the file"))?;
        let begin = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) if begin.elapsed() < wait_max => {
                    std::thread::sleep(TRY_EVERY);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(ModelsError::Busy {
                        path: dir.to_owned(),
                        waited_s: wait_max.as_secs(),
                    });
                }
                Err(TryLockError::Error(error)) => {
                    return Err(ModelsError::io(&path, "lock the file")(error));
                }
            }
        }
    }
}
