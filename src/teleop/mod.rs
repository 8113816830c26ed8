//! How a person steers an arm: devices behind one trait, polled in a thread of their own, and the
//! session in which demonstrations are recorded.

mod course;
mod error;
#[cfg(any(test, feature = "gamepad"))]
mod gamepad;
mod intervention;
mod jog;
mod keyboard;
mod kinesthetic;
mod leader;
mod scripted;
mod session;
mod thread;

pub use course::{Course, Recorded, Track};
pub use error::TeleopError;
#[cfg(any(test, feature = "gamepad"))]
pub use gamepad::{CONTROLS, Gamepad, wait_for_key};
pub use intervention::{Intervention, InterventionConfig};
pub use jog::{Jog, Pointer, SPEED, TURN, Twist};
pub use keyboard::{KEYS, Keyboard, Keys, keyboard};
pub use kinesthetic::Kinesthetic;
pub use leader::{Leader, Mapping};
pub use scripted::Scripted;
pub use session::{Effect, Observed, Session, SessionConfig, State, Word};
pub use thread::{Seat, TeleopThread};

use crate::clock::Time;
use crate::control::{Lead, TeleopAction};
use crate::joints::{GoalVec, JointVec};

/// What a device is told of the arm that it steers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Follower {
    /// Now.
    pub now: Time,
    /// Measured positions (rad).
    pub position: JointVec<f64>,
    /// The positions sent last (rad); empty while torque is off.
    pub sent: JointVec<f64>,
}

impl Follower {
    /// Where the arm was sent, or where it is when it was sent nowhere (rad).
    pub fn place(&self) -> &JointVec<f64> {
        if self.sent.is_empty() { &self.position } else { &self.sent }
    }
}

/// A device that a person steers with, or somebody who stands in for one. Dropping it closes it.
pub trait Teleoperator: Send {
    /// Where the joints are to be, and when that was measured; none when it is not known. Called once
    /// a tick, also before it is [engaged](Self::engage): then nothing moves.
    ///
    /// # Errors
    /// The device fails; it is asked again in the next tick.
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError>;

    /// The person takes over, or lets go. Who steers relative to where the arm is starts from there.
    fn engage(&mut self, _engaged: bool, _follower: &Follower) {}

    /// Where a person has the device's own joints now (rad, in the arm's order); none where it has none,
    /// or they did not all answer.
    fn hand(&self) -> Option<&JointVec<f64>> {
        None
    }

    /// What it steers with.
    fn lead(&self) -> Lead {
        Lead::Device
    }

    /// Whether it needs nobody who says when a demonstration begins and ends.
    fn autonomous(&self) -> bool {
        false
    }

    /// What its buttons said since the last call.
    fn words(&mut self) -> Vec<Word> {
        Vec::new()
    }

    /// The goal of the demonstration that begins, in the robot's goal space; none where that is the
    /// person's business.
    ///
    /// # Errors
    /// There is none that could be shown.
    fn next_goal(&mut self) -> Result<Option<GoalVec>, TeleopError> {
        Ok(None)
    }

    /// What there was to show was shown.
    fn done(&self) -> bool {
        false
    }
}
