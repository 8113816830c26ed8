//! The messages before the first step and after the last.

use prost::Message;

use super::policy_id;
use crate::clock::WallTime;
use crate::episode::{EpisodeHeader, Origin, Outcome, Source, Split, reason};

/// `regoal.EpisodeHeader`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct HeaderMessage {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    robot: String,
    #[prost(string, repeated, tag = "3")]
    joints: Vec<String>,
    #[prost(double, tag = "4")]
    rate_hz: f64,
    #[prost(string, tag = "5")]
    goal_space: String,
    #[prost(float, tag = "6")]
    goal_tolerance: f32,
    #[prost(uint32, tag = "7")]
    source: u32,
    #[prost(uint32, tag = "8")]
    split: u32,
    #[prost(string, tag = "9")]
    calibration: String,
    #[prost(bytes = "vec", tag = "10")]
    policy: Vec<u8>,
    #[prost(uint64, optional, tag = "11")]
    seed: Option<u64>,
    #[prost(fixed64, tag = "12")]
    started_ns: u64,
    #[prost(string, tag = "13")]
    software: String,
    #[prost(string, tag = "14")]
    task: String,
    #[prost(string, repeated, tag = "15")]
    videos: Vec<String>,
    #[prost(string, tag = "16")]
    config: String,
    #[prost(string, tag = "17")]
    origin: String,
}

fn text(origin: &Origin) -> Option<String> {
    serde_json::to_string(origin).ok()
}

impl From<&EpisodeHeader> for HeaderMessage {
    fn from(header: &EpisodeHeader) -> Self {
        Self {
            number: header.number,
            robot: header.robot.clone(),
            joints: header.joints.clone(),
            rate_hz: header.rate_hz,
            goal_space: header.goal_space.clone(),
            goal_tolerance: header.goal_tolerance,
            source: match header.source {
                Source::Demonstration => 0,
                Source::Attempt => 1,
                Source::Run => 2,
                Source::Evaluation => 3,
            },
            split: match header.split {
                Split::Training => 0,
                Split::Validation => 1,
            },
            calibration: header.calibration.clone(),
            policy: header.policy.0.to_vec(),
            seed: header.seed,
            started_ns: header.started.0,
            software: header.software.clone(),
            task: header.task.clone(),
            videos: header.videos.clone(),
            config: header.config.clone(),
            origin: header.origin.as_ref().and_then(text).unwrap_or_default(),
        }
    }
}

impl HeaderMessage {
    pub(in crate::episode) fn into_header(self) -> Option<EpisodeHeader> {
        Some(EpisodeHeader {
            number: self.number,
            robot: self.robot,
            joints: self.joints,
            rate_hz: self.rate_hz,
            goal_space: self.goal_space,
            goal_tolerance: self.goal_tolerance,
            source: match self.source {
                0 => Source::Demonstration,
                1 => Source::Attempt,
                2 => Source::Run,
                3 => Source::Evaluation,
                _ => return None,
            },
            split: match self.split {
                0 => Split::Training,
                1 => Split::Validation,
                _ => return None,
            },
            calibration: self.calibration,
            policy: policy_id(&self.policy)?,
            seed: self.seed,
            started: WallTime(self.started_ns),
            software: self.software,
            task: self.task,
            videos: self.videos,
            config: self.config,
            // One of another version is of no use, but no reason to refuse the episode.
            origin: serde_json::from_str(&self.origin).ok(),
        })
    }
}

/// `regoal.Outcome`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct OutcomeMessage {
    #[prost(uint32, tag = "1")]
    label: u32,
    #[prost(float, optional, tag = "2")]
    final_distance: Option<f32>,
    #[prost(uint64, optional, tag = "3")]
    reached_tick: Option<u64>,
    #[prost(uint64, tag = "4")]
    ticks: u64,
    #[prost(uint64, tag = "5")]
    missed_ticks: u64,
    #[prost(string, tag = "6")]
    reason: String,
    /// Steps that were written, so that a reader sees whether any are missing at the end.
    #[prost(uint64, tag = "7")]
    pub(in crate::episode) steps: u64,
    /// From the first step to the last.
    #[prost(uint64, tag = "8")]
    pub(in crate::episode) duration_ns: u64,
}

impl OutcomeMessage {
    pub(in crate::episode) fn new(outcome: &Outcome, steps: u64, duration_ns: u64) -> Self {
        Self {
            label: match outcome.success {
                None => 0,
                Some(true) => 1,
                Some(false) => 2,
            },
            final_distance: outcome.final_distance,
            reached_tick: outcome.reached_tick,
            ticks: outcome.ticks,
            missed_ticks: outcome.missed_ticks,
            reason: outcome.reason.as_str().to_owned(),
            steps,
            duration_ns,
        }
    }

    pub(in crate::episode) fn outcome(&self) -> Option<Outcome> {
        Some(Outcome {
            success: match self.label {
                0 => None,
                1 => Some(true),
                2 => Some(false),
                _ => return None,
            },
            final_distance: self.final_distance,
            reached_tick: self.reached_tick,
            ticks: self.ticks,
            missed_ticks: self.missed_ticks,
            reason: reason(&self.reason),
        })
    }
}
