//! Learners from any transitions: critics of values `Q(s, g, a)`, and actors that climb them.
//!
//! Universal values (Schaul et al. 2015): critic and policy take the goal beside the state, so that
//! one network answers for all goals, and a transition may be learned from with any of them.

mod ddpg;
mod dqn;
mod sac;
mod task;

use serde::{Deserialize, Serialize};

use super::LearnError;
use super::checkpoint::Checkpoint;
use super::learner::Figures;
use crate::engine::Engine;
use crate::env::EnvSpec;
use crate::goal::Transitions;
use crate::onnx::Graph;
use crate::rng::Rng;
use task::Task;

pub use ddpg::{Ddpg, DdpgSettings};
pub use dqn::{Dqn, DqnSettings};
pub use sac::{Sac, SacSettings};

/// A learner from any transitions.
pub trait OffPolicy {
    /// One update on a batch with these rewards `[B]`; inputs are normalised with `normalizer`
    /// `[2 (o + g)]`.
    ///
    /// # Errors
    /// The engine failed or the loss diverged.
    fn update(
        &mut self,
        batch: &Transitions,
        rewards: &[f32],
        normalizer: &[f32],
    ) -> Result<Figures, LearnError>;

    /// Moves the target networks a share `tau` of the way.
    fn follow(&mut self, tau: f32);

    /// The policy for deployment, as [`Learner::policy`](super::learner::Learner::policy).
    ///
    /// # Errors
    /// The graph cannot be built.
    fn policy(&self, normalizer: &[f32]) -> Result<Graph, LearnError>;

    /// The policy that explores: where it draws its actions, the draws are a last input `noise`
    /// `[N, a]` from the standard normal distribution.
    ///
    /// # Errors
    /// The graph cannot be built.
    fn explorer(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        self.policy(normalizer)
    }

    /// All that decides how it goes on.
    ///
    /// # Errors
    /// The engine cannot give its state.
    fn save(&self) -> Result<Checkpoint, LearnError>;

    /// Goes on from there.
    ///
    /// # Errors
    /// The checkpoint is another learner's.
    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError>;
}

/// Which learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Deep Q-learning, for choices.
    Dqn,
    /// Deep deterministic policy gradient.
    #[default]
    Ddpg,
    /// The same with twin critics, smoothed targets and an actor that waits.
    Td3,
    /// Soft actor-critic.
    Sac,
}

/// A learner and its settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OffPolicySettings {
    /// Which learner.
    pub kind: Kind,
    /// Discount; by default `1 - 1 / horizon`.
    pub gamma: Option<f32>,
    /// Of DQN.
    pub dqn: DqnSettings,
    /// Of DDPG and TD3.
    pub ddpg: DdpgSettings,
    /// Of SAC.
    pub sac: SacSettings,
}

impl OffPolicySettings {
    /// The learner for batches of `rows`, whose returns lie within `returns`.
    ///
    /// # Errors
    /// The learner does not fit the environment's actions, or the engine cannot run its steps.
    pub fn build(
        &self,
        engine: &Engine,
        env: &EnvSpec,
        rows: usize,
        returns: Returns,
        rng: &mut Rng,
    ) -> Result<Box<dyn OffPolicy>, LearnError> {
        let gamma = self.gamma(env);
        let task = Task { env: env.clone(), rows, gamma, returns };
        Ok(match self.kind {
            Kind::Dqn => Box::new(Dqn::new(engine, &self.dqn, task, rng)?),
            Kind::Ddpg => Box::new(Ddpg::new(engine, &self.ddpg, task, rng)?),
            Kind::Td3 => Box::new(Ddpg::new(engine, &self.ddpg.clone().td3(), task, rng)?),
            Kind::Sac => Box::new(Sac::new(engine, &self.sac, task, rng)?),
        })
    }

    /// The discount for an environment.
    pub fn gamma(&self, env: &EnvSpec) -> f32 {
        self.gamma.unwrap_or(1.0 - 1.0 / env.horizon as f32)
    }
}

/// What returns a critic may believe in: what lies outside is its mistake.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Returns {
    /// The smallest return.
    pub low: f32,
    /// The largest return.
    pub high: f32,
    /// Whether success ends a return.
    pub ends: bool,
}

impl Returns {
    /// For returns that can be anything.
    const NONE: Self = Self { low: f32::MIN, high: f32::MAX, ends: true };
}
