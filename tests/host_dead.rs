//! The host is dead (campaign S8) and a supervisor comes to hold the arm, in virtual time.

#[path = "common/bench.rs"]
mod bench;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench::{number, report};
use rand::RngExt as _;
use regoal::clock::{Clock, ManualClock, Time};
use regoal::config::RobotConfig;
use regoal::hal::arm::{Rescued, rescue};
use regoal::hal::servo::Model;
use regoal::hal::{Arm, ArmState, Emulator, MemoryPort, Port};
use regoal::joints::JointVec;
use regoal::rng::{Rng, Stream, item};

const FEETECH: &str = include_str!("../firmware-config/emulated.toml");
const TICK: Duration = Duration::from_millis(10);

fn feetech() -> RobotConfig {
    RobotConfig::parse(FEETECH, Path::new("arm.toml")).unwrap()
}

/// A Koch arm: two XL430-W250 and four XL330-M288 on one Dynamixel bus.
fn koch() -> RobotConfig {
    let text = FEETECH
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"");
    RobotConfig::parse(&text, Path::new("koch.toml")).unwrap()
}

/// An emulated arm in motion.
struct Rig {
    config: RobotConfig,
    clock: ManualClock,
    emulator: Arc<Mutex<Emulator>>,
    arm: Arm,
    goal: JointVec<f64>,
}

impl Rig {
    fn new(config: RobotConfig, seed: u64) -> Self {
        let clock = ManualClock::default();
        let emulator = Arc::new(Mutex::new(Emulator::new(&config, seed)));
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let port = MemoryPort::new(Arc::clone(&emulator), Arc::clone(&shared));
        let mut arm = Arm::open(&config, Box::new(port), shared).unwrap();
        arm.torque(true).unwrap();
        let goal = config.joint.iter().map(|joint| joint.home_rad).collect();
        Self { config, clock, emulator, arm, goal }
    }

    /// Ticks of a host that sends the arm far away, as fast as it goes; when it spoke last.
    fn drive(&mut self, ticks: u32) -> Time {
        let mut state = ArmState::default();
        let mut spoke = self.clock.now();
        for _ in 0..ticks {
            let end = self.clock.now() + TICK;
            self.arm.read(&mut state, end).unwrap();
            for (goal, joint) in self.goal.iter_mut().zip(&self.config.joint) {
                *goal = (*goal + joint.max_velocity * TICK.as_secs_f64()).min(joint.max_rad - 0.02);
            }
            self.arm.write(&self.goal, end).unwrap();
            spoke = self.clock.now();
            self.clock.sleep_until(end);
        }
        spoke
    }

    fn port(&self) -> MemoryPort {
        MemoryPort::new(Arc::clone(&self.emulator), Arc::new(self.clock.clone()))
    }

    fn rescue(&self) -> Rescued {
        rescue(&self.config, Box::new(self.port()), Arc::new(self.clock.clone()))
    }

    fn positions(&self) -> JointVec<f64> {
        let mut emulator = self.emulator.lock().unwrap();
        emulator.advance(self.clock.now());
        emulator.positions()
    }

    fn wait(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time);
    }

    /// When the last joint came to rest.
    fn rest(&self) -> Time {
        let mut last = self.positions();
        let mut rest = self.clock.now();
        for _ in 0..3000 {
            self.wait(Duration::from_millis(1));
            let now = self.positions();
            if furthest(&now, &last) > 1e-5 {
                rest = self.clock.now();
            }
            last = now;
        }
        rest
    }

    fn registers(&self, of: impl Fn(&Model) -> regoal::hal::servo::Register) -> Vec<i32> {
        let mut emulator = self.emulator.lock().unwrap();
        let value = |joint: &regoal::config::JointConfig| {
            emulator.servo(joint.id).unwrap().get(&of(Model::of(joint.servo)))
        };
        self.config.joint.iter().map(value).collect()
    }
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn rng(case: u64) -> Rng {
    item(number("REGOAL_SEED", 1), Stream::Training, case)
}

#[test]
fn s8_an_arm_whose_host_is_dead_stops_by_itself_or_goes_no_further_than_it_was_sent() {
    let runs = number("REGOAL_CASES", 100);
    let (mut failures, mut slowest, mut furthest_on) = (0, Duration::ZERO, 0.0f64);
    for case in 0..runs {
        let mut rng = rng(case);
        let mut rig = Rig::new(koch(), case);
        let spoke = rig.drive(rng.random_range(10..40));
        // Before its next request, or in the middle of it.
        if rng.random_bool(0.5) {
            let request = [0xFF, 0xFF, 0xFD, 0x00, 0xFE, 0x14, 0x00, 0x83, 0x74, 0x00];
            let cut = rng.random_range(1..=request.len());
            rig.port().write(&request[..cut], rig.clock.now() + TICK).unwrap();
        }
        let before = rig.positions();
        let stopped = rig.rest().since(spoke);
        let on = furthest(&rig.positions(), &before);
        slowest = slowest.max(stopped);
        furthest_on = furthest_on.max(on);
        failures += u64::from(stopped > Duration::from_millis(120));
    }
    let ms = slowest.as_secs_f64() * 1e3;
    let feetech: Vec<Alone> = (0..runs).map(left_alone).collect();
    failures += feetech.iter().filter(|alone| !alone.within).count() as u64;
    let most = |of: fn(&Alone) -> f64| feetech.iter().map(of).fold(0.0, f64::max);
    let figures = serde_json::json!({
        "dynamixel": { "slowest_ms": ms, "furthest_rad": furthest_on },
        "feetech": {
            "furthest_from_the_last_goal_rad": most(|alone| alone.off),
            "fastest_of_the_limit": most(|alone| alone.fastest),
        },
    });
    report("S8", number("REGOAL_SEED", 1), 2 * runs, failures, figures);
    assert_eq!(failures, 0, "slowest {ms} ms");
}

