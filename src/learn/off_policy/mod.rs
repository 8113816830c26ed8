//! Learners from any transitions: critics of values `Q(s, g, a)`, and actors that climb them.
//!
//! Universal values (Schaul et al. 2015): critic and policy take the goal beside the state, so that
//! one network answers for all goals, and a transition may be learned from with any of them.

mod ddpg;

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::learner::Figures;
use super::transitions::Transitions;
use super::{LearnError, normalizer};
use crate::env::EnvSpec;
use crate::onnx::{Builder, Dim, Value};

pub use ddpg::{Ddpg, DdpgSettings};

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

/// Bounds of a critic's targets: what a return cannot be below or above is a mistake of the critic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// The smallest return.
    pub low: f32,
    /// The largest return.
    pub high: f32,
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
