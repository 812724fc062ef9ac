//! The masked autoencoder, and the two that it is compared with, as candle tensors.
//!
//! Letters: B rows, F fields, P positions of a row that a block works on (see [`trunk`](super::trunk)), D width, L width of
//! the bottleneck, O outputs.
//!
//! ```text
//! h      = blocks(read(inputs))                    [B * P, D]   the trunk: `mlp` or `transformer`
//! latent = norm(h)                                 [B * P, D]
//! logits = heads(latent)                           [B, O]       one matrix, cut by field (see `loss`)
//! ```
//!
//! Where nothing is hidden the trunk is cut after the first half of its blocks, the middle one included:
//!
//! ```text
//! z      = narrow(norm(summary(h)))                [B, L]       or a normal distribution of z
//! h      = other blocks(spread(widen(z)))          [B * P, D]
//! ```
//!
//! A masked autoencoder of table rows after He et al. 2022 and its forerunner, the masked language model (Devlin et al.
//! 2019); training over the whole range of mask ratios makes it an any-order autoregressive model (Uria et al. 2014).

use super::bottleneck::{Bottleneck, default_width};
use super::config::{Architecture, ModelConfig, ObjectiveKind};
use super::heads::Heads;
use super::inputs::Inputs;
use super::likelihood::histogram::Histogram;
use super::loss::OutputLayer;
use super::ops::normalize;
use super::parameters::{LinearParameters, Parameters};
use super::trunk::{Dropout, Sequence, Trunk};
use crate::encode::{Encoder, FieldShape};
use crate::rng::{Purpose, stream};
use candle_core::{Result, Tensor};
use rand::Rng;
use std::sync::Arc;

/// Gain of the output layer: starts near the uniform prediction.
const OUTPUT_GAIN: f32 = 0.3;

/// The model: its parameters and how they are put together.
#[derive(Debug, Clone)]
pub struct MaskedAutoencoder {
    config: ModelConfig,
    objective: ObjectiveKind,
    shapes: Vec<FieldShape>,
    heads: Arc<Heads>,
    parameters: Parameters,
    trunk: Trunk,
    bottleneck: Option<Bottleneck>,
    output: LinearParameters,
}

/// What the model makes of B rows.
#[derive(Debug)]
pub struct Pass {
    /// What the heads read, `[B * P, D]`.
    pub latent: Tensor,
    /// Of a variational model: the divergence of the bottleneck's distributions from the standard normal, summed over the
    /// rows, nats, a scalar tensor with its graph.
    pub divergence: Option<Tensor>,
}

impl MaskedAutoencoder {
    /// A model for the encoder's fields with initial weights drawn from `seed`; it has a bottleneck if the objective
    /// hides nothing.
    ///
    /// # Errors
    /// If candle cannot make a tensor.
    pub fn new(
        config: &ModelConfig,
        objective: ObjectiveKind,
        encoder: &Encoder,
        seed: u64,
    ) -> Result<Self> {
        let histogram = Histogram::new(config.histogram_bins, config.histogram_smoothing_bins)
            .with_gamma(config.histogram_gamma);
        let heads = Heads::new(encoder, &config.likelihood, &histogram);
        let fields = (encoder.shapes(), Arc::new(heads));
        Self::declare(config, objective, fields, Parameters::default(), seed)
    }

    /// The same model with the same tensors, whose backward passes leave the gradients of its affine layers in buffers of
    /// its own (see [`Parameters::replica`]).
    ///
    /// # Errors
    /// If candle cannot share a tensor.
    pub fn replica(&self) -> Result<Self> {
        let fields = (self.shapes.clone(), Arc::clone(&self.heads));
        Self::declare(
            &self.config,
            self.objective,
            fields,
            self.parameters.replica(),
            0,
        )
    }

