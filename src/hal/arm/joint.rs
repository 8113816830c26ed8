//! One joint of an arm: what is set in its servo, and what its answers mean.

use std::time::Duration;

use super::{ArmError, JointState};
use crate::clock::Time;
use crate::config::JointConfig;
use crate::hal::bus::{Answer, Bus, BusError};
use crate::hal::calibration::Calibration;
use crate::hal::plausibility::{Plausibility, Reading, Verdict};
use crate::hal::servo::feetech as servo;
use crate::hal::servo::{RAD_PER_TICK, Register, TICKS_PER_TURN};

/// Time for one transaction outside the control loop.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// The block that one sync read takes of each servo: position, velocity, load, voltage, temperature.
pub(super) const BLOCK: Register = servo::PRESENT_POSITION;
pub(super) const BLOCK_SIZE: u8 = 8;
/// How fast a hand moves a joint without torque, at most (rad/s).
const HAND_VELOCITY: f64 = 15.0;
/// A driven joint may overshoot its highest speed by this factor.
const OVERSHOOT: f64 = 1.5;
/// A joint this far beyond its limits is brought back by its servo; further, by hand (rad).
const LIMIT_MARGIN: f64 = 0.05;

/// A joint of an open arm.
pub(super) struct Joint {
    pub(super) config: JointConfig,
    pub(super) calibration: Calibration,
    /// One unit of a speed register (rad/s).
    speed_unit: f64,
    pub(super) plausibility: Plausibility,
    /// The status byte of the last answer.
    status: u8,
}

/// Until when a transaction outside the control loop may take that begins now.
pub(super) fn patience(bus: &Bus) -> Time {
    bus.clock().now() + PATIENCE
}

impl Joint {
    pub(super) fn new(config: &JointConfig) -> Self {
        Self {
            calibration: Calibration::new(config),
            config: config.clone(),
            speed_unit: RAD_PER_TICK,
            plausibility: Plausibility::default(),
            status: 0,
        }
    }

    pub(super) fn get(&self, bus: &mut Bus, register: &Register) -> Result<i32, BusError> {
        let deadline = patience(bus);
        Ok(bus.read(self.config.id, register, deadline)?.0)
    }

    /// Writes a register and reads it back.
    pub(super) fn keep(
        &self,
        bus: &mut Bus,
        register: &Register,
        expected: i32,
    ) -> Result<(), ArmError> {
        let deadline = patience(bus);
        bus.write(self.config.id, register, expected, deadline)?;
        let found = self.get(bus, register)?;
        if found == expected {
            return Ok(());
        }
        let joint = self.config.name.clone();
        Err(ArmError::NotKept { joint, register: register.name, expected, found })
    }

    /// Puts limits into the servo and its goal to where it is; whether it holds.
    pub(super) fn set_up(&mut self, bus: &mut Bus) -> Result<bool, ArmError> {
        let phase = self.get(bus, &servo::PHASE)? & !servo::PHASE_MULTI_TURN;
        self.speed_unit = servo::speed_unit(phase);
        let (lowest, highest) = self.calibration.limits();
        self.keep_for_good(
            bus,
            &[
                (servo::RESPONSE_LEVEL, 1),
                (servo::PHASE, phase),
                (servo::MODE, 0),
                (servo::MIN_POSITION, lowest),
                (servo::MAX_POSITION, highest),
            ],
        )?;
        let units =
            |limit: f64, unit: f64, most: f64| (limit / unit).ceil().clamp(1.0, most) as i32;
        let acceleration = units(self.config.max_acceleration, servo::ACCELERATION_UNIT, 254.0);
        self.keep(bus, &servo::ACCELERATION, acceleration)?;
        self.keep(
            bus,
            &servo::GOAL_VELOCITY,
            units(self.config.max_velocity, self.speed_unit, 32_767.0),
        )?;
        let torque = self.get(bus, &servo::MAX_TORQUE)?;
        self.keep(bus, &servo::TORQUE_LIMIT, torque)?;
        self.goal_to_present(bus)?;
        Ok(self.get(bus, &servo::TORQUE_ENABLE)? == 1)
    }

    /// Writes EEPROM registers where they differ, which wears them out.
    fn keep_for_good(&self, bus: &mut Bus, values: &[(Register, i32)]) -> Result<(), ArmError> {
        let mut unlocked = false;
        for (register, value) in values {
            if self.get(bus, register)? == *value {
                continue;
            }
            if !unlocked {
                // A servo that answers reads only does not acknowledge this either.
                let deadline = patience(bus);
                bus.sync_write(&servo::LOCK, [(self.config.id, 0)], deadline)?;
                bus.sync_write(register, [(self.config.id, *value)], deadline)?;
                unlocked = true;
            }
            self.keep(bus, register, *value)?;
        }
        if unlocked { self.keep(bus, &servo::LOCK, 1) } else { Ok(()) }
    }

    /// Sets the goal to where the joint is, within its limits; where it is (rad).
    pub(super) fn goal_to_present(&self, bus: &mut Bus) -> Result<f64, ArmError> {
        let present = self.get(bus, &servo::PRESENT_POSITION)?;
        let (lowest, highest) = self.calibration.limits();
        self.keep(bus, &servo::GOAL_POSITION, present.clamp(lowest, highest))?;
        Ok(self.calibration.radians(present))
    }

    pub(super) fn check_limits(&self, found: f64) -> Result<(), ArmError> {
        let (min, max) = (self.config.min_rad, self.config.max_rad);
        if (min - LIMIT_MARGIN..=max + LIMIT_MARGIN).contains(&found) {
            return Ok(());
        }
        Err(ArmError::BeyondLimits { joint: self.config.name.clone(), found, min, max })
    }

    /// The state that an answer tells, `None` when it cannot be true.
    pub(super) fn take(&mut self, answer: &Answer, held: bool) -> Option<JointState> {
        let value = |register: &Register| register.decode_at(BLOCK.address, &answer.data);
        let ticks = value(&servo::PRESENT_POSITION).filter(|t| (0..TICKS_PER_TURN).contains(t))?;
        let position = self.calibration.radians(ticks);
        let temperature = f64::from(value(&servo::PRESENT_TEMPERATURE)?);
        let reading = Reading { position, temperature, time: answer.asked };
        let max_velocity = if held { OVERSHOOT * self.config.max_velocity } else { HAND_VELOCITY };
        let verdict = self.plausibility.judge(reading, max_velocity);
        if verdict == Verdict::Implausible {
            return None;
        }
        let status = answer.status & std::mem::replace(&mut self.status, answer.status);
        let speed = f64::from(value(&servo::PRESENT_VELOCITY)?) * self.speed_unit;
        let load = f64::from(value(&servo::PRESENT_LOAD)?) * 1e-3;
        Some(JointState {
            position,
            velocity: self.calibration.velocity(speed),
            load: self.calibration.velocity(load),
            voltage: f64::from(value(&servo::PRESENT_VOLTAGE)?) * 0.1,
            temperature,
            status,
            stamp: answer.asked,
            jumped: verdict == Verdict::Jumped,
        })
    }
}
