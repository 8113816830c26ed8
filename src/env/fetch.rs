//! The Fetch robot of Gymnasium-Robotics (version 4 of its tasks) on MuJoCo: reach, push, pick & place,
//! and stacking two blocks.
//!
//! | name | observation | goal | horizon |
//! |---|---|---|---|
//! | `fetch_reach` | 10 | the gripper's place | 50 |
//! | `fetch_push` | 25 | the block's, on the table; the gripper stays closed | 50 |
//! | `fetch_pick_place` | 25 | the block's, half of them in the air | 50 |
//! | `fetch_stack_two` | 40 | both blocks', one upon the other | 150 |
//! | `fetch_stack_two_lenient` | 40 | the same as goalGAIL's authors have it | 150 |
//!
//! Each also as `..._meshfree`: the same robot of which only the fingers touch anything, which
//! takes less time. A step is 0.04 s. Action `[4]`: the way of the point that leads the gripper (0.05 m
//! each), and of the fingers. Observation, in this order: the gripper's place (m), each block's, each
//! block's from the gripper, the fingers (m), each block's rotation (Euler angles, rad), speed
//! relative to the gripper's and turning, the gripper's speed and the fingers' (all times 0.04 s).
//! Goals count as reached within 0.05 m.
//!
//! With the same library and model file the same start and actions give the same numbers as the
//! Python environment (`tools/fetch_parity/run`).
//!
//! **Stacking**: the first block stays where it is, the second goes upon it. Success is each block
//! within 0.05 m of its place and the gripper 0.1 m away from the upper one's. The lenient task is
//! that of goalGAIL's released code: the upper goal is only half a block higher, and the distance of
//! all six numbers below 0.08 m is success, so that a block beside the other one counts. Blocks start
//! 0.1 m apart here, where that code lets them overlap.

mod expert;
mod task;
mod wrist;

use std::path::{Path, PathBuf};

use super::mujoco::install::{self, Installed};
use super::mujoco::{Id, Kind, MujocoError, Part, Simulation};
use super::{ActionSpace, Colour, Ends, Env, EnvError, EnvSpec, Scene, check_action, check_goal};
use crate::goal::reached;
use crate::rng::Rng;
use crate::storage::Storage;
use expert::Sight;
use task::{EDGE, Task};

pub use task::NAMES;

/// The file of another MuJoCo library than the one that is installed.
pub const LIBRARY: &str = "REGOAL_MUJOCO";
/// Time steps of the physics in a step, and how long one is (s).
const SUBSTEPS: usize = 20;
const TIMESTEP: f64 = 0.002;
/// The time of a step (s).
const STEP: f64 = SUBSTEPS as f64 * TIMESTEP;
/// How far an action of 1 moves the point that leads the gripper (m).
const REACH: f32 = 0.05;
/// Where the gripper begins, from where the model has it (m).
const FROM_REST: [f64; 3] = [-0.498, 0.005, -0.431];
/// The gripper points down: its rotation, and what a step adds to it, not yet normalised.
const DOWN: [f64; 4] = [1.0, 0.0, 1.0, 0.0];
/// Steps until the robot is at its beginning.
const SETTLING: usize = 10;

/// The environment.
pub struct Fetch {
    task: &'static Task,
    spec: EnvSpec,
    simulation: Simulation,
    parts: Parts,
    start: Start,
    positions: Vec<f64>,
    speeds: Vec<f64>,
    /// The positions that places of bodies were last worked out for.
    placed: Vec<f64>,
    grip: [f64; 3],
    exact: Vec<f64>,
    observation: Vec<f32>,
    achieved: Vec<f32>,
    desired: Vec<f32>,
}

/// What the model's names stand for.
struct Parts {
    hand: Id,
    grip: Id,
    blocks: Vec<Block>,
    /// Where the fingers' positions stand, the right one first.
    fingers: [usize; 2],
    /// Where those of the joints that turn the gripper do, the shoulder first.
    arm: [usize; wrist::JOINTS.len()],
}

struct Block {
    body: Id,
    site: Id,
    /// Where its position begins.
    at: usize,
}

/// Where every episode begins, but for the blocks.
#[derive(Default)]
struct Start {
    time: f64,
    positions: Vec<f64>,
    speeds: Vec<f64>,
    grip: [f64; 3],
    /// How high a block lies on the table (m).
    height: f64,
}

