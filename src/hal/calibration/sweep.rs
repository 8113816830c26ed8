//! The calibration procedure, without I/O: what was seen while a hand led the joints through their
//! travel, and the homing offsets that follow.
//!
//! The sweep comes first and nothing is written before its end, so it may begin anywhere and be
//! given up at any time. Positions are unwrapped: a joint may pass the encoder's end. The offset
//! then puts the middle of the travel to the middle of the turn, which moves the end as far from
//! the travel as it can be; a travel that does not fit is refused.

use super::{ArmCalibration, CalibrationError, JointCalibration};
use crate::config::JointConfig;
use crate::hal::servo::Model;
use crate::joints::JointVec;

/// A travel this near to a whole turn is one without ends (ticks): a joint that goes round.
const WHOLE_TURN: i64 = 24;
/// A joint has to move through this share of its configured range at least.
const LEAST_SHARE: f64 = 0.5;

/// How a servo counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// Ticks of a turn.
    pub turn: i32,
    /// The position is the encoder's plus this times the offset.
    pub sign: i32,
    /// The offset's largest magnitude (ticks).
    pub most: i32,
    /// With the offset, positions begin anew after a turn; else the encoder's own turn shows.
    pub wraps: bool,
}

/// A joint to be swept.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its servo's bus id.
    pub id: u8,
    /// +1 when ticks grow with the angle, else -1.
    pub direction: i8,
    /// The range that its configuration states (rad).
    pub range: f64,
    /// How its servo counts.
    pub encoder: Encoder,
    /// What stands in the servo's homing offset (ticks).
    pub offset: i32,
}

impl Encoder {
    /// How servos of this model count. Feetech's positions begin anew after a turn, offset and all;
    /// Dynamixel's do not.
    pub fn of(model: &Model) -> Self {
        let turn = model.ticks;
        match model.homing {
            Some(homing) => {
                Self { turn, sign: homing.sign, most: homing.most, wraps: homing.sign < 0 }
            }
            None => Self { turn, sign: 1, most: 0, wraps: false },
        }
    }
}

impl Plan {
    /// The plan for a configured joint whose servo has this homing offset now (ticks).
    pub fn of(joint: &JointConfig, offset: i32) -> Self {
        let (name, id, direction) = (joint.name.clone(), joint.id, joint.direction);
        let encoder = Encoder::of(Model::of(joint.servo));
        Self { name, id, direction, range: joint.max_rad - joint.min_rad, encoder, offset }
    }
}

/// What was seen of an arm's joints so far.
#[derive(Debug, Clone)]
pub struct Sweep {
    joints: JointVec<(Plan, Travel)>,
}

impl Sweep {
    /// A sweep of these joints; more than an arm may have are left out.
    pub fn new(joints: impl IntoIterator<Item = Plan>) -> Self {
        let joints = joints.into_iter().map(|plan| {
            let travel = Travel::new(plan.encoder.turn);
            (plan, travel)
        });
        Self { joints: joints.take(crate::joints::MAX_JOINTS).collect() }
    }

    /// Takes a position that joint `i` says it has (ticks, with the offset that it has now). A
    /// joint must not turn further than half a turn between two of them.
    pub fn see(&mut self, i: usize, position: i32) {
        if let Some((plan, travel)) = self.joints.get_mut(i) {
            travel.see(position - plan.encoder.sign * plan.offset);
        }
    }

    /// How far joint `i` went so far (ticks); `None` before it was seen.
    pub fn travelled(&self, i: usize) -> Option<i64> {
        self.joints.get(i).and_then(|(_, travel)| travel.span())
    }

    /// Where joint `i` went far enough for a calibration.
    pub fn is_swept(&self, i: usize) -> bool {
        self.joints.get(i).is_some_and(|(plan, travel)| {
            travel.span().is_some_and(|span| span as f64 >= plan.least())
        })
    }

