//! Batches of transitions with hindsight goals.

use super::replay::Draw;
use super::{Hindsight, ReplayBuffer, reached};
use crate::rng::Rng;

/// Rows of `(s, ag, a, s', ag', g)` and what is known of them, row-major. Kept and filled anew, a
/// batch allocates nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transitions {
    /// `s`, `[B, o]`.
    pub observation: Vec<f32>,
    /// The goal achieved at `s`, `[B, g]`.
    pub achieved_goal: Vec<f32>,
    /// `a`, `[B, a]`.
    pub action: Vec<f32>,
    /// `s'`, `[B, o]`.
    pub next_observation: Vec<f32>,
    /// The goal achieved at `s'`, `[B, g]`.
    pub next_achieved_goal: Vec<f32>,
    /// `g`, `[B, g]`.
    pub goal: Vec<f32>,
    /// `1[s' = g]`, `[B]`: whether the goal is reached by this step, which is the reward and ends the
    /// return.
    pub success: Vec<f32>,
    /// 1 for rows of demonstrations, `[B]`.
    pub demonstrated: Vec<f32>,
}

/// Rows that are fetched from memory while others are copied, and rows copied together: small groups
/// keep both busy all the time.
const AHEAD: usize = 16;
const GROUP: usize = 2;

impl Transitions {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.observation.clear();
        self.achieved_goal.clear();
        self.action.clear();
        self.next_observation.clear();
        self.next_achieved_goal.clear();
        self.goal.clear();
        self.success.clear();
        self.demonstrated.clear();
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.success.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.success.is_empty()
    }

    /// Appends up to `rows` transitions of `from`, each with a goal drawn for it, as
    /// [`ReplayBuffer::sample`] draws them; fewer only where there is nothing to draw from. A goal
    /// counts as reached within `tolerance`.
    pub fn draw(
        &mut self,
        rows: usize,
        from: &ReplayBuffer,
        hindsight: &Hindsight,
        tolerance: f32,
        demonstrated: bool,
        rng: &mut Rng,
    ) {
        let mut ahead = [Draw::default(); AHEAD];
        let (mut rows, mut drawn, mut copied) = (rows, 0, 0);
        while copied < rows {
            while drawn < rows.min(copied + AHEAD) {
                let Some(draw) = from.draw(hindsight, rng) else {
                    rows = drawn;
                    break;
                };
                from.prefetch(&draw);
                ahead[drawn % AHEAD] = draw;
                drawn += 1;
            }
            let group = &ahead[copied % AHEAD..][..GROUP.min(drawn - copied)];
            self.copy(from, group, tolerance);
            copied += group.len();
        }
        self.demonstrated.resize(self.len(), f32::from(u8::from(demonstrated)));
    }

    /// Appends what was drawn.
    fn copy(&mut self, from: &ReplayBuffer, draws: &[Draw], tolerance: f32) {
        let [o, g, a] = from.sizes();
        let (now, next) = (|draw: &Draw| draw.row(), |draw: &Draw| draw.row() + 1);
        rows(&mut self.observation, o, draws, |draw| from.row_onward(now(draw)));
        rows(&mut self.next_observation, o, draws, |draw| from.row_onward(next(draw)));
        rows(&mut self.achieved_goal, g, draws, |draw| &from.row_onward(now(draw))[o..]);
        rows(&mut self.next_achieved_goal, g, draws, |draw| &from.row_onward(next(draw))[o..]);
        rows(&mut self.action, a, draws, |draw| &from.row_onward(now(draw))[o + g..]);
        rows(&mut self.goal, g, draws, |draw| from.goal_onward(draw));
        let first = self.success.len();
        let [next, goals] = [&self.next_achieved_goal, &self.goal]
            .map(|rows| rows[first * g..].chunks_exact(g.max(1)));
        let success = next.zip(goals).map(|(next, goal)| reached(next, goal, tolerance));
        self.success.extend(success.map(|success| f32::from(u8::from(success))));
        // Rows without a goal.
        self.success.resize(first + draws.len(), 0.0);
    }
}

