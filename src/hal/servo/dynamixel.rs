//! Dynamixel X servos.
//!
//! Source: ROBOTIS e-Manual, control tables of XL330-M077, XL330-M288, XL430-W250 and XM430-W350.
//! EEPROM is writable only while torque is off.

use std::f64::consts::TAU;

use super::register::{Access, Encoding, Memory, Register, Unit};
use super::{Block, Homing, Model, RAD_PER_TICK, TICKS_PER_TURN, trouble};
use crate::config::Protocol;
use Access::{Read, ReadWrite};
use Unit::*;

/// `Operating_Mode`: goals are positions within one turn.
pub const MODE_POSITION: i32 = 3;
/// `Operating_Mode`: goals are positions over many turns.
pub const MODE_EXTENDED_POSITION: i32 = 4;
/// `Operating_Mode`: goals are positions, and the current has a goal too.
pub const MODE_CURRENT_POSITION: i32 = 5;
/// `Drive_Mode`: the profile registers are times, not speeds.
pub const DRIVE_TIME_PROFILE: i32 = 1 << 2;
/// `Bus_Watchdog` says this after it stopped the servo; 0 must be written before any goal.
pub const WATCHDOG_TRIPPED: i32 = -1;
/// One unit of `Bus_Watchdog` (ms).
pub const WATCHDOG_UNIT_MS: u32 = 20;

/// 0.229 rev/min.
const VELOCITY_UNIT: f64 = 0.229 * TAU / 60.0;
/// 214.577 rev/min².
const ACCELERATION_UNIT: f64 = 214.577 * TAU / 3600.0;
/// From here on registers are lost without power.
const RAM: u16 = 64;

/// The troubles that `Hardware_Error_Status` names, as bits of [`trouble`].
pub fn troubles(hardware_error: i32) -> u8 {
    [
        (0x01, trouble::VOLTAGE),
        (0x04, trouble::OVERHEAT),
        (0x08, trouble::ANGLE),
        (0x10, trouble::OVERCURRENT),
        (0x20, trouble::OVERLOAD),
    ]
    .into_iter()
    .filter(|(bit, _)| hardware_error & bit != 0)
    .fold(0, |bits, (_, trouble)| bits | trouble)
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $address:literal, $size:literal, $unit:expr, $access:ident $(, as $encoding:ident)? $(, default $default:literal)?;)*) => {
        $($(#[$doc])* pub const $name: Register = Register {
            $(encoding: Encoding::$encoding,)?
            $(default: Some($default),)?
            memory: if $address < RAM { Memory::Eeprom } else { Memory::Ram },
            ..Register::new($label, $address, $size, $unit, $access)
        };)*
    };
}

