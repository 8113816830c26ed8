//! Learners from any transitions: critics of values `Q(s, g, a)`, and actors that climb them.
//!
//! Universal values (Schaul et al. 2015): critic and policy take the goal beside the state, so that
//! one network answers for all goals, and a transition may be learned from with any of them.

mod ddpg;
mod dqn;
mod sac;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::learner::Figures;
use super::transitions::Transitions;
use super::{LearnError, normalizer};
use crate::engine::Engine;
use crate::env::EnvSpec;
use crate::onnx::{Builder, Dim, Value};
use crate::rng::Rng;

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
    fn policy(&self, normalizer: &[f32]) -> Result<crate::onnx::Graph, LearnError>;

    /// The policy that explores: where it draws its actions, the draws are a last input `noise`
    /// `[N, a]` from the standard normal distribution.
    ///
    /// # Errors
    /// The graph cannot be built.
    fn explorer(&self, normalizer: &[f32]) -> Result<crate::onnx::Graph, LearnError> {
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
    /// Of DQN.
    pub dqn: DqnSettings,
    /// Of DDPG and TD3.
    pub ddpg: DdpgSettings,
    /// Of SAC.
    pub sac: SacSettings,
}

impl OffPolicySettings {
    /// The learner for batches of `rows`, whose returns lie within `bounds`.
    ///
    /// # Errors
    /// The learner does not fit the environment's actions, or the engine cannot run its steps.
    pub fn build(
        &self,
        engine: &Engine,
        env: &EnvSpec,
        rows: usize,
        bounds: Bounds,
        rng: &mut Rng,
    ) -> Result<Box<dyn OffPolicy>, LearnError> {
        Ok(match self.kind {
            Kind::Dqn => Box::new(Dqn::new(engine, &self.dqn, env, rows, bounds, rng)?),
            Kind::Ddpg => Box::new(Ddpg::new(engine, &self.ddpg, env, rows, bounds, rng)?),
            Kind::Td3 => {
                Box::new(Ddpg::new(engine, &self.ddpg.clone().td3(), env, rows, bounds, rng)?)
            }
            Kind::Sac => Box::new(Sac::new(engine, &self.sac, env, rows, bounds, rng)?),
        })
    }

    /// The discount for an environment.
    pub fn gamma(&self, env: &EnvSpec) -> f32 {
        let own = match self.kind {
            Kind::Dqn => self.dqn.gamma,
            Kind::Ddpg | Kind::Td3 => self.ddpg.gamma,
            Kind::Sac => self.sac.gamma,
        };
        own.unwrap_or(1.0 - 1.0 / env.horizon as f32)
    }
}

/// Bounds of a critic's targets: what a return cannot be below or above is a mistake of the critic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// The smallest return.
    pub low: f32,
    /// The largest return.
    pub high: f32,
}

impl Bounds {
    /// For returns that can be anything.
    const NONE: Self = Self { low: f32::MIN, high: f32::MAX };

    /// `y = clip(r + gamma (1 - success) next)`, `[B, 1]`: success ends a return. `next` is the value
    /// of what follows; inputs `reward` and `success` `[B, 1]`.
    fn target(self, b: &mut Builder, rows: &Rows, gamma: f32, next: Value) -> Value {
        let (reward, success) = (rows.input(b, "reward", 1), rows.input(b, "success", 1));
        let one = b.scalar(1.0);
        let goes_on = b.sub(one, success);
        let discounted = scaled(b, next, gamma);
        let future = b.mul(goes_on, discounted);
        let y = b.add(reward, future);
        b.clip(y, self.low, self.high)
    }
}

/// `mean (q - y)²`.
fn squared_error(b: &mut Builder, q: Value, y: Value) -> Value {
    let error = b.sub(q, y);
    let square = b.mul(error, error);
    b.reduce_mean(square, &[], false)
}

/// The inputs of a training step's batch that every learner takes.
struct Rows {
    rows: usize,
    o: usize,
    g: usize,
    normalizer: [Value; 2],
}

