//! A port around a port that damages what goes through.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::trigger::{Occasion, Trigger};
use super::{Fault, FaultSpec, Kind, Side, damage, frame};
use crate::clock::{Clock, Time};
use crate::config::Protocol;
use crate::hal::port::{Port, PortError};
use crate::rng::{self, Rng};

/// Does a specification's faults of the line to what goes through a port. One write is one request
/// and begins a transaction; packets of answers are found by header and length, and what is no
/// packet goes through unharmed. Faults of servos are the emulator's.
pub struct FaultInjector<P> {
    inner: P,
    clock: Arc<dyn Clock>,
    protocol: Protocol,
    triggers: Vec<Trigger>,
    rng: Rng,
    start: Time,
    /// Requests so far.
    requests: u64,
    /// What came and is not yet a whole packet.
    raw: Vec<u8>,
    /// What is to be read, and from when on.
    ready: VecDeque<(Time, u8)>,
    /// What comes with the next request's answer.
    late: Vec<u8>,
    /// The last packet has run into the next one.
    headless: bool,
    /// The port is gone.
    lost: bool,
}

impl<P: Port> FaultInjector<P> {
    /// Does the faults of `spec` to `inner`, which lives by `clock`; times count from now.
    pub fn new(
        inner: P,
        spec: &FaultSpec,
        protocol: Protocol,
        seed: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let of_line = spec.fault.iter().filter(|fault| !fault.kind.of_servo());
        Self {
            inner,
            protocol,
            triggers: of_line.cloned().map(Trigger::new).collect(),
            rng: rng::stream(seed, rng::Stream::Faults),
            start: clock.now(),
            clock,
            requests: 0,
            raw: Vec::new(),
            ready: VecDeque::new(),
            late: Vec::new(),
            headless: false,
            lost: false,
        }
    }

    /// When the first byte that waits can be read; `None` when none waits here.
    pub(crate) fn first_due(&self) -> Option<Time> {
        self.ready.front().map(|(due, _)| *due)
    }

    /// The port inside.
    pub(crate) fn inner(&self) -> &P {
        &self.inner
    }

    fn occasion(&self, id: Option<u8>) -> Occasion {
        let elapsed = self.clock.now().since(self.start);
        Occasion { elapsed, transaction: self.requests.saturating_sub(1), id }
    }

    /// The faults that happen to a packet now.
    fn struck(&mut self, side: Side, id: Option<u8>) -> Vec<Fault> {
        let occasion = self.occasion(id);
        let rng = &mut self.rng;
        let matching = self.triggers.iter_mut().filter(|trigger| {
            trigger.fault.on == side && !matches!(trigger.fault.kind, Kind::Lost | Kind::Echo)
        });
        matching
            .filter_map(|trigger| trigger.strikes(occasion, rng).then(|| trigger.fault.clone()))
            .collect()
    }

    fn strikes(&mut self, kind: Kind) -> bool {
        let occasion = self.occasion(None);
        let rng = &mut self.rng;
        let mut matching = self.triggers.iter_mut().filter(|trigger| trigger.fault.kind == kind);
        matching.any(|trigger| trigger.strikes(occasion, rng))
    }

    /// Fails while the port is gone; that happens with a request and lasts as long as it says.
    fn check_lost(&mut self, request: bool) -> Result<(), PortError> {
        let occasion = self.occasion(None);
        if self.lost {
            let mut lost = self.triggers.iter().filter(|trigger| trigger.fault.kind == Kind::Lost);
            self.lost = lost.any(|trigger| trigger.lasts(occasion));
        }
        self.lost = self.lost || request && self.strikes(Kind::Lost);
        if !self.lost {
            return Ok(());
        }
        self.raw.clear();
        self.ready.clear();
        self.late.clear();
        Err(PortError::Lost)
    }

