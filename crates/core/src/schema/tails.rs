//! What can blind a number: stand-ins for missing values, a few values that hold the variance, heavy tails.
//!
//! In flows a [`Spread`], out flow findings with their numbers and the transform that would help. `init` writes
//! what it finds, `train` says what is left of it. The rules:
//!
//! - A *stand-in* is the smallest or largest value where it comes in at least [`STAND_IN_ROWS_MIN`] rows and lies
//!   far from all others: by half of the range of the rest (1 % to 99 %) if it is a number that people take for
//!   "missing" (-1, -99, 999, 9999, the ends of 16 and 32 bits), by three ranges if it is any other.
//! - *A few values hold the variance* where at most one row in a thousand makes half of the sum of squared
//!   deviations, and the rest is no constant.
//! - A *heavy tail* is one whose 99.9 % point lies over [`HEAVY`] times as far from the median as the quartile
//!   does: 4.6 times for normal values, 9 for exponential ones, 22 for the exponential of normal ones.
//! - A transform is proposed for the two latter where it at least halves that ratio, or the distance of the extreme:
//!   `log1p` if no value is below zero, else `asinh`.

use super::field::Transform;
use super::spread::{Points, Spread};

/// Rows of a stand-in at least.
const STAND_IN_ROWS_MIN: u64 = 5;
/// Stand-ins that are looked for at most.
const STAND_INS_MAX: usize = 4;
/// Rows that must be left without the stand-ins.
const REST_ROWS_MIN: u64 = 20;
/// Distinct values that must be left: of -1, 0 and 1 none is a stand-in.
const REST_VALUES_MIN: usize = 10;
/// Distinct values from which the tail of a number is judged: fewer are small counts.
const TAIL_VALUES_MIN: usize = 20;
/// Share of the variance from which a few values are worth a look.
pub(super) const BLIND_SHARE: f64 = 0.9;
/// Rows from which a few values can be told from the rest.
const ROWS_MIN: u64 = 100;
/// Share of the rows that "a few values" are at most.
const FEW_SHARE: f64 = 0.001;
/// Share of the variance that they hold at least.
const VARIANCE_SHARE: f64 = 0.5;
/// Tails this many times as far out as the quartile are heavy.
const HEAVY: f64 = 12.0;
/// The same for values on both sides of zero, whose form is more often meant.
const HEAVY_SIGNED: f64 = 30.0;
/// Values that a finding names at most.
const NAMED_MAX: usize = 3;

/// A value at one end that looks like "missing".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StandIn {
    /// The value.
    pub value: f64,
    /// Rows that have it.
    pub rows: u64,
    /// Whether it is a number that people take for "missing".
    pub is_usual: bool,
}

/// A few values that hold most of the variance.
#[derive(Debug, Clone, PartialEq)]
pub struct FewValues {
    /// The farthest of them, at most three.
    pub values: Vec<f64>,
    /// Rows that have one of them.
    pub rows: u64,
    /// Rows in all.
    pub of: u64,
    /// Their share of the sum of squared deviations, 0 to 1.
    pub share: f64,
}

/// What was found in one number.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// Values that look like "missing".
    pub stand_ins: Vec<StandIn>,
    /// A few values that hold the variance of the rest.
    pub few: Option<FewValues>,
    /// How many times as far out as the quartile the 99.9 % point is; 0 where that says nothing.
    pub tail: f64,
    /// The transform that helps against the two latter.
    pub transform: Transform,
}

/// Looks for what can blind a number whose values are spread like this.
pub fn examine(spread: &Spread) -> Findings {
    let mut points = spread.points();
    let mut stand_ins: Vec<StandIn> = Vec::new();
    while let Some(found) = stand_in(spread, &points).filter(|_| stand_ins.len() < STAND_INS_MAX) {
        points = points.filtered(|value| value != found.value);
        stand_ins.push(found);
    }
    // A stand-in that nobody would take for one may well be a value: it stays where the tails are judged.
    let is_usual = |value: f64| stand_ins.iter().any(|s| s.is_usual && s.value == value);
    let points = spread.points().filtered(|value| !is_usual(value));
    let few = few_values(&points);
    let tail = tail_ratio(&points);
    let transform = proposal(&points, few.is_some(), tail);
    Findings {
        stand_ins,
        few,
        tail,
        transform,
    }
}

