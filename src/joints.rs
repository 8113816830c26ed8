//! Vectors over the joints of one arm, on the stack.

/// The most joints an arm may have.
pub const MAX_JOINTS: usize = 8;

/// One value per joint, in the arm's joint order; never allocates.
pub type JointVec<T> = heapless::Vec<T, MAX_JOINTS>;

/// The most numbers a goal or a policy's input or output row may have.
pub const MAX_ROW: usize = 64;

/// A row of an observation, goal or action; never allocates.
pub type Row = heapless::Vec<f32, MAX_ROW>;

/// The most numbers a goal may have.
pub const MAX_GOAL: usize = 8;

/// A goal or an achieved goal, in the goal space's SI units; never allocates.
pub type GoalVec = heapless::Vec<f32, MAX_GOAL>;

/// Copies `values` into a fixed-capacity vector, cutting what does not fit.
pub fn stack<T: Copy, const N: usize>(values: impl IntoIterator<Item = T>) -> heapless::Vec<T, N> {
    values.into_iter().take(N).collect()
}
