//! Episodes, column by column, and samples of them with hindsight goals.

use rand::RngExt as _;

use super::hindsight::{Hindsight, Source};
use super::{Trajectory, TrajectoryError, reached};
use crate::os::{prefetch, read_anywhere};
use crate::rng::Rng;

/// One transition with the goal it is learned with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The episode.
    pub trajectory: Trajectory<&'a [f32]>,
    /// The time, `t < T`.
    pub t: usize,
    /// When this episode achieved the goal; nothing when the goal is the desired one, or another
    /// episode's.
    pub achieved_at: Option<usize>,
    /// The goal, `[g]`.
    pub goal: &'a [f32],
}

impl Sample<'_> {
    /// Whether hindsight put another goal in the desired one's place.
    pub fn relabelled(&self) -> bool {
        !std::ptr::eq(self.goal, self.trajectory.desired_goal())
    }

    /// How many steps from here the goal is achieved, `k`. The wish of a demonstration is achieved
    /// at its end; so, at best, is another episode's goal.
    pub fn horizon(&self) -> usize {
        self.achieved_at.unwrap_or(self.trajectory.last()).abs_diff(self.t)
    }

    /// `gamma^k` of the [`horizon`](Self::horizon) `k`.
    pub fn weight(&self, gamma: f64) -> f32 {
        gamma.powi(self.horizon() as i32) as f32
    }
}

/// Episodes to sample from: their rows stand in one long array, each number once, and what belongs to
/// one time stands together: the processor waits for memory less often than if it were in columns. Goals
/// are drawn with the sample, nothing is relabelled before.
#[derive(Debug, Clone, Default)]
pub struct ReplayBuffer {
    /// `[N + E, o + g + a]`: observation, achieved goal, action. E episodes of N transitions have one
    /// row more each, without an action.
    rows: Vec<f32>,
    /// `[E, g]`.
    desired_goals: Vec<f32>,
    /// `ends[e]` transitions lie before the end of episode `e`.
    ends: Vec<usize>,
    /// The episode of each [`STRIDE`]th transition: few enough numbers to stay in the processor's
    /// caches.
    near: Vec<u32>,
    /// Numbers in an observation, a goal and an action.
    sizes: [usize; 3],
}

/// Transitions between two entries of the table that finds episodes.
const STRIDE: usize = 32;

/// A transition and the place of its goal.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draw {
    /// Its number among all transitions.
    pub transition: usize,
    /// Its episode.
    pub episode: usize,
    /// The row of achieved goals that became its goal; nothing when that is the desired one.
    pub achieved: Option<usize>,
    /// Whether that row is of its own episode.
    own: bool,
}

impl Draw {
    /// The row of its observation and its achieved goal: each episode before it has one row more
    /// than it has transitions.
    pub fn row(&self) -> usize {
        self.transition + self.episode
    }
}

impl ReplayBuffer {
    /// Adds an episode.
    ///
    /// # Errors
    /// Its rows have other sizes than those of the episodes before.
    pub fn push<S: AsRef<[f32]>>(
        &mut self,
        trajectory: &Trajectory<S>,
    ) -> Result<(), TrajectoryError> {
        let found = trajectory.sizes();
        if self.ends.is_empty() {
            self.sizes = found;
        } else if self.sizes != found {
            return Err(TrajectoryError::Sizes { expected: self.sizes, found });
        }
        let (episode, end) = (self.ends.len() as u32, self.transitions() + trajectory.last());
        self.ends.push(end);
        self.near.resize(end.div_ceil(STRIDE), episode);
        append(&mut self.rows, trajectory.view().rows());
        append(&mut self.desired_goals, trajectory.desired_goal());
        Ok(())
    }

    /// Makes room for so many more episodes like those before, so that the rows need not be moved when
    /// they become more. Room that is never used takes no memory.
    pub fn reserve(&mut self, episodes: usize) {
        let known = self.ends.len().max(1);
        for numbers in [&mut self.rows, &mut self.desired_goals] {
            grow(numbers, numbers.len().div_ceil(known).saturating_mul(episodes));
        }
    }

    /// The episode of a transition.
    #[inline]
    fn episode(&self, transition: usize) -> usize {
        let mut episode = self.near[transition / STRIDE] as usize;
        // Episodes are seldom shorter than a stride: a sum, which unlike a branch cannot be foretold wrongly.
        episode += usize::from(self.ends[episode] <= transition);
        while self.ends[episode] <= transition {
            episode += 1;
        }
        episode
    }