/// What blinds a number under the transform that its schema gives, in words with the remedy; `None` if nothing does.
pub fn blinding(spread: &Spread, transform: Transform) -> Option<String> {
    let findings = examine(spread);
    let mut words = Vec::new();
    let is_blind = few_values(&spread.points().mapped(|x| transform.apply(x)));
    if let (Some(blind), Some(few)) = (is_blind, few_values(&spread.points())) {
        let few = FewValues {
            share: blind.share,
            ..few
        };
        let better = findings.transform;
        let remedy = if better != Transform::None && better != transform {
            let better = better.as_str();
            format!("correct them, or set `transform = \"{better}\"`")
        } else {
            "correct them, or write null in their place".to_owned()
        };
        words.push(format!("{}; {remedy}", few.sentence()));
    }
    for stand_in in findings.stand_ins.iter().filter(|found| found.is_usual) {
        let (sentence, value) = (stand_in.sentence(), number(stand_in.value));
        words.push(format!(
            "{sentence}; if so, set `null_values = [\"{value}\"]`"
        ));
    }
    (!words.is_empty()).then(|| words.join(". "))
}

impl FewValues {
    /// In words, without a full stop.
    pub fn sentence(&self) -> String {
        let Self {
            values,
            rows,
            of,
            share,
        } = self;
        let named: Vec<String> = values.iter().map(|&value| number(value)).collect();
        let more = if *rows > values.len() as u64 {
            ", ..."
        } else {
            ""
        };
        let (row, hold) = if *rows == 1 {
            ("row", "holds")
        } else {
            ("rows", "hold")
        };
        let (named, held) = (named.join(", "), share_text(*share));
        format!("{rows} {row} of {of} {hold} {held} of the variance ({named}{more})")
    }
}

impl StandIn {
    /// In words, without a full stop.
    pub fn sentence(&self) -> String {
        let Self { value, rows, .. } = self;
        let value = number(*value);
        format!(
            "{value} stands in {rows} rows, far from all other values: perhaps it means \"missing\""
        )
    }
}

/// A number as a person writes it: whole ones without a point, others with six digits at most.
pub fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value}");
    }
    let rounded = format!("{value:.5e}").parse::<f64>().unwrap_or(value);
    if (1e-4..1e15).contains(&rounded.abs()) {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}

/// A share in percent; never rounded up to all of it.
fn share_text(share: f64) -> String {
    if share > 0.999 {
        "over 99.9 %".to_owned()
    } else {
        format!("{:.0} %", (100.0 * share).floor())
    }
}

/// The value at either end that looks like a stand-in.
fn stand_in(spread: &Spread, points: &Points) -> Option<StandIn> {
    let slice = points.as_slice();
    let (first, last) = (slice.first()?.0, slice.last()?.0);
    [(spread.lowest(), first), (spread.highest(), last)]
        .into_iter()
        .find_map(|(extremes, end)| {
            // Only a point that stands for one value alone can be taken out.
            let at = extremes.iter().position(|&(value, _)| value == end)?;
            let ((value, rows), next) = (extremes[at], extremes.get(at + 1)?.0);
            let rest = points.filtered(|other| other != value);
            let few = rest.rows() < REST_ROWS_MIN || rest.as_slice().len() < REST_VALUES_MIN;
            if rows < STAND_IN_ROWS_MIN || few {
                return None;
            }
            let range = rest.quantile(0.99) - rest.quantile(0.01);
            let is_usual = is_usual_stand_in(value);
            let far = if is_usual { 0.5 * range } else { 3.0 * range };
            let gap = (value - next).abs();
            (range > 0.0 && gap >= far).then_some(StandIn {
                value,
                rows,
                is_usual,
            })
        })
}

