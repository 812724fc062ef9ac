//! From surprises to a record's score: the tables of the reference part.
//!
//! Two disjoint parts of the training rows take part in calibration: the *reference* part shapes the score (tables per
//! field and per term of the score), the *calibration* part only ranks it (`conformal`).
//!
//! Letters: F fields, R' trained readings, Q terms of the score.

use super::combination::Combination;
use super::component::Component;
use super::rule::ScoreRule;
use super::surprise::{Axes, Surprises};
use super::survival::SurvivalTable;

/// What the reference part says of every field and of the record as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTables {
    axes: Axes,
    rule: ScoreRule,
    /// `[Q]`: distributions of what the rule measures of a record.
    terms: Vec<SurvivalTable>,
    /// `[F * R']`: distributions of a field's mean surprise.
    readings: Vec<SurvivalTable>,
    /// `[F]`: distributions of a field's readings combined.
    fields: Vec<SurvivalTable>,
    combination: Combination,
}

/// The surprises of the reference part, reduced to what the tables need.
#[derive(Debug, Clone)]
pub struct ReferenceSample {
    axes: Axes,
    rule: ScoreRule,
    terms: Vec<Vec<f32>>,
    readings: Vec<Vec<f32>>,
}

impl ReferenceSample {
    /// An empty sample of a model of these axes whose score is made by `rule`.
    pub fn new(axes: Axes, rule: ScoreRule) -> Self {
        let terms = rule.components().len();
        Self {
            axes,
            terms: vec![Vec::new(); terms],
            rule,
            readings: vec![Vec::new(); axes.fields * axes.trained],
        }
    }

    /// Adds the records of a batch.
    pub fn observe(&mut self, surprises: &Surprises) {
        let Axes {
            fields, trained, ..
        } = self.axes;
        for row in 0..surprises.rows() {
            for (values, component) in self.terms.iter_mut().zip(self.rule.components()) {
                values.push(measure(component, surprises, row));
            }
            for field in 0..fields {
                for reading in 0..trained {
                    // Of context nothing is measured, and no value of it is rarer than another.
                    let surprise = match surprises.field(row, field, reading) {
                        measured if surprises.is_predicted(field) => measured,
                        _ => 0.0,
                    };
                    self.readings[field * trained + reading].push(surprise);
                }
            }
        }
    }

    /// The number of records.
    pub fn rows(&self) -> usize {
        self.terms.first().map_or(0, Vec::len)
    }

    /// What the term at a place among the rule's was of a record.
    pub(super) fn value(&self, term: usize, row: usize) -> f32 {
        self.terms[term][row]
    }

    /// The tables.
    pub fn fit(&self) -> ReferenceTables {
        let readings: Vec<_> = self
            .readings
            .iter()
            .map(|s| SurvivalTable::fit(s))
            .collect();
        let per_field = self.axes.trained;
        let fields = self
            .readings
            .chunks_exact(per_field)
            .zip(readings.chunks_exact(per_field));
        let fields = fields.map(|(samples, tables)| {
            let rows = samples[0].len();
            let combined: Vec<f32> = (0..rows)
                .map(|row| mean(samples.iter().zip(tables).map(|(s, t)| t.surprisal(s[row]))))
                .collect();
            SurvivalTable::fit_whole(&combined)
        });
        ReferenceTables {
            axes: self.axes,
            terms: self.terms.iter().map(|s| SurvivalTable::fit(s)).collect(),
            fields: fields.collect(),
            readings,
            rule: self.rule.clone(),
            combination: Combination::default(),
        }
    }
}

/// What a term of the score is before it is held against reference records.
pub(super) fn measure(component: Component, surprises: &Surprises, row: usize) -> f32 {
    match component {
        Component::Total { stratum, reading } => surprises.total(row, stratum, reading),
        Component::Largest { stratum, reading } => surprises.largest(row, stratum, reading),
        Component::Latent => surprises.distances(row).latent,
        Component::Nearest => surprises.distances(row).nearest.deviation,
        Component::NearestQuantile => surprises.distances(row).nearest.quantile,
        // No rule has these terms.
        Component::Untuned | Component::Field { .. } => f32::NAN,
    }
}

/// The mean surprise of every field of a record under the first reading, `[F]`.
pub(super) fn field_surprises(surprises: &Surprises, row: usize) -> impl Iterator<Item = f32> {
    (0..surprises.axes().fields).map(move |field| surprises.field(row, field, 0))
}

impl ReferenceTables {
    /// The tables of stored parts: `[Q]`, `[F * R']` and `[F]` of them.
    ///
    /// # Errors
    /// Which count differs from what the axes and the rule ask for.
    pub fn from_parts(
        axes: Axes,
        rule: ScoreRule,
        terms: Vec<SurvivalTable>,
        readings: Vec<SurvivalTable>,
        fields: Vec<SurvivalTable>,
    ) -> Result<Self, String> {
        let counts = [
            ("term", terms.len(), rule.components().len()),
            ("reading", readings.len(), axes.fields * axes.trained),
            ("field", fields.len(), axes.fields),
        ];
        match counts.iter().find(|(_, found, expected)| found != expected) {
            Some((kind, found, expected)) => {
                Err(format!("{found} {kind} tables, expected {expected}"))
            }
            None => Ok(Self {
                axes,
                rule,
                terms,
                readings,
                fields,
                combination: Combination::default(),
            }),
        }
    }

