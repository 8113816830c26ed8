//! What is known of an arm.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::hal::bus;
use crate::joints::JointVec;

/// What is known of one joint, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JointState {
    /// rad.
    pub position: f64,
    /// rad/s.
    pub velocity: f64,
    /// Drive as a signed fraction of all the servo has; positive drives toward larger angles. Of a
    /// servo that measures its current, the fraction of the highest current.
    pub load: f64,
    /// The motor's current (A), signed as the load, of a servo that measures it. Feetech servos
    /// tell it in turn and only while the arm is held: up to as many times eight ticks older than the
    /// stamp as the arm has joints.
    pub current: Option<f64>,
    /// V. Dynamixel servos tell voltage and temperature in turn: up to as many ticks older than
    /// the stamp as the arm has joints.
    pub voltage: f64,
    /// °C.
    pub temperature: f64,
    /// The servo's troubles, bits of [`trouble`](crate::hal::servo::trouble) that two answers
    /// in a row told of: damage may set a bit and pass the checksum. A servo that was made to hold
    /// and has no torque has [`RESTARTED`](crate::hal::servo::trouble::RESTARTED).
    pub status: u8,
    /// When the servo was asked: the values are not older. [`Time::ZERO`]: never yet.
    pub stamp: Time,
    /// Readings agreed on a position the joint cannot have reached; the last one is this.
    pub jumped: bool,
}

/// What is known of the arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArmState {
    /// In the configuration's order.
    pub joints: JointVec<JointState>,
}

/// Faults seen since the arm was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ArmCounters")]
pub struct Counters {
    /// On the bus.
    pub bus: bus::Counters,
    /// Readings that passed every check of the wire and cannot be true; they were dropped.
    pub implausible: u64,
}
