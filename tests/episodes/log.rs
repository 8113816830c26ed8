//! From the queue to files: the log writer, its folder and its lock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use regoal::clock::{Clock, ManualClock, SystemClock};
use regoal::config::RobotConfig;
use regoal::episode::*;
use regoal::storage::{Disk, Memory, Storage};

use crate::bench::{Bench, drift};
use crate::fixtures::*;

#[test]
fn steps_that_do_not_fit_the_queue_are_counted_and_marked() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    sender.begin(Begin::default());
    steps(0..1000).into_iter().for_each(|step| sender.step(step));
    let lost = sender.lost();
    assert!(lost > 400, "{lost}");
    writer.drain();
    steps(1000..1010).into_iter().for_each(|step| sender.step(step));
    sender.end(outcome());
    writer.close();
    let read = Episode::read(&storage, Path::new("data/episode-000000.mcap")).unwrap();
    assert_eq!(read.steps.len() as u64 + lost, 1010);
    assert_eq!((read.damage, &read.outcome), (None, &Some(outcome())));
    let gaps: Vec<u64> =
        read.steps.iter().filter(|s| s.events.contains(Events::LOG_GAP)).map(|s| s.tick).collect();
    assert_eq!(gaps, [1000]);
}

#[test]
fn episodes_that_begin_while_the_queue_is_full_never_mix() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    for episode in 0..30 {
        sender.begin(Begin { seed: Some(episode), ..Begin::default() });
        (0..100).for_each(|tick| sender.step(step(episode * 1000 + tick)));
        sender.end(outcome());
    }
    writer.drain();
    assert_eq!((writer.status().failures(), writer.status().unlogged()), (0, 0));
    for summary in list(&storage, Path::new(FOLDER)).unwrap() {
        let read = Episode::read(&storage, &summary.path).unwrap();
        let seed = read.header.seed.unwrap();
        assert!(read.steps.iter().all(|s| s.tick / 1000 == seed), "episode {seed}");
    }
}

#[test]
fn a_dataset_that_is_recorded_into_is_not_mended() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    sender.begin(Begin::default());
    writer.drain();
    let path = Path::new("data/episode-000000.mcap");
    assert!(matches!(repair(&storage, path), Err(EpisodeError::Locked { .. })));
    drop(writer);
    assert_eq!(repair(&storage, path).unwrap().unwrap().seal, Seal::Missing);
}

#[test]
fn a_log_on_its_own_thread_is_on_the_disk_when_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let (mut sender, receiver) = log_queue();
    let (storage, clock): (Arc<dyn Storage>, Arc<dyn Clock>) =
        (Arc::new(Disk), Arc::new(SystemClock));
    let data = folder.path().join("data");
    let writer = LogWriter::new(
        storage,
        clock.clone(),
        data.clone(),
        header(),
        WriterConfig::default(),
        receiver,
    );
    let thread = writer.unwrap().spawn().unwrap();
    let status = thread.status();
    for _ in 0..3 {
        sender.begin(Begin { started: clock.wall(), ..Begin::default() });
        steps(0..50).into_iter().for_each(|step| sender.step(step));
        sender.end(outcome());
    }
    thread.stop();
    assert_eq!((status.episodes(), status.steps(), status.last_error()), (3, 150, None));
    let summaries = list(&Disk, &data).unwrap();
    assert_eq!(summaries.iter().map(|s| s.bytes).sum::<u64>(), status.bytes());
    for summary in summaries {
        let read = Episode::read(&Disk, &summary.path).unwrap();
        assert_eq!((read.steps, read.damage), (steps(0..50), None));
    }
}

#[test]
fn steps_that_wait_for_their_chunk_are_written_when_the_loop_stops() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (mut sender, mut writer) = log_writer(&storage, &clock);
    clock.sleep_until(step(0).time);
    sender.begin(Begin::default());
    sender.step(step(0));
    writer.drain();
    let path = Path::new("data/episode-000000.mcap");
    assert_eq!(Episode::read(&storage, path).unwrap().steps.len(), 0);
    clock.advance(Duration::from_millis(20));
    writer.drain();
    assert_eq!(Episode::read(&storage, path).unwrap().steps.len(), 1);
    clock.advance(Duration::from_millis(250));
    writer.drain();
    let disk = storage.after_power_cut(&mut |_| 0);
    assert_eq!(Episode::read(&disk, path).unwrap().steps.len(), 1);
}

#[test]
fn a_step_has_the_currents_of_the_servos_that_measure_them() {
    let feetech = include_str!("../../firmware-config/emulated.toml");
    let koch = feetech
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"");
    // An XL430 tells its drive instead.
    for (config, without) in [(feetech, 0), (&koch, 2)] {
        let robot = RobotConfig::parse(config, Path::new("arm.toml")).unwrap();
        let mut bench = Bench::new(robot, drift(0.0));
        bench.run(5);
        let found = &bench.control.step().current;
        assert_eq!(found.len(), 6);
        assert!(
            found.iter().enumerate().all(|(joint, x)| x.is_nan() == (joint < without)),
            "{found:?}"
        );
    }
}
