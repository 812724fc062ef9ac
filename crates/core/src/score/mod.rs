//! From encoded records to scores, p-values and reasons.
//!
//! In: [`Records`](crate::encode::Records), a trained model, views. Out: [`Scores`] and [`Reason`]s. The way of a
//! record: views hide fields -> `surprise` (by the `kernel`, or through `tensors`), and how far it lies from fit rows
//! (`distances`: `latent`, `nearest`) -> reference tables (`survival`, `calibration`) -> `rule` -> anomaly score
//! (of most records by the first stage of a `cascade` alone) -> p-value
//! (`conformal`, or `segmented` where a budget is held by `segment`). Where labels tuned it, a second detector (`supervised`:
//! a `combination` or `trees`) stands beside, and `joint` makes one score and one p-value of both. -> `budget`, whose `promise` is about the number of alerts. `words` writes numbers for a person. Invariant: a record's score depends
//! on the record and the bundle alone, never on its batch.

mod budget;
mod calibration;
mod cascade;
mod combination;
mod component;
mod conformal;
mod distances;
mod explanation;
mod joint;
mod kernel;
mod labelled;
mod latent;
mod nearest;
mod predictive;
mod promise;
mod rule;
mod scorer;
mod segment;
mod segmented;
mod supervised;
mod surprise;
mod survival;
mod tensors;
mod trees;
mod types;
mod words;

pub use budget::{AlertBudget, DEFAULT_ALERT_BUDGET};
pub use calibration::{ReferenceSample, ReferenceTables};
pub use cascade::{CASCADE_SHARE_MAX, Cascade, CascadeConfig, DEFAULT_CASCADE_SHARE, FirstStage};
pub use combination::{Combination, Term};
pub use component::Component;
pub use conformal::{CalibrationSample, ConformalScores, SegmentCodes};
pub use distances::{Distance, Distances, has_latent, layout};
pub use explanation::{OBSERVED_BYTES_MAX, REASON_P_VALUE_MAX, REDACTED};
pub use joint::{BudgetShare, DEFAULT_BUDGET_SHARE, JointPValue};
pub use kernel::{Operations, kernel_instructions};
pub use labelled::Labelled;
pub use latent::LatentDistance;
pub use nearest::{NearestLayout, NearestRows};
pub use promise::Promise;
pub use rule::{Measured, ScoreConfig, ScoreRule};
pub use scorer::{ScoreError, Scorer};
pub use segment::{
    NO_SEGMENT, SEGMENT_FIELDS_MAX, SEGMENT_VALUES_MAX, SegmentField, segment_fields,
};
pub use segmented::{RankedAmong, Segment, SegmentedScores};
pub use supervised::{Supervised, TreeInputs};
pub use surprise::{Axes, SurpriseModel, Surprises};
pub use survival::{KNOTS_MAX, SurvivalTable};
pub use trees::{LEAF, TREE_DEPTH_MAX, TREE_NODES_MAX, TreeNode, Trees};
pub use types::{
    Assessment, Category, DetectorPart, Expected, Explain, PartPValues, Reason, Scores,
};
pub use words::{count_text, number_text, p_value_text, percentages, share_text};
