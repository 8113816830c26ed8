//! Success rates with their intervals, and trials that give them.

use serde::{Deserialize, Serialize};

use super::LearnError;
use super::beside::side_by_side;
use super::rollout::{Act, Actor, Noise, insist};
use crate::env::Env;
use crate::rng::{self, Rng, Stream};

/// A success rate over `n` trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Successes.
    pub successes: usize,
    /// Trials.
    pub n: usize,
}

impl Rate {
    /// Successes per trial; 0 without trials.
    pub fn value(self) -> f64 {
        if self.n == 0 { 0.0 } else { self.successes as f64 / self.n as f64 }
    }

    /// The 95 % interval of the rate (Wilson, 1927).
    pub fn wilson(self) -> (f64, f64) {
        const Z: f64 = 1.959_963_984_540_054;
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.n as f64, self.value());
        let denominator = 1.0 + Z * Z / n;
        let centre = (p + Z * Z / (2.0 * n)) / denominator;
        let half = Z / denominator * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.wilson();
        write!(f, "{:.1} % [{:.1}, {:.1}]", 100.0 * self.value(), 100.0 * low, 100.0 * high)
    }
}

/// What a policy reached. The three rates differ much: a policy may pass through a goal without
/// stopping there.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Trials {
    /// Success ([`Env::succeeded`]) at any time.
    pub any: Rate,
    /// At the last step.
    pub last: Rate,
    /// In each of the last tenth of the steps.
    pub held: Rate,
    /// Mean sum of the task's own rewards.
    pub mean_return: f64,
}

/// The goals to evaluate on: those that the task fixes, else `count` that no training draws.
pub fn goals(env: &dyn Env, count: usize, seed: u64) -> Vec<Vec<f32>> {
    let fixed = env.evaluation_goals();
    let draw = |i| env.sample_goal(&mut rng::item(seed, Stream::HeldOut, i));
    if fixed.is_empty() { (0..count as u64).map(draw).collect() } else { fixed }
}

/// One episode for each goal, up to the horizon; start states are the same for the same `seed`.
///
/// # Errors
/// The environment or the policy failed.
pub fn run(
    env: &mut dyn Env,
    actor: &mut Actor,
    goals: &[Vec<f32>],
    noise: Noise,
    seed: u64,
) -> Result<Trials, LearnError> {
    let trial = |i| trial(env, &mut acting(actor, noise), goals, i, seed);
    Ok(counted(&(0..goals.len()).map(trial).collect::<Result<Vec<_>, _>>()?))
}

/// The same of the environment's own expert.
///
/// # Errors
/// The environment failed, or has no expert.
pub fn expert(env: &mut dyn Env, goals: &[Vec<f32>], seed: u64) -> Result<Trials, LearnError> {
    let mut act = |env: &mut dyn Env, action: &mut [f32], _: &mut Rng| {
        action.copy_from_slice(&env.expert()?);
        Ok(())
    };
    let trial = |i| trial(env, &mut act, goals, i, seed);
    Ok(counted(&(0..goals.len()).map(trial).collect::<Result<Vec<_>, _>>()?))
}

/// The same without noise in several environments, each with an actor of its own, side by side; the
/// result is that of one.
///
/// # Errors
/// As [`run`], or an actor cannot be made.
pub fn beside(
    envs: &mut [&mut dyn Env],
    actor: &(dyn Fn() -> Result<Actor, LearnError> + Sync),
    goals: &[Vec<f32>],
    seed: u64,
) -> Result<Trials, LearnError> {
    let found = side_by_side(envs, actor, goals.len(), &|env, actor, i| {
        trial(env, &mut acting(actor, Noise::default()), goals, i, seed)
    })?;
    Ok(counted(&found))
}

fn counted(found: &[Trial]) -> Trials {
    let rate = |success: fn(&Trial) -> bool| {
        let successes = found.iter().filter(|trial| success(trial)).count();
        Rate { successes, n: found.len() }
    };
    let gained = found.iter().map(|trial| trial.gained / found.len() as f64);
    Trials {
        any: rate(|trial| trial.any),
        last: rate(|trial| trial.last),
        held: rate(|trial| trial.held),
        mean_return: gained.fold(0.0, |sum, gained| sum + gained),
    }
}

struct Trial {
    any: bool,
    last: bool,
    held: bool,
    gained: f64,
}

/// A policy, disturbed.
fn acting(
    actor: &mut Actor,
    noise: Noise,
) -> impl FnMut(&mut dyn Env, &mut [f32], &mut Rng) -> Result<(), LearnError> {
    move |env, action, rng| {
        actor.act(env, action, rng)?;
        noise.disturb(env.spec().actions, action, rng);
        Ok(())
    }
}

/// The trial of goal `i`. One that is lost is made again as it was: trials are compared with others.
fn trial(
    env: &mut dyn Env,
    act: Act<'_>,
    goals: &[Vec<f32>],
    i: usize,
    seed: u64,
) -> Result<Trial, LearnError> {
    // Past the goals' own items.
    let rng = rng::item(seed, Stream::HeldOut, (goals.len() + i) as u64);
    insist(env, |env| attempt(env, act, &goals[i], &mut rng.clone()))
}

fn attempt(
    env: &mut dyn Env,
    act: Act<'_>,
    goal: &[f32],
    rng: &mut Rng,
) -> Result<Trial, LearnError> {
    env.reset(goal, rng)?;
    let spec = env.spec().clone();
    let mut action = vec![0.0; spec.actions.size()];
    // Steps in a row that end in success.
    let (mut any, mut row, mut gained) = (false, 0, 0.0);
    for _ in 0..spec.horizon {
        act(env, &mut action, rng)?;
        env.step(&action)?;
        gained += f64::from(env.reward());
        row = if env.succeeded() { row + 1 } else { 0 };
        any |= row > 0;
        if env.ended() {
            break;
        }
    }
    Ok(Trial { any, last: row > 0, held: row >= spec.horizon.div_ceil(10), gained })
}

/// The middle value; nothing of nothing.
pub fn median(mut values: Vec<f32>) -> Option<f32> {
    values.sort_by(f32::total_cmp);
    let n = values.len();
    if n == 0 {
        return None;
    }
    Some(if n % 2 == 1 { values[n / 2] } else { 0.5 * (values[n / 2 - 1] + values[n / 2]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263 and 0 of 20.
    #[test]
    fn the_interval_is_the_published_one() {
        for (rate, expected) in [
            (Rate { successes: 81, n: 263 }, (0.2553, 0.3662)),
            (Rate { successes: 0, n: 20 }, (0.0, 0.1611)),
        ] {
            let (low, high) = rate.wilson();
            assert!((low - expected.0).abs() < 1e-4 && (high - expected.1).abs() < 1e-4, "{rate}");
        }
    }

    #[test]
    fn the_median_of_an_even_count_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }
}
