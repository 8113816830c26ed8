//! A policy is one ONNX file that says what it is for: SI units in, SI units out, the normaliser in
//! the graph, a [`PolicySpec`] in the metadata.

mod act;
mod bundle;
mod chunk;
pub mod signature;
mod spec;
pub mod store;
pub(crate) mod tensors;
mod times;

use sha2::{Digest as _, Sha256};

use crate::engine::EngineError;
use crate::episode::PolicyId;
use crate::joints::{GoalVec, JointVec, Row};
use crate::onnx::OnnxError;

pub use act::{MAX_AHEAD, Plan, Policy};
pub use bundle::with_spec;
pub use chunk::{Chunk, ChunkMode, MAX_HORIZON};
pub use signature::{Claims, SignatureError, Trust};
pub use spec::{ActionKind, METADATA_KEY, ObservationTerm, PolicySpec, VERSION, tensor};
pub use store::{Store, StoreError};
pub use tensors::{StateTensor, Tensors};
pub use times::{Cost, Times};

/// The most inputs, and the most outputs, that a policy may have.
const MAX_TENSORS: usize = 16;

/// Why a policy was refused or gave no action.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not a valid ONNX file.
    #[error("not a usable ONNX policy: {0}")]
    Onnx(#[from] OnnxError),
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ONNX file does not say what it is for.
    #[error(
        "the ONNX file does not say what it is for (no `{METADATA_KEY}` metadata): add that with `regoal policy inspect FILE --write-spec OUT`"
    )]
    NoSpec,
    /// The description is not valid.
    #[error("the policy's description is not valid: {0}")]
    BadSpec(String),
    /// The tensors are not the described ones.
    #[error("the policy's tensors differ from its description: expected {expected}, found {found}")]
    BadTensors {
        /// What the description says.
        expected: String,
        /// What the graph has.
        found: String,
    },
    /// Made for another robot.
    #[error("the policy is for {policy}, but the robot is {robot}")]
    WrongRobot {
        /// The policy's robot.
        policy: String,
        /// This robot.
        robot: String,
    },
    /// The observation does not fit the policy.
    #[error("expected an observation of {expected} joints and a goal of {goal} numbers")]
    BadObservation {
        /// Joints needed.
        expected: usize,
        /// Numbers in a goal.
        goal: usize,
    },
}

/// What an actor sees in one tick: all joints of the arm, SI units.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observation {
    /// The tick.
    pub tick: u64,
    /// Which episode this is of: its first tick. A policy starts a new one with nothing remembered.
    pub episode: u64,
    /// Measured positions (rad).
    pub position: JointVec<f32>,
    /// Measured velocities (rad/s).
    pub velocity: JointVec<f32>,
    /// The goal positions sent last (rad).
    pub sent: JointVec<f32>,
    /// The goal achieved now.
    pub achieved_goal: GoalVec,
    /// The goal wished for.
    pub desired_goal: GoalVec,
}

/// What the terms of an observation row are taken from.
#[derive(Debug, Clone, Copy)]
pub struct Senses<'a> {
    /// Measured positions of all joints (rad).
    pub position: &'a [f32],
    /// Measured velocities of all joints (rad/s).
    pub velocity: &'a [f32],
    /// The goal positions sent last to all joints (rad).
    pub sent: &'a [f32],
    /// The goal achieved.
    pub achieved_goal: &'a [f32],
    /// The goal wished for.
    pub desired_goal: &'a [f32],
}

impl Senses<'_> {
    /// The observation row of a spec's terms, over the joints at `places`.
    pub fn row(&self, terms: &[ObservationTerm], places: &[usize]) -> Option<Row> {
        let mut row = Row::new();
        for term in terms {
            let joints = match term {
                ObservationTerm::JointPosition => self.position,
                ObservationTerm::JointVelocity => self.velocity,
                ObservationTerm::SentPosition => self.sent,
                ObservationTerm::AchievedGoal => {
                    row.extend_from_slice(self.achieved_goal).ok()?;
                    continue;
                }
                ObservationTerm::DesiredGoal => {
                    row.extend_from_slice(self.desired_goal).ok()?;
                    continue;
                }
            };
            for place in places {
                row.push(*joints.get(*place)?).ok()?;
            }
        }
        Some(row)
    }
}

/// The id of a policy file: the first 16 bytes of its SHA-256.
pub fn id_of(file: &[u8]) -> PolicyId {
    let digest: [u8; 32] = Sha256::digest(file).into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    PolicyId(id)
}
