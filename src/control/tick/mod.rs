//! The control loop: eight calls a tick, no failure that is not a mode.

mod attempts;
mod checks;
mod decide;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::attempts::Attempt;
use self::decide::Pace;
use super::actor::Pilot;
use super::command::{Ending, GoalResult, LoopCounters};
use super::gate::{SafetyGate, Wish};
use super::modes::{self, Event};
use crate::clock::{Clock, Time};
use crate::config::{ControlConfig, RobotConfig};
use crate::episode::{Begin, Events, Fault, LogSender, Mode, PolicyId, Step};
use crate::hal::{Arm, ArmState};
use crate::joints::{GoalVec, JointVec, stack};
use crate::kinematics::{Chain, KinematicsError};

/// Until when in a tick each call must be done, as a share of the period.
const READ_BY: f64 = 0.45;
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
    /// Torque is on: only then is anything sent.
    powered: bool,
    attempt: Option<Attempt>,
    /// Where to go while holding.
    target: Option<JointVec<f64>>,
    result: Option<GoalResult>,
    counters: LoopCounters,
    refusals: u32,
    pace: Pace,
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
            chain: Chain::of(robot)?,
            state: ArmState::default(),
            gate: SafetyGate::new(robot),
            arm,
            pilot,
            log,
            clock,
            progress: Arc::default(),
            mode: Mode::Disarmed,
            powered: false,
            attempt: None,
            target: None,
            result: None,
            counters: LoopCounters::default(),
            refusals: 0,
            pace: Pace::default(),
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

    fn pass_the_gate(&mut self) {
        if !self.powered {
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
        if !self.powered {
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
}

/// Euclidean distance between two goals (m); infinite when they do not compare.
pub fn distance(a: &[f32], b: &[f32]) -> f32 {
    if a.len() != b.len() || a.is_empty() {
        return f32::INFINITY;
    }
    let squares: f32 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    if squares.is_finite() { squares.sqrt() } else { f32::INFINITY }
}
