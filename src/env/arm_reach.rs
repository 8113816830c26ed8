//! Reaching with an arm: bring the tip to a point.
//!
//! Observation `[2 n]`: measured positions and goal positions sent last of the `n` joints that move
//! the tip (rad). Action `[n]`: change of the goal positions (rad per tick). Goal `[3]`: the tip's
//! position (m, base frame). The arm is the emulator behind the real codec, in virtual time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nalgebra::Vector3;
use rand::RngExt as _;

use super::{ActionSpace, Ends, Env, EnvError, EnvSpec};
use crate::clock::{Clock, ManualClock};
use crate::config::RobotConfig;
use crate::hal::{Arm, ArmState, Emulator, MemoryPort};
use crate::joints::{GoalVec, JointVec, Row, stack};
use crate::kinematics::{Chain, KinematicsError};
use crate::rng::{Rng, normal};

/// Where goals are drawn from: poses whose tips cover the reachable space evenly.
#[derive(Debug, Clone)]
pub struct Workspace {
    chain: Chain,
    poses: Vec<JointVec<f64>>,
}

/// One goal per cube of this edge (m): uniform in space, not in joint angles.
const VOXEL: f64 = 0.02;
/// Poses tried.
const TRIES: usize = 200_000;
/// Share of each joint's range that goals use: a workspace without its rim.
const RANGES: [f64; 5] = [0.73, 0.8, 0.88, 0.72, 0.0];
/// Tips must be this high (m), and this far from the base's axis (m).
const HEIGHT: std::ops::Range<f64> = 0.02..0.40;
const AXIS_DISTANCE: f64 = 0.12;
/// A goal lies this far off its cube's pose (rad, standard deviation).
const JITTER: f64 = 0.02;

impl Workspace {
    /// The workspace of a chain: the same for every seed.
    pub fn new(chain: &Chain) -> Self {
        let mut rng = crate::rng::stream(0, crate::rng::Stream::HeldOut);
        let mut seen = HashSet::new();
        let mut poses = Vec::new();
        for _ in 0..TRIES {
            let pose: JointVec<f64> = (0..chain.joints())
                .map(|i| {
                    let (min, max) = chain.limits(i).unwrap_or((0.0, 0.0));
                    let share = RANGES.get(i).copied().unwrap_or(0.0);
                    share * (min + (max - min) * rng.random::<f64>())
                })
                .collect();
            let tip = chain.position(&pose);
            let inside = HEIGHT.contains(&tip.z) && tip.xy().norm() > AXIS_DISTANCE;
            let cube = tip.map(|x| (x / VOXEL).floor() as i32);
            if inside && seen.insert((cube.x, cube.y, cube.z)) {
                poses.push(pose);
            }
        }
        Self { chain: chain.clone(), poses }
    }

    /// Draws a reachable tip position (m).
    pub fn sample(&self, rng: &mut Rng) -> GoalVec {
        let Some(pose) = self.poses.get(rng.random_range(0..self.poses.len().max(1))) else {
            return GoalVec::new();
        };
        let pose: JointVec<f64> = pose.iter().map(|q| q + JITTER * normal(rng)).collect();
        stack(self.chain.position(&pose).iter().map(|x| *x as f32))
    }

    /// Draws a reachable tip position on the arm's right side, seen from its base (`x > 0` in the
    /// base frame): the region that the shipped demonstrations cover.
    pub fn sample_right(&self, rng: &mut Rng) -> GoalVec {
        loop {
            let goal = self.sample(rng);
            if goal.first().is_none_or(|x| *x > 0.02) {
                return goal;
            }
        }
    }

    /// Mean and standard deviation of the goals, per coordinate (m).
    pub fn moments(&self) -> ([f32; 3], [f32; 3]) {
        let tips: Vec<Vector3<f64>> = self.poses.iter().map(|q| self.chain.position(q)).collect();
        let n = tips.len().max(1) as f64;
        let mean = tips.iter().sum::<Vector3<f64>>() / n;
        let variance =
            tips.iter().map(|t| (t - mean).component_mul(&(t - mean))).sum::<Vector3<f64>>() / n;
        let f32s = |v: Vector3<f64>| [v.x as f32, v.y as f32, v.z as f32];
        (f32s(mean), f32s(variance.map(f64::sqrt)))
    }
}

/// The scripted expert: inverse kinematics once, then straight there in joint space.
#[derive(Debug, Clone)]
pub struct Expert {
    target: JointVec<f64>,
    max_delta: f64,
}

/// Share of the remaining way per tick.
const EXPERT_GAIN: f64 = 0.08;

impl Expert {
    /// The expert for one goal (m), staying near `rest` (rad), at most `max_delta` (rad) a tick.
    ///
    /// # Errors
    /// The goal is out of reach.
    pub fn new(
        chain: &Chain,
        goal: &[f32],
        rest: &[f64],
        max_delta: f64,
    ) -> Result<Self, KinematicsError> {
        let mut xyz = goal.iter().map(|x| f64::from(*x)).chain(std::iter::repeat(0.0));
        let mut next = || xyz.next().unwrap_or(0.0);
        let goal = Vector3::new(next(), next(), next());
        Ok(Self { target: chain.inverse(&goal, rest, 2e-3)?, max_delta })
    }

