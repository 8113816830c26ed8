//! Somebody who needs no arm to show how: a script that reaches for goals it draws.

use rand::RngExt as _;

use super::{Follower, TeleopError, Teleoperator};
use crate::config::RobotConfig;
use crate::control::TeleopAction;
use crate::env::{Expert, Workspace};
use crate::joints::{GoalSpace, GoalVec, JointVec, stack};
use crate::kinematics::{Chain, pose_goal};
use crate::rng::{self, Rng, Stream};

/// Slower than this the expert has arrived (rad per tick),
const ARRIVED: f64 = 2e-4;
/// for so many ticks, in which the arm comes to rest, too.
const REST: u32 = 30;
/// Goals of joints and poses lie in this share of each joint's range.
const RANGE: f64 = 0.5;
/// Goals tried until one can be reached.
const TRIES: usize = 100;

/// The scripted expert as a device.
pub struct Scripted {
    robot: RobotConfig,
    /// The chain and where goals of its tip are drawn; none for goals of joints.
    reach: Option<(Chain, Workspace)>,
    home: JointVec<f64>,
    seed: u64,
    drawn: u64,
    expert: Option<Expert>,
    target: Option<JointVec<f64>>,
    resting: u32,
}

impl Scripted {
    /// For a robot whose goals are of its tip or its joints.
    ///
    /// # Errors
    /// Its goals are of something else, or its geometry is missing.
    pub fn new(robot: &RobotConfig, seed: u64) -> Result<Self, TeleopError> {
        let reach = match robot.control.goal_space {
            GoalSpace::EndEffectorPosition | GoalSpace::EndEffectorPose => {
                let chain = Chain::of(robot)?;
                let workspace = Workspace::new(&chain);
                Some((chain, workspace))
            }
            GoalSpace::JointPosition => None,
            other => return Err(TeleopError::Goals(other)),
        };
        Ok(Self {
            robot: robot.clone(),
            reach,
            home: robot.joint.iter().map(|joint| joint.home_rad).collect(),
            seed,
            drawn: 0,
            expert: None,
            target: None,
            resting: 0,
        })
    }

    /// A goal, and who reaches it.
    fn draw(&self, rng: &mut Rng) -> Result<(GoalVec, Expert), TeleopError> {
        let most = self.robot.max_delta();
        let anywhere = |rng: &mut Rng| -> JointVec<f64> {
            let draw = |joint: &crate::config::JointConfig| {
                let (middle, range) = (joint.home_rad, joint.max_rad - joint.min_rad);
                let q = middle + RANGE * range * (rng.random::<f64>() - 0.5);
                q.clamp(joint.min_rad, joint.max_rad)
            };
            self.robot.joint.iter().map(draw).collect()
        };
        match (&self.reach, self.robot.control.goal_space) {
            (Some((chain, _)), GoalSpace::EndEffectorPose) => {
                let pose = anywhere(rng);
                let goal = pose_goal(&chain.pose(&pose));
                Ok((stack(goal.map(|x| x as f32)), Expert::to(pose, most)))
            }
            (Some((chain, workspace)), _) => {
                let goal = workspace.sample(rng);
                let expert = Expert::new(chain, &goal, &self.home, most)?;
                Ok((goal, expert))
            }
            (None, _) => {
                let pose = anywhere(rng);
                Ok((stack(pose.iter().map(|q| *q as f32)), Expert::to(pose, most)))
            }
        }
    }
}

impl Teleoperator for Scripted {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        let position = match (&mut self.target, &self.expert) {
            (Some(target), Some(expert)) => {
                let sent: JointVec<f32> = target.iter().map(|q| *q as f32).collect();
                let deltas = expert.act(&sent);
                let moving = deltas.iter().any(|delta| f64::from(delta.abs()) > ARRIVED);
                self.resting = if moving { 0 } else { self.resting + 1 };
                target.iter_mut().zip(&deltas).for_each(|(q, by)| *q += f64::from(*by));
                target.clone()
            }
            (Some(target), None) => target.clone(),
            (None, _) => follower.place().clone(),
        };
        Ok(Some(TeleopAction { stamp: follower.now, position }))
    }

    fn engage(&mut self, engaged: bool, follower: &Follower) {
        self.target = engaged.then(|| follower.place().clone());
        self.expert = None;
    }

    fn autonomous(&self) -> bool {
        true
    }

    fn next_goal(&mut self) -> Result<Option<GoalVec>, TeleopError> {
        let mut rng = rng::item(self.seed, Stream::Demonstrations, self.drawn);
        self.drawn += 1;
        let mut found = self.draw(&mut rng);
        for _ in 1..TRIES {
            if found.is_ok() {
                break;
            }
            found = self.draw(&mut rng);
        }
        let (goal, expert) = found?;
        (self.expert, self.resting) = (Some(expert), 0);
        Ok(Some(goal))
    }

    fn done(&self) -> bool {
        self.expert.is_some() && self.resting >= REST
    }
}
