//! The control loop: eight calls a tick, no failure that is not a mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::exchange::{Decision, Pilot};
use super::gate::{SafetyGate, Wish};
use super::modes::{self, Event, Refusal};
use crate::clock::{Clock, Time};
use crate::config::{ControlConfig, RobotConfig};
use crate::episode::{
    Begin, Events, Fault, LogSender, Mode, Outcome, PolicyId, Source, Split, Step, reason,
};
use crate::hal::{Arm, ArmState};
use crate::joints::{GoalVec, JointVec, stack};
use crate::kinematics::{Chain, KinematicsError};
use crate::policy::{ActionKind, GoalSpace, Observation};

/// A goal to reach.
#[derive(Debug, Clone, PartialEq)]
pub struct GoalRequest {
    /// Names the goal in results; chosen by the client.
    pub id: u64,
    /// The desired goal (m).
    pub goal: GoalVec,
    /// Reached within this distance (m).
    pub tolerance: f32,
    /// Given up after this time.
    pub timeout: Duration,
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
    /// A fault stopped the arm.
    Faulted(Fault),
}

impl Ending {
    fn reason(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::TimedOut => "timed out",
            Self::Stopped => "stopped",
            Self::Replaced => "replaced by another goal",
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
    /// Go to joint positions (rad) inside all limits and hold there: home, or where to park.
    Move(JointVec<f64>),
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
    /// The distance at its end (m).
    pub distance: f32,
    /// Ticks it took.
    pub ticks: u64,
}

/// A goal being reached.
#[derive(Debug, Clone)]
struct Attempt {
    request: GoalRequest,
    started: Time,
    first_tick: u64,
    missed: u64,
    /// Ticks in a row within the tolerance.
    within: u32,
    /// The first tick within the tolerance.
    reached_tick: Option<u64>,
    /// Its first step is in the log.
    logged: bool,
    /// Why this tick is its last.
    ending: Option<Ending>,
}

/// Counts since the loop started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
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
}

/// An action older than this many ticks is not used.
const MAX_ACTION_AGE: u64 = 3;
/// This many refused actions in a row stop the loop.
const MAX_REFUSALS: u32 = 3;
/// A servo's status bit must show this many ticks in a row: one may be a damaged byte.
const STATUS_TICKS: u32 = 3;
/// Joints may be off their commanded positions this long.
const TRACKING_TIME: Duration = Duration::from_secs(1);
/// Until when in a tick each call must be done, as a share of the period.
const READ_BY: f64 = 0.45;
const DECIDE_BY: f64 = 0.75;
const WRITE_BY: f64 = 0.98;

/// One arm's control loop. [`tick`](Self::tick) cannot fail and allocates nothing.
pub struct ControlLoop {
    config: ControlConfig,
    period: Duration,
    chain: Chain,
    arm: Arm,
    state: ArmState,
    gate: SafetyGate,
    pilot: Box<dyn Pilot>,
    log: Option<LogSender>,
    clock: Arc<dyn Clock>,
    progress: Arc<AtomicU64>,
    mode: Mode,
    attempt: Option<Attempt>,
    /// Where to go while holding.
    target: Option<JointVec<f64>>,
    result: Option<GoalResult>,
    counters: LoopCounters,
    refusals: u32,
    bad_status: u32,
    off_track: Option<Time>,
    pending: Events,
    step: Step,
    wishes: JointVec<Wish>,
}

