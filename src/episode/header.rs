//! What is known of an episode before its first step and after its last.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Origin, PolicyId};
use crate::clock::WallTime;

/// Who moved the robot, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A person or a scripted expert showed how.
    Demonstration,
    /// The robot tried, to learn from it.
    Attempt,
    /// The robot in service.
    #[default]
    Run,
    /// A measured attempt that must never be learned from.
    Evaluation,
}

/// What learning may use an episode for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Split {
    /// To fit parameters.
    #[default]
    Training,
    /// To judge parameters, never to fit them.
    Validation,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Demonstration => "demonstration",
            Self::Attempt => "attempt",
            Self::Run => "run",
            Self::Evaluation => "evaluation",
        })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Training => "training",
            Self::Validation => "validation",
        })
    }
}

/// What is known of an episode before its first step.
#[derive(Debug, Clone, PartialEq)]
pub struct EpisodeHeader {
    /// The episode's number in its dataset, from 0; given by the writer.
    pub number: u64,
    /// Videos of it that stand elsewhere: `camera=file#t=from,to` (s).
    pub videos: Vec<String>,
    /// The robot's name.
    pub robot: String,
    /// Joint names, in the order of the steps' joint vectors.
    pub joints: Vec<String>,
    /// Ticks per second.
    pub rate_hz: f64,
    /// What the episode is for, in words (LeRobot's task); may be empty.
    pub task: String,
    /// What a goal is, for example `end_effector_position` (m, base frame).
    pub goal_space: String,
    /// How near counts as reached, in the goal space's unit.
    pub goal_tolerance: f32,
    /// Who moved the robot.
    pub source: Source,
    /// What learning may use it for.
    pub split: Split,
    /// SHA-256 of the calibration, in hex; empty when there is none.
    pub calibration: String,
    /// The policy at the beginning.
    pub policy: PolicyId,
    /// The seed that goal, start and noise were drawn with.
    pub seed: Option<u64>,
    /// The date at the beginning.
    pub started: WallTime,
    /// The program that wrote it, with its version.
    pub software: String,
    /// The robot's configuration, as JSON; empty in older files.
    pub config: String,
    /// What the loop remembered before the first step; none in older files.
    pub origin: Option<Origin>,
}

impl Default for EpisodeHeader {
    fn default() -> Self {
        Self {
            number: 0,
            videos: Vec::new(),
            robot: String::new(),
            joints: Vec::new(),
            rate_hz: 0.0,
            task: String::new(),
            goal_space: String::new(),
            goal_tolerance: 0.0,
            source: Source::default(),
            split: Split::default(),
            calibration: String::new(),
            policy: PolicyId::default(),
            seed: None,
            started: WallTime::default(),
            config: String::new(),
            origin: None,
            software: concat!("regoal ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Why an episode ended, in a few words; on the stack, so that the control thread can make one.
pub type Reason = heapless::String<48>;

/// A reason, cut to what fits.
pub fn reason(text: &str) -> Reason {
    let mut reason = Reason::new();
    // A character that does not fit ends the text; the words before it are kept.
    text.chars().all(|c| reason.push(c).is_ok());
    reason
}

/// How an episode ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Whether the goal was reached; `None` when nobody can tell.
    pub success: Option<bool>,
    /// The distance to the goal at the last step, in the goal space's unit.
    pub final_distance: Option<f32>,
    /// The tick at which the goal was first within tolerance.
    pub reached_tick: Option<u64>,
    /// Ticks from the beginning to the end, missed ones included.
    pub ticks: u64,
    /// Ticks whose deadline passed.
    pub missed_ticks: u64,
    /// Why it ended.
    pub reason: Reason,
}
