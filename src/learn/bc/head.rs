//! What a policy says of the demonstrated action: a density whose parameters a network puts out.
//!
//! ```text
//! fixed covariance    pi(a | s) = N(a; mu(s), 1)                    -log pi = ||a - mu||² / 2 + ..
//! learned covariance  pi(a | s) = N(a; mu(s), diag sigma(s)²)
//! categorical         pi(a | s) = softmax(y(s))_a
//! mixture             pi(a | s) = sum_m softmax(l(s))_m N(a; mu_m(s), diag sigma_m(s)²)
//! ```
//! Actions are in shares of the largest one, so that a deviation means the same on every robot.

use serde::{Deserialize, Serialize};

use crate::env::ActionSpace;
use crate::onnx::{BcLoss, Builder, OnnxError, Scale, Value};

/// A family of densities over actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Likelihood {
    /// A Gaussian of covariance 1: its likelihood is the squared error.
    FixedGaussian,
    /// A Gaussian whose deviations are learned, one for each number of the action.
    Gaussian,
    /// One probability for each choice.
    Categorical,
    /// A mixture of Gaussians, for experts that do one thing or another (Bishop, 1994).
    Mixture {
        /// How many.
        components: usize,
    },
}

/// `log sigma` stays between these: an expert without noise would drive it to minus infinity.
const LOG_STD: [f32; 2] = [-4.0, 1.0];

/// The last piece of a policy: from a network's numbers to a likelihood and to an action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Head {
    pub actions: ActionSpace,
    pub likelihood: Likelihood,
}

/// A head's numbers as the parameters of its density, in the order of [`BcLoss`].
enum Density {
    Mean(Value),
    Gaussian { mean: Value, log_std: Value },
    Logits(Value),
    Mixture { components: usize, logits: Value, means: Value, log_std: Value },
}

impl Head {
    /// The head of this likelihood; nothing when it is none over such actions.
    pub fn new(actions: ActionSpace, likelihood: Likelihood) -> Option<Self> {
        use Likelihood as L;
        let fits = match (actions, likelihood) {
            (ActionSpace::Discrete { .. }, L::Categorical) => true,
            (ActionSpace::Continuous { .. }, L::Mixture { components }) => components > 0,
            (ActionSpace::Continuous { .. }, L::FixedGaussian | L::Gaussian) => true,
            _ => false,
        };
        fits.then_some(Self { actions, likelihood })
    }

    /// How many numbers the network puts out.
    pub fn outputs(&self) -> usize {
        let a = self.actions.size();
        match (self.likelihood, self.actions) {
            (Likelihood::Categorical, ActionSpace::Discrete { choices }) => choices,
            (Likelihood::Gaussian, _) => 2 * a,
            (Likelihood::Mixture { components }, _) => components * (1 + 2 * a),
            _ => a,
        }
    }

    /// The negative logarithm of the likelihood of `target_action [batch, a]`, weighted by `weight
    /// [batch]`; both become inputs.
    pub fn loss(&self, b: &mut Builder, y: Value, batch: usize) -> Result<Value, OnnxError> {
        let (loss, outputs) = match self.density(b, y) {
            Density::Mean(mean) => (BcLoss::default(), vec![mean]),
            Density::Gaussian { mean, log_std } => {
                (BcLoss::Gaussian(Scale::LogStd), vec![mean, log_std])
            }
            Density::Logits(logits) => (BcLoss::Categorical, vec![logits]),
            Density::Mixture { logits, means, log_std, .. } => {
                (BcLoss::Mixture(Scale::LogStd), vec![logits, means, log_std])
            }
        };
        loss.append(b, &outputs, batch)
    }

    /// What is done: the mean, the mean of the most likely component, or the choices' scores.
    pub fn action(&self, b: &mut Builder, y: Value) -> Value {
        let mean = match self.density(b, y) {
            Density::Logits(scores) => return scores,
            Density::Mean(mean) | Density::Gaussian { mean, .. } => mean,
            Density::Mixture { components, logits, means, .. } => {
                most_likely(b, components, logits, means)
            }
        };
        let limit = b.scalar(self.limit());
        b.mul(mean, limit)
    }

    /// Writes an action as the loss wants it.
    pub fn target(&self, action: &[f32], out: &mut Vec<f32>) {
        out.extend(action.iter().map(|x| x / self.limit()));
    }

    fn limit(&self) -> f32 {
        match self.actions {
            ActionSpace::Continuous { limit, .. } => limit,
            ActionSpace::Discrete { .. } => 1.0,
        }
    }

    fn density(&self, b: &mut Builder, y: Value) -> Density {
        let a = self.actions.size() as i64;
        match self.likelihood {
            Likelihood::FixedGaussian => Density::Mean(y),
            Likelihood::Categorical => Density::Logits(y),
            Likelihood::Gaussian => {
                let (mean, width) = (b.slice(y, 1, 0, a), b.slice(y, 1, a, 2 * a));
                Density::Gaussian { mean, log_std: log_std(b, width) }
            }
            Likelihood::Mixture { components } => {
                let k = components as i64;
                let logits = b.slice(y, 1, 0, k);
                let (means, widths) =
                    (b.slice(y, 1, k, k + k * a), b.slice(y, 1, k + k * a, k + 2 * k * a));
                let log_std = log_std(b, widths);
                let means = b.reshape(means, &[-1, k, a]);
                let log_std = b.reshape(log_std, &[-1, k, a]);
                Density::Mixture { components, logits, means, log_std }
            }
        }
    }
}

/// A number of the network brought between the limits, smoothly: it never stops learning there.
fn log_std(b: &mut Builder, x: Value) -> Value {
    let share = b.sigmoid(x);
    let (low, span) = (b.scalar(LOG_STD[0]), b.scalar(LOG_STD[1] - LOG_STD[0]));
    let above = b.mul(share, span);
    b.add(above, low)
}

/// The mean `[N, a]` of the component with the largest logit, of `[N, k]` and `[N, k, a]`.
fn most_likely(b: &mut Builder, components: usize, logits: Value, means: Value) -> Value {
    let largest = b.reduce_max(logits, &[1], true);
    let chosen = b.equal(logits, largest);
    let chosen = b.to_f32(chosen);
    // Equal logits share.
    let count = b.reduce_sum(chosen, &[1], true);
    let share = b.div(chosen, count);
    let share = b.reshape(share, &[-1, components as i64, 1]);
    let picked = b.mul(means, share);
    b.reduce_sum(picked, &[1], false)
}
