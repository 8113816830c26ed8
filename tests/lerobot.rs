//! Episodes go into LeRobot's dataset format and come back as they were; a cut export goes on.

use std::path::{Path, PathBuf};

use rand::RngExt as _;
use regoal::clock::{Time, WallTime};
use regoal::episode::lerobot::{Export, Foreign, Import, LeRobotError};
use regoal::episode::{
    Episode, EpisodeHeader, Events, Fault, Mode, Outcome, PolicyId, Source, Step, reason,
};
use regoal::joints::{GoalVec, stack};
use regoal::rng::{Rng, Stream, item};
use regoal::storage::{Disk, Storage as _};

const JOINTS: usize = 6;

fn any_step(rng: &mut Rng, tick: u64) -> Step {
    fn row<const N: usize>(rng: &mut Rng, n: usize) -> heapless::Vec<f32, N> {
        (0..n).map(|_| rng.random_range(-3.0..3.0f32)).collect()
    }
    let powered = rng.random_bool(0.8);
    let n = if powered { JOINTS } else { 0 };
    let measured = rng.random_bool(0.5);
    Step {
        tick,
        time: Time(5_000_000_000 + tick * 10_000_000 + rng.random_range(0..1000)),
        wall: WallTime(1_790_000_000_000_000_000 + tick * 10_000_000),
        stamps: (0..JOINTS).map(|_| Time(rng.random_range(0..u64::MAX / 2))).collect(),
        position: row(rng, JOINTS),
        velocity: row(rng, JOINTS),
        load: row(rng, JOINTS),
        // The first servo has no sensor.
        current: if measured { stack([f32::NAN, 0.1, 0.2, 0.3, 0.4, -0.5]) } else { stack([]) },
        temperature: row(rng, JOINTS),
        achieved_goal: row(rng, 3),
        desired_goal: {
            let g = if powered { 3 } else { 0 };
            row(rng, g)
        },
        action: row(rng, n),
        sent: row(rng, n),
        mode: if powered { Mode::Reaching } else { Mode::Faulted(Fault::Stall) },
        events: Events(rng.random_range(0..1 << 12)),
        intervention: rng.random_bool(0.3),
        policy: PolicyId(rng.random()),
    }
}

fn any_episode(number: u64) -> Episode {
    let mut rng = item(7, Stream::Training, number);
    let ticks = rng.random_range(1..60);
    let outcome = Outcome {
        success: [None, Some(true), Some(false)][number as usize % 3],
        final_distance: Some(0.25),
        reached_tick: Some(3),
        ticks,
        missed_ticks: 1,
        reason: reason("timed out"),
    };
    Episode {
        header: EpisodeHeader {
            number,
            robot: "so101".into(),
            joints: (0..JOINTS).map(|i| format!("joint {i}")).collect(),
            rate_hz: 100.0,
            goal_space: "end_effector_position".into(),
            goal_tolerance: 0.02,
            source: Source::Attempt,
            seed: Some(number),
            task: if number.is_multiple_of(2) { "even".into() } else { String::new() },
            started: WallTime(17),
            ..EpisodeHeader::default()
        },
        steps: (0..ticks).map(|tick| any_step(&mut rng, tick * 2)).collect(),
        outcome: (number % 5 != 4).then_some(outcome),
        inputs: Vec::new(),
        damage: None,
    }
}

const SAME: &dyn Fn(usize, f32) -> f32 = &|_, x| x;

fn export(folder: &Path, numbers: std::ops::Range<u64>) -> Result<(usize, usize), LeRobotError> {
    let mut export = Export::open(&Disk, folder, "radians", SAME)?;
    for number in numbers {
        export.push(&format!("episode-{number:06}.mcap"), &any_episode(number), "some task")?;
    }
    export.finish()
}

fn import(folder: &Path) -> Vec<Episode> {
    let mut import = Import::open(&Disk, folder).unwrap();
    let achieved = |_: &[f32]| GoalVec::new();
    let foreign = Foreign { header: EpisodeHeader::default(), from: SAME, achieved: &achieved };
    (0..import.len()).map(|i| import.episode(i, &foreign).unwrap()).collect()
}

