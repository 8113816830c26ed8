//! The rules of Dynamixel's X servos. Source: ROBOTIS e-manual, control tables of XL330 and XL430,
//! "Bus Watchdog", "Shutdown".

use std::time::Duration;

use super::motion::Drive;
use super::rules::{Plan, Protection, Rules};
use super::servo::Servo;
use super::{Conditions, STEP};
use crate::hal::servo::dynamixel as table;
use crate::hal::servo::{Access, Memory, Model, RAD_PER_TICK, Register, Unit, trouble};
use crate::hal::wire::dynamixel::Refusal;

/// The position error that takes all the torque at the factory's P gain (ticks).
const FULL_ERROR: f64 = 60.0;
/// How fast one unit of the I gain takes back what the load costs (1/s).
const INTEGRAL: f64 = 0.01;
/// An overload is more than this of all there is, for so long: the e-manual gives no figures.
const OVERLOAD: (f64, Duration) = (0.8, Duration::from_secs(2));
/// Servos whose voltage may not exceed this (0.1 V) are made for 5 V, others for 12 V.
const LOW_VOLTAGE: i32 = 70;
/// The registers that a tripped watchdog makes read-only.
const GOALS: std::ops::Range<u16> = table::GOAL_PWM.address..table::GOAL_POSITION.end();
/// `Operating_Mode`, beside those that the table names.
const MODE_CURRENT: i32 = 0;
const MODE_VELOCITY: i32 = 1;
const MODE_PWM: i32 = 16;
/// `Realtime_Tick` counts to this and begins anew.
const REALTIME: u64 = 32_768;

/// What an X servo has in its registers out of the box, beside what its table says.
const FACTORY: [(Register, i32); 1] = [(table::FIRMWARE, 52)];

/// An X servo.
#[derive(Debug)]
pub(super) struct XSeries;

impl Rules for XSeries {
    fn factory(&self) -> &'static [(Register, i32)] {
        &FACTORY
    }

    fn supply(&self, model: &Model) -> f64 {
        let limit = model.registers.iter().find(|r| r.address == table::MAX_VOLTAGE.address);
        if limit.and_then(|r| r.default).is_some_and(|v| v <= LOW_VOLTAGE) { 5.0 } else { 12.0 }
    }

    fn answers_all(&self, servo: &Servo) -> bool {
        servo.get(&table::STATUS_RETURN_LEVEL) >= 2
    }

    fn power_up(&self, servo: &mut Servo) {
        goals_to_present(servo);
    }

    fn plan(&self, servo: &Servo) -> Plan {
        let steps = servo.get(&table::BUS_WATCHDOG).max(0) as u32 * table::WATCHDOG_UNIT_MS;
        let counts = steps > 0 && servo.get(&table::TORQUE_ENABLE) == 1;
        Plan {
            drive: drive(servo),
            protection: protection(servo),
            watchdog: counts.then_some(steps),
        }
    }

    fn write(&self, servo: &mut Servo, address: usize, data: &[u8]) -> u8 {
        match check(servo, address, data) {
            Err(refusal) => refusal.number(),
            Ok(()) => {
                for register in servo.registers.touched(address, data.len()) {
                    if register.memory == Memory::Ram || !servo.defects.eeprom_refused {
                        servo.registers.store(register, address, data);
                        written(servo, register);
                    }
                }
                0
            }
        }
    }

    fn measure(&self, servo: &mut Servo, conditions: &Conditions) {
        if shut_down(servo) {
            servo.registers.set(&table::TORQUE_ENABLE, 0);
        }
        let position = servo.told(present(servo), conditions);
        let velocity = servo.motion.velocity / unit(&table::PRESENT_VELOCITY);
        let effort = servo.model.effort;
        let effort_now = match effort.unit {
            Unit::Ampere(unit) => servo.load() * servo.model.max_current / unit,
            other => servo.load() / other.scale().unwrap_or(1.0),
        };
        let threshold = f64::from(servo.get(&table::MOVING_THRESHOLD));
        for (register, value) in [
            (table::PRESENT_POSITION, f64::from(position)),
            (table::PRESENT_VELOCITY, velocity),
            (effort, effort_now),
            (table::PRESENT_PWM, servo.load() / 1.13e-3),
            (table::VELOCITY_TRAJECTORY, velocity),
            (table::POSITION_TRAJECTORY, f64::from(position)),
            (table::MOVING, f64::from(u8::from(velocity.abs() > threshold))),
            (table::REALTIME_TICK, (conditions.step % REALTIME) as f64),
            (table::PRESENT_VOLTAGE, servo.voltage(conditions.supply) * 10.0),
            (table::PRESENT_TEMPERATURE, servo.motion.temperature),
            (table::HARDWARE_ERROR, f64::from(hardware_error(servo))),
        ] {
            servo.registers.set(&register, value.round() as i32);
        }
    }

    fn left_alone(&self, servo: &mut Servo) {
        servo.registers.set(&table::BUS_WATCHDOG, table::WATCHDOG_TRIPPED);
    }
}

