//! The folder itself: what is in it, and every change of it.
//!
//! A change takes the lock, makes log and pointer agree, appends to the log, and then moves the pointer in one step. So a
//! process that is killed anywhere leaves the old pointer or the new one, and the next change repairs the log.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ModelsError;
use super::id::ModelId;
use super::journal::{self, Actor, Change, Entry, History, JOURNAL};
use super::lock::{Lock, WAIT_MAX};
use crate::Detector;
use crate::bundle::{self, BundleError, MANIFEST, Manifest, RUN};
use crate::durable;

/// The pointer file of the model that serves.
pub const CHAMPION: &str = "champion";
/// The pointer file of the model that is tried beside it.
pub const CHALLENGER: &str = "challenger";
/// Bytes of a pointer file at most.
const POINTER_BYTES_MAX: u64 = 256;
/// Characters of a wrong pointer that an error shows.
const SHOWN_MAX: usize = 40;
/// The shortest beginning of an id that stands for it.
const PREFIX_MIN: usize = 4;

/// What a model is in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It serves.
    Champion,
    /// It is tried beside the champion.
    Challenger,
    /// It may be neither.
    Retired,
    /// It is there.
    Kept,
}

impl Standing {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Challenger => "challenger",
            Self::Retired => "retired",
            Self::Kept => "kept",
        }
    }
}

/// A bundle of the folder.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub id: ModelId,
    /// What it is.
    pub standing: Standing,
    /// When it was trained, seconds since 1970.
    pub created_at_unix_s: u64,
    /// Its manifest, or why it cannot be read.
    pub manifest: Result<Manifest, BundleError>,
}

/// Everything in the folder.
#[derive(Debug)]
pub struct Listing {
    /// The bundles under their ids, the oldest first.
    pub models: Vec<Listed>,
    /// Bundles under other names, as `train --out` may have made them: nothing points at them.
    pub misnamed: Vec<PathBuf>,
}

/// The move of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// What it named.
    pub from: Option<ModelId>,
    /// What it names.
    pub to: Option<ModelId>,
}

impl Exchange {
    /// Whether anything was done.
    pub fn is_change(&self) -> bool {
        self.from != self.to
    }
}

/// A folder of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelsFolder {
    dir: PathBuf,
}

/// The folder while its lock is held.
struct Held {
    history: History,
    retired: Vec<ModelId>,
    champion: Option<ModelId>,
    challenger: Option<ModelId>,
    _lock: Lock,
}

impl ModelsFolder {
    /// The models folder at `dir`, if there is one: no bundle itself, with a log or a champion.
    pub fn at(dir: &Path) -> Option<Self> {
        let has = |name: &str| dir.join(name).exists();
        let is_one = !has(MANIFEST) && (has(JOURNAL) || has(CHAMPION));
        is_one.then(|| Self {
            dir: dir.to_owned(),
        })
    }

    /// The models folder at `dir`.
    ///
    /// # Errors
    /// [`ModelsError::NoFolder`].
    pub fn open(dir: &Path) -> Result<Self, ModelsError> {
        Self::at(dir).ok_or_else(|| {
            let found = match fs::metadata(dir) {
                Err(_) => "there is nothing of this name",
                Ok(found) if !found.is_dir() => "is no folder",
                Ok(_) if dir.join(MANIFEST).exists() => "is a bundle",
                Ok(_) => "is a folder without a champion and without a log",
            };
            let path = dir.to_owned();
            ModelsError::NoFolder { path, found }
        })
    }

