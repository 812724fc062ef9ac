//! What turns a record's calibrated surprises into its anomaly score.
//!
//! In flow the *components* of a record: -log survivals, nats, >= 0, each rising with the surprises that it stands for.
//! Out flows a score: without labels the untuned one, and after `tune` a mean of components with stored weights.
//! Invariant: no weight is negative, so that more surprise never lowers a score.
//!
//! Which components there are and what each is worth is said by the tables of the reference part alone
//! (`ReferenceTables::components`, `ReferenceTables::component`); who learns weights sees a list of names and a matrix.

use super::component::Component;
use super::rule::ScoreRule;
use super::surprise::Axes;
use serde::{Deserialize, Serialize};

/// A component and its share of the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// What is weighed.
    pub component: Component,
    /// Above 0; the weights of a combination sum to 1.
    pub weight: f32,
}

/// A weighted mean of components. A component that is not named has the weight 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Combination {
    terms: Vec<Term>,
}

impl Default for Combination {
    /// The untuned score alone.
    fn default() -> Self {
        Self {
            terms: vec![Term {
                component: Component::Untuned,
                weight: 1.0,
            }],
        }
    }
}

impl Combination {
    /// The mean of components under weights of any scale, one each; those of weight 0 are left out. Dividing by the sum
    /// keeps the score on the scale of its components and changes no order.
    ///
    /// # Errors
    /// If the counts differ, a weight is negative or no number, or none is above 0.
    pub fn weighted(components: &[Component], weights: &[f64]) -> Result<Self, String> {
        if components.len() != weights.len() {
            let (c, w) = (components.len(), weights.len());
            return Err(format!("{w} weights for {c} components"));
        }
        if let Some(at) = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
            return Err(format!(
                "weight {at} is {}: must be at least 0",
                weights[at]
            ));
        }
        let sum: f64 = weights.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(format!("the weights sum to {sum}: must be above 0"));
        }
        let terms = components.iter().zip(weights).map(|(&component, w)| Term {
            component,
            weight: (w / sum) as f32,
        });
        Ok(Self {
            terms: terms.filter(|term| term.weight > 0.0).collect(),
        })
    }

    /// Components and their weights.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// The score of a record whose components `value` tells; never falling in any of them.
    pub fn score(&self, value: impl Fn(Component) -> f32) -> f32 {
        if let [only] = self.terms[..] {
            // As it is: no rounding by a weight of 1.
            return value(only.component);
        }
        let weighed = |term: &Term| f64::from(term.weight) * f64::from(value(term.component));
        self.terms.iter().map(weighed).sum::<f64>() as f32
    }

    /// What is wrong with it for a model of these axes whose score is made by `rule`, if anything.
    pub fn fault(&self, axes: Axes, rule: &ScoreRule) -> Option<String> {
        if self.terms.is_empty() {
            return Some("no component has a weight".to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        for &Term { component, weight } in &self.terms {
            if !(weight > 0.0 && weight.is_finite()) {
                return Some(format!(
                    "{component:?} has weight {weight}: must be above 0"
                ));
            }
            let known = match component {
                Component::Untuned => true,
                Component::Field { field, reading } => {
                    field < axes.fields && reading < axes.trained
                }
                of_record => rule.components().any(|component| component == of_record),
            };
            if !known {
                return Some(format!("{component:?} is none of a model with {axes:?}"));
            }
            if !seen.insert(component) {
                return Some(format!("{component:?} has two weights"));
            }
        }
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::score::{ReferenceSample, ReferenceTables, Surprises};
    use proptest::prelude::*;

    const AXES: Axes = Axes {
        fields: 3,
        strata: 2,
        readings: 2,
        trained: 2,
    };

    /// The plain mean of all totals.
    fn rule() -> ScoreRule {
        let total = |i: usize| Component::Total {
            stratum: i / 2,
            reading: i % 2,
        };
        ScoreRule::of((0..4).map(|i| (total(i), 1.0)).collect(), 1.0)
    }

    fn field(field: usize) -> Component {
        Component::Field { field, reading: 0 }
    }

    /// Tables of 200 records whose surprises follow from their place; field 2 has the same under both readings.
    fn tables() -> ReferenceTables {
        let per_record = AXES.fields * AXES.strata * AXES.readings;
        let value = |i: usize| {
            let (record, at) = (i / per_record, i % per_record);
            let at = if at / 4 == 2 { at - at % 2 } else { at };
            ((record * (7 + 2 * at)) % 101) as f32 / 20.0 - 0.5
        };
        let values = (0..200 * per_record).map(value).collect();
        let mut sample = ReferenceSample::new(AXES, rule());
        sample.observe(&Surprises::of(AXES, values));
        sample.fit()
    }

    #[test]
    fn components_are_named_once_and_a_field_with_one_surprise_counts_once() {
        let components = tables().components();
        let totals = |component: &&Component| matches!(component, Component::Total { .. });
        assert_eq!(components[0], Component::Untuned);
        assert_eq!(components.iter().filter(totals).count(), 4);
        let fields: Vec<_> = components[5..].to_vec();
        let both = |f| (0..2).map(move |reading| Component::Field { field: f, reading });
        let expected: Vec<_> = both(0).chain(both(1)).chain([field(2)]).collect();
        assert_eq!(fields, expected);
        for component in components {
            let single = Combination::weighted(&[component], &[2.0]).unwrap();
            assert_eq!(single.fault(AXES, &rule()), None);
            assert_eq!(single.terms()[0].weight, 1.0);
        }
    }

    #[test]
    fn without_labels_the_score_is_the_mean_of_the_totals() {
        let tables = tables();
        let values = (0..12).map(|i| i as f32 / 3.0).collect();
        let surprises = Surprises::of(AXES, values);
        let components = tables.components();
        let totals = components[1..5]
            .iter()
            .map(|&c| tables.component(c, &surprises, 0));
        let mean = totals.map(f64::from).sum::<f64>() / 4.0;
        let score = tables.anomaly_score(&surprises, 0);
        assert_eq!(score, mean as f32);
        let equal = Combination::weighted(&components[1..5], &[3.0; 4]).unwrap();
        let weighed = tables.with_combination(equal).unwrap();
        assert!((weighed.anomaly_score(&surprises, 0) - score).abs() < 1e-6);
    }

    #[test]
    fn a_combination_that_could_lower_a_score_or_names_nothing_is_refused() {
        let components = [Component::Untuned, field(0)];
        for (weights, fault) in [
            (&[1.0][..], "1 weights for 2 components"),
            (&[1.0, -0.1], "must be at least 0"),
            (&[1.0, f64::NAN], "must be at least 0"),
            (&[0.0, 0.0], "must be above 0"),
        ] {
            let error = Combination::weighted(&components, weights).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
        let term = |component, weight| Term { component, weight };
        for (terms, fault) in [
            (vec![], "no component"),
            (vec![term(field(0), -1.0)], "must be above 0"),
            (vec![term(field(3), 1.0)], "none of a model"),
            (vec![term(Component::Latent, 1.0)], "none of a model"),
            (
                vec![term(field(1), 0.5), term(field(1), 0.5)],
                "two weights",
            ),
        ] {
            let fault_found = Combination { terms }.fault(AXES, &rule()).unwrap();
            assert!(fault_found.contains(fault), "{fault_found}");
        }
    }

    #[test]
    fn a_surprise_that_overflowed_gives_the_largest_finite_score() {
        let combination = Combination::weighted(&[Component::Untuned, field(1)], &[0.5, 0.5]);
        let tables = tables().with_combination(combination.unwrap()).unwrap();
        let mut values = vec![0.0; 12];
        values[5] = f32::NAN;
        let surprises = Surprises::of(AXES, values);
        assert_eq!(tables.anomaly_score(&surprises, 0), f32::MAX);
    }

    #[test]
    fn a_combination_is_stored_and_read_back() {
        let components = tables().components();
        let weights: Vec<f64> = (0..components.len()).map(|i| i as f64 / 7.0).collect();
        let combination = Combination::weighted(&components, &weights).unwrap();
        assert_eq!(combination.terms().len(), components.len() - 1);
        let json = serde_json::to_string(&combination).unwrap();
        assert_eq!(
            serde_json::from_str::<Combination>(&json).unwrap(),
            combination
        );
        assert!(
            json.contains(r#"{"component":{"kind":"total","stratum":1,"reading":0}"#),
            "{json}"
        );
    }

    proptest! {
        #[test]
        fn more_surprise_never_lowers_a_score(
            values in prop::collection::vec(-1.0..8.0f32, 12),
            weights in prop::collection::vec(0.0..1.0f64, 10),
            at in 0usize..12,
            by in 0.0..20.0f32,
        ) {
            let tables = tables();
            let components = tables.components();
            prop_assume!(weights.iter().sum::<f64>() > 0.0);
            let combination = Combination::weighted(&components, &weights).unwrap();
            let tables = tables.with_combination(combination).unwrap();
            let mut more = values.clone();
            more[at] += by;
            let score = |values| tables.anomaly_score(&Surprises::of(AXES, values), 0);
            let (before, after) = (score(values), score(more));
            prop_assert!(after >= before && before >= 0.0, "{} {}", before, after);
        }
    }
}
