//! The registers of the Feetech STS3215 as data.
//!
//! Source: Feetech, "STS series servo memory table". Position is counted in ticks of 1/4096 turn.

use std::f64::consts::TAU;

use super::wire::feetech::{from_sign_magnitude, to_sign_magnitude};

/// The model number that an STS3215 says it is.
pub const STS3215_MODEL: i32 = 777;
/// Ticks of one turn.
pub const TICKS_PER_TURN: i32 = 4096;
/// One tick (rad).
pub const RAD_PER_TICK: f64 = TAU / TICKS_PER_TURN as f64;
/// The registers' end: no servo has an address from here on.
pub const MEMORY_END: u8 = 0x80;

/// `Phase`: fast speed unit when clear.
pub const PHASE_FINE_SPEED: i32 = 1 << 2;
/// `Phase`: goal velocity 0 means as fast as it can.
pub const PHASE_ZERO_IS_MAX: i32 = 1 << 3;
/// `Phase`: positions count on beyond one turn.
pub const PHASE_MULTI_TURN: i32 = 1 << 4;

/// Where a register is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Kept without power; writable only while `Lock` is 0; wears out.
    Eeprom,
    /// Lost without power.
    Ram,
}

/// Who may write a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    Read,
    /// The host.
    ReadWrite,
}

/// What 1 in a register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number, a code or bits.
    Plain,
    /// 1/4096 turn.
    Tick,
    /// 1 or 50 ticks/s, by `Phase` bit 2.
    Speed,
    /// 100 ticks/s².
    Acceleration,
    /// 0.1 % of what the servo can.
    Permille,
    /// 1 %.
    Percent,
    /// 0.1 V.
    Decivolt,
    /// 1 °C.
    Celsius,
    /// 6.5 mA.
    Current,
    /// 2 µs.
    TwoMicroseconds,
    /// 1 ms.
    Millisecond,
    /// 10 ms.
    TenMilliseconds,
}

/// One register of a servo; multi-byte values are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register {
    /// Its datasheet name.
    pub name: &'static str,
    /// Its first byte.
    pub address: u8,
    /// Its bytes: 1 or 2.
    pub size: u8,
    /// What 1 in it is.
    pub unit: Unit,
    /// The bit that is the sign; the bits below are the magnitude.
    pub sign_bit: Option<u8>,
    /// Where it is kept.
    pub memory: Memory,
    /// Who may write it.
    pub access: Access,
}

impl Register {
    const fn new(name: &'static str, address: u8, size: u8, unit: Unit, access: Access) -> Self {
        let memory = if address < 40 { Memory::Eeprom } else { Memory::Ram };
        Self { name, address, size, unit, sign_bit: None, memory, access }
    }

    const fn signed(mut self, bit: u8) -> Self {
        self.sign_bit = Some(bit);
        self
    }

    /// The value in `bytes`, which begin with this register; `None` when they are too few.
    pub fn decode(&self, bytes: &[u8]) -> Option<i32> {
        let raw = match (self.size, bytes) {
            (1, [low, ..]) => u16::from(*low),
            (2, [low, high, ..]) => u16::from_le_bytes([*low, *high]),
            _ => return None,
        };
        Some(self.sign_bit.map_or(i32::from(raw), |bit| from_sign_magnitude(raw, bit)))
    }

    /// The value in `block`, a copy of the registers from address `start` on.
    pub fn decode_at(&self, start: u8, block: &[u8]) -> Option<i32> {
        self.decode(block.get(usize::from(self.address.checked_sub(start)?)..)?)
    }

    /// The bytes that hold `value`; `None` when it does not fit.
    pub fn encode(&self, value: i32) -> Option<heapless::Vec<u8, 2>> {
        let raw = match self.sign_bit {
            Some(bit) => to_sign_magnitude(value, bit)?,
            None => u16::try_from(value).ok()?,
        };
        let bytes = raw.to_le_bytes();
        match self.size {
            1 if raw > 0xFF => None,
            1 => heapless::Vec::from_slice(bytes.get(..1)?).ok(),
            _ => heapless::Vec::from_slice(&bytes).ok(),
        }
    }
}

use Access::{Read, ReadWrite};
use Unit::*;

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $address:literal, $size:literal, $unit:ident, $access:ident $(, sign $bit:literal)?;)*) => {
        $($(#[$doc])* pub const $name: Register =
            Register::new($label, $address, $size, $unit, $access)$(.signed($bit))?;)*
        /// All registers, by address.
        pub const STS3215: &[Register] = &[$($name),*];
    };
}

