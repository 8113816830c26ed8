//! What is set in a Dynamixel servo before it may move, and its bus watchdog.

use super::ArmError;
use super::joint::{Joint, patience};
use crate::clock::Time;
use crate::hal::bus::{Bus, BusError};
use crate::hal::servo::{Register, dynamixel as x};

/// The watchdog's units for a time (ms): at least as long, and 0 for never.
pub(super) fn watchdog(ms: u32) -> i32 {
    i32::try_from(ms.div_ceil(x::WATCHDOG_UNIT_MS)).map_or(127, |units| units.min(127))
}

/// The troubles that a servo has.
pub(super) fn troubles(id: u8, bus: &mut Bus, deadline: Time) -> Result<u8, BusError> {
    Ok(x::troubles(bus.read(id, &x::HARDWARE_ERROR, deadline)?.0))
}

/// Lets a servo that is released be silent for as long as it likes; if it does not hear this, its
/// goals stay read-only until the next torque on, which clears it too.
pub(super) fn clear_watchdog(id: u8, bus: &mut Bus) {
    let deadline = patience(bus);
    let _ = bus.write(id, &x::BUS_WATCHDOG, 0, deadline);
}

/// Puts limits into the servo; whether it holds.
pub(super) fn set_up(joint: &mut Joint, bus: &mut Bus) -> Result<bool, ArmError> {
    // A servo that answers reads only does not acknowledge this either.
    joint.tell(bus, &x::STATUS_RETURN_LEVEL, 2)?;
    joint.keep(bus, &x::STATUS_RETURN_LEVEL, 2)?;
    // Goals are read-only while it is tripped.
    joint.keep(bus, &x::BUS_WATCHDOG, 0)?;
    let holds = joint.holds(bus)?;
    let settings = settings(joint, bus)?;
    if holds {
        check_modes(joint, bus)?;
    } else {
        for (register, value) in &settings {
            joint.keep(bus, register, *value)?;
        }
    }
    keep_gains(joint, bus)?;
    joint.limit(bus, Some(x::PROFILE_ACCELERATION), joint.config.max_acceleration)?;
    joint.limit(bus, Some(x::PROFILE_VELOCITY), joint.config.max_velocity)?;
    Ok(holds)
}

/// Keeps the gains of the configuration, which stand in RAM: without power they are the factory's.
fn keep_gains(joint: &Joint, bus: &mut Bus) -> Result<(), ArmError> {
    let tuning = &joint.config.tuning;
    let gains =
        [(x::P_GAIN, tuning.p_gain), (x::I_GAIN, tuning.i_gain), (x::D_GAIN, tuning.d_gain)];
    for (register, gain) in gains {
        if let Some(gain) = gain {
            joint.keep(bus, &register, gain.into())?;
        }
    }
    Ok(())
}

/// The EEPROM registers that differ from what they should be.
fn settings(joint: &Joint, bus: &mut Bus) -> Result<heapless::Vec<(Register, i32), 8>, ArmError> {
    let drive = joint.get(bus, &x::DRIVE_MODE)? & !x::DRIVE_TIME_PROFILE;
    let (lowest, highest) = joint.calibration.limits();
    let mut differ = heapless::Vec::new();
    for setting in [
        (x::RETURN_DELAY, 0),
        (x::DRIVE_MODE, drive),
        (x::MODE, x::MODE_POSITION),
        (x::MIN_POSITION, lowest),
        (x::MAX_POSITION, highest),
    ] {
        if joint.get(bus, &setting.0)? != setting.1 {
            // There is room for all.
            let _ = differ.push(setting);
        }
    }
    Ok(differ)
}

/// Whether a servo that holds takes goals and limits as this program means them: its EEPROM cannot
/// be written while it holds.
fn check_modes(joint: &Joint, bus: &mut Bus) -> Result<(), ArmError> {
    let mode = joint.get(bus, &x::MODE)?;
    let positions = [x::MODE_POSITION, x::MODE_EXTENDED_POSITION, x::MODE_CURRENT_POSITION];
    if !positions.contains(&mode) {
        return Err(joint.not_kept(&x::MODE, x::MODE_POSITION, mode));
    }
    let drive = joint.get(bus, &x::DRIVE_MODE)?;
    match drive & x::DRIVE_TIME_PROFILE {
        0 => Ok(()),
        bit => Err(joint.not_kept(&x::DRIVE_MODE, drive & !bit, drive)),
    }
}
