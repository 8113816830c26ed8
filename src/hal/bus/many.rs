//! Reads of several servos within one deadline: one bad servo never hides the others.

use std::ops::ControlFlow;
use std::time::Duration;

use super::codec::{Damage, Request, Status};
use super::error::Counters;
use super::patience::Expected;
use super::{Answer, Bus, BusError, MAX_READ, TAGS, answer, tagged};
use crate::clock::Time;
use crate::config::Protocol;
use crate::hal::servo::Block;
use crate::joints::JointVec;

/// Those missing are asked this often in all. Twice as many fit the tags: what comes later than its
/// own and the next reading is told apart.
const PASSES: u8 = TAGS / 2;
/// As long as it is not known how late answers are, a pass that others may follow takes 3 of 4 parts
/// of the time.
const UNKNOWN: (u32, u32) = (3, 4);
/// No answer is later than this.
const LATEST: Duration = Duration::from_millis(100);
/// As much as the longest packet of Feetech's. It is no beginning of one.
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
    /// What it said was not believed.
    Implausible,
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

    /// As [`read_plausible`](Self::read_plausible), and every answer is believed.
    ///
    /// # Errors
    /// As [`read_plausible`](Self::read_plausible).
    pub fn read_many(&mut self, asks: &[Ask], deadline: Time) -> Result<Answers, BusError> {
        self.read_plausible(asks, deadline, |_, _| true)
    }

    /// Reads of each servo the registers asked for, with as few requests as the servos understand:
    /// a sync read where all are asked for the same, else a bulk read (Dynamixel) or one read each.
    /// A servo that is missing does not hide the others; those missing, and those whose answer
    /// `believe` refuses, given its place among those asked, are asked again while time is left.
    ///
    /// # Errors
    /// The port fails; a block is larger than [`MAX_READ`].
    pub fn read_plausible(
        &mut self,
        asks: &[Ask],
        deadline: Time,
        believe: impl FnMut(usize, &Answer) -> bool,
    ) -> Result<Answers, BusError> {
        if asks.iter().any(|ask| usize::from(ask.block.size) > MAX_READ) {
            return Err(BusError::TooLong);
        }
        let begun = self.clock.now();
        if begun.since(self.incomplete) > LATEST {
            self.tag = shortest(asks);
        }
        let answers = asks.iter().map(|_| Err(Miss::Silent)).collect();
        let mut gathered = Gathered { asks, answers, believe, begun, tags: 0 };
        for pass in 1..=PASSES {
            let mut open: JointVec<Ask> = gathered.missing().collect();
            while !open.is_empty() {
                let (group, rest) = self.split(&open);
                let left = deadline.since(self.clock.now());
                let until = self.clock.now() + left / open.len() as u32 * group.len() as u32;
                self.read_group(&group, pass, until, &mut gathered)?;
                open = rest;
            }
            if gathered.complete() || self.clock.now() >= deadline {
                break;
            }
            self.counters.retries += u64::from(pass < PASSES);
            if pass == 1 && gathered.answers.iter().all(|a| *a == Err(Miss::Silent)) {
                self.fill(deadline)?;
            }
        }
        Ok(gathered.answers)
    }

    /// Servos that heard a request with a damaged length wait for its end, deaf to all that follows:
    /// sends them as much as may be missing, if there is time for it.
    fn fill(&mut self, deadline: Time) -> Result<(), BusError> {
        let time = deadline.since(self.clock.now());
        let fits = self.patience.bytes(time).min(FILLING.len());
        // Others find the next header by themselves.
        if let (Protocol::Feetech, Some(filling)) = (self.protocol(), FILLING.get(..fits)) {
            self.port.write(filling, deadline)?;
            self.occupy(filling.len());
        }
        Ok(())
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

    /// One request of the servos in `group` and its answers; when none of them can come before the
    /// deadline anymore, only those to earlier requests.
    fn read_group<B: FnMut(usize, &Answer) -> bool>(
        &mut self,
        group: &[Ask],
        pass: u8,
        deadline: Time,
        gathered: &mut Gathered<'_, B>,
    ) -> Result<(), BusError> {
        // A servo that does not answer breaks the chain of a common answer.
        let expected = self.emit_read(group, self.fast && pass == 1)?;
        let (now, tag) = (self.clock.now(), self.tag);
        let bytes = self.codec.bytes().len() + expected.bytes;
        if pass > 1 && self.busy_until.max(now) + self.patience.wire(bytes) > deadline {
            return Ok(self.listen(None, deadline, |event, counters| {
                gathered.take(event, None, counters);
                if gathered.complete() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?);
        }
        let cut = pass < PASSES && !self.patience.learned();
        let left = deadline.since(now);
        let until = if cut { now + left * UNKNOWN.0 / UNKNOWN.1 } else { deadline };
        gathered.tags |= 1 << tag;
        let size = group.iter().map(|ask| ask.block.size).max().unwrap_or(0) + TAGS - 1;
        let mut awaited: JointVec<u8> = group.iter().map(|ask| ask.id).collect();
        let last = awaited.last().copied();
        self.exchange(size.into(), Some(expected), until, |event, counters| {
            let answered = gathered.take(event, Some((tag, now)), counters);
            awaited.retain(|id| Some(*id) != answered);
            // Servos answer in the order asked: after the last nobody follows.
            let done = awaited.is_empty() || answered.is_some() && answered == last;
            if done { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !awaited.is_empty() {
            self.next_tag();
        }
        Ok(())
    }

    /// Makes the request of the servos in `group`, with this tag; what is to come.
    fn emit_read(&mut self, group: &[Ask], fast: bool) -> Result<Expected, BusError> {
        let ids: JointVec<u8> = group.iter().map(|ask| ask.id).collect();
        let blocks: JointVec<Block> = group.iter().map(|ask| tagged(ask.block, self.tag)).collect();
        let uniform = blocks.first().filter(|first| blocks.iter().all(|b| b == *first)).copied();
        self.codec.emit(&match (uniform, ids.as_slice()) {
            (Some(block), [id]) => Request::Read { id: *id, block },
            (Some(block), ids) => Request::SyncRead { block, ids, fast },
            (None, ids) => Request::BulkRead { ids, blocks: &blocks, fast },
        })?;
        let packets = blocks.iter().map(|block| usize::from(block.size) + self.codec.overhead());
        let (bytes, longest) = (packets.clone().sum(), packets.max().unwrap_or(0));
        Ok(Expected { bytes, piece: if fast { bytes } else { longest } })
    }
}

/// The answers of one reading, which several requests were made for.
struct Gathered<'a, B> {
    asks: &'a [Ask],
    answers: Answers,
    believe: B,
    begun: Time,
    /// A bit for the tag of each request.
    tags: u8,
}

impl<B: FnMut(usize, &Answer) -> bool> Gathered<'_, B> {
    fn missing(&self) -> impl Iterator<Item = Ask> {
        let asked = self.asks.iter().zip(&self.answers);
        asked.filter(|(_, answer)| answer.is_err()).map(|(ask, _)| *ask)
    }

    fn complete(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Takes what came after a request with its tag and time; who answered it, if it was that.
    /// An answer to an earlier request of this reading is as good, but not as fresh.
    fn take(
        &mut self,
        event: Result<Status<'_>, Damage>,
        request: Option<(u8, Time)>,
        counters: &mut Counters,
    ) -> Option<u8> {
        let id = match &event {
            Ok(status) => status.id,
            Err(Damage::Checksum { id }) => *id,
            Err(_) => return None,
        };
        let mut asked = self.asks.iter().zip(&mut self.answers).enumerate();
        let Some((place, (ask, slot))) = asked.find(|(_, (ask, _))| ask.id == id) else {
            counters.wrong_id += u64::from(event.is_ok());
            return None;
        };
        let is_of = |tag, data: &[u8]| usize::from(tagged(ask.block, tag).size) == data.len();
        let (found, this) = match event {
            Err(_) => (Err(Miss::Checksum), false),
            Ok(status) if status.refusal.is_some() => (Err(Miss::Refused), true),
            Ok(status) => {
                let this = request.filter(|(tag, _)| is_of(*tag, status.data));
                let earlier = (0..TAGS).any(|t| self.tags & 1 << t != 0 && is_of(t, status.data));
                let asked = this.map_or(self.begun, |(_, asked)| asked);
                let answer = answer(&status, ask.block.size.into(), asked);
                (if earlier { Ok(answer) } else { Err(Miss::Length) }, this.is_some())
            }
        };
        counters.wrong_length += u64::from(found == Err(Miss::Length));
        if slot.is_err() {
            let believe = &mut self.believe;
            *slot = found.and_then(|answer| match believe(place, &answer) {
                true => Ok(answer),
                false => Err(Miss::Implausible),
            });
        }
        this.then_some(id)
    }
}

/// The tag that makes these reads shortest.
fn shortest(asks: &[Ask]) -> u8 {
    let bytes =
        |tag: &u8| -> u32 { asks.iter().map(|ask| u32::from(tagged(ask.block, *tag).size)).sum() };
    (0..TAGS).min_by_key(bytes).unwrap_or(0)
}
