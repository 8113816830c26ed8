//! The control loop over the emulator in virtual time, on a wire that notes all and can misbehave.
#![allow(dead_code, reason = "each program uses its own part")]

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use regoal::clock::{Clock, ManualClock, Time};
use regoal::config::RobotConfig;
use regoal::control::{
    Actor, Command, ControlLoop, GoalRequest, GoalResult, Hardware, Inline, Pilot, Reconnect,
};
use regoal::episode::{LogSender, PolicyId, Source, Split};
use regoal::hal::{Arm, Emulator, FaultSpec, MemoryPort, Port, PortError};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation, PolicyError};
use regoal::storage::Disk;

/// What a servo is made to say instead of the truth.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lie {
    /// Signed, in 0.1 % of the full drive.
    pub load: Option<i16>,
    /// In 0.1 V.
    pub voltage: Option<u8>,
    /// All it says of itself: registers 56 to 63.
    pub block: Option<[u8; 8]>,
}

/// What a test sees of the wire and does to it.
#[derive(Default)]
pub struct Line {
    /// Every packet that the host sent.
    pub written: Mutex<Vec<Vec<u8>>>,
    /// Nothing comes back.
    pub silent: AtomicBool,
    /// The port is unplugged.
    pub gone: AtomicBool,
    /// By servo id.
    pub lies: Mutex<HashMap<u8, Lie>>,
}

impl Line {
    pub fn set(flag: &AtomicBool, on: bool) {
        flag.store(on, Ordering::Relaxed);
    }

    /// Takes what was written since the last call.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.written.lock().unwrap())
    }
}

/// The host's end of the wire.
pub struct Wire {
    pub inner: Box<dyn Port>,
    pub line: Arc<Line>,
    raw: VecDeque<u8>,
    told: VecDeque<u8>,
}

impl Wire {
    pub fn new(inner: impl Port + 'static, line: Arc<Line>) -> Self {
        Self { inner: Box::new(inner), line, raw: VecDeque::new(), told: VecDeque::new() }
    }

    fn plugged(&self) -> Result<(), PortError> {
        if self.line.gone.load(Ordering::Relaxed) { Err(PortError::Lost) } else { Ok(()) }
    }

    /// Moves whole packets on, with the lies in them.
    fn lie(&mut self) {
        while self.raw.len() > 3 && self.raw.len() >= usize::from(self.raw[3]) + 4 {
            let size = usize::from(self.raw[3]) + 4;
            let mut packet: Vec<u8> = self.raw.drain(..size).collect();
            let lie = self.line.lies.lock().unwrap().get(&packet[2]).copied();
            if let Some(lie) = lie.filter(|_| size >= 14) {
                // Registers 56 on begin at byte 5: load is 60 and 61, sign in bit 10; voltage is 62.
                if let Some(load) = lie.load {
                    let raw = load.unsigned_abs() | if load < 0 { 1 << 10 } else { 0 };
                    packet[9..11].copy_from_slice(&raw.to_le_bytes());
                }
                packet[11] = lie.voltage.unwrap_or(packet[11]);
                if let Some(block) = lie.block {
                    packet[5..13].copy_from_slice(&block);
                }
                let sum = packet[2..size - 1].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                packet[size - 1] = !sum;
            }
            self.told.extend(packet);
        }
    }
}

impl Port for Wire {
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        self.plugged()?;
        self.line.written.lock().unwrap().push(bytes.to_vec());
        self.inner.write(bytes, deadline)
    }

    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        self.plugged()?;
        if self.line.silent.load(Ordering::Relaxed) {
            self.inner.purge()?;
            return Err(PortError::TimedOut);
        }
        if self.line.lies.lock().unwrap().is_empty() {
            return self.inner.read(buf, deadline);
        }
        while self.told.is_empty() {
            let mut chunk = [0; 64];
            let count = self.inner.read(&mut chunk, deadline)?;
            self.raw.extend(&chunk[..count]);
            self.lie();
        }
        let count = buf.len().min(self.told.len());
        buf.iter_mut().zip(self.told.drain(..count)).for_each(|(to, byte)| *to = byte);
        Ok(count)
    }

    fn purge(&mut self) -> Result<usize, PortError> {
        self.plugged()?;
        let left = self.raw.drain(..).count() + self.told.drain(..).count();
        Ok(left + self.inner.purge()?)
    }
}

