//! The control loop: eight calls a tick, no failure that is not a mode.

mod attempts;
mod checks;
mod decide;
mod goals;
mod health;
mod inputs;
mod stops;
mod teleop;

use std::sync::Arc;
use std::time::Duration;

use self::attempts::Attempt;
use self::decide::Pace;
use self::goals::Goals;
use self::health::{Health, positions};
use self::inputs::{Watch, Witness};
use self::teleop::Teleop;
use super::actor::Pilot;
use super::command::{Ending, GoalResult, LoopCounters};
use super::gate::{Bounds, SafetyGate, Wish};
use super::hardware::{Hardware, Witnessed};
use super::modes::{self, Event};
use super::pulse::Pulse;
use super::reconnect::Reconnect;
use super::teleop::TeleopReceiver;
use crate::clock::{Clock, Time};
use crate::config::{ControlConfig, RobotConfig, SafetyConfig};
use crate::episode::{Events, Fault, LogSender, Mode, PolicyId, Step};
use crate::hal::arm::Counters;
use crate::hal::{Arm, ArmState};
use crate::joints::{GoalVec, JointVec, stack};
use crate::kinematics::KinematicsError;

/// Until when in a tick each call must be done, as a share of the period.
const READ_BY: f64 = 0.6;
const WRITE_BY: f64 = 0.98;
/// The share of its highest speed that an arm starts with after arming.
const STARTUP_SPEED: f64 = 0.1;

/// One arm's control loop. [`tick`](Self::tick) cannot fail and allocates nothing.
pub struct ControlLoop {
    config: ControlConfig,
    safety: SafetyConfig,
    period: Duration,
    goals: Goals,
    /// None while its port is gone.
    arm: Option<Witnessed>,
    reconnect: Option<Box<dyn Reconnect>>,
    bus: Counters,
    state: ArmState,
    gate: SafetyGate,
    pilot: Box<dyn Pilot>,
    teleop: Teleop,
    log: Option<LogSender>,
    clock: Watch,
    /// What is given from outside.
    witness: Witness,
    /// Whoever watches over this process.
    pulse: Option<Arc<Pulse>>,
    mode: Mode,
    /// Torque is on: only then is anything sent.
    powered: bool,
    /// The arm had torque when its port was lost.
    lost_energised: bool,
    attempt: Option<Attempt>,
    /// Where to go while nobody steers.
    target: Option<JointVec<f64>>,
    /// Torque goes off when the arm has come to rest there, unless that takes longer than until then.
    release_by: Option<Time>,
    park: JointVec<f64>,
    /// Since when torque is on.
    armed_at: Time,
    health: Health,
    /// The share of the highest speed that the joints' health allows.
    speed: f64,
    result: Option<GoalResult>,
    counters: LoopCounters,
    refusals: u32,
    pace: Pace,
    pending: Events,
    step: Step,
    wishes: JointVec<Wish>,
}

