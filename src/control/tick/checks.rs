//! Is what is known of the arm fresh and sound? The second of the loop's eight calls.

use std::time::Duration;

use super::ControlLoop;
use crate::clock::Time;
use crate::episode::{Events, Fault};

/// A servo's status bit must show this many ticks in a row: one may be a damaged byte.
const STATUS_TICKS: u32 = 3;
/// Joints may be off their commanded positions this long.
const TRACKING_TIME: Duration = Duration::from_secs(1);
impl ControlLoop {
    /// Ages in ticks: 0 is measured in this tick.
    pub(super) fn oldest(&self, start: Time) -> u32 {
        let period = self.period.as_nanos().max(1);
        let age = |stamp: Time| start.since(stamp).as_nanos().div_ceil(period);
        let oldest = self.state.joints.iter().map(|j| age(j.stamp)).max().unwrap_or(u128::MAX);
        u32::try_from(oldest).unwrap_or(u32::MAX)
    }

    pub(super) fn check_ages(&mut self, start: Time) {
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
        let off = self
            .state
            .joints
            .iter()
            .zip(self.gate.sent())
            .any(|(j, sent)| (j.position - sent).abs() > self.config.max_tracking_error);
        self.off_track = match self.off_track {
            _ if !(off && self.powered) => None,
            None => Some(start),
            since => since,
        };
        if self.off_track.is_some_and(|since| start.since(since) > TRACKING_TIME) {
            self.fault_if_armed(Fault::Tracking);
        }
    }
}
