//! Episodes of the policy as it is now, and what they were worth.

use std::ops::Range;

use super::distribution::Distribution;
use crate::engine::Session;
use crate::env::Env;
use crate::learn::LearnError;
use crate::rng::Rng;

/// How observations and goals are standardised: [`Normalizer::vector`] over the demonstrations.
///
/// [`Normalizer::vector`]: crate::learn::normalizer::Normalizer::vector
pub(super) struct Standard(pub Vec<f32>);

impl Standard {
    /// Numbers in a row `(s, g)`.
    pub fn size(&self) -> usize {
        self.0.len() / 2
    }

    /// Appends `(s, g)`, standardised as `normalizer::apply` does.
    pub fn row(&self, observation: &[f32], goal: &[f32], out: &mut Vec<f32>) {
        let (mean, deviation) = self.0.split_at(self.size());
        let both = observation.iter().chain(goal).zip(mean).zip(deviation);
        out.extend(both.map(|((x, mean), deviation)| ((x - mean) / deviation).clamp(-5.0, 5.0)));
    }
}

/// Whole episodes, step by step, `N` in all.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    /// What the policy saw: `(s, g)`, `[N, n]`.
    pub seen: Vec<f32>,
    /// What it did: `[N, k]`.
    pub actions: Vec<f32>,
    /// `log pi(a | s, g)` then, `[N]`.
    pub log_probs: Vec<f32>,
    /// What the discriminator judges: `(s, g, a)`, `[N, n + k]`.
    pub judged: Vec<f32>,
    /// One behind the other.
    pub episodes: Vec<Episode>,
    /// What was seen after each episode's last step, `[episodes, n]`.
    pub last_seen: Vec<f32>,
}

/// A stretch of steps.
#[derive(Debug)]
pub(super) struct Episode {
    /// Its steps.
    pub steps: Range<usize>,
    /// Whether it ended by itself: the time limit is no end.
    pub ended: bool,
    /// Sum of the task's own rewards.
    pub gained: f64,
}

/// Who acts: the network's session, `(s, g)` `[n]` to `[k]`, and the logarithms of its deviations.
pub(super) struct Pi<'a> {
    pub session: Session,
    pub log_std: &'a [f32],
    pub distribution: Distribution,
    pub standard: &'a Standard,
}

impl Rollouts {
    /// Steps in all.
    pub fn len(&self) -> usize {
        self.log_probs.len()
    }

    /// Adds an episode. It ends by itself or, where there are goals, when its goal is reached.
    pub fn collect(
        &mut self,
        env: &mut dyn Env,
        pi: &mut Pi<'_>,
        rng: &mut Rng,
    ) -> Result<(), LearnError> {
        let goal = env.sample_goal(rng);
        env.reset(&goal, rng)?;
        let horizon = env.spec().horizon;
        let (start, k) = (self.len(), pi.distribution.width());
        let mut action = vec![0.0; env.spec().actions.size()];
        let (mut row, mut y) = (vec![0.0; k], vec![0.0; k]);
        let (mut ended, mut gained) = (false, 0.0);
        while !ended && self.len() - start < horizon {
            let from = self.seen.len();
            pi.standard.row(env.observation(), env.desired_goal(), &mut self.seen);
            pi.session.run_into(&[&self.seen[from..]], &mut y)?;
            self.log_probs.push(pi.distribution.sample(&y, pi.log_std, rng, &mut row));
            self.actions.extend_from_slice(&row);
            pi.distribution.action(&row, &mut action);
            self.judged.extend_from_slice(&self.seen[from..]);
            pi.distribution.row(&action, &mut self.judged);
            env.step(&action)?;
            gained += f64::from(env.reward());
            ended = env.ended() || env.succeeded();
        }
        pi.standard.row(env.observation(), env.desired_goal(), &mut self.last_seen);
        self.episodes.push(Episode { steps: start..self.len(), ended, gained });
        Ok(())
    }

    /// Advantages by generalised estimation (Schulman et al. 2016, equation 16), and the values that
    /// a critic should have said:
    ///
    /// ```text
    /// delta_t = r_t + gamma V(s_t+1) - V(s_t),   A_t = delta_t + gamma lambda A_t+1
    /// ```
    ///
    /// After an end there is nothing more to come; at the time limit there is `last_values`.
    pub fn advantages(
        &self,
        rewards: &[f32],
        values: &[f32],
        last_values: &[f32],
        [gamma, lambda]: [f32; 2],
    ) -> (Vec<f32>, Vec<f32>) {
        let mut advantages = vec![0.0; self.len()];
        for (episode, last) in self.episodes.iter().zip(last_values) {
            let mut next = if episode.ended { 0.0 } else { *last };
            let mut advantage = 0.0;
            for t in episode.steps.clone().rev() {
                let delta = rewards[t] + gamma * next - values[t];
                advantage = delta + gamma * lambda * advantage;
                advantages[t] = advantage;
                next = values[t];
            }
        }
        let targets = advantages.iter().zip(values).map(|(a, v)| a + v).collect();
        (advantages, targets)
    }
}

/// Numbers shifted to mean 0 and scaled to variance 1.
pub(super) fn standardised(mut numbers: Vec<f32>) -> Vec<f32> {
    let n = numbers.len().max(1) as f32;
    let mean = numbers.iter().sum::<f32>() / n;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n;
    numbers.iter_mut().for_each(|x| *x = (*x - mean) / (variance.sqrt() + 1e-8));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollouts(ended: bool) -> Rollouts {
        let episodes = vec![Episode { steps: 0..3, ended, gained: 0.0 }];
        Rollouts { log_probs: vec![0.0; 3], episodes, ..Rollouts::default() }
    }

    #[test]
    fn the_time_limit_goes_on_with_the_last_value_and_an_end_does_not() {
        let (rewards, zeros) = ([1.0, 1.0, 1.0], [0.0; 3]);
        let found = |ended| rollouts(ended).advantages(&rewards, &zeros, &[8.0], [0.5, 1.0]).0;
        assert_eq!(found(true), [1.75, 1.5, 1.0]);
        assert_eq!(found(false), [2.75, 3.5, 5.0]);
    }

    #[test]
    fn lambda_goes_from_one_step_to_the_whole_return() {
        let (rewards, values) = ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]);
        let found = |lambda| rollouts(true).advantages(&rewards, &values, &[0.0], [0.5, lambda]);
        // r + V(next) / 2 - V, and r + r / 2 + r / 4 - V.
        assert_eq!(found(0.0).0, [1.0, -3.0, -27.0]);
        assert_eq!(found(1.0).0, [2.75 - 10.0, 3.5 - 20.0, 3.0 - 30.0]);
        assert_eq!(found(1.0).1, [2.75, 3.5, 3.0]);
    }
}
