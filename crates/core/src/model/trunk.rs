//! The trunk: inputs in, what the heads read out, with one architecture behind each variant.
//!
//! Letters: B records, P positions of a record (what a block works on: 1 for the `mlp`, a token a field for the
//! `transformer`), F fields, D width. A trunk reads the inputs, passes them through its blocks one by one, and can be cut
//! between two blocks: summarised as one vector a record and spread over the positions again (the bottleneck). Invariant: the
//! numbers of one record never meet those of another.

use super::config::{Architecture, ModelConfig, ObjectiveKind};
use super::inputs::Inputs;
use super::mlp::Mlp;
use super::ops::{gelu, linear, normalize};
use super::parameters::{LinearParameters, Parameters};
use super::transformer::Transformer;
use crate::encode::FieldShape;
use candle_core::{Result, Tensor};
use rand::{Rng, RngExt};
use std::sync::Arc;

/// Gain of the last layer of a residual branch: halves the variance that it adds.
pub(super) const BRANCH_GAIN: f32 = 0.5;
/// Standard deviation of embeddings at the start, below that of standardised numbers.
pub(super) const EMBEDDING_DEVIATION: f32 = 0.5;

/// What B records are between two blocks.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// `[B * P, D]`.
    pub tokens: Tensor,
    /// P.
    pub positions: usize,
    /// `[B * P]`: the positions that others may attend to; all of them if there is none.
    pub keys: Option<Arc<[bool]>>,
}

impl Sequence {
    /// The same positions with other tokens.
    pub fn with(self, tokens: Tensor) -> Self {
        Self { tokens, ..self }
    }
}

/// How fields become an output.
#[derive(Debug, Clone)]
pub(super) enum Trunk {
    Mlp(Mlp),
    Transformer(Transformer),
}

impl Trunk {
    /// Declares the parameters of the configured architecture for this objective.
    pub fn declare(
        config: &ModelConfig,
        objective: ObjectiveKind,
        shapes: &[FieldShape],
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        Ok(match config.architecture {
            Architecture::Mlp => {
                let denoises = config.denoises(objective);
                Self::Mlp(Mlp::declare(config, shapes, denoises, parameters, rng)?)
            }
            Architecture::Transformer => {
                // Where nothing is hidden there is a bottleneck.
                let cut = !objective.hides_fields();
                let transformer = Transformer::declare(config, shapes, cut, parameters, rng)?;
                Self::Transformer(transformer)
            }
        })
    }

    /// What the first block reads.
    pub fn read(&self, inputs: &Inputs) -> Result<Sequence> {
        match self {
            Self::Mlp(mlp) => mlp.read(inputs),
            Self::Transformer(transformer) => transformer.read(inputs),
        }
    }

    /// One block.
    pub fn block(
        &self,
        block: usize,
        sequence: Sequence,
        dropout: &mut Dropout<'_>,
    ) -> Result<Sequence> {
        match self {
            Self::Mlp(mlp) => mlp.block(block, sequence, dropout),
            Self::Transformer(transformer) => transformer.block(block, sequence, dropout),
        }
    }

    /// One vector a record, `[B, D]`: where a bottleneck begins.
    pub fn summary(&self, sequence: &Sequence) -> Result<Tensor> {
        match self {
            Self::Mlp(_) => Ok(sequence.tokens.clone()),
            Self::Transformer(transformer) => transformer.summary(sequence),
        }
    }

    /// The positions of records of which nothing is known but one vector each, `[B, D]`: where a bottleneck ends.
    pub fn spread(&self, records: Tensor) -> Result<Sequence> {
        match self {
            Self::Mlp(_) => Ok(Sequence {
                tokens: records,
                positions: 1,
                keys: None,
            }),
            Self::Transformer(transformer) => transformer.spread(&records),
        }
    }

    /// P after the last block.
    pub fn positions(&self) -> usize {
        match self {
            Self::Mlp(_) => 1,
            Self::Transformer(transformer) => transformer.positions(),
        }
    }
}

/// A residual branch of two layers: linear(dropout(gelu(linear(norm(h))))).
#[derive(Debug, Clone)]
pub(super) struct FeedForward {
    up: LinearParameters,
    down: LinearParameters,
}

impl FeedForward {
    /// Declares `{name}.up` `[D, inner]` and `{name}.down` `[inner, D]`.
    pub fn declare(
        name: &str,
        (width, inner): (usize, usize),
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let up = parameters.linear(&format!("{name}.up"), (width, inner), 1.0, rng)?;
        let down = parameters.linear(&format!("{name}.down"), (inner, width), BRANCH_GAIN, rng)?;
        Ok(Self { up, down })
    }

    /// h plus the branch, `[n, D]`.
    pub fn add_to(&self, h: &Tensor, dropout: &mut Dropout<'_>) -> Result<Tensor> {
        let inner = dropout.thin(gelu(&affine(&normalize(h)?, &self.up)?)?)?; // [n, inner]
        h + affine(&inner, &self.down)?
    }
}

/// x W + b.
pub(super) fn affine(x: &Tensor, layer: &LinearParameters) -> Result<Tensor> {
    linear(x, &layer.weight, &layer.bias, layer.buffers.as_ref())
}

/// Which hidden units training removes (Srivastava et al. 2014, inverted form); none outside of training.
pub(super) struct Dropout<'a> {
    rate: f32,
    rng: Option<&'a mut dyn Rng>,
}

impl<'a> Dropout<'a> {
    /// Removes a share `rate` of the units, drawn from `rng`; nothing without it.
    pub fn new(rate: f32, rng: Option<&'a mut dyn Rng>) -> Self {
        Self {
            rate,
            rng: rng.filter(|_| rate > 0.0),
        }
    }

    /// Removed units are 0, the others grow by 1 / (1 - rate).
    fn thin(&mut self, units: Tensor) -> Result<Tensor> {
        let Some(rng) = self.rng.as_deref_mut() else {
            return Ok(units);
        };
        let keep = 1.0 / (1.0 - self.rate);
        let mask: Vec<f32> = (0..units.elem_count())
            .map(|_| {
                if rng.random::<f32>() < self.rate {
                    0.0
                } else {
                    keep
                }
            })
            .collect();
        &units * Tensor::from_vec(mask, units.shape(), units.device())?
    }
}
