//! Hindsight: a failed attempt is a success at the goal it achieved.

mod hindsight;
mod replay;

pub use hindsight::{Hindsight, Strategy};
pub use replay::{ReplayBuffer, Sample, Trajectory, TrajectoryError};

/// Whether `achieved` counts as `desired`: Euclidean distance within `tolerance` (same unit).
pub fn reached(achieved: &[f32], desired: &[f32], tolerance: f32) -> bool {
    let squares: f32 = achieved.iter().zip(desired).map(|(a, d)| (a - d).powi(2)).sum();
    achieved.len() == desired.len() && squares <= tolerance * tolerance
}

/// The sparse reward of goal-reaching, `r(s', g) = 1[s' = g]`, with `=` meaning [`reached`].
pub fn reward(achieved_next: &[f32], desired: &[f32], tolerance: f32) -> f32 {
    if reached(achieved_next, desired, tolerance) { 1.0 } else { 0.0 }
}
