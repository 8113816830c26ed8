//! Training on ONNX Runtime: the state stays bound between steps.

use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};

use super::slot::Slot;
use super::{Library, run_error};
use crate::engine::trainer::{DataSet, Feed};
use crate::engine::{Device, EngineError, StepReport};
use crate::onnx::{Carried, Form, INDEX, TrainStep};

/// Two sets of state tensors, on the device: each step reads one and writes the other, because an
/// update in place may overwrite a weight that the backward pass still reads.
pub(in crate::engine) struct Training {
    session: Session,
    device: Device,
    /// The binding that reads set `i` and writes the other, and how it is run.
    bindings: [(IoBinding, RunOptions<NoSelectedOutputs>); 2],
    states: [Vec<Slot<f32>>; 2],
    fed: Fed,
    /// The loss and the gradient's norm.
    report: [Slot<f32>; 2],
    /// Whether the second set is the current one.
    second: bool,
}

/// What each step is given.
struct Fed {
    lr: Slot<f32>,
    /// What `lr` holds.
    rate: Option<f32>,
    batch: Vec<(String, Slot<f32>)>,
    data: Vec<(String, Slot<f32>)>,
    rows: Option<Slot<i64>>,
}

impl Fed {
    fn new(
        session: &Session,
        device: Device,
        step: &TrainStep,
        data: Option<&DataSet<'_>>,
    ) -> Result<Self, EngineError> {
        let mut fed = Self {
            lr: Slot::new(session, device, &[]).map_err(run_error)?,
            rate: None,
            batch: Vec::new(),
            data: Vec::new(),
            rows: None,
        };
        let Some(data) = data else {
            for info in step.batch_inputs() {
                let slot = Slot::new(session, device, &info.dims_at(1)).map_err(run_error)?;
                fed.batch.push((info.name.clone(), slot));
            }
            return Ok(fed);
        };
        for column in &data.columns {
            let slot = Slot::of(session, device, &column.dims, column.data).map_err(run_error)?;
            fed.data.push((column.name.clone(), slot));
        }
        fed.rows = Some(Slot::new(session, device, &[step.batch()?]).map_err(run_error)?);
        Ok(fed)
    }

    fn bind(&self, binding: &mut IoBinding) -> ort::Result<()> {
        binding.bind_input("lr", self.lr.tensor())?;
        for (name, slot) in self.batch.iter().chain(&self.data) {
            binding.bind_input(name.as_str(), slot.tensor())?;
        }
        match &self.rows {
            Some(rows) => binding.bind_input(INDEX, rows.tensor()),
            None => Ok(()),
        }
    }

    fn write(&mut self, feed: Feed<'_>, lr: f32) -> ort::Result<()> {
        // On a card a copy takes as long as a small layer.
        if self.rate != Some(lr) {
            self.lr.write(&[lr])?;
            self.rate = Some(lr);
        }
        match (feed, &mut self.rows) {
            (Feed::Rows(rows), Some(slot)) => slot.write(rows),
            (Feed::Rows(_), None) => Err(ort::Error::new("no data set")),
            (Feed::Batch(batch), _) => {
                self.batch.iter_mut().zip(batch).try_for_each(|((_, slot), data)| slot.write(data))
            }
        }
    }
}

impl Training {
    pub(in crate::engine) fn new(
        library: &Library,
        step: &TrainStep,
        form: &Form<'_>,
        data: Option<&DataSet<'_>>,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let graph = library.precision.apply(form.graph());
        let session = library.training_session(&graph, threads)?;
        let fed = Fed::new(&session, library.device, step, data)?;
        Self::bind(session, library.device, form, fed).map_err(run_error)
    }

    fn bind(session: Session, device: Device, form: &Form<'_>, fed: Fed) -> ort::Result<Self> {
        let first = |s: &Carried<'_>| Slot::of(&session, device, s.dims, s.initial);
        // The first step fills it.
        let second = |s: &Carried<'_>| Slot::new(&session, device, s.dims);
        let scalar = || Slot::<f32>::new(&session, device, &[]);
        let mut report = [scalar()?, scalar()?];
        let mut states = [
            form.state().iter().map(first).collect::<ort::Result<Vec<_>>>()?,
            form.state().iter().map(second).collect::<ort::Result<Vec<_>>>()?,
        ];
        type Bound = (IoBinding, RunOptions<NoSelectedOutputs>);
        let mut bind = |from: &[Slot<f32>], to: &mut [Slot<f32>], id| -> ort::Result<Bound> {
            let mut binding = session.create_binding()?;
            for ((info, from), to) in form.state().iter().zip(from).zip(to) {
                binding.bind_input(info.input.as_str(), from.tensor())?;
                binding.bind_output(info.output.as_str(), to.tensor_mut())?;
            }
            for (name, slot) in ["loss", "gradient_norm"].iter().zip(&mut report) {
                binding.bind_output(*name, slot.tensor_mut())?;
            }
            fed.bind(&mut binding)?;
            let mut options = RunOptions::new()?;
            if device == Device::Cuda {
                // A CUDA graph holds addresses: each binding is captured as its own.
                options.set("gpu_graph_id", id)?;
            }
            Ok((binding, options))
        };
        let [first, second] = &mut states;
        let bindings = [bind(first, second, "1")?, bind(second, first, "2")?];
        Ok(Self { session, device, bindings, states, fed, report, second: false })
    }

    pub(in crate::engine) fn device(&self) -> Device {
        self.device
    }

    /// Runs a step; [`keep`](Self::keep) makes its state the current one.
    pub(in crate::engine) fn run(
        &mut self,
        feed: Feed<'_>,
        lr: f32,
    ) -> Result<StepReport, EngineError> {
        self.fed.write(feed, lr).map_err(run_error)?;
        let [forth, back] = &mut self.bindings;
        let (binding, options) = if self.second { back } else { forth };
        drop(self.session.run_binding_with_options(binding, options).map_err(run_error)?);
        let [loss, norm] = &self.report;
        Ok(StepReport { loss: scalar(loss)?, gradient_norm: scalar(norm)? })
    }

    pub(in crate::engine) fn keep(&mut self) {
        self.second = !self.second;
    }

    /// Replaces a tensor of the current state.
    pub(in crate::engine) fn write(
        &mut self,
        place: usize,
        data: &[f32],
    ) -> Result<(), EngineError> {
        let [first, second] = &mut self.states;
        let current = if self.second { second } else { first };
        let slot = current.get_mut(place).ok_or_else(|| run_error("no state"))?;
        slot.write(data).map_err(run_error)
    }

    /// Appends a tensor of the current state to `flat`.
    pub(in crate::engine) fn read(
        &self,
        place: usize,
        flat: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let [first, second] = &self.states;
        let current = if self.second { second } else { first };
        let slot = current.get(place).ok_or_else(|| run_error("no state"))?;
        slot.read(|data| flat.extend_from_slice(data)).map_err(run_error)
    }
}

fn scalar(slot: &Slot<f32>) -> Result<f32, EngineError> {
    let first = slot.read(|data| data.first().copied()).map_err(run_error)?;
    first.ok_or_else(|| run_error("an empty output"))
}
