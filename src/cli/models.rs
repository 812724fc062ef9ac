//! `maskwatch models`: a models folder and a wish in, the folder changed or a page about it out.

use super::inspect::{created, page_of_promise};
use super::models_args::{ActorArguments, ModelsArguments, ModelsVerb};
use super::output::refuse_url;
use super::report::{print, warn};
use crate::bundle::{Manifest, created_at_unix_s};
use crate::models::{Actor, Entry, Exchange, Listed, Listing, ModelId, ModelsFolder, Standing};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Variables with the name of the user, the first that is set.
const USER_VARIABLES: [&str; 2] = ["USER", "LOGNAME"];
/// Parents of a model that are shown at most.
const PARENTS_MAX: usize = 16;
/// Entries of the log that are shown of a model at most, the latest.
const ENTRIES_MAX: usize = 20;

/// Runs the verb.
///
/// # Errors
/// No models folder, no such model, a wish that is refused (64), a bundle that is not whole (65), a folder that cannot be
/// read or written, or that another program has for too long (1).
pub fn run(arguments: &ModelsArguments) -> anyhow::Result<ExitCode> {
    match &arguments.verb {
        ModelsVerb::Add(of) => {
            refuse_url(&of.dir, "DIR")?;
            refuse_url(&of.bundle, "BUNDLE")?;
            let folder = ModelsFolder::create(&of.dir)?;
            let id = folder.add(&of.bundle, &actor(&of.actor))?;
            print(&format!("{}: model {id} is there\n", of.dir.display()))?;
        }
        ModelsVerb::List(of) => {
            let folder = open(&of.dir)?;
            let listing = folder.list()?;
            match of.json {
                true => print(&format!("{:#}\n", listing_json(&folder, &listing)))?,
                false => print(&table(&listing)?)?,
            }
            for path in &listing.misnamed {
                warn(&format!(
                    "{}: a bundle whose folder is not called by its model_id; `maskwatch models add {} {}` takes it in",
                    path.display(),
                    of.dir.display(),
                    path.display()
                ));
            }
        }
        ModelsVerb::Show(of) => {
            let folder = open(&of.dir)?;
            let id = folder.find(&of.id)?;
            print(&page(&folder, &id)?)?;
        }
        ModelsVerb::Promote(of) => {
            let folder = open(&of.dir)?;
            let id = folder.find(&of.id)?;
            say("champion", &folder.promote(&id, &actor(&of.actor))?)?;
        }
        ModelsVerb::Rollback(of) => {
            let folder = open(&of.dir)?;
            say("champion", &folder.rollback(&actor(&of.actor))?)?;
        }
        ModelsVerb::Challenge(of) => {
            let folder = open(&of.dir)?;
            let exchange = match &of.id {
                Some(id) => folder.challenge(&folder.find(id)?, &actor(&of.actor))?,
                None => folder.withdraw(&actor(&of.actor))?,
            };
            say("challenger", &exchange)?;
        }
        ModelsVerb::Retire(of) => {
            let folder = open(&of.dir)?;
            let id = folder.find(&of.id)?;
            folder.retire(&id, of.delete, &actor(&of.actor))?;
            let deleted = if of.delete { " and deleted" } else { "" };
            print(&format!("{id}: retired{deleted}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(dir: &Path) -> anyhow::Result<ModelsFolder> {
    refuse_url(dir, "DIR")?;
    Ok(ModelsFolder::open(dir)?)
}

/// Who does it: as given, else the user of the environment.
fn actor(given: &ActorArguments) -> Actor {
    let mut users = USER_VARIABLES
        .iter()
        .filter_map(|name| std::env::var(name).ok());
    let user = users.find(|user| !user.is_empty());
    Actor {
        by: given
            .by
            .clone()
            .or(user)
            .unwrap_or_else(|| "unknown".to_owned()),
        note: given.note.clone(),
    }
}

fn say(pointer: &str, exchange: &Exchange) -> anyhow::Result<()> {
    let name = |id: &Option<ModelId>| id.as_ref().map_or("none".to_owned(), ModelId::to_string);
    let (from, to) = (name(&exchange.from), name(&exchange.to));
    print(&match exchange.is_change() {
        true => format!("{pointer}: {from} -> {to}\n"),
        false => format!("{pointer}: {to}, as it was\n"),
    })
}

/// The model whose weights or scores a model began with, and how.
fn parent(manifest: &Manifest) -> Option<(&str, &'static str)> {
    let description = &manifest.description;
    let tuned = description.tuning.as_ref();
    let tuned = tuned.map(|tuning| (tuning.parent_model_id.as_str(), "tuned from"));
    let recalibrated = description.recalibration.as_ref();
    let recalibrated = recalibrated.map(|of| (of.parent_model_id.as_str(), "recalibrated from"));
    let trained = description.from.as_deref();
    // The latest of what was done to it.
    recalibrated
        .or(tuned)
        .or(trained.map(|from| (from, "trained from")))
}

fn table(listing: &Listing) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    writeln!(
        out,
        "{:16}  {:10}  {:20}  {:34}  {:>8}  {:>11}",
        "model_id", "standing", "created", "parent", "features", "calibration"
    )?;
    for Listed {
        id,
        standing,
        created_at_unix_s,
        manifest,
    } in &listing.models
    {
        let (id, standing, created) = (id.as_str(), standing.as_str(), created(*created_at_unix_s));
        match manifest {
            Ok(manifest) => {
                let description = &manifest.description;
                let parent = parent(manifest).map(|(id, how)| format!("{how} {id}"));
                let parent = parent.unwrap_or_else(|| "-".to_owned());
                let features = description.schema.features().count();
                let rows = description.rows.calibration;
                writeln!(
                    out,
                    "{id:16}  {standing:10}  {created:20}  {parent:34}  {features:>8}  {rows:>11}"
                )?;
            }
            Err(error) => writeln!(out, "{id:16}  {standing:10}  {created:20}  {error}")?,
        }
    }
    Ok(text)
}

fn listing_json(folder: &ModelsFolder, listing: &Listing) -> Value {
    let of = |pointer: Standing| {
        let mut models = listing.models.iter();
        models
            .find(|of| of.standing == pointer)
            .map(|of| of.id.as_str())
    };
    let models: Vec<Value> = listing.models.iter().map(model_json).collect();
    json!({
        "dir": folder.dir(),
        "champion": of(Standing::Champion),
        "challenger": of(Standing::Challenger),
        "models": models,
        "misnamed": listing.misnamed,
    })
}

fn model_json(listed: &Listed) -> Value {
    let mut value = json!({
        "model_id": listed.id,
        "standing": listed.standing.as_str(),
        "created_at_unix_s": listed.created_at_unix_s,
    });
    let further = match &listed.manifest {
        Ok(manifest) => {
            let description = &manifest.description;
            json!({
                "format_version": manifest.format_version,
                "trained_from": description.from,
                "tuned_from": description.tuning.as_ref().map(|tuning| &tuning.parent_model_id),
                "recalibrated_from": description.recalibration.as_ref().map(|of| &of.parent_model_id),
                "schema_sha256": description.schema_sha256,
                "features": description.schema.features().count(),
                "calibration_rows": description.rows.calibration,
                "seed": description.seed,
            })
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    if let (Value::Object(value), Value::Object(further)) = (&mut value, further) {
        value.extend(further);
    }
    value
}

/// What is told of one model.
fn page(folder: &ModelsFolder, id: &ModelId) -> anyhow::Result<String> {
    let detector = folder.load(id)?;
    let listing = folder.list()?;
    let standing = listing.models.iter().find(|of| of.id == *id);
    let standing = standing.map_or("kept", |of| of.standing.as_str());
    let mut text = String::new();
    let out = &mut text;
    let path = folder.bundle(id);
    writeln!(out, "model_id     {id}\nstanding     {standing}")?;
    writeln!(out, "created      {}", created(created_at_unix_s(&path)))?;
    for line in lineage(&listing, detector.manifest()) {
        writeln!(out, "parent       {line}")?;
    }
    let description = &detector.manifest().description;
    writeln!(
        out,
        "features     {}",
        description.schema.features().count()
    )?;
    let rows = description.rows;
    writeln!(
        out,
        "rows         {} fit, {} reference, {} calibration",
        rows.fit, rows.reference, rows.calibration
    )?;
    out.push_str(&page_of_promise(&detector)?);
    writeln!(out, "more         maskwatch inspect {}", path.display())?;
    let entries = folder.journal()?;
    let of_it = |entry: &&Entry| entry.from.as_ref() == Some(id) || entry.to.as_ref() == Some(id);
    let entries: Vec<&Entry> = entries.iter().filter(of_it).collect();
    writeln!(out, "\nlog")?;
    for entry in entries
        .iter()
        .skip(entries.len().saturating_sub(ENTRIES_MAX))
    {
        writeln!(out, "{}", entry_line(entry))?;
    }
    Ok(text)
}

fn entry_line(entry: &Entry) -> String {
    let name = |id: &Option<ModelId>| id.as_ref().map_or("none".to_owned(), ModelId::to_string);
    let note = entry
        .note
        .as_ref()
        .map_or(String::new(), |note| format!(": {note}"));
    format!(
        "{}  {:11}  {} -> {}  by {}{note}",
        entry.when,
        entry.what.as_str(),
        name(&entry.from),
        name(&entry.to),
        entry.by
    )
}

/// The parents of a model, as far as they are in the folder, the nearest first.
fn lineage(listing: &Listing, manifest: &Manifest) -> Vec<String> {
    let (mut lines, mut next) = (Vec::new(), Some(manifest));
    while let Some((id, how)) = next.and_then(parent).filter(|_| lines.len() < PARENTS_MAX) {
        let mut models = listing.models.iter();
        next = models
            .find(|of| of.id.as_str() == id)
            .and_then(|of| of.manifest.as_ref().ok());
        let absent = if next.is_some() {
            ""
        } else {
            ", which is not in this folder"
        };
        lines.push(format!("{how} {id}{absent}"));
    }
    lines
}
