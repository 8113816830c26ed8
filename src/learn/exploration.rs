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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, stream};

    #[test]
    fn the_noise_keeps_its_deviation_is_smooth_and_never_leaves_the_largest_action() {
        let mut rng = stream(1, Stream::Exploration);
        let (n, mut noise) = (200_000, Exploration::new(0.1, 0.05, 1, &mut rng));
        let draws: Vec<f64> = (0..n)
            .map(|_| {
                let mut action = [0.0f32];
                noise.disturb(&mut action, 2.0, &mut rng);
                f64::from(action[0])
            })
            .collect();
        let moment = |lag: usize| {
            draws.iter().zip(&draws[lag..]).map(|(a, b)| a * b).sum::<f64>() / (n - lag) as f64
        };
        let deviation = moment(0).sqrt();
        assert!((deviation - 0.2).abs() < 0.02, "{deviation}");
        assert!((moment(1) / moment(0) - 0.95).abs() < 0.01, "{}", moment(1) / moment(0));
        let mut large = [5.0f32];
        noise.disturb(&mut large, 2.0, &mut rng);
        assert_eq!(large, [2.0]);
    }
}
