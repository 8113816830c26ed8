//! How late ticks begin and how long they take, as histograms.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::Times;

/// Bucket width (ns) and count: 10 µs up to 41 ms, what is longer counts in the last.
const WIDTH: u64 = 10_000;
const BUCKETS: usize = 4096;

/// A histogram of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    n: u64,
    sum: u64,
    max: u64,
    last: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], n: 0, sum: 0, max: 0, last: 0 }
    }
}

/// A histogram in three numbers (µs).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Longest.
    pub max: f64,
}

impl Quantiles {
    /// Those of a policy's answers.
    pub fn of(times: &Times) -> Self {
        let micros = |took: std::time::Duration| took.as_secs_f64() * 1e6;
        let [p50, p99] = [0.5, 0.99].map(|q| micros(times.quantile(q)));
        Self { p50, p99, max: micros(times.longest()) }
    }
}

impl Histogram {
    /// Counts a duration (ns).
    pub fn record(&mut self, nanos: u64) {
        let bucket = usize::try_from(nanos / WIDTH).unwrap_or(usize::MAX).min(BUCKETS - 1);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count = count.saturating_add(1);
        }
        self.n += 1;
        self.sum = self.sum.saturating_add(nanos);
        self.max = self.max.max(nanos);
        self.last = nanos;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum)
    }

    /// The one counted last.
    pub fn last(&self) -> Duration {
        Duration::from_nanos(self.last)
    }

    /// How many were shorter than this (ns, to 10 µs; less than 41 ms).
    pub fn at_most(&self, nanos: u64) -> u64 {
        let buckets = usize::try_from(nanos / WIDTH).unwrap_or(usize::MAX);
        self.counts.iter().take(buckets).map(|count| u64::from(*count)).sum()
    }

    /// Median, 99th percentile (both to 10 µs, rounded up) and maximum.
    pub fn quantiles(&self) -> Quantiles {
        Quantiles { p50: self.quantile(0.5), p99: self.quantile(0.99), max: self.max as f64 * 1e-3 }
    }

    /// This share of the durations is no longer than this (µs): to 10 µs, rounded up.
    pub fn quantile(&self, q: f64) -> f64 {
        let wanted = (q * self.n as f64).ceil() as u64;
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                let upper = (i as u64 + 1) * WIDTH;
                return upper.min(self.max) as f64 * 1e-3;
            }
        }
        self.max as f64 * 1e-3
    }
}

/// How punctual a loop is.
#[derive(Debug, Clone, Default)]
pub struct Jitter {
    /// From the scheduled to the real begin of a tick.
    pub lateness: Histogram,
    /// From a tick's begin to its end.
    pub duration: Histogram,
}

impl Jitter {
    /// Counts one tick (ns).
    pub fn record(&mut self, lateness: u64, duration: u64) {
        self.lateness.record(lateness);
        self.duration.record(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|i| histogram.record(i * 10_000 - 1));
        histogram.record(1_000_000_000);
        let found = histogram.quantiles();
        assert!((found.p50 - 5010.0).abs() < 11.0, "{found:?}");
        assert!((found.p99 - 9910.0).abs() < 11.0, "{found:?}");
        assert_eq!(found.max, 1e6);
        assert_eq!((histogram.count(), histogram.last()), (1001, Duration::from_secs(1)));
        assert_eq!([histogram.at_most(0), histogram.at_most(1_000_000)], [0, 100]);
        assert_eq!(histogram.sum().as_millis(), 6004);
    }
}
