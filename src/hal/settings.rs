//! What should stand in a servo's registers for good: compared first, written only where it
//! differs, read back.

use std::time::Duration;

use super::bus::{Bus, BusError};
use super::calibration::{Calibration, JointCalibration};
use super::servo::{Memory, Model, Register, dynamixel, feetech};
use crate::config::{JointConfig, Protocol, Tuning};

/// Time for one transaction.
const PATIENCE: Duration = Duration::from_millis(200);

/// Why a servo's settings are not as they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The bus failed.
    #[error("joint `{joint}`: {source}")]
    Bus {
        /// The joint.
        joint: String,
        /// What happened.
        source: BusError,
    },
    /// The servo holds: this register cannot be written, or must not be.
    #[error(
        "joint `{joint}`: expected torque off, found it on; `regoal arm --off` or switch the power \
         off and on"
    )]
    TorqueOn {
        /// The joint.
        joint: String,
    },
    /// The value does not fit the register of this servo.
    #[error("joint `{joint}`: {register}: expected a value that fits, found {value}")]
    Value {
        /// The joint.
        joint: String,
        /// The register.
        register: &'static str,
        /// The value, in the configuration's unit.
        value: f64,
    },
    /// The servo of this joint has no such register.
    #[error("joint `{joint}`: its servo, {model}, has no {register}; remove the setting")]
    NoRegister {
        /// The joint.
        joint: String,
        /// The servo's type.
        model: &'static str,
        /// What is not there.
        register: &'static str,
    },
    /// The servo says it has kept another value.
    #[error("joint `{joint}`: {register}: expected {expected} after writing it, found {found}")]
    NotKept {
        /// The joint.
        joint: String,
        /// The register.
        register: &'static str,
        /// What was written.
        expected: i32,
        /// What was read back.
        found: i32,
    },
}

/// One register and what should stand in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// Where.
    pub register: Register,
    /// What, in the register's own unit.
    pub value: i32,
    /// The bits that count; the others stay as they are.
    pub mask: i32,
}

/// A register that has another value than it should.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The joint.
    pub joint: String,
    /// The servo's bus id.
    pub id: u8,
    /// Where.
    pub register: Register,
    /// What stands there.
    pub found: i32,
    /// What should.
    pub expected: i32,
}

/// What should stand in the servo of a joint: within one turn, no delay before answers, limits and
/// gains of the configuration, the homing offset of the calibration.
///
/// # Errors
/// A gain or protection that this servo does not have, or that does not fit.
pub fn settings(
    joint: &JointConfig,
    calibration: Option<&JointCalibration>,
) -> Result<Vec<Setting>, SettingError> {
    let model = Model::of(joint.servo);
    let (lowest, highest) = Calibration::new(joint).limits();
    let mut settings = vec![whole(model.lowest, lowest), whole(model.highest, highest)];
    let fixed: &[(Register, i32, i32)] = match model.protocol {
        Protocol::Feetech => &[
            (feetech::RETURN_DELAY, 0, !0),
            (feetech::RESPONSE_LEVEL, 1, !0),
            (feetech::PHASE, 0, feetech::PHASE_MULTI_TURN),
            (feetech::MODE, 0, !0),
        ],
        Protocol::Dynamixel => &[
            (dynamixel::RETURN_DELAY, 0, !0),
            (dynamixel::STATUS_RETURN_LEVEL, 2, !0),
            (dynamixel::DRIVE_MODE, 0, dynamixel::DRIVE_TIME_PROFILE),
            (dynamixel::MODE, dynamixel::MODE_POSITION, !0),
        ],
    };
    for (register, value, mask) in fixed {
        // An SCS0009 has other registers, and one mode only.
        let own = model.register(register.name).filter(|own| own.address == register.address);
        settings.extend(own.map(|register| Setting {
            register: *register,
            value: *value,
            mask: *mask,
        }));
    }
    if let (Some(calibration), Some(homing)) = (calibration, model.homing) {
        settings.push(whole(homing.register, calibration.homing_offset));
    }
    settings.extend(tuned(joint, model)?);
    Ok(settings)
}

fn whole(register: Register, value: i32) -> Setting {
    Setting { register, value, mask: !0 }
}

