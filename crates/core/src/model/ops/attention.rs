//! Multi-head self-attention among the positions of each record, as one candle op with its own backward.
//!
//! Letters: B records, P positions of a record, H heads, d = D / H numbers of a head.
//!
//! candle's own way takes three batched products, a softmax of five ops and as many copies; its fused softmax has no
//! gradient. Here a record is one task: its products are small, so they run on one thread each and records are shared
//! among the threads of the calling Rayon pool. Nothing is summed across records: the result is the same at any thread
//! count.

#[cfg(any(test, feature = "testing"))]
use super::composed;
use super::math::{exp, lane_dot, lane_sum};
use super::product::{Matrix, product, put_columns};
use super::{cpu_slice, tensor_slice};
#[cfg(any(test, feature = "testing"))]
use candle_core::D;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
#[cfg(any(test, feature = "testing"))]
use candle_nn::ops::softmax;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// softmax(Q K^T / sqrt(d)) V for every head of every record (Vaswani et al. 2017, equation 1): `[B * P, D]`.
///
/// `qkv` is `[B * P, 3 D]`, rows of `[Q | K | V]`, each with its H heads side by side. `keys`, `[B * P]`, says which
/// positions are attended to, at least one a record; all of them if there is none. A position that is no key still asks.
///
/// # Errors
/// If `qkv` is not a contiguous f32 matrix of whole records, its columns are not 3 H times a whole number, `keys` has
/// another length or leaves a record without a key.
pub fn attention(
    qkv: &Tensor,
    positions: usize,
    heads: usize,
    keys: Option<Arc<[bool]>>,
) -> Result<Tensor> {
    let (rows, columns) = qkv.dims2()?;
    let whole = positions > 0 && heads > 0 && rows % positions == 0 && columns % (3 * heads) == 0;
    let keys_fit = keys.as_deref().is_none_or(|keys| {
        keys.len() == rows
            && keys
                .chunks_exact(positions)
                .all(|record| record.contains(&true))
    });
    if !whole || !keys_fit {
        candle_core::bail!(
            "attention: qkv [{rows}, {columns}], {positions} positions, {heads} heads, {:?} keys",
            keys.map(|keys| keys.len())
        );
    }
    let attention = Attention {
        positions,
        heads,
        width: columns / 3,
        keys,
    };
    #[cfg(any(test, feature = "testing"))]
    if composed::is_forced() {
        return attention.composed(qkv);
    }
    qkv.apply_op1(attention)
}

struct Attention {
    /// P.
    positions: usize,
    /// H.
    heads: usize,
    /// D.
    width: usize,
    keys: Option<Arc<[bool]>>,
}

/// Buffers of one head of one record.
struct Scratch {
    /// `[P, P]`.
    weights: Vec<f32>,
    /// `[P, P]`.
    by_weights: Vec<f32>,
    /// `[P, d]`.
    result: Vec<f32>,
}

