//! Episodes as rows of numbers, and samples of them with hindsight goals.

use rand::RngExt as _;

use super::hindsight::{Hindsight, Source};
use super::reached;
use crate::rng::Rng;

/// Why an episode cannot be learned from.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrajectoryError {
    /// Rows of different length, or too few.
    #[error(
        "expected T+1 observations and goals and T actions with T >= 1, found {observations}, {goals} and {actions}"
    )]
    Shape {
        /// Observation rows.
        observations: usize,
        /// Achieved-goal rows.
        goals: usize,
        /// Action rows.
        actions: usize,
    },
    /// A number is not finite.
    #[error("a number at time {0} is not finite")]
    NotFinite(usize),
}

/// One episode: rows for the times `0 ..= T`, actions for `0 .. T`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trajectory {
    /// `[T+1, o]`.
    observations: Vec<f32>,
    /// `[T+1, g]`.
    achieved_goals: Vec<f32>,
    /// `[T, a]`.
    actions: Vec<f32>,
    /// `[g]`.
    desired_goal: Vec<f32>,
    o: usize,
    a: usize,
}

impl Trajectory {
    /// Checks and keeps an episode's rows: `observations [T+1][o]`, `achieved_goals [T+1][g]`,
    /// `actions [T][a]`, `desired_goal [g]`.
    ///
    /// # Errors
    /// The counts do not fit, or a number is not finite.
    pub fn new(
        observations: &[impl AsRef<[f32]>],
        achieved_goals: &[impl AsRef<[f32]>],
        actions: &[impl AsRef<[f32]>],
        desired_goal: &[f32],
    ) -> Result<Self, TrajectoryError> {
        let row = |rows: &[f32]| rows.len();
        let (o, g) = (observations.first().map_or(0, |r| row(r.as_ref())), desired_goal.len());
        let a = actions.first().map_or(0, |r| row(r.as_ref()));
        let fits = !actions.is_empty()
            && observations.len() == actions.len() + 1
            && achieved_goals.len() == observations.len()
            && observations.iter().all(|r| r.as_ref().len() == o)
            && achieved_goals.iter().all(|r| r.as_ref().len() == g)
            && actions.iter().all(|r| r.as_ref().len() == a);
        if !fits {
            return Err(TrajectoryError::Shape {
                observations: observations.len(),
                goals: achieved_goals.len(),
                actions: actions.len(),
            });
        }
        let finite = |r: &[f32]| r.iter().all(|x| x.is_finite());
        for t in 0..observations.len() {
            let action = actions.get(t).is_none_or(|r| finite(r.as_ref()));
            if !(finite(observations[t].as_ref()) && finite(achieved_goals[t].as_ref()) && action) {
                return Err(TrajectoryError::NotFinite(t));
            }
        }
        Ok(Self {
            observations: flat(observations),
            achieved_goals: flat(achieved_goals),
            actions: flat(actions),
            desired_goal: desired_goal.to_vec(),
            o,
            a,
        })
    }

    /// What [`parts`](Self::parts) are.
    pub const PARTS: [&str; 4] = ["observations", "achieved_goals", "actions", "desired_goal"];

    /// All its numbers: observations `[T+1, o]`, achieved goals `[T+1, g]`, actions `[T, a]`, the
    /// desired goal `[g]`.
    pub fn parts(&self) -> [&[f32]; 4] {
        [&self.observations, &self.achieved_goals, &self.actions, &self.desired_goal]
    }

    /// The last time `T`.
    pub fn last(&self) -> usize {
        self.actions.len() / self.a.max(1)
    }

    /// The episode up to the first time after its start at which the desired goal was reached; all
    /// of it where it never was.
    #[must_use]
    pub fn until_reached(mut self, tolerance: f32) -> Self {
        let reached_at = |t: &usize| reached(self.achieved_goal(*t), &self.desired_goal, tolerance);
        if let Some(end) = (1..=self.last()).find(reached_at) {
            self.observations.truncate((end + 1) * self.o);
            self.achieved_goals.truncate((end + 1) * self.desired_goal.len());
            self.actions.truncate(end * self.a);
        }
        self
    }

    /// The observation at time `t <= T`.
    pub fn observation(&self, t: usize) -> &[f32] {
        &self.observations[t * self.o..(t + 1) * self.o]
    }

    /// The achieved goal at time `t <= T`.
    pub fn achieved_goal(&self, t: usize) -> &[f32] {
        let g = self.desired_goal.len();
        &self.achieved_goals[t * g..(t + 1) * g]
    }

    /// The action at time `t < T`.
    pub fn action(&self, t: usize) -> &[f32] {
        &self.actions[t * self.a..(t + 1) * self.a]
    }

    /// The goal wished for.
    pub fn desired_goal(&self) -> &[f32] {
        &self.desired_goal
    }
}

