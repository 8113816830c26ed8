//! Ticks of a servo to radians of a joint and back.

use super::servo::Model;
use crate::config::JointConfig;

/// A number that is not finite has no place on a joint.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("expected a finite angle (rad), found {0}")]
pub struct NonFinite(pub f64);

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ServoModel;
    use crate::hal::servo::RAD_PER_TICK;

    fn joint(zero_ticks: i32, direction: i8, min_rad: f64, max_rad: f64) -> JointConfig {
        JointConfig {
            name: "j".into(),
            id: 1,
            servo: ServoModel::Sts3215,
            zero_ticks,
            direction,
            min_rad,
            max_rad,
            max_velocity: 1.0,
            max_acceleration: 1.0,
            home_rad: min_rad,
        }
    }

    proptest! {
        #[test]
        fn a_tick_within_the_limits_comes_back(
            zero in 0i32..4096, flip in any::<bool>(), min in -3.0f64..2.9, span in 0.01f64..3.0, at in 0.0f64..1.0,
        ) {
            let c = Calibration::new(&joint(zero, if flip { -1 } else { 1 }, min, min + span));
            let (lowest, highest) = c.limits();
            let tick = lowest + (at * f64::from(highest - lowest)) as i32;
            prop_assert_eq!(c.ticks(c.radians(tick)), Ok(tick));
        }

        #[test]
        fn no_angle_leaves_the_limits(zero in 1100i32..3000, flip in any::<bool>(), angle in any::<f64>()) {
            let c = Calibration::new(&joint(zero, if flip { -1 } else { 1 }, -1.5, 0.7));
            match c.ticks(angle) {
                Ok(tick) => {
                    prop_assert!((-1.5..=0.7).contains(&c.radians(tick)), "{}", c.radians(tick));
                }
                Err(_) => prop_assert!(!angle.is_finite()),
            }
        }
    }

    #[test]
    fn ticks_are_rounded_to_the_nearest() {
        let c = Calibration::new(&joint(2048, 1, -3.0, 3.0));
        assert_eq!(c.ticks(0.51 * RAD_PER_TICK), Ok(2049));
        assert_eq!(c.ticks(-0.51 * RAD_PER_TICK), Ok(2047));
        assert_eq!(c.ticks(0.49 * RAD_PER_TICK), Ok(2048));
        assert!(c.ticks(f64::NAN).is_err() && c.ticks(f64::INFINITY).is_err());
    }
}
