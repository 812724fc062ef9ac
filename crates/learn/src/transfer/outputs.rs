//! The output layer: a child's columns from the parent's, re-expressed in the child's encoding.
//!
//! Columns are logits, linear in the latent, so what can be carried over are sums of columns and constants of the bias:
//!
//! - *location and scale*: exactly, up to the bounds of the log scale;
//! - *histogram*: the log density is interpolated between the centres of the parent's bins and given the child's bin
//!   width; exact where nothing was standardised anew, else as good as the bins are narrow;
//! - *classes*: by value. A value that leaves `rare` takes its share of it along, exactly. A value that the parent never
//!   saw starts with the mean of all its classes' logits: the geometric mean of their probabilities, whatever is visible;
//! - *yes or no, one of two numbers, hour, weekday*, and whether a field is null: as they are.

use super::Side;
use super::fields::{FieldMatch, Rescale};
use super::mixes::Mix;
use super::weights::Weights;
use crate::encode::categorical::CategoricalEncoder;
use crate::encode::{FieldShape, ValueEncoder};
use crate::model::heads::{FieldView, Reading};
use crate::model::likelihood::Scale;
use crate::model::likelihood::histogram::Histogram;
use crate::model::likelihood::location_scale::Family;
use std::ops::Range;

/// The child's output columns as mixes of the parent's and of the means of its categories' classes.
#[derive(Debug)]
pub(super) struct OutputMixes {
    /// `[O]` of the child; `None` keeps the fresh column. Places from the parent's O on are means.
    pub(super) columns: Vec<Option<Mix>>,
    /// The parent's columns of each mean.
    means: Vec<Range<usize>>,
}

impl OutputMixes {
    /// The mixes of all fields.
    pub(super) fn new(parent: Side<'_>, child: Side<'_>, matches: &[Option<FieldMatch>]) -> Self {
        let mut mixes = Self {
            columns: vec![None; child.model.heads().outputs()],
            means: Vec::new(),
        };
        for (field, matched) in matches.iter().enumerate() {
            let Some(matched) = matched else { continue };
            let from = parent.model.heads().field(matched.parent);
            let to = child.model.heads().field(field);
            if from.value_start() == 1 && to.value_start() == 1 {
                mixes.columns[to.outputs().start] = Some(Mix::copy(from.outputs().start));
            }
            if !matched.predicted_alike {
                continue;
            }
            let values = match to.shape() {
                FieldShape::Numeric => number_mixes(from, to, matched.rescale),
                FieldShape::Categorical { .. } => {
                    let mean = parent.model.heads().outputs() + mixes.means.len();
                    mixes.means.push(value_columns(from));
                    let encoders = (
                        &parent.encoder.fields()[matched.parent].value,
                        &child.encoder.fields()[field].value,
                    );
                    class_mixes(encoders, value_columns(from), mean)
                }
                FieldShape::Binary | FieldShape::Boolean | FieldShape::Timestamp => {
                    value_columns(from).map(Mix::copy).collect()
                }
            };
            for (column, mix) in value_columns(to).zip(values) {
                mixes.columns[column] = Some(mix);
            }
        }
        mixes
    }

    /// The parent's columns, and behind them those of the means.
    pub(super) fn with_means(&self, parent: &Weights) -> Weights {
        let mut data = Vec::with_capacity(parent.rows * (parent.columns + self.means.len()));
        for row in 0..parent.rows {
            let row = parent.row(row);
            data.extend_from_slice(row);
            let mean = |columns: &Range<usize>| {
                row[columns.clone()].iter().sum::<f32>() / columns.len().max(1) as f32
            };
            data.extend(self.means.iter().map(mean));
        }
        Weights {
            rows: parent.rows,
            columns: parent.columns + self.means.len(),
            data,
        }
    }
}

/// The columns of a field's value, without that of nullness.
fn value_columns(head: FieldView<'_>) -> Range<usize> {
    let outputs = head.outputs();
    outputs.start + head.value_start()..outputs.end
}

/// The columns of a number's readings; parent and child have the same readings.
fn number_mixes(from: FieldView<'_>, to: FieldView<'_>, rescale: Rescale) -> Vec<Mix> {
    let first = from.outputs().start;
    let readings = from.reading_outputs().zip(to.reading_outputs());
    let mixes = readings.map(|((reading, columns), _)| {
        let columns = first + columns.start..first + columns.end;
        match reading {
            _ if rescale.is_none() => columns.map(Mix::copy).collect(),
            // Ranks mean the same among other values.
            _ if reading.scale() == Scale::Quantile => columns.map(Mix::copy).collect(),
            Reading::Histogram(histogram, _) => bin_mixes(histogram, columns.start, rescale),
            Reading::LocationScale(family, _) => {
                location_scale_mixes(*family, columns.start, rescale)
            }
        }
    });
    mixes.collect::<Vec<Vec<Mix>>>().concat()
}

