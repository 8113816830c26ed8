//! Transactions on a servo bus: one absolute deadline each, counted faults, bounded retries.
//!
//! Three things keep one transaction's answer out of the next one. What was received before is
//! purged. Sizes must be as asked. And after each transaction that was not answered in full, reads
//! ask for another number of bytes than the one before: an answer that comes late has the wrong
//! length.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::port::{Port, PortError};
use super::servo::Register;
use super::wire::feetech::{
    BROADCAST, Damage, Decoder, Packet, PacketBuf, Request, Status, TooLong,
};
use crate::clock::{Clock, Time};
use crate::joints::JointVec;

/// How often a request is made before it counts as unanswered.
pub const TRIES: u32 = 3;
/// Read sizes tell this many consecutive incomplete transactions apart.
const TAGS: u8 = 8;
/// The most bytes a read may ask of one servo.
pub const MAX_READ: usize = 16;

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The port failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No valid answer came.
    #[error(
        "expected an answer of servo {id}, found none within {TRIES} tries; check its power, cable and id"
    )]
    NoAnswer {
        /// Whom was asked.
        id: u8,
    },
    /// A value does not fit its register.
    #[error("expected a value that fits register {register}, found {value}")]
    Value {
        /// The register's name.
        register: &'static str,
        /// The value.
        value: i32,
    },
    /// The request does not fit a packet.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// Faults seen since the bus was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Tries that ended at their deadline.
    pub timeouts: u64,
    /// Packets whose checksum did not fit.
    pub checksum: u64,
    /// Answers of servos that were not asked.
    pub wrong_id: u64,
    /// Answers of another size than asked for, late ones among them.
    pub wrong_length: u64,
    /// Bytes that belonged to no packet.
    pub garbage_bytes: u64,
    /// Bytes that came before they were asked for.
    pub stale_bytes: u64,
    /// Requests that came back as they were sent.
    pub echoes: u64,
    /// Answers with a status bit set.
    pub status_bits: u64,
    /// Requests made again.
    pub retries: u64,
}

/// What a servo answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its troubles, bits of [`status`](super::wire::feetech::status).
    pub status: u8,
    /// The registers asked for.
    pub data: heapless::Vec<u8, MAX_READ>,
    /// When it was asked: the data is not older.
    pub asked: Time,
}

/// Why a servo is missing from a sync read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Miss {
    /// Nothing came from it.
    Silent,
    /// What came from it failed the checksum.
    Checksum,
    /// What came from it had another size.
    Length,
}

/// A servo bus and its host. Allocates nothing after it is made.
pub struct Bus {
    port: Box<dyn Port>,
    clock: Arc<dyn Clock>,
    decoder: Decoder,
    request: PacketBuf,
    counters: Counters,
    tag: u8,
}