/// Appends for each draw the first `width` of the numbers that stand at its place. Usual widths are
/// constants to the compiler, which copies so few numbers in a few moves and without a call.
#[inline]
fn rows<'a>(to: &mut Vec<f32>, width: usize, draws: &[Draw], place: impl Fn(&Draw) -> &'a [f32]) {
    to.reserve(width * draws.len());
    macro_rules! copy {
        ($($usual:literal)*) => {
            match width {
                $($usual => draws.iter().for_each(|draw| to.extend_from_slice(&place(draw)[..$usual])),)*
                _ => draws.iter().for_each(|draw| to.extend_from_slice(&place(draw)[..width])),
            }
        };
    }
    copy!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::{Strategy, Trajectory};
    use crate::rng::{Stream, stream};

    /// Observations `[episode, time]`, achieved goals `[time]`, actions `[10 time]`.
    fn buffer(lengths: &[usize], goal: f32) -> ReplayBuffer {
        let mut buffer = ReplayBuffer::default();
        for (e, last) in lengths.iter().enumerate() {
            let seen: Vec<[f32; 2]> = (0..=*last).map(|t| [e as f32, t as f32]).collect();
            let goals: Vec<[f32; 1]> = (0..=*last).map(|t| [t as f32]).collect();
            let actions: Vec<[f32; 1]> = (0..*last).map(|t| [10.0 * t as f32]).collect();
            buffer.push(&Trajectory::new(&seen, &goals, &actions, &[goal]).unwrap()).unwrap();
        }
        buffer
    }

    fn hindsight(strategy: Strategy, probability: f64) -> Hindsight {
        Hindsight { strategy, probability, already_achieved: None }
    }

    #[test]
    fn a_row_is_one_step_and_its_success_is_that_of_the_next_state() {
        let (from, mut rng) = (buffer(&[4, 7], -1.0), stream(1, Stream::Training));
        let mut batch = Transitions::default();
        batch.draw(200, &from, &hindsight(Strategy::Final, 1.0), 0.5, false, &mut rng);
        assert_eq!(batch.len(), 200);
        for i in 0..batch.len() {
            let [e, t] = [batch.observation[2 * i], batch.observation[2 * i + 1]];
            assert_eq!(batch.next_observation[2 * i..2 * i + 2], [e, t + 1.0]);
            assert_eq!(batch.action[i], 10.0 * t);
            let last = if e == 0.0 { 4.0 } else { 7.0 };
            assert_eq!(batch.goal[i], last);
            assert_eq!(batch.success[i], f32::from(u8::from(t + 1.0 == last)));
        }
        assert!(batch.success.contains(&1.0) && batch.success.contains(&0.0));
    }

    #[test]
    fn rows_that_are_not_relabelled_keep_their_goal_and_its_success() {
        let (from, mut rng) = (buffer(&[6], 2.0), stream(2, Stream::Training));
        let mut batch = Transitions::default();
        batch.draw(100, &from, &hindsight(Strategy::Future, 0.0), 0.5, true, &mut rng);
        for (t, success) in batch.action.iter().zip(&batch.success) {
            assert_eq!(*success, f32::from(u8::from(*t == 10.0)), "reached by the second step");
        }
        assert!(batch.goal.iter().all(|goal| *goal == 2.0));
    }

    #[test]
    fn draws_add_up_and_say_who_showed_them_and_nothing_gives_none() {
        let (from, mut rng) = (buffer(&[3], 9.0), stream(3, Stream::Training));
        let (mut batch, future) = (Transitions::default(), hindsight(Strategy::Future, 0.8));
        batch.draw(2, &from, &future, 0.5, false, &mut rng);
        batch.draw(5, &ReplayBuffer::default(), &future, 0.5, true, &mut rng);
        batch.draw(1, &from, &future, 0.5, true, &mut rng);
        assert_eq!(batch.demonstrated, [0.0, 0.0, 1.0]);
        assert_eq!((batch.observation.len(), batch.goal.len(), batch.action.len()), (6, 3, 3));
        batch.clear();
        assert!(batch.is_empty() && batch == Transitions::default());
    }
}
