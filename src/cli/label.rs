//! Which column may be the label: none that the model sees.

use super::exit::Refused;
use crate::records::ParquetSource;
use crate::schema::{Role, Schema};
use arrow::datatypes::DataType;

/// Columns that are proposed at most.
const PROPOSED_MAX: usize = 3;

/// Whether `label` is a column that the model does not see.
///
/// # Errors
/// [`Refused`] if it is a feature, with the columns that may be meant.
pub fn refuse_feature(label: &str, schema: &Schema, source: &ParquetSource) -> Result<(), Refused> {
    let is_it = |field: &&crate::schema::Field| {
        field.name == label || field.path.segments() == [label.to_owned()]
    };
    if !schema.features().any(|field| is_it(&field)) {
        return Ok(());
    }
    Err(Refused(format!(
        "`{label}` is a feature of this bundle: the model sees it, so it cannot say what is fraud; give {} (--label)",
        proposal(schema, source)
    )))
}

/// The schema's label, or columns of truth values that the model does not see.
fn proposal(schema: &Schema, source: &ParquetSource) -> String {
    let own = schema.label().filter(|label| {
        let columns = source.columns();
        label
            .path
            .segments()
            .first()
            .is_some_and(|top| columns.index_of(top).is_ok())
    });
    if let Some(own) = own {
        return format!("the label of its schema, `{}`", own.path);
    }
    let seen = |name: &str| {
        let mut fields = schema
            .fields()
            .iter()
            .filter(|field| field.role != Role::Ignore);
        fields.any(|field| field.path.segments().first().is_some_and(|top| top == name))
    };
    let fields = source.columns().fields().iter();
    let flags = fields.filter(|f| *f.data_type() == DataType::Boolean && !seen(f.name()));
    let flags: Vec<String> = flags
        .take(PROPOSED_MAX)
        .map(|field| format!("`{}`", field.name()))
        .collect();
    match flags.is_empty() {
        true => "the column that is 1 for fraud".to_owned(),
        false => format!(
            "the column that is 1 for fraud (perhaps {})",
            flags.join(", ")
        ),
    }
}
