//! A running control loop as the API shows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::api::{
    Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Joint, Log, Object, Robot,
    Status, Timing,
};
use super::goals::Goals;
use crate::clock::Clock;
use crate::config::{JointConfig, RobotConfig};
use crate::control::{self, CommandError, Handle};
use crate::episode::{LogStatus, PolicyId, Source, Split};
use crate::joints::stack;
use crate::kinematics::KinematicsError;

/// What the API tells of a robot besides its loop's status.
#[derive(Clone)]
pub struct Facts {
    /// The robot.
    pub robot: RobotConfig,
    /// What the log writer says; none when nothing is logged.
    pub log: Option<Arc<LogStatus>>,
    /// The loop's clock.
    pub clock: Arc<dyn Clock>,
}

/// A running control loop and what else is known of its robot.
pub struct Served {
    handle: Handle,
    facts: Facts,
    goals: Goals,
    /// The goal accepted last: the only one that may still be on its way.
    last: Mutex<Option<u64>>,
}

impl Served {
    /// What a [`Server`](super::Server) shows of the loop that `handle` talks to.
    ///
    /// # Errors
    /// The robot's goals need a geometry that it does not have.
    pub fn new(handle: Handle, facts: Facts) -> Result<Self, KinematicsError> {
        let goals = Goals::of(&facts.robot)?;
        Ok(Self { handle, facts, goals, last: Mutex::new(None) })
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
            Command::TakeOver => control::Command::TakeOver(control::Lead::Device),
            Command::LetGo => control::Command::LetGo,
        };
        Ok(self.handle.command(command)?)
    }

    fn reach(&self, goal: &Goal) -> Result<u64, ErrorReply> {
        let control = &self.facts.robot.control;
        let tolerance = goal.tolerance.unwrap_or(control.goal_tolerance as f32);
        let timeout = goal.timeout_s.unwrap_or(control.goal_timeout_s);
        let step = self.handle.status().step;
        // Joints that stay stay where they are held, not where a load has bent them to.
        let held = if step.sent.is_empty() { &step.position } else { &step.sent };
        let wished = self.goals.wished(goal, held)?;
        if !goal.anyway {
            self.goals.in_reach(&wished, held, tolerance.into())?;
        }
        let id = self.handle.reach(control::GoalRequest {
            id: 0,
            goal: wished,
            tolerance,
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

    fn object(&self, object: Object) -> Result<(), ErrorReply> {
        Ok(self.handle.command(control::Command::Object(stack(object.position)))?)
    }

    fn goal(&self, id: u64) -> Option<GoalReply> {
        // Asked before the result, so that a goal cannot end unseen between the two.
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match self.handle.wait_for(id, Duration::ZERO) {
            Some(r) => Some(GoalReply { id, result: Some(result(r, &self.facts)) }),
            None => (last == Some(id)).then_some(GoalReply { id, result: None }),
        }
    }
}

fn status(s: &control::Status, facts: &Facts) -> Status {
    let step = &s.step;
    let now = facts.clock.now();
    let joint = |(i, joint): (usize, &JointConfig)| Joint {
        name: joint.name.clone(),
        position_rad: step.position.get(i).copied().and_then(finite),
        velocity_rad_s: step.velocity.get(i).copied().and_then(finite),
        temperature_c: step.temperature.get(i).copied().and_then(finite),
        age_ms: step.stamps.get(i).map_or(0.0, |t| now.since(*t).as_secs_f64() * 1e3),
    };
    let desired = (!step.desired_goal.is_empty()).then(|| step.desired_goal.to_vec());
    Status {
        robot: facts.robot.name.clone(),
        mode: step.mode,
        alive: !s.ended,
        tick: step.tick,
        rate_hz: facts.robot.control.rate_hz,
        joints: facts.robot.joint.iter().enumerate().map(joint).collect(),
        goal_space: facts.robot.control.goal_space,
        unit: facts.robot.control.goal_space.unit().into(),
        achieved_goal: step.achieved_goal.iter().copied().map(finite).collect(),
        distance: finite(control::distance(&step.achieved_goal, &step.desired_goal)),
        desired_goal: desired,
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

fn result(r: control::GoalResult, facts: &Facts) -> GoalResult {
    let (ending, fault) = match r.ending {
        control::Ending::Reached => (Ending::Reached, None),
        control::Ending::TimedOut => (Ending::TimedOut, None),
        control::Ending::Stopped | control::Ending::Concluded => (Ending::Stopped, None),
        control::Ending::Replaced => (Ending::Replaced, None),
        control::Ending::StreamEnded => (Ending::StreamEnded, None),
        control::Ending::ObjectLost => (Ending::ObjectLost, None),
        control::Ending::Faulted(fault) => (Ending::Faulted, Some(fault)),
    };
    GoalResult {
        ending,
        fault,
        success: r.success,
        distance: finite(r.distance),
        unit: facts.robot.control.goal_space.unit().into(),
        ticks: r.ticks,
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
