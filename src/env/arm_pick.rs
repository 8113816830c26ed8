//! Picking and placing with an arm: bring a cube to a point on the table or in the air.
//!
//! Observation `[2 n + 6]`: measured positions and goal positions sent last of all `n` joints,
//! gripper included (rad), the tip's position (m, base frame), the cube's (m). Action `[n]`: change
//! of the goal positions (rad per tick), as in [`ArmReach`](super::ArmReach). Goal `[3]`: the cube's
//! centre (m), half of them on the table. A step is a tick of the control loop, an episode at most
//! 250; reached within the robot's tolerance.
//!
//! The arm is the emulator behind the real codec, in virtual time, with the servos' own limits and
//! noise; the table, the cube and the jaws are rigid bodies around it ([`World`]). The cube starts
//! on the table, its sides along the ray from the shoulder's axis.

mod expert;
mod world;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nalgebra::Vector3;
use rand::RngExt as _;

pub use world::World;

use super::{
    ActionSpace, Colour, Ends, Env, EnvError, EnvSpec, Scene, check_action, check_goal, start_pose,
};
use crate::clock::{Clock, ManualClock};
use crate::config::RobotConfig;
use crate::hal::{Arm, ArmState, Emulator, MemoryPort};
use crate::joints::{GoalVec, JointVec, Row, stack};
use crate::kinematics::Chain;
use crate::rng::{Rng, seed_from};
use world::EDGE;

/// The robot that the environment has by its name.
const SHIPPED: &str = include_str!("../../firmware-config/emulated.toml");
/// The time limit, in ticks.
const HORIZON: usize = 250;
/// Cubes and goals lie this far from the shoulder's axis (m), and to each side of straight ahead
/// (rad); goals in the air this high (m).
const DISTANCE: std::ops::Range<f64> = 0.15..0.27;
const TO_EACH_SIDE: f64 = 1.0;
const HEIGHT: std::ops::Range<f64> = 0.05..0.15;
/// A cube starts at least this far from where it is wished (m, along the table).
const APART: f64 = 0.05;
/// Ticks until an arm that was switched on is still.
const SETTLING: usize = 10;

/// The environment.
pub struct ArmPick {
    robot: RobotConfig,
    chain: Chain,
    bench: Bench,
    state: ArmState,
    sent: JointVec<f64>,
    cube: [f32; 3],
    observation: Row,
    desired: GoalVec,
    spec: EnvSpec,
}

/// An emulated arm in its world, switched on.
struct Bench {
    clock: ManualClock,
    arm: Arm,
    world: Arc<Mutex<World>>,
}

impl Bench {
    fn open(robot: &RobotConfig, pose: &[f64], world: World, seed: u64) -> Result<Self, EnvError> {
        let clock = ManualClock::default();
        let world = Arc::new(Mutex::new(world));
        let mut emulator = Emulator::new(robot, seed);
        for (joint, angle) in robot.joint.iter().zip(pose) {
            if let Some(servo) = emulator.servo(joint.id) {
                servo.place(*angle);
            }
        }
        emulator.surround(Arc::<Mutex<World>>::clone(&world));
        let port = MemoryPort::new(Arc::new(Mutex::new(emulator)), Arc::new(clock.clone()));
        let arm = Arm::open(robot, Box::new(port), Arc::new(clock.clone()))?;
        Ok(Self { clock, arm, world })
    }

