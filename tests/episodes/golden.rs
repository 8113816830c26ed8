//! L7: files of every version of the format are read forever, and the same steps always give the
//! same bytes.

use std::path::Path;
use std::sync::Arc;

use regoal::episode::*;
use regoal::storage::{Disk, Memory, Storage};
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

/// The format without currents, tasks and names of goals, as the demonstration wrote it.
const FIRST_FORMAT: &str = "tests/data/episodes/format-1.mcap";
/// The format without inputs: twelve steps and their end.
const SECOND_FORMAT: &str = "tests/data/episodes/format-2.mcap";
/// Twelve steps, their inputs and their end.
const THIRD_FORMAT: &str = "tests/data/episodes/format-3.mcap";

/// Whether what is read is what the version that wrote it shows.
fn reads_the_first_format() -> bool {
    let read = Episode::read(&Disk, Path::new(FIRST_FORMAT)).unwrap();
    let (header, last) = (&read.header, read.steps.last().unwrap());
    let shoulder_lift = read.steps.iter().map(|step| step.position[1]);
    let outcome = Outcome {
        success: Some(true),
        final_distance: Some(0.014_155_455),
        reached_tick: Some(1299),
        ticks: 105,
        missed_ticks: 1,
        reason: reason("reached"),
    };
    (read.damage, read.outcome, read.steps.len()) == (None, Some(outcome), 104)
        && (header.number, header.source, header.task.as_str()) == (5, Source::Evaluation, "")
        && header.policy.to_string() == "51f7d2fb1e64d890b03beff043ca5945"
        && shoulder_lift.fold(0.0, f32::min) == -0.641_203_94
        && (last.tick, last.mode, last.events) == (1318, Mode::Holding, Events::GOAL_REACHED)
        && last.achieved_goal == [0.044_308_115, -0.290_748_2, 0.365_039_35]
        && last.desired_goal == [0.039_989_304, -0.302_721_23, 0.371_233_82]
        && last.current.is_empty()
}

fn reads_the_second_format() -> bool {
    let read = Episode::read(&Disk, Path::new(SECOND_FORMAT)).unwrap();
    let header = EpisodeHeader { config: String::new(), origin: None, ..header() };
    (read.header, read.steps, read.inputs, read.outcome, read.damage)
        == (header, steps(0..12), Vec::new(), Some(outcome()), None)
}

fn writes_the_third_format() -> bool {
    let golden = Disk.read(Path::new(THIRD_FORMAT)).unwrap();
    let read = Episode::decode(&golden).unwrap();
    let inputs: Vec<Inputs> = (0..12).filter_map(inputs).collect();
    let same = (read.header, read.steps, read.inputs, read.outcome, read.damage)
        == (header(), steps(0..12), inputs, Some(outcome()), None);
    same && written(12, true).0 == golden
}

/// Random steps written and read again; gives how many came back otherwise.
fn round_trip(count: u64) -> u64 {
    let mut changed = 0;
    for part in 0..count.div_ceil(1000) {
        let mut rng = rng(part);
        let steps: Vec<Step> = (0..1000).map(|tick| any_step(&mut rng, tick)).collect();
        let storage: Arc<dyn Storage> = Arc::new(Memory::default());
        let mut writer = create(&storage).unwrap();
        steps.iter().for_each(|step| writer.push(step).unwrap());
        let read = Episode::read(storage.as_ref(), &writer.finish(&outcome()).unwrap()).unwrap();
        changed += steps.len().abs_diff(read.steps.len()) as u64;
        changed += steps.iter().zip(&read.steps).filter(|(a, b)| !same(a, b)).count() as u64;
    }
    changed
}

#[test]
fn l7_every_format_is_read_and_the_last_is_written_byte_for_byte() {
    let steps = number("REGOAL_CASES", 20_000);
    let old = reads_the_first_format() && reads_the_second_format();
    let new = writes_the_third_format();
    let changed = round_trip(steps);
    let failures = changed + u64::from(!old) + u64::from(!new);
    let figures = json!({ "formats": 3, "steps_changed": changed });
    report("L7", seed(), steps, failures, figures);
    assert!(old && new);
    assert_eq!(changed, 0);
}

#[test]
#[ignore = "writes the golden file: only for a new format, which gets a new name"]
fn write_the_golden_file() {
    Disk.replace(Path::new(THIRD_FORMAT), &written(12, true).0).unwrap();
}