/// Whether people write this number where they have none.
fn is_usual_stand_in(value: f64) -> bool {
    let size = value.abs();
    let nines = |digits: i32| size == 10_f64.powi(digits) - 1.0;
    let ends = [
        32_767.0,
        32_768.0,
        65_535.0,
        2_147_483_647.0,
        2_147_483_648.0,
        4_294_967_295.0,
    ];
    value == -1.0 || (2..=12).any(nines) || ends.contains(&size)
}

/// The few rows farthest from the mean that hold half of the variance, if so few do.
fn few_values(points: &Points) -> Option<FewValues> {
    let rows = points.rows();
    if rows < ROWS_MIN {
        return None;
    }
    let total = rows as f64;
    let mean = points
        .as_slice()
        .iter()
        .map(|&(x, n)| x * (n as f64 / total))
        .sum::<f64>();
    let square = |x: f64, n: u64| (x - mean) * (x - mean) * (n as f64);
    let all: f64 = points.as_slice().iter().map(|&(x, n)| square(x, n)).sum();
    if !(all > 0.0 && all.is_finite()) {
        return None;
    }
    let mut farthest: Vec<(f64, u64)> = points.as_slice().to_vec();
    farthest.sort_by(|a, b| (b.0 - mean).abs().total_cmp(&(a.0 - mean).abs()));
    let (mut held, mut few, mut values) = (0.0, 0, Vec::new());
    for (x, n) in farthest {
        if held >= VARIANCE_SHARE * all {
            break;
        }
        held += square(x, n);
        few += n;
        values.push(x);
    }
    let most = (FEW_SHARE * total).max(1.0) as u64;
    // Where nearly all rows share one value, the few others are what the field is about.
    let rest = points.filtered(|x| !values.contains(&x));
    let varies = rest.quantile(0.05) < rest.quantile(0.95);
    if few > most || !varies {
        return None;
    }
    values.truncate(NAMED_MAX);
    Some(FewValues {
        values,
        rows: few,
        of: rows,
        share: held / all,
    })
}

/// How many times as far from the median as the quartile the 99.9 % point is, on the heavier side.
fn tail_ratio(points: &Points) -> f64 {
    let share = 1.0 / (points.rows().max(1) as f64);
    end_ratio(points, share.max(0.001))
}

/// The same for the point beyond which the share `end` lies. The quartile's distance is taken from a farther point
/// where half of the rows or more have one value: the ratios are those of normal values.
fn end_ratio(points: &Points, end: f64) -> f64 {
    let median = points.quantile(0.5);
    let side = |up: bool| {
        let at = |p: f64| {
            let value = points.quantile(if up { p } else { 1.0 - p });
            (value - median).abs()
        };
        let quartiles = [at(0.75), at(0.9) / 1.9, at(0.95) / 2.44];
        match quartiles.into_iter().find(|&distance| distance > 0.0) {
            Some(quartile) => at(1.0 - end) / quartile,
            None => 0.0,
        }
    };
    side(true).max(side(false))
}

fn proposal(points: &Points, few: bool, tail: f64) -> Transform {
    let Some(&(least, _)) = points.as_slice().first() else {
        return Transform::None;
    };
    let (transform, heavy) = if least >= 0.0 {
        (Transform::Log1p, HEAVY)
    } else {
        (Transform::Asinh, HEAVY_SIGNED)
    };
    let mapped = points.mapped(|x| transform.apply(x));
    let many = points.as_slice().len() >= TAIL_VALUES_MIN;
    let helps_tail = many && tail > heavy && 2.0 * tail_ratio(&mapped) <= tail;
    let helps_few = few && 2.0 * end_ratio(&mapped, 0.0) <= end_ratio(points, 0.0);
    if points.rows() >= ROWS_MIN && (helps_tail || helps_few) {
        transform
    } else {
        Transform::None
    }
}
