//! An arm in SI units: opened safely, read and written once a tick, its torque under control.

mod joint;

use std::sync::Arc;

use self::joint::{BLOCK, BLOCK_SIZE, Joint, PATIENCE, patience};
use super::bus::{self, Bus, BusError};
use super::calibration::NonFinite;
use super::port::{Port, PortError};
use super::servo::feetech as servo;
use crate::clock::{Clock, Time};
use crate::config::RobotConfig;
use crate::joints::JointVec;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
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
        let answers = self.bus.sync_read(&self.ids, BLOCK.address as u8, BLOCK_SIZE, deadline)?;
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
            let (id, expected) = (joint.config.id, servo::STS3215.number);
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
