//! Transactions on a servo bus: one absolute deadline each, counted faults, bounded retries. Which
//! protocol carries them is settled when the bus is made and seen by nobody after.
//!
//! Three things keep one transaction's answer out of the next one. What was received before is
//! purged. Sizes must be as asked. And after each transaction that was not answered in full, reads
//! ask for another number of bytes than the one before: an answer that comes late has the wrong
//! length. (Answers carry no address in either protocol.)
//!
//! A read of several servos within one tick asks again, until its deadline, those of whom nothing
//! valid and plausible came:
//!
//! 1. All are asked at once, in the form with one common answer where the servos know it.
//! 2. When nothing comes for longer than the wire takes and answers were late so far (`patience`),
//!    nobody follows. Those missing are asked again, the plain way, for in a common answer one that
//!    is missing hides all behind it. Answers to an earlier request of the same read count too: asking
//!    too early costs a request, not the answer.
//! 3. When nobody answered at all, the servos may be waiting for the end of a request whose length
//!    was damaged: before they are asked again, Feetech's are sent enough bytes to end it.
//! 4. What cannot be answered before the deadline is not asked; what was asked may still come.

mod codec;
mod error;
mod many;
mod patience;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use self::codec::BROADCAST;
use self::codec::{Codec, Damage, Event, Request, Status};
pub use self::error::{BusError, Counters};
pub use self::many::{Ask, Miss};
use self::patience::{Expected, Patience};
use super::port::{Port, PortError};
use super::servo::{Block, Model, Register, feetech, trouble};
pub use super::wire::dynamixel::{Keep, Refusal};
use crate::clock::{Clock, Time};
use crate::config::Protocol;

/// How often a request is made before it counts as unanswered.
pub const TRIES: u32 = 3;
/// Read sizes tell this many consecutive incomplete transactions apart.
const TAGS: u8 = 8;
/// The most bytes a read may ask of one servo.
pub const MAX_READ: usize = 24;
/// The highest id a servo may have.
const MAX_ID: u8 = 252;
/// The servos of a bus that is full.
const MOST_SERVOS: usize = MAX_ID as usize + 1;

/// What a servo answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its troubles, bits of [`trouble`].
    pub status: u8,
    /// The registers asked for.
    pub data: heapless::Vec<u8, MAX_READ>,
    /// When it was asked: the data is not older.
    pub asked: Time,
}

/// A servo that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its id.
    pub id: u8,
    /// Its troubles, bits of [`trouble`].
    pub status: u8,
    /// The model number it says.
    pub number: i32,
    /// The model of that number, if it is a known one.
    pub model: Option<&'static Model>,
}

/// A servo bus and its host. Allocates nothing after it is made.
pub struct Bus {
    port: Box<dyn Port>,
    clock: Arc<dyn Clock>,
    codec: Codec,
    counters: Counters,
    patience: Patience,
    /// Until then the wire is taken by what was written.
    busy_until: Time,
    tag: u8,
    /// When a request was last left without all of its answers.
    incomplete: Time,
    fast: bool,
}

impl Bus {
    /// The host of the bus at `port`, which lives by `clock` and carries `baud` bit/s.
    pub fn new(port: Box<dyn Port>, clock: Arc<dyn Clock>, protocol: Protocol, baud: u32) -> Self {
        Self {
            port,
            clock,
            codec: Codec::new(protocol),
            counters: Counters::default(),
            patience: Patience::new(baud),
            busy_until: Time::ZERO,
            tag: 0,
            incomplete: Time::ZERO,
            fast: false,
        }
    }

    /// The faults so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The clock that deadlines are told by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What its servos speak.
    pub fn protocol(&self) -> Protocol {
        self.codec.protocol()
    }

    /// Whether reads of several servos are made in the form with one common answer, which only newer
    /// Dynamixel firmware knows.
    pub fn set_fast(&mut self, fast: bool) {
        self.fast = fast && self.protocol() == Protocol::Dynamixel;
    }

    /// Asks a servo whether it is there.
    ///
    /// # Errors
    /// It does not answer before the deadline, or the port fails.
    pub fn ping(&mut self, id: u8, deadline: Time) -> Result<Found, BusError> {
        let size = ping_size(self.protocol());
        let pinged = self.request_one(id, deadline, |_| (Request::Ping { id }, size))?;
        self.identify(id, &pinged, deadline)
    }

