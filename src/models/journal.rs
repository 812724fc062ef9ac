//! The log of a models folder: one JSON object a line, appended and synced before the pointer that it speaks of is moved.
//!
//! Entries flow in, the history of champions flows out. The invariants: a line that a crash has torn was never carried out, and
//! is dropped by the next writer; what the log says and the pointer does not is voided by an entry of its own
//! ([`Change::NotDone`]), so that the history is true whenever a process was killed.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::error::ModelsError;
use super::id::ModelId;
use crate::durable;

/// The file's name.
pub const JOURNAL: &str = "log.jsonl";
/// Bytes of a log at most: a hundred thousand changes.
const BYTES_MAX: u64 = 32 << 20;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A bundle came into the folder.
    Added,
    /// A model became the champion.
    Promoted,
    /// An earlier champion became it again.
    RolledBack,
    /// A model became the challenger.
    Challenged,
    /// There is no challenger any more.
    Withdrawn,
    /// A model may be neither any more.
    Retired,
    /// The bundle of a retired model was removed.
    Deleted,
    /// The change of the champion before this entry did not happen: its program was ended in the middle.
    NotDone,
    /// The champion was found to be another one than the log says: somebody wrote the file by hand.
    Found,
}

impl Change {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled_back",
            Self::Challenged => "challenged",
            Self::Withdrawn => "withdrawn",
            Self::Retired => "retired",
            Self::Deleted => "deleted",
            Self::NotDone => "not_done",
            Self::Found => "found",
        }
    }
}

/// Who changes something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// A name for other people.
    pub by: String,
    /// Why, in words.
    pub note: Option<String>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// RFC 3339, UTC.
    pub when: String,
    /// Who.
    pub by: String,
    /// What.
    pub what: Change,
    /// The model before: of the pointer that was moved, or the one that went.
    pub from: Option<ModelId>,
    /// The model after: of the pointer that was moved, or the one that came.
    pub to: Option<ModelId>,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Entry {
    /// An entry of this moment.
    pub(super) fn now(
        actor: &Actor,
        what: Change,
        from: Option<ModelId>,
        to: Option<ModelId>,
    ) -> Self {
        Self {
            when: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            by: actor.by.clone(),
            what,
            from,
            to,
            note: actor.note.clone(),
        }
    }
}

/// All entries, the oldest first; none where there is no log.
///
/// # Errors
/// A log that cannot be read, or a line of it that is no entry. The last line may be torn: then it is left out.
pub(super) fn read(dir: &Path) -> Result<Vec<Entry>, ModelsError> {
    let path = dir.join(JOURNAL);
    let bytes = match durable::read_regular(&path, BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ModelsError::io(&path, "read the log")(error)),
    };
    let whole = &bytes[..whole_bytes(&bytes)];
    let lines = whole
        .split(|byte| *byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|error| ModelsError::Journal {
                path: path.clone(),
                line: at + 1,
                detail: error.to_string(),
            })
        })
        .collect()
}

/// Bytes up to the end of the last whole line.
fn whole_bytes(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte == b'\n');
    last.map_or(0, |at| at + 1)
}

/// Writes an entry behind all others, for good. Only for who holds the lock.
///
/// # Errors
/// If it cannot be written or synced.
pub(super) fn append(dir: &Path, entry: &Entry) -> Result<(), ModelsError> {
    let path = dir.join(JOURNAL);
    let failed = |error| ModelsError::io(&path, "write the log")(error);
    let is_new = !path.exists();
    let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(&path).map_err(failed)?;
    // What a crash has torn was never carried out.
    let bytes = durable::read_regular(&path, BYTES_MAX).map_err(failed)?;
    let whole = whole_bytes(&bytes) as u64;
    file.set_len(whole).map_err(failed)?;
    file.seek(SeekFrom::Start(whole)).map_err(failed)?;
    file.write_all(&line).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    if is_new {
        durable::sync_folder(dir).map_err(failed)?;
    }
    Ok(())
}

/// The champions that a rollback can go back to, by the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// The champion last.
    champions: Vec<ModelId>,
    /// As it was before the last change.
    before: Vec<ModelId>,
}

impl History {
    /// Of these entries, the oldest first.
    pub(super) fn of(entries: &[Entry]) -> Self {
        let mut history = Self::default();
        for Entry { what, to, .. } in entries {
            match (what, to) {
                (Change::Promoted | Change::Found, Some(to)) => {
                    history.before = history.champions.clone();
                    history.champions.push(to.clone());
                }
                (Change::RolledBack, Some(to)) => {
                    history.before = history.champions.clone();
                    let earlier = history.champions.iter().rposition(|id| id == to);
                    match earlier {
                        Some(at) => history.champions.truncate(at + 1),
                        None => history.champions.push(to.clone()),
                    }
                }
                (Change::NotDone, _) => history.champions = history.before.clone(),
                _ => {}
            }
        }
        history
    }

