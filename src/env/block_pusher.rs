//! A point pushes a block over a table: the block, then the point itself, to where they are wished.
//!
//! Observation `[6]`: the point's and the block's position (m), the block's velocity (m/s), each
//! `(x, y)`. Goal `[4]`: both positions, uniform in `-1 ..= 1`. Action `[2]` in `-1 ..= 1`: the
//! point's commanded displacement, 0.2 m along each axis at most. Start: the point at `(0, 0)`, the
//! block at `(1, 0)`. 100 steps, reached within 0.3.
//!
//! The task is the pointmass block pusher of Ding et al. 2019, "Goal-conditioned Imitation Learning".
//! Their block weighs 21.6 kg and is held by friction; measured in MuJoCo, a push of the servoed
//! point moves it along the normal of the touched face only, by 0.29 of the commanded penetration,
//! and it rests at once when the push ends. This version is that, quasi-static: an axis at a time,
//! hard contact (theirs gives way by 0.02 to 0.03 m).

use rand::RngExt as _;

use super::four_rooms::towards;
use super::{ActionSpace, Colour, Ends, Env, EnvError, EnvSpec, Scene, check_action, check_goal};
use crate::rng::Rng;

/// The largest commanded displacement along an axis (m).
const STEP: f32 = 0.2;
/// The block's edge and the point's radius (m).
const EDGE: f32 = 0.6;
const RADIUS: f32 = 0.1;
/// Between the centres in contact (m).
const CONTACT: f32 = 0.5 * EDGE + RADIUS;
/// How far the block moves per commanded penetration.
const YIELD: f32 = 0.29;
/// A contact may be this inexact (m), so that a point can slide along the block.
const SKIN: f32 = 1e-4;
/// How long a step lasts while the block is pushed (s).
const PUSH_TIME: f32 = 40.0;

type Point = [f32; 2];

/// The environment.
#[derive(Debug, Clone)]
pub struct BlockPusher {
    /// Point, block.
    positions: [f32; 4],
    /// The positions and the block's velocity.
    observation: [f32; 6],
    desired: [f32; 4],
    spec: EnvSpec,
}

impl Default for BlockPusher {
    fn default() -> Self {
        let spec = EnvSpec {
            name: "block_pusher",
            observation: 6,
            goal: 4,
            actions: ActionSpace::Continuous { size: 2, limit: 1.0 },
            horizon: 100,
            tolerance: 0.3,
            ends: Ends::Success,
        };
        let mut env = Self { positions: [0.0; 4], observation: [0.0; 6], desired: [0.0; 4], spec };
        env.place([0.0, 0.0], [1.0, 0.0], [0.0, 0.0]);
        env
    }
}

impl BlockPusher {
    /// The environment, at the start.
    pub fn new() -> Self {
        Self::default()
    }

    fn place(&mut self, point: Point, block: Point, velocity: Point) {
        self.positions = [point[0], point[1], block[0], block[1]];
        self.observation[..4].copy_from_slice(&self.positions);
        self.observation[4..].copy_from_slice(&velocity);
    }

    fn point(&self) -> Point {
        [self.positions[0], self.positions[1]]
    }

    fn block(&self) -> Point {
        [self.positions[2], self.positions[3]]
    }
}

/// Moves the point along an axis; at the block's face it pushes.
fn advance(point: &mut Point, block: &mut Point, axis: usize, by: f32) {
    let ahead = 1f32.copysign(by);
    let free = (block[axis] - point[axis]) * ahead - CONTACT;
    let beside = (block[1 - axis] - point[1 - axis]).abs() >= CONTACT - SKIN;
    let behind = free < -SKIN;
    if beside || behind || by.abs() <= free {
        point[axis] += by;
    } else {
        block[axis] += ahead * YIELD * (by.abs() - free.max(0.0));
        point[axis] = block[axis] - ahead * CONTACT;
    }
}

