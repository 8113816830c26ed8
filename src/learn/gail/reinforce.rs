//! REINFORCE, as on the slide (Williams, 1992): the return weighs the log-probabilities.
//!
//! ```text
//! grad J = E[ grad log pi_theta(a_t | s_t, g) Q_t ],   Q_t = sum_t' gamma^(t'-t) r_t'
//! ```
//!
//! `Q` is standardised over the rollouts, which takes a constant baseline away. There is no critic, so
//! nothing is known of what would follow the time limit.

use super::distribution::Distribution;
use super::rollouts::{Rollouts, standardised};
use crate::learn::network::Layers;
use crate::onnx::{Builder, Dim, Value};

/// Inputs of a step on the policy: `seen` `[N, n]`, `action` `[N, k]`, `advantage` `[N, 1]`.
pub(super) fn inputs(b: &mut Builder, n: usize, k: usize, batch: usize) -> [Value; 3] {
    let mut rows = |name, size| b.input(name, &[Dim::Fixed(batch), Dim::Fixed(size)]);
    [rows("seen", n), rows("action", k), rows("advantage", 1)]
}

/// `- E[log pi(a | s, g) Q]`.
pub(super) fn loss(
    b: &mut Builder,
    pi: &Layers,
    distribution: Distribution,
    n: usize,
    batch: usize,
) -> Value {
    let [seen, action, q] = inputs(b, n, distribution.width(), batch);
    let [log_prob, _] = distribution.log_prob(b, pi, seen, action);
    let gain = b.mul(log_prob, q);
    let gain = b.reduce_mean(gain, &[], false);
    b.neg(gain)
}

/// `Q`, standardised.
pub(super) fn returns(rollouts: &Rollouts, rewards: &[f32], gamma: f32) -> Vec<f32> {
    let zeros = vec![0.0; rollouts.len()];
    let last = vec![0.0; rollouts.episodes.len()];
    standardised(rollouts.advantages(rewards, &zeros, &last, [gamma, 1.0]).0)
}
