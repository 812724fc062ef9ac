//! What a column takes, for every format: the kind of its field, or the role where that decides.

use crate::schema::{Field, Kind, Role, TimeUnit};

/// What a column takes: the kind, or the role where that decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// f64.
    Number {
        /// Whether numbers in text are taken.
        parse: bool,
        /// The scale of unscaled decimals in bytes and in base64, if they are taken at all.
        decimal_scale: Option<i16>,
    },
    /// Canonical text.
    Category,
    /// Canonical text, of moments too.
    Key,
    /// bool.
    Flag {
        /// Whether 0, 1 and the words in text are taken.
        parse: bool,
    },
    /// bool, from 0/1 too.
    Label,
    /// Microseconds.
    Moment {
        /// The unit of integers, if they are taken at all.
        unit: Option<TimeUnit>,
    },
}

impl Target {
    /// What the column of `field` takes.
    pub fn of(field: &Field) -> Self {
        match (field.role, field.kind) {
            (Role::Key, _) => Self::Key,
            (Role::Label, _) => Self::Label,
            (_, Kind::Numeric) => Self::Number {
                parse: field.parse,
                decimal_scale: field.decimal_scale,
            },
            (_, Kind::Categorical) => Self::Category,
            (_, Kind::Boolean) => Self::Flag { parse: field.parse },
            (_, Kind::Timestamp) => Self::Moment { unit: field.unit },
        }
    }

    /// Whether NaN and infinities mean null here: wherever some float is taken.
    pub fn takes_floats(self) -> bool {
        !matches!(
            self,
            Self::Flag { parse: false } | Self::Moment { unit: None }
        )
    }

    /// What is expected, for a person.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Number {
                decimal_scale: Some(_),
                ..
            } => "a number or an unscaled decimal in base64",
            Self::Number { parse: false, .. } => "a number",
            Self::Number { parse: true, .. } => "a number or a number in text",
            Self::Category => "text, an integer or a boolean",
            Self::Key => "text, an integer, a boolean or a moment",
            Self::Flag { parse: false } => "true or false",
            Self::Flag { parse: true } | Self::Label => "0, 1, true or false",
            Self::Moment { unit: Some(_) } => {
                "a moment in the years 0000 to 9999, as RFC 3339 or a number"
            }
            Self::Moment { unit: None } => {
                "a moment in the years 0000 to 9999, as RFC 3339 (integers need a `unit`)"
            }
        }
    }
}
