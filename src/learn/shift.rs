//! Why behaviour cloning fails: a policy's errors lead it where the expert never was, and there its
//! errors are larger.
//!
//! ```text
//! on the expert's states   e*(t) = E over s_t ~ d_t(expert) of |pi(s_t) - pi*(s_t)|
//! on its own states        e(t)  = E over s_t ~ d_t(pi)     of |pi(s_t) - pi*(s_t)|
//! drift                    d(t)  = E over s_t ~ d_t(pi)     of min over t' of |s_t - s*_t'|
//! ```
//! Cloning makes `e*` small and says nothing of `e`: one that errs with probability `epsilon` on
//! `d(expert)` may cost `epsilon T^2` over `T` steps (Ross & Bagnell 2010, theorem 2.1). A method
//! that learns on its own states, such as GAIL, is held to `e`.
//!
//! All of it is measured on real episodes: the expert is asked at every state that a policy visits.

use super::LearnError;
use super::rollout::Actor;
use crate::env::{ActionSpace, Env, EnvSpec};
use crate::rng::{self, Rng, Stream};

/// The mean of a number at each time, over the episodes that still went on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OverTime {
    sums: Vec<f64>,
    counts: Vec<usize>,
}

impl OverTime {
    fn add(&mut self, t: usize, value: f32) {
        if self.sums.len() <= t {
            self.sums.resize(t + 1, 0.0);
            self.counts.resize(t + 1, 0);
        }
        self.sums[t] += f64::from(value);
        self.counts[t] += 1;
    }

    /// The mean at each time, from 0.
    pub fn means(&self) -> impl Iterator<Item = f64> {
        self.sums.iter().zip(&self.counts).map(|(sum, n)| sum / (*n).max(1) as f64)
    }

    /// How many episodes each mean is of.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The mean over all times and episodes.
    pub fn mean(&self) -> f64 {
        self.sums.iter().sum::<f64>() / self.counts.iter().sum::<usize>().max(1) as f64
    }
}

/// What one policy does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// `e*(t)`, in shares of the largest action; of choices, the share that differs.
    pub error_on_expert: OverTime,
    /// `e(t)`, in the same unit.
    pub error_on_own: OverTime,
    /// `d(t)` to the expert's states of the same goal and start, in deviations of the expert's
    /// states.
    pub drift: OverTime,
    /// The first two numbers of every observation.
    pub states: Vec<[f32; 2]>,
    /// Episodes that reached their goal.
    pub reached: usize,
}

/// The expert's states, and what policies do there and elsewhere.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shift {
    /// The first two numbers of every observation of the expert.
    pub expert: Vec<[f32; 2]>,
    /// Episodes of each.
    pub episodes: usize,
    /// The policies, in their order.
    pub policies: Vec<Profile>,
}

/// Runs the expert and each policy once from the same start to each goal. Episodes end as those of
/// the environment do, and where the goal is reached.
///
/// # Errors
/// The environment has no expert, or it or a policy failed.
pub fn measure(
    env: &mut dyn Env,
    policies: &mut [(&str, Actor)],
    goals: &[Vec<f32>],
    seed: u64,
) -> Result<Shift, LearnError> {
    let profile =
        |(name, _): &(&str, Actor)| Profile { name: (*name).into(), ..Profile::default() };
    let mut profiles: Vec<Profile> = policies.iter().map(profile).collect();
    let start = |i: usize| rng::item(seed, Stream::HeldOut, (goals.len() + i) as u64);
    // Of policies that draw their actions.
    let mut draws = rng::stream(seed, Stream::Exploration);
    let mut paths = Vec::new();
    for (i, goal) in goals.iter().enumerate() {
        let mut path = Vec::new();
        episode(env, goal, &mut start(i), |env, t, expert| {
            path.push(env.observation().to_vec());
            let mut action = vec![0.0; expert.len()];
            for (profile, (_, actor)) in profiles.iter_mut().zip(policies.iter_mut()) {
                actor.act(env, &mut action, &mut draws)?;
                profile.error_on_expert.add(t, error(env.spec(), &action, expert));
            }
            Ok(expert.to_vec())
        })?;
        paths.push(path);
    }
    let unit = deviations(&paths);
    for (profile, (_, actor)) in profiles.iter_mut().zip(policies.iter_mut()) {
        for (i, goal) in goals.iter().enumerate() {
            let arrived = episode(env, goal, &mut start(i), |env, t, expert| {
                let mut action = vec![0.0; expert.len()];
                actor.act(env, &mut action, &mut draws)?;
                profile.error_on_own.add(t, error(env.spec(), &action, expert));
                profile.drift.add(t, nearest(env.observation(), &paths[i], &unit));
                profile.states.push(first_two(env.observation()));
                Ok(action)
            })?;
            profile.reached += usize::from(arrived);
        }
    }
    let expert = paths.iter().flatten().map(|state| first_two(state)).collect();
    Ok(Shift { expert, episodes: goals.len(), policies: profiles })
}

