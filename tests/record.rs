//! `regoal record` as a user meets it: over pseudo terminals, with words on standard input.

#[path = "common/patience.rs"]
mod patience;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use patience::NEVER_HUNG;
use regoal::clock::{Clock as _, SystemClock};
use regoal::config::RobotConfig;
use regoal::episode::{Episode, Mode, Source, Step, Summary, list};
use regoal::hal::servo::feetech::TORQUE_ENABLE;
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use regoal::joints::JointVec;
use regoal::onnx::Verified;
use regoal::policy::PolicySpec;
use regoal::storage::{Disk, Storage as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const ROBOT: &str = "firmware-config/emulated.toml";

/// The emulated arm, patient with a busy computer.
fn patient(folder: &Path) -> PathBuf {
    let path = folder.join("robot.toml");
    let text = std::fs::read_to_string(ROBOT).unwrap();
    Disk.replace(&path, patience::patient(&text, NEVER_HUNG).as_bytes()).unwrap();
    path
}

/// A session that is told words and waited for.
struct Recording {
    child: Child,
    words: Option<ChildStdin>,
    events: BufReader<ChildStdout>,
    /// The episodes, and the robot.
    folder: tempfile::TempDir,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Recording {
    fn start(args: &[&str]) -> Self {
        Self::with("", args)
    }

    /// With more lines in the configuration's `[control]`.
    fn with(control: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let robot = patient(folder.path());
        let text = String::from_utf8(Disk.read(&robot).unwrap()).unwrap();
        let text = text.replace("[control]", &format!("[control]\n{control}"));
        Disk.replace(&robot, text.as_bytes()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["record", "--headless", "--json", "--robot"]).arg(robot);
        command
            .arg("--episodes")
            .arg(folder.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let words = child.stdin.take();
        let events = BufReader::new(child.stdout.take().unwrap());
        Self { child, words, events, folder }
    }

    fn say(&mut self, word: &str) {
        writeln!(self.words.as_mut().unwrap(), "{word}").unwrap();
    }

    /// Reads events until one has this value under this key.
    fn wait_for(&mut self, key: &str, value: &str) -> Value {
        let mut seen = Vec::new();
        for line in self.events.by_ref().lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event[key].as_str().is_some_and(|found| found.contains(value)) {
                return event;
            }
            let fault = event["text"].as_str().filter(|text| text.contains("stopped by"));
            let fault = fault.filter(|text| !text.contains("emergency stop"));
            assert_eq!(fault, None, "{seen:?}");
            seen.push(event);
        }
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        panic!("no event with {key} = {value} in {seen:?}: {said}")
    }

    fn state(&mut self, state: &str) -> Value {
        self.wait_for("state", state)
    }

    /// One episode until its time is up, kept as a success; the recording is over then.
    fn one_whole(&mut self) {
        self.say("start");
        self.wait_for("text", "the time is up");
        self.say("success");
        self.wait_for("event", "saved");
        self.say("quit");
        self.state("finished");
        self.end();
    }

    fn end(&mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    fn episodes(&self) -> Vec<Summary> {
        list(&Disk, self.folder.path()).unwrap()
    }
}

#[test]
fn a_script_records_demonstrations_that_can_be_learned_from() {
    let mut recording = Recording::start(&["--scripted", "--count", "2", "--task", "reach"]);
    drop(recording.words.take());
    assert_eq!(recording.state("finished")["kept"], 2);
    recording.end();
    let summaries = recording.episodes();
    assert_eq!(summaries.len(), 2);
    let mut episodes = Vec::new();
    for summary in &summaries {
        let episode = Episode::read(&Disk, &summary.path).unwrap();
        assert_eq!((episode.header.source, episode.damage), (Source::Demonstration, None));
        assert_eq!(episode.header.task, "reach");
        assert_eq!(episode.outcome.as_ref().unwrap().success, Some(true));
        assert!(episode.steps.iter().all(|s| s.mode == Mode::Teleop && s.intervention));
        episodes.push(episode);
    }
    assert_ne!(episodes[0].goal(), episodes[1].goal());
    let policy = Disk.read(Path::new("models/reach/policy.onnx")).unwrap();
    let spec = PolicySpec::of(&Verified::from_bytes(&policy).unwrap()).unwrap();
    for episode in &episodes {
        assert!(!regoal::learn::dataset::trajectories(episode, &spec).unwrap().is_empty());
    }
}

#[test]
fn an_operator_keeps_repeats_undoes_stops_and_quits() {
    let mut recording = Recording::start(&["--leader", ROBOT, "--count", "9"]);
    recording.say("nonsense");
    recording.wait_for("text", "expected one of arm start");
    recording.say("arm");
    recording.state("armed");
    recording.say("start");
    recording.state("recording");
    recording.say("again");
    recording.wait_for("event", "removed");
    recording.state("armed");
    recording.say("start");
    recording.state("recording");
    recording.say("mark");
    recording.wait_for("text", "goal marked");
    recording.say("stop");
    recording.state("review");
    recording.say("success");
    recording.wait_for("event", "saved");
    assert_eq!(recording.state("armed")["kept"], 1);
    recording.say("start");
    recording.state("recording");
    recording.say("failure");
    recording.wait_for("event", "saved");
    assert_eq!(recording.state("armed")["kept"], 2);
    recording.say("undo");
    recording.wait_for("event", "removed");
    recording.say("start");
    recording.state("recording");
    recording.say("estop");
    assert_eq!(recording.state("idle")["kept"], 2);
    recording.wait_for("text", "emergency stop");
    recording.say("arm");
    recording.state("armed");
    recording.say("quit");
    recording.state("finished");
    recording.end();
    let summaries = recording.episodes();
    let ends: Vec<_> = summaries.iter().map(|summary| summary.outcome.clone().unwrap()).collect();
    let ends: Vec<_> = ends.iter().map(|end| (end.success, end.reason.as_str())).collect();
    let expected = [(Some(true), "ended by the operator"), (None, "stopped by a fault")];
    assert_eq!(ends, expected);
    assert!(summaries.iter().all(|summary| summary.damage.is_none()));
    // Whether the goal was marked or told in hindsight: it is known at the end.
    for summary in &summaries {
        let episode = Episode::read(&Disk, &summary.path).unwrap();
        assert_eq!(episode.steps.last().unwrap().desired_goal.len(), 3);
    }
}

#[test]
fn nothing_begins_with_an_arm_that_is_not_calibrated_or_a_goal_of_another_space() {
    let refusal = |args: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["record", "--headless", "--scripted", "--episodes"]).arg(folder.path());
        let output = command.args(args).stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        assert!(list(&Disk, folder.path()).unwrap_or_default().is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let uncalibrated = refusal(&["--robot", "firmware-config/so101-follower.toml"]);
    assert!(uncalibrated.contains("regoal robot calibrate --robot"), "{uncalibrated}");
    let goal = refusal(&["--robot", ROBOT, "--goal", "0.1", "0.2"]);
    assert!(
        goal.contains("expected 3 numbers") && goal.contains("end_effector_position"),
        "{goal}"
    );
    assert!(refusal(&["--robot", ROBOT, "--leader", ROBOT]).contains("cannot be used with"));
}

/// What a program says on its first line: the port of an emulated arm.
struct Emulated(Child, String);

impl Drop for Emulated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Emulated {
    fn start(robot: &str, script: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["emulate", robot, "--pty", "--move", script]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self(child, port.trim().to_owned())
    }
}

/// The largest way of any joint in an episode (rad), of what `of` takes from a step.
fn way(episode: &Episode, of: impl Fn(&Step) -> &JointVec<f32>) -> f32 {
    let range = |joint: usize| {
        let along = episode.steps.iter().map(|step| of(step)[joint]);
        along.clone().fold(f32::MIN, f32::max) - along.fold(f32::MAX, f32::min)
    };
    (0..of(&episode.steps[0]).len()).map(range).fold(0.0, f32::max)
}

#[test]
fn a_leader_that_a_hand_moves_is_followed_and_recorded() {
    const LEADER: &str = "firmware-config/so101-leader.toml";
    let leader = Emulated::start(LEADER, "sine");
    let arguments = ["--leader", LEADER, "--leader-port", &leader.1, "--episode-time", "4"];
    let mut recording = Recording::start(&arguments);
    recording.say("arm");
    recording.state("armed");
    recording.one_whole();
    let episode = Episode::read(&Disk, &recording.episodes()[0].path).unwrap();
    assert_eq!((episode.header.source, episode.damage), (Source::Demonstration, None));
    assert_eq!(episode.outcome.as_ref().unwrap().success, Some(true));
    let (led, sent) = (way(&episode, |step| &step.action), way(&episode, |step| &step.sent));
    assert!(led > 0.1 && sent > 0.1, "led by {led} rad, sent by {sent} rad");
    assert!(episode.steps.iter().all(|step| step.intervention && step.mode == Mode::Teleop));
}

#[test]
fn an_arm_that_is_led_by_hand_shows_what_was_measured() {
    for damped in [false, true] {
        let arm = Emulated::start(ROBOT, "sine");
        let mut arguments = vec!["--kinesthetic", "--port", &arm.1, "--uncalibrated"];
        arguments.extend(["--episode-time", "4"]);
        arguments.extend(damped.then_some("--damped"));
        let mut recording = Recording::start(&arguments);
        recording.say("arm");
        recording.wait_for("text", "hold the arm");
        recording.say("start");
        recording.state("armed");
        recording.one_whole();
        let episode = Episode::read(&Disk, &recording.episodes()[0].path).unwrap();
        assert!(episode.steps.iter().all(|s| s.sent.is_empty() && s.action == s.position));
        let led = way(&episode, |step| &step.action);
        assert!(led > 0.1, "damped: {damped}, led by {led} rad");
    }
}

#[test]
fn a_hot_arm_and_one_that_cannot_brake_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = patient(folder.path());
    // It cools down meanwhile, however long a busy computer takes.
    let text = String::from_utf8(Disk.read(&path).unwrap()).unwrap();
    let text = text.replace("[safety]", "[safety]\nwarn_temperature = 35.0");
    Disk.replace(&path, text.as_bytes()).unwrap();
    let robot = RobotConfig::load(&Disk, &path).unwrap();
    let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
    {
        let mut emulator = emulator.lock().unwrap();
        // Else it cools down in the time before now.
        emulator.advance(SystemClock.now());
        emulator.servo(3).unwrap().heat(58.0);
    }
    let faults = FaultSpec::default();
    let server = PtyServer::start(emulator, &faults, Arc::new(SystemClock)).unwrap();
    let port = server.path().display().to_string();
    let refusal = |robot: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args([
            "record",
            "--headless",
            "--uncalibrated",
            "--count",
            "1",
            "--port",
            &port,
            "--robot",
        ]);
        command.arg(robot).arg("--episodes").arg(folder.path().join("episodes"));
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stderr).unwrap()
    };
    let hot = refusal(&path, &["--scripted"]);
    assert!(hot.contains("`elbow_flex` has") && hot.contains("let it cool below 35"), "{hot}");
    let koch = Path::new("firmware-config/koch-follower.toml");
    let brakeless = refusal(koch, &["--kinesthetic", "--damped"]);
    assert!(brakeless.contains("leave it out, and hold the arm"), "{brakeless}");
}