    /// The expert for joint positions (rad), at most `max_delta` (rad) a tick.
    pub fn to(target: JointVec<f64>, max_delta: f64) -> Self {
        Self { target, max_delta }
    }

    /// The change of the goal positions (rad), from the ones sent last.
    pub fn act(&self, sent: &[f32]) -> JointVec<f32> {
        self.target
            .iter()
            .zip(sent)
            .map(|(target, sent)| {
                let delta = EXPERT_GAIN * (target - f64::from(*sent));
                delta.clamp(-self.max_delta, self.max_delta) as f32
            })
            .collect()
    }
}

/// The environment.
pub struct ArmReach {
    robot: RobotConfig,
    chain: Chain,
    workspace: Workspace,
    clock: ManualClock,
    arm: Arm,
    state: ArmState,
    sent: JointVec<f64>,
    observation: Row,
    achieved: GoalVec,
    desired: GoalVec,
    spec: EnvSpec,
}

/// The start pose lies this far off home (rad, standard deviation).
pub const START_SPREAD: f64 = 0.05;

impl ArmReach {
    /// The environment of one robot; `seed` is the emulator's.
    ///
    /// # Errors
    /// The robot's kinematic model is unknown, or the emulated arm does not open.
    pub fn new(robot: &RobotConfig, horizon: usize, seed: u64) -> Result<Self, EnvError> {
        let chain = Chain::of(robot)?;
        let clock = ManualClock::default();
        let emulator = Arc::new(Mutex::new(Emulator::new(robot, seed)));
        let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
        let arm = Arm::open(robot, Box::new(port), Arc::new(clock.clone()))?;
        let spec = EnvSpec {
            name: "arm_reach",
            observation: 2 * chain.joints(),
            goal: 3,
            actions: ActionSpace::Continuous {
                size: chain.joints(),
                limit: robot.max_delta() as f32,
            },
            horizon,
            tolerance: robot.control.goal_tolerance as f32,
            ends: Ends::Never,
        };
        Ok(Self {
            workspace: Workspace::new(&chain),
            chain,
            clock,
            arm,
            state: ArmState::default(),
            sent: robot.joint.iter().map(|j| j.home_rad).collect(),
            observation: Row::new(),
            achieved: GoalVec::new(),
            desired: GoalVec::new(),
            spec,
            robot: robot.clone(),
        })
    }

    /// The goals.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The scripted expert for the goal wished for.
    ///
    /// # Errors
    /// The goal is out of reach.
    pub fn demonstrator(&self) -> Result<Expert, EnvError> {
        let home: JointVec<f64> = self.robot.joint.iter().map(|j| j.home_rad).collect();
        Ok(Expert::new(&self.chain, &self.desired, &home, self.robot.max_delta())?)
    }

    fn sense(&mut self, start: crate::clock::Time) -> Result<(), EnvError> {
        self.arm.read(&mut self.state, start + self.robot.period())?;
        let n = self.chain.joints();
        let measured: JointVec<f64> = self.state.joints.iter().map(|j| j.position).collect();
        let rows = measured.iter().take(n).chain(self.sent.iter().take(n));
        self.observation = stack(rows.map(|x| *x as f32));
        self.achieved = stack(self.chain.position(&measured).iter().map(|x| *x as f32));
        Ok(())
    }

    fn send(&mut self, start: crate::clock::Time) -> Result<(), EnvError> {
        self.arm.write(&self.sent, start + self.robot.period())?;
        self.clock.sleep_until(start + self.robot.period());
        Ok(())
    }
}

impl Env for ArmReach {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        self.workspace.sample(rng).to_vec()
    }

    /// Moves the arm near home and waits there.
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        self.desired = stack(goal.iter().copied());
        self.arm.torque(true)?;
        self.sent = start_pose(&self.robot, rng);
        let settle = Duration::from_secs(3);
        let until = self.clock.now() + settle;
        while self.clock.now() < until {
            let start = self.clock.now();
            self.send(start)?;
        }
        self.sense(self.clock.now())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        super::check_action(&self.spec, action)?;
        let start = self.clock.now();
        let max = self.robot.max_delta();
        for ((sent, delta), joint) in self.sent.iter_mut().zip(action).zip(&self.robot.joint) {
            *sent =
                (*sent + f64::from(*delta).clamp(-max, max)).clamp(joint.min_rad, joint.max_rad);
        }
        self.send(start)?;
        self.sense(self.clock.now())
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.achieved
    }
    fn desired_goal(&self) -> &[f32] {
        &self.desired
    }
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        let sent: JointVec<f32> = self.sent.iter().map(|x| *x as f32).collect();
        Ok(self.demonstrator()?.act(&sent).to_vec())
    }
}

/// A start pose (rad, all joints): home with a little spread, inside the limits.
pub fn start_pose(robot: &RobotConfig, rng: &mut Rng) -> JointVec<f64> {
    let near = |j: &crate::config::JointConfig, rng: &mut Rng| {
        (j.home_rad + START_SPREAD * normal(rng)).clamp(j.min_rad, j.max_rad)
    };
    robot.joint.iter().map(|j| near(j, rng)).collect()
}
