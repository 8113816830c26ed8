//! The control loop over an emulated arm of either protocol, on a wire that notes, cuts and damages.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use regoal::clock::{Clock, ManualClock, Time};
use regoal::config::{Protocol, RobotConfig};
use regoal::control::{Command, ControlLoop, Hardware, Inline, Reconnect};
use regoal::episode::Mode;
use regoal::hal::calibration::Calibration;
use regoal::hal::servo::{Model, RAD_PER_TICK};
use regoal::hal::wire::{dynamixel, feetech};
use regoal::hal::{Arm, ArmError, Emulator, FaultSpec, MemoryPort, Port, PortError};
use regoal::joints::{JointVec, stack};
use regoal::policy::ActionKind;

use crate::bench::Act;

pub const PROTOCOLS: [Protocol; 2] = [Protocol::Feetech, Protocol::Dynamixel];
pub const JOINTS: usize = 6;
/// Of noise and rounding, for millions of readings (rad).
pub const NOISE: f64 = 5.0 * RAD_PER_TICK;
/// What the truth is kept of.
const KEPT: usize = 256;

/// The emulated arm with the servos of an SO-101, or with those of a Koch arm.
pub fn robot(protocol: Protocol) -> RobotConfig {
    let text = include_str!("../../firmware-config/emulated.toml");
    let text = match protocol {
        Protocol::Feetech => text.to_owned(),
        Protocol::Dynamixel => text
            .replace("\"feetech\"", "\"dynamixel\"")
            .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
            .replace("\"sts3215\"", "\"xl330-m288\"")
            // As a Koch arm's: faster, and the six together pull their 5 V down.
            .replace("max_velocity = 2.5", "max_velocity = 1.5")
            .replace("max_acceleration = 30.0", "max_acceleration = 10.0"),
    };
    RobotConfig::parse(&text, Path::new("emulated.toml")).unwrap()
}

/// What goes through a port, and what is to happen to it.
pub struct Wire {
    port: Box<dyn Port>,
    /// Every packet written since the last look.
    pub written: Vec<Vec<u8>>,
    /// Writes so far.
    pub writes: u64,
    /// The port is gone from the first to the second.
    pub gone: Option<(Time, Time)>,
    /// The port is gone from this write on.
    pub cut: Option<u64>,
    /// These writes are heard by nobody.
    pub deaf: std::ops::Range<u64>,
    /// When the last bytes came.
    pub read: Time,
    /// Where the joints truly were when something was written.
    truth: VecDeque<(Time, JointVec<f64>)>,
}

/// The host's end.
struct Tap {
    wire: Arc<Mutex<Wire>>,
    emulator: Arc<Mutex<Emulator>>,
    clock: ManualClock,
}

impl Tap {
    fn wire(&self) -> Result<MutexGuard<'_, Wire>, PortError> {
        let wire = self.wire.lock().unwrap();
        let now = self.clock.now();
        let gone = wire.gone.is_some_and(|(from, until)| (from..until).contains(&now));
        let cut = wire.cut.is_some_and(|cut| wire.writes >= cut);
        if gone || cut { Err(PortError::Lost) } else { Ok(wire) }
    }
}

impl Port for Tap {
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        let mut wire = self.wire()?;
        wire.written.push(bytes.to_vec());
        wire.writes += 1;
        let heard = !wire.deaf.contains(&(wire.writes - 1));
        let at = self.clock.now();
        let done = if heard { wire.port.write(bytes, deadline) } else { Ok(()) };
        if wire.truth.len() == KEPT {
            wire.truth.pop_front();
        }
        wire.truth.push_back((at, self.emulator.lock().unwrap().positions()));
        done
    }

    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        let count = self.wire()?.port.read(buf, deadline);
        // It may have gone meanwhile.
        self.wire()?.read = self.clock.now();
        count
    }

    fn purge(&mut self) -> Result<usize, PortError> {
        self.wire()?.port.purge()
    }
}

/// Opens the arm again as soon as the port is there.
struct Replug(Box<dyn FnMut() -> Option<Arm> + Send>);

impl Reconnect for Replug {
    fn lost(&mut self, arm: Box<dyn Hardware>) {
        drop(arm);
    }
    fn found(&mut self) -> Option<Box<dyn Hardware>> {
        (self.0)().map(|arm| Box::new(arm) as Box<dyn Hardware>)
    }
}

