//! Fine-tuning as a process that may be killed, starved and misled (D6): it goes on with the same bits, and
//! nothing that did not pass its tests is ever staged.

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod misled;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock};
use regoal::cmd::Context;
use regoal::learn::job::{Job, JobEnding, JobState};
use regoal::storage::{Disk, Storage};
use rustix::process::{Pid, Signal};

const BASE: &str = "models/reach/policy.onnx";
const DEMONSTRATIONS: &str = "models/reach/demonstrations";

fn regoal() -> Command {
    Command::new(env!("CARGO_BIN_EXE_regoal"))
}

fn context(storage: impl Storage + 'static) -> Context {
    Context {
        storage: Arc::new(storage),
        clock: Arc::new(SystemClock),
        interrupted: Arc::new(AtomicBool::new(false)),
        program: env!("CARGO_BIN_EXE_regoal").into(),
    }
}

fn base() -> Vec<u8> {
    std::fs::read(BASE).unwrap()
}

fn job(folder: &Path) -> Job {
    Job::new(Arc::new(Disk), folder)
}

/// A `regoal finetune` of the demonstrations, of 40 steps.
fn tuning(out: &Path, more: &[&str]) -> Command {
    let mut command = regoal();
    command.args(["finetune", "--policy", BASE, "--episodes", DEMONSTRATIONS, "--steps", "40"]);
    command.arg("--out").arg(out).args(more).stderr(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn kill(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

fn ok(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
}

/// Waits until a job has noted so many epochs.
fn wait_for_epochs(out: &Path, epochs: usize, child: &mut Child) {
    let trained = || {
        let lines = job(out).progress().unwrap();
        lines.iter().filter(|line| line.loss.is_some()).count()
    };
    while trained() < epochs {
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(1));
    }
}

fn names_of_engines() -> Vec<&'static str> {
    common::engines();
    let tract_only = std::env::var_os("REGOAL_TRACT_ONLY").is_some();
    if tract_only { vec!["tract"] } else { vec!["tract", "ort"] }
}

#[test]
fn what_was_killed_or_stopped_goes_on_to_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    for engine in names_of_engines() {
        let more = ["--engine", engine, "--seed", "3"];
        let whole = folder.path().join(format!("{engine}-whole"));
        ok(&tuning(&whole, &more).output().unwrap());
        for signal in [Signal::KILL, Signal::TERM] {
            let out = folder.path().join(format!("{engine}-{}", signal.as_raw()));
            let mut child = tuning(&out, &more).spawn().unwrap();
            wait_for_epochs(&out, 3, &mut child);
            kill(&child, signal);
            assert!(!child.wait().unwrap().success());
            assert!(!out.join("policy.onnx").exists(), "it was too late to stop it");
            let killed = signal == Signal::KILL;
            let (state, result) = (job(&out).state().unwrap(), job(&out).result().unwrap());
            match killed {
                true => assert_eq!((state, result), (JobState::Interrupted, None)),
                false => assert_eq!(result.unwrap().ending, JobEnding::Cancelled),
            }
            let resumed = tuning(&out, &more).arg("--resume").output().unwrap();
            ok(&resumed);
            assert!(String::from_utf8_lossy(&resumed.stderr).contains("going on after step"));
            let read = |of: &Path, name: &str| std::fs::read(of.join(name)).unwrap();
            for name in ["policy.onnx", "losses.csv", "report.json"] {
                assert_eq!(read(&out, name), read(&whole, name), "{engine}, {signal:?}: {name}");
            }
        }
    }
}

#[test]
fn a_checkpoint_of_another_training_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("job");
    let mut child = tuning(&out, &["--engine", "tract"]).spawn().unwrap();
    wait_for_epochs(&out, 1, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let other = ["--engine", "tract", "--resume", "--seed", "1"];
    let refused = tuning(&out, &other).output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("without --resume"), "{why}");
}
