//! Fine-tunings that a running robot does beside its work: when somebody asks, and after every so many
//! episodes.

#[path = "common/processes.rs"]
mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use regoal::clock::SystemClock;
use regoal::config::FinetuneConfig;
use regoal::daemon::{Client, Goal, JobReport, JobRequest, JobSettings, Jobs, JobsError};
use regoal::episode::{Mode, PolicyId};
use regoal::learn::job::{JobEnding, JobState, Phase};
use regoal::onnx::Graph;
use regoal::policy::Store;
use regoal::storage::{Disk, Storage as _};

use processes::patience::{NEVER_HUNG, patient};
use processes::{FEETECH, Rig, pause};

const BASE: &str = "models/reach/policy.onnx";
const DEMONSTRATIONS: &str = "models/reach/demonstrations";
/// Looks at a job, one every 10 ms: it runs when nothing else wants to.
const LOOKS: usize = 60_000;

/// Looks until it is so.
#[track_caller]
fn seen<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = (0..LOOKS).find_map(|_| {
        pause(10);
        look()
    });
    found.unwrap_or_else(|| panic!("never seen: {what}"))
}

/// A store with this active policy.
fn store(folder: &Path, active: &[u8]) -> Store {
    let store = Store::open(Arc::new(Disk), Arc::new(SystemClock), folder).unwrap();
    store.stage(active, "a test").unwrap();
    store.commit("a test").unwrap();
    store
}

fn base() -> Vec<u8> {
    Disk.read(Path::new(BASE)).unwrap()
}

/// The base with its last bias so far off that it reaches nothing and every fine-tuning betters it,
/// whatever episode of a busy computer's uneven ticks it is judged by.
fn worse() -> Vec<u8> {
    let graph = Graph::from_bytes(&base()).unwrap();
    let mut bias = graph.parameters().unwrap().remove("layer2.bias").unwrap();
    bias.data.iter_mut().for_each(|number| *number += 6.0);
    let worse = BTreeMap::from([("layer2.bias".to_owned(), bias)]);
    graph.with_parameters(&worse).unwrap().to_bytes()
}

fn jobs(folder: &Path, program: &Path) -> Jobs {
    let settings = JobSettings {
        config: FinetuneConfig { goals: 2, ..FinetuneConfig::default() },
        robot: "firmware-config/emulated.toml".into(),
        store: folder.join("store"),
        episodes: DEMONSTRATIONS.into(),
    };
    Jobs::open(Arc::new(Disk), settings, program).unwrap()
}

fn ended(jobs: &Jobs, id: u64) -> JobReport {
    let report = || Some(jobs.report(id).unwrap()).filter(|r| r.state != JobState::Running);
    seen("its end", report)
}

fn steps(steps: usize) -> JobRequest {
    JobRequest { steps: Some(steps) }
}

#[test]
fn one_job_at_a_time_is_started_cancelled_resumed_and_told_of_by_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("store"), &base());
    let program = PathBuf::from(env!("CARGO_BIN_EXE_regoal"));
    let first = jobs(folder.path(), &program);
    assert!(first.newest().unwrap().is_empty());
    assert!(matches!(first.report(1), Err(JobsError::Unknown { id: 1 })));
    assert!(matches!(first.start(steps(0)), Err(JobsError::Steps { found: 0 })));
    let id = first.start(steps(1_000_000)).unwrap();
    assert!(matches!(first.start(steps(20)), Err(JobsError::Running { id: 1 })));
    assert!(matches!(first.resume(id), Err(JobsError::Running { id: 1 })));
    seen("its training", || {
        let JobReport { state, progress, result, .. } = first.report(id).unwrap();
        assert_eq!((state, result), (JobState::Running, None));
        progress.last().filter(|line| line.phase == Phase::Training).copied()
    });
    assert!(first.next_ended().unwrap().is_none());
    // Another daemon finds what this one left, at work as it is.
    let second = jobs(folder.path(), &program);
    assert_eq!(second.newest().unwrap()[0].state, JobState::Running);
    assert!(matches!(second.start(steps(20)), Err(JobsError::Running { id: 1 })));
    second.cancel(id).unwrap();
    let cancelled = ended(&first, id);
    assert_eq!(cancelled.result.unwrap().ending, JobEnding::Cancelled);
    assert!(matches!(second.cancel(id), Err(JobsError::NotRunning { id: 1 })));
    for jobs in [&first, &second] {
        assert_eq!(jobs.next_ended().unwrap().map(|report| report.id), Some(id));
        assert!(jobs.next_ended().unwrap().is_none() && !jobs.is_busy());
    }
    first.resume(id).unwrap();
    // It may not have told its number yet.
    first.cancel(id).unwrap();
    let again = ended(&first, id);
    assert!(again.cancelled);

    let id = first.start(steps(20)).unwrap();
    let report = ended(&first, id);
    assert!(report.progress.len() > 20, "{:?}", report.progress);
    let ending = report.result.unwrap();
    let candidate = store.state().unwrap().candidate.map(|c| c.entry.policy.to_string());
    let staged = ending.candidate.filter(|_| ending.ending == JobEnding::Staged);
    assert_eq!(candidate, staged, "{}", ending.why);
    assert!(matches!(first.resume(id), Err(JobsError::Ended { id: 2 })));
    let newest = first.newest().unwrap();
    assert_eq!(newest.iter().map(|r| (r.id, r.progress.len())).collect::<Vec<_>>()[0], (2, 1));
    assert_eq!(newest.len(), 2);

    // One at work is found, however many were started after it.
    first.resume(1).unwrap();
    seen("that it is at work", || {
        let report = second.report(1).unwrap();
        (report.state == JobState::Running).then_some(())
    });
    let third = jobs(folder.path(), &program);
    assert!(matches!(third.start(steps(20)), Err(JobsError::Running { id: 1 })));
    // It may not have told its number yet.
    seen("that it can be cancelled", || third.cancel(1).ok());
    ended(&third, 1);
}

