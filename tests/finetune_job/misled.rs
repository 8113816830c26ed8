//! D6: a fine-tuning that is misled, starved, killed and left without a disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use regoal::clock::ManualClock;
use regoal::cmd::simulate;
use regoal::engine::{Device, Engine, EngineError};
use regoal::episode::{Episode, Writer, WriterConfig, list};
use regoal::learn::LearnError;
use regoal::learn::finetune::FinetuneReport;
use regoal::learn::job::JobEnding;
use regoal::onnx::{Verified, splice};
use regoal::policy::store::State;
use regoal::policy::{Policy, Store};
use regoal::storage::{Disk, Storage};
use rustix::process::Signal;
use serde_json::json;

use crate::bench::{number, report, robot};
use crate::{
    DEMONSTRATIONS, base, context, disk, job, kill, names_of_engines, regoal, wait_for_epochs,
};

/// What is said where the gate was not passed.
const REFUSED: &str = "the candidate was not staged";

/// A store whose active policy is the base, and what fine-tunes it.
struct Rig {
    folder: tempfile::TempDir,
    cases: u64,
    staged: u64,
    failures: Vec<String>,
}

impl Rig {
    fn new(base: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { folder, cases: 0, staged: 0, failures: Vec::new() };
        rig.store().stage(base, "a test").unwrap();
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

    fn command(&self, name: &str, episodes: &Path, more: &[&str]) -> Command {
        let mut command = regoal();
        command.arg("finetune").arg("--store").arg(self.at("store"));
        command.arg("--out").arg(self.at(name)).arg("--episodes").arg(episodes);
        command.args(["--robot", "firmware-config/emulated.toml", "--goals", "6"]);
        command.args(["--steps", "40"]).args(more);
        command
    }

    /// Fine-tunes and judges: `says` must stand in the error, where one is expected.
    fn case(&mut self, name: &str, episodes: &Path, more: &[&str], says: Option<&str>) -> Output {
        let command = self.command(name, episodes, more);
        self.tried(name, command, says)
    }

    fn tried(&mut self, name: &str, mut command: Command, says: Option<&str>) -> Output {
        let before = self.store().state().unwrap();
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = match says {
            Some(says) => !output.status.success() && stderr.contains(says),
            None => output.status.success() || stderr.contains(REFUSED),
        };
        let found = self.judge(name, output.status.success(), &before);
        let found = found.and_then(|()| said.then_some(()).ok_or(format!("said {stderr}")));
        self.count(name, found);
        output
    }

    fn count(&mut self, name: &str, found: Result<(), String>) {
        self.cases += 1;
        self.failures.extend(found.err().map(|why| format!("{name}: {why}")));
    }

    /// What is staged has passed and was told of; all else is an error, and the store is as it was.
    fn judge(&mut self, name: &str, success: bool, before: &State) -> Result<(), String> {
        let after = self.store().state().unwrap();
        let staged = after.candidate.map(|c| c.entry.policy.to_string());
        if staged.is_some() {
            self.staged += 1;
            self.store().roll_back("a test").unwrap();
        }
        let job = job(&self.at(name));
        let result = job.result().unwrap();
        let ending = result.as_ref().map(|result| result.ending);
        match (staged, ending) {
            (Some(policy), Some(JobEnding::Staged)) if success => {
                let report: Option<FinetuneReport> = job.json("report.json").unwrap();
                let passed = report.and_then(|r| r.gate).is_some_and(|gate| gate.passed());
                let same = result.and_then(|r| r.candidate) == Some(policy);
                (passed && same).then_some(()).ok_or("staged without passing".into())
            }
            // One that is out of memory ends without a word.
            (None, Some(JobEnding::Refused | JobEnding::Failed) | None)
                if !success && after == *before =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}, success {success}")),
        }
    }

    /// However much memory there is, it is enough or is said to be too little. How often it was.
    fn too_little_memory(&mut self, episodes: &Path) -> u64 {
        let short = ["memory allocation of", "to allocate", "bad_alloc", "expected more than the"];
        let mut found = 0;
        for mib in (1..30).chain([4000]) {
            let (name, limit) = (format!("{mib} MiB of memory"), mib.to_string());
            let mut command = self.command(&name, episodes, &["--memory-mib", &limit]);
            // A backtrace takes memory, too.
            command.env("RUST_BACKTRACE", "1");
            let before = self.store().state().unwrap();
            let output = command.output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            let enough = output.status.success() || stderr.contains(REFUSED);
            let short = short.iter().any(|words| stderr.contains(words));
            found += u64::from(!enough);
            let judged = self.judge(&name, output.status.success(), &before);
            let said = (enough || short).then_some(()).ok_or(format!("said {stderr}"));
            self.count(&name, judged.and(said));
        }
        found
    }