impl ControlLoop {
    /// A loop over an opened arm, disarmed.
    ///
    /// # Errors
    /// The robot's kinematic model is unknown.
    pub fn new(
        robot: &RobotConfig,
        arm: Arm,
        pilot: Box<dyn Pilot>,
        log: Option<LogSender>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KinematicsError> {
        Ok(Self {
            config: robot.control.clone(),
            period: robot.period(),
            chain: Chain::named(&robot.model)?,
            state: ArmState::default(),
            gate: SafetyGate::new(robot),
            arm,
            pilot,
            log,
            clock,
            progress: Arc::default(),
            mode: Mode::Disarmed,
            attempt: None,
            target: None,
            result: None,
            counters: LoopCounters::default(),
            refusals: 0,
            bad_status: 0,
            off_track: None,
            pending: Events::default(),
            step: Step::default(),
            wishes: JointVec::new(),
        })
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

    /// The arm, for its own counters.
    pub fn arm(&self) -> &Arm {
        &self.arm
    }

    /// Grows with each tick: what a watchdog watches.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.progress.clone()
    }

    /// Another pilot for the next goal: in virtual time, where no thread owns one.
    pub fn set_pilot(&mut self, pilot: Box<dyn Pilot>) {
        self.pilot = pilot;
    }

    /// Takes over a command.
    ///
    /// # Errors
    /// The command is refused in this mode; nothing changes.
    pub fn command(&mut self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::Arm => self.power_on(),
            Command::Disarm => {
                self.end_attempt(Ending::Stopped);
                self.mode = modes::next(self.mode, Event::Disarm)?;
                self.power_off();
                Ok(())
            }
            Command::Stop => {
                self.target = None;
                self.end_attempt(Ending::Stopped);
                self.mode = modes::next(self.mode, Event::GoalEnded)?;
                Ok(())
            }
            Command::EmergencyStop => {
                self.fault(Fault::EmergencyStop);
                Ok(())
            }
            Command::Reach(request) => self.begin_attempt(request),
            Command::Move(target) => self.begin_move(target),
        }
    }

    /// One tick: `number` counts periods since the start, so a gap is a missed tick; `start` is when
    /// this tick began.
    pub fn tick(&mut self, number: u64, start: Time) -> &Step {
        self.begin(number, start);
        self.read_bus(start);
        self.check_ages(start);
        self.next_mode(start);
        self.exchange_with_policy(start);
        self.pass_the_gate();
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
        self.step.policy = PolicyId::default();
    }

    fn by(&self, start: Time, share: f64) -> Time {
        start + self.period.mul_f64(share)
    }

    fn read_bus(&mut self, start: Time) {
        let deadline = self.by(start, READ_BY);
        if self.arm.read(&mut self.state, deadline).is_err_and(|e| e.lost()) {
            self.fault_if_armed(Fault::PortLost);
        }
        let joints = &self.state.joints;
        self.step.stamps = stack(joints.iter().map(|j| j.stamp));
        self.step.position = stack(joints.iter().map(|j| j.position as f32));
        self.step.velocity = stack(joints.iter().map(|j| j.velocity as f32));
        self.step.load = stack(joints.iter().map(|j| j.load as f32));
        self.step.temperature = stack(joints.iter().map(|j| j.temperature as f32));
        let measured: JointVec<f64> = stack(joints.iter().map(|j| j.position));
        self.step.achieved_goal = stack(self.chain.position(&measured).iter().map(|x| *x as f32));
    }

    /// Ages in ticks: 0 is measured in this tick.
    fn oldest(&self, start: Time) -> u32 {
        let period = self.period.as_nanos().max(1);
        let age = |stamp: Time| start.since(stamp).as_nanos().div_ceil(period);
        let oldest = self.state.joints.iter().map(|j| age(j.stamp)).max().unwrap_or(u128::MAX);
        u32::try_from(oldest).unwrap_or(u32::MAX)
    }

    fn check_ages(&mut self, start: Time) {
        let age = self.oldest(start);
        if age > 0 {
            self.step.events |= Events::STALE_JOINT;
            self.counters.stale_ticks += 1;
        }
        if age >= self.config.fault_after_ticks {
            self.fault_if_armed(Fault::BusSilent);
        }
        if self.state.joints.iter().any(|j| j.jumped) {
            self.fault_if_armed(Fault::ImplausibleState);
        }
        if self.state.joints.iter().any(|j| j.temperature > self.config.max_temperature) {
            self.fault_if_armed(Fault::Overheat);
        }
        let bad = self.state.joints.iter().any(|j| j.status != 0);
        self.bad_status = if bad { self.bad_status + 1 } else { 0 };
        if self.bad_status >= STATUS_TICKS {
            self.fault_if_armed(Fault::Servo);
        }
        self.check_tracking(start);
    }

