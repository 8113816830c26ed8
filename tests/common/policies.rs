//! Small policies to deploy, and the keys to sign them with.
#![allow(dead_code, reason = "each program uses its own part")]

use regoal::clock::WallTime;
use regoal::config::{PolicyConfig, RobotConfig};
use regoal::joints::GoalSpace;
use regoal::onnx::{Builder, Dim, Tensor};
use regoal::policy::signature::{Keys, Signer};
use regoal::policy::{ActionKind, Claims, ObservationTerm, PolicySpec, id_of, with_spec};

/// What a small policy is for.
pub fn spec(robot: &RobotConfig) -> PolicySpec {
    PolicySpec {
        version: 1,
        model: robot.model.clone(),
        joints: robot.joint.iter().map(|joint| joint.name.clone()).collect(),
        rate_hz: robot.control.rate_hz,
        observation: vec![ObservationTerm::JointPosition],
        goal_space: GoalSpace::None,
        action: ActionKind::JointDelta,
        tensors: Default::default(),
        chunk: None,
        state: Vec::new(),
        provenance: Default::default(),
    }
}

/// A network with one hidden layer that moves every joint by about so much a tick (rad).
pub fn policy(robot: &RobotConfig, width: usize, by: f32) -> Vec<u8> {
    described(&spec(robot), width, by)
}

/// One that moves every joint by so much a tick (rad) towards goals of the tip, and whose action is no
/// number where the goal is [`FAR`].
pub fn failing(robot: &RobotConfig, by: f32) -> Vec<u8> {
    let mut spec = PolicySpec { goal_space: GoalSpace::EndEffectorPosition, ..spec(robot) };
    spec.tensors.achieved_goal = None;
    let joints = spec.joints.len();
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(joints)]);
    let goal = b.input("desired_goal", &[Dim::Batch, Dim::Fixed(3)]);
    let layer = |b: &mut Builder, name: &str, rows: usize, columns: usize, w: f32, by: f32| {
        let w = Tensor::new([rows, columns], vec![w; rows * columns]).unwrap();
        let by = Tensor::new([columns], vec![by; columns]).unwrap();
        (b.parameter(&format!("{name}.w"), w), b.parameter(&format!("{name}.b"), by))
    };
    // No number is as large as e to the hundredth, and 0 times infinity is none.
    let (sum, none) =
        (layer(&mut b, "sum", 3, 1, 10.0, 0.0), layer(&mut b, "none", 1, joints, 0.0, by));
    let still = layer(&mut b, "still", joints, joints, 0.0, 0.0);
    let sum = b.gemm(goal, sum.0, sum.1);
    let large = b.exp(sum);
    let (goal, still) = (b.gemm(large, none.0, none.1), b.gemm(x, still.0, still.1));
    let action = b.add(goal, still);
    b.output("action", action);
    with_spec(&b.finish().unwrap().to_bytes(), &spec).unwrap()
}

/// A goal at which [`failing`] policies fail.
pub const FAR: [f32; 3] = [10.0, 0.0, 0.0];

/// The same with another description.
pub fn described(spec: &PolicySpec, width: usize, by: f32) -> Vec<u8> {
    let joints = spec.joints.len();
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(joints)]);
    let mut layer = |name: &str, rows: usize, columns: usize, offset: f32| {
        let w = Tensor::new([rows, columns], vec![1e-6; rows * columns]).unwrap();
        let offset = Tensor::new([columns], vec![offset; columns]).unwrap();
        (b.parameter(&format!("{name}.w"), w), b.parameter(&format!("{name}.b"), offset))
    };
    let (first, last) = (layer("first", joints, width, 0.0), layer("last", width, joints, by));
    let hidden = b.gemm(x, first.0, first.1);
    let hidden = b.relu(hidden);
    let action = b.gemm(hidden, last.0, last.1);
    b.output("action", action);
    with_spec(&b.finish().unwrap().to_bytes(), spec).unwrap()
}

/// Somebody who signs.
pub struct Person {
    pub keys: Keys,
    pub signer: Signer,
}

impl Person {
    pub fn new() -> Self {
        let keys = Keys::generate(None).unwrap();
        Self { signer: Signer::read(&keys.secret, None).unwrap(), keys }
    }

    /// The public key as it stands in a configuration.
    pub fn line(&self) -> String {
        self.keys.public.lines().last().unwrap().to_owned()
    }

    pub fn sign(&self, file: &[u8], claims: &Claims) -> String {
        self.signer.sign(file, claims).unwrap()
    }
}

/// A robot's trust in people, some of them revoked.
pub fn trusting(people: &[&Person], revoked: &[&Person], threshold: usize) -> PolicyConfig {
    let lines = |people: &[&Person]| people.iter().map(|person| person.line()).collect();
    let (trusted_keys, revoked_keys) = (lines(people), lines(revoked));
    PolicyConfig { trusted_keys, revoked_keys, threshold, ..PolicyConfig::default() }
}

/// What is said of a policy in these tests.
pub fn claims(robot: &RobotConfig, file: &[u8], version: u64) -> Claims {
    let expires = WallTime::from_date("2026-06-30").unwrap();
    Claims { robot: robot.model.clone(), version, expires, policy: id_of(file) }
}
