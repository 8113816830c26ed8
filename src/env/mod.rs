//! Environments, with goals or without, and their scripted experts.
//!
//! # An environment of one's own
//!
//! Implement [`Env`] for a type of yours; everything in [`learn`](../learn/index.html) takes a
//! `&mut dyn Env`. `tools/examples/own_env.rs` is one from its equations to a trained policy: `cargo
//! run --release --example own_env`.
//!
//! 1. **Say what it is**: [`EnvSpec`], made once and returned by [`Env::spec`]. Observations and
//!    goals are rows of `f32` of a fixed length, in SI units, not normalised: learners do that, and
//!    keep the normaliser inside the policy. Actions are numbers in `-limit ..= limit`, or one of
//!    some choices, whose index stands in a row of one number.
//! 2. **Let it move**: [`Env::reset`] starts an episode towards a goal, [`Env::step`] does one step.
//!    Check rows there, for each is an error of yours to tell ([`EnvError::Action`],
//!    [`EnvError::Goal`]); clamp actions beyond the limit. Count no steps: whoever runs the episode
//!    stops at the horizon.
//! 3. **Draw from what is passed in** only: start states from the generator of `reset`, goals from
//!    that of [`Env::sample_goal`]. No clock, no thread, no `HashMap` order may decide anything; then
//!    the same seed gives the same policy, byte for byte. A motion with noise keeps a generator of
//!    its own, seeded in `reset` ([`seed_from`](crate::rng::seed_from)).
//! 4. **With goals**: [`Env::achieved_goal`] is where it is now, in the goal's own space, and the
//!    goal counts as reached within the spec's tolerance (Euclidean). That is the reward, and all
//!    that hindsight needs. Draw only goals that can be reached. Do not end at the goal: learners cut
//!    episodes there where their method wants it, and a success that must be held is judged by the
//!    steps after it. Where the task fixes the goals of its success rate, name them
//!    ([`Env::evaluation_goals`]).
//! 5. **Without goals**: the goal's length is 0, goal rows are empty, and [`Env::reward`] says what a
//!    step was worth. [`classic`] has three of these.
//! 6. **Say what ends an episode early**: [`Env::ended`], and its reason as [`Ends`]. Imitation
//!    chooses the sign of its reward by it: under a positive reward an agent keeps away from any
//!    end, which is right for failures; under a negative one it hurries there, which is right for
//!    success.
//! 7. **An expert** ([`Env::expert`]) makes demonstrations without a human: the action here and now,
//!    a function of the state where possible, so that a policy can be cloned from it. Without one,
//!    demonstrations must come from elsewhere, and the default says so in an error.
//!
//! To have it on the command line, add its name to [`NAMES`] and [`named`]. One that is written in
//! Python is there as it is: [`Gym`].

mod arm_pick;
mod arm_reach;
mod bit_flip;
mod block_pusher;
pub mod classic;
pub mod fetch;
mod four_rooms;
mod gym;
pub mod mujoco;
mod scene;
mod vectorised;

use serde::{Deserialize, Serialize};

use crate::goal::reached;
use crate::rng::Rng;
use crate::storage::Disk;

pub use arm_pick::{ArmPick, World};
pub use arm_reach::{ArmReach, Expert, Workspace, start_pose};
pub use bit_flip::BitFlip;
pub use block_pusher::BlockPusher;
pub use classic::{Acrobot, CartPole, Classic, MountainCar};
pub use fetch::Fetch;
pub use four_rooms::FourRooms;
pub use gym::{GYM, Gym, GymError, Python};
pub use scene::{Colour, Scene, Shape};
pub use vectorised::Vectorised;