registers! {
    /// Firmware, major.
    FIRMWARE_MAJOR = "Firmware_Major", 0, 1, Plain, Read;
    /// Firmware, minor.
    FIRMWARE_MINOR = "Firmware_Minor", 1, 1, Plain, Read;
    /// 0: little-endian.
    END = "End", 2, 1, Plain, Read;
    /// [`STS3215_MODEL`].
    MODEL = "Model_Number", 3, 2, Plain, Read;
    /// 0 to 253.
    ID = "ID", 5, 1, Plain, ReadWrite;
    /// 0 is 1 Mbaud.
    BAUD_RATE = "Baud_Rate", 6, 1, Plain, ReadWrite;
    /// Before an answer.
    RETURN_DELAY = "Return_Delay_Time", 7, 1, TwoMicroseconds, ReadWrite;
    /// 0: only reads and pings are answered; 1: all.
    RESPONSE_LEVEL = "Response_Status_Level", 8, 1, Plain, ReadWrite;
    /// Goals below are raised to it.
    MIN_POSITION = "Min_Position_Limit", 9, 2, Tick, ReadWrite, sign 15;
    /// Goals above are lowered to it.
    MAX_POSITION = "Max_Position_Limit", 11, 2, Tick, ReadWrite, sign 15;
    /// Hotter is an overheat.
    MAX_TEMPERATURE = "Max_Temperature_Limit", 13, 1, Celsius, ReadWrite;
    /// More is a voltage error.
    MAX_VOLTAGE = "Max_Voltage_Limit", 14, 1, Decivolt, ReadWrite;
    /// Less is a voltage error.
    MIN_VOLTAGE = "Min_Voltage_Limit", 15, 1, Decivolt, ReadWrite;
    /// Copied to [`TORQUE_LIMIT`] at power-up.
    MAX_TORQUE = "Max_Torque_Limit", 16, 2, Permille, ReadWrite;
    /// Bits `PHASE_*`.
    PHASE = "Phase", 18, 1, Plain, ReadWrite;
    /// The status bits that release the torque.
    UNLOADING = "Unloading_Condition", 19, 1, Plain, ReadWrite;
    /// Proportional gain.
    P_GAIN = "P_Coefficient", 21, 1, Plain, ReadWrite;
    /// Derivative gain.
    D_GAIN = "D_Coefficient", 22, 1, Plain, ReadWrite;
    /// Integral gain.
    I_GAIN = "I_Coefficient", 23, 1, Plain, ReadWrite;
    /// Least torque to start; sources differ on its size, the low byte is the same in both.
    MIN_START_FORCE = "Minimum_Startup_Force", 24, 1, Permille, ReadWrite;
    /// Dead zone, clockwise.
    CW_DEAD_ZONE = "CW_Dead_Zone", 26, 1, Tick, ReadWrite;
    /// Dead zone, counter-clockwise.
    CCW_DEAD_ZONE = "CCW_Dead_Zone", 27, 1, Tick, ReadWrite;
    /// More is an over-current.
    PROTECTION_CURRENT = "Protection_Current", 28, 2, Current, ReadWrite;
    /// Present position is the encoder's less this.
    HOMING_OFFSET = "Homing_Offset", 31, 2, Tick, ReadWrite, sign 11;
    /// 0 position, 1 velocity, 2 PWM, 3 step.
    MODE = "Operating_Mode", 33, 1, Plain, ReadWrite;
    /// Torque after an overload.
    PROTECTIVE_TORQUE = "Protective_Torque", 34, 1, Percent, ReadWrite;
    /// How long an overload lasts before it counts.
    PROTECTION_TIME = "Protection_Time", 35, 1, TenMilliseconds, ReadWrite;
    /// More load is an overload.
    OVERLOAD_TORQUE = "Overload_Torque", 36, 1, Percent, ReadWrite;
    /// How long an over-current lasts before it counts.
    OVERCURRENT_TIME = "Over_Current_Protection_Time", 38, 1, TenMilliseconds, ReadWrite;
    /// 0 off, 1 on, 2 damping, 128: here is 2048.
    TORQUE_ENABLE = "Torque_Enable", 40, 1, Plain, ReadWrite;
    /// 0: as fast as it can.
    ACCELERATION = "Acceleration", 41, 1, Acceleration, ReadWrite;
    /// Where to go.
    GOAL_POSITION = "Goal_Position", 42, 2, Tick, ReadWrite, sign 15;
    /// Time to go there.
    GOAL_TIME = "Goal_Time", 44, 2, Millisecond, ReadWrite;
    /// Speed to go there.
    GOAL_VELOCITY = "Goal_Velocity", 46, 2, Speed, ReadWrite, sign 15;
    /// The most torque.
    TORQUE_LIMIT = "Torque_Limit", 48, 2, Permille, ReadWrite;
    /// 0: EEPROM is writable.
    LOCK = "Lock", 55, 1, Plain, ReadWrite;
    /// Where it is.
    PRESENT_POSITION = "Present_Position", 56, 2, Tick, Read, sign 15;
    /// How fast it moves.
    PRESENT_VELOCITY = "Present_Velocity", 58, 2, Speed, Read, sign 15;
    /// How hard it drives.
    PRESENT_LOAD = "Present_Load", 60, 2, Permille, Read, sign 10;
    /// Supply.
    PRESENT_VOLTAGE = "Present_Voltage", 62, 1, Decivolt, Read;
    /// Motor.
    PRESENT_TEMPERATURE = "Present_Temperature", 63, 1, Celsius, Read;
    /// The status bits.
    STATUS = "Status", 65, 1, Plain, Read;
    /// 1 while it moves.
    MOVING = "Moving", 66, 1, Plain, Read;
    /// Motor.
    PRESENT_CURRENT = "Present_Current", 69, 2, Current, Read, sign 15;
    /// The factory's highest speed.
    MAX_SPEED = "Maximum_Velocity_Limit", 84, 1, Plain, ReadWrite;
    /// The factory's highest acceleration.
    MAX_ACCELERATION = "Maximum_Acceleration", 85, 1, Acceleration, ReadWrite;
    /// The factory's multiplier of accelerations.
    ACCELERATION_MULTIPLIER = "Acceleration_Multiplier", 86, 1, Plain, ReadWrite;
}

