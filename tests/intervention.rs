//! A person takes an arm over from its policy and gives it back: `regoal run` with a follower and a
//! leader behind pseudo terminals, whose leader this test moves.

#[path = "common/patience.rs"]
mod patience;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patience::{NEVER_HUNG, patient};
use regoal::clock::{Clock as _, SystemClock};
use regoal::config::RobotConfig;
use regoal::daemon::{self, Client, Goal};
use regoal::episode::{Episode, Mode, Source, Step, list};
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use regoal::learn::dataset::{corrections, trajectories};
use regoal::onnx::Verified;
use regoal::policy::PolicySpec;
use regoal::storage::{Disk, Storage as _};

/// Time for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
const LEADER: &str = "firmware-config/so101-leader.toml";
const FOLLOWER: &str = include_str!("../firmware-config/emulated.toml");

fn pause(ms: u64) {
    SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(ms));
}

#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = SystemClock.now() + PATIENCE;
    while !holds() {
        assert!(SystemClock.now() < deadline, "{what}");
        pause(5);
    }
}

/// An emulated arm of this process.
struct Emulated {
    robot: RobotConfig,
    emulator: Arc<Mutex<Emulator>>,
    server: PtyServer,
}

impl Emulated {
    fn of(robot: RobotConfig) -> Self {
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
        let clock = Arc::new(SystemClock);
        let server = PtyServer::start(Arc::clone(&emulator), &FaultSpec::default(), clock).unwrap();
        Self { robot, emulator, server }
    }

    fn pan(&self) -> f64 {
        self.emulator.lock().unwrap().positions()[0]
    }

    /// A hand turns the base by so much, slowly.
    fn turn(&self, by: f64) {
        let from = self.pan();
        for share in 1..=40 {
            let angle = from + by * f64::from(share) / 40.0;
            self.emulator.lock().unwrap().servo(self.robot.joint[0].id).unwrap().place(angle);
            pause(10);
        }
    }
}

