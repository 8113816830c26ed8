//! The campaign R2: hindsight relabelling on random episodes, each row checked against the episodes it
//! was drawn from. Prints one JSON line and is run in any size by `tools/campaign/run R2`.
//! `REGOAL_SEED` seeds it, `REGOAL_CASES` is the number of episodes.

#[path = "common/bench.rs"]
mod bench;

use bench::{number, report};
use rand::RngExt as _;
use regoal::goal::{Hindsight, Mix, ReplayBuffer, Sample, Strategy, Trajectory, Transitions};
use regoal::rng::{Rng, Stream, item};

/// Episodes of a buffer, and rows drawn of it.
const EPISODES: usize = 100;
const ROWS: usize = 200;
/// Sums of chance stay within this many deviations of what is expected.
const DEVIATIONS: f64 = 6.0;

/// A sum of chances, what it should be, and its variance.
#[derive(Default)]
struct Sum {
    found: f64,
    expected: f64,
    variance: f64,
}

impl Sum {
    fn add(&mut self, found: f64, expected: f64, variance: f64) {
        self.found += found;
        self.expected += expected;
        self.variance += variance;
    }

    /// In deviations.
    fn off(&self) -> f64 {
        (self.found - self.expected) / self.variance.sqrt().max(1e-9)
    }
}

/// Episodes whose observations say `[episode, time]` and whose actions say the time, for the longest of
/// 60 steps; their goals walk on a grid of tenths, so that many are met again.
fn episodes(rng: &mut Rng) -> Vec<Trajectory> {
    let episode = |e: usize| {
        let last = if rng.random_bool(0.1) { 1 } else { rng.random_range(1..=60) };
        let mut place = [0i32; 2];
        let goals: Vec<[f32; 2]> = (0..=last)
            .map(|_| {
                place.iter_mut().for_each(|x| *x += rng.random_range(-1..=1));
                place.map(|x| x as f32 * 0.1)
            })
            .collect();
        let seen: Vec<[f32; 2]> = (0..=last).map(|t| [e as f32, t as f32]).collect();
        let actions: Vec<[f32; 1]> = (0..last).map(|t| [t as f32]).collect();
        let wish = [0; 2].map(|_: i32| rng.random_range(-5..=5) as f32 * 0.1);
        Trajectory::new(&seen, &goals, &actions, &wish).unwrap()
    };
    (0..EPISODES).map(episode).collect()
}

fn strategy(rng: &mut Rng) -> Strategy {
    match rng.random_range(0..6) {
        0 => Strategy::None,
        1 => Strategy::Final,
        2 => Strategy::Future,
        3 => Strategy::Geometric { gamma: rng.random() },
        4 => Strategy::Episode,
        _ => Strategy::Random,
    }
}

/// Whether two goals are within `tolerance`, which lies between two steps of the grid.
fn near(a: &[f32], b: &[f32], tolerance: f32) -> bool {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    squares.sqrt() < f64::from(tolerance)
}

/// One buffer and what was drawn of it.
struct Round<'a> {
    episodes: &'a [Trajectory],
    hindsight: Hindsight,
    tolerance: f32,
}

impl Round<'_> {
    /// Whether a sample's goal is one that its strategy may give, and one that the filter lets pass.
    fn allowed(&self, sample: &Sample<'_>) -> bool {
        let (t, last) = (sample.t, sample.trajectory.last());
        let at = sample.achieved_at;
        let ranged = match self.hindsight.strategy {
            _ if !sample.relabelled() => at.is_none(),
            Strategy::None => false,
            Strategy::Final => at == Some(last),
            Strategy::Future | Strategy::Geometric { .. } => {
                at.is_some_and(|at| at > t && at <= last)
            }
            Strategy::Episode => at.is_some_and(|at| at <= last),
            Strategy::Random => at.is_none(),
        };
        let achieved = |e: &Trajectory| (0..=e.last()).any(|t| e.achieved_goal(t) == sample.goal);
        let held = match at {
            Some(at) => sample.goal == sample.trajectory.achieved_goal(at),
            None if sample.relabelled() => self.episodes.iter().any(achieved),
            None => sample.goal == sample.trajectory.desired_goal(),
        };
        let now = sample.trajectory.achieved_goal(t);
        let passes = |filter| !sample.relabelled() || !near(now, sample.goal, filter);
        let k = at.unwrap_or(last).abs_diff(t) as i32;
        let weighs = (f64::from(sample.weight(0.97)) - 0.97f64.powi(k)).abs() < 1e-6;
        ranged && held && weighs && self.hindsight.already_achieved.is_none_or(passes)
    }

    /// Whether a row is the sample, copied out, and its reward that of its own goal.
    fn copied(&self, rows: &Transitions, i: usize, sample: &Sample<'_>) -> bool {
        let two = |all: &[f32]| [all[2 * i], all[2 * i + 1]];
        let [e, t] = two(&rows.observation).map(|x| x as usize);
        let Some(episode) = self.episodes.get(e).filter(|episode| t < episode.last()) else {
            return false;
        };
        let next = episode.achieved_goal(t + 1);
        let success = f32::from(u8::from(near(next, sample.goal, self.tolerance)));
        sample.t == t
            && sample.trajectory.observation(t) == two(&rows.observation)
            && two(&rows.next_observation) == [e as f32, (t + 1) as f32]
            && rows.action[i] == t as f32
            && two(&rows.achieved_goal) == episode.achieved_goal(t)
            && two(&rows.next_achieved_goal) == next
            && two(&rows.goal) == sample.goal
            && rows.success[i] == success
    }
}

