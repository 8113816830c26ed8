//! How goals begin and end, and what else an operator may ask for.

use super::super::command::{Ending, GoalResult};
use super::super::modes::{self, Event, Refusal};
use super::goals::check;
use super::{ControlLoop, distance};
use crate::clock::Time;
use crate::episode::{
    Begin, Command, Events, Fault, GoalRequest, GoalUpdate, Mode, Origin, Outcome, Step, reason,
};
use crate::joints::{GoalVec, JointVec};

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
    /// What the policy is told: another one makes it forget.
    pub(super) episode: u64,
    first_tick: u64,
    /// The last step's tick and its distance from the goal.
    last_tick: u64,
    distance: f32,
    pub(super) missed: u64,
    /// Ticks in a row within the tolerance.
    pub(super) within: u32,
    /// The first tick within the tolerance.
    pub(super) reached_tick: Option<u64>,
    /// Its first step is in the log.
    pub(super) logged: bool,
    /// Why this tick is its last.
    pub(super) ending: Option<Ending>,
    /// None where a policy reaches for the goal.
    pub(super) demonstration: Option<Demonstration>,
    /// What the loop remembered before it was asked for.
    pub(super) origin: Option<Origin>,
}

/// What a person shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demonstration {
    /// Its goal was known at its beginning.
    given: bool,
    stage: Stage,
    /// What the operator says of it.
    verdict: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// The next step is its last.
    Cutting,
    Cut,
}

impl Attempt {
    /// Whether its steps are all logged, though what it is worth is not said yet.
    pub(super) fn is_cut(&self) -> bool {
        self.demonstration.is_some_and(|demonstration| demonstration.stage == Stage::Cut)
    }

    /// A demonstration without a goal gets the one achieved at its last step.
    pub(super) fn choose_goal(&mut self, achieved: &GoalVec) {
        let Some(demonstration) = self.demonstration else { return };
        let last = demonstration.stage == Stage::Cutting || self.ending.is_some();
        if last && self.request.goal.is_empty() {
            self.request.goal.clone_from(achieved);
        }
    }

    /// What its episode begins with.
    pub(super) fn begin(&self, step: &Step) -> Begin {
        Begin {
            source: self.request.source,
            split: self.request.split,
            policy: step.policy,
            seed: self.request.seed,
            started: step.wall,
            origin: self.origin.clone(),
        }
    }

    /// Takes a step into account that was logged.
    pub(super) fn keep(&mut self, step: &Step) {
        self.logged = true;
        self.last_tick = step.tick;
        self.distance = distance(&step.achieved_goal, &self.request.goal);
        if let Some(demonstration) = &mut self.demonstration
            && demonstration.stage == Stage::Cutting
        {
            demonstration.stage = Stage::Cut;
        }
    }

    /// The policy has it back from a person, who may have been long: it begins as if anew.
    pub(super) fn resume(&mut self, tick: u64, now: Time) {
        self.episode = tick;
        self.steered = false;
        (self.started, self.heard, self.acted) = (now, now, now);
    }

    /// Whether it is a success; `None` when nobody can tell.
    fn success(&self, ending: Ending) -> Option<bool> {
        let near = self.distance <= self.request.tolerance && !matches!(ending, Ending::Faulted(_));
        match self.demonstration {
            Some(Demonstration { verdict: Some(verdict), .. }) => Some(verdict),
            Some(Demonstration { given: false, .. }) => None,
            _ => Some(near),
        }
    }
}

