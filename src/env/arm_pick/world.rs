//! The table, the cube and the jaws: rigid bodies around an arm whose servos are given.
//!
//! The hand with its fixed jaw moves as the joints say; the moving jaw hangs on its hinge by a
//! spring as weak as the servo is; the cube is free. Two things hold joints back: what is between
//! the jaws, and the table, which stops the arm where the fixed jaw would enter it. The arm's other
//! links touch nothing.
//!
//! Contacts are soft and in `f32`: this is not MuJoCo, and figures made here compare with figures
//! made here. A world is built anew for each episode, so that nothing of the last one is left in it.

use nalgebra::{Isometry3, Vector3};
use rapier3d::prelude::{
    Collider, ColliderBuilder, FrictionModel, ImpulseJointHandle, JointAxis, MassProperties,
    MotorModel, PhysicsWorld, Pose, RevoluteJointBuilder, RigidBodyBuilder, RigidBodyHandle,
    Rotation, Vector,
};

use crate::hal::Surroundings;
use crate::joints::{JointVec, stack};
use crate::kinematics::Chain;

/// The cube's edge (m) and mass (kg).
pub(super) const EDGE: f64 = 0.025;
const CUBE_MASS: f32 = 0.03;
/// Rubber on wood.
const FRICTION: f32 = 1.0;
/// What counts as small here (m): contacts may be wrong by 0.005 of it.
const LENGTH_UNIT: f32 = 0.1;
/// How stiff contacts are (Hz). At a quarter of it, the library's own choice, a held cube creeps.
const CONTACT_FREQUENCY: f32 = 120.0;
const SOLVER_ITERATIONS: usize = 8;

/// The inner face of the fixed jaw lies at this `x` of the hand (m), and ends at this `z`.
pub(super) const FACE: f64 = -0.0079;
pub(super) const FINGERTIP: f64 = -0.1;
/// The jaws begin at this `z` of the hand, are this thick, and this wide to each side (m).
const FINGER_ROOT: f64 = -0.03;
const THICKNESS: f64 = 0.01;
const HALF_WIDTH: f64 = 0.0075;
/// The moving jaw's hinge in the hand (m) and its axis (joint `gripper` of the SO-101's URDF).
const HINGE: [f64; 3] = [0.0202, 0.0188, -0.0234];
const HINGE_AXIS: Vector = Vector::new(0.0, -1.0, 0.0);
/// The jaws' faces meet at this angle (rad).
pub(super) const CLOSED: f64 = -0.174_533;
/// The moving jaw opens so far (rad).
const OPEN: f32 = 1.745_33;
/// The moving jaw's mass (kg).
const JAW_MASS: f32 = 0.012;
/// The gripper's servo: N m/rad, N m s/rad, and at most half of its 3 N m, as it is configured.
const STIFFNESS: f32 = 3.0;
const DAMPING: f32 = 0.1;
const TORQUE: f32 = 1.5;
/// What its motor's inertia is behind the gears (kg m²). With much less a held cube slips.
const MOTOR_INERTIA: f32 = 1e-3;

/// The world.
pub struct World {
    physics: PhysicsWorld,
    chain: Chain,
    /// The arm's joints where they are (rad).
    arm: JointVec<f64>,
    hand: RigidBodyHandle,
    jaw: RigidBodyHandle,
    hinge: ImpulseJointHandle,
    cube: RigidBodyHandle,
}