    /// The models folder at `dir`, made if there is nothing, an empty folder, or one with bundles alone.
    ///
    /// # Errors
    /// [`ModelsError::NoFolder`] for a folder that holds other things; if it cannot be made.
    pub fn create(dir: &Path) -> Result<Self, ModelsError> {
        if let Some(folder) = Self::at(dir) {
            return Ok(folder);
        }
        let made = fs::create_dir_all(dir);
        made.map_err(ModelsError::io(dir, "create the folder"))?;
        let entries = read_folder(dir)?;
        let is_fine = |path: &PathBuf| is_hidden(path) || path.join(MANIFEST).exists();
        if dir.join(MANIFEST).exists() || !entries.iter().all(is_fine) {
            return Self::open(dir);
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The folder's path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the bundle of a model is.
    pub fn bundle(&self, id: &ModelId) -> PathBuf {
        self.dir.join(id.as_str())
    }

    /// The model that serves.
    ///
    /// # Errors
    /// A pointer that cannot be read or holds no id.
    pub fn champion(&self) -> Result<Option<ModelId>, ModelsError> {
        self.pointer(CHAMPION)
    }

    /// The model that is tried beside it.
    ///
    /// # Errors
    /// As [`champion`](Self::champion).
    pub fn challenger(&self) -> Result<Option<ModelId>, ModelsError> {
        let challenger = self.pointer(CHALLENGER)?;
        // A promotion that was killed in the middle leaves both pointers at one model.
        let champion = self.champion()?;
        Ok(challenger.filter(|id| champion.as_ref() != Some(id)))
    }

    fn pointer(&self, name: &str) -> Result<Option<ModelId>, ModelsError> {
        let path = self.dir.join(name);
        let text = match durable::read_regular_text(&path, POINTER_BYTES_MAX) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ModelsError::io(&path, "read the pointer")(error)),
        };
        match ModelId::parse(text.trim()) {
            Some(id) => Ok(Some(id)),
            None => {
                let found = text.trim().chars().take(SHOWN_MAX).collect();
                Err(ModelsError::Pointer { path, found })
            }
        }
    }

