//! Noise that makes attempts differ from each other.

use crate::rng::{Rng, normal};

/// Noise that explores while it stays smooth (Ornstein and Uhlenbeck, 1930): stationary, in units of
/// the largest action.
#[derive(Debug, Clone)]
pub struct Exploration {
    sigma: f64,
    theta: f64,
    state: Vec<f64>,
}

impl Exploration {
    /// Noise of this stationary deviation that forgets a share `theta` of itself each tick.
    pub fn new(sigma: f64, theta: f64, size: usize, rng: &mut Rng) -> Self {
        let state = (0..size).map(|_| sigma * normal(rng)).collect();
        Self { sigma, theta, state }
    }

    /// Adds the noise to an action whose largest value is `unit`, and moves on.
    pub fn disturb(&mut self, action: &mut [f32], unit: f32, rng: &mut Rng) {
        let keep = 1.0 - self.theta;
        let fresh = self.sigma * (1.0 - keep * keep).sqrt();
        for (action, state) in action.iter_mut().zip(&mut self.state) {
            *action = (*action + unit * *state as f32).clamp(-unit, unit);
            *state = keep * *state + fresh * normal(rng);
        }
    }
}