#[test]
fn an_arm_whose_recording_is_killed_is_held_and_what_was_recorded_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let robot = RobotConfig::load(&Disk, &patient(folder.path())).unwrap();
    let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
    let faults = FaultSpec::default();
    let server = PtyServer::start(emulator.clone(), &faults, Arc::new(SystemClock)).unwrap();
    let port = server.path().display().to_string();
    let arguments = ["--scripted", "--uncalibrated", "--port", &port];
    let mut recording = Recording::start(&arguments);
    recording.wait_for("event", "saved");
    recording.state("recording");
    let id = recording.child.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let control = children.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(control).unwrap(), Signal::KILL).unwrap();
    assert!(!recording.child.wait().unwrap().success());
    let mut said = String::new();
    recording.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("DIED of signal 9") && said.contains("hold where they are"), "{said}");
    let mut emulator = emulator.lock().unwrap();
    for joint in &robot.joint {
        let servo = emulator.servo(joint.id).unwrap();
        assert_eq!(servo.get(&TORQUE_ENABLE), 1, "{} holds", joint.name);
    }
    let episodes = recording.episodes();
    assert!(episodes[0].outcome.is_some() && episodes[0].damage.is_none());
}

#[test]
fn demonstrations_of_an_object_need_somebody_who_tells_where_it_is() {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("api");
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(arguments).arg("--socket").arg(&socket).output().unwrap()
    };
    // What was told is known for long, as a busy computer is slow.
    let control = "goal_space = \"object_position\"\nstream_timeout_s = 60.0";
    let arguments = ["--leader", ROBOT, "--socket", socket.to_str().unwrap()];
    let mut recording = Recording::with(control, &arguments);
    recording.say("arm");
    recording.state("armed");
    recording.say("start");
    recording.wait_for("text", "send its position first");
    assert!(ask(&["object", "0.1", "-0.25", "0.02", "--once"]).status.success());
    recording.say("start");
    recording.state("recording");
    let refused = ask(&["goal", "0.1", "-0.2", "0.02"]);
    let why = String::from_utf8(refused.stderr).unwrap();
    assert!(why.contains("`regoal record` has the arm"), "{why}");
    recording.say("success");
    recording.wait_for("event", "saved");
    assert!(ask(&["stop", "--emergency"]).status.success());
    recording.wait_for("text", "emergency stop");
    recording.say("quit");
    recording.state("finished");
    recording.end();
    let episode = Episode::read(&Disk, &recording.episodes()[0].path).unwrap();
    let places = episode.steps.iter().map(|step| step.achieved_goal.to_vec());
    assert!(places.clone().count() > 0 && places.clone().all(|at| at == [0.1, -0.25, 0.02]));
}
