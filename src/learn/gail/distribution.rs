//! What a stochastic policy's network says of actions.

use rand::RngExt as _;

use crate::env::ActionSpace;
use crate::learn::network::{Activation, Layers, Mlp};
use crate::onnx::{Builder, Value};
use crate::rng::{Rng, normal};

/// `log(2 pi) / 2`.
const LOG_ROOT_TAU: f32 = 0.918_938_5;

/// Over choices: the softmax of the network's outputs. Over numbers: independent Gaussians around
/// them, with standard deviations that do not depend on what is seen, in units of the largest action.
///
/// An action is a row `[k]`: for choices their one-hot code, else the numbers in those units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distribution(pub ActionSpace);

impl Distribution {
    /// `k`, and the network's outputs.
    pub fn width(self) -> usize {
        match self.0 {
            ActionSpace::Continuous { size, .. } => size,
            ActionSpace::Discrete { choices } => choices,
        }
    }

    /// The network of these hidden layers; the logarithms of the deviations stand beside it.
    pub fn mlp(self, inputs: usize, hidden: &[usize], activation: Activation) -> Mlp {
        let free = match self.0 {
            ActionSpace::Continuous { size, .. } => size,
            ActionSpace::Discrete { .. } => 0,
        };
        Mlp { free, ..Mlp::new(inputs, hidden, self.width(), activation) }
    }

    /// `log pi(a | x)` `[N, 1]` of actions `[N, k]`, and the mean entropy, a scalar.
    pub fn log_prob(self, b: &mut Builder, pi: &Layers, x: Value, a: Value) -> [Value; 2] {
        let y = pi.apply(b, x);
        match pi.free() {
            Some(log_std) => gaussian(b, y, log_std, a),
            None => categorical(b, y, a),
        }
    }

    /// Draws an action `[k]` from the network's outputs, and gives `log pi(a | x)`.
    pub fn sample(self, y: &[f32], log_std: &[f32], rng: &mut Rng, action: &mut [f32]) -> f32 {
        match self.0 {
            ActionSpace::Discrete { .. } => {
                let largest = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = y.iter().map(|y| (y - largest).exp()).sum();
                let mut left = rng.random::<f32>() * sum;
                let chosen = y.iter().position(|y| {
                    left -= (y - largest).exp();
                    left < 0.0
                });
                let chosen = chosen.unwrap_or(y.len() - 1);
                action.fill(0.0);
                action[chosen] = 1.0;
                y[chosen] - largest - sum.ln()
            }
            ActionSpace::Continuous { .. } => {
                let mut log_prob = 0.0;
                for ((action, mean), log_std) in action.iter_mut().zip(y).zip(log_std) {
                    let z = normal(rng) as f32;
                    *action = mean + log_std.exp() * z;
                    log_prob -= 0.5 * z * z + log_std + LOG_ROOT_TAU;
                }
                log_prob
            }
        }
    }

    /// The environment's action for a row.
    pub fn action(self, row: &[f32], action: &mut [f32]) {
        match self.0 {
            ActionSpace::Discrete { .. } => {
                let chosen = row.iter().position(|x| *x > 0.0).unwrap_or(0);
                action.fill(chosen as f32);
            }
            ActionSpace::Continuous { limit, .. } => {
                for (action, x) in action.iter_mut().zip(row) {
                    *action = limit * x.clamp(-1.0, 1.0);
                }
            }
        }
    }

    /// Appends the row of an environment's action, which lies within its limits.
    pub fn row(self, action: &[f32], row: &mut Vec<f32>) {
        match self.0 {
            ActionSpace::Discrete { choices } => {
                let is = |choice| if action == [choice as f32] { 1.0 } else { 0.0 };
                row.extend((0..choices).map(is));
            }
            ActionSpace::Continuous { limit, .. } => {
                row.extend(action.iter().map(|a| (a / limit).clamp(-1.0, 1.0)));
            }
        }
    }
}

/// `log p_a` and `- sum_c p_c log p_c` with `p = softmax(y)`.
fn categorical(b: &mut Builder, y: Value, a: Value) -> [Value; 2] {
    let log_p = b.op("LogSoftmax", &[y], vec![]);
    let chosen = b.mul(a, log_p);
    let chosen = b.reduce_sum(chosen, &[1], true);
    let p = b.exp(log_p);
    let parts = b.mul(p, log_p);
    let parts = b.reduce_sum(parts, &[1], false);
    let mean = b.reduce_mean(parts, &[], false);
    [chosen, b.neg(mean)]
}

/// `- sum_j (z_j² / 2 + log s_j + log(2 pi) / 2)` with `z = (a - y) / s`, and
/// `sum_j (log s_j + log(2 pi e) / 2)`.
fn gaussian(b: &mut Builder, y: Value, log_std: Value, a: Value) -> [Value; 2] {
    let (off, minus) = (b.sub(a, y), b.neg(log_std));
    let narrow = b.exp(minus);
    let z = b.mul(off, narrow);
    let (squares, half, constant) = (b.mul(z, z), b.scalar(0.5), b.scalar(LOG_ROOT_TAU));
    let halves = b.mul(squares, half);
    let width = b.add(log_std, constant);
    let surprise = b.add(halves, width);
    let surprise = b.reduce_sum(surprise, &[1], true);
    let entropy = b.add(width, half);
    [b.neg(surprise), b.reduce_sum(entropy, &[], false)]
}
