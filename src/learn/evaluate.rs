//! Success rates with their intervals.

use serde::{Deserialize, Serialize};

/// A success rate over `n` trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Successes.
    pub successes: usize,
    /// Trials.
    pub n: usize,
}

impl Rate {
    /// Successes per trial; 0 without trials.
    pub fn value(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.successes as f64 / self.n as f64 }
    }

    /// The 95 % interval of the rate (Wilson, 1927).
    pub fn wilson(self) -> (f64, f64) {
        const Z: f64 = 1.959_963_984_540_054;
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.n as f64, self.value());
        let denominator = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / denominator;
        let half = Z / denominator * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.wilson();
        write!(f, "{:.1} % [{:.1}, {:.1}]", 100.0 * self.value(), 100.0 * low, 100.0 * high)
    }
}

/// The middle value; nothing of nothing.
pub fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    let n = values.len();
    if n == 0 {
        return None;
    }
    Some(if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263 and 0 of 20.
    #[test]
    fn the_interval_is_the_published_one() {
        for (rate, expected) in [
            (Rate { successes: 81, n: 263 }, (0.2553, 0.3662)),
            (Rate { successes: 0, n: 20 }, (0.0, 0.1611)),
        ] {
            let (low, high) = rate.wilson();
            assert!((low - expected.0).abs() < 1e-4 && (high - expected.1).abs() < 1e-4, "{rate}");
        }
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
