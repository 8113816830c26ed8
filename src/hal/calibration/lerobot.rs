//! LeRobot's calibration files and its three ways to write a position, bit for bit.
//!
//! The only place where positions are neither ticks nor rad. Source: what LeRobot 0.6 reads, writes
//! and computes (`MotorCalibration`, `MotorsBus._normalize` and `_unnormalize`).

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ArmCalibration, CalibrationError, JointCalibration, NonFinite};

/// How LeRobot writes a position for its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalisation {
    /// The range as -100 to 100.
    RangeM100To100,
    /// The range as 0 to 100: grippers.
    Range0To100,
    /// Degrees from the middle of the range; the range is no limit, the drive mode is ignored, and
    /// a turn has one tick less than the encoder.
    Degrees,
}

/// A turn of the encoder as LeRobot counts it: the highest tick.
const HIGHEST_TICK: f64 = 4095.0;

impl Normalisation {
    /// A position (ticks) as LeRobot's user sees it.
    pub fn to_user(self, joint: &JointCalibration, ticks: i32) -> f64 {
        let (min, max) = ends(joint);
        let x = f64::from(ticks);
        let share = (x.max(min).min(max) - min) / (max - min);
        match (self, joint.drive_mode != 0) {
            (Self::RangeM100To100, false) => share * 200.0 - 100.0,
            (Self::RangeM100To100, true) => -(share * 200.0 - 100.0),
            (Self::Range0To100, false) => share * 100.0,
            (Self::Range0To100, true) => 100.0 - share * 100.0,
            (Self::Degrees, _) => (x - (min + max) / 2.0) * 360.0 / HIGHEST_TICK,
        }
    }

    /// The ticks that LeRobot sends for what its user wrote: cut toward zero, not rounded.
    ///
    /// # Errors
    /// The number is not finite, or far beyond any tick: LeRobot would send an end of the range, or
    /// fail.
    pub fn to_ticks(self, joint: &JointCalibration, user: f64) -> Result<i32, NonFinite> {
        if !user.is_finite() {
            return Err(NonFinite(user));
        }
        let (min, max) = ends(joint);
        let ticks = match (self, joint.drive_mode != 0) {
            (Self::RangeM100To100, turned) => {
                let bounded = if turned { -user } else { user }.clamp(-100.0, 100.0);
                (bounded + 100.0) / 200.0 * (max - min) + min
            }
            (Self::Range0To100, turned) => {
                let bounded = if turned { 100.0 - user } else { user }.clamp(0.0, 100.0);
                bounded / 100.0 * (max - min) + min
            }
            (Self::Degrees, _) => user * HIGHEST_TICK / 360.0 + (min + max) / 2.0,
        };
        if ticks.abs() < f64::from(i32::MAX) { Ok(ticks as i32) } else { Err(NonFinite(ticks)) }
    }
}

fn ends(joint: &JointCalibration) -> (f64, f64) {
    (f64::from(joint.range_min), f64::from(joint.range_max))
}

impl ArmCalibration {
    /// Reads LeRobot's file of an arm, which does not say the robot's name.
    ///
    /// # Errors
    /// It is no such file, or has values that no servo has.
    pub fn from_lerobot(robot: &str, json: &str) -> Result<Self, CalibrationError> {
        let wrong = |message| CalibrationError::LeRobot { message };
        let Joints(joint) = serde_json::from_str(json).map_err(|e| wrong(e.to_string()))?;
        let calibration = Self { robot: robot.into(), joint };
        calibration.check().map_err(wrong)?;
        Ok(calibration)
    }

    /// LeRobot's file of the arm, to the byte as LeRobot writes it.
    ///
    /// # Errors
    /// Never for names that are text, which all are.
    pub fn to_lerobot(&self) -> Result<String, CalibrationError> {
        let mut json = Vec::new();
        let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut json, layout);
        let wrong = |message| CalibrationError::LeRobot { message };
        Joints(self.joint.clone()).serialize(&mut serializer).map_err(|e| wrong(e.to_string()))?;
        String::from_utf8(json).map_err(|e| wrong(e.to_string()))
    }
}

/// The entry of one joint, without its name; the order of the keys is LeRobot's.
#[derive(Serialize)]
struct Entry {
    id: u8,
    drive_mode: u8,
    homing_offset: i32,
    range_min: i32,
    range_max: i32,
}

/// The joints as a map by name that keeps its order.
struct Joints(Vec<JointCalibration>);

impl Serialize for Joints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for joint in &self.0 {
            let JointCalibration { id, drive_mode, homing_offset, range_min, range_max, .. } =
                *joint;
            let entry = Entry { id, drive_mode, homing_offset, range_min, range_max };
            map.serialize_entry(&joint.name, &entry)?;
        }
        map.end()
    }
}

/// The joint of an entry; what is wrong with it names the key.
fn joint(name: &str, entry: serde_json::Value) -> Result<JointCalibration, String> {
    let serde_json::Value::Object(mut entry) = entry else {
        return Err(format!("expected its values by name, found {entry}"));
    };
    let joint = JointCalibration {
        name: name.into(),
        id: take(&mut entry, "id")?,
        drive_mode: take(&mut entry, "drive_mode")?,
        homing_offset: take(&mut entry, "homing_offset")?,
        range_min: take(&mut entry, "range_min")?,
        range_max: take(&mut entry, "range_max")?,
    };
    match entry.keys().next() {
        None => Ok(joint),
        Some(other) => Err(format!("expected no key `{other}`, found it")),
    }
}

fn take<T: serde::de::DeserializeOwned>(
    entry: &mut serde_json::Map<String, serde_json::Value>,
    key: &str,
) -> Result<T, String> {
    let value = entry.remove(key).ok_or_else(|| format!("{key}: expected a number, found none"))?;
    serde_json::from_value(value).map_err(|error| format!("{key}: {error}"))
}

impl<'de> Deserialize<'de> for Joints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Joints;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a calibration of LeRobot: joints by name")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Joints, M::Error> {
                let mut joints = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    let entry = map.next_value::<serde_json::Value>()?;
                    let joint = joint(&name, entry).map_err(|why| {
                        serde::de::Error::custom(format!("joint `{name}`: {why}"))
                    })?;
                    joints.push(joint);
                }
                Ok(Joints(joints))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}
