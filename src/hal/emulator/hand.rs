//! A hand that leads an emulated arm's joints along a path, where no torque holds them.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use serde::Deserialize;

use super::servo::Servo;
use crate::config::{self, ConfigError, RobotConfig};
use crate::joints::{JointVec, stack};
use crate::storage::Storage;

/// How far and how slowly [`Hand::sine`] leads (rad, s).
const SWING: f64 = 0.2;
const SWING_TIME: f64 = 4.0;
/// A hand is no faster than this (rad/s).
const FASTEST: f64 = 3.0;

/// Where a hand leads the joints as time goes on. Torque is stronger: a servo that holds or drives is
/// left alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Hand {
    home: JointVec<f64>,
    /// Times (s) and joint positions (rad), in order; none for a sine of all joints.
    knots: Vec<(f64, JointVec<f64>)>,
    repeat: bool,
}

/// A path as its file says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    repeat: bool,
    knot: Vec<Knot>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Knot {
    at_s: f64,
    #[serde(default)]
    joints: BTreeMap<String, f64>,
}

impl Hand {
    /// Swings all joints about the home pose, for ever.
    pub fn sine(robot: &RobotConfig) -> Self {
        let home = robot.joint.iter().map(|joint| joint.home_rad).collect();
        Self { home, knots: Vec::new(), repeat: true }
    }

    /// Leads the joints from home along a file's knots, straight from one to the next.
    ///
    /// # Errors
    /// The file cannot be read, names an unknown joint, or its times do not grow.
    pub fn load(
        storage: &dyn Storage,
        path: &Path,
        robot: &RobotConfig,
    ) -> Result<Self, ConfigError> {
        let script: Script = config::parse_toml(&config::read_text(storage, path)?, path)?;
        let refused = |message| ConfigError::Value { path: path.into(), message };
        Self::along(&script, robot).map_err(refused)
    }

    fn along(script: &Script, robot: &RobotConfig) -> Result<Self, String> {
        let hand = Self::sine(robot);
        let mut knots = vec![(0.0, hand.home.clone())];
        for knot in &script.knot {
            let (before, mut at) = knots.last().cloned().unwrap_or_default();
            if !(knot.at_s > before && knot.at_s.is_finite()) {
                return Err(format!("at_s: expected more than {before}, found {}", knot.at_s));
            }
            for (name, angle) in &knot.joints {
                let joint = robot.joint.iter().position(|joint| joint.name == *name);
                let Some(place) = joint.and_then(|joint| at.get_mut(joint)) else {
                    return Err(format!("joints: expected joints of the arm, found `{name}`"));
                };
                if !angle.is_finite() {
                    return Err(format!("{name}: expected an angle (rad), found {angle}"));
                }
                *place = *angle;
            }
            knots.push((knot.at_s, at));
        }
        if knots.len() == 1 {
            return Err("expected one [[knot]] or more, found none".into());
        }
        Ok(Self { knots, repeat: script.repeat, ..hand })
    }

    /// Where it would have the joints (rad) after so many seconds.
    fn at(&self, time: f64) -> JointVec<f64> {
        let Some((end, last)) = self.knots.last() else {
            let swing = SWING * (time * TAU / SWING_TIME).sin();
            return self.home.iter().map(|home| home + swing).collect();
        };
        let time = if self.repeat { time % end } else { time };
        let pair = self.knots.windows(2).find(|pair| pair.iter().any(|(at, _)| *at > time));
        let Some([(from, a), (to, b)]) = pair else { return last.clone() };
        let share = (time - from) / (to - from);
        stack(a.iter().zip(b).map(|(a, b)| a + share * (b - a)))
    }

    /// Leads the joints that are free, `step` seconds long, at a time since it began (s).
    pub(super) fn lead(&self, servos: &mut [Servo], time: f64, step: f64) {
        for (servo, target) in servos.iter_mut().zip(self.at(time)) {
            if servo.is_free() {
                let (now, most) = (servo.angle(), FASTEST * step);
                servo.place(now + (target - now).clamp(-most, most));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    fn robot() -> RobotConfig {
        RobotConfig::load(&Disk, Path::new("firmware-config/so101-leader.toml")).unwrap()
    }

    fn script(text: &str) -> Result<Hand, String> {
        Hand::along(&config::parse_toml(text, Path::new("hand.toml")).unwrap(), &robot())
    }

    #[test]
    fn the_hand_goes_straight_from_knot_to_knot_and_begins_again() {
        let hand = script(
            "repeat = true\n[[knot]]\nat_s = 2.0\n[[knot]]\nat_s = 4.0\njoints = { elbow_flex = 1.0 }",
        )
        .unwrap();
        for (time, elbow) in [(0.0, 0.6), (2.0, 0.6), (3.0, 0.8), (3.999_999, 1.0), (7.0, 0.8)] {
            let at = hand.at(time);
            assert!((at[2] - elbow).abs() < 1e-5 && at[1] == -0.6, "{time}: {at:?}");
        }
        let once = Hand { repeat: false, ..hand };
        assert_eq!(once.at(9.0)[2], 1.0);
    }

    #[test]
    fn a_path_that_makes_no_sense_is_refused() {
        for (text, says) in [
            ("knot = []", "found none"),
            ("[[knot]]\nat_s = 0.0", "more than 0"),
            ("[[knot]]\nat_s = nan", "more than 0"),
            ("[[knot]]\nat_s = 1.0\njoints = { knee = 1.0 }", "`knee`"),
            ("[[knot]]\nat_s = 1.0\njoints = { elbow_flex = inf }", "an angle"),
        ] {
            let error = script(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
