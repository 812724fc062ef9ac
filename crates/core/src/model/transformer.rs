//! The `transformer` architecture: a token a field, and one that belongs to the record.
//!
//! Letters: B records, F fields, P = F + 1 positions (those of the fields in their order, then the summary), D width, H
//! heads of attention. A token is a sum of rows of one table (below), so that all kinds of fields are read alike:
//!
//! ```text
//! token(f) = field(f) + value * direction(f)       a visible number, boolean (value = -1 or 1) or moment (4 directions)
//! token(f) = field(f) + embedding(f, code)         a visible category
//! token(f) = field(f) + stand-in(f)                hidden or null, masking = "token"
//! token(f) = field(f), and no other token sees it  hidden or null, masking = "drop"
//! h += linear(attention(linear(norm(h))))          [B * P, D]   blocks times, each followed by
//! h += linear(dropout(gelu(linear(norm(h)))))      [B * P, D]
//! ```
//!
//! The head of a field reads the token at its position. With `drop` a hidden field is left out: its position only asks the
//! visible ones what to expect, and the summary's, which is always there, is what remains where nothing is visible. This
//! is a feature tokeniser with pre-norm blocks (Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular
//! Data") that predicts at its masked positions (Devlin et al. 2019).

use super::config::{Masking, ModelConfig};
use super::inputs::{Inputs, input_numbers};
use super::ops::{RowWeights, attention, normalize, tensor_slice, weighted_rows};
use super::parameters::{LinearParameters, Parameters};
use super::trunk::{BRANCH_GAIN, Dropout, EMBEDDING_DEVIATION, FeedForward, Sequence, affine};
use crate::encode::FieldShape;
use candle_core::{Result, Tensor, Var};
use rand::Rng;

/// Width of the feed-forward branch in widths of the model: Gorishniy et al. have 4/3 with a gated unit, which has as many
/// weights as 2 without; twice that (Vaswani et al. 2017) costs half as much again and is meant for text.
const FEED_FORWARD_FACTOR: usize = 2;

/// The layers up to the last block.
#[derive(Debug, Clone)]
pub(super) struct Transformer {
    shapes: Vec<FieldShape>,
    table: TokenTable,
    blocks: Vec<Block>,
    attention_heads: usize,
    /// `[F, D]`: what tells the fields apart behind a bottleneck.
    fields_behind: Option<Var>,
}

#[derive(Debug, Clone)]
struct Block {
    /// `[D, 3 D]`: queries, keys, values.
    attend: LinearParameters,
    /// `[D, D]`.
    merge: LinearParameters,
    feed_forward: FeedForward,
}

/// One table of all rows that tokens are made of, and where they stand in it: the F fields, the summary, the F stand-ins
/// (with `masking = "token"`), then for each field its directions or the embeddings of its codes.
#[derive(Debug, Clone)]
struct TokenTable {
    /// `[R, D]`.
    rows: Var,
    /// Where the stand-ins begin.
    stand_ins: Option<usize>,
    /// Where the rows of each field's values begin, `[F]`.
    values: Vec<usize>,
}

impl TokenTable {
    fn declare(
        config: &ModelConfig,
        shapes: &[FieldShape],
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let mut count = shapes.len() + 1;
        let stand_ins = (config.masking == Masking::Token).then_some(count);
        count += stand_ins.map_or(0, |_| shapes.len());
        let mut values = Vec::with_capacity(shapes.len());
        for &shape in shapes {
            values.push(count);
            count += match shape {
                FieldShape::Categorical { codes, .. } => codes as usize + 1,
                _ => input_numbers(shape),
            };
        }
        let shape = (count, config.width);
        Ok(Self {
            rows: parameters.normal("tokens", shape, EMBEDDING_DEVIATION, rng)?,
            stand_ins,
            values,
        })
    }
}

impl Transformer {
    pub(super) fn declare(
        config: &ModelConfig,
        shapes: &[FieldShape],
        cut: bool,
        parameters: &mut Parameters,
        rng: &mut impl Rng,
    ) -> Result<Self> {
        let d = config.width;
        let table = TokenTable::declare(config, shapes, parameters, rng)?;
        let mut blocks = Vec::with_capacity(config.blocks);
        for block in 0..config.blocks {
            let name = format!("block.{block:02}");
            let attend = format!("{name}.attend");
            let merge = format!("{name}.merge");
            blocks.push(Block {
                attend: parameters.linear(&attend, (d, 3 * d), 1.0, rng)?,
                merge: parameters.linear(&merge, (d, d), BRANCH_GAIN, rng)?,
                feed_forward: FeedForward::declare(
                    &name,
                    (d, FEED_FORWARD_FACTOR * d),
                    parameters,
                    rng,
                )?,
            });
        }
        let fields_behind = match cut {
            true => {
                let shape = (shapes.len(), d);
                Some(parameters.normal("bottleneck.fields", shape, EMBEDDING_DEVIATION, rng)?)
            }
            false => None,
        };
        Ok(Self {
            shapes: shapes.to_vec(),
            table,
            blocks,
            attention_heads: config.attention_heads,
            fields_behind,
        })
    }

