//! `weights.safetensors`: the model's tensors by name, checked whole on loading.

use crate::model::ops::tensor_slice;
use crate::model::parameters::Parameters;
use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};

/// The file's bytes: the same for the same weights.
///
/// # Errors
/// If a tensor is not f32, or safetensors cannot write it.
pub fn write(parameters: &Parameters) -> candle_core::Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (name, var) in parameters.iter() {
        let bytes = tensor_slice(var, |data| {
            Ok(data
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect::<Vec<u8>>())
        })?;
        tensors.push((name.to_owned(), var.dims().to_vec(), bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.clone(), view))
    });
    let views = views
        .collect::<Result<Vec<_>, _>>()
        .map_err(candle_core::Error::wrap)?;
    safetensors::serialize(views, None).map_err(candle_core::Error::wrap)
}

/// Why weights do not fit a model.
#[derive(Debug)]
pub enum WeightsFault {
    /// Not a safetensors file.
    Format(SafeTensorError),
    /// Each name, shape or type that differs.
    Differences(Vec<String>),
    /// candle could not take them.
    Tensor(candle_core::Error),
}

/// Sets all parameters from the file's bytes; nothing is set unless every name, shape and type agrees.
///
/// # Errors
/// [`WeightsFault`] with all differences at once.
pub fn read(bytes: &[u8], parameters: &Parameters) -> Result<(), WeightsFault> {
    let stored = SafeTensors::deserialize(bytes).map_err(WeightsFault::Format)?;
    let mut differences = Vec::new();
    for (name, var) in parameters.iter() {
        match stored.tensor(name) {
            Err(_) => differences.push(format!("tensor '{name}' is missing")),
            Ok(view) if view.dtype() != Dtype::F32 || view.shape() != var.dims() => {
                differences.push(format!(
                    "tensor '{name}' is {:?} {:?}, expected F32 {:?}",
                    view.dtype(),
                    view.shape(),
                    var.dims()
                ));
            }
            Ok(_) => {}
        }
    }
    for name in stored.names() {
        if !parameters.iter().any(|(known, _)| known == name) {
            differences.push(format!("tensor '{name}' is unknown"));
        }
    }
    if !differences.is_empty() {
        differences.sort();
        return Err(WeightsFault::Differences(differences));
    }
    for (name, var) in parameters.iter() {
        let view = stored.tensor(name).map_err(WeightsFault::Format)?;
        let data = view.data().chunks_exact(4);
        let data: Vec<f32> = data
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        if let Some(at) = data.iter().position(|x| !x.is_finite()) {
            let fault = format!("tensor '{name}' holds {} at {at}", data[at]);
            return Err(WeightsFault::Differences(vec![fault]));
        }
        let set = Tensor::from_vec(data, var.dims(), &Device::Cpu).and_then(|t| var.set(&t));
        set.map_err(WeightsFault::Tensor)?;
    }
    Ok(())
}