/// One unit of a speed register (rad/s) of a servo with this `Phase`: 0.0146 or 0.732 rpm.
pub fn speed_unit(phase: i32) -> f64 {
    if phase & PHASE_FINE_SPEED == 0 { 50.0 * RAD_PER_TICK } else { RAD_PER_TICK }
}

/// One unit of the acceleration register (rad/s²).
pub const ACCELERATION_UNIT: f64 = 100.0 * RAD_PER_TICK;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_sorted_do_not_overlap_and_end_before_the_memory_does() {
        for pair in STS3215.windows(2) {
            assert!(
                pair[0].address + pair[0].size <= pair[1].address,
                "{} {}",
                pair[0].name,
                pair[1].name
            );
        }
        let last = STS3215.last().unwrap();
        assert!(last.address + last.size <= MEMORY_END);
    }

    #[test]
    fn every_value_that_fits_comes_back_and_no_other_is_encoded() {
        for register in STS3215 {
            for value in -40_000..70_000 {
                if let Some(bytes) = register.encode(value) {
                    assert_eq!(bytes.len(), usize::from(register.size));
                    assert_eq!(register.decode(&bytes), Some(value), "{}", register.name);
                }
            }
            let limit = match (register.sign_bit, register.size) {
                (Some(bit), _) => 1 << bit,
                (None, 1) => 256,
                (None, _) => 65_536,
            };
            assert!(register.encode(limit - 1).is_some() && register.encode(limit).is_none());
        }
    }

    #[test]
    fn a_block_is_decoded_by_address() {
        let block = [0x00, 0x08, 0x05, 0x80, 0x0A, 0x04, 121, 35];
        assert_eq!(PRESENT_POSITION.decode_at(56, &block), Some(2048));
        assert_eq!(PRESENT_VELOCITY.decode_at(56, &block), Some(-5));
        assert_eq!(PRESENT_LOAD.decode_at(56, &block), Some(-10));
        assert_eq!(PRESENT_TEMPERATURE.decode_at(56, &block), Some(35));
        assert_eq!(GOAL_POSITION.decode_at(56, &block), None);
        assert_eq!(STATUS.decode_at(56, &block), None);
    }
}