/// Joints and ticks of a sync write of goal positions (register 42), read from the raw bytes.
pub fn goal_positions(packet: &[u8]) -> Vec<(usize, i32)> {
    let [0xFF, 0xFF, 0xFE, _, 0x83, 42, size, data @ .., _] = packet else { return Vec::new() };
    data.chunks(usize::from(*size) + 1)
        .map(|servo| (usize::from(servo[0]) - 1, i32::from(servo[1]) | i32::from(servo[2]) << 8))
        .collect()
}

/// The values of all writes to `Torque_Enable` (register 40) in a packet.
pub fn torques(packet: &[u8]) -> Vec<u8> {
    match packet {
        [0xFF, 0xFF, 0xFE, _, 0x83, 40, 1, data @ .., _] => {
            data.chunks(2).map(|servo| servo[1]).collect()
        }
        [0xFF, 0xFF, _, _, 0x03, 40, torque, ..] => vec![*torque],
        _ => Vec::new(),
    }
}

/// An actor made of a function and what its numbers mean.
pub struct Act<F>(pub ActionKind, pub F);

impl<F: FnMut(&Observation) -> JointVec<f32> + Send> Actor for Act<F> {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Ok((self.1)(observation))
    }
    fn kind(&self) -> ActionKind {
        self.0
    }
    fn id(&self) -> PolicyId {
        PolicyId([7; 16])
    }
}

/// A pilot that moves every joint by so much a tick (rad).
pub fn drift(by: f32) -> Box<dyn Pilot> {
    Box::new(Inline::new(Box::new(Act(ActionKind::JointDelta, move |_: &Observation| {
        stack([by; 6])
    }))))
}

/// Opens the arm again as soon as the port is there, within a tick: virtual time has no threads.
struct Replug(Box<dyn FnMut() -> Option<Arm> + Send>);

impl Reconnect for Replug {
    fn lost(&mut self, arm: Box<dyn Hardware>) {
        drop(arm);
    }
    fn found(&mut self) -> Option<Box<dyn Hardware>> {
        (self.0)().map(|arm| Box::new(arm) as Box<dyn Hardware>)
    }
}

pub struct Bench {
    pub robot: RobotConfig,
    pub clock: ManualClock,
    pub control: ControlLoop,
    pub emulator: Arc<Mutex<Emulator>>,
    pub line: Arc<Line>,
    pub tick: u64,
}

pub fn robot() -> RobotConfig {
    RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap()
}

impl Bench {
    pub fn new(robot: RobotConfig, pilot: Box<dyn Pilot>) -> Self {
        let clock = ManualClock::default();
        Self::with_clock(robot, pilot, clock.clone(), Arc::new(clock))
    }

    /// With a clock of the loop's own, which shares the time of `clock`.
    pub fn with_clock(
        robot: RobotConfig,
        pilot: Box<dyn Pilot>,
        clock: ManualClock,
        seen: Arc<dyn Clock>,
    ) -> Self {
        Self::with_log(robot, pilot, None, clock, seen)
    }

    /// With a log, too.
    pub fn with_log(
        robot: RobotConfig,
        pilot: Box<dyn Pilot>,
        log: Option<LogSender>,
        clock: ManualClock,
        seen: Arc<dyn Clock>,
    ) -> Self {
        Self::with_faults(robot, pilot, log, &FaultSpec::default(), clock, seen)
    }

