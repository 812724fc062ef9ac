//! The masked autoencoder with the `mlp` architecture, as candle tensors.
//!
//! Letters: B rows, F fields, N' input numbers, E_c the embedding of category c, D width, O outputs.
//!
//! ```text
//! x      = [numbers | embeddings | visibility]         [B, N' + sum E_c + F]
//! h      = linear(x)                                   [B, D]
//! h     += linear(dropout(gelu(linear(norm(h)))))      [B, D]   blocks times
//! latent = norm(h)                                     [B, D]
//! logits = linear(latent)                              [B, O]
//! ```
//!
//! A masked autoencoder of table rows after He et al. 2022 and its forerunner, the masked language model (Devlin et al.
//! 2019); training over the whole range of mask ratios makes it an any-order autoregressive model (Uria et al. 2014).

use super::config::{Masking, ModelConfig};
use super::heads::Heads;
use super::inputs::{Inputs, input_numbers};
use super::ops::{gelu, linear, normalize};
use super::parameters::{LinearParameters, Parameters};
use crate::features::{Encoder, FieldShape};
use crate::rng::{Purpose, stream};
use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Embedding, Module};
use rand::{Rng, RngExt};

/// Gain of the second layer of a block: halves the variance that a block adds.
const BLOCK_GAIN: f32 = 0.5;
/// Gain of the output layer: starts near the uniform prediction.
const OUTPUT_GAIN: f32 = 0.3;
/// Standard deviation of embeddings at the start, below that of standardised numbers.
const EMBEDDING_DEVIATION: f32 = 0.5;

/// The model: its parameters and how they are put together.
#[derive(Debug, Clone)]
pub struct MaskedAutoencoder {
    config: ModelConfig,
    shapes: Vec<FieldShape>,
    heads: Heads,
    parameters: Parameters,
    layers: Layers,
}

#[derive(Debug, Clone)]
struct Layers {
    embeddings: Vec<CategoryInput>,
    number_tokens: Option<Var>,
    input: LinearParameters,
    blocks: Vec<(LinearParameters, LinearParameters)>,
    output: LinearParameters,
}

#[derive(Debug, Clone)]
struct CategoryInput {
    /// Shares its storage with the parameter of its name, and with it every update.
    embedding: Embedding,
    token: Option<Var>,
}

