//! The model's own candle ops: what candle has too slow, or without a gradient.
//!
//! Every op here has a hand-written backward, and a test that compares it with finite differences. All work on
//! contiguous f32 in the processor's memory. For tests each is also composed of candle's own ops in the same file. That is
//! slower, but the same function: the oracle of the hand-written one.

mod attention;
pub mod flat_buffers;
mod gelu;
mod gradient_buffer;
mod linear;
pub mod math;
pub mod normalize;
pub mod product;
pub mod simd;
mod weighted_rows;

pub use attention::attention;
pub use gelu::gelu;
pub use gradient_buffer::{GradientBuffer, LinearBuffers};
pub use linear::linear;
pub use normalize::normalize;
pub use weighted_rows::{RowWeights, weighted_rows};

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor};

/// Lets a test compute with candle's own ops.
#[cfg(any(test, feature = "testing"))]
pub mod composed {
    use std::cell::Cell;

    thread_local!(static FORCED: Cell<bool> = const { Cell::new(false) });

    /// Whether ops on this thread are composed of candle's.
    pub(crate) fn is_forced() -> bool {
        FORCED.get()
    }

    /// Calls `f`, whose ops on this thread are composed of candle's.
    pub fn force<T>(f: impl FnOnce() -> T) -> T {
        let _restore = Restore(FORCED.replace(true));
        f()
    }

    /// Sets what was there before, also where `f` panics.
    struct Restore(bool);

    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
}

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
    use std::sync::Arc;

    fn random(shape: (usize, usize), seed: u64) -> Var {
        let mut rng = crate::rng::stream(seed, crate::rng::Purpose::Initialisation);
        let data: Vec<f32> = (0..shape.0 * shape.1)
            .map(|_| rng.random_range(-2.0..2.0))
            .collect();
        Var::from_vec(data, shape, &Device::Cpu).unwrap()
    }

    /// Compares the op's gradient of sum(f(vars) * weights) with central differences, and both with those of the op as it
    /// is composed of candle's own.
    fn check_gradient(vars: &[Var], f: impl Fn() -> Tensor) {
        let y = f();
        let weights = random((1, y.elem_count()), 99).reshape(y.shape()).unwrap();
        let objective = || {
            let weighted = (f() * &weights).unwrap();
            weighted.sum_all().unwrap()
        };
        let gradients = objective().backward().unwrap();
        let composed = composed::force(&f);
        assert_close(&y, &composed);
        let composed = composed::force(objective).backward().unwrap();
        for var in vars {
            assert_close(gradients.get(var).unwrap(), composed.get(var).unwrap());
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

    fn assert_close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let difference = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        let difference = difference.to_scalar::<f32>().unwrap();
        assert!(difference < 1e-5, "{difference}: {a} {b}");
    }

    #[test]
    fn linear_has_the_gradient_of_finite_differences() {
        let (x, w, b) = (random((5, 4), 1), random((4, 3), 2), random((1, 3), 3));
        let bias = Var::from_tensor(&b.flatten_all().unwrap()).unwrap();
        check_gradient(&[x.clone(), w.clone(), bias.clone()], || {
            linear(&x, &w, &bias, None).unwrap()
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
    fn attention_has_the_gradient_of_finite_differences() {
        // Two records of three positions, two heads of two numbers.
        let qkv = random((6, 12), 6);
        let keys: Arc<[bool]> = Arc::from([true, false, true, false, true, false]);
        for keys in [None, Some(keys)] {
            check_gradient(std::slice::from_ref(&qkv), || {
                attention(&qkv, 3, 2, keys.clone()).unwrap()
            });
        }
    }

    #[test]
    fn a_position_that_is_no_key_is_seen_by_no_other() {
        let (positions, heads) = (4, 2);
        let (a, b) = (random((8, 24), 7), random((8, 24), 8));
        let hidden = [1, 6];
        let keys: Arc<[bool]> = (0..8).map(|row| !hidden.contains(&row)).collect();
        let mut mixed = a.to_vec2::<f32>().unwrap();
        for row in hidden {
            // Its keys and values change, what it asks for does not.
            mixed[row][8..].copy_from_slice(&b.to_vec2::<f32>().unwrap()[row][8..]);
        }
        let mixed = Tensor::new(mixed, &Device::Cpu).unwrap();
        let attend = |qkv: &Tensor| attention(qkv, positions, heads, Some(Arc::clone(&keys)));
        let results = [attend(&a).unwrap(), attend(&mixed).unwrap()];
        let [a, mixed] = results.map(|result| result.to_vec2::<f32>().unwrap());
        assert_eq!(a, mixed);
    }

    #[test]
    fn weighted_rows_have_the_gradient_of_finite_differences() {
        let table = random((4, 3), 9);
        let weights = || {
            let mut weights = RowWeights::with_capacity(3);
            // Row 2 of the table is never used, row 0 twice, and the second result is empty.
            weights.add(0, 0.5);
            weights.add(3, -1.5);
            weights.end_row();
            weights.end_row();
            weights.add(1, 2.0);
            weights.add(0, 1.0);
            weights.end_row();
            weights
        };
        check_gradient(std::slice::from_ref(&table), || {
            weighted_rows(&table, weights()).unwrap()
        });
        let mut beyond = weights();
        beyond.add(4, 1.0);
        beyond.end_row();
        let error = weighted_rows(&table, beyond).unwrap_err().to_string();
        assert!(error.contains("row 4 of a table with 4"), "{error}");
    }

    #[test]
    fn attention_equals_that_of_numpy() {
        // NumPy: x = np.array([[.5, -1, 2, .25, 1, -2], [1, .5, -.5, 1.5, 3, 4], [-1, 2, .75, -.25, 5, 6]])
        //   q, k, v = x[:, :2], x[:, 2:4], x[:, 4:]; s = q @ k.T / np.sqrt(2); s[:, 1] = -np.inf
        //   a = np.exp(s) / np.exp(s).sum(1, keepdims=True); a @ v
        let rows = [
            [0.5f32, -1.0, 2.0, 0.25, 1.0, -2.0],
            [1.0, 0.5, -0.5, 1.5, 3.0, 4.0],
            [-1.0, 2.0, 0.75, -0.25, 5.0, 6.0],
        ];
        let qkv = Tensor::new(&rows, &Device::Cpu).unwrap();
        let keys: Arc<[bool]> = Arc::from([true, false, true]);
        let y = attention(&qkv, 3, 1, Some(keys)).unwrap();
        let expected = [
            [2.9116692, 1.8233383],
            [2.0287333, 0.0574665],
            [3.1763178, 2.3526355],
        ];
        for (y, expected) in y.to_vec2::<f32>().unwrap().iter().zip(expected) {
            assert!(
                y.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6),
                "{y:?}"
            );
        }
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
            linear(&x, &w, &bias, None)
                .unwrap_err()
                .to_string()
                .contains("[3, 3]")
        );
        // Five rows are no whole records of two positions, and of two positions one must be a key.
        assert!(attention(&random((5, 6), 1), 2, 1, None).is_err());
        let keyless: Arc<[bool]> = Arc::from([true, false, false, false]);
        assert!(attention(&random((4, 6), 1), 2, 1, Some(keyless)).is_err());
    }
}
