//! Braking without torque: what a servo does that shorts its motor's windings.

use super::joint::patience;
use super::{Arm, ArmError, BROADCASTS};
use crate::config::Protocol;
use crate::joints::JointVec;

/// `Torque_Enable`: windings shorted, no torque (Feetech, "STS series servo memory table").
const DAMPING: i32 = 2;

impl Arm {
    /// Lets every servo brake without torque; whether all of them say that they do. False when a
    /// servo cannot: nothing was changed then.
    ///
    /// # Errors
    /// The port fails, or a servo does not answer; some may be damped then.
    pub fn damp(&mut self) -> Result<bool, ArmError> {
        if self.joints.iter().any(|joint| joint.model.protocol != Protocol::Feetech) {
            return Ok(false);
        }
        self.let_go();
        let damped: JointVec<i32> = self.joints.iter().map(|_| DAMPING).collect();
        for _ in 0..BROADCASTS {
            let deadline = patience(&self.bus);
            self.write_each(|model| &model.torque, &damped, deadline)?;
        }
        for joint in &self.joints {
            joint.keep(&mut self.bus, &joint.model.torque, DAMPING)?;
        }
        self.energised = false;
        Ok(true)
    }
}
