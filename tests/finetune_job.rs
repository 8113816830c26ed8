//! Fine-tuning as a process that may be killed, starved and misled (D6): it goes on with the same bits, and
//! nothing that did not pass its tests is ever staged.

#[path = "common/bench.rs"]
mod bench;
mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use regoal::clock::{Clock as _, ManualClock, SystemClock};
use regoal::cmd::{Context, simulate};
use regoal::engine::Engine;
use regoal::episode::{Episode, list};
use regoal::learn::finetune::{Emulated, Experience, FinetuneReport, Gate, SuccessTest, finetune};
use regoal::learn::gcbc::Gcbc;
use regoal::learn::job::{Job, JobEnding, JobState};
use regoal::policy::{Policy, PolicySpec, Store};
use regoal::rng::Stream;
use regoal::storage::Disk;
use serde_json::json;

use bench::{number, report, robot};

const BASE: &str = "models/reach/policy.onnx";
const DEMONSTRATIONS: &str = "models/reach/demonstrations";

fn regoal() -> Command {
    Command::new(env!("CARGO_BIN_EXE_regoal"))
}

fn context() -> Context {
    Context {
        storage: Arc::new(Disk),
        clock: Arc::new(SystemClock),
        interrupted: Arc::new(AtomicBool::new(false)),
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
        for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
            let out = folder.path().join(format!("{engine}-{}", signal.as_raw()));
            let mut child = tuning(&out, &more).spawn().unwrap();
            wait_for_epochs(&out, 3, &mut child);
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, signal).unwrap();
            assert!(!child.wait().unwrap().success());
            assert!(!out.join("policy.onnx").exists(), "it was too late to stop it");
            let killed = signal == rustix::process::Signal::KILL;
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

/// A store whose active policy is the base, and what fine-tunes it.
struct Rig {
    folder: tempfile::TempDir,
    cases: u64,
    failures: Vec<String>,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { folder: tempfile::tempdir().unwrap(), cases: 0, failures: Vec::new() };
        rig.store().stage(&base(), "a test").unwrap();
        rig.store().commit("a test").unwrap();
        rig
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> Store {
        let clock = Arc::new(ManualClock::default());
        Store::open(Arc::new(Disk), clock, &self.at("store")).unwrap()
    }

    /// Fine-tunes and judges: `says` must stand in the error, where one is expected.
    fn case(&mut self, name: &str, episodes: &Path, more: &[&str], says: Option<&str>) {
        self.cases += 1;
        let out = self.at(name);
        let mut command = regoal();
        command.arg("finetune").arg("--store").arg(self.at("store")).arg("--out").arg(&out);
        command.args(["--robot", "firmware-config/emulated.toml", "--goals", "6"]);
        command.args(["--steps", "20"]).arg("--episodes").arg(episodes).args(more);
        if name == "ort missing" {
            command.env("XDG_CACHE_HOME", self.at("nothing")).env("HOME", self.at("nothing"));
        }
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let found = self.judge(&out, output.status.success());
        let said = says.is_none_or(|says| !output.status.success() && stderr.contains(says));
        if let Err(why) = found.and_then(|()| said.then_some(()).ok_or(format!("said {stderr}"))) {
            self.failures.push(format!("{name}: {why}"));
        }
    }

    /// What is staged has passed and was told of; all else is an error.
    fn judge(&self, out: &Path, success: bool) -> Result<(), String> {
        let staged = self.store().state().unwrap().candidate.map(|c| c.entry.policy.to_string());
        let result = job(out).result().unwrap();
        let ending = result.as_ref().map(|result| result.ending);
        if staged.is_some() {
            self.store().roll_back("a test").unwrap();
        }
        match (staged, ending) {
            (Some(policy), Some(JobEnding::Staged)) if success => {
                let report: Option<FinetuneReport> = job(out).json("report.json").unwrap();
                let passed = report.and_then(|r| r.gate).is_some_and(|gate| gate.passed());
                let same = result.and_then(|r| r.candidate) == Some(policy);
                (passed && same).then_some(()).ok_or("staged without passing".into())
            }
            // One that is out of memory ends without a word.
            (None, Some(JobEnding::Refused | JobEnding::Failed) | None) if !success => Ok(()),
            other => Err(format!("{other:?}, success {success}")),
        }
    }
}

/// Own attempts that failed, and how many.
fn failed_attempts(folder: &Path, seed: u64) -> usize {
    let policy = Policy::load(&base(), &robot(), &Engine::tract()).unwrap();
    let how = simulate::Practice {
        attempts: 12,
        first: 0,
        seed,
        noise: 0.3,
        forget: 0.05,
        validation_every: 0,
    };
    simulate::practise(&context(), &robot(), policy, &how, folder, &|| ()).unwrap();
    let mut failed = 0;
    for episode in list(&Disk, folder).unwrap() {
        match episode.outcome.as_ref().and_then(|outcome| outcome.success) {
            Some(true) => std::fs::remove_file(&episode.path).unwrap(),
            _ => failed += 1,
        }
    }
    failed
}

/// A candidate that learned wrong goals: refused, or no worse in the emulator.
fn mislabelled(seed: u64) -> Result<(), String> {
    let spec = PolicySpec::of(&regoal::onnx::Verified::from_bytes(&base()).unwrap()).unwrap();
    let mut episodes: Vec<Episode> = list(&Disk, Path::new(DEMONSTRATIONS))
        .unwrap()
        .iter()
        .map(|summary| Episode::read(&Disk, &summary.path).unwrap())
        .collect();
    for step in episodes.iter_mut().flat_map(|episode| &mut episode.steps) {
        step.achieved_goal.iter_mut().for_each(|x| *x = -*x);
    }
    let experience = Experience::of(&episodes, &spec).unwrap().hold_out(0.2, seed).unwrap();
    let method = Gcbc { steps: 200, batch: 64, ..Gcbc::default() };
    let engine = common::best(regoal::engine::Device::Cpu);
    let (candidate, report) =
        finetune(&method, &engine, &base(), &experience, seed, &mut |_| true).unwrap();
    let tried = |file: &[u8]| {
        let policy = Policy::load(file, &robot(), &Engine::tract()).unwrap();
        let goals = (Stream::Validation, seed, 20);
        let found = simulate::evaluate(&context(), &robot(), policy, goals, &|| ()).unwrap();
        found.trials.iter().map(|trial| trial.result.success).collect::<Vec<_>>()
    };
    let test = SuccessTest::of(&tried(&base()), &tried(&candidate));
    let gate = Gate::judge(report.held_out, Emulated::Tried(test));
    eprintln!("mislabelled: {gate}");
    let no_worse =
        test.gained as f64 - test.lost as f64 >= -2.0 * ((test.gained + test.lost) as f64).sqrt();
    (!gate.passed() || no_worse).then_some(()).ok_or(gate.to_string())
}

#[test]
fn d6_no_candidate_is_staged_that_did_not_pass() {
    let seed = number("REGOAL_SEED", 1);
    let copies = number("REGOAL_CASES", 10_000);
    let mut rig = Rig::new();
    let attempts = rig.at("attempts");
    let failed = failed_attempts(&attempts, seed);
    assert!(failed > 2, "{failed} attempts failed");
    let nothing = rig.at("nothing");
    std::fs::create_dir(&nothing).unwrap();
    rig.case("no episodes", &nothing, &[], Some("no transitions to learn from"));
    rig.case("no folder", &rig.at("missing"), &[], Some("missing"));
    rig.case("all attempts failed", &attempts, &[], None);
    rig.case("a loss that explodes", &attempts, &["--learning-rate", "1e9"], Some(""));
    rig.case("no card", &attempts, &["--engine", "cuda"], None);
    rig.case("ort missing", &attempts, &[], None);
    let none = ["--onnxruntime", "/no/such.so"];
    rig.case("a library that is not there", &attempts, &none, Some("cannot use /no/such.so"));
    rig.case("too little memory", &attempts, &["--memory-mib", "1"], Some(""));

    let one = rig.at("one");
    std::fs::create_dir(&one).unwrap();
    let first = &list(&Disk, &attempts).unwrap()[0].path;
    for i in 0..copies {
        std::fs::hard_link(first, one.join(format!("episode-{i:06}.mcap"))).unwrap();
    }
    rig.case("one episode, copied", &one, &[], Some("at least two that differ"));
    let report_of: Option<FinetuneReport> =
        job(&rig.at("one episode, copied")).json("report.json").unwrap();
    let left_out = report_of.map_or(0, |report| report.copies);
    if left_out as u64 != copies - 1 {
        rig.failures.push(format!("{left_out} of {copies} copies left out"));
    }
    rig.cases += 1;
    if let Err(why) = mislabelled(seed) {
        rig.failures.push(format!("mislabelled goals: {why}"));
    }
    rig.failures.iter().for_each(|why| eprintln!("{why}"));
    let figures =
        json!({ "failed_attempts": failed, "copies": copies, "copies_left_out": left_out });
    report("D6", seed, rig.cases, rig.failures.len() as u64, figures);
    assert!(rig.failures.is_empty());
}
