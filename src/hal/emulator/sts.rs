//! The rules of Feetech's STS servos. Source: Feetech, "STS series servo memory table".

use std::time::Duration;

use super::motion::Drive;
use super::rules::{Plan, Protection, Rules};
use super::servo::Servo;
use super::{Conditions, STEP};
use crate::hal::servo::feetech as servo;
use crate::hal::servo::{Access, Memory, Model, RAD_PER_TICK, Register, TICKS_PER_TURN, trouble};

/// One unit of a current register (A).
const CURRENT: f64 = 0.0065;
/// The position error that takes all the torque at the factory's P gain (ticks).
const FULL_ERROR: f64 = 60.0;
/// The factory's P gain, which the emulator's gain is for.
const FACTORY_P: f64 = 32.0;
/// How fast one unit of the I gain takes back what the load costs (1/s).
const INTEGRAL: f64 = 0.2;
/// What `Torque_Enable` 128 does instead of switching torque.
const CENTRE: i32 = 128;

/// What an STS servo has in its registers out of the box, beside what its table says.
const FACTORY: [(Register, i32); 9] = [
    (servo::FIRMWARE_MAJOR, 3),
    (servo::FIRMWARE_MINOR, 10),
    (servo::MAX_VOLTAGE, 140),
    (servo::MIN_VOLTAGE, 40),
    (servo::PHASE, servo::PHASE_FINE_SPEED | servo::PHASE_ZERO_IS_MAX),
    (servo::UNLOADING, (trouble::OVERHEAT | trouble::OVERCURRENT | trouble::OVERLOAD) as i32),
    (servo::MAX_SPEED, 94),
    (servo::MAX_ACCELERATION, 254),
    (servo::ACCELERATION_MULTIPLIER, 1),
];

/// An STS servo.
#[derive(Debug)]
pub(super) struct Sts;

impl Rules for Sts {
    fn factory(&self) -> &'static [(Register, i32)] {
        &FACTORY
    }

    fn answers_all(&self, servo: &Servo) -> bool {
        servo.get(&servo::RESPONSE_LEVEL) != 0
    }

    fn supply(&self, _: &Model) -> f64 {
        12.1
    }

    fn power_up(&self, servo: &mut Servo) {
        let torque = servo.get(&servo::MAX_TORQUE);
        servo.registers.set(&servo::TORQUE_LIMIT, torque);
        let here = position(servo).round() as i32;
        servo.registers.set(&servo::GOAL_POSITION, here);
    }

    fn plan(&self, servo: &Servo) -> Plan {
        Plan { drive: drive(servo), protection: protection(servo), watchdog: None }
    }

    /// Drops what may not be written without a word, as the servo does.
    fn write(&self, servo: &mut Servo, address: usize, data: &[u8]) -> u8 {
        for register in servo.registers.touched(address, data.len()) {
            if !accepts(servo, register) {
                continue;
            }
            let before = servo.get(register);
            servo.registers.store(register, address, data);
            written(servo, register, before);
        }
        0
    }

    fn measure(&self, servo: &mut Servo, conditions: &Conditions) {
        let mut position = servo.told(position(servo), conditions);
        if !multi_turn(servo) {
            position = position.rem_euclid(TICKS_PER_TURN);
        }
        let (motion, load) = (servo.motion, servo.load());
        for (register, value) in [
            (servo::PRESENT_POSITION, f64::from(position)),
            (servo::PRESENT_VELOCITY, motion.velocity / speed_unit(servo)),
            (servo::PRESENT_LOAD, load * 1000.0),
            (servo::PRESENT_VOLTAGE, servo.voltage(conditions.supply) * 10.0),
            (servo::PRESENT_TEMPERATURE, motion.temperature),
            (servo::STATUS, f64::from(servo.troubles())),
            (servo::MOVING, f64::from(u8::from(servo.moving()))),
            (servo::PRESENT_CURRENT, load.abs() * servo.model.max_current / CURRENT),
        ] {
            servo.registers.set(&register, value.round() as i32);
        }
    }

    /// It has no watchdog.
    fn left_alone(&self, _: &mut Servo) {}
}

fn accepts(servo: &Servo, register: &Register) -> bool {
    let kept = register.memory == Memory::Eeprom
        && (servo.get(&servo::LOCK) != 0 || servo.defects.eeprom_refused);
    register.access == Access::ReadWrite && !kept
}

/// What comes with a register that held `before`.
fn written(servo: &mut Servo, register: &Register, before: i32) {
    let now = servo.get(register);
    if *register == servo::TORQUE_ENABLE {
        if now == CENTRE {
            servo.registers.set(register, before);
            centre(servo);
        }
        servo.clear_latched(u8::MAX);
    } else if *register == servo::GOAL_POSITION && now != before {
        servo.clear_latched(u8::MAX);
    }
}