    /// The calibration that follows from what was seen. A joint that goes round without end has its
    /// middle where it was seen last.
    ///
    /// # Errors
    /// A joint was not moved through its travel, or its travel does not fit between two ends of the
    /// encoder.
    pub fn finish(&self, robot: &str) -> Result<ArmCalibration, CalibrationError> {
        let joint = self.joints.iter().map(|(plan, travel)| plan.calibrate(travel));
        Ok(ArmCalibration { robot: robot.into(), joint: joint.collect::<Result<_, _>>()? })
    }
}

impl Plan {
    fn least(&self) -> f64 {
        LEAST_SHARE * self.range / std::f64::consts::TAU * f64::from(self.encoder.turn)
    }

    fn calibrate(&self, travel: &Travel) -> Result<JointCalibration, CalibrationError> {
        let turn = i64::from(self.encoder.turn);
        let Some(span) = travel.span().filter(|span| *span as f64 >= self.least()) else {
            let degrees = |ticks: f64| 360.0 * ticks / turn as f64;
            return Err(CalibrationError::NotSwept {
                joint: self.name.clone(),
                expected: degrees(self.least()),
                found: degrees(travel.span().unwrap_or(0) as f64),
            });
        };
        let whole = span > turn - WHOLE_TURN;
        let middle = if whole { travel.at } else { travel.lowest + span / 2 };
        let homing_offset = self.offset_for(middle);
        let shift = i64::from(self.encoder.sign) * i64::from(homing_offset);
        // The turn that the servo counts the middle in.
        let base = if self.encoder.wraps { middle + shift } else { middle };
        let to_position = shift - base.div_euclid(turn) * turn;
        let (min, max) = if whole {
            (0, turn - 1)
        } else {
            (travel.lowest + to_position, travel.highest + to_position)
        };
        let same_turn = self.encoder.wraps
            || whole
            || travel.lowest.div_euclid(turn) == travel.highest.div_euclid(turn);
        if min < 0 || max >= turn || !same_turn {
            return Err(CalibrationError::WrapInside { joint: self.name.clone() });
        }
        let drive_mode = u8::from(self.direction < 0);
        let (range_min, range_max) = (min as i32, max as i32);
        let (name, id) = (self.name.clone(), self.id);
        Ok(JointCalibration { name, id, drive_mode, homing_offset, range_min, range_max })
    }

    /// The offset that brings the encoder's `middle` to the middle of the turn, or, as the register
    /// holds less than a turn, as near to it as it can.
    fn offset_for(&self, middle: i64) -> i32 {
        let Encoder { turn, sign, most, .. } = self.encoder;
        let half = i64::from(turn / 2);
        let offset = i64::from(sign) * (half - middle.rem_euclid(i64::from(turn)));
        let nearest = (offset + half).rem_euclid(i64::from(turn)) - half;
        (if self.encoder.wraps { nearest } else { offset } as i32).clamp(-most, most)
    }
}

/// The way of one joint, in encoder ticks that count on over the turn's end.
#[derive(Debug, Clone)]
struct Travel {
    turn: i64,
    /// The last three readings: their median counts, so that one wild reading does not.
    last: heapless::Deque<i64, 3>,
    at: i64,
    lowest: i64,
    highest: i64,
}

impl Travel {
    fn new(turn: i32) -> Self {
        let last = heapless::Deque::new();
        Self { turn: i64::from(turn), last, at: 0, lowest: i64::MAX, highest: i64::MIN }
    }

    fn see(&mut self, encoder: i32) {
        let half = self.turn / 2;
        let mut unwrapped = i64::from(encoder).rem_euclid(self.turn);
        if !self.last.is_empty() {
            unwrapped = self.at + (unwrapped - self.at + half).rem_euclid(self.turn) - half;
        }
        if self.last.is_full() {
            self.last.pop_front();
        }
        let _ = self.last.push_back(unwrapped);
        let mut sorted: heapless::Vec<i64, 3> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        // Of the first readings nobody knows which one is wild.
        let Some(median) = sorted.get(1).filter(|_| sorted.is_full()) else {
            self.at = unwrapped;
            return;
        };
        self.at = *median;
        self.lowest = self.lowest.min(*median);
        self.highest = self.highest.max(*median);
    }

    fn span(&self) -> Option<i64> {
        (self.lowest <= self.highest).then(|| self.highest - self.lowest)
    }
}
