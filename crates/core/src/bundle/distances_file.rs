//! `distances.safetensors`: what the distance of a record to the fit rows is measured by.
//!
//! Tensors, each pair there or not: `latent.mean` `[D]` and `latent.whitening` `[D, D]`; `nearest.numbers` `[N, M]` f32 and
//! `nearest.codes` `[C, M]` u32: M rows of the training data as the model sees them, standardised, without their redacted
//! fields. A bundle that measures no distance has no such file.

use crate::score::{Distances, LatentDistance, NearestLayout, NearestRows};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

const LATENT_MEAN: &str = "latent.mean";
const LATENT_WHITENING: &str = "latent.whitening";
const NEAREST_NUMBERS: &str = "nearest.numbers";
const NEAREST_CODES: &str = "nearest.codes";

/// The file's bytes, the same for the same contents; none without a distance.
///
/// # Errors
/// If safetensors cannot write them.
pub fn write(distances: &Distances) -> Result<Option<Vec<u8>>, safetensors::SafeTensorError> {
    let mut tensors: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    if let Some(latent) = &distances.latent {
        let (mean, whitening) = latent.parts();
        let width = mean.len();
        tensors.push((LATENT_MEAN, Dtype::F32, vec![width], bytes(mean)));
        let shape = vec![width, width];
        tensors.push((LATENT_WHITENING, Dtype::F32, shape, bytes(whitening)));
    }
    if let Some(nearest) = &distances.nearest {
        let (numbers, codes) = nearest.columns();
        let rows = nearest.len();
        let shape = vec![numbers.len() / rows, rows];
        tensors.push((NEAREST_NUMBERS, Dtype::F32, shape, bytes(&numbers)));
        let data = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        let shape = vec![codes.len() / rows, rows];
        tensors.push((NEAREST_CODES, Dtype::U32, shape, data));
    }
    if tensors.is_empty() {
        return Ok(None);
    }
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        TensorView::new(*dtype, shape.clone(), data).map(|view| (*name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize(views, None).map(Some)
}

/// The contents of the file's bytes, for latents of `width` numbers and records of this layout.
///
/// # Errors
/// What is wrong with them.
pub fn read(file: &[u8], width: usize, layout: NearestLayout) -> Result<Distances, String> {
    let stored = SafeTensors::deserialize(file).map_err(|e| e.to_string())?;
    let known = [
        LATENT_MEAN,
        LATENT_WHITENING,
        NEAREST_NUMBERS,
        NEAREST_CODES,
    ];
    let mut names = stored.names().into_iter();
    if let Some(unknown) = names.find(|name| !known.contains(name)) {
        return Err(format!("tensor '{unknown}' is unknown"));
    }
    let has = |name: &str| stored.names().contains(&name);
    let latent = match has(LATENT_MEAN) || has(LATENT_WHITENING) {
        true => {
            let mean = words(&stored, LATENT_MEAN, Dtype::F32, &[width])?;
            let whitening = words(&stored, LATENT_WHITENING, Dtype::F32, &[width, width])?;
            let (mean, whitening) = (floats(&mean), floats(&whitening));
            Some(LatentDistance::from_parts(mean, whitening, width)?)
        }
        false => None,
    };
    let nearest = match has(NEAREST_NUMBERS) || has(NEAREST_CODES) {
        true => {
            let rows = stored.tensor(NEAREST_CODES).map_err(|e| e.to_string())?;
            let rows = rows.shape().last().copied().unwrap_or(0);
            let (n, c) = layout.columns();
            let numbers = words(&stored, NEAREST_NUMBERS, Dtype::F32, &[n, rows])?;
            let codes = words(&stored, NEAREST_CODES, Dtype::U32, &[c, rows])?;
            let numbers = floats(&numbers);
            Some(NearestRows::from_columns(layout, rows, &numbers, &codes)?)
        }
        false => None,
    };
    Ok(Distances { latent, nearest })
}

/// The four-byte words of a tensor of this type and shape.
fn words(
    stored: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<Vec<u32>, String> {
    let view = stored.tensor(name);
    let view = view.map_err(|_| format!("tensor '{name}' is missing"))?;
    if view.dtype() != dtype || view.shape() != shape {
        let (found, found_shape) = (view.dtype(), view.shape());
        return Err(format!(
            "tensor '{name}' is {found:?} {found_shape:?}, expected {dtype:?} {shape:?}"
        ));
    }
    let words = view.data().as_chunks::<4>().0;
    Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

fn floats(words: &[u32]) -> Vec<f32> {
    words.iter().map(|&word| f32::from_bits(word)).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::encode::{FieldShape, Records};

    const SHAPES: [FieldShape; 2] = [
        FieldShape::Numeric,
        FieldShape::Categorical {
            codes: 4,
            classes: 4,
        },
    ];

    fn layout() -> NearestLayout {
        NearestLayout::new(&SHAPES, &[true, false], &[false; 2])
    }

    fn distances() -> Distances {
        let mut records = Records::absent(&SHAPES, 70);
        for row in 0..70 {
            records.set_number(row, 0, row as f32 / 7.0);
            records.set_code(row, 0, row as u32 % 4);
            (0..2).for_each(|field| records.set_present(row, field));
        }
        let rows: Vec<usize> = (0..70).collect();
        let latents: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).sin()).collect();
        Distances {
            latent: LatentDistance::fit(&latents, 3),
            nearest: Some(NearestRows::keep(layout(), &records, &rows)),
        }
    }

    #[test]
    fn what_is_written_is_read_back_exactly() {
        let all = distances();
        assert!(all.latent.is_some());
        let some = [
            all.clone(),
            Distances {
                latent: None,
                ..all.clone()
            },
            Distances {
                nearest: None,
                ..all
            },
        ];
        for distances in some {
            let bytes = write(&distances).unwrap().unwrap();
            assert_eq!(read(&bytes, 3, layout()).unwrap(), distances);
        }
        assert_eq!(write(&Distances::default()).unwrap(), None);
    }

    #[test]
    fn those_of_another_model_are_refused_by_name() {
        let bytes = write(&distances()).unwrap().unwrap();
        let error = read(&bytes, 4, layout()).unwrap_err();
        assert!(error.contains("'latent.mean' is F32 [3]"), "{error}");
        let other = NearestLayout::new(&[FieldShape::Numeric; 2], &[false; 2], &[false; 2]);
        let error = read(&bytes, 3, other).unwrap_err();
        assert!(
            error.contains("'nearest.numbers'") || error.contains("'nearest.codes'"),
            "{error}"
        );
        assert!(read(&bytes[..40], 3, layout()).is_err());
    }
}
