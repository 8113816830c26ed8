//! Optimisers as graph pieces.

mod fused;

pub(crate) use fused::DOMAIN;

use super::{Builder, Tensor, Value};

/// How parameters follow their gradient. The learning rate is an input of the training graph, so
/// that a schedule needs no other graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimiser {
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Gradient descent with momentum.
    Sgd(Sgd),
}

/// Adam with decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 2) and clipping of the
/// gradient's norm.
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
    /// Decay of the moving average of the parameters; `None` keeps none.
    pub ema: Option<f32>,
}

impl Default for AdamW {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: None,
            ema: None,
        }
    }
}

/// Gradient descent with momentum, in the form of Sutskever et al. (2013) that PyTorch uses
/// (`u <- momentum u + g`, `p <- p - lr u`, with Nesterov's `p <- p - lr (g + momentum u)`), and with
/// decoupled weight decay (Loshchilov & Hutter, 2019, algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Decay of the velocity; 0 is plain descent, which keeps no state.
    pub momentum: f32,
    /// Whether a step looks ahead along the velocity.
    pub nesterov: bool,
    /// Weight decay per step, times the learning rate.
    pub weight_decay: f32,
    /// The largest Euclidean norm of the whole gradient; `None` does not clip.
    pub clip_norm: Option<f32>,
    /// Decay of the moving average of the parameters; `None` keeps none.
    pub ema: Option<f32>,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.9, nesterov: false, weight_decay: 0.0, clip_norm: None, ema: None }
    }
}

/// [`AdamW`]'s.
impl Default for Optimiser {
    fn default() -> Self {
        Self::AdamW(AdamW::default())
    }
}

macro_rules! variant {
    ($($kind:ident),*) => {
        $(
            impl From<$kind> for Optimiser {
                fn from(optimiser: $kind) -> Self {
                    Self::$kind(optimiser)
                }
            }
            impl From<&$kind> for Optimiser {
                fn from(optimiser: &$kind) -> Self {
                    Self::$kind(*optimiser)
                }
            }
        )*
    };
}

variant!(AdamW, Sgd);

impl From<&Self> for Optimiser {
    fn from(optimiser: &Self) -> Self {
        *optimiser
    }
}

/// What an update gives.
pub(crate) struct Update {
    /// The Euclidean norm of the gradient, before clipping.
    pub gradient_norm: Value,
    /// The new parameters.
    pub parameters: Value,
    /// The new state, in the order of [`Optimiser::state`].
    pub state: Vec<Value>,
}

/// The name of the averaged parameters among the state.
pub(crate) const AVERAGE: &str = "average";

/// Added to the norm before it divides.
pub(crate) const TINY_NORM: f32 = 1e-6;

impl Optimiser {
    /// The state for these flat parameters besides themselves. Adam: mean, mean square, and the two
    /// sums of averaging weights; descent: the velocity; last the moving average.
    ///
    /// The sums `1 - beta^t` that correct the means' bias are carried instead of the step count:
    /// as `c <- beta c + (1 - beta)` they need no power, and every engine rounds them alike.
    pub(crate) fn state(&self, parameters: &Tensor) -> Vec<(&'static str, Tensor)> {
        let zeros = || Tensor::zeros([parameters.data.len()]);
        let mut state = match self {
            Self::AdamW(_) => vec![
                ("mean", zeros()),
                ("mean_square", zeros()),
                ("weight_sums", Tensor::zeros([2])),
            ],
            Self::Sgd(sgd) if sgd.momentum == 0.0 => vec![],
            Self::Sgd(_) => vec![("velocity", zeros())],
        };
        state.extend(self.ema().map(|_| (AVERAGE, parameters.clone())));
        state
    }

    /// How many tensors [`Optimiser::state`] has.
    pub(crate) fn states(&self) -> usize {
        let own = match self {
            Self::AdamW(_) => 3,
            Self::Sgd(sgd) => usize::from(sgd.momentum != 0.0),
        };
        own + usize::from(self.ema().is_some())
    }

    /// Decay of the moving average of the parameters.
    pub fn ema(&self) -> Option<f32> {
        match self {
            Self::AdamW(adam) => adam.ema,
            Self::Sgd(sgd) => sgd.ema,
        }
    }

    /// Weight decay per step, times the learning rate.
    pub fn weight_decay(&self) -> f32 {
        match self {
            Self::AdamW(adam) => adam.weight_decay,
            Self::Sgd(sgd) => sgd.weight_decay,
        }
    }

    /// The largest norm of the gradient.
    pub fn clip_norm(&self) -> Option<f32> {
        match self {
            Self::AdamW(adam) => adam.clip_norm,
            Self::Sgd(sgd) => sgd.clip_norm,
        }
    }

