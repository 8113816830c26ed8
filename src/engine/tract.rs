//! Graphs on tract: part of this program, one thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec, Tensor as TractTensor,
    TractResult, TypedSimpleState,
};

use super::session::{Input, copy_out};
use super::{EngineError, StepReport, stateless};
use crate::onnx::{Dim, Graph, Tensor, TrainStep, ValueInfo, Verified};

pub(super) const VERSION: &str = "0.23.9";
const ENGINE: &str = "tract";

fn run_error(error: impl std::fmt::Display) -> EngineError {
    EngineError::Run { engine: ENGINE, reason: format!("{error:#}") }
}

/// Optimises a graph. tract may panic on files that break its assumptions; a verified graph does
/// not, but a daemon must not die if one does.
fn load(graph: &Graph) -> Result<TypedSimpleState, EngineError> {
    let bytes = graph.to_bytes();
    let parse = || -> TractResult<TypedSimpleState> {
        let model = tract_onnx::onnx().model_for_read(&mut bytes.as_slice())?;
        let mut model = model.into_typed()?;
        stateless::forget_between_runs(&mut model);
        model.into_optimized()?.into_runnable()?.spawn()
    };
    let refused = |reason| EngineError::Load { engine: ENGINE, reason };
    match catch_unwind(AssertUnwindSafe(parse)) {
        Ok(state) => state.map_err(|error| refused(format!("{error:#}"))),
        Err(_) => Err(refused("it panicked while loading".into())),
    }
}

pub(super) struct Inference {
    graph: Graph,
    /// The graph with a batch of 1, and its inputs, which are written in place.
    one: TypedSimpleState,
    one_inputs: Vec<Arc<TractTensor>>,
    /// The graph with an open batch, made when it is first needed.
    any: Option<TypedSimpleState>,
}

impl Inference {
    pub(super) fn new(graph: &Verified, inputs: &[ValueInfo]) -> Result<Self, EngineError> {
        let zeros = |info: &ValueInfo| {
            TractTensor::zero::<f32>(&info.dims_at(1)).map(Arc::new).map_err(run_error)
        };
        Ok(Self {
            one: load(&graph.with_batch(1))?,
            one_inputs: inputs.iter().map(zeros).collect::<Result<_, _>>()?,
            any: None,
            graph: (**graph).clone(),
        })
    }

    pub(super) fn run(&mut self, inputs: &[Input]) -> Result<Vec<Tensor>, EngineError> {
        let tensor = |(dims, data): &Input| {
            TractTensor::from_shape(dims, data).map(TValue::from).map_err(run_error)
        };
        let values = inputs.iter().map(tensor).collect::<Result<TVec<_>, _>>()?;
        let single =
            self.one_inputs.iter().zip(inputs).all(|(one, (dims, _))| one.shape() == *dims);
        let state = if single {
            &mut self.one
        } else {
            match &mut self.any {
                Some(state) => state,
                empty => empty.insert(load(&self.graph)?),
            }
        };
        let outputs = state.run(values).map_err(run_error)?;
        outputs
            .iter()
            .map(|value| Ok(Tensor { dims: value.shape().to_vec(), data: slice(value)?.to_vec() }))
            .collect()
    }

    pub(super) fn run_into(
        &mut self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), EngineError> {
        let mut values = TVec::with_capacity(inputs.len());
        for (kept, data) in self.one_inputs.iter_mut().zip(inputs) {
            // An operator may have kept the last input; then this one needs memory of its own.
            match Arc::get_mut(kept) {
                Some(tensor) => {
                    let mut view = tensor.try_as_plain_ram_mut().map_err(run_error)?;
                    view.as_slice_mut::<f32>().map_err(run_error)?.copy_from_slice(data);
                }
                None => {
                    *kept =
                        Arc::new(TractTensor::from_shape(kept.shape(), data).map_err(run_error)?)
                }
            }
            values.push(kept.clone().into_tvalue());
        }
        let found = self.one.run(values).map_err(run_error)?;
        let mut pairs = found.iter().zip(outputs).enumerate();
        pairs.try_for_each(|(i, (value, output))| copy_out(i, slice(value)?, output))
    }
}

fn slice(value: &TValue) -> Result<&[f32], EngineError> {
    value.try_as_plain_ram().and_then(|view| view.as_slice::<f32>()).map_err(run_error)
}

/// Where one of a training graph's inputs comes from.
enum Source {
    Rate,
    State(usize),
    Batch(usize),
}

pub(super) struct Training {
    plan: TypedSimpleState,
    sources: Vec<(Source, Vec<usize>)>,
    state: Vec<TValue>,
    next: Vec<TValue>,
}

impl Training {
    pub(super) fn new(step: &TrainStep) -> Result<Self, EngineError> {
        let source = |info: &ValueInfo| {
            let state = step.state().iter().position(|s| s.input == info.name);
            let batch = step.batch_inputs().iter().position(|b| b.name == info.name);
            let source =
                state.map(Source::State).or(batch.map(Source::Batch)).unwrap_or(Source::Rate);
            (source, info.dims.iter().map(|d: &Dim| d.at(1)).collect())
        };
        let initial = |t: &Tensor| {
            TractTensor::from_shape(&t.dims, &t.data).map(TValue::from).map_err(run_error)
        };
        Ok(Self {
            plan: load(step.graph())?,
            sources: step.graph().inputs()?.iter().map(source).collect(),
            state: step.state().iter().map(|s| initial(&s.initial)).collect::<Result<_, _>>()?,
            next: Vec::new(),
        })
    }

    /// Runs a step; [`keep`](Self::keep) makes its state the current one.
    pub(super) fn run(&mut self, batch: &[&[f32]], lr: f32) -> Result<StepReport, EngineError> {
        let mut values = TVec::with_capacity(self.sources.len());
        for (source, dims) in &self.sources {
            let data = match source {
                Source::State(i) => {
                    values.extend(self.state.get(*i).cloned());
                    continue;
                }
                Source::Rate => &[lr][..],
                Source::Batch(i) => batch.get(*i).copied().unwrap_or(&[]),
            };
            values.push(TractTensor::from_shape(dims, data).map_err(run_error)?.into());
        }
        let mut outputs = self.plan.run(values).map_err(run_error)?.into_iter();
        let mut scalar = || -> Result<f32, EngineError> {
            let value = outputs.next().ok_or_else(|| run_error("an output is missing"))?;
            slice(&value)?.first().copied().ok_or_else(|| run_error("an output is empty"))
        };
        let report = StepReport { loss: scalar()?, gradient_norm: scalar()? };
        self.next = outputs.collect();
        Ok(report)
    }

    pub(super) fn keep(&mut self) {
        std::mem::swap(&mut self.state, &mut self.next);
        self.next.clear();
    }

    pub(super) fn parameters(&self) -> Result<Vec<f32>, EngineError> {
        let first = self.state.first().ok_or_else(|| run_error("no state"))?;
        Ok(slice(first)?.to_vec())
    }
}
