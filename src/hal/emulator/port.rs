//! The emulator as a port, without a system in between.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Emulator;
use crate::clock::{Clock, Time};
use crate::hal::fault::{FaultInjector, FaultSpec};
use crate::hal::port::{Port, PortError};

/// Bytes that wait at most; more are lost, as in a full receive buffer.
const QUEUE: usize = 4096;

/// An emulator at the end of a wire that takes 10 bits a byte. With a
/// [`ManualClock`](crate::clock::ManualClock) waiting costs no time and everything repeats exactly.
#[derive(Clone)]
pub struct MemoryPort {
    emulator: Arc<Mutex<Emulator>>,
    clock: Arc<dyn Clock>,
    /// Each byte with the time from which it can be read.
    received: VecDeque<(Time, u8)>,
    /// Until then the wire is taken by what was written.
    busy_until: Time,
}

impl MemoryPort {
    /// A port on an emulator that others may look at and touch meanwhile.
    pub fn new(emulator: Arc<Mutex<Emulator>>, clock: Arc<dyn Clock>) -> Self {
        Self { emulator, clock, received: VecDeque::with_capacity(QUEUE), busy_until: Time::ZERO }
    }

    /// This port with the faults of a specification, the line's and the servos', from now on. Their
    /// seed is the emulator's.
    pub fn with_faults(self, spec: &FaultSpec) -> FaultInjector<Self> {
        let clock = Arc::clone(&self.clock);
        let (protocol, seed) = {
            let mut emulator = self.emulator();
            emulator.advance(clock.now());
            emulator.inject(spec, clock.now());
            (emulator.protocol(), emulator.seed)
        };
        FaultInjector::new(self, spec, protocol, seed, clock)
    }

    /// When the last byte that waits can be read; `None` when none waits.
    pub(super) fn last_due(&self) -> Option<Time> {
        self.received.back().map(|(due, _)| *due)
    }

    /// The emulator behind it.
    pub(super) fn emulator(&self) -> MutexGuard<'_, Emulator> {
        // Its state is valid between requests, also after a thread that held it panicked.
        self.emulator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_due(&mut self, buf: &mut [u8]) -> usize {
        let now = self.clock.now();
        let mut count = 0;
        for place in buf {
            let Some((_, byte)) = self.received.pop_front_if(|(due, _)| *due <= now) else { break };
            *place = byte;
            count += 1;
        }
        count
    }
}

impl Port for MemoryPort {
    fn write(&mut self, bytes: &[u8], _deadline: Time) -> Result<(), PortError> {
        let mut emulator = self.emulator.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.clock.now().max(self.busy_until) + emulator.wire_time(bytes.len());
        self.busy_until = sent;
        emulator.advance(sent);
        emulator.request(bytes, |delay, answer| {
            let room = QUEUE - self.received.len();
            self.received.extend(answer.iter().take(room).map(|byte| (sent + delay, *byte)));
        });
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let due = self.received.front().map_or(deadline, |(due, _)| (*due).min(deadline));
        self.clock.sleep_until(due);
        let count = self.take_due(buf);
        if count == 0 { Err(PortError::TimedOut) } else { Ok(count) }
    }

    fn purge(&mut self) -> Result<usize, PortError> {
        let now = self.clock.now();
        let before = self.received.len();
        while self.received.pop_front_if(|(due, _)| *due <= now).is_some() {}
        Ok(before - self.received.len())
    }
}