    /// The same tables under another combination.
    ///
    /// # Errors
    /// What of it does not fit them.
    pub fn with_combination(self, combination: Combination) -> Result<Self, String> {
        match combination.fault(self.axes, &self.rule) {
            Some(fault) => Err(fault),
            None => Ok(Self {
                combination,
                ..self
            }),
        }
    }

    /// How components become a score.
    pub fn combination(&self) -> &Combination {
        &self.combination
    }

    /// How the score without labels is made.
    pub fn rule(&self) -> &ScoreRule {
        &self.rule
    }

    /// F, S and R.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// Tables of the terms `[Q]`, of the readings `[F * R']`, of the fields `[F]`.
    pub fn parts(&self) -> (&[SurvivalTable], &[SurvivalTable], &[SurvivalTable]) {
        (&self.terms, &self.readings, &self.fields)
    }

    /// The score of a record without labels: the terms' -log survivals under the rule, nats, >= 0.
    fn untuned_score(&self, surprises: &Surprises, row: usize) -> f32 {
        let terms = self.terms.iter().zip(self.rule.components());
        let surprisals = terms.map(|(table, component)| {
            let value = measure(component, surprises, row);
            table.surprisal(value)
        });
        self.rule.score(surprisals)
    }

    /// The C components of a record, the untuned score first, always in the same order.
    ///
    /// A field that is no number, or one of two values, has one surprise whatever the reading, but for third values: where
    /// the reference rows have none its tables are equal, and one of them stands for all.
    pub fn components(&self) -> Vec<Component> {
        let Axes {
            fields,
            trained: readings,
            ..
        } = self.axes();
        let field = |i| Component::Field {
            field: i / readings,
            reading: i % readings,
        };
        let tables = self.parts().1;
        let is_new = |&i: &usize| !tables[i - i % readings..i].contains(&tables[i]);
        let mut components = vec![Component::Untuned];
        components.extend(self.rule().components());
        components.extend((0..fields * readings).filter(is_new).map(field));
        components
    }

    /// A component of a record: nats, >= 0, never falling in any surprise; infinite where a surprise overflowed.
    pub fn component(&self, component: Component, surprises: &Surprises, row: usize) -> f32 {
        match component {
            Component::Untuned => self.untuned_score(surprises, row),
            // No value of the context is unusual.
            Component::Field { field, .. } if !surprises.is_predicted(field) => 0.0,
            Component::Field { field, reading } => {
                let surprise = surprises.field(row, field, reading);
                self.reading(field, reading).surprisal(surprise)
            }
            of_record => self.term(of_record, surprises, row),
        }
    }

    /// The -log survival of one term of the score; not a number for what is none.
    pub fn term(&self, component: Component, surprises: &Surprises, row: usize) -> f32 {
        let mut terms = self.terms.iter().zip(self.rule.components());
        let table = terms.find(|(_, of)| *of == component);
        table.map_or(f32::NAN, |(table, _)| {
            table.surprisal(measure(component, surprises, row))
        })
    }

    /// The anomaly score of a record: its components combined, >= 0, finite, higher = more abnormal.
    pub fn anomaly_score(&self, surprises: &Surprises, row: usize) -> f32 {
        let value = |component| self.component(component, surprises, row);
        let score = self.combination.score(value);
        // A total that overflowed is the most abnormal there is, and outputs hold finite numbers only.
        if score.is_finite() { score } else { f32::MAX }
    }

    /// How unusual a field of a record is among reference records: -log of the share of them whose same field is at
    /// least as surprising, nats, >= 0.
    pub fn field_surprisal(&self, surprises: &Surprises, row: usize, field: usize) -> f32 {
        self.fields[field].surprisal(self.combined(surprises, row, field))
    }

    /// The share of reference records whose same field is at least as surprising, in (0, 1].
    pub fn field_p_value(&self, surprises: &Surprises, row: usize, field: usize) -> f64 {
        self.fields[field].share_at_least(self.combined(surprises, row, field))
    }

    /// The mean over the trained readings of a field's -log survival.
    fn combined(&self, surprises: &Surprises, row: usize, field: usize) -> f32 {
        mean((0..self.axes.trained).map(|reading| {
            let table = self.reading(field, reading);
            table.surprisal(surprises.field(row, field, reading))
        }))
    }

    /// The distribution of a field's mean surprise under one trained reading.
    pub fn reading(&self, field: usize, reading: usize) -> &SurvivalTable {
        &self.readings[field * self.axes.trained + reading]
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0f64, 0u32), |(sum, n), x| (sum + f64::from(x), n + 1));
    (sum / f64::from(count.max(1))) as f32
}