/// The settings that a configuration gives in SI units.
fn tuned(joint: &JointConfig, model: &Model) -> Result<Vec<Setting>, SettingError> {
    let Tuning { p_gain, i_gain, d_gain, .. } = joint.tuning;
    let tuning = &joint.tuning;
    let gain = |gain: Option<u16>| gain.map(f64::from);
    let wishes: [(Option<f64>, &'static str, &'static str); 8] = [
        (gain(p_gain), feetech::P_GAIN.name, dynamixel::P_GAIN.name),
        (gain(i_gain), feetech::I_GAIN.name, dynamixel::I_GAIN.name),
        (gain(d_gain), feetech::D_GAIN.name, dynamixel::D_GAIN.name),
        (tuning.max_torque, feetech::MAX_TORQUE.name, dynamixel::PWM_LIMIT.name),
        (tuning.max_current, feetech::PROTECTION_CURRENT.name, dynamixel::CURRENT_LIMIT_1.name),
        (tuning.overload_torque, feetech::OVERLOAD_TORQUE.name, "Overload_Torque"),
        (tuning.protective_torque, feetech::PROTECTIVE_TORQUE.name, "Protective_Torque"),
        (
            tuning.max_temperature.map(f64::from),
            feetech::MAX_TEMPERATURE.name,
            dynamixel::TEMPERATURE_LIMIT.name,
        ),
    ];
    let mut settings = Vec::new();
    for (wish, of_feetech, of_dynamixel) in wishes {
        let Some(value) = wish else { continue };
        let name = match model.protocol {
            Protocol::Feetech => of_feetech,
            Protocol::Dynamixel => of_dynamixel,
        };
        let (joint, model_name) = (joint.name.clone(), model.name);
        let Some(register) = model.register(name) else {
            return Err(SettingError::NoRegister { joint, model: model_name, register: name });
        };
        let raw = (value / register.unit.scale().unwrap_or(1.0)).round() as i32;
        if register.encode(raw).is_none() {
            return Err(SettingError::Value { joint, register: name, value });
        }
        settings.push(whole(*register, raw));
    }
    Ok(settings)
}

/// Which of a joint's settings its servo has otherwise. Only reads.
///
/// # Errors
/// The servo does not answer, or the port fails.
pub fn differences(
    bus: &mut Bus,
    joint: &JointConfig,
    settings: &[Setting],
) -> Result<Vec<Difference>, SettingError> {
    let mut differences = Vec::new();
    for setting in settings {
        let found = read(bus, &joint.name, joint.id, &setting.register)?;
        let expected = found & !setting.mask | setting.value & setting.mask;
        if found != expected {
            let (joint, id, register) = (joint.name.clone(), joint.id, setting.register);
            differences.push(Difference { joint, id, register, found, expected });
        }
    }
    Ok(differences)
}

/// Writes what differs in one servo and reads each value back. EEPROM is opened for this only if it
/// must be, and closed again whatever happens.
///
/// # Errors
/// The servo holds, does not answer, or does not keep a value; the port fails.
pub fn write(
    bus: &mut Bus,
    joint: &JointConfig,
    differences: &[Difference],
) -> Result<(), SettingError> {
    let model = Model::of(joint.servo);
    if differences.iter().all(|difference| difference.register.memory == Memory::Ram) {
        return differences.iter().try_for_each(|difference| keep(bus, difference));
    }
    if read(bus, &joint.name, joint.id, &model.torque)? != 0 {
        return Err(SettingError::TorqueOn { joint: joint.name.clone() });
    }
    unlocked(bus, joint, joint.id, |bus| {
        differences.iter().try_for_each(|difference| keep(bus, difference))
    })
}

/// Does something with the EEPROM of servo `id` open for writing; it is closed again after.
///
/// # Errors
/// What `work` says; the servo does not answer or the port fails.
pub fn unlocked<T>(
    bus: &mut Bus,
    joint: &JointConfig,
    id: u8,
    work: impl FnOnce(&mut Bus) -> Result<T, SettingError>,
) -> Result<T, SettingError> {
    let lock = Model::of(joint.servo).register(feetech::LOCK.name);
    if let Some(lock) = lock {
        send(bus, &joint.name, id, lock, 0)?;
    }
    let done = work(bus);
    let Some(lock) = lock else { return done };
    // What failed first is what the user must know.
    let closed = send(bus, &joint.name, id, lock, 1);
    done.and_then(|done| closed.map(|()| done))
}

fn keep(bus: &mut Bus, difference: &Difference) -> Result<(), SettingError> {
    let Difference { joint, id, register, expected, .. } = difference;
    send(bus, joint, *id, register, *expected)?;
    let found = read(bus, joint, *id, register)?;
    if found == *expected {
        return Ok(());
    }
    let (joint, register, expected) = (joint.clone(), register.name, *expected);
    Err(SettingError::NotKept { joint, register, expected, found })
}

/// Writes a register whether or not the servo acknowledges writes: who relies on it reads it back.
fn send(
    bus: &mut Bus,
    joint: &str,
    id: u8,
    register: &Register,
    value: i32,
) -> Result<(), SettingError> {
    let deadline = bus.clock().now() + PATIENCE;
    match bus.write(id, register, value, deadline) {
        Ok(_) | Err(BusError::NoAnswer { .. }) => Ok(()),
        Err(source) => Err(SettingError::Bus { joint: joint.into(), source }),
    }
}

/// Reads a register of a joint's servo.
///
/// # Errors
/// The servo does not answer, or the port fails.
pub fn read(bus: &mut Bus, joint: &str, id: u8, register: &Register) -> Result<i32, SettingError> {
    let deadline = bus.clock().now() + PATIENCE;
    let read = bus.read(id, register, deadline).map(|(value, _)| value);
    read.map_err(|source| SettingError::Bus { joint: joint.into(), source })
}
