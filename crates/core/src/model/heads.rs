//! The output layer's layout: which logits belong to which field, and what they say of its true value.
//!
//! A field's logits are, in this order: whether it is null (only if the fit rows had nulls), then the outputs of every
//! reading of a number with more than two values, or the class logits of a category, yes/no, hour and weekday. Letters: O outputs of all heads,
//! R readings, of which the first R' are trained and have outputs of their own, while the others are read from the same
//! outputs in another way; any other field has one surprise, which counts for every reading, but that a third value of a
//! number of two is farther out by some readings than by others.

use super::inputs::weight_of_numbers;
use super::likelihood::histogram::Histogram;
use super::likelihood::location_scale::Family;
use super::likelihood::{Likelihood, Scale, discrete};
use super::ops::math::{exp, log_sum_exp, sigmoid};
use super::ops::simd::{Loop, vectorised};
use super::target::{Number, Target, ThirdValue};
use crate::encode::{Encoder, FieldShape, HOURS, WEEKDAYS};
use std::ops::Range;

/// How a number is read: the head of one [`Likelihood`].
#[derive(Debug, Clone)]
pub enum Reading {
    /// Bins.
    Histogram(Histogram, Scale),
    /// Location and scale.
    LocationScale(Family, Scale),
}

impl Reading {
    fn new(likelihood: Likelihood, histogram: &Histogram) -> Self {
        let scale = likelihood.scale();
        let family = match likelihood {
            Likelihood::Histogram | Likelihood::QuantileHistogram => {
                return Self::Histogram(histogram.clone(), scale);
            }
            Likelihood::StudentT => Family::StudentT,
            Likelihood::Gaussian => Family::Gaussian,
            Likelihood::SquaredError => Family::SquaredError,
            Likelihood::RobustSquaredError | Likelihood::QuantileRobustSquaredError => {
                Family::RobustSquaredError
            }
        };
        Self::LocationScale(family, scale)
    }

    /// The scale that it reads.
    pub fn scale(&self) -> Scale {
        match self {
            Self::Histogram(_, scale) | Self::LocationScale(_, scale) => *scale,
        }
    }

    /// What else its outputs say of a number, if anything.
    fn derived(&self) -> Option<Derived> {
        match self {
            Self::Histogram(..) => Some(Derived::Tail),
            Self::LocationScale(Family::RobustSquaredError, _) => Some(Derived::Density),
            Self::LocationScale(..) => None,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Histogram(histogram, _) => histogram.bins(),
            Self::LocationScale(family, _) => family.outputs(),
        }
    }

    fn surprise(&self, output: &[f32], number: Number) -> f32 {
        let z = number.on(self.scale());
        match self {
            Self::Histogram(histogram, _) => histogram.surprise(output, z),
            Self::LocationScale(family, _) => family.surprise(output, z),
        }
    }

    /// The surprise of neither of two values, given the logit of the larger: at least what either costs, and what an
    /// unseen one does. Where distance is what is read, also the expected squared distance from what would have been
    /// drawn, in squared standard deviations: of a count that was 0 or 1, seven is more surprising than two.
    fn third_value_surprise(&self, logit: f32, third: &ThirdValue) -> f32 {
        let unseen = third.floor.max(discrete::bernoulli_max(logit));
        match self {
            Self::LocationScale(family, _) if family.has_squared_surprise() => {
                let [lower, upper] = third.known.map(|known| (third.z - known).powi(2));
                let share = sigmoid(logit);
                unseen.max(lower + share * (upper - lower))
            }
            Self::Histogram(..) | Self::LocationScale(..) => unseen,
        }
    }

    fn loss(
        &self,
        output: &[f32],
        number: Number,
        weight: f32,
        gradient: Option<&mut [f32]>,
    ) -> f32 {
        let z = number.on(self.scale());
        match self {
            Self::Histogram(histogram, _) => histogram.loss(output, z, weight, gradient),
            Self::LocationScale(family, _) => family.loss(output, z, weight, gradient),
        }
    }
}

/// Another surprise of a number by the outputs of a trained reading, made only where a scoring asks for it: it costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derived {
    /// How far out the number is in the histogram: -log of the share of the mass that lies at least as far on its side,
    /// twice the smaller of both sides.
    Tail,
    /// -log density of the Student's t whose location the robust squared error reads.
    Density,
}