impl Env for BlockPusher {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        (0..4).map(|_| rng.random_range(-1.0..=1.0)).collect()
    }

    fn reset(&mut self, goal: &[f32], _rng: &mut Rng) -> Result<(), EnvError> {
        check_goal(&self.spec, goal)?;
        self.desired.copy_from_slice(goal);
        self.place([0.0, 0.0], [1.0, 0.0], [0.0, 0.0]);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&self.spec, action)?;
        let (mut point, before) = (self.point(), self.block());
        let mut block = before;
        for (axis, command) in action.iter().enumerate() {
            advance(&mut point, &mut block, axis, STEP * command.clamp(-1.0, 1.0));
        }
        let velocity = [0, 1].map(|axis| (block[axis] - before[axis]) / PUSH_TIME);
        self.place(point, block, velocity);
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.positions
    }
    fn desired_goal(&self) -> &[f32] {
        &self.desired
    }

    /// Pushes the block along x, then along y, then walks to the point's own goal.
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        let [x, y, block_x, block_y] = self.desired;
        Ok(pusher::act(self.point(), self.block(), [x, y], [block_x, block_y]).to_vec())
    }

    /// From above: block and point, each over the place where it is wished.
    fn scene(&self) -> Scene {
        let [x, y, block_x, block_y] = self.desired;
        let mut scene = Scene::new([-1.8; 2], [1.8; 2]);
        scene.square([block_x, block_y], EDGE, Colour::OBJECT_GOAL);
        scene.square(self.block(), EDGE, Colour::OBJECT);
        scene.circle([x, y], RADIUS, Colour::GOAL);
        scene.circle(self.point(), RADIUS, Colour::AGENT);
        scene
    }
}

/// The scripted expert: one action from where things are, nothing remembered.
mod pusher {
    use super::{CONTACT, Point, SKIN, STEP, towards};

    /// The block is where it is wished along an axis within this (m).
    const CLOSE: f32 = 0.05;
    /// Pushes begin this far from the block's centre (m).
    const RUN_UP: f32 = 0.5;
    /// Corners are rounded this far from the block's centre along both axes (m).
    const CORNER: f32 = 0.5;

    pub(super) fn act(point: Point, block: Point, goal: Point, block_goal: Point) -> Point {
        for axis in [0, 1] {
            let error = block_goal[axis] - block[axis];
            if error.abs() > CLOSE {
                return push(point, block, axis, error);
            }
        }
        walk(point, block, outside(goal, block))
    }

    /// Stands behind the block and pushes, slower and slower.
    fn push(point: Point, block: Point, axis: usize, error: f32) -> Point {
        let side = error.signum();
        let behind = (block[axis] - point[axis]) * side;
        let off = block[1 - axis] - point[1 - axis];
        let ready = (CONTACT - SKIN..=RUN_UP + SKIN).contains(&behind) && off.abs() < CLOSE;
        if ready {
            let mut action = [off / STEP; 2];
            action[axis] = (error / STEP).clamp(-1.0, 1.0);
            return action;
        }
        let mut start = block;
        start[axis] -= side * RUN_UP;
        walk(point, block, start)
    }