/// The environment of a name, on what is installed in the user's cache and the library that
/// `REGOAL_MUJOCO` names, if it does; nothing for other names.
///
/// # Errors
/// MuJoCo is not installed, or not as it was.
pub fn named(storage: &dyn Storage, name: &str) -> Option<Result<Fetch, EnvError>> {
    let other = std::env::var_os(LIBRARY).map(PathBuf::from);
    let open = || {
        let installed = Installed::open(storage, &install::folder()?)?;
        Fetch::open(&installed, other.as_deref(), name)
    };
    task::named(name).map(|_| open())
}

impl Fetch {
    /// The environment of a name.
    ///
    /// # Errors
    /// There is no such task, or MuJoCo cannot load it.
    pub fn open(installed: &Installed, other: Option<&Path>, name: &str) -> Result<Self, EnvError> {
        let unknown = || EnvError::Unknown { name: name.into(), known: NAMES.to_vec() };
        let (task, meshfree) = task::named(name).ok_or_else(unknown)?;
        let library = installed.load(other)?;
        let simulation = Simulation::load(&library, &installed.model(task.model, meshfree))?;
        let parts = Parts::of(&simulation, task.blocks)?;
        let spec = task.spec(meshfree);
        let mut env = Self {
            positions: vec![0.0; simulation.size(Part::Positions)],
            speeds: vec![0.0; simulation.size(Part::Speeds)],
            placed: vec![0.0; simulation.size(Part::Positions)],
            grip: [0.0; 3],
            exact: Vec::with_capacity(spec.observation),
            observation: vec![0.0; spec.observation],
            achieved: vec![0.0; spec.goal],
            desired: vec![0.0; spec.goal],
            start: Start::default(),
            task,
            spec,
            simulation,
            parts,
        };
        env.settle()?;
        Ok(env)
    }

    /// Finds where every episode begins, in the order in which the Python environment does it.
    fn settle(&mut self) -> Result<(), EnvError> {
        self.simulation.read(Part::Positions, &mut self.positions)?;
        for (joint, position) in [self.task.base, 0.48, 0.0].into_iter().enumerate() {
            put(&mut self.positions, joint, &[position]);
        }
        for (i, block) in self.parts.blocks.iter().enumerate() {
            let aside = 0.4 * i as f64;
            put(&mut self.positions, block.at, &[1.25, 0.53 + aside, 0.4, 1.0, 0.0, 0.0, 0.0]);
        }
        self.simulation.write(Part::Positions, &self.positions)?;
        // Twice, as there: the second one starts from the accelerations of the first.
        self.simulation.forward();
        self.simulation.forward();
        let (rest, _) = self.grip()?;
        let mut lead = FROM_REST;
        lead[2] += self.task.lift;
        let lead = [0, 1, 2].map(|i| lead[i] + rest[i]);
        self.simulation.write(Part::MocapPositions, &lead)?;
        self.simulation.write(Part::MocapRotations, &DOWN)?;
        self.simulation.step(SETTLING * SUBSTEPS);
        self.sense()?;
        let mut time = [0.0];
        self.simulation.read(Part::Time, &mut time)?;
        let height =
            self.parts.blocks.first().map(|block| self.simulation.place(block.body, [0.0; 3]));
        self.start = Start {
            time: time[0],
            positions: self.positions.clone(),
            speeds: self.speeds.clone(),
            grip: self.grip,
            height: height.transpose()?.map_or(0.0, |(place, _)| place[2]),
        };
        Ok(())
    }

    /// Starts an episode with the blocks where they are said to be (m, along the table), towards a
    /// goal.
    ///
    /// # Errors
    /// The goal or the blocks are not as many as the task has.
    pub fn place(&mut self, blocks: &[[f64; 2]], goal: &[f32]) -> Result<(), EnvError> {
        check_goal(&self.spec, goal)?;
        let (expected, found) = (2 * self.parts.blocks.len(), 2 * blocks.len());
        if expected != found {
            return Err(MujocoError::Count { part: "blocks' places", expected, found }.into());
        }
        self.desired.copy_from_slice(goal);
        self.simulation.reset();
        self.positions.copy_from_slice(&self.start.positions);
        for (block, place) in self.parts.blocks.iter().zip(blocks) {
            put(&mut self.positions, block.at, place);
        }
        self.simulation.write(Part::Time, &[self.start.time])?;
        self.simulation.write(Part::Positions, &self.positions)?;
        self.simulation.write(Part::Speeds, &self.start.speeds)?;
        self.simulation.forward();
        self.placed.copy_from_slice(&self.positions);
        self.sense()
    }

