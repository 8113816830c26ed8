//! Vectors over the joints of one arm, and goals, on the stack.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most joints an arm may have.
pub const MAX_JOINTS: usize = 8;

/// One value per joint, in the arm's joint order; never allocates.
pub type JointVec<T> = heapless::Vec<T, MAX_JOINTS>;

/// The most numbers a goal or a policy's input or output row may have.
pub const MAX_ROW: usize = 64;

/// A row of an observation, goal or action; never allocates.
pub type Row = heapless::Vec<f32, MAX_ROW>;

/// The most numbers a goal may have.
pub const MAX_GOAL: usize = 9;

/// A goal or an achieved goal, in the goal space's SI units; never allocates.
pub type GoalVec = heapless::Vec<f32, MAX_GOAL>;

/// What a goal is made of. In every space the distance between two goals is the Euclidean one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoalSpace {
    /// The tip's position in the base frame: x, y, z (m).
    #[default]
    EndEffectorPosition,
    /// The tip's position (m), then the tool's z and x axis in the base frame, each [`LEVER`] long:
    /// continuous, and a small turn by an angle counts like a way of `LEVER` times that angle.
    EndEffectorPose,
    /// The positions of all joints (rad).
    JointPosition,
    /// Where an object is, told from outside: x, y, z in the base frame (m).
    ObjectPosition,
    /// There is no goal.
    None,
}

/// How long the axes of a pose goal are (m).
pub const LEVER: f64 = 0.1;

impl GoalSpace {
    /// Numbers in a goal for `joints` joints.
    pub fn size(self, joints: usize) -> usize {
        match self {
            Self::EndEffectorPosition | Self::ObjectPosition => 3,
            Self::EndEffectorPose => 9,
            Self::JointPosition => joints,
            Self::None => 0,
        }
    }

    /// Whether goals are of the arm's tip, so that they need its geometry.
    pub fn is_cartesian(self) -> bool {
        matches!(self, Self::EndEffectorPosition | Self::EndEffectorPose)
    }

    /// What it is called in files and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::EndEffectorPosition => "end_effector_position",
            Self::EndEffectorPose => "end_effector_pose",
            Self::JointPosition => "joint_position",
            Self::ObjectPosition => "object_position",
            Self::None => "none",
        }
    }

    /// The space of this name.
    pub fn of(name: &str) -> Option<Self> {
        let spaces = [
            Self::EndEffectorPosition,
            Self::EndEffectorPose,
            Self::JointPosition,
            Self::ObjectPosition,
            Self::None,
        ];
        spaces.into_iter().find(|space| space.name() == name)
    }

    /// The unit of distances in it.
    pub fn unit(self) -> &'static str {
        match self {
            Self::JointPosition => "rad",
            _ => "m",
        }
    }
}

/// Copies `values` into a fixed-capacity vector, cutting what does not fit.
pub fn stack<T: Copy, const N: usize>(values: impl IntoIterator<Item = T>) -> heapless::Vec<T, N> {
    values.into_iter().take(N).collect()
}
