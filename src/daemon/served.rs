//! A running control loop as the API shows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::api::{
    Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Joint, Log, Robot, Status,
    Timing,
};
use crate::clock::Clock;
use crate::control::{self, CommandError, Handle};
use crate::episode::{LogStatus, PolicyId, Source, Split};
use crate::joints::stack;

/// What the API tells of a robot besides its loop's status.
#[derive(Clone)]
pub struct Facts {
    /// The robot's name.
    pub robot: String,
    /// The joints' names, base first.
    pub joints: Vec<String>,
    /// Ticks per second.
    pub rate_hz: f64,
    /// The tolerance of a goal that names none (m).
    pub tolerance_m: f64,
    /// The timeout of a goal that names none (s).
    pub timeout_s: f64,
    /// What the log writer says; none when nothing is logged.
    pub log: Option<Arc<LogStatus>>,
    /// The loop's clock.
    pub clock: Arc<dyn Clock>,
}

/// A running control loop and what else is known of its robot.
pub struct Served {
    handle: Handle,
    facts: Facts,
    /// The goal accepted last: the only one that may still be on its way.
    last: Mutex<Option<u64>>,
}

impl Served {
    /// What a [`Server`](super::Server) shows of the loop that `handle` talks to.
    pub fn new(handle: Handle, facts: Facts) -> Self {
        Self { handle, facts, last: Mutex::new(None) }
    }
}

impl Robot for Served {
    fn status(&self) -> Status {
        status(&self.handle.status(), &self.facts)
    }

    fn command(&self, command: Command) -> Result<(), ErrorReply> {
        let command = match command {
            Command::Arm => control::Command::Arm,
            Command::Disarm => control::Command::Disarm,
            Command::Stop => control::Command::Stop,
            Command::EmergencyStop => control::Command::EmergencyStop,
        };
        Ok(self.handle.command(command)?)
    }

    fn reach(&self, goal: &Goal) -> Result<u64, ErrorReply> {
        let timeout = goal.timeout_s.unwrap_or(self.facts.timeout_s);
        let id = self.handle.reach(control::GoalRequest {
            id: 0,
            goal: stack(goal.goal),
            tolerance: goal.tolerance_m.unwrap_or(self.facts.tolerance_m as f32),
            timeout: Duration::try_from_secs_f64(timeout).unwrap_or_default(),
            stream: None,
            end_when_reached: true,
            source: Source::Run,
            split: Split::Training,
            seed: None,
        })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(id)
    }

    fn goal(&self, id: u64) -> Option<GoalReply> {
        // Asked before the result, so that a goal cannot end unseen between the two.
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.handle.wait_for(id, Duration::ZERO) {
            Some(result) => Some(GoalReply { id, result: Some(result.into()) }),
            None => (last == Some(id)).then_some(GoalReply { id, result: None }),
        }
    }
}

fn status(s: &control::Status, facts: &Facts) -> Status {
    let step = &s.step;
    let now = facts.clock.now();
    let joint = |(i, name): (usize, &String)| Joint {
        name: name.clone(),
        position_rad: step.position.get(i).copied().and_then(finite),
        velocity_rad_s: step.velocity.get(i).copied().and_then(finite),
        temperature_c: step.temperature.get(i).copied().and_then(finite),
        age_ms: step.stamps.get(i).map_or(0.0, |t| now.since(*t).as_secs_f64() * 1e3),
    };
    let desired = (!step.desired_goal.is_empty()).then(|| step.desired_goal.to_vec());
    Status {
        robot: facts.robot.clone(),
        mode: step.mode,
        alive: !s.ended,
        tick: step.tick,
        rate_hz: facts.rate_hz,
        joints: facts.joints.iter().enumerate().map(joint).collect(),
        achieved_goal_m: step.achieved_goal.iter().copied().map(finite).collect(),
        distance_m: finite(control::distance(&step.achieved_goal, &step.desired_goal)),
        desired_goal_m: desired,
        policy: (step.policy != PolicyId::default()).then(|| step.policy.to_string()),
        counters: s.counters,
        faults: s.bus,
        timing: Timing {
            realtime: crate::os::realtime(),
            lateness_us: s.jitter.lateness.quantiles(),
            duration_us: s.jitter.duration.quantiles(),
            policy_us: s.policy,
        },
        log: facts.log.as_deref().map(log),
    }
}

/// JSON has no number for what is not known.
fn finite(x: f32) -> Option<f32> {
    x.is_finite().then_some(x)
}

fn log(log: &LogStatus) -> Log {
    Log {
        episodes: log.episodes(),
        steps: log.steps(),
        bytes: log.bytes(),
        unlogged: log.unlogged(),
        failures: log.failures(),
        disk_full: log.disk_full(),
        last_error: log.last_error(),
    }
}

impl From<control::GoalResult> for GoalResult {
    fn from(r: control::GoalResult) -> Self {
        let (ending, fault) = match r.ending {
            control::Ending::Reached => (Ending::Reached, None),
            control::Ending::TimedOut => (Ending::TimedOut, None),
            control::Ending::Stopped | control::Ending::Concluded => (Ending::Stopped, None),
            control::Ending::Replaced => (Ending::Replaced, None),
            control::Ending::StreamEnded => (Ending::StreamEnded, None),
            control::Ending::ObjectLost => (Ending::ObjectLost, None),
            control::Ending::Faulted(fault) => (Ending::Faulted, Some(fault)),
        };
        let distance_m = finite(r.distance);
        Self { ending, fault, success: r.success, distance_m, ticks: r.ticks }
    }
}

impl From<CommandError> for ErrorReply {
    fn from(e: CommandError) -> Self {
        let code = match e {
            CommandError::Refused(_) => Code::Refused,
            CommandError::NoAnswer => Code::NoAnswer,
        };
        Self { error: e.to_string(), code }
    }
}