    /// P: the summary is not needed behind a bottleneck.
    pub(super) fn positions(&self) -> usize {
        self.shapes.len() + usize::from(self.fields_behind.is_none())
    }

    pub(super) fn read(&self, inputs: &Inputs) -> Result<Sequence> {
        let fields = self.shapes.len();
        let (records, _) = inputs.visible.dims2()?;
        let visible = tensor_slice(&inputs.visible, |visible| Ok(visible.to_vec()))?;
        let weights = self.token_weights(inputs, &visible)?;
        let keys = match self.table.stand_ins {
            Some(_) => None,
            None => {
                let mut keys = Vec::with_capacity(records * (fields + 1));
                for visible in visible.chunks_exact(fields) {
                    keys.extend(visible.iter().map(|&v| v > 0.0));
                    keys.push(true);
                }
                Some(keys.into())
            }
        };
        Ok(Sequence {
            tokens: weighted_rows(&self.table.rows, weights)?,
            positions: fields + 1,
            keys,
        })
    }

    /// The rows of the table that make each token; `visible` is `[B * F]`.
    fn token_weights(&self, inputs: &Inputs, visible: &[f32]) -> Result<RowWeights> {
        let fields = self.shapes.len();
        let (records, width) = inputs.numbers.dims2()?;
        let codes = inputs.codes.iter().map(Tensor::to_vec1::<u32>);
        let codes = codes.collect::<Result<Vec<_>>>()?;
        let mut weights = RowWeights::with_capacity(records * (fields + 1));
        tensor_slice(&inputs.numbers, |numbers| {
            for (record, visible) in visible.chunks_exact(fields).enumerate() {
                let mut numbers = numbers[record * width..].iter();
                let mut codes = codes.iter();
                for (field, &shape) in self.shapes.iter().enumerate() {
                    // Both move on even where the field is not visible: they hold all fields' values.
                    let numbers = numbers.by_ref().take(input_numbers(shape));
                    let numbers: Vec<f32> = numbers.copied().collect();
                    let code = match shape {
                        FieldShape::Categorical { .. } => codes.next().map(|codes| codes[record]),
                        _ => None,
                    };
                    weights.add(field, 1.0);
                    let values = self.table.values[field];
                    if visible[field] > 0.0 {
                        if let Some(code) = code {
                            weights.add(values + code as usize, 1.0);
                        }
                        for (i, &number) in numbers.iter().enumerate() {
                            weights.add(values + i, number);
                        }
                    } else if let Some(stand_ins) = self.table.stand_ins {
                        weights.add(stand_ins + field, 1.0);
                    }
                    weights.end_row();
                }
                weights.add(fields, 1.0);
                weights.end_row();
            }
            Ok(weights)
        })
    }

    pub(super) fn block(
        &self,
        block: usize,
        sequence: Sequence,
        dropout: &mut Dropout<'_>,
    ) -> Result<Sequence> {
        let Block {
            attend,
            merge,
            feed_forward,
        } = &self.blocks[block];
        let h = &sequence.tokens; // [B * P, D]
        let qkv = affine(&normalize(h)?, attend)?; // [B * P, 3 D]
        let seen = attention(
            &qkv,
            sequence.positions,
            self.attention_heads,
            sequence.keys.clone(),
        )?;
        let h = (h + affine(&seen, merge)?)?;
        let h = feed_forward.add_to(&h, dropout)?;
        Ok(sequence.with(h))
    }

    /// The summary's tokens, `[B, D]`.
    pub(super) fn summary(&self, sequence: &Sequence) -> Result<Tensor> {
        let (rows, d) = sequence.tokens.dims2()?;
        let records = rows / sequence.positions;
        let by_record = sequence.tokens.reshape((records, sequence.positions, d))?;
        let summary = by_record.narrow(1, self.shapes.len(), 1)?;
        summary.contiguous()?.reshape((records, d))
    }

    /// A token a field from one vector a record, `[B, D]`: all of them visible to each other.
    pub(super) fn spread(&self, records: &Tensor) -> Result<Sequence> {
        let Some(fields_behind) = &self.fields_behind else {
            candle_core::bail!("a transformer without a bottleneck has nothing to spread")
        };
        let (rows, d) = records.dims2()?;
        let fields = self.shapes.len();
        let tokens = records.reshape((rows, 1, d))?;
        let tokens = tokens.broadcast_add(fields_behind)?; // [B, F, D]
        Ok(Sequence {
            tokens: tokens.reshape((rows * fields, d))?,
            positions: fields,
            keys: None,
        })
    }
}