/// The smallest mass that a tail is held to have: bins of less are beyond what single precision sums tell.
const TAIL_MASS_MIN: f32 = 1e-9;

/// Some of the R readings: bit r for the reading r. No likelihood stands twice in a model, so that there are at most
/// 11: seven trained ones, two tails and two densities.
pub type ReadingSet = u16;

/// What nullness costs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Nullness {
    /// Predicted by a logit of its own.
    Learned,
    /// The fit rows had no null: a fixed cost in nats, by the rule of Krichevsky & Trofimov.
    Never { null: f32, present: f32 },
}

/// The head of one field: its logits and how they are read.
#[derive(Debug, Clone)]
pub struct FieldHead {
    shape: FieldShape,
    outputs: Range<usize>,
    nullness: Nullness,
    context: bool,
}

/// The heads of all fields.
#[derive(Debug, Clone)]
pub struct Heads {
    fields: Vec<FieldHead>,
    readings: Vec<Reading>,
    /// With the trained reading that each is read from.
    derived: Vec<(Derived, usize)>,
    outputs: usize,
}

impl Heads {
    /// The heads of the encoder's fields with the given readings of numbers, at least one; `histogram` is what a reading
    /// by bins is.
    pub fn new(encoder: &Encoder, likelihoods: &[Likelihood], histogram: &Histogram) -> Self {
        let readings: Vec<_> = likelihoods
            .iter()
            .map(|&l| Reading::new(l, histogram))
            .collect();
        let number: usize = readings.iter().map(Reading::outputs).sum();
        let mut outputs = 0;
        let mut fields = Vec::with_capacity(encoder.fields().len());
        for field in encoder.fields() {
            let value = match field.shape() {
                FieldShape::Numeric => number,
                FieldShape::Categorical { classes, .. } => classes as usize,
                FieldShape::Binary | FieldShape::Boolean => 1,
                FieldShape::Timestamp => HOURS + WEEKDAYS,
            };
            let nullness = if field.nulls > 0 {
                Nullness::Learned
            } else {
                let null = 0.5 / (field.rows + 1) as f64;
                Nullness::Never {
                    null: -null.ln() as f32,
                    present: -(-null).ln_1p() as f32,
                }
            };
            let start = outputs;
            outputs += value + usize::from(nullness == Nullness::Learned);
            fields.push(FieldHead {
                shape: field.shape(),
                outputs: start..outputs,
                nullness,
                context: field.context,
            });
        }
        let derived = readings.iter().enumerate();
        let derived = derived.filter_map(|(from, reading)| Some((reading.derived()?, from)));
        Self {
            fields,
            derived: derived.collect(),
            readings,
            outputs,
        }
    }

    /// O.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// R' >= 1: the readings that training fits. They come first.
    pub fn trained_readings(&self) -> usize {
        self.readings.len()
    }

    /// R: these and the derived ones.
    pub fn readings(&self) -> usize {
        self.readings.len() + self.derived.len()
    }

    /// The derived readings, in their order behind the trained ones.
    pub fn derived(&self) -> impl Iterator<Item = (Derived, Scale)> {
        let derived = self.derived.iter();
        derived.map(|&(derived, from)| (derived, self.readings[from].scale()))
    }

    /// The scale of one of all readings, r < R.
    pub fn scale(&self, reading: usize) -> Scale {
        let trained = self.readings.len();
        let from = match reading < trained {
            true => reading,
            false => self.derived[reading - trained].1,
        };
        self.readings[from].scale()
    }

    /// The head of a field.
    pub fn field(&self, field: usize) -> FieldView<'_> {
        FieldView {
            head: &self.fields[field],
            readings: &self.readings,
            derived: &self.derived,
        }
    }

    /// The fields that are predicted, ascending: all but the context. The head of a context field has outputs that nobody reads.
    pub fn predicted(&self) -> impl Iterator<Item = usize> {
        let fields = self.fields.iter().enumerate();
        fields
            .filter(|(_, head)| !head.context)
            .map(|(field, _)| field)
    }

    /// How much counts what speaks of numbers alone: [`weight_of_numbers`] of the fields that are predicted.
    pub fn weight_of_numbers(&self) -> f32 {
        let shapes: Vec<FieldShape> = self
            .predicted()
            .map(|field| self.fields[field].shape)
            .collect();
        weight_of_numbers(shapes.into_iter())
    }

    /// F.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// A target with what can be known of it before any logits: made once a record, and used under all its views.
