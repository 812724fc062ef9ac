//! Where the values of a field lie, in few bins: what a stream is compared with, field by field.
//!
//! In flow encoded records, out flows the bin of each value. Bins are coarse on purpose: a difference between two tables of
//! them is then one that matters. The invariant: a redacted field has no bins, so that no table speaks of it. Nor has a
//! timestamp: the hours of a window are those in which it was filled.

use super::encoder::{Encoder, FieldEncoder, ValueEncoder};
use super::records::{FieldShape, Records};
use crate::schema::Schema;
use serde::{Deserialize, Serialize};

/// The bin of a value that is absent.
const NULL: u8 = 0;
/// Where the bins of a number begin, in standard deviations of a normal: tenths of the values, and beyond one in 2,000 on
/// either side.
const CUTS: [f32; 11] = [
    -3.290_527, -1.281_552, -0.841_621, -0.524_401, -0.253_347, 0.0, 0.253_347, 0.524_401,
    0.841_621, 1.281_552, 3.290_527,
];
/// Values of a category that have a bin of their own, the most frequent first.
const CATEGORIES_MAX: u32 = 30;

/// How many values of a field lay in each of its bins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldTable {
    /// The field's name.
    pub field: String,
    /// Null first. Of a number: by its normal quantile, ascending. Of a category: unknown, the most frequent values, all others.
    /// Of a boolean: false, true. Of a number with two values: neither, the smaller, the larger.
    pub counts: Vec<u64>,
}

/// What finds the bins of records: G fields that have bins, of F.
#[derive(Debug, Clone)]
pub struct ValueBins {
    fields: Vec<Binned>,
}

#[derive(Debug, Clone)]
struct Binned {
    name: String,
    /// Its place among the F fields.
    field: usize,
    by: By,
}

#[derive(Debug, Clone, Copy)]
enum By {
    /// A number slot.
    Number { slot: usize },
    /// A code slot whose largest code with a bin of its own is `last`; `has_others` has one more bin.
    Code {
        slot: usize,
        last: u32,
        has_others: bool,
    },
}

impl ValueBins {
    /// The bins of the values that `encoder` encodes, of records of `schema`.
    pub fn new(encoder: &Encoder, schema: &Schema) -> Self {
        let (mut number, mut code) = (0, 0);
        let mut fields = Vec::new();
        let of = encoder.fields().iter().zip(schema.features());
        for (index, (field, of_schema)) in of.enumerate() {
            let by = by(field, number, code).filter(|_| !of_schema.redact);
            fields.extend(by.map(|by| Binned {
                name: field.name.clone(),
                field: index,
                by,
            }));
            number += field.shape().numbers();
            code += field.shape().codes();
        }
        Self { fields }
    }

    /// G.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether no field has bins.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The names of the G fields, in schema order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The bins of all records, `[B * G]`, row-major.
    pub fn of(&self, records: &Records) -> Vec<u8> {
        let rows = 0..records.rows();
        let bins =
            rows.flat_map(|row| self.fields.iter().map(move |field| field.bin(records, row)));
        bins.collect()
    }

    /// How many of the records lie in each bin, a table a field.
    pub fn tables(&self, records: &Records) -> Vec<FieldTable> {
        let tables = self.fields.iter().map(|field| {
            let mut counts = vec![0; field.bins()];
            for row in 0..records.rows() {
                counts[usize::from(field.bin(records, row))] += 1;
            }
            FieldTable {
                field: field.name.clone(),
                counts,
            }
        });
        tables.collect()
    }

    /// What is wrong with stored tables, if they are not of these fields and bins or count no record.
    pub fn fault(&self, tables: &[FieldTable]) -> Option<String> {
        if tables.len() != self.len() {
            let (found, expected) = (tables.len(), self.len());
            return Some(format!("{found} tables of fields, expected {expected}"));
        }
        let fault = |(field, table): (&Binned, &FieldTable)| {
            let (name, bins) = (&field.name, table.counts.len());
            let sum = table.counts.iter().try_fold(0u64, |a, &b| a.checked_add(b));
            match () {
                () if *name != table.field => Some(format!(
                    "a table of field '{}', expected '{name}'",
                    table.field
                )),
                () if bins != field.bins() => Some(format!(
                    "the table of field '{name}' has {bins} bins, expected {}",
                    field.bins()
                )),
                () if sum.is_none_or(|sum| sum == 0) => {
                    Some(format!("the table of field '{name}' counts no record"))
                }
                () => None,
            }
        };
        self.fields.iter().zip(tables).find_map(fault)
    }
}

fn by(field: &FieldEncoder, number: usize, code: usize) -> Option<By> {
    let code_up_to = |last: u32, has_others| By::Code {
        slot: code,
        last,
        has_others,
    };
    match (&field.value, field.shape()) {
        // The second slot is the normal quantile, where there is one; else all values are at 0 of it.
        (ValueEncoder::Numeric(encoder), _) => Some(By::Number {
            slot: number + usize::from(encoder.points().is_some()),
        }),
        (_, FieldShape::Binary) => Some(code_up_to(2, false)),
        (_, FieldShape::Boolean) => Some(code_up_to(1, false)),
        (_, FieldShape::Categorical { codes, .. }) => Some(code_up_to(
            codes.min(CATEGORIES_MAX),
            codes > CATEGORIES_MAX,
        )),
        (_, FieldShape::Numeric | FieldShape::Timestamp) => None,
    }
}