impl Attention {
    #[cfg(any(test, feature = "testing"))]
    fn composed(&self, qkv: &Tensor) -> Result<Tensor> {
        let (positions, heads, numbers) = (self.positions, self.heads, self.width / self.heads);
        let rows = qkv.dim(0)?;
        let records = rows / positions;
        let parts = qkv.reshape((records, positions, 3, heads, numbers))?;
        let part = |which: usize| {
            let part = parts.narrow(2, which, 1)?.squeeze(2)?; // [B, P, H, d]
            part.transpose(1, 2)?.contiguous() // [B, H, P, d]
        };
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let mut scores = queries.matmul(&keys.t()?)?; // [B, H, P, P]
        if let Some(keys) = &self.keys {
            let score = |&key: &bool| if key { 0.0 } else { f32::NEG_INFINITY };
            let hidden: Vec<f32> = keys.iter().map(score).collect();
            let hidden = Tensor::from_vec(hidden, (records, 1, 1, positions), qkv.device())?;
            scores = scores.broadcast_add(&hidden)?;
        }
        let scores = scores.affine(f64::from(self.scale()), 0.0)?;
        let result = softmax(&scores, D::Minus1)?.matmul(&values)?;
        result.transpose(1, 2)?.reshape((rows, self.width))
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            weights: vec![0.0; self.positions * self.positions],
            by_weights: vec![0.0; self.positions * self.positions],
            result: vec![0.0; self.positions * self.width / self.heads],
        }
    }

    /// The numbers of a head within a row of D.
    fn head(&self, head: usize) -> Range<usize> {
        let numbers = self.width / self.heads;
        head * numbers..(head + 1) * numbers
    }

    /// The part of a record's `[P, 3 D]` that is a head's queries (0), keys (1) or values (2): `[P, d]`.
    fn part<'a>(&self, qkv: &'a [f32], which: usize, head: usize) -> Matrix<'a> {
        let numbers = self.head(head);
        let start = which * self.width + numbers.start;
        Matrix::strided(&qkv[start..], self.positions, numbers.len(), 3 * self.width)
    }

    /// What positions say of positions, `[P, P]`.
    fn square<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        Matrix::row_major(data, self.positions, self.positions)
    }

    fn record_keys(&self, record: usize) -> Option<&[bool]> {
        let keys = self.keys.as_deref()?;
        Some(&keys[record * self.positions..(record + 1) * self.positions])
    }

    /// The attention weights of one head of one record into `weights`, `[P, P]`: row = who asks, column = who is asked.
    fn weights(&self, qkv: &[f32], record: usize, head: usize, weights: &mut [f32]) {
        let (queries, keys) = (self.part(qkv, 0, head), self.part(qkv, 1, head));
        product(queries, keys.transposed(), weights, false);
        let scale = self.scale();
        for row in weights.chunks_exact_mut(self.positions) {
            softmax_of_keys(row, scale, self.record_keys(record));
        }
    }

    /// 1 / sqrt(d).
    fn scale(&self) -> f32 {
        1.0 / ((self.width / self.heads) as f32).sqrt()
    }

    fn forward_record(&self, record: usize, qkv: &[f32], out: &mut [f32], scratch: &mut Scratch) {
        let Scratch {
            weights, result, ..
        } = scratch;
        for head in 0..self.heads {
            self.weights(qkv, record, head, weights);
            product(self.square(weights), self.part(qkv, 2, head), result, false);
            put_columns(result, out, self.width, self.head(head));
        }
    }

    /// With A the weights and G the gradient of a head's result: dV = A^T G, dA = G V^T,
    /// dS = A (dA - sum of A dA over the row) / sqrt(d), dQ = dS K, dK = dS^T Q.
    fn backward_record(
        &self,
        record: usize,
        qkv: &[f32],
        gradient: &[f32],
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (positions, width) = (self.positions, self.width);
        let Scratch {
            weights,
            by_weights,
            result,
        } = scratch;
        for head in 0..self.heads {
            self.weights(qkv, record, head, weights);
            let numbers = self.head(head);
            let g = Matrix::strided(&gradient[numbers.start..], positions, numbers.len(), width);
            let mut write = |a: Matrix<'_>, b: Matrix<'_>, which: usize| {
                product(a, b, result, false);
                let columns = which * width + numbers.start..which * width + numbers.end;
                put_columns(result, out, 3 * width, columns);
            };
            write(self.square(weights).transposed(), g, 2);
            product(g, self.part(qkv, 2, head).transposed(), by_weights, false);
            let rows = by_weights.chunks_exact_mut(positions);
            for (by_weights, weights) in rows.zip(weights.chunks_exact(positions)) {
                let mean = lane_dot(by_weights, weights);
                for (d, a) in by_weights.iter_mut().zip(weights) {
                    *d = a * (*d - mean) * self.scale();
                }
            }
            write(self.square(by_weights), self.part(qkv, 1, head), 0);
            write(
                self.square(by_weights).transposed(),
                self.part(qkv, 0, head),
                1,
            );
        }
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, columns) = layout.shape().dims2()?;
        let qkv = cpu_slice(qkv, layout)?;
        let mut out = vec![0f32; rows * self.width];
        out.par_chunks_mut(self.positions * self.width)
            .zip(qkv.par_chunks(self.positions * columns))
            .enumerate()
            .for_each_init(
                || self.scratch(),
                |scratch, (record, (out, qkv))| self.forward_record(record, qkv, out, scratch),
            );
        Ok((CpuStorage::F32(out), (rows, self.width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (rows, columns) = qkv.dims2()?;
        let gradient = gradient.contiguous()?;
        let mut out = vec![0f32; rows * columns];
        tensor_slice(qkv, |qkv| {
            tensor_slice(&gradient, |gradient| {
                out.par_chunks_mut(self.positions * columns)
                    .zip(qkv.par_chunks(self.positions * columns))
                    .zip(gradient.par_chunks(self.positions * self.width))
                    .enumerate()
                    .for_each_init(
                        || self.scratch(),
                        |scratch, (record, ((out, qkv), gradient))| {
                            self.backward_record(record, qkv, gradient, out, scratch);
                        },
                    );
                Ok(())
            })
        })?;
        let device = qkv.device();
        Ok(Some(Tensor::from_vec(out, (rows, columns), device)?))
    }
}

/// softmax(scale * row) over the positions that are keys; exactly 0 for the others.
fn softmax_of_keys(row: &mut [f32], scale: f32, keys: Option<&[bool]>) {
    if let Some(keys) = keys {
        for (score, &key) in row.iter_mut().zip(keys) {
            *score = if key { *score } else { f32::NEG_INFINITY };
        }
    }
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in row.iter_mut() {
        *score = exp((*score - max) * scale);
    }
    if let Some(keys) = keys {
        // `exp` of minus infinity is not exactly zero.
        for (weight, &key) in row.iter_mut().zip(keys) {
            *weight = if key { *weight } else { 0.0 };
        }
    }
    let norm = 1.0 / lane_sum(row, |weight| weight);
    row.iter_mut().for_each(|weight| *weight *= norm);
}
