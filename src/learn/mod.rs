//! Learning: goal-conditioned behaviour cloning with hindsight, fine-tuning, evaluation.

pub mod adversarial;
mod batch;
pub mod bc;
mod beside;
pub mod checkpoint;
pub mod dataset;
pub mod demonstrations;
pub mod discriminator;
pub mod evaluate;
mod exploration;
pub mod finetune;
pub mod gail;
pub mod gcbc;
pub mod goal_gail;
pub mod her;
pub mod imitation_reward;
pub mod job;
pub mod keypoints;
mod label;
pub mod learner;
pub mod methods;
pub mod network;
pub mod normalizer;
pub mod off_policy;
pub mod rollout;
mod rule;
mod schedule;
pub mod settings;
pub mod shift;
pub mod trained;

use crate::engine::{Device, EngineError};
use crate::goal::TrajectoryError;
use crate::onnx::OnnxError;
use crate::policy::PolicyError;

pub use discriminator::{
    AdversarialLoss, Discriminator, DiscriminatorReport, DiscriminatorSettings,
};
pub use exploration::Exploration;
pub use imitation_reward::ImitationReward;
pub use label::{Layout, Reach};
pub use rule::Rule;
pub use schedule::{Schedule, Shape};

/// Why learning stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LearnError {
    /// There is nothing to learn from.
    #[error("no transitions to learn from: {0}")]
    NoData(String),
    /// The loss is not finite any more.
    #[error("the loss became {loss} at step {step}: lower the learning rate (now {lr})")]
    Diverged {
        /// Where.
        step: usize,
        /// The loss.
        loss: f32,
        /// The learning rate.
        lr: f32,
    },
    /// The policy's description does not allow this method.
    #[error("this method needs a policy that observes {needs}: the policy observes {found}")]
    Observation {
        /// Terms needed.
        needs: &'static str,
        /// Terms found.
        found: String,
    },
    /// The loss asks for a target that episodes do not hold.
    #[error("loss `{loss}`: expected a target of {expected}, found {found}")]
    Target {
        /// The loss.
        loss: String,
        /// What episodes hold.
        expected: String,
        /// What the loss asks for.
        found: String,
    },
    /// An episode's goals are not the policy's.
    #[error(
        "expected episodes with goals of {expected}, as the policy's, found goals of {found}: choose \
         other episodes, or a policy with such goals"
    )]
    GoalSpace {
        /// The policy's goal space.
        expected: &'static str,
        /// The episode's.
        found: String,
    },
    /// Somebody asked to stop.
    #[error("stopped before the end, nothing was changed")]
    Stopped,
    /// An episode does not fit.
    #[error("an episode cannot be learned from: {0}")]
    Trajectory(#[from] TrajectoryError),
    /// A folder of episodes cannot be read.
    #[error(transparent)]
    Episode(#[from] crate::episode::EpisodeError),
    /// A checkpoint does not fit.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// The environment failed.
    #[error(transparent)]
    Env(#[from] crate::env::EnvError),
    /// The method does not fit the environment.
    #[error("{method} needs an environment with {needs}: `{env}` has {found}")]
    Unfit {
        /// The method.
        method: &'static str,
        /// What it needs.
        needs: &'static str,
        /// The environment.
        env: &'static str,
        /// What it has.
        found: String,
    },
    /// The graph cannot be built.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The policy is not usable.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl LearnError {
    /// Whether another episode may go well: a simulation diverged, or its process was lost.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Env(error) => error.is_passing(),
            Self::Trajectory(error) => matches!(error, TrajectoryError::NotFinite(_)),
            _ => false,
        }
    }

    /// Whether a card failed where a processor may not: it is out of memory, or lacks an operator.
    pub fn is_of_the_card(&self, device: Device) -> bool {
        let failed =
            matches!(self, Self::Engine(EngineError::Run { .. } | EngineError::Load { .. }));
        failed && device == Device::Cuda
    }
}
