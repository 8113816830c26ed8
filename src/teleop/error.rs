//! What can go wrong with a device.

use super::Track;
use crate::hal::arm::ArmError;
use crate::joints::GoalSpace;
use crate::kinematics::KinematicsError;

/// Why a device does not tell where the joints are to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TeleopError {
    /// A joint of the arm has no counterpart at the leader.
    #[error(
        "joint `{joint}`: expected a joint of this name at the leader, found {}; name one with \
         `--map {joint}=LEADER_JOINT`",
        found.join(", ")
    )]
    Unmapped {
        /// The arm's joint.
        joint: String,
        /// The leader's joints.
        found: Vec<String>,
    },
    /// A mapping that cannot be read.
    #[error("expected JOINT=LEADER_JOINT or JOINT=LEADER_JOINT*SCALE, found `{0}`")]
    Mapping(String),
    /// The leader arm fails.
    #[error("the leader: {0}")]
    Arm(#[from] ArmError),
    /// Its port was lost.
    #[error("the leader is unplugged: looking for it")]
    Gone,
    /// The gamepad fails.
    #[error("the gamepad: {0}; plug it in and start again: the arm holds")]
    Gamepad(String),
    /// The robot's goals cannot be drawn.
    #[error("expected goals that a script can draw and reach, found `{}`", .0.name())]
    Goals(GoalSpace),
    /// An episode has no positions to play.
    #[error(
        "expected steps with {} positions in this part of the episode, found none: {}",
        match track { Track::Sent => "sent", Track::Measured => "measured" },
        match track {
            Track::Sent => "torque was off, so play what was --measured",
            Track::Measured => "choose another part with --from and --to",
        }
    )]
    NoCourse {
        /// What was to be played.
        track: Track,
    },
    /// The geometry is missing or does not lead there.
    #[error(transparent)]
    Kinematics(#[from] KinematicsError),
}
