//! The model's own candle ops: what candle has too slow, or without a gradient.
//!
//! Every op here has a hand-written backward, and a test that compares it with finite differences. All work on
//! contiguous f32 on the processor.

mod gelu;
mod linear;
pub mod math;
mod normalize;
pub mod product;

pub use gelu::gelu;
pub use linear::linear;
pub use normalize::normalize;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

/// The f32 elements behind a contiguous layout.
///
/// # Errors
/// If the storage is not f32 or the layout has gaps.
pub fn cpu_slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let data = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!(
            "a contiguous tensor is needed, found strides {:?}",
            layout.stride()
        ),
    }
}

/// Calls `f` with the elements of a contiguous f32 tensor, without copying them.
///
/// # Errors
/// Those of `f`; if the tensor is not contiguous f32 on the processor.
pub fn tensor_slice<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(cpu_slice(cpu, layout)?),
        _ => candle_core::bail!("a tensor in the processor's memory is needed"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use rand::RngExt;

    fn random(shape: (usize, usize), seed: u64) -> Var {
        let mut rng = crate::rng::stream(seed, crate::rng::Purpose::Initialisation);
        let data: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| rng.random_range(-2.0..2.0))
            .collect();
        Var::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// Compares the op's gradient of sum(f(vars) * weights) with central differences.
    fn check_gradient(vars: &[Var], f: impl Fn() -> Tensor) {
        let y = f();
        let weights = random((1, y.elem_count()), 99).reshape(y.shape()).unwrap();
        let objective = || {
            let weighted = (f() * &weights).unwrap();
            weighted.sum_all().unwrap()
        };
        let gradients = objective().backward().unwrap();
        for var in vars {
            let gradient = gradients
                .get(var)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            let original = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let at = |i: usize, step: f32| {
                let mut moved = original.clone();
                moved[i] += step;
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu).unwrap())
                    .unwrap();
                f64::from(objective().to_scalar::<f32>().unwrap())
            };
            for i in 0..original.len() {
                let numeric = (at(i, 1e-2) - at(i, -1e-2)) / 2e-2;
                let error = (numeric - f64::from(gradient[i])).abs();
                assert!(
                    error < 3e-3 * numeric.abs().max(1.0),
                    "{i}: {numeric} {}",
                    gradient[i]
                );
            }
            var.set(&Tensor::from_vec(original, var.shape(), &Device::Cpu).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn linear_has_the_gradient_of_finite_differences() {
        let (x, w, b) = (random((5, 4), 1), random((4, 3), 2), random((1, 3), 3));
        let bias = Var::from_tensor(&b.flatten_all().unwrap()).unwrap();
        check_gradient(&[x.clone(), w.clone(), bias.clone()], || {
            linear(&x, &w, &bias).unwrap()
        });
    }

    #[test]
    fn normalize_has_the_gradient_of_finite_differences() {
        let x = random((3, 11), 4);
        check_gradient(std::slice::from_ref(&x), || normalize(&x).unwrap());
    }

    #[test]
    fn gelu_has_the_gradient_of_finite_differences() {
        let x = random((3, 7), 5);
        check_gradient(std::slice::from_ref(&x), || gelu(&x).unwrap());
    }

    #[test]
    fn values_equal_those_of_numpy() {
        // NumPy: x = np.array([-3, -1, 0, .5, 2.])
        //   .5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + .044715 * x**3)))
        //   (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        let x = Tensor::new(&[[-3f32, -1.0, 0.0, 0.5, 2.0]], &Device::Cpu).unwrap();
        let expect = |y: Tensor, values: [f32; 5]| {
            let y = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (a, b) in y.iter().zip(values) {
                assert!((a - b).abs() < 2e-6, "{y:?}");
            }
        };
        expect(
            gelu(&x).unwrap(),
            [-0.003_637_4, -0.158_808, 0.0, 0.345_714, 1.954_597_7],
        );
        expect(
            normalize(&x).unwrap(),
            [
                -1.625_206,
                -0.421_349_7,
                0.180_578_5,
                0.481_542_6,
                1.384_434_8,
            ],
        );
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let (x, w) = (random((5, 4), 1), random((3, 3), 2));
        let bias = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(
            linear(&x, &w, &bias)
                .unwrap_err()
                .to_string()
                .contains("[3, 3]")
        );
    }
}
