//! Runs of one sample with everything bound beforehand.

use ort::memory::Allocator;
use ort::session::{IoBinding, Session};
use ort::value::Tensor as OrtTensor;

use super::run_error;
use crate::engine::session::copy_out;
use crate::engine::{Device, EngineError};
use crate::onnx::{ValueInfo, Verified};

/// The inputs and the outputs of a batch of 1, on the host.
pub(super) struct Single {
    session: Session,
    binding: IoBinding,
    inputs: Vec<(String, OrtTensor<f32>)>,
    outputs: Vec<OrtTensor<f32>>,
    device: Device,
}

impl Single {
    pub(super) fn new(
        session: Session,
        device: Device,
        graph: &Verified,
    ) -> Result<Self, EngineError> {
        let (inputs, outputs) = (graph.inputs()?, graph.outputs()?);
        Self::bind(session, device, &inputs, &outputs).map_err(run_error)
    }

    fn bind(
        session: Session,
        device: Device,
        inputs: &[ValueInfo],
        outputs: &[ValueInfo],
    ) -> ort::Result<Self> {
        let host = Allocator::default();
        let mut binding = session.create_binding()?;
        let tensor = |info: &ValueInfo| OrtTensor::new(&host, info.dims_at(1).as_slice());
        let mut written = Vec::new();
        for info in outputs {
            let mut tensor = tensor(info)?;
            binding.bind_output(info.name.as_str(), &mut tensor)?;
            written.push(tensor);
        }
        let mut bound = Vec::new();
        for info in inputs {
            let tensor = tensor(info)?;
            binding.bind_input(info.name.as_str(), &tensor)?;
            bound.push((info.name.clone(), tensor));
        }
        Ok(Self { session, binding, inputs: bound, outputs: written, device })
    }

    pub(super) fn run(
        &mut self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), EngineError> {
        for ((name, tensor), data) in self.inputs.iter_mut().zip(inputs) {
            tensor.extract_tensor_mut().1.copy_from_slice(data);
            // Binding again is what copies an input to a card.
            if self.device == Device::Cuda {
                self.binding.bind_input(name.as_str(), tensor).map_err(run_error)?;
            }
        }
        drop(self.session.run_binding(&self.binding).map_err(run_error)?);
        let mut pairs = self.outputs.iter().zip(outputs).enumerate();
        pairs.try_for_each(|(i, (from, to))| copy_out(i, from.extract_tensor().1, to))
    }
}
