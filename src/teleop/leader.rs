//! A second arm that is moved by hand, its torque off: the joints mirror its joints by name.

use std::str::FromStr;
use std::time::Duration;

use super::{Follower, TeleopError, Teleoperator};
use crate::clock::Time;
use crate::config::RobotConfig;
use crate::control::TeleopAction;
use crate::hal::arm::ArmError;
use crate::hal::{Arm, ArmState};
use crate::joints::JointVec;

/// Which joint of the leader moves a joint of the arm, and how far.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// The arm's joint.
    pub joint: String,
    /// The leader's joint.
    pub leader: String,
    /// The arm's angle for each radian of the leader, from 0 rad on.
    pub scale: f64,
}

impl FromStr for Mapping {
    type Err = TeleopError;

    /// `JOINT=LEADER_JOINT` or `JOINT=LEADER_JOINT*SCALE`.
    fn from_str(text: &str) -> Result<Self, TeleopError> {
        let wrong = || TeleopError::Mapping(text.into());
        let (joint, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (leader, scale) = rest.split_once('*').unwrap_or((rest, "1"));
        let scale: f64 = scale.trim().parse().map_err(|_| wrong())?;
        let [joint, leader] = [joint, leader].map(|name| name.trim().to_owned());
        if joint.is_empty() || leader.is_empty() || !scale.is_finite() {
            return Err(wrong());
        }
        Ok(Self { joint, leader, scale })
    }
}

/// How often a leader whose port was lost is looked for.
const SEARCH: Duration = Duration::from_millis(500);
/// Until when in a tick it must have answered, as a share of the period.
const READ_BY: f64 = 0.8;

/// Opens the leader, also again after its port was lost.
type Open = Box<dyn FnMut() -> Result<Arm, ArmError> + Send>;

/// A leader arm.
pub struct Leader {
    /// None while its port is gone.
    arm: Option<Arm>,
    open: Open,
    search_at: Time,
    state: ArmState,
    /// For each joint of the arm: the leader's joint and the scale.
    places: JointVec<(usize, f64)>,
    read_by: Duration,
    /// Where its joints would have the arm's be (rad); none when one did not answer.
    hand: Option<JointVec<f64>>,
    /// It moves the arm by as much as it is moved itself; else the arm goes where it is.
    relative: bool,
    engaged: bool,
    /// Added to where it is, while it is engaged (rad).
    offset: Option<JointVec<f64>>,
}

impl Leader {
    /// Opens a leader for a robot. Joints are mirrored by name but where `mappings` say otherwise.
    ///
    /// # Errors
    /// A joint has no counterpart, or the leader does not open.
    pub fn open(
        robot: &RobotConfig,
        leader: &RobotConfig,
        mappings: &[Mapping],
        mut open: impl FnMut() -> Result<Arm, ArmError> + Send + 'static,
    ) -> Result<Self, TeleopError> {
        let places = places(robot, leader, mappings)?;
        Ok(Self {
            arm: Some(open()?),
            open: Box::new(open),
            search_at: Time::ZERO,
            state: ArmState::default(),
            places,
            read_by: robot.period().mul_f64(READ_BY),
            hand: None,
            relative: false,
            engaged: false,
            offset: None,
        })
    }

    /// The same leader, which moves the arm by as much as it is moved itself, from where both are
    /// when it takes over: for one that was left behind while a policy steered. Until then it wishes
    /// the arm where it is.
    #[must_use]
    pub fn relative(self) -> Self {
        Self { relative: true, ..self }
    }

    /// Where its joints would have the arm's be (rad), and the oldest time that one was measured.
    fn mirrored(&mut self, now: Time) -> Result<Option<TeleopAction>, TeleopError> {
        let Some(arm) = &mut self.arm else {
            if now < self.search_at {
                return Err(TeleopError::Gone);
            }
            self.search_at = now + SEARCH;
            self.arm = Some((self.open)()?);
            return Ok(None);
        };
        self.hand = None;
        let fresh = arm.read(&mut self.state, now + self.read_by).inspect_err(|error| {
            if error.lost() {
                // It may be found again elsewhere.
                (self.arm, self.offset) = (None, None);
            }
        })?;
        let joints = &self.state.joints;
        let stamp = joints.iter().map(|joint| joint.stamp).min().unwrap_or_default();
        let mirror = |(place, scale): &(usize, f64)| Some(joints.get(*place)?.position * scale);
        let position: JointVec<f64> = self.places.iter().filter_map(mirror).collect();
        let known = stamp != Time::ZERO && !joints.iter().any(|joint| joint.jumped);
        self.hand = (known && fresh == joints.len()).then(|| position.clone());
        Ok(known.then_some(TeleopAction { stamp, position }))
    }
}

impl Teleoperator for Leader {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        let Some(mut action) = self.mirrored(follower.now)? else { return Ok(None) };
        if self.relative {
            self.offset = self.offset.take().filter(|_| self.engaged);
            let place = follower.place();
            let offset = self.offset.get_or_insert_with(|| difference(place, &action.position));
            action.position.iter_mut().zip(offset.iter()).for_each(|(q, by)| *q += by);
        }
        Ok(Some(action))
    }

    fn engage(&mut self, engaged: bool, _follower: &Follower) {
        // Told anew with the next measurement.
        (self.engaged, self.offset) = (engaged, None);
    }

    fn hand(&self) -> Option<&JointVec<f64>> {
        self.hand.as_ref()
    }
}

fn difference(a: &[f64], b: &[f64]) -> JointVec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn places(
    robot: &RobotConfig,
    leader: &RobotConfig,
    mappings: &[Mapping],
) -> Result<JointVec<(usize, f64)>, TeleopError> {
    let found = || leader.joint.iter().map(|joint| joint.name.clone()).collect();
    if let Some(unknown) = mappings.iter().find(|m| robot.joint.iter().all(|j| j.name != m.joint)) {
        return Err(TeleopError::Mapping(format!("{}={}", unknown.joint, unknown.leader)));
    }
    let place = |joint: &crate::config::JointConfig| {
        let mapping = mappings.iter().find(|mapping| mapping.joint == joint.name);
        let name = mapping.map_or(&joint.name, |mapping| &mapping.leader);
        let place = leader.joint.iter().position(|joint| joint.name == *name);
        let unmapped = || TeleopError::Unmapped { joint: joint.name.clone(), found: found() };
        Ok((place.ok_or_else(unmapped)?, mapping.map_or(1.0, |mapping| mapping.scale)))
    };
    robot.joint.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_is_two_names_and_a_scale() {
        let mapping: Mapping = "gripper = trigger * -1.5".parse().unwrap();
        let expected = Mapping { joint: "gripper".into(), leader: "trigger".into(), scale: -1.5 };
        assert_eq!(mapping, expected);
        assert_eq!("a=b".parse::<Mapping>().unwrap().scale, 1.0);
        for wrong in ["", "a", "a=", "=b", "a=b*", "a=b*x", "a=b*inf"] {
            assert!(wrong.parse::<Mapping>().is_err(), "{wrong}");
        }
    }
}
