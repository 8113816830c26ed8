//! An emulated bus of position servos: registers, physics and protocol, stepped by time.
//!
//! The same seed and the same requests at the same times give the same answers, however often time
//! is advanced in between: physics runs on a fixed grid of 1 ms and noise is drawn per grid point.

mod memory;
mod motion;
mod pty;
mod servo;
mod surroundings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use memory::MemoryPort;
pub use pty::PtyServer;
pub use servo::Servo;
pub use surroundings::Surroundings;

use crate::clock::Time;
use crate::config::RobotConfig;
use crate::hal::wire::feetech::{BROADCAST, Decoder, PacketBuf, Request, Status};
use crate::joints::{JointVec, MAX_JOINTS};
use crate::rng;

/// The grid of the physics.
const STEP: Duration = Duration::from_millis(1);
/// Longer gaps are not computed step by step: the arm has long come to rest.
const LONGEST_GAP: u64 = 60_000;
/// Grid points between two meetings with the surroundings.
const MEETING: u64 = 5;
/// The supply without load (V).
const SUPPLY: f64 = 12.1;
/// What full load of one servo takes from it (V).
const SAG: f64 = 0.4;

/// An emulated arm on its bus.
#[derive(Debug, Clone)]
pub struct Emulator {
    servos: JointVec<Servo>,
    decoder: Decoder,
    /// Grid points since the origin of time.
    step: u64,
    seed: u64,
    baud: u32,
    turnaround: Duration,
    surroundings: Option<Arc<Mutex<dyn Surroundings>>>,
}

impl Emulator {
    /// The arm of a configuration at its home, torque off.
    pub fn new(config: &RobotConfig, seed: u64) -> Self {
        Self {
            servos: config.joint.iter().map(|joint| Servo::new(joint, &config.emulator)).collect(),
            decoder: Decoder::default(),
            step: 0,
            seed,
            baud: config.bus.baud.max(1),
            turnaround: Duration::from_secs_f64(config.emulator.turnaround_us * 1e-6),
            surroundings: None,
        }
    }

    /// Puts the arm into a world, which others may look at meanwhile.
    pub fn surround(&mut self, world: Arc<Mutex<dyn Surroundings>>) {
        self.surroundings = Some(world);
    }

    /// The servo with this id.
    pub fn servo(&mut self, id: u8) -> Option<&mut Servo> {
        self.servos.iter_mut().find(|servo| servo.id() == id)
    }

    /// The true joint angles (rad), in the configuration's order: what no reading says exactly.
    pub fn positions(&self) -> JointVec<f64> {
        self.servos.iter().map(Servo::angle).collect()
    }

    /// How long this many bytes take on the wire: 10 bits each.
    pub fn wire_time(&self, bytes: usize) -> Duration {
        Duration::from_nanos(bytes as u64 * 10_000_000_000 / u64::from(self.baud))
    }

    /// Lets time pass until `to`; back in time does nothing.
    pub fn advance(&mut self, to: Time) {
        let target = to.0 / STEP.as_nanos() as u64;
        self.step = self.step.max(target.saturating_sub(LONGEST_GAP));
        while self.step < target {
            let next = match self.surroundings {
                Some(_) => target.min((self.step / MEETING + 1) * MEETING),
                None => target,
            };
            for servo in &mut self.servos {
                servo.advance(next - self.step, STEP.as_secs_f64());
            }
            self.step = next;
            self.meet();
        }
    }

    /// Lets the surroundings have their say, on their own grid.
    fn meet(&mut self) {
        let Some(world) = self.surroundings.as_ref().filter(|_| self.step.is_multiple_of(MEETING))
        else {
            return;
        };
        let mut angles: JointVec<f64> = self.servos.iter().map(Servo::driven).collect();
        let step = MEETING as f64 * STEP.as_secs_f64();
        world.lock().unwrap_or_else(PoisonError::into_inner).step(&mut angles, step);
        self.servos.iter_mut().zip(&angles).for_each(|(servo, angle)| servo.hold_back(*angle));
    }

