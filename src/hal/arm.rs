//! An arm in SI units: opened safely, read and written once a tick, its torque under control. Its
//! servos may be of several models, as a Koch arm's are.

mod checkup;
mod damping;
mod dynamixel;
mod error;
mod feetech;
mod joint;
mod listen;
mod rescue;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::checkup::Rounds;
pub use self::error::ArmError;
use self::joint::{Joint, PATIENCE, patience};
pub use self::rescue::{Rescued, rescue};
pub use self::state::{ArmState, Counters, JointState};
use super::bus::{Ask, Bus, BusError};
use super::port::Port;
use super::servo::{Model, Register, trouble};
use crate::clock::{Clock, Time};
use crate::config::{Protocol, RobotConfig};
use crate::joints::JointVec;

/// A broadcast is not acknowledged; it is sent this often.
const BROADCASTS: usize = 2;
/// Each servo is asked this often, as long as it does not confirm, to switch torque off.
const ROUNDS: usize = 2;

/// A servo arm on a bus. [`read`](Self::read) and [`write`](Self::write) allocate nothing.
pub struct Arm {
    bus: Bus,
    joints: JointVec<Joint>,
    /// All servos hold; a hand cannot move them fast.
    held: bool,
    /// Some servo has torque, for all that is known.
    energised: bool,
    /// Whose turn it is to tell its supply and temperature.
    turn: usize,
    rounds: Rounds,
    /// After this long without a word servos that can stop by themselves (20 ms); 0: never.
    watchdog: i32,
    implausible: u64,
}

impl Arm {
    /// Finds all servos, checks their model, and sets limits of position, speed and acceleration
    /// and the goal to where they are. EEPROM is written only where it differs, and that of a
    /// Dynamixel servo that holds not before its torque was off. Torque stays as it is found, so
    /// that an arm that holds does not drop; if anything fails it is switched off.
    ///
    /// # Errors
    /// A servo is missing, of another model, or refuses a setting; one that holds is beyond its
    /// limits or not as calibrated; the port fails.
    pub fn open(
        config: &RobotConfig,
        port: Box<dyn Port>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ArmError> {
        let mut arm = Self::over(config, port, clock);
        match arm.set_up() {
            Ok(()) => Ok(arm),
            Err(error) => {
                // What failed first is what the user must know.
                let _ = arm.release();
                Err(error)
            }
        }
    }

    /// As [`open`](Self::open), but if anything fails torque stays as it was found: for an arm that
    /// must not drop, and that somebody holds on to.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn attach(
        config: &RobotConfig,
        port: Box<dyn Port>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ArmError> {
        let mut arm = Self::over(config, port, clock);
        arm.set_up().map(|()| arm)
    }

    /// Nothing is said on the bus.
    fn over(config: &RobotConfig, port: Box<dyn Port>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bus: Bus::new(port, clock, config.bus.protocol, config.bus.baud),
            joints: config.joint.iter().map(Joint::new).collect(),
            held: false,
            energised: false,
            turn: 0,
            rounds: Rounds::default(),
            watchdog: dynamixel::watchdog(config.bus.watchdog_ms),
            implausible: 0,
        }
    }

    /// The number of joints.
    pub fn joints(&self) -> usize {
        self.joints.len()
    }

    /// All servos were found holding or made to hold.
    pub fn held(&self) -> bool {
        self.held
    }

    /// Some servo was found with torque or got it, and not all have confirmed that it is off.
    pub fn energised(&self) -> bool {
        self.energised
    }

    /// The faults so far.
    pub fn counters(&self) -> Counters {
        Counters { bus: self.bus.counters(), implausible: self.implausible }
    }

    /// The bus, for what is not done every tick.
    pub fn bus(&mut self) -> &mut Bus {
        &mut self.bus
    }

