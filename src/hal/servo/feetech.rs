//! Feetech STS and SCS servos.
//!
//! Sources: Feetech, "STS series servo memory table" and "SCSCL memory table"; the register names are
//! those of `feetech/tables.py` in LeRobot 0.6.1.

use std::f64::consts::TAU;

use super::register::{Access, Encoding, Memory, Register, Unit};
use super::{Block, Homing, Model, RAD_PER_TICK, TICKS_PER_TURN};
use crate::config::Protocol;
use crate::hal::wire::feetech::ByteOrder;

/// The registers' end: no servo has an address from here on.
pub const MEMORY_END: u8 = 0x80;

/// `Phase`: fast speed unit when clear.
pub const PHASE_FINE_SPEED: i32 = 1 << 2;
/// `Phase`: goal velocity 0 means as fast as it can.
pub const PHASE_ZERO_IS_MAX: i32 = 1 << 3;
/// `Phase`: positions count on beyond one turn.
pub const PHASE_MULTI_TURN: i32 = 1 << 4;

use Access::{Read, ReadWrite};
use Unit::*;

/// One unit of the STS acceleration register (rad/s²).
pub const ACCELERATION_UNIT: f64 = 100.0 * RAD_PER_TICK;
/// One tick of an SCS0009 (rad).
const RAD_PER_SCS_TICK: f64 = 300.0 / 360.0 * TAU / 1024.0;

/// From here on registers are lost without power.
const RAM: u16 = 40;

