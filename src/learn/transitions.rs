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