    /// With faults of the bus, too.
    pub fn with_faults(
        robot: RobotConfig,
        pilot: Box<dyn Pilot>,
        log: Option<LogSender>,
        faults: &FaultSpec,
        clock: ManualClock,
        seen: Arc<dyn Clock>,
    ) -> Self {
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 3)));
        let line = Arc::<Line>::default();
        let open = {
            let (robot, emulator) = (robot.clone(), emulator.clone());
            let (line, seen, faults) = (line.clone(), seen.clone(), faults.clone());
            move || {
                let inner = MemoryPort::new(emulator.clone(), seen.clone()).with_faults(&faults);
                let wire = Wire::new(inner, line.clone());
                Arm::open(&robot, Box::new(wire), seen.clone()).ok()
            }
        };
        let arm = open().unwrap();
        let control = ControlLoop::new(&robot, arm, pilot, log, seen)
            .unwrap()
            .with_reconnect(Box::new(Replug(Box::new(open))));
        Self { robot, clock, control, emulator, line, tick: 0 }
    }

    /// Armed, and past the slow start after it.
    pub fn armed(robot: RobotConfig, pilot: Box<dyn Pilot>) -> Self {
        let mut bench = Self::new(robot, pilot);
        bench.run(1);
        bench.control.command(&Command::Arm).unwrap();
        bench.run(110);
        bench
    }

    /// Armed and reaching for what cannot be reached.
    pub fn reaching(robot: RobotConfig, pilot: Box<dyn Pilot>) -> Self {
        let mut bench = Self::armed(robot, pilot);
        let goal = bench.goal([0.1, -0.2, 0.2]);
        bench.control.command(&Command::Reach(goal)).unwrap();
        bench
    }

    pub fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick += 1;
            let start = self.clock.now();
            self.control.tick(self.tick, start);
            self.clock.sleep_until(start + self.robot.period());
        }
    }

    pub fn goal(&self, goal: [f32; 3]) -> GoalRequest {
        GoalRequest {
            id: 1,
            goal: stack(goal),
            tolerance: 0.02,
            timeout: Duration::from_secs(2),
            stream: None,
            end_when_reached: true,
            source: Source::Run,
            split: Split::Training,
            seed: None,
        }
    }

    pub fn until_ended(&mut self) -> GoalResult {
        for _ in 0..1000 {
            self.run(1);
            if let Some(result) = self.control.take_result() {
                return result;
            }
        }
        panic!("the goal did not end")
    }

    pub fn emulator(&self) -> MutexGuard<'_, Emulator> {
        self.emulator.lock().unwrap()
    }

    /// The true joint angles (rad).
    pub fn positions(&self) -> JointVec<f64> {
        self.emulator().positions()
    }

    /// `Torque_Enable` of each servo.
    pub fn torque(&self) -> Vec<i32> {
        let mut emulator = self.emulator();
        let ids = self.robot.joint.iter().map(|joint| joint.id);
        ids.map(|id| emulator.servo(id).unwrap().get(&regoal::hal::servo::feetech::TORQUE_ENABLE))
            .collect()
    }

    /// The furthest that a joint is from where it was (rad).
    pub fn moved_since(&self, before: &[f64]) -> f64 {
        self.positions().iter().zip(before).map(|(q, p)| (q - p).abs()).fold(0.0, f64::max)
    }
}

/// A number from the environment: how campaigns are sized and seeded.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The line of a campaign.
pub fn report(id: &str, seed: u64, runs: u64, failures: u64, figures: serde_json::Value) {
    let pass = failures == 0;
    println!(
        "{}",
        serde_json::json!({
            "id": id, "seed": seed, "runs": runs, "failures": failures, "figures": figures,
            "pass": pass,
        })
    );
}

/// Whether times count: in the sizes of campaigns that have the computer to themselves.
pub fn times_count() -> bool {
    number("REGOAL_JUDGE_TIME", 0) != 0
}

/// The size of a campaign without another one given: small where the compiler has not optimised.
pub fn sized(debug: u64, release: u64) -> u64 {
    number("REGOAL_CASES", if cfg!(debug_assertions) { debug } else { release })
}
