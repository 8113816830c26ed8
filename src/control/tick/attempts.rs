//! How goals begin and end, and what else an operator may ask for.

use super::super::command::{Command, Ending, GoalRequest, GoalResult};
use super::super::modes::{self, Event, Refusal};
use super::{ControlLoop, distance};
use crate::clock::Time;
use crate::episode::{Events, Fault, Mode, Outcome, reason};
use crate::joints::{JointVec, stack};
use crate::policy::GoalSpace;

/// A goal being reached.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) request: GoalRequest,
    pub(super) started: Time,
    pub(super) first_tick: u64,
    pub(super) missed: u64,
    /// Ticks in a row within the tolerance.
    pub(super) within: u32,
    /// The first tick within the tolerance.
    pub(super) reached_tick: Option<u64>,
    /// Its first step is in the log.
    pub(super) logged: bool,
    /// Why this tick is its last.
    pub(super) ending: Option<Ending>,
}

impl ControlLoop {
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
    pub(super) fn end_attempt(&mut self, ending: Ending) {
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

    pub(super) fn fault(&mut self, fault: Fault) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ending.get_or_insert(Ending::Faulted(fault));
        }
        self.target = None;
        if let Ok(mode) = modes::next(self.mode, Event::Fault(fault)) {
            self.mode = mode;
        }
    }

    /// A disarmed arm that does not answer is no fault: it cannot move.
    pub(super) fn fault_if_armed(&mut self, fault: Fault) {
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
        self.powered = self.arm.torque(true).is_ok();
        if !self.powered {
            self.fault(Fault::Servo);
        }
        Ok(())
    }

    fn power_off(&mut self) {
        self.powered = false;
        if self.arm.torque(false).is_err() {
            self.counters.failed_writes += 1;
        }
    }
}
