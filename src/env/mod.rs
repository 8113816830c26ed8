//! Goal-reaching environments and their scripted experts.

mod arm_reach;

use crate::joints::GoalVec;
use crate::rng::Rng;

pub use arm_reach::{ArmReach, Expert, Workspace, start_pose};

/// Why an environment could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// The kinematic model is unknown or the goal out of reach.
    #[error(transparent)]
    Kinematics(#[from] crate::kinematics::KinematicsError),
    /// The emulated arm does not answer.
    #[error(transparent)]
    Arm(#[from] crate::hal::ArmError),
    /// The emulated port failed.
    #[error(transparent)]
    Port(#[from] crate::hal::PortError),
    /// The action has the wrong length.
    #[error("expected an action of {expected} numbers, found {found}")]
    Action {
        /// Numbers needed.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
}

/// An environment with goals: an episode is `reset`, then `horizon` times `step`.
pub trait GoalEnv {
    /// Numbers in an observation row.
    fn observation_size(&self) -> usize;
    /// Numbers in an action.
    fn action_size(&self) -> usize;
    /// Steps in an episode.
    fn horizon(&self) -> usize;
    /// A goal counts as reached within this distance (the goal's unit).
    fn tolerance(&self) -> f32;
    /// Draws a goal.
    fn sample_goal(&self, rng: &mut Rng) -> GoalVec;
    /// Starts an episode.
    ///
    /// # Errors
    /// The environment cannot be started.
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError>;
    /// One step.
    ///
    /// # Errors
    /// The action has the wrong length, or the environment failed.
    fn step(&mut self, action: &[f32]) -> Result<(), EnvError>;
    /// The observation now, `[o]`.
    fn observation(&self) -> &[f32];
    /// The goal achieved now, `[g]`.
    fn achieved_goal(&self) -> &[f32];
    /// The goal wished for, `[g]`.
    fn desired_goal(&self) -> &[f32];
}
