//! Holding an arm whose program has died, with as few requests as possible.

use std::sync::Arc;
use std::time::Duration;

use super::Arm;
use crate::clock::Clock;
use crate::config::{Protocol, RobotConfig};
use crate::hal::bus::{Ask, BusError};
use crate::hal::port::Port;
use crate::hal::servo::{Block, Model, Register, dynamixel as x};
use crate::joints::JointVec;

/// What was said last may be half a request, and what comes first an answer to it.
const ROUNDS: usize = 5;
/// Time for the answers to one request to all servos.
const ANSWERS: Duration = Duration::from_millis(20);
/// Two readings of a position that differ by more cannot both be true (rad).
const SAME_PLACE: f64 = 0.2;

/// What became of the servos of an arm, by their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rescued {
    /// Told to stay where they are, and the goal read back.
    pub held: JointVec<u8>,
    /// Without torque, as they were found.
    pub limp: JointVec<u8>,
    /// They did not answer, or not twice alike. Nothing was told to them.
    pub unknown: JointVec<u8>,
}

impl Rescued {
    /// Every servo that answers holds, and at least one does.
    pub fn holds(&self) -> bool {
        !self.held.is_empty() && self.unknown.is_empty() && self.limp.is_empty()
    }
}

/// Tells every servo that has torque to hold where it is: its goal is set to where it was measured
/// twice, within its limits. A Dynamixel servo's bus watchdog is cleared, for there may be nobody to
/// speak to it for a while. Torque stays as it is, and nothing else is written. Never fails:
/// servos that do not answer are tried again, and said to be unknown in the end.
pub fn rescue(config: &RobotConfig, port: Box<dyn Port>, clock: Arc<dyn Clock>) -> Rescued {
    let mut arm = Arm::over(config, port, clock);
    let mut fates: JointVec<Fate> = arm.joints.iter().map(|_| Fate::Unknown).collect();
    for _ in 0..ROUNDS {
        let lost = matches!(arm.rescue_round(&mut fates), Err(BusError::Port(_)));
        if lost || fates.iter().all(|fate| *fate != Fate::Unknown) {
            break;
        }
    }
    let those = |of: Fate| {
        let with = arm.joints.iter().zip(&fates).filter(|(_, fate)| **fate == of);
        with.map(|(joint, _)| joint.config.id).collect()
    };
    Rescued { held: those(Fate::Held), limp: those(Fate::Limp), unknown: those(Fate::Unknown) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    Limp,
    Held,
}

impl Arm {
    fn rescue_round(&mut self, fates: &mut JointVec<Fate>) -> Result<(), BusError> {
        let first = self.read_each(|model| &model.position)?;
        let torques = self.read_each(|model| &model.torque)?;
        let second = self.read_each(|model| &model.position)?;
        let measured = first.iter().zip(&second);
        let mut goals = JointVec::<Option<i32>>::new();
        for (((joint, fate), torque), (first, second)) in
            self.joints.iter().zip(fates.iter_mut()).zip(&torques).zip(measured)
        {
            let near = |a: i32, b: i32| f64::from((a - b).abs()) * joint.model.rad_per_tick;
            let (lowest, highest) = joint.calibration.limits();
            let goal = match (*fate, torque, first, second) {
                (Fate::Unknown, Some(1), Some(a), Some(b)) if near(*a, *b) <= SAME_PLACE => {
                    Some((*b).clamp(lowest, highest))
                }
                (Fate::Unknown, Some(0 | 2), ..) => {
                    *fate = Fate::Limp;
                    None
                }
                _ => None,
            };
            // As long as the joints, which fit.
            let _ = goals.push(goal);
        }
        for (joint, goal) in self.joints.iter().zip(&goals) {
            let Some(goal) = goal else { continue };
            if joint.model.protocol == Protocol::Dynamixel {
                // A tripped one takes no goals.
                joint.tell(&mut self.bus, &x::BUS_WATCHDOG, 0)?;
            }
            joint.tell(&mut self.bus, &joint.model.goal, *goal)?;
        }
        let kept = self.read_each(|model| &model.goal)?;
        for ((fate, goal), kept) in fates.iter_mut().zip(&goals).zip(&kept) {
            if goal.is_some() && goal == kept {
                *fate = Fate::Held;
            }
        }
        Ok(())
    }

    /// One register of each servo; `None` of those that do not answer.
    fn read_each(
        &mut self,
        register: impl Fn(&'static Model) -> &'static Register,
    ) -> Result<JointVec<Option<i32>>, BusError> {
        let registers = self.joints.iter().map(|joint| (joint, register(joint.model)));
        let asks: JointVec<Ask> = registers
            .map(|(joint, register)| Ask {
                id: joint.config.id,
                block: Block { address: register.address, size: register.size },
                together: joint.model.sync_read,
            })
            .collect();
        let deadline = self.bus.clock().now() + ANSWERS;
        let answers = self.bus.read_many(&asks, deadline)?;
        let answered = self.joints.iter().zip(&answers);
        Ok(answered
            .map(|(joint, answer)| register(joint.model).decode(&answer.as_ref().ok()?.data))
            .collect())
    }
}