/// With `z = ratio * z' + shift`: location' = (location - shift) / ratio, log scale' = log scale - ln ratio.
fn location_scale_mixes(family: Family, first: usize, rescale: Rescale) -> Vec<Mix> {
    let Rescale { ratio, shift } = rescale;
    let location = Mix::scaled(first, (1.0 / ratio) as f32, (-shift / ratio) as f32);
    let log_scale = Mix::scaled(first + 1, 1.0, -ratio.ln() as f32);
    let mut mixes = vec![location, log_scale];
    mixes.truncate(family.outputs());
    mixes
}

/// The log density of the parent at the centre of each bin of the child, times the child's width of the bin.
///
/// The outermost bins hold all that is clipped. So where the child sees further than the parent, its bins there share
/// what the parent's outermost bin had, and where it sees less far, its own outermost bins are as wide as what they hold:
/// the widths always add up to the parent's bins.
fn bin_mixes(histogram: &Histogram, first: usize, rescale: Rescale) -> Vec<Mix> {
    let bins = histogram.bins();
    let (last, end) = ((bins - 1) as f32, bins as f32);
    let position = |edge: f32| {
        let z = f64::from(histogram.edge(edge));
        histogram.position((rescale.ratio * z + rescale.shift) as f32)
    };
    let (low, high) = (position(0.0).min(0.0), position(end).max(end));
    // Positions on the parent's bins, the outermost of which reach to where the child's do.
    let within = |edge: f32| match position(edge) {
        p if p < 1.0 => (p - low) / (1.0 - low),
        p if p > last => last + (p - last) / (high - last),
        p => p,
    };
    let bound = |edge: usize| match edge {
        0 => 0.0,
        _ if edge == bins => end,
        _ => within(edge as f32),
    };
    let mix = |bin: usize| {
        let width = bound(bin + 1) - bound(bin);
        let centre = (within(bin as f32 + 0.5) - 0.5).clamp(0.0, last);
        let (below, part) = (centre.floor() as usize, centre.fract());
        Mix {
            terms: vec![
                (first + below, 1.0 - part),
                (first + (below + 1).min(bins - 1), part),
            ],
            constant: width.ln(),
        }
    };
    (0..bins).map(mix).collect()
}

/// The columns of classes; `mean` is the place of the mean of the parent's classes.
fn class_mixes(
    (from, to): (&ValueEncoder, &ValueEncoder),
    columns: Range<usize>,
    mean: usize,
) -> Vec<Mix> {
    let (ValueEncoder::Categorical(from), ValueEncoder::Categorical(to)) = (from, to) else {
        return Vec::new();
    };
    let class = |class: u32| match to.class_value(class) {
        Some(value) => known(from, from.encode(value), &columns).unwrap_or_else(|| Mix::copy(mean)),
        // The class `rare` of as many values as the child has there, or of what was rare before.
        None => match from.class(0) {
            Some(rare) => Mix::copy(columns.start + rare as usize),
            None => {
                let values = to.codes().saturating_sub(to.classes() - 1).max(1);
                Mix::scaled(mean, 1.0, (values as f32).ln())
            }
        },
    };
    (0..to.classes()).map(class).collect()
}

/// The parent's class of a known value, with the value's share within it; `None` for a value that it never saw.
fn known(from: &CategoricalEncoder, code: u32, columns: &Range<usize>) -> Option<Mix> {
    let class = from.class(code).filter(|_| code > 0)?;
    let share = -from.surprise_within_class(code);
    Some(Mix::scaled(columns.start + class as usize, 1.0, share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bins_share_the_whole_mass_whatever_the_rescaling(
            ratio in 0.1..10.0f64, shift in -10.0..10.0f64, bins in 2usize..100
        ) {
            let histogram = Histogram::new(bins, 1.0);
            let mixes = bin_mixes(&histogram, 3, Rescale { ratio, shift });
            prop_assert_eq!(mixes.len(), bins);
            let mut widths = 0.0;
            for mix in mixes {
                let weights: f32 = mix.terms.iter().map(|(_, weight)| weight).sum();
                prop_assert!((weights - 1.0).abs() < 1e-5);
                prop_assert!(mix.terms.iter().all(|&(at, _)| (3..3 + bins).contains(&at)));
                prop_assert!(mix.constant.is_finite());
                widths += mix.constant.exp();
            }
            prop_assert!((widths - bins as f32).abs() < 1e-3 * bins as f32, "{}", widths);
        }
    }
}
