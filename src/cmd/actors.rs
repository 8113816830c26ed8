//! Who steers when no policy does, or not alone: nobody, who goes straight to the goal, a policy that
//! explores.

use anyhow::{Result, bail};
use nalgebra::Vector3;

use crate::config::RobotConfig;
use crate::control::Actor;
use crate::env::Expert;
use crate::episode::PolicyId;
use crate::joints::{GoalSpace, GoalVec, JointVec, stack};
use crate::kinematics::{Chain, goal_pose};
use crate::learn::Exploration;
use crate::policy::{ActionKind, Observation, Plan, Policy, PolicyError};
use crate::rng::Rng;

/// Nobody steers yet.
pub struct Nobody;
impl Actor for Nobody {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Ok(observation.sent.clone())
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointPosition
    }
    fn id(&self) -> PolicyId {
        PolicyId::default()
    }
}

/// The changes of the first joints, and none of those after them.
fn all_joints(first: JointVec<f32>, observation: &Observation) -> JointVec<f32> {
    let rest = observation.sent.iter().skip(first.len()).map(|_| 0.0);
    stack(first.iter().copied().chain(rest))
}

/// Who steers without a policy: straight to the goal in joint space, through inverse kinematics where
/// the goal is of the tip; as near as the arm gets to a goal out of reach.
pub struct Reacher {
    space: GoalSpace,
    /// None in a space that needs no geometry.
    chain: Option<Chain>,
    home: JointVec<f64>,
    max_delta: f64,
    /// The goal that the way leads to.
    goal: GoalVec,
    way: Option<Expert>,
}

/// What counts as at a point (m), and as turned as wished (rad).
const CLOSE: (f64, f64) = (2e-3, 0.02);

impl Reacher {
    /// Who steers a robot without a policy.
    ///
    /// # Errors
    /// Nothing but a policy knows how to reach its goals, or they need a geometry that it lacks.
    pub fn new(robot: &RobotConfig) -> Result<Self> {
        let space = robot.control.goal_space;
        if matches!(space, GoalSpace::ObjectPosition | GoalSpace::None) {
            bail!(
                "which policy? without one the arm goes straight to its goals, which control.goal_space \
                 = \"{}\" does not allow: name one with --policy FILE or --store FOLDER",
                space.name()
            );
        }
        Ok(Self {
            space,
            chain: space.is_cartesian().then(|| Chain::of(robot)).transpose()?,
            home: robot.joint.iter().map(|joint| joint.home_rad).collect(),
            max_delta: robot.max_delta(),
            goal: GoalVec::new(),
            way: None,
        })
    }

    /// Where the joints are to be (rad); none for what is no goal.
    fn target(&self, goal: &[f32]) -> Option<JointVec<f64>> {
        match (self.space, &self.chain) {
            (GoalSpace::EndEffectorPosition, Some(chain)) => {
                let [x, y, z] = *goal else { return None };
                let point = Vector3::new(x.into(), y.into(), z.into());
                Some(chain.nearest(&point, &self.home, CLOSE.0))
            }
            (GoalSpace::EndEffectorPose, Some(chain)) => {
                Some(chain.nearest_pose(&goal_pose(goal)?, &self.home, CLOSE))
            }
            _ => Some(stack(goal.iter().map(|q| f64::from(*q)))),
        }
    }
}

impl Actor for Reacher {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        if self.way.is_none() || self.goal != observation.desired_goal {
            self.goal.clone_from(&observation.desired_goal);
            self.way = self.target(&self.goal).map(|target| Expert::to(target, self.max_delta));
        }
        let first = self.way.as_ref().map(|way| way.act(&observation.sent)).unwrap_or_default();
        Ok(all_joints(first, observation))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> PolicyId {
        PolicyId::default()
    }
}

/// A policy that explores.
pub struct Explorer {
    /// The policy.
    pub policy: Policy,
    /// What is added to its actions.
    pub noise: Exploration,
    /// Where the noise comes from.
    pub rng: Rng,
    /// The largest action (rad per tick).
    pub unit: f32,
}

