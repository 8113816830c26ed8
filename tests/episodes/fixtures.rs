//! Episodes as the tests write them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng as _, RngExt as _};
use regoal::clock::{ManualClock, Time, WallTime};
use regoal::episode::*;
use regoal::joints::stack;
use regoal::rng::{Rng, Stream, item};
use regoal::storage::{Memory, Storage};

use crate::bench::number;

pub const FOLDER: &str = "data";
/// The first episode.
pub const FIRST: &str = "data/episode-000000.mcap";
const TICK: Duration = Duration::from_millis(10);

/// What seeds the campaigns.
pub fn seed() -> u64 {
    number("REGOAL_SEED", 1)
}

/// The numbers of one case of a campaign.
pub fn rng(case: u64) -> Rng {
    item(seed(), Stream::Training, case)
}

pub fn header() -> EpisodeHeader {
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
        software: "regoal".into(),
        config: r#"{"name":"so101"}"#.into(),
        origin: Some(origin()),
        ..EpisodeHeader::default()
    }
}

/// What a loop remembers that is in motion, with what JSON cannot say.
pub fn origin() -> Origin {
    let wish = TeleopAction { stamp: Time(900_000_000), position: stack([0.1, -0.2]) };
    Origin {
        tick: 41,
        stamps: stack([Time(999_990_000); 6]),
        position: stack([0.1; 6]),
        achieved_goal: stack([0.2, 0.0, 0.1]),
        mode: Mode::Teleop,
        powered: true,
        armed_at: Time(17),
        pending: Events::GOAL_SET,
        motions: stack([[0.1, -0.3, 1.0 / 3.0]; 6]),
        strains: stack(
            [Strain { load: 0.1 / 3.0, off_track: Some(Time(5)), ..Strain::default() }; 6],
        ),
        heard: wish,
        lead: Lead::Device,
        together: Some(Time(950_000_000)),
        object: Some((stack([0.1, 0.2, 0.3]), Time(7))),
    }
}

/// The inputs of one tick, of which there are some every fifth one.
pub fn inputs(tick: u64) -> Option<Inputs> {
    let time = step(tick).time;
    let wish = TeleopAction { stamp: time, position: stack([0.25, -0.5]) };
    let request = GoalRequest {
        id: tick,
        goal: stack([0.25, 0.05, 0.1]),
        tolerance: 0.02,
        timeout: Duration::from_millis(2500),
        stream: Some(Duration::from_millis(200)),
        end_when_reached: true,
        source: Source::Attempt,
        split: Split::Training,
        seed: Some(u64::MAX),
    };
    let orders = [Command::Reach(request), Command::Move(stack([0.1, 1.0 / 3.0])), Command::LetGo];
    let order = |command| Order {
        command,
        times: stack([time]),
        heard: Some(wish.clone()),
        answers: stack([true, false]),
    };
    tick.is_multiple_of(5).then(|| Inputs {
        tick,
        orders: orders.into_iter().map(order).collect(),
        heard: Some(wish.clone()),
        answers: stack([false]),
        lost: tick == 5,
        incomplete: false,
        supplies: stack([Supply { voltage: 7.4, troubles: 0x80, jumped: tick == 0 }; 6]),
        answered: Some(Answered { age: 2, relative: true, planned: true, spent: false }),
    })
}

pub fn outcome() -> Outcome {
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
pub fn step(tick: u64) -> Step {
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

pub fn steps(ticks: std::ops::Range<u64>) -> Vec<Step> {
    ticks.map(step).collect()
}

/// A step of any bits whatever.
pub fn any_step(rng: &mut Rng, tick: u64) -> Step {
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

/// Whether two steps are the same, bit for bit.
pub fn same(a: &Step, b: &Step) -> bool {
    bits(a) == bits(b)
        && (a.tick, a.time, a.wall, &a.stamps) == (b.tick, b.time, b.wall, &b.stamps)
        && (a.mode, a.events, a.intervention) == (b.mode, b.events, b.intervention)
        && a.policy == b.policy
}

pub fn create(storage: &Arc<dyn Storage>) -> Result<Writer, EpisodeError> {
    Writer::create(storage, Path::new(FOLDER), header(), &WriterConfig::default())
}

/// Writes steps from tick 0 on and tells after each how many bytes were written.
pub fn write(storage: &Arc<dyn Storage>, steps: u64, end: bool) -> (PathBuf, Vec<u64>) {
    let mut writer = create(storage).unwrap();
    let mut written = vec![writer.bytes()];
    for tick in 0..steps {
        inputs(tick).iter().for_each(|inputs| writer.inputs(inputs).unwrap());
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
pub fn written(steps: u64, end: bool) -> (Vec<u8>, Vec<u64>) {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (path, written) = write(&storage, steps, end);
    (storage.read(&path).unwrap(), written)
}

pub fn memory_with(bytes: &[u8]) -> (Memory, PathBuf) {
    let (memory, path) = (Memory::default(), PathBuf::from("data/episode-000000.mcap"));
    memory.create(&path).unwrap().write_all(bytes).unwrap();
    (memory, path)
}

pub fn log_writer(storage: &Memory, clock: &ManualClock) -> (LogSender, LogWriter) {
    let (sender, receiver) = log_queue();
    let (storage, clock) = (Arc::new(storage.clone()), Arc::new(clock.clone()));
    let config = WriterConfig::default();
    (sender, LogWriter::new(storage, clock, FOLDER.into(), header(), config, receiver).unwrap())
}
