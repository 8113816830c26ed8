//! What is asked of an arm that is held besides its movement, of one servo now and then: whether its
//! torque is still on, for a servo that lost its power for a moment is back without a word, and the
//! current that it draws, where that lies apart from what is read each time.

use super::Arm;
use crate::clock::Time;
use crate::hal::bus::BusError;
use crate::hal::servo::{Register, trouble};

/// One reading of the arm in so many takes longer by one register of one servo.
const EVERY: u32 = 4;
/// So many readings of a register in a row are no damage.
const AGREEING: u8 = 2;

/// Whose turn it is to be asked, and for what.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    readings: u32,
    joint: usize,
    /// For its current, if it has a register of its own for it.
    current: bool,
}

impl Rounds {
    /// Who is to be asked now, of so many joints, and whether for its current.
    fn next(&mut self, joints: usize) -> Option<(usize, bool)> {
        self.readings += 1;
        if self.readings < EVERY {
            return None;
        }
        let turn = (self.joint, self.current);
        (self.readings, self.current) = (0, !self.current);
        if turn.1 {
            self.joint = (self.joint + 1) % joints.max(1);
        }
        Some(turn)
    }
}

impl Arm {
    /// Asks the servo whose turn it is, or at once again one that seemed to be without torque.
    pub(super) fn check_up(&mut self, deadline: Time) -> Result<(), BusError> {
        let doubtful = |limp: u8| (1..AGREEING).contains(&limp);
        let doubted = self.joints.iter().position(|joint| doubtful(joint.limp));
        let turn = match doubted {
            Some(joint) => Some((joint, false)),
            None => self.rounds.next(self.joints.len()),
        };
        let Some((place, current)) = turn else { return Ok(()) };
        let Some(joint) = self.joints.get_mut(place) else { return Ok(()) };
        let (id, model) = (joint.config.id, joint.model);
        let apart: Option<&Register> = model.current.as_ref().filter(|_| current);
        match (self.bus.read(id, apart.unwrap_or(&model.torque), deadline), apart) {
            (Ok((value, _)), Some(_)) => joint.set_current(value),
            (Ok((1, _)), None) => joint.limp = 0,
            (Ok(_), None) => joint.limp = joint.limp.saturating_add(1),
            (Err(error @ BusError::Port(_)), _) => return Err(error),
            // Asked again in its next turn.
            (Err(_), _) => {}
        }
        Ok(())
    }
}

/// The trouble of a servo that was found without torque so many times in a row.
pub(super) fn restarted(limp: u8) -> u8 {
    if limp >= AGREEING { trouble::RESTARTED } else { 0 }
}