impl Actor for Explorer {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let mut action = self.policy.act(observation)?;
        self.noise.disturb(&mut action, self.unit, &mut self.rng);
        Ok(action)
    }
    fn kind(&self) -> ActionKind {
        self.policy.spec().action
    }
    fn id(&self) -> PolicyId {
        self.policy.id()
    }
    fn reset(&mut self) {
        self.policy.reset();
    }
    fn ahead(&self, plan: &mut Plan) {
        self.policy.ahead(plan);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cmd::goals::Goals;
    use crate::cmd::simulate::{Simulation, request};
    use crate::control::GoalResult;
    use crate::episode::Source;
    use crate::kinematics::KinematicsError;
    use crate::rng::{self, Stream};

    const SO101: &str = include_str!("../../firmware-config/emulated.toml");
    const KOCH: &str = include_str!("../../firmware-config/koch-follower.toml");

    fn robot(text: &str, space: GoalSpace) -> RobotConfig {
        let mut robot = RobotConfig::parse(text, Path::new("arm.toml")).unwrap();
        robot.control.goal_space = space;
        robot
    }

    /// Reaches for goals one after the other.
    fn reach(robot: &RobotConfig, goals: &[GoalVec]) -> Vec<GoalResult> {
        let mut simulation = Simulation::new(robot, 1, None).unwrap();
        simulation.steer(Box::new(Reacher::new(robot).unwrap()));
        let home: JointVec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
        let mut attempt = |goal: &GoalVec| {
            simulation.attempt(request(robot, goal.clone(), Source::Run), &home).unwrap()
        };
        goals.iter().map(&mut attempt).collect()
    }

    #[test]
    fn without_a_policy_goals_of_every_kind_are_reached() {
        use GoalSpace::{EndEffectorPose, EndEffectorPosition, JointPosition};
        for (text, space) in [
            (SO101, EndEffectorPosition),
            (SO101, EndEffectorPose),
            (SO101, JointPosition),
            (KOCH, JointPosition),
        ] {
            let mut robot = robot(text, space);
            // All joints together are far from exact.
            robot.control.goal_tolerance = if space == JointPosition { 0.1 } else { 0.02 };
            robot.control.goal_timeout_s = 6.0;
            let drawn = Goals::of(&robot).unwrap();
            let goal = |i| drawn.sample(&mut rng::item(5, Stream::HeldOut, i));
            let goals: Vec<GoalVec> = (0..4).map(goal).collect();
            for (goal, result) in goals.iter().zip(reach(&robot, &goals)) {
                assert!(result.success, "{} {space:?} {goal:?}: {result:?}", robot.name);
            }
        }
    }

    #[test]
    fn a_goal_out_of_reach_is_come_as_near_to_as_the_refusal_says() {
        let mut robot = robot(SO101, GoalSpace::EndEffectorPosition);
        robot.control.goal_timeout_s = 4.0;
        let far = Vector3::new(0.3, -0.5, 0.2);
        let error = Chain::of(&robot).unwrap().inverse(&far, &[], 0.01).unwrap_err();
        let KinematicsError::Unreachable { closest, .. } = error else { panic!("{error}") };
        let goal = stack(far.iter().map(|x| *x as f32));
        let result = reach(&robot, &[goal])[0];
        assert!(!result.success, "{result:?}");
        assert!((f64::from(result.distance) - closest).abs() < 0.02, "{closest}: {result:?}");
    }

    #[test]
    fn only_a_policy_knows_how_to_bring_an_object_somewhere() {
        for space in [GoalSpace::ObjectPosition, GoalSpace::None] {
            let error = Reacher::new(&robot(SO101, space)).err().unwrap().to_string();
            assert!(error.contains("--policy") && error.contains(space.name()), "{error}");
        }
    }
}
