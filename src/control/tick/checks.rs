//! Is what is known of the arm fresh and sound? The second of the loop's eight calls.

use super::ControlLoop;
use crate::clock::Time;
use crate::episode::{Events, Fault, Mode};

impl ControlLoop {
    /// Ages in ticks: 0 is measured in this tick.
    pub(super) fn oldest(&self, start: Time) -> u32 {
        let period = self.period.as_nanos().max(1);
        let age = |stamp: Time| start.since(stamp).as_nanos().div_ceil(period);
        let oldest = self.state.joints.iter().map(|j| age(j.stamp)).max().unwrap_or(u128::MAX);
        u32::try_from(oldest).unwrap_or(u32::MAX)
    }

    /// Whether the arm's state is fresh enough to move by.
    pub(super) fn known(&self, start: Time) -> bool {
        self.oldest(start) < self.config.hold_after_ticks
    }

    pub(super) fn check_ages(&mut self, start: Time) {
        let age = self.oldest(start);
        if age > 0 {
            self.step.events |= Events::STALE_JOINT;
            self.counters.stale_ticks += 1;
        }
        if age >= self.config.fault_after_ticks {
            self.fault_if_armed(Fault::BusSilent, start);
        }
        let sent = if self.powered { self.gate.sent().as_slice() } else { &[] };
        let found = self.health.look(&self.state.joints, sent, start);
        self.step.events |= found.events;
        self.speed = found.speed;
        if let Some(fault) = found.fault {
            self.fault_if_armed(fault, start);
        }
    }

    /// A disarmed arm that does not answer is no fault: it cannot move.
    pub(super) fn fault_if_armed(&mut self, fault: Fault, now: Time) {
        if self.mode != Mode::Disarmed {
            self.fault(fault, now);
        }
    }
}