/// What chance should give.
#[derive(Default)]
struct Chances {
    relabelled: Sum,
    future: Sum,
    episode: Sum,
}

impl Chances {
    fn add(&mut self, hindsight: &Hindsight, sample: &Sample<'_>) {
        let (p, last) = (hindsight.probability, sample.trajectory.last());
        if hindsight.already_achieved.is_some() || hindsight.strategy == Strategy::None {
            return;
        }
        let share = f64::from(u8::from(sample.relabelled()));
        self.relabelled.add(share, p, p * (1.0 - p));
        let uniform = |n: usize| ((n as f64 + 1.0) / 2.0, ((n * n) as f64 - 1.0) / 12.0);
        let Some(at) = sample.achieved_at else { return };
        if hindsight.strategy == Strategy::Future {
            let (mean, variance) = uniform(last - sample.t);
            self.future.add((at - sample.t) as f64, mean, variance);
        } else if hindsight.strategy == Strategy::Episode {
            let (mean, variance) = uniform(last + 1);
            self.episode.add((at + 1) as f64, mean, variance);
        }
    }
}

/// Draws of one buffer: failures, and rows drawn.
fn round(index: u64, chances: &mut Chances) -> (u64, u64) {
    let mut rng = item(number("REGOAL_SEED", 1), Stream::Training, index);
    let episodes = episodes(&mut rng);
    let mut buffer = ReplayBuffer::default();
    episodes.iter().for_each(|episode| buffer.push(episode).unwrap());
    assert!(buffer.trajectories().zip(&episodes).all(|(a, b)| a == b.view()));
    let already_achieved = rng.random_bool(0.3).then_some(0.05);
    let probability = [0.0, 1.0, rng.random()][rng.random_range(0..3)];
    let hindsight = Hindsight { strategy: strategy(&mut rng), probability, already_achieved };
    let tolerance = [0.05, 0.12, 0.25][rng.random_range(0..3)];
    let round = Round { episodes: &episodes, hindsight, tolerance };
    let draw = |rng: &mut Rng| {
        let mut rows = Transitions::default();
        rows.draw(ROWS, &buffer, &hindsight, tolerance, true, rng);
        rows
    };
    let (mut one, mut two) = (rng.clone(), rng.clone());
    let rows = draw(&mut one);
    let mut failures = u64::from(rows != draw(&mut two)) + u64::from(rows.len() != ROWS);
    for i in 0..rows.len() {
        let Some(sample) = buffer.sample(&hindsight, &mut rng) else { return (failures + 1, 0) };
        failures += u64::from(!round.allowed(&sample) || !round.copied(&rows, i, &sample));
        chances.add(&hindsight, &sample);
    }
    // The batch and the samples took the same numbers from the generator.
    failures += u64::from(one != rng);
    (failures, rows.len() as u64)
}

#[test]
fn r2_every_row_is_a_step_with_a_goal_of_its_strategy_and_the_reward_of_that_goal() {
    let count = number("REGOAL_CASES", 100_000);
    let mut chances = Chances::default();
    let (mut failures, mut rows) = (0, 0);
    for index in 0..count.div_ceil(EPISODES as u64) {
        let (failed, drawn) = round(index, &mut chances);
        failures += failed;
        rows += drawn;
    }
    let off = [&chances.relabelled, &chances.future, &chances.episode].map(Sum::off);
    failures += off.iter().filter(|off| off.abs() > DEVIATIONS).count() as u64;
    let figures = serde_json::json!({
        "rows": rows, "relabelled_deviations": off[0], "future_deviations": off[1],
        "episode_deviations": off[2],
    });
    report("R2", number("REGOAL_SEED", 1), count, failures, figures);
    assert_eq!(failures, 0);
    assert!(chances.relabelled.variance > 0.0 && rows > count);
}

#[test]
fn a_batch_holds_the_share_of_demonstrations_that_was_asked_for_wherever_there_are_both() {
    let mut rng = item(number("REGOAL_SEED", 1), Stream::Training, u64::MAX - 1);
    let (mut shown, empty) = (ReplayBuffer::default(), ReplayBuffer::default());
    episodes(&mut rng).iter().for_each(|episode| shown.push(episode).unwrap());
    for _ in 0..1000 {
        let (rows, share) = (rng.random_range(1..500usize), rng.random_range(-0.2..1.2f64));
        let of = |demonstrations, attempts| Mix { demonstrations, attempts };
        let count = of(&shown, &shown).demonstrated(rows, share);
        assert!((count as f64 - share.clamp(0.0, 1.0) * rows as f64).abs() <= 0.5);
        assert_eq!(of(&shown, &empty).demonstrated(rows, share), rows);
        assert_eq!(of(&empty, &shown).demonstrated(rows, share), 0);
    }
}
