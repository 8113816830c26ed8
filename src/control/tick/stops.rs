//! How the arm is powered, stopped, parked and released.

use std::time::Duration;

use super::super::command::Ending;
use super::super::modes::{self, Event, Refusal};
use super::ControlLoop;
use super::health::positions;
use crate::clock::Time;
use crate::config::{Exit, StopCategory};
use crate::episode::{Command, Fault, Mode};

/// A joint this near to its parking position is parked (rad): servos hold with play.
const PARKED: f64 = 0.06;

impl ControlLoop {
    /// Latches a fault and brings the arm to a stop as configured.
    pub(super) fn fault(&mut self, fault: Fault, now: Time) {
        if let Some(attempt) = &mut self.attempt {
            attempt.ending.get_or_insert(Ending::Faulted(fault));
        }
        let Ok(mode) = modes::next(self.mode, Event::Fault(fault)) else { return };
        if mode == self.mode {
            // Something else has gone wrong on the way to the parking pose: no further.
            if mode != Mode::Faulted(fault) {
                self.stay();
            }
            return;
        }
        self.mode = mode;
        // At once: should this process die before the tick's end, the fault is to outlive it.
        self.pet_watchdog();
        self.stay();
        if matches!(fault, Fault::BadAction | Fault::PolicyLate) {
            self.pilot.demote();
        }
        if self.powered {
            self.stop_by(fault, now);
        }
    }

    /// Nothing but standing still is under way.
    pub(super) fn stay(&mut self) {
        self.target = None;
        self.release_by = None;
    }

    fn stop_by(&mut self, fault: Fault, now: Time) {
        let category = match fault {
            Fault::EmergencyStop => self.safety.on_emergency,
            _ => self.safety.on_fault,
        };
        let known = self.known(now) && fault != Fault::ImplausibleState;
        match category {
            StopCategory::Damp => self.damp(now),
            StopCategory::Hold if known => self.gate.start(&positions(&self.state.joints)),
            // What it pushes against is left alone: back to where it is.
            _ if known && fault == Fault::Stall => {
                self.target = Some(positions(&self.state.joints));
            }
            StopCategory::Park if known => self.park(now),
            // The gate slows down along the limits when nothing is wished.
            StopCategory::Controlled | StopCategory::Hold | StopCategory::Park => {}
        }
    }

    fn damp(&mut self, now: Time) {
        if !self.brake() {
            self.release_by = Some(now + self.park_timeout());
        }
    }

    /// Whether every servo brakes without torque now.
    pub(super) fn brake(&mut self) -> bool {
        let brakes = self.arm.as_mut().is_some_and(|arm| arm.damp().is_ok_and(|all| all));
        self.powered &= !brakes;
        brakes
    }

    fn park(&mut self, now: Time) {
        self.target = Some(self.park.clone());
        self.release_by = Some(now + self.park_timeout());
    }

    fn park_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.safety.park_timeout_s)
    }

    /// Torque goes off when the arm is at rest where it was to be parked.
    pub(super) fn release_when_parked(&mut self, start: Time) {
        let Some(until) = self.release_by else { return };
        if start >= until {
            // Never a drop from where it was not meant to be.
            self.stay();
            return;
        }
        let joints = &self.state.joints;
        let off = |target: &[f64]| {
            joints.iter().zip(target).any(|(joint, q)| (joint.position - q).abs() > PARKED)
        };
        if !self.gate.at_rest() || self.target.as_ref().is_some_and(|target| off(target)) {
            return;
        }
        self.stay();
        if self.mode == Mode::Holding
            && let Ok(mode) = modes::next(self.mode, Event::Disarm)
        {
            self.mode = mode;
        }
        self.power_off();
    }

    /// Goes to the parking pose; torque goes off there.
    pub(super) fn begin_parking(&mut self) -> Result<(), Refusal> {
        if self.mode == Mode::Disarmed {
            return Ok(());
        }
        let pose = self.park.clone();
        self.begin_move(&pose)?;
        self.release_by = Some(self.clock.now() + self.park_timeout());
        Ok(())
    }

    /// What the configuration says to do with the arm when the program ends; tick on while
    /// [`parking`](Self::parking).
    pub fn leave(&mut self) {
        if self.parking() {
            return;
        }
        let _ = self.command(&Command::LetGo);
        let _ = self.command(&Command::Stop);
        if self.safety.on_exit == Exit::Park {
            // Refused by a fault: then the arm stays where it is, held.
            let _ = self.begin_parking();
        }
    }

    /// On the way to where torque goes off.
    pub fn parking(&self) -> bool {
        self.release_by.is_some()
    }

    pub(super) fn power_on(&mut self) -> Result<(), Refusal> {
        let now = self.clock.now();
        if self.state.joints.is_empty() || self.oldest(now) > self.config.hold_after_ticks {
            return Err(Refusal::StateUnknown);
        }
        let mode = modes::next(self.mode, Event::Arm)?;
        if mode == self.mode {
            return Ok(());
        }
        if self.arm.is_none() {
            return Err(Refusal::StateUnknown);
        }
        self.stay();
        self.mode = mode;
        self.hold_here(now);
        Ok(())
    }

    /// Whether every servo says that its torque is off.
    pub(super) fn power_off(&mut self) -> bool {
        self.powered = false;
        let off = self.arm.as_mut().is_some_and(|arm| arm.torque(false).is_ok());
        self.counters.failed_writes += u64::from(!off);
        off
    }
}
