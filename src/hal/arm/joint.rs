//! One joint of an arm: what is set in its servo, and what its answers mean.

use std::time::Duration;

use super::checkup::restarted;
use super::{ArmError, JointState, dynamixel, feetech};
use crate::clock::Time;
use crate::config::{JointConfig, Protocol};
use crate::hal::bus::{Answer, Ask, Bus, BusError};
use crate::hal::calibration::Calibration;
use crate::hal::plausibility::{Plausibility, Reading, Verdict};
use crate::hal::servo::dynamixel::{BUS_WATCHDOG, FIRMWARE};
use crate::hal::servo::{Model, Register, Unit, trouble};

/// Time for one transaction outside the control loop.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// A joint that is not known is asked for where it is this often at most.
const MOST_READINGS: usize = 12;
/// How fast a hand moves a joint without torque, at most (rad/s).
const HAND_VELOCITY: f64 = 15.0;
/// A driven joint may overshoot its highest speed by this factor.
const OVERSHOOT: f64 = 1.5;
/// A joint this far beyond its limits is brought back by its servo; further, by hand (rad).
const LIMIT_MARGIN: f64 = 0.05;

/// A joint of an open arm.
pub(super) struct Joint {
    pub(super) config: JointConfig,
    pub(super) model: &'static Model,
    pub(super) calibration: Calibration,
    /// One unit of a speed register (rad/s).
    pub(super) speed_unit: f64,
    pub(super) plausibility: Plausibility,
    /// The troubles that an alert servo was asked for.
    pub(super) named: u8,
    /// How often in a row it was found without torque, though it was made to hold.
    pub(super) limp: u8,
    /// The status bits of the last answer.
    heard: u8,
    /// Those of the last one that was believed.
    believed: u8,
    /// As heard last (V, °C).
    voltage: f64,
    temperature: f64,
    /// As heard last (A), of a servo that tells it apart from its movement.
    pub(super) current: Option<f64>,
}

/// Until when a transaction outside the control loop may take that begins now.
pub(super) fn patience(bus: &Bus) -> Time {
    bus.clock().now() + PATIENCE
}

impl Joint {
    pub(super) fn new(config: &JointConfig) -> Self {
        let model = Model::of(config.servo);
        Self {
            config: config.clone(),
            model,
            calibration: Calibration::new(config),
            speed_unit: model.velocity.unit.scale().unwrap_or(model.rad_per_tick),
            plausibility: Plausibility::default(),
            named: 0,
            limp: 0,
            heard: 0,
            believed: 0,
            voltage: 0.0,
            temperature: 0.0,
            current: None,
        }
    }

    /// Takes what stands in the register of its current.
    pub(super) fn set_current(&mut self, raw: i32) {
        let unit = self.model.current.and_then(|register| register.unit.scale());
        self.current = unit.map(|unit| self.calibration.velocity(f64::from(raw) * unit));
    }

    pub(super) fn get(&self, bus: &mut Bus, register: &Register) -> Result<i32, BusError> {
        let deadline = patience(bus);
        Ok(bus.read(self.config.id, register, deadline)?.0)
    }

    /// Writes a register whether the servo answers or not.
    pub(super) fn tell(
        &self,
        bus: &mut Bus,
        register: &Register,
        value: i32,
    ) -> Result<(), BusError> {
        let deadline = patience(bus);
        bus.sync_write(register, [(self.config.id, value)], deadline)
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
        match self.get(bus, register)? {
            found if found == expected => Ok(()),
            found => Err(self.not_kept(register, expected, found)),
        }
    }

    pub(super) fn not_kept(&self, register: &Register, expected: i32, found: i32) -> ArmError {
        let joint = self.config.name.clone();
        ArmError::NotKept { joint, register: register.name, expected, found }
    }

    /// Keeps a limit (SI) in a register, if there is one: rounded up, and never 0, which would be
    /// none.
    pub(super) fn limit(
        &self,
        bus: &mut Bus,
        register: Option<Register>,
        limit: f64,
    ) -> Result<(), ArmError> {
        let Some(register) = register else { return Ok(()) };
        let unit = match register.unit {
            Unit::Speed => Some(self.speed_unit),
            unit => unit.scale(),
        };
        let Some(unit) = unit else { return Ok(()) };
        // The largest that Dynamixel's registers of 4 bytes take too.
        let most = if register.size == 1 { 254.0 } else { 32_767.0 };
        self.keep(bus, &register, (limit / unit).ceil().clamp(1.0, most) as i32)
    }

    /// With another offset than its calibration's the joint is elsewhere than it seems.
    pub(super) fn check_offset(&self, bus: &mut Bus) -> Result<(), ArmError> {
        let (Some(expected), Some(homing)) = (self.config.homing_offset, self.model.homing) else {
            return Ok(());
        };
        match self.get(bus, &homing.register)? {
            found if found == expected => Ok(()),
            found => {
                Err(ArmError::Uncalibrated { joint: self.config.name.clone(), expected, found })
            }
        }
    }

    /// Puts limits into the servo; whether it holds.
    pub(super) fn set_up(&mut self, bus: &mut Bus) -> Result<bool, ArmError> {
        let model = self.model;
        if model.motion != model.health {
            // Told in turn: the first ticks must not be without.
            self.voltage = self.quantity(bus, &model.voltage)?;
            self.temperature = self.quantity(bus, &model.temperature)?;
        }
        if let Some(register) = &model.current {
            let raw = self.get(bus, register)?;
            self.set_current(raw);
        }
        match model.protocol {
            Protocol::Feetech => feetech::set_up(self, bus),
            Protocol::Dynamixel => dynamixel::set_up(self, bus),
        }
    }

