//! One tick of a robot, as plain values that fit a queue of fixed size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::{Time, WallTime};
use crate::joints::{GoalVec, JointVec};

/// What the control loop is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "mode", content = "fault")]
pub enum Mode {
    /// Torque off; nothing moves until somebody arms.
    #[default]
    Disarmed,
    /// Torque on, the last position held.
    Holding,
    /// The policy steers toward a goal.
    Reaching,
    /// A person steers.
    Teleop,
    /// Stopped by a fault, position held; only an operator's `arm` leads out.
    Faulted(Fault),
}

/// Why the loop stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fault {
    /// An operator pressed e-stop.
    EmergencyStop,
    /// Joint values were too old for too long.
    BusSilent,
    /// The port is gone.
    PortLost,
    /// A measured position jumped further than the joint can move.
    ImplausibleState,
    /// The policy gave several non-finite or wrongly sized actions in a row.
    BadAction,
    /// A servo is too hot.
    Overheat,
    /// A servo reports overload, over-current, a voltage or encoder error, draws more current than it
    /// may, or lost its torque: it restarted.
    Servo,
    /// The measured position does not follow the commanded one.
    Tracking,
    /// A joint pushed against something: much load, and not where it was sent.
    Stall,
    /// The supply is too low or too high.
    Voltage,
    /// The policy gave no usable action for too long.
    PolicyLate,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmergencyStop => "emergency stop",
            Self::BusSilent => "the servos do not answer",
            Self::PortLost => "the port is gone",
            Self::ImplausibleState => "a joint jumped further than it can move",
            Self::BadAction => "the policy gave no usable action",
            Self::Overheat => "a servo is too hot",
            Self::Servo => "a servo reports an error or has restarted: check its supply and load",
            Self::Tracking => "the arm does not follow",
            Self::Stall => "a joint pushed against something",
            Self::Voltage => "the supply voltage is out of range",
            Self::PolicyLate => "the policy is too slow",
        })
    }
}

/// What happened in a tick, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Events(pub u32);

impl Events {
    /// A goal was accepted in this tick.
    pub const GOAL_SET: Self = Self(1);
    /// The goal was reached (within its tolerance).
    pub const GOAL_REACHED: Self = Self(1 << 1);
    /// The goal timed out or was taken back.
    pub const GOAL_ENDED: Self = Self(1 << 2);
    /// From this tick on another policy steers.
    pub const POLICY_SWAPPED: Self = Self(1 << 3);
    /// The safety gate changed the action.
    pub const GATED: Self = Self(1 << 4);
    /// The policy's action was refused (non-finite, wrong size); the position was held.
    pub const ACTION_REFUSED: Self = Self(1 << 5);
    /// No fresh action came in time; the last one was used or the position held.
    pub const ACTION_LATE: Self = Self(1 << 6);
    /// At least one joint's value is older than this tick.
    pub const STALE_JOINT: Self = Self(1 << 7);
    /// Log records were lost before this one because the queue was full.
    pub const LOG_GAP: Self = Self(1 << 8);
    /// At least one tick's deadline passed before this one.
    pub const MISSED_TICK: Self = Self(1 << 9);
    /// A servo is warm.
    pub const WARM: Self = Self(1 << 10);
    /// The arm moves more slowly than it may, to spare a hot or loaded servo.
    pub const SLOWED: Self = Self(1 << 11);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOrAssign for Events {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The first 16 bytes of a policy file's SHA-256; all zero when no policy steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct PolicyId(pub [u8; 16]);

impl std::fmt::Display for PolicyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl PolicyId {
    /// An id from its 32 hexadecimal digits, as it is displayed.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
        Some(Self(id.to_be_bytes()))
    }
}

/// One tick: what was measured, wished and sent, and when.
///
/// Joint vectors are in the arm's joint order; positions in rad, velocities in rad/s, currents in A,
/// temperatures in °C. Goals are in the goal space's units (end-effector position: m, base frame).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Ticks since the loop started; gaps are missed ticks.
    pub tick: u64,
    /// When the tick began.
    pub time: Time,
    /// The date at the tick's begin.
    pub wall: WallTime,
    /// When each joint was measured.
    pub stamps: JointVec<Time>,
    /// Measured positions (rad).
    pub position: JointVec<f32>,
    /// Measured velocities (rad/s).
    pub velocity: JointVec<f32>,
    /// Measured loads (fraction of the stall torque, signed).
    pub load: JointVec<f32>,
    /// Measured motor currents (A), signed as the loads: NaN for a joint that does not measure its
    /// current, empty when none does.
    pub current: JointVec<f32>,
    /// Measured temperatures (°C).
    pub temperature: JointVec<f32>,
    /// The achieved goal at the measured positions.
    pub achieved_goal: GoalVec,
    /// The goal wished for; empty when there is none.
    pub desired_goal: GoalVec,
    /// The policy's raw action; empty when none steered.
    pub action: JointVec<f32>,
    /// The goal positions written to the servos after the safety gate (rad); empty when torque is off.
    pub sent: JointVec<f32>,
    /// The mode at the tick's end.
    pub mode: Mode,
    /// What happened.
    pub events: Events,
    /// A person steered.
    pub intervention: bool,
    /// The policy whose action this is.
    pub policy: PolicyId,
}