#[derive(Debug, Clone, Copy)]
pub struct BinnedTarget {
    target: Target,
    /// Of a number: its bin on each scale, if a reading has bins.
    bins: [usize; 2],
}

/// What a head says in one view, as [`FieldView::surprises_at`] takes it.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// Of the field.
    pub logits: &'a [f32],
    /// The log-sum-exp of every one of its [softmaxes](FieldView::softmaxes).
    pub log_norms: &'a [f32],
    /// Its [tails](FieldView::tails), if they are known beforehand; else empty.
    pub tails: &'a [Vec<f32>],
}

/// The head of one field together with the readings of numbers.
#[derive(Debug, Clone, Copy)]
pub struct FieldView<'a> {
    head: &'a FieldHead,
    readings: &'a [Reading],
    derived: &'a [(Derived, usize)],
}

impl<'a> FieldView<'a> {
    /// The columns of the output layer that are this field's.
    pub fn outputs(&self) -> Range<usize> {
        self.head.outputs.clone()
    }

    /// What kind of field it is.
    pub fn shape(&self) -> FieldShape {
        self.head.shape
    }

    /// The readings of a number with the places of their outputs within the field's logits.
    pub fn reading_outputs(&self) -> impl Iterator<Item = (&'a Reading, Range<usize>)> + use<'a> {
        let mut start = self.value_start();
        self.readings.iter().map(move |reading| {
            let range = start..start + reading.outputs();
            start = range.end;
            (reading, range)
        })
    }

    /// Where the logits of the value start: after that of nullness, if there is one.
    pub fn value_start(&self) -> usize {
        usize::from(self.head.nullness == Nullness::Learned)
    }

    /// The surprise of `target` under the field's `logits`, one a reading: `[R]`, or `[R']` for the trained ones alone.
    pub fn surprises(&self, logits: &[f32], target: &Target, out: &mut [f32]) {
        let nullness = self.null_surprise(logits, matches!(target, Target::Absent));
        let value = &logits[self.value_start()..];
        match target {
            Target::Number(number) => {
                let mut start = 0;
                let (trained, derived) = out.split_at_mut(self.readings.len());
                for (surprise, reading) in trained.iter_mut().zip(self.readings) {
                    let output = &value[start..start + reading.outputs()];
                    *surprise = nullness + reading.surprise(output, *number);
                    start += reading.outputs();
                }
                for (surprise, &(kind, from)) in derived.iter_mut().zip(self.derived) {
                    let output = &value[self.output_range(from)];
                    *surprise = nullness + kind.surprise(&self.readings[from], output, *number);
                }
            }
            Target::Neither(third) => self.third_value_surprises(value[0], third, nullness, out),
            _ => out.fill(nullness + discrete_surprise(value, target)),
        }
    }

    /// What neither of two values costs under each reading, `[R]`.
    fn third_value_surprises(
        &self,
        logit: f32,
        third: &ThirdValue,
        nullness: f32,
        out: &mut [f32],
    ) {
        let (trained, derived) = out.split_at_mut(self.readings.len());
        for (surprise, reading) in trained.iter_mut().zip(self.readings) {
            *surprise = nullness + reading.third_value_surprise(logit, third);
        }
        derived.fill(nullness + third.floor.max(discrete::bernoulli_max(logit)));
    }

    /// The range of a trained reading's outputs among those of the value.
    fn output_range(&self, reading: usize) -> Range<usize> {
        let before = self.readings[..reading].iter().map(Reading::outputs);
        let start: usize = before.sum();
        start..start + self.readings[reading].outputs()
    }

    /// The place of a reading's histogram among the softmaxes.
    fn softmax_of(&self, reading: usize) -> usize {
        let before = self.readings[..reading].iter();
        before
            .filter(|reading| matches!(reading, Reading::Histogram(..)))
            .count()
    }

    /// The target as [`surprises_at`](Self::surprises_at) takes it.
    pub fn binned(&self, target: Target) -> BinnedTarget {
        let mut bins = [0; 2];
        if let Target::Number(number) = target {
            for reading in self.readings {
                if let Reading::Histogram(histogram, scale) = reading {
                    bins[*scale as usize] = histogram.bin(number.on(*scale));
                }
            }
        }
        BinnedTarget { target, bins }
    }

    /// How many of the field's logits, from the first on, some readings are read from.
    pub fn outputs_of(&self, readings: ReadingSet) -> usize {
        if self.head.shape != FieldShape::Numeric {
            return self.outputs().len();
        }
        let trained = self.readings.len();
        let derived = self.derived.iter().enumerate();
        let from = derived.filter(|(i, _)| has(readings, trained + i));
        let from: Vec<usize> = from.map(|(_, &(_, from))| from).collect();
        let places = self.reading_outputs().enumerate();
        let read = places.filter(|(at, _)| has(readings, *at) || from.contains(at));
        read.map(|(_, (_, range))| range.end)
            .max()
            .unwrap_or(self.value_start())
    }

    /// The softmaxes among the field's logits, at most one of a reading: those whose log-sum-exp
    /// [`surprises_at`](Self::surprises_at) needs.
    pub fn softmaxes(&self) -> Vec<Range<usize>> {
        let start = self.value_start();
        match self.head.shape {
            FieldShape::Numeric => self
                .reading_outputs()
                .filter(|(reading, _)| matches!(reading, Reading::Histogram(..)))
                .map(|(_, range)| range)
                .collect(),
            FieldShape::Categorical { classes, .. } => {
                let classes = start..start + classes as usize;
                Vec::from([classes])
            }
            FieldShape::Binary | FieldShape::Boolean => Vec::new(),
            FieldShape::Timestamp => {
                let hours = start..start + HOURS;
                vec![hours.clone(), hours.end..hours.end + WEEKDAYS]
            }
        }
    }

    /// The surprise of every bin's tail in each of [`softmaxes`](Self::softmaxes), of a number; given their log-sum-exps.
    pub fn tails(&self, logits: &[f32], log_norms: &[f32]) -> Vec<Vec<f32>> {
        if self.head.shape != FieldShape::Numeric {
            return Vec::new();
        }
        let softmaxes = self.softmaxes().into_iter().zip(log_norms);
        let tails = softmaxes.map(|(softmax, &log_norm)| {
            let logits = &logits[softmax];
            let tail = |bin| tail(logits, log_norm, bin);
            (0..logits.len()).map(tail).collect()
        });
        tails.collect()
    }

    /// As [`surprises`](Self::surprises), given the log-sum-exp of every one of [`softmaxes`](Self::softmaxes): the logits
    /// themselves are only read where the target is. Readings that are not among `readings` are zero, and logits and softmaxes
    /// that none of them needs may be missing at the end.
    pub fn surprises_at(
        &self,
        predicted: Predicted<'_>,
        (binned, readings): (&BinnedTarget, ReadingSet),
        out: &mut [f32],
    ) {
        let Predicted {
            logits, log_norms, ..
        } = predicted;
        let nullness = self.null_surprise(logits, matches!(binned.target, Target::Absent));
        let value = &logits[self.value_start()..];
        let discrete = match binned.target {
            Target::Number(number) => {
                let of_value = (number, binned.bins);
                self.number_surprises_at(predicted, of_value, readings, out);
                out.iter_mut().for_each(|surprise| *surprise += nullness);
                return self.keep_only(readings, out);
            }
            Target::Category {
                class,
                within_class,
            } => log_norms[0] - value[class as usize] + within_class,
            Target::Unseen {
                floor,
                within_class_max,
            } => {
                let least = value.iter().copied().fold(f32::INFINITY, f32::min);
                floor.max(log_norms[0] - least + within_class_max)
            }
            Target::Timestamp { hour, weekday } => {
                let by_hour = log_norms[0] - value[hour as usize];
                by_hour + (log_norms[1] - value[HOURS + weekday as usize])
            }
            Target::Absent | Target::Boolean(_) => discrete_surprise(value, &binned.target),
            Target::Neither(third) => {
                self.third_value_surprises(value[0], &third, nullness, out);
                return self.keep_only(readings, out);
            }
        };
        out.fill(nullness + discrete);
        self.keep_only(readings, out);
    }

    /// What a number costs by itself under each of some readings, `[R]`, given its bin on each scale.
    fn number_surprises_at(
        &self,
        predicted: Predicted<'_>,
        (number, bins): (Number, [usize; 2]),
        readings: ReadingSet,
        out: &mut [f32],
    ) {
        let log_norms = predicted.log_norms;
        let value = &predicted.logits[self.value_start()..];
        let (trained, derived) = out.split_at_mut(self.readings.len());
        for (i, (surprise, &(kind, from))) in derived.iter_mut().zip(self.derived).enumerate() {
            if !has(readings, trained.len() + i) {
                continue;
            }
            let scale = self.readings[from].scale();
            let output = &value[self.output_range(from)];
            *surprise = match kind {
                Derived::Tail => {
                    let (softmax, bin) = (self.softmax_of(from), bins[scale as usize]);
                    match predicted.tails.get(softmax) {
                        Some(tails) => tails[bin],
                        None => tail(output, log_norms[softmax], bin),
                    }
                }
                Derived::Density => Family::StudentT.surprise(output, number.on(scale)),
            };
        }
        let (mut start, mut softmax) = (0, 0);
        for (at, (surprise, reading)) in trained.iter_mut().zip(self.readings).enumerate() {
            let place = start..start + reading.outputs();
            start = place.end;
            softmax += usize::from(matches!(reading, Reading::Histogram(..)));
            if !has(readings, at) {
                continue;
            }
            let output = &value[place];
            *surprise = match reading {
                Reading::Histogram(_, scale) => {
                    log_norms[softmax - 1] - output[bins[*scale as usize]]
                }
                Reading::LocationScale(family, scale) => family.surprise(output, number.on(*scale)),
            };
        }
    }

    /// Sets all other readings to zero.
    pub fn keep_only(&self, readings: ReadingSet, out: &mut [f32]) {
        let surprises = out.iter_mut().enumerate();
        surprises
            .filter(|(reading, _)| !has(readings, *reading))
            .for_each(|(_, surprise)| *surprise = 0.0);
    }

    /// The training loss of `target`; adds `weight` times its gradient to `gradient`.
    ///
    /// The sum over the readings of a number; nothing for a value without a class.
    pub fn loss(
        &self,
        logits: &[f32],
        target: &Target,
        weight: f32,
        gradient: Option<&mut [f32]>,
    ) -> f32 {
        let start = self.value_start();
        let mut gradient = gradient;
        let mut loss = 0.0;
        if start == 1 {
            let null = matches!(target, Target::Absent);
            let g = part(&mut gradient, 0..1).map(|g| &mut g[0]);
            loss += discrete::bernoulli(logits[0], null, weight, g);
        }
        let mut gradient = part(&mut gradient, start..logits.len());
        loss + self.value_loss(&logits[start..], target, weight, &mut gradient)
    }

    /// The loss of the value alone; `value` and `gradient` start behind the logit of nullness.
    fn value_loss(
        &self,
        value: &[f32],
        target: &Target,
        weight: f32,
        gradient: &mut Option<&mut [f32]>,
    ) -> f32 {
        match *target {
            Target::Absent | Target::Unseen { .. } | Target::Neither(_) => 0.0,
            Target::Number(number) => {
                let (mut at, mut sum) = (0, 0.0);
                for reading in self.readings {
                    let range = at..at + reading.outputs();
                    at = range.end;
                    sum +=
                        reading.loss(&value[range.clone()], number, weight, part(gradient, range));
                }
                sum
            }
            Target::Category { class, .. } => discrete::categorical(
                value,
                class as usize,
                weight,
                part(gradient, 0..value.len()),
            ),
            Target::Boolean(outcome) => {
                let g = part(gradient, 0..1).map(|g| &mut g[0]);
                discrete::bernoulli(value[0], outcome, weight, g)
            }
            Target::Timestamp { hour, weekday } => {
                let (hours, days) = (0..HOURS, HOURS..HOURS + WEEKDAYS);
                let (h, d) = (hour as usize, weekday as usize);
                let by_hour = part(gradient, hours.clone());
                let loss = discrete::categorical(&value[hours], h, weight, by_hour);
                let by_day = part(gradient, days.clone());
                loss + discrete::categorical(&value[days], d, weight, by_day)
            }
        }
    }

    fn null_surprise(&self, logits: &[f32], is_null: bool) -> f32 {
        match self.head.nullness {
            Nullness::Learned => discrete::bernoulli(logits[0], is_null, 1.0, None),
            Nullness::Never { null, present } => {
                if is_null {
                    null
                } else {
                    present
                }
            }
        }
    }
}

impl Derived {
    /// The surprise of z by the `output` of the reading that it is derived from.
    fn surprise(self, from: &Reading, output: &[f32], number: Number) -> f32 {
        match (self, from) {
            (Self::Tail, Reading::Histogram(histogram, scale)) => tail(
                output,
                log_sum_exp(output),
                histogram.bin(number.on(*scale)),
            ),
            _ => Family::StudentT.surprise(output, number.on(from.scale())),
        }
    }
}

/// -log of twice the smaller of the masses below and above a histogram's bin, half of its own counted on either side, given
/// the log-sum-exp of the logits.
fn tail(logits: &[f32], log_norm: f32, bin: usize) -> f32 {
    let (below, above) = (&logits[..bin], &logits[bin + 1..]);
    // The side of fewer bins has the smaller mass more often, and then the other need not be summed.
    let (first, second) = match below.len() <= above.len() {
        true => (below, above),
        false => (above, below),
    };
    let half = 0.5 * exp(logits[bin] - log_norm);
    let mass = |logits| half + vectorised(Mass { logits, log_norm });
    // The sum of the smaller side keeps its digits where the other is nearly 1.
    let mut smaller = mass(first);
    if smaller > 0.5 {
        smaller = smaller.min(mass(second));
    }
    -(2.0 * smaller.max(TAIL_MASS_MIN)).min(1.0).ln()
}

/// The probability of some bins.
struct Mass<'a> {
    logits: &'a [f32],
    log_norm: f32,
}