    /// Asks all servos at once who is there, and waits for answers until half of the time has
    /// passed: a servo waits for its turn. An SCS0009 does not answer this.
    ///
    /// # Errors
    /// The port fails.
    pub fn scan(&mut self, deadline: Time) -> Result<heapless::Vec<Found, MOST_SERVOS>, BusError> {
        self.codec.emit(&Request::Ping { id: BROADCAST })?;
        let now = self.clock.now();
        let mut answers = heapless::Vec::<(u8, Answer), MOST_SERVOS>::new();
        let size = ping_size(self.protocol());
        self.exchange(size, None, share(now, deadline, 2), |event, _| {
            if let Ok(status) = event
                && status.id <= MAX_ID
                && status.data.len() == size
                && answers.iter().all(|(id, _)| *id != status.id)
            {
                // There is room for every id.
                let _ = answers.push((status.id, answer(&status, size, now)));
            }
            ControlFlow::Continue(())
        })?;
        let mut found = heapless::Vec::new();
        for (left, (id, answer)) in (1..=answers.len() as u32).rev().zip(&answers) {
            let deadline = share(self.clock.now(), deadline, left);
            match self.identify(*id, answer, deadline) {
                Ok(servo) => found.push(servo).map_err(|_| BusError::TooLong)?,
                // What answered before was damage that looked right.
                Err(BusError::NoAnswer { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The servo that answered a ping: Dynamixel says its model with it, Feetech is asked.
    fn identify(&mut self, id: u8, pinged: &Answer, deadline: Time) -> Result<Found, BusError> {
        let read = match self.protocol() {
            Protocol::Dynamixel => None,
            Protocol::Feetech => {
                let Register { address, size, .. } = feetech::MODEL;
                Some(self.read_block(id, Block { address, size }, deadline)?)
            }
        };
        let bytes = &read.as_ref().unwrap_or(pinged).data;
        let model = Model::identify(self.protocol(), bytes);
        let number = match (model, bytes.as_slice()) {
            (Some(model), _) => model.number,
            (None, [low, high, ..]) => i32::from(u16::from_le_bytes([*low, *high])),
            (None, _) => 0,
        };
        Ok(Found { id, status: pinged.status, number, model })
    }

    /// Reads a register; its value and the status bits.
    ///
    /// # Errors
    /// No valid answer before the deadline, the servo refuses, or the port fails.
    pub fn read(
        &mut self,
        id: u8,
        register: &Register,
        deadline: Time,
    ) -> Result<(i32, u8), BusError> {
        let block = Block { address: register.address, size: register.size };
        let answer = self.read_block(id, block, deadline)?;
        let value = register.decode(&answer.data).ok_or(BusError::NoAnswer { id })?;
        Ok((value, answer.status))
    }

    /// Reads registers that lie side by side.
    ///
    /// # Errors
    /// As [`read`](Self::read); more than [`MAX_READ`] bytes.
    pub fn read_block(&mut self, id: u8, block: Block, deadline: Time) -> Result<Answer, BusError> {
        if usize::from(block.size) > MAX_READ {
            return Err(BusError::TooLong);
        }
        let mut answer = self.request_one(id, deadline, |tag| {
            let block = tagged(block, tag);
            (Request::Read { id, block }, usize::from(block.size))
        })?;
        answer.data.truncate(usize::from(block.size));
        Ok(answer)
    }

    /// Writes a register and waits until the servo says so; the status bits. All servos at once
    /// ([`BROADCAST`]) say nothing. Acknowledgements look alike, so one that comes late passes for
    /// the next: who relies on a value reads it back.
    ///
    /// # Errors
    /// The value does not fit; no valid answer before the deadline; the servo refuses; the port fails.
    pub fn write(
        &mut self,
        id: u8,
        register: &Register,
        value: i32,
        deadline: Time,
    ) -> Result<u8, BusError> {
        let data = encode(register, value)?;
        self.command(id, Request::Write { id, address: register.address, data: &data }, deadline)
    }

    /// Prepares a write for the next [`action`](Self::action); the status bits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn reg_write(
        &mut self,
        id: u8,
        register: &Register,
        value: i32,
        deadline: Time,
    ) -> Result<u8, BusError> {
        let data = encode(register, value)?;
        self.command(id, Request::RegWrite { id, address: register.address, data: &data }, deadline)
    }

    /// Lets a servo, or all, do what was prepared; the status bits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn action(&mut self, id: u8, deadline: Time) -> Result<u8, BusError> {
        self.command(id, Request::Action { id }, deadline)
    }

    /// Lets a servo start anew; the status bits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn reboot(&mut self, id: u8, deadline: Time) -> Result<u8, BusError> {
        self.command(id, Request::Reboot { id }, deadline)
    }

    /// Sets all registers of a servo to what the factory set, but for what is kept; the status bits.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn factory_reset(&mut self, id: u8, keep: Keep, deadline: Time) -> Result<u8, BusError> {
        self.command(id, Request::FactoryReset { id, keep }, deadline)
    }

    /// Writes a register of several servos at once; nobody answers.
    ///
    /// # Errors
    /// A value does not fit; the request is too long; the port fails.
    pub fn sync_write(
        &mut self,
        register: &Register,
        values: impl IntoIterator<Item = (u8, i32)>,
        deadline: Time,
    ) -> Result<(), BusError> {
        let mut blocks = heapless::Vec::<u8, 240>::new();
        for (id, value) in values {
            blocks.push(id).map_err(|_| BusError::TooLong)?;
            let data = encode(register, value)?;
            blocks.extend_from_slice(&data).map_err(|_| BusError::TooLong)?;
        }
        let Register { address, size, .. } = *register;
        self.codec.emit(&Request::SyncWrite { address, size, blocks: &blocks })?;
        Ok(self.send(deadline)?)
    }

    /// Makes a request that is answered without data.
    fn command(&mut self, id: u8, request: Request<'_>, deadline: Time) -> Result<u8, BusError> {
        if id != BROADCAST {
            return self.request_one(id, deadline, |_| (request, 0)).map(|answer| answer.status);
        }
        self.codec.emit(&request)?;
        self.send(deadline)?;
        Ok(0)
    }

    /// Makes a request of one servo until it answers as it should; `request` gives it for a tag,
    /// with the size of its answer.
    fn request_one<'r>(
        &mut self,
        id: u8,
        deadline: Time,
        request: impl Fn(u8) -> (Request<'r>, usize),
    ) -> Result<Answer, BusError> {
        for left in (1..=TRIES).rev() {
            let (request, size) = request(self.tag);
            self.codec.emit(&request)?;
            let now = self.clock.now();
            let mut found = None;
            self.exchange(size, None, share(now, deadline, left), |event, counters| {
                let status = match event {
                    Err(_) => return ControlFlow::Continue(()),
                    Ok(status) if status.id != id => {
                        counters.wrong_id += 1;
                        return ControlFlow::Continue(());
                    }
                    Ok(status) => status,
                };
                found = match status.refusal {
                    // Another try may reach it whole.
                    Some(Refusal::Crc) => return ControlFlow::Break(()),
                    Some(refusal) => Some(Err(BusError::Refused { id, refusal })),
                    None if status.data.len() == size => Some(Ok(answer(&status, size, now))),
                    None => {
                        counters.wrong_length += 1;
                        return ControlFlow::Continue(());
                    }
                };
                ControlFlow::Break(())
            })?;
            if let Some(found) = found {
                return found;
            }
            self.next_tag();
            if self.clock.now() >= deadline {
                break;
            }
            self.counters.retries += u64::from(left > 1);
        }
        Err(BusError::NoAnswer { id })
    }

    /// Sends the request.
    fn send(&mut self, deadline: Time) -> Result<(), PortError> {
        let bytes = self.codec.bytes();
        let (len, sent) = (bytes.len(), self.port.write(bytes, deadline));
        self.occupy(len);
        sent
    }

    /// So many bytes were written and take their time on the wire.
    fn occupy(&mut self, bytes: usize) {
        self.busy_until = self.busy_until.max(self.clock.now()) + self.patience.wire(bytes);
    }

    /// Sends the request and listens; an answer has at most `size` bytes of data.
    fn exchange(
        &mut self,
        size: usize,
        expected: Option<Expected>,
        deadline: Time,
        take: impl FnMut(Result<Status<'_>, Damage>, &mut Counters) -> ControlFlow<()>,
    ) -> Result<(), PortError> {
        self.counters.stale_bytes += self.port.purge()? as u64;
        self.codec.restart(size);
        match self.send(deadline) {
            Ok(()) => self.listen(expected, deadline, take),
            Err(PortError::TimedOut) => {
                self.counters.timeouts += 1;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Hands all that comes to `take`, until it has enough, nothing comes for longer than it should
    /// take what is expected, or time is up.
    fn listen(
        &mut self,
        mut expected: Option<Expected>,
        deadline: Time,
        mut take: impl FnMut(Result<Status<'_>, Damage>, &mut Counters) -> ControlFlow<()>,
    ) -> Result<(), PortError> {
        let protocol = self.codec.protocol();
        let mut chunk = [0; 256];
        let (mut heard, mut latest) = (self.busy_until, None);
        loop {
            let pause = expected.and_then(|expected| self.patience.pause(expected));
            let until = pause.map_or(deadline, |pause| deadline.min(heard + pause));
            let count = match self.port.read(&mut chunk, until) {
                Ok(count) => count,
                Err(PortError::TimedOut) => {
                    self.counters.timeouts += 1;
                    if latest.is_none() {
                        self.patience.give_up();
                    }
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            let now = self.clock.now();
            let due = expected.map_or(count, Expected::next);
            latest = latest.max(Some(now.since(heard + self.patience.wire(due))));
            heard = heard.max(now);
            // Who is heard has the wire.
            self.busy_until = self.busy_until.min(now);
            expected = expected.map(|expected| expected.without(count));
            let mut bytes = chunk.get(..count).unwrap_or_default();
            while let Some(event) = self.codec.next(&mut bytes) {
                self.counters.count(protocol, &event);
                let event = match event {
                    Event::Echo => continue,
                    Event::Status(status) => Ok(status),
                    Event::Damage(damage) => Err(damage),
                };
                if take(event, &mut self.counters).is_break() {
                    self.patience.learn(latest.unwrap_or_default());
                    return Ok(());
                }
            }
        }
    }

    fn next_tag(&mut self) {
        self.tag = (self.tag + 1) % TAGS;
        self.incomplete = self.clock.now();
    }
}

impl Counters {
    fn count(&mut self, protocol: Protocol, event: &Event<'_>) {
        match event {
            Event::Echo => self.echoes += 1,
            Event::Status(status) => {
                self.refused += u64::from(status.refusal.is_some());
                match status.trouble {
                    0 => {}
                    trouble::ALERT if protocol == Protocol::Dynamixel => self.alerts += 1,
                    _ => self.status_bits += 1,
                }
            }
            Event::Damage(Damage::Garbage { bytes }) => self.garbage_bytes += *bytes as u64,
            Event::Damage(Damage::Length) => self.wrong_length += 1,
            Event::Damage(Damage::Checksum { .. }) => match protocol {
                Protocol::Feetech => self.checksum += 1,
                Protocol::Dynamixel => self.crc += 1,
            },
        }
    }
}

/// A ping's answer: Dynamixel says model and firmware.
fn ping_size(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Feetech => 0,
        Protocol::Dynamixel => 3,
    }
}

/// The block with the size that says which transaction this is: the next from its size on that is
/// `tag` modulo [`TAGS`]. So any two reads with different tags differ in length, whatever they read.
fn tagged(block: Block, tag: u8) -> Block {
    Block { size: block.size + (tag + TAGS - block.size % TAGS) % TAGS, ..block }
}

/// The instant that leaves `tries` equal parts of the time until `deadline`.
fn share(now: Time, deadline: Time, tries: u32) -> Time {
    now + deadline.since(now) / tries.max(1)
}

fn encode(register: &Register, value: i32) -> Result<heapless::Vec<u8, 4>, BusError> {
    register.encode(value).ok_or(BusError::Value { register: register.name, value })
}

fn answer(status: &Status<'_>, size: usize, asked: Time) -> Answer {
    let data = status.data.iter().take(size.min(MAX_READ)).copied().collect();
    Answer { status: status.trouble, data, asked }
}

#[cfg(test)]
mod tests;