registers! {
    /// [`Model::number`].
    MODEL = "Model_Number", 0, 2, Plain, Read;
    /// Of the maker.
    MODEL_INFORMATION = "Model_Information", 2, 4, Plain, Read;
    /// Firmware.
    FIRMWARE = "Firmware_Version", 6, 1, Plain, Read;
    /// 0 to 252.
    ID = "ID", 7, 1, Plain, ReadWrite, default 1;
    /// 1 is 57,600 baud.
    BAUD_RATE = "Baud_Rate", 8, 1, Plain, ReadWrite, default 1;
    /// Before an answer.
    RETURN_DELAY = "Return_Delay_Time", 9, 1, Second(2e-6), ReadWrite, default 250;
    /// Bit 0 turns the direction; [`DRIVE_TIME_PROFILE`].
    DRIVE_MODE = "Drive_Mode", 10, 1, Plain, ReadWrite, default 0;
    /// 0 current, 1 velocity, 3 position, 4 extended position, 5 current-based position, 16 PWM.
    MODE = "Operating_Mode", 11, 1, Plain, ReadWrite, default 3;
    /// Another id to listen to; above 252: none.
    SECONDARY_ID = "Secondary_ID", 12, 1, Plain, ReadWrite, default 255;
    /// 2.
    PROTOCOL = "Protocol_Type", 13, 1, Plain, ReadWrite, default 2;
    /// Present position is the encoder's plus this; in position mode a quarter turn at most counts.
    HOMING_OFFSET = "Homing_Offset", 20, 4, Tick, ReadWrite, as TwosComplement, default 0;
    /// Slower is standing still.
    MOVING_THRESHOLD = "Moving_Threshold", 24, 4, RadPerSecond(VELOCITY_UNIT), ReadWrite, default 10;
    /// Hotter is an overheat.
    TEMPERATURE_LIMIT = "Temperature_Limit", 31, 1, Celsius, ReadWrite;
    /// More is a voltage error.
    MAX_VOLTAGE = "Max_Voltage_Limit", 32, 2, Volt(0.1), ReadWrite;
    /// Less is a voltage error.
    MIN_VOLTAGE = "Min_Voltage_Limit", 34, 2, Volt(0.1), ReadWrite;
    /// The most PWM.
    PWM_LIMIT = "PWM_Limit", 36, 2, Fraction(1.13e-3), ReadWrite, default 885;
    /// The most current of an XL330.
    CURRENT_LIMIT_1 = "Current_Limit", 38, 2, Ampere(1e-3), ReadWrite, default 1750;
    /// The most current of an XM430.
    CURRENT_LIMIT_2_69 = "Current_Limit", 38, 2, Ampere(2.69e-3), ReadWrite, default 1193;
    /// The most acceleration; XL330 and XL430 have no such register.
    ACCELERATION_LIMIT = "Acceleration_Limit", 40, 4, RadPerSecond2(ACCELERATION_UNIT), ReadWrite, default 32767;
    /// The most speed.
    VELOCITY_LIMIT = "Velocity_Limit", 44, 4, RadPerSecond(VELOCITY_UNIT), ReadWrite;
    /// Goals above are refused in position mode.
    MAX_POSITION = "Max_Position_Limit", 48, 4, Tick, ReadWrite, default 4095;
    /// Goals below are refused in position mode.
    MIN_POSITION = "Min_Position_Limit", 52, 4, Tick, ReadWrite, default 0;
    /// What is done at power-up.
    STARTUP = "Startup_Configuration", 60, 1, Plain, ReadWrite, default 0;
    /// How fast the PWM may change.
    PWM_SLOPE = "PWM_Slope", 62, 1, Plain, ReadWrite, default 140;
    /// The bits of [`HARDWARE_ERROR`] that switch torque off until a reboot.
    SHUTDOWN = "Shutdown", 63, 1, Plain, ReadWrite;
    /// 0 off, 1 on.
    TORQUE_ENABLE = "Torque_Enable", 64, 1, Plain, ReadWrite, default 0;
    /// The lamp.
    LED = "LED", 65, 1, Plain, ReadWrite, default 0;
    /// 0: only pings are answered; 1: reads too; 2: all.
    STATUS_RETURN_LEVEL = "Status_Return_Level", 68, 1, Plain, ReadWrite, default 2;
    /// 1 while a prepared write waits.
    REGISTERED = "Registered_Instruction", 69, 1, Plain, Read, default 0;
    /// [`troubles`].
    HARDWARE_ERROR = "Hardware_Error_Status", 70, 1, Plain, Read, default 0;
    /// Integral gain of the velocity.
    VELOCITY_I_GAIN = "Velocity_I_Gain", 76, 2, Plain, ReadWrite;
    /// Proportional gain of the velocity.
    VELOCITY_P_GAIN = "Velocity_P_Gain", 78, 2, Plain, ReadWrite;
    /// Derivative gain of the position.
    D_GAIN = "Position_D_Gain", 80, 2, Plain, ReadWrite;
    /// Integral gain of the position.
    I_GAIN = "Position_I_Gain", 82, 2, Plain, ReadWrite, default 0;
    /// Proportional gain of the position.
    P_GAIN = "Position_P_Gain", 84, 2, Plain, ReadWrite;
    /// Gain of the wished acceleration.
    FEEDFORWARD_2 = "Feedforward_2nd_Gain", 88, 2, Plain, ReadWrite, default 0;
    /// Gain of the wished speed.
    FEEDFORWARD_1 = "Feedforward_1st_Gain", 90, 2, Plain, ReadWrite, default 0;
    /// The servo stops when nobody speaks to it for so long while torque is on;
    /// [`WATCHDOG_TRIPPED`].
    BUS_WATCHDOG = "Bus_Watchdog", 98, 1, Second(0.02), ReadWrite, as TwosComplement, default 0;
    /// PWM to drive with.
    GOAL_PWM = "Goal_PWM", 100, 2, Fraction(1.13e-3), ReadWrite, as TwosComplement;
    /// Current of an XL330 to drive with.
    GOAL_CURRENT_1 = "Goal_Current", 102, 2, Ampere(1e-3), ReadWrite, as TwosComplement;
    /// Current of an XM430 to drive with.
    GOAL_CURRENT_2_69 = "Goal_Current", 102, 2, Ampere(2.69e-3), ReadWrite, as TwosComplement;
    /// Speed to drive with.
    GOAL_VELOCITY = "Goal_Velocity", 104, 4, RadPerSecond(VELOCITY_UNIT), ReadWrite, as TwosComplement;
    /// Acceleration on the way to a position; 0: as fast as it can.
    PROFILE_ACCELERATION = "Profile_Acceleration", 108, 4, RadPerSecond2(ACCELERATION_UNIT), ReadWrite, default 0;
    /// Speed on the way to a position; 0: as fast as it can.
    PROFILE_VELOCITY = "Profile_Velocity", 112, 4, RadPerSecond(VELOCITY_UNIT), ReadWrite, default 0;
    /// Where to go.
    GOAL_POSITION = "Goal_Position", 116, 4, Tick, ReadWrite, as TwosComplement;
    /// Counts ms, to 32767.
    REALTIME_TICK = "Realtime_Tick", 120, 2, Second(1e-3), Read;
    /// 1 while it moves.
    MOVING = "Moving", 122, 1, Plain, Read;
    /// How it moves.
    MOVING_STATUS = "Moving_Status", 123, 1, Plain, Read;
    /// PWM now.
    PRESENT_PWM = "Present_PWM", 124, 2, Fraction(1.13e-3), Read, as TwosComplement;
    /// How hard an XL430 drives.
    PRESENT_LOAD = "Present_Load", 126, 2, Fraction(1e-3), Read, as TwosComplement;
    /// Motor of an XL330.
    PRESENT_CURRENT_1 = "Present_Current", 126, 2, Ampere(1e-3), Read, as TwosComplement;
    /// Motor of an XM430.
    PRESENT_CURRENT_2_69 = "Present_Current", 126, 2, Ampere(2.69e-3), Read, as TwosComplement;
    /// How fast it moves.
    PRESENT_VELOCITY = "Present_Velocity", 128, 4, RadPerSecond(VELOCITY_UNIT), Read, as TwosComplement;
    /// Where it is; beyond one turn too while nothing has set it back.
    PRESENT_POSITION = "Present_Position", 132, 4, Tick, Read, as TwosComplement;
    /// The speed that the profile wishes now.
    VELOCITY_TRAJECTORY = "Velocity_Trajectory", 136, 4, RadPerSecond(VELOCITY_UNIT), Read, as TwosComplement;
    /// The position that the profile wishes now.
    POSITION_TRAJECTORY = "Position_Trajectory", 140, 4, Tick, Read, as TwosComplement;
    /// Supply.
    PRESENT_VOLTAGE = "Present_Input_Voltage", 144, 2, Volt(0.1), Read;
    /// Motor.
    PRESENT_TEMPERATURE = "Present_Temperature", 146, 1, Celsius, Read;
}

