//! Training on ONNX Runtime: the state stays bound between steps.

use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor as OrtTensor;

use super::{Library, run_error};
use crate::engine::{Device, EngineError, StepReport};
use crate::onnx::{Form, TrainStep};

/// Two sets of state tensors, on the device: each step reads one and writes the other, because an
/// update in place may overwrite a weight that the backward pass still reads.
pub(in crate::engine) struct Training {
    session: Session,
    device: Device,
    /// The binding that reads set `i` and writes the other.
    bindings: [IoBinding; 2],
    states: [Vec<OrtTensor<f32>>; 2],
    batch: Vec<(String, OrtTensor<f32>)>,
    lr: OrtTensor<f32>,
    loss: OrtTensor<f32>,
    gradient_norm: OrtTensor<f32>,
    /// Whether the second set is the current one.
    second: bool,
}

impl Training {
    pub(in crate::engine) fn new(
        library: &Library,
        step: &TrainStep,
        form: &Form<'_>,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let session = library.session(form.graph(), threads)?;
        Self::bind(session, library.device, step, form).map_err(run_error)
    }

    fn bind(
        session: Session,
        device: Device,
        step: &TrainStep,
        form: &Form<'_>,
    ) -> ort::Result<Self> {
        let host = Allocator::default();
        let scalar = || OrtTensor::<f32>::new(&host, [0i64; 0]);
        let (mut loss, mut gradient_norm) = (scalar()?, scalar()?);
        let mut states = [state(&session, device, form)?, state(&session, device, form)?];
        let mut bindings = [session.create_binding()?, session.create_binding()?];
        let ([first, second], [forth, back]) = (&mut states, &mut bindings);
        let mut bind = |binding: &mut IoBinding, from: &[_], to: &mut [_]| -> ort::Result<()> {
            for ((info, from), to) in form.state().iter().zip(from).zip(to) {
                binding.bind_input(info.input.as_str(), from)?;
                binding.bind_output(info.output.as_str(), to)?;
            }
            binding.bind_output("loss", &mut loss)?;
            binding.bind_output("gradient_norm", &mut gradient_norm)
        };
        bind(forth, first, second)?;
        bind(back, second, first)?;
        let batch = step.batch_inputs().iter();
        let batch =
            batch.map(|i| Ok((i.name.clone(), OrtTensor::new(&host, i.dims_at(1).as_slice())?)));
        let (batch, lr) = (batch.collect::<ort::Result<_>>()?, scalar()?);
        Ok(Self {
            session,
            device,
            bindings,
            states,
            batch,
            lr,
            loss,
            gradient_norm,
            second: false,
        })
    }

    pub(in crate::engine) fn device(&self) -> Device {
        self.device
    }

    /// Runs a step; [`keep`](Self::keep) makes its state the current one.
    pub(in crate::engine) fn run(
        &mut self,
        batch: &[&[f32]],
        lr: f32,
    ) -> Result<StepReport, EngineError> {
        let [forth, back] = &mut self.bindings;
        let binding = if self.second { back } else { forth };
        // Inputs on the host are bound again at each step: on a card this is what copies them.
        for ((name, tensor), data) in self.batch.iter_mut().zip(batch) {
            tensor.extract_tensor_mut().1.copy_from_slice(data);
            binding.bind_input(name.as_str(), tensor).map_err(run_error)?;
        }
        self.lr.extract_tensor_mut().1.fill(lr);
        binding.bind_input("lr", &self.lr).map_err(run_error)?;
        drop(self.session.run_binding(binding).map_err(run_error)?);
        Ok(StepReport { loss: scalar(&self.loss)?, gradient_norm: scalar(&self.gradient_norm)? })
    }

    pub(in crate::engine) fn keep(&mut self) {
        self.second = !self.second;
    }

    /// Appends a tensor of the current state to `flat`.
    pub(in crate::engine) fn read(
        &self,
        place: usize,
        flat: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let [first, second] = &self.states;
        let current = if self.second { second } else { first };
        let tensor = current.get(place).ok_or_else(|| run_error("no state"))?;
        match self.device {
            Device::Cpu => flat.extend_from_slice(tensor.extract_tensor().1),
            Device::Cuda => {
                let host = tensor.to(AllocationDevice::CPU, 0).map_err(run_error)?;
                flat.extend_from_slice(host.extract_tensor().1);
            }
        }
        Ok(())
    }
}

/// The step's first state, where the session runs.
fn state(session: &Session, device: Device, form: &Form<'_>) -> ort::Result<Vec<OrtTensor<f32>>> {
    let host = Allocator::default();
    let cuda =
        || MemoryInfo::new(AllocationDevice::CUDA, 0, AllocatorType::Device, MemoryType::Default);
    let tensor = |initial: &crate::onnx::Tensor| {
        let mut tensor = OrtTensor::<f32>::new(&host, initial.dims.as_slice())?;
        tensor.extract_tensor_mut().1.copy_from_slice(&initial.data);
        if device == Device::Cpu {
            return Ok(tensor);
        }
        let mut on_card =
            OrtTensor::<f32>::new(&Allocator::new(session, cuda()?)?, initial.dims.as_slice())?;
        tensor.copy_into(&mut on_card)?;
        Ok(on_card)
    };
    form.state().iter().map(|s| tensor(&s.initial)).collect()
}

fn scalar(tensor: &OrtTensor<f32>) -> Result<f32, EngineError> {
    tensor.extract_tensor().1.first().copied().ok_or_else(|| run_error("an empty output"))
}
