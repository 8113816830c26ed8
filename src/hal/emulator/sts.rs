//! The rules of Feetech's STS servos. Source: Feetech, "STS series servo memory table".

use std::time::Duration;

use super::Conditions;
use super::motion::Drive;
use super::servo::{Plan, Protection, Rules, Servo};
use super::{STEP, SUPPLY};
use crate::hal::servo::{self, Access, Memory, RAD_PER_TICK, Register, STS3215, TICKS_PER_TURN};
use crate::hal::wire::feetech::status;

/// The current at full load (A).
const STALL_CURRENT: f64 = 2.7;
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

/// What the codes of `Baud_Rate` stand for; on the last three sources differ.
const BAUDS: [u32; 8] = [1_000_000, 500_000, 250_000, 128_000, 115_200, 57_600, 38_400, 19_200];

/// What an STS3215 has in its registers out of the box, where that is not 0.
const FACTORY: [(Register, i32); 26] = [
    (servo::ID, 1),
    (servo::FIRMWARE_MAJOR, 3),
    (servo::FIRMWARE_MINOR, 10),
    (servo::MODEL, servo::STS3215_MODEL),
    (servo::RESPONSE_LEVEL, 1),
    (servo::MAX_POSITION, TICKS_PER_TURN - 1),
    (servo::MAX_TEMPERATURE, 70),
    (servo::MAX_VOLTAGE, 140),
    (servo::MIN_VOLTAGE, 40),
    (servo::MAX_TORQUE, 1000),
    (servo::PHASE, servo::PHASE_FINE_SPEED | servo::PHASE_ZERO_IS_MAX),
    (servo::UNLOADING, (status::OVERHEAT | status::OVERCURRENT | status::OVERLOAD) as i32),
    (servo::P_GAIN, FACTORY_P as i32),
    (servo::D_GAIN, 32),
    (servo::MIN_START_FORCE, 16),
    (servo::CW_DEAD_ZONE, 1),
    (servo::CCW_DEAD_ZONE, 1),
    (servo::PROTECTION_CURRENT, 310),
    (servo::PROTECTIVE_TORQUE, 20),
    (servo::PROTECTION_TIME, 200),
    (servo::OVERLOAD_TORQUE, 80),
    (servo::OVERCURRENT_TIME, 200),
    (servo::LOCK, 1),
    (servo::MAX_SPEED, 94),
    (servo::MAX_ACCELERATION, 254),
    (servo::ACCELERATION_MULTIPLIER, 1),
];

/// An STS servo.
#[derive(Debug)]
struct Sts;

/// The rules and the registers of the STS3215.
pub(super) fn model() -> (&'static dyn Rules, &'static [Register]) {
    (&Sts, STS3215)
}

impl Rules for Sts {
    fn factory(&self) -> &'static [(Register, i32)] {
        &FACTORY
    }

    fn address(&self) -> (&'static Register, &'static Register) {
        (&servo::ID, &servo::BAUD_RATE)
    }

    fn bauds(&self) -> &'static [u32] {
        &BAUDS
    }

    fn answers_all(&self, servo: &Servo) -> bool {
        servo.get(&servo::RESPONSE_LEVEL) != 0
    }

    fn supply(&self) -> f64 {
        SUPPLY
    }

    fn power_up(&self, servo: &mut Servo) {
        let torque = servo.get(&servo::MAX_TORQUE);
        servo.registers.set(&servo::TORQUE_LIMIT, torque);
        let here = position(servo).round() as i32;
        servo.registers.set(&servo::GOAL_POSITION, here);
    }

    fn plan(&self, servo: &Servo) -> Plan {
        Plan { drive: drive(servo), protection: protection(servo) }
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
            (servo::PRESENT_VOLTAGE, (self.supply() - conditions.strain) * 10.0),
            (servo::PRESENT_TEMPERATURE, motion.temperature),
            (servo::STATUS, f64::from(servo.troubles())),
            (servo::MOVING, f64::from(u8::from(servo.moving()))),
            (servo::PRESENT_CURRENT, load.abs() * STALL_CURRENT / CURRENT),
        ] {
            servo.registers.set(&register, value.round() as i32);
        }
    }
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
    let strained = troubles & i32::from(status::OVERLOAD | status::OVERCURRENT);
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
        overcurrent: (current / STALL_CURRENT, steps(servo::OVERCURRENT_TIME)),
        latching: status::OVERLOAD | status::OVERCURRENT,
    }
}
