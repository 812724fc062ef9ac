//! Alert budgets that are held by segment: applied to a loaded bundle, and shown.
//!
//! In flow a bundle and the name of a field, out flow the bundle with its calibration rows divided by that field, or the
//! fault with the fields that would do. Invariant: what is shown has a bounded number of lines.

use super::exit::ConfigFaults;
use crate::Detector;
use crate::evaluate::shown_value;
use crate::pipeline::options::AlertsConfig;
use crate::schema::{Kind, Schema};
use crate::score::{AlertBudget, NO_SEGMENT, RankedAmong, Segment, SegmentedScores};
use crate::toml_file::KeyFault;
use anyhow::anyhow;
use std::path::Path;

/// Segments that a table shows, the largest first: what fits on a page.
const SEGMENTS_SHOWN_MAX: usize = 50;
/// Fields that are named as ones that a budget can be held by.
const FIELDS_SHOWN_MAX: usize = 20;

/// The detector with the budget held by `field`, if one is given.
///
/// # Errors
/// A budget out of range, a field without segments (64).
pub fn held(detector: Detector, field: Option<&str>, budget: f64) -> anyhow::Result<Detector> {
    let budget = AlertBudget::new(budget).map_err(|e| anyhow!(e))?;
    match field {
        Some(field) => Ok(detector.with_budget_by(field, budget)?),
        None => Ok(detector),
    }
}

/// The detector as `[alerts]` asks for; `dir` is the bundle's folder.
///
/// # Errors
/// A field without segments (64).
pub fn configured(
    detector: Detector,
    dir: &Path,
    alerts: &AlertsConfig,
) -> anyhow::Result<Detector> {
    let Some(field) = &alerts.budget_by else {
        return Ok(detector);
    };
    let held = detector.with_budget_by(field, alerts.budget);
    Ok(held.map_err(|e| {
        ConfigFaults::new(dir, vec![KeyFault::new("alerts.budget_by", e.to_string())])
    })?)
}

/// Whether a bundle trained with this schema may know the segments by `field`: how many values it has shows only then.
///
/// # Errors
/// The fields that would do (64); `dir` is the folder of the bundle to come.
pub fn check_schema(dir: &Path, field: &str, schema: &Schema) -> Result<(), ConfigFaults> {
    let fits = |kind| matches!(kind, Kind::Categorical | Kind::Boolean);
    let features = schema.features().filter(|feature| fits(feature.kind));
    let names: Vec<&str> = features.map(|feature| feature.name.as_str()).collect();
    if names.contains(&field) {
        return Ok(());
    }
    let role = schema.fields().iter().find(|other| other.name == field);
    let found = match role {
        Some(other) if !other.role.is_seen() => "no feature",
        Some(other) => other.kind.as_str(),
        None => "no field of the schema",
    };
    let names = names.join(", ");
    let what = format!("'{field}' is {found}, expected a categorical or boolean feature: {names}");
    let fault = KeyFault::new("alerts.budget_by", what);
    Err(ConfigFaults::new(dir, vec![fault]))
}

/// The fields that a budget could be held by, with how many of their segments would rank alone, on one line; nothing
/// where there is none.
pub fn possible(detector: &Detector, budget: f64) -> String {
    let Ok(budget) = AlertBudget::new(budget) else {
        return String::new();
    };
    let fields = detector.scorer().conformal().segments().iter();
    let fields = fields.zip(detector.budget_fields());
    let mut shown: Vec<String> = fields
        .clone()
        .take(FIELDS_SHOWN_MAX)
        .filter_map(|(by, field)| {
            let counts = Counts::of(&detector.scorer().segmented_by(by.field, budget)?);
            Some(format!("{} ({} of {})", field.name, counts.own, counts.all))
        })
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    let rest = fields.skip(FIELDS_SHOWN_MAX).count();
    if rest > 0 {
        shown.push(format!("and {rest} more"));
    }
    format!(
        "alert budget {} can be held by segment (one with {} calibration rows ranks alone): {}\n",
        budget.share(),
        detector.scorer().segment_rows_needed(budget),
        shown.join(", ")
    )
}

/// How the budget is held, on one line; `None` if it is not held by segment.
pub fn headline(detector: &Detector) -> Option<String> {
    let segmented = detector.scorer().segmented()?;
    let counts = Counts::of(segmented);
    let at = segmented.field().field();
    let field = detector.schema().features().nth(at)?;
    let rest = match (counts.among, counts.all - counts.own) {
        (_, 0) => String::new(),
        (RankedAmong::All, rest) => format!(", {rest} among all rows"),
        (_, rest) => format!(", {rest} in a pool of {} rows", counts.pool_rows),
    };
    Some(format!(
        "alert budget {} by {}: {} segments, {} rank alone (at least {} calibration rows){rest}",
        segmented.budget().share(),
        field.name,
        counts.all,
        counts.own,
        segmented.rows_needed(),
    ))
}

/// How the budget is held, segment by segment, the largest first; nothing if it is not held by segment.
pub fn table(detector: &Detector) -> String {
    let (Some(segmented), Some(headline)) = (detector.scorer().segmented(), headline(detector))
    else {
        return String::new();
    };
    let mut segments: Vec<Segment> = segmented.segments().collect();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.rows));
    let rows: Vec<(String, Segment)> = segments
        .iter()
        .take(SEGMENTS_SHOWN_MAX)
        .map(|segment| {
            let name = detector.segment_name(segmented, segment.code);
            (shown_value(&name), *segment)
        })
        .collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0).max("segment".len());
    let mut text = format!(
        "{headline}\n  {:width$} {:>9}  {:17}  realised rate, 90 % interval\n",
        "segment", "rows", "ranked among"
    );
    for (name, segment) in rows {
        let among = match segment.among {
            RankedAmong::Own => "its own".to_owned(),
            RankedAmong::Pool => format!("the pool, {}", segment.among_rows),
            RankedAmong::All => format!("all, {}", segment.among_rows),
        };
        let among_rows = detector.scorer().effective(segment.among_rows);
        let rate = segmented.budget().realised_rate(among_rows);
        let rate = match (rate, segment.among) {
            (None, _) => "cannot be reached".to_owned(),
            // What holds for all records says nothing of these few.
            (Some(_), RankedAmong::All) => "unknown".to_owned(),
            (Some((low, high)), _) => format!("{low:.6}..{high:.6}"),
        };
        text += &format!("  {name:width$} {:>9}  {among:17}  {rate}\n", segment.rows);
    }
    if segments.len() > SEGMENTS_SHOWN_MAX {
        text += &format!("  and {} more\n", segments.len() - SEGMENTS_SHOWN_MAX);
    }
    text
}

/// How many segments with a known value there are, and what becomes of them.
struct Counts {
    all: usize,
    own: usize,
    /// What those that do not rank alone rank among, and how many rows that are.
    among: RankedAmong,
    pool_rows: usize,
}

impl Counts {
    fn of(segmented: &SegmentedScores) -> Self {
        let mut counts = Self {
            all: 0,
            own: 0,
            among: RankedAmong::All,
            pool_rows: 0,
        };
        for segment in segmented.segments() {
            if segment.code == NO_SEGMENT {
                (counts.among, counts.pool_rows) = (segment.among, segment.among_rows);
                continue;
            }
            counts.all += 1;
            counts.own += usize::from(segment.among == RankedAmong::Own);
        }
        counts
    }
}