/// `Hardware_Error_Status`: the inverse of [`table::troubles`].
pub(super) fn hardware_error(servo: &Servo) -> i32 {
    (0..8).map(|bit| 1 << bit).filter(|bit| table::troubles(*bit) & servo.troubles() != 0).sum()
}

/// Whether a hardware error keeps its torque off until a reboot.
fn shut_down(servo: &Servo) -> bool {
    hardware_error(servo) & servo.get(&table::SHUTDOWN) != 0
}

fn tripped(servo: &Servo) -> bool {
    servo.get(&table::BUS_WATCHDOG) == table::WATCHDOG_TRIPPED
}

/// The position as the servo sees it, unrounded (ticks).
fn present(servo: &Servo) -> f64 {
    servo.counted() + offset(servo)
}

/// What counts of the homing offset (ticks).
fn offset(servo: &Servo) -> f64 {
    let (offset, mode) = (servo.get(&table::HOMING_OFFSET), servo.get(&table::MODE));
    f64::from(servo.model.homing.map_or(0, |homing| homing.counts(offset, mode)))
}

fn goals_to_present(servo: &mut Servo) {
    let here = present(servo).round() as i32;
    servo.registers.set(&table::GOAL_POSITION, here);
    servo.registers.set(&table::GOAL_VELOCITY, 0);
    for (goal, limit) in
        [(table::GOAL_PWM, table::PWM_LIMIT), (table::GOAL_CURRENT_1, table::CURRENT_LIMIT_1)]
    {
        let most = servo.get(&limit);
        if servo.registers.touched(goal.address.into(), 1).next().is_some() {
            servo.registers.set(&goal, most);
        }
    }
}

/// Whether all of a write is allowed.
fn check(servo: &Servo, address: usize, data: &[u8]) -> Result<(), Refusal> {
    let mut registers = servo.registers.touched(address, data.len()).peekable();
    registers.peek().ok_or(Refusal::Access)?;
    for register in registers {
        let held = register.memory == Memory::Eeprom && servo.get(&table::TORQUE_ENABLE) == 1;
        if register.access == Access::Read || held {
            return Err(Refusal::Access);
        }
        let value =
            usize::from(register.address).checked_sub(address).and_then(|at| data.get(at..));
        let value = value.and_then(|bytes| register.decode(bytes)).ok_or(Refusal::Length)?;
        if GOALS.contains(&register.address) && tripped(servo) {
            return Err(Refusal::Range);
        }
        check_value(servo, register, value)?;
    }
    Ok(())
}

fn check_value(servo: &Servo, register: &Register, value: i32) -> Result<(), Refusal> {
    let within = |limit: &Register| value.abs() <= servo.get(limit);
    let (fits, refusal) = match register.address {
        at if at == table::ID.address => (value <= 252, Refusal::Range),
        at if at == table::BAUD_RATE.address => {
            ((value as usize) < servo.model.bauds.len(), Refusal::Range)
        }
        at if at == table::MODE.address => ([0, 1, 3, 4, 5, 16].contains(&value), Refusal::Range),
        at if at == table::BUS_WATCHDOG.address => (value >= 0, Refusal::Range),
        at if at == table::TORQUE_ENABLE.address => match value {
            0 => (true, Refusal::Range),
            _ => (value == 1 && !shut_down(servo), Refusal::ResultFail),
        },
        at if at == table::GOAL_PWM.address => (within(&table::PWM_LIMIT), Refusal::Limit),
        at if at == table::GOAL_CURRENT_1.address => {
            (within(&table::CURRENT_LIMIT_1), Refusal::Limit)
        }
        at if at == table::GOAL_VELOCITY.address => {
            (within(&table::VELOCITY_LIMIT), Refusal::Limit)
        }
        at if at == table::GOAL_POSITION.address => {
            let limits = servo.get(&table::MIN_POSITION)..=servo.get(&table::MAX_POSITION);
            let one_turn = servo.get(&table::MODE) == table::MODE_POSITION;
            (!one_turn || limits.contains(&value), Refusal::Limit)
        }
        _ => (true, Refusal::Range),
    };
    if fits { Ok(()) } else { Err(refusal) }
}

