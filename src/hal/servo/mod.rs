//! Servo models and their registers, as data.
//!
//! What an arm needs of every servo stands in its [`Model`] under one name, whatever the maker calls
//! it; the rest is found by name in its table, or by constant in [`feetech`] and [`dynamixel`].
//!
//! Traps that the tables know: address 126 is the current of an XL330 and the load of an XL430;
//! `Acceleration_Limit` (40) is missing on both; a homing offset is subtracted by Feetech and added
//! by Dynamixel; an SCS0009 sends its high byte first.

pub mod dynamixel;
pub mod feetech;
mod register;

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

pub use register::{Access, Encoding, Memory, Register, Unit};

use crate::config::{Protocol, SafetyConfig, ServoModel};
pub use crate::hal::wire::feetech::ByteOrder;

/// Ticks of one turn, of all but the SCS0009.
pub const TICKS_PER_TURN: i32 = 4096;
/// One such tick (rad).
pub const RAD_PER_TICK: f64 = TAU / TICKS_PER_TURN as f64;

/// A supply of 12 V, the most that an XL430 is made for, gives up to a twentieth more.
const SUPPLY_TOLERANCE: f64 = 0.05;

/// The bits of a servo's troubles, whoever made it.
pub mod trouble {
    /// The supply voltage is out of its limits.
    pub const VOLTAGE: u8 = 0x01;
    /// The angle sensor fails.
    pub const ANGLE: u8 = 0x02;
    /// Too hot.
    pub const OVERHEAT: u8 = 0x04;
    /// Too much current, or a shock of it.
    pub const OVERCURRENT: u8 = 0x08;
    /// Too much load for too long.
    pub const OVERLOAD: u8 = 0x20;
    /// It was made to hold and is without torque: it lost its power and is back. No servo says this
    /// of itself; its torque register does.
    pub const RESTARTED: u8 = 0x40;
    /// Dynamixel: something, and `Hardware_Error_Status` says what.
    pub const ALERT: u8 = 0x80;
}

/// Registers that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The first byte.
    pub address: u16,
    /// How many bytes.
    pub size: u8,
}

impl Block {
    /// From the first byte of one register to the last of another.
    const fn between(first: &Register, last: &Register) -> Self {
        Self { address: first.address, size: (last.end() - first.address) as u8 }
    }
}

/// How a servo shifts its positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Homing {
    /// Where the offset is kept.
    pub register: Register,
    /// Present position is the encoder's plus this times the offset.
    pub sign: i32,
    /// The offset's largest magnitude that counts in position mode (ticks).
    pub most: i32,
}

impl Homing {
    /// What counts of an offset (ticks) in this operating mode: nothing of one that is out of range
    /// in position mode.
    pub fn counts(&self, offset: i32, mode: i32) -> i32 {
        let ignored = mode == dynamixel::MODE_POSITION && offset.abs() > self.most;
        if ignored { 0 } else { offset }
    }
}

/// A type of servo.
#[derive(Debug, PartialEq)]
pub struct Model {
    /// As in a configuration.
    pub name: &'static str,
    /// What it says it is.
    pub number: i32,
    /// What it speaks.
    pub protocol: Protocol,
    /// All registers, by address.
    pub registers: &'static [Register],
    /// The speeds (bit/s) by their codes in the register, as far as sources agree on them.
    pub bauds: &'static [u32],
    /// Its positions are 0 to this, without it.
    pub ticks: i32,
    /// One of them (rad).
    pub rad_per_tick: f64,
    /// How far a position may lie outside of them when a hand turns it (ticks).
    pub overrun: i32,
    /// How its positions are shifted, where they can be.
    pub homing: Option<Homing>,
    /// It answers sync reads.
    pub sync_read: bool,
    /// It answers broadcast pings.
    pub broadcast_ping: bool,
    /// The first firmware that answers fast sync reads.
    pub fast_sync_read: Option<i32>,
    /// What it says about its movement.
    pub motion: Block,
    /// The same and its supply and temperature.
    pub health: Block,
    /// [`number`](Self::number).
    pub model_number: Register,
    /// Its address on the bus.
    pub id: Register,
    /// A code of [`bauds`](Self::bauds).
    pub baud_rate: Register,
    /// 1 on, 0 off.
    pub torque: Register,
    /// Where to go.
    pub goal: Register,
    /// Goals below are raised to it or refused.
    pub lowest: Register,
    /// Goals above are lowered to it or refused.
    pub highest: Register,
    /// Where it is.
    pub position: Register,
    /// How fast it moves.
    pub velocity: Register,
    /// How hard it drives: its unit is [`Unit::Ampere`] or [`Unit::Fraction`].
    pub effort: Register,
    /// Supply.
    pub voltage: Register,
    /// Motor.
    pub temperature: Register,
    /// The current that its motor draws, of one that tells it apart from [`motion`](Self::motion).
    pub current: Option<Register>,
    /// The current that counts as all it has (A).
    pub max_current: f64,
    /// The supply that it is made for: lowest and highest (V).
    pub supply: (f64, f64),
}

/// All models.
pub const MODELS: [&Model; 7] = [
    &feetech::STS3215,
    &feetech::STS3250,
    &feetech::SCS0009,
    &dynamixel::XL330_M077,
    &dynamixel::XL330_M288,
    &dynamixel::XL430_W250,
    &dynamixel::XM430_W350,
];

impl Model {
    /// The model of this type.
    pub fn of(servo: ServoModel) -> &'static Self {
        match servo {
            ServoModel::Sts3215 => &feetech::STS3215,
            ServoModel::Sts3250 => &feetech::STS3250,
            ServoModel::Scs0009 => &feetech::SCS0009,
            ServoModel::Xl330M077 => &dynamixel::XL330_M077,
            ServoModel::Xl330M288 => &dynamixel::XL330_M288,
            ServoModel::Xl430W250 => &dynamixel::XL430_W250,
            ServoModel::Xm430W350 => &dynamixel::XM430_W350,
        }
    }

    /// The model that says it is this: the two bytes of its model number as they came, for on one
    /// bus some servos send the high byte first.
    pub fn identify(protocol: Protocol, bytes: &[u8]) -> Option<&'static Self> {
        MODELS.into_iter().find(|model| {
            model.protocol == protocol && model.model_number.decode(bytes) == Some(model.number)
        })
    }

    /// The supply that an arm with these settings may have at this servo (V): within the settings,
    /// and what the servo is made for.
    pub fn supply_window(&self, safety: &SafetyConfig) -> RangeInclusive<f64> {
        let (lowest, highest) = self.supply;
        safety.min_voltage.max(lowest * (1.0 - SUPPLY_TOLERANCE))
            ..=safety.max_voltage.min(highest * (1.0 + SUPPLY_TOLERANCE))
    }

    /// The register with this datasheet name.
    pub fn register(&self, name: &str) -> Option<&'static Register> {
        self.registers.iter().find(|register| register.name == name)
    }

    /// The code that the register for the speed has for `baud`.
    pub fn baud_code(&self, baud: u32) -> Option<i32> {
        self.bauds.iter().position(|b| *b == baud).and_then(|code| i32::try_from(code).ok())
    }
}

#[cfg(test)]
mod tests;
