//! Braking without torque: what a servo does that shorts its motor's windings.

use super::{Arm, ArmError, BROADCASTS, joint::patience};
use crate::hal::servo;

/// `Torque_Enable`: windings shorted, no torque (Feetech, "STS series servo memory table").
const DAMPING: i32 = 2;

impl Arm {
    /// Lets every servo brake without torque; whether all of them say that they do. False when a
    /// servo cannot: nothing was changed then.
    ///
    /// # Errors
    /// The port fails, or a servo does not answer; some may be damped then.
    pub fn damp(&mut self) -> Result<bool, ArmError> {
        self.held = false;
        for _ in 0..BROADCASTS {
            let all = self.ids.iter().map(|id| (*id, DAMPING));
            let deadline = patience(&self.bus);
            self.bus.sync_write(&servo::TORQUE_ENABLE, all, deadline)?;
        }
        for joint in &self.joints {
            joint.keep(&mut self.bus, &servo::TORQUE_ENABLE, DAMPING)?;
        }
        Ok(true)
    }
}