impl World {
    /// An arm at joint angles `pose` (rad, the chain's joints, then the gripper), and a cube on the
    /// table at `cube` (m), its sides along the ray from the shoulder's axis.
    pub fn new(chain: &Chain, pose: &[f64], cube: [f64; 2]) -> Self {
        let mut physics = PhysicsWorld::new();
        physics.gravity = Vector::new(0.0, 0.0, -9.81);
        physics.integration_parameters.length_unit = LENGTH_UNIT;
        physics.integration_parameters.friction_model = FrictionModel::Coulomb;
        physics.integration_parameters.contact_softness.natural_frequency = CONTACT_FREQUENCY;
        physics.integration_parameters.num_solver_iterations = SOLVER_ITERATIONS;
        // Recycled contacts let a cube creep out of moving jaws.
        physics.integration_parameters.contact_recycling = false;
        let table = ColliderBuilder::cuboid(2.0, 2.0, 0.05).translation(vector([0.0, 0.0, -0.05]));
        physics.insert(RigidBodyBuilder::fixed(), table.friction(FRICTION));
        let arm: JointVec<f64> = stack(pose.iter().copied().take(chain.joints()));
        let gripper = pose.get(chain.joints()).copied().unwrap_or(0.0) as f32;
        let at = to_pose(&chain.hand(&arm));
        let body = RigidBodyBuilder::kinematic_position_based().pose(at);
        let (hand, _) = physics.insert(body, fixed_jaw());
        physics.insert_collider(palm(), Some(hand));
        let anchor = vector(HINGE);
        let place = at * Pose::new(anchor, gripper * HINGE_AXIS);
        let body = RigidBodyBuilder::dynamic().can_sleep(false).pose(place);
        let (jaw, _) = physics.insert(body.additional_mass_properties(jaw_mass()), moving_jaw());
        let joint = RevoluteJointBuilder::new(HINGE_AXIS)
            .local_anchor1(anchor)
            .contacts_enabled(false)
            .motor_model(MotorModel::ForceBased)
            .motor_position(gripper, STIFFNESS, DAMPING)
            .limits([CLOSED as f32, OPEN])
            .motor_max_force(TORQUE);
        let hinge = physics.insert_impulse_joint(hand, jaw, joint);
        let cube = Vector3::new(cube[0], cube[1], 0.5 * EDGE);
        let ray = ray(chain, &cube);
        let place = Pose::new(vector(cube.into()), Vector::Z * ray.y.atan2(ray.x) as f32);
        let body = RigidBodyBuilder::dynamic().can_sleep(false).pose(place);
        let shape = boxed([0.5 * EDGE; 3]).mass(CUBE_MASS).friction(FRICTION);
        let (cube, _) = physics.insert(body, shape);
        Self { physics, chain: chain.clone(), arm, hand, jaw, hinge, cube }
    }

    /// The cube's centre (m, base frame).
    pub fn cube(&self) -> [f32; 3] {
        self.physics.bodies[self.cube].translation().to_array()
    }

    /// The ends of both jaws (m, base frame), the moving one last: hinge or root, then tip.
    pub fn jaws(&self) -> [[[f32; 3]; 2]; 2] {
        let (hand, jaw) = (self.physics.bodies[self.hand].position(), self.jaw_pose());
        let x = FACE - 0.5 * THICKNESS;
        let fixed = [FINGER_ROOT, FINGERTIP].map(|z| *hand * vector([x, 0.0, z]));
        let moving = moving_jaw_ends().map(|end| jaw * end);
        [fixed, moving].map(|jaw| jaw.map(|end| end.to_array()))
    }

    fn jaw_pose(&self) -> Pose {
        *self.physics.bodies[self.jaw].position()
    }

    fn jaw_angle(&self) -> f64 {
        let hand = self.physics.bodies[self.hand].rotation();
        let turn = hand.inverse() * self.jaw_pose().rotation;
        f64::from(turn.to_scaled_axis().dot(HINGE_AXIS))
    }

    /// Whether the fixed jaw is above the table with the arm at these angles.
    fn above_table(&self, arm: &[f64]) -> bool {
        let hand = self.chain.hand(arm);
        let corner = |x: f64, y: f64| (hand * nalgebra::Point3::new(x, y, FINGERTIP)).z;
        [FACE, FACE - THICKNESS]
            .into_iter()
            .all(|x| [-HALF_WIDTH, HALF_WIDTH].into_iter().all(|y| corner(x, y) >= 0.0))
    }
}

