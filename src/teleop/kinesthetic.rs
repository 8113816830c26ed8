//! The arm itself is led by hand, its torque off: what is measured is what is shown.

use super::{Follower, TeleopError, Teleoperator};
use crate::control::{Lead, TeleopAction};

/// Hands on the arm. The action of a step is the position that was measured in the same step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kinesthetic {
    /// The motors brake meanwhile, where they can.
    pub damped: bool,
}

impl Teleoperator for Kinesthetic {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        let position = follower.position.clone();
        Ok(Some(TeleopAction { stamp: follower.now, position }))
    }

    fn lead(&self) -> Lead {
        if self.damped { Lead::Damped } else { Lead::ByHand }
    }
}
