//! How punctual this computer is: measured, at rest and beside busy processors.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::{Check, Verdict};
use crate::clock::Clock;
use crate::cmd::Context;
use crate::cmd::robot::{EMULATED, Line};
use crate::config::RobotConfig;

/// How often a thread is woken up, and how often.
const PERIOD: Duration = Duration::from_millis(2);
const WAKES: u32 = 500;
/// Late wake-ups (µs, 99th percentile): worse than the first is a warning, than the second a problem
/// beside other work: a tick of 100 Hz is 10 ms long.
const LATE_US: [f64; 2] = [500.0, 5000.0];
const PINGS: usize = 200;
/// The bounds of the histogram (µs).
const BOUNDS_US: [f64; 9] = [20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4];

/// Durations in numbers (µs).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
    /// How many were at most so long, and longer than the bound before; without a bound: the rest.
    pub(super) histogram: Vec<(Option<f64>, usize)>,
}

impl Spread {
    /// Of at least one duration.
    pub(super) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let us: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        let at = |share: f64| {
            let index = (share * us.len() as f64).ceil() as usize;
            us.get(index.saturating_sub(1)).copied().unwrap_or_default()
        };
        let mut histogram = Vec::new();
        let mut below = 0;
        for bound in BOUNDS_US {
            let upto = us.partition_point(|us| *us <= bound);
            histogram.push((Some(bound), upto - below));
            below = upto;
        }
        histogram.push((None, us.len() - below));
        Self { p50_us: at(0.5), p99_us: at(0.99), max_us: at(1.0), histogram }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50_us, p99_us, max_us, .. } = self;
        write!(f, "median {p50_us:.0} µs, 99 % within {p99_us:.0} µs, all within {max_us:.0} µs")
    }
}

pub(super) fn checks(context: &Context) -> Result<Vec<Check>> {
    let rest = lateness(context);
    let busy = beside_load(|| lateness(context));
    Ok(vec![
        wake_up("wake-up at rest", rest),
        wake_up("wake-up under load", busy),
        round_trip(context)?,
    ])
}

/// How late a thread of the control thread's priority wakes up.
fn lateness(context: &Context) -> Spread {
    let clock = &context.clock;
    let wakes = std::thread::scope(|scope| {
        let measure = scope.spawn(|| {
            crate::os::become_realtime(crate::os::Priority::Control);
            let origin = clock.now();
            let wake = |i| {
                let due = origin + PERIOD * i;
                clock.sleep_until(due);
                clock.now().since(due)
            };
            (1..=WAKES).map(wake).collect()
        });
        measure.join().unwrap_or_default()
    });
    Spread::of(wakes)
}

/// What is measured while every processor has something else to do.
fn beside_load<T>(measure: impl FnOnce() -> T) -> T {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                let mut number = 1u64;
                while !done.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005));
                }
            });
        }
        let measured = measure();
        done.store(true, Ordering::Relaxed);
        measured
    })
}

fn wake_up(name: &str, lateness: Spread) -> Check {
    let verdict = match lateness.p99_us {
        late if late > LATE_US[1] => Verdict::Problem,
        late if late > LATE_US[0] => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let mend = "grant real-time priority (above), use the performance governor, run less beside it";
    Check::new(name, verdict, format!("late by: {lateness}"), mend).with(lateness)
}

/// A ping of an emulated servo over a pseudo terminal: the way of the bytes of every serial port
/// through the system, without the wire.
fn round_trip(context: &Context) -> Result<Check> {
    const NAME: &str = "terminal round trip";
    let text = include_str!("../../../firmware-config/emulated.toml");
    let mut robot = RobotConfig::parse(text, Path::new("emulated.toml"))?;
    robot.bus.port = EMULATED.into();
    let line = Line::of(&robot, context)?;
    let mut bus = line.open()?;
    let clock: Arc<dyn Clock> = Arc::clone(&context.clock);
    let mut times = Vec::new();
    for _ in 0..PINGS {
        let begun = clock.now();
        if bus.ping(1, begun + Duration::from_millis(500)).is_ok() {
            times.push(clock.now().since(begun));
        }
    }
    if times.is_empty() {
        let found = "no answer of the built-in emulator came through";
        return Ok(Check::new(NAME, Verdict::Problem, found, "run less beside it, then try again"));
    }
    let spread = Spread::of(times);
    let verdict = if spread.p99_us > 1e4 { Verdict::Warning } else { Verdict::Ok };
    let mend = "the system hands serial bytes on too late: run less beside it";
    Ok(Check::new(NAME, verdict, spread.to_string(), mend).with(spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_counts_every_duration_once() {
        let times = (1..=1000).map(|i| Duration::from_micros(i * 20)).collect();
        let spread = Spread::of(times);
        assert_eq!((spread.p50_us, spread.p99_us, spread.max_us), (1e4, 19_800.0, 2e4));
        assert_eq!(spread.histogram.iter().map(|(_, count)| count).sum::<usize>(), 1000);
        assert_eq!(spread.histogram.first(), Some(&(Some(20.0), 1)));
        assert_eq!(spread.histogram.last(), Some(&(None, 500)));
    }

    #[test]
    fn late_wake_ups_are_warned_of_and_very_late_ones_a_problem() {
        for (ms, verdict) in [(0, Verdict::Ok), (1, Verdict::Warning), (6, Verdict::Problem)] {
            let check = wake_up("", Spread::of(vec![Duration::from_millis(ms); 10]));
            assert_eq!(check.verdict, verdict, "{check:?}");
        }
    }
}
