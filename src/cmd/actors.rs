//! Who steers when no policy does, or not alone: nobody, the scripted expert, whoever goes straight to
//! the goal, a policy that explores.

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

/// The scripted expert as an actor.
pub struct Demonstrator(pub Expert);

impl Actor for Demonstrator {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Ok(all_joints(self.0.act(&observation.sent), observation))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
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
