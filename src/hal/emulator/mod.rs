//! An emulated bus of servos: registers, physics and protocol, stepped by time.
//!
//! The same seed and the same requests at the same times give the same answers, however often time
//! is advanced in between: physics runs on a fixed grid of 1 ms and noise is drawn per grid point.
//!
//! One physics (`motion`) and one register memory (`registers`) serve all servos; what makes them
//! differ is a file of rules for each family (`sts`, `x_series`), and one for each protocol.

mod dynamixel;
mod feetech;
mod hand;
mod lies;
mod motion;
mod port;
mod registers;
mod rules;
mod server;
mod servo;
mod sts;
mod surroundings;
mod x_series;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use hand::Hand;
pub use lies::Defects;
pub use port::MemoryPort;
pub use server::{PtyServer, SocketServer};
pub use servo::Servo;
pub use surroundings::Surroundings;

use self::lies::Lies;
use crate::clock::Time;
use crate::config::{Protocol, RobotConfig};
use crate::hal::fault::FaultSpec;
use crate::joints::{JointVec, MAX_JOINTS};
use crate::rng;

/// The grid of the physics.
const STEP: Duration = Duration::from_millis(1);
/// Longer gaps are not computed step by step: the arm has long come to rest.
const LONGEST_GAP: u64 = 60_000;
/// Grid points between two meetings with the surroundings.
const MEETING: u64 = 5;
/// What full load of one servo takes from the supply, as a fraction of it.
const SAG: f64 = 0.033;

/// An emulated arm on its bus.
#[derive(Debug, Clone)]
pub struct Emulator {
    servos: JointVec<Servo>,
    protocol: Protocol,
    line: Line,
    /// Grid points since the origin of time.
    step: u64,
    seed: u64,
    /// The speed that the host's port is set to (bit/s).
    baud: u32,
    turnaround: Duration,
    /// The supply without load, as a fraction of what it should be.
    supply: f64,
    surroundings: Option<Arc<Mutex<dyn Surroundings>>>,
    /// Who leads it, and the grid point at which that began.
    hand: Option<(Hand, Option<u64>)>,
    lies: Lies,
}

impl Emulator {
    /// The arm of a configuration at its home, torque off.
    pub fn new(config: &RobotConfig, seed: u64) -> Self {
        let baud = config.bus.baud.max(1);
        let servos = config.joint.iter().enumerate();
        Self {
            servos: servos
                .map(|(index, joint)| Servo::new(index, joint, baud, &config.emulator))
                .collect(),
            protocol: config.bus.protocol,
            line: Line::new(config.bus.protocol),
            step: 0,
            seed,
            baud,
            turnaround: Duration::from_secs_f64(config.emulator.turnaround_us * 1e-6),
            supply: 1.0,
            surroundings: None,
            hand: None,
            lies: Lies::default(),
        }
    }

    /// Puts the arm into a world, which others may look at meanwhile.
    pub fn surround(&mut self, world: Arc<Mutex<dyn Surroundings>>) {
        self.surroundings = Some(world);
    }

    /// Has a hand lead it, from the first request on.
    pub fn lead(&mut self, hand: Hand) {
        self.hand = Some((hand, None));
    }

    /// Lets the servos have the faults of a specification, whose times count from `start`.
    pub fn inject(&mut self, spec: &FaultSpec, start: Time) {
        self.lies = Lies::new(spec, self.seed, start);
    }

    /// What its servos speak.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The servo with this id.
    pub fn servo(&mut self, id: u8) -> Option<&mut Servo> {
        self.servos.iter_mut().find(|servo| servo.id() == id)
    }

    /// The true joint angles (rad), in the configuration's order: what no reading says exactly.
    pub fn positions(&self) -> JointVec<f64> {
        self.servos.iter().map(Servo::angle).collect()
    }

    /// Sets the speed of the host's port (bit/s): servos set to another one hear nothing.
    pub fn set_baud(&mut self, baud: u32) {
        self.baud = baud.max(1);
    }

    /// Sets the supply, as a fraction of the servos' nominal voltage.
    pub fn set_supply(&mut self, fraction: f64) {
        self.supply = fraction;
    }

