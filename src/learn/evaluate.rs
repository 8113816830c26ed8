//! Success rates with their intervals, and trials that give them.

use serde::{Deserialize, Serialize};

use super::LearnError;
use super::rollout::{Act, Actor, Noise};
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
    let space = env.spec().actions;
    let mut act = |env: &mut dyn Env, action: &mut [f32], rng: &mut Rng| {
        actor.act(env, action, rng)?;
        noise.disturb(space, action, rng);
        Ok(())
    };
    run_by(env, &mut act, goals, seed)
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
    run_by(env, &mut act, goals, seed)
}

fn run_by(
    env: &mut dyn Env,
    act: Act<'_>,
    goals: &[Vec<f32>],
    seed: u64,
) -> Result<Trials, LearnError> {
    let mut trials = Trials::default();
    for (i, goal) in goals.iter().enumerate() {
        // Past the goals' own items.
        let mut rng = rng::item(seed, Stream::HeldOut, (goals.len() + i) as u64);
        let trial = trial(env, act, goal, &mut rng)?;
        for (rate, success) in [
            (&mut trials.any, trial.any),
            (&mut trials.last, trial.last),
            (&mut trials.held, trial.held),
        ] {
            rate.n += 1;
            rate.successes += usize::from(success);
        }
        trials.mean_return += trial.gained / goals.len() as f64;
    }
    Ok(trials)
}

struct Trial {
    any: bool,
    last: bool,
    held: bool,
    gained: f64,
}

fn trial(
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