    /// Brings `state` up to date with as few requests as the servos allow; how many joints are
    /// fresh. A joint that does not answer, or whose answer cannot be true, keeps its values and its
    /// stamp; it is asked again while there is time until `deadline`. Of an arm that is held one
    /// servo is asked now and then whether its torque is still on, or what current it draws.
    ///
    /// # Errors
    /// The port fails.
    pub fn read(&mut self, state: &mut ArmState, deadline: Time) -> Result<usize, ArmError> {
        let turn = self.turn;
        self.turn = (turn + 1) % self.joints.len().max(1);
        let asks: JointVec<Ask> =
            self.joints.iter().enumerate().map(|(i, joint)| joint.ask(i == turn)).collect();
        // Both hold as many joints as an arm may have.
        let _ = state.joints.resize(self.joints.len(), JointState::default());
        let mut fresh = 0;
        self.bus.read_plausible(&asks, deadline, |place, answer| {
            let joint = self.joints.get_mut(place).and_then(|joint| joint.take(answer, self.held));
            match (joint, state.joints.get_mut(place)) {
                (Some(reading), Some(state)) => {
                    *state = reading;
                    fresh += 1;
                    true
                }
                _ => {
                    self.implausible += 1;
                    false
                }
            }
        })?;
        self.name_trouble(deadline)?;
        if self.held && fresh == self.joints.len() {
            self.check_up(deadline)?;
        }
        Ok(fresh)
    }

    /// Asks one servo that is alert what its trouble is, in the time that is left.
    fn name_trouble(&mut self, deadline: Time) -> Result<(), ArmError> {
        let Some(joint) = self.joints.iter_mut().find(|joint| joint.status() == trouble::ALERT)
        else {
            return Ok(());
        };
        match dynamixel::troubles(joint.config.id, &mut self.bus, deadline) {
            Ok(troubles) => joint.named = troubles,
            Err(error @ BusError::Port(_)) => return Err(error.into()),
            // Asked again in the next tick.
            Err(_) => {}
        }
        Ok(())
    }

    /// Sends goal positions (rad), clamped into the joints' limits, in one sync write for each kind
    /// of register.
    ///
    /// # Errors
    /// Another number of joints, or one is not finite: nothing is sent. The port fails.
    pub fn write(&mut self, goal: &JointVec<f64>, deadline: Time) -> Result<(), ArmError> {
        if goal.len() != self.joints.len() {
            return Err(ArmError::GoalLength { expected: self.joints.len(), found: goal.len() });
        }
        let mut ticks: JointVec<i32> = JointVec::new();
        for (joint, (of, angle)) in self.joints.iter().zip(goal).enumerate() {
            let tick =
                of.calibration.ticks(*angle).map_err(|source| ArmError::Goal { joint, source })?;
            // As long as the joints, which fit.
            let _ = ticks.push(tick);
        }
        Ok(self.write_each(|model| &model.goal, &ticks, deadline)?)
    }

