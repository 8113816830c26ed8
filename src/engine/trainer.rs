//! Training: steps of one graph whose state stays inside the engine.

use std::collections::BTreeMap;
use std::ops::Range;

use super::session::check_dims;
use super::{Backend, Device, EngineError, ort, tract};
use crate::onnx::{Tensor, TrainStep};

/// A training run. Parameters and moments go from one step to the next without passing through
/// user code; on CUDA they stay on the card.
pub struct Trainer {
    step: TrainStep,
    runner: Runner,
    /// Where the parameters and their moving average stand among the state.
    parameters: Range<usize>,
    average: Option<usize>,
}

enum Runner {
    Tract(Box<tract::Training>),
    Ort(Box<ort::Training>),
}

/// What a step says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// The loss of the batch, before the update.
    pub loss: f32,
    /// The Euclidean norm of the gradient, before clipping.
    pub gradient_norm: f32,
}

impl Trainer {
    pub(super) fn new(
        backend: &Backend,
        step: &TrainStep,
        plain: bool,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let form = match backend {
            // A card runs plain nodes over one flat vector: few launches, nothing on the host.
            Backend::Ort(library) if library.device() == Device::Cuda => step.plain(),
            _ if plain => step.plain(),
            _ => step.fused(),
        };
        let runner = match backend {
            Backend::Tract => Runner::Tract(Box::new(tract::Training::new(step, &form)?)),
            Backend::Ort(library) => {
                Runner::Ort(Box::new(ort::Training::new(library, step, &form, threads)?))
            }
        };
        let (parameters, average) = (form.parameters(), form.average());
        Ok(Self { step: step.clone(), runner, parameters, average })
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        match &self.runner {
            Runner::Tract(_) => Device::Cpu,
            Runner::Ort(training) => training.device(),
        }
    }

    /// One step with learning rate `lr` on a batch given as (input name, elements), in any order;
    /// the shapes are those of the step's [`batch_inputs`](TrainStep::batch_inputs).
    ///
    /// # Errors
    /// When an input is missing or of the wrong size, the engine fails, or the loss or gradient is
    /// not finite; the parameters are then those before the step.
    pub fn step(&mut self, batch: &[(&str, &[f32])], lr: f32) -> Result<StepReport, EngineError> {
        let mut ordered = Vec::with_capacity(batch.len());
        for info in self.step.batch_inputs() {
            let given = batch.iter().find(|(name, _)| *name == info.name);
            let missing = || EngineError::shape(&info.name, &info.dims, "nothing");
            let (_, data) = given.ok_or_else(missing)?;
            check_dims(info, &info.dims_at(1), data.len())?;
            ordered.push(*data);
        }
        if ordered.len() != batch.len() {
            return Err(EngineError::shape("number of batch inputs", ordered.len(), batch.len()));
        }
        let report = match &mut self.runner {
            Runner::Tract(training) => training.run(&ordered, lr),
            Runner::Ort(training) => training.run(&ordered, lr),
        }?;
        let StepReport { loss, gradient_norm } = report;
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(EngineError::NotFinite { loss, gradient_norm });
        }
        match &mut self.runner {
            Runner::Tract(training) => training.keep(),
            Runner::Ort(training) => training.keep(),
        }
        Ok(report)
    }

    /// The trained parameters by name.
    ///
    /// # Errors
    /// When the engine cannot give them.
    pub fn parameters(&self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        self.read(self.parameters.clone())
    }

    /// The moving average of the trained parameters by name: those that a policy is exported with.
    /// The parameters themselves where the optimiser keeps no average.
    ///
    /// # Errors
    /// When the engine cannot give them.
    pub fn averaged(&self) -> Result<BTreeMap<String, Tensor>, EngineError> {
        self.read(self.average.map_or(self.parameters.clone(), |place| place..place + 1))
    }

    fn read(&self, places: Range<usize>) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let mut flat = Vec::new();
        for place in places {
            match &self.runner {
                Runner::Tract(training) => training.read(place, &mut flat),
                Runner::Ort(training) => training.read(place, &mut flat),
            }?;
        }
        Ok(self.step.unflatten(&flat))
    }
}
