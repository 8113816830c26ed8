//! A running control loop as the API shows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nalgebra::Vector3;

use super::api::{
    Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Joint, Log, Object, Robot,
    Status, Timing, finite,
};
use super::geometry::Geometry;
use super::goals::Goals;
use super::steer::{Demonstration, Pad};
use super::telemetry::Telemetry;
use crate::clock::Clock;
use crate::config::{JointConfig, RobotConfig};
use crate::control::{self, CommandError, Handle, Jitter, Refusal, TeleopSender};
use crate::episode::{LogStatus, PolicyId, Source, Split};
use crate::joints::{GoalVec, JointVec, stack};
use crate::kinematics::KinematicsError;
use crate::teleop::{Follower, Pointer, SPEED, TURN, Twist};

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
    geometry: Geometry,
    /// Whoever steers over the API; none where nobody can.
    person: Mutex<Option<Person>>,
    /// Demonstrations are being recorded: goals and commands are not for the API.
    recording: bool,
}

/// A person at a pad.
struct Person {
    sender: TeleopSender,
    pointer: Pointer,
    engaged: bool,
}

impl Served {
    /// What a [`Server`](super::Server) shows of the loop that `handle` talks to.
    ///
    /// # Errors
    /// The robot's goals need a geometry that it does not have.
    pub fn new(handle: Handle, facts: Facts) -> Result<Self, KinematicsError> {
        let goals = Goals::of(&facts.robot)?;
        let geometry = Geometry::of(&facts.robot);
        let person = Mutex::new(None);
        let last = Mutex::new(None);
        Ok(Self { handle, facts, goals, last, geometry, person, recording: false })
    }

    /// While demonstrations are recorded nobody commands the arm over the API but to stop it at once.
    pub fn recording(self) -> Self {
        Self { recording: true, ..self }
    }

    /// Lets people steer over the API: what they wish goes to the loop through `sender`.
    ///
    /// # Errors
    /// The robot's geometry is wrong.
    pub fn steered(self, sender: TeleopSender) -> Result<Self, KinematicsError> {
        let pointer = Pointer::new(&self.facts.robot)?;
        let person = Person { sender, pointer, engaged: false };
        Ok(Self { person: Mutex::new(Some(person)), ..self })
    }
}

impl Robot for Served {
    fn status(&self) -> Status {
        status(&self.handle.status(), &self.facts)
    }

