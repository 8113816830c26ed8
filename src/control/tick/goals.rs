//! Goals of the robot's goal space: which one is achieved, and whether one may be wished for.

use super::super::modes::Refusal;
use crate::clock::Time;
use crate::config::RobotConfig;
use crate::joints::{GoalSpace, GoalVec, stack};
use crate::kinematics::{Chain, KinematicsError};

/// What the achieved goal is told from.
pub(super) struct Goals {
    space: GoalSpace,
    joints: usize,
    /// None in a space that needs no geometry.
    chain: Option<Chain>,
    /// Where the object is, and when that was told.
    pub(super) object: Option<(GoalVec, Time)>,
    /// An object that was told of longer ago may be anywhere (s).
    object_timeout: f64,
}

impl Goals {
    /// # Errors
    /// The goal space needs a geometry that the robot does not have.
    pub(super) fn of(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        let space = robot.control.goal_space;
        Ok(Self {
            space,
            joints: robot.joint.len(),
            chain: space.is_cartesian().then(|| Chain::of(robot)).transpose()?,
            object: None,
            object_timeout: robot.control.stream_timeout_s,
        })
    }

    /// The goal achieved at the measured positions (rad); empty when it is not known.
    pub(super) fn achieved(&self, measured: &[f64], now: Time) -> GoalVec {
        let short = |x: &f64| *x as f32;
        match (self.space, &self.chain) {
            (space, Some(chain)) => chain.goal(space, measured),
            (GoalSpace::JointPosition, _) => stack(measured.iter().map(short)),
            (GoalSpace::ObjectPosition, _) => self.object(now).cloned().unwrap_or_default(),
            _ => GoalVec::new(),
        }
    }

    fn object(&self, now: Time) -> Option<&GoalVec> {
        let fresh = |told: Time| now.since(told).as_secs_f64() <= self.object_timeout;
        self.object.as_ref().filter(|(_, told)| fresh(*told)).map(|(object, _)| object)
    }

    /// Whether the achieved goal must be told from outside, and was not lately.
    pub(super) fn lost(&self, now: Time) -> bool {
        self.space == GoalSpace::ObjectPosition && self.object(now).is_none()
    }

    /// Takes over where the object is (m, base frame).
    ///
    /// # Errors
    /// Not three finite numbers, or this robot's goals are not of an object.
    pub(super) fn tell(&mut self, object: &GoalVec, now: Time) -> Result<(), Refusal> {
        if self.space != GoalSpace::ObjectPosition {
            return Err(Refusal::NoObject { space: self.space.name() });
        }
        self.check(object)?;
        self.object = Some((object.clone(), now));
        Ok(())
    }

    /// # Errors
    /// Not a goal of this space.
    pub(super) fn check(&self, goal: &[f32]) -> Result<(), Refusal> {
        check(goal, self.space.size(self.joints))
    }
}

/// # Errors
/// Not as many finite numbers as expected.
pub(super) fn check<T: Copy + Into<f64>>(numbers: &[T], expected: usize) -> Result<(), Refusal> {
    let found = numbers.iter().filter(|x| (**x).into().is_finite()).count();
    if numbers.len() == expected && found == expected {
        Ok(())
    } else {
        Err(Refusal::BadGoal { expected, found })
    }
}
