//! Whether a reading can be true: checksums let some damage through, and servos may be wrong too.
//!
//! Of answers with 2 flipped bits about 2 % pass Feetech's checksum, of those with two bytes swapped
//! all; of those with 2 wrong bytes 0.01 % pass Dynamixel's CRC. The same limits hold for both: they
//! are those of the joint.

use crate::clock::Time;

/// What any servo may be off by between two readings: noise, rounding, play (rad).
const MARGIN: f64 = 0.02;
/// The most that a motor's temperature changes between two readings (°C).
const TEMPERATURE_JUMP: f64 = 5.0;
/// This many implausible readings in a row that agree are believed.
const AGREEING: u32 = 4;
/// This many when only the temperature is in doubt: it can wait, and no joint jumped.
const AGREEING_ON_HEAT: u32 = 5;
/// The believed readings that are remembered: more lies in a row that each were small enough to be
/// believed would be needed to make a jump of the truth.
const BELIEVED: usize = 4;

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

/// Judges the readings of one joint by those before.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plausibility {
    /// The last one first.
    believed: [Option<Reading>; BELIEVED],
    /// The last implausible reading and how many agreed with it so far.
    doubted: Option<(Reading, u32)>,
}

impl Plausibility {
    /// Forgets everything; what the next readings agree on is believed.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Judges a reading of a joint that moves at most at `max_velocity` (rad/s).
    pub(super) fn judge(&mut self, reading: Reading, max_velocity: f64) -> Verdict {
        let can_follow = |before: &Reading| follows(before, &reading, max_velocity);
        let [last, older @ ..] = self.believed;
        if last.is_some_and(|last| can_follow(&last)) {
            self.believed.rotate_right(1);
            self.believe(reading);
            return Verdict::Plausible;
        }
        let agreeing = match self.doubted {
            Some((before, count)) if can_follow(&before) => count + 1,
            _ => 1,
        };
        let (enough, verdict) = match last {
            Some(last) if moves(&last, &reading, max_velocity) => {
                (AGREEING_ON_HEAT, Verdict::Plausible)
            }
            Some(_) if !older.iter().flatten().any(can_follow) => (AGREEING, Verdict::Jumped),
            // Nothing was known; or it follows from what was, and the last was the lie.
            _ => (AGREEING, Verdict::Plausible),
        };
        if agreeing >= enough {
            self.reset();
            self.believe(reading);
            return verdict;
        }
        self.doubted = Some((reading, agreeing));
        Verdict::Implausible
    }

    /// Puts a reading in the last one's place.
    fn believe(&mut self, reading: Reading) {
        let [last, ..] = &mut self.believed;
        *last = Some(reading);
        self.doubted = None;
    }
}

/// Whether a joint at `before` can be at `after`, and its motor as warm.
fn follows(before: &Reading, after: &Reading, max_velocity: f64) -> bool {
    let dt = after.time.since(before.time).as_secs_f64();
    moves(before, after, max_velocity)
        && (after.temperature - before.temperature).abs() <= TEMPERATURE_JUMP + dt
}

/// Whether a joint at `before` can be at `after`: |dq| <= v_max dt + margin.
fn moves(before: &Reading, after: &Reading, max_velocity: f64) -> bool {
    let dt = after.time.since(before.time).as_secs_f64();
    (after.position - before.position).abs() <= max_velocity * dt + MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tick: u64, position: f64) -> Reading {
        Reading { position, temperature: 30.0, time: Time(tick * 10_000_000) }
    }

    /// The verdicts on readings of a joint that was known to be at 0 before them.
    fn judge(readings: impl IntoIterator<Item = Reading>) -> Vec<Verdict> {
        let mut joint = Plausibility::default();
        let known = (0..4).map(|_| joint.judge(at(0, 0.0), 2.0)).last();
        assert_eq!(known, Some(Plausible));
        readings.into_iter().map(|reading| joint.judge(reading, 2.0)).collect()
    }

    use Verdict::*;

    #[test]
    fn what_the_speed_allows_is_believed_and_no_more() {
        assert_eq!(
            judge([at(1, 0.039), at(2, 0.0), at(3, 0.041)]),
            [Plausible, Plausible, Implausible]
        );
    }

    #[test]
    fn a_joint_unseen_for_long_may_be_far_away() {
        assert_eq!(judge([at(100, 1.9)]), [Plausible]);
    }

    #[test]
    fn where_an_unknown_joint_is_takes_four_readings_that_agree() {
        let mut joint = Plausibility::default();
        let readings = [0.5, 0.5, -1.0, 0.5, 0.5, 0.5, 0.5];
        let verdicts = readings.map(|position| joint.judge(at(0, position), 2.0));
        assert_eq!(verdicts[..6], [Implausible; 6]);
        assert_eq!(verdicts[6], Plausible);
    }

    #[test]
    fn single_lies_are_dropped_and_four_that_agree_are_a_jump() {
        let lies = [at(1, 1.5), at(2, -1.5), at(3, 1.5), at(4, 0.01)];
        assert_eq!(judge(lies), [Implausible, Implausible, Implausible, Plausible]);
        let jump = [at(1, 1.5), at(2, 1.51), at(3, 1.5), at(4, 1.5), at(5, 1.5)];
        assert_eq!(judge(jump), [Implausible, Implausible, Implausible, Jumped, Plausible]);
    }

    #[test]
    fn a_small_lie_that_was_believed_does_not_make_a_jump_of_the_truth() {
        // At full speed, and once as far behind as can just be: what follows is ahead of that.
        let moving = [at(1, 0.02), at(2, 0.04), at(3, 0.001), at(4, 0.08)];
        assert_eq!(judge(moving), [Plausible, Plausible, Plausible, Implausible]);
        let again = [Reading { time: Time(40_500_000), ..at(4, 0.081) }; 3];
        let verdicts = judge(moving.into_iter().chain(again));
        assert_eq!(verdicts[4..], [Implausible, Implausible, Plausible]);
    }

    #[test]
    fn a_motor_does_not_heat_up_within_a_tick() {
        let hot = Reading { temperature: 94.0, ..at(1, 0.0) };
        assert_eq!(judge([hot, at(2, 0.0)]), [Implausible, Plausible]);
        let verdicts = judge((1..6).map(|tick| Reading { temperature: 94.0, ..at(tick, 0.0) }));
        assert_eq!(verdicts[..4], [Implausible; 4]);
        assert_eq!(verdicts[4], Plausible, "five agree that it did, and the joint is where it was");
    }
}
