//! The messages of an episode's file as protobuf; their description for readers is in `schema`.

use prost::Message;

use super::header::{EpisodeHeader, Outcome, Source, Split, reason};
use super::{Events, Fault, Mode, PolicyId, Step};
use crate::clock::{Time, WallTime};
use crate::joints::{JointVec, stack};

/// One number per joint. `Some` is written even when it is zero, so that the number of joints, the
/// sign of zero and the bits of a NaN survive.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Joints {
    #[prost(float, optional, tag = "1")]
    j1: Option<f32>,
    #[prost(float, optional, tag = "2")]
    j2: Option<f32>,
    #[prost(float, optional, tag = "3")]
    j3: Option<f32>,
    #[prost(float, optional, tag = "4")]
    j4: Option<f32>,
    #[prost(float, optional, tag = "5")]
    j5: Option<f32>,
    #[prost(float, optional, tag = "6")]
    j6: Option<f32>,
    #[prost(float, optional, tag = "7")]
    j7: Option<f32>,
    #[prost(float, optional, tag = "8")]
    j8: Option<f32>,
}

impl Joints {
    fn from_values(values: &JointVec<f32>) -> Option<Self> {
        let at = |i: usize| values.get(i).copied();
        (!values.is_empty()).then(|| Self {
            j1: at(0),
            j2: at(1),
            j3: at(2),
            j4: at(3),
            j5: at(4),
            j6: at(5),
            j7: at(6),
            j8: at(7),
        })
    }

    fn values(joints: Option<Self>) -> JointVec<f32> {
        let j = joints.unwrap_or_default();
        stack([j.j1, j.j2, j.j3, j.j4, j.j5, j.j6, j.j7, j.j8].into_iter().map_while(|v| v))
    }
}

/// When each joint was measured, relative to the tick's beginning.
#[derive(Clone, PartialEq, Message)]
pub(super) struct JointTimes {
    #[prost(sint64, optional, tag = "1")]
    j1: Option<i64>,
    #[prost(sint64, optional, tag = "2")]
    j2: Option<i64>,
    #[prost(sint64, optional, tag = "3")]
    j3: Option<i64>,
    #[prost(sint64, optional, tag = "4")]
    j4: Option<i64>,
    #[prost(sint64, optional, tag = "5")]
    j5: Option<i64>,
    #[prost(sint64, optional, tag = "6")]
    j6: Option<i64>,
    #[prost(sint64, optional, tag = "7")]
    j7: Option<i64>,
    #[prost(sint64, optional, tag = "8")]
    j8: Option<i64>,
}

impl JointTimes {
    fn from_stamps(stamps: &JointVec<Time>, tick: Time) -> Option<Self> {
        let at = |i: usize| stamps.get(i).map(|stamp| stamp.0.wrapping_sub(tick.0) as i64);
        (!stamps.is_empty()).then(|| Self {
            j1: at(0),
            j2: at(1),
            j3: at(2),
            j4: at(3),
            j5: at(4),
            j6: at(5),
            j7: at(6),
            j8: at(7),
        })
    }

    fn stamps(offsets: Option<Self>, tick: Time) -> JointVec<Time> {
        let j = offsets.unwrap_or_default();
        let offsets = [j.j1, j.j2, j.j3, j.j4, j.j5, j.j6, j.j7, j.j8].into_iter().map_while(|v| v);
        stack(offsets.map(|offset| Time(tick.0.wrapping_add(offset as u64))))
    }
}

/// `regoal.Step`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct StepMessage {
    #[prost(uint64, tag = "1")]
    tick: u64,
    #[prost(fixed64, tag = "2")]
    monotonic_ns: u64,
    #[prost(fixed64, tag = "3")]
    wall_ns: u64,
    #[prost(message, optional, tag = "4")]
    measured_after_ns: Option<JointTimes>,
    #[prost(message, optional, tag = "5")]
    position: Option<Joints>,
    #[prost(message, optional, tag = "6")]
    velocity: Option<Joints>,
    #[prost(message, optional, tag = "7")]
    load: Option<Joints>,
    #[prost(message, optional, tag = "8")]
    temperature: Option<Joints>,
    #[prost(message, optional, tag = "9")]
    sent: Option<Joints>,
    #[prost(float, repeated, tag = "10")]
    action: Vec<f32>,
    #[prost(float, repeated, tag = "11")]
    achieved_goal: Vec<f32>,
    #[prost(float, repeated, tag = "12")]
    desired_goal: Vec<f32>,
    #[prost(uint32, tag = "13")]
    mode: u32,
    #[prost(uint32, tag = "14")]
    fault: u32,
    #[prost(uint32, tag = "15")]
    events: u32,
    #[prost(bool, tag = "16")]
    intervention: bool,
    #[prost(bytes = "vec", tag = "17")]
    policy: Vec<u8>,
    /// The number of the episode this step belongs to: a disk may hand back another file's sectors.
    #[prost(uint64, tag = "18")]
    pub(super) episode: u64,
}

