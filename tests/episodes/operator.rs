//! L6: what operators do: they stop the program in any way, start it twice and often, and record
//! nothing or too much.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use regoal::clock::{Clock as _, ManualClock, SystemClock, WallTime};
use regoal::daemon::{Client, Goal};
use regoal::episode::*;
use regoal::storage::{Disk, Memory, Storage as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::bench::report;
use crate::fixtures::*;
use crate::patience::{NEVER_HUNG, patient};

/// A running robot is told to end in the middle of an episode.
fn ends_whole_at(signal: Signal) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (socket, episodes) = (folder.path().join("api"), folder.path().join("episodes"));
    let robot = folder.path().join("arm.toml");
    let text = patient(include_str!("../../firmware-config/emulated.toml"), NEVER_HUNG);
    Disk.replace(&robot, text.as_bytes()).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_regoal"))
        .env_remove("RUST_LOG")
        .args(["run", "--arm", "--policy", "models/reach/policy.onnx", "--robot"])
        .arg(&robot)
        .arg("--socket")
        .arg(&socket)
        .arg("--episodes")
        .arg(&episodes)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(program.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let client = Client::new(&socket);
    let goal = Goal {
        goal: vec![0.4, 0.4, 0.4],
        timeout_s: Some(60.0),
        // Out of reach: it lasts until the operator ends it.
        anyway: true,
        ..Goal::default()
    };
    let wait = |what: &mut dyn FnMut() -> bool| {
        let patience = SystemClock.now() + Duration::from_secs(60);
        while !what() {
            assert!(SystemClock.now() < patience, "nothing came of {line}");
            SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(20));
        }
    };
    wait(&mut || client.reach(&goal).is_ok());
    wait(&mut || client.status().is_ok_and(|status| status.log.is_some_and(|log| log.steps > 50)));
    kill_process(Pid::from_child(&program), signal).unwrap();
    program.wait().unwrap();
    let summaries = list(&Disk, &episodes).unwrap();
    let last = summaries.last().unwrap();
    let read = Episode::read(&Disk, &last.path).unwrap();
    read.damage.is_none() && read.steps.len() > 50 && read.outcome.is_some()
}

fn a_second_recorder_is_refused() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let writer = || {
        let (_, receiver) = log_queue();
        let (storage, clock) = (Arc::new(Disk), Arc::new(SystemClock));
        let config = WriterConfig::default();
        LogWriter::new(storage, clock, folder.path().into(), header(), config, receiver)
    };
    let first = writer().unwrap();
    let refused = matches!(writer().err(), Some(EpisodeError::Locked { .. }));
    drop(first);
    refused && writer().is_ok()
}

/// The date goes back by years in mid episode: nothing is lost, and the log's times still grow.
fn a_jump_of_the_date_disorders_nothing() -> bool {
    let storage: Arc<dyn regoal::storage::Storage> = Arc::new(Memory::default());
    let mut writer = create(&storage).unwrap();
    let wall = |tick| WallTime(if tick < 5 { 2 << 60 } else { 1 << 50 });
    let steps: Vec<Step> = (0..10).map(|tick| Step { wall: wall(tick), ..step(tick) }).collect();
    steps.iter().for_each(|step| writer.push(step).unwrap());
    let bytes = storage.read(&writer.finish(&outcome()).unwrap()).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let times: Vec<u64> = messages.map(|m| m.unwrap().log_time).collect();
    times.is_sorted() && Episode::decode(&bytes).unwrap().steps == steps
}

fn an_episode_of_no_steps_is_whole() -> bool {
    let (bytes, _) = written(0, true);
    let (memory, path) = memory_with(&bytes);
    let listed = list(&memory, Path::new(FOLDER)).unwrap();
    check(&memory, &path).unwrap().is_none() && listed[0].steps == 0 && listed[0].damage.is_none()
}

/// A file of 5 GiB, which no episode is, is refused and not read.
fn five_gibibytes_are_refused() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("episode-000000.mcap");
    Disk.create(&path).unwrap().truncate(5 << 30).unwrap();
    let refused = |result: Result<(), EpisodeError>| matches!(result, Err(EpisodeError::TooLarge { bytes, .. }) if bytes == 5 << 30);
    let listed = list(&Disk, folder.path()).unwrap();
    refused(check(&Disk, &path).map(drop))
        && refused(repair(&Disk, &path).map(drop))
        && listed[0].damage.is_some()
}

/// An episode that reaches its limit ends whole, what follows is counted, the next one is logged.
fn an_episode_that_becomes_too_long_ends_whole() -> bool {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, receiver) = log_queue();
    let config = WriterConfig { max_bytes: 20_000, ..WriterConfig::default() };
    let (shared, time) = (Arc::new(storage.clone()), Arc::new(clock));
    let mut writer =
        LogWriter::new(shared, time, FOLDER.into(), header(), config, receiver).unwrap();
    for episode in [0, 1000] {
        sender.begin(Begin::default());
        (0..200).for_each(|tick| sender.step(step(episode + tick)));
        sender.end(outcome());
        writer.drain();
    }
    let status = writer.status();
    let episodes = list(&storage, Path::new(FOLDER)).unwrap();
    let steps: u64 = episodes.iter().map(|episode| episode.steps).sum();
    episodes.len() == 2
        && steps > 20
        && steps + status.unlogged() + status.failures() == 400
        && episodes.iter().all(|e| e.damage.is_none() && e.bytes < 60_000)
        && status.last_error().unwrap().contains("is full")
}

fn a_hundred_restarts_leave_contiguous_episodes() -> bool {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    for restart in 0..100 {
        let (mut sender, mut writer) = log_writer(&storage, &clock);
        sender.begin(Begin { started: clock.wall(), ..Begin::default() });
        steps(0..5).into_iter().for_each(|step| sender.step(step));
        sender.end(outcome());
        writer.drain();
        if restart % 2 == 0 {
            writer.close();
        }
    }
    let summaries = list(&storage, Path::new(FOLDER)).unwrap();
    let numbers = summaries.iter().map(|s| s.header.as_ref().unwrap().number);
    numbers.eq(0..100) && summaries.iter().all(|s| s.damage.is_none() && s.steps == 5)
}

#[test]
fn l6_whatever_an_operator_does_has_a_defined_result() {
    let cases: [(&str, bool); 9] = [
        ("SIGINT", ends_whole_at(Signal::INT)),
        ("SIGTERM", ends_whole_at(Signal::TERM)),
        ("SIGHUP", ends_whole_at(Signal::HUP)),
        ("second recorder", a_second_recorder_is_refused()),
        ("clock jump", a_jump_of_the_date_disorders_nothing()),
        ("no steps", an_episode_of_no_steps_is_whole()),
        ("5 GiB", five_gibibytes_are_refused()),
        ("too long", an_episode_that_becomes_too_long_ends_whole()),
        ("100 restarts", a_hundred_restarts_leave_contiguous_episodes()),
    ];
    let failed: Vec<&str> = cases.iter().filter(|(_, ok)| !ok).map(|(name, _)| *name).collect();
    let figures = json!({ "failed": failed });
    report("L6", seed(), cases.len() as u64, failed.len() as u64, figures);
    assert!(failed.is_empty(), "{failed:?}");
}