fn flat(rows: &[impl AsRef<[f32]>]) -> Vec<f32> {
    rows.iter().flat_map(|r| r.as_ref().iter().copied()).collect()
}

/// One transition with the goal it is learned with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The episode.
    pub trajectory: &'a Trajectory,
    /// The time, `t < T`.
    pub t: usize,
    /// When this episode achieved the goal; nothing when the goal is the desired one, or another
    /// episode's.
    pub achieved_at: Option<usize>,
    /// The goal, `[g]`.
    pub goal: &'a [f32],
}

/// Episodes to sample from.
#[derive(Debug, Clone, Default)]
pub struct ReplayBuffer {
    trajectories: Vec<Trajectory>,
    /// `starts[i]` transitions lie before episode `i`.
    starts: Vec<usize>,
    transitions: usize,
}

impl ReplayBuffer {
    /// Adds an episode.
    pub fn push(&mut self, trajectory: Trajectory) {
        self.starts.push(self.transitions);
        self.transitions += trajectory.last();
        self.trajectories.push(trajectory);
    }

    /// The episodes.
    pub fn trajectories(&self) -> &[Trajectory] {
        &self.trajectories
    }

    /// Transitions over all episodes.
    pub fn transitions(&self) -> usize {
        self.transitions
    }

    /// Draws one transition, all equally likely, and its goal. Nothing when the buffer is empty, or
    /// when 100 draws in a row had their goal achieved already.
    pub fn sample(&self, hindsight: &Hindsight, rng: &mut Rng) -> Option<Sample<'_>> {
        if self.transitions == 0 {
            return None;
        }
        for _ in 0..100 {
            let sample = self.draw(hindsight, rng);
            let achieved = hindsight.already_achieved.is_some_and(|tolerance| {
                reached(sample.trajectory.achieved_goal(sample.t), sample.goal, tolerance)
            });
            let relabelled = !std::ptr::eq(sample.goal, sample.trajectory.desired_goal());
            if !(achieved && relabelled) {
                return Some(sample);
            }
        }
        None
    }

    fn draw(&self, hindsight: &Hindsight, rng: &mut Rng) -> Sample<'_> {
        let (trajectory, t) = self.place(rng.random_range(0..self.transitions));
        let source = if rng.random_bool(hindsight.probability.clamp(0.0, 1.0)) {
            hindsight.strategy.draw(t, trajectory.last(), rng)
        } else {
            Source::Desired
        };
        let (goal, achieved_at) = match source {
            Source::Desired => (trajectory.desired_goal(), None),
            Source::Same(at) => (trajectory.achieved_goal(at), Some(at)),
            Source::Anywhere => {
                let (other, at) = self.place(rng.random_range(0..self.transitions));
                (other.achieved_goal(at), None)
            }
        };
        Sample { trajectory, t, achieved_at, goal }
    }

    /// The episode and time of a transition's number.
    fn place(&self, transition: usize) -> (&Trajectory, usize) {
        let i = self.starts.partition_point(|start| *start <= transition) - 1;
        (&self.trajectories[i], transition - self.starts[i])
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
            buffer.push(Trajectory::new(&rows, &rows, &actions, &[-1.0, -1.0]).unwrap());
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
    fn what_comes_after_the_goal_is_cut_off() {
        let rows: Vec<[f32; 1]> = (0..6).map(|t| [t as f32]).collect();
        let episode = |goal| Trajectory::new(&rows, &rows, &rows[..5], &[goal]).unwrap();
        let cut = episode(3.0).until_reached(0.5);
        assert_eq!((cut.last(), cut.achieved_goal(3)), (3, &[3.0][..]));
        assert_eq!(cut.parts().map(<[f32]>::len), [4, 4, 3, 1]);
        assert_eq!(episode(9.0).until_reached(0.5), episode(9.0));
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
        buffer.push(Trajectory::new(&still, &still, &[[0.0f32]; 10], &[9.0, 9.0]).unwrap());
        let mut rng = stream(3, Stream::Training);
        let filtered = Hindsight { already_achieved: Some(0.02), ..Hindsight::default() };
        assert!(buffer.sample(&filtered, &mut rng).is_none());
        assert!(buffer.sample(&Hindsight::default(), &mut rng).is_some());
    }

    #[test]
    fn rows_that_do_not_fit_or_are_not_finite_are_refused() {
        let row = [[0.0f32; 2]; 3];
        assert!(Trajectory::new(&row, &row, &[[0.0f32]; 2], &[0.0, 0.0]).is_ok());
        assert!(Trajectory::new(&row, &row, &[[0.0f32]; 3], &[0.0, 0.0]).is_err());
        let mut bad = row;
        bad[1][0] = f32::NAN;
        let refused = Trajectory::new(&bad, &row, &[[0.0f32]; 2], &[0.0, 0.0]);
        assert_eq!(refused, Err(TrajectoryError::NotFinite(1)));
    }
}
