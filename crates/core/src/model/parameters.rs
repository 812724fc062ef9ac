//! The model's trainable tensors, by name, in name order everywhere.

use super::ops::flat_buffers::copy;
use super::ops::{GradientBuffer, LinearBuffers, tensor_slice};
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Var};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

/// Named trainable tensors, iterated in name order, so that every sum over them has one order.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    tensors: BTreeMap<String, Var>,
    replica: Option<Replica>,
}

/// What parameters have that stand for those of another model.
#[derive(Debug, Clone)]
struct Replica {
    /// The other's tensors.
    tensors: BTreeMap<String, Var>,
    /// Where backward passes leave the gradients of the affine layers.
    buffers: BTreeMap<String, GradientBuffer>,
}

/// One affine layer: weight `[I, O]`, bias `[O]`.
#[derive(Debug, Clone)]
pub struct LinearParameters {
    /// `[I, O]`.
    pub weight: Var,
    /// `[O]`.
    pub bias: Var,
    /// Where their gradients go, if not into the graph.
    pub buffers: Option<LinearBuffers>,
}

impl Parameters {
    /// None yet; to be declared again in the same way, they share the tensors of `self`, and the affine layers among them
    /// have gradient buffers of their own. So one model can be in several backward passes at once.
    pub fn replica(&self) -> Self {
        let replica = Replica {
            tensors: self.tensors.clone(),
            buffers: BTreeMap::new(),
        };
        Self {
            tensors: BTreeMap::new(),
            replica: Some(replica),
        }
    }

    /// Where backward passes leave the gradient of a parameter, if not in the graph.
    pub fn buffer(&self, name: &str) -> Option<&GradientBuffer> {
        self.replica.as_ref()?.buffers.get(name)
    }

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
        if let Some(shared) = self.shared(name)? {
            return self.insert(name, shared);
        }
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
        let names = [format!("{name}.weight"), format!("{name}.bias")];
        let weight = self.normal(&names[0], (inputs, outputs), deviation, rng)?;
        let bias = match self.shared(&names[1])? {
            Some(bias) => bias,
            None => Var::from_vec(vec![0f32; outputs], outputs, &Device::Cpu)?,
        };
        let bias = self.insert(&names[1], bias)?;
        let buffers = self.replica.as_mut().map(|replica| {
            let buffers = LinearBuffers::default();
            let [weight, bias] = names;
            replica.buffers.insert(weight, buffers.weight.clone());
            replica.buffers.insert(bias, buffers.bias.clone());
            buffers
        });
        Ok(LinearParameters {
            weight,
            bias,
            buffers,
        })
    }

    /// Of a replica: the tensor that it shares.
    fn shared(&self, name: &str) -> Result<Option<Var>> {
        let Some(replica) = &self.replica else {
            return Ok(None);
        };
        match replica.tensors.get(name) {
            Some(var) => Ok(Some(var.clone())),
            None => {
                candle_core::bail!("parameter '{name}' of a replica is not one of the original")
            }
        }
    }

    fn insert(&mut self, name: &str, var: Var) -> Result<Var> {
        if self.tensors.insert(name.to_owned(), var.clone()).is_some() {
            candle_core::bail!("parameter '{name}' is declared twice");
        }
        Ok(var)
    }

    /// Names and tensors in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.tensors.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The tensor of a name, if there is one.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.tensors.get(name)
    }

    /// Scalars of all tensors.
    pub fn count(&self) -> usize {
        self.tensors.values().map(|var| var.elem_count()).sum()
    }

    /// A copy of all values, one after the other in name order.
    ///
    /// # Errors
    /// If a tensor is not f32 in the processor's memory.
    pub fn to_flat(&self) -> Result<Vec<f32>> {
        let mut flat = Vec::with_capacity(self.count());
        for var in self.tensors.values() {
            tensor_slice(var, |data| {
                flat.extend_from_slice(data);
                Ok(())
            })?;
        }
        Ok(flat)
    }

    /// Sets all values from one after the other in name order.
    ///
    /// # Errors
    /// If the count differs, or candle cannot write them.
    pub fn set_flat(&self, flat: &[f32]) -> Result<()> {
        if flat.len() != self.count() {
            candle_core::bail!("expected {} parameters, found {}", self.count(), flat.len());
        }
        let mut start = 0;
        for var in self.tensors.values() {
            let end = start + var.elem_count();
            let values = &flat[start..end];
            var.inplace_op1(&Assign(values))?;
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
        copy(&mut data[start..end], self.0);
        Ok(())
    }
}
