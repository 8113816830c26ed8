//! What the log costs the control thread.

use std::hint::black_box;

use std::sync::Arc;
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock, Time, WallTime, processor_time};
use regoal::episode::{
    Begin, EpisodeHeader, PolicyId, Seal, Step, Writer, WriterConfig, list, log_queue, repair,
};
use regoal::joints::{JointVec, stack};
use regoal::storage::{Disk, Storage};

use super::Setup;
use super::measure::{Contender, Figure, Unit, in_turns, latency_us};

/// Handing one step of six joints over to the log's thread, and a read of the clock (us): the median,
/// and what one of a hundred takes. The floor is a copy of the step that is never handed over.
pub fn handover(_: &Setup) -> Vec<Figure> {
    let step = step();
    let (mut sender, mut receiver) = log_queue();
    sender.begin(Begin::default());
    let mut waiting = 0;
    let mut hand_over = || {
        sender.step(black_box(&step).clone());
        waiting += 1;
        // Rarer than one in a hundred, so that it does not show.
        if waiting == 400 {
            while receiver.receive().is_some() {}
            waiting = 0;
        }
    };
    let mut copy = step.clone();
    let mut contenders: [Contender<'_, 2>; 2] = [
        Box::new(|| Some(latency_us(&mut hand_over))),
        Box::new(|| Some(latency_us(|| copy.clone_from(black_box(&step))))),
    ];
    let values = in_turns(&mut contenders);
    drop(contenders);
    black_box(copy);
    assert_eq!(sender.lost(), 0);
    ["median", "p99"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let [ours, floor] = [0, 1].map(|contender: usize| values[contender].map(|v| v[i]));
            Figure::new(format!("log/handover/{name}"), ours.unwrap(), Unit::Microseconds)
                .against("floor", floor)
        })
        .collect()
}

/// A step with all that a robot of six joints logs.
fn step() -> Step {
    let joints: JointVec<f32> = stack([0.25; 6]);
    Step {
        time: Time(1),
        wall: WallTime(1),
        stamps: stack([Time(1); 6]),
        position: joints.clone(),
        velocity: joints.clone(),
        load: joints.clone(),
        current: joints.clone(),
        temperature: joints.clone(),
        achieved_goal: stack([0.1, -0.2, 0.2]),
        desired_goal: stack([0.1, -0.2, 0.2]),
        action: joints.clone(),
        sent: joints,
        policy: PolicyId([1; 16]),
        ..Step::default()
    }
}

/// A file of so many bytes, which is limited to a tenth of a second.
const TORN: u64 = 100_000_000;
/// How often it is done; the best counts, as nothing but other work can make it slower.
const TIMES: usize = 5;

/// Looking into a folder in which an episode of 100 MB has no end, as a kill leaves it, and mending it:
/// seconds, and those of the processor. The file is in the system's memory.
pub fn recovery(_: &Setup) -> Vec<Figure> {
    let folder = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let config = WriterConfig { sync: Duration::MAX, ..WriterConfig::default() };
    let header = EpisodeHeader { rate_hz: 100.0, ..EpisodeHeader::default() };
    let mut writer = Writer::create(&storage, folder.path(), header, &config).unwrap();
    let mut steps = 0;
    while writer.bytes() < TORN {
        let time = Time(steps * 10_000_000);
        let step = Step { tick: steps, time, wall: WallTime(1 + time.0), ..step() };
        writer.push(&step).unwrap();
        steps += 1;
    }
    let path = writer.path().to_owned();
    drop(writer);
    let torn = Disk.read(&path).unwrap();
    let reopen = || {
        let found = list(&Disk, folder.path()).unwrap();
        assert!(found[0].damage.unwrap().seal == Seal::Missing && found[0].steps + 2 > steps);
    };
    let reopened = best(reopen, || ());
    let mend = || assert!(repair(&Disk, &path).unwrap().is_some());
    let mended = best(mend, || Disk.replace(&path, &torn).unwrap());
    [("log/reopen", reopened), ("log/repair", mended)]
        .into_iter()
        .flat_map(|(name, [wall, processor])| {
            let figure =
                |name, value| Figure::new(name, value, Unit::Seconds).against("limit", Some(0.1));
            [figure(name.to_owned(), wall), figure(format!("{name}/cpu"), processor)]
        })
        .collect()
}

/// The fewest seconds of a call after a preparation, and the fewest of the processor.
fn best(call: impl Fn(), prepare: impl Fn()) -> [f64; 2] {
    let mut best = [f64::INFINITY; 2];
    for _ in 0..TIMES {
        prepare();
        let before = (SystemClock.now(), processor_time());
        call();
        let took = [SystemClock.now().since(before.0), processor_time() - before.1];
        best = std::array::from_fn(|i| best[i].min(took[i].as_secs_f64()));
    }
    best
}