    /// Power off and on for all servos.
    pub fn power_cycle(&mut self) {
        self.servos.iter_mut().for_each(Servo::power_cycle);
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
            let supply = self.supply_now();
            self.servos.iter_mut().for_each(|servo| servo.step(supply));
            self.step += 1;
            self.meet();
        }
    }

    /// The supply under the load of now.
    fn supply_now(&self) -> f64 {
        let load: f64 = self.servos.iter().map(|servo| servo.load().abs()).sum();
        self.supply - SAG * load
    }

    /// Lets a hand and the surroundings have their say, on their own grid.
    fn meet(&mut self) {
        if !self.step.is_multiple_of(MEETING) {
            return;
        }
        let step = MEETING as f64 * STEP.as_secs_f64();
        if let Some((hand, Some(begun))) = &self.hand {
            let time = (self.step - begun) as f64 * STEP.as_secs_f64();
            hand.lead(&mut self.servos, time, step);
        }
        let Some(world) = &self.surroundings else { return };
        let mut angles: JointVec<f64> = self.servos.iter().map(Servo::driven).collect();
        world.lock().unwrap_or_else(PoisonError::into_inner).step(&mut angles, step);
        self.servos.iter_mut().zip(&angles).for_each(|(servo, angle)| servo.hold_back(*angle));
    }

    /// Feeds bytes of a host, in any cuts. Each answer is handed to `answer` with the time from the
    /// request's end to the answer's end.
    pub fn request(&mut self, bytes: &[u8], mut answer: impl FnMut(Duration, &[u8])) {
        if let Some((_, begun)) = &mut self.hand {
            begun.get_or_insert(self.step);
        }
        let conditions = Conditions { seed: self.seed, step: self.step, supply: self.supply_now() };
        let now = Time(self.step * STEP.as_nanos() as u64);
        let byte = self.wire_time(1);
        let mut delay = Duration::ZERO;
        let bus = Bus {
            servos: &mut self.servos,
            lies: &mut self.lies,
            conditions,
            now,
            baud: self.baud,
        };
        let turnaround = self.turnaround;
        let mut answer = |wait, packet: &[u8]| {
            delay += turnaround + wait + byte * packet.len() as u32;
            answer(delay, packet);
        };
        match &mut self.line {
            Line::Feetech(line) => line.serve(bus, bytes, &mut answer),
            Line::Dynamixel(line) => line.serve(bus, bytes, &mut answer),
        }
    }
}

/// The servos' end of the wire.
#[derive(Debug, Clone)]
enum Line {
    Feetech(Box<feetech::Line>),
    Dynamixel(Box<dynamixel::Line>),
}

impl Line {
    fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Feetech => Self::Feetech(Box::default()),
            Protocol::Dynamixel => Self::Dynamixel(Box::default()),
        }
    }
}

/// Takes an answer, and how long its servo waits more than others before it.
type Answer<'a> = dyn FnMut(Duration, &[u8]) + 'a;

/// What a protocol serves a request with.
struct Bus<'a> {
    servos: &'a mut [Servo],
    lies: &'a mut Lies,
    conditions: Conditions,
    now: Time,
    baud: u32,
}

impl Bus<'_> {
    /// A request has come: what happens to the servos with it does.
    fn heard(&mut self) {
        self.lies.strike(self.now, self.servos);
    }

    /// Does something to those of the servos that hear a request to `to`.
    fn each(&mut self, to: u8, broadcast: u8, act: &mut dyn FnMut(&mut Servo)) {
        let baud = self.baud;
        self.servos
            .iter_mut()
            .filter(|servo| servo.hears(baud) && (to == broadcast || to == servo.id()))
            .for_each(|servo| {
                servo.spoken_to();
                act(servo);
            });
    }
}

/// What a measurement depends on besides the servo itself.
#[derive(Debug, Clone, Copy)]
struct Conditions {
    seed: u64,
    step: u64,
    /// The supply as a fraction of what it should be.
    supply: f64,
}

impl Conditions {
    /// A draw from the standard normal distribution for servo `index` at this grid point.
    fn noise(&self, index: usize) -> f64 {
        let item = self.step * MAX_JOINTS as u64 + index as u64;
        rng::normal(&mut rng::item(self.seed, rng::Stream::Emulator, item))
    }
}

#[cfg(test)]
mod tests;
