//! Reads of several servos within one deadline: one bad servo never hides the others.

use std::ops::ControlFlow;

use super::codec::{Damage, Request};
use super::{Answer, Bus, BusError, MAX_READ, answer, tagged};
use crate::clock::Time;
use crate::config::Protocol;
use crate::hal::servo::Block;
use crate::joints::JointVec;

/// Those missing are asked this often in all.
const PASSES: u32 = 2;
/// The first time takes 3 of 4 parts of the time at most: all are asked then, and few after it.
const FIRST: (u32, u32) = (3, 4);
/// Servos that heard a request with a damaged length wait for its end, deaf to all that follows: as
/// much as the longest packet of Feetech's ends it. It is no beginning of a packet of either protocol.
const FILLING: [u8; 256] = [0; 256];

/// What to read of one servo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Whom.
    pub id: u8,
    /// Which registers.
    pub block: Block,
    /// It answers requests made of several servos; else it is asked alone.
    pub together: bool,
}

/// Why a servo is missing from a read of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing came from it.
    Silent,
    /// What came from it failed the checksum or CRC.
    Checksum,
    /// What came from it had another size.
    Length,
    /// It said no.
    Refused,
}

/// What came of each servo asked, in order.
pub type Answers = JointVec<Result<Answer, Miss>>;

impl Bus {
    /// Reads the same registers of several servos at once, in order; see [`read_many`](Self::read_many).
    ///
    /// # Errors
    /// As [`read_many`](Self::read_many).
    pub fn sync_read(
        &mut self,
        ids: &[u8],
        block: Block,
        deadline: Time,
    ) -> Result<Answers, BusError> {
        let asks: JointVec<Ask> =
            ids.iter().map(|id| Ask { id: *id, block, together: true }).collect();
        self.read_many(&asks, deadline)
    }

    /// Reads of each servo the registers asked for, with as few requests as the servos understand:
    /// a sync read where all are asked for the same, else a bulk read (Dynamixel) or one read each.
    /// A servo that is missing does not hide the others; those missing are asked once more while
    /// time is left.
    ///
    /// # Errors
    /// The port fails; a block is larger than [`MAX_READ`].
    pub fn read_many(&mut self, asks: &[Ask], deadline: Time) -> Result<Answers, BusError> {
        if asks.iter().any(|ask| usize::from(ask.block.size) > MAX_READ) {
            return Err(BusError::TooLong);
        }
        let mut answers: Answers = asks.iter().map(|_| Err(Miss::Silent)).collect();
        if self.unanswered {
            self.port.write(&FILLING, deadline)?;
        }
        for passes in (1..=PASSES).rev() {
            let mut open: JointVec<Ask> = missing(asks, &answers).collect();
            while !open.is_empty() {
                let (group, rest) = self.split(&open);
                let now = self.clock.now();
                let (share, of) = if passes == PASSES { FIRST } else { (1, 1) };
                let left = deadline.since(now) * share / of;
                let until = now + left / open.len() as u32 * group.len() as u32;
                // A servo that does not answer breaks the chain of a common answer.
                let fast = self.fast && passes == PASSES;
                self.read_group(asks, &group, fast, until, &mut answers)?;
                open = rest;
            }
            if missing(asks, &answers).next().is_none() || self.clock.now() >= deadline {
                break;
            }
            self.counters.retries += u64::from(passes > 1);
        }
        self.unanswered = answers.iter().all(|answer| *answer == Err(Miss::Silent));
        Ok(answers)
    }

    /// Those of `open` that one request can ask, its first among them, and the others.
    fn split(&self, open: &[Ask]) -> (JointVec<Ask>, JointVec<Ask>) {
        let Some(first) = open.first() else { return Default::default() };
        let joins = |ask: &Ask| {
            let same = ask.block == first.block || self.protocol() == Protocol::Dynamixel;
            ask.id == first.id || ask.together && first.together && same
        };
        let (mut group, mut rest) = (JointVec::new(), JointVec::new());
        for ask in open {
            // Both hold as many as there are.
            let _ = if joins(ask) { group.push(*ask) } else { rest.push(*ask) };
        }
        (group, rest)
    }

    /// One request of the servos in `group`, its answers put where `asks` has them.
    fn read_group(
        &mut self,
        asks: &[Ask],
        group: &[Ask],
        fast: bool,
        deadline: Time,
        answers: &mut [Result<Answer, Miss>],
    ) -> Result<(), BusError> {
        let ids: JointVec<u8> = group.iter().map(|ask| ask.id).collect();
        let blocks: JointVec<Block> = group.iter().map(|ask| tagged(ask.block, self.tag)).collect();
        let uniform = blocks.first().filter(|first| blocks.iter().all(|b| b == *first)).copied();
        self.codec.emit(&match (uniform, ids.as_slice()) {
            (Some(block), [id]) => Request::Read { id: *id, block },
            (Some(block), ids) => Request::SyncRead { block, ids, fast },
            (None, ids) => Request::BulkRead { ids, blocks: &blocks, fast },
        })?;
        let now = self.clock.now();
        let longest = blocks.iter().map(|block| usize::from(block.size)).max().unwrap_or(0);
        let mut missing = group.len();
        self.exchange(longest, deadline, |event, counters| {
            let id = match &event {
                Ok(status) => status.id,
                Err(Damage::Checksum { id }) => *id,
                Err(_) => return ControlFlow::Continue(()),
            };
            let asked = group.iter().zip(&blocks).find(|(ask, _)| ask.id == id);
            let slot = asks.iter().zip(&mut *answers).find(|(ask, _)| ask.id == id);
            let (Some((ask, block)), Some((_, slot))) = (asked, slot) else {
                counters.wrong_id += u64::from(event.is_ok());
                return ControlFlow::Continue(());
            };
            let found = match event {
                Err(_) => Err(Miss::Checksum),
                Ok(status) if status.refusal.is_some() => Err(Miss::Refused),
                Ok(status) if status.data.len() != usize::from(block.size) => {
                    counters.wrong_length += 1;
                    Err(Miss::Length)
                }
                Ok(status) => Ok(answer(&status, usize::from(ask.block.size), now)),
            };
            if slot.is_err() {
                missing -= usize::from(found.is_ok());
                *slot = found;
            }
            // Servos answer in the order asked: after the last nobody follows.
            let last = ids.last() == Some(&id) && slot.is_ok();
            if missing == 0 || last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if missing > 0 {
            self.next_tag();
        }
        Ok(())
    }
}

fn missing<'a>(
    asks: &'a [Ask],
    answers: &'a [Result<Answer, Miss>],
) -> impl Iterator<Item = Ask> + 'a {
    asks.iter().zip(answers).filter(|(_, answer)| answer.is_err()).map(|(ask, _)| *ask)
}