/// What a Feetech arm did without anybody: it has no watchdog.
struct Alone {
    /// It stayed between where it was and its last goal, no faster than its limit, with its torque
    /// limited.
    within: bool,
    /// How far it is from its last goal in the end (rad).
    off: f64,
    /// The highest speed, as a share of the limit.
    fastest: f64,
}

/// A Feetech arm whose host and supervisor die while it is sent far away.
fn left_alone(case: u64) -> Alone {
    const STEP: Duration = Duration::from_millis(5);
    const PLAY: f64 = 0.01;
    let mut config = feetech();
    config.emulator.position_noise_ticks = 0.0;
    let mut rig = Rig::new(config, case);
    rig.drive(rng(case).random_range(10..40));
    let (from, limits) = (rig.positions(), rig.config.joint.clone());
    let (mut last, mut fastest, mut within) = (from.clone(), 0.0f64, true);
    for _ in 0..400 {
        rig.wait(STEP);
        let now = rig.positions();
        for (i, joint) in limits.iter().enumerate() {
            let (low, high) = (from[i].min(rig.goal[i]) - PLAY, from[i].max(rig.goal[i]) + PLAY);
            within &= (low..=high).contains(&now[i]);
            let speed = (now[i] - last[i]).abs() / STEP.as_secs_f64();
            fastest = fastest.max(speed / joint.max_velocity);
        }
        last = now;
    }
    let off = furthest(&last, &rig.goal);
    let torque = rig.registers(|model| *model.register("Torque_Limit").unwrap());
    let most = rig.registers(|model| *model.register("Max_Torque_Limit").unwrap());
    // A register is a whole number of its units.
    within &= off < PLAY && fastest < 1.02 && torque == most;
    Alone { within, off, fastest }
}

/// Drives the arm, lets the host die and a supervisor come a moment later.
fn held(config: RobotConfig) {
    for case in 0..50 {
        let mut rng = rng(case);
        let mut rig = Rig::new(config.clone(), case);
        rig.drive(rng.random_range(10..40));
        let cut = rng.random_range(0..10);
        rig.port().write(&[0xFF; 10][..cut], rig.clock.now() + TICK).unwrap();
        rig.wait(Duration::from_millis(rng.random_range(0..300)));
        let (found, begun) = (rig.positions(), rig.clock.now());
        let rescued = rig.rescue();
        let took = rig.clock.now().since(begun);
        assert!(rescued.holds(), "case {case}: {rescued:?}");
        assert!(took < Duration::from_millis(60), "case {case}: {took:?} of virtual time");
        rig.rest();
        let rest = rig.positions();
        assert!(furthest(&rest, &found) < 0.2, "case {case}: {found:?} {rest:?}");
        let goals = rig.registers(|model| model.goal);
        rig.wait(Duration::from_secs(5));
        assert!(furthest(&rest, &rig.positions()) < 0.01, "case {case}");
        assert_eq!(rig.registers(|model| model.goal), goals);
        assert_eq!(rig.registers(|model| model.torque), [1; 6]);
    }
}

#[test]
fn a_feetech_arm_is_held_where_it_is_whatever_its_host_said_last() {
    held(feetech());
}

#[test]
fn a_dynamixel_arm_is_held_where_it_is_whether_its_watchdog_has_stopped_it_or_not() {
    held(koch());
}

#[test]
fn a_servo_without_torque_stays_so_and_a_silent_one_hides_no_other() {
    for config in [feetech(), koch()] {
        let mut rig = Rig::new(config, 1);
        rig.drive(20);
        let torque = |id: u8| Model::of(rig.config.joint[usize::from(id) - 1].servo).torque;
        rig.emulator.lock().unwrap().servo(2).unwrap().set(&torque(2), 0);
        rig.emulator.lock().unwrap().servo(4).unwrap().set_connected(false);
        let rescued = rig.rescue();
        assert_eq!(rescued.held.as_slice(), [1, 3, 5, 6]);
        assert_eq!(rescued.limp.as_slice(), [2]);
        assert_eq!(rescued.unknown.as_slice(), [4]);
        assert!(!rescued.holds());
        assert_eq!(rig.registers(|model| model.torque)[1], 0);
    }
}

#[test]
fn attaching_to_an_arm_that_does_not_answer_lets_no_servo_drop() {
    let mut rig = Rig::new(feetech(), 1);
    rig.drive(20);
    rig.emulator.lock().unwrap().servo(4).unwrap().set_connected(false);
    let attach = Arm::attach(&rig.config, Box::new(rig.port()), Arc::new(rig.clock.clone()));
    assert!(attach.is_err());
    assert_eq!(rig.registers(|model| model.torque), [1; 6]);
    let open = Arm::open(&rig.config, Box::new(rig.port()), Arc::new(rig.clock.clone()));
    assert!(open.is_err());
    assert_eq!(rig.registers(|model| model.torque), [0, 0, 0, 1, 0, 0], "what opening does");
}