struct Daemon {
    follower: Emulated,
    leader: Emulated,
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    /// Armed, and reaching for what is too far away for ever.
    fn reaching() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("arm.toml");
        Disk.replace(&path, patient(FOLLOWER, NEVER_HUNG).as_bytes()).unwrap();
        let follower = Emulated::of(RobotConfig::load(&Disk, &path).unwrap());
        let leader = Emulated::of(RobotConfig::load(&Disk, Path::new(LEADER)).unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["run", "--arm", "--leader", LEADER, "--robot"]).arg(&path);
        command.arg("--port").arg(follower.server.path());
        command.arg("--leader-port").arg(leader.server.path());
        command.arg("--socket").arg(folder.path().join("api"));
        command.arg("--episodes").arg(folder.path().join("episodes"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        while !said.next().unwrap().unwrap().contains("API at") {}
        std::thread::spawn(move || said.for_each(drop));
        let daemon = Self { follower, leader, folder, child };
        daemon.wait_for(Mode::Holding);
        let goal = Goal {
            goal: vec![0.35, -0.1, 0.1],
            timeout_s: Some(3600.0),
            tolerance: Some(0.001),
            anyway: true,
            ..Goal::default()
        };
        daemon.client().reach(&goal).unwrap();
        daemon.wait_for(Mode::Reaching);
        daemon
    }

    fn client(&self) -> Client {
        Client::new(self.folder.path().join("api"))
    }

    #[track_caller]
    fn wait_for(&self, mode: Mode) {
        let mut last = None;
        wait_until(&format!("{mode:?}"), || {
            last = self.client().status().ok().map(|status| status.mode);
            assert!(!matches!(last, Some(Mode::Faulted(_))), "{last:?}");
            last == Some(mode)
        });
    }

    /// The one episode, when it has ended.
    fn episode(&self) -> Episode {
        let folder = self.folder.path().join("episodes");
        let files = || list(&Disk, &folder).unwrap_or_default();
        wait_until("an episode", || files().iter().any(|file| file.outcome.is_some()));
        let files = files();
        assert_eq!(files.len(), 1, "one file");
        Episode::read(&Disk, &files[0].path).unwrap()
    }
}

/// Lengths of the runs of steps in which the same one steers, the policy's first.
fn turns(steps: &[Step]) -> Vec<usize> {
    steps.chunk_by(|a, b| a.intervention == b.intervention).map(<[Step]>::len).collect()
}

/// What was sent keeps the gate's limits through all handovers, up to the log's rounding.
fn assert_smooth(episode: &Episode, robot: &RobotConfig) {
    let dt = robot.period().as_secs_f64();
    for triple in episode.steps.windows(3) {
        if triple[2].tick - triple[0].tick != 2 {
            continue;
        }
        for (j, joint) in robot.joint.iter().enumerate() {
            let [a, b, c] = [0, 1, 2].map(|i| f64::from(triple[i].sent[j]));
            assert!((c - b).abs() <= joint.max_velocity * dt + 1e-6);
            let acceleration = (c - 2.0 * b + a) / dt / dt;
            assert!(acceleration.abs() <= joint.max_acceleration + 0.02, "{acceleration}");
        }
    }
}

#[test]
fn moving_the_leader_takes_over_in_mid_episode_and_holding_it_still_gives_it_back() {
    let daemon = Daemon::reaching();
    let before = daemon.follower.pan();
    daemon.leader.turn(-0.4);
    daemon.wait_for(Mode::Teleop);
    // Where the leader was does not matter: the arm is moved by as much, less the first few degrees.
    daemon.leader.turn(-0.4);
    daemon.wait_for(Mode::Reaching);
    // A command does the same, and is not ended by holding still.
    daemon.client().command(daemon::Command::TakeOver).unwrap();
    let held = daemon.follower.pan();
    daemon.leader.turn(0.3);
    wait_until("it follows", || daemon.follower.pan() > held + 0.2);
    pause(1500);
    daemon.wait_for(Mode::Teleop);
    daemon.client().command(daemon::Command::LetGo).unwrap();
    daemon.wait_for(Mode::Reaching);
    pause(200);
    daemon.client().command(daemon::Command::Stop).unwrap();
    let episode = daemon.episode();
    assert_eq!((episode.header.source, episode.damage), (Source::Run, None));
    let turns = turns(&episode.steps);
    assert_eq!(turns.len(), 5, "{turns:?}");
    assert!(episode.steps.iter().all(|step| step.desired_goal == episode.steps[0].desired_goal));
    assert!(episode.steps.iter().all(|s| s.intervention == (s.mode == Mode::Teleop)));
    let by_hand = episode.steps.iter().filter(|step| step.intervention);
    let furthest = by_hand.map(|step| f64::from(step.sent[0])).fold(f64::MAX, f64::min);
    assert!(furthest < before - 0.3 || furthest < -0.3, "from {before} to {furthest}");
    assert_smooth(&episode, &daemon.follower.robot);
    let policy = Disk.read(Path::new("models/reach/policy.onnx")).unwrap();
    let spec = PolicySpec::of(&Verified::from_bytes(&policy).unwrap()).unwrap();
    assert!(!trajectories(&episode, &spec).unwrap().is_empty());
    assert_eq!(corrections(&episode, &spec).unwrap().len(), 2);
}

#[test]
fn a_leader_that_is_unplugged_while_it_steers_leaves_the_arm_held_and_the_policy_waiting() {
    let mut daemon = Daemon::reaching();
    daemon.leader.turn(-0.4);
    daemon.wait_for(Mode::Teleop);
    let spare = Emulated::of(daemon.leader.robot.clone());
    drop(std::mem::replace(&mut daemon.leader, spare));
    pause(3000);
    daemon.wait_for(Mode::Teleop);
    let held = daemon.follower.pan();
    pause(500);
    assert!((daemon.follower.pan() - held).abs() < 0.02);
    daemon.client().command(daemon::Command::LetGo).unwrap();
    daemon.wait_for(Mode::Reaching);
}
