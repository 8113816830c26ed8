//! What was recorded is played again, and done again by the loop: bit for bit.
//!
//! R3 prints one JSON line and is run in any size by `tools/campaign/run R3`. `REGOAL_SEED` seeds it,
//! `REGOAL_TICKS` sizes it.

#[path = "common/bench.rs"]
mod bench;
#[path = "common/patience.rs"]
mod patience;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command as Program, Output};
use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, Lie, Line, number, report, robot};
use patience::{NEVER_HUNG, patient};
use rand::RngExt as _;
use regoal::clock::{Clock as _, ManualClock, Time};
use regoal::cmd::simulate::header_template;
use regoal::config::RobotConfig;
use regoal::control::{
    Command, Decision, GoalRequest, GoalUpdate, Lead, Pilot, Replay, ReplayError, Replayed,
    TeleopAction, TeleopSender, teleop_queue,
};
use regoal::episode::*;
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation};
use regoal::rng::{Rng, Stream, item};
use regoal::storage::{Disk, Memory, Storage};

/// Answers in every way that a policy may.
struct Moody {
    rng: Rng,
    last: Option<Decision>,
}

impl Pilot for Moody {
    fn exchange(&mut self, o: &Observation, _: Time) -> Option<Decision> {
        let rng = &mut self.rng;
        // As the one in its thread: the newest there is, which may be of the goal before.
        if rng.random_bool(0.1) {
            return self.last.clone();
        }
        if rng.random_bool(0.01) {
            return None;
        }
        let swing = |i: usize| 0.01 * (o.tick as f32 * 0.05 + i as f32).sin();
        let bad = rng.random_bool(0.002);
        let relative = o.episode.is_multiple_of(2);
        let action = |ahead: usize| -> JointVec<f32> {
            let to = |(i, sent): (usize, &f32)| match (bad, relative) {
                (true, _) => f32::NAN,
                (_, true) => swing(i + ahead),
                _ => sent + 10.0 * swing(i + ahead),
            };
            o.sent.iter().enumerate().map(to).collect()
        };
        let plan = if o.episode.is_multiple_of(3) { rng.random_range(0..4) } else { 0 };
        let decision = Decision {
            tick: o.tick,
            episode: o.episode,
            action: action(0),
            ahead: (1..=plan).map(action).collect(),
            kind: if relative { ActionKind::JointDelta } else { ActionKind::JointPosition },
            policy: PolicyId([7; 16]),
        };
        self.last = Some(decision.clone());
        Some(decision)
    }
}

/// A robot in service, with everything that happens to one.
struct Session {
    bench: Bench,
    person: TeleopSender,
    log: LogWriter,
    storage: Arc<dyn Storage>,
    rng: Rng,
    id: u64,
}

const FOLDER: &str = "session";

impl Session {
    fn new(seed: u64) -> Self {
        let (clock, robot) = (ManualClock::default(), robot());
        let storage: Arc<dyn Storage> = Arc::new(Memory::default());
        let (sender, receiver) = log_queue();
        let log = LogWriter::new(
            storage.clone(),
            Arc::new(clock.clone()),
            FOLDER.into(),
            header_template(&robot),
            WriterConfig::default(),
            receiver,
        );
        let pilot = Moody { rng: item(seed, Stream::Exploration, 0), last: None };
        let seen = Arc::new(clock.clone());
        let mut bench = Bench::with_log(robot, Box::new(pilot), Some(sender), clock, seen);
        let (person, heard) = teleop_queue();
        bench.control = bench.control.with_teleop(heard);
        let rng = item(seed, Stream::Training, 0);
        Self { bench, person, log: log.unwrap(), storage, rng, id: 0 }
    }

    /// One tick, a little late, after which the log is written.
    fn tick(&mut self) {
        let bench = &mut self.bench;
        bench.tick += if self.rng.random_bool(0.003) { 3 } else { 1 };
        let late = Duration::from_nanos(self.rng.random_range(0..300_000));
        let start = bench.clock.now() + late;
        bench.clock.sleep_until(start);
        bench.control.tick(bench.tick, start);
        bench.clock.sleep_until(start + bench.robot.period() - late);
        self.log.drain();
    }