    /// Feeds bytes of a host, in any cuts. Each answer is handed to `answer` with the time from the
    /// request's end to the answer's end.
    pub fn request(&mut self, mut bytes: &[u8], mut answer: impl FnMut(Duration, &[u8])) {
        let conditions = self.conditions();
        let (turnaround, byte) = (self.turnaround, self.wire_time(1));
        let mut delay = Duration::ZERO;
        let mut packet = PacketBuf::new();
        let mut reply = |status: Status<'_>| {
            if status.emit(&mut packet).is_ok() {
                delay += turnaround + byte * packet.len() as u32;
                answer(delay, &packet);
            }
        };
        while let Some(event) = self.decoder.next(&mut bytes) {
            if let Some(request) = event.ok().and_then(|packet| Request::parse(&packet)) {
                serve(&mut self.servos, &conditions, request, &mut reply);
            }
        }
    }

    fn conditions(&self) -> Conditions {
        let load: f64 = self.servos.iter().map(|servo| servo.load().abs()).sum();
        Conditions { seed: self.seed, step: self.step, voltage: SUPPLY - SAG * load }
    }
}

/// What a measurement depends on besides the servo itself.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    seed: u64,
    step: u64,
    /// At the servos (V).
    voltage: f64,
}

impl Conditions {
    /// A draw from the standard normal distribution for servo `index` at this grid point.
    fn noise(&self, index: usize) -> f64 {
        let item = self.step * MAX_JOINTS as u64 + index as u64;
        rng::normal(&mut rng::item(self.seed, rng::Stream::Emulator, item))
    }
}

fn serve(
    servos: &mut [Servo],
    conditions: &Conditions,
    request: Request<'_>,
    reply: &mut dyn FnMut(Status<'_>),
) {
    let listening = |to: u8| {
        move |(_, servo): &(usize, &mut Servo)| {
            servo.connected() && (to == BROADCAST || to == servo.id())
        }
    };
    let mut each = |to: u8, act: &mut dyn FnMut(usize, &mut Servo)| {
        servos.iter_mut().enumerate().filter(listening(to)).for_each(|(i, servo)| act(i, servo));
    };
    match request {
        Request::Ping { id } => each(id, &mut |_, servo| reply(servo.status(&[]))),
        Request::Read { id: BROADCAST, .. } => {}
        Request::Read { id, address, size } => each(id, &mut |index, servo| {
            servo.measure(conditions, index);
            reply(servo.status(servo.read(address, size)));
        }),
        Request::SyncRead { address, size, ids } => {
            for id in ids.iter().filter(|id| **id != BROADCAST) {
                serve(servos, conditions, Request::Read { id: *id, address, size }, reply);
            }
        }
        Request::SyncWrite { address, size, blocks } => {
            for block in blocks.chunks_exact(usize::from(size) + 1) {
                if let [id, data @ ..] = block {
                    each(*id, &mut |_, servo| servo.write(address, data));
                }
            }
        }
        Request::Write { id, address, data } => each(id, &mut |_, servo| {
            servo.write(address, data);
            acknowledge(id, servo, reply);
        }),
        Request::RegWrite { id, address, data } => each(id, &mut |_, servo| {
            servo.prepare(address, data);
            acknowledge(id, servo, reply);
        }),
        Request::Action { id } => each(id, &mut |_, servo| {
            servo.act();
            acknowledge(id, servo, reply);
        }),
        // Unknown to this firmware, hence not answered.
        Request::FactoryReset { .. } | Request::Reboot { .. } => {}
    }
}

/// What a servo that was told something says, if it is one that says it.
fn acknowledge(to: u8, servo: &Servo, reply: &mut dyn FnMut(Status<'_>)) {
    if to != BROADCAST && servo.answers_all() {
        reply(servo.status(&[]));
    }
}

#[cfg(test)]
mod tests;