    /// How many transitions lie before an episode.
    #[inline]
    fn start(&self, episode: usize) -> usize {
        episode.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// The episodes, in the order that they came in.
    pub fn trajectories(&self) -> impl ExactSizeIterator<Item = Trajectory<&[f32]>> {
        (0..self.ends.len()).map(|episode| self.trajectory(episode))
    }

    /// Episode `episode`, counted from 0.
    fn trajectory(&self, episode: usize) -> Trajectory<&[f32]> {
        let (first, last) = (self.start(episode) + episode, self.last(episode));
        let (width, g) = (self.width(), self.sizes[1]);
        let rows = &self.rows[first * width..(first + last + 1) * width];
        Trajectory::looking(rows, &self.desired_goals[episode * g..][..g], last, self.sizes)
    }

    /// The last time `T` of an episode.
    #[inline]
    fn last(&self, episode: usize) -> usize {
        self.ends[episode] - self.start(episode)
    }

    /// Transitions over all episodes.
    pub fn transitions(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// All numbers, in the order of [`Trajectory::PARTS`]: each part of all episodes, one episode
    /// after the other.
    pub fn columns(&self) -> [Vec<f32>; 4] {
        let mut columns: [Vec<f32>; 4] = Default::default();
        let [observations, achieved_goals, actions, desired_goals] = &mut columns;
        for episode in self.trajectories() {
            for t in 0..=episode.last() {
                observations.extend_from_slice(episode.observation(t));
                achieved_goals.extend_from_slice(episode.achieved_goal(t));
            }
            (0..episode.last()).for_each(|t| actions.extend_from_slice(episode.action(t)));
            desired_goals.extend_from_slice(episode.desired_goal());
        }
        columns
    }

    /// Numbers in an observation, a goal and an action; 0 before the first episode.
    pub fn sizes(&self) -> [usize; 3] {
        self.sizes
    }

    /// Draws one transition, all equally likely, and its goal. Nothing when the buffer is empty, or
    /// when 100 draws in a row had their goal achieved already.
    pub fn sample(&self, hindsight: &Hindsight, rng: &mut Rng) -> Option<Sample<'_>> {
        let draw = self.draw(hindsight, rng)?;
        let own = draw.achieved.filter(|_| draw.own);
        Some(Sample {
            trajectory: self.trajectory(draw.episode),
            t: draw.transition - self.start(draw.episode),
            achieved_at: own.map(|row| row - draw.episode - self.start(draw.episode)),
            goal: self.goal(&draw),
        })
    }

    /// [`sample`](Self::sample) as places.
    #[inline]
    pub(super) fn draw(&self, hindsight: &Hindsight, rng: &mut Rng) -> Option<Draw> {
        if self.ends.is_empty() {
            return None;
        }
        let Some(tolerance) = hindsight.already_achieved else {
            return Some(self.draw_any(hindsight, rng));
        };
        let achieved = |draw: &Draw| {
            let [o, g, _] = self.sizes;
            let now = &self.row_onward(draw.row())[o..o + g];
            draw.achieved.is_some() && reached(now, self.goal(draw), tolerance)
        };
        (0..100).map(|_| self.draw_any(hindsight, rng)).find(|draw| !achieved(draw))
    }

    #[inline]
    fn draw_any(&self, hindsight: &Hindsight, rng: &mut Rng) -> Draw {
        let transition = rng.random_range(0..self.transitions());
        let episode = self.episode(transition);
        let start = self.start(episode);
        let source = if rng.random_bool(hindsight.probability.clamp(0.0, 1.0)) {
            hindsight.strategy.draw(transition - start, self.last(episode), rng)
        } else {
            Source::Desired
        };
        let (achieved, own) = match source {
            Source::Desired => (None, false),
            Source::Same(at) => (Some(start + episode + at), true),
            Source::Anywhere => {
                let other = rng.random_range(0..self.transitions());
                (Some(other + self.episode(other)), false)
            }
        };
        Draw { transition, episode, achieved, own }
    }

    /// Numbers in a row.
    #[inline]
    fn width(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// All numbers from a row's observation on; its achieved goal and its action follow.
    #[inline]
    pub(super) fn row_onward(&self, row: usize) -> &[f32] {
        &self.rows[row * self.width()..]
    }

    /// All numbers from a draw's goal on.
    #[inline]
    pub(super) fn goal_onward(&self, draw: &Draw) -> &[f32] {
        match draw.achieved {
            Some(row) => &self.rows[row * self.width() + self.sizes[0]..],
            None => &self.desired_goals[draw.episode * self.sizes[1]..],
        }
    }

    /// Has the processor fetch what a draw will be copied from.
    #[inline]
    pub(super) fn prefetch(&self, draw: &Draw) {
        let [o, g, a] = self.sizes;
        prefetch(&self.row_onward(draw.row())[..2 * (o + g) + a]);
        prefetch(self.goal(draw));
    }

    #[inline]
    fn goal(&self, draw: &Draw) -> &[f32] {
        &self.goal_onward(draw)[..self.sizes[1]]
    }
}

/// Appends to a long array.
fn append(array: &mut Vec<f32>, numbers: &[f32]) {
    if array.capacity() - array.len() < numbers.len() {
        grow(array, array.len() + numbers.len());
    }
    array.extend_from_slice(numbers);
}

/// Makes room for `more` numbers, if there is memory for them, by a copy: pages that are moved stay
/// small.
fn grow(array: &mut Vec<f32>, more: usize) {
    let mut larger = Vec::new();
    if larger.try_reserve_exact(array.len().saturating_add(more)).is_ok() {
        read_anywhere(&mut larger);
        larger.append(array);
        *array = larger;
    }
}

/// Demonstrations and own attempts that share batches.
#[derive(Debug, Clone, Copy)]
pub struct Mix<'a> {
    /// Episodes that reached what they wished for.
    pub demonstrations: &'a ReplayBuffer,
    /// The robot's own episodes, failures included; may be empty.
    pub attempts: &'a ReplayBuffer,
}

impl Mix<'_> {
    /// How many of a batch's rows are demonstrations: this share, to the nearest row; all or none
    /// where there is nothing else.
    pub fn demonstrated(&self, rows: usize, share: f64) -> usize {
        let share = match (self.demonstrations.transitions(), self.attempts.transitions()) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            _ => share.clamp(0.0, 1.0),
        };
        (share * rows as f64).round() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Strategy, reward};
    use super::*;
    use crate::rng::{Stream, stream};
    use proptest::prelude::*;

    /// Achieved goals that name their episode and time.
    fn buffer(lengths: &[usize]) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::default();
        for (e, last) in lengths.iter().enumerate() {
            let rows: Vec<[f32; 2]> = (0..=*last).map(|t| [e as f32, t as f32]).collect();
            let actions = vec![[0.5f32]; *last];
            buffer.push(&Trajectory::new(&rows, &rows, &actions, &[-1.0, -1.0]).unwrap()).unwrap();
        }
        buffer
    }

    proptest! {
        #[test]
        fn a_relabelled_goal_was_achieved_later_in_the_same_episode_and_is_rewarded_there(
            lengths in prop::collection::vec(1usize..40, 1..6), seed in 0u64..10_000,
        ) {
            let buffer = buffer(&lengths);
            let mut rng = stream(seed, Stream::Training);
            for strategy in [Strategy::Final, Strategy::Future, Strategy::Geometric { gamma: 0.9 }] {
                let hindsight = Hindsight { strategy, ..Hindsight::default() };
                let sample = buffer.sample(&hindsight, &mut rng).unwrap();
                let at = sample.achieved_at.unwrap();
                prop_assert!(at > sample.t && at <= sample.trajectory.last());
                prop_assert_eq!(sample.goal, sample.trajectory.achieved_goal(at));
                prop_assert_eq!(reward(sample.trajectory.achieved_goal(at), sample.goal, 0.1), 1.0);
            }
        }

        #[test]
        fn the_probability_is_the_share_of_relabelled_samples(p in 0.0..=1.0f64) {
            let buffer = buffer(&[10, 20]);
            let mut rng = stream(9, Stream::Training);
            let hindsight = Hindsight { probability: p, ..Hindsight::default() };
            let n = 2000;
            let relabelled = (0..n)
                .filter(|_| buffer.sample(&hindsight, &mut rng).unwrap().achieved_at.is_some())
                .count();
            prop_assert!((relabelled as f64 / f64::from(n) - p).abs() < 0.06);
        }
    }

    #[test]
    fn every_transition_is_equally_likely() {
        let (buffer, mut rng) = (buffer(&[1, 3]), stream(2, Stream::Training));
        let hindsight = Hindsight { strategy: Strategy::None, ..Hindsight::default() };
        let mut counts = [[0u32; 3]; 2];
        for _ in 0..40_000 {
            let sample = buffer.sample(&hindsight, &mut rng).unwrap();
            counts[sample.trajectory.observation(0)[0] as usize][sample.t] += 1;
        }
        let seen = [counts[0][0], counts[1][0], counts[1][1], counts[1][2]];
        assert!(seen.iter().all(|c| c.abs_diff(10_000) < 400), "{seen:?}");
    }

    #[test]
    fn goals_achieved_already_are_left_out_when_asked_for() {
        let mut buffer = ReplayBuffer::default();
        let still = vec![[0.3f32; 2]; 11];
        buffer
            .push(&Trajectory::new(&still, &still, &[[0.0f32]; 10], &[9.0, 9.0]).unwrap())
            .unwrap();
        let mut rng = stream(3, Stream::Training);
        let filtered = Hindsight { already_achieved: Some(0.02), ..Hindsight::default() };
        assert!(buffer.sample(&filtered, &mut rng).is_none());
        assert!(buffer.sample(&Hindsight::default(), &mut rng).is_some());
    }
}
