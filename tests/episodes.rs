//! Episodes on good and bad disks: what was synced is never lost, and what is not proven is never
//! returned.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::{ProptestConfig, any, proptest};
use rand::{Rng as _, RngExt as _};
use regoal::clock::{Clock, ManualClock, SystemClock, Time, WallTime};
use regoal::episode::*;
use regoal::joints::stack;
use regoal::rng::{Rng, Stream, item, stream};
use regoal::storage::{Disk, Failure, Memory, Storage};

const FOLDER: &str = "data";
const TICK: Duration = Duration::from_millis(10);

fn header() -> EpisodeHeader {
    let joints =
        ["shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper"];
    EpisodeHeader {
        robot: "so101".into(),
        joints: joints.map(String::from).to_vec(),
        rate_hz: 100.0,
        task: "reach the point".into(),
        goal_space: "end_effector_position".into(),
        goal_tolerance: 0.02,
        source: Source::Attempt,
        calibration: "c0ffee".into(),
        policy: PolicyId([7; 16]),
        seed: Some(1),
        started: ManualClock::EPOCH,
        ..EpisodeHeader::default()
    }
}

fn outcome() -> Outcome {
    Outcome {
        success: Some(true),
        final_distance: Some(0.0125),
        reached_tick: Some(41),
        ticks: 42,
        missed_ticks: 1,
        reason: reason("goal reached"),
    }
}

/// A step as an arm in motion gives it.
fn step(tick: u64) -> Step {
    let time = Time(1_000_000_000) + TICK * tick as u32;
    let joints = |scale: f32| stack((0..6).map(|j| scale * (tick as f32 * 0.1 + j as f32).sin()));
    Step {
        tick,
        time,
        wall: WallTime(ManualClock::EPOCH.0 + time.0),
        stamps: stack((0..6).map(|j| time + Duration::from_micros(300 + 40 * j))),
        position: joints(1.0),
        velocity: joints(0.3),
        load: joints(0.1),
        current: joints(0.02),
        temperature: stack([31.0; 6]),
        achieved_goal: stack([0.2, 0.0, 0.1]),
        desired_goal: stack([0.25, 0.05, 0.1]),
        action: joints(0.5),
        sent: joints(0.9),
        mode: Mode::Reaching,
        events: Events::default(),
        intervention: false,
        policy: PolicyId([7; 16]),
    }
}

fn steps(ticks: std::ops::Range<u64>) -> Vec<Step> {
    ticks.map(step).collect()
}

/// A step of any bits whatever.
fn any_step(rng: &mut Rng, tick: u64) -> Step {
    fn row<const N: usize>(rng: &mut Rng) -> heapless::Vec<f32, N> {
        let len = rng.random_range(0..=N);
        stack(
            (0..len)
                .map(|_| if rng.random_bool(0.2) { -0.0 } else { f32::from_bits(rng.next_u32()) }),
        )
    }
    let faults = [Fault::EmergencyStop, Fault::BusSilent, Fault::Overheat, Fault::Tracking];
    Step {
        tick,
        time: Time(rng.next_u64()),
        wall: WallTime(rng.next_u64()),
        stamps: stack((0..rng.random_range(0..=8)).map(|_| Time(rng.next_u64()))),
        position: row(rng),
        velocity: row(rng),
        load: row(rng),
        current: row(rng),
        temperature: row(rng),
        achieved_goal: row(rng),
        desired_goal: row(rng),
        action: row(rng),
        sent: row(rng),
        mode: match rng.random_range(0..5) {
            0 => Mode::Disarmed,
            1 => Mode::Holding,
            2 => Mode::Reaching,
            3 => Mode::Teleop,
            _ => Mode::Faulted(faults[rng.random_range(0..faults.len())]),
        },
        events: Events(rng.next_u32()),
        intervention: rng.random(),
        policy: PolicyId(rng.random()),
    }
}

fn bits(step: &Step) -> Vec<Vec<u32>> {
    let rows: [&[f32]; 9] = [
        &step.position,
        &step.velocity,
        &step.load,
        &step.current,
        &step.temperature,
        &step.achieved_goal,
        &step.desired_goal,
        &step.action,
        &step.sent,
    ];
    rows.map(|row| row.iter().map(|v| v.to_bits()).collect()).to_vec()
}