/// An emulated arm and its wire, without a program.
#[derive(Clone)]
pub struct Site {
    pub robot: RobotConfig,
    pub clock: ManualClock,
    pub emulator: Arc<Mutex<Emulator>>,
    wire: Arc<Mutex<Wire>>,
}

impl Site {
    pub fn new(robot: RobotConfig, seed: u64) -> Self {
        let clock = ManualClock::default();
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, seed)));
        let wire = Wire {
            port: Box::new(MemoryPort::new(emulator.clone(), Arc::new(clock.clone()))),
            written: Vec::new(),
            writes: 0,
            gone: None,
            cut: None,
            deaf: 0..0,
            read: Time::ZERO,
            truth: VecDeque::new(),
        };
        Self { robot, clock, emulator, wire: Arc::new(Mutex::new(wire)) }
    }

    pub fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap()
    }

    pub fn open(&self) -> Result<Arm, ArmError> {
        let Self { wire, emulator, clock, .. } = self.clone();
        let tap = Tap { wire, emulator, clock: clock.clone() };
        Arm::open(&self.robot, Box::new(tap), Arc::new(clock))
    }

    /// From now on these faults happen, their times and transactions counted from now.
    pub fn inject(&self, spec: &FaultSpec) {
        let port = MemoryPort::new(self.emulator.clone(), Arc::new(self.clock.clone()));
        self.wire().port = Box::new(port.with_faults(spec));
    }

    /// The true joint angles now (rad).
    pub fn positions(&self) -> JointVec<f64> {
        let mut emulator = self.emulator.lock().unwrap();
        emulator.advance(self.clock.now());
        emulator.positions()
    }

    /// A register of each servo.
    pub fn registers(
        &self,
        of: impl Fn(&'static Model) -> &'static regoal::hal::servo::Register,
    ) -> Vec<i32> {
        let mut emulator = self.emulator.lock().unwrap();
        let joints = self.robot.joint.iter();
        joints.map(|j| emulator.servo(j.id).unwrap().get(of(Model::of(j.servo)))).collect()
    }

    /// `Torque_Enable` of each servo.
    pub fn torque(&self) -> Vec<i32> {
        self.registers(|model| &model.torque)
    }

    /// How far each servo's goal is from where it is (rad).
    pub fn leads(&self) -> Vec<f64> {
        let (goals, positions) = (self.registers(|model| &model.goal), self.positions());
        let joints = self.robot.joint.iter().zip(goals).zip(&positions);
        joints.map(|((j, goal), q)| (Calibration::new(j).radians(goal) - q).abs()).collect()
    }
}

/// What a tick brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// The oldest joint (ticks, 0: of this tick).
    pub age: u32,
    /// The largest error of a new reading, against everything true since it was asked (rad).
    pub error: f64,
    /// New readings that are wrong by more than noise.
    pub wrong: u64,
    /// Those of them that lie further from the last than a joint can move, and stop nothing.
    pub jumps: u64,
    /// Goals on the wire out of the limits of position or speed.
    pub out_of_limits: u64,
}

/// A program that drives the arm.
pub struct Rig {
    pub site: Site,
    pub control: ControlLoop,
    pub tick: u64,
    last: Vec<(Time, f64)>,
    goals: [Option<i32>; JOINTS],
    /// It swings the joints about home by so much (rad).
    pub swing: f64,
}

impl Rig {
    pub fn new(robot: RobotConfig, seed: u64) -> Self {
        let site = Site::new(robot, seed);
        let arm = site.open().unwrap();
        let still = Act(ActionKind::JointDelta, |_: &_| stack([0.0; JOINTS]));
        let pilot = Box::new(Inline::new(Box::new(still)));
        let shared = Arc::new(site.clock.clone());
        let again = site.clone();
        let replug = Replug(Box::new(move || again.open().ok()));
        let control = ControlLoop::new(&site.robot, arm, pilot, None, shared)
            .unwrap()
            .with_reconnect(Box::new(replug));
        let last = vec![(Time::ZERO, 0.0); JOINTS];
        Self { site, control, tick: 0, last, goals: [None; JOINTS], swing: 0.8 }
    }

    /// Armed, past the slow start, and swinging.
    pub fn swinging(robot: RobotConfig, seed: u64) -> Self {
        let mut rig = Self::new(robot, seed);
        rig.run(1);
        rig.arm();
        rig.run(130);
        rig
    }

