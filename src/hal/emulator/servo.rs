//! One emulated STS3215: its registers, what they accept, and what they make the motor do.

use super::Conditions;
use super::motion::{Drive, Motion};
use crate::config::{EmulatorConfig, JointConfig};
use crate::hal::servo::feetech::{self as servo, STS, STS3215};
use crate::hal::servo::{Access, Memory, RAD_PER_TICK, Register, TICKS_PER_TURN};
use crate::hal::wire::feetech::{Status, status};

const MEMORY: usize = servo::MEMORY_END as usize;
/// A register write that waits for the action: address and bytes.
type Pending = (u8, heapless::Vec<u8, MEMORY>);
/// The current at full load (A).
const STALL_CURRENT: f64 = 2.7;
/// Slower is standing still (ticks/s).
const STANDING: f64 = 5.0;

/// What an STS3215 has in its registers at power-up, where that is not 0.
const FACTORY: [(Register, i32); 25] = [
    (servo::FIRMWARE_MAJOR, 3),
    (servo::FIRMWARE_MINOR, 10),
    (servo::MODEL, STS3215.number),
    (servo::RESPONSE_LEVEL, 1),
    (servo::MAX_POSITION, TICKS_PER_TURN - 1),
    (servo::MAX_TEMPERATURE, 70),
    (servo::MAX_VOLTAGE, 140),
    (servo::MIN_VOLTAGE, 40),
    (servo::MAX_TORQUE, 1000),
    (servo::PHASE, servo::PHASE_FINE_SPEED | servo::PHASE_ZERO_IS_MAX),
    (servo::UNLOADING, (status::OVERHEAT | status::OVERCURRENT | status::OVERLOAD) as i32),
    (servo::P_GAIN, 32),
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

/// One emulated servo.
#[derive(Debug, Clone)]
pub struct Servo {
    registers: [u8; MEMORY],
    motion: Motion,
    /// How far something holds the joint off its drive (ticks).
    held_off: f64,
    pending: Option<Pending>,
    injected: u8,
    connected: bool,
    /// The encoder's tick at 0 rad of the joint, and the sign.
    zero: f64,
    direction: f64,
    /// Of the motor, in ticks and seconds.
    velocity: f64,
    acceleration: f64,
    gain: f64,
    noise: f64,
}

impl Servo {
    pub(super) fn new(joint: &JointConfig, config: &EmulatorConfig) -> Self {
        let (zero, direction) = (f64::from(joint.zero_ticks), f64::from(joint.direction));
        let home = zero + direction * joint.home_rad / RAD_PER_TICK;
        let mut servo = Self {
            registers: [0; MEMORY],
            motion: Motion::at(home),
            held_off: 0.0,
            pending: None,
            injected: 0,
            connected: true,
            zero,
            direction,
            velocity: config.servo_velocity / RAD_PER_TICK,
            acceleration: config.servo_acceleration / RAD_PER_TICK,
            gain: config.servo_gain,
            noise: config.position_noise_ticks,
        };
        for (register, value) in FACTORY {
            servo.set(&register, value);
        }
        servo.set(&servo::ID, i32::from(joint.id));
        servo.set(&servo::TORQUE_LIMIT, servo.get(&servo::MAX_TORQUE));
        servo.set(&servo::GOAL_POSITION, servo.present() as i32);
        servo
    }

    /// The id it listens to now.
    pub fn id(&self) -> u8 {
        self.get(&servo::ID) as u8
    }

    /// What a register holds; measurements are as of the last read.
    pub fn get(&self, register: &Register) -> i32 {
        register.decode_at(0, &self.registers).unwrap_or_default()
    }

    /// Puts a value into a register past lock and access, as a person at the bench could.
    pub fn set(&mut self, register: &Register, value: i32) {
        let bytes = register.encode(value).unwrap_or_default();
        let place = self.registers.iter_mut().skip(usize::from(register.address));
        place.zip(&bytes).for_each(|(place, byte)| *place = *byte);
    }

    /// The true joint angle (rad).
    pub fn angle(&self) -> f64 {
        self.driven() + self.direction * self.held_off * RAD_PER_TICK
    }

    /// Where the drive would have the joint (rad), were nothing in its way.
    pub(super) fn driven(&self) -> f64 {
        self.direction * (self.motion.position - self.zero) * RAD_PER_TICK
    }

    /// The joint is at an angle (rad), wherever its drive is.
    pub(super) fn hold_back(&mut self, angle: f64) {
        self.held_off = self.ticks(angle) - self.motion.position;
    }

    /// Puts the joint at an angle (rad), as a hand could.
    pub fn place(&mut self, angle: f64) {
        self.motion.position = self.ticks(angle);
        self.motion.velocity = 0.0;
        self.held_off = 0.0;
    }

    fn ticks(&self, angle: f64) -> f64 {
        self.zero + self.direction * angle / RAD_PER_TICK
    }

    /// Sets the motor's temperature (°C); it goes on from there.
    pub fn heat(&mut self, temperature: f64) {
        self.motion.temperature = temperature;
    }

    /// Raises these status bits until they are set to others.
    pub fn set_status(&mut self, bits: u8) {
        self.injected = bits;
    }

    /// Plugs the servo in or out; without its plug it is silent and keeps moving.
    pub fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    pub(super) fn connected(&self) -> bool {
        self.connected
    }

    /// The drive now: a signed fraction of all it has.
    pub(super) fn load(&self) -> f64 {
        self.motion.load
    }

    pub(super) fn answers_all(&self) -> bool {
        self.get(&servo::RESPONSE_LEVEL) != 0
    }

    pub(super) fn status<'a>(&self, data: &'a [u8]) -> Status<'a> {
        Status { id: self.id(), error: self.status_bits(), data }
    }

    fn status_bits(&self) -> u8 {
        let hot = self.motion.temperature > f64::from(self.get(&servo::MAX_TEMPERATURE));
        self.injected | if hot { status::OVERHEAT } else { 0 }
    }

    pub(super) fn advance(&mut self, steps: u64, step: f64) {
        let drive = self.drive();
        for _ in 0..steps {
            self.motion.step(&drive, self.velocity, step);
        }
    }

    fn drive(&self) -> Drive {
        let unloaded = i32::from(self.status_bits()) & self.get(&servo::UNLOADING) != 0;
        match self.get(&servo::TORQUE_ENABLE) {
            1 if !unloaded => {}
            2 => return Drive::Damping,
            _ => return Drive::Off,
        }
        let (lowest, highest) = (self.get(&servo::MIN_POSITION), self.get(&servo::MAX_POSITION));
        let mut goal = self.get(&servo::GOAL_POSITION);
        // Both limits 0: as many turns as wished.
        if (lowest, highest) != (0, 0) {
            goal = goal.max(lowest).min(highest);
        }
        let torque = f64::from(self.get(&servo::TORQUE_LIMIT)) / 1000.0;
        let acceleration = match self.get(&servo::ACCELERATION) {
            0 => self.acceleration,
            units => self.acceleration.min(100.0 * f64::from(units)),
        };
        Drive::Position {
            goal: f64::from(goal + self.get(&servo::HOMING_OFFSET)),
            gain: self.gain,
            max_velocity: self.goal_velocity(),
            max_acceleration: acceleration * torque.min(1.0),
        }
    }

    fn goal_velocity(&self) -> f64 {
        let wanted = f64::from(self.get(&servo::GOAL_VELOCITY)).abs();
        if wanted == 0.0 && self.get(&servo::PHASE) & servo::PHASE_ZERO_IS_MAX != 0 {
            return self.velocity;
        }
        self.velocity.min(wanted * self.speed_unit())
    }

    /// Ticks/s of one unit of a speed register.
    fn speed_unit(&self) -> f64 {
        servo::speed_unit(self.get(&servo::PHASE)) / RAD_PER_TICK
    }

    /// The position as the servo sees it, unrounded (ticks).
    fn present(&self) -> f64 {
        let at = self.motion.position + self.held_off;
        let position = at - f64::from(self.get(&servo::HOMING_OFFSET));
        if self.get(&servo::PHASE) & servo::PHASE_MULTI_TURN != 0 {
            return position;
        }
        position.rem_euclid(f64::from(TICKS_PER_TURN))
    }

    /// Brings the measurements up to date.
    pub(super) fn measure(&mut self, conditions: &Conditions, index: usize) {
        let noise = if self.noise > 0.0 { self.noise * conditions.noise(index) } else { 0.0 };
        let mut position = (self.present() + noise).round() as i32;
        if self.get(&servo::PHASE) & servo::PHASE_MULTI_TURN == 0 {
            position = position.rem_euclid(TICKS_PER_TURN);
        }
        let load = self.motion.load.clamp(-1.0, 1.0);
        let speed = self.motion.velocity / self.speed_unit();
        let current = load.abs() * STALL_CURRENT / 0.0065;
        for (register, value) in [
            (servo::PRESENT_POSITION, f64::from(position)),
            (servo::PRESENT_VELOCITY, speed),
            (servo::PRESENT_LOAD, load * 1000.0),
            (servo::PRESENT_VOLTAGE, conditions.voltage * 10.0),
            (servo::PRESENT_TEMPERATURE, self.motion.temperature),
            (servo::STATUS, f64::from(self.status_bits())),
            (servo::MOVING, f64::from(u8::from(self.motion.velocity.abs() > STANDING))),
            (servo::PRESENT_CURRENT, current),
        ] {
            self.set(&register, value.round() as i32);
        }
    }

    /// The registers from `address` on, as far as there are any.
    pub(super) fn read(&self, address: u8, size: u8) -> &[u8] {
        let rest = self.registers.get(usize::from(address)..).unwrap_or_default();
        rest.get(..usize::from(size)).unwrap_or(rest)
    }

    /// Writes what may be written: the rest is dropped without a word, as the servo does.
    pub(super) fn write(&mut self, address: u8, data: &[u8]) {
        for (at, byte) in (address..=u8::MAX).zip(data) {
            let register = STS.iter().find(|r| (r.address..r.end()).contains(&u16::from(at)));
            let Some(register) = register.filter(|register| self.accepts(register)) else {
                continue;
            };
            if *register == servo::TORQUE_ENABLE {
                self.enable(*byte);
            } else if let Some(place) = self.registers.get_mut(usize::from(at)) {
                *place = *byte;
            }
        }
    }

    fn accepts(&self, register: &Register) -> bool {
        let locked = register.memory == Memory::Eeprom && self.get(&servo::LOCK) != 0;
        register.access == Access::ReadWrite && !locked
    }

    /// 128 makes the present position 2048; else 0, 1 or 2 as the register says.
    fn enable(&mut self, torque: u8) {
        if torque != 128 {
            self.set(&servo::TORQUE_ENABLE, i32::from(torque));
            return;
        }
        let half = TICKS_PER_TURN / 2;
        let offset = (self.motion.position.round() as i32).rem_euclid(TICKS_PER_TURN) - half;
        self.set(&servo::HOMING_OFFSET, offset.clamp(1 - half, half - 1));
    }

    /// Keeps a write until [`act`](Self::act).
    pub(super) fn prepare(&mut self, address: u8, data: &[u8]) {
        self.pending = Some((address, data.iter().copied().take(MEMORY).collect()));
    }

    pub(super) fn act(&mut self) {
        if let Some((address, data)) = self.pending.take() {
            self.write(address, &data);
        }
    }
}
