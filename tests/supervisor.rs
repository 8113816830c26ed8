//! The two processes of `regoal run` on an emulated arm behind a pseudo terminal: what becomes of the
//! arm when either is killed or stopped. Times are printed, and judged only in the larger sizes of S9.

#[path = "common/bench.rs"]
mod bench;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use regoal::clock::{Clock, SystemClock, Time};
use regoal::config::RobotConfig;
use regoal::daemon::{Client, Goal, Status};
use regoal::episode::{Fault, Mode};
use regoal::hal::servo::Model;
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use regoal::joints::JointVec;
use regoal::storage::{Disk, Storage as _};
use rustix::process::{Pid, Signal, kill_process};

/// Time for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
/// One servo tick and the noise of a measurement (rad).
const CLOSE: f64 = 0.01;

const FEETECH: &str = include_str!("../firmware-config/emulated.toml");

/// A Koch arm: two XL430-W250 and four XL330-M288 on one Dynamixel bus.
fn koch() -> String {
    FEETECH
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"")
}

/// A robot for a computer that is so busy with tests that ticks take longer than they should.
fn patient(robot: &str, heartbeat_s: f64) -> String {
    let safety = format!(
        "[safety]\nheartbeat_s = {heartbeat_s}\nmax_tracking_error = 0.5\ntracking_time_s = 60.0\n\
                  stall_time_s = 60.0\n\n[control]\nhold_after_ticks = 100\nfault_after_ticks = 200\n"
    );
    robot.replace("[control]\n", &safety)
}

/// The same with servos so slow that they lag well behind their goals, and take long to reach them.
fn slow(robot: &str) -> String {
    robot.replace("servo_velocity = 4.7", "servo_velocity = 0.2")
}

/// One emulated arm at a time: they are to move as fast as they can.
static ALONE: Mutex<()> = Mutex::new(());

fn now() -> Time {
    SystemClock.now()
}

fn pause(ms: u64) {
    SystemClock.sleep_until(now() + Duration::from_millis(ms));
}

/// Waits until it holds.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(now() < deadline, "{what}");
        pause(1);
    }
}

/// `regoal run` on an emulated arm of this process.
struct Rig {
    config: RobotConfig,
    emulator: Arc<Mutex<Emulator>>,
    _server: PtyServer,
    folder: tempfile::TempDir,
    supervisor: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The control process ends with it.
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

impl Rig {
    fn start(robot: &str, arguments: &[&str]) -> Self {
        Self::found(&patient(robot, 0.5), arguments, 0)
    }

    /// The same on an arm that is found with this torque.
    fn found(text: &str, arguments: &[&str], torque: i32) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let config = RobotConfig::parse(text, Path::new("arm.toml")).unwrap();
        let emulator = Arc::new(Mutex::new(Emulator::new(&config, 1)));
        for joint in &config.joint {
            let mut emulator = emulator.lock().unwrap();
            emulator.servo(joint.id).unwrap().set(&Model::of(joint.servo).torque, torque);
        }
        let clock = Arc::new(SystemClock);
        let server = PtyServer::start(Arc::clone(&emulator), &FaultSpec::default(), clock).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let robot = folder.path().join("arm.toml");
        std::io::Write::write_all(&mut Disk.create(&robot).unwrap(), text.as_bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.env_remove("RUST_LOG").arg("run").arg("--robot").arg(&robot);
        command.arg("--port").arg(server.path()).arg("--socket").arg(folder.path().join("api"));
        command.arg("--episodes").arg(folder.path().join("episodes")).args(arguments);
        let supervisor = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { config, emulator, _server: server, folder, supervisor, _alone: alone }
    }

    /// The same in motion: one of its servos is this far behind its goal (rad).
    fn moving(robot: &str, lag: f64) -> Self {
        Self::watched(robot, lag, 0.5)
    }

    /// The same, counted as hung after so long without a tick.
    fn watched(robot: &str, lag: f64, heartbeat_s: f64) -> Self {
        let arguments = ["--policy", "models/reach/policy.onnx", "--arm"];
        let mut rig = Self::found(&patient(robot, heartbeat_s), &arguments, 0);
        rig.wait_for_api();
        rig.set_out(lag);
        rig
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api")
    }

    fn status(&self) -> Option<Status> {
        Client::new(self.socket()).status().ok()
    }

    fn wait_for_api(&mut self) {
        let mut line = String::new();
        let out = self.supervisor.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert!(line.contains("API at"), "{line}");
        wait_until("it holds", || self.status().is_some_and(|s| s.mode == Mode::Holding));
    }

    /// Reaches for goals at both sides until a servo lags this far behind (rad).
    fn set_out(&self, lag: f64) {
        let client = Client::new(self.socket());
        let mut side = 0.2;
        wait_until("it moves", || {
            side = -side;
            let goal = Goal { goal: vec![side, -0.2, 0.2], ..Goal::default() };
            if client.reach(&goal).is_err() {
                client.command(regoal::daemon::Command::Arm).unwrap();
            }
            let deadline = now() + Duration::from_secs(2);
            while self.lag() < lag && now() < deadline {
                pause(1);
            }
            self.lag() >= lag
        });
    }