    /// The log, the oldest entry first.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn journal(&self) -> Result<Vec<Entry>, ModelsError> {
        journal::read(&self.dir)
    }

    /// What is in the folder.
    ///
    /// # Errors
    /// A folder, pointer or log that cannot be read. A bundle that cannot be is told in its place.
    pub fn list(&self) -> Result<Listing, ModelsError> {
        let (champion, challenger) = (self.champion()?, self.challenger()?);
        let retired = retired(&self.journal()?);
        let (mut models, mut misnamed) = (Vec::new(), Vec::new());
        for path in read_folder(&self.dir)? {
            if is_hidden(&path) || !path.join(MANIFEST).exists() {
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(id) = name.and_then(ModelId::parse) else {
                misnamed.push(path);
                continue;
            };
            let standing = match &id {
                id if champion.as_ref() == Some(id) => Standing::Champion,
                id if challenger.as_ref() == Some(id) => Standing::Challenger,
                id if retired.contains(id) => Standing::Retired,
                _ => Standing::Kept,
            };
            models.push(Listed {
                standing,
                created_at_unix_s: bundle::created_at_unix_s(&path),
                manifest: bundle::load_manifest(&path),
                id,
            });
        }
        models.sort_by(|a, b| (a.created_at_unix_s, &a.id).cmp(&(b.created_at_unix_s, &b.id)));
        misnamed.sort();
        Ok(Listing { models, misnamed })
    }

    /// The model that a text means: its id, the beginning of it (4 characters at least), or the name of a pointer.
    ///
    /// # Errors
    /// No model, or several.
    pub fn find(&self, asked: &str) -> Result<ModelId, ModelsError> {
        let dir = self.dir.clone();
        let of_pointer = match asked {
            CHAMPION => Some((self.champion()?, CHAMPION, "promote")),
            CHALLENGER => Some((self.challenger()?, CHALLENGER, "challenge")),
            _ => None,
        };
        if let Some((id, pointer, verb)) = of_pointer {
            return id.ok_or(ModelsError::NoPointer { dir, pointer, verb });
        }
        let known = self.known()?;
        let begins = |id: &&ModelId| asked.len() >= PREFIX_MIN && id.as_str().starts_with(asked);
        let mut found: Vec<ModelId> = known.iter().filter(begins).cloned().collect();
        let asked = asked.to_owned();
        match (found.len(), found.pop()) {
            (1, Some(id)) => Ok(id),
            (_, None) => Err(ModelsError::NoModel { dir, asked, known }),
            (_, Some(last)) => {
                found.push(last);
                Err(ModelsError::Ambiguous { dir, asked, found })
            }
        }
    }

    /// The ids of all bundles, ascending.
    fn known(&self) -> Result<Vec<ModelId>, ModelsError> {
        let bundles = read_folder(&self.dir)?.into_iter();
        let id = |path: PathBuf| {
            let id = ModelId::parse(path.file_name()?.to_str()?)?;
            path.join(MANIFEST).exists().then_some(id)
        };
        let mut known: Vec<ModelId> = bundles.filter_map(id).collect();
        known.sort();
        Ok(known)
    }

    /// Loads a model of the folder, and so checks it whole.
    ///
    /// # Errors
    /// A bundle that is not whole, or is another model than its folder says.
    pub fn load(&self, id: &ModelId) -> Result<Detector, ModelsError> {
        let path = self.bundle(id);
        let detector = Detector::load(&path)?;
        if detector.model_id() != id.as_str() {
            let found = detector.model_id().to_owned();
            return Err(ModelsError::OtherName { path, found });
        }
        Ok(detector)
    }

    /// Copies a bundle into the folder, under its id. One that is there is replaced by the copy; a retired one is retired no
    /// more. The bundle itself stays where it is.
    ///
    /// # Errors
    /// A bundle that is not whole; if it cannot be copied. The folder then has nothing of it.
    pub fn add(&self, bundle: &Path, actor: &Actor) -> Result<ModelId, ModelsError> {
        let held = self.hold()?;
        let manifest = bundle::load_manifest(bundle)?;
        let into = |error| ModelsError::io(&self.dir, "copy the bundle into the folder")(error);
        let copy = durable::temporary_folder(&self.dir).map_err(into)?;
        let names = manifest.files.keys().map(String::as_str);
        for name in names.chain([MANIFEST, RUN]) {
            let from = bundle.join(name);
            if name == RUN && !from.exists() {
                continue;
            }
            let copied = copy_synced(&from, &copy.path().join(name));
            copied.map_err(ModelsError::io(&from, "copy the file"))?;
        }
        // The copy is what serves: it is the one that has to be whole.
        let detector =
            Detector::load(copy.path()).map_err(|error| match Detector::load(bundle) {
                Err(of_source) => of_source,
                Ok(_) => error,
            })?;
        let Some(id) = ModelId::parse(detector.model_id()) else {
            let (path, found) = (bundle.to_owned(), detector.model_id().to_owned());
            return Err(ModelsError::OtherName { path, found });
        };
        durable::sync_folder(copy.path()).map_err(into)?;
        let target = self.bundle(&id);
        let is_new = !target.join(MANIFEST).exists() || held.retired.contains(&id);
        durable::replace_folder(copy, &target).map_err(into)?;
        if is_new || self.journal()?.is_empty() {
            let entry = Entry::now(actor, Change::Added, None, Some(id.clone()));
            journal::append(&self.dir, &entry)?;
        }
        Ok(id)
    }

    /// Makes a model the champion.
    ///
    /// # Errors
    /// A model that is retired or not whole; if it cannot be written.
    pub fn promote(&self, id: &ModelId, actor: &Actor) -> Result<Exchange, ModelsError> {
        let held = self.hold()?;
        self.crown(&held, id.clone(), Change::Promoted, actor)
    }

    /// Makes the champion before this one the champion again.
    ///
    /// # Errors
    /// There was none; as [`promote`](Self::promote).
    pub fn rollback(&self, actor: &Actor) -> Result<Exchange, ModelsError> {
        let held = self.hold()?;
        let dir = self.dir.clone();
        let earlier = held.history.earlier().cloned();
        let earlier = earlier.ok_or(ModelsError::NothingBefore { dir })?;
        self.crown(&held, earlier, Change::RolledBack, actor)
    }

    fn crown(
        &self,
        held: &Held,
        to: ModelId,
        what: Change,
        actor: &Actor,
    ) -> Result<Exchange, ModelsError> {
        let exchange = Exchange {
            from: held.champion.clone(),
            to: Some(to.clone()),
        };
        if !exchange.is_change() {
            return Ok(exchange);
        }
        self.check_serves(held, &to)?;
        let entry = Entry::now(actor, what, exchange.from.clone(), exchange.to.clone());
        journal::append(&self.dir, &entry)?;
        self.point(CHAMPION, &to)?;
        if self.pointer(CHALLENGER)?.as_ref() == Some(&to) {
            self.unpoint(CHALLENGER)?;
        }
        Ok(exchange)
    }

    /// Makes a model the challenger.
    ///
    /// # Errors
    /// The champion; a model that is retired or not whole; if it cannot be written.
    pub fn challenge(&self, id: &ModelId, actor: &Actor) -> Result<Exchange, ModelsError> {
        let held = self.hold()?;
        self.check_no_champion(&held, id)?;
        let exchange = Exchange {
            from: held.challenger.clone(),
            to: Some(id.clone()),
        };
        if exchange.is_change() {
            self.check_serves(&held, id)?;
            let (from, to) = (exchange.from.clone(), exchange.to.clone());
            journal::append(&self.dir, &Entry::now(actor, Change::Challenged, from, to))?;
            self.point(CHALLENGER, id)?;
        }
        Ok(exchange)
    }

    /// Leaves the champion without a challenger.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn withdraw(&self, actor: &Actor) -> Result<Exchange, ModelsError> {
        let held = self.hold()?;
        let (from, to) = (held.challenger.clone(), None);
        if from.is_some() {
            let entry = Entry::now(actor, Change::Withdrawn, from.clone(), None);
            journal::append(&self.dir, &entry)?;
            self.unpoint(CHALLENGER)?;
        }
        Ok(Exchange { from, to })
    }

    /// A model may be neither champion nor challenger any more. Its bundle stays, unless it is to be deleted too.
    ///
    /// # Errors
    /// The champion; if it cannot be written.
    pub fn retire(&self, id: &ModelId, delete: bool, actor: &Actor) -> Result<(), ModelsError> {
        let held = self.hold()?;
        self.check_no_champion(&held, id)?;
        if !held.retired.contains(id) {
            let entry = Entry::now(actor, Change::Retired, Some(id.clone()), None);
            journal::append(&self.dir, &entry)?;
        }
        if self.pointer(CHALLENGER)?.as_ref() == Some(id) {
            self.unpoint(CHALLENGER)?;
        }
        if delete {
            let entry = Entry::now(actor, Change::Deleted, Some(id.clone()), None);
            journal::append(&self.dir, &entry)?;
            self.delete(&self.bundle(id))?;
        }
        Ok(())
    }

    /// Removes a bundle: it loses its name at once, so that nobody reads a half of it.
    fn delete(&self, bundle: &Path) -> Result<(), ModelsError> {
        let failed = |error| ModelsError::io(bundle, "remove the bundle")(error);
        let aside = durable::temporary_folder(&self.dir).map_err(failed)?;
        fs::rename(bundle, aside.path().join("old")).map_err(failed)?;
        durable::sync_folder(&self.dir).map_err(failed)?;
        aside.close().map_err(failed)
    }

    /// Takes the lock, and makes the log say what the pointer says.
    fn hold(&self) -> Result<Held, ModelsError> {
        self.hold_within(WAIT_MAX)
    }

    fn hold_within(&self, wait_max: Duration) -> Result<Held, ModelsError> {
        let lock = Lock::take(&self.dir, wait_max)?;
        let mut entries = self.journal()?;
        let champion = self.champion()?;
        if let Some(amendment) = History::of(&entries).amendment(champion.as_ref()) {
            journal::append(&self.dir, &amendment)?;
            entries.push(amendment);
        }
        Ok(Held {
            history: History::of(&entries),
            retired: retired(&entries),
            challenger: self.challenger()?,
            champion,
            _lock: lock,
        })
    }

    /// Whether a model may be pointed at.
    fn check_serves(&self, held: &Held, id: &ModelId) -> Result<(), ModelsError> {
        if held.retired.contains(id) {
            let (dir, id) = (self.dir.clone(), id.clone());
            return Err(ModelsError::Retired { dir, id });
        }
        self.load(id).map(drop)
    }

    fn check_no_champion(&self, held: &Held, id: &ModelId) -> Result<(), ModelsError> {
        if held.champion.as_ref() != Some(id) {
            return Ok(());
        }
        let (dir, id) = (self.dir.clone(), id.clone());
        Err(ModelsError::IsChampion { dir, id })
    }

    fn point(&self, name: &str, to: &ModelId) -> Result<(), ModelsError> {
        let path = self.dir.join(name);
        let written = durable::temporary_sibling(&path).and_then(|mut sibling| {
            sibling.write_all(format!("{to}\n").as_bytes())?;
            durable::persist(sibling, &path).map(drop)
        });
        written.map_err(ModelsError::io(&path, "write the pointer"))
    }

    fn unpoint(&self, name: &str) -> Result<(), ModelsError> {
        let path = self.dir.join(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| durable::sync_folder(&self.dir)),
        };
        removed.map_err(ModelsError::io(&path, "remove the pointer"))
    }
}

/// The models that were retired and did not come back.
fn retired(entries: &[Entry]) -> Vec<ModelId> {
    let mut retired = Vec::new();
    for Entry { what, from, to, .. } in entries {
        match (what, from, to) {
            (Change::Retired, Some(id), _) if !retired.contains(id) => retired.push(id.clone()),
            (Change::Added, _, Some(id)) => retired.retain(|of| of != id),
            _ => {}
        }
    }
    retired
}

/// Whether a name is that of something unfinished, or of the lock.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.'))
}

fn read_folder(dir: &Path) -> Result<Vec<PathBuf>, ModelsError> {
    let entries = fs::read_dir(dir).and_then(|entries| {
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(ModelsError::io(dir, "read the folder"))
}

fn copy_synced(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests;