    fn command(&self, command: Command) -> Result<(), ErrorReply> {
        if command != Command::EmergencyStop {
            self.is_free()?;
        }
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

    fn reach(&self, goal: &Goal, streamed: bool) -> Result<u64, ErrorReply> {
        self.is_free()?;
        let control = &self.facts.robot.control;
        // A stream goes on until it dries up.
        let standing = if streamed { LONGEST_S } else { control.goal_timeout_s };
        let timeout = goal.timeout_s.unwrap_or(standing);
        let pause = Duration::try_from_secs_f64(control.stream_timeout_s).unwrap_or_default();
        let id = self.handle.reach(control::GoalRequest {
            id: 0,
            goal: self.wished(goal)?,
            tolerance: self.tolerance(goal),
            timeout: Duration::try_from_secs_f64(timeout).unwrap_or_default(),
            stream: streamed.then_some(pause),
            end_when_reached: !streamed,
            source: Source::Run,
            split: Split::Training,
            seed: None,
        })?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        Ok(id)
    }

    fn follow(&self, id: u64, sequence: u64, goal: &Goal) -> Result<(), ErrorReply> {
        let goal = self.wished(goal)?;
        Ok(self.handle.follow(control::GoalUpdate { id, sequence, goal })?)
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

    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn steer(&self, pad: Option<&Pad>) -> Result<(), ErrorReply> {
        let mut person = self.person.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(person) = person.as_mut() else {
            let error = "another device steers this arm: start `regoal run` without \
                --leader and --keyboard";
            return Err(ErrorReply::new(Code::Refused, error));
        };
        if !person.engaged && pad.is_none() {
            return Ok(());
        }
        let follower = self.follower();
        if person.engaged != pad.is_some() {
            person.engaged = pad.is_some();
            person.pointer.engage(person.engaged, &follower);
        }
        if let Some(pad) = pad {
            person.sender.send(person.pointer.wish(&twist(pad), &follower));
        }
        Ok(())
    }

    fn demonstrate(&self, demonstration: Demonstration) -> Result<(), ErrorReply> {
        self.is_free()?;
        let command = match demonstration {
            Demonstration::Begin => control::Command::Record(self.shown()),
            Demonstration::End(verdict) => control::Command::Conclude(verdict.success()),
        };
        Ok(self.handle.command(command)?)
    }

    fn telemetry(&self) -> Telemetry {
        telemetry(&self.handle.status())
    }

    fn jitter(&self) -> Jitter {
        self.handle.status().jitter
    }
}

/// The longest that a goal may take (s).
const LONGEST_S: f64 = 3600.0;

fn twist(pad: &Pad) -> Twist {
    Twist {
        linear: Vector3::from(pad.linear) * SPEED,
        pitch: pad.pitch * TURN,
        roll: pad.roll * TURN,
        gripper: pad.gripper * TURN,
    }
}

impl Served {
    fn is_free(&self) -> Result<(), ErrorReply> {
        if !self.recording {
            return Ok(());
        }
        let error = "`regoal record` has the arm: only an emergency stop is taken meanwhile";
        Err(ErrorReply::new(Code::Refused, error))
    }

    fn follower(&self) -> Follower {
        let step = self.handle.status().step;
        let wide = |q: &JointVec<f32>| q.iter().map(|q| f64::from(*q)).collect();
        let now = self.facts.clock.now();
        Follower { now, position: wide(&step.position), sent: wide(&step.sent) }
    }

    /// A demonstration whose goal is the one achieved at its end.
    fn shown(&self) -> control::GoalRequest {
        control::GoalRequest {
            id: 0,
            goal: GoalVec::new(),
            tolerance: self.facts.robot.control.goal_tolerance as f32,
            timeout: Duration::from_secs_f64(LONGEST_S),
            stream: None,
            end_when_reached: false,
            source: Source::Demonstration,
            split: Split::Training,
            seed: None,
        }
    }

    fn tolerance(&self, goal: &Goal) -> f32 {
        goal.tolerance.unwrap_or(self.facts.robot.control.goal_tolerance as f32)
    }

    /// The goal in the goal space, within the arm's reach.
    fn wished(&self, goal: &Goal) -> Result<GoalVec, ErrorReply> {
        let step = self.handle.status().step;
        // Joints that stay stay where they are held, not where a load has bent them to.
        let held = if step.sent.is_empty() { &step.position } else { &step.sent };
        let wished = self.goals.wished(goal, held)?;
        if !goal.anyway {
            self.goals.in_reach(&wished, held, self.tolerance(goal).into())?;
        }
        Ok(wished)
    }
}

fn telemetry(s: &control::Status) -> Telemetry {
    let step = &s.step;
    let joints = |of: &JointVec<f32>| of.iter().copied().map(finite).collect();
    let goal = |of: &GoalVec| of.iter().copied().map(finite).collect();
    Telemetry {
        tick: step.tick,
        time_s: step.time.as_secs_f64(),
        mode: step.mode,
        alive: !s.ended,
        positions_rad: joints(&step.position),
        velocities_rad_s: joints(&step.velocity),
        loads: joints(&step.load),
        temperatures_c: joints(&step.temperature),
        sent_rad: joints(&step.sent),
        achieved_goal: goal(&step.achieved_goal),
        desired_goal: goal(&step.desired_goal),
        distance: finite(control::distance(&step.achieved_goal, &step.desired_goal)),
        policy: (step.policy != PolicyId::default()).then(|| step.policy.to_string()),
        intervention: step.intervention,
        lateness_us: s.jitter.lateness.last().as_secs_f64() * 1e6,
        duration_us: s.jitter.duration.last().as_secs_f64() * 1e6,
        lost: 0,
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
            CommandError::Refused(Refusal::Faulted(_)) => Code::Faulted,
            CommandError::Refused(Refusal::ObjectUnknown | Refusal::StateUnknown) => Code::Stale,
            CommandError::Refused(_) => Code::Refused,
            CommandError::NoAnswer => Code::NoAnswer,
        };
        Self { error: e.to_string(), code }
    }
}
