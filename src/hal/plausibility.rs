//! Whether a reading can be true: Feetech's checksum lets some damage through.
//!
//! Of answers with 2 flipped bits about 2 % pass the checksum, of those with two bytes swapped all.

use crate::clock::Time;

/// What any servo may be off by between two readings: noise, rounding, play (rad).
const MARGIN: f64 = 0.02;
/// The most that a motor's temperature changes between two readings (°C).
const TEMPERATURE_JUMP: f64 = 5.0;
/// This many implausible readings in a row that agree are believed.
const AGREEING: u32 = 3;

/// What one reading says about a joint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Reading {
    /// rad.
    pub position: f64,
    /// °C.
    pub temperature: f64,
    pub time: Time,
}

/// What to do with a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can be true.
    Plausible,
    /// It cannot: drop it.
    Implausible,
    /// It cannot, but readings agree on it: the joint really jumped.
    Jumped,
}

/// Judges the readings of one joint by the one before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plausibility {
    last: Option<Reading>,
    /// The last implausible reading and how many agreed with it so far.
    doubted: Option<(Reading, u32)>,
}

impl Plausibility {
    /// Forgets everything; the next reading is believed.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Judges a reading of a joint that moves at most at `max_velocity` (rad/s).
    pub(super) fn judge(&mut self, reading: Reading, max_velocity: f64) -> Verdict {
        if self.last.is_none_or(|last| follows(&last, &reading, max_velocity)) {
            self.last = Some(reading);
            self.doubted = None;
            return Verdict::Plausible;
        }
        let agreeing = match self.doubted {
            Some((before, count)) if follows(&before, &reading, max_velocity) => count + 1,
            _ => 1,
        };
        if agreeing >= AGREEING {
            self.last = Some(reading);
            self.doubted = None;
            return Verdict::Jumped;
        }
        self.doubted = Some((reading, agreeing));
        Verdict::Implausible
    }
}

/// Whether a joint at `before` can be at `after`: |dq| <= v_max dt + margin.
fn follows(before: &Reading, after: &Reading, max_velocity: f64) -> bool {
    let dt = after.time.since(before.time).as_secs_f64();
    (after.position - before.position).abs() <= max_velocity * dt + MARGIN
        && (after.temperature - before.temperature).abs() <= TEMPERATURE_JUMP + dt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tick: u64, position: f64) -> Reading {
        Reading { position, temperature: 30.0, time: Time(tick * 10_000_000) }
    }

    fn judge(readings: impl IntoIterator<Item = Reading>) -> Vec<Verdict> {
        let mut joint = Plausibility::default();
        readings.into_iter().map(|reading| joint.judge(reading, 2.0)).collect()
    }

    use Verdict::*;

    #[test]
    fn what_the_speed_allows_is_believed_and_no_more() {
        assert_eq!(
            judge([at(0, 0.0), at(1, 0.039), at(2, 0.0), at(3, 0.041)]),
            [Plausible, Plausible, Plausible, Implausible]
        );
    }

    #[test]
    fn a_joint_unseen_for_long_may_be_far_away() {
        assert_eq!(judge([at(0, 0.0), at(100, 1.9)]), [Plausible, Plausible]);
    }

    #[test]
    fn single_lies_are_dropped_and_three_that_agree_are_a_jump() {
        let lies = [at(0, 0.0), at(1, 1.5), at(2, -1.5), at(3, 1.5), at(4, 0.01)];
        assert_eq!(judge(lies), [Plausible, Implausible, Implausible, Implausible, Plausible]);
        let jump = [at(0, 0.0), at(1, 1.5), at(2, 1.51), at(3, 1.5), at(4, 1.5)];
        assert_eq!(judge(jump), [Plausible, Implausible, Implausible, Jumped, Plausible]);
    }

    #[test]
    fn a_motor_does_not_heat_up_within_a_tick() {
        let hot = Reading { temperature: 94.0, ..at(1, 0.0) };
        assert_eq!(judge([at(0, 0.0), hot, at(2, 0.0)]), [Plausible, Implausible, Plausible]);
    }
}
