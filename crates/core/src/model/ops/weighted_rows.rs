//! Weighted sums of rows of a table, as one candle op with its own backward: a sparse matrix times a dense one.
//!
//! A token of the transformer is such a sum (a direction times the value, plus what belongs to its field), so that one op
//! reads numbers, categories and stand-ins alike. candle would need an op a field, and its scatter has a wrong gradient.

#[cfg(any(test, feature = "testing"))]
use super::composed;
use super::{cpu_slice, tensor_slice};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Which rows of a table make each row of the result, and with which weights.
#[derive(Debug, Clone, Default)]
pub struct RowWeights {
    /// Behind the last entry of each row of the result.
    ends: Vec<usize>,
    entries: Vec<(u32, f32)>,
}

impl RowWeights {
    /// Room for `rows` rows of the result.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            ends: Vec::with_capacity(rows),
            entries: Vec::with_capacity(2 * rows),
        }
    }

    /// Adds `weight` times row `row` of the table to the row of the result that is being made.
    pub fn add(&mut self, row: usize, weight: f32) {
        self.entries.push((row as u32, weight));
    }

    /// Ends that row and begins the next.
    pub fn end_row(&mut self) {
        self.ends.push(self.entries.len());
    }

    fn entries(&self, row: usize) -> &[(u32, f32)] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[row]]
    }
}

/// y `[n, D]` with y\[i\] = sum of weight * table\[row\] over the entries of row i, for a table `[R, D]`.
///
/// # Errors
/// If the table is not a contiguous f32 matrix, or has no such row.
pub fn weighted_rows(table: &Tensor, weights: RowWeights) -> Result<Tensor> {
    let (rows, _) = table.dims2()?;
    if let Some((row, _)) = weights.entries.iter().find(|e| e.0 as usize >= rows) {
        candle_core::bail!("weighted_rows: row {row} of a table with {rows}");
    }
    #[cfg(any(test, feature = "testing"))]
    if composed::is_forced() {
        return composed_of(table, &weights);
    }
    table.apply_op1(WeightedRows(weights))
}

/// Every row of the result has as many entries as the longest, K; those that it lacks are row 0 with the weight 0.
#[cfg(any(test, feature = "testing"))]
fn composed_of(table: &Tensor, weights: &RowWeights) -> Result<Tensor> {
    let rows = weights.ends.len();
    let entries = || (0..rows).map(|row| weights.entries(row));
    let longest = entries().map(<[_]>::len).max().unwrap_or(0).max(1);
    let padded = entries().flat_map(|entries| {
        let padding = std::iter::repeat_n((0, 0.0), longest - entries.len());
        entries.iter().copied().chain(padding)
    });
    let (indices, factors): (Vec<u32>, Vec<f32>) = padded.unzip();
    let (device, width) = (table.device(), table.dim(1)?);
    let indices = Tensor::from_vec(indices, rows * longest, device)?;
    let factors = Tensor::from_vec(factors, (rows, longest, 1), device)?;
    let taken = table.index_select(&indices, 0)?;
    let taken = taken.reshape((rows, longest, width))?; // [n, K, D]
    taken.broadcast_mul(&factors)?.sum(1)
}

struct WeightedRows(RowWeights);

impl CustomOp1 for WeightedRows {
    fn name(&self) -> &'static str {
        "weighted_rows"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let table = cpu_slice(table, layout)?;
        let rows = self.0.ends.len();
        let mut y = vec![0f32; rows * width];
        y.par_chunks_mut(width.max(1))
            .enumerate()
            .for_each(|(i, y)| {
                for &(row, weight) in self.0.entries(i) {
                    add_scaled(y, weight, &table[row as usize * width..][..width]);
                }
            });
        Ok((CpuStorage::F32(y), (rows, width).into()))
    }

    /// d table\[row\] = sum of weight * g\[i\], rows of the result in order, on one thread: many add to one row.
    fn bwd(&self, table: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = table.dims2()?;
        let gradient = gradient.contiguous()?;
        let mut by_table = vec![0f32; rows * width];
        tensor_slice(&gradient, |gradient| {
            for (i, g) in gradient.chunks_exact(width.max(1)).enumerate() {
                for &(row, weight) in self.0.entries(i) {
                    add_scaled(&mut by_table[row as usize * width..][..width], weight, g);
                }
            }
            Ok(())
        })?;
        let device = table.device();
        Ok(Some(Tensor::from_vec(by_table, (rows, width), device)?))
    }
}

fn add_scaled(to: &mut [f32], weight: f32, from: &[f32]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to += weight * from;
    }
}
