//! A client's goal in the robot's goal space, and whether the arm can get there.

use nalgebra::Vector3;

use super::api::{Code, ErrorReply, Goal};
use crate::config::RobotConfig;
use crate::joints::{GoalSpace, GoalVec, LEVER, stack};
use crate::kinematics::{Chain, KinematicsError, goal_pose, pose, pose_goal};

/// A joint of a robot, with the positions that the safety gate lets it go to (rad).
struct Joint {
    name: String,
    lowest: f64,
    highest: f64,
}

/// What a robot's goals are made of.
pub(super) struct Goals {
    robot: String,
    space: GoalSpace,
    joints: Vec<Joint>,
    /// None in a space that needs no geometry.
    chain: Option<Chain>,
}

impl Goals {
    /// # Errors
    /// The goal space needs a geometry that the robot does not have.
    pub(super) fn of(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        let (space, margin) = (robot.control.goal_space, robot.safety.limit_margin_rad);
        let joints = robot.joint.iter().map(|joint| Joint {
            name: joint.name.clone(),
            lowest: joint.min_rad + margin,
            highest: joint.max_rad - margin,
        });
        Ok(Self {
            robot: robot.name.clone(),
            space,
            joints: joints.collect(),
            chain: space.is_cartesian().then(|| Chain::of(robot)).transpose()?,
        })
    }

    /// The goal in the goal space; joints that are not named are at `held` (rad).
    ///
    /// # Errors
    /// It is not a goal of this space.
    pub(super) fn wished(&self, goal: &Goal, held: &[f32]) -> Result<GoalVec, ErrorReply> {
        if !goal.joints.is_empty() {
            return self.named(goal, held);
        }
        let numbers = goal.goal.as_slice();
        let pose = match (self.space, numbers) {
            (GoalSpace::EndEffectorPose, [x, y, z, roll, pitch, yaw]) => {
                let wide = |numbers: [&f32; 3]| numbers.map(|x| f64::from(*x));
                Some(pose(wide([x, y, z]), wide([roll, pitch, yaw])))
            }
            (GoalSpace::EndEffectorPose, [_, _, _, _, _, _, _, _, _]) => goal_pose(numbers),
            _ if numbers.len() == self.space.size(self.joints.len()) => {
                return Ok(stack(numbers.iter().copied()));
            }
            _ => None,
        };
        let pose = pose.ok_or_else(|| self.misshapen(&format!("{numbers:?}")))?;
        Ok(stack(pose_goal(&pose).iter().map(|x| *x as f32)))
    }

    fn named(&self, goal: &Goal, held: &[f32]) -> Result<GoalVec, ErrorReply> {
        if self.space != GoalSpace::JointPosition {
            return Err(self.misshapen("joints by name"));
        }
        let known = |name: &&String| self.joints.iter().any(|joint| joint.name == **name);
        if let Some(unknown) = goal.joints.keys().find(|name| !known(name)) {
            let names: Vec<&str> = self.joints.iter().map(|joint| joint.name.as_str()).collect();
            return Err(bad(format!(
                "expected joints of `{}` ({}), found `{unknown}`",
                self.robot,
                names.join(", ")
            )));
        }
        let of = |(joint, held): (&Joint, &f32)| *goal.joints.get(&joint.name).unwrap_or(held);
        Ok(stack(self.joints.iter().zip(held).map(of)))
    }

    /// What a goal of this space looks like.
    fn misshapen(&self, found: &str) -> ErrorReply {
        let expected = match self.space {
            GoalSpace::EndEffectorPosition => "3 numbers: x y z of the tip (m)".into(),
            GoalSpace::EndEffectorPose => {
                "6 numbers: x y z of the tip (m), roll pitch yaw (rad); or 9: x y z, then its z and x \
                 axis, 0.1 m long"
                    .into()
            }
            GoalSpace::JointPosition => {
                format!("{} numbers (rad), or joints by name", self.joints.len())
            }
            GoalSpace::ObjectPosition => "3 numbers: x y z of the object (m)".into(),
            GoalSpace::None => "no numbers".to_owned(),
        };
        let (robot, space) = (&self.robot, self.space.name());
        bad(format!("goals of `{robot}` are of {space}: expected {expected}, found {found}"))
    }

