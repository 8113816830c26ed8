//! Which engine answers fastest.

use std::time::Duration;

use super::dense::Dense;
use super::{Device, Engine, EngineError};
use crate::clock::Clock;
use crate::onnx::Verified;

/// Networks of fewer parameters, without convolutions, are not worth a measurement: tract, or our
/// own loops, answer within tens of microseconds.
const LARGE: usize = 1_000_000;
/// Runs that count, after as many that do not.
const RUNS: usize = 20;

impl Engine {
    /// The engine for the inference of a graph: tract, or ONNX Runtime on the processor where it is
    /// installed and answers a large network faster, which is measured here. The
    /// [`note`](Self::note) says what was found. Takes a few dozen runs of the graph: not for a
    /// control thread.
    ///
    /// # Errors
    /// When neither engine runs the graph.
    pub fn for_inference(graph: &Verified, clock: &dyn Clock) -> Result<Self, EngineError> {
        let tract = Self::tract();
        let parameters: usize = graph.parameters()?.values().map(|t| t.data.len()).sum();
        let convolves = graph.nodes().iter().any(|node| node.op().starts_with("Conv"));
        let large = parameters >= LARGE || convolves;
        if !large || Dense::compile(graph).is_some() {
            return Ok(tract);
        }
        let ort = Self::best(None, Device::Cpu)?;
        if ort.name() == tract.name() {
            return Ok(ort);
        }
        match (tract.median(graph, clock), ort.median(graph, clock)) {
            (Ok(slow), Ok(fast)) if fast < slow => Ok(ort.noting(&tract, fast, slow)),
            (Ok(fast), Ok(slow)) => Ok(tract.noting(&ort, fast, slow)),
            (Ok(_), Err(_)) => Ok(tract),
            (Err(refusal), Ok(_)) => Ok(Self { note: Some(refusal.to_string()), ..ort }),
            (Err(refusal), Err(_)) => Err(refusal),
        }
    }

    fn noting(self, other: &Self, ours: Duration, theirs: Duration) -> Self {
        let [ours, theirs] = [ours, theirs].map(|time| time.as_secs_f64() * 1e6);
        let note = format!("{ours:.0} us a run, {theirs:.0} us in {}", other.name());
        Self { note: Some(note), ..self }
    }

    /// The median time of a run with inputs of zeros.
    fn median(&self, graph: &Verified, clock: &dyn Clock) -> Result<Duration, EngineError> {
        let mut session = self.load(graph)?;
        let sizes = |dims: Vec<usize>| dims.iter().product::<usize>();
        let inputs: Vec<Vec<f32>> =
            session.inputs().iter().map(|info| vec![0.0; sizes(info.dims_at(1))]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let first = session.outputs().first().map(|info| sizes(info.dims_at(1)));
        let mut output = vec![0.0; first.unwrap_or(0)];
        let mut times = Vec::with_capacity(RUNS);
        for run in 0..2 * RUNS {
            let begin = clock.now();
            session.run_into(&inputs, &mut output)?;
            if run >= RUNS {
                times.push(clock.now().since(begin));
            }
        }
        times.sort();
        Ok(times.get(RUNS / 2).copied().unwrap_or(Duration::MAX))
    }
}