    /// Takes what is whole of what came; `flush` takes the rest too, for nothing follows.
    fn take_raw(&mut self, flush: bool) {
        loop {
            let size = match frame::first(self.protocol, &self.raw) {
                _ if self.raw.is_empty() => return,
                frame::Piece::Packet(size) => {
                    let packet: Vec<u8> = self.raw.drain(..size).collect();
                    self.take_packet(packet);
                    continue;
                }
                frame::Piece::Other(size) => size,
                frame::Piece::Partial if flush => self.raw.len(),
                frame::Piece::Partial => return,
            };
            let bytes: Vec<u8> = self.raw.drain(..size).collect();
            self.give(&bytes, Duration::ZERO);
        }
    }

    fn take_packet(&mut self, mut packet: Vec<u8>) {
        let faults = self.struck(Side::Answer, frame::id(self.protocol, &packet));
        if std::mem::take(&mut self.headless) {
            packet.drain(..frame::header(self.protocol).len());
        }
        let (mut delay, mut late) = (0.0, false);
        for fault in &faults {
            match fault.kind {
                Kind::Slow => delay += fault.delay_us.unwrap_or(0.0),
                Kind::Late => late = true,
                Kind::Merge => {
                    let kept = packet.len().saturating_sub(frame::check_size(self.protocol));
                    packet.truncate(kept);
                    self.headless = true;
                }
                _ => damage::damage(fault, self.protocol, &mut packet, &mut self.rng),
            }
        }
        if late {
            self.late.append(&mut packet);
        } else {
            self.give(&packet, Duration::from_secs_f64(delay * 1e-6));
        }
    }

    fn give(&mut self, bytes: &[u8], delay: Duration) {
        // Bytes never overtake each other.
        let last = self.ready.back().map_or(Time::ZERO, |(due, _)| *due);
        let due = (self.clock.now() + delay).max(last);
        self.ready.extend(bytes.iter().map(|byte| (due, *byte)));
    }

    fn take_ready(&mut self, buf: &mut [u8]) -> usize {
        let now = self.clock.now();
        let mut count = 0;
        for place in buf {
            let Some((_, byte)) = self.ready.pop_front_if(|(due, _)| *due <= now) else { break };
            *place = byte;
            count += 1;
        }
        count
    }
}

impl<P: Port> Port for FaultInjector<P> {
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        self.requests += 1;
        self.check_lost(true)?;
        let late = std::mem::take(&mut self.late);
        self.give(&late, Duration::ZERO);
        if self.strikes(Kind::Echo) {
            self.give(bytes, Duration::ZERO);
        }
        let mut request = bytes.to_vec();
        for fault in self.struck(Side::Request, frame::id(self.protocol, bytes)) {
            match fault.kind {
                Kind::Slow => {
                    let delay = Duration::from_secs_f64(fault.delay_us.unwrap_or(0.0) * 1e-6);
                    self.clock.sleep_until(self.clock.now() + delay);
                }
                Kind::Merge => {
                    let kept = request.len().saturating_sub(frame::check_size(self.protocol));
                    request.truncate(kept);
                }
                _ => damage::damage(&fault, self.protocol, &mut request, &mut self.rng),
            }
        }
        self.inner.write(&request, deadline)
    }

    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.check_lost(false)?;
        let mut chunk = [0; 256];
        loop {
            let count = self.take_ready(buf);
            if count > 0 {
                return Ok(count);
            }
            let next = self.first_due().map_or(deadline, |due| deadline.min(due));
            match self.inner.read(&mut chunk, next) {
                Ok(count) => {
                    self.raw.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    self.take_raw(false);
                }
                Err(PortError::TimedOut) => {
                    self.clock.sleep_until(next);
                    if next < deadline {
                        continue;
                    }
                    self.take_raw(true);
                    let count = self.take_ready(buf);
                    return if count == 0 { Err(PortError::TimedOut) } else { Ok(count) };
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn purge(&mut self) -> Result<usize, PortError> {
        self.check_lost(false)?;
        let now = self.clock.now();
        let before = self.raw.len() + self.ready.len();
        self.raw.clear();
        self.ready.retain(|(due, _)| *due > now);
        Ok(before - self.ready.len() + self.inner.purge()?)
    }
}

#[cfg(test)]
mod tests;
