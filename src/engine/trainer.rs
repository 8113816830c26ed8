//! Training: steps of one graph whose state stays inside the engine.

use std::collections::BTreeMap;
use std::ops::Range;

use super::session::check_dims;
use super::{Backend, Device, EngineError, ort, tract};
use crate::onnx::{Tensor, TrainStep, data_of};

/// A training run. Parameters and moments go from one step to the next without passing through
/// user code; on CUDA they stay on the card.
pub struct Trainer {
    step: TrainStep,
    runner: Runner,
    /// Where the parameters and their moving average stand among the state.
    parameters: Range<usize>,
    average: Option<usize>,
    /// Tensors of the state.
    state: usize,
    /// Samples in the data set.
    rows: Option<usize>,
}

/// What a step learns from.
#[derive(Clone, Copy)]
pub(super) enum Feed<'a> {
    /// The batch inputs, in the step's order.
    Batch(&'a [&'a [f32]]),
    /// Rows of the data set.
    Rows(&'a [i64]),
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

/// A whole data set, in the order of the step's batch inputs.
pub(super) struct DataSet<'a> {
    pub rows: usize,
    pub columns: Vec<Column<'a>>,
}

/// One of its tensors.
pub(super) struct Column<'a> {
    /// The step's input.
    pub name: String,
    pub dims: Vec<usize>,
    pub data: &'a [f32],
}

impl<'a> DataSet<'a> {
    fn of(step: &TrainStep, data: &[(&str, &'a [f32])]) -> Result<Self, EngineError> {
        let mut rows = None;
        let columns = step.batch_inputs().iter().map(|info| {
            let given = data.iter().find(|(name, _)| *name == info.name);
            let missing = || EngineError::shape(&info.name, "a data set", "nothing");
            let (_, data) = given.ok_or_else(missing)?;
            let mut dims = info.dims_at(1);
            let row: usize = dims.iter().skip(1).product();
            let found = data.len() / row.max(1);
            let expected = *rows.get_or_insert(found);
            if found != expected || data.len() != expected * row || expected == 0 {
                let wanted = format!("{} rows of {row}", expected.max(1));
                return Err(EngineError::shape(&info.name, wanted, data.len()));
            }
            if let Some(first) = dims.first_mut() {
                *first = expected;
            }
            Ok(Column { name: data_of(&info.name), dims, data })
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { rows: rows.unwrap_or(0), columns })
    }
}

impl Trainer {
    pub(super) fn new(
        backend: &Backend,
        step: &TrainStep,
        data: Option<&[(&str, &[f32])]>,
        plain: bool,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let data = data.map(|data| DataSet::of(step, data)).transpose()?;
        let rows = data.as_ref().map(|data| data.rows);
        let step = match rows {
            Some(rows) => step.over_rows(rows)?,
            None => step.clone(),
        };
        let form = match backend {
            // A card runs plain nodes over one flat vector: few launches, nothing on the host.
            Backend::Ort(library) if library.device() == Device::Cuda => step.plain(),
            _ if plain => step.plain(),
            _ => step.fused(),
        };
        let runner = match backend {
            Backend::Tract => {
                Runner::Tract(Box::new(tract::Training::new(&step, &form, data.as_ref())?))
            }
            Backend::Ort(library) => Runner::Ort(Box::new(ort::Training::new(
                library,
                &step,
                &form,
                data.as_ref(),
                threads,
            )?)),
        };
        let (parameters, average) = (form.parameters(), form.average());
        let state = form.state().len();
        Ok(Self { step, runner, parameters, average, state, rows })
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
        if self.rows.is_some() {
            return Err(EngineError::shape("training", "rows of the data set", "a batch"));
        }
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
        self.advance(Feed::Batch(&ordered), lr)
    }

    /// One step with learning rate `lr` on rows `index` of the data set that
    /// [`Engine::train_on`](super::Engine::train_on) was given, as many as the step's batch.
    ///
    /// # Errors
    /// When there is no data set, the number of rows is wrong or one is not in the data set, and as
    /// [`step`](Self::step).
    pub fn step_on(&mut self, index: &[i64], lr: f32) -> Result<StepReport, EngineError> {
        let rows = self.rows.ok_or_else(|| EngineError::shape("training", "a data set", "none"))?;
        let batch = self.step.batch()?;
        if index.len() != batch {
            return Err(EngineError::shape("rows of a batch", batch, index.len()));
        }
        if let Some(row) = index.iter().find(|row| !(0..rows as i64).contains(*row)) {
            return Err(EngineError::shape("row", 0..rows, row));
        }
        self.advance(Feed::Rows(index), lr)
    }

    fn advance(&mut self, feed: Feed<'_>, lr: f32) -> Result<StepReport, EngineError> {
        let report = match &mut self.runner {
            Runner::Tract(training) => training.run(feed, lr),
            Runner::Ort(training) => training.run(feed, lr),
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

    /// Replaces `flat` by the trained parameters one behind the other, in the step's order.
    ///
    /// # Errors
    /// When the engine cannot give them.
    pub fn flat_into(&self, flat: &mut Vec<f32>) -> Result<(), EngineError> {
        flat.clear();
        self.parameters.clone().try_for_each(|place| self.read_place(place, flat))
    }

    /// All that goes from one step to the next: parameters and moments.
    ///
    /// # Errors
    /// When the engine cannot give it.
    pub fn save(&self) -> Result<Vec<Vec<f32>>, EngineError> {
        let one = |place| {
            let mut data = Vec::new();
            self.read_place(place, &mut data).map(|()| data)
        };
        (0..self.state).map(one).collect()
    }

    /// Goes on from what [`save`](Self::save) gave, of a training of the same step on the same kind
    /// of engine.
    ///
    /// # Errors
    /// When the state is another step's.
    pub fn restore(&mut self, state: &[Vec<f32>]) -> Result<(), EngineError> {
        if state.len() != self.state {
            return Err(EngineError::shape("state tensors", self.state, state.len()));
        }
        state.iter().enumerate().try_for_each(|(place, data)| match &mut self.runner {
            Runner::Tract(training) => training.write(place, data),
            Runner::Ort(training) => training.write(place, data),
        })
    }

    fn read_place(&self, place: usize, flat: &mut Vec<f32>) -> Result<(), EngineError> {
        match &self.runner {
            Runner::Tract(training) => training.read(place, flat),
            Runner::Ort(training) => training.read(place, flat),
        }
    }

    fn read(&self, places: Range<usize>) -> Result<BTreeMap<String, Tensor>, EngineError> {
        let mut flat = Vec::new();
        for place in places {
            self.read_place(place, &mut flat)?;
        }
        Ok(self.step.unflatten(&flat))
    }
}