    /// The champion by the log.
    pub(super) fn champion(&self) -> Option<&ModelId> {
        self.champions.last()
    }

    /// The champion that a rollback goes back to.
    pub(super) fn earlier(&self) -> Option<&ModelId> {
        let (champion, earlier) = self.champions.split_last()?;
        earlier.iter().rev().find(|id| *id != champion)
    }

    /// The entry that makes the log say what the pointer says, if it does not.
    pub(super) fn amendment(&self, pointer: Option<&ModelId>) -> Option<Entry> {
        let said = self.champion();
        // A pointer that somebody removed is no other champion; one that was never written is a change that did not happen.
        if said == pointer || (pointer.is_none() && !self.before.is_empty()) {
            return None;
        }
        let (what, note) = match self.before.last() == pointer {
            true => (Change::NotDone, "the change before was interrupted"),
            false => (Change::Found, "the pointer was changed without this log"),
        };
        let actor = Actor {
            by: "maskwatch".to_owned(),
            note: Some(note.to_owned()),
        };
        Some(Entry::now(&actor, what, said.cloned(), pointer.cloned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn id(digit: char) -> ModelId {
        ModelId::parse(&digit.to_string().repeat(16)).unwrap()
    }

    fn entry(what: Change, to: char) -> Entry {
        let actor = Actor {
            by: "ada".to_owned(),
            note: None,
        };
        Entry::now(&actor, what, None, Some(id(to)))
    }

    #[test]
    fn rollbacks_go_back_one_champion_after_the_other() {
        use Change::{Added, Promoted, RolledBack};
        let mut log = vec![
            entry(Added, 'a'),
            entry(Promoted, 'a'),
            entry(Promoted, 'b'),
            entry(Promoted, 'c'),
        ];
        for back in ['b', 'a'] {
            let history = History::of(&log);
            assert_eq!(history.earlier(), Some(&id(back)));
            log.push(entry(RolledBack, back));
            assert_eq!(History::of(&log).champion(), Some(&id(back)));
        }
        assert_eq!(History::of(&log).earlier(), None);
    }

    #[test]
    fn a_change_that_did_not_happen_is_no_part_of_the_history() {
        let mut log = vec![entry(Change::Promoted, 'a'), entry(Change::Promoted, 'b')];
        let history = History::of(&log);
        assert_eq!(history.amendment(Some(&id('b'))), None);
        // Killed between the log and the pointer.
        let amendment = history.amendment(Some(&id('a'))).unwrap();
        assert_eq!(amendment.what, Change::NotDone);
        log.push(amendment);
        let history = History::of(&log);
        assert_eq!(
            (history.champion(), history.earlier()),
            (Some(&id('a')), None)
        );
        assert_eq!(history.amendment(Some(&id('a'))), None);
        // The first promotion of all, killed in the same place.
        let first = [entry(Change::Promoted, 'a')];
        let amendment = History::of(&first).amendment(None).unwrap();
        assert_eq!(amendment.what, Change::NotDone);
        assert_eq!(
            History::of(&[first[0].clone(), amendment]),
            History::default()
        );
        // Somebody wrote the file.
        let amendment = history.amendment(Some(&id('c'))).unwrap();
        assert_eq!(amendment.what, Change::Found);
        log.push(amendment);
        let history = History::of(&log);
        assert_eq!(history.champion(), Some(&id('c')));
        assert_eq!(history.earlier(), Some(&id('a')));
    }

    #[test]
    fn a_torn_line_is_left_out_and_the_next_writer_drops_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (entry(Change::Added, 'a'), entry(Change::Promoted, 'a'));
        append(dir.path(), &first).unwrap();
        let path = dir.path().join(JOURNAL);
        let whole = std::fs::read(&path).unwrap();
        let torn = serde_json::to_vec(&second).unwrap();
        for cut in 1..torn.len() {
            std::fs::write(&path, [&whole[..], &torn[..cut]].concat()).unwrap();
            assert_eq!(
                read(dir.path()).unwrap(),
                std::slice::from_ref(&first),
                "{cut}"
            );
        }
        append(dir.path(), &second).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [first, second]);
    }

    #[test]
    fn a_line_in_the_middle_that_is_no_entry_is_named() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &entry(Change::Added, 'a')).unwrap();
        let path = dir.path().join(JOURNAL);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"when\": 1}\n");
        std::fs::write(&path, text).unwrap();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("log.jsonl: line 2: "), "{error}");
    }
}
