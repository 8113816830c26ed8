//! Jogging: the tip moves at a wished velocity, by differential inverse kinematics.
//!
//! `dq = Jᵀ(JJᵀ + λ²I)⁻¹ v` (damped least squares; Nakamura and Hanafusa 1986) for the tip's velocity
//! and the hand's pitch; roll and gripper have joints of their own.

use std::time::Duration;

use nalgebra::{Matrix4, Vector3, Vector4};

use super::Follower;
use crate::clock::Time;
use crate::config::RobotConfig;
use crate::control::TeleopAction;
use crate::joints::JointVec;
use crate::kinematics::{Chain, KinematicsError};

/// How fast everything is to move.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Twist {
    /// The tip, in the base frame (m/s).
    pub linear: Vector3<f64>,
    /// The hand, up and down (rad/s).
    pub pitch: f64,
    /// The hand about its own axis (rad/s).
    pub roll: f64,
    /// The gripper (rad/s).
    pub gripper: f64,
}

/// A turn by 1 rad counts like a way of this (m).
const LEVER: f64 = 0.1;
/// The damping λ (m): near a stretched arm it moves slowly instead of fast.
const DAMPING: f64 = 0.01;

/// The tip's speed at most (m/s), with keys, sticks and pads.
pub const SPEED: f64 = 0.08;
/// The speed of everything that turns at most (rad/s).
pub const TURN: f64 = 0.8;
/// Who was not polled for longer moves no further (s).
const LONGEST: Duration = Duration::from_millis(120);

/// Joint positions that follow a wished velocity.
#[derive(Debug, Clone)]
pub struct Jog {
    /// None: the velocities are of the joints themselves, in their order (1 m/s is `1 / LEVER` rad/s).
    chain: Option<Chain>,
    limits: JointVec<(f64, f64)>,
}

impl Jog {
    /// For a robot; one without a geometry is jogged joint by joint.
    ///
    /// # Errors
    /// Its geometry is wrong.
    pub fn new(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        let chain = match Chain::of(robot) {
            Ok(chain) => Some(chain),
            Err(KinematicsError::NoGeometry(_)) => None,
            Err(error) => return Err(error),
        };
        let limits = robot.joint.iter().map(|joint| (joint.min_rad, joint.max_rad)).collect();
        Ok(Self { chain, limits })
    }

    /// Moves `q` (rad) on for `dt` seconds, inside the joints' limits.
    pub fn step(&self, q: &mut JointVec<f64>, twist: &Twist, dt: f64) {
        let velocity = match &self.chain {
            Some(chain) => cartesian(chain, q, twist),
            None => {
                let [x, y, z] = (twist.linear / LEVER).into();
                [x, y, z, twist.pitch, twist.roll].into_iter().take(q.len()).collect()
            }
        };
        let tool = velocity.len();
        let joints = q.iter_mut().zip(&self.limits).enumerate();
        for (joint, (q, (low, high))) in joints {
            let velocity = velocity.get(joint).copied();
            let velocity = velocity.unwrap_or(if joint >= tool { twist.gripper } else { 0.0 });
            *q = (*q + velocity * dt).clamp(*low, *high);
        }
    }
}

/// The velocities of the chain's joints (rad/s).
fn cartesian(chain: &Chain, q: &[f64], twist: &Twist) -> JointVec<f64> {
    let columns = chain.jacobian(q);
    let lateral = columns.len().checked_sub(2).and_then(|joint| columns.get(joint));
    let lateral = lateral.map_or_else(Vector3::zeros, |column| column.angular);
    let rows: JointVec<Vector4<f64>> = columns
        .iter()
        .map(|column| column.linear.push(LEVER * column.angular.dot(&lateral)))
        .collect();
    let wished = twist.linear.push(LEVER * twist.pitch);
    let damped = rows.iter().fold(Matrix4::identity() * DAMPING * DAMPING, |sum, column| {
        sum + column * column.transpose()
    });
    let forces = damped.try_inverse().map_or_else(Vector4::zeros, |inverse| inverse * wished);
    let mut velocity: JointVec<f64> = rows.iter().map(|column| column.dot(&forces)).collect();
    if let Some(roll) = velocity.last_mut() {
        *roll += twist.roll;
    }
    velocity
}

/// Where a device that tells velocities wants the joints: from where the arm is when it is engaged.
#[derive(Debug, Clone)]
pub struct Pointer {
    jog: Jog,
    /// (rad); none while it is not engaged.
    target: Option<JointVec<f64>>,
    last: Time,
}

impl Pointer {
    /// For a robot.
    ///
    /// # Errors
    /// Its geometry is wrong.
    pub fn new(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        Ok(Self { jog: Jog::new(robot)?, target: None, last: Time::ZERO })
    }

    /// The person takes over from where the arm is, or lets go.
    pub fn engage(&mut self, engaged: bool, follower: &Follower) {
        self.target = engaged.then(|| follower.place().clone());
        self.last = follower.now;
    }

    /// The wish after it moved like this since the last call; where the arm is while nothing is engaged.
    pub fn wish(&mut self, twist: &Twist, follower: &Follower) -> TeleopAction {
        let dt = follower.now.since(self.last).min(LONGEST).as_secs_f64();
        self.last = follower.now;
        let position = match &mut self.target {
            Some(target) => {
                self.jog.step(target, twist, dt);
                target.clone()
            }
            None => follower.place().clone(),
        };
        TeleopAction { stamp: follower.now, position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::path::Path;

    fn robot() -> RobotConfig {
        RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap()
    }

    fn home() -> JointVec<f64> {
        robot().joint.iter().map(|joint| joint.home_rad).collect()
    }

    #[test]
    fn the_tip_moves_straight_at_the_wished_velocity() {
        let (jog, chain) = (Jog::new(&robot()).unwrap(), Chain::of(&robot()).unwrap());
        for axis in [Vector3::<f64>::x(), Vector3::y(), Vector3::z()] {
            let mut q = home();
            let before = chain.position(&q);
            let twist = Twist { linear: axis * 0.05, ..Twist::default() };
            (0..100).for_each(|_| jog.step(&mut q, &twist, 0.01));
            let off: f64 = (chain.position(&q) - before - axis * 0.05).norm();
            assert!(off < 0.004, "along {axis:?}: {off} m off after 5 cm");
        }
    }

    #[test]
    fn roll_and_gripper_turn_their_joints_only() {
        let jog = Jog::new(&robot()).unwrap();
        let mut q = home();
        let twist = Twist { roll: 0.5, gripper: 0.3, ..Twist::default() };
        (0..100).for_each(|_| jog.step(&mut q, &twist, 0.01));
        for (joint, (q, home)) in q.iter().zip(&home()).enumerate() {
            let expected = [0.0, 0.0, 0.0, 0.0, 0.5, 0.3][joint];
            assert!((q - home - expected).abs() < 1e-6, "joint {joint}: {}", q - home);
        }
    }

    #[test]
    fn no_joint_leaves_its_limits_and_all_stay_finite() {
        let (robot, jog) = (robot(), Jog::new(&robot()).unwrap());
        let mut q = home();
        for direction in [1.0, -1.0] {
            let twist = Twist {
                linear: direction * Vector3::new(0.3, -0.5, 0.4),
                pitch: direction,
                roll: direction,
                gripper: direction,
            };
            for _ in 0..2000 {
                jog.step(&mut q, &twist, 0.01);
                for (q, joint) in q.iter().zip(&robot.joint) {
                    assert!((joint.min_rad..=joint.max_rad).contains(q), "{}: {q}", joint.name);
                }
            }
        }
    }
}