    /// The person moves their device: near where the arm is, and now and then nonsense.
    fn wish(&mut self) {
        let sent = self.bench.control.step().sent.clone();
        let rng = &mut self.rng;
        let far = if rng.random_bool(0.005) { f64::NAN } else { 0.02 };
        let by = rng.random_range(-1.0..1.0) * far;
        let position = sent.iter().map(|q| f64::from(*q) + by).collect();
        if rng.random_bool(0.8) {
            self.person.send(TeleopAction { stamp: self.bench.clock.now(), position });
        }
    }

    fn say(&mut self, command: Command) -> bool {
        self.bench.control.command(&command).is_ok()
    }

    fn goal(&mut self) -> GoalRequest {
        self.id += 1;
        let rng = &mut self.rng;
        let goal = [0.2, 0.0, 0.2].map(|x| x + rng.random_range(-0.1..0.1));
        GoalRequest {
            id: self.id,
            timeout: Duration::from_millis(rng.random_range(500..6000)),
            stream: rng.random_bool(0.3).then_some(Duration::from_secs(1)),
            ..self.bench.goal(goal)
        }
    }

    /// Armed, whatever happened before.
    fn arm(&mut self) {
        let line = &self.bench.line;
        Line::set(&line.silent, false);
        Line::set(&line.gone, false);
        line.lies.lock().unwrap().clear();
        for _ in 0..2000 {
            self.wish();
            self.tick();
            self.say(Command::Arm);
            if matches!(self.bench.control.mode(), Mode::Holding | Mode::Reaching | Mode::Teleop) {
                return;
            }
        }
        panic!("the arm does not arm: {:?}", self.bench.control.mode());
    }

    /// Something that happens in mid-episode.
    fn happen(&mut self) {
        let goal = stack([0.2, 0.05, 0.2f32].map(|x| x + self.rng.random_range(-0.05..0.05)));
        let update = GoalUpdate { id: self.id, sequence: self.bench.tick, goal: goal.clone() };
        let lead = if self.rng.random_bool(0.3) { Lead::ByHand } else { Lead::Device };
        let line = self.bench.line.clone();
        match self.rng.random_range(0..1000) {
            0..100 => drop(self.say(Command::Follow(update))),
            100..110 => drop(self.say(Command::TakeOver(lead))),
            110..120 => drop(self.say(Command::LetGo)),
            120..123 => drop(self.say(Command::Stop)),
            123 => drop(self.say(Command::EmergencyStop)),
            124 => drop(self.say(Command::Disarm)),
            125..130 => drop(self.say(Command::Mark)),
            130..133 => drop(self.say(Command::Cut)),
            133..136 => drop(self.say(Command::Conclude(None))),
            136..140 => drop(self.say(Command::Object(goal))),
            140..144 => Line::set(&line.silent, true),
            144..160 => Line::set(&line.silent, false),
            160 => Line::set(&line.gone, true),
            161..164 => {
                let lie = Lie {
                    load: Some(700),
                    voltage: Some(self.rng.random_range(90..140)),
                    ..Lie::default()
                };
                line.lies.lock().unwrap().insert(self.rng.random_range(1..7), lie);
            }
            164..180 => line.lies.lock().unwrap().clear(),
            _ => {}
        }
    }

    /// One goal or demonstration, from its beginning to its end.
    fn episode(&mut self) {
        self.arm();
        let request = self.goal();
        if self.rng.random_bool(0.3) {
            self.say(Command::TakeOver(Lead::Device));
            let given = self.rng.random_bool(0.5);
            let goal = if given { request.goal.clone() } else { stack([]) };
            self.say(Command::Record(GoalRequest { goal, stream: None, ..request }));
        } else {
            self.say(Command::LetGo);
            self.say(Command::Reach(request));
        }
        for _ in 0..1000 {
            self.wish();
            self.tick();
            if self.bench.control.take_result().is_some() {
                return;
            }
            self.happen();
        }
        self.say(Command::Disarm);
    }