    /// Writes one value to each servo: servos with the same register at once.
    fn write_each(
        &mut self,
        register: impl Fn(&'static Model) -> &'static Register,
        values: &[i32],
        deadline: Time,
    ) -> Result<(), BusError> {
        for (i, joint) in self.joints.iter().enumerate() {
            let this = register(joint.model);
            let is_this = |other: &&Joint| register(other.model) == this;
            if self.joints.iter().take(i).any(|earlier| is_this(&earlier)) {
                continue;
            }
            let with = self.joints.iter().zip(values).filter(|(joint, _)| is_this(joint));
            let with = with.map(|(joint, value)| (joint.config.id, *value));
            self.bus.sync_write(this, with, deadline)?;
        }
        Ok(())
    }

    /// Switches torque. On: limits are set as by [`open`](Self::open), and each goal to where the
    /// joint is, and read back, before; the bus watchdog of servos that have one is armed, and read back, after. Off: a broadcast first,
    /// then each servo until it confirms; no error stops the rest.
    ///
    /// # Errors
    /// On: a servo fails, or is beyond its limits; then torque is off again, or those are named that
    /// did not confirm it. Off: a servo did not confirm.
    pub fn torque(&mut self, on: bool) -> Result<(), ArmError> {
        if !on {
            return self.release();
        }
        self.hold().map_err(|first| match self.release() {
            // What may hold on is what the user must know before why.
            Err(on @ ArmError::TorqueOn { .. }) => on,
            Ok(()) | Err(_) => first,
        })
    }

    fn hold(&mut self) -> Result<(), ArmError> {
        for joint in &mut self.joints {
            // Again, for a servo that lost its power meanwhile knows no limits, and what waited for
            // the torque to be off.
            joint.set_up(&mut self.bus)?;
            let present = joint.goal_to_present(&mut self.bus)?;
            joint.check_limits(present)?;
        }
        self.energised = true;
        for joint in &mut self.joints {
            joint.keep(&mut self.bus, &joint.model.torque, 1)?;
            joint.limp = 0;
        }
        // Not before all hold: until then nobody speaks to the first ones for long.
        for joint in &self.joints {
            joint.arm_watchdog(&mut self.bus, self.watchdog)?;
        }
        self.held = true;
        Ok(())
    }

    fn release(&mut self) -> Result<(), ArmError> {
        self.let_go();
        let off: JointVec<i32> = self.joints.iter().map(|_| 0).collect();
        for _ in 0..BROADCASTS {
            let deadline = patience(&self.bus);
            // Whether it was heard is asked of each servo below.
            let _ = self.write_each(|model| &model.torque, &off, deadline);
        }
        let mut open: JointVec<&Joint> = self.joints.iter().collect();
        let mut lost = None;
        for _ in 0..ROUNDS {
            open.retain(|joint| match confirm_off(&mut self.bus, joint) {
                Ok(off) => !off,
                Err(error) => {
                    lost = matches!(error, BusError::Port(_)).then_some(error);
                    true
                }
            });
        }
        match lost {
            _ if open.is_empty() => {
                self.energised = false;
                Ok(())
            }
            Some(error) => Err(error.into()),
            None => {
                let ids = open.iter().map(|joint| joint.config.id).collect();
                Err(ArmError::TorqueOn { ids })
            }
        }
    }

    /// Nobody is asked for a current anymore: what was heard last is not true for long.
    fn let_go(&mut self) {
        self.held = false;
        self.joints.iter_mut().for_each(|joint| joint.current = None);
    }

    fn set_up(&mut self) -> Result<(), ArmError> {
        self.find()?;
        for joint in &self.joints {
            joint.check_offset(&mut self.bus)?;
        }
        let (mut holding, mut fast) = (0, true);
        for joint in &mut self.joints {
            holding += usize::from(joint.set_up(&mut self.bus)?);
            joint.goal_to_present(&mut self.bus)?;
            fast &= joint.answers_fast(&mut self.bus)?;
        }
        self.held = holding == self.joints.len();
        self.energised = holding > 0;
        if holding > 0 {
            log::warn!("{holding} of {} servos hold, as they were found", self.joints.len());
        }
        self.bus.set_fast(fast);
        Ok(())
    }

    /// Asks every servo for its model.
    fn find(&mut self) -> Result<(), ArmError> {
        let (mut answered, mut missing) = (Vec::new(), Vec::new());
        for joint in &self.joints {
            let (id, expected) = (joint.config.id, joint.model.number);
            match joint.get(&mut self.bus, &joint.model.model_number) {
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
fn confirm_off(bus: &mut Bus, joint: &Joint) -> Result<bool, BusError> {
    let (id, torque) = (joint.config.id, &joint.model.torque);
    let now = bus.clock().now();
    // Not every servo acknowledges; what counts is what it says after.
    let _ = bus.write(id, torque, 0, now + PATIENCE / 2);
    let off = bus.read(id, torque, now + PATIENCE)?.0 == 0;
    if off && joint.model.protocol == Protocol::Dynamixel {
        dynamixel::clear_watchdog(id, bus);
    }
    Ok(off)
}
