//! Inference.

use super::dense::Dense;
use super::{Backend, Device, EngineError, ort, tract};
use crate::onnx::{Dim, Tensor, ValueInfo, Verified, simplify};

/// A graph that is ready to run.
pub struct Session {
    inputs: Vec<ValueInfo>,
    outputs: Vec<ValueInfo>,
    runner: Runner,
    /// The way around the engine for single samples, where the graph allows it.
    dense: Option<Dense>,
}

enum Runner {
    Tract(Box<tract::Inference>),
    Ort(Box<ort::Inference>),
}

/// One input: its dims and elements.
pub(super) type Input<'a> = (&'a [usize], &'a [f32]);

impl Session {
    pub(super) fn new(backend: &Backend, graph: &Verified) -> Result<Self, EngineError> {
        let graph = &Verified::try_from(graph.with_floats()?)?;
        let one = Verified::try_from(simplify(&graph.with_batch(1))?)?;
        let (inputs, outputs) = (graph.inputs()?, graph.outputs()?);
        let runner = match backend {
            Backend::Tract => Runner::Tract(Box::new(tract::Inference::new(graph, &one)?)),
            Backend::Ort(library) => {
                Runner::Ort(Box::new(ort::Inference::new(library, graph, &one)?))
            }
        };
        let mut session = Self { inputs, outputs, runner, dense: None };
        session.dense = (session.device() == Device::Cpu).then(|| Dense::compile(&one)).flatten();
        Ok(session)
    }

    /// The graph's inputs, in its order.
    pub fn inputs(&self) -> &[ValueInfo] {
        &self.inputs
    }

    /// The graph's outputs, in its order.
    pub fn outputs(&self) -> &[ValueInfo] {
        &self.outputs
    }

    /// Where it runs.
    pub fn device(&self) -> Device {
        match &self.runner {
            Runner::Tract(_) => Device::Cpu,
            Runner::Ort(inference) => inference.device(),
        }
    }

    /// Runs the graph on inputs given as (name, dims, elements), in any order. Returns all outputs
    /// in the graph's order.
    ///
    /// # Errors
    /// When an input is missing, unknown or of the wrong shape, or the engine fails.
    pub fn run(&mut self, inputs: &[(&str, &[usize], &[f32])]) -> Result<Vec<Tensor>, EngineError> {
        if let Some((name, ..)) =
            inputs.iter().find(|(name, ..)| self.inputs.iter().all(|i| i.name != *name))
        {
            let known: Vec<&str> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(EngineError::shape("inputs", known, name));
        }
        let mut ordered = Vec::with_capacity(self.inputs.len());
        for info in &self.inputs {
            let given = inputs.iter().find(|(name, ..)| *name == info.name);
            let missing = || EngineError::shape(&info.name, &info.dims, "nothing");
            let (_, dims, data) = given.ok_or_else(missing)?;
            check_dims(info, dims, data.len())?;
            ordered.push((*dims, *data));
        }
        match &mut self.runner {
            Runner::Tract(inference) => inference.run(&ordered),
            Runner::Ort(inference) => inference.run(&self.inputs, &ordered),
        }
    }

    /// Runs the graph once with a batch of 1, the inputs in the graph's order, and writes its first
    /// output: the path of a control loop, with nothing allocated here. On a processor, networks of
    /// dense layers run on loops of our own, which allocate nothing at all; else the engine's own
    /// allocations remain.
    ///
    /// # Errors
    /// When a length is wrong or the engine fails; `output` may then hold anything.
    pub fn run_into(&mut self, inputs: &[&[f32]], output: &mut [f32]) -> Result<(), EngineError> {
        self.run_all_into(inputs, &mut [output])
    }

    /// The same for several outputs, in the graph's order: one whose slice is empty, and those after
    /// the last slice, are not wanted.
    ///
    /// # Errors
    /// As [`run_into`](Self::run_into).
    pub fn run_all_into(
        &mut self,
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), EngineError> {
        if inputs.len() != self.inputs.len() {
            return Err(EngineError::shape("number of inputs", self.inputs.len(), inputs.len()));
        }
        if outputs.len() > self.outputs.len() {
            let most = format!("at most {}", self.outputs.len());
            return Err(EngineError::shape("number of outputs", most, outputs.len()));
        }
        for (info, data) in self.inputs.iter().zip(inputs) {
            if elements_at_1(info) != data.len() {
                return Err(EngineError::shape(&info.name, elements_at_1(info), data.len()));
            }
        }
        if let Some(dense) = &mut self.dense {
            let found = dense.run(inputs);
            let wrong = || EngineError::shape("inputs", "their own sizes", "others");
            let found = found.ok_or_else(wrong)?;
            return outputs.first_mut().map_or(Ok(()), |output| copy_out(0, found, output));
        }
        match &mut self.runner {
            Runner::Tract(inference) => inference.run_into(inputs, outputs),
            Runner::Ort(inference) => inference.run_into(inputs, outputs),
        }
    }
}

fn elements_at_1(info: &ValueInfo) -> usize {
    info.dims.iter().map(|d| d.at(1)).product()
}

pub(super) fn check_dims(info: &ValueInfo, dims: &[usize], len: usize) -> Result<(), EngineError> {
    let fits = |(want, found): (&Dim, &usize)| *want == Dim::Batch || *want == Dim::Fixed(*found);
    let product: usize = dims.iter().product();
    if dims.len() == info.dims.len() && info.dims.iter().zip(dims).all(fits) && product == len {
        Ok(())
    } else {
        let found = format!("dims {dims:?} with {len} elements");
        Err(EngineError::shape(&info.name, &info.dims, found))
    }
}

/// Copies an engine's output to where it is wanted.
pub(super) fn copy_out(place: usize, from: &[f32], output: &mut [f32]) -> Result<(), EngineError> {
    if output.is_empty() {
        return Ok(());
    }
    if from.len() != output.len() {
        let at = if place == 0 { "first output".into() } else { format!("output {}", place + 1) };
        return Err(EngineError::shape(at, from.len(), output.len()));
    }
    output.copy_from_slice(from);
    Ok(())
}