    /// Where the arm is told to be, and where it is (rad).
    fn goals_and_positions(&self) -> (JointVec<f64>, JointVec<f64>) {
        let mut emulator = self.emulator.lock().unwrap();
        emulator.advance(now());
        let goals = self.config.joint.iter().map(|joint| {
            let model = Model::of(joint.servo);
            let ticks = emulator.servo(joint.id).unwrap().get(&model.goal);
            f64::from(ticks - joint.zero_ticks) * model.rad_per_tick * f64::from(joint.direction)
        });
        (goals.collect(), emulator.positions())
    }

    /// How far the servo that is furthest from its goal is from it (rad).
    fn lag(&self) -> f64 {
        let (goals, positions) = self.goals_and_positions();
        furthest(&goals, &positions)
    }

    fn torques(&self) -> Vec<i32> {
        let mut emulator = self.emulator.lock().unwrap();
        let torque = |joint: &regoal::config::JointConfig| {
            emulator.servo(joint.id).unwrap().get(&Model::of(joint.servo).torque)
        };
        self.config.joint.iter().map(torque).collect()
    }

    /// The process that controls the arm.
    fn control(&self) -> Option<Pid> {
        let id = self.supervisor.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let children = std::fs::read_to_string(children).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Whether it was noted to be ended, with what the supervisor said.
    fn end(&mut self) -> (Option<i32>, String) {
        let status = self.supervisor.wait().unwrap();
        let mut said = String::new();
        self.supervisor.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

fn furthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Does something to the control process of a moving arm; which it was, and after how long all
/// servos hold.
fn strike(rig: &mut Rig, signal: Signal) -> (Pid, Duration) {
    let (struck, was) = (now(), rig.control().unwrap());
    kill_process(was, signal).unwrap();
    wait_until("its goals are where it is", || rig.lag() < CLOSE);
    (was, now().since(struck))
}

/// Does something to the control process of a moving arm: the arm is held where it is, and a new
/// control process holds it there and takes goals.
fn held_after(signal: Signal, robot: &str, what: &str) {
    let mut rig = Rig::moving(&slow(robot), 0.15);
    let (last, before) = rig.goals_and_positions();
    let (dead, took) = strike(&mut rig, signal);
    let (held, _) = rig.goals_and_positions();
    println!(
        "{what}: held {took:?} after {signal:?}; {:.3} rad behind its goals before, moved by {:.3} rad",
        furthest(&last, &before),
        furthest(&held, &before)
    );
    assert!(furthest(&held, &last) > CLOSE, "it went on to its last goal: {last:?} {held:?}");
    assert_eq!(rig.torques(), [1; 6], "torque as it was");
    wait_until("another one controls it", || rig.control().is_some_and(|pid| pid != dead));
    let again = || rig.status().is_some_and(|s| s.mode == Mode::Holding && s.tick > 20);
    wait_until("it holds again", again);
    let (goals, positions) = rig.goals_and_positions();
    assert!(furthest(&held, &positions) < 2.0 * CLOSE, "it moved: {held:?} {positions:?}");
    assert!(furthest(&goals, &positions) < CLOSE, "it moves: {goals:?} {positions:?}");
    assert_eq!(rig.torques(), [1; 6], "it never dropped");
    rig.set_out(0.05);
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    let (code, said) = rig.end();
    assert_eq!(code, Some(130), "{said}");
    let told = said.lines().find(|line| line.contains("THE CONTROL PROCESS")).unwrap_or_default();
    println!("{told}");
    assert!(told.contains("servos [1, 2, 3, 4, 5, 6] were told to hold"), "{said}");
}

/// S9: from the death or the hanging of the control process to the moment in which all servos hold,
/// with the heartbeat that an arm has by default. Times are judged where nothing else runs: in the
/// sizes that set `REGOAL_JUDGE_TIME`.
#[test]
fn s9_a_control_process_that_dies_or_hangs_costs_the_arm_a_moment() {
    const LIMIT: Duration = Duration::from_millis(200);
    let heartbeat_s = regoal::config::SafetyConfig::default().heartbeat_s;
    let cases = bench::number("REGOAL_CASES", 1);
    let judged = bench::times_count();
    let (mut figures, mut late) = (serde_json::Map::new(), 0);
    for (name, robot) in [("feetech", FEETECH.to_owned()), ("dynamixel", koch())] {
        for (how, signal) in [("killed", Signal::KILL), ("stopped", Signal::STOP)] {
            let held = (0..cases).map(|_| {
                let mut rig = Rig::watched(&slow(&robot), 0.15, heartbeat_s);
                strike(&mut rig, signal).1
            });
            let mut held: Vec<Duration> = held.collect();
            held.sort_unstable();
            late += held.iter().filter(|held| **held > LIMIT).count() as u64;
            let ms = |held: Option<&Duration>| held.map(|held| held.as_secs_f64() * 1e3);
            let figure = serde_json::json!({
                "median_ms": ms(held.get(held.len() / 2)), "longest_ms": ms(held.last()),
            });
            figures.insert(format!("{name}_{how}"), figure);
        }
    }
    figures.insert("over_200_ms".into(), late.into());
    figures.insert("judged".into(), judged.into());
    let failures = if judged { late } else { 0 };
    bench::report("S9", bench::number("REGOAL_SEED", 1), 4 * cases, failures, figures.into());
    assert_eq!(failures, 0);
}

#[test]
fn an_arm_that_is_found_with_torque_keeps_it_and_its_user_is_told_before_and_after() {
    for (torque, told) in [(1, true), (0, false)] {
        let mut rig = Rig::found(&patient(FEETECH, 0.5), &[], torque);
        wait_until("it runs", || rig.status().is_some_and(|s| s.tick > 20));
        kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
        let mut said = String::new();
        rig.supervisor.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(rig.end().0, Some(130));
        assert_eq!(said.contains("TORQUE IS ON, as it was found"), told, "{said}");
        assert_eq!(said.contains("TORQUE IS STILL ON"), told, "{said}");
        assert_eq!(rig.torques(), [torque; 6]);
    }
}

#[test]
fn a_feetech_arm_is_held_when_its_process_is_killed_and_moves_again_only_when_told() {
    held_after(Signal::KILL, FEETECH, "feetech");
}

#[test]
fn a_dynamixel_arm_is_held_when_its_process_is_killed_and_moves_again_only_when_told() {
    held_after(Signal::KILL, &koch(), "dynamixel");
}

#[test]
fn a_process_that_hangs_is_killed_and_the_arm_held() {
    held_after(Signal::STOP, FEETECH, "feetech");
}

#[test]
fn a_latched_fault_outlives_the_process_it_came_in() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let client = Client::new(rig.socket());
    client.command(regoal::daemon::Command::EmergencyStop).unwrap();
    let stopped = Mode::Faulted(Fault::EmergencyStop);
    wait_until("it is stopped", || rig.status().is_some_and(|s| s.mode == stopped));
    let dead = rig.control().unwrap();
    kill_process(dead, Signal::KILL).unwrap();
    wait_until("another one controls it", || rig.control().is_some_and(|pid| pid != dead));
    wait_until("it runs", || rig.status().is_some_and(|s| s.tick > 20));
    assert_eq!(rig.status().unwrap().mode, stopped);
    let goal = Goal { goal: vec![0.2, -0.2, 0.2], ..Goal::default() };
    let refused = client.reach(&goal).unwrap_err().to_string();
    assert!(refused.contains("emergency stop"), "{refused}");
    client.command(regoal::daemon::Command::Arm).unwrap();
    client.reach(&goal).unwrap();
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    assert_eq!(rig.end().0, Some(130));
}

#[test]
fn told_to_end_it_parks_the_arm_and_both_processes_end() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let control = rig.control().unwrap();
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    let (code, said) = rig.end();
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(rig.torques(), [0; 6], "{said}");
    let park: Vec<f64> = rig.config.joint.iter().map(|joint| joint.park_rad()).collect();
    let (_, positions) = rig.goals_and_positions();
    assert!(furthest(&park, &positions) < 0.1, "{positions:?}: {said}");
    assert!(rustix::process::test_kill_process(control).is_err(), "it lives on");
}

#[test]
fn sigusr1_to_either_process_is_an_emergency_stop_that_stays_until_somebody_arms() {
    let rig = Rig::moving(FEETECH, 0.05);
    for process in [Pid::from_child(&rig.supervisor), rig.control().unwrap()] {
        kill_process(process, Signal::USR1).unwrap();
        let stopped = Mode::Faulted(Fault::EmergencyStop);
        wait_until("it stops", || rig.status().is_some_and(|s| s.mode == stopped));
        let goal = Goal { goal: vec![0.2, -0.2, 0.2], ..Goal::default() };
        assert!(Client::new(rig.socket()).reach(&goal).is_err(), "it moves on by itself");
        rig.set_out(0.05);
    }
}

#[test]
fn without_its_supervisor_the_control_process_parks_the_arm_and_ends() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let control = rig.control().unwrap();
    rig.supervisor.kill().unwrap();
    wait_until("it parks and ends", || rustix::process::test_kill_process(control).is_err());
    assert_eq!(rig.torques(), [0; 6]);
}

#[test]
fn an_arm_whose_process_dies_again_and_again_stays_held_and_is_left_to_a_person() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let mut last = None;
    for _ in 0..4 {
        wait_until("it runs", || rig.control().is_some_and(|pid| last != Some(pid)));
        last = rig.control();
        kill_process(last.unwrap(), Signal::KILL).unwrap();
    }
    let (code, said) = rig.end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("died too often"), "{said}");
    assert_eq!(rig.torques(), [1; 6], "{said}");
    assert!(rig.lag() < CLOSE, "{said}");
}

#[test]
fn a_first_start_that_fails_is_not_tried_again() {
    let mut rig = Rig::start(FEETECH, &["--policy", "/nowhere.onnx"]);
    let (code, said) = rig.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("/nowhere.onnx").count(), 1, "{said}");
    assert!(!said.contains("again"), "{said}");
    assert_eq!(rig.torques(), [0; 6]);
}
