//! What a robot computer does in every tick. The arm is the emulator in virtual time behind the real
//! codec: its own work counts, waiting for the wire does not.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock, ManualClock, SystemClock};
use regoal::config::RobotConfig;
use regoal::control::{Command, ControlLoop, GoalRequest, Inline};
use regoal::engine::Engine;
use regoal::env::{ArmReach, Env as _};
use regoal::episode::{Source, Split, log_queue};
use regoal::hal::{Arm, ArmState, Emulator, FaultSpec, MemoryPort, SerialPort, SocketServer};
use regoal::joints::{JointVec, stack};
use regoal::policy::{Observation, Policy};
use regoal::rng::{Stream, stream};
use regoal::storage::Disk;

use super::Setup;
use super::beside::of_thread;
use super::learning::figures;
use super::measure::{Contender, Figure, Unit, alone, in_turns, rate, typical_us};

const GOAL: [f32; 3] = [0.1, -0.2, 0.2];

fn arm(setup: &Setup, clock: &ManualClock) -> Arm {
    let emulator = Arc::new(Mutex::new(Emulator::new(&setup.robot, 1)));
    let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
    Arm::open(&setup.robot, Box::new(port), Arc::new(clock.clone())).unwrap()
}

fn home(setup: &Setup) -> JointVec<f64> {
    setup.robot.joint.iter().map(|j| j.home_rad).collect()
}

/// One action of the shipped policy, from an observation in SI units to the action of all joints.
pub fn act(setup: &Setup) -> Vec<Figure> {
    let home: JointVec<f32> = stack(home(setup).iter().map(|q| *q as f32));
    let observation = Observation {
        tick: 1,
        episode: 0,
        position: home.clone(),
        velocity: home.iter().map(|_| 0.0).collect(),
        sent: home,
        achieved_goal: stack([0.0, -0.3, 0.2]),
        desired_goal: stack(GOAL),
    };
    let engines: Vec<&Engine> = setup.engines().collect();
    let mut contenders: Vec<Contender<'_, 1>> = Vec::new();
    for engine in &engines {
        let mut policy = Policy::load(&setup.policy, &setup.robot, engine).unwrap();
        let observation = &observation;
        let mut act = move || drop(std::hint::black_box(policy.act(observation).unwrap()));
        contenders.push(Box::new(move || Some([typical_us(&mut act)])));
    }
    let values = in_turns(&mut contenders);
    let values: Vec<_> = values.into_iter().map(|v| v.map(|[us]| us)).collect();
    figures("act/reach", &engines, &[], &values, Unit::Microseconds)
}

/// One read of all that a tick must know of six servos and one sync write of their goals, on a wire
/// that takes its time, one after the other in virtual time. The floor is the wire's alone at 1 Mbaud:
/// Feetech 14 bytes of request, 6 answers of 14 and 26 of goals; Dynamixel 20, 6 of 21 and 44.
pub fn bus_cycle(_: &Setup) -> Vec<Figure> {
    let arms = [("feetech", "emulated", 1240.0), ("dynamixel", "koch-follower", 1900.0)];
    let figure = |(name, config, floor)| {
        let path = format!("firmware-config/{config}.toml");
        let robot = RobotConfig::load(&Disk, Path::new(&path)).unwrap();
        Figure::new(format!("bus_cycle/{name}"), wire_us(&robot), Unit::Microseconds)
            .against("floor", Some(floor))
    };
    arms.map(figure).into()
}

/// What a cycle takes of virtual time (us), over all turns of the servos in telling their supply.
fn wire_us(robot: &RobotConfig) -> f64 {
    const CYCLES: u32 = 600;
    let (clock, mut state) = (ManualClock::default(), ArmState::default());
    let emulator = Arc::new(Mutex::new(Emulator::new(robot, 1)));
    let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
    let mut arm = Arm::open(robot, Box::new(port), Arc::new(clock.clone())).unwrap();
    let goal: JointVec<f64> = robot.joint.iter().map(|j| j.home_rad).collect();
    let start = clock.now();
    for _ in 0..CYCLES {
        let deadline = clock.now() + robot.period();
        assert_eq!(arm.read(&mut state, deadline).unwrap(), goal.len());
        arm.write(&goal, deadline).unwrap();
    }
    clock.now().since(start).as_secs_f64() * 1e6 / f64::from(CYCLES)
}

