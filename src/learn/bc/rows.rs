//! Demonstrated transitions as rows of numbers, relabelled and weighted.

use super::{BcSettings, Head};
use crate::goal::{ReplayBuffer, Trajectory};
use crate::learn::LearnError;
use crate::learn::normalizer::Normalizer;
use crate::rng::Rng;

/// Rows for a loss, row-major.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Observation and goal, `[n, o + g]`.
    pub x: Vec<f32>,
    /// `[n, a]`.
    pub target: Vec<f32>,
    /// `[n]`.
    pub weight: Vec<f32>,
}

impl Rows {
    /// Draws `n` new rows.
    ///
    /// # Errors
    /// There is nothing to draw from.
    pub fn draw(
        &mut self,
        n: usize,
        from: &ReplayBuffer,
        settings: &BcSettings,
        head: &Head,
        rng: &mut Rng,
    ) -> Result<(), LearnError> {
        [&mut self.x, &mut self.target, &mut self.weight].into_iter().for_each(Vec::clear);
        for _ in 0..n {
            let empty = || "every goal of the demonstrations is achieved already".to_owned();
            let sample = from.sample(&settings.hindsight, rng);
            let sample = sample.ok_or_else(|| LearnError::NoData(empty()))?;
            self.x.extend_from_slice(sample.trajectory.observation(sample.t));
            self.x.extend_from_slice(sample.goal);
            head.target(sample.trajectory.action(sample.t), &mut self.target);
            self.weight.push(settings.horizon.map_or(1.0, |gamma| sample.weight(gamma)));
        }
        Ok(())
    }
}

/// Means, then deviations (see [`Normalizer::vector`]) of observations and, where there are goals, of
/// goals: those achieved and those wished for, which are what hindsight draws from.
pub(super) fn normalizer(demonstrations: &[Trajectory]) -> Vec<f32> {
    let size = |row: fn(&Trajectory) -> &[f32]| demonstrations.first().map_or(0, |d| row(d).len());
    let mut observations = Normalizer::new(size(|d| d.observation(0)));
    let mut goals = Normalizer::new(size(Trajectory::desired_goal));
    for demonstration in demonstrations {
        goals.observe(demonstration.desired_goal());
        for t in 0..=demonstration.last() {
            observations.observe(demonstration.observation(t));
            goals.observe(demonstration.achieved_goal(t));
        }
    }
    let (observations, goals) = (observations.vector(), goals.vector());
    let [o, g] = [&observations, &goals].map(|vector| vector.split_at(vector.len() / 2));
    [o.0, g.0, o.1, g.1].concat()
}
