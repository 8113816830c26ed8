//! An environment of one's own, from its equations to a trained policy:
//!
//! ```text
//! cargo run --release --example own_env
//! ```
//!
//! A sledge on a rail must stop at a mark. The expert below shows it 20 times; behaviour cloning with
//! hindsight then learns from what it showed.

use rand::RngExt as _;
use regoal::engine::Engine;
use regoal::env::{ActionSpace, Ends, Env, EnvError, EnvSpec};
use regoal::goal::{Hindsight, ReplayBuffer};
use regoal::learn::evaluate::{self, Trials};
use regoal::learn::network::{Activation, Init, Mlp};
use regoal::learn::rollout::{self, Actor, Noise};
use regoal::learn::{LearnError, trained::Trained};
use regoal::onnx::{AdamW, Builder, Dim, Graph};
use regoal::policy::tensor;
use regoal::rng::{Rng, Stream, item, stream};

/// Seconds between two actions.
const STEP: f32 = 0.1;
/// The strongest push (m/s²).
const PUSH: f32 = 2.0;

/// Observation: position (m) and velocity (m/s). Action: push (m/s²). Goal: where to be (m).
struct Sledge {
    spec: EnvSpec,
    state: [f32; 2],
    mark: [f32; 1],
}

impl Sledge {
    fn new() -> Self {
        let spec = EnvSpec {
            name: "sledge",
            observation: 2,
            goal: 1,
            actions: ActionSpace::Continuous { size: 1, limit: PUSH },
            horizon: 50,
            tolerance: 0.05,
            ends: Ends::Never,
        };
        Self { spec, state: [0.0; 2], mark: [0.0] }
    }
}

impl Env for Sledge {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        vec![rng.random_range(-1.0..1.0)]
    }

    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        let [mark] = goal else {
            return Err(EnvError::Goal { expected: 1, found: goal.len() });
        };
        self.mark = [*mark];
        self.state = [rng.random_range(-1.0..1.0), 0.0];
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        let [push] = action else {
            return Err(EnvError::Action { expected: 1, found: action.len() });
        };
        let [x, v] = self.state;
        let v = v + STEP * push.clamp(-PUSH, PUSH);
        self.state = [x + STEP * v, v];
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.state
    }

    fn achieved_goal(&self) -> &[f32] {
        &self.state[..1]
    }

    fn desired_goal(&self) -> &[f32] {
        &self.mark
    }

    /// A spring to the mark and a damper.
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        let [x, v] = self.state;
        Ok(vec![(4.0 * (self.mark[0] - x) - 3.5 * v).clamp(-PUSH, PUSH)])
    }
}

/// What the expert does, towards `count` goals.
fn demonstrations(env: &mut dyn Env, count: u64, seed: u64) -> Result<ReplayBuffer, LearnError> {
    let mut shown = ReplayBuffer::default();
    for i in 0..count {
        let mut rng = item(seed, Stream::Demonstrations, i);
        let goal = env.sample_goal(&mut rng);
        let mut act = |env: &mut dyn Env, action: &mut [f32], _: &mut Rng| {
            action.copy_from_slice(&env.expert()?);
            Ok(())
        };
        shown.push(&rollout::episode(env, &goal, false, &mut rng, &mut act)?)?;
    }
    Ok(shown)
}

/// Rows of a training step.
const BATCH: usize = 128;

/// A policy that does as it was shown: min over theta of mean (pi_theta(s, g) - a)², where half of
/// the goals are what the demonstration achieved later on.
fn clone_behaviour(
    engine: &Engine,
    shown: &ReplayBuffer,
    steps: usize,
    seed: u64,
) -> Result<Graph, LearnError> {
    let mlp = Mlp::new(3, &[64, 64], 1, Activation::Tanh);
    let weights = mlp.draw(Init::Xavier, &mut stream(seed, Stream::Weights));
    let mut policy = Trained::new(engine, &mlp, weights, AdamW::default(), |b, layers| {
        let x = b.input("x", &[Dim::Fixed(BATCH), Dim::Fixed(3)]);
        let a = b.input("a", &[Dim::Fixed(BATCH), Dim::Fixed(1)]);
        let pi = layers.apply(b, x);
        let error = b.sub(pi, a);
        let square = b.mul(error, error);
        b.reduce_mean(square, &[0, 1], false)
    })?;
    let hindsight = Hindsight { probability: 0.5, ..Hindsight::default() };
    let mut rng = stream(seed, Stream::Training);
    for _ in 0..steps {
        let (mut x, mut a) = (Vec::new(), Vec::new());
        for sample in (0..BATCH).filter_map(|_| shown.sample(&hindsight, &mut rng)) {
            x.extend_from_slice(sample.trajectory.observation(sample.t));
            x.extend_from_slice(sample.goal);
            a.extend_from_slice(sample.trajectory.action(sample.t));
        }
        policy.step(&[("x", &x), ("a", &a)], 1e-3)?;
    }
    deployed(&mlp, policy.weights())
}

/// The policy as an ONNX graph for any number of rows.
fn deployed(mlp: &Mlp, weights: &[f32]) -> Result<Graph, LearnError> {
    let mut b = Builder::new();
    let observation = b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(2)]);
    let goal = b.input(tensor::DESIRED_GOAL, &[Dim::Batch, Dim::Fixed(1)]);
    let x = b.concat(&[observation, goal], 1);
    let layers = mlp.trained(&mut b, "policy", weights)?;
    let action = layers.apply(&mut b, x);
    b.output(tensor::ACTION, action);
    Ok(b.finish()?)
}

/// How a policy trained for `steps` does on 100 goals that it has not seen.
fn trained_for(steps: usize) -> Result<Trials, LearnError> {
    let (engine, mut env, seed) = (Engine::tract(), Sledge::new(), 1);
    let shown = demonstrations(&mut env, 20, seed)?;
    let policy = clone_behaviour(&engine, &shown, steps, seed)?;
    let mut actor = Actor::new(&engine, &policy, env.spec().actions)?;
    let goals = evaluate::goals(&env, 100, seed);
    evaluate::run(&mut env, &mut actor, &goals, Noise::default(), seed)
}

fn main() -> Result<(), LearnError> {
    for steps in [0, 1000] {
        let trials = trained_for(steps)?;
        println!("{steps:4} steps: at any time {}, at the end {}", trials.any, trials.last);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_saw_twenty_demonstrations_stops_at_new_marks() {
        let (before, after) = (trained_for(0).unwrap(), trained_for(600).unwrap());
        assert!(before.last.value() < 0.3 && after.last.value() > 0.9, "{before:?} {after:?}");
    }
}
