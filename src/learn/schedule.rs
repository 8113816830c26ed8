//! Learning rates over a training: the rate is an input of the training step, so a schedule needs no
//! other graph.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Not at all.
    Constant,
    /// Along a line.
    Linear,
    /// Along half a cosine (Loshchilov & Hutter, 2017, without restarts).
    #[default]
    Cosine,
}

/// A learning rate for each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// The largest rate, reached at the end of the warm-up.
    pub peak: f64,
    /// How it falls after that.
    pub shape: Shape,
    /// Steps over which it first rises along a line.
    pub warmup: usize,
    /// What is left at the last step, as a share of the peak; a constant rate ignores it.
    pub floor: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { peak: 1e-3, shape: Shape::default(), warmup: 0, floor: 0.02 }
    }
}

impl Schedule {
    /// The rate of step `step` of `steps`, counted from 1.
    pub fn at(&self, step: usize, steps: usize) -> f32 {
        if step <= self.warmup {
            return (self.peak * step as f64 / self.warmup as f64) as f32;
        }
        let falling = steps.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / falling as f64).min(1.0);
        let left = match self.shape {
            Shape::Constant => return self.peak as f32,
            Shape::Linear => 1.0 - done,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        (self.peak * (self.floor + (1.0 - self.floor) * left)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, warmup: usize) -> Vec<f32> {
        let schedule = Schedule { peak: 1.0, shape, warmup, floor: 0.1 };
        (1..=10).map(|step| schedule.at(step, 10)).collect()
    }

    #[test]
    fn every_shape_rises_to_the_peak_in_the_warm_up_and_ends_at_its_floor() {
        for (shape, last) in [(Shape::Constant, 1.0), (Shape::Linear, 0.1), (Shape::Cosine, 0.1)] {
            let rates = rates(shape, 4);
            assert_eq!(rates[..4], [0.25, 0.5, 0.75, 1.0], "{shape:?}");
            assert!((rates[9] - last).abs() < 1e-6, "{shape:?}: {rates:?}");
            assert!(rates[3..].is_sorted_by(|a, b| a >= b), "{shape:?}: {rates:?}");
        }
    }

    #[test]
    fn half_of_a_fall_is_half_way_down() {
        for shape in [Shape::Linear, Shape::Cosine] {
            assert!((rates(shape, 0)[4] - 0.55).abs() < 1e-6, "{shape:?}");
        }
    }

    #[test]
    fn a_training_shorter_than_its_warm_up_never_leaves_it() {
        let schedule = Schedule { peak: 1.0, warmup: 100, ..Schedule::default() };
        assert_eq!(schedule.at(10, 10), 0.1);
    }
}
