//! Demonstrations of an environment's own expert, at its best or disturbed.

use super::LearnError;
use super::rollout::{Noise, episode};
use crate::env::Env;
use crate::goal::Trajectory;
use crate::rng::{Rng, Stream, seed_from, stream};
use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

/// What is demonstrated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemonstrationSettings {
    /// Episodes of the expert.
    pub episodes: usize,
    /// Deviation of the noise on the expert's actions, in units of the largest action.
    pub noise: f32,
    /// Share of the expert's actions drawn at random.
    pub random: f64,
    /// Whether an episode with a goal ends there; else the expert goes on to the horizon, which shows how
    /// to stay.
    pub cut: bool,
}

impl Default for DemonstrationSettings {
    fn default() -> Self {
        Self { episodes: 20, noise: 0.0, random: 0.0, cut: true }
    }
}

impl DemonstrationSettings {
    /// The demonstrations of a seed: the same for every method.
    ///
    /// # Errors
    /// As [`collect`].
    pub fn collect(&self, env: &mut dyn Env, seed: u64) -> Result<Vec<Trajectory>, LearnError> {
        let noise = Noise { gaussian: self.noise, random: self.random };
        let rng = &mut stream(seed, Stream::Demonstrations);
        let cut = self.cut && env.spec().goal > 0;
        episodes(env, self.episodes, noise, cut, rng)
    }
}

/// Episodes of the expert; where there are goals they stop when the goal is reached. With `noise` the
/// expert is sub-optimal: Gaussian noise on its actions, and random actions in their place. The
/// episodes hold the actions that were taken. Episode `i` is the same however many are collected.
///
/// # Errors
/// The environment has no expert, or failed.
pub fn collect(
    env: &mut dyn Env,
    count: usize,
    noise: Noise,
    rng: &mut Rng,
) -> Result<Vec<Trajectory>, LearnError> {
    let cut = env.spec().goal > 0;
    episodes(env, count, noise, cut, rng)
}

fn episodes(
    env: &mut dyn Env,
    count: usize,
    noise: Noise,
    cut: bool,
    rng: &mut Rng,
) -> Result<Vec<Trajectory>, LearnError> {
    let space = env.spec().actions;
    let mut act = |env: &mut dyn Env, action: &mut [f32], rng: &mut Rng| {
        action.copy_from_slice(&env.expert()?);
        noise.disturb(space, action, rng);
        Ok(())
    };
    let one = |_| {
        let mut rng = Rng::seed_from_u64(seed_from(rng));
        let goal = env.sample_goal(&mut rng);
        episode(env, &goal, cut, &mut rng, &mut act)
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::named;

    fn steps(noise: Noise) -> usize {
        let mut env = named("four_rooms").unwrap();
        let mut rng = stream(1, Stream::Demonstrations);
        let found = collect(env.as_mut(), 10, noise, &mut rng).unwrap();
        found.iter().map(Trajectory::last).sum()
    }

    #[test]
    fn a_disturbed_expert_needs_longer() {
        let best = steps(Noise::default());
        let disturbed = steps(Noise { gaussian: 0.5, random: 0.5 });
        assert!(disturbed as f64 > 1.3 * best as f64, "{best} {disturbed}");
    }

    #[test]
    fn an_expert_that_is_not_cut_goes_on_to_the_horizon() {
        let mut env = named("four_rooms").unwrap();
        let horizon = env.spec().horizon;
        let mut shortest = |cut| {
            let settings = DemonstrationSettings { episodes: 5, cut, ..Default::default() };
            let shown = settings.collect(env.as_mut(), 1).unwrap();
            shown.iter().map(Trajectory::last).min()
        };
        assert!(shortest(true) < Some(horizon));
        assert_eq!(shortest(false), Some(horizon));
    }

    #[test]
    fn fewer_demonstrations_are_the_first_of_more() {
        let mut env = named("cart_pole").unwrap();
        let mut some = |n| {
            let mut rng = stream(2, Stream::Demonstrations);
            collect(env.as_mut(), n, Noise { gaussian: 0.0, random: 0.2 }, &mut rng).unwrap()
        };
        assert_eq!(some(2), some(4)[..2]);
    }
}
