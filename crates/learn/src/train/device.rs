//! Where training computes: on the processor, or on a GPU where the program was built for one.
//!
//! In flows the setting, out flows candle's device. The model itself always stays in the processor's memory: a GPU has a
//! copy of it that computes losses and gradients. So a bundle does not depend on where it was trained, and scoring knows
//! nothing of devices.

use super::trainer::TrainError;
use crate::bundle::DeviceKind;
use candle_core::Device;

/// The device; none if it is the processor, which is always there.
///
/// # Errors
/// [`TrainError::Device`] if the GPU cannot be used.
pub fn open(device: DeviceKind) -> Result<Option<Device>, TrainError> {
    match device {
        DeviceKind::Cpu => Ok(None),
        // candle's `new_cuda` would give every thread a stream of its own, and the loop sets parameters on one thread
        // that another reads: work on one stream is done in the order in which it was asked for.
        DeviceKind::Cuda => match Device::new_cuda_with_stream(0) {
            Ok(device) => Ok(Some(device)),
            Err(source) => Err(TrainError::Device { source }),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        assert_eq!(DeviceKind::Cpu.fault(), None);
        assert!(open(DeviceKind::Cpu).unwrap().is_none());
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn without_cuda_a_gpu_is_a_fault_that_says_what_to_do() {
        let fault = DeviceKind::Cuda.fault().unwrap();
        for part in ["training.device = \"cuda\"", "\"cpu\"", "--features cuda"] {
            assert!(fault.contains(part), "{fault}");
        }
        // Whoever does not ask for faults gets an error.
        let error = open(DeviceKind::Cuda).unwrap_err().to_string();
        assert!(error.contains("training.device = \"cuda\""), "{error}");
    }
}
