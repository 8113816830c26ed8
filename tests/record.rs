//! `regoal record` as a user meets it: over pseudo terminals, with words on standard input.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use regoal::episode::{Episode, Mode, Source, Summary, list};
use regoal::onnx::Verified;
use regoal::policy::PolicySpec;
use regoal::storage::{Disk, Storage as _};
use serde_json::Value;

const ROBOT: &str = "firmware-config/emulated.toml";

/// The emulated arm, patient with a busy computer.
fn patient(folder: &Path) -> PathBuf {
    let text = Disk.read(Path::new(ROBOT)).unwrap();
    let text = String::from_utf8(text).unwrap();
    let slow =
        "[control]\nhold_after_ticks = 100\nfault_after_ticks = 1000\nteleop_timeout_s = 5.0";
    let path = folder.join("robot.toml");
    Disk.replace(&path, text.replace("[control]", slow).as_bytes()).unwrap();
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
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["record", "--headless", "--json", "--robot"]).arg(patient(folder.path()));
        command
            .arg("--episodes")
            .arg(folder.path())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
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
        panic!("no event with {key} = {value} in {seen:?}")
    }

    fn state(&mut self, state: &str) -> Value {
        self.wait_for("state", state)
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