impl Bus {
    /// The host of the bus at `port`, which lives by `clock`.
    pub fn new(port: Box<dyn Port>, clock: Arc<dyn Clock>) -> Self {
        Self {
            port,
            clock,
            decoder: Decoder::default(),
            request: PacketBuf::new(),
            counters: Counters::default(),
            tag: 0,
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

    /// Asks a servo whether it is there; its status byte.
    ///
    /// # Errors
    /// It does not answer before the deadline, or the port fails.
    pub fn ping(&mut self, id: u8, deadline: Time) -> Result<u8, BusError> {
        self.request_one(id, deadline, |_| (Request::Ping { id }, 0)).map(|answer| answer.status)
    }

    /// Reads a register; its value and the status byte.
    ///
    /// # Errors
    /// No valid answer before the deadline, or the port fails.
    pub fn read(
        &mut self,
        id: u8,
        register: &Register,
        deadline: Time,
    ) -> Result<(i32, u8), BusError> {
        let address = register.address as u8;
        let answer = self.request_one(id, deadline, |tag| {
            let size = tagged(register.size, tag);
            (Request::Read { id, address, size }, usize::from(size))
        })?;
        let value = register.decode(&answer.data).ok_or(BusError::NoAnswer { id })?;
        Ok((value, answer.status))
    }

    /// Writes a register and waits until the servo says so; the status byte. Acknowledgements look
    /// alike, so one that comes late passes for the next: who relies on a value reads it back.
    ///
    /// # Errors
    /// The value does not fit; no valid answer before the deadline; the port fails.
    pub fn write(
        &mut self,
        id: u8,
        register: &Register,
        value: i32,
        deadline: Time,
    ) -> Result<u8, BusError> {
        let data = encode(register, value)?;
        let request = Request::Write { id, address: register.address as u8, data: &data };
        self.request_one(id, deadline, |_| (request, 0)).map(|answer| answer.status)
    }

    /// Reads `size` bytes from `address` on of each of `ids`, in order. A servo that is missing
    /// does not hide the others; those missing are asked once more while time is left.
    ///
    /// # Errors
    /// The port fails; the request is too long.
    pub fn sync_read(
        &mut self,
        ids: &[u8],
        address: u8,
        size: u8,
        deadline: Time,
    ) -> Result<JointVec<Result<Answer, Miss>>, BusError> {
        if usize::from(size) > MAX_READ {
            return Err(TooLong.into());
        }
        let mut answers: JointVec<Result<Answer, Miss>> =
            ids.iter().map(|_| Err(Miss::Silent)).collect();
        let mut asked: JointVec<u8> = ids.iter().copied().collect();
        for left in [2, 1] {
            self.sync_read_once(ids, &asked, (address, size), left, deadline, &mut answers)?;
            asked =
                ids.iter().zip(&answers).filter(|(_, a)| a.is_err()).map(|(id, _)| *id).collect();
            if asked.is_empty() || self.clock.now() >= deadline {
                break;
            }
            self.counters.retries += u64::from(left - 1);
        }
        Ok(answers)
    }

    fn sync_read_once(
        &mut self,
        ids: &[u8],
        asked: &[u8],
        (address, size): (u8, u8),
        tries: u32,
        deadline: Time,
        answers: &mut [Result<Answer, Miss>],
    ) -> Result<(), BusError> {
        let size_asked = tagged(size, self.tag);
        Request::SyncRead { address, size: size_asked, ids: asked }.emit(&mut self.request)?;
        let now = self.clock.now();
        let mut missing = asked.len();
        self.exchange(usize::from(size_asked), share(now, deadline, tries), |event, counters| {
            let (id, found) = match event {
                Err(Damage::Checksum { id }) => (id, Err(Miss::Checksum)),
                Err(_) => return ControlFlow::Continue(()),
                Ok(status) if status.data.len() != usize::from(size_asked) => {
                    counters.wrong_length += 1;
                    (status.id, Err(Miss::Length))
                }
                Ok(status) => (status.id, Ok(answer(&status, size, now))),
            };
            let slot = ids.iter().position(|i| *i == id).and_then(|i| answers.get_mut(i));
            match slot.filter(|_| asked.contains(&id)) {
                None if found.is_ok() => counters.wrong_id += 1,
                Some(slot) if slot.is_err() => {
                    missing -= usize::from(found.is_ok());
                    *slot = found;
                }
                _ => {}
            }
            // Servos answer in the order asked: after the last nobody follows.
            let last = asked.last() == Some(&id) && answered(ids, id, answers);
            if missing == 0 || last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if missing > 0 {
            self.next_tag();
        }
        Ok(())
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
        let mut blocks = PacketBuf::new();
        for (id, value) in values {
            blocks.push(id).map_err(|_| TooLong)?;
            blocks.extend_from_slice(&encode(register, value)?).map_err(|_| TooLong)?;
        }
        Request::SyncWrite {
            address: register.address as u8,
            size: register.size,
            blocks: &blocks,
        }
        .emit(&mut self.request)?;
        Ok(self.port.write(&self.request, deadline)?)
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
            request.emit(&mut self.request)?;
            let now = self.clock.now();
            let mut found = None;
            self.exchange(size, share(now, deadline, left), |event, counters| {
                match event {
                    Err(_) => return ControlFlow::Continue(()),
                    Ok(status) if status.id != id && id != BROADCAST => counters.wrong_id += 1,
                    Ok(status) if status.data.len() != size => counters.wrong_length += 1,
                    Ok(status) => {
                        found = Some(answer(&status, MAX_READ as u8, now));
                        return ControlFlow::Break(());
                    }
                }
                ControlFlow::Continue(())
            })?;
            if let Some(answer) = found {
                return Ok(answer);
            }
            self.next_tag();
            if self.clock.now() >= deadline {
                break;
            }
            self.counters.retries += u64::from(left > 1);
        }
        Err(BusError::NoAnswer { id })
    }

    /// Sends the request and hands all that comes to `take`, until it has enough or time is up.
    /// An answer has at most `size` bytes of data.
    fn exchange(
        &mut self,
        size: usize,
        deadline: Time,
        mut take: impl FnMut(Result<Status<'_>, Damage>, &mut Counters) -> ControlFlow<()>,
    ) -> Result<(), PortError> {
        self.counters.stale_bytes += self.port.purge()? as u64;
        self.decoder.restart(size);
        let mut chunk = [0; 256];
        let mut sent = self.port.write(&self.request, deadline);
        loop {
            let count = match sent.and_then(|()| self.port.read(&mut chunk, deadline)) {
                Ok(count) => count,
                Err(PortError::TimedOut) => {
                    self.counters.timeouts += 1;
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            sent = Ok(());
            let mut bytes = chunk.get(..count).unwrap_or_default();
            while let Some(event) = self.decoder.next(&mut bytes) {
                if event.as_ref().is_ok_and(|packet| is_echo(packet, &self.request)) {
                    self.counters.echoes += 1;
                    continue;
                }
                count_event(&mut self.counters, &event);
                if take(event.map(|packet| Status::parse(&packet)), &mut self.counters).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn next_tag(&mut self) {
        self.tag = (self.tag + 1) % TAGS;
    }
}

/// The read size that says which transaction this is: the next from `size` on that is `tag` modulo
/// [`TAGS`]. So any two reads with different tags differ in length, whatever they read.
fn tagged(size: u8, tag: u8) -> u8 {
    size + (tag + TAGS - size % TAGS) % TAGS
}

/// The instant that leaves `tries` equal parts of the time until `deadline`.
fn share(now: Time, deadline: Time, tries: u32) -> Time {
    now + deadline.since(now) / tries.max(1)
}

fn encode(register: &Register, value: i32) -> Result<heapless::Vec<u8, 4>, BusError> {
    register.encode(value).ok_or(BusError::Value { register: register.name, value })
}

fn answer(status: &Status<'_>, size: u8, asked: Time) -> Answer {
    let data = status.data.iter().take(usize::from(size).min(MAX_READ)).copied().collect();
    Answer { status: status.error, data, asked }
}

fn answered(ids: &[u8], id: u8, answers: &[Result<Answer, Miss>]) -> bool {
    ids.iter().zip(answers).any(|(i, answer)| *i == id && answer.is_ok())
}

/// Whether an adapter gave back what was sent. A ping looks like the answer to it when the voltage
/// bit is set, so it is never taken for an echo.
fn is_echo(packet: &Packet<'_>, request: &[u8]) -> bool {
    !packet.parameters.is_empty() && Packet::new_checked(request).as_ref() == Ok(packet)
}

fn count_event(counters: &mut Counters, event: &Result<Packet<'_>, Damage>) {
    match event {
        Ok(packet) => counters.status_bits += u64::from(packet.code != 0),
        Err(Damage::Garbage { bytes }) => counters.garbage_bytes += *bytes as u64,
        Err(Damage::Length { .. }) => counters.wrong_length += 1,
        Err(Damage::Checksum { .. }) => counters.checksum += 1,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::hal::servo::feetech as servo;

    /// Answers each request with the next of its lines, which come at once.
    struct Scripted {
        lines: VecDeque<Vec<u8>>,
        ready: VecDeque<u8>,
        clock: ManualClock,
    }

    impl Port for Scripted {
        fn write(&mut self, bytes: &[u8], _deadline: Time) -> Result<(), PortError> {
            let line = self.lines.pop_front().unwrap_or_default();
            // An empty line stands for an echo of the request.
            self.ready.extend(if line.is_empty() { bytes.to_vec() } else { line });
            Ok(())
        }
        fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
            let count = self.ready.len().min(buf.len());
            buf.iter_mut().zip(self.ready.drain(..count)).for_each(|(to, byte)| *to = byte);
            if count == 0 {
                self.clock.sleep_until(deadline);
                return Err(PortError::TimedOut);
            }
            Ok(count)
        }
        fn purge(&mut self) -> Result<usize, PortError> {
            Ok(self.ready.drain(..).count())
        }
    }

    fn packet(id: u8, error: u8, data: &[u8]) -> Vec<u8> {
        let mut out = PacketBuf::new();
        Status { id, error, data }.emit(&mut out).unwrap();
        out.to_vec()
    }

    fn bus(lines: impl IntoIterator<Item = Vec<u8>>) -> (Bus, Time) {
        let clock = ManualClock::default();
        let lines = lines.into_iter().collect();
        let port = Scripted { lines, ready: VecDeque::new(), clock: clock.clone() };
        (Bus::new(Box::new(port), Arc::new(clock)), Time::ZERO + Duration::from_millis(9))
    }

    const BLOCK: [u8; 8] = [0x00, 0x08, 0, 0, 0, 0, 121, 35];

    #[test]
    fn each_kind_of_fault_is_counted_and_none_hides_the_answer_behind_it() {
        let mut line = vec![0x00, 0x55];
        line.extend(packet(2, 0, &BLOCK));
        line.extend(packet(1, 0, &BLOCK[..4]));
        let mut damaged = packet(1, 0, &BLOCK);
        damaged[8] ^= 1;
        line.extend(damaged);
        line.extend(packet(1, 0x20, &BLOCK));
        let (mut bus, deadline) = bus([line]);
        let (position, status) = bus.read(1, &servo::PRESENT_POSITION, deadline).unwrap();
        assert_eq!((position, status), (2048, 0x20));
        let counters = bus.counters();
        assert_eq!((counters.wrong_id, counters.wrong_length, counters.checksum), (1, 1, 1));
        assert_eq!((counters.status_bits, counters.timeouts, counters.retries), (1, 0, 0));
        // The damaged packet's own bytes are garbage too, but for the first.
        assert_eq!(counters.garbage_bytes, 2 + 13);
    }

    #[test]
    fn an_echo_is_no_answer() {
        // The echo of this read looks like servo 1 saying 8 bytes with the angle bit set.
        let blocks: Vec<Vec<u8>> = vec![vec![], packet(1, 0, &[7; 9])];
        let (mut bus, deadline) = bus(blocks);
        assert_eq!(bus.read(1, &servo::MODEL, deadline).unwrap(), (0x0707, 0));
        assert_eq!((bus.counters().echoes, bus.counters().retries), (1, 1));
    }

    #[test]
    fn a_bus_of_silence_ends_at_its_deadline_after_all_tries() {
        let (mut bus, deadline) = bus([]);
        bus.port = Box::new(Silence(bus.clock.clone()));
        assert!(matches!(bus.ping(7, deadline), Err(BusError::NoAnswer { id: 7 })));
        assert_eq!(bus.clock.now(), deadline);
        assert_eq!((bus.counters().timeouts, bus.counters().retries), (3, 2));
        let answers = bus.sync_read(&[1, 2], 56, 8, deadline).unwrap();
        assert_eq!(answers, [Err(Miss::Silent), Err(Miss::Silent)]);
    }

    struct Silence(Arc<dyn Clock>);

    impl Port for Silence {
        fn write(&mut self, _: &[u8], _: Time) -> Result<(), PortError> {
            Ok(())
        }
        fn read(&mut self, _: &mut [u8], deadline: Time) -> Result<usize, PortError> {
            self.0.sleep_until(deadline);
            Err(PortError::TimedOut)
        }
        fn purge(&mut self) -> Result<usize, PortError> {
            Ok(0)
        }
    }

    #[test]
    fn reads_with_different_tags_differ_in_length_whatever_they_read() {
        for (one, other) in (1..=16).flat_map(|one| (1..=16).map(move |other| (one, other))) {
            for (tag, next) in (0..TAGS).flat_map(|t| (0..TAGS).map(move |n| (t, n))) {
                assert!(tagged(one, tag) >= one);
                assert_eq!(tag == next, tagged(one, tag) % TAGS == tagged(other, next) % TAGS);
            }
        }
    }

    #[test]
    fn a_sync_read_asks_again_only_whom_it_missed() {
        let first = [packet(1, 0, &BLOCK), packet(3, 0, &BLOCK)].concat();
        // The second request has the next tag: 9 bytes.
        let (mut bus, deadline) = bus([first, packet(2, 0, &[&BLOCK[..], &[0]].concat())]);
        let answers = bus.sync_read(&[1, 2, 3], 56, 8, deadline).unwrap();
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().data == BLOCK));
        let mut asked = PacketBuf::new();
        Request::SyncRead { address: 56, size: 9, ids: &[2] }.emit(&mut asked).unwrap();
        assert_eq!(bus.request, asked);
        assert_eq!((bus.counters().retries, bus.counters().timeouts), (1, 0));
    }
}