    /// Appends one update of the flat vector `p` with gradient `g` and learning rate `lr`; `None`
    /// when `state` is not that of [`Optimiser::state`].
    pub(crate) fn update(
        &self,
        b: &mut Builder,
        p: Value,
        g: Value,
        lr: Value,
        state: &[Value],
    ) -> Option<Update> {
        let square = b.mul(g, g);
        let norm = b.reduce_sum(square, &[], false);
        let gradient_norm = b.sqrt(norm);
        let scale = self.clip_norm().map(|limit| clip_scale(b, gradient_norm, limit));
        let (own, averages) = match (self.ema(), state) {
            (Some(_), [own @ .., average]) => (own, Some(*average)),
            (Some(_), []) => return None,
            (None, own) => (own, None),
        };
        let (step, mut state) = match self {
            Self::AdamW(adam) => adam.step(b, Gradient { g, square, scale }, lr, own)?,
            Self::Sgd(sgd) => sgd.step(b, g, scale, lr, own)?,
        };
        let kept = decay(b, p, lr, self.weight_decay());
        let parameters = b.sub(kept, step);
        if let (Some(decay), Some(old)) = (self.ema(), averages) {
            state.push(average(b, old, parameters, decay, None));
        }
        Some(Update { gradient_norm, parameters, state })
    }
}

struct Gradient {
    g: Value,
    square: Value,
    scale: Option<Value>,
}

impl AdamW {
    /// `lr (m / c1) / (sqrt(v / c2) + eps)`, with the scalars taken out of the vectors:
    /// `m / (sqrt(v) + eps sqrt(c2)) * (lr sqrt(c2) / c1)`.
    fn step(
        &self,
        b: &mut Builder,
        gradient: Gradient,
        lr: Value,
        state: &[Value],
    ) -> Option<(Value, Vec<Value>)> {
        let &[m, v, c] = state else { return None };
        let Gradient { g, square, scale } = gradient;
        let m = average(b, m, g, self.beta1, scale);
        let scale_square = scale.map(|s| b.mul(s, s));
        let v = average(b, v, square, self.beta2, scale_square);
        let betas = b.constant(Tensor { dims: vec![2], data: vec![self.beta1, self.beta2] });
        let rests =
            b.constant(Tensor { dims: vec![2], data: vec![1.0 - self.beta1, 1.0 - self.beta2] });
        let decayed = b.mul(betas, c);
        let c = b.add(decayed, rests);

        let (c1, c2) = (b.slice(c, 0, 0, 1), b.slice(c, 0, 1, 2));
        let root = b.sqrt(c2);
        let epsilon = b.scalar(self.epsilon);
        let epsilon = b.mul(epsilon, root);
        let rate = b.mul(lr, root);
        let rate = b.div(rate, c1);
        let rms = b.sqrt(v);
        let rms = b.add(rms, epsilon);
        let step = b.div(m, rms);
        Some((b.mul(step, rate), vec![m, v, c]))
    }
}

impl Sgd {
    fn step(
        &self,
        b: &mut Builder,
        g: Value,
        scale: Option<Value>,
        lr: Value,
        state: &[Value],
    ) -> Option<(Value, Vec<Value>)> {
        let g = scale.map_or(g, |scale| b.mul(g, scale));
        let (direction, state) = match state {
            [] if self.momentum == 0.0 => (g, vec![]),
            &[velocity] => {
                let momentum = b.scalar(self.momentum);
                let kept = b.mul(velocity, momentum);
                let velocity = b.add(kept, g);
                let ahead = |b: &mut Builder| {
                    let further = b.mul(velocity, momentum);
                    b.add(g, further)
                };
                (if self.nesterov { ahead(b) } else { velocity }, vec![velocity])
            }
            _ => return None,
        };
        Some((b.mul(direction, lr), state))
    }
}

/// `min(1, limit / norm)`.
fn clip_scale(b: &mut Builder, norm: Value, limit: f32) -> Value {
    let (limit, tiny, one) = (b.scalar(limit), b.scalar(TINY_NORM), b.scalar(1.0));
    let norm = b.add(norm, tiny);
    let ratio = b.div(limit, norm);
    b.min(ratio, one)
}

/// `p (1 - lr decay)`.
fn decay(b: &mut Builder, p: Value, lr: Value, decay: f32) -> Value {
    if decay == 0.0 {
        return p;
    }
    let (decay, one) = (b.scalar(decay), b.scalar(1.0));
    let lost = b.mul(lr, decay);
    let kept = b.sub(one, lost);
    b.mul(p, kept)
}

/// `beta old + (1 - beta) scale new`.
fn average(b: &mut Builder, old: Value, new: Value, beta: f32, scale: Option<Value>) -> Value {
    let (beta, rest) = (b.scalar(beta), b.scalar(1.0 - beta));
    let rest = scale.map_or(rest, |scale| b.mul(rest, scale));
    let old = b.mul(old, beta);
    let new = b.mul(new, rest);
    b.add(old, new)
}
