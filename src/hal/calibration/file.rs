//! The calibration of one arm: a TOML file that is replaced as a whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::CalibrationError;
use crate::config::{JointConfig, RobotConfig};
use crate::hal::servo::Model;
use crate::storage::Storage;

/// How one joint's servo counts, and how far the joint goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointCalibration {
    /// The joint's name.
    pub name: String,
    /// The servo's bus id.
    pub id: u8,
    /// 1 when ticks fall as the angle grows, else 0.
    pub drive_mode: u8,
    /// What stands in the servo's homing offset (ticks).
    pub homing_offset: i32,
    /// The lowest position seen, with the offset (ticks).
    pub range_min: i32,
    /// The highest position seen, with the offset (ticks).
    pub range_max: i32,
}

/// The calibration of one arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmCalibration {
    /// The robot's name.
    pub robot: String,
    /// Its joints, base first.
    pub joint: Vec<JointCalibration>,
}

impl ArmCalibration {
    /// The calibration file of the robot that is configured in `robot`: beside it,
    /// `NAME.calibration.toml`.
    pub fn path_of(robot: &Path) -> PathBuf {
        robot.with_extension("calibration.toml")
    }

    /// Reads a calibration; `None` where there is no file.
    ///
    /// # Errors
    /// The file cannot be read, is no calibration, or has values that no servo has.
    pub fn load(storage: &dyn Storage, path: &Path) -> Result<Option<Self>, CalibrationError> {
        let bytes = match storage.read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(CalibrationError::File { path: path.into(), source }),
        };
        let parse = |message: String| CalibrationError::Parse { path: path.into(), message };
        let text = String::from_utf8(bytes).map_err(|e| parse(e.to_string()))?;
        let calibration: Self = toml::from_str(&text).map_err(|e| parse(e.to_string()))?;
        calibration.check().map_err(parse)?;
        Ok(Some(calibration))
    }

    /// Replaces the file at `path`: after a crash the old or the new content is there, whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, storage: &dyn Storage, path: &Path) -> Result<(), CalibrationError> {
        let text = format!(
            "# Written by `regoal robot calibrate`; the servos hold the same offsets.\n{}",
            self.text()?
        );
        storage
            .replace(path, text.as_bytes())
            .map_err(|source| CalibrationError::File { path: path.into(), source })
    }

    /// SHA-256 of the calibration, in hex: the same for the same values. Episodes carry it.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub fn hash(&self) -> Result<String, CalibrationError> {
        let digest = Sha256::digest(self.text()?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn text(&self) -> Result<String, CalibrationError> {
        toml::to_string(self).map_err(|e| CalibrationError::Value(e.to_string()))
    }

    /// The calibration of the joint with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn joint(&self, name: &str) -> Result<&JointCalibration, CalibrationError> {
        let found = self.joint.iter().find(|joint| joint.name == name);
        found.ok_or_else(|| CalibrationError::Missing { joint: name.into() })
    }

    /// Makes the robot's joints count as calibrated: zero moves with the middle of the travel, the
    /// limits shrink to it, home and park pose move inside, the direction is the drive mode's, and the arm opens only with these offsets
    /// in its servos.
    ///
    /// # Errors
    /// A joint is missing, has another id, or nothing is left between its limits; the robot is as
    /// it was then.
    pub fn apply(&self, robot: &mut RobotConfig) -> Result<(), CalibrationError> {
        let margin = robot.safety.limit_margin_rad;
        let apply = |joint: &JointConfig| self.joint(&joint.name)?.applied(joint, margin);
        let joints = robot.joint.iter().map(apply).collect::<Result<_, _>>()?;
        (robot.joint, robot.calibration) = (joints, self.hash()?);
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (i, joint) in self.joint.iter().enumerate() {
            joint.check().map_err(|message| format!("joint `{}`: {message}", joint.name))?;
            let same = |other: &&JointCalibration| other.name == joint.name || other.id == joint.id;
            if let Some(other) = self.joint.iter().take(i).find(same) {
                return Err(format!(
                    "expected joints that differ in name and id, found `{}` ({}) and `{}` ({})",
                    other.name, other.id, joint.name, joint.id
                ));
            }
        }
        Ok(())
    }
}

impl JointCalibration {
    /// The tick in the middle of the travel.
    pub fn middle(&self) -> i32 {
        (self.range_min + self.range_max + 1).div_euclid(2)
    }

    fn check(&self) -> Result<(), String> {
        // What a Dynamixel's register can hold; what a servo heeds depends on its model.
        const MOST: i32 = 1_044_479;
        let known = |key: &str, value: i32, lowest: i32, highest: i32| {
            if (lowest..=highest).contains(&value) {
                return Ok(());
            }
            Err(format!("{key}: expected {lowest} to {highest}, found {value}"))
        };
        known("id", self.id.into(), 0, 252)?;
        known("drive_mode", self.drive_mode.into(), 0, 1)?;
        known("homing_offset", self.homing_offset, -MOST, MOST)?;
        known("range_min", self.range_min, -MOST, MOST)?;
        known("range_max", self.range_max, self.range_min + 1, MOST)
    }

    fn applied(&self, to: &JointConfig, margin: f64) -> Result<JointConfig, CalibrationError> {
        let name = || self.name.clone();
        if self.id != to.id {
            return Err(CalibrationError::Id { joint: name(), expected: to.id, found: self.id });
        }
        let model = Model::of(to.servo);
        // A Dynamixel's register takes more than it heeds in position mode.
        let most = model.homing.map_or(0, |homing| homing.most);
        if !(-most..=most).contains(&self.homing_offset) {
            let found = self.homing_offset;
            return Err(CalibrationError::Offset { joint: name(), most, found });
        }
        let direction = if self.drive_mode == 0 { 1 } else { -1 };
        // Which side of the middle zero lies on turns round with the direction.
        let from_middle = (to.zero_ticks - model.ticks / 2) * i32::from(to.direction * direction);
        let zero_ticks = self.middle() + from_middle;
        let angle =
            |ticks: i32| f64::from(direction) * f64::from(ticks - zero_ticks) * model.rad_per_tick;
        let ends = [angle(self.range_min), angle(self.range_max)];
        let min_rad = to.min_rad.max(ends[0].min(ends[1]));
        let max_rad = to.max_rad.min(ends[0].max(ends[1]));
        if max_rad - min_rad < 1e-3 + 2.0 * margin {
            return Err(CalibrationError::NoTravel { joint: name() });
        }
        let within = |angle: f64| angle.clamp(min_rad + margin, max_rad - margin);
        Ok(JointConfig {
            zero_ticks,
            direction,
            min_rad,
            max_rad,
            home_rad: within(to.home_rad),
            park_rad: to.park_rad.map(within),
            homing_offset: Some(self.homing_offset),
            ..to.clone()
        })
    }
}