    /// What an operator does after a fault.
    pub fn arm(&mut self) {
        self.goals = [None; JOINTS];
        let _ = self.control.command(&Command::Arm);
        self.site.wire().written.clear();
    }

    pub fn faulted(&self) -> bool {
        matches!(self.control.mode(), Mode::Faulted(_))
    }

    pub fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// One tick; at its end it is the next one's start.
    pub fn tick(&mut self) -> Look {
        self.tick += 1;
        if self.tick.is_multiple_of(50) && self.swing > 0.0 {
            let side = if self.tick.is_multiple_of(100) { self.swing } else { -self.swing };
            let target = self
                .site
                .robot
                .joint
                .iter()
                .map(|j| (j.home_rad + side).clamp(j.min_rad + 0.05, j.max_rad - 0.05));
            // Refused after a fault.
            let _ = self.control.command(&Command::Move(target.collect()));
        }
        let start = self.site.clock.now();
        self.control.tick(self.tick, start);
        let look = self.look(start);
        self.site.clock.sleep_until(start + self.site.robot.period());
        look
    }

    fn look(&mut self, start: Time) -> Look {
        let mut look = Look::default();
        let period = self.site.robot.period().as_nanos();
        // A jump that stops the arm in the same tick is not acted on.
        let acts = !self.faulted();
        let mut wire = self.site.wire.lock().unwrap();
        let step = self.control.step();
        for (i, joint) in self.site.robot.joint.iter().enumerate() {
            let (stamp, position) = (step.stamps[i], f64::from(step.position[i]));
            look.age = look.age.max(start.since(stamp).as_nanos().div_ceil(period) as u32);
            let (before, at) = self.last[i];
            if stamp <= before {
                continue;
            }
            self.last[i] = (stamp, position);
            let since = wire.truth.iter().filter(|(time, _)| *time >= stamp);
            let error = since.map(|(_, q)| (q[i] - position).abs()).fold(f64::INFINITY, f64::min);
            look.error = look.error.max(error);
            let wrong = error > NOISE;
            // As far as the driver lets a joint move: half as fast again as its limit, and play.
            let reach = 1.5 * joint.max_velocity * stamp.since(before).as_secs_f64() + 0.02;
            look.wrong += u64::from(wrong);
            look.jumps += u64::from(acts && wrong && (position - at).abs() > reach + 1e-6);
        }
        for packet in std::mem::take(&mut wire.written) {
            for (i, goal) in goals(&self.site.robot, &packet) {
                let joint = &self.site.robot.joint[i];
                let (low, high) = Calibration::new(joint).limits();
                let fastest =
                    (joint.max_velocity * period as f64 * 1e-9 / RAD_PER_TICK).ceil() as i32 + 1;
                let step = self.goals[i].map_or(0, |last| (goal - last).abs());
                let outside = !(low..=high).contains(&goal) || step > fastest;
                look.out_of_limits += u64::from(outside);
                self.goals[i] = Some(goal);
            }
        }
        look
    }
}

/// Joints and ticks of a sync write of goal positions.
pub fn goals(robot: &RobotConfig, packet: &[u8]) -> Vec<(usize, i32)> {
    let goal = &Model::of(robot.joint[0].servo).goal;
    let mut bytes = packet;
    let blocks = match robot.bus.protocol {
        Protocol::Feetech => match feetech::Decoder::default().next(&mut bytes) {
            Some(Ok(packet)) => match feetech::Request::parse(&packet) {
                Some(feetech::Request::SyncWrite { address, blocks, .. })
                    if u16::from(address) == goal.address =>
                {
                    blocks.to_vec()
                }
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        },
        Protocol::Dynamixel => match dynamixel::Decoder::default().next(&mut bytes) {
            Some(Ok(packet)) => match dynamixel::Request::parse(&packet) {
                Some(dynamixel::Request::SyncWrite { address, blocks, .. })
                    if address == goal.address =>
                {
                    blocks.to_vec()
                }
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        },
    };
    let of = |id| robot.joint.iter().position(|joint| joint.id == id).unwrap();
    let blocks = blocks.chunks(usize::from(goal.size) + 1);
    blocks.map(|b| (of(b[0]), goal.decode(&b[1..]).unwrap())).collect()
}
