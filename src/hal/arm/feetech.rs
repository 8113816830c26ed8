//! What is set in a Feetech servo before it may move.

use super::ArmError;
use super::joint::Joint;
use crate::hal::bus::Bus;
use crate::hal::servo::{Register, feetech};

/// Puts limits into the servo; whether it holds.
pub(super) fn set_up(joint: &mut Joint, bus: &mut Bus) -> Result<bool, ArmError> {
    let known = |name| joint.model.register(name).copied();
    let (lowest, highest) = joint.calibration.limits();
    let mut settings = heapless::Vec::<(Register, i32), 8>::new();
    let _ =
        settings.extend_from_slice(&[(joint.model.lowest, lowest), (joint.model.highest, highest)]);
    settings.extend(known(feetech::RESPONSE_LEVEL.name).map(|register| (register, 1)));
    // An SCS servo has one mode only, and other bits in its phase.
    if let Some(mode) = known(feetech::MODE.name) {
        let phase = joint.get(bus, &feetech::PHASE)? & !feetech::PHASE_MULTI_TURN;
        joint.speed_unit = feetech::speed_unit(phase);
        settings.extend([(feetech::PHASE, phase), (mode, 0)]);
    }
    keep_for_good(joint, bus, &settings)?;
    let holds = joint.holds(bus)?;
    joint.limit(bus, known(feetech::ACCELERATION.name), joint.config.max_acceleration)?;
    joint.limit(bus, known(feetech::GOAL_VELOCITY.name), joint.config.max_velocity)?;
    if let Some(limit) = known(feetech::TORQUE_LIMIT.name) {
        let torque = joint.get(bus, &feetech::MAX_TORQUE)?;
        joint.keep(bus, &limit, torque)?;
    }
    Ok(holds)
}

/// Writes EEPROM registers where they differ, which wears them out.
fn keep_for_good(
    joint: &Joint,
    bus: &mut Bus,
    settings: &[(Register, i32)],
) -> Result<(), ArmError> {
    let Some(lock) = joint.model.register(feetech::LOCK.name) else { return Ok(()) };
    let mut unlocked = false;
    for (register, value) in settings {
        if joint.get(bus, register)? == *value {
            continue;
        }
        if !unlocked {
            // A servo that answers reads only does not acknowledge this either.
            joint.tell(bus, lock, 0)?;
            joint.tell(bus, register, *value)?;
            unlocked = true;
        }
        joint.keep(bus, register, *value)?;
    }
    if unlocked { joint.keep(bus, lock, 1) } else { Ok(()) }
}