impl Binned {
    fn bins(&self) -> usize {
        match self.by {
            By::Number { .. } => CUTS.len() + 2,
            By::Code {
                last, has_others, ..
            } => last as usize + 2 + usize::from(has_others),
        }
    }

    fn bin(&self, records: &Records, row: usize) -> u8 {
        if !records.present(row)[self.field] {
            return NULL;
        }
        match self.by {
            By::Number { slot } => {
                let number = records.numbers(row)[slot];
                1 + CUTS.partition_point(|&cut| cut <= number) as u8
            }
            By::Code { slot, last, .. } => 1 + records.codes(row)[slot].min(last + 1) as u8,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::EncoderFitter;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
    use std::sync::Arc;

    fn schema() -> Schema {
        let fields = [
            ("amount", "numeric", ""),
            ("fee", "numeric", ""),
            ("country", "categorical", ""),
            ("online", "boolean", ""),
            ("secret", "numeric", "redact = true"),
        ];
        let fields = fields.map(|(name, kind, more)| {
            format!("[[field]]\nname = \"{name}\"\nkind = \"{kind}\"\n{more}\n")
        });
        Schema::parse(&fields.concat(), "test.toml").unwrap()
    }

    /// 1,000 rows: amounts 0 to 999, a fee of 0 or 2, one of 40 countries, every tenth online unknown.
    fn batch() -> RecordBatch {
        let rows = 0..1_000u32;
        let columns: [(&str, DataType, ArrayRef); 5] = [
            (
                "amount",
                DataType::Float64,
                Arc::new(Float64Array::from_iter_values(rows.clone().map(f64::from))),
            ),
            (
                "fee",
                DataType::Float64,
                Arc::new(Float64Array::from_iter_values(
                    rows.clone().map(|i| f64::from(i % 5 / 4 * 2)),
                )),
            ),
            (
                "country",
                DataType::Utf8,
                Arc::new(StringArray::from_iter_values(
                    rows.clone().map(|i| format!("c{}", i % 40)),
                )),
            ),
            (
                "online",
                DataType::Boolean,
                Arc::new(BooleanArray::from_iter(
                    rows.clone().map(|i| (i % 10 > 0).then_some(i % 2 == 0)),
                )),
            ),
            (
                "secret",
                DataType::Float64,
                Arc::new(Float64Array::from_iter_values(rows.map(f64::from))),
            ),
        ];
        let fields = columns
            .iter()
            .map(|(name, kind, _)| Field::new(*name, kind.clone(), true));
        let schema = ArrowSchema::new(fields.collect::<Vec<_>>());
        RecordBatch::try_new(
            Arc::new(schema),
            columns.map(|(_, _, column)| column).to_vec(),
        )
        .unwrap()
    }

    fn tables() -> (ValueBins, Vec<FieldTable>) {
        let (schema, batch) = (schema(), batch());
        let mut fitter = EncoderFitter::new(schema.features(), 1_024).unwrap();
        fitter.observe(&batch).unwrap();
        let encoder = fitter.finish().unwrap();
        let bins = ValueBins::new(&encoder, &schema);
        let tables = bins.tables(&encoder.encode(&batch).unwrap());
        (bins, tables)
    }

    #[test]
    fn a_table_says_where_the_values_of_every_field_lie_that_is_not_redacted() {
        let (bins, tables) = tables();
        let names: Vec<_> = bins.names().collect();
        assert_eq!(names, ["amount", "fee", "country", "online"]);
        let amount = &tables[0].counts;
        assert_eq!((amount.len(), amount.iter().sum::<u64>()), (13, 1_000));
        // A tenth each; of the outermost, one in 2,000 lies beyond.
        assert!(
            amount[3..=10]
                .iter()
                .all(|count| (98..=102).contains(count)),
            "{amount:?}"
        );
        assert_eq!(tables[1].counts, [0, 0, 800, 200]);
        // Null, unknown, 30 values, the ten others.
        let country = &tables[2].counts;
        assert_eq!(country.len(), 33);
        assert_eq!(
            (country[0], country[1], country[2], country[32]),
            (0, 0, 25, 250)
        );
        assert_eq!(tables[3].counts, [100, 500, 400]);
    }

    #[test]
    fn tables_of_other_fields_or_bins_are_refused() {
        let (bins, tables) = tables();
        assert_eq!(bins.fault(&tables), None);
        let fault = |change: &dyn Fn(&mut Vec<FieldTable>)| {
            let mut tables = tables.clone();
            change(&mut tables);
            bins.fault(&tables).unwrap()
        };
        assert!(fault(&|of| of.truncate(3)).contains("3 tables of fields, expected 4"));
        assert!(fault(&|of| of.swap(0, 1)).contains("field 'fee', expected 'amount'"));
        assert!(fault(&|of| of[3].counts.truncate(2)).contains("has 2 bins, expected 3"));
        assert!(fault(&|of| of[0].counts.fill(0)).contains("counts no record"));
        assert!(fault(&|of| of[0].counts.fill(u64::MAX)).contains("counts no record"));
    }
}