    /// Whether the arm can get within `tolerance` of a goal from where it is held (rad). Where an
    /// object can be brought is not known.
    ///
    /// # Errors
    /// It cannot, and how near it gets.
    pub(super) fn in_reach(
        &self,
        goal: &[f32],
        held: &[f32],
        tolerance: f64,
    ) -> Result<(), ErrorReply> {
        let rest: Vec<f64> = held.iter().map(|q| f64::from(*q)).collect();
        let found = match (self.space, &self.chain, goal) {
            (GoalSpace::JointPosition, ..) => {
                return self.in_limits(goal).map_err(|e| anyway(Code::OutOfLimits, &e));
            }
            (GoalSpace::EndEffectorPosition, Some(chain), [x, y, z]) => {
                let point = Vector3::new(*x, *y, *z).cast();
                chain.inverse(&point, &rest, tolerance).map(drop).map_err(|e| e.to_string())
            }
            (GoalSpace::EndEffectorPose, Some(chain), goal) => {
                let Some(pose) = goal_pose(goal) else { return Err(self.misshapen("no pose")) };
                // A turn counts with at most the root of 2 of its lever: together less than all.
                let share = (0.5 * tolerance, 0.5 * tolerance / LEVER);
                chain.inverse_pose(&pose, &rest, share).map(drop).map_err(|e| e.to_string())
            }
            _ => Ok(()),
        };
        found.map_err(|e| anyway(Code::OutOfReach, &e))
    }

    fn in_limits(&self, goal: &[f32]) -> Result<(), String> {
        let outside =
            |(joint, q): &(&Joint, &f32)| !(joint.lowest..=joint.highest).contains(&f64::from(**q));
        match self.joints.iter().zip(goal).find(outside) {
            None => Ok(()),
            Some((Joint { name, lowest, highest }, q)) => Err(format!(
                "joint `{name}`: expected {lowest:.3} to {highest:.3} (rad), found {q}"
            )),
        }
    }
}

fn anyway(code: Code, reason: &str) -> ErrorReply {
    let error = format!("{reason}; --anyway (\"anyway\": true) tries it all the same");
    ErrorReply { error, code }
}