    /// Killed while it trains, it goes on to the candidate that it would have come to.
    fn killed(&mut self, episodes: &Path) {
        self.case("never killed", episodes, &["--engine", "tract"], None);
        let before = self.store().state().unwrap();
        let more = ["--engine", "tract", "--resume"];
        let mut child = self.command("killed", episodes, &more).spawn().unwrap();
        let out = self.at("killed");
        wait_for_epochs(&out, 3, &mut child);
        kill(&child, Signal::KILL);
        let success = child.wait().unwrap().success();
        let judged = self.judge("killed", success, &before);
        self.count("killed", judged);
        self.case("killed", episodes, &more, None);
        let bits = |name: &str| job(&self.at(name)).read("policy.onnx").unwrap();
        let same = bits("killed").is_some() && bits("killed") == bits("never killed");
        self.count("killed", same.then_some(()).ok_or("other bits".into()));
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
    simulate::practise(&context(Disk), &robot(), policy, &how, folder, &|| ()).unwrap();
    let mut failed = 0;
    for episode in list(&Disk, folder).unwrap() {
        match episode.outcome.as_ref().and_then(|outcome| outcome.success) {
            Some(true) => std::fs::remove_file(&episode.path).unwrap(),
            _ => failed += 1,
        }
    }
    failed
}

/// The demonstrations with goals of which none was achieved.
fn mislabelled(folder: &Path) {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    for summary in list(&Disk, Path::new(DEMONSTRATIONS)).unwrap() {
        let episode = Episode::read(&Disk, &summary.path).unwrap();
        let config = WriterConfig::default();
        let mut writer = Writer::create(&storage, folder, episode.header, &config).unwrap();
        for mut step in episode.steps {
            step.achieved_goal.iter_mut().for_each(|x| *x = -*x);
            writer.push(&step).unwrap();
        }
        writer.finish(&episode.outcome.unwrap()).unwrap();
    }
}

/// The base with weights that are not numbers.
fn not_a_number() -> Vec<u8> {
    let mut weights = Verified::from_bytes(&base()).unwrap().parameters().unwrap();
    weights.values_mut().for_each(|tensor| tensor.data.fill(f32::NAN));
    splice(&base(), &weights).unwrap()
}

/// What a card says that is out of memory is no reason to give up, and a diverging loss is one.
fn a_full_card() -> Result<(), String> {
    let reason = "Failed to allocate memory for requested buffer of size 4294967296".into();
    let full = LearnError::from(EngineError::Run { engine: "ort", reason });
    let diverged = LearnError::Diverged { step: 1, loss: f32::NAN, lr: 1.0 };
    let right = full.is_of_the_card(Device::Cuda)
        && !full.is_of_the_card(Device::Cpu)
        && !diverged.is_of_the_card(Device::Cuda);
    right.then_some(()).ok_or("taken for something else".into())
}

/// One episode, copied: counted once, so there is none to judge by. How many copies were left out.
fn copied(rig: &mut Rig, attempts: &Path, copies: u64) -> u64 {
    let one = rig.at("one");
    std::fs::create_dir(&one).unwrap();
    let first = &list(&Disk, attempts).unwrap()[0].path;
    for i in 0..copies {
        std::fs::hard_link(first, one.join(format!("episode-{i:06}.mcap"))).unwrap();
    }
    rig.case("one episode, copied", &one, &[], Some("at least two that differ"));
    let report: Option<FinetuneReport> =
        job(&rig.at("one episode, copied")).json("report.json").unwrap();
    let left_out = report.map_or(0, |report| report.copies) as u64;
    let all = (left_out == copies - 1).then_some(());
    rig.count("copies", all.ok_or(format!("{left_out} of {copies} left out")));
    left_out
}

#[test]
fn d6_no_candidate_is_staged_that_did_not_pass() {
    let seed = number("REGOAL_SEED", 1);
    let copies = number("REGOAL_CASES", 10_000);
    let mut rig = Rig::new(&base());
    let (attempts, nothing, wrong) = (rig.at("attempts"), rig.at("nothing"), rig.at("wrong"));
    let failed = failed_attempts(&attempts, seed);
    assert!(failed > 2, "{failed} attempts failed");
    std::fs::create_dir(&nothing).unwrap();
    mislabelled(&wrong);
    rig.case("no episodes", &nothing, &[], Some("no transitions to learn from"));
    rig.case("no folder", &rig.at("missing"), &[], Some("missing"));
    rig.case("all attempts failed", &attempts, &[], None);
    rig.case("mislabelled goals", &wrong, &[], None);
    let exploding = ["--learning-rate", "1e30"];
    rig.case("a loss that explodes", &attempts, &exploding, Some("lower the learning rate"));
    rig.case("a rate much too high", &attempts, &["--learning-rate", "10"], None);
    if names_of_engines().contains(&"ort") {
        rig.case("no card", &attempts, &["--engine", "cuda"], None);
    }
    rig.count("a card out of memory", a_full_card());
    for (name, more, says) in [
        ("ort missing", [].as_slice(), None),
        ("ort asked for and missing", &["--engine", "ort"], Some("expected ONNX Runtime")),
    ] {
        let mut command = rig.command(name, &attempts, more);
        command.env("XDG_CACHE_HOME", rig.at("none")).env("HOME", rig.at("none"));
        rig.tried(name, command, says);
    }
    let none = ["--onnxruntime", "/no/such.so"];
    rig.case("a library that is not there", &attempts, &none, Some("cannot use /no/such.so"));
    let short = rig.too_little_memory(&attempts);
    rig.killed(&attempts);
    let left_out = copied(&mut rig, &attempts, copies);

    let mut not_numbers = Rig::new(&not_a_number());
    not_numbers.case("weights that are no numbers", &attempts, &[], Some("NaN"));
    let swept = disk::sweep();
    let cases = rig.cases + not_numbers.cases + swept.cases;
    let failures = [rig.failures, not_numbers.failures, swept.failures].concat();
    failures.iter().for_each(|why| eprintln!("{why}"));
    let figures = json!({
        "failed_attempts": failed, "staged": rig.staged, "copies": copies, "copies_left_out": left_out,
        "too_little_memory": short, "storage_calls": swept.calls, "staged_before_the_disk_failed": swept.staged,
    });
    report("D6", seed, cases, failures.len() as u64, figures);
    assert!(failures.is_empty() && short > 5 && rig.staged > 0);
}
