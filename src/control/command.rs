//! What a loop is asked for, and what it answers.

use std::time::Duration;

use super::teleop::Lead;
use crate::episode::{Fault, Source, Split};
use crate::joints::{GoalVec, JointVec};

/// A goal to reach.
#[derive(Debug, Clone, PartialEq)]
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

/// Why a goal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// Held within the tolerance.
    Reached,
    /// The time was up.
    TimedOut,
    /// Taken back.
    Stopped,
    /// Another goal took its place.
    Replaced,
    /// No update came in time.
    StreamEnded,
    /// Where the object is was not told in time.
    ObjectLost,
    /// An operator ended the demonstration.
    Concluded,
    /// A fault stopped the arm.
    Faulted(Fault),
}

/// The next goal of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalUpdate {
    /// The goal that is moved on: who was replaced since must not steer.
    pub id: u64,
    /// Grows with each update, so that those out of order are known.
    pub sequence: u64,
    /// The desired goal from now on.
    pub goal: GoalVec,
}

impl Ending {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::TimedOut => "timed out",
            Self::Stopped => "stopped",
            Self::Replaced => "replaced by another goal",
            Self::StreamEnded => "its stream ended",
            Self::ObjectLost => "the object was lost",
            Self::Concluded => "ended by the operator",
            Self::Faulted(_) => "stopped by a fault",
        }
    }
}

/// What the loop is asked to do; taken over at the begin of the next tick.
#[derive(Debug, Clone, PartialEq)]
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

/// How the last goal ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoalResult {
    /// The goal's id.
    pub id: u64,
    /// Why it ended.
    pub ending: Ending,
    /// The goal was within the tolerance at its end.
    pub success: bool,
    /// The distance at its end, in the goal space's unit.
    pub distance: f32,
    /// Ticks it took.
    pub ticks: u64,
}

/// Counts since the loop started.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct LoopCounters {
    /// Ticks run.
    pub ticks: u64,
    /// Ticks skipped because the one before ended too late.
    pub missed: u64,
    /// Ticks without a fresh action in time while reaching.
    pub late_actions: u64,
    /// Actions refused.
    pub refused_actions: u64,
    /// Ticks with at least one stale joint.
    pub stale_ticks: u64,
    /// Transactions that failed to write.
    pub failed_writes: u64,
    /// Goals that ended.
    #[serde(default)]
    pub goals: GoalCounters,
}

/// Goals that ended, by how.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(default)]
pub struct GoalCounters {
    /// Held within the tolerance.
    pub reached: u64,
    /// The time was up.
    pub timed_out: u64,
    /// Taken back.
    pub stopped: u64,
    /// Another goal took its place.
    pub replaced: u64,
    /// No update came in time.
    pub stream_ended: u64,
    /// Where the object is was not told in time.
    pub object_lost: u64,
    /// An operator ended the demonstration.
    pub concluded: u64,
    /// A fault stopped the arm.
    pub faulted: u64,
    /// Those among all that were successes.
    pub succeeded: u64,
}

impl GoalCounters {
    pub(super) fn count(&mut self, ending: Ending, success: bool) {
        *match ending {
            Ending::Reached => &mut self.reached,
            Ending::TimedOut => &mut self.timed_out,
            Ending::Stopped => &mut self.stopped,
            Ending::Replaced => &mut self.replaced,
            Ending::StreamEnded => &mut self.stream_ended,
            Ending::ObjectLost => &mut self.object_lost,
            Ending::Concluded => &mut self.concluded,
            Ending::Faulted(_) => &mut self.faulted,
        } += 1;
        self.succeeded += u64::from(success);
    }

    /// All that ended.
    pub fn ended(&self) -> u64 {
        self.reached
            + self.timed_out
            + self.stopped
            + self.replaced
            + self.stream_ended
            + self.object_lost
            + self.concluded
            + self.faulted
    }
}