    /// The observation as it was worked out, `[o]`; [`Env::observation`] is this in `f32`.
    pub fn exact(&self) -> &[f64] {
        &self.exact
    }

    /// Where the gripper's point between the fingers is (m), and how it is turned.
    fn grip(&self) -> Result<([f64; 3], [f64; 9]), MujocoError> {
        self.simulation.place(self.parts.hand, [0.02, 0.0, 0.0])
    }

    /// Tells the gripper's leading point and the fingers where to go.
    fn lead(&mut self, action: &[f32]) -> Result<(), EnvError> {
        let wished = |i: usize| action.get(i).copied().unwrap_or(0.0).clamp(-1.0, 1.0);
        if self.task.grips {
            let [right, left] = self.parts.fingers.map(|at| number(&self.positions, at));
            let way = f64::from(wished(3));
            self.simulation.write(Part::Controls, &[left + way, right + way])?;
        }
        let (place, _) = self.simulation.place(self.parts.hand, [0.0; 3])?;
        // In f32 before it is widened, as there.
        let lead = [0, 1, 2].map(|i| place[i] + f64::from(wished(i) * REACH));
        let turned = wrist::rotation(self.parts.arm.map(|at| number(&self.placed, at)));
        let turned = [0, 1, 2, 3].map(|i| turned[i] + DOWN[i]);
        self.simulation.write(Part::MocapPositions, &lead)?;
        self.simulation.write(Part::MocapRotations, &turned)?;
        Ok(())
    }

    /// Takes up what the simulation shows.
    fn sense(&mut self) -> Result<(), EnvError> {
        self.simulation.read(Part::Positions, &mut self.positions)?;
        self.simulation.read(Part::Speeds, &mut self.speeds)?;
        (self.grip, _) = self.grip()?;
        let [grip_speed, _] = self.simulation.speed(self.parts.grip)?;
        let grip_speed = grip_speed.map(|v| v * STEP);
        let (mut places, mut offsets) = (Vec::new(), Vec::new());
        let (mut angles, mut speeds, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for block in &self.parts.blocks {
            let (place, turn) = self.simulation.place(block.body, [0.0; 3])?;
            let [speed, turning] = self.simulation.speed(block.site)?;
            places.extend(place);
            offsets.extend([0, 1, 2].map(|i| place[i] - self.grip[i]));
            angles.extend(euler(&turn));
            speeds.extend([0, 1, 2].map(|i| speed[i] * STEP - grip_speed[i]));
            turns.extend(turning.map(|w| w * STEP));
        }
        let fingers = self.parts.fingers.map(|at| number(&self.positions, at));
        let finger_speeds = self.parts.fingers.map(|at| number(&self.speeds, at) * STEP);
        self.exact.clear();
        self.exact.extend(self.grip);
        self.exact.extend(places.iter().chain(&offsets).chain(&fingers));
        self.exact.extend(angles.iter().chain(&speeds).chain(&turns));
        self.exact.extend(grip_speed.iter().chain(&finger_speeds));
        narrow(&mut self.observation, &self.exact);
        narrow(&mut self.achieved, if places.is_empty() { &self.grip } else { &places });
        Ok(())
    }

    /// Where the blocks are (m).
    fn blocks(&self) -> impl Iterator<Item = [f64; 3]> {
        let places = self.exact.get(3..).unwrap_or_default().chunks_exact(3);
        places.take(self.parts.blocks.len()).map(|p| [0, 1, 2].map(|i| number(p, i)))
    }

    fn sight(&self) -> Sight {
        let mut blocks = self.blocks();
        let goal: Vec<f64> = self.desired.iter().map(|x| f64::from(*x)).collect();
        let goals = |i: usize| [0, 1, 2].map(|axis| number(&goal, 3 * i + axis));
        Sight {
            grip: self.grip,
            opening: self.parts.fingers.iter().map(|at| number(&self.positions, *at)).sum(),
            blocks: [blocks.next(), blocks.next()].map(|place| place.unwrap_or(self.grip)),
            goals: [goals(0), goals(1)],
            table: self.start.height,
        }
    }
}

impl Parts {
    /// Every joint but the blocks' has one position, and the blocks' come last.
    fn of(simulation: &Simulation, blocks: usize) -> Result<Self, MujocoError> {
        let size = simulation.size(Part::Positions);
        let first = size.saturating_sub(7 * blocks);
        let block = |i: usize| {
            let name = format!("object{i}");
            let joint = simulation.id(Kind::Joint, &format!("{name}:joint"))?;
            if joint.index() != first + i {
                return Err(MujocoError::Lacks { kind: "last joint", name });
            }
            Ok(Block {
                body: simulation.id(Kind::Body, &name)?,
                site: simulation.id(Kind::Site, &name)?,
                at: first + 7 * i,
            })
        };
        let joint =
            |name: &str| simulation.id(Kind::Joint, &format!("robot0:{name}_joint")).map(Id::index);
        let mut arm = [0; wrist::JOINTS.len()];
        for (at, (name, _)) in arm.iter_mut().zip(wrist::JOINTS) {
            *at = joint(name)?;
        }
        Ok(Self {
            hand: simulation.id(Kind::Body, "robot0:gripper_link")?,
            grip: simulation.id(Kind::Site, "robot0:grip")?,
            blocks: (0..blocks).map(block).collect::<Result<_, _>>()?,
            fingers: [joint("r_gripper_finger")?, joint("l_gripper_finger")?],
            arm,
        })
    }
}

impl Env for Fetch {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        let goal = self.task.goal(self.start.grip, self.start.height, rng);
        goal.into_iter().map(|x| x as f32).collect()
    }

