//! What every method of training is to the verb that runs it.

use super::LearnError;
use super::checkpoint::Checkpoint;
use crate::env::Env;
use crate::onnx::Graph;

/// Figures of one iteration, by name, in the order in which they are shown.
pub type Figures = Vec<(&'static str, f64)>;

/// A training that goes on iteration by iteration. The same seed gives the same bits, whatever else
/// the computer does, and whether or not it was saved and restored in between.
pub trait Learner {
    /// Learns for one iteration: rolls out, samples, updates.
    ///
    /// # Errors
    /// The environment or the engine failed, or the loss diverged.
    fn iterate(&mut self) -> Result<Figures, LearnError>;

    /// Whether nothing is left to learn: more iterations would change nothing.
    fn done(&self) -> bool {
        false
    }

    /// Steps taken in the environment so far.
    fn env_steps(&self) -> u64;

    /// What a training is as long as: steps in the environment, or steps of training where a method
    /// takes no other.
    fn steps(&self) -> u64 {
        self.env_steps()
    }

    /// Rollouts that it makes of one policy, and that may go side by side.
    fn rollouts(&self) -> usize {
        1
    }

    /// Takes one more environment like its own, for rollouts side by side; no result depends on how
    /// many it has.
    fn lend(&mut self, _env: Box<dyn Env>) {}

    /// The policy as it would be deployed: `observation [N, o]` and, with goals, `desired_goal
    /// [N, g]` to `action [N, a]`, no noise, the normaliser inside. Discrete actions: one score per
    /// choice, of which the largest is taken.
    ///
    /// # Errors
    /// The graph cannot be built.
    fn policy(&self) -> Result<Graph, LearnError>;

    /// All that decides how it goes on.
    ///
    /// # Errors
    /// The engine cannot give its state.
    fn save(&self) -> Result<Checkpoint, LearnError>;

    /// Goes on from there.
    ///
    /// # Errors
    /// The checkpoint is another training's.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), LearnError>;
}
