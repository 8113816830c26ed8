//! A policy is one ONNX file that says what it is for: SI units in, SI units out, the normaliser in
//! the graph, a [`PolicySpec`] in the metadata.

mod spec;
mod store;
mod times;

use sha2::{Digest as _, Sha256};

use crate::clock::{Clock as _, SystemClock};
use crate::config::RobotConfig;
use crate::engine::{Engine, EngineError, Session};
use crate::episode::PolicyId;
use crate::joints::{GoalVec, JointVec, Row};
use crate::onnx::{OnnxError, Verified};

pub use spec::{ActionKind, GoalSpace, METADATA_KEY, ObservationTerm, PolicySpec, tensor};
pub use store::{Store, StoreError};
pub use times::Times;

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
        "the ONNX file has no `{METADATA_KEY}` metadata: it was not made for a robot by `regoal train`"
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

/// Fills the observation row of a spec's terms over the joints at `places` from the three vectors.
pub fn observation_row(
    terms: &[ObservationTerm],
    places: &[usize],
    position: &[f32],
    velocity: &[f32],
    sent: &[f32],
) -> Option<Row> {
    let mut row = Row::new();
    for term in terms {
        let source = match term {
            ObservationTerm::JointPosition => position,
            ObservationTerm::JointVelocity => velocity,
            ObservationTerm::SentPosition => sent,
        };
        for place in places {
            row.push(*source.get(*place)?).ok()?;
        }
    }
    Some(row)
}

/// The id of a policy file: the first 16 bytes of its SHA-256.
pub fn id_of(file: &[u8]) -> PolicyId {
    let digest: [u8; 32] = Sha256::digest(file).into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    PolicyId(id)
}

/// A loaded policy, ready to act on one robot.
pub struct Policy {
    spec: PolicySpec,
    id: PolicyId,
    places: Vec<usize>,
    robot_joints: usize,
    session: Session,
    /// Only measures: no action depends on it.
    clock: SystemClock,
    times: Times,
}

impl Policy {
    /// Verifies a policy file, checks it against the robot and loads it.
    ///
    /// # Errors
    /// Not valid ONNX, no or another description, another robot, or the engine refuses it.
    pub fn load(file: &[u8], robot: &RobotConfig, engine: &Engine) -> Result<Self, PolicyError> {
        let graph = Verified::from_bytes(file)?;
        let spec = PolicySpec::of(&graph)?;
        let places = spec.joint_places(robot)?;
        let session = engine.load(&graph)?;
        let robot_joints = robot.joint.len();
        let (clock, times) = (SystemClock, Times::default());
        Ok(Self { spec, id: id_of(file), places, robot_joints, session, clock, times })
    }

    /// What the policy is for.
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    /// How long the engine took for each action so far.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The policy file's id.
    pub fn id(&self) -> PolicyId {
        self.id
    }

    /// One action per joint of the robot, in the unit that [`PolicySpec::action`] says; joints that
    /// the policy does not move get a zero change, or their last sent position.
    ///
    /// # Errors
    /// The observation does not fit, or the engine failed.
    pub fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let o = observation;
        let goal = self.spec.goal_space.size();
        let row = observation_row(
            &self.spec.observation,
            &self.places,
            &o.position,
            &o.velocity,
            &o.sent,
        );
        let fits = o.achieved_goal.len() == goal
            && o.desired_goal.len() == goal
            && o.sent.len() == self.robot_joints;
        let Some(row) = row.filter(|_| fits) else {
            return Err(PolicyError::BadObservation { expected: self.robot_joints, goal });
        };
        let mut action: JointVec<f32> = self.places.iter().map(|_| 0.0).collect();
        let begin = self.clock.now();
        self.session.run_into(
            &[row.as_slice(), o.achieved_goal.as_slice(), o.desired_goal.as_slice()],
            &mut action,
        )?;
        self.times.record(self.clock.now().since(begin));
        let mut all = match self.spec.action {
            ActionKind::JointPosition => o.sent.clone(),
            ActionKind::JointDelta => o.sent.iter().map(|_| 0.0).collect(),
        };
        for (place, value) in self.places.iter().zip(&action) {
            if let Some(slot) = all.get_mut(*place) {
                *slot = *value;
            }
        }
        Ok(all)
    }
}
