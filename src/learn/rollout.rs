//! Episodes of a policy in an environment.

use rand::RngExt as _;

use super::LearnError;
use crate::engine::{Engine, Session};
use crate::env::{ActionSpace, Env};
use crate::goal::Trajectory;
use crate::onnx::{Graph, Verified};
use crate::rng::{Rng, normal};

/// A policy that acts: a session of its graph, one sample at a time.
pub struct Actor {
    session: Session,
    space: ActionSpace,
    output: Vec<f32>,
    /// What a policy that draws is given, `[a]`; empty for others.
    noise: Vec<f32>,
}

impl Actor {
    /// Loads a policy, as [`Learner::policy`](super::learner::Learner::policy) gives it.
    ///
    /// # Errors
    /// The graph is not valid, or the engine cannot run it.
    pub fn new(engine: &Engine, policy: &Graph, space: ActionSpace) -> Result<Self, LearnError> {
        let session = engine.load(&Verified::try_from(policy.clone())?)?;
        let outputs = match space {
            ActionSpace::Continuous { size, .. } => size,
            ActionSpace::Discrete { choices } => choices,
        };
        let draws = session.inputs().iter().any(|input| input.name == "noise");
        let noise = vec![0.0; if draws { space.size() } else { 0 }];
        Ok(Self { session, space, output: vec![0.0; outputs], noise })
    }

    /// The action for what `env` shows now, `action` `[a]`: the same each time, or drawn where the
    /// policy draws.
    ///
    /// # Errors
    /// The engine failed, or the policy is of another environment.
    pub fn act(
        &mut self,
        env: &dyn Env,
        action: &mut [f32],
        rng: &mut Rng,
    ) -> Result<(), LearnError> {
        self.noise.fill_with(|| normal(rng) as f32);
        let rows = [env.observation(), env.desired_goal(), &self.noise];
        let mut given: heapless::Vec<&[f32], 3> = heapless::Vec::new();
        given.extend(rows.into_iter().filter(|row| !row.is_empty()));
        self.session.run_into(&given, &mut self.output)?;
        match self.space {
            ActionSpace::Continuous { .. } => action.copy_from_slice(&self.output),
            ActionSpace::Discrete { .. } => action.fill(largest(&self.output) as f32),
        }
        Ok(())
    }
}

/// The index of the largest number, the first of equals.
pub fn largest(row: &[f32]) -> usize {
    let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).fold(0, better)
}

/// What exploration adds to a policy's actions (algorithms of Andrychowicz et al. 2017, section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Noise {
    /// Standard deviation of the Gaussian noise, in units of the largest action.
    pub gaussian: f32,
    /// Share of actions that are drawn uniformly instead.
    pub random: f64,
}

impl Noise {
    /// Disturbs an action.
    pub fn disturb(self, space: ActionSpace, action: &mut [f32], rng: &mut Rng) {
        let random = self.random > 0.0 && rng.random_bool(self.random.min(1.0));
        match space {
            ActionSpace::Discrete { choices } if random => {
                action.fill(rng.random_range(0..choices) as f32);
            }
            ActionSpace::Discrete { .. } => {}
            ActionSpace::Continuous { limit, .. } if random => {
                action.iter_mut().for_each(|a| *a = rng.random_range(-limit..=limit));
            }
            ActionSpace::Continuous { limit, .. } => {
                for a in action {
                    *a = (*a + self.gaussian * limit * normal(rng) as f32).clamp(-limit, limit);
                }
            }
        }
    }
}

/// Who acts in an episode: writes the action for what the environment shows.
pub type Act<'a> = &'a mut dyn FnMut(&mut dyn Env, &mut [f32], &mut Rng) -> Result<(), LearnError>;

/// Episodes in a row that may be lost to a simulation that diverges or a process that dies.
const LOST: u32 = 3;

/// What `attempt` gives; where an episode of `env` is lost it is dropped, said aloud, and tried again.
///
/// # Errors
/// What `attempt` fails with, and with an episode lost after [`LOST`] others in a row.
pub(super) fn insist<T>(
    env: &mut dyn Env,
    mut attempt: impl FnMut(&mut dyn Env) -> Result<T, LearnError>,
) -> Result<T, LearnError> {
    let mut lost = 0;
    loop {
        match attempt(env) {
            Err(error) if error.is_passing() && lost < LOST => {
                lost += 1;
                let name = env.spec().name;
                log::warn!("an episode of {name} is dropped ({lost} in a row): {error}");
            }
            found => return found,
        }
    }
}

/// One episode towards `goal`, until it ends, the horizon is there or, when `cut`, the task is done.
/// One that is lost is dropped, and another takes its place.
///
/// # Errors
/// The environment or who acts failed.
pub fn episode(
    env: &mut dyn Env,
    goal: &[f32],
    cut: bool,
    rng: &mut Rng,
    act: Act<'_>,
) -> Result<Trajectory, LearnError> {
    insist(env, |env| attempt(env, goal, cut, rng, act))
}

fn attempt(
    env: &mut dyn Env,
    goal: &[f32],
    cut: bool,
    rng: &mut Rng,
    act: Act<'_>,
) -> Result<Trajectory, LearnError> {
    env.reset(goal, rng)?;
    let (spec, goal) = (env.spec().clone(), env.desired_goal().to_vec());
    let (mut observations, mut goals) =
        (vec![env.observation().to_vec()], vec![env.achieved_goal().to_vec()]);
    let (mut actions, mut action) = (Vec::new(), vec![0.0; spec.actions.size()]);
    for _ in 0..spec.horizon {
        act(env, &mut action, rng)?;
        env.step(&action)?;
        actions.push(action.clone());
        observations.push(env.observation().to_vec());
        goals.push(env.achieved_goal().to_vec());
        if env.ended() || (cut && env.succeeded()) {
            break;
        }
    }
    Ok(Trajectory::new(&observations, &goals, &actions, &goal)?)
}