fn create(storage: &Arc<dyn Storage>) -> Result<Writer, EpisodeError> {
    Writer::create(storage, Path::new(FOLDER), header(), &WriterConfig::default())
}

/// Writes steps from tick 0 on and tells after each how many bytes were written.
fn write(storage: &Arc<dyn Storage>, steps: u64, end: bool) -> (PathBuf, Vec<u64>) {
    let mut writer = create(storage).unwrap();
    let mut written = vec![writer.bytes()];
    for tick in 0..steps {
        writer.push(&step(tick)).unwrap();
        written.push(writer.bytes());
    }
    let path = writer.path().to_owned();
    if end {
        writer.finish(&outcome()).unwrap();
    }
    (path, written)
}

/// The bytes of an episode, and how many were written after each step.
fn written(steps: u64, end: bool) -> (Vec<u8>, Vec<u64>) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (path, written) = write(&storage, steps, end);
    (storage.read(&path).unwrap(), written)
}

fn memory_with(bytes: &[u8]) -> (Memory, PathBuf) {
    let (memory, path) = (Memory::default(), PathBuf::from("data/episode-000000.mcap"));
    memory.create(&path).unwrap().write_all(bytes).unwrap();
    (memory, path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_step_is_read_back_bit_for_bit(seed in any::<u64>()) {
        let mut rng = stream(seed, Stream::Training);
        let mut tick = 0;
        let steps: Vec<Step> = (0..rng.random_range(0..30)).map(|_| {
            tick += rng.random_range(1..4);
            any_step(&mut rng, tick)
        }).collect();
        let storage: Arc<dyn Storage> = Arc::new(Memory::default());
        let mut writer = create(&storage).unwrap();
        steps.iter().for_each(|step| writer.push(step).unwrap());
        let path = writer.finish(&outcome()).unwrap();
        let read = Episode::read(storage.as_ref(), &path).unwrap();
        assert_eq!((&read.header, &read.outcome, read.damage), (&header(), &Some(outcome()), None));
        assert_eq!(read.steps.len(), steps.len());
        for (read, step) in read.steps.iter().zip(&steps) {
            assert_eq!(bits(read), bits(step));
            assert_eq!((read.tick, read.time, read.wall, &read.stamps), (step.tick, step.time, step.wall, &step.stamps));
            assert_eq!((read.mode, read.events, read.intervention, read.policy), (step.mode, step.events, step.intervention, step.policy));
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_listed_without_a_panic(seed in any::<u64>(), records in any::<bool>()) {
        let mut rng = stream(seed, Stream::Training);
        let (mut bytes, _) = written(4, true);
        if !records {
            bytes = (0..rng.random_range(0..2000)).map(|_| rng.random()).collect();
        }
        for _ in 0..rng.random_range(0..20) {
            let at = rng.random_range(0..bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = rng.random();
            }
        }
        let (memory, path) = memory_with(&bytes);
        let read = Episode::read(&memory, &path).ok();
        assert_eq!(list(&memory, Path::new(FOLDER)).unwrap().len(), 1);
        assert_eq!(repair(&memory, &path).is_ok(), read.is_some());
    }
}

#[test]
fn a_file_cut_anywhere_gives_every_whole_chunk_and_is_mended() {
    for end in [false, true] {
        let (whole, written) = written(12, end);
        let all = steps(0..12);
        for cut in 0..whole.len() {
            // Chunks of two steps: the second one's write brings both.
            let at_least =
                written.iter().step_by(2).skip(1).filter(|end| **end <= cut as u64).count() * 2;
            let Some(episode) = Episode::decode(&whole[..cut]) else {
                assert!((cut as u64) < written[0], "the header is lost at {cut}");
                continue;
            };
            let steps = episode.steps.len();
            assert_eq!(episode.steps, all[..steps], "cut at {cut}");
            assert!(
                (at_least..=at_least + 2).contains(&steps),
                "{steps} steps of {at_least} at {cut}"
            );
            assert_eq!(episode.damage.unwrap().seal, Seal::Missing, "cut at {cut}");
            if cut % 7 == 0 {
                let (torn, path) = memory_with(&whole[..cut]);
                assert_eq!(repair(&torn, &path).unwrap(), episode.damage);
                let mended = Episode::read(&torn, &path).unwrap();
                assert_eq!(mended, Episode { damage: None, ..episode }, "cut at {cut}");
                assert_eq!(repair(&torn, &path).unwrap(), None);
                let kept = torn.read(Path::new("data/episode-000000.mcap.damaged")).unwrap();
                assert_eq!(kept, whole[..cut]);
            }
        }
        let read = Episode::decode(&whole).unwrap();
        assert_eq!((read.steps, read.damage.is_some()), (all, !end));
    }
}

#[test]
fn no_flipped_bit_changes_what_is_read_unnoticed() {
    for end in [false, true] {
        let (mut bytes, _) = written(6, end);
        let good = Episode::decode(&bytes).unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(read) = Episode::decode(&bytes) {
                assert!(read.damage.is_some(), "bit {bit} went unnoticed");
                assert_eq!(read.header, good.header, "bit {bit}");
                assert!(read.outcome.is_none() || read.outcome == good.outcome, "bit {bit}");
                // One chunk at most is lost.
                assert!(
                    read.steps.len() + 2 >= good.steps.len(),
                    "bit {bit}: {} steps",
                    read.steps.len()
                );
                for step in &read.steps {
                    let written = &good.steps[step.tick as usize];
                    assert_eq!(step, &Step { events: step.events, ..written.clone() }, "bit {bit}");
                }
            } else {
                assert!(!end, "bit {bit}: a finished file has its header twice");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn damaged_blocks_lose_only_the_chunks_they_touch() {
    let (whole, written) = written(120, true);
    for seed in 0..400 {
        let mut rng = item(seed, Stream::Training, 0);
        let mut bytes = whole.clone();
        let len = rng.random_range(1..4096);
        let to = rng.random_range(0..bytes.len() - len);
        match rng.random_range(0..3) {
            0 => bytes[to..to + len].fill(0),
            1 => rng.fill_bytes(&mut bytes[to..to + len]),
            _ => {
                let from = rng.random_range(0..bytes.len() - len);
                bytes.copy_within(from..from + len, to);
            }
        }
        if bytes == whole {
            continue;
        }
        let read = Episode::decode(&bytes).unwrap_or_else(|| panic!("seed {seed}: header lost"));
        assert!(read.damage.is_some(), "seed {seed}");
        let touched = |tick: u64| {
            let (from, end) = (written[tick as usize & !1], written[(tick as usize | 1) + 1]);
            (to as u64) < end && from < (to + len) as u64
        };
        let mut found = read.steps.iter().peekable();
        for tick in 0..120 {
            match found.next_if(|s| s.tick == tick) {
                Some(s) => assert_eq!(s.position, step(tick).position, "seed {seed}"),
                None => assert!(touched(tick), "seed {seed}: tick {tick} is lost"),
            }
        }
        assert_eq!(found.next(), None, "seed {seed}: a step from nowhere");
    }
}

#[test]
fn a_chunk_of_another_episode_is_not_taken_in() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (first, written) = write(&storage, 20, true);
    let (second, _) = write(&storage, 6, false);
    let mut bytes = storage.read(&second).unwrap();
    let stale = &storage.read(&first).unwrap()[written[10] as usize..written[12] as usize];
    bytes.extend_from_slice(stale);
    let read = Episode::decode(&bytes).unwrap();
    assert_eq!(read.steps, steps(0..6));
    assert_eq!(read.damage.unwrap().misplaced_steps, 2);
}

/// Writes 60 steps until a call fails; gives the steps that were synced and how it ended.
fn write_until_failure(memory: &Memory) -> (u64, Result<PathBuf, EpisodeError>) {
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let mut writer = match create(&storage) {
        Ok(writer) => writer,
        Err(error) => return (0, Err(error)),
    };
    for tick in 0..60 {
        if let Err(error) = writer.push(&step(tick)) {
            let calls = memory.calls();
            assert!(matches!(writer.push(&step(tick + 1)), Err(EpisodeError::Dead { .. })));
            let synced = writer.synced_steps();
            assert!(matches!(writer.finish(&outcome()), Err(EpisodeError::Dead { .. })));
            assert_eq!(memory.calls(), calls, "a dead writer touched its file");
            return (synced, Err(error));
        }
    }
    (writer.synced_steps(), writer.finish(&outcome()))
}

#[test]
fn a_failure_of_any_call_is_typed_and_loses_nothing_that_was_synced() {
    for failure in [Failure::Once, Failure::Full] {
        for at in 1.. {
            assert!(at < 100, "{failure:?}: no run without a failure");
            let memory = Memory::default();
            memory.fail(at, failure);
            let (synced, result) = write_until_failure(&memory);
            match (&result, failure) {
                (Ok(_), _) => break,
                (Err(EpisodeError::Io { .. }), Failure::Once) => {}
                (Err(EpisodeError::DiskFull { .. }), Failure::Full) => {}
                (Err(error), _) => panic!("{failure:?} at {at}: {error}"),
            }
            let power_cut = memory.after_power_cut(&mut |_| 0);
            for disk in [&memory, &power_cut].into_iter().filter(|_| synced > 0) {
                let read = Episode::read(disk, Path::new("data/episode-000000.mcap")).unwrap();
                let count = read.steps.len() as u64;
                assert!(count >= synced, "{failure:?} at {at}: {count} of {synced}");
                assert_eq!(read.steps, steps(0..count));
            }
        }
    }
}

#[test]
fn no_power_cut_takes_back_what_was_synced() {
    for seed in 0..40 {
        let mut rng = item(seed, Stream::Training, 1);
        let memory = Memory::default();
        let storage: Arc<dyn Storage> = Arc::new(memory.clone());
        let mut writer = create(&storage).unwrap();
        let path = writer.path().to_owned();
        for tick in 0..60 {
            writer.push(&step(tick)).unwrap();
            for _ in 0..4 {
                let disk = memory.after_power_cut(&mut |n| rng.random_range(0..n));
                let read = Episode::read(&disk, &path).unwrap();
                let count = read.steps.len() as u64;
                assert!(count >= writer.synced_steps(), "seed {seed}, tick {tick}: {count}");
                for read in &read.steps {
                    assert_eq!(read.position, step(read.tick).position, "seed {seed}, tick {tick}");
                }
                repair(&disk, &path).unwrap();
                let mended = Episode::read(&disk, &path).unwrap();
                assert_eq!(
                    (mended.steps, mended.damage),
                    (read.steps, None),
                    "seed {seed}, tick {tick}"
                );
            }
        }
        writer.finish(&outcome()).unwrap();
        let disk = memory.after_power_cut(&mut |n| rng.random_range(0..n));
        let read = Episode::read(&disk, &path).unwrap();
        assert_eq!((read.steps.len(), read.damage, read.outcome), (60, None, Some(outcome())));
    }
}

#[test]
fn repair_may_be_cut_off_anywhere_and_be_done_again() {
    let (whole, written) = written(10, false);
    let torn = &whole[..written[8] as usize - 60];
    let good = Episode::decode(torn).unwrap();
    for at in 1..100 {
        for seed in 0..20 {
            let mut rng = item(seed, Stream::Training, at);
            let (memory, path) = memory_with(torn);
            memory.open(&path).unwrap().sync().unwrap();
            memory.sync_folder(Path::new(FOLDER)).unwrap();
            memory.fail(at, Failure::Once);
            let first = repair(&memory, &path);
            let disk = memory.after_power_cut(&mut |n| rng.random_range(0..n));
            let read = Episode::read(&disk, &path).unwrap();
            assert_eq!(read.steps, good.steps, "call {at}, seed {seed}");
            repair(&disk, &path).unwrap();
            assert_eq!(
                Episode::read(&disk, &path).unwrap(),
                Episode { damage: None, ..good.clone() }
            );
            if first.is_ok() {
                assert!(at > 5, "only {at} calls");
                return;
            }
        }
    }
    panic!("no repair without a failure");
}

#[test]
fn other_mcap_readers_read_it() {
    let (bytes, _) = written(10, true);
    let mut topics = std::collections::BTreeMap::new();
    let mut last = 0;
    for message in mcap::MessageStream::new(&bytes).unwrap() {
        let message = message.unwrap();
        assert!(message.log_time >= last);
        last = message.log_time;
        assert_eq!(message.channel.message_encoding, "protobuf");
        assert_eq!(message.channel.schema.as_ref().unwrap().encoding, "protobuf");
        *topics.entry(message.channel.topic.clone()).or_insert(0) += 1;
    }
    let topics: Vec<(&str, i32)> =
        topics.iter().map(|(topic, count)| (topic.as_str(), *count)).collect();
    assert_eq!(topics, [("/episode", 2), ("/outcome", 1), ("/step", 10)]);
    let summary = mcap::Summary::read(&bytes).unwrap().unwrap();
    assert_eq!((summary.metadata_indexes.len(), summary.chunk_indexes.len()), (2, 7));
}

#[test]
fn a_list_tells_what_a_full_read_tells() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let folder = Path::new(FOLDER);
    write(&storage, 12, true);
    write(&storage, 0, true);
    write(&storage, 7, false);
    storage.create(&folder.join("episode-000003.mcap")).unwrap();
    storage.create(&folder.join("notes.txt")).unwrap();
    let summaries = list(storage.as_ref(), folder).unwrap();
    assert_eq!(summaries.iter().map(|s| s.steps).collect::<Vec<_>>(), [12, 0, 6, 0]);
    for summary in &summaries[..3] {
        let read = Episode::read(storage.as_ref(), &summary.path).unwrap();
        assert_eq!(summary.header.as_ref(), Some(&read.header));
        assert_eq!((&summary.outcome, summary.damage), (&read.outcome, read.damage));
        let span = read.steps.last().map_or(Duration::ZERO, |l| l.time.since(read.steps[0].time));
        assert_eq!(summary.duration, span);
    }
    assert!(summaries[3].header.is_none() && summaries[3].damage.is_some());
}

fn log_writer(storage: &Memory, clock: &ManualClock) -> (LogSender, LogWriter) {
    let (sender, receiver) = log_queue();
    let (storage, clock) = (Arc::new(storage.clone()), Arc::new(clock.clone()));
    let config = WriterConfig::default();
    (sender, LogWriter::new(storage, clock, FOLDER.into(), header(), config, receiver).unwrap())
}

#[test]
fn restarts_leave_contiguous_episodes() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    for restart in 0..20 {
        let (mut sender, mut writer) = log_writer(&storage, &clock);
        for episode in 0..3 {
            sender.begin(Begin { seed: Some(episode), started: clock.wall(), ..Begin::default() });
            steps(0..5).into_iter().for_each(|step| sender.step(step));
            sender.end(outcome());
            writer.drain();
        }
        assert_eq!((writer.status().episodes(), writer.status().steps()), (3, 15));
        if restart % 2 == 0 {
            writer.close();
        }
    }
    let summaries = list(&storage, Path::new(FOLDER)).unwrap();
    let numbers: Vec<u64> = summaries.iter().map(|s| s.header.as_ref().unwrap().number).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<_>>());
    assert!(summaries.iter().all(|s| s.damage.is_none() && s.steps == 5));
}

#[test]
fn a_second_writer_on_the_same_dataset_is_refused() {
    let (storage, clock) = (Memory::default(), ManualClock::default());
    let (_sender, first) = log_writer(&storage, &clock);
    let (_, receiver) = log_queue();
    let (shared, same) = (Arc::new(storage.clone()), Arc::new(clock.clone()));
    let second =
        LogWriter::new(shared, same, FOLDER.into(), header(), WriterConfig::default(), receiver);
    assert!(matches!(second.err(), Some(EpisodeError::Locked { .. })));
    drop(first);
    log_writer(&storage, &clock);
}

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
fn a_jump_of_the_date_does_not_disorder_the_log() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let mut writer = create(&storage).unwrap();
    let wall = |tick| WallTime(if tick < 5 { 2 << 60 } else { 1 << 50 });
    let steps: Vec<Step> = (0..10).map(|tick| Step { wall: wall(tick), ..step(tick) }).collect();
    steps.iter().for_each(|step| writer.push(step).unwrap());
    let path = writer.finish(&outcome()).unwrap();
    let bytes = storage.read(&path).unwrap();
    let times: Vec<u64> =
        mcap::MessageStream::new(&bytes).unwrap().map(|m| m.unwrap().log_time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(Episode::decode(&bytes).unwrap().steps, steps);
}
