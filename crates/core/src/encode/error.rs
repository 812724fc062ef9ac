//! Why an encoder cannot be fitted or used, in words that show nothing of a redacted field.

use crate::schema::Transform;

/// Why an encoder cannot be fitted or used.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum EncodeError {
    /// Features never had a value in the fit rows.
    #[error(
        "{}: all {rows} training rows are null; nothing can be learned of it (set role = \"ignore\")",
        quoted(fields)
    )]
    AllNull {
        /// All such fields.
        fields: Vec<String>,
        /// Rows seen.
        rows: u64,
    },
    /// No row is left to fit to.
    #[error("no rows are left to fit the encoder to")]
    NoRows,
    /// Values so large that their moments are no numbers.
    #[error(
        "field '{field}': values {} are too large to be standardised (a stand-in for missing values? write null \
         instead{})",
        extremes(*range),
        remedy(*transform, *range)
    )]
    OutOfRange {
        /// The field.
        field: String,
        /// Its smallest and its largest transformed value; `None` of a redacted field.
        range: Option<(f64, f64)>,
        /// The transform that it has already.
        transform: Transform,
    },
    /// The schema has no field with the role feature.
    #[error("the schema has no field with role \"feature\"")]
    NoFeature,
    /// A batch is not in the canonical form of the schema.
    #[error("field '{field}': expected a canonical column of type {expected}, found {found}")]
    NotCanonical {
        /// The field.
        field: String,
        /// The canonical Arrow type.
        expected: &'static str,
        /// What the batch has.
        found: String,
    },
}

fn extremes(range: Option<(f64, f64)>) -> String {
    match range {
        Some((min, max)) => format!("from {min:e} to {max:e}"),
        None => "(redacted)".to_owned(),
    }
}

/// A transform that would help against values too large, where there is none yet. `asinh` takes numbers of either sign.
fn remedy(transform: Transform, range: Option<(f64, f64)>) -> &'static str {
    match (transform, range) {
        (Transform::None, Some((min, _))) if min >= 0.0 => ", or set transform = \"log1p\"",
        (Transform::None, _) => ", or set transform = \"asinh\"",
        (Transform::Log1p | Transform::Asinh, _) => "",
    }
}

fn quoted(fields: &[String]) -> String {
    let names: Vec<String> = fields
        .iter()
        .map(|name| format!("field '{name}'"))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_too_large_come_with_the_transform_that_helps() {
        for (transform, min, remedy) in [
            (
                Transform::None,
                0.0,
                "instead, or set transform = \"log1p\")",
            ),
            (
                Transform::None,
                -1.0,
                "instead, or set transform = \"asinh\")",
            ),
            (Transform::Log1p, 0.0, "write null instead)"),
            (Transform::Asinh, -1.0, "write null instead)"),
        ] {
            let error = EncodeError::OutOfRange {
                field: "a".to_owned(),
                range: Some((min, f64::MAX)),
                transform,
            };
            assert!(error.to_string().ends_with(remedy), "{error}");
        }
    }
}
