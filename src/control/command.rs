//! How what a loop was asked for ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::episode::Fault;

/// Why a goal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