/// The registers of one model: the common ones, with what is its own put in by address.
macro_rules! table {
    (temperature $temperature:literal, voltage $max:literal $min:literal, shutdown $shutdown:literal,
     gains $vi:literal $vp:literal $d:literal $p:literal,
     limits [$($limit:expr),*], startup [$($startup:expr),*], goal [$($goal:expr),*], effort $effort:expr) => {
        &[
            MODEL, MODEL_INFORMATION, FIRMWARE, ID, BAUD_RATE, RETURN_DELAY, DRIVE_MODE, MODE,
            SECONDARY_ID, PROTOCOL, HOMING_OFFSET, MOVING_THRESHOLD,
            TEMPERATURE_LIMIT.or($temperature), MAX_VOLTAGE.or($max), MIN_VOLTAGE.or($min),
            PWM_LIMIT, $($limit,)* MAX_POSITION, MIN_POSITION, $($startup,)* SHUTDOWN.or($shutdown),
            TORQUE_ENABLE, LED, STATUS_RETURN_LEVEL, REGISTERED, HARDWARE_ERROR,
            VELOCITY_I_GAIN.or($vi), VELOCITY_P_GAIN.or($vp), D_GAIN.or($d), I_GAIN, P_GAIN.or($p),
            FEEDFORWARD_2, FEEDFORWARD_1, BUS_WATCHDOG, GOAL_PWM, $($goal,)* GOAL_VELOCITY,
            PROFILE_ACCELERATION, PROFILE_VELOCITY, GOAL_POSITION, REALTIME_TICK, MOVING,
            MOVING_STATUS, PRESENT_PWM, $effort, PRESENT_VELOCITY, PRESENT_POSITION,
            VELOCITY_TRAJECTORY, POSITION_TRAJECTORY, PRESENT_VOLTAGE, PRESENT_TEMPERATURE,
        ]
    };
}