fn bad(error: String) -> ErrorReply {
    ErrorReply { error, code: Code::BadRequest }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    const ARM: &str = include_str!("../../firmware-config/emulated.toml");
    const HELD: [f32; 6] = [0.1, -0.2, 0.3, -0.4, 0.5, 0.0];

    fn goals(space: GoalSpace) -> Goals {
        let mut robot = RobotConfig::parse(ARM, Path::new("arm.toml")).unwrap();
        robot.control.goal_space = space;
        Goals::of(&robot).unwrap()
    }

    fn numbers(goal: &[f32]) -> Goal {
        Goal { goal: goal.to_vec(), ..Goal::default() }
    }

    fn named(joints: &[(&str, f32)]) -> Goal {
        let joints = joints.iter().map(|(name, q)| ((*name).to_owned(), *q));
        Goal { joints: joints.collect(), ..Goal::default() }
    }

    #[test]
    fn a_goal_of_another_shape_is_refused_with_the_space_and_what_it_takes() {
        use GoalSpace::*;
        for (space, goal, says) in [
            (
                EndEffectorPosition,
                numbers(&[0.1, 0.2]),
                "end_effector_position: expected 3 numbers",
            ),
            (EndEffectorPosition, numbers(&[]), "found []"),
            (EndEffectorPosition, named(&[("gripper", 0.1)]), "found joints by name"),
            (EndEffectorPose, numbers(&[0.1, 0.2, 0.3]), "roll pitch yaw (rad)"),
            (EndEffectorPose, numbers(&[0.1; 9]), "end_effector_pose"),
            (JointPosition, numbers(&[0.1; 3]), "joint_position: expected 6 numbers (rad)"),
            (JointPosition, named(&[("elbow", 0.1)]), "found `elbow`"),
            (ObjectPosition, numbers(&[0.1; 2]), "of the object (m)"),
            (None, numbers(&[0.1]), "none: expected no numbers"),
        ] {
            let reply = goals(space).wished(&goal, &HELD).unwrap_err();
            assert_eq!(reply.code, Code::BadRequest);
            assert!(reply.error.contains(says), "{says}: {reply:?}");
        }
    }

    #[test]
    fn joints_that_are_not_named_stay() {
        let goals = goals(GoalSpace::JointPosition);
        let found = goals.wished(&named(&[("elbow_flex", 0.9)]), &HELD).unwrap();
        assert_eq!(found[..], [0.1, -0.2, 0.9, -0.4, 0.5, 0.0]);
    }

    #[test]
    fn a_pose_is_the_same_by_its_angles_and_by_its_axes() {
        let goals = goals(GoalSpace::EndEffectorPose);
        let angles = goals.wished(&numbers(&[0.1, -0.2, 0.3, 0.4, -0.5, 0.6]), &HELD).unwrap();
        let axes = goals.wished(&numbers(&angles), &HELD).unwrap();
        for (a, b) in angles.iter().zip(&axes) {
            assert!((a - b).abs() < 1e-6, "{angles:?} {axes:?}");
        }
    }

    #[test]
    fn what_is_out_of_reach_is_refused_with_how_near_the_arm_gets() {
        let refused = |space, goal: Goal| {
            let goals = goals(space);
            let wished = goals.wished(&goal, &HELD).unwrap();
            goals.in_reach(&wished, &HELD, 0.02).unwrap_err()
        };
        let place = numbers(&[2.0, 0.0, 0.0]);
        // Above the base, with the gripper pointing up.
        let pose = numbers(&[0.1, -0.1, 0.05, 3.1, 0.0, 0.0]);
        for (space, goal, says) in [
            (GoalSpace::EndEffectorPosition, place, "the arm gets within 1."),
            (GoalSpace::EndEffectorPose, pose, "rad of it at once"),
            (
                GoalSpace::JointPosition,
                named(&[("elbow_flex", 3.0)]),
                "joint `elbow_flex`: expected -",
            ),
        ] {
            let reply = refused(space, goal);
            let limits = space == GoalSpace::JointPosition;
            let code = if limits { Code::OutOfLimits } else { Code::OutOfReach };
            assert_eq!(reply.code, code);
            assert!(reply.error.contains(says), "{says}: {reply:?}");
        }
    }

    #[test]
    fn where_the_arm_is_is_in_reach_in_every_space() {
        let held: Vec<f64> = HELD.iter().map(|q| f64::from(*q)).collect();
        let mut robot = RobotConfig::parse(ARM, Path::new("arm.toml")).unwrap();
        let chain = Chain::of(&robot).unwrap();
        let place: Vec<f32> = chain.position(&held).iter().map(|x| *x as f32).collect();
        let pose: Vec<f32> = pose_goal(&chain.pose(&held)).map(|x| x as f32).to_vec();
        let ends = BTreeMap::from([("gripper".to_owned(), HELD[5])]);
        for (space, goal) in [
            (GoalSpace::EndEffectorPosition, numbers(&place)),
            (GoalSpace::EndEffectorPose, numbers(&pose)),
            (GoalSpace::JointPosition, Goal { joints: ends, ..Goal::default() }),
            (GoalSpace::ObjectPosition, numbers(&[5.0; 3])),
            (GoalSpace::None, numbers(&[])),
        ] {
            robot.control.goal_space = space;
            let goals = Goals::of(&robot).unwrap();
            let wished = goals.wished(&goal, &HELD).unwrap();
            assert_eq!(goals.in_reach(&wished, &HELD, 0.02), Ok(()), "{space:?}");
        }
    }
}