impl Loop for Mass<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        // In eight sums, so that a vector is added at a time.
        let mut sums = [0f32; 8];
        let (blocks, rest) = self.logits.as_chunks::<8>();
        for block in blocks {
            for (sum, &logit) in sums.iter_mut().zip(block) {
                *sum += exp(logit - self.log_norm);
            }
        }
        let rest = rest.iter().map(|&logit| exp(logit - self.log_norm));
        sums.iter().sum::<f32>() + rest.sum::<f32>()
    }
}

fn has(readings: ReadingSet, reading: usize) -> bool {
    readings >> reading & 1 == 1
}

/// The part of an optional gradient that belongs to `range`.
fn part<'g>(gradient: &'g mut Option<&mut [f32]>, range: Range<usize>) -> Option<&'g mut [f32]> {
    gradient.as_deref_mut().map(|gradient| &mut gradient[range])
}

/// The surprise of a value that is no number and no [`ThirdValue`], nats; 0 for an absent one.
fn discrete_surprise(value: &[f32], target: &Target) -> f32 {
    match *target {
        Target::Absent | Target::Number(_) | Target::Neither(_) => 0.0,
        Target::Category {
            class,
            within_class,
        } => discrete::categorical(value, class as usize, 1.0, None) + within_class,
        Target::Unseen {
            floor,
            within_class_max,
        } => floor.max(discrete::categorical_max(value) + within_class_max),
        Target::Boolean(outcome) => discrete::bernoulli(value[0], outcome, 1.0, None),
        Target::Timestamp { hour, weekday } => {
            discrete::categorical(&value[..HOURS], hour as usize, 1.0, None)
                + discrete::categorical(&value[HOURS..], weekday as usize, 1.0, None)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::tests::{fee_encoder, fees};
    use crate::model::TargetReader;

    /// The surprises of 0, 2.5 and 9 under two readings, without the cost of being present, where 2.5 has the given logit and
    /// 0 and 2.5 are the two values.
    fn surprises_of_three_fees(logit: f32) -> [[f32; 2]; 3] {
        let encoder = fee_encoder();
        let likelihoods = [Likelihood::Histogram, Likelihood::SquaredError];
        let heads = Heads::new(&encoder, &likelihoods, &Histogram::new(64, 1.0));
        assert_eq!(heads.outputs(), 1, "one logit, whatever the readings are");
        let records = encoder.encode(&fees([0.0, 2.5, 9.0])).unwrap();
        let reader = TargetReader::new(&encoder);
        let head = heads.field(0);
        [0, 1, 2].map(|row| {
            let target = reader.target(&encoder, &records, row, 0);
            let (mut all, mut at) = ([f32::NAN; 3], [f32::NAN; 3]);
            head.surprises(&[logit], &target, &mut all);
            let predicted = Predicted {
                logits: &[logit],
                log_norms: &[],
                tails: &[],
            };
            head.surprises_at(predicted, (&head.binned(target), 0b111), &mut at);
            assert_eq!(all, at);
            let [histogram, square, tail] = all;
            assert_eq!(
                tail, histogram,
                "of two values a tail is no other than a bin"
            );
            let is_learned = head.loss(&[logit], &target, 1.0, None) > 0.0;
            assert_eq!(is_learned, row < 2, "a third value teaches nothing");
            // NumPy: -np.log(1 - .5 / 101) -> 0.00496279, what a present value costs where none was null
            [histogram, square].map(|surprise| surprise - 0.004_962_8)
        })
    }

    fn near(a: f32, b: f32) {
        assert!((a - b).abs() < 1e-4 * b.max(1.0), "{a} {b}");
    }

    #[test]
    fn a_third_value_costs_what_the_unseen_does_and_never_less_than_either_of_the_two() {
        for logit in [-9.0, -1.0, 0.3, 12.0] {
            let [lower, upper, third] = surprises_of_three_fees(logit);
            near((-lower[0]).exp() + (-upper[0]).exp(), 1.0);
            assert_eq!(
                (lower[0], upper[0]),
                (lower[1], upper[1]),
                "one for every reading"
            );
            near(third[0], 102f32.ln().max(lower[0]).max(upper[0]));
        }
    }

    #[test]
    fn a_squared_error_reads_how_far_a_third_value_is_from_what_was_expected() {
        // NumPy: x = np.r_[np.zeros(75), np.full(25, 2.5)]; z = (np.r_[0, 2.5, 9] - x.mean()) / x.std()
        //   p = 1 / (1 + np.exp(-logit)); (1 - p) * (z[2] - z[0]) ** 2 + p * (z[2] - z[1]) ** 2
        let by_logit = [
            (-9.0, 69.115_92),
            (-1.0, 60.227_004),
            (0.3, 50.125_1),
            (20.0, 36.053_333),
        ];
        for (logit, expected) in by_logit {
            let [_, _, third] = surprises_of_three_fees(logit);
            near(third[1], expected);
        }
    }

    #[test]
    fn a_tail_is_twice_the_smaller_mass_on_either_side_of_a_bin() {
        // NumPy: p = np.exp(x) / np.exp(x).sum(); lo = p[:b].sum() + p[b] / 2; hi = p[b + 1:].sum() + p[b] / 2
        //   -np.log(min(1, 2 * min(lo, hi)))
        let few = [0.5, -1.0, 2.0, 0.1, -3.0, 1.5];
        let of_few = [
            2.210_866, 1.411_95, 0.275_303, 0.391_609, 0.512_18, 1.210_866,
        ];
        for (bin, expected) in of_few.into_iter().enumerate() {
            near(tail(&few, log_sum_exp(&few), bin), expected);
        }
        // Nearly all mass lies above, so that the smaller side is far from 1.
        let mut many = vec![-9.0; 40];
        many.extend([3.0; 40]);
        let of_many = [
            (0, 15.688_89),
            (1, 14.590_27),
            (39, 11.319_44),
            (40, 3.688_39),
            (79, 3.688_89),
        ];
        for (bin, expected) in of_many {
            near(tail(&many, log_sum_exp(&many), bin), expected);
        }
    }
}
