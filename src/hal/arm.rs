//! An arm in SI units: opened safely, read and written once a tick, its torque under control.

use std::sync::Arc;
use std::time::Duration;

use super::bus::{self, Answer, Bus, BusError};
use super::calibration::{Calibration, NonFinite};
use super::plausibility::{Plausibility, Reading, Verdict};
use super::port::{Port, PortError};
use super::servo::{self, Register};
use crate::clock::{Clock, Time};
use crate::config::{JointConfig, RobotConfig};
use crate::joints::JointVec;

/// Time for one transaction outside the control loop.
const PATIENCE: Duration = Duration::from_millis(200);
/// The block that one sync read takes of each servo: position, velocity, load, voltage, temperature.
const BLOCK: Register = servo::PRESENT_POSITION;
const BLOCK_SIZE: u8 = 8;
/// How fast a hand moves a joint without torque, at most (rad/s).
const HAND_VELOCITY: f64 = 15.0;
/// A driven joint may overshoot its highest speed by this factor.
const OVERSHOOT: f64 = 1.5;
/// A joint this far beyond its limits is brought back by its servo; further, by hand (rad).
const LIMIT_MARGIN: f64 = 0.05;
/// A broadcast is not acknowledged; it is sent this often.
const BROADCASTS: usize = 2;

/// Why an arm could not be opened or told something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArmError {
    /// Some servos do not answer.
    #[error(
        "expected servos {missing:?} to answer too, found only {answered:?}; check power, cables, ids and bus.baud"
    )]
    Missing {
        /// Ids that answered.
        answered: Vec<u8>,
        /// Ids that did not.
        missing: Vec<u8>,
    },
    /// A servo is of another model.
    #[error(
        "joint `{joint}`: expected servo {id} to be model {expected}, found {found}; set its `servo`"
    )]
    Model {
        /// The joint's name.
        joint: String,
        /// The servo's id.
        id: u8,
        /// What the configuration asks for.
        expected: i32,
        /// What the servo says.
        found: i32,
    },
    /// A servo did not keep what was written into it.
    #[error(
        "joint `{joint}`: expected register {register} to keep {expected}, found {found}; power the servo off and on"
    )]
    NotKept {
        /// The joint's name.
        joint: String,
        /// The register's name.
        register: &'static str,
        /// What was written.
        expected: i32,
        /// What was read back.
        found: i32,
    },
    /// A joint is too far out of its limits to be held there.
    #[error(
        "joint `{joint}`: expected {min:.3} to {max:.3} rad, found {found:.3}; move it there by hand, or calibrate again"
    )]
    BeyondLimits {
        /// The joint's name.
        joint: String,
        /// Where it is (rad).
        found: f64,
        /// Its lowest position (rad).
        min: f64,
        /// Its highest position (rad).
        max: f64,
    },
    /// A goal has another number of joints than the arm.
    #[error("expected a goal for {expected} joints, found {found}")]
    GoalLength {
        /// The arm's joints.
        expected: usize,
        /// The goal's.
        found: usize,
    },
    /// A goal is not finite; nothing was written.
    #[error("goal of joint {joint}: {source}")]
    Goal {
        /// The joint's place, from 0.
        joint: usize,
        /// What was found.
        source: NonFinite,
    },
    /// Torque may still be on.
    #[error(
        "expected all servos to confirm torque off, servos {ids:?} did not; cut the arm's power"
    )]
    TorqueOn {
        /// Ids that did not confirm.
        ids: JointVec<u8>,
    },
    /// A transaction failed.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl ArmError {
    /// Whether the port is gone and must be opened again.
    pub fn lost(&self) -> bool {
        matches!(self, Self::Bus(BusError::Port(PortError::Lost)))
    }
}

/// What is known of one joint, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct JointState {
    /// rad.
    pub position: f64,
    /// rad/s.
    pub velocity: f64,
    /// Drive as a signed fraction of all the servo has; positive drives toward larger angles.
    pub load: f64,
    /// V.
    pub voltage: f64,
    /// °C.
    pub temperature: f64,
    /// The servo's troubles, bits of [`status`](super::wire::feetech::status) that its last two
    /// answers agree on: damage may set a bit and pass the checksum.
    pub status: u8,
    /// When the servo was asked: the values are not older. [`Time::ZERO`]: never yet.
    pub stamp: Time,
    /// Three readings agreed on a position the joint cannot have reached; the last one is this.
    pub jumped: bool,
}

