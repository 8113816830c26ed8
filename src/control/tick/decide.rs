//! The exchange with the policy thread: the action of this tick, by the age of the newest answer.

use super::super::actor::Decision;
use super::super::gate::Wish;
use super::ControlLoop;
use crate::clock::Time;
use crate::episode::{Answered, Events, Fault, Mode};
use crate::hal::JointState;
use crate::joints::stack;
use crate::policy::{ActionKind, Observation};

/// An action older than this many ticks is not used, unless it was meant for this tick.
pub(in super::super) const MAX_ACTION_AGE: u64 = 3;
/// This many refused actions in a row stop the loop.
const MAX_REFUSALS: u32 = 3;
/// Until when in a tick the policy may answer, as a share of the period.
const DECIDE_BY: f64 = 0.75;

/// How far apart a policy's answers come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// Episode and tick of the newest answer.
    newest: Option<(u64, u64)>,
    /// Ticks left until the next answer is to be expected, this one included.
    left: u64,
}

impl Pace {
    /// The share of the way to a position that is gone in this tick: all of it with a policy that
    /// answers every tick; with a slower one the way is shared out evenly over the ticks until its
    /// next answer.
    fn share(&mut self, decision: &Decision) -> f64 {
        let this = (decision.episode, decision.tick);
        if self.newest != Some(this) {
            let between = |(episode, tick): (u64, u64)| {
                if episode == this.0 { this.1.saturating_sub(tick) } else { 1 }
            };
            self.left = self.newest.map_or(1, between).clamp(1, MAX_ACTION_AGE + 1);
            self.newest = Some(this);
        }
        let share = 1.0 / self.left as f64;
        self.left = self.left.saturating_sub(1).max(1);
        share
    }
}

impl ControlLoop {
    pub(super) fn exchange_with_policy(&mut self, start: Time) {
        self.wishes = stack(self.state.joints.iter().map(|_| Wish::Hold));
        self.hear_person();
        if self.mode == Mode::Teleop {
            self.follow_person(start);
            return;
        }
        let Some(attempt) = self.attempt.as_ref().filter(|_| self.mode == Mode::Reaching) else {
            return;
        };
        let observation = Observation {
            tick: self.step.tick,
            episode: attempt.episode,
            position: self.step.position.clone(),
            velocity: self.step.velocity.clone(),
            sent: stack(self.gate.sent().iter().map(|x| *x as f32)),
            achieved_goal: self.step.achieved_goal.clone(),
            desired_goal: attempt.request.goal.clone(),
        };
        let stale = !self.known(start);
        let deadline = self.by(start, DECIDE_BY);
        let decision = self.pilot.exchange(&observation, deadline);
        // An answer to the goal before this one is no answer.
        let Some(mut decision) = decision.filter(|d| d.episode == observation.episode) else {
            self.late();
            self.check_patience(start);
            return;
        };
        if decision.tick != self.step.tick {
            self.late();
        }
        let usable = decision.advance_to(self.step.tick, MAX_ACTION_AGE);
        let planned = !decision.ahead.is_empty();
        self.witness.now.answered = Some(Answered {
            age: self.step.tick.saturating_sub(decision.tick),
            relative: decision.kind == ActionKind::JointDelta,
            planned,
            spent: planned && !usable,
        });
        if !usable {
            self.check_patience(start);
            return;
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.acted = start;
        }
        self.step.policy = decision.policy;
        if stale {
            return;
        }
        self.take(decision, start);
    }

    pub(super) fn late(&mut self) {
        self.step.events |= Events::ACTION_LATE;
        self.counters.late_actions += 1;
    }

    fn check_patience(&mut self, start: Time) {
        let waited = self.attempt.as_ref().map_or(0.0, |a| start.since(a.acted).as_secs_f64());
        if waited > self.safety.policy_timeout_s {
            self.fault(Fault::PolicyLate, start);
        }
    }

    /// Whether an action is one finite number a joint, and does not begin by asking for positions
    /// that are far from where the joints are: such a policy was made for another calibration.
    fn sound(&self, decision: &Decision) -> bool {
        let first = self.attempt.as_ref().is_some_and(|attempt| !attempt.steered);
        let near = |(x, joint): (&f32, &JointState)| {
            let far = (f64::from(*x) - joint.position).abs() > self.safety.max_mismatch_rad;
            !(first && far && decision.kind == ActionKind::JointPosition)
        };
        decision.action.len() == self.state.joints.len()
            && decision.action.iter().all(|x| x.is_finite())
            && decision.action.iter().zip(&self.state.joints).all(near)
    }

    fn take(&mut self, decision: Decision, start: Time) {
        if !self.sound(&decision) {
            self.step.events |= Events::ACTION_REFUSED;
            self.counters.refused_actions += 1;
            self.refusals += 1;
            if self.refusals >= MAX_REFUSALS {
                self.fault(Fault::BadAction, start);
            }
            return;
        }
        self.refusals = 0;
        if let Some(attempt) = &mut self.attempt {
            attempt.steered = true;
        }
        let dt = self.period.as_secs_f64();
        // Who plans ahead has said where to be in each tick.
        let share = if decision.ahead.is_empty() { self.pace.share(&decision) } else { 1.0 };
        let pairs = decision.action.iter().zip(self.gate.sent());
        self.wishes = stack(pairs.map(|(x, sent)| match decision.kind {
            ActionKind::JointPosition if share < 1.0 => {
                Wish::Position(sent + share * (f64::from(*x) - sent))
            }
            ActionKind::JointPosition => Wish::Position(f64::from(*x)),
            ActionKind::JointDelta => Wish::Velocity(f64::from(*x) / dt),
        }));
        self.step.action = decision.action;
    }
}