/// The speeds of all models; the larger ones also know code 7, 4.5 Mbaud.
const BAUDS: &[u32] = &[9_600, 57_600, 115_200, 1_000_000, 2_000_000, 3_000_000, 4_000_000];

/// The XL430-W250: the shoulder of a Koch arm. It measures its load, not its current.
pub const XL430_W250: Model = Model {
    name: "xl430-w250",
    number: 1060,
    protocol: Protocol::Dynamixel,
    registers: table!(temperature 72, voltage 140 60, shutdown 52, gains 1000 100 4000 640,
        limits [VELOCITY_LIMIT.or(265)], startup [], goal [], effort PRESENT_LOAD),
    bauds: BAUDS,
    ticks: TICKS_PER_TURN,
    rad_per_tick: RAD_PER_TICK,
    overrun: TICKS_PER_TURN,
    homing: Some(Homing { register: HOMING_OFFSET, sign: 1, most: 1024 }),
    sync_read: true,
    broadcast_ping: true,
    fast_sync_read: Some(45),
    motion: Block::between(&PRESENT_LOAD, &PRESENT_POSITION),
    health: Block::between(&PRESENT_LOAD, &PRESENT_TEMPERATURE),
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
    current: None,
    max_current: 1.4,
    supply: (6.5, 12.0),
};

/// The XL330-M288: the rest of a Koch follower.
pub const XL330_M288: Model = Model {
    name: "xl330-m288",
    number: 1200,
    registers: table!(temperature 70, voltage 70 35, shutdown 53, gains 1600 180 0 400,
        limits [CURRENT_LIMIT_1, VELOCITY_LIMIT.or(445)], startup [STARTUP, PWM_SLOPE],
        goal [GOAL_CURRENT_1], effort PRESENT_CURRENT_1),
    fast_sync_read: Some(46),
    effort: PRESENT_CURRENT_1,
    max_current: 1.75,
    // Made for 5 V.
    supply: (3.7, 6.0),
    ..XL430_W250
};

/// The XL330-M077: a Koch leader.
pub const XL330_M077: Model = Model {
    name: "xl330-m077",
    number: 1190,
    registers: table!(temperature 70, voltage 70 35, shutdown 53, gains 1600 180 0 400,
        limits [CURRENT_LIMIT_1, VELOCITY_LIMIT.or(1620)], startup [STARTUP, PWM_SLOPE],
        goal [GOAL_CURRENT_1], effort PRESENT_CURRENT_1),
    ..XL330_M288
};

/// The XM430-W350.
pub const XM430_W350: Model = Model {
    name: "xm430-w350",
    number: 1020,
    registers: table!(temperature 80, voltage 160 95, shutdown 52, gains 1920 100 0 800,
        limits [CURRENT_LIMIT_2_69, ACCELERATION_LIMIT, VELOCITY_LIMIT], startup [],
        goal [GOAL_CURRENT_2_69], effort PRESENT_CURRENT_2_69),
    effort: PRESENT_CURRENT_2_69,
    max_current: 3.2,
    supply: (10.0, 14.8),
    ..XL430_W250
};