impl ControlLoop {
    /// A loop over an opened arm, disarmed.
    ///
    /// # Errors
    /// The robot's goals need a geometry that it does not have.
    pub fn new(
        robot: &RobotConfig,
        arm: Arm,
        pilot: Box<dyn Pilot>,
        log: Option<LogSender>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KinematicsError> {
        Self::over(robot, Box::new(arm), pilot, log, clock)
    }

    /// The same over any hardware.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(
        robot: &RobotConfig,
        arm: Box<dyn Hardware>,
        pilot: Box<dyn Pilot>,
        log: Option<LogSender>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KinematicsError> {
        Ok(Self {
            config: robot.control.clone(),
            safety: robot.safety.clone(),
            period: robot.period(),
            goals: Goals::of(robot)?,
            state: ArmState::default(),
            gate: SafetyGate::new(robot),
            arm: Some(Witnessed::new(arm)),
            reconnect: None,
            bus: Counters::default(),
            pilot,
            teleop: Teleop::default(),
            log,
            clock: Watch::new(clock),
            witness: Witness::default(),
            pulse: None,
            mode: Mode::Disarmed,
            powered: false,
            lost_energised: false,
            attempt: None,
            target: None,
            release_by: None,
            park: robot.joint.iter().map(|joint| joint.park_rad()).collect(),
            armed_at: Time::ZERO,
            health: Health::new(robot),
            speed: 1.0,
            result: None,
            counters: LoopCounters::default(),
            refusals: 0,
            pace: Pace::default(),
            pending: Events::default(),
            step: Step::default(),
            wishes: JointVec::new(),
        })
    }

    /// The same loop, which finds the arm again after its port was lost.
    #[must_use]
    pub fn with_reconnect(self, reconnect: Box<dyn Reconnect>) -> Self {
        Self { reconnect: Some(reconnect), ..self }
    }

    /// The same loop, which a person may steer.
    #[must_use]
    pub fn with_teleop(mut self, source: TeleopReceiver) -> Self {
        self.teleop.source = Some(source);
        self
    }

    /// The same loop, which tells whoever watches over this process of each tick, and begins with
    /// the fault that was latched in the process before.
    #[must_use]
    pub fn with_pulse(self, pulse: Arc<Pulse>) -> Self {
        let mode = pulse.fault().map_or(self.mode, Mode::Faulted);
        Self { pulse: Some(pulse), mode, ..self }
    }

    /// There will be no more ticks: the arm was left as configured.
    pub(super) fn end(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.end();
        }
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The step of the last tick.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// How the last goal ended, once.
    pub fn take_result(&mut self) -> Option<GoalResult> {
        self.result.take()
    }

    /// Counts since the start.
    pub fn counters(&self) -> LoopCounters {
        self.counters
    }

    /// Some servo of the arm has torque, for all that is known.
    pub fn energised(&self) -> bool {
        self.arm.as_ref().map_or(self.lost_energised, |arm| arm.hardware.energised())
    }

    /// Faults of the bus since the arm was opened.
    pub fn bus(&self) -> Counters {
        self.bus
    }

    /// Another pilot for the next goal: in virtual time, where no thread owns one.
    pub fn set_pilot(&mut self, pilot: Box<dyn Pilot>) {
        self.pilot = pilot;
    }

    /// One tick: `number` counts periods since the start, so a gap is a missed tick; `start` is when
    /// this tick began.
    pub fn tick(&mut self, number: u64, start: Time) -> &Step {
        self.begin(number, start);
        self.read_bus(start);
        self.check_ages(start);
        self.next_mode(start);
        self.exchange_with_policy(start);
        self.pass_the_gate(start);
        self.write_bus(start);
        self.hand_to_log();
        self.pet_watchdog();
        &self.step
    }

    fn begin(&mut self, number: u64, start: Time) {
        let missed = number.saturating_sub(self.step.tick + 1);
        let mut events = std::mem::take(&mut self.pending);
        if self.counters.ticks > 0 && missed > 0 {
            self.counters.missed += missed;
            events |= Events::MISSED_TICK;
            if let Some(attempt) = &mut self.attempt {
                attempt.missed += missed;
            }
        }
        self.counters.ticks += 1;
        self.step.tick = number;
        self.step.time = start;
        self.step.wall = self.clock.wall();
        self.step.events = events;
        self.step.action.clear();
        self.step.intervention = false;
        self.step.policy = PolicyId::default();
    }

    fn by(&self, start: Time, share: f64) -> Time {
        start + self.period.mul_f64(share)
    }

    fn read_bus(&mut self, start: Time) {
        let deadline = self.by(start, READ_BY);
        let mut lost = false;
        match &mut self.arm {
            Some(arm) => {
                lost = arm.hardware.read(&mut self.state, deadline).is_err_and(|e| e.lost());
                self.bus = arm.hardware.counters();
                inputs::round(&mut self.state);
            }
            None => self.find_arm(),
        }
        self.witness_state(lost);
        if lost {
            self.lose_port(start);
        }
        let joints = &self.state.joints;
        self.step.stamps = stack(joints.iter().map(|j| j.stamp));
        self.step.position = stack(joints.iter().map(|j| j.position as f32));
        self.step.velocity = stack(joints.iter().map(|j| j.velocity as f32));
        self.step.load = stack(joints.iter().map(|j| j.load as f32));
        let told = joints.iter().any(|j| j.current.is_some());
        let currents = joints.iter().map(|j| j.current.map_or(f32::NAN, |amperes| amperes as f32));
        self.step.current = stack(currents.filter(|_| told));
        self.step.temperature = stack(joints.iter().map(|j| j.temperature as f32));
        let measured = positions(joints);
        self.step.achieved_goal = self.goals.achieved(&measured, start);
    }

    fn lose_port(&mut self, start: Time) {
        self.fault_if_armed(Fault::PortLost, start);
        // The servos hold on by themselves; what they are told next is where they are then.
        self.powered = false;
        self.stay();
        if let Some(reconnect) = &mut self.reconnect
            && let Some(arm) = self.arm.take()
        {
            self.lost_energised = arm.hardware.energised();
            self.witness.now.answers = arm.answers;
            reconnect.lost(arm.hardware);
        }
    }

    /// An arm that was opened again holds where it is, if it holds; it moves when it was armed.
    fn find_arm(&mut self) {
        let found = self.reconnect.as_mut().and_then(|reconnect| reconnect.found());
        self.arm = found.map(Witnessed::new);
    }

    fn next_mode(&mut self, start: Time) {
        self.release_when_parked(start);
        let by_person = self.mode == Mode::Teleop;
        let Some(attempt) = self.attempt.as_mut().filter(|a| !a.is_cut()) else { return };
        // A person who corrects the policy has the time it takes.
        let timed = !by_person || attempt.demonstration.is_some();
        let distance = distance(&self.step.achieved_goal, &attempt.request.goal);
        let within = distance <= attempt.request.tolerance;
        attempt.within = if within { attempt.within + 1 } else { 0 };
        if within {
            attempt.reached_tick.get_or_insert(self.step.tick);
        }
        let held = attempt.within >= self.config.reached_ticks.max(1);
        let ending = if held && attempt.request.end_when_reached {
            self.step.events |= Events::GOAL_REACHED;
            Ending::Reached
        } else if timed && start.since(attempt.started) >= attempt.request.timeout {
            self.step.events |= Events::GOAL_ENDED;
            Ending::TimedOut
        } else if self.goals.lost(start) {
            self.step.events |= Events::GOAL_ENDED;
            Ending::ObjectLost
        } else if attempt.request.stream.is_some_and(|limit| start.since(attempt.heard) >= limit) {
            self.step.events |= Events::GOAL_ENDED;
            Ending::StreamEnded
        } else {
            return;
        };
        attempt.ending.get_or_insert(ending);
        if let Ok(mode) = modes::next(self.mode, Event::GoalEnded) {
            self.mode = mode;
        }
    }

    fn pass_the_gate(&mut self, start: Time) {
        if !self.powered {
            self.step.sent.clear();
            return;
        }
        if !matches!(self.mode, Mode::Reaching | Mode::Teleop) {
            let target = self.target.as_ref().filter(|_| self.known(start));
            self.wishes = match target {
                Some(target) => stack(target.iter().map(|q| Wish::Position(*q))),
                None => stack(self.state.joints.iter().map(|_| Wish::Hold)),
            };
        }
        let bounds = Bounds { measured: &positions(&self.state.joints), speed: self.share(start) };
        let (sent, changed) = self.gate.step(&self.wishes, bounds);
        self.step.sent = stack(sent.iter().map(|x| *x as f32));
        if changed {
            self.step.events |= Events::GATED;
        }
    }

    /// The share of the highest speed that is allowed now.
    fn share(&self, start: Time) -> f64 {
        let since = start.since(self.armed_at).as_secs_f64();
        let startup = STARTUP_SPEED + (1.0 - STARTUP_SPEED) * since / self.safety.startup_s;
        let parking = if self.parking() { self.safety.park_speed } else { 1.0 };
        let (first, ramp) = (self.safety.takeover_speed, self.safety.startup_s);
        let led = match self.mode {
            Mode::Teleop => self.teleop.share(start, first, ramp),
            _ => 1.0,
        };
        self.speed.min(startup).min(parking).min(led)
    }

    fn write_bus(&mut self, start: Time) {
        if !self.powered {
            return;
        }
        let deadline = self.by(start, WRITE_BY);
        let sent = self.arm.as_mut().map(|arm| arm.hardware.write(self.gate.sent(), deadline));
        if !matches!(sent, Some(Ok(()))) {
            self.counters.failed_writes += 1;
        }
    }

    fn hand_to_log(&mut self) {
        self.step.mode = self.mode;
        if let Some(attempt) = &mut self.attempt {
            attempt.choose_goal(&self.step.achieved_goal);
        }
        self.step.desired_goal =
            self.attempt.as_ref().map_or_else(GoalVec::new, |a| a.request.goal.clone());
        let answers = self.take_answers();
        self.witness.now.answers.extend(answers);
        let attempt = self.attempt.as_mut().filter(|attempt| !attempt.is_cut());
        if let Some(attempt) = attempt {
            if let Some(log) = &mut self.log {
                if !attempt.logged {
                    log.begin(attempt.begin(&self.step));
                }
                if let Some(inputs) = self.witness.tell(!attempt.logged) {
                    log.inputs(inputs);
                }
                log.step(self.step.clone());
            }
            attempt.keep(&self.step);
        }
        self.witness.clear();
        if let Some(ending) = self.attempt.as_ref().and_then(|attempt| attempt.ending) {
            self.end_attempt(ending);
        }
    }

    fn pet_watchdog(&mut self) {
        if let Some(pulse) = &self.pulse {
            pulse.beat(self.counters.ticks, self.mode);
        }
    }
}

/// Euclidean distance between two goals, in their space's unit; infinite when they do not compare.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    let squares: f32 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    if squares.is_finite() { squares.sqrt() } else { f32::INFINITY }
}