    fn check_tracking(&mut self, start: Time) {
        let powered = !matches!(self.mode, Mode::Disarmed);
        let off = self
            .state
            .joints
            .iter()
            .zip(self.gate.sent())
            .any(|(j, sent)| (j.position - sent).abs() > self.config.max_tracking_error);
        self.off_track = match self.off_track {
            _ if !(off && powered) => None,
            None => Some(start),
            since => since,
        };
        if self.off_track.is_some_and(|since| start.since(since) > TRACKING_TIME) {
            self.fault_if_armed(Fault::Tracking);
        }
    }

    fn next_mode(&mut self, start: Time) {
        let Some(attempt) = &mut self.attempt else { return };
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
        } else if start.since(attempt.started) >= attempt.request.timeout {
            self.step.events |= Events::GOAL_ENDED;
            Ending::TimedOut
        } else {
            return;
        };
        attempt.ending.get_or_insert(ending);
        if let Ok(mode) = modes::next(self.mode, Event::GoalEnded) {
            self.mode = mode;
        }
    }

    fn exchange_with_policy(&mut self, start: Time) {
        self.wishes = stack(self.state.joints.iter().map(|_| Wish::Hold));
        let Some(attempt) = self.attempt.as_ref().filter(|_| self.mode == Mode::Reaching) else {
            return;
        };
        let observation = Observation {
            tick: self.step.tick,
            position: self.step.position.clone(),
            velocity: self.step.velocity.clone(),
            sent: stack(self.gate.sent().iter().map(|x| *x as f32)),
            achieved_goal: self.step.achieved_goal.clone(),
            desired_goal: attempt.request.goal.clone(),
        };
        let stale = self.oldest(start) >= self.config.hold_after_ticks;
        let deadline = self.by(start, DECIDE_BY);
        let decision = self.pilot.exchange(&observation, deadline);
        let newest = decision.filter(|d| self.step.tick.saturating_sub(d.tick) <= MAX_ACTION_AGE);
        let Some(decision) = newest else {
            self.late();
            return;
        };
        if decision.tick != self.step.tick {
            self.late();
        }
        self.step.policy = decision.policy;
        if stale {
            return;
        }
        self.take(decision);
    }

    fn late(&mut self) {
        self.step.events |= Events::ACTION_LATE;
        self.counters.late_actions += 1;
    }

    fn take(&mut self, decision: Decision) {
        let sound = decision.action.len() == self.state.joints.len()
            && decision.action.iter().all(|x| x.is_finite());
        if !sound {
            self.step.events |= Events::ACTION_REFUSED;
            self.counters.refused_actions += 1;
            self.refusals += 1;
            if self.refusals >= MAX_REFUSALS {
                self.fault(Fault::BadAction);
            }
            return;
        }
        self.refusals = 0;
        let dt = self.period.as_secs_f64();
        self.wishes = stack(decision.action.iter().map(|x| match decision.kind {
            ActionKind::JointPosition => Wish::Position(f64::from(*x)),
            ActionKind::JointDelta => Wish::Velocity(f64::from(*x) / dt),
        }));
        self.step.action = decision.action;
    }

    fn pass_the_gate(&mut self) {
        if self.mode == Mode::Disarmed {
            self.step.sent.clear();
            return;
        }
        if self.mode != Mode::Reaching {
            let target = self.target.as_ref().filter(|_| self.mode == Mode::Holding);
            self.wishes = match target {
                Some(target) => stack(target.iter().map(|q| Wish::Position(*q))),
                None => stack(self.state.joints.iter().map(|_| Wish::Hold)),
            };
        }
        let (sent, changed) = self.gate.step(&self.wishes);
        self.step.sent = stack(sent.iter().map(|x| *x as f32));
        if changed {
            self.step.events |= Events::GATED;
        }
    }

    fn write_bus(&mut self, start: Time) {
        if self.mode == Mode::Disarmed {
            return;
        }
        let deadline = self.by(start, WRITE_BY);
        if self.arm.write(self.gate.sent(), deadline).is_err() {
            self.counters.failed_writes += 1;
        }
    }

    fn hand_to_log(&mut self) {
        self.step.mode = self.mode;
        self.step.desired_goal =
            self.attempt.as_ref().map_or_else(GoalVec::new, |a| a.request.goal.clone());
        let Some(attempt) = &mut self.attempt else { return };
        if let Some(log) = &mut self.log {
            if !attempt.logged {
                log.begin(Begin {
                    source: attempt.request.source,
                    split: attempt.request.split,
                    policy: self.step.policy,
                    seed: attempt.request.seed,
                    started: self.step.wall,
                });
            }
            log.step(self.step.clone());
        }
        attempt.logged = true;
        if let Some(ending) = attempt.ending {
            self.end_attempt(ending);
        }
    }

    fn pet_watchdog(&mut self) {
        self.progress.store(self.counters.ticks, Ordering::Release);
    }

    fn begin_attempt(&mut self, request: &GoalRequest) -> Result<(), Refusal> {
        let expected = GoalSpace::EndEffectorPosition.size();
        let finite = request.goal.iter().filter(|x| x.is_finite()).count();
        if request.goal.len() != expected || finite != expected || !request.tolerance.is_finite() {
            return Err(Refusal::BadGoal { expected, found: finite });
        }
        let mode = modes::next(self.mode, Event::Goal)?;
        self.end_attempt(Ending::Replaced);
        self.mode = mode;
        self.target = None;
        self.refusals = 0;
        self.pending |= Events::GOAL_SET;
        self.attempt = Some(Attempt {
            request: request.clone(),
            started: self.clock.now(),
            first_tick: self.step.tick + 1,
            missed: 0,
            within: 0,
            reached_tick: None,
            logged: false,
            ending: None,
        });
        Ok(())
    }

    fn begin_move(&mut self, target: &JointVec<f64>) -> Result<(), Refusal> {
        let (expected, finite) =
            (self.state.joints.len(), target.iter().filter(|x| x.is_finite()).count());
        if target.len() != expected || finite != expected {
            return Err(Refusal::BadGoal { expected, found: finite });
        }
        // As free to move as for a goal, but without one.
        modes::next(self.mode, Event::Goal)?;
        self.end_attempt(Ending::Replaced);
        self.mode = Mode::Holding;
        self.target = Some(target.clone());
        Ok(())
    }

    /// Closes the attempt's episode; the step logged last is its last.
    fn end_attempt(&mut self, ending: Ending) {
        let Some(attempt) = self.attempt.take() else { return };
        let request = &attempt.request;
        let distance = distance(&self.step.achieved_goal, &request.goal);
        let ticks = (self.step.tick + 1).saturating_sub(attempt.first_tick);
        let success = distance <= request.tolerance && !matches!(ending, Ending::Faulted(_));
        self.result = Some(GoalResult { id: request.id, ending, success, distance, ticks });
        if let Some(log) = self.log.as_mut().filter(|_| attempt.logged) {
            log.end(Outcome {
                success: Some(success),
                final_distance: Some(distance),
                reached_tick: attempt.reached_tick,
                ticks,
                missed_ticks: attempt.missed,
                reason: reason(ending.reason()),
            });
        }
    }

    fn fault(&mut self, fault: Fault) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ending.get_or_insert(Ending::Faulted(fault));
        }
        self.target = None;
        if let Ok(mode) = modes::next(self.mode, Event::Fault(fault)) {
            self.mode = mode;
        }
    }

    /// A disarmed arm that does not answer is no fault: it cannot move.
    fn fault_if_armed(&mut self, fault: Fault) {
        if self.mode != Mode::Disarmed {
            self.fault(fault);
        }
    }

    fn power_on(&mut self) -> Result<(), Refusal> {
        let now = self.clock.now();
        if self.state.joints.is_empty() || self.oldest(now) > self.config.hold_after_ticks {
            return Err(Refusal::StateUnknown);
        }
        let mode = modes::next(self.mode, Event::Arm)?;
        if mode == self.mode {
            return Ok(());
        }
        let measured: JointVec<f64> = stack(self.state.joints.iter().map(|j| j.position));
        self.gate.start(&measured);
        self.target = None;
        self.off_track = None;
        self.bad_status = 0;
        self.mode = mode;
        if self.arm.torque(true).is_err() {
            self.fault(Fault::Servo);
        }
        Ok(())
    }

    fn power_off(&mut self) {
        if self.arm.torque(false).is_err() {
            self.counters.failed_writes += 1;
        }
    }
}

/// Euclidean distance between two goals (m); infinite when they do not compare.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    let squares: f32 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    if squares.is_finite() { squares.sqrt() } else { f32::INFINITY }
}
