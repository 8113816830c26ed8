//! Experience at scale: a million transitions, sampled with hindsight goals and read from episodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt as _;
use regoal::clock::{Clock as _, SystemClock, Time, processor_time};
use regoal::episode::{EpisodeHeader, Outcome, Source, Step, Writer, WriterConfig};
use regoal::goal::{Hindsight, ReplayBuffer, Trajectory, Transitions};
use regoal::joints::stack;
use regoal::learn::finetune::Experience;
use regoal::onnx::Verified;
use regoal::policy::PolicySpec;
use regoal::rng::{Rng, Stream, stream};
use regoal::storage::{Disk, Storage};

use super::loading::{forget_peak, kib};
use super::measure::{Contender, Figure, Unit, cpu_rate, in_turns, pinned};
use super::{Setup, peers};

/// A million transitions: episodes, and steps of each.
const EPISODES: usize = 20_000;
const STEPS: usize = 50;
/// Fetch pick & place: numbers in an observation, a goal and an action.
const FETCH: [usize; 3] = [25, 3, 4];
/// How near counts there (m).
const TOLERANCE: f32 = 0.05;

/// Transitions a second of processor time, in batches: with a probability of 0.8 (4 of 5) a goal of
/// the episode's future, drawn for each row, and all fields copied out: observation, achieved goal,
/// action, the next of both, goal, reward.
pub fn relabel(batch: usize) -> Vec<Figure> {
    let name = format!("relabel/{batch}");
    let values = pinned(1, || {
        let buffer = fetch(&mut stream(2, Stream::Weights));
        let hindsight = Hindsight { probability: 0.8, ..Hindsight::default() };
        let (mut rng, mut rows) = (stream(2, Stream::Training), Transitions::default());
        let mut fill = move || {
            rows.clear();
            rows.draw(batch, &buffer, &hindsight, TOLERANCE, false, &mut rng);
            std::hint::black_box(&rows);
        };
        let ours: Contender<'_, 1> = Box::new(move || Some([cpu_rate(&mut fill) * batch as f64]));
        in_turns(&mut [ours, peers::contender("sb3-her", &name, 1)])
    });
    let [ours, peer] = [0, 1].map(|i| values[i].map(|[rate]| rate));
    vec![Figure::new(name, ours.unwrap_or(0.0), Unit::SamplesOfCpu).against("sb3-her", peer)]
}

/// A million transitions of random numbers.
fn fetch(rng: &mut Rng) -> ReplayBuffer {
    let mut buffer = ReplayBuffer::default();
    let [o, g, a] = FETCH;
    for _ in 0..EPISODES {
        let sizes = [(STEPS + 1) * o, (STEPS + 1) * g, STEPS * a, g];
        let parts = sizes.map(|size| (0..size).map(|_| rng.random()).collect::<Vec<f32>>());
        let parts = parts.each_ref().map(Vec::as_slice);
        buffer.push(&Trajectory::of_parts(parts, STEPS).unwrap()).unwrap();
    }
    buffer
}

/// A million transitions from episodes as a robot writes them, files that the system has in its
/// memory: the seconds, those of the processors, and by how much more than the numbers' own size the process then holds.
pub fn load(setup: &Setup) -> Vec<Figure> {
    let folder = tempfile::tempdir().unwrap();
    let spec = PolicySpec::of(&Verified::from_bytes(&setup.policy).unwrap()).unwrap();
    let folders = written(setup, &spec, folder.path());
    let before = kib("VmRSS");
    forget_peak();
    let (start, busy) = (SystemClock.now(), processor_time());
    let experience = Experience::load(&Disk, &folders, &spec).unwrap();
    let seconds = SystemClock.now().since(start).as_secs_f64();
    let busy = (processor_time() - busy).as_secs_f64();
    let (after, peak) = (kib("VmRSS"), kib("VmHWM"));
    let buffer = experience.training().demonstrations;
    let [o, g, a] = buffer.sizes();
    let transitions = buffer.transitions();
    assert_eq!(transitions, EPISODES * STEPS);
    let raw = (4 * (transitions * (o + g + a) + EPISODES * g)) as f64;
    let sizes = |kib: f64| (kib - before) * 1024.0 / raw;
    vec![
        Figure::new("load/episodes", seconds, Unit::Seconds).against("limit", Some(3.0)),
        Figure::new("load/episodes/cpu", busy, Unit::Seconds).against("limit", Some(6.0)),
        Figure::new("load/episodes/memory", sizes(after), Unit::RawSizes)
            .against("limit", Some(1.5)),
        Figure::new("load/episodes/peak", sizes(peak), Unit::RawSizes).against("limit", Some(1.5)),
        Figure::new("load/episodes/bytes", (after - before) * 1024.0, Unit::Bytes),
    ]
}

/// Folders of episodes, `STEPS` transitions each: the first and the last tick only bound them.
fn written(setup: &Setup, spec: &PolicySpec, folder: &Path) -> Vec<PathBuf> {
    const FOLDERS: usize = 100;
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let mut rng = stream(3, Stream::Weights);
    let joints: Vec<String> = setup.robot.joint.iter().map(|joint| joint.name.clone()).collect();
    let folders: Vec<PathBuf> = (0..FOLDERS).map(|i| folder.join(format!("{i:02}"))).collect();
    for folder in &folders {
        for _ in 0..EPISODES / FOLDERS {
            let header = EpisodeHeader {
                joints: joints.clone(),
                goal_space: spec.goal_space.name().into(),
                rate_hz: 50.0,
                source: Source::Demonstration,
                ..EpisodeHeader::default()
            };
            let config = WriterConfig::default();
            let mut writer = Writer::create(&storage, folder, header, &config).unwrap();
            for tick in 0..STEPS as u64 + 2 {
                writer.push(&step(tick, joints.len(), &mut rng)).unwrap();
            }
            writer.finish(&Outcome { success: Some(true), ..Outcome::default() }).unwrap();
        }
    }
    folders
}

/// A tick with all that a robot logs.
fn step(tick: u64, joints: usize, rng: &mut Rng) -> Step {
    let time = Time(tick * 20_000_000);
    let mut row = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random()).collect() };
    Step {
        tick,
        time,
        stamps: stack((0..joints).map(|_| time)),
        position: stack(row(joints)),
        velocity: stack(row(joints)),
        load: stack(row(joints)),
        temperature: stack(row(joints)),
        achieved_goal: stack(row(3)),
        desired_goal: stack([0.1, 0.2, 0.3]),
        action: stack(row(joints)),
        sent: stack(row(joints)),
        ..Step::default()
    }
}