#[test]
fn a_job_whose_process_cannot_be_started_or_dies_at_once_leaves_the_way_free() {
    let folder = tempfile::tempdir().unwrap();
    let none = jobs(folder.path(), &folder.path().join("nothing"));
    assert!(matches!(none.start(steps(20)), Err(JobsError::Folder(_))));
    assert!(!none.is_busy());
    let dies = jobs(folder.path(), Path::new("/bin/false"));
    let id = dies.start(steps(20)).unwrap();
    let report = ended(&dies, id);
    assert_eq!((report.state, report.result), (JobState::Interrupted, None));
    dies.go_on(id).unwrap();
    assert_eq!(ended(&dies, id).starts, 2);
    dies.resume(id).unwrap();
    assert_eq!(ended(&dies, id).starts, 1, "a start that a person wants is no crash");
    assert_eq!(dies.start(steps(20)).unwrap(), id + 1);
}

#[test]
fn only_the_newest_few_jobs_keep_their_large_files() {
    let folder = tempfile::tempdir().unwrap();
    let dies = jobs(folder.path(), Path::new("/bin/false"));
    let path = |id, name: &str| folder.path().join(format!("store/jobs/{id:06}/{name}"));
    let large = ["base.onnx", "experience.bin", "checkpoint.bin", "policy.onnx"];
    for id in 1..=7 {
        assert_eq!(dies.start(steps(20)).unwrap(), id);
        ended(&dies, id);
        for name in large.iter().chain(&["report.json"]) {
            Disk.replace(&path(id, name), b"of a job").unwrap();
        }
    }
    for name in large {
        let kept: Vec<u64> = (1..=7).filter(|id| Disk.read(&path(*id, name)).is_ok()).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7], "{name}");
    }
    assert!((1..=7).all(|id| Disk.read(&path(id, "report.json")).is_ok()));
    assert_eq!(dies.newest().unwrap().len(), 7);
}

#[test]
fn a_job_that_could_not_go_on_is_told_of_again() {
    let folder = tempfile::tempdir().unwrap();
    let dies = jobs(folder.path(), Path::new("/bin/false"));
    let id = dies.start(steps(20)).unwrap();
    ended(&dies, id);
    let none = jobs(folder.path(), &folder.path().join("nothing"));
    for _ in 0..2 {
        assert_eq!(none.next_ended().unwrap().map(|report| report.id), Some(id));
        assert!(none.next_ended().unwrap().is_none() && !none.is_busy());
        assert!(matches!(none.go_on(id), Err(JobsError::Folder(_))));
    }
    assert!(none.is_busy());
}

/// A robot at work, and its store.
struct Robot {
    rig: Rig,
    client: Client,
    store: Store,
    base: PolicyId,
    _folder: tempfile::TempDir,
}

impl Robot {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let store = store(&path, &worse());
        let base = store.state().unwrap().active.unwrap().policy;
        let demonstrations = std::fs::canonicalize(DEMONSTRATIONS).unwrap();
        let finetune = format!(
            "[finetune]\nevery = 2\nsteps = 600\ngoals = 4\ndemonstrations = [{demonstrations:?}]\n\n"
        );
        let text = FEETECH.replacen("[[joint]]", &format!("{finetune}[[joint]]"), 1);
        let mut rig = Rig::found(&patient(&text, NEVER_HUNG), 0, |run| {
            run.arg("--arm").arg("--store").arg(&path)
        });
        rig.wait_for_api();
        let client = Client::new(rig.socket());
        Self { rig, client, store, base, _folder: folder }
    }

    /// Reaches for a goal, this way or that.
    fn reach(&self, side: f32) {
        let goal = vec![side, -0.2, 0.15];
        let goal = Goal { goal, wait: true, timeout_s: Some(1.0), ..Goal::default() };
        self.client.reach(&goal).unwrap();
    }

    /// Waits for a job's end, while nothing else happens.
    fn ended(&self, id: u64) -> JobReport {
        let report = seen("the job's end", || {
            let report = self.client.job(id).ok()?;
            (report.state != JobState::Running).then_some(report)
        });
        assert_eq!(self.rig.status().unwrap().mode, Mode::Holding);
        report
    }

    /// What `regoal finetune` on another computer makes it learn; none while it learns already.
    fn asked(&self, steps: usize) -> Option<JobReport> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["finetune", "--json", "--steps"]).arg(steps.to_string());
        let output = command.arg("--socket").arg(self.rig.socket()).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }
}

#[test]
fn a_robot_learns_after_every_few_episodes_and_when_asked_and_tries_what_passed() {
    let robot = Robot::start();
    robot.reach(0.1);
    robot.reach(-0.1);
    seen("a job", || robot.client.jobs().ok()?.pop());
    let result = robot.ended(1).result.unwrap();
    assert_eq!(robot.client.job(1).unwrap().episodes, 2, "one episode is too few");
    assert_eq!(result.ending, JobEnding::Staged, "{}", result.why);
    let candidate = result.candidate.unwrap();
    let steers = || robot.client.policies().ok()?.steering;
    seen("its trial", || steers().filter(|policy| *policy == candidate));
    let state = robot.store.state().unwrap();
    let trial = state.candidate.map(|tried| (tried.entry.policy.to_string(), tried.starts));
    assert_eq!(trial, Some((candidate, 1)));
    assert_eq!(state.active.map(|active| active.policy), Some(robot.base));

    // What somebody asks for is a job like another.
    let report = seen("that nothing is at work", || robot.asked(20));
    assert_eq!(robot.ended(report.id), report);
}
