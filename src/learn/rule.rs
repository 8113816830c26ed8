//! Which rule moves the parameters of a cloned policy.

use serde::{Deserialize, Serialize};

use crate::onnx::{AdamW, Optimiser, Sgd};

/// The rule; the learning rate, weight decay and clipping are the method's.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Rule {
    /// [`AdamW`] with its usual decays: steps do not depend on the gradient's scale.
    #[default]
    AdamW,
    /// [`Sgd`]: steps are as large as the gradient.
    Sgd {
        /// Decay of the velocity, 0 for none.
        momentum: f64,
        /// Whether a step looks ahead along the velocity.
        nesterov: bool,
    },
}

impl Rule {
    /// The optimiser of a loss that is written in `unit`s while `weight_decay` and `clip_norm` are
    /// meant for the loss divided by it; `ema` is the decay of the parameters' moving average.
    pub(super) fn optimiser(
        self,
        unit: f32,
        weight_decay: f64,
        clip_norm: f64,
        ema: Option<f64>,
    ) -> Optimiser {
        // Decay is a share of the learning rate.
        let weight_decay = weight_decay as f32 / self.rate(unit);
        let clip_norm = Some(clip_norm as f32 * unit);
        let ema = ema.map(|decay| decay as f32);
        match self {
            Self::AdamW => AdamW { weight_decay, clip_norm, ema, ..AdamW::default() }.into(),
            Self::Sgd { momentum, nesterov } => {
                Sgd { momentum: momentum as f32, nesterov, weight_decay, clip_norm, ema }.into()
            }
        }
    }

    /// What a learning rate is multiplied by, so that it too is one for the loss divided by `unit`.
    pub(super) fn rate(self, unit: f32) -> f32 {
        match self {
            Self::AdamW => 1.0,
            Self::Sgd { .. } => 1.0 / unit,
        }
    }
}