impl Surroundings for World {
    fn step(&mut self, angles: &mut [f64], step: f64) {
        let (arm, gripper) = angles.split_at_mut(self.chain.joints().min(angles.len()));
        // A way back up is free, also from below.
        let lower =
            || self.chain.hand(arm).translation.z < self.chain.hand(&self.arm).translation.z;
        if self.above_table(arm) || !lower() {
            self.arm = stack(arm.iter().copied());
        }
        arm.copy_from_slice(&self.arm);
        let hand = to_pose(&self.chain.hand(&self.arm));
        self.physics.bodies[self.hand].set_next_kinematic_position(hand);
        if let (Some(hinge), Some(wanted)) =
            (self.physics.impulse_joints.get_mut(self.hinge, true), gripper.first())
        {
            hinge.data.set_motor_position(JointAxis::AngX, *wanted as f32, STIFFNESS, DAMPING);
        }
        self.physics.integration_parameters.dt = step as f32;
        self.physics.step();
        if let Some(gripper) = gripper.first_mut() {
            *gripper = self.jaw_angle();
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("World").field("arm", &self.arm).field("cube", &self.cube()).finish()
    }
}

fn vector(xyz: [f64; 3]) -> Vector {
    Vector::from_array(xyz.map(|x| x as f32))
}

fn to_pose(frame: &Isometry3<f64>) -> Pose {
    let quaternion = frame.rotation.coords.map(|x| x as f32);
    let rotation = Rotation::from_array(quaternion.into()).normalize();
    Pose::from_parts(vector(frame.translation.vector.into()), rotation)
}

fn boxed(half: [f64; 3]) -> ColliderBuilder {
    let [x, y, z] = half.map(|x| x as f32);
    ColliderBuilder::cuboid(x, y, z)
}

fn fixed_jaw() -> Collider {
    let half_length = 0.5 * (FINGER_ROOT - FINGERTIP);
    let centre = [FACE - 0.5 * THICKNESS, 0.0, FINGER_ROOT - half_length];
    let jaw = boxed([0.5 * THICKNESS, HALF_WIDTH, half_length]);
    jaw.translation(vector(centre)).friction(FRICTION).build()
}

fn palm() -> Collider {
    let palm = boxed([0.025, 0.02, 0.5 * -FINGER_ROOT]);
    palm.translation(vector([0.005, 0.0, 0.5 * FINGER_ROOT])).friction(FRICTION).build()
}

/// The moving jaw's root and tip in its own frame, which lies at the hinge, as the hand at 0 rad.
fn moving_jaw_ends() -> [Vector; 2] {
    let shut = Rotation::from_scaled_axis(-CLOSED as f32 * HINGE_AXIS);
    let x = FACE + 0.5 * THICKNESS;
    [FINGER_ROOT, FINGERTIP].map(|z| shut * (vector([x, 0.0, z]) - vector(HINGE)))
}

/// A box along the fixed jaw when shut.
fn moving_jaw() -> Collider {
    let [root, tip] = moving_jaw_ends();
    let jaw = boxed([0.5 * THICKNESS, HALF_WIDTH, 0.5 * (FINGER_ROOT - FINGERTIP)]);
    let place = Pose::new(0.5 * (root + tip), -CLOSED as f32 * HINGE_AXIS);
    jaw.position(place).density(0.0).friction(FRICTION).build()
}

/// The moving jaw and the motor that turns it.
fn jaw_mass() -> MassProperties {
    let [root, tip] = moving_jaw_ends();
    MassProperties::new(0.5 * (root + tip), JAW_MASS, Vector::splat(MOTOR_INERTIA))
}

/// The place between the jaws where a cube is held, in the hand (m): a finger's width above the
/// tips, and as far off the fixed jaw as leaves room to come down beside it.
pub(super) fn grasp() -> Vector3<f64> {
    Vector3::new(FACE + 0.5 * EDGE + 0.003, 0.0, FINGERTIP + 0.5 * EDGE)
}

/// The direction from the shoulder's axis to a point, along the table.
pub(super) fn ray(chain: &Chain, to: &Vector3<f64>) -> Vector3<f64> {
    let way = (to - shoulder(chain)).component_mul(&Vector3::new(1.0, 1.0, 0.0));
    way.try_normalize(1e-9).unwrap_or(-Vector3::y())
}

/// A point of the axis that the whole arm turns about (m).
pub(super) fn shoulder(chain: &Chain) -> Vector3<f64> {
    chain.axes(&[]).first().map_or(Vector3::zeros(), |(point, _)| *point)
}
