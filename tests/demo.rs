//! The program as a user meets it: the demo in small, Ctrl-C, and one robot driven by verbs.

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use regoal::clock::{Clock as _, SystemClock};
use regoal::episode::{Episode, Source, list};
use regoal::storage::Disk;
use serde_json::Value;

fn regoal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
    command.args(args);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn ok(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A process that is not left behind by a failing test.
struct Killed(Child);
impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

/// The whole circle, smaller: fewer goals, attempts and steps.
#[test]
fn the_demo_swaps_a_better_policy_in_while_the_arm_is_moving() {
    common::engines();
    let folder = tempfile::tempdir().unwrap();
    let (out, json) = (folder.path().join("demo"), folder.path().join("summary.json"));
    let small = ["--goals", "100", "--live-goals", "2", "--attempts", "160", "--steps", "3000"];
    let mut command = regoal(&["demo", "--seed", "0", "--out", text(&out), "--json", text(&json)]);
    let stdout = ok(&command.args(small).output().unwrap());
    assert!(stdout.contains("learned from its own attempts"), "{stdout}");

    let summary: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let number = |key: &str| summary[key].as_f64().unwrap_or_else(|| panic!("{key}: {summary}"));
    let (before, after) = (number("success_before"), number("success_after"));
    assert!((0.15..=0.60).contains(&before), "the shipped policy is mediocre: {summary}");
    assert!(after >= before + 0.2, "{summary}");
    assert!(after >= number("success_demos_only") + 0.1, "{summary}");
    assert_eq!(summary["swapped_while_running"], Value::Bool(true), "{summary}");
    assert_eq!(number("episodes"), 160.0 + 5.0, "{summary}");
    for stage in ["live_before", "attempts", "finetune", "swap"] {
        assert!(summary["stages"][stage].as_f64().unwrap() > 0.0, "{stage}: {summary}");
    }

    let attempts = list(&Disk, &out.join("episodes/attempts-1")).unwrap();
    assert_eq!(attempts.len(), 80);
    let failures = attempts.iter().filter(|s| s.outcome.as_ref().unwrap().success == Some(false));
    assert!(failures.count() > 20, "failures are logged too");
    let episode = Episode::read(&Disk, &attempts[0].path).unwrap();
    assert_eq!((episode.header.source, episode.damage), (Source::Attempt, None));
    for picture in ["success.svg", "success.png", "table.txt", "store/state.json"] {
        assert!(std::fs::metadata(out.join(picture)).unwrap().len() > 0, "{picture}");
    }
}

#[test]
fn ctrl_c_ends_the_demo_with_130_and_whole_episodes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("demo");
    let child = regoal(&["demo", "--engine", "tract", "--out", text(&out)])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let mut lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    // The arm is up: it is on its way to its first goals.
    lines.find(|line| line.as_ref().unwrap().contains("emulated arm")).unwrap().unwrap();
    let live = out.join("episodes/live");
    while list(&Disk, &live).map_or(0, |episodes| episodes.len()) < 2 {
        SystemClock.sleep_until(SystemClock.now() + std::time::Duration::from_millis(50));
    }
    interrupt(&child.0);
    assert_eq!(child.0.wait().unwrap().code(), Some(130));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(!rest.iter().any(|l| l.contains("panicked") || l.contains("backtrace")), "{rest:?}");
    for summary in list(&Disk, &live).unwrap() {
        let episode = Episode::read(&Disk, &summary.path).unwrap();
        assert_eq!(episode.damage, None, "{}", summary.path.display());
        assert!(episode.outcome.is_some(), "{} was not closed", summary.path.display());
    }
}

/// `emulate` in one process, `run` in another, driven by `arm`, `goal`, `status` and `stop`.
#[test]
fn a_robot_is_driven_by_the_verbs_over_a_port_of_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (port, socket, episodes) = (at("arm"), at("api.sock"), at("episodes"));
    let mut emulator =
        Killed(regoal(&["emulate", "--link", &port]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(emulator.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("/dev/pts/"), "{line}");

    let mut run = regoal(&["run", "--port", &port, "--socket", &socket, "--episodes", &episodes]);
    let run = run.args(["--policy", "models/reach/policy.onnx"]).stdout(Stdio::piped());
    let mut daemon = Killed(run.stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(daemon.0.stdout.take().unwrap());
    line.clear();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("API at"), "{line}");

    let verb = |args: &[&str]| regoal(args).args(["--socket", &socket]).output().unwrap();
    let refused = verb(&["goal", "0.1", "-0.25", "0.2", "--wait"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{why}");
    assert!(why.contains("disarmed") && why.contains("regoal arm"), "{why}");

    ok(&verb(&["arm"]));
    verb(&["goal", "0.2", "-0.2", "0.2", "--wait"]);
    let status: Value = serde_json::from_str(&ok(&verb(&["status", "--json"]))).unwrap();
    assert_eq!(status["joints"].as_array().unwrap().len(), 6, "{status}");
    ok(&verb(&["stop", "--emergency"]));
    let status = ok(&verb(&["status", "--json"]));
    assert!(status.contains("emergency_stop"), "{status}");

    interrupt(&daemon.0);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(130));
    let mut errors = String::new();
    daemon.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(!errors.contains("panicked"), "{errors}");
    let logged = list(&Disk, Path::new(&episodes)).unwrap();
    assert_eq!(logged.len(), 1);
    assert!(logged[0].outcome.is_some() && logged[0].damage.is_none());
    let shown = ok(&regoal(&["episodes", "ls", &episodes]).output().unwrap());
    assert!(shown.contains("episode-000000.mcap"), "{shown}");
}

/// The same fine-tuning in ONNX Runtime and in tract.
#[test]
fn fine_tuning_in_tract_gives_the_same_policy_as_in_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let policies = [vec![], vec!["--engine", "tract"]].map(|engine| {
        let out = folder.path().join(if engine.is_empty() { "ort" } else { "tract" });
        let demonstrations = "models/reach/demonstrations";
        let mut command = regoal(&["finetune", "--policy", "models/reach/policy.onnx"]);
        command.args(["--episodes", demonstrations, "--steps", "30", "--out", text(&out)]);
        if engine.is_empty() {
            common::onnx_runtime();
        }
        ok(&command.args(engine).output().unwrap());
        let file = std::fs::read(out.join("policy.onnx")).unwrap();
        regoal::onnx::Verified::from_bytes(&file).unwrap().parameters().unwrap()
    });
    let [ort, tract] = &policies;
    let (mut difference, mut size) = (0.0f64, 0.0f64);
    for (name, a) in ort {
        for (x, y) in a.data.iter().zip(&tract[name].data) {
            difference += f64::from(x - y).powi(2);
            size += f64::from(*x).powi(2);
        }
    }
    let relative = (difference / size).sqrt();
    println!("relative difference of the parameters after 30 steps: {relative:e}");
    assert!(relative < 1e-4, "{relative}");
}
