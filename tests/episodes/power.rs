//! L2: the power goes. What a disk may hold then is drawn at every call that changes something.

use std::path::Path;
use std::sync::Arc;

use rand::RngExt as _;
use regoal::episode::*;
use regoal::rng::{Rng, Stream, item};
use regoal::storage::{Failure, Memory, Storage};
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

/// The episode's length.
const STEPS: u64 = 500;

/// Records until the power goes at the `at`-th call; gives what was acknowledged as synced, and
/// whether the episode was finished.
fn record_until(memory: &Memory, at: u64) -> (u64, bool) {
    memory.fail(at, Failure::Once);
    let storage: Arc<dyn Storage> = Arc::new(memory.clone());
    let Ok(mut writer) = create(&storage) else { return (0, false) };
    for tick in 0..STEPS {
        if writer.push(&step(tick)).is_err() {
            return (writer.synced_steps(), false);
        }
    }
    let synced = writer.synced_steps();
    if writer.finish(&outcome()).is_ok() { (STEPS, true) } else { (synced, false) }
}

fn image(memory: &Memory, rng: &mut Rng) -> Memory {
    memory.after_power_cut(&mut |n| rng.random_range(0..n))
}

/// Why a disk does not hold what it must.
fn judge(disk: &Memory, synced: u64, finished: bool, mend: bool) -> Result<(), String> {
    let say = |e: EpisodeError| e.to_string();
    list(disk, Path::new(FOLDER)).map_err(say)?;
    let path = Path::new(FIRST);
    let read = match Episode::read(disk, path) {
        Ok(read) => read,
        // Nothing was acknowledged: there may be no file yet, or one without a header.
        Err(_) if synced == 0 => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let count = read.steps.len() as u64;
    if count < synced || read.steps.iter().take(synced as usize).ne(&steps(0..synced)) {
        return Err(format!("{count} steps, {synced} were synced"));
    }
    if !read.steps.is_sorted_by(|a, b| a.tick < b.tick) {
        return Err("steps out of order".into());
    }
    for read in &read.steps {
        let events = read.events;
        if *read != (Step { events, ..step(read.tick) }) {
            return Err(format!("step {} is another", read.tick));
        }
    }
    if read.damage.is_none() && (count, read.outcome.as_ref()) != (STEPS, Some(&outcome())) {
        return Err(format!("{count} steps are called all"));
    }
    if finished && read.damage.is_some() {
        return Err("a finished episode is damaged".into());
    }
    if mend {
        repair(disk, path).map_err(say)?;
        let mended = Episode::read(disk, path).map_err(say)?;
        if mended != (Episode { damage: None, ..read }) {
            return Err("mending changed it".into());
        }
    }
    Ok(())
}

#[test]
fn l2_no_power_cut_takes_back_what_was_synced() {
    let whole = Memory::default();
    assert_eq!(record_until(&whole, u64::MAX / 2), (STEPS, true));
    let points = whole.calls() + 1;
    let images = number("REGOAL_CASES", 5000).div_ceil(points);
    let mut failures = 0;
    for at in 1..=points {
        let memory = Memory::default();
        let (synced, finished) = record_until(&memory, at);
        let mut rng = rng(at);
        for case in 0..images {
            let disk = image(&memory, &mut rng);
            if let Err(why) = judge(&disk, synced, finished, case % 8 == 0) {
                eprintln!("call {at}, image {case}: {why}");
                failures += 1;
            }
        }
    }
    let figures = json!({ "points": points, "images_each": images, "steps": STEPS });
    report("L2", seed(), points * images, failures, figures);
    assert_eq!(failures, 0);
}

/// Does something to a durable episode and cuts the power at each of its calls; `right` judges what
/// the disk holds then, and whether the whole of it was done.
fn cut_while(
    bytes: &[u8],
    act: impl Fn(&Memory, &Path) -> Result<(), EpisodeError>,
    right: impl Fn(&Memory, bool),
) {
    for at in 1..100 {
        for case in 0..20 {
            let mut rng = item(case, Stream::Training, at);
            let (memory, path) = memory_with(bytes);
            memory.open(&path).unwrap().sync().unwrap();
            memory.sync_folder(Path::new(FOLDER)).unwrap();
            memory.fail(at, Failure::Once);
            let done = act(&memory, &path).is_ok();
            right(&image(&memory, &mut rng), done);
            if done && case == 19 {
                return;
            }
        }
    }
    panic!("it never came to its end");
}

#[test]
fn repair_may_be_cut_off_anywhere_and_be_done_again() {
    let (whole, written) = written(10, false);
    let torn = &whole[..written[8] as usize - 60];
    let good = Episode::decode(torn).unwrap();
    let mended = Episode { damage: None, ..good.clone() };
    cut_while(
        torn,
        |memory, path| repair(memory, path).map(drop),
        |disk, done| {
            let read = Episode::read(disk, Path::new(FIRST)).unwrap();
            assert_eq!(read.steps, good.steps);
            assert!(!done || read == mended);
            repair(disk, Path::new(FIRST)).unwrap();
            assert_eq!(Episode::read(disk, Path::new(FIRST)).unwrap(), mended);
        },
    );
}

#[test]
fn a_new_label_may_be_cut_off_anywhere_and_leaves_the_old_file_or_the_new_one() {
    let (whole, _) = written(10, true);
    let old = Episode::decode(&whole).unwrap();
    let mut new = old.clone();
    new.header.task = "another".into();
    cut_while(
        &whole,
        |memory, path| rewrite(memory, path, |header, _| header.task = "another".into()),
        |disk, done| {
            let read = Episode::read(disk, Path::new(FIRST)).unwrap();
            assert!(read == new || (!done && read == old));
        },
    );
}

#[test]
fn an_episode_whose_removal_was_cut_off_is_whole_or_gone() {
    let (whole, _) = written(10, true);
    let old = Episode::decode(&whole).unwrap();
    let act = |memory: &Memory, path: &Path| remove(memory, path);
    cut_while(&whole, act, |disk, done| match Episode::read(disk, Path::new(FIRST)) {
        Ok(read) => assert!(!done && read == old),
        Err(_) => assert!(list(disk, Path::new(FOLDER)).unwrap().is_empty()),
    });
}
