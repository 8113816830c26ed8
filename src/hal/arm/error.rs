//! What can go wrong with an arm.

use crate::hal::bus::BusError;
use crate::hal::calibration::NonFinite;
use crate::hal::port::PortError;
use crate::joints::JointVec;

/// Why an arm could not be opened or told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArmError {
    /// Some servos do not answer.
    #[error(
        "expected servos {missing:?} to answer too, found only {answered:?}; check power, cables, ids and bus.baud"
    )]
    Missing {
        /// Ids that answered.
        answered: Vec<u8>,
        /// Ids that did not.
        missing: Vec<u8>,
    },
    /// A servo is of another model.
    #[error(
        "joint `{joint}`: expected servo {id} to be model {expected}, found {found}; set its `servo`"
    )]
    Model {
        /// The joint's name.
        joint: String,
        /// The servo's id.
        id: u8,
        /// What the configuration asks for.
        expected: i32,
        /// What the servo says.
        found: i32,
    },
    /// A servo did not keep what was written into it.
    #[error(
        "joint `{joint}`: expected register {register} to keep {expected}, found {found}; power the servo off and on"
    )]
    NotKept {
        /// The joint's name.
        joint: String,
        /// The register's name.
        register: &'static str,
        /// What was written.
        expected: i32,
        /// What was read back.
        found: i32,
    },
    /// A joint is too far out of its limits to be held there.
    #[error(
        "joint `{joint}`: expected {min:.3} to {max:.3} rad, found {found:.3}; move it there by hand, or calibrate again"
    )]
    BeyondLimits {
        /// The joint's name.
        joint: String,
        /// Where it is (rad).
        found: f64,
        /// Its lowest position (rad).
        min: f64,
        /// Its highest position (rad).
        max: f64,
    },
    /// A goal has another number of joints than the arm.
    #[error("expected a goal for {expected} joints, found {found}")]
    GoalLength {
        /// The arm's joints.
        expected: usize,
        /// The goal's.
        found: usize,
    },
    /// A goal is not finite; nothing was written.
    #[error("goal of joint {joint}: {source}")]
    Goal {
        /// The joint's place, from 0.
        joint: usize,
        /// What was found.
        source: NonFinite,
    },
    /// Torque may still be on.
    #[error(
        "expected all servos to confirm torque off, servos {ids:?} did not; cut the arm's power"
    )]
    TorqueOn {
        /// Ids that did not confirm.
        ids: JointVec<u8>,
    },
    /// A transaction failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ArmError {
    /// Whether the port is gone and must be opened again.
    pub fn lost(&self) -> bool {
        matches!(self, Self::Bus(BusError::Port(PortError::Lost)))
    }
}
