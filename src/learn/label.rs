//! What a logged episode says about the action that leads to a goal it achieved.

use super::LearnError;
use crate::goal::Sample;
use crate::policy::{ActionKind, ObservationTerm, PolicySpec};

/// Where the measured and the sent positions stand in a policy's observation row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    joints: usize,
    measured: usize,
    sent: usize,
    /// Where a wished goal inside the row stands.
    wish: Option<usize>,
}

impl Layout {
    /// The layout of a policy's observation.
    ///
    /// # Errors
    /// The policy does not observe both.
    pub fn of(spec: &PolicySpec) -> Result<Self, LearnError> {
        let joints = spec.joints.len();
        let wish = spec.offset_of(ObservationTerm::DesiredGoal);
        let place = |term| spec.offset_of(term);
        match (place(ObservationTerm::JointPosition), place(ObservationTerm::SentPosition)) {
            (Some(measured), Some(sent)) => Ok(Self { joints, measured, sent, wish }),
            _ => Err(LearnError::Observation {
                needs: "joint_position and sent_position",
                found: format!("{:?}", spec.observation),
            }),
        }
    }

    /// Writes another wished goal into a row that holds one.
    pub fn wish(&self, row: &mut [f32], goal: &[f32]) {
        if let Some(place) = self.wish {
            row[place..place + goal.len()].copy_from_slice(goal);
        }
    }

    /// Where the measured and where the sent positions start.
    pub fn starts(&self) -> (usize, usize) {
        (self.measured, self.sent)
    }

    fn measured<'a>(&self, row: &'a [f32]) -> &'a [f32] {
        &row[self.measured..self.measured + self.joints]
    }

    fn sent<'a>(&self, row: &'a [f32]) -> &'a [f32] {
        &row[self.sent..self.sent + self.joints]
    }
}

/// The label of hindsight behaviour cloning for position-controlled arms: *move on as the episode
/// did for the next `k` ticks, but not past the moment the goal was achieved, and hold there*.
///
/// With `s_t` the goal positions before the action at time `t`, `q_t` the measured ones and the goal
/// achieved at `t'`:
///
/// ```text
/// a_t = (p - s_t) / k,   p = s_{t+k}  if t + k < t',   else  q_{t'}
/// ```
///
/// The label of one tick alone (`k = 1`, no hold) carries the exploration noise and the speed with
/// which the arm passed *through* the goal, and a policy cloned from it never settles. The end is the
/// measured pose, since it is the measured pose that achieved the goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reach {
    /// Ticks looked ahead, `k >= 1`.
    pub horizon: usize,
    /// The largest change per tick (rad); labels are clipped to it.
    pub max_delta: f32,
    /// What the policy's action means.
    pub kind: ActionKind,
}

impl Reach {
    /// Writes the action (`[a]`, rad or rad per tick) of a sample.
    pub fn write(&self, layout: &Layout, sample: &Sample<'_>, out: &mut [f32]) {
        let Sample { trajectory, t, achieved_at, .. } = *sample;
        let last = trajectory.last();
        // The desired goal of a demonstration was achieved at its end.
        let end = achieved_at.unwrap_or(last);
        let k = self.horizon.max(1);
        let target = if t + k < end {
            layout.sent(trajectory.observation(t + k))
        } else {
            layout.measured(trajectory.observation(end))
        };
        let now = layout.sent(trajectory.observation(t));
        for ((out, target), now) in out.iter_mut().zip(target).zip(now) {
            let delta = ((target - now) / k as f32).clamp(-self.max_delta, self.max_delta);
            *out = match self.kind {
                ActionKind::JointDelta => delta,
                ActionKind::JointPosition => now + delta * k as f32,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goal::Trajectory;

    /// One joint; row = [measured, sent], sent is 0.1 ahead of measured, both move 0.01 a tick.
    fn trajectory() -> Trajectory {
        let rows: Vec<[f32; 2]> =
            (0..=50).map(|t| [t as f32 * 0.01, t as f32 * 0.01 + 0.1]).collect();
        let goals: Vec<[f32; 1]> = (0..=50).map(|t| [t as f32]).collect();
        Trajectory::new(&rows, &goals, &[[0.01f32]; 50], &[50.0]).unwrap()
    }

    fn label(t: usize, achieved_at: Option<usize>, k: usize) -> f32 {
        let whole = trajectory();
        let layout = Layout { joints: 1, measured: 0, sent: 1, wish: None };
        let sample = Sample { trajectory: whole.view(), t, achieved_at, goal: &[0.0] };
        let reach = Reach { horizon: k, max_delta: 0.02, kind: ActionKind::JointDelta };
        let mut out = [0.0];
        reach.write(&layout, &sample, &mut out);
        out[0]
    }

    #[test]
    fn far_from_the_goal_it_is_the_mean_motion() {
        assert!((label(0, Some(50), 20) - 0.01).abs() < 1e-6);
    }

    #[test]
    fn it_never_looks_past_the_moment_the_goal_was_achieved_and_ends_at_the_measured_pose() {
        // From sent 0.30 at t = 20 to measured 0.25 at t' = 25.
        assert!((label(20, Some(25), 20) - (0.25 - 0.30) / 20.0).abs() < 1e-6);
    }

    #[test]
    fn a_desired_goal_counts_as_achieved_at_the_end() {
        assert!((label(45, None, 20) - (0.50 - 0.55) / 20.0).abs() < 1e-6);
    }

    #[test]
    fn labels_are_clipped_to_what_the_arm_can_do() {
        assert!((label(0, Some(50), 1) - 0.01).abs() < 1e-6);
        assert_eq!(label(49, Some(50), 1), -0.02);
    }
}
