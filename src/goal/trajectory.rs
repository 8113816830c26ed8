//! One episode as rows of numbers.

use super::reached;

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
    /// Its rows are not those of the episodes that it should join.
    #[error(
        "expected rows of {expected:?} numbers (observation, goal, action), found {found:?}: \
         episodes of one robot and task belong together"
    )]
    Sizes {
        /// Numbers in the rows of the others.
        expected: [usize; 3],
        /// Numbers in its own.
        found: [usize; 3],
    },
}

/// One episode: rows for the times `0 ..= T`, actions for `0 .. T`. It has its numbers, or, as
/// `Trajectory<&[f32]>`, looks at those in a [`ReplayBuffer`](super::ReplayBuffer).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trajectory<S = Vec<f32>> {
    /// `[T+1, o + g + a]`: what belongs to one time stands together, as it is drawn together. The last
    /// time's action is zeros.
    rows: S,
    /// `[g]`.
    desired_goal: S,
    last: usize,
    sizes: [usize; 3],
}

impl Trajectory {
    /// What [`of_parts`](Self::of_parts) takes.
    pub const PARTS: [&str; 4] = ["observations", "achieved_goals", "actions", "desired_goal"];

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
        let counts = [observations.len(), achieved_goals.len(), actions.len()];
        let rows = (flat(observations), flat(achieved_goals), flat(actions));
        let (Some(observations), Some(achieved_goals), Some(actions)) = rows else {
            return Err(shape(counts));
        };
        if counts[0] != counts[2] + 1 || counts[1] != counts[0] {
            return Err(shape(counts));
        }
        Self::of_parts([&observations, &achieved_goals, &actions, desired_goal], counts[2])
    }

    /// Checks and keeps an episode of `last = T` steps, each of its [`PARTS`](Self::PARTS) row-major:
    /// observations `[T+1, o]`, achieved goals `[T+1, g]`, actions `[T, a]`, the desired goal `[g]`.
    ///
    /// # Errors
    /// The counts do not fit, or a number is not finite.
    pub fn of_parts(parts: [&[f32]; 4], last: usize) -> Result<Self, TrajectoryError> {
        let [observations, achieved_goals, actions, desired_goal] = parts;
        let per = |rows: &[f32], count: usize| rows.len().checked_div(count).unwrap_or(0);
        let (o, a, g) = (per(observations, last + 1), per(actions, last), desired_goal.len());
        let sized = [(observations, o), (achieved_goals, g), (actions, a)];
        let [rows, goals, steps] = sized.map(|(rows, width)| (rows.len(), width));
        let fits = last > 0
            && rows.0 == (last + 1) * o
            && goals.0 == (last + 1) * g
            && steps.0 == last * a;
        if !fits {
            return Err(shape([rows, goals, steps].map(|(len, width)| len / width.max(1))));
        }
        let broken = |(rows, width): (&[f32], usize)| {
            rows.iter().position(|x| !x.is_finite()).map(|at| at / width)
        };
        let broken = sized.into_iter().chain([(desired_goal, g)]).filter_map(broken).min();
        if let Some(t) = broken {
            return Err(TrajectoryError::NotFinite(t));
        }
        let mut rows = Vec::with_capacity((last + 1) * (o + g + a));
        for t in 0..=last {
            sized
                .iter()
                .for_each(|(part, width)| rows.extend(part.iter().skip(t * width).take(*width)));
        }
        rows.resize(rows.capacity(), 0.0);
        Ok(Self { rows, desired_goal: desired_goal.to_vec(), last, sizes: [o, g, a] })
    }

    /// The episode up to the first time after its start at which the desired goal was reached; all
    /// of it where it never was.
    #[must_use]
    pub fn until_reached(mut self, tolerance: f32) -> Self {
        let reached_at = |t: &usize| reached(self.achieved_goal(*t), &self.desired_goal, tolerance);
        if let Some(end) = (1..self.last).find(reached_at) {
            let len = (end + 1) * self.width();
            self.rows.truncate(len);
            self.rows[len - self.sizes[2]..].fill(0.0);
            self.last = end;
        }
        self
    }
}

impl<S: AsRef<[f32]>> Trajectory<S> {
    /// A look at it.
    pub fn view(&self) -> Trajectory<&[f32]> {
        Trajectory {
            rows: self.rows.as_ref(),
            desired_goal: self.desired_goal.as_ref(),
            last: self.last,
            sizes: self.sizes,
        }
    }

