//! How long actions take: a histogram of fixed size.

use std::time::Duration;

/// Buckets in a doubling of time, and doublings: 1 ns to 18 minutes.
const PARTS: usize = 8;
const DOUBLINGS: usize = 40;

/// Durations counted in buckets whose width is an eighth of their octave, so that a quantile is at
/// most an eighth too long. Counting allocates nothing.
#[derive(Debug, Clone)]
pub struct Times {
    counts: [u32; PARTS * DOUBLINGS],
    n: u64,
    max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; PARTS * DOUBLINGS], n: 0, max: Duration::ZERO }
    }
}

impl Times {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let octave = nanos.ilog2() as usize;
        // The three bits below the leading one.
        let part = (nanos << (63 - octave) >> 60) as usize & (PARTS - 1);
        let last = self.counts.len() - 1;
        if let Some(count) = self.counts.get_mut((octave * PARTS + part).min(last)) {
            *count = count.saturating_add(1);
        }
        self.n += 1;
        self.max = self.max.max(took);
    }

    /// Durations counted.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The upper end of the bucket that holds quantile `q` (0.5: the median); zero when nothing was
    /// counted.
    pub fn quantile(&self, q: f64) -> Duration {
        let wanted = (q * self.n as f64).ceil() as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted.max(1)
        });
        let upper = |bucket: usize| {
            let (octave, part) = (bucket / PARTS, (bucket % PARTS) as u64);
            // 2^octave (1 + (part + 1) / 8)
            Duration::from_nanos((PARTS as u64 + part + 1) << octave >> PARTS.ilog2())
        };
        bucket.map_or(self.max, |bucket| upper(bucket).min(self.max))
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            f,
            "{} actions: p50 {:.1} us, p99 {:.1} us, max {:.1} us",
            self.n,
            us(self.quantile(0.5)),
            us(self.quantile(0.99)),
            us(self.max)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_an_eighth_too_long() {
        let mut times = Times::default();
        assert_eq!(times.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|us| times.record(Duration::from_micros(us)));
        times.record(Duration::from_secs(100_000));
        for (q, us) in [(0.1, 100.0), (0.5, 500.0), (0.99, 990.0)] {
            let found = times.quantile(q).as_secs_f64() * 1e6;
            assert!((us..=us * 1.125 + 1.0).contains(&found), "{q}: {found}");
        }
        assert_eq!(times.quantile(1.0), Duration::from_secs(100_000).min(times.max()));
        assert_eq!((times.count(), times.max()), (1001, Duration::from_secs(100_000)));
    }
}
