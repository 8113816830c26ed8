//! `regoal run` and its two processes on an emulated arm of the test's own, behind a pseudo terminal.
#![allow(dead_code, reason = "each program uses its own part")]

#[path = "patience.rs"]
pub mod patience;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use patience::patient;
use regoal::clock::{Clock, SystemClock, Time};
use regoal::config::RobotConfig;
use regoal::daemon::{Client, Goal, Status};
use regoal::episode::Mode;
use regoal::hal::servo::Model;
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use regoal::joints::JointVec;
use regoal::storage::{Disk, Storage as _};
use rustix::process::Pid;

/// Time for what must happen, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// One servo tick and the noise of a measurement (rad).
pub const CLOSE: f64 = 0.01;

pub const FEETECH: &str = include_str!("../../firmware-config/emulated.toml");

/// A Koch arm: two XL430-W250 and four XL330-M288 on one Dynamixel bus.
pub fn koch() -> String {
    FEETECH
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"")
}

/// The same with servos so slow that they lag well behind their goals, and take long to reach them.
pub fn slow(robot: &str) -> String {
    robot.replace("servo_velocity = 4.7", "servo_velocity = 0.2")
}

/// One emulated arm at a time: they are to move as fast as they can.
static ALONE: Mutex<()> = Mutex::new(());

pub fn now() -> Time {
    SystemClock.now()
}

pub fn pause(ms: u64) {
    SystemClock.sleep_until(now() + Duration::from_millis(ms));
}

/// Waits until it holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !holds() {
        assert!(now() < deadline, "{what}");
        pause(1);
    }
}

fn launch(folder: &Path, port: &Path, more: &impl Fn(&mut Command) -> &mut Command) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
    command.env_remove("RUST_LOG").arg("run").arg("--robot").arg(folder.join("arm.toml"));
    command.arg("--port").arg(port).arg("--socket").arg(folder.join("api"));
    command.arg("--episodes").arg(folder.join("episodes"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    more(&mut command).spawn().unwrap()
}

/// `regoal run` on an emulated arm of this process.
pub struct Rig {
    pub config: RobotConfig,
    pub emulator: Arc<Mutex<Emulator>>,
    server: PtyServer,
    pub folder: tempfile::TempDir,
    pub supervisor: Child,
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
    pub fn start(robot: &str, arguments: &[&str]) -> Self {
        Self::with(robot, |run| run.args(arguments))
    }

    /// The same with what else the command is given.
    pub fn with(robot: &str, more: impl Fn(&mut Command) -> &mut Command) -> Self {
        Self::found(&patient(robot, 0.5), 0, more)
    }

    /// The same on an arm of just this configuration, which is found with this torque.
    pub fn found(text: &str, torque: i32, more: impl Fn(&mut Command) -> &mut Command) -> Self {
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
        let supervisor = launch(folder.path(), &server.path(), &more);
        Self { config, emulator, server, folder, supervisor, _alone: alone }
    }

    /// Starts the processes anew, for those before have ended.
    pub fn start_again(&mut self, more: impl Fn(&mut Command) -> &mut Command) {
        self.supervisor = launch(self.folder.path(), &self.server.path(), &more);
    }

    /// The same in motion: one of its servos is this far behind its goal (rad).
    pub fn moving(robot: &str, lag: f64) -> Self {
        Self::watched(robot, lag, 0.5)
    }

    /// The same, counted as hung after so long without a tick.
    pub fn watched(robot: &str, lag: f64, heartbeat_s: f64) -> Self {
        let arguments = ["--policy", "models/reach/policy.onnx", "--arm"];
        let mut rig = Self::found(&patient(robot, heartbeat_s), 0, |run| run.args(arguments));
        rig.hear_of_api();
        let client = Client::new(rig.socket());
        wait_until("it holds", || {
            let mode = rig.status().map(|s| s.mode);
            if mode == Some(Mode::Disarmed) {
                // On a busy computer its process may just be started again.
                let _ = client.command(regoal::daemon::Command::Arm);
            }
            mode == Some(Mode::Holding)
        });
        rig.set_out(lag);
        rig
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("api")
    }

    pub fn status(&self) -> Option<Status> {
        Client::new(self.socket()).status().ok()
    }

    pub fn wait_for_api(&mut self) {
        self.hear_of_api();
        wait_until("it holds", || self.status().is_some_and(|s| s.mode == Mode::Holding));
    }

    fn hear_of_api(&mut self) {
        let mut line = String::new();
        let out = self.supervisor.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert!(line.contains("API at"), "{line}");
    }

    /// Reaches for goals at both sides until a servo lags this far behind (rad).
    pub fn set_out(&self, lag: f64) {
        let client = Client::new(self.socket());
        let mut side = 0.2;
        wait_until("it moves", || {
            side = -side;
            let goal = Goal { goal: vec![side, -0.2, 0.2], ..Goal::default() };
            if client.reach(&goal).is_err() {
                // On a busy computer its process may just be started again.
                let _ = client.command(regoal::daemon::Command::Arm);
            }
            let deadline = now() + Duration::from_secs(2);
            while self.lag() < lag && now() < deadline {
                pause(1);
            }
            self.lag() >= lag
        });
    }

    /// Where the arm is told to be, and where it is (rad).
    pub fn goals_and_positions(&self) -> (JointVec<f64>, JointVec<f64>) {
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
    pub fn lag(&self) -> f64 {
        let (goals, positions) = self.goals_and_positions();
        furthest(&goals, &positions)
    }

    pub fn torques(&self) -> Vec<i32> {
        let mut emulator = self.emulator.lock().unwrap();
        let torque = |joint: &regoal::config::JointConfig| {
            emulator.servo(joint.id).unwrap().get(&Model::of(joint.servo).torque)
        };
        self.config.joint.iter().map(torque).collect()
    }

    /// The process that controls the arm.
    pub fn control(&self) -> Option<Pid> {
        let id = self.supervisor.id();
        let children = format!("/proc/{id}/task/{id}/children");
        let children = std::fs::read_to_string(children).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// Whether it was noted to be ended, with what the supervisor said.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let status = self.supervisor.wait().unwrap();
        let mut said = String::new();
        self.supervisor.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

pub fn furthest(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