/// Why an environment could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvError {
    /// The robot's configuration is not valid.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The robot has no joint beyond those that move its tip.
    #[error("expected a robot with a gripper, found joints {0:?}")]
    NoGripper(Vec<String>),
    /// The kinematic model is unknown or the goal out of reach.
    #[error(transparent)]
    Kinematics(#[from] crate::kinematics::KinematicsError),
    /// The emulated arm does not answer.
    #[error(transparent)]
    Arm(#[from] crate::hal::ArmError),
    /// The emulated port failed.
    #[error(transparent)]
    Port(#[from] crate::hal::PortError),
    /// MuJoCo is not there, or its simulation failed.
    #[error(transparent)]
    Mujoco(#[from] mujoco::MujocoError),
    /// A number of the action is not finite.
    #[error("expected an action of finite numbers, found {found:?}")]
    NotFinite {
        /// The action.
        found: Vec<f32>,
    },
    /// The action has the wrong length.
    #[error("expected an action of {expected} numbers, found {found}")]
    Action {
        /// Numbers needed.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// The goal has the wrong length.
    #[error("expected a goal of {expected} numbers, found {found}")]
    Goal {
        /// Numbers needed.
        expected: usize,
        /// Numbers given.
        found: usize,
    },
    /// There is no such environment.
    #[error("expected an environment of {known:?}, found `{name}`")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// An environment in Python failed.
    #[error(transparent)]
    Gym(#[from] GymError),
    /// The environment has no scripted expert.
    #[error("environment `{0}` has no scripted expert")]
    NoExpert(&'static str),
}

impl EnvError {
    /// Whether another episode may go well: nothing is wrong with what was asked, and the next reset
    /// begins anew.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Gym(error) => error.is_passing(),
            Self::Mujoco(mujoco::MujocoError::Diverged { .. }) => true,
            _ => false,
        }
    }
}

/// What an agent can do in one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionSpace {
    /// `size` numbers, each in `-limit ..= limit`.
    Continuous {
        /// Numbers in an action.
        size: usize,
        /// The largest of them.
        limit: f32,
    },
    /// One of `choices`; an action row holds its index.
    Discrete {
        /// How many.
        choices: usize,
    },
}

impl ActionSpace {
    /// Numbers in an action row.
    pub fn size(self) -> usize {
        match self {
            Self::Continuous { size, .. } => size,
            Self::Discrete { .. } => 1,
        }
    }
}

/// What cuts an episode short before its horizon. It decides which sign an imitation reward must
/// have: a positive one keeps an agent from ending, a negative one makes it hurry to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ends {
    /// Only the time limit.
    Never,
    /// Reaching the goal, or success.
    Success,
    /// A failure, such as a pole that falls.
    Failure,
}

/// What an environment is, whatever happens in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnvSpec {
    /// Its name on the command line.
    pub name: &'static str,
    /// Numbers in an observation.
    pub observation: usize,
    /// Numbers in a goal; 0 where there are none.
    pub goal: usize,
    /// What can be done.
    pub actions: ActionSpace,
    /// The time limit, in steps.
    pub horizon: usize,
    /// A goal counts as reached within this distance (the goal's unit).
    pub tolerance: f32,
    /// What cuts an episode short.
    pub ends: Ends,
}

/// An environment: an episode is `reset`, then `step` until it has [`ended`](Env::ended) or the
/// horizon is there. All randomness is passed in, so that a seed decides everything.
///
/// Reaching a goal does not end an episode by itself: learners cut it where they want.
pub trait Env: Send {
    /// What it is.
    fn spec(&self) -> &EnvSpec;
    /// Draws a goal, `[g]`; empty where the environment itself draws one in each `reset`.
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32>;
    /// The goals that success rates are reported on, where the task fixes them (four rooms: the
    /// centre of every free cell). None: they are drawn.
    fn evaluation_goals(&self) -> Vec<Vec<f32>> {
        Vec::new()
    }
    /// Starts an episode.
    ///
    /// # Errors
    /// The goal has the wrong length, or the environment cannot be started.
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError>;
    /// One step. Continuous actions beyond the limit are clamped.
    ///
    /// # Errors
    /// The action has the wrong length, is not finite or no choice, or the environment failed.
    fn step(&mut self, action: &[f32]) -> Result<(), EnvError>;
    /// The observation now, `[o]`.
    fn observation(&self) -> &[f32];
    /// The goal achieved now, `[g]`.
    fn achieved_goal(&self) -> &[f32];
    /// The goal wished for, `[g]`.
    fn desired_goal(&self) -> &[f32];
    /// Whether a state of this observation `[o]` and achieved goal `[g]` is success where `goal` is
    /// wished for: by default it is reached. A task may want more than that, such as letting go.
    /// Hindsight asks this of states and goals of other times.
    fn succeeds(&self, _observation: &[f32], achieved_goal: &[f32], goal: &[f32]) -> bool {
        reached(achieved_goal, goal, self.spec().tolerance)
    }
    /// The same as things are now.
    fn succeeded(&self) -> bool {
        self.succeeds(self.observation(), self.achieved_goal(), self.desired_goal())
    }
    /// The task's own reward of the last step: by default 1 where it [`succeeded`](Env::succeeded),
    /// else 0.
    fn reward(&self) -> f32 {
        f32::from(u8::from(self.succeeded()))
    }
    /// Whether the last step ended the episode, for the reason in [`EnvSpec::ends`].
    fn ended(&self) -> bool {
        false
    }
    /// The scripted expert's action here and now, `[a]`.
    ///
    /// # Errors
    /// There is none, or the goal is out of its reach.
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        Err(EnvError::NoExpert(self.spec().name))
    }
    /// What it looks like now; by default nothing is drawn.
    fn scene(&self) -> Scene {
        Scene::default()
    }
}