    /// Runs until so many steps are logged.
    fn run(mut self, steps: u64) -> Recorded {
        let status = self.log.status();
        while status.steps() < steps {
            self.episode();
        }
        self.log.close();
        assert_eq!((status.lost(), status.last_error()), (0, None));
        let paths = paths(self.storage.as_ref(), Path::new(FOLDER)).unwrap();
        let read = |path: &std::path::PathBuf| Episode::read(self.storage.as_ref(), path).unwrap();
        Recorded { episodes: paths.iter().map(read).collect() }
    }
}

struct Recorded {
    episodes: Vec<Episode>,
}

impl Recorded {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.episodes.iter().flat_map(|episode| &episode.steps)
    }
}

/// Does episodes again by a robot's loop.
fn verify(robot: &RobotConfig, episodes: &[Episode]) -> Replayed {
    let mut replay = Replay::new(robot).unwrap();
    let mut sum = Replayed::default();
    for episode in episodes {
        let found = replay.run(episode).unwrap();
        sum.compared += found.compared;
        sum.unknown += found.unknown;
        sum.different += found.different;
        sum.first = sum.first.or(found.first);
    }
    sum
}

#[test]
fn r3_a_session_is_done_again_byte_for_byte() {
    let (seed, ticks) = (number("REGOAL_SEED", 1), number("REGOAL_TICKS", 20_000));
    let recorded = Session::new(seed).run(ticks);
    let steps = recorded.steps().count() as u64;
    let found = verify(&robot(), &recorded.episodes);
    let failures = found.different + found.unknown + steps.abs_diff(found.compared);
    let faults: BTreeSet<String> = recorded
        .steps()
        .filter_map(|step| match step.mode {
            Mode::Faulted(fault) => Some(format!("{fault:?}")),
            _ => None,
        })
        .collect();
    let corrected = recorded.steps().filter(|step| step.intervention).count();
    let orders: usize =
        recorded.episodes.iter().flat_map(|e| &e.inputs).map(|i| i.orders.len()).sum();
    let figures = serde_json::json!({
        "episodes": recorded.episodes.len(), "ticks": found.compared, "different": found.different,
        "unknown": found.unknown, "faults": faults, "by_a_person": corrected, "orders": orders,
    });
    report("R3", seed, steps, failures, figures);
    assert_eq!(found.first, None);
    assert_eq!((found.different, found.unknown, found.compared), (0, 0, steps));
    assert!(faults.len() >= 3 && corrected > 0 && orders > 100, "{faults:?}");
}

/// A short session and its robot.
fn short() -> (RobotConfig, Vec<Episode>) {
    (robot(), Session::new(7).run(2000).episodes)
}

#[test]
fn another_limit_is_found() {
    let (robot, episodes) = short();
    assert_eq!(verify(&robot, &episodes).different, 0);
    let change = |change: fn(&mut RobotConfig)| {
        let mut other = robot.clone();
        change(&mut other);
        verify(&other, &episodes)
    };
    for found in [
        change(|robot| robot.joint[0].max_velocity *= 0.9),
        change(|robot| robot.joint[3].max_jerk *= 0.99),
        change(|robot| robot.safety.takeover_speed *= 0.5),
        change(|robot| robot.control.fault_after_ticks -= 1),
    ] {
        assert!(found.different > 0 && found.first.is_some(), "{found:?}");
    }
}

