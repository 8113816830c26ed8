//! A fine-tuning whose disk fails at any one call.

use std::path::Path;
use std::sync::Arc;

use clap::Parser;
use regoal::clock::ManualClock;
use regoal::cmd::finetune;
use regoal::episode::list;
use regoal::learn::finetune::FinetuneReport;
use regoal::learn::job::Job;
use regoal::policy::Store;
use regoal::storage::{Disk, Failure, Memory, Storage as _};

use crate::{DEMONSTRATIONS, base, context};

/// Demonstrations that are learned from.
const EPISODES: usize = 4;

/// What came of it.
#[derive(Default)]
pub struct Swept {
    /// Calls that change something in one fine-tuning.
    pub calls: u64,
    pub cases: u64,
    /// Cases in which the disk failed so late that the candidate had passed and was staged.
    pub staged: u64,
    pub failures: Vec<String>,
}

#[derive(Parser)]
struct Finetune {
    #[command(flatten)]
    args: finetune::Args,
}

fn tune(disk: &Memory, more: &[&str]) -> anyhow::Result<()> {
    let words = ["finetune", "--store", "store", "--episodes", "episodes", "--out", "job"];
    // So little that the candidate passes: it is hardly another policy.
    let little = ["--engine", "tract", "--steps", "2", "--learning-rate", "1e-7"];
    let words = words.iter().chain(&little).chain(more);
    finetune::run(&Finetune::parse_from(words).args, &context(disk.clone()))
}

fn store(disk: &Memory) -> Store {
    let clock = Arc::new(ManualClock::default());
    Store::open(Arc::new(disk.clone()), clock, Path::new("store")).unwrap()
}

/// A disk with some episodes and a store.
fn begun() -> Memory {
    let disk = Memory::default();
    for episode in list(&Disk, Path::new(DEMONSTRATIONS)).unwrap().iter().take(EPISODES) {
        let path = Path::new("episodes").join(episode.path.file_name().unwrap());
        disk.replace(&path, &Disk.read(&episode.path).unwrap()).unwrap();
    }
    store(&disk).stage(&base(), "a test").unwrap();
    store(&disk).commit("a test").unwrap();
    disk
}

fn copy(disk: &Memory) -> Memory {
    disk.after_power_cut(&mut |n| n - 1)
}

/// What is staged, which must have passed.
fn staged(disk: &Memory) -> Result<Option<String>, String> {
    let state = store(disk).state().unwrap();
    let Some(candidate) = state.candidate else { return Ok(None) };
    let id = candidate.entry.policy.to_string();
    let job = Job::new(Arc::new(disk.clone()), Path::new("job"));
    let report: Option<FinetuneReport> = job.json("report.json").unwrap();
    let report = report.filter(|report| report.candidate == id);
    let passed = report.and_then(|report| report.gate).is_some_and(|gate| gate.passed());
    passed.then_some(Some(id)).ok_or("staged without passing".into())
}

/// Whether it was staged although the disk failed.
fn fails(begun: &Memory, candidate: &str, at: u64, failure: Failure) -> Result<bool, String> {
    let disk = copy(begun);
    disk.fail(at, failure);
    let end = tune(&disk, &[]).map_err(|error| format!("{error:#}"));
    let early = match (&end, staged(&disk)?) {
        (Err(why), None) if why.contains("injected EIO") || why.contains("no storage space") => {
            false
        }
        (_, Some(staged)) if staged == candidate => true,
        other => return Err(format!("{other:?}")),
    };
    let active = store(&disk).active().map_err(|error| error.to_string())?;
    if active != base() {
        return Err("another policy is active".into());
    }
    // There is room again.
    disk.fail(u64::MAX / 2, Failure::Once);
    tune(&disk, &["--resume"]).map_err(|error| format!("resumed: {error:#}"))?;
    match staged(&disk)? {
        Some(staged) if staged == candidate => Ok(early),
        other => Err(format!("resumed to {other:?}, not to {candidate}")),
    }
}

/// Lets each call fail once, and lets the disk be full from each on.
pub fn sweep() -> Swept {
    let begun = begun();
    let whole = copy(&begun);
    tune(&whole, &[]).unwrap();
    let candidate = staged(&whole).unwrap().unwrap();
    let mut swept = Swept { calls: whole.calls(), ..Swept::default() };
    for failure in [Failure::Full, Failure::Once] {
        for at in 1..=swept.calls {
            swept.cases += 1;
            match fails(&begun, &candidate, at, failure) {
                Ok(staged) => swept.staged += u64::from(staged),
                Err(why) => swept.failures.push(format!("{failure:?} at call {at}: {why}")),
            }
        }
    }
    swept
}
