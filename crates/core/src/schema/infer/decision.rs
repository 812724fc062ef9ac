//! What inference decides of a column: role, kind and spelling, with the reasons that the schema file shows as comments.

use super::super::field::{Kind, Role, TimeUnit, Transform};
use super::texts::NumberText;

/// What becomes of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) role: Role,
    pub(super) kind: Option<Kind>,
    pub(super) unit: Option<TimeUnit>,
    pub(super) transform: Transform,
    /// How text writes numbers, where it does.
    pub(super) parse: Option<NumberText>,
    /// Values that mean null, beside those of `parse`.
    pub(super) null_values: Vec<String>,
    /// Why, where it does not go without saying: sentences, each a comment of the field.
    pub(super) reasons: Vec<String>,
    /// What a person should look at, for the summary.
    pub(super) doubt: Option<String>,
}

impl Decision {
    pub(super) fn feature(kind: Kind) -> Self {
        Self {
            role: Role::Feature,
            kind: Some(kind),
            unit: None,
            transform: Transform::None,
            parse: None,
            null_values: Vec::new(),
            reasons: Vec::new(),
            doubt: None,
        }
    }

    pub(super) fn because(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    pub(super) fn doubted(mut self, doubt: impl Into<String>) -> Self {
        self.doubt = Some(doubt.into());
        self
    }

    pub(super) fn ignored(reason: impl Into<String>) -> Self {
        let nothing = Self {
            role: Role::Ignore,
            kind: None,
            ..Self::feature(Kind::Categorical)
        };
        nothing.because(reason)
    }

    /// The label, which needs no kind.
    pub(super) fn label(how: &str) -> Self {
        let label = Self {
            role: Role::Label,
            ..Self::ignored("The label: never seen by the model, only used to evaluate it.")
        };
        if how.is_empty() {
            label
        } else {
            label.because(how)
        }
    }
}
