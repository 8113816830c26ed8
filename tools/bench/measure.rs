//! Rounds, medians, and a figure as a line.

use std::fmt;
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock, processor_time};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Rounds that count.
pub const ROUNDS: usize = 25;
/// How long one lasts.
pub const ROUND: Duration = Duration::from_millis(150);

/// What was measured, and what a peer took for the same.
#[derive(Clone)]
pub struct Figure {
    pub name: String,
    value: f64,
    unit: Unit,
    /// Without a value where it is not installed.
    peer: Option<(&'static str, Option<f64>)>,
}

/// What a figure counts.
#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    /// Over processor time.
    SamplesOfCpu,
    Steps,
    /// Over the processor time of the thread that makes them.
    StepsOfThread,
    Updates,
    EnvSteps,
    Microseconds,
    PercentOfCore,
    FileSizes,
    Seconds,
    Bytes,
    /// Times the numbers' own size.
    RawSizes,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::SamplesOfCpu => "samples/cpu-s",
            Self::Steps => "steps/s",
            Self::StepsOfThread => "steps/CPU s",
            Self::Updates => "updates/cpu-s",
            Self::EnvSteps => "env steps/cpu-s",
            Self::Microseconds => "us",
            Self::PercentOfCore => "% of a core",
            Self::FileSizes => "file sizes",
            Self::Seconds => "s",
            Self::Bytes => "bytes",
            Self::RawSizes => "raw sizes",
        }
    }
}

impl Figure {
    /// The table's first line.
    pub const HEADING: &str =
        "figure                            value           peer            its value   ratio";

    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { name: name.into(), value, unit, peer: None }
    }

    pub fn against(self, peer: &'static str, value: Option<f64>) -> Self {
        Self { peer: Some((peer, value)), ..self }
    }

    /// Over 1 where ours is better.
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer?.1?;
        let less = matches!(
            self.unit,
            Unit::Microseconds
                | Unit::PercentOfCore
                | Unit::FileSizes
                | Unit::Seconds
                | Unit::Bytes
                | Unit::RawSizes
        );
        Some(if less { peer / self.value } else { self.value / peer })
    }

    pub fn json(&self) -> String {
        serde_json::to_string(&Line {
            name: &self.name,
            value: rounded(self.value),
            unit: self.unit.name(),
            peer: self.peer.map(|(name, _)| name),
            peer_value: self.peer.and_then(|(_, value)| value).map(rounded),
            ratio: self.ratio().map(rounded),
        })
        .unwrap()
    }
}

/// A figure in the order that it is printed in.
#[derive(serde::Serialize)]
struct Line<'a> {
    name: &'a str,
    value: f64,
    unit: &'static str,
    peer: Option<&'static str>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = (rounded(self.value), self.unit.name());
        write!(f, "{:<26} {value:>12} {unit:<9}", self.name)?;
        let Some((peer, peer_value)) = self.peer else { return Ok(()) };
        let show = |x: Option<f64>| x.map_or("-".into(), |x| rounded(x).to_string());
        write!(f, " {peer:<13} {:>11} {:>7}", show(peer_value), show(self.ratio()))
    }
}

/// To four digits: more would be noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What takes turns: a round's numbers, or nothing where it cannot be had.
pub type Contender<'a, const N: usize> = Box<dyn FnMut() -> Option<[f64; N]> + 'a>;

/// The medians of each contender's rounds; they take turns, and a first round warms up.
pub fn in_turns<const N: usize>(contenders: &mut [Contender<'_, N>]) -> Vec<Option<[f64; N]>> {
    in_rounds(ROUNDS, contenders)
}

/// The same over another number of rounds.
pub fn in_rounds<const N: usize>(
    count: usize,
    contenders: &mut [Contender<'_, N>],
) -> Vec<Option<[f64; N]>> {
    let mut rounds = vec![Vec::new(); contenders.len()];
    for round in 0..=count {
        for (contender, values) in contenders.iter_mut().zip(&mut rounds) {
            let value = contender();
            if round > 0 {
                values.extend(value);
            }
        }
    }
    let medians = |rounds: Vec<[f64; N]>| {
        let typical = || std::array::from_fn(|i| median(rounds.iter().map(|r| r[i]).collect()));
        (!rounds.is_empty()).then(typical)
    };
    rounds.into_iter().map(medians).collect()
}

/// The median round of a single contender.
pub fn alone(mut contender: impl FnMut() -> f64) -> f64 {
    in_turns(&mut [Box::new(|| Some([contender()])) as Contender<'_, 1>])[0].unwrap()[0]
}

/// Keeps this thread on the last `threads` processors while it works, as the peers keep to them.
pub fn pinned<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).unwrap();
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).collect();
    let mut last = CpuSet::new();
    allowed.iter().rev().take(threads).for_each(|cpu| last.set(*cpu));
    sched_setaffinity(None, &last).unwrap();
    let value = work();
    sched_setaffinity(None, &all).unwrap();
    value
}

/// Calls a second over a round.
pub fn rate(mut call: impl FnMut()) -> f64 {
    let start = SystemClock.now();
    for calls in 1.. {
        call();
        let took = SystemClock.now().since(start);
        if took >= ROUND {
            return f64::from(calls) / took.as_secs_f64();
        }
    }
    f64::INFINITY
}

/// Calls a second of processor time, over a round of it.
pub fn cpu_rate(mut call: impl FnMut()) -> f64 {
    let start = processor_time();
    for calls in 1.. {
        call();
        let took = processor_time() - start;
        if took >= ROUND {
            return f64::from(calls) / took.as_secs_f64();
        }
    }
    f64::INFINITY
}

/// The median and the 99th percentile of the time of a call over a round (us).
pub fn latency_us(mut call: impl FnMut()) -> [f64; 2] {
    let start = SystemClock.now();
    let mut times = Vec::new();
    let mut before = start;
    while before.since(start) < ROUND {
        call();
        let after = SystemClock.now();
        times.push(after.since(before).as_secs_f64() * 1e6);
        before = after;
    }
    times.sort_by(f64::total_cmp);
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// The median time of a call over a round (us).
pub fn typical_us(call: impl FnMut()) -> f64 {
    latency_us(call)[0]
}