    /// Numbers in an observation, a goal and an action.
    pub fn sizes(&self) -> [usize; 3] {
        self.sizes
    }

    /// Numbers in a row.
    fn width(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// The last time `T`.
    pub fn last(&self) -> usize {
        self.last
    }

    /// The observation at time `t <= T`.
    pub fn observation(&self, t: usize) -> &[f32] {
        &self.rows.as_ref()[t * self.width()..][..self.sizes[0]]
    }

    /// The achieved goal at time `t <= T`.
    pub fn achieved_goal(&self, t: usize) -> &[f32] {
        let [o, g, _] = self.sizes;
        &self.rows.as_ref()[t * self.width() + o..][..g]
    }

    /// The action at time `t < T`.
    pub fn action(&self, t: usize) -> &[f32] {
        let [o, g, a] = self.sizes;
        &self.rows.as_ref()[..self.last * self.width()][t * self.width() + o + g..][..a]
    }

    /// The goal wished for.
    pub fn desired_goal(&self) -> &[f32] {
        self.desired_goal.as_ref()
    }
}

impl<'a> Trajectory<&'a [f32]> {
    /// A look at an episode that was checked when it was taken in.
    pub(super) fn looking(
        rows: &'a [f32],
        desired_goal: &'a [f32],
        last: usize,
        sizes: [usize; 3],
    ) -> Self {
        Self { rows, desired_goal, last, sizes }
    }

    /// All its rows, `[T+1, o + g + a]`.
    pub(crate) fn rows(&self) -> &'a [f32] {
        self.rows
    }
}

fn shape([observations, goals, actions]: [usize; 3]) -> TrajectoryError {
    TrajectoryError::Shape { observations, goals, actions }
}

/// Rows of one length, one after the other.
fn flat(rows: &[impl AsRef<[f32]>]) -> Option<Vec<f32>> {
    let width = rows.first().map_or(0, |row| row.as_ref().len());
    let mut all = Vec::with_capacity(rows.len() * width);
    for row in rows {
        all.extend_from_slice(Some(row.as_ref()).filter(|row| row.len() == width)?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_goal_is_cut_off() {
        let rows: Vec<[f32; 1]> = (0..6).map(|t| [t as f32]).collect();
        let episode = |goal| Trajectory::new(&rows, &rows, &rows[..5], &[goal]).unwrap();
        let cut = episode(3.0).until_reached(0.5);
        assert_eq!((cut.last(), cut.achieved_goal(3)), (3, &[3.0][..]));
        assert_eq!((cut.observation(3), cut.action(2)), (&[3.0][..], &[2.0][..]));
        let alone = Trajectory::new(&rows[..4], &rows[..4], &rows[..3], &[3.0]).unwrap();
        assert_eq!(cut, alone);
        assert_eq!(episode(9.0).until_reached(0.5), episode(9.0));
    }

    #[test]
    fn rows_that_do_not_fit_or_are_not_finite_are_refused() {
        let row = [[0.0f32; 2]; 3];
        assert!(Trajectory::new(&row, &row, &[[0.0f32]; 2], &[0.0, 0.0]).is_ok());
        let refused = Trajectory::new(&row, &row, &[[0.0f32]; 3], &[0.0, 0.0]);
        assert_eq!(refused, Err(shape([3, 3, 3])));
        assert!(Trajectory::new(&row, &row, &[[0.0f32]; 2], &[0.0]).is_err());
        assert!(Trajectory::new(&row[..1], &row[..1], &row[..0], &[0.0, 0.0]).is_err());
        let uneven: [&[f32]; 3] = [&[0.0, 0.0], &[0.0], &[0.0]];
        assert!(Trajectory::new(&uneven, &row, &[[0.0f32]; 2], &[0.0, 0.0]).is_err());
        let mut bad = row;
        bad[1][0] = f32::NAN;
        let refused = Trajectory::new(&bad, &row, &[[0.0f32]; 2], &[0.0, 0.0]);
        assert_eq!(refused, Err(TrajectoryError::NotFinite(1)));
    }

    #[test]
    fn rows_without_numbers_are_an_episode() {
        let episode = Trajectory::of_parts([&[0.5; 3], &[], &[], &[]], 2).unwrap();
        assert_eq!((episode.last(), episode.sizes()), (2, [1, 0, 0]));
        assert_eq!((episode.observation(2), episode.action(1)), (&[0.5][..], &[][..]));
    }
}
