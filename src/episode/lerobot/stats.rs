//! A dataset's statistics as LeRobot defines them: per episode the moments of each number and
//! quantiles read off a histogram of 5000 bins between its extremes; over episodes the moments of
//! all frames, and quantiles averaged by the episodes' lengths.

use serde::{Deserialize, Serialize};

use super::table::{Column, Rows, Values};

const BINS: usize = 5000;
/// The quantiles' names and shares.
pub(super) const QUANTILES: [(&str, f64); 5] =
    [("q01", 0.01), ("q10", 0.10), ("q50", 0.50), ("q90", 0.90), ("q99", 0.99)];

/// The statistics of one feature: one number per component in each.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Stats {
    pub(super) min: Vec<f64>,
    pub(super) max: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) std: Vec<f64>,
    /// Frames.
    pub(super) count: [u64; 1],
    pub(super) q01: Vec<f64>,
    pub(super) q10: Vec<f64>,
    pub(super) q50: Vec<f64>,
    pub(super) q90: Vec<f64>,
    pub(super) q99: Vec<f64>,
}

impl Stats {
    /// Of an episode's column; `None` of texts, and where a number is missing (NaN) or there is none.
    pub(super) fn of(column: &Column) -> Option<Self> {
        let width = if let Rows::Width(width) = column.rows { width } else { 1 };
        let numbers: Vec<f64> = match &column.values {
            Values::Float(v) => v.iter().map(|x| f64::from(*x)).collect(),
            Values::Double(v) => v.clone(),
            Values::Int(v) => v.iter().map(|x| *x as f64).collect(),
            Values::Bool(v) => v.iter().map(|x| f64::from(u8::from(*x))).collect(),
            Values::Text(_) => return None,
        };
        if numbers.is_empty() || numbers.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mut stats = Self { count: [(numbers.len() / width) as u64], ..Self::default() };
        for i in 0..width {
            let values: Vec<f64> = numbers.iter().skip(i).step_by(width).copied().collect();
            stats.push(&values);
        }
        Some(stats)
    }

    fn push(&mut self, values: &[f64]) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        // Around the mean, so that a constant's is 0 and not what rounding leaves.
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.min.push(min);
        self.max.push(max);
        self.mean.push(mean);
        self.std.push(variance.sqrt());
        let counts = histogram(values, min, max);
        let quantile = |share| {
            if values.len() < 2 { mean } else { quantile(&counts, min, max, share * n) }
        };
        for (quantiles, (_, share)) in self.quantiles_mut().into_iter().zip(QUANTILES) {
            quantiles.push(quantile(share));
        }
    }

    fn quantiles_mut(&mut self) -> [&mut Vec<f64>; 5] {
        [&mut self.q01, &mut self.q10, &mut self.q50, &mut self.q90, &mut self.q99]
    }

    /// In the order of [`QUANTILES`].
    pub(super) fn quantiles(&self) -> [&Vec<f64>; 5] {
        [&self.q01, &self.q10, &self.q50, &self.q90, &self.q99]
    }

    /// Of all episodes together; they have the same components.
    pub(super) fn over(episodes: &[&Self]) -> Self {
        let total: u64 = episodes.iter().map(|stats| stats.count[0]).sum();
        let width = episodes.iter().map(|stats| stats.min.len()).min().unwrap_or(0);
        let weighted = |of: &dyn Fn(&Self) -> f64| {
            let sum: f64 = episodes.iter().map(|stats| of(stats) * stats.count[0] as f64).sum();
            sum / total as f64
        };
        let mut all = Self { count: [total], ..Self::default() };
        for i in 0..width {
            let at = |v: &Vec<f64>| v.get(i).copied().unwrap_or_default();
            let least = episodes.iter().map(|stats| at(&stats.min)).fold(f64::INFINITY, f64::min);
            let most =
                episodes.iter().map(|stats| at(&stats.max)).fold(f64::NEG_INFINITY, f64::max);
            let mean = weighted(&|stats| at(&stats.mean));
            let variance =
                weighted(&|stats| at(&stats.std).powi(2) + (at(&stats.mean) - mean).powi(2));
            all.min.push(least);
            all.max.push(most);
            all.mean.push(mean);
            all.std.push(variance.sqrt());
            for (k, quantiles) in all.quantiles_mut().into_iter().enumerate() {
                quantiles.push(weighted(&|stats| stats.quantiles().get(k).map_or(0.0, |q| at(q))));
            }
        }
        all
    }
}

/// How many values lie in each of the bins between the extremes; the last bin has the highest value.
fn histogram(values: &[f64], min: f64, max: f64) -> Vec<f64> {
    let mut counts = vec![0.0; BINS];
    let span = max - min;
    for value in values {
        let bin = if span > 0.0 { (value - min) / span * BINS as f64 } else { BINS as f64 };
        if let Some(count) = counts.get_mut((bin as usize).min(BINS - 1)) {
            *count += 1.0;
        }
    }
    counts
}

/// The value below which `target` values lie, straight between the edges of its bin.
fn quantile(counts: &[f64], min: f64, max: f64, target: f64) -> f64 {
    let edge = |i: usize| min + (max - min) * i as f64 / BINS as f64;
    let mut before = 0.0;
    for (i, count) in counts.iter().enumerate() {
        if before + count >= target {
            return if i == 0 || *count == 0.0 {
                edge(i)
            } else {
                edge(i) + (target - before) / count * (edge(i + 1) - edge(i))
            };
        }
        before += count;
    }
    max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_has_the_quantiles_of_a_ramp() {
        let ramp: Vec<f32> = (0..=1000).flat_map(|i| [i as f32, -2.0]).collect();
        let stats = Stats::of(&Column::new("x", Values::Float(ramp), 2)).unwrap();
        assert_eq!(
            (stats.min[0], stats.max[0], stats.mean[0], stats.count),
            (0.0, 1000.0, 500.0, [1001])
        );
        for (quantile, (name, share)) in stats.quantiles().into_iter().zip(QUANTILES) {
            assert!((quantile[0] - share * 1000.0).abs() < 1.0, "{name}: {quantile:?}");
            assert!((quantile[1] + 2.0).abs() < 1e-9, "{name}: {quantile:?}");
        }
        assert_eq!(stats.std[1], 0.0, "a constant does not vary");
    }

    #[test]
    fn two_halves_have_the_moments_of_the_whole() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i * i % 97)).collect();
        let of = |v: &[f64]| Stats::of(&Column::new("x", Values::Double(v.to_vec()), 1)).unwrap();
        let (whole, parts) =
            (of(&values), Stats::over(&[&of(&values[..120]), &of(&values[120..])]));
        assert!((whole.mean[0] - parts.mean[0]).abs() < 1e-9);
        assert!((whole.std[0] - parts.std[0]).abs() < 1e-9);
        assert_eq!((&whole.min, &whole.max, whole.count), (&parts.min, &parts.max, parts.count));
    }

    #[test]
    fn what_is_missing_has_no_statistics() {
        let of = |v| Stats::of(&Column::new("x", v, 1));
        assert!(
            of(Values::Float(vec![1.0, f32::NAN])).is_none() && of(Values::Int(vec![])).is_none()
        );
        assert!(of(Values::Text(vec!["a".into()])).is_none());
    }
}