impl Rows {
    fn new(b: &mut Builder, env: &EnvSpec, rows: usize) -> Self {
        let (o, g) = (env.observation, env.goal);
        Self { rows, o, g, normalizer: normalizer::given(b, "normalizer", o + g) }
    }

    fn input(&self, b: &mut Builder, name: &str, width: usize) -> Value {
        b.input(name, &[Dim::Fixed(self.rows), Dim::Fixed(width)])
    }

    /// The normalised `(s, g)` of each row, and the same with `s'`.
    fn sights(&self, b: &mut Builder) -> [Value; 2] {
        let goal = (self.g > 0).then(|| self.input(b, "goal", self.g));
        ["observation", "next_observation"].map(|name| {
            let seen = self.input(b, name, self.o);
            self.normalised(b, seen, goal)
        })
    }

    /// The normalised `(s, g)` of each row.
    fn sight(&self, b: &mut Builder) -> Value {
        let goal = (self.g > 0).then(|| self.input(b, "goal", self.g));
        let seen = self.input(b, "observation", self.o);
        self.normalised(b, seen, goal)
    }

    fn normalised(&self, b: &mut Builder, seen: Value, goal: Option<Value>) -> Value {
        let both = goal.map_or(seen, |goal| b.concat(&[seen, goal], 1));
        normalizer::apply(b, self.normalizer, both)
    }
}

/// `factor x`.
fn scaled(b: &mut Builder, x: Value, factor: f32) -> Value {
    if factor == 1.0 {
        return x;
    }
    let factor = b.scalar(factor);
    b.mul(x, factor)
}

/// `(s, g)` of a policy that is deployed, normalised: open batch, inputs `observation` and, with
/// goals, `desired_goal`.
pub(super) fn deployed_sight(b: &mut Builder, env: &EnvSpec, vector: &[f32]) -> Value {
    let seen = b.input("observation", &[Dim::Batch, Dim::Fixed(env.observation)]);
    let both = if env.goal > 0 {
        let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(env.goal)]);
        b.concat(&[seen, goal], 1)
    } else {
        seen
    };
    let stored = normalizer::stored(b, vector);
    normalizer::apply(b, stored, both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::named;
    use crate::onnx::Verified;

    /// `clip(r + gamma (1 - success) next)` with `gamma = 1/2`.
    fn targets(bounds: Bounds, reward: [f32; 4], success: [f32; 4], next: [f32; 4]) -> Vec<f32> {
        let mut b = Builder::new();
        let rows = Rows::new(&mut b, named("four_rooms").unwrap().spec(), 4);
        let value = rows.input(&mut b, "next", 1);
        let y = bounds.target(&mut b, &rows, 0.5, value);
        b.output("y", y);
        let graph = Verified::try_from(b.finish().unwrap()).unwrap();
        let mut session = Engine::tract().load(&graph).unwrap();
        let given = [("reward", reward), ("success", success), ("next", next)];
        let vector = ("normalizer", &[8][..], &[1.0; 8][..]);
        let inputs: Vec<_> = given.iter().map(|(name, x)| (*name, &[4, 1][..], &x[..])).collect();
        session.run(&[&[vector][..], &inputs].concat()).unwrap().remove(0).data
    }

    #[test]
    fn success_ends_a_return_whatever_would_follow() {
        let found = targets(Bounds::NONE, [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [8.0; 4]);
        assert_eq!(found, [4.0, 0.0, 5.0, 1.0]);
    }

    #[test]
    fn targets_stay_within_the_returns_there_can_be() {
        let next = [-30.0, -8.0, 1.0, 30.0];
        let bounds = Bounds { low: -5.0, high: 1.0 };
        assert_eq!(targets(bounds, [0.0; 4], [0.0; 4], next), [-5.0, -4.0, 0.5, 1.0]);
        assert_eq!(targets(Bounds::NONE, [0.0; 4], [0.0; 4], next), [-15.0, -4.0, 0.5, 15.0]);
    }
}
