//! Batches of transitions with hindsight goals.

use crate::goal::{Hindsight, ReplayBuffer, reached};
use crate::rng::Rng;

/// Rows of `(s, a, s', g)` and what is known of them, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transitions {
    /// `s`, `[B, o]`.
    pub observation: Vec<f32>,
    /// `s'`, `[B, o]`.
    pub next_observation: Vec<f32>,
    /// `g`, `[B, g]`.
    pub goal: Vec<f32>,
    /// `a`, `[B, a]`.
    pub action: Vec<f32>,
    /// `1[s' = g]`, `[B]`: whether the goal is reached by this step.
    pub success: Vec<f32>,
    /// 1 for rows of demonstrations, `[B]`.
    pub demonstrated: Vec<f32>,
}

impl Transitions {
    /// Forgets all rows.
    pub fn clear(&mut self) {
        self.observation.clear();
        self.next_observation.clear();
        self.goal.clear();
        self.action.clear();
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

    /// Appends up to `rows` transitions of `from`, relabelled; fewer only where there is nothing to
    /// draw from. A goal counts as reached within `tolerance`.
    pub fn draw(
        &mut self,
        rows: usize,
        from: &ReplayBuffer,
        hindsight: &Hindsight,
        tolerance: f32,
        demonstrated: bool,
        rng: &mut Rng,
    ) {
        for _ in 0..rows {
            let Some(sample) = from.sample(hindsight, rng) else { return };
            let (trajectory, t) = (sample.trajectory, sample.t);
            self.observation.extend_from_slice(trajectory.observation(t));
            self.next_observation.extend_from_slice(trajectory.observation(t + 1));
            self.goal.extend_from_slice(sample.goal);
            self.action.extend_from_slice(trajectory.action(t));
            let success = reached(trajectory.achieved_goal(t + 1), sample.goal, tolerance);
            self.success.push(f32::from(u8::from(success)));
            self.demonstrated.push(f32::from(u8::from(demonstrated)));
        }
    }
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
            buffer.push(Trajectory::new(&seen, &goals, &actions, &[goal]).unwrap());
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