impl StepMessage {
    /// Takes over a step's values, keeping the buffers it has.
    pub(super) fn fill(&mut self, step: &Step, episode: u64) {
        let (mode, fault) = mode_numbers(step.mode);
        self.tick = step.tick;
        self.monotonic_ns = step.time.0;
        self.wall_ns = step.wall.0;
        self.measured_after_ns = JointTimes::from_stamps(&step.stamps, step.time);
        self.position = Joints::from_values(&step.position);
        self.velocity = Joints::from_values(&step.velocity);
        self.load = Joints::from_values(&step.load);
        self.temperature = Joints::from_values(&step.temperature);
        self.sent = Joints::from_values(&step.sent);
        refill(&mut self.action, &step.action);
        refill(&mut self.achieved_goal, &step.achieved_goal);
        refill(&mut self.desired_goal, &step.desired_goal);
        (self.mode, self.fault) = (mode, fault);
        self.events = step.events.0;
        self.intervention = step.intervention;
        self.policy.clear();
        if step.policy != PolicyId::default() {
            self.policy.extend_from_slice(&step.policy.0);
        }
        self.episode = episode;
    }

    /// The step, or `None` when a value is unknown to this version.
    pub(super) fn into_step(self) -> Option<Step> {
        let time = Time(self.monotonic_ns);
        Some(Step {
            tick: self.tick,
            time,
            wall: WallTime(self.wall_ns),
            stamps: JointTimes::stamps(self.measured_after_ns, time),
            position: Joints::values(self.position),
            velocity: Joints::values(self.velocity),
            load: Joints::values(self.load),
            temperature: Joints::values(self.temperature),
            achieved_goal: stack(self.achieved_goal),
            desired_goal: stack(self.desired_goal),
            action: stack(self.action),
            sent: Joints::values(self.sent),
            mode: mode(self.mode, self.fault)?,
            events: Events(self.events),
            intervention: self.intervention,
            policy: policy_id(&self.policy)?,
        })
    }
}

fn refill(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend_from_slice(from);
}

/// Faults by their number in the file, from 1; the order never changes.
pub(super) const FAULTS: [(Fault, &str); 8] = [
    (Fault::EmergencyStop, "EMERGENCY_STOP"),
    (Fault::BusSilent, "BUS_SILENT"),
    (Fault::PortLost, "PORT_LOST"),
    (Fault::ImplausibleState, "IMPLAUSIBLE_STATE"),
    (Fault::BadAction, "BAD_ACTION"),
    (Fault::Overheat, "OVERHEAT"),
    (Fault::Servo, "SERVO"),
    (Fault::Tracking, "TRACKING"),
];

fn mode_numbers(mode: Mode) -> (u32, u32) {
    match mode {
        Mode::Disarmed => (0, 0),
        Mode::Holding => (1, 0),
        Mode::Reaching => (2, 0),
        Mode::Teleop => (3, 0),
        Mode::Faulted(fault) => {
            let number = FAULTS.iter().position(|(known, _)| *known == fault).map_or(0, |i| i + 1);
            (4, number as u32)
        }
    }
}

fn mode(mode: u32, fault: u32) -> Option<Mode> {
    Some(match mode {
        0 => Mode::Disarmed,
        1 => Mode::Holding,
        2 => Mode::Reaching,
        3 => Mode::Teleop,
        4 => Mode::Faulted(FAULTS.get((fault as usize).checked_sub(1)?)?.0),
        _ => return None,
    })
}

fn policy_id(bytes: &[u8]) -> Option<PolicyId> {
    if bytes.is_empty() { Some(PolicyId::default()) } else { bytes.try_into().ok().map(PolicyId) }
}

/// `regoal.EpisodeHeader`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeaderMessage {
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
        }
    }
}

impl HeaderMessage {
    pub(super) fn into_header(self) -> Option<EpisodeHeader> {
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
        })
    }
}

/// `regoal.Outcome`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OutcomeMessage {
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
    pub(super) steps: u64,
    /// From the first step to the last.
    #[prost(uint64, tag = "8")]
    pub(super) duration_ns: u64,
}

impl OutcomeMessage {
    pub(super) fn new(outcome: &Outcome, steps: u64, duration_ns: u64) -> Self {
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

    pub(super) fn outcome(&self) -> Option<Outcome> {
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
