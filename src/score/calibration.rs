//! From surprises to a record's score: the tables of the reference part.
//!
//! Two disjoint parts of the training rows take part in calibration: the *reference* part shapes the score (tables per
//! field and per stratum), the *calibration* part only ranks it (`conformal`).

use super::surprise::{Axes, Surprises};
use super::survival::SurvivalTable;

/// What the reference part says of every field and stratum.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceTables {
    axes: Axes,
    /// `[S * R]`: distributions of a record's total surprise.
    strata: Vec<SurvivalTable>,
    /// `[F * R]`: distributions of a field's mean surprise.
    readings: Vec<SurvivalTable>,
    /// `[F]`: distributions of a field's readings combined.
    fields: Vec<SurvivalTable>,
}

/// The surprises of the reference part, reduced to what the tables need.
#[derive(Debug, Clone)]
pub struct ReferenceSample {
    axes: Axes,
    strata: Vec<Vec<f32>>,
    readings: Vec<Vec<f32>>,
}

impl ReferenceSample {
    /// An empty sample.
    pub fn new(axes: Axes) -> Self {
        Self {
            axes,
            strata: vec![Vec::new(); axes.strata * axes.readings],
            readings: vec![Vec::new(); axes.fields * axes.readings],
        }
    }

    /// Adds the records of a batch.
    pub fn observe(&mut self, surprises: &Surprises) {
        let Axes {
            fields,
            strata,
            readings,
        } = self.axes;
        for row in 0..surprises.rows() {
            for reading in 0..readings {
                for stratum in 0..strata {
                    let total = surprises.total(row, stratum, reading);
                    self.strata[stratum * readings + reading].push(total);
                }
                for field in 0..fields {
                    let surprise = surprises.field(row, field, reading);
                    self.readings[field * readings + reading].push(surprise);
                }
            }
        }
    }

    /// The tables.
    pub fn fit(self) -> ReferenceTables {
        let readings: Vec<_> = self
            .readings
            .iter()
            .map(|s| SurvivalTable::fit(s))
            .collect();
        let per_field = self.axes.readings;
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
            strata: self.strata.iter().map(|s| SurvivalTable::fit(s)).collect(),
            fields: fields.collect(),
            readings,
        }
    }
}

impl ReferenceTables {
    /// The tables of stored parts: `[S * R]`, `[F * R]` and `[F]` of them.
    ///
    /// # Errors
    /// Which count differs from what the axes ask for.
    pub fn from_parts(
        axes: Axes,
        strata: Vec<SurvivalTable>,
        readings: Vec<SurvivalTable>,
        fields: Vec<SurvivalTable>,
    ) -> Result<Self, String> {
        let counts = [
            ("stratum", strata.len(), axes.strata * axes.readings),
            ("reading", readings.len(), axes.fields * axes.readings),
            ("field", fields.len(), axes.fields),
        ];
        match counts.iter().find(|(_, found, expected)| found != expected) {
            Some((kind, found, expected)) => {
                Err(format!("{found} {kind} tables, expected {expected}"))
            }
            None => Ok(Self {
                axes,
                strata,
                readings,
                fields,
            }),
        }
    }

    /// F, S and R.
    pub fn axes(&self) -> Axes {
        self.axes
    }

    /// Tables of the strata `[S * R]`, of the readings `[F * R]`, of the fields `[F]`.
    pub fn parts(&self) -> (&[SurvivalTable], &[SurvivalTable], &[SurvivalTable]) {
        (&self.strata, &self.readings, &self.fields)
    }

    /// The anomaly score of a record: the mean over strata and readings of the total surprise's -log survival, nats,
    /// >= 0, finite, higher = more abnormal.
    pub fn anomaly_score(&self, surprises: &Surprises, row: usize) -> f32 {
        let Axes {
            strata, readings, ..
        } = self.axes;
        let total = |i| surprises.total(row, i / readings, i % readings);
        let score = mean((0..strata * readings).map(|i| self.strata[i].surprisal(total(i))));
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

    /// The mean over the readings of a field's -log survival.
    fn combined(&self, surprises: &Surprises, row: usize, field: usize) -> f32 {
        let readings = self.axes.readings;
        mean((0..readings).map(|reading| {
            let table = &self.readings[field * readings + reading];
            table.surprisal(surprises.field(row, field, reading))
        }))
    }

    /// The distribution of a field's mean surprise under one reading.
    pub fn reading(&self, field: usize, reading: usize) -> &SurvivalTable {
        &self.readings[field * self.axes.readings + reading]
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0f64, 0u32), |(sum, n), x| (sum + f64::from(x), n + 1));
    (sum / f64::from(count.max(1))) as f32
}
