//! DQN: the value of each choice (Mnih et al. 2015), on universal values.
//!
//! ```text
//! y    <- clip(r + gamma (1 - success) max_a' Q'(s', g, a'))
//! phi  <- min  mean (Q_phi(s, g, a) - y)²
//! ```
//!
//! With `double` the online network chooses `a'` and the target network says what it is worth (van
//! Hasselt et al. 2016).

use serde::{Deserialize, Serialize};

use super::OffPolicy;
use super::task::{Task, squared_error};
use crate::engine::Engine;
use crate::goal::Transitions;
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::Figures;
use crate::learn::network::{Activation, Init, Layers, Mlp};
use crate::learn::normalizer;
use crate::learn::trained::{Trained, follow};
use crate::onnx::{AdamW, Builder, Graph, Value};
use crate::rng::Rng;

/// Settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DqnSettings {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Learning rate.
    pub lr: f32,
    /// Whether the online network chooses the next action.
    pub double: bool,
}

impl Default for DqnSettings {
    fn default() -> Self {
        Self { hidden: vec![256], lr: 1e-3, double: true }
    }
}

/// Values of all choices, and their target.
pub struct Dqn {
    lr: f32,
    double: bool,
    task: Task,
    choices: usize,
    critic: Trained,
    target: Vec<f32>,
    /// The choices made, one-hot, `[B, choices]`.
    chosen: Vec<f32>,
}

impl Dqn {
    /// A learner of a task.
    ///
    /// # Errors
    /// The environment's actions are no choices, or the engine cannot run the step.
    pub(super) fn new(
        engine: &Engine,
        settings: &DqnSettings,
        task: Task,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let choices = task.choices("DQN")?;
        let mlp = Mlp::new(task.sight(), &settings.hidden, choices, Activation::Relu);
        let target = mlp.draw(Init::Xavier, rng);
        let loss = |b: &mut Builder, critic: &Layers| {
            let [now, next] = task.now_and_next(b);
            let chosen = task.input(b, "chosen", choices);
            let values = mlp.given(b, "target").apply(b, next);
            let best = if settings.double {
                let online = mlp.given(b, "online").apply(b, next);
                at_largest(b, online, values)
            } else {
                b.reduce("ReduceMax", values, &[1], true)
            };
            let y = task.target(b, best);
            let values = critic.apply(b, now);
            let picked = b.mul(values, chosen);
            let q = b.reduce_sum(picked, &[1], true);
            squared_error(b, q, y)
        };
        let critic = Trained::new(engine, &mlp, target.clone(), AdamW::default(), loss)?;
        let DqnSettings { lr, double, .. } = *settings;
        Ok(Self { lr, double, task, choices, critic, target, chosen: vec![] })
    }
}

/// `values` at the largest of `scores`, `[B, 1]`; the mean over equals.
fn at_largest(b: &mut Builder, scores: Value, values: Value) -> Value {
    let largest = b.reduce("ReduceMax", scores, &[1], true);
    let is_largest = b.equal(scores, largest);
    let is_largest = b.to_f32(is_largest);
    let count = b.reduce_sum(is_largest, &[1], true);
    let picked = b.mul(values, is_largest);
    let sum = b.reduce_sum(picked, &[1], true);
    b.div(sum, count)
}

impl OffPolicy for Dqn {
    fn update(
        &mut self,
        batch: &Transitions,
        rewards: &[f32],
        normalizer: &[f32],
    ) -> Result<Figures, LearnError> {
        self.chosen.clear();
        self.chosen.resize(batch.len() * self.choices, 0.0);
        for (row, choice) in self.chosen.chunks_exact_mut(self.choices).zip(&batch.action) {
            row[*choice as usize] = 1.0;
        }
        let online = self.critic.weights().to_vec();
        let mut inputs = self.task.target_inputs(batch, rewards, normalizer);
        inputs.extend([("chosen", &self.chosen[..]), ("target", &self.target)]);
        inputs.extend(self.double.then_some(("online", &online[..])));
        let loss = self.critic.step(&inputs, self.lr)?.loss;
        Ok(vec![("critic_loss", f64::from(loss))])
    }

    fn follow(&mut self, tau: f32) {
        follow(&mut self.target, self.critic.weights(), tau);
    }

    fn policy(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let sight = normalizer::deployed(&mut b, &self.task.env, normalizer);
        let critic = self.critic.mlps()[0].trained(&mut b, "critic", self.critic.weights())?;
        let values = critic.apply(&mut b, sight);
        b.output("action", values);
        Ok(b.finish()?)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("critic", self.critic.save()?);
        kept.put("target", self.target.clone());
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.critic.restore(&kept.part("critic"))?;
        self.target = kept.tensor_of("target", self.target.len())?;
        Ok(())
    }
}