macro_rules! registers {
    ($(#[$table_doc:meta])* $table:ident, $order:ident;
     $($(#[$doc:meta])* $name:ident = $label:literal, $address:literal, $size:literal, $unit:expr, $access:ident $(, sign $bit:literal)? $(, default $default:literal)?;)*) => {
        $($(#[$doc])* pub const $name: Register = Register {
            order: ByteOrder::$order,
            $(encoding: Encoding::SignMagnitude($bit),)?
            $(default: Some($default),)?
            memory: if $address < RAM { Memory::Eeprom } else { Memory::Ram },
            ..Register::new($label, $address, $size, $unit, $access)
        };)*
        $(#[$table_doc])*
        pub const $table: &[Register] = &[$($name),*];
    };
}

registers! {
    /// The registers of the STS series, by address.
    STS, LittleEndian;
    /// Firmware, major.
    FIRMWARE_MAJOR = "Firmware_Major", 0, 1, Plain, Read;
    /// Firmware, minor.
    FIRMWARE_MINOR = "Firmware_Minor", 1, 1, Plain, Read;
    /// 0: little-endian.
    END = "End", 2, 1, Plain, Read, default 0;
    /// [`Model::number`].
    MODEL = "Model_Number", 3, 2, Plain, Read;
    /// 0 to 253.
    ID = "ID", 5, 1, Plain, ReadWrite, default 1;
    /// 0 is 1 Mbaud.
    BAUD_RATE = "Baud_Rate", 6, 1, Plain, ReadWrite, default 0;
    /// Before an answer.
    RETURN_DELAY = "Return_Delay_Time", 7, 1, Second(2e-6), ReadWrite, default 0;
    /// 0: only reads and pings are answered; 1: all.
    RESPONSE_LEVEL = "Response_Status_Level", 8, 1, Plain, ReadWrite, default 1;
    /// Goals below are raised to it.
    MIN_POSITION = "Min_Position_Limit", 9, 2, Tick, ReadWrite, sign 15, default 0;
    /// Goals above are lowered to it.
    MAX_POSITION = "Max_Position_Limit", 11, 2, Tick, ReadWrite, sign 15, default 4095;
    /// Hotter is an overheat.
    MAX_TEMPERATURE = "Max_Temperature_Limit", 13, 1, Celsius, ReadWrite, default 70;
    /// More is a voltage error.
    MAX_VOLTAGE = "Max_Voltage_Limit", 14, 1, Volt(0.1), ReadWrite;
    /// Less is a voltage error.
    MIN_VOLTAGE = "Min_Voltage_Limit", 15, 1, Volt(0.1), ReadWrite;
    /// Copied to [`TORQUE_LIMIT`] at power-up.
    MAX_TORQUE = "Max_Torque_Limit", 16, 2, Fraction(1e-3), ReadWrite, default 1000;
    /// Bits `PHASE_*`.
    PHASE = "Phase", 18, 1, Plain, ReadWrite;
    /// The status bits that release the torque.
    UNLOADING = "Unloading_Condition", 19, 1, Plain, ReadWrite;
    /// Proportional gain.
    P_GAIN = "P_Coefficient", 21, 1, Plain, ReadWrite, default 32;
    /// Derivative gain.
    D_GAIN = "D_Coefficient", 22, 1, Plain, ReadWrite, default 32;
    /// Integral gain.
    I_GAIN = "I_Coefficient", 23, 1, Plain, ReadWrite, default 0;
    /// Least torque to start; sources differ on its size, the low byte is the same in both.
    MIN_START_FORCE = "Minimum_Startup_Force", 24, 1, Fraction(1e-3), ReadWrite, default 16;
    /// Dead zone, clockwise.
    CW_DEAD_ZONE = "CW_Dead_Zone", 26, 1, Tick, ReadWrite, default 1;
    /// Dead zone, counter-clockwise.
    CCW_DEAD_ZONE = "CCW_Dead_Zone", 27, 1, Tick, ReadWrite, default 1;
    /// More is an over-current.
    PROTECTION_CURRENT = "Protection_Current", 28, 2, Ampere(6.5e-3), ReadWrite, default 310;
    /// Present position is the encoder's less this.
    HOMING_OFFSET = "Homing_Offset", 31, 2, Tick, ReadWrite, sign 11, default 0;
    /// 0 position, 1 velocity, 2 PWM, 3 step.
    MODE = "Operating_Mode", 33, 1, Plain, ReadWrite, default 0;
    /// Torque after an overload.
    PROTECTIVE_TORQUE = "Protective_Torque", 34, 1, Fraction(1e-2), ReadWrite, default 20;
    /// How long an overload lasts before it counts.
    PROTECTION_TIME = "Protection_Time", 35, 1, Second(0.01), ReadWrite, default 200;
    /// More load is an overload.
    OVERLOAD_TORQUE = "Overload_Torque", 36, 1, Fraction(1e-2), ReadWrite, default 80;
    /// How long an over-current lasts before it counts.
    OVERCURRENT_TIME = "Over_Current_Protection_Time", 38, 1, Second(0.01), ReadWrite, default 200;
    /// 0 off, 1 on, 2 damping, 128: here is 2048.
    TORQUE_ENABLE = "Torque_Enable", 40, 1, Plain, ReadWrite, default 0;
    /// 0: as fast as it can.
    ACCELERATION = "Acceleration", 41, 1, RadPerSecond2(ACCELERATION_UNIT), ReadWrite, default 0;
    /// Where to go.
    GOAL_POSITION = "Goal_Position", 42, 2, Tick, ReadWrite, sign 15;
    /// Time to go there.
    GOAL_TIME = "Goal_Time", 44, 2, Second(1e-3), ReadWrite, default 0;
    /// Speed to go there.
    GOAL_VELOCITY = "Goal_Velocity", 46, 2, Speed, ReadWrite, sign 15, default 0;
    /// The most torque.
    TORQUE_LIMIT = "Torque_Limit", 48, 2, Fraction(1e-3), ReadWrite, default 1000;
    /// 0: EEPROM is writable.
    LOCK = "Lock", 55, 1, Plain, ReadWrite, default 1;
    /// Where it is.
    PRESENT_POSITION = "Present_Position", 56, 2, Tick, Read, sign 15;
    /// How fast it moves.
    PRESENT_VELOCITY = "Present_Velocity", 58, 2, Speed, Read, sign 15;
    /// How hard it drives.
    PRESENT_LOAD = "Present_Load", 60, 2, Fraction(1e-3), Read, sign 10;
    /// Supply.
    PRESENT_VOLTAGE = "Present_Voltage", 62, 1, Volt(0.1), Read;
    /// Motor.
    PRESENT_TEMPERATURE = "Present_Temperature", 63, 1, Celsius, Read;
    /// The status bits.
    STATUS = "Status", 65, 1, Plain, Read;
    /// 1 while it moves.
    MOVING = "Moving", 66, 1, Plain, Read;
    /// Motor.
    PRESENT_CURRENT = "Present_Current", 69, 2, Ampere(6.5e-3), Read, sign 15;
    /// The factory's highest speed.
    MAX_SPEED = "Maximum_Velocity_Limit", 84, 1, Plain, ReadWrite;
    /// The factory's highest acceleration.
    MAX_ACCELERATION = "Maximum_Acceleration", 85, 1, RadPerSecond2(ACCELERATION_UNIT), ReadWrite;
    /// The factory's multiplier of accelerations.
    ACCELERATION_MULTIPLIER = "Acceleration_Multiplier", 86, 1, Plain, ReadWrite;
}

/// One unit of a speed register (rad/s) of a servo with this `Phase`: 0.0146 or 0.732 rpm.
pub fn speed_unit(phase: i32) -> f64 {
    if phase & PHASE_FINE_SPEED == 0 { 50.0 * RAD_PER_TICK } else { RAD_PER_TICK }
}

/// The speeds that all sources agree on; they differ from code 5 on.
const BAUDS: &[u32] = &[1_000_000, 500_000, 250_000, 128_000, 115_200];

/// The STS3215 of the SO-100 and SO-101 arms.
pub const STS3215: Model = Model {
    name: "sts3215",
    number: 777,
    protocol: Protocol::Feetech,
    registers: STS,
    bauds: BAUDS,
    ticks: TICKS_PER_TURN,
    rad_per_tick: RAD_PER_TICK,
    overrun: 0,
    homing: Some(Homing { register: HOMING_OFFSET, sign: -1, most: 2047 }),
    sync_read: true,
    broadcast_ping: true,
    fast_sync_read: None,
    motion: Block::between(&PRESENT_POSITION, &PRESENT_TEMPERATURE),
    health: Block::between(&PRESENT_POSITION, &PRESENT_TEMPERATURE),
    model_number: MODEL,
    id: ID,
    baud_rate: BAUD_RATE,
    torque: TORQUE_ENABLE,
    goal: GOAL_POSITION,
    lowest: MIN_POSITION,
    highest: MAX_POSITION,
    position: PRESENT_POSITION,
    velocity: PRESENT_VELOCITY,
    effort: PRESENT_LOAD,
    voltage: PRESENT_VOLTAGE,
    temperature: PRESENT_TEMPERATURE,
    current: Some(PRESENT_CURRENT),
    max_current: 2.7,
    // Its versions of 7.4 V (4 to 8.4) and of 12 V (up to 14) say the same model number.
    supply: (4.0, 14.0),
};

/// The stronger STS3250.
pub const STS3250: Model = Model { name: "sts3250", number: 2825, max_current: 5.0, ..STS3215 };

/// The small SCS0009: 300° in 1024 ticks, high bytes first, no sync read, no broadcast ping.
pub const SCS0009: Model = Model {
    name: "scs0009",
    number: 1284,
    registers: scs::SCS,
    ticks: 1024,
    rad_per_tick: RAD_PER_SCS_TICK,
    homing: None,
    sync_read: false,
    broadcast_ping: false,
    model_number: scs::MODEL,
    id: scs::ID,
    baud_rate: scs::BAUD_RATE,
    torque: scs::TORQUE_ENABLE,
    goal: scs::GOAL_POSITION,
    lowest: scs::MIN_POSITION,
    highest: scs::MAX_POSITION,
    position: scs::PRESENT_POSITION,
    velocity: scs::PRESENT_VELOCITY,
    effort: scs::PRESENT_LOAD,
    voltage: scs::PRESENT_VOLTAGE,
    temperature: scs::PRESENT_TEMPERATURE,
    current: None,
    ..STS3215
};

/// The registers of the SCS series.
pub mod scs {
    use super::*;

    registers! {
        /// The registers of the SCS series, by address.
        SCS, BigEndian;
        /// Firmware, major.
        FIRMWARE_MAJOR = "Firmware_Major", 0, 1, Plain, Read;
        /// Firmware, minor.
        FIRMWARE_MINOR = "Firmware_Minor", 1, 1, Plain, Read;
        /// [`Model::number`].
        MODEL = "Model_Number", 3, 2, Plain, Read;
        /// 0 to 253.
        ID = "ID", 5, 1, Plain, ReadWrite, default 1;
        /// 0 is 1 Mbaud.
        BAUD_RATE = "Baud_Rate", 6, 1, Plain, ReadWrite, default 0;
        /// Before an answer.
        RETURN_DELAY = "Return_Delay_Time", 7, 1, Second(2e-6), ReadWrite;
        /// 0: only reads and pings are answered; 1: all.
        RESPONSE_LEVEL = "Response_Status_Level", 8, 1, Plain, ReadWrite, default 1;
        /// Goals below are raised to it.
        MIN_POSITION = "Min_Position_Limit", 9, 2, Tick, ReadWrite;
        /// Goals above are lowered to it.
        MAX_POSITION = "Max_Position_Limit", 11, 2, Tick, ReadWrite, default 1023;
        /// Hotter is an overheat.
        MAX_TEMPERATURE = "Max_Temperature_Limit", 13, 1, Celsius, ReadWrite;
        /// More is a voltage error.
        MAX_VOLTAGE = "Max_Voltage_Limit", 14, 1, Volt(0.1), ReadWrite;
        /// Less is a voltage error.
        MIN_VOLTAGE = "Min_Voltage_Limit", 15, 1, Volt(0.1), ReadWrite;
        /// The most torque.
        MAX_TORQUE = "Max_Torque_Limit", 16, 2, Fraction(1e-3), ReadWrite, default 1000;
        /// Bits of the maker.
        PHASE = "Phase", 18, 1, Plain, ReadWrite;
        /// The status bits that release the torque.
        UNLOADING = "Unloading_Condition", 19, 1, Plain, ReadWrite;
        /// The status bits that light the lamp.
        LED_ALARM = "LED_Alarm_Condition", 20, 1, Plain, ReadWrite;
        /// Proportional gain.
        P_GAIN = "P_Coefficient", 21, 1, Plain, ReadWrite;
        /// Derivative gain.
        D_GAIN = "D_Coefficient", 22, 1, Plain, ReadWrite;
        /// Integral gain.
        I_GAIN = "I_Coefficient", 23, 1, Plain, ReadWrite;
        /// Least torque to start.
        MIN_START_FORCE = "Minimum_Startup_Force", 24, 2, Fraction(1e-3), ReadWrite;
        /// Dead zone, clockwise.
        CW_DEAD_ZONE = "CW_Dead_Zone", 26, 1, Tick, ReadWrite;
        /// Dead zone, counter-clockwise.
        CCW_DEAD_ZONE = "CCW_Dead_Zone", 27, 1, Tick, ReadWrite;
        /// Torque after an overload.
        PROTECTIVE_TORQUE = "Protective_Torque", 37, 1, Fraction(1e-2), ReadWrite;
        /// How long an overload lasts before it counts.
        PROTECTION_TIME = "Protection_Time", 38, 1, Second(0.01), ReadWrite;
        /// 0 off, 1 on.
        TORQUE_ENABLE = "Torque_Enable", 40, 1, Plain, ReadWrite, default 0;
        /// 0: as fast as it can; its unit is not documented.
        ACCELERATION = "Acceleration", 41, 1, Plain, ReadWrite;
        /// Where to go.
        GOAL_POSITION = "Goal_Position", 42, 2, Tick, ReadWrite;
        /// Time to go there.
        GOAL_TIME = "Running_Time", 44, 2, Second(1e-3), ReadWrite;
        /// Speed to go there (ticks/s); 0: as fast as it can.
        GOAL_VELOCITY = "Goal_Velocity", 46, 2, RadPerSecond(RAD_PER_SCS_TICK), ReadWrite;
        /// 0: EEPROM is writable.
        LOCK = "Lock", 48, 1, Plain, ReadWrite, default 1;
        /// Where it is.
        PRESENT_POSITION = "Present_Position", 56, 2, Tick, Read;
        /// How fast it moves (ticks/s).
        PRESENT_VELOCITY = "Present_Velocity", 58, 2, RadPerSecond(RAD_PER_SCS_TICK), Read, sign 15;
        /// How hard it drives.
        PRESENT_LOAD = "Present_Load", 60, 2, Fraction(1e-3), Read, sign 10;
        /// Supply.
        PRESENT_VOLTAGE = "Present_Voltage", 62, 1, Volt(0.1), Read;
        /// Motor.
        PRESENT_TEMPERATURE = "Present_Temperature", 63, 1, Celsius, Read;
        /// 1 while a prepared write waits.
        SYNC_WRITE_FLAG = "Sync_Write_Flag", 64, 1, Plain, Read;
        /// The status bits.
        STATUS = "Status", 65, 1, Plain, Read;
        /// 1 while it moves.
        MOVING = "Moving", 66, 1, Plain, Read;
    }
}
