//! The detector that labels made, as it stands beside the one without: with calibration scores and a budget of its own.

use super::calibration::ReferenceTables;
use super::conformal::ConformalScores;
use super::joint::BudgetShare;
use super::segmented::SegmentedScores;
use super::supervised::{Supervised, TreeInputs};
use super::surprise::SurpriseModel;

/// A second detector, its own calibration scores and its share of the budget.
#[derive(Debug, Clone)]
pub struct Labelled {
    pub(super) detector: Supervised,
    pub(super) inputs: TreeInputs,
    pub(super) share: BudgetShare,
    pub(super) conformal: ConformalScores,
    pub(super) segmented: Option<SegmentedScores>,
}

impl Labelled {
    /// Of stored parts.
    ///
    /// # Errors
    /// What does not fit the model or the tables.
    pub fn new(
        model: &SurpriseModel,
        reference: &ReferenceTables,
        (detector, share): (Supervised, BudgetShare),
        conformal: ConformalScores,
    ) -> Result<Self, String> {
        let inputs = TreeInputs::new(&model.encoder().shapes(), reference);
        match detector.fault(&inputs, reference) {
            Some(fault) => Err(fault),
            None => Ok(Self {
                detector,
                inputs,
                share,
                conformal,
                segmented: None,
            }),
        }
    }

    /// What labels taught.
    pub fn detector(&self) -> &Supervised {
        &self.detector
    }

    /// What the inputs of its trees are.
    pub fn inputs(&self) -> &TreeInputs {
        &self.inputs
    }

    /// How the alert budget is divided.
    pub fn share(&self) -> BudgetShare {
        self.share
    }

    /// Its calibration scores.
    pub fn conformal(&self) -> &ConformalScores {
        &self.conformal
    }
}
