//! How goals begin and end, and what else an operator may ask for.

use super::super::command::{Command, Ending, GoalRequest, GoalResult, GoalUpdate};
use super::super::modes::{self, Event, Refusal};
use super::goals::check;
use super::{ControlLoop, distance};
use crate::clock::Time;
use crate::episode::{Events, Fault, Mode, Outcome, reason};
use crate::joints::JointVec;

/// A goal being reached.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) request: GoalRequest,
    pub(super) started: Time,
    /// When the goal was set or moved last.
    pub(super) heard: Time,
    /// The newest update's number.
    sequence: u64,
    /// When the policy gave an action that could be used last.
    pub(super) acted: Time,
    /// The policy has steered.
    pub(super) steered: bool,
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
        // Whatever is asked for now, it is not to be parked; to be told of an object is no wish.
        let parks_on = matches!(command, Command::EmergencyStop | Command::Object(_));
        self.release_by = self.release_by.filter(|_| parks_on);
        match command {
            Command::Arm => self.power_on(),
            Command::Disarm => {
                self.end_attempt(Ending::Stopped);
                self.stay();
                self.mode = modes::next(self.mode, Event::Disarm)?;
                self.power_off();
                Ok(())
            }
            Command::Stop => {
                self.stay();
                self.end_attempt(Ending::Stopped);
                self.mode = modes::next(self.mode, Event::GoalEnded)?;
                Ok(())
            }
            Command::EmergencyStop => {
                self.fault(Fault::EmergencyStop, self.clock.now());
                Ok(())
            }
            Command::Reach(request) => self.begin_attempt(request),
            Command::Follow(update) => self.follow(update),
            Command::Object(position) => self.goals.tell(position, self.clock.now()),
            Command::Move(target) => self.begin_move(target),
            Command::Park => self.begin_parking(),
        }
    }

    fn begin_attempt(&mut self, request: &GoalRequest) -> Result<(), Refusal> {
        self.goals.check(&request.goal)?;
        check(&[request.tolerance], 1)?;
        if self.goals.lost(self.clock.now()) {
            return Err(Refusal::ObjectUnknown);
        }
        let mode = modes::next(self.mode, Event::Goal)?;
        self.end_attempt(Ending::Replaced);
        self.mode = mode;
        self.target = None;
        self.refusals = 0;
        self.pending |= Events::GOAL_SET;
        let now = self.clock.now();
        self.attempt = Some(Attempt {
            request: request.clone(),
            started: now,
            heard: now,
            sequence: 0,
            acted: now,
            steered: false,
            first_tick: self.step.tick + 1,
            missed: 0,
            within: 0,
            reached_tick: None,
            logged: false,
            ending: None,
        });
        Ok(())
    }

    fn follow(&mut self, update: &GoalUpdate) -> Result<(), Refusal> {
        self.goals.check(&update.goal)?;
        let now = self.clock.now();
        let streamed = self.attempt.as_mut().filter(|a| {
            a.request.id == update.id && a.request.stream.is_some() && a.ending.is_none()
        });
        let Some(attempt) = streamed else { return Err(Refusal::NotStreamed { id: update.id }) };
        if update.sequence <= attempt.sequence {
            let (last, found) = (attempt.sequence, update.sequence);
            return Err(Refusal::OutOfOrder { last, found });
        }
        attempt.request.goal.clone_from(&update.goal);
        (attempt.sequence, attempt.heard, attempt.within) = (update.sequence, now, 0);
        Ok(())
    }

    pub(super) fn begin_move(&mut self, target: &JointVec<f64>) -> Result<(), Refusal> {
        check(target, self.state.joints.len())?;
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
}