/// One episode; `act` gets the time and the expert's action and gives the action taken. Whether the
/// goal was reached.
fn episode(
    env: &mut dyn Env,
    goal: &[f32],
    rng: &mut Rng,
    mut act: impl FnMut(&dyn Env, usize, &[f32]) -> Result<Vec<f32>, LearnError>,
) -> Result<bool, LearnError> {
    env.reset(goal, rng)?;
    for t in 0..env.spec().horizon {
        let expert = env.expert()?;
        let action = act(env, t, &expert)?;
        env.step(&action)?;
        if env.succeeded() {
            return Ok(true);
        }
        if env.ended() {
            break;
        }
    }
    Ok(false)
}

/// How far an action is from the expert's.
fn error(spec: &EnvSpec, action: &[f32], expert: &[f32]) -> f32 {
    match spec.actions {
        ActionSpace::Discrete { .. } => f32::from(action != expert),
        ActionSpace::Continuous { limit, .. } => {
            let off = |(a, e): (&f32, &f32)| ((a.clamp(-limit, limit) - e) / limit).powi(2);
            action.iter().zip(expert).map(off).sum::<f32>().sqrt()
        }
    }
}

/// The distance of a state to the nearest of a path, each number in its unit.
fn nearest(state: &[f32], path: &[Vec<f32>], unit: &[f32]) -> f32 {
    let squares = |other: &Vec<f32>| -> f32 {
        state.iter().zip(other).zip(unit).map(|((a, b), unit)| ((a - b) / unit).powi(2)).sum()
    };
    path.iter().map(squares).fold(f32::INFINITY, f32::min).sqrt()
}

/// The standard deviation of each number of all states.
fn deviations(paths: &[Vec<Vec<f32>>]) -> Vec<f32> {
    let size = paths.iter().flatten().next().map_or(0, Vec::len);
    let mut seen = super::normalizer::Normalizer::new(size);
    paths.iter().flatten().for_each(|state| seen.observe(state));
    seen.vector().split_off(size)
}

fn first_two(state: &[f32]) -> [f32; 2] {
    [0, 1].map(|i| state.get(i).copied().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::env::FourRooms;
    use crate::onnx::{Builder, Dim, Graph, Tensor};
    use crate::policy::tensor;

    /// Always the same action.
    fn constant(action: [f32; 2]) -> Graph {
        let mut b = Builder::new();
        let x = b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(2)]);
        b.input(tensor::DESIRED_GOAL, &[Dim::Batch, Dim::Fixed(2)]);
        let none = b.parameter("none", Tensor::zeros([2, 2]));
        let action = b.parameter("action_bias", Tensor::new([2], action).unwrap());
        let y = b.gemm(x, none, action);
        b.output(tensor::ACTION, y);
        b.finish().unwrap()
    }

    /// The expert walks straight left; so does one policy, with an error that the walls let grow into
    /// another room.
    #[test]
    fn a_policy_that_drifts_errs_more_on_its_own_states_than_on_the_experts() {
        let mut env = FourRooms::new();
        let space = env.spec().actions;
        let actor = |action| Actor::new(&Engine::tract(), &constant(action), space).unwrap();
        let mut policies = [("straight", actor([-1.0, 0.0])), ("drifting", actor([-1.0, -0.3]))];
        let goals = vec![vec![-7.0, 0.0]; 3];
        let shift = measure(&mut env, &mut policies, &goals, 0).unwrap();
        let [straight, drifting] = &shift.policies[..] else { panic!() };
        assert!(straight.error_on_own.mean() < 1e-4 && straight.drift.mean() < 1e-4);
        assert_eq!((straight.reached, drifting.reached, shift.episodes), (3, 0, 3));
        assert!((drifting.error_on_expert.mean() - 0.3).abs() < 1e-4);
        assert!(drifting.error_on_own.mean() > 0.6, "{}", drifting.error_on_own.mean());
        let drift: Vec<f64> = drifting.drift.means().take(20).collect();
        assert!(drift.is_sorted() && drift[0] < 1e-6 && drift[19] > 0.1, "{drift:?}");
        assert_eq!(drifting.error_on_own.counts(), vec![3; 300]);
        assert_eq!(shift.expert.len(), straight.states.len());
    }
}
