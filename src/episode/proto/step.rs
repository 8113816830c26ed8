//! The message of one step.

use prost::Message;

use super::named::Named;
use super::{Placed, ReadStep, policy_id};
use crate::clock::{Time, WallTime};
use crate::episode::{Events, Fault, Mode, PolicyId, Step};
use crate::joints::{GoalVec, JointVec, MAX_GOAL, MAX_JOINTS, stack};

/// One number per joint.
type Joints = Named<MAX_JOINTS>;
/// A goal by its parts.
type Goal = Named<MAX_GOAL>;

/// When each joint was measured, relative to the tick's beginning.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct JointTimes {
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

    fn stamps(offsets: &Option<Self>, tick: Time) -> JointVec<Time> {
        let Some(j) = offsets else { return JointVec::new() };
        let offsets = [j.j1, j.j2, j.j3, j.j4, j.j5, j.j6, j.j7, j.j8].into_iter().map_while(|v| v);
        stack(offsets.map(|offset| Time(tick.0.wrapping_add(offset as u64))))
    }
}

/// `regoal.Step`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct StepMessage {
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
    /// Of the first files, whose goals have no names; no longer written.
    #[prost(float, repeated, tag = "11")]
    achieved_unnamed: Vec<f32>,
    #[prost(float, repeated, tag = "12")]
    desired_unnamed: Vec<f32>,
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
    episode: u64,
    #[prost(message, optional, tag = "19")]
    current: Option<Joints>,
    #[prost(message, optional, tag = "20")]
    achieved_goal: Option<Goal>,
    #[prost(message, optional, tag = "21")]
    desired_goal: Option<Goal>,
}

impl StepMessage {
    /// Takes over a step's values, keeping the buffers it has.
    pub(in crate::episode) fn fill(&mut self, step: &Step, episode: u64) {
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
        self.action.clear();
        self.action.extend_from_slice(&step.action);
        (self.mode, self.fault) = (mode, fault);
        self.events = step.events.0;
        self.intervention = step.intervention;
        self.policy.clear();
        if step.policy != PolicyId::default() {
            self.policy.extend_from_slice(&step.policy.0);
        }
        self.episode = episode;
        self.current = Joints::from_values(&step.current);
        self.achieved_goal = Goal::from_values(&step.achieved_goal);
        self.desired_goal = Goal::from_values(&step.desired_goal);
    }
}

impl ReadStep for StepMessage {
    type Step = Step;

    fn episode(&self) -> u64 {
        self.episode
    }

    fn step(&self) -> Option<Step> {
        let time = Time(self.monotonic_ns);
        Some(Step {
            tick: self.tick,
            time,
            wall: WallTime(self.wall_ns),
            stamps: JointTimes::stamps(&self.measured_after_ns, time),
            position: Joints::values(&self.position),
            velocity: Joints::values(&self.velocity),
            load: Joints::values(&self.load),
            current: Joints::values(&self.current),
            temperature: Joints::values(&self.temperature),
            achieved_goal: goal(&self.achieved_goal, &self.achieved_unnamed),
            desired_goal: goal(&self.desired_goal, &self.desired_unnamed),
            action: stack(self.action.iter().copied()),
            sent: Joints::values(&self.sent),
            mode: mode(self.mode, self.fault)?,
            events: Events(self.events),
            intervention: self.intervention,
            policy: policy_id(&self.policy)?,
        })
    }
}

impl Placed for Step {
    fn tick(&self) -> u64 {
        self.tick
    }

    fn follows_gap(&mut self) {
        self.events |= Events::LOG_GAP;
    }
}

/// The fields of `regoal.Step` that tell its place and whether this version knows its values: read
/// several times as fast as all of them.
#[derive(Clone, PartialEq, Message)]
pub(in crate::episode) struct PlaceMessage {
    #[prost(uint64, tag = "1")]
    tick: u64,
    #[prost(fixed64, tag = "2")]
    monotonic_ns: u64,
    #[prost(uint32, tag = "13")]
    mode: u32,
    #[prost(uint32, tag = "14")]
    fault: u32,
    #[prost(bytes = "vec", tag = "17")]
    policy: Vec<u8>,
    #[prost(uint64, tag = "18")]
    episode: u64,
}

/// When a step was.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::episode) struct Place {
    tick: u64,
    pub(in crate::episode) time: Time,
}

impl ReadStep for PlaceMessage {
    type Step = Place;

    fn episode(&self) -> u64 {
        self.episode
    }

    fn step(&self) -> Option<Place> {
        mode(self.mode, self.fault)?;
        policy_id(&self.policy)?;
        Some(Place { tick: self.tick, time: Time(self.monotonic_ns) })
    }
}

impl Placed for Place {
    fn tick(&self) -> u64 {
        self.tick
    }

    fn follows_gap(&mut self) {}
}

fn goal(named: &Option<Goal>, unnamed: &[f32]) -> GoalVec {
    if unnamed.is_empty() { Goal::values(named) } else { stack(unnamed.iter().copied()) }
}

/// Faults by their number in the file, from 1; the order never changes.
pub(in crate::episode) const FAULTS: [(Fault, &str); 11] = [
    (Fault::EmergencyStop, "EMERGENCY_STOP"),
    (Fault::BusSilent, "BUS_SILENT"),
    (Fault::PortLost, "PORT_LOST"),
    (Fault::ImplausibleState, "IMPLAUSIBLE_STATE"),
    (Fault::BadAction, "BAD_ACTION"),
    (Fault::Overheat, "OVERHEAT"),
    (Fault::Servo, "SERVO"),
    (Fault::Tracking, "TRACKING"),
    (Fault::Stall, "STALL"),
    (Fault::Voltage, "VOLTAGE"),
    (Fault::PolicyLate, "POLICY_LATE"),
];

impl Fault {
    /// Every fault, in the order of their numbers in a file.
    pub fn all() -> impl Iterator<Item = Self> {
        FAULTS.iter().map(|(fault, _)| *fault)
    }
}

pub(in crate::episode) fn mode_numbers(mode: Mode) -> (u32, u32) {
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

pub(in crate::episode) fn mode(mode: u32, fault: u32) -> Option<Mode> {
    Some(match mode {
        0 => Mode::Disarmed,
        1 => Mode::Holding,
        2 => Mode::Reaching,
        3 => Mode::Teleop,
        4 => Mode::Faulted(FAULTS.get((fault as usize).checked_sub(1)?)?.0),
        _ => return None,
    })
}
