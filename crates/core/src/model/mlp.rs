//! The `mlp` architecture: a record is one vector, made of everything that is visible.
//!
//! Letters: B records, N' input numbers, E_c the embedding of category c, F fields, D width.
//!
//! ```text
//! x  = [numbers | embeddings | visibility | noise] [B, N' + sum E_c + F + 2]   noise: if the model denoises
//! h  = linear(x)                                   [B, D]
//! h += linear(dropout(gelu(linear(norm(h)))))      [B, D]   blocks times
//! ```

use super::config::{Masking, ModelConfig};
use super::inputs::{Inputs, input_numbers};
use super::mask::NO_NOISE;
use super::parameters::{LinearParameters, Parameters};
use super::trunk::{Dropout, EMBEDDING_DEVIATION, FeedForward, Sequence, affine};
use crate::encode::FieldShape;
use candle_core::{Result, Tensor, Var};
use candle_nn::{Embedding, Module};
use rand::Rng;

/// The layers up to the last block.
#[derive(Debug, Clone)]
pub(super) struct Mlp {
    embeddings: Vec<CategoryInput>,
    number_tokens: Option<Var>,
    input: LinearParameters,
    /// Whether the last two rows of the input layer read what is told of noise.
    denoises: bool,
    blocks: Vec<FeedForward>,
}

#[derive(Debug, Clone)]
struct CategoryInput {
    /// Shares its storage with the parameter of its name, and with it every update.
    embedding: Embedding,
    token: Option<Var>,
}

impl Mlp {
    pub(super) fn declare(
        config: &ModelConfig,
        shapes: &[FieldShape],
        denoises: bool,
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
        if denoises {
            width += NO_NOISE.len();
        }
        let d = config.width;
        let input = parameters.linear("input", (width, d), 1.0, rng)?;
        let blocks = (0..config.blocks).map(|block| {
            FeedForward::declare(&format!("block.{block:02}"), (d, d), parameters, rng)
        });
        Ok(Self {
            embeddings,
            number_tokens,
            input,
            denoises,
            blocks: blocks.collect::<Result<_>>()?,
        })
    }

    pub(super) fn read(&self, inputs: &Inputs) -> Result<Sequence> {
        Ok(Sequence {
            tokens: affine(&self.first_layer_input(inputs)?, &self.input)?,
            positions: 1,
            keys: None,
        })
    }

    pub(super) fn block(
        &self,
        block: usize,
        sequence: Sequence,
        dropout: &mut Dropout<'_>,
    ) -> Result<Sequence> {
        let h = self.blocks[block].add_to(&sequence.tokens, dropout)?;
        Ok(sequence.with(h))
    }

    /// `[B, N' + sum E_c + F]`, and two more columns if the model denoises.
    fn first_layer_input(&self, inputs: &Inputs) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.embeddings.len() + 3);
        match &self.number_tokens {
            Some(token) => {
                let stand_ins = inputs.numbers_hidden.broadcast_mul(token)?;
                parts.push((&inputs.numbers + stand_ins)?);
            }
            None => parts.push(inputs.numbers.clone()),
        }
        let categories = inputs.codes.iter().zip(&inputs.codes_visible);
        for (input, (codes, visible)) in self.embeddings.iter().zip(categories) {
            let value = input.embedding.forward(codes)?.broadcast_mul(visible)?; // [B, E]
            parts.push(match &input.token {
                Some(token) => (value + visible.affine(-1.0, 1.0)?.broadcast_mul(token)?)?,
                None => value,
            });
        }
        parts.push(inputs.visible.clone());
        if self.denoises {
            parts.push(inputs.noise.clone());
        }
        Tensor::cat(&parts, 1)?.contiguous()
    }
}

/// Numbers of the embedding of `codes` values: 1.6 n^0.56, the rule of thumb of fast.ai's tabular models, within 2..=max.
fn embedding_dim(codes: u32, max: usize) -> usize {
    let rule = (1.6 * f64::from(codes).powf(0.56)).round() as usize;
    rule.max(2).min(max)
}
