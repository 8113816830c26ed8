//! Goals to practise and to be judged by: drawn from what an arm can reach, in its goal space.

use anyhow::{Result, bail};
use rand::RngExt as _;

use crate::config::RobotConfig;
use crate::env::Workspace;
use crate::joints::{GoalSpace, GoalVec, stack};
use crate::kinematics::Chain;
use crate::learn::gcbc::Normalizer;
use crate::rng::{self, Rng, Stream};

/// Where goals are drawn from.
pub enum Goals {
    /// Places of the tip.
    Position(Workspace),
    /// Poses of the tip.
    Pose(Workspace),
    /// Joint positions between these ends (rad).
    Joints(Vec<(f64, f64)>),
}

/// Goals of joints keep this share of each joint's range.
const RANGE: f64 = 0.8;
/// Goals that the moments of a space are taken from.
const DRAWN: u64 = 2000;
/// The least standard deviation of a goal's number (m or rad): some never change.
const LEAST_DEVIATION: f32 = 0.01;

impl Goals {
    /// The goals of a robot.
    ///
    /// # Errors
    /// Its geometry is not known and needed, or nobody knows which goals it could reach.
    pub fn of(robot: &RobotConfig) -> Result<Self> {
        Ok(match robot.control.goal_space {
            GoalSpace::EndEffectorPosition => Self::Position(Workspace::new(&Chain::of(robot)?)),
            GoalSpace::EndEffectorPose => Self::Pose(Workspace::new(&Chain::of(robot)?)),
            GoalSpace::JointPosition => {
                let ends = |joint: &crate::config::JointConfig| {
                    let middle = f64::midpoint(joint.min_rad, joint.max_rad);
                    let half = 0.5 * RANGE * (joint.max_rad - joint.min_rad);
                    (middle - half, middle + half)
                };
                Self::Joints(robot.joint.iter().map(ends).collect())
            }
            space => bail!(
                "expected control.goal_space of the tip or of joints, found {}: which goals such a robot \
                 can reach is not known",
                space.name()
            ),
        })
    }

    /// Draws a goal that can be reached.
    pub fn sample(&self, rng: &mut Rng) -> GoalVec {
        match self {
            Self::Position(workspace) => workspace.sample(rng),
            Self::Pose(workspace) => workspace.sample_pose(rng),
            Self::Joints(ends) => stack(
                ends.iter().map(|(low, high)| (low + (high - low) * rng.random::<f64>()) as f32),
            ),
        }
    }

    /// Draws a goal of those that scripted demonstrations show: places on the arm's right side only,
    /// so that there is something left to learn.
    pub fn sample_shown(&self, rng: &mut Rng) -> GoalVec {
        match self {
            Self::Position(workspace) => workspace.sample_right(rng),
            _ => self.sample(rng),
        }
    }

    /// How a policy with these goals normalises its inputs, for the first `joints` joints of a robot.
    pub fn normalizer(&self, robot: &RobotConfig, joints: usize) -> Normalizer {
        let half = |j: &crate::config::JointConfig| (0.25 * (j.max_rad - j.min_rad)) as f32;
        let (goal_mean, goal_deviation) = self.moments();
        let joint_range = robot.joint.iter().take(joints).map(half).collect();
        Normalizer { joint_range, goal_mean, goal_deviation }
    }

    fn moments(&self) -> (Vec<f32>, Vec<f32>) {
        if let Self::Position(workspace) = self {
            let (mean, deviation) = workspace.moments();
            return (mean.to_vec(), deviation.to_vec());
        }
        let drawn: Vec<GoalVec> =
            (0..DRAWN).map(|i| self.sample(&mut rng::item(0, Stream::HeldOut, i))).collect();
        let size = drawn.first().map_or(0, |goal| goal.len());
        let column = |k: usize| drawn.iter().filter_map(move |goal| goal.get(k).copied());
        let of = |k: usize| {
            let mean = column(k).sum::<f32>() / DRAWN as f32;
            let variance = column(k).map(|x| (x - mean).powi(2)).sum::<f32>() / DRAWN as f32;
            (mean, variance.sqrt().max(LEAST_DEVIATION))
        };
        (0..size).map(of).unzip()
    }
}
