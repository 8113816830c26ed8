//! Classic control: cart-pole, mountain car and acrobot, as Gym defines them.
//!
//! | name | observation | choices | reward | ends | horizon |
//! |---|---|---|---|---|---|
//! | `cart_pole` (CartPole-v0) | x, x', theta, theta' | left, right | 1 a step | when it falls | 200 |
//! | `mountain_car` (MountainCar-v0) | x, x' | left, none, right | -1 a step | on the hill | 200 |
//! | `acrobot` (Acrobot-v1) | cos and sin of both angles, theta1', theta2' | -1, 0, 1 N m | -1 a step, 0 the last | above the line | 500 |
//!
//! The three tasks of the GAIL paper (Ho & Ermon, 2016, table 1) that need no physics engine. None
//! has goals: the goal's size is 0. What they share is [`Classic`]; a file of this folder holds the
//! equations of one of them and its expert, a feedback rule on the state. The motions are those of
//! gymnasium 1.4.0 within 1e-6 (`tests/data/classic.json`).

mod acrobot;
mod cart_pole;
mod mountain_car;

#[cfg(test)]
mod tests;

use super::{ActionSpace, Colour, Ends, Env, EnvError, EnvSpec, Scene, check_action, check_goal};
use crate::rng::Rng;

pub use acrobot::Acrobot;
pub use cart_pole::CartPole;
pub use mountain_car::MountainCar;

/// A system that moves in discrete time under one of a few choices: all that tells one classic
/// task from another.
pub trait System: Send + 'static {
    /// Positions, angles and velocities (SI, rad).
    type State: Copy + Send + Default;
    /// What the environment is.
    const SPEC: EnvSpec;
    /// Draws the state of a new episode.
    fn start(rng: &mut Rng) -> Self::State;
    /// The state one step later.
    fn next(state: Self::State, choice: usize) -> Self::State;
    /// What is observed, `[o]`.
    fn observe(state: Self::State) -> Vec<f64>;
    /// Whether the episode ends here.
    fn ended(state: Self::State) -> bool;
    /// The reward of a step to a state.
    fn reward(state: Self::State) -> f32;
    /// The expert's choice.
    fn expert(state: Self::State) -> usize;
    /// What a state looks like (m, or the hill's units).
    fn scene(state: Self::State) -> Scene;
}

/// A system as an environment.
pub struct Classic<S: System> {
    state: S::State,
    observation: Vec<f32>,
}

impl<S: System> Classic<S> {
    /// The environment in a state of its system.
    pub fn at(state: S::State) -> Self {
        let mut env = Self { state, observation: vec![0.0; S::SPEC.observation] };
        env.observe();
        env
    }

    fn observe(&mut self) {
        for (to, x) in self.observation.iter_mut().zip(S::observe(self.state)) {
            *to = x as f32;
        }
    }
}

impl<S: System> Default for Classic<S> {
    /// At rest, before the first reset.
    fn default() -> Self {
        Self::at(S::State::default())
    }
}

impl<S: System> Env for Classic<S> {
    fn spec(&self) -> &EnvSpec {
        const { &S::SPEC }
    }

    fn sample_goal(&self, _rng: &mut Rng) -> Vec<f32> {
        Vec::new()
    }

    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        check_goal(&S::SPEC, goal)?;
        self.state = S::start(rng);
        self.observe();
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&S::SPEC, action)?;
        self.state = S::next(self.state, action.first().map_or(0, |choice| *choice as usize));
        self.observe();
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.observation
    }

    fn achieved_goal(&self) -> &[f32] {
        &[]
    }

    fn desired_goal(&self) -> &[f32] {
        &[]
    }

    fn reward(&self) -> f32 {
        S::reward(self.state)
    }

    fn ended(&self) -> bool {
        S::ended(self.state)
    }

    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        Ok(vec![S::expert(self.state) as f32])
    }

    fn scene(&self) -> Scene {
        S::scene(self.state)
    }
}

/// What a classic task is.
const fn spec(
    name: &'static str,
    observation: usize,
    choices: usize,
    horizon: usize,
    ends: Ends,
) -> EnvSpec {
    let actions = ActionSpace::Discrete { choices };
    EnvSpec { name, observation, goal: 0, actions, horizon, tolerance: 0.0, ends }
}