/// Equal to the bit, also where a servo has no number.
fn same(a: &Episode, b: &Episode) -> bool {
    let text = |e: &Episode| format!("{:?} {:?} {:?}", e.header, e.steps, e.outcome);
    text(a) == text(b)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in Disk.list(folder).unwrap() {
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

#[test]
fn what_is_exported_comes_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (episodes, frames) = export(folder.path(), 0..40).unwrap();
    let originals: Vec<Episode> = (0..40).map(any_episode).collect();
    assert_eq!((episodes, frames), (40, originals.iter().map(|e| e.steps.len()).sum()));
    for (original, back) in originals.iter().zip(import(folder.path())) {
        assert!(same(original, &back), "{original:?}\n{back:?}");
    }
}

#[test]
fn an_export_in_parts_is_one_dataset_and_doing_it_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 0..10).unwrap();
    export(folder.path(), 0..25).unwrap();
    let before: Vec<Vec<u8>> = files(folder.path()).iter().map(|f| Disk.read(f).unwrap()).collect();
    assert_eq!(export(folder.path(), 0..25).unwrap().0, 25);
    let after: Vec<Vec<u8>> = files(folder.path()).iter().map(|f| Disk.read(f).unwrap()).collect();
    assert_eq!(before, after);
    let back = import(folder.path());
    assert!((0..25).map(any_episode).zip(&back).all(|(original, back)| same(&original, back)));
}

#[test]
fn an_export_cut_off_anywhere_is_no_dataset_and_goes_on() {
    use regoal::storage::{Failure, Memory};
    let path = Path::new("dataset");
    let run = |memory: &Memory, numbers: std::ops::Range<u64>| -> Result<(), LeRobotError> {
        let mut export = Export::open(memory, path, "radians", SAME)?;
        for number in numbers {
            export.push(&format!("{number}"), &any_episode(number), "task")?;
        }
        export.finish().map(drop)
    };
    let whole = Memory::default();
    run(&whole, 0..3).unwrap();
    let half = whole.calls();
    run(&whole, 0..6).unwrap();
    let calls = whole.calls();
    for at in 1..=calls {
        let memory = Memory::default();
        memory.fail(at, Failure::Once);
        let first = run(&memory, 0..3);
        let second = if first.is_ok() { run(&memory, 0..6) } else { Ok(()) };
        let failed = first.is_err() || second.is_err();
        assert!(failed, "call {at} of {calls} (the first part makes {half}) failed unnoticed");
        let info = memory.read(&path.join("meta/info.json"));
        if let Ok(info) = info {
            // A dataset that is there is a whole one.
            let count = if String::from_utf8(info).unwrap().contains("0:6") { 6 } else { 3 };
            let journal = memory.read(&path.join("meta/regoal.json")).unwrap();
            let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap();
            assert_eq!(journal["episodes"].as_array().unwrap().len(), count, "call {at}");
        }
        run(&memory, 0..6).unwrap();
        for name in ["meta/info.json", "meta/tasks.parquet", "meta/stats.json"] {
            let [a, b] = [&memory, &whole].map(|m| m.read(&path.join(name)).unwrap());
            assert!(a == b, "{name} after call {at} failed");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_name_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 0..3).unwrap();
    let mut again = Export::open(&Disk, folder.path(), "radians", SAME).unwrap();
    let mut refused = |name: &str, change: &dyn Fn(&mut Episode)| {
        let mut episode = any_episode(9);
        change(&mut episode);
        again.push(name, &episode, "task").unwrap_err().to_string()
    };
    let error = refused("a.mcap", &|e| e.header.joints.truncate(5));
    assert!(
        error.contains("a.mcap does not fit the dataset: `") && error.contains("expected"),
        "{error}"
    );
    let error = refused("b.mcap", &|e| e.header.rate_hz = 50.0);
    assert!(error.contains("expected 100 ticks a second, found 50"), "{error}");
    let error = refused("c.mcap", &|e| e.steps.clear());
    assert!(error.contains("at least one step"), "{error}");
    let error = refused("episode-000001.mcap", &|_| {});
    assert!(error.contains("exported before and is another one now"), "{error}");
    drop(again);
    let error = Export::open(&Disk, folder.path(), "degrees", SAME).err().unwrap().to_string();
    assert!(error.contains("expected positions in degrees, found radians"), "{error}");
    assert_eq!(import(folder.path()).len(), 3);
    let empty = tempfile::tempdir().unwrap();
    let error = Import::open(&Disk, empty.path()).err().unwrap().to_string();
    assert!(error.contains("cannot read") && error.contains("info.json"), "{error}");
}