/// Makes here the middle of the turn.
fn centre(servo: &mut Servo) {
    let half = TICKS_PER_TURN / 2;
    let offset = (servo.counted().round() as i32).rem_euclid(TICKS_PER_TURN) - half;
    servo.registers.set(&servo::HOMING_OFFSET, offset.clamp(1 - half, half - 1));
}

fn multi_turn(servo: &Servo) -> bool {
    servo.get(&servo::PHASE) & servo::PHASE_MULTI_TURN != 0
}

/// The position as the servo sees it, unrounded (ticks).
fn position(servo: &Servo) -> f64 {
    let position = servo.counted() - f64::from(servo.get(&servo::HOMING_OFFSET));
    if multi_turn(servo) { position } else { position.rem_euclid(f64::from(TICKS_PER_TURN)) }
}

/// Ticks/s of one unit of a speed register.
fn speed_unit(servo: &Servo) -> f64 {
    servo::speed_unit(servo.get(&servo::PHASE)) / RAD_PER_TICK
}

fn drive(servo: &Servo) -> Drive {
    let troubles = i32::from(servo.troubles()) & servo.get(&servo::UNLOADING);
    let strained = troubles & i32::from(trouble::OVERLOAD | trouble::OVERCURRENT);
    match servo.get(&servo::TORQUE_ENABLE) {
        1 if troubles == strained => {}
        2 => return Drive::Damping,
        _ => return Drive::Off,
    }
    let permille = |register| f64::from(servo.get(&register)) / 1000.0;
    let mut torque = permille(servo::TORQUE_LIMIT).min(1.0);
    if strained != 0 {
        torque = torque.min(f64::from(servo.get(&servo::PROTECTIVE_TORQUE)) / 100.0);
    }
    let stiffness = f64::from(servo.get(&servo::P_GAIN)) / FACTORY_P;
    if torque <= 0.0 || stiffness <= 0.0 {
        return Drive::Off;
    }
    let max_acceleration = torque
        * match servo.get(&servo::ACCELERATION) {
            0 => servo.body.acceleration,
            units => servo.body.acceleration.min(100.0 * f64::from(units)),
        };
    let speed = f64::from(servo.get(&servo::GOAL_VELOCITY)) * speed_unit(servo);
    let free = servo.body.velocity;
    match servo.get(&servo::MODE) {
        1 => Drive::Velocity { goal: speed.clamp(-free, free), max_acceleration, torque },
        // The drive's duty stands for the speed it comes to.
        2 => {
            let goal = permille(servo::GOAL_TIME).clamp(-torque, torque) * free;
            Drive::Velocity { goal, max_acceleration, torque }
        }
        _ => Drive::Position {
            goal: servo.uncounted(goal(servo)),
            gain: servo.body.gain * stiffness,
            max_velocity: max_velocity(servo, speed.abs()),
            max_acceleration,
            stiffness: stiffness / FULL_ERROR,
            integral: INTEGRAL * f64::from(servo.get(&servo::I_GAIN)),
            torque,
        },
    }
}

/// The goal within its limits, as the encoder counts (ticks).
fn goal(servo: &Servo) -> f64 {
    let (lowest, highest) = (servo.get(&servo::MIN_POSITION), servo.get(&servo::MAX_POSITION));
    let mut goal = servo.get(&servo::GOAL_POSITION);
    // Both limits 0: as many turns as wished.
    if (lowest, highest) != (0, 0) {
        goal = goal.max(lowest).min(highest);
    }
    f64::from(goal + servo.get(&servo::HOMING_OFFSET))
}

fn max_velocity(servo: &Servo, wanted: f64) -> f64 {
    let zero_is_max = servo.get(&servo::PHASE) & servo::PHASE_ZERO_IS_MAX != 0;
    if wanted == 0.0 && zero_is_max { servo.body.velocity } else { servo.body.velocity.min(wanted) }
}

fn protection(servo: &Servo) -> Protection {
    let volts = |register| f64::from(servo.get(&register)) / 10.0;
    let steps = |register| {
        let time = Duration::from_millis(10) * servo.get(&register).max(0) as u32;
        (time.as_nanos() / STEP.as_nanos()) as u32
    };
    let current = f64::from(servo.get(&servo::PROTECTION_CURRENT)) * CURRENT;
    Protection {
        voltage: (volts(servo::MIN_VOLTAGE), volts(servo::MAX_VOLTAGE)),
        temperature: f64::from(servo.get(&servo::MAX_TEMPERATURE)),
        overload: (
            f64::from(servo.get(&servo::OVERLOAD_TORQUE)) / 100.0,
            steps(servo::PROTECTION_TIME),
        ),
        overcurrent: (current / servo.model.max_current, steps(servo::OVERCURRENT_TIME)),
        latching: trouble::OVERLOAD | trouble::OVERCURRENT,
    }
}
