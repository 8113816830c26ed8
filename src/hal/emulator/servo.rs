//! One emulated servo: registers, a motor, what protects it, and what may be wrong with it. What
//! its registers mean is a matter of its [`Rules`].

use super::lies::Defects;
use super::motion::{Drive, Motion};
use super::registers::Registers;
use super::rules::{Plan, Protection, Rules};
use super::sts::Sts;
use super::x_series::XSeries;
use super::{Conditions, STEP};
use crate::config::{EmulatorConfig, JointConfig, Protocol};
use crate::hal::servo::{Memory, Model, RAD_PER_TICK, Register, TICKS_PER_TURN, trouble};

/// Slower is standing still (ticks/s).
const STANDING: f64 = 5.0;
/// The most bytes a prepared write keeps.
const PENDING: usize = 128;
/// A register write that waits for the action: address and bytes.
type Pending = (usize, heapless::Vec<u8, PENDING>);

/// The joint around the motor, in ticks and seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body {
    /// The encoder's tick at 0 rad of the joint, and the sign.
    zero: f64,
    direction: f64,
    pub velocity: f64,
    pub acceleration: f64,
    pub gain: f64,
    noise: f64,
}

impl Body {
    fn new(joint: &JointConfig, config: &EmulatorConfig) -> Self {
        Self {
            zero: f64::from(joint.zero_ticks),
            direction: f64::from(joint.direction),
            velocity: config.servo_velocity / RAD_PER_TICK,
            acceleration: config.servo_acceleration / RAD_PER_TICK,
            gain: config.servo_gain,
            noise: config.position_noise_ticks,
        }
    }

    fn ticks(&self, angle: f64) -> f64 {
        self.zero + self.direction * angle / RAD_PER_TICK
    }
}

/// One emulated servo.
#[derive(Debug, Clone)]
pub struct Servo {
    pub(super) registers: Registers,
    pub(super) motion: Motion,
    pub(super) body: Body,
    pub(super) model: &'static Model,
    rules: &'static dyn Rules,
    plan: Plan,
    /// Its place on the bus, from 0: which noise is its own.
    index: usize,
    /// Full turns before power-up, which it does not know of (ticks).
    uncounted: f64,
    pending: Option<Pending>,
    /// What a person says is wrong with it.
    injected: u8,
    connected: bool,
    /// What a fault of now makes of it.
    pub(super) defects: Defects,
    /// At its terminals (V).
    voltage: f64,
    troubles: u8,
    latched: u8,
    /// Steps in a row of too much load and too much current.
    overload: u32,
    overcurrent: u32,
    /// Steps since it was spoken to.
    quiet: u32,
}