#[test]
fn a_flipped_bit_of_a_measured_state_or_of_a_command_is_found() {
    let (robot, episodes) = short();
    let moving = |step: &Step| step.sent.len() == 6 && !matches!(step.mode, Mode::Faulted(_));
    let (mut flips, mut rng) = (0, item(7, Stream::Training, 1));
    for episode in episodes.iter().filter(|e| e.steps.len() > 20) {
        let at = rng.random_range(0..episode.steps.len());
        let joint = rng.random_range(0..5);
        if !moving(&episode.steps[at]) {
            continue;
        }
        // The lowest bit of a command; of an angle, whose lowest does not move the tip by a bit, its sign.
        for (bit, sent) in [(0, true), (31, false)] {
            let mut changed = episode.clone();
            let step = &mut changed.steps[at];
            let value = if sent { &mut step.sent[joint] } else { &mut step.position[joint] };
            if value.abs() < 1e-3 && !sent {
                continue;
            }
            *value = f32::from_bits(value.to_bits() ^ 1 << bit);
            let found = verify(&robot, &[changed]);
            assert!(found.different > 0, "bit {bit} of joint {joint} at {at}: {found:?}");
            assert_eq!(found.first.unwrap().tick, episode.steps[at].tick);
            flips += 1;
        }
    }
    assert!(flips >= 4, "{flips}");
}

#[test]
fn an_episode_that_holds_too_little_says_so_and_nothing_after_a_gap_is_believed() {
    let old = Episode::read(&Disk, Path::new("tests/data/episodes/format-1.mcap")).unwrap();
    assert_eq!(Replay::new(&robot()).unwrap().run(&old), Err(ReplayError::NoInputs));
    let (robot, mut episodes) = short();
    let episode = episodes.iter_mut().find(|episode| episode.steps.len() > 20).unwrap();
    episode.steps.remove(10);
    episode.steps[10].events |= Events::LOG_GAP;
    let found = verify(&robot, std::slice::from_ref(episode));
    assert_eq!((found.compared, found.different), (10, 0));
    assert_eq!(found.unknown, episode.steps.len() as u64 - 10);
}

#[test]
fn relabelling_keeps_the_inputs() {
    let (_, episodes) = short();
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let path = append(&storage, Path::new("other"), &episodes[0]).unwrap();
    rewrite(storage.as_ref(), &path, |header, _| header.split = Split::Validation).unwrap();
    let read = Episode::read(storage.as_ref(), &path).unwrap();
    assert_eq!((&read.inputs, read.damage), (&episodes[0].inputs, None));
    assert_eq!(read.header.origin, episodes[0].header.origin);
    assert!(read.header.origin.is_some() && !read.inputs.is_empty());
}

fn regoal(args: &[&str]) -> Output {
    Program::new(env!("CARGO_BIN_EXE_regoal")).args(args).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_real_threads_recorded_is_verified_and_played_in_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (robot, episodes) = (&at("arm.toml"), &at("episodes"));
    let text = patient(include_str!("../firmware-config/emulated.toml"), NEVER_HUNG);
    Disk.replace(Path::new(robot), text.as_bytes()).unwrap();
    let record = ["record", "--scripted", "--count", "1", "--headless", "--robot", robot];
    let recorded = regoal(&[&record[..], &["--episodes", episodes]].concat());
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let found = json(&regoal(&["replay", "--verify", episodes, "--json"]));
    assert!(found["ticks"].as_u64().unwrap() > 20, "{found}");
    assert_eq!((&found["different_ticks"], &found["unknown_ticks"]), (&0.into(), &0.into()));
    let first = format!("{episodes}/episode-000000.mcap");
    let played = json(&regoal(&["replay", &first, "--robot", robot, "--speed", "2", "--json"]));
    assert_eq!(played["completed"], true);
    assert!(played["ticks"].as_u64().unwrap() > 5, "{played}");
    let joints = played["tracking"].as_array().unwrap();
    let rms = |joint: &serde_json::Value| joint["rms_deg"].as_f64().unwrap();
    assert!(joints.len() == 6 && joints.iter().all(|joint| rms(joint).is_finite()));
    assert!(joints.iter().any(|joint| rms(joint) > 0.0), "nothing was measured: {played}");
}
