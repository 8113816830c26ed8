//! Optimisers as graph pieces.

use super::{Builder, Tensor, Value};

/// Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2) and clipping of the
/// gradient's norm. The learning rate is an input of the training graph, so that a schedule needs
/// no other graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean gradient.
    pub beta1: f32,
    /// Decay of the mean square gradient.
    pub beta2: f32,
    /// Added to the root mean square.
    pub epsilon: f32,
    /// Weight decay per step, times the learning rate.
    pub weight_decay: f32,
    /// The largest Euclidean norm of the whole gradient; `None` does not clip.
    pub clip_norm: Option<f32>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip_norm: None }
    }
}

/// What an update gives.
pub(crate) struct Update {
    /// The Euclidean norm of the gradient, before clipping.
    pub gradient_norm: Value,
    /// The new parameters.
    pub parameters: Value,
    /// The new state, in the order of [`AdamW::state`].
    pub state: Vec<Value>,
}

impl AdamW {
    /// The state for `count` parameters: mean, mean square, and the two sums of averaging weights.
    ///
    /// The sums `1 - beta^t` that correct the means' bias are carried instead of the step count:
    /// as `c <- beta c + (1 - beta)` they need no power, and every engine rounds them alike.
    pub(crate) fn state(count: usize) -> [(&'static str, Tensor); 3] {
        [
            ("mean", Tensor::zeros([count])),
            ("mean_square", Tensor::zeros([count])),
            ("weight_sums", Tensor::zeros([2])),
        ]
    }

    /// Appends one update of the flat vector `p` with gradient `g` and learning rate `lr`.
    pub(crate) fn update(
        &self,
        b: &mut Builder,
        p: Value,
        g: Value,
        lr: Value,
        state: &[Value],
    ) -> Option<Update> {
        let &[m, v, c] = state else { return None };
        let square = b.mul(g, g);
        let norm = b.reduce_sum(square, &[], false);
        let gradient_norm = b.sqrt(norm);
        let scale = self.clip_scale(b, gradient_norm);

        let m = average(b, m, g, self.beta1, scale);
        let scale_square = scale.map(|s| b.mul(s, s));
        let v = average(b, v, square, self.beta2, scale_square);
        let betas = b.constant(Tensor { dims: vec![2], data: vec![self.beta1, self.beta2] });
        let rests =
            b.constant(Tensor { dims: vec![2], data: vec![1.0 - self.beta1, 1.0 - self.beta2] });
        let decayed = b.mul(betas, c);
        let c = b.add(decayed, rests);

        // p - lr (m / c1) / (sqrt(v / c2) + eps) - lr decay p, with the scalars taken out of the
        // vectors: m / (sqrt(v) + eps sqrt(c2)) * (lr sqrt(c2) / c1).
        let (c1, c2) = (b.slice(c, 0, 0, 1), b.slice(c, 0, 1, 2));
        let root = b.sqrt(c2);
        let epsilon = b.scalar(self.epsilon);
        let epsilon = b.mul(epsilon, root);
        let rate = b.mul(lr, root);
        let rate = b.div(rate, c1);
        let rms = b.sqrt(v);
        let rms = b.add(rms, epsilon);
        let step = b.div(m, rms);
        let step = b.mul(step, rate);
        let p = self.decay(b, p, lr);
        Some(Update { gradient_norm, parameters: b.sub(p, step), state: vec![m, v, c] })
    }

    /// `min(1, limit / norm)`.
    fn clip_scale(&self, b: &mut Builder, norm: Value) -> Option<Value> {
        let limit = b.scalar(self.clip_norm?);
        let tiny = b.scalar(1e-6);
        let norm = b.add(norm, tiny);
        let ratio = b.div(limit, norm);
        let one = b.scalar(1.0);
        Some(b.min(ratio, one))
    }

    fn decay(&self, b: &mut Builder, p: Value, lr: Value) -> Value {
        if self.weight_decay == 0.0 {
            return p;
        }
        let (decay, one) = (b.scalar(self.weight_decay), b.scalar(1.0));
        let lost = b.mul(lr, decay);
        let kept = b.sub(one, lost);
        b.mul(p, kept)
    }
}

/// `beta old + (1 - beta) scale new`.
fn average(b: &mut Builder, old: Value, new: Value, beta: f32, scale: Option<Value>) -> Value {
    let (beta, rest) = (b.scalar(beta), b.scalar(1.0 - beta));
    let rest = scale.map_or(rest, |scale| b.mul(rest, scale));
    let old = b.mul(old, beta);
    let new = b.mul(new, rest);
    b.add(old, new)
}