/// The names that [`named`] knows beside [`fetch::NAMES`]; `bit_flip_N` is bit flipping with another
/// number of bits.
pub const NAMES: [&str; 7] = [
    "acrobot",
    "arm_pick_place",
    "bit_flip",
    "block_pusher",
    "cart_pole",
    "four_rooms",
    "mountain_car",
];

/// The environment of a name.
///
/// # Errors
/// There is none, or it needs something that is not installed.
pub fn named(name: &str) -> Result<Box<dyn Env>, EnvError> {
    Ok(match name {
        "arm_pick_place" => Box::new(ArmPick::shipped()?),
        "bit_flip" => Box::new(BitFlip::default()),
        "block_pusher" => Box::new(BlockPusher::new()),
        "four_rooms" => Box::new(FourRooms::new()),
        "cart_pole" => Box::new(Classic::<CartPole>::default()),
        "mountain_car" => Box::new(Classic::<MountainCar>::default()),
        "acrobot" => Box::new(Classic::<Acrobot>::default()),
        _ => match (BitFlip::named(name), fetch::named(&Disk, name)) {
            (Some(env), _) => Box::new(env),
            (_, Some(env)) => Box::new(env?),
            _ => return Err(EnvError::Unknown { name: name.into(), known: names().collect() }),
        },
    })
}

/// All names that [`named`] knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter().chain(fetch::NAMES)
}

/// Checks an action row.
pub(crate) fn check_action(spec: &EnvSpec, action: &[f32]) -> Result<(), EnvError> {
    let expected = spec.actions.size();
    let error = EnvError::Action { expected, found: action.len() };
    match (spec.actions, action) {
        _ if action.len() != expected => Err(error),
        (ActionSpace::Continuous { .. }, action) if !action.iter().all(|x| x.is_finite()) => {
            Err(EnvError::NotFinite { found: action.to_vec() })
        }
        (ActionSpace::Discrete { choices }, [choice])
            if !(0.0..choices as f32).contains(choice) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Checks a goal row.
pub(crate) fn check_goal(spec: &EnvSpec, goal: &[f32]) -> Result<(), EnvError> {
    let (expected, found) = (spec.goal, goal.len());
    if expected == found { Ok(()) } else { Err(EnvError::Goal { expected, found }) }
}