    fn declare(
        config: &ModelConfig,
        objective: ObjectiveKind,
        (shapes, heads): (Vec<FieldShape>, Arc<Heads>),
        mut parameters: Parameters,
        seed: u64,
    ) -> Result<Self> {
        let rng = &mut stream(seed, Purpose::Initialisation);
        let cut = !objective.hides_fields();
        let trunk = Trunk::declare(config, objective, &shapes, &mut parameters, rng)?;
        let d = config.width;
        let output = parameters.linear("output", (d, heads.outputs()), OUTPUT_GAIN, rng)?;
        let bottleneck = match cut {
            true => {
                let width = match config.bottleneck_width {
                    0 => default_width(shapes.len()),
                    width => width,
                };
                let variational = objective == ObjectiveKind::Variational;
                let sides = (d, width);
                Some(Bottleneck::declare(
                    sides,
                    variational,
                    &mut parameters,
                    rng,
                )?)
            }
            false => None,
        };
        Ok(Self {
            config: config.clone(),
            objective,
            shapes,
            heads,
            parameters,
            trunk,
            bottleneck,
            output,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whether it is told of noise in the visible numbers: the last two rows of the input layer read that.
    pub fn denoises(&self) -> bool {
        self.config.denoises(self.objective)
    }

    /// The fields' shapes, `[F]`.
    pub fn shapes(&self) -> &[FieldShape] {
        &self.shapes
    }

    /// The layout of the output layer.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The trainable tensors.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// P: rows of the latent that a record has.
    pub fn positions(&self) -> usize {
        self.trunk.positions()
    }

    /// Which of a record's P rows of the latent the head of `field` reads.
    pub fn position(&self, field: usize) -> usize {
        match self.config.architecture {
            Architecture::Mlp => 0,
            Architecture::Transformer => field,
        }
    }

    /// What the heads read of B rows, `[B * P, D]`; `dropout` draws the removed units, only in training. At a variational
    /// bottleneck it is the mean that goes on: the same rows always have the same latent.
    ///
    /// # Errors
    /// If the inputs do not have this model's shapes.
    pub fn latent(&self, inputs: &Inputs, dropout: Option<&mut dyn Rng>) -> Result<Tensor> {
        Ok(self.pass(inputs, dropout, None)?.latent)
    }

    /// As [`latent`](Self::latent), with the divergence; with `noise` a variational bottleneck passes on a draw.
    ///
    /// # Errors
    /// If the inputs do not have this model's shapes.
    pub fn pass(
        &self,
        inputs: &Inputs,
        dropout: Option<&mut dyn Rng>,
        noise: Option<&mut dyn Rng>,
    ) -> Result<Pass> {
        let dropout = &mut Dropout::new(self.config.dropout, dropout);
        let mut sequence = self.before_bottleneck(inputs, dropout)?;
        let mut divergence = None;
        if let Some(bottleneck) = &self.bottleneck {
            let narrowed = bottleneck.narrow(&self.trunk.summary(&sequence)?)?;
            divergence = narrowed.divergence()?;
            let widened = match noise {
                Some(rng) => bottleneck.widen(&narrowed.draw(rng)?)?,
                None => bottleneck.widen(narrowed.mean())?,
            };
            sequence = self.trunk.spread(widened)?;
            for block in self.cut()..self.config.blocks {
                sequence = self.trunk.block(block, sequence, dropout)?;
            }
        }
        Ok(Pass {
            latent: normalize(&sequence.tokens)?,
            divergence,
        })
    }

    /// The output layer with its heads.
    pub fn output_layer(&self) -> OutputLayer<'_> {
        OutputLayer {
            heads: &self.heads,
            weight: &self.output.weight,
            bias: &self.output.bias,
            buffers: self.output.buffers.as_ref(),
            positions: self.positions(),
        }
    }

    /// The logits of all heads, `[B, O]`, from the latent `[B * P, D]`: by the definition, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn logits(&self, latent: &Tensor) -> Result<Tensor> {
        self.output_layer().logits(latent)?.contiguous()
    }

    /// The output layer's columns of one field as contiguous tensors: weight `[D, o]` and bias `[o]`, without gradient.
    ///
    /// # Errors
    /// If candle cannot copy them.
    pub fn field_output(&self, field: usize) -> Result<(Tensor, Tensor)> {
        let outputs = self.heads.field(field).outputs();
        let LinearParameters { weight, bias, .. } = &self.output;
        let columns = weight
            .as_detached_tensor()
            .narrow(1, outputs.start, outputs.len())?;
        let bias = bias
            .as_detached_tensor()
            .narrow(0, outputs.start, outputs.len())?;
        Ok((columns.contiguous()?, bias.contiguous()?))
    }

    /// One vector a row, `[B, E]`, for use elsewhere: what passes the bottleneck (of a distribution the mean), where there
    /// is none the mean of the latent over the fields' positions.
    ///
    /// # Errors
    /// If the inputs do not have this model's shapes.
    pub fn embedding(&self, inputs: &Inputs) -> Result<Tensor> {
        let dropout = &mut Dropout::new(0.0, None);
        let sequence = self.before_bottleneck(inputs, dropout)?;
        if let Some(bottleneck) = &self.bottleneck {
            let narrowed = bottleneck.narrow(&self.trunk.summary(&sequence)?)?;
            return narrowed.mean().contiguous();
        }
        let latent = normalize(&sequence.tokens)?;
        match self.config.architecture {
            Architecture::Mlp => Ok(latent),
            Architecture::Transformer => {
                let (rows, d) = latent.dims2()?;
                let (positions, fields) = (sequence.positions, self.shapes.len());
                let latent = latent.reshape((rows / positions, positions, d))?;
                latent.narrow(1, 0, fields)?.mean(1)?.contiguous()
            }
        }
    }

    /// Whether it has a bottleneck, as where nothing is hidden.
    pub fn has_bottleneck(&self) -> bool {
        self.bottleneck.is_some()
    }

    /// E: numbers of an embedding.
    pub fn embedding_width(&self) -> usize {
        let bottleneck = self.bottleneck.as_ref();
        bottleneck.map_or(self.config.width, Bottleneck::width)
    }

    /// The width of the bottleneck if it stands behind so many blocks.
    pub fn bottleneck_after(&self, blocks: usize) -> Option<usize> {
        let bottleneck = self.bottleneck.as_ref()?;
        (blocks == self.cut()).then(|| bottleneck.width())
    }

    /// Blocks before the bottleneck, if there is one: the middle one of an odd number belongs to them.
    fn cut(&self) -> usize {
        match self.bottleneck {
            Some(_) => self.config.blocks.div_ceil(2),
            None => self.config.blocks,
        }
    }

    fn before_bottleneck(&self, inputs: &Inputs, dropout: &mut Dropout<'_>) -> Result<Sequence> {
        let mut sequence = self.trunk.read(inputs)?;
        for block in 0..self.cut() {
            sequence = self.trunk.block(block, sequence, dropout)?;
        }
        Ok(sequence)
    }
}
