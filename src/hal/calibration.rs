//! Ticks of a servo to radians of a joint and back; how an arm's servos are made to agree on it.

mod file;
mod lerobot;
mod sweep;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use file::{ArmCalibration, JointCalibration};
pub use lerobot::Normalisation;
pub use sweep::{Encoder, Plan, Sweep};

use super::servo::Model;
use crate::config::JointConfig;

/// A number that is not finite has no place on a joint.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expected a finite angle (rad), found {0}")]
pub struct NonFinite(pub f64);

/// Why an arm has no calibration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// The file could not be read or written.
    #[error("cannot use the calibration {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no calibration.
    #[error("{path}: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The text is no calibration of LeRobot.
    #[error("expected a calibration as LeRobot writes it: {message}")]
    LeRobot {
        /// What was expected and what was found.
        message: String,
    },
    /// The calibration does not go into a file.
    #[error("the calibration does not go into a file: {0}")]
    Value(String),
    /// A joint has no calibration.
    #[error("expected a calibration of joint `{joint}`, found none; run `regoal robot calibrate`")]
    Missing {
        /// The joint.
        joint: String,
    },
    /// The calibration is of another servo.
    #[error(
        "joint `{joint}`: expected the calibration of servo {expected}, found one of servo {found}; \
         run `regoal robot calibrate`"
    )]
    Id {
        /// The joint.
        joint: String,
        /// The configured id.
        expected: u8,
        /// The calibrated id.
        found: u8,
    },
    /// The servo's homing offset cannot be what was calibrated.
    #[error(
        "joint `{joint}`: expected a homing offset from -{most} to {most}, which is all that its servo \
         heeds, found {found}; run `regoal robot calibrate`"
    )]
    Offset {
        /// The joint.
        joint: String,
        /// The largest magnitude that takes effect (ticks).
        most: i32,
        /// The calibrated one (ticks).
        found: i32,
    },
    /// The calibrated travel and the configured limits do not overlap.
    #[error(
        "joint `{joint}`: its limits leave nothing of its calibrated travel; check min_rad, max_rad \
         and zero_ticks, or calibrate again"
    )]
    NoTravel {
        /// The joint.
        joint: String,
    },
    /// The joint was not moved through its travel.
    #[error(
        "joint `{joint}`: expected a travel of {expected:.0}° or more, found {found:.0}°; move it \
         from end to end"
    )]
    NotSwept {
        /// The joint.
        joint: String,
        /// The least travel (°).
        expected: f64,
        /// The travel seen (°).
        found: f64,
    },
    /// No offset keeps the encoder's end out of the travel.
    #[error(
        "joint `{joint}`: the encoder's end lies inside the travel and no homing offset moves it \
         out; turn the servo's horn by a quarter and calibrate again"
    )]
    WrapInside {
        /// The joint.
        joint: String,
    },
}

/// Where a joint's angles lie on its servo's turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    zero: i32,
    direction: f64,
    rad_per_tick: f64,
    lowest: i32,
    highest: i32,
}

impl Calibration {
    /// The calibration that a configuration states.
    pub fn new(joint: &JointConfig) -> Self {
        let direction = f64::from(joint.direction);
        let Model { ticks, rad_per_tick, .. } = *Model::of(joint.servo);
        let ends = [joint.min_rad, joint.max_rad]
            .map(|angle| f64::from(joint.zero_ticks) + direction * angle / rad_per_tick);
        let last = f64::from(ticks - 1);
        // Rounded inward: a clamped goal never passes a limit by a part of a tick.
        let lowest = ends[0].min(ends[1]).ceil().clamp(0.0, last);
        let highest = ends[0].max(ends[1]).floor().clamp(lowest, last);
        let (lowest, highest) = (lowest as i32, highest as i32);
        Self { zero: joint.zero_ticks, direction, rad_per_tick, lowest, highest }
    }

    /// The first and last tick within the joint's limits.
    pub fn limits(&self) -> (i32, i32) {
        (self.lowest, self.highest)
    }

    /// The angle (rad) at a tick, beyond the limits too.
    pub fn radians(&self, ticks: i32) -> f64 {
        self.direction * f64::from(ticks - self.zero) * self.rad_per_tick
    }

    /// A speed (rad/s) of the joint from one of the servo (rad/s): only the sign may change.
    pub fn velocity(&self, servo: f64) -> f64 {
        self.direction * servo
    }

    /// The tick nearest to an angle (rad), within the limits.
    ///
    /// # Errors
    /// The angle is not finite.
    pub fn ticks(&self, angle: f64) -> Result<i32, NonFinite> {
        if !angle.is_finite() {
            return Err(NonFinite(angle));
        }
        let ticks = f64::from(self.zero) + self.direction * angle / self.rad_per_tick;
        Ok((ticks.round() as i32).clamp(self.lowest, self.highest))
    }
}