    /// One tick: sends goal positions, waits, measures.
    fn tick(
        &mut self,
        robot: &RobotConfig,
        sent: &JointVec<f64>,
        state: &mut ArmState,
    ) -> Result<(), EnvError> {
        let end = self.clock.now() + robot.period();
        self.arm.write(sent, end)?;
        self.clock.sleep_until(end);
        self.arm.read(state, end + robot.period())?;
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ArmPick {
    /// The environment of one robot.
    ///
    /// # Errors
    /// The robot's kinematic model is unknown, it has no gripper, or the emulated arm does not open.
    pub fn new(robot: &RobotConfig) -> Result<Self, EnvError> {
        let chain = Chain::of(robot)?;
        if robot.joint.len() <= chain.joints() {
            return Err(EnvError::NoGripper(robot.joint.iter().map(|j| j.name.clone()).collect()));
        }
        let home: JointVec<f64> = robot.joint.iter().map(|j| j.home_rad).collect();
        let joints = robot.joint.len();
        let spec = EnvSpec {
            name: "arm_pick_place",
            observation: 2 * joints + 6,
            goal: 3,
            actions: ActionSpace::Continuous { size: joints, limit: robot.max_delta() as f32 },
            horizon: HORIZON,
            tolerance: robot.control.goal_tolerance as f32,
            ends: Ends::Never,
        };
        let world = World::new(&chain, &home, [0.0, -0.25]);
        let mut env = Self {
            bench: Bench::open(robot, &home, world, 0)?,
            robot: robot.clone(),
            chain,
            state: ArmState::default(),
            sent: home,
            cube: [0.0; 3],
            observation: Row::new(),
            desired: stack([0.0; 3]),
            spec,
        };
        env.switch_on()?;
        Ok(env)
    }

    /// The same with the emulated robot that is shipped.
    ///
    /// # Errors
    /// The emulated arm does not open.
    pub fn shipped() -> Result<Self, EnvError> {
        Self::new(&RobotConfig::parse(SHIPPED, Path::new("firmware-config/emulated.toml"))?)
    }

    fn switch_on(&mut self) -> Result<(), EnvError> {
        self.bench.arm.write(&self.sent, self.bench.clock.now() + self.robot.period())?;
        self.bench.arm.torque(true)?;
        (0..SETTLING).try_for_each(|_| self.tick())
    }

    fn tick(&mut self) -> Result<(), EnvError> {
        self.bench.tick(&self.robot, &self.sent, &mut self.state)?;
        self.cube = self.bench.world().cube();
        let measured = self.measured();
        let tip = self.chain.position(&measured);
        let joints = measured.iter().chain(&self.sent).chain(&tip).map(|x| *x as f32);
        self.observation = stack(joints.chain(self.cube));
        Ok(())
    }

    fn measured(&self) -> JointVec<f64> {
        self.state.joints.iter().map(|j| j.position).collect()
    }

    fn home(&self) -> JointVec<f64> {
        self.robot.joint.iter().map(|j| j.home_rad).collect()
    }

    /// Draws a place where the hand can hold a cube, on the table or in the air (m).
    fn place(&self, on_table: bool, rng: &mut Rng) -> Vector3<f64> {
        let (home, shoulder) = (self.home(), world::shoulder(&self.chain));
        loop {
            let z = if on_table { 0.5 * EDGE } else { rng.random_range(HEIGHT) };
            let side: f64 = rng.random_range(-TO_EACH_SIDE..TO_EACH_SIDE);
            let distance = rng.random_range(DISTANCE);
            let x = shoulder.x + distance * side.sin();
            let place = Vector3::new(x, shoulder.y - distance * side.cos(), z);
            if expert::in_reach(&self.chain, &place, &home) {
                return place;
            }
        }
    }
}

impl Env for ArmPick {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        let on_table = rng.random();
        self.place(on_table, rng).iter().map(|x| *x as f32).collect()
    }

    /// A new arm near home in a new world.
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        check_goal(&self.spec, goal)?;
        self.desired = stack(goal.iter().copied());
        let wished = point(&self.desired);
        let mut cube = self.place(true, rng);
        while (cube - wished).xy().norm() < APART {
            cube = self.place(true, rng);
        }
        self.sent = start_pose(&self.robot, rng);
        let world = World::new(&self.chain, &self.sent, [cube.x, cube.y]);
        self.bench = Bench::open(&self.robot, &self.sent, world, seed_from(rng))?;
        self.switch_on()
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&self.spec, action)?;
        let max = self.robot.max_delta();
        for ((sent, delta), joint) in self.sent.iter_mut().zip(action).zip(&self.robot.joint) {
            let to = *sent + f64::from(*delta).clamp(-max, max);
            *sent = to.clamp(joint.min_rad, joint.max_rad);
        }
        self.tick()
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.cube
    }
    fn desired_goal(&self) -> &[f32] {
        &self.desired
    }

    /// Above the cube, down, close, carry.
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        let sight = expert::Sight {
            chain: &self.chain,
            measured: &self.measured(),
            sent: &self.sent,
            cube: point(&self.cube),
            goal: point(&self.desired),
            max_delta: self.robot.max_delta(),
        };
        Ok(sight.act().to_vec())
    }

    /// From above, and below that from the side; straight ahead is to the right.
    fn scene(&self) -> Scene {
        let mut scene = Scene::new([-0.05, -0.02], [0.45, 0.75]);
        scene.rectangle([-0.05, -0.02], [0.45, 0.0], Colour::WALL);
        let arm = self.chain.polyline(&self.measured());
        let jaws = self.bench.world().jaws();
        for view in [above, beside] {
            let flat = |p: [f32; 3]| view(p);
            let goal = flat(point(&self.desired).map(|x| x as f32).into());
            scene.circle(goal, self.spec.tolerance, Colour::OBJECT_GOAL);
            scene.square(flat(self.cube), EDGE as f32, Colour::OBJECT);
            let links = arm.iter().take(arm.len().saturating_sub(1));
            let links = links.map(|p| flat(p.map(|x| x as f32).into()));
            scene.line(links, 0.012, Colour::AGENT);
            for jaw in jaws {
                scene.line(jaw.map(flat), 0.008, Colour::AGENT);
            }
        }
        scene
    }
}

fn point(xyz: &[f32]) -> Vector3<f64> {
    Vector3::from_iterator(xyz.iter().chain(&[0.0; 3]).take(3).map(|x| f64::from(*x)))
}

/// Where a point is drawn in the view from above.
fn above([x, y, _]: [f32; 3]) -> [f32; 2] {
    [-y, 0.55 - x]
}

/// The same from the side.
fn beside([_, y, z]: [f32; 3]) -> [f32; 2] {
    [-y, z]
}

#[cfg(test)]
mod tests;
