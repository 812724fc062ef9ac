//! How far a record lies from the fit rows: what the score measures of it besides its surprises.
//!
//! In flow a fitted model and fit rows; out flow the [`LatentDistance`] and the [`NearestRows`] that the bundle keeps.

use super::latent::{LATENT_ROWS, LatentDistance};
use super::nearest::{NearestDistances, NearestLayout, NearestRows};
use super::rule::ScoreConfig;
use super::surprise::SurpriseModel;
use crate::encode::{Encoder, Records};
use crate::model::Architecture;
use crate::rng::{Purpose, stream};
use crate::schema::Schema;
use candle_core::Result;

/// What a record is measured by, each if the configuration asks for it and the model has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distances {
    /// Of the latent.
    pub latent: Option<LatentDistance>,
    /// To the nearest of some fit rows.
    pub nearest: Option<NearestRows>,
}

/// The distances of one record; 0 where one is not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Distance {
    /// Of its latent, squared, in deviations of those of fit rows.
    pub latent: f32,
    /// To the nearest kept row.
    pub nearest: NearestDistances,
}

impl Distances {
    /// Those that the configuration asks for, from the rows `kept` of the fit rows, at least one: a row that training left out as
    /// too unusual is no neighbour of a normal record.
    ///
    /// # Errors
    /// If candle fails.
    pub fn fit(
        config: &ScoreConfig,
        model: &SurpriseModel,
        schema: &Schema,
        (fit, kept): (&Records, &[usize]),
        seed: u64,
    ) -> Result<Self> {
        // Both tell how rare a record is, whatever its context: there what is rare may be normal.
        let heads = model.model().heads();
        if heads.predicted().count() < heads.len() {
            return Ok(Self::default());
        }
        let rng = &mut stream(seed, Purpose::Neighbours);
        let count = config.nearest_rows.max(LATENT_ROWS).min(kept.len());
        // In random order, so that any number of the first of them is a sample.
        let sample = rand::seq::index::sample(rng, kept.len(), count);
        let rows: Vec<usize> = sample.into_iter().map(|at| kept[at]).collect();
        let latent = match config.latent && has_latent(model) {
            true => {
                let rows = &rows[..LATENT_ROWS.min(rows.len())];
                let latents = model.latents(&fit.select(rows.iter().copied()))?;
                LatentDistance::fit(&latents, model.model().config().width)
            }
            false => None,
        };
        let layout = layout(model.encoder(), schema);
        let counts = model.model().heads().weight_of_numbers() > 0.0;
        let nearest = (config.nearest && counts && !layout.is_empty()).then(|| {
            let rows = &rows[..config.nearest_rows.min(rows.len())];
            NearestRows::keep(layout, fit, rows)
        });
        Ok(Self { latent, nearest })
    }
}

/// Whether a model has one latent a record, of which distances mean something: the `mlp` whose fields are hidden. Where
/// nothing is hidden every record comes out of a bottleneck much narrower than the latent.
pub fn has_latent(model: &SurpriseModel) -> bool {
    let model = model.model();
    model.config().architecture == Architecture::Mlp && !model.has_bottleneck()
}

/// What of a record takes part in distances: every field that is not redacted.
pub fn layout(encoder: &Encoder, schema: &Schema) -> NearestLayout {
    let left_out: Vec<bool> = schema.features().map(|field| field.redact).collect();
    let nulls: Vec<bool> = encoder
        .fields()
        .iter()
        .map(|field| field.nulls > 0)
        .collect();
    NearestLayout::new(&encoder.shapes(), &nulls, &left_out)
}