    /// Straight there, or round the corner of the block that makes the shorter way.
    fn walk(point: Point, block: Point, to: Point) -> Point {
        if !crosses(point, to, block) {
            return towards(point, to);
        }
        let corners = [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
            .map(|[x, y]: Point| [block[0] + CORNER * x, block[1] + CORNER * y]);
        let visible = corners.into_iter().filter(|corner| !crosses(point, *corner, block));
        let length = |corner: &Point| {
            let blocked = if crosses(*corner, to, block) { 2.0 * CORNER } else { 0.0 };
            distance(point, *corner) + distance(*corner, to) + blocked
        };
        let nearest = visible.min_by(|a, b| length(a).total_cmp(&length(b)));
        towards(point, nearest.unwrap_or(to))
    }

    /// The nearest place to a goal at which the point does not push the block.
    fn outside(goal: Point, block: Point) -> Point {
        let from = [0, 1].map(|axis| goal[axis] - block[axis]);
        let nearer = usize::from(from[1].abs() > from[0].abs());
        let mut to = goal;
        if from[nearer].abs() < CONTACT {
            to[nearer] = block[nearer] + CONTACT.copysign(from[nearer]);
        }
        to
    }

    /// Whether the straight way from one point to another meets the block (slab by slab).
    fn crosses(from: Point, to: Point, block: Point) -> bool {
        let (mut enter, mut leave) = (0f32, 1f32);
        for axis in [0, 1] {
            let (start, way) = (from[axis] - block[axis], to[axis] - from[axis]);
            let half = CONTACT - SKIN;
            if way.abs() < 1e-6 {
                if start.abs() >= half {
                    return false;
                }
                continue;
            }
            let (a, b) = ((-half - start) / way, (half - start) / way);
            (enter, leave) = (enter.max(a.min(b)), leave.min(a.max(b)));
        }
        enter < leave
    }

    fn distance(a: Point, b: Point) -> f32 {
        (a[0] - b[0]).hypot(a[1] - b[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::reached;
    use crate::rng::{Stream, stream};
    use proptest::prelude::*;

    fn started(goal: &[f32]) -> BlockPusher {
        let mut env = BlockPusher::new();
        env.reset(goal, &mut stream(1, Stream::Attempts)).unwrap();
        env
    }

    #[test]
    fn a_full_push_moves_the_block_as_measured_and_retreat_leaves_it() {
        let mut env = started(&[0.0; 4]);
        for _ in 0..3 {
            env.step(&[1.0, 0.0]).unwrap();
        }
        assert!((env.block()[0] - 1.0).abs() < 1e-4 && (env.point()[0] - 0.6).abs() < 1e-4);
        let at = env.block()[0];
        env.step(&[1.0, 0.0]).unwrap();
        assert!((env.block()[0] - at - 0.058).abs() < 1e-4, "{:?}", env.positions);
        // The speed measured while it is pushed: about 1e-3.
        assert!((env.observation()[4] - 1.45e-3).abs() < 1e-5, "{:?}", env.observation());
        let at = env.block();
        env.step(&[-1.0, 0.3]).unwrap();
        assert_eq!((env.block(), &env.observation()[4..]), (at, &[0.0, 0.0][..]));
    }

    #[test]
    fn a_push_off_the_middle_moves_the_block_along_the_normal_only() {
        let mut env = started(&[0.0; 4]);
        env.step(&[0.0, 1.0]).unwrap();
        for _ in 0..10 {
            env.step(&[1.0, 0.2]).unwrap();
        }
        // Two pushes, sliding along the face meanwhile, then the point is past the corner.
        assert!((env.block()[0] - 1.116).abs() < 1e-4, "{:?}", env.positions);
        assert!(env.block()[1] == 0.0 && env.point()[0] > 1.5, "{:?}", env.positions);
    }

    #[test]
    fn the_expert_puts_nearly_every_block_and_itself_in_place() {
        let mut rng = stream(3, Stream::HeldOut);
        let success = (0..300).filter(|_| {
            let goal = BlockPusher::new().sample_goal(&mut rng);
            let mut env = started(&goal);
            (0..env.spec().horizon).any(|_| {
                let action = env.expert().unwrap();
                env.step(&action).unwrap();
                reached(env.achieved_goal(), &goal, env.spec().tolerance)
            })
        });
        let success = success.count();
        assert!(success >= 294, "{success} of 300");
    }

    proptest! {
        #[test]
        fn point_and_block_never_overlap_and_the_same_actions_lead_to_the_same_place(
            actions in prop::collection::vec((-1.5f32..1.5, -1.5f32..1.5, 1usize..12), 1..40)
        ) {
            let (mut env, mut again) = (started(&[0.0; 4]), started(&[0.0; 4]));
            for (x, y, times) in actions {
                for _ in 0..times {
                    env.step(&[x, y]).unwrap();
                    again.step(&[x, y]).unwrap();
                    let apart = [0, 1].map(|i| (env.point()[i] - env.block()[i]).abs());
                    let most = apart[0].max(apart[1]);
                    prop_assert!(most >= CONTACT - 2.0 * SKIN, "{:?}", env.positions);
                    prop_assert_eq!(env.observation, again.observation);
                }
            }
        }
    }
}