impl MaskedAutoencoder {
    /// A model for the encoder's fields with initial weights drawn from `seed`.
    ///
    /// # Errors
    /// If candle cannot make a tensor.
    pub fn new(config: &ModelConfig, encoder: &Encoder, seed: u64) -> Result<Self> {
        let mut rng = stream(seed, Purpose::Initialisation);
        let shapes = encoder.shapes();
        let heads = Heads::new(
            encoder,
            &config.likelihood,
            config.histogram_bins,
            config.histogram_smoothing_bins,
        );
        let mut parameters = Parameters::default();
        let layers = Layers::declare(config, &shapes, heads.outputs(), &mut parameters, &mut rng)?;
        Ok(Self {
            config: config.clone(),
            shapes,
            heads,
            parameters,
            layers,
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
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

    /// The latent of B rows, `[B, D]`; `dropout` draws the removed units, only in training.
    ///
    /// # Errors
    /// If the inputs do not have this model's shapes.
    pub fn latent(&self, inputs: &Inputs, dropout: Option<&mut dyn Rng>) -> Result<Tensor> {
        let mut dropout = dropout.filter(|_| self.config.dropout > 0.0);
        let x = self.first_layer_input(inputs)?; // [B, N' + sum E + F]
        let mut h = affine(&x, &self.layers.input)?; // [B, D]
        for (up, down) in &self.layers.blocks {
            let mut inner = gelu(&affine(&normalize(&h)?, up)?)?; // [B, D]
            if let Some(rng) = dropout.as_deref_mut() {
                inner = (&inner * kept_units(&inner, self.config.dropout, rng)?)?;
            }
            h = (h + affine(&inner, down)?)?;
        }
        normalize(&h)
    }

    /// The logits of all heads, `[B, O]`, from the latent `[B, D]`.
    ///
    /// # Errors
    /// If the latent has another width.
    pub fn logits(&self, latent: &Tensor) -> Result<Tensor> {
        affine(latent, &self.layers.output)
    }

    /// The output layer's columns of one field as contiguous tensors: weight `[D, o]` and bias `[o]`, without gradient.
    ///
    /// # Errors
    /// If candle cannot copy them.
    pub fn field_output(&self, field: usize) -> Result<(Tensor, Tensor)> {
        let outputs = self.heads.field(field).outputs();
        let LinearParameters { weight, bias } = &self.layers.output;
        let columns = weight
            .as_detached_tensor()
            .narrow(1, outputs.start, outputs.len())?;
        let bias = bias
            .as_detached_tensor()
            .narrow(0, outputs.start, outputs.len())?;
        Ok((columns.contiguous()?, bias.contiguous()?))
    }

    fn first_layer_input(&self, inputs: &Inputs) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.layers.embeddings.len() + 2);
        match &self.layers.number_tokens {
            Some(token) => {
                let stand_ins = inputs.numbers_hidden.broadcast_mul(token)?;
                parts.push((&inputs.numbers + stand_ins)?);
            }
            None => parts.push(inputs.numbers.clone()),
        }
        let categories = inputs.codes.iter().zip(&inputs.codes_visible);
        for (input, (codes, visible)) in self.layers.embeddings.iter().zip(categories) {
            let value = input.embedding.forward(codes)?.broadcast_mul(visible)?; // [B, E]
            parts.push(match &input.token {
                Some(token) => (value + visible.affine(-1.0, 1.0)?.broadcast_mul(token)?)?,
                None => value,
            });
        }
        parts.push(inputs.visible.clone());
        Tensor::cat(&parts, 1)?.contiguous()
    }
}

impl Layers {
    fn declare(
        config: &ModelConfig,
        shapes: &[FieldShape],
        outputs: usize,
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let numbers: usize = shapes.iter().map(|&s| input_numbers(s)).sum();
        let token = config.masking == Masking::Token;
        let number_tokens = match token && numbers > 0 {
            true => Some(parameters.normal("token.numbers", (1, numbers), 0.1, rng)?),
            false => None,
        };
        let mut embeddings = Vec::new();
        let mut width = numbers + shapes.len();
        for (field, shape) in shapes.iter().enumerate() {
            let FieldShape::Categorical { codes, .. } = *shape else {
                continue;
            };
            let dim = embedding_dim(codes, config.embedding_dim_max);
            let rows = codes as usize + 1;
            let deviation = EMBEDDING_DEVIATION;
            let name = format!("embedding.{field:04}");
            let table = parameters.normal(&name, (rows, dim), deviation, rng)?;
            let token = match token {
                true => Some(parameters.normal(
                    &format!("token.{field:04}"),
                    (1, dim),
                    deviation,
                    rng,
                )?),
                false => None,
            };
            embeddings.push(CategoryInput {
                embedding: Embedding::new(table.as_tensor().clone(), dim),
                token,
            });
            width += dim;
        }
        let d = config.width;
        let input = parameters.linear("input", (width, d), 1.0, rng)?;
        let blocks = (0..config.blocks).map(|block| {
            let up = parameters.linear(&format!("block.{block:02}.up"), (d, d), 1.0, rng)?;
            let down =
                parameters.linear(&format!("block.{block:02}.down"), (d, d), BLOCK_GAIN, rng)?;
            Ok((up, down))
        });
        let blocks = blocks.collect::<Result<_>>()?;
        let output = parameters.linear("output", (d, outputs), OUTPUT_GAIN, rng)?;
        Ok(Self {
            embeddings,
            number_tokens,
            input,
            blocks,
            output,
        })
    }
}

/// Numbers of the embedding of `codes` values: 1.6 n^0.56, the rule of thumb of fast.ai's tabular models, within 2..=max.
fn embedding_dim(codes: u32, max: usize) -> usize {
    let rule = (1.6 * f64::from(codes).powf(0.56)).round() as usize;
    rule.max(2).min(max)
}

fn affine(x: &Tensor, layer: &LinearParameters) -> Result<Tensor> {
    linear(x, &layer.weight, &layer.bias)
}

/// A tensor of 1 / (1 - rate) for kept and 0 for removed units (Srivastava et al. 2014, inverted form).
fn kept_units(like: &Tensor, rate: f32, rng: &mut dyn Rng) -> Result<Tensor> {
    let keep = 1.0 / (1.0 - rate);
    let mask: Vec<f32> = (0..like.elem_count())
        .map(|_| {
            if rng.random::<f32>() < rate {
                0.0
            } else {
                keep
            }
        })
        .collect();
    Tensor::from_vec(mask, like.shape(), &Device::Cpu)
}
