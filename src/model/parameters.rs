//! The model's trainable tensors, by name, in name order everywhere.

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Var};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

/// Named trainable tensors, iterated in name order, so that every sum over them has one order.
#[derive(Debug, Clone, Default)]
pub struct Parameters(BTreeMap<String, Var>);

/// One affine layer: weight `[I, O]`, bias `[O]`.
#[derive(Debug, Clone)]
pub struct LinearParameters {
    /// `[I, O]`.
    pub weight: Var,
    /// `[O]`.
    pub bias: Var,
}

impl Parameters {
    /// Adds a tensor of normal draws with standard deviation `deviation`.
    ///
    /// # Errors
    /// If candle cannot make it.
    pub fn normal(
        &mut self,
        name: &str,
        shape: (usize, usize),
        deviation: f32,
        rng: &mut impl Rng,
    ) -> Result<Var> {
        let data: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| {
                let draw: f32 = StandardNormal.sample(rng);
                draw * deviation
            })
            .collect();
        self.insert(name, Var::from_vec(data, shape, &Device::Cpu)?)
    }

    /// Adds an affine layer: weights normal with deviation gain / sqrt(inputs), bias zero (He et al. 2015, scaled).
    ///
    /// # Errors
    /// If candle cannot make it.
    pub fn linear(
        &mut self,
        name: &str,
        (inputs, outputs): (usize, usize),
        gain: f32,
        rng: &mut impl Rng,
    ) -> Result<LinearParameters> {
        let deviation = gain / (inputs as f32).sqrt();
        let weight = self.normal(&format!("{name}.weight"), (inputs, outputs), deviation, rng)?;
        let bias = Var::from_vec(vec![0f32; outputs], outputs, &Device::Cpu)?;
        Ok(LinearParameters {
            weight,
            bias: self.insert(&format!("{name}.bias"), bias)?,
        })
    }

    fn insert(&mut self, name: &str, var: Var) -> Result<Var> {
        if self.0.insert(name.to_owned(), var.clone()).is_some() {
            candle_core::bail!("parameter '{name}' is declared twice");
        }
        Ok(var)
    }

    /// Names and tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The tensor of a name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.0.get(name)
    }

    /// Scalars of all tensors.
    pub fn count(&self) -> usize {
        self.0.values().map(|var| var.elem_count()).sum()
    }

    /// A copy of all values, one after the other in name order.
    ///
    /// # Errors
    /// If a tensor is not f32.
    pub fn to_flat(&self) -> Result<Vec<f32>> {
        let mut flat = Vec::with_capacity(self.count());
        for var in self.0.values() {
            super::ops::tensor_slice(var, |data| {
                flat.extend_from_slice(data);
                Ok(())
            })?;
        }
        Ok(flat)
    }

    /// Sets all values from one after the other in name order.
    ///
    /// # Errors
    /// If the count differs.
    pub fn set_flat(&self, flat: &[f32]) -> Result<()> {
        if flat.len() != self.count() {
            candle_core::bail!("expected {} parameters, found {}", self.count(), flat.len());
        }
        let mut start = 0;
        for var in self.0.values() {
            let end = start + var.elem_count();
            var.inplace_op1(&Assign(&flat[start..end]))?;
            start = end;
        }
        Ok(())
    }
}

/// Writes values over a tensor where it lies: every step of training sets all parameters.
struct Assign<'a>(&'a [f32]);

impl InplaceOp1 for Assign<'_> {
    fn name(&self) -> &'static str {
        "assign"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(data), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("assign: a contiguous f32 tensor is needed");
        };
        data[start..end].copy_from_slice(self.0);
        Ok(())
    }
}