/// The processor time of the control thread at 200 Hz while it holds an arm at the end of a socket
/// pair, in hundredths of one core.
pub fn bus_cpu(setup: &Setup) -> Vec<Figure> {
    const SECONDS: u64 = 10;
    let mut robot = setup.robot.clone();
    robot.control.rate_hz = 200.0;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut emulator = Emulator::new(&robot, 1);
    emulator.advance(clock.now());
    let emulator = Arc::new(Mutex::new(emulator));
    let (_server, client) =
        SocketServer::start(emulator, &FaultSpec::default(), Arc::clone(&clock)).unwrap();
    let port = Box::new(SerialPort::from_descriptor(client).unwrap());
    let arm = Arm::open(&robot, port, Arc::clone(&clock)).unwrap();
    let policy = Policy::load(&setup.policy, &setup.robot, &setup.tract).unwrap();
    let pilot = Box::new(Inline::new(Box::new(policy)));
    let mut control = ControlLoop::new(&robot, arm, pilot, None, Arc::clone(&clock)).unwrap();
    control.tick(1, clock.now());
    control.command(&Command::Arm).unwrap();
    let (mut due, begin) = (clock.now(), of_thread());
    for number in 2..2 + 200 * SECONDS {
        due = due + robot.period();
        clock.sleep_until(due);
        control.tick(number, due);
    }
    let percent = 100.0 * (of_thread() - begin) / SECONDS as f64;
    vec![Figure::new("bus_cycle/cpu", percent, Unit::PercentOfCore).against("limit", Some(3.0))]
}

/// Steps of the environment without its resets.
pub fn env(setup: &Setup) -> Vec<Figure> {
    let mut env = ArmReach::new(&setup.robot, 200, 1).unwrap();
    let mut rng = stream(1, Stream::Demonstrations);
    let goal = env.sample_goal(&mut rng);
    env.reset(&goal, &mut rng).unwrap();
    let there = vec![0.01; env.spec().actions.size()];
    let back = vec![-0.01; env.spec().actions.size()];
    let mut steps = 0u32;
    let mut step = || {
        env.step(if (steps / 20).is_multiple_of(2) { &there } else { &back }).unwrap();
        steps += 1;
    };
    let value = alone(|| rate(&mut step));
    vec![Figure::new("env/arm_reach", value, Unit::Steps)]
}

/// One tick of the control loop while it reaches, with the shipped policy on tract in the same thread
/// and every step through the log's ring.
pub fn tick(setup: &Setup) -> Vec<Figure> {
    let clock = ManualClock::default();
    let policy = Policy::load(&setup.policy, &setup.robot, &setup.tract).unwrap();
    let pilot = Box::new(Inline::new(Box::new(policy)));
    let (sender, mut log) = log_queue();
    let arm = arm(setup, &clock);
    let shared = Arc::new(clock.clone());
    let mut control = ControlLoop::new(&setup.robot, arm, pilot, Some(sender), shared).unwrap();
    let mut number = 0;
    let mut tick = || {
        number += 1;
        let start = clock.now();
        control.tick(number, start);
        clock.sleep_until(start + setup.robot.period());
        while log.receive().is_some() {}
        match number {
            1 => control.command(&Command::Arm).unwrap(),
            2 => control.command(&Command::Reach(endless())).unwrap(),
            _ => {}
        }
    };
    let value = alone(|| typical_us(&mut tick));
    assert_eq!(control.mode(), regoal::episode::Mode::Reaching);
    vec![Figure::new("tick/arm_reach", value, Unit::Microseconds)]
}

/// A goal that is held for ever.
fn endless() -> GoalRequest {
    GoalRequest {
        id: 1,
        goal: stack(GOAL),
        tolerance: 0.02,
        timeout: Duration::MAX,
        stream: None,
        end_when_reached: false,
        source: Source::Run,
        split: Split::Training,
        seed: None,
    }
}
