//! What a tick is given from outside, written down: with that and what its steps tell, an episode can be
//! done again, bit for bit. What a tick is given by its arm, it acts on as exactly as it is logged.

use std::cell::RefCell;
use std::sync::Arc;

use super::super::modes::Refusal;
use super::ControlLoop;
use super::health::positions;
use crate::clock::{Clock, Time, WallTime};
use crate::episode::{Command, Inputs, Order, Origin, Readings, Supply};
use crate::hal::{ArmState, JointState};
use crate::joints::stack;

/// A clock whose readings are written down.
pub(super) struct Watch {
    clock: Arc<dyn Clock>,
    readings: RefCell<Readings>,
}

impl Watch {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, readings: RefCell::default() }
    }

    pub(super) fn now(&self) -> Time {
        let now = self.clock.now();
        // More than fit are not made by a command.
        let _ = self.readings.borrow_mut().push(now);
        now
    }

    pub(super) fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    /// The readings since the last call.
    fn take(&self) -> Readings {
        self.readings.take()
    }
}

/// The inputs of the tick that comes or goes on.
#[derive(Default)]
pub(super) struct Witness {
    pub(super) now: Inputs,
    /// Those logged last.
    told: Inputs,
}

impl Witness {
    /// A command was taken over.
    fn note(&mut self, command: &Command, times: Readings, answers: crate::episode::Answers) {
        let heard = self.now.heard.take();
        let order = Order { command: command.clone(), times, heard, answers };
        self.now.incomplete |= self.now.orders.push(order).is_err();
    }

    /// What is to be logged of this tick, if anything is new; `first`: everything is.
    pub(super) fn tell(&mut self, first: bool) -> Option<Inputs> {
        if !first && self.now.continues(&self.told) {
            return None;
        }
        self.told.clone_from(&self.now);
        Some(self.now.clone())
    }

    /// What happened is over.
    pub(super) fn clear(&mut self) {
        self.now.orders.clear();
        self.now.answers.clear();
        (self.now.heard, self.now.lost, self.now.incomplete) = (None, false, false);
        self.now.answered = None;
    }
}

/// A measured state, as exactly as it is logged.
pub(super) fn round(state: &mut ArmState) {
    let short = |x: f64| f64::from(x as f32);
    for joint in &mut state.joints {
        joint.position = short(joint.position);
        joint.velocity = short(joint.velocity);
        joint.load = short(joint.load);
        joint.voltage = short(joint.voltage);
        joint.temperature = short(joint.temperature);
        joint.current = joint.current.map(short);
    }
}

fn supply(joint: &JointState) -> Supply {
    Supply { voltage: joint.voltage as f32, troubles: joint.status, jumped: joint.jumped }
}

impl ControlLoop {
    /// Takes over a command.
    ///
    /// # Errors
    /// The command is refused in this mode; nothing changes.
    pub fn command(&mut self, command: &Command) -> Result<(), Refusal> {
        let begins = matches!(command, Command::Reach(_) | Command::Record(_));
        let origin = begins.then(|| self.origin());
        self.clock.take();
        let answer = self.obey(command);
        if begins && answer.is_ok() {
            // Whatever came before it is in its origin.
            self.witness.clear();
            if let Some(attempt) = &mut self.attempt {
                attempt.origin = origin;
            }
        }
        // Nonsense is refused whatever the mode.
        if !matches!(answer, Err(Refusal::BadGoal { .. })) {
            let answers = self.take_answers();
            self.witness.note(command, self.clock.take(), answers);
        }
        answer
    }

    pub(super) fn take_answers(&mut self) -> crate::episode::Answers {
        self.arm.as_mut().map(|arm| std::mem::take(&mut arm.answers)).unwrap_or_default()
    }

    /// What is measured now is written down beside the step.
    pub(super) fn witness_state(&mut self, lost: bool) {
        self.witness.now.tick = self.step.tick;
        self.witness.now.lost = lost;
        self.witness.now.supplies = stack(self.state.joints.iter().map(supply));
    }

    /// What this loop remembers between two ticks, while no goal is reached for.
    fn origin(&self) -> Origin {
        let joints = &self.state.joints;
        Origin {
            tick: self.step.tick,
            stamps: stack(joints.iter().map(|joint| joint.stamp)),
            position: stack(positions(joints).iter().map(|q| *q as f32)),
            achieved_goal: self.step.achieved_goal.clone(),
            mode: self.mode,
            powered: self.powered,
            armed_at: self.armed_at,
            pending: self.pending,
            motions: self.gate.motions(),
            strains: self.health.strains(),
            heard: self.teleop.newest.clone(),
            lead: self.teleop.lead,
            together: self.teleop.together,
            object: self.goals.object.clone(),
        }
    }

    /// Goes on from there: the next command begins an episode.
    pub(in super::super) fn resume(&mut self, origin: &Origin) {
        let state = |(position, stamp): (&f32, &Time)| JointState {
            position: f64::from(*position),
            stamp: *stamp,
            ..JointState::default()
        };
        self.state.joints = origin.position.iter().zip(&origin.stamps).map(state).collect();
        self.step.tick = origin.tick;
        self.step.achieved_goal.clone_from(&origin.achieved_goal);
        (self.mode, self.powered) = (origin.mode, origin.powered);
        (self.armed_at, self.pending) = (origin.armed_at, origin.pending);
        self.gate.resume(&origin.motions);
        self.health.resume(&origin.strains);
        self.teleop.newest.clone_from(&origin.heard);
        (self.teleop.lead, self.teleop.together) = (origin.lead, origin.together);
        self.goals.object.clone_from(&origin.object);
        // A loop that has never ticked misses none.
        self.counters.ticks = self.counters.ticks.max(1);
        self.attempt = None;
        self.stay();
    }
}