    /// The robot at its beginning, the blocks on the table.
    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        check_goal(&self.spec, goal)?;
        let blocks = self.task.places(self.start.grip, goal, rng);
        self.place(&blocks, goal)
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&self.spec, action)?;
        let mut before = [0.0];
        self.simulation.read(Part::Time, &mut before)?;
        self.lead(action)?;
        self.simulation.step(SUBSTEPS - 1);
        self.simulation.read(Part::Positions, &mut self.placed)?;
        self.simulation.step(1);
        self.simulation.diverged(before[0])?;
        if !self.task.grips {
            self.simulation.read(Part::Positions, &mut self.positions)?;
            for finger in self.parts.fingers {
                put(&mut self.positions, finger, &[0.0]);
            }
            self.simulation.write(Part::Positions, &self.positions)?;
            self.simulation.forward();
            self.placed.copy_from_slice(&self.positions);
        }
        self.sense()
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

    /// For stacking also each block by itself, and the gripper away.
    fn succeeds(&self, observation: &[f32], achieved_goal: &[f32], goal: &[f32]) -> bool {
        match self.task.stack {
            Some(stack) if stack.strict => task::stacked(observation, achieved_goal, goal),
            _ => reached(achieved_goal, goal, self.spec.tolerance),
        }
    }

    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        Ok(self.task.expert(&self.sight()).to_vec())
    }

    /// From above, and below that from the side; away from the robot is to the right.
    fn scene(&self) -> Scene {
        let mut scene = Scene::new([1.0, -0.75], [1.7, 0.6]);
        let above = |[x, y, _]: [f64; 3]| [x as f32, (y - 0.75) as f32];
        let beside = |[x, _, z]: [f64; 3]| [x as f32, (z - 1.1) as f32];
        scene.rectangle([1.05, -0.75], [1.55, -0.7], Colour::WALL);
        let sight = self.sight();
        let views: [&dyn Fn([f64; 3]) -> [f32; 2]; 2] = [&above, &beside];
        for view in views {
            for goal in sight.goals.iter().take(self.spec.goal / 3) {
                scene.circle(view(*goal), self.spec.tolerance, Colour::OBJECT_GOAL);
            }
            for block in self.blocks() {
                scene.square(view(block), EDGE as f32, Colour::OBJECT);
            }
            scene.circle(view(self.grip), 0.015, Colour::AGENT);
        }
        scene
    }
}

/// Writes numbers into a row, from a place on; what does not fit is left out.
fn put(row: &mut [f64], at: usize, numbers: &[f64]) {
    for (to, from) in row.iter_mut().skip(at).zip(numbers) {
        *to = *from;
    }
}

fn number(row: &[f64], at: usize) -> f64 {
    row.get(at).copied().unwrap_or(0.0)
}

fn narrow(to: &mut [f32], from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from as f32;
    }
}

/// The Euler angles of a rotation as Gymnasium-Robotics has them (rad): about the axes z, y, x in turn,
/// each the other way round.
fn euler(m: &[f64; 9]) -> [f64; 3] {
    let across = (m[8] * m[8] + m[5] * m[5]).sqrt();
    let y = -f64::atan2(-m[2], across);
    if across > 4.0 * f64::EPSILON {
        [-f64::atan2(m[5], m[8]), y, -f64::atan2(m[1], m[0])]
    } else {
        [0.0, y, -f64::atan2(-m[3], m[4])]
    }
}
