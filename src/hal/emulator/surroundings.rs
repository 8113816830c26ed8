//! What an emulated arm can touch.

use std::fmt::Debug;

/// A world around an emulated arm: things that it moves and that stop it.
///
/// The servos' own motion is not disturbed, for a position servo held off its goal pushes on: its
/// drive runs ahead, and the world says where the joint is.
pub trait Surroundings: Debug + Send {
    /// Goes on by `step` (s), through which the drives bring the joints to `angles` (rad, in the
    /// configuration's order). Joints that something holds back are set to where they are.
    fn step(&mut self, angles: &mut [f64], step: f64);
}
