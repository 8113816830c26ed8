//! Proximal policy optimisation (Schulman et al. 2017, equation 7) with a critic.
//!
//! ```text
//! rho = pi_theta(a | s, g) / pi_old(a | s, g)
//! max over theta of E[ min(rho A, clip(rho, 1 - epsilon, 1 + epsilon) A) ] + c E[H(pi_theta)]
//! min over phi   of E[ (V_phi(s, g) - (A + V_old(s, g)))² ]
//! ```

use super::distribution::Distribution;
use super::reinforce;
use super::{GailSettings, rollouts::Rollouts};
use crate::engine::{Engine, Session};
use crate::learn::LearnError;
use crate::learn::network::{Init, Layers, Mlp};
use crate::learn::trained::Trained;
use crate::onnx::{AdamW, Builder, Dim, Value, Verified};
use crate::rng::Rng;

/// The clipped objective's loss; input `log_prob` `[N, 1]` beside REINFORCE's.
pub(super) fn loss(
    b: &mut Builder,
    pi: &Layers,
    distribution: Distribution,
    n: usize,
    settings: &GailSettings,
) -> Value {
    let batch = settings.minibatch;
    let [seen, action, advantage] = reinforce::inputs(b, n, distribution.width(), batch);
    let old = b.input("log_prob", &[Dim::Fixed(batch), Dim::Fixed(1)]);
    let [log_prob, entropy] = distribution.log_prob(b, pi, seen, action);
    let difference = b.sub(log_prob, old);
    let rho = b.exp(difference);
    let near = b.clip(rho, 1.0 - settings.clip, 1.0 + settings.clip);
    let (free, near) = (b.mul(rho, advantage), b.mul(near, advantage));
    let gain = b.min(free, near);
    let gain = b.reduce_mean(gain, &[], false);
    let c = b.scalar(settings.entropy);
    let bonus = b.mul(c, entropy);
    let sum = b.add(gain, bonus);
    b.neg(sum)
}

/// `V(s, g)`.
pub(super) struct Critic {
    pub network: Trained,
    session: Session,
}

impl Critic {
    pub fn new(
        engine: &Engine,
        settings: &GailSettings,
        n: usize,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let mlp = Mlp::new(n, &settings.hidden, 1, settings.activation);
        let gain = std::f32::consts::SQRT_2;
        let weights = mlp.draw(Init::Orthogonal { gain, last: 1.0 }, rng);
        let adam = AdamW { clip_norm: Some(settings.clip_norm), ..AdamW::default() };
        let loss = |b: &mut Builder, v: &Layers| {
            let mut rows = |name, size| b.input(name, &[Dim::Fixed(settings.minibatch), size]);
            let (seen, target) = (rows("seen", Dim::Fixed(n)), rows("target", Dim::Fixed(1)));
            let value = v.apply(b, seen);
            let off = b.sub(value, target);
            let squares = b.mul(off, off);
            b.reduce_mean(squares, &[], false)
        };
        let mut b = Builder::new();
        let seen = b.input("seen", &[Dim::Batch, Dim::Fixed(n)]);
        let layers = mlp.given(&mut b, "weights");
        let value = layers.apply(&mut b, seen);
        b.output("value", value);
        let session = engine.load(&Verified::try_from(b.finish()?)?)?;
        Ok(Self { network: Trained::new(engine, &mlp, weights, adam, loss)?, session })
    }

    /// `V` of rows `[N, n]`.
    fn values(&mut self, rows: &[f32]) -> Result<Vec<f32>, LearnError> {
        let weights = self.network.weights();
        let n = self.network.mlps()[0].inputs;
        let dims = [rows.len() / n, n];
        let inputs = [("seen", &dims[..], rows), ("weights", &[weights.len()], weights)];
        Ok(self.session.run(&inputs)?.swap_remove(0).data)
    }

    /// Advantages and targets of rollouts.
    pub fn judge(
        &mut self,
        rollouts: &Rollouts,
        rewards: &[f32],
        settings: &GailSettings,
    ) -> Result<(Vec<f32>, Vec<f32>), LearnError> {
        let values = self.values(&rollouts.seen)?;
        let last = self.values(&rollouts.last_seen)?;
        Ok(rollouts.advantages(rewards, &values, &last, [settings.gamma, settings.lambda]))
    }
}
