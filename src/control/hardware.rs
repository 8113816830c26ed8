//! What the loop drives: an arm, or what was recorded of one.

use crate::clock::Time;
use crate::episode::Answers;
use crate::hal::arm::{ArmError, Counters};
use crate::hal::{Arm, ArmState};
use crate::joints::JointVec;

/// Joints that are read and written once a tick. No call allocates.
pub trait Hardware: Send {
    /// Brings `state` up to date as well as it can by `deadline`.
    ///
    /// # Errors
    /// The port fails.
    fn read(&mut self, state: &mut ArmState, deadline: Time) -> Result<usize, ArmError>;
    /// Sends goal positions (rad).
    ///
    /// # Errors
    /// Nothing was sent, or the port fails.
    fn write(&mut self, goal: &JointVec<f64>, deadline: Time) -> Result<(), ArmError>;
    /// Switches torque.
    ///
    /// # Errors
    /// A joint does not confirm it.
    fn torque(&mut self, on: bool) -> Result<(), ArmError>;
    /// Lets every joint brake without torque; whether all do.
    ///
    /// # Errors
    /// A joint does not answer.
    fn damp(&mut self) -> Result<bool, ArmError>;
    /// Some joint has torque, for all that is known.
    fn energised(&self) -> bool;
    /// The faults so far.
    fn counters(&self) -> Counters;
}

impl Hardware for Arm {
    fn read(&mut self, state: &mut ArmState, deadline: Time) -> Result<usize, ArmError> {
        Self::read(self, state, deadline)
    }
    fn write(&mut self, goal: &JointVec<f64>, deadline: Time) -> Result<(), ArmError> {
        Self::write(self, goal, deadline)
    }
    fn torque(&mut self, on: bool) -> Result<(), ArmError> {
        Self::torque(self, on)
    }
    fn damp(&mut self) -> Result<bool, ArmError> {
        Self::damp(self)
    }
    fn energised(&self) -> bool {
        Self::energised(self)
    }
    fn counters(&self) -> Counters {
        Self::counters(self)
    }
}

/// Hardware whose answers about torque are written down.
pub(super) struct Witnessed {
    pub(super) hardware: Box<dyn Hardware>,
    /// Those since they were taken last.
    pub(super) answers: Answers,
}

impl Witnessed {
    pub(super) fn new(hardware: Box<dyn Hardware>) -> Self {
        Self { hardware, answers: Answers::new() }
    }

    pub(super) fn torque(&mut self, on: bool) -> Result<(), ArmError> {
        let answer = self.hardware.torque(on);
        // More than fit are not made in a tick, nor by a command.
        let _ = self.answers.push(answer.is_ok());
        answer
    }

    pub(super) fn damp(&mut self) -> Result<bool, ArmError> {
        let answer = self.hardware.damp();
        let _ = self.answers.push(answer.as_ref().is_ok_and(|all| *all));
        answer
    }
}
