//! How long actions take, as a histogram that one thread writes while others read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Each doubling of the time has this many buckets, so a quantile is at most an eighth too long.
const PER_OCTAVE: u32 = 8;
/// Up to 2^40 ns, 18 minutes; what is longer counts in the last.
const BUCKETS: usize = 38 * PER_OCTAVE as usize;

/// What one action costs, batch 1, one thread (µs).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// How often it was measured.
    pub runs: u64,
    /// The median.
    pub p50_us: f64,
    /// 99 of 100 take no longer.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Cost {
    /// What was measured.
    pub fn of(times: &Times) -> Self {
        let micros = |took: Duration| took.as_secs_f64() * 1e6;
        Self {
            runs: times.count(),
            p50_us: micros(times.quantile(0.5)),
            p99_us: micros(times.quantile(0.99)),
            max_us: micros(times.longest()),
        }
    }
}

/// A histogram of durations with logarithmic buckets; fixed in size and without a lock.
pub struct Times {
    counts: [AtomicU32; BUCKETS],
    longest: AtomicU64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [const { AtomicU32::new(0) }; BUCKETS], longest: AtomicU64::new(0) }
    }
}

impl Times {
    /// Counts a duration.
    pub fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get(bucket(nanos)) {
            count.fetch_add(1, Relaxed);
        }
        self.longest.fetch_max(nanos, Relaxed);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| u64::from(c.load(Relaxed))).sum()
    }

    /// The duration that a share `q` of all does not exceed, rounded up to its bucket's end.
    pub fn quantile(&self, q: f64) -> Duration {
        let wanted = (q * self.count() as f64).ceil() as u64;
        let mut seen = 0;
        // The last bucket has no end.
        for (i, count) in self.counts.iter().enumerate().take(BUCKETS - 1) {
            seen += u64::from(count.load(Relaxed));
            if seen >= wanted {
                return Duration::from_nanos(end_of(i)).min(self.longest());
            }
        }
        self.longest()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Relaxed))
    }
}

/// Below 8 ns one bucket a nanosecond; above, the leading 1 and the 3 bits after it.
fn bucket(nanos: u64) -> usize {
    let octave = (nanos | (u64::from(PER_OCTAVE) - 1)).ilog2().saturating_sub(2);
    let bits = nanos >> octave.saturating_sub(1);
    let within = if octave == 0 { bits } else { bits - u64::from(PER_OCTAVE) };
    (octave as usize * PER_OCTAVE as usize + within as usize).min(BUCKETS - 1)
}

/// The longest duration (ns) of a bucket.
fn end_of(bucket: usize) -> u64 {
    let (octave, within) = (bucket as u64 / 8, bucket as u64 % 8);
    if octave == 0 { within } else { ((within + 9) << (octave - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_the_bucket_that_ends_next_and_within_an_eighth_of_it() {
        let mut before = 0;
        for nanos in (0..100_000).chain((17..39).map(|n| (1 << n) + 12_345)) {
            let (i, end) = (bucket(nanos), end_of(bucket(nanos)));
            assert!(i >= before && nanos <= end && end <= nanos + nanos / 8, "{nanos}: {i} {end}");
            assert!(i == 0 || end_of(i - 1) < nanos, "{nanos}");
            before = i;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_recorded_values() {
        let times = Times::default();
        assert_eq!(times.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|i| times.record(Duration::from_micros(i)));
        for (q, exact) in [(0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = times.quantile(q).as_micros();
            assert!((exact..=exact * 9 / 8).contains(&found), "{q}: {found}");
        }
        assert_eq!((times.count(), times.longest()), (1000, Duration::from_millis(1)));
        times.record(Duration::from_secs(100_000));
        assert_eq!(times.quantile(1.0), Duration::from_secs(100_000));
    }
}
