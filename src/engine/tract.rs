//! Graphs on tract: part of this program, one thread.

mod operators;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, IntoTValue, TValue, TVec, Tensor as TractTensor,
    TractResult, TypedSimpleState,
};

use super::session::{Input, copy_out};
use super::trainer::{Column, DataSet, Feed};
use super::{EngineError, StepReport, stateless};
use crate::onnx::{
    Carried, Dim, ElementType, Form, Graph, Tensor, TrainStep, ValueInfo, Verified, simplify,
};

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
        let model = operators::onnx().model_for_read(&mut bytes.as_slice())?;
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
    /// The graph for batches of other sizes, made when it is first needed.
    any: Option<Any>,
}

/// tract cannot load every graph with its batch open; then there is one for each size in turn.
enum Any {
    Open(TypedSimpleState),
    Fixed(usize, TypedSimpleState),
}

impl Inference {
    /// `one` is the graph with a batch of 1.
    pub(super) fn new(graph: &Verified, one: &Verified) -> Result<Self, EngineError> {
        let zeros = |info: &ValueInfo| {
            TractTensor::zero::<f32>(&info.dims_at(1)).map(Arc::new).map_err(run_error)
        };
        Ok(Self {
            one: load(one)?,
            one_inputs: one.inputs()?.iter().map(zeros).collect::<Result<_, _>>()?,
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
        let state = if single { &mut self.one } else { self.any(inputs)? };
        let outputs = state.run(values).map_err(run_error)?;
        outputs
            .iter()
            .map(|value| Ok(Tensor { dims: value.shape().to_vec(), data: slice(value)?.to_vec() }))
            .collect()
    }

    fn any(&mut self, inputs: &[Input]) -> Result<&mut TypedSimpleState, EngineError> {
        let infos = self.graph.inputs()?;
        let open = |(info, (dims, _)): (&ValueInfo, &Input)| {
            let axis = info.dims.iter().position(|d| *d == Dim::Batch)?;
            dims.get(axis).copied()
        };
        let batch = infos.iter().zip(inputs).find_map(open).unwrap_or(1);
        let fixed = || -> Result<Any, EngineError> {
            Ok(Any::Fixed(batch, load(&simplify(&self.graph.with_batch(batch))?)?))
        };
        let kept = match self.any.take() {
            Some(Any::Fixed(of, state)) if of == batch => Any::Fixed(of, state),
            Some(Any::Fixed(..)) => fixed()?,
            Some(Any::Open(state)) => Any::Open(state),
            None => load(&self.graph).map(Any::Open).or_else(|_| fixed())?,
        };
        match self.any.insert(kept) {
            Any::Open(state) | Any::Fixed(_, state) => Ok(state),
        }
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
    Data(usize),
    Rows,
}

pub(super) struct Training {
    plan: TypedSimpleState,
    sources: Vec<(Source, Vec<usize>)>,
    data: Vec<TValue>,
    state: Vec<TValue>,
    next: Vec<TValue>,
}

impl Training {
    pub(super) fn new(
        step: &TrainStep,
        form: &Form<'_>,
        data: Option<&DataSet<'_>>,
    ) -> Result<Self, EngineError> {
        let columns = data.map_or(&[][..], |data| data.columns.as_slice());
        let source = |info: &ValueInfo| {
            let state = form.state().iter().position(|s| s.input == info.name);
            let batch = step.batch_inputs().iter().position(|b| b.name == info.name);
            let data = columns.iter().position(|c| c.name == info.name);
            let rows = (info.element == ElementType::I64).then_some(Source::Rows);
            let source = state.map(Source::State).or(batch.map(Source::Batch));
            let source = source.or(data.map(Source::Data)).or(rows).unwrap_or(Source::Rate);
            (source, info.dims.iter().map(|d: &Dim| d.at(1)).collect())
        };
        let column = |c: &Column<'_>| {
            TractTensor::from_shape(&c.dims, c.data).map(TValue::from).map_err(run_error)
        };
        let initial = |s: &Carried<'_>| {
            TractTensor::from_shape(s.dims, s.initial).map(TValue::from).map_err(run_error)
        };
        Ok(Self {
            plan: load(form.graph())?,
            sources: form.graph().inputs()?.iter().map(source).collect(),
            data: columns.iter().map(column).collect::<Result<_, _>>()?,
            state: form.state().iter().map(initial).collect::<Result<_, _>>()?,
            next: Vec::new(),
        })
    }

    /// Runs a step; [`keep`](Self::keep) makes its state the current one.
    pub(super) fn run(&mut self, feed: Feed<'_>, lr: f32) -> Result<StepReport, EngineError> {
        let (batch, rows) = match feed {
            Feed::Batch(batch) => (batch, &[][..]),
            Feed::Rows(rows) => (&[][..], rows),
        };
        let mut values = TVec::with_capacity(self.sources.len());
        for (source, dims) in &self.sources {
            let data = match source {
                Source::State(i) => {
                    values.extend(self.state.get(*i).cloned());
                    continue;
                }
                Source::Data(i) => {
                    values.extend(self.data.get(*i).cloned());
                    continue;
                }
                Source::Rows => {
                    values.push(TractTensor::from_shape(dims, rows).map_err(run_error)?.into());
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

    /// Replaces a tensor of the current state.
    pub(super) fn write(&mut self, place: usize, data: &[f32]) -> Result<(), EngineError> {
        let value = self.state.get_mut(place).ok_or_else(|| run_error("no state"))?;
        *value = TractTensor::from_shape(value.shape(), data).map_err(run_error)?.into();
        Ok(())
    }

    /// Appends a tensor of the current state to `flat`.
    pub(super) fn read(&self, place: usize, flat: &mut Vec<f32>) -> Result<(), EngineError> {
        let value = self.state.get(place).ok_or_else(|| run_error("no state"))?;
        flat.extend_from_slice(slice(value)?);
        Ok(())
    }
}
