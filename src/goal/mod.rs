//! Hindsight: a failed attempt is a success at the goal it achieved.

mod hindsight;
mod replay;
mod trajectory;
mod transitions;

pub use hindsight::{Hindsight, Strategy, StrategyError};
pub use replay::{Mix, ReplayBuffer, Sample};
pub use trajectory::{Trajectory, TrajectoryError};
pub use transitions::Transitions;

/// Whether `achieved` counts as `desired`: Euclidean distance within `tolerance` (same unit). Where
/// there is no goal (length 0), none is ever reached.
pub fn reached(achieved: &[f32], desired: &[f32], tolerance: f32) -> bool {
    let squares: f32 = achieved.iter().zip(desired).map(|(a, d)| (a - d).powi(2)).sum();
    let comparable = achieved.len() == desired.len() && !desired.is_empty();
    comparable && squares <= tolerance * tolerance
}

/// The sparse reward of goal-reaching, `r(s', g) = 1[s' = g]`, with `=` meaning [`reached`].
pub fn reward(achieved_next: &[f32], desired: &[f32], tolerance: f32) -> f32 {
    if reached(achieved_next, desired, tolerance) { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_goal_of_the_same_length_within_the_tolerance_is_reached() {
        assert!(reached(&[0.3, 0.4], &[0.0, 0.0], 0.5) && reward(&[1.0], &[1.0], 0.0) == 1.0);
        assert!(!reached(&[0.3, 0.4], &[0.0, 0.0], 0.49) && reward(&[1.0], &[2.0], 0.5) == 0.0);
        assert!(!reached(&[0.0], &[0.0, 0.0], 1.0));
        assert!(!reached(&[], &[], 1.0), "no goal is no success");
    }
}
