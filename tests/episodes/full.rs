//! L4: a full disk, and calls that fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use regoal::clock::{Clock as _, ManualClock};
use regoal::episode::*;
use regoal::storage::{Disk, Failure, Memory, Storage};
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

const STEPS: u64 = 500;

/// Writes steps until a call fails; gives the steps that were synced and how it ended.
fn write_until_failure(memory: &Memory) -> (u64, Result<PathBuf, EpisodeError>) {
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut writer = match create(&storage) {
        Ok(writer) => writer,
        Err(error) => return (0, Err(error)),
    };
    for tick in 0..STEPS {
        if let Err(error) = writer.push(&step(tick)) {
            let (calls, synced) = (memory.calls(), writer.synced_steps());
            assert!(matches!(writer.push(&step(tick + 1)), Err(EpisodeError::Dead { .. })));
            assert!(matches!(writer.finish(&outcome()), Err(EpisodeError::Dead { .. })));
            assert_eq!(memory.calls(), calls, "a dead writer touched its file");
            return (synced, Err(error));
        }
    }
    (writer.synced_steps(), writer.finish(&outcome()))
}

/// Why a call's failure was not told rightly or cost what was synced; `None` when no call failed.
fn fail_at(at: u64, failure: Failure) -> Option<Result<(), String>> {
    let memory = Memory::default();
    memory.fail(at, failure);
    let (synced, result) = write_until_failure(&memory);
    match (result, failure) {
        (Ok(_), _) => return None,
        (Err(EpisodeError::Io { .. }), Failure::Once) => {}
        (Err(EpisodeError::DiskFull { .. }), Failure::Full) => {}
        (Err(error), _) => return Some(Err(error.to_string())),
    }
    let power_cut = memory.after_power_cut(&mut |_| 0);
    for disk in [&memory, &power_cut].into_iter().filter(|_| synced > 0) {
        let Ok(read) = Episode::read(disk, Path::new(FIRST)) else {
            return Some(Err("the episode is gone".into()));
        };
        let count = read.steps.len() as u64;
        if count < synced || read.steps != steps(0..count) {
            return Some(Err(format!("{count} of {synced} steps")));
        }
    }
    Some(Ok(()))
}

/// How long until a log writer that is drained at 200 Hz tells of the failure of the `at`-th call
/// from the episode's beginning on (ms of simulated time); `None` when no call failed.
fn told_after(at: u64, failure: Failure) -> Option<u64> {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    let status = writer.status();
    sender.begin(Begin::default());
    writer.drain();
    let begun = storage.calls();
    storage.fail(at, failure);
    let mut failed = None;
    for tick in 0..STEPS {
        clock.advance(Duration::from_millis(5));
        sender.step(Step { time: clock.now(), ..step(tick) });
        writer.drain();
        if storage.calls() >= begun + at {
            failed.get_or_insert(clock.now());
        }
        let told =
            if failure == Failure::Full { status.disk_full() } else { status.failures() > 0 };
        if told {
            assert_eq!(status.unlogged() + status.steps(), tick + 1, "nothing was lost unseen");
            return Some(clock.now().since(failed.unwrap()).as_millis() as u64);
        }
    }
    None
}

#[test]
fn l4_a_failure_of_any_call_is_told_and_loses_nothing_that_was_synced() {
    let (mut runs, mut failures, mut slowest) = (0, 0, 0);
    for failure in [Failure::Once, Failure::Full] {
        for at in 1..2 * STEPS {
            let Some(judged) = fail_at(at, failure) else { break };
            runs += 1;
            if let Err(why) = judged {
                eprintln!("{failure:?} at call {at}: {why}");
                failures += 1;
            }
        }
        for at in 1..2 * STEPS {
            let Some(after) = told_after(at, failure) else { break };
            runs += 1;
            slowest = slowest.max(after);
            failures += u64::from(after > 1000);
        }
    }
    assert!(runs > 3 * STEPS / 2, "{runs} runs");
    let real = number("REGOAL_REAL_DISK", 0) > 0;
    if real {
        failures += u64::from(!on_a_real_full_disk());
    }
    let figures = json!({ "told_after_ms_at_most": slowest, "real_full_disk": real });
    report("L4", seed(), runs, failures, figures);
    assert_eq!(failures, 0);
}

const REAL: &str = "REGOAL_FULL_DISK";

/// Whether all is right on a file system of 1 MiB, in a name space of its own.
fn on_a_real_full_disk() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" && exec \"$@\"";
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .args(["full::on_a_full_disk", "--exact", "--ignored"])
        .env(REAL, folder.path())
        .status();
    status.expect("expected unshare (util-linux)").success()
}

#[test]
#[ignore = "what the campaign runs on a file system that is full"]
fn on_a_full_disk() {
    let Some(folder) = std::env::var_os(REAL).map(PathBuf::from) else { return };
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let config = WriterConfig::default();
    let mut writer = Writer::create(&storage, &folder, header(), &config).unwrap();
    let path = writer.path().to_owned();
    let error = (0..100_000).find_map(|tick| writer.push(&step(tick)).err()).unwrap();
    assert!(matches!(error, EpisodeError::DiskFull { .. }), "{error}");
    let synced = writer.synced_steps();
    let read = Episode::read(&Disk, &path).unwrap();
    let count = read.steps.len() as u64;
    assert!(synced > 1000 && count >= synced, "{count} of {synced} steps");
    assert_eq!(read.steps, steps(0..count));
    let refused = Writer::create(&storage, &folder, header(), &config);
    assert!(matches!(refused.err(), Some(EpisodeError::DiskFull { .. })));
    assert_eq!(list(&Disk, &folder).unwrap().len(), 1, "the attempt left a file");
    Disk.remove(&path).unwrap();
    Writer::create(&storage, &folder, header(), &config).unwrap().finish(&outcome()).unwrap();
}

#[test]
fn a_full_disk_costs_its_episode_and_not_the_next_one() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    let status = writer.status();
    sender.begin(Begin::default());
    steps(0..4).into_iter().for_each(|step| sender.step(step));
    writer.drain();
    storage.fail(1, Failure::Full);
    steps(4..10).into_iter().for_each(|step| sender.step(step));
    sender.end(outcome());
    writer.drain();
    sender.begin(Begin::default());
    writer.drain();
    assert!(status.disk_full() && status.last_error().unwrap().starts_with("the disk is full"));
    assert_eq!((status.failures(), status.unlogged()), (2, 4));
    storage.fail(u64::MAX / 2, Failure::Once);
    sender.begin(Begin::default());
    sender.step(step(20));
    sender.end(outcome());
    writer.drain();
    assert!(!status.disk_full());
    let counts: Vec<u64> =
        list(&storage, Path::new(FOLDER)).unwrap().iter().map(|s| s.steps).collect();
    assert_eq!(counts, [4, 1], "the attempt on the full disk left a file");
}
