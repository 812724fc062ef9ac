//! Parameters as plain row-major numbers, by name.

use crate::model::ops::tensor_slice;
use crate::model::parameters::Parameters;
use std::collections::BTreeMap;

/// The numbers of one parameter; a vector is one row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weights {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) data: Vec<f32>,
}

impl Weights {
    /// Row `row`.
    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.columns..][..self.columns]
    }
}

/// All parameters of a model, in name order.
#[derive(Debug)]
pub(super) struct Tensors(BTreeMap<String, Weights>);

impl Tensors {
    /// Copies of a model's parameters.
    ///
    /// # Errors
    /// If a tensor is not f32.
    pub(super) fn read(parameters: &Parameters) -> candle_core::Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, var) in parameters.iter() {
            let columns = var.dims().last().copied().unwrap_or(1);
            let data = tensor_slice(var, |data| Ok(data.to_vec()))?;
            let rows = data.len() / columns.max(1);
            let weights = Weights {
                rows,
                columns,
                data,
            };
            tensors.insert(name.to_owned(), weights);
        }
        Ok(Self(tensors))
    }

    /// Names and numbers in name order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Weights)> {
        self.0
            .iter()
            .map(|(name, weights)| (name.as_str(), weights))
    }

    /// The parameter of that name, if there is one.
    pub(super) fn find(&self, name: &str) -> Option<&Weights> {
        self.0.get(name)
    }

    /// The parameter of that name.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn get(&self, name: &str) -> candle_core::Result<&Weights> {
        match self.find(name) {
            Some(weights) => Ok(weights),
            None => candle_core::bail!("the bundle has no parameter '{name}'"),
        }
    }
}