impl Servo {
    pub(super) fn new(
        index: usize,
        joint: &JointConfig,
        baud: u32,
        config: &EmulatorConfig,
    ) -> Self {
        let body = Body::new(joint, config);
        let model = Model::of(joint.servo);
        let rules: &'static dyn Rules = match model.protocol {
            Protocol::Feetech => &Sts,
            Protocol::Dynamixel => &XSeries,
        };
        let mut servo = Self {
            model,
            registers: Registers::new(model.registers),
            motion: Motion::at(body.ticks(joint.home_rad)),
            body,
            rules,
            plan: Plan { drive: Drive::Off, protection: Protection::NONE, watchdog: None },
            index,
            uncounted: 0.0,
            pending: None,
            injected: 0,
            connected: true,
            defects: Defects::default(),
            voltage: rules.supply(model),
            troubles: 0,
            latched: 0,
            overload: 0,
            overcurrent: 0,
            quiet: 0,
        };
        servo.factory_reset();
        servo.set(&model.id, joint.id.into());
        // One that cannot be set to the bus's speed hears nothing, as in the shelf.
        if let Some(code) = model.baud_code(baud) {
            servo.set(&model.baud_rate, code);
        }
        servo
    }

    /// The id it listens to now.
    pub fn id(&self) -> u8 {
        self.get(&self.model.id) as u8
    }

    /// Its speed on the wire (bit/s); 0 when its register makes no sense.
    fn baud(&self) -> u32 {
        let code = usize::try_from(self.get(&self.model.baud_rate)).ok();
        code.and_then(|code| self.model.bauds.get(code)).copied().unwrap_or(0)
    }

    /// What a register holds; measurements are as of the last read.
    pub fn get(&self, register: &Register) -> i32 {
        self.registers.get(register)
    }

    /// Puts a value into a register past lock and access, as a person at the bench could.
    pub fn set(&mut self, register: &Register, value: i32) {
        self.registers.set(register, value);
        self.replan();
    }

    /// The true joint angle (rad).
    pub fn angle(&self) -> f64 {
        self.driven() + self.body.direction * self.motion.held_off * RAD_PER_TICK
    }

    /// Where the drive would have the joint (rad), were nothing in its way.
    pub(super) fn driven(&self) -> f64 {
        self.body.direction * (self.motion.position - self.body.zero) * RAD_PER_TICK
    }

    /// The joint is at an angle (rad), wherever its drive is.
    pub(super) fn hold_back(&mut self, angle: f64) {
        self.motion.held_off = self.body.ticks(angle) - self.motion.position;
    }

    /// Puts the joint at an angle (rad), as a hand could.
    pub fn place(&mut self, angle: f64) {
        self.motion.position = self.body.ticks(angle);
        self.motion.velocity = 0.0;
        self.motion.held_off = 0.0;
    }

    /// Nothing but friction holds it.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.plan.drive, Drive::Off | Drive::Damping)
    }

    /// Pushes the joint from now on with this fraction of the motor's torque, signed as its angle.
    pub fn push(&mut self, torque: f64) {
        self.motion.push = self.body.direction * torque;
    }

    /// Sets the motor's temperature (°C); it goes on from there.
    pub fn heat(&mut self, temperature: f64) {
        self.motion.temperature = temperature;
        self.update_troubles();
    }

    /// Raises these status bits until they are set to others.
    pub fn set_status(&mut self, bits: u8) {
        self.injected = bits;
        self.update_troubles();
    }

    /// Plugs the servo in or out; without its plug it is silent and keeps moving.
    pub fn set_connected(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// Power off and on: RAM is lost, and with it the torque; EEPROM is kept, troubles are gone.
    pub fn power_cycle(&mut self) {
        self.registers.reset(Memory::Ram);
        self.pending = None;
        (self.latched, self.overload, self.overcurrent, self.quiet) = (0, 0, 0, 0);
        self.forget_turns();
        let rules = self.rules;
        rules.power_up(self);
        self.replan();
        self.update_troubles();
    }

    /// Counts positions within one turn again.
    pub(super) fn forget_turns(&mut self) {
        let turn = f64::from(TICKS_PER_TURN);
        self.uncounted = (self.at() / turn).floor() * turn;
    }

    /// Everything as it came out of the box, id and speed on the wire too.
    pub fn factory_reset(&mut self) {
        self.registers.reset(Memory::Eeprom);
        self.registers.set(&self.model.model_number, self.model.number);
        let rules = self.rules;
        for (register, value) in rules.factory() {
            self.registers.set(register, *value);
        }
        self.power_cycle();
    }

    /// Has these defects from now on.
    pub fn suffer(&mut self, defects: Defects) {
        if std::mem::replace(&mut self.defects, defects).status != defects.status {
            self.replan();
        }
    }

    /// Whether it hears a host that sends at this speed (bit/s).
    pub(super) fn hears(&self, baud: u32) -> bool {
        self.connected && !self.defects.silent && self.baud().abs_diff(baud) <= baud / 50
    }

    pub(super) fn answers_all(&self) -> bool {
        self.rules.answers_all(self)
    }

    /// The drive now: a signed fraction of all it has.
    pub(super) fn load(&self) -> f64 {
        self.motion.load
    }

    /// What is wrong with it now, bits of [`trouble`].
    pub(super) fn troubles(&self) -> u8 {
        self.troubles | self.defects.status
    }

    /// Forgets troubles whose cause is gone.
    pub(super) fn clear_latched(&mut self, bits: u8) {
        self.latched &= !bits;
        (self.overload, self.overcurrent) = (0, 0);
        self.update_troubles();
    }

    pub(super) fn replan(&mut self) {
        self.plan = self.rules.plan(self);
    }

    /// A request that concerns it has come.
    pub(super) fn spoken_to(&mut self) {
        self.quiet = 0;
    }

    /// What is at its terminals when the supply is at this fraction of what it should be (V).
    pub(super) fn voltage(&self, supply: f64) -> f64 {
        self.rules.supply(self.model) * supply
    }

    /// Goes on by one step of the grid with the supply at this fraction of what it should be.
    pub(super) fn step(&mut self, supply: f64) {
        self.motion.step(&self.plan.drive, self.body.velocity, STEP.as_secs_f64());
        self.voltage = self.voltage(supply);
        self.quiet = self.quiet.saturating_add(1);
        if self.plan.watchdog.is_some_and(|steps| self.quiet >= steps) {
            let rules = self.rules;
            rules.left_alone(self);
            self.replan();
        }
        let p = self.plan.protection;
        let load = self.motion.load.abs();
        let strained =
            |most: f64, steps: u32| if load > most { steps.saturating_add(1) } else { 0 };
        self.overload = strained(p.overload.0, self.overload);
        self.overcurrent = strained(p.overcurrent.0, self.overcurrent);
        self.update_troubles();
    }

    /// Looks at what protects it; a trouble that comes or goes changes what the motor does.
    fn update_troubles(&mut self) {
        let p = self.plan.protection;
        let mut now = 0;
        for (bit, wrong) in [
            (trouble::VOLTAGE, self.voltage < p.voltage.0 || self.voltage > p.voltage.1),
            (trouble::OVERHEAT, self.motion.temperature > p.temperature),
            (trouble::OVERCURRENT, self.overcurrent > p.overcurrent.1),
            (trouble::OVERLOAD, self.overload > p.overload.1),
        ] {
            now |= if wrong { bit } else { 0 };
        }
        self.latched |= now & p.latching;
        let troubles = now | self.latched | self.injected;
        if std::mem::replace(&mut self.troubles, troubles) != troubles {
            self.replan();
        }
    }

    /// Where the joint is, in ticks of all turns.
    pub(super) fn at(&self) -> f64 {
        self.motion.position + self.motion.held_off
    }

    /// The drive's position as the servo counts it since power-up (ticks).
    pub(super) fn counted(&self) -> f64 {
        self.at() - self.uncounted
    }

    /// The drive's position (ticks) at which [`counted`](Self::counted) is `counted`.
    pub(super) fn uncounted(&self, counted: f64) -> f64 {
        counted + self.uncounted
    }

    /// A measured position: `exact` (ticks) with this servo's noise and lies.
    pub(super) fn told(&self, exact: f64, conditions: &Conditions) -> i32 {
        let noise = self.body.noise;
        let noise = if noise > 0.0 { noise * conditions.noise(self.index) } else { 0.0 };
        let position = (exact + noise).round() as i32;
        let position = if self.defects.mirrored { TICKS_PER_TURN - position } else { position };
        position + self.defects.offset
    }

    pub(super) fn moving(&self) -> bool {
        self.motion.velocity.abs() > STANDING
    }

    /// Brings the measurements up to date, unless it is stuck.
    pub(super) fn measure(&mut self, conditions: &Conditions) {
        if !self.defects.stuck {
            let rules = self.rules;
            rules.measure(self, conditions);
        }
    }

    /// Writes what may be written; the error it answers with.
    pub(super) fn write(&mut self, address: usize, data: &[u8]) -> u8 {
        let rules = self.rules;
        let error = rules.write(self, address, data);
        self.replan();
        error
    }

    /// Keeps a write until [`act`](Self::act).
    pub(super) fn prepare(&mut self, address: usize, data: &[u8]) {
        self.pending = Some((address, data.iter().copied().take(PENDING).collect()));
    }

    pub(super) fn act(&mut self) {
        if let Some((address, data)) = self.pending.take() {
            self.write(address, &data);
        }
    }
}
