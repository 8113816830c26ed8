//! What a control loop may be asked for and told, as it is logged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Source, Split};
use crate::clock::Time;
use crate::joints::{GoalVec, JointVec};

/// A goal to reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoalRequest {
    /// Names the goal in results; chosen by the client.
    pub id: u64,
    /// The desired goal, in the robot's goal space.
    pub goal: GoalVec,
    /// Reached within this distance, in the goal space's unit.
    pub tolerance: f32,
    /// Given up after this time.
    pub timeout: Duration,
    /// Moved on by [`Command::Follow`], and given up when none comes for this time; none for a goal
    /// that stands.
    pub stream: Option<Duration>,
    /// End as soon as the goal was held for the configured ticks; else go on until the timeout.
    pub end_when_reached: bool,
    /// What the episode is logged as.
    pub source: Source,
    /// What learning may use the episode for.
    pub split: Split,
    /// The seed that goal and noise were drawn with.
    pub seed: Option<u64>,
}

/// The next goal of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoalUpdate {
    /// The goal that is moved on: who was replaced since must not steer.
    pub id: u64,
    /// Grows with each update, so that those out of order are known.
    pub sequence: u64,
    /// The desired goal from now on.
    pub goal: GoalVec,
}

/// What the loop is asked to do; taken over at the begin of the next tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Torque on and hold; clears a fault.
    Arm,
    /// Torque off.
    Disarm,
    /// Give up the goal and hold.
    Stop,
    /// Stop at once and latch.
    EmergencyStop,
    /// Reach a goal.
    Reach(GoalRequest),
    /// Move the streamed goal being reached.
    Follow(GoalUpdate),
    /// Where the object is now (m, base frame), in the goal space of object positions.
    Object(GoalVec),
    /// Go to the parking pose and switch torque off there.
    Park,
    /// Go to joint positions (rad) inside all limits and hold there: home, or where to park.
    Move(JointVec<f64>),
    /// A person steers from now on. A goal stays: what they do toward it is an intervention.
    TakeOver(Lead),
    /// The person lets go: the policy goes on toward the goal if there is one, else the arm holds. A
    /// demonstration ends.
    LetGo,
    /// A demonstration begins, while a person steers. Its goal may be left empty: then it is the one
    /// achieved at the last [`Mark`](Self::Mark), or without a mark at its end. Only its timeout, a
    /// command or a fault ends it, and a goal that is given where `end_when_reached` says so.
    Record(GoalRequest),
    /// The goal achieved now becomes the demonstration's.
    Mark,
    /// No more steps of the demonstration are logged; what it is worth is said later.
    Cut,
    /// Ends the demonstration with what the operator says of it: a success, a failure, or nothing,
    /// which leaves it to the distance from a goal that was given.
    Conclude(Option<bool>),
}

/// Where a person wishes the joints to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TeleopAction {
    /// When it was measured.
    pub stamp: Time,
    /// Wished positions (rad), one a joint.
    #[serde(deserialize_with = "super::inputs::numbers")]
    pub position: JointVec<f64>,
}

/// How a person steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lead {
    /// With a device that tells where the joints are to be.
    #[default]
    Device,
    /// With their hands on the arm itself: its torque is off meanwhile.
    ByHand,
    /// The same, and the motors brake without torque; a fault where a servo cannot.
    Damped,
}

impl Lead {
    /// Whether the arm itself is led, without torque.
    pub fn is_by_hand(self) -> bool {
        self != Self::Device
    }
}
