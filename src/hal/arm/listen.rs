//! Opening an arm that is moved by hand.

use std::sync::Arc;

use super::{Arm, ArmError};
use crate::clock::Clock;
use crate::config::RobotConfig;
use crate::hal::port::Port;
use crate::hal::servo::feetech;

impl Arm {
    /// Finds all servos, checks their model and calibration, and switches torque off. Nothing else is
    /// written: for a leader, which is only [read](Self::read).
    ///
    /// # Errors
    /// A servo is missing, of another model, or not as calibrated: nothing was written then. One does
    /// not confirm that its torque is off. The port fails.
    pub fn listen(
        config: &RobotConfig,
        port: Box<dyn Port>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ArmError> {
        let mut arm = Self::over(config, port, clock);
        arm.find()?;
        let mut fast = true;
        for joint in &mut arm.joints {
            joint.check_offset(&mut arm.bus)?;
            if joint.model.register(feetech::PHASE.name).is_some() {
                joint.speed_unit = feetech::speed_unit(joint.get(&mut arm.bus, &feetech::PHASE)?);
            }
            fast &= joint.answers_fast(&mut arm.bus)?;
        }
        arm.release()?;
        arm.bus.set_fast(fast);
        Ok(arm)
    }
}