/// What comes with a register that was written.
fn written(servo: &mut Servo, register: &Register) {
    if register.address == table::MODE.address {
        goals_to_present(servo);
    }
}

/// One unit of a speed or acceleration register (ticks and seconds).
fn unit(register: &Register) -> f64 {
    register.unit.scale().unwrap_or(1.0) / RAD_PER_TICK
}

fn drive(servo: &Servo) -> Drive {
    if servo.get(&table::TORQUE_ENABLE) != 1 || shut_down(servo) {
        return Drive::Off;
    }
    let value = |register: &Register| f64::from(servo.get(register));
    let free = servo.body.velocity;
    let max_acceleration =
        match value(&table::PROFILE_ACCELERATION) * unit(&table::PROFILE_ACCELERATION) {
            0.0 => servo.body.acceleration,
            wanted => servo.body.acceleration.min(wanted),
        };
    let velocity = |goal: f64, torque: f64| Drive::Velocity {
        goal: goal.clamp(-free, free),
        max_acceleration: max_acceleration * torque,
        torque,
    };
    if tripped(servo) {
        return velocity(0.0, 1.0);
    }
    let current = || match servo.model.effort.unit {
        Unit::Ampere(unit) => value(&table::GOAL_CURRENT_1) * unit / servo.model.max_current,
        _ => 1.0,
    };
    match servo.get(&table::MODE) {
        MODE_CURRENT => velocity(free.copysign(current()), current().abs().min(1.0)),
        MODE_VELOCITY => velocity(value(&table::GOAL_VELOCITY) * unit(&table::GOAL_VELOCITY), 1.0),
        MODE_PWM => velocity(value(&table::GOAL_PWM) * 1.13e-3 * free, 1.0),
        table::MODE_CURRENT_POSITION => position(servo, max_acceleration, current().abs().min(1.0)),
        _ => position(servo, max_acceleration, 1.0),
    }
}

fn position(servo: &Servo, max_acceleration: f64, torque: f64) -> Drive {
    let value = |register: &Register| f64::from(servo.get(register));
    let usual = servo.registers.default(&table::P_GAIN).unwrap_or(1).max(1);
    let stiffness = value(&table::P_GAIN) / f64::from(usual);
    if stiffness <= 0.0 || torque <= 0.0 {
        return Drive::Off;
    }
    // In a time profile the register is no speed.
    let timed = servo.get(&table::DRIVE_MODE) & table::DRIVE_TIME_PROFILE != 0;
    let max_velocity = match value(&table::PROFILE_VELOCITY) * unit(&table::PROFILE_VELOCITY) {
        wanted if wanted > 0.0 && !timed => servo.body.velocity.min(wanted),
        _ => servo.body.velocity,
    };
    let goal = value(&table::GOAL_POSITION) - offset(servo);
    Drive::Position {
        goal: servo.uncounted(goal),
        gain: servo.body.gain * stiffness,
        max_velocity,
        max_acceleration: max_acceleration * torque,
        stiffness: stiffness / FULL_ERROR,
        integral: INTEGRAL * value(&table::I_GAIN),
        torque,
    }
}

fn protection(servo: &Servo) -> Protection {
    let volts = |register| f64::from(servo.get(&register)) / 10.0;
    Protection {
        voltage: (volts(table::MIN_VOLTAGE), volts(table::MAX_VOLTAGE)),
        temperature: f64::from(servo.get(&table::TEMPERATURE_LIMIT)),
        overload: (OVERLOAD.0, (OVERLOAD.1.as_nanos() / STEP.as_nanos()) as u32),
        overcurrent: (f64::MAX, 0),
        latching: trouble::VOLTAGE | trouble::OVERHEAT | trouble::OVERLOAD,
    }
}