/// What is known of the arm.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ArmState {
    /// In the configuration's order.
    pub joints: JointVec<JointState>,
}

/// Faults seen since the arm was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// On the bus.
    pub bus: bus::Counters,
    /// Readings that passed every check of the wire and cannot be true; they were dropped.
    pub implausible: u64,
}

/// A servo arm on a bus. [`read`](Self::read) and [`write`](Self::write) allocate nothing.
pub struct Arm {
    bus: Bus,
    ids: JointVec<u8>,
    joints: JointVec<Joint>,
    /// All servos hold; a hand cannot move them fast.
    held: bool,
    implausible: u64,
}

struct Joint {
    config: JointConfig,
    calibration: Calibration,
    /// One unit of a speed register (rad/s).
    speed_unit: f64,
    plausibility: Plausibility,
    /// The status byte of the last answer.
    status: u8,
}

impl Arm {
    /// Finds all servos, checks their model, and sets limits of position, speed and acceleration
    /// and the goal to where they are. EEPROM is written only where it differs. Torque stays as it
    /// is found, so that an arm that holds does not drop; if anything fails it is switched off.
    ///
    /// # Errors
    /// A servo is missing, of another model, or refuses a setting; the port fails.
    pub fn open(
        config: &RobotConfig,
        port: Box<dyn Port>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ArmError> {
        let mut arm = Self {
            bus: Bus::new(port, clock),
            ids: config.joint.iter().map(|joint| joint.id).collect(),
            joints: config.joint.iter().map(Joint::new).collect(),
            held: false,
            implausible: 0,
        };
        match arm.set_up() {
            Ok(()) => Ok(arm),
            Err(error) => {
                // What failed first is what the user must know.
                let _ = arm.release();
                Err(error)
            }
        }
    }

    /// The number of joints.
    pub fn joints(&self) -> usize {
        self.joints.len()
    }

    /// The faults so far.
    pub fn counters(&self) -> Counters {
        Counters { bus: self.bus.counters(), implausible: self.implausible }
    }

    /// The bus, for what is not done every tick.
    pub fn bus(&mut self) -> &mut Bus {
        &mut self.bus
    }

    /// Brings `state` up to date in one sync read; how many joints are fresh. A joint that does not
    /// answer, or whose answer cannot be true, keeps its values and its stamp. Those that do not
    /// answer are asked once more when half of the time until `deadline` has passed.
    ///
    /// # Errors
    /// The port fails.
    pub fn read(&mut self, state: &mut ArmState, deadline: Time) -> Result<usize, ArmError> {
        let answers = self.bus.sync_read(&self.ids, BLOCK.address, BLOCK_SIZE, deadline)?;
        // Both hold as many joints as an arm may have.
        let _ = state.joints.resize(self.joints.len(), JointState::default());
        let mut fresh = 0;
        for ((joint, state), answer) in self.joints.iter_mut().zip(&mut state.joints).zip(&answers)
        {
            let Ok(answer) = answer else { continue };
            match joint.take(answer, self.held) {
                Some(reading) => {
                    *state = reading;
                    fresh += 1;
                }
                None => self.implausible += 1,
            }
        }
        Ok(fresh)
    }

    /// Sends goal positions (rad), clamped into the joints' limits, in one sync write.
    ///
    /// # Errors
    /// Another number of joints, or one is not finite: nothing is sent. The port fails.
    pub fn write(&mut self, goal: &JointVec<f64>, deadline: Time) -> Result<(), ArmError> {
        if goal.len() != self.joints.len() {
            return Err(ArmError::GoalLength { expected: self.joints.len(), found: goal.len() });
        }
        let mut ticks: JointVec<(u8, i32)> = JointVec::new();
        for (joint, (of, angle)) in self.joints.iter().zip(goal).enumerate() {
            let tick =
                of.calibration.ticks(*angle).map_err(|source| ArmError::Goal { joint, source })?;
            // As long as the joints, which fit.
            let _ = ticks.push((of.config.id, tick));
        }
        Ok(self.bus.sync_write(&servo::GOAL_POSITION, ticks, deadline)?)
    }

    /// Switches torque. On: each goal is set to where the joint is, and read back, before. Off:
    /// a broadcast first, then each servo until it confirms; no error stops the rest.
    ///
    /// # Errors
    /// On: a servo fails, or is beyond its limits; then torque is off again. Off: a servo did not confirm.
    pub fn torque(&mut self, on: bool) -> Result<(), ArmError> {
        if !on {
            return self.release();
        }
        let held = self.hold();
        if held.is_err() {
            // What failed first is what the user must know.
            let _ = self.release();
        }
        held
    }

    fn hold(&mut self) -> Result<(), ArmError> {
        for joint in &self.joints {
            joint.check_limits(joint.goal_to_present(&mut self.bus)?)?;
        }
        for joint in &mut self.joints {
            joint.keep(&mut self.bus, &servo::TORQUE_ENABLE, 1)?;
            joint.plausibility.reset();
        }
        self.held = true;
        Ok(())
    }

    fn release(&mut self) -> Result<(), ArmError> {
        self.held = false;
        for _ in 0..BROADCASTS {
            let all = self.ids.iter().map(|id| (*id, 0));
            let deadline = patience(&self.bus);
            // Whether it was heard is asked of each servo below.
            let _ = self.bus.sync_write(&servo::TORQUE_ENABLE, all, deadline);
        }
        let mut ids = JointVec::new();
        let mut lost = None;
        for id in &self.ids {
            match confirm_off(&mut self.bus, *id) {
                Ok(true) => continue,
                Ok(false) | Err(BusError::NoAnswer { .. }) => {}
                Err(error) => lost = Some(error),
            }
            let _ = ids.push(*id);
        }
        match lost {
            Some(error) => Err(error.into()),
            None if ids.is_empty() => Ok(()),
            None => Err(ArmError::TorqueOn { ids }),
        }
    }

    fn set_up(&mut self) -> Result<(), ArmError> {
        self.find()?;
        let mut holding = true;
        for joint in &mut self.joints {
            holding &= joint.set_up(&mut self.bus)?;
        }
        self.held = holding;
        Ok(())
    }

    /// Asks every servo for its model.
    fn find(&mut self) -> Result<(), ArmError> {
        let (mut answered, mut missing) = (Vec::new(), Vec::new());
        for joint in &self.joints {
            let (id, expected) = (joint.config.id, servo::STS3215_MODEL);
            match joint.get(&mut self.bus, &servo::MODEL) {
                Ok(found) if found == expected => answered.push(id),
                Ok(found) => {
                    let joint = joint.config.name.clone();
                    return Err(ArmError::Model { joint, id, expected, found });
                }
                Err(BusError::NoAnswer { .. }) => missing.push(id),
                Err(error) => return Err(error.into()),
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(ArmError::Missing { answered, missing }) }
    }
}

/// Tells a servo to switch torque off; whether it then says that it is.
fn confirm_off(bus: &mut Bus, id: u8) -> Result<bool, BusError> {
    let now = bus.clock().now();
    // Not every servo acknowledges; what counts is what it says after.
    let _ = bus.write(id, &servo::TORQUE_ENABLE, 0, now + PATIENCE / 2);
    Ok(bus.read(id, &servo::TORQUE_ENABLE, now + PATIENCE)?.0 == 0)
}

fn patience(bus: &Bus) -> Time {
    bus.clock().now() + PATIENCE
}

impl Joint {
    fn new(config: &JointConfig) -> Self {
        Self {
            calibration: Calibration::new(config),
            config: config.clone(),
            speed_unit: servo::RAD_PER_TICK,
            plausibility: Plausibility::default(),
            status: 0,
        }
    }

    fn get(&self, bus: &mut Bus, register: &Register) -> Result<i32, BusError> {
        let deadline = patience(bus);
        Ok(bus.read(self.config.id, register, deadline)?.0)
    }

    /// Writes a register and reads it back.
    fn keep(&self, bus: &mut Bus, register: &Register, expected: i32) -> Result<(), ArmError> {
        let deadline = patience(bus);
        bus.write(self.config.id, register, expected, deadline)?;
        let found = self.get(bus, register)?;
        if found == expected {
            return Ok(());
        }
        let joint = self.config.name.clone();
        Err(ArmError::NotKept { joint, register: register.name, expected, found })
    }

    /// Puts limits into the servo and its goal to where it is; whether it holds.
    fn set_up(&mut self, bus: &mut Bus) -> Result<bool, ArmError> {
        let phase = self.get(bus, &servo::PHASE)? & !servo::PHASE_MULTI_TURN;
        self.speed_unit = servo::speed_unit(phase);
        let (lowest, highest) = self.calibration.limits();
        self.keep_for_good(
            bus,
            &[
                (servo::RESPONSE_LEVEL, 1),
                (servo::PHASE, phase),
                (servo::MODE, 0),
                (servo::MIN_POSITION, lowest),
                (servo::MAX_POSITION, highest),
            ],
        )?;
        let units =
            |limit: f64, unit: f64, most: f64| (limit / unit).ceil().clamp(1.0, most) as i32;
        let acceleration = units(self.config.max_acceleration, servo::ACCELERATION_UNIT, 254.0);
        self.keep(bus, &servo::ACCELERATION, acceleration)?;
        self.keep(
            bus,
            &servo::GOAL_VELOCITY,
            units(self.config.max_velocity, self.speed_unit, 32_767.0),
        )?;
        let torque = self.get(bus, &servo::MAX_TORQUE)?;
        self.keep(bus, &servo::TORQUE_LIMIT, torque)?;
        self.goal_to_present(bus)?;
        Ok(self.get(bus, &servo::TORQUE_ENABLE)? == 1)
    }

    /// Writes EEPROM registers where they differ, which wears them out.
    fn keep_for_good(&self, bus: &mut Bus, values: &[(Register, i32)]) -> Result<(), ArmError> {
        let mut unlocked = false;
        for (register, value) in values {
            if self.get(bus, register)? == *value {
                continue;
            }
            if !unlocked {
                // A servo that answers reads only does not acknowledge this either.
                let deadline = patience(bus);
                bus.sync_write(&servo::LOCK, [(self.config.id, 0)], deadline)?;
                bus.sync_write(register, [(self.config.id, *value)], deadline)?;
                unlocked = true;
            }
            self.keep(bus, register, *value)?;
        }
        if unlocked { self.keep(bus, &servo::LOCK, 1) } else { Ok(()) }
    }

    /// Sets the goal to where the joint is, within its limits; where it is (rad).
    fn goal_to_present(&self, bus: &mut Bus) -> Result<f64, ArmError> {
        let present = self.get(bus, &servo::PRESENT_POSITION)?;
        let (lowest, highest) = self.calibration.limits();
        self.keep(bus, &servo::GOAL_POSITION, present.clamp(lowest, highest))?;
        Ok(self.calibration.radians(present))
    }

    fn check_limits(&self, found: f64) -> Result<(), ArmError> {
        let (min, max) = (self.config.min_rad, self.config.max_rad);
        if (min - LIMIT_MARGIN..=max + LIMIT_MARGIN).contains(&found) {
            return Ok(());
        }
        Err(ArmError::BeyondLimits { joint: self.config.name.clone(), found, min, max })
    }

    /// The state that an answer tells, `None` when it cannot be true.
    fn take(&mut self, answer: &Answer, held: bool) -> Option<JointState> {
        let value = |register: &Register| register.decode_at(BLOCK.address, &answer.data);
        let ticks =
            value(&servo::PRESENT_POSITION).filter(|t| (0..servo::TICKS_PER_TURN).contains(t))?;
        let position = self.calibration.radians(ticks);
        let temperature = f64::from(value(&servo::PRESENT_TEMPERATURE)?);
        let reading = Reading { position, temperature, time: answer.asked };
        let max_velocity = if held { OVERSHOOT * self.config.max_velocity } else { HAND_VELOCITY };
        let verdict = self.plausibility.judge(reading, max_velocity);
        if verdict == Verdict::Implausible {
            return None;
        }
        let status = answer.status & std::mem::replace(&mut self.status, answer.status);
        let speed = f64::from(value(&servo::PRESENT_VELOCITY)?) * self.speed_unit;
        let load = f64::from(value(&servo::PRESENT_LOAD)?) * 1e-3;
        Some(JointState {
            position,
            velocity: self.calibration.velocity(speed),
            load: self.calibration.velocity(load),
            voltage: f64::from(value(&servo::PRESENT_VOLTAGE)?) * 0.1,
            temperature,
            status,
            stamp: answer.asked,
            jumped: verdict == Verdict::Jumped,
        })
    }
}
