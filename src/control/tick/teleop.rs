//! A person steers: through the same gate, slowly at first, and not at all when nothing is heard.

use super::super::command::Ending;
use super::super::gate::Wish;
use super::super::modes::{self, Event, Refusal};
use super::super::teleop::TeleopReceiver;
use super::ControlLoop;
use super::health::positions;
use crate::clock::Time;
use crate::episode::{Events, Fault, Lead, TeleopAction};
use crate::joints::{JointVec, stack};

/// Nearer than this to where the person wishes it, a joint follows (rad).
const TOGETHER: f64 = 0.05;

/// What is known of the person.
#[derive(Default)]
pub(super) struct Teleop {
    pub(super) source: Option<TeleopReceiver>,
    pub(super) newest: TeleopAction,
    pub(super) lead: Lead,
    /// Since when the arm is where it is wished to be; none on the way there.
    pub(super) together: Option<Time>,
}

impl Teleop {
    /// The share of the highest speed: `first` on the way to the person, then growing to all of it
    /// in `ramp` seconds.
    pub(super) fn share(&self, start: Time, first: f64, ramp: f64) -> f64 {
        let since = self.together.map_or(0.0, |since| start.since(since).as_secs_f64());
        if since >= ramp { 1.0 } else { first + (1.0 - first) * since / ramp }
    }
}

impl ControlLoop {
    /// Takes what came of the person, in any mode: what waits in the ring grows old.
    pub(super) fn hear_person(&mut self) {
        if let Some(action) = self.teleop.source.as_mut().and_then(TeleopReceiver::newest) {
            self.teleop.newest.clone_from(&action);
            self.witness.now.heard = Some(action);
        }
    }

    /// Whether the newest wish is too old to move by.
    fn unheard(&self, now: Time) -> bool {
        let limit = self.config.teleop_timeout_s;
        now.since(self.teleop.newest.stamp).as_secs_f64() > limit
    }

    /// The wishes of this tick from the person's; to hold where there is none to follow.
    pub(super) fn follow_person(&mut self, start: Time) {
        self.step.intervention = true;
        if self.teleop.lead.is_by_hand() {
            self.step.action = self.step.position.clone();
            return;
        }
        let wished = &self.teleop.newest.position;
        let sound = wished.len() == self.state.joints.len() && wished.iter().all(|q| q.is_finite());
        if self.unheard(start) || !sound {
            self.teleop.together = None;
            if sound {
                self.late();
            } else {
                self.step.events |= Events::ACTION_REFUSED;
                self.counters.refused_actions += 1;
            }
            return;
        }
        self.step.action = stack(wished.iter().map(|q| *q as f32));
        if !self.known(start) {
            return;
        }
        let within = self.gate.nearest(wished);
        let near = |(q, sent): (&f64, &f64)| (q - sent).abs() < TOGETHER;
        if within.iter().zip(self.gate.sent()).all(near) {
            self.teleop.together.get_or_insert(start);
        }
        self.wishes = stack(wished.iter().map(|q| Wish::Position(*q)));
    }

    pub(super) fn take_over(&mut self, lead: Lead) -> Result<(), Refusal> {
        let mode = modes::next(self.mode, Event::TakeOver)?;
        if mode == self.mode {
            return Ok(());
        }
        let now = self.clock.now();
        self.hear_person();
        if lead == Lead::Device {
            self.check_leader(now)?;
        }
        self.stay();
        self.mode = mode;
        (self.teleop.lead, self.teleop.together) = (lead, None);
        let freed = match lead {
            Lead::Device => true,
            Lead::ByHand => self.power_off(),
            Lead::Damped => self.brake(),
        };
        if !freed {
            self.fault(Fault::Servo, now);
        }
        Ok(())
    }

    fn check_leader(&self, now: Time) -> Result<(), Refusal> {
        if self.unheard(now) {
            return Err(Refusal::NobodySteers);
        }
        let sent: &JointVec<f64> = self.gate.sent();
        let near = 0.0..=self.safety.max_mismatch_rad;
        // Not a number is far, too.
        let far = |(q, sent): (&f64, &f64)| !near.contains(&(q - sent).abs());
        match self.teleop.newest.position.iter().zip(sent).position(far) {
            Some(joint) => Err(Refusal::Mismatch { joint }),
            None => Ok(()),
        }
    }

    /// The person lets go: the policy goes on toward the goal that is being reached for, as from a
    /// new beginning; without one the arm holds.
    pub(super) fn let_go(&mut self) -> Result<(), Refusal> {
        let mode = modes::next(self.mode, Event::LetGo)?;
        if mode == self.mode {
            return Ok(());
        }
        self.mode = mode;
        let now = self.clock.now();
        if self.attempt.as_ref().is_some_and(|attempt| attempt.demonstration.is_some()) {
            self.end_attempt(Ending::Stopped);
        }
        if self.teleop.lead.is_by_hand() {
            self.hold_here(now);
        }
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.ending.is_none()) {
            attempt.resume(self.step.tick + 1, now);
            self.refusals = 0;
            self.mode = modes::next(self.mode, Event::Goal)?;
        }
        Ok(())
    }

    /// Torque on where the arm is; a servo that does not hold is a fault.
    pub(super) fn hold_here(&mut self, now: Time) {
        self.powered = self.arm.as_mut().is_some_and(|arm| arm.torque(true).is_ok());
        self.gate.start(&positions(&self.state.joints));
        self.health.reset();
        // Switching it on took its time.
        self.armed_at = self.clock.now();
        if !self.powered {
            self.fault(Fault::Servo, now);
        }
    }
}
