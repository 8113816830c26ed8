//! Runs a graph on each engine: does it run, do the engines agree, what does a tick cost?

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::clock::Clock;
use crate::engine::{Engine, EngineError, Session};
use crate::onnx::Verified;
use crate::policy::tensors::row_of;
use crate::policy::{Cost, Times};
use crate::rng::{Stream, normal, stream};

/// How an engine took to a graph.
#[derive(Debug, Clone, Serialize)]
pub(super) struct EngineFacts {
    pub(super) engine: String,
    pub(super) runs: bool,
    /// Why it does not run.
    pub(super) reason: Option<String>,
    pub(super) load_ms: f64,
    pub(super) ticks: Option<Cost>,
}

/// A trial on every engine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Trial {
    pub(super) engines: Vec<EngineFacts>,
    /// The largest difference between two engines, as a share of 1 + the value; on zeros and on
    /// random inputs.
    pub(super) largest_difference: Option<f64>,
    /// All that came out then was finite.
    pub(super) finite: bool,
}

/// Runs before the clock counts.
const WARM_UP: u64 = 10;

/// Runs `graph` on each engine `runs` times, or for `limit` if that is less.
pub(super) fn trial(
    graph: &Verified,
    engines: &[Engine],
    clock: &dyn Clock,
    runs: u64,
    limit: Duration,
) -> Result<Trial, EngineError> {
    let sizes: Vec<usize> = graph.inputs()?.iter().map(row_of).collect();
    let zeros: Vec<Vec<f32>> = sizes.iter().map(|n| vec![0.0; *n]).collect();
    let mut rng = stream(0, Stream::Validation);
    let random = sizes.iter().map(|n| (0..*n).map(|_| normal(&mut rng) as f32).collect()).collect();
    let samples: [Vec<Vec<f32>>; 2] = [zeros, random];
    let mut first: Option<Vec<f32>> = None;
    let (mut largest, mut finite) = (None, true);
    let mut facts = Vec::new();
    for engine in engines {
        let start = clock.now();
        let loaded = engine.load(graph);
        let load_ms = clock.now().since(start).as_secs_f64() * 1e3;
        let ran = loaded.and_then(|mut session| {
            let values = answers(&mut session, &samples)?;
            Ok((values, cost(&mut session, &samples[1], clock, runs, limit)?))
        });
        let (reason, ticks) = match ran {
            Ok((values, cost)) => {
                finite &= values.iter().all(|x| x.is_finite());
                match &first {
                    Some(first) => {
                        largest = Some(difference(first, &values).max(largest.unwrap_or(0.0)))
                    }
                    None => first = Some(values),
                }
                (None, Some(cost))
            }
            Err(error) => (Some(error.to_string()), None),
        };
        facts.push(EngineFacts {
            engine: engine.to_string(),
            runs: ticks.is_some(),
            reason,
            load_ms,
            ticks,
        });
    }
    Ok(Trial { engines: facts, largest_difference: largest, finite })
}

/// All outputs for all samples.
fn answers(session: &mut Session, samples: &[Vec<Vec<f32>>]) -> Result<Vec<f32>, EngineError> {
    let dims: Vec<_> = session.inputs().iter().map(|i| (i.name.clone(), i.dims_at(1))).collect();
    let mut all = Vec::new();
    for sample in samples {
        let inputs: Vec<(&str, &[usize], &[f32])> = dims
            .iter()
            .zip(sample)
            .map(|((name, dims), row)| (name.as_str(), dims.as_slice(), row.as_slice()))
            .collect();
        all.extend(session.run(&inputs)?.into_iter().flat_map(|tensor| tensor.data));
    }
    Ok(all)
}

fn cost(
    session: &mut Session,
    sample: &[Vec<f32>],
    clock: &dyn Clock,
    runs: u64,
    limit: Duration,
) -> Result<Cost, EngineError> {
    let inputs: Vec<&[f32]> = sample.iter().map(Vec::as_slice).collect();
    let times = Times::default();
    let begin = clock.now();
    for run in 0..WARM_UP + runs {
        let start = clock.now();
        session.run_all_into(&inputs, &mut [])?;
        let end = clock.now();
        if run >= WARM_UP {
            times.record(end.since(start));
        }
        if times.count() > 0 && end.since(begin) > limit {
            break;
        }
    }
    Ok(Cost::of(&times))
}

/// The largest difference as a share of 1 + the value. Overflow and NaN agree only with themselves.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let each = a.iter().zip(b).map(|(a, b)| {
        let difference = f64::from((a - b).abs()) / (1.0 + f64::from(a.abs()));
        let same = a == b || (a.is_nan() && b.is_nan());
        if same {
            0.0
        } else if difference.is_finite() {
            difference
        } else {
            f64::INFINITY
        }
    });
    each.fold(0.0, f64::max)
}