impl ControlLoop {
    pub(super) fn obey(&mut self, command: &Command) -> Result<(), Refusal> {
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
            Command::TakeOver(lead) => self.take_over(*lead),
            Command::LetGo => self.let_go(),
            Command::Record(request) => self.begin_demonstration(request),
            Command::Mark => self.mark(),
            Command::Cut => self.demonstration().map(|(_, demonstration)| {
                if demonstration.stage == Stage::Running {
                    demonstration.stage = Stage::Cutting;
                }
            }),
            Command::Conclude(verdict) => self.conclude(*verdict),
        }
    }

    fn begin_attempt(&mut self, request: &GoalRequest) -> Result<(), Refusal> {
        self.goals.check(&request.goal)?;
        check(&[request.tolerance], 1)?;
        self.know_object()?;
        let mode = modes::next(self.mode, Event::Goal)?;
        self.end_attempt(Ending::Replaced);
        self.mode = mode;
        self.target = None;
        self.refusals = 0;
        self.pending |= Events::GOAL_SET;
        self.attempt = Some(self.attempt_at(request));
        Ok(())
    }

    /// Where goals are of an object, nothing begins before it is known where that is.
    fn know_object(&self) -> Result<(), Refusal> {
        if self.goals.lost(self.clock.now()) { Err(Refusal::ObjectUnknown) } else { Ok(()) }
    }

    fn attempt_at(&self, request: &GoalRequest) -> Attempt {
        let now = self.clock.now();
        Attempt {
            request: request.clone(),
            started: now,
            heard: now,
            sequence: 0,
            acted: now,
            steered: false,
            episode: self.step.tick + 1,
            first_tick: self.step.tick + 1,
            last_tick: self.step.tick,
            distance: distance(&self.step.achieved_goal, &request.goal),
            missed: 0,
            within: 0,
            reached_tick: None,
            logged: false,
            ending: None,
            demonstration: None,
            origin: None,
        }
    }

    fn begin_demonstration(&mut self, request: &GoalRequest) -> Result<(), Refusal> {
        let given = !request.goal.is_empty();
        if given {
            self.goals.check(&request.goal)?;
        }
        check(&[request.tolerance], 1)?;
        match self.mode {
            Mode::Teleop => {}
            Mode::Faulted(fault) => return Err(Refusal::Faulted(fault)),
            _ => return Err(Refusal::NotTeleoperated),
        }
        self.know_object()?;
        self.end_attempt(Ending::Replaced);
        if given {
            self.pending |= Events::GOAL_SET;
        }
        let demonstration = Demonstration { given, stage: Stage::Running, verdict: None };
        let attempt = self.attempt_at(request);
        self.attempt = Some(Attempt { demonstration: Some(demonstration), ..attempt });
        Ok(())
    }

    /// The demonstration that is open.
    fn demonstration(&mut self) -> Result<(&mut GoalRequest, &mut Demonstration), Refusal> {
        let open = self.attempt.as_mut().filter(|attempt| attempt.ending.is_none());
        let parts =
            open.and_then(|attempt| Some((&mut attempt.request, attempt.demonstration.as_mut()?)));
        parts.ok_or(Refusal::NotRecording)
    }

    fn mark(&mut self) -> Result<(), Refusal> {
        let achieved = self.step.achieved_goal.clone();
        self.goals.check(&achieved).map_err(|_| Refusal::StateUnknown)?;
        let (request, demonstration) = self.demonstration()?;
        if demonstration.stage != Stage::Running {
            return Err(Refusal::NotRecording);
        }
        request.goal = achieved;
        self.pending |= Events::GOAL_SET;
        Ok(())
    }

    fn conclude(&mut self, verdict: Option<bool>) -> Result<(), Refusal> {
        let (_, demonstration) = self.demonstration()?;
        demonstration.verdict = verdict;
        if demonstration.stage == Stage::Cut {
            self.end_attempt(Ending::Concluded);
        } else if let Some(attempt) = &mut self.attempt {
            // With the next step, which is its last.
            attempt.ending = Some(Ending::Concluded);
        }
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
        let (id, distance) = (attempt.request.id, attempt.distance);
        let ticks = (attempt.last_tick + 1).saturating_sub(attempt.first_tick);
        let success = attempt.success(ending);
        self.counters.goals.count(ending, success == Some(true));
        self.result =
            Some(GoalResult { id, ending, success: success == Some(true), distance, ticks });
        if let Some(log) = self.log.as_mut().filter(|_| attempt.logged) {
            log.end(Outcome {
                success,
                final_distance: Some(distance).filter(|distance| distance.is_finite()),
                reached_tick: attempt.reached_tick,
                ticks,
                missed_ticks: attempt.missed,
                reason: reason(ending.reason()),
            });
        }
    }
}