    fn quantity(&self, bus: &mut Bus, register: &Register) -> Result<f64, BusError> {
        Ok(f64::from(self.get(bus, register)?) * register.unit.scale().unwrap_or(1.0))
    }

    /// Whether its torque is on. One that holds must be where it may be, for its goal will be set.
    pub(super) fn holds(&mut self, bus: &mut Bus) -> Result<bool, ArmError> {
        let holds = self.get(bus, &self.model.torque)? == 1;
        if holds {
            let present = self.present(bus)?;
            self.check_limits(self.calibration.radians(present))?;
        }
        Ok(holds)
    }

    /// Whether it answers fast reads of several servos.
    pub(super) fn answers_fast(&self, bus: &mut Bus) -> Result<bool, ArmError> {
        match self.model.fast_sync_read {
            Some(first) => Ok(self.get(bus, &FIRMWARE)? >= first),
            None => Ok(false),
        }
    }

    pub(super) fn arm_watchdog(&self, bus: &mut Bus, units: i32) -> Result<(), ArmError> {
        match self.model.protocol {
            Protocol::Dynamixel => self.keep(bus, &BUS_WATCHDOG, units),
            Protocol::Feetech => Ok(()),
        }
    }

    /// Sets the goal to where the joint is, within its limits; where it is (rad).
    pub(super) fn goal_to_present(&mut self, bus: &mut Bus) -> Result<f64, ArmError> {
        let present = self.present(bus)?;
        let (lowest, highest) = self.calibration.limits();
        self.keep(bus, &self.model.goal, present.clamp(lowest, highest))?;
        Ok(self.calibration.radians(present))
    }

    /// Where the joint is (ticks), asked until answers agree, whatever was known of it before.
    fn present(&mut self, bus: &mut Bus) -> Result<i32, ArmError> {
        let (id, model) = (self.config.id, self.model);
        self.plausibility.reset();
        for _ in 0..MOST_READINGS {
            let answer = bus.read_block(id, model.health, patience(bus))?;
            if self.take(&answer, false).is_some()
                && let Some(ticks) = model.position.decode_at(model.motion.address, &answer.data)
            {
                return Ok(ticks);
            }
        }
        Err(BusError::NoAnswer { id }.into())
    }

    pub(super) fn check_limits(&self, found: f64) -> Result<(), ArmError> {
        let (min, max) = (self.config.min_rad, self.config.max_rad);
        if (min - LIMIT_MARGIN..=max + LIMIT_MARGIN).contains(&found) {
            return Ok(());
        }
        Err(ArmError::BeyondLimits { joint: self.config.name.clone(), found, min, max })
    }

    /// What to read of it in this tick; its supply and temperature only in its turn.
    pub(super) fn ask(&self, turn: bool) -> Ask {
        let block = if turn { self.model.health } else { self.model.motion };
        Ask { id: self.config.id, block, together: self.model.sync_read }
    }

    /// Its troubles, and what is known of an alert.
    pub(super) fn status(&self) -> u8 {
        let named = if self.believed & trouble::ALERT != 0 { self.named } else { 0 };
        self.believed | named | restarted(self.limp)
    }

    /// The state that an answer tells; `None` when it cannot be true, or tells of a trouble that the
    /// answer before did not: damage may set a bit and pass the checksum. Both blocks begin alike.
    pub(super) fn take(&mut self, answer: &Answer, held: bool) -> Option<JointState> {
        let model = self.model;
        let before = std::mem::replace(&mut self.heard, answer.status);
        if answer.status & !before != 0 {
            return None;
        }
        let value = |register: &Register| register.decode_at(model.motion.address, &answer.data);
        let possible = -model.overrun..model.ticks + model.overrun;
        let ticks = value(&model.position).filter(|ticks| possible.contains(ticks))?;
        let position = self.calibration.radians(ticks);
        let quantity = |register: &Register| {
            Some(f64::from(value(register)?) * register.unit.scale().unwrap_or(self.speed_unit))
        };
        let temperature = quantity(&model.temperature).unwrap_or(self.temperature);
        let reading = Reading { position, temperature, time: answer.asked };
        let velocity = self.calibration.velocity(quantity(&model.velocity)?);
        let effort = self.calibration.velocity(quantity(&model.effort)?);
        let voltage = quantity(&model.voltage).unwrap_or(self.voltage);
        let max_velocity = if held { OVERSHOOT * self.config.max_velocity } else { HAND_VELOCITY };
        let verdict = self.plausibility.judge(reading, max_velocity);
        if verdict == Verdict::Implausible {
            return None;
        }
        (self.voltage, self.temperature) = (voltage, temperature);
        self.believed = answer.status;
        if answer.status & trouble::ALERT == 0 {
            self.named = 0;
        }
        let current = matches!(model.effort.unit, Unit::Ampere(_)).then_some(effort);
        Some(JointState {
            position,
            velocity,
            load: current.map_or(effort, |current| current / model.max_current),
            current: current.or(self.current),
            voltage,
            temperature,
            status: self.status(),
            stamp: answer.asked,
            jumped: verdict == Verdict::Jumped,
        })
    }
}
