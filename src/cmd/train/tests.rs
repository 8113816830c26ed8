//! A run as a whole, with a learner small enough to be followed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::folder::{BEST, CHECKPOINT, Folder, POLICY, PROGRESS};
use super::plan::Plan;
use super::training::{Ended, Training};
use crate::clock::ManualClock;
use crate::cmd::Context;
use crate::engine::Engine;
use crate::env::{ActionSpace, Ends, Env, EnvError, EnvSpec};
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::{Figures, Learner};
use crate::onnx::{Builder, Dim, Graph, Tensor};
use crate::rng::{Rng, Stream, normal, stream};
use crate::storage::{Memory, Storage as _};
use rand::RngExt as _;

/// A point on a line that goes where it is told.
struct Line {
    spec: EnvSpec,
    at: [f32; 1],
    goal: [f32; 1],
}

impl Line {
    fn new() -> Self {
        let spec = EnvSpec {
            name: "line",
            observation: 1,
            goal: 1,
            actions: ActionSpace::Continuous { size: 1, limit: 1.0 },
            horizon: 10,
            tolerance: 0.1,
            ends: Ends::Never,
        };
        Self { spec, at: [0.0], goal: [0.0] }
    }
}

impl Env for Line {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        vec![rng.random_range(-3.0..3.0)]
    }
    fn reset(&mut self, goal: &[f32], _rng: &mut Rng) -> Result<(), EnvError> {
        self.goal.copy_from_slice(goal);
        self.at = [0.0];
        Ok(())
    }
    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        self.at[0] += action[0].clamp(-1.0, 1.0);
        Ok(())
    }
    fn observation(&self) -> &[f32] {
        &self.at
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.at
    }
    fn desired_goal(&self) -> &[f32] {
        &self.goal
    }
}

/// Steps towards the goal, `gain (g - s)`, whose gain climbs to 1 by the seed's own way; after
/// `until` iterations somebody asks it to stop.
struct Climber {
    gain: f32,
    steps: u64,
    rng: Rng,
    iterations: Arc<AtomicU64>,
    until: u64,
    stop: Arc<AtomicBool>,
}

impl Learner for Climber {
    fn iterate(&mut self) -> Result<Figures, LearnError> {
        let noise = normal(&mut self.rng);
        self.gain += 0.1 * (1.0 - self.gain) * (1.0 + 0.1 * noise as f32);
        self.steps += 30;
        if self.iterations.fetch_add(1, Ordering::Relaxed) + 1 == self.until {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(vec![("noise", noise), ("gain", self.gain.into())])
    }
    fn env_steps(&self) -> u64 {
        self.steps
    }
    fn policy(&self) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let [s, g] =
            ["observation", "desired_goal"].map(|name| b.input(name, &[Dim::Batch, Dim::Fixed(1)]));
        let gain = b.parameter("gain", Tensor::new(vec![1, 1], vec![self.gain])?);
        let way = b.sub(g, s);
        let action = b.mul(way, gain);
        b.output("action", action);
        Ok(b.finish()?)
    }
    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put("gain", [self.gain]);
        kept.put_count("steps", self.steps);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }
    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.gain = kept.tensor("gain")?[0];
        self.steps = kept.count("steps")?;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}

struct Bench {
    storage: Memory,
    context: Context,
    plan: Plan,
}

impl Bench {
    fn new(steps: u64) -> Self {
        let storage = Memory::default();
        let context = Context {
            storage: Arc::new(storage.clone()),
            clock: Arc::new(ManualClock::default()),
            interrupted: Arc::default(),
            program: "regoal".into(),
        };
        let plan = Plan {
            method: "climb".into(),
            env: "line".into(),
            preset: None,
            robot: None,
            seeds: vec![3],
            steps,
            eval_every: 100,
            eval_goals: Some(20),
            engine: "tract".into(),
            software: "test".into(),
            python: None,
            settings: toml::Table::new(),
        };
        Self { storage, context, plan }
    }

    fn folder(&self) -> Folder {
        Folder::new(&self.context.storage, Path::new("run"))
    }

    /// A session of the run; somebody asks it to stop at iteration `until`.
    fn session(&self, until: u64) -> anyhow::Result<Ended> {
        self.context.interrupted.store(false, Ordering::Relaxed);
        let rng = stream(3, Stream::Training);
        let stop = Arc::clone(&self.context.interrupted);
        let learner = Climber { gain: 0.0, steps: 0, rng, iterations: Arc::default(), until, stop };
        let training = Training {
            context: &self.context,
            plan: &self.plan,
            folder: &self.folder(),
            engine: &Engine::tract(),
            learner: Box::new(learner),
            open_env: &|_| Ok(Box::new(Line::new())),
            jobs: 2,
            json: false,
        };
        training.run()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        self.storage.read(&Path::new("run").join(name)).unwrap()
    }

    /// The table without the processor's time.
    fn table(&self) -> Vec<String> {
        let text = String::from_utf8(self.read(PROGRESS)).unwrap();
        let row = |line: &str| {
            let cells = line.split(',').enumerate().filter(|(i, _)| *i != 2);
            cells.map(|(_, cell)| cell.to_owned() + ",").collect()
        };
        text.lines().map(row).collect()
    }
}

const NEVER: u64 = u64::MAX;

#[test]
fn a_run_is_evaluated_at_its_beginning_every_so_often_and_at_its_end() {
    let bench = Bench::new(450);
    let ended = bench.session(NEVER).unwrap();
    let steps: Vec<u64> = ended.rows.iter().map(|row| row.steps).collect();
    // Iterations of 30 steps: the first at or past each hundred.
    assert_eq!(steps, [0, 120, 210, 300, 420, 450]);
    assert!(!ended.interrupted);
    let first = ended.rows[0].last.unwrap();
    assert!(first < 0.2 && ended.rows[5].last == Some(1.0), "{:?}", ended.rows);
    let gain = |row: &super::Row| row.figures.iter().find(|(name, _)| name == "gain").unwrap().1;
    assert!(gain(&ended.rows[5]) > gain(&ended.rows[1]));
}

#[test]
fn a_run_that_was_stopped_and_resumed_ends_as_one_that_was_not() {
    let whole = Bench::new(900);
    whole.session(NEVER).unwrap();
    // Between evaluations, at one, and before the first.
    for until in [5, 7, 1] {
        let parts = Bench::new(900);
        assert!(parts.session(until).unwrap().interrupted);
        assert!(!parts.session(NEVER).unwrap().interrupted);
        assert_eq!(parts.table(), whole.table(), "stopped after iteration {until}");
        for name in [POLICY, BEST] {
            assert!(parts.read(name) == whole.read(name), "{name}, {until}");
        }
    }
    let mut longer = Bench::new(300);
    longer.session(NEVER).unwrap();
    longer.plan.steps = 900;
    longer.session(NEVER).unwrap();
    assert_eq!(longer.table(), whole.table());
}

#[test]
fn whoever_is_stopped_between_the_table_and_the_checkpoint_evaluates_once_more() {
    let whole = Bench::new(300);
    whole.session(NEVER).unwrap();
    let parts = Bench::new(300);
    parts.session(6).unwrap();
    let kept = parts.read(CHECKPOINT);
    parts.session(NEVER).unwrap();
    parts.storage.replace(&Path::new("run").join(CHECKPOINT), &kept).unwrap();
    parts.session(NEVER).unwrap();
    assert_eq!(parts.table(), whole.table());
}

#[test]
fn the_best_policy_is_kept_and_a_file_says_where_it_comes_from() {
    let bench = Bench::new(450);
    let ended = bench.session(NEVER).unwrap();
    let best =
        ended.rows.iter().map(super::Row::score).fold((0.0, 0.0), |a, b| if b > a { b } else { a });
    let graph = Graph::from_bytes(&bench.read(BEST)).unwrap();
    let text = &graph.metadata()[super::export::KEY];
    let facts: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(
        (facts["success_any"].as_f64(), facts["success_held"].as_f64()),
        (Some(best.0), Some(best.1))
    );
    assert_eq!((facts["method"].as_str(), facts["seed"].as_u64()), (Some("climb"), Some(3)));
    assert_eq!(facts["settings_sha256"].as_str().unwrap().len(), 64);
    assert!(facts.get("cpu_seconds").is_none(), "the same seed gives the same bytes");
}

#[test]
fn a_damaged_checkpoint_or_another_runs_is_refused_by_its_name() {
    let bench = Bench::new(300);
    bench.session(4).unwrap();
    let path = Path::new("run").join(CHECKPOINT);
    let kept = bench.read(CHECKPOINT);
    bench.storage.replace(&path, &kept[..kept.len() - 3]).unwrap();
    let error = format!("{:#}", bench.session(NEVER).unwrap_err());
    assert!(
        error.starts_with("run/checkpoint.bin: expected a checkpoint of regoal, found"),
        "{error}"
    );
    bench.storage.replace(&path, &Checkpoint::default().to_bytes()).unwrap();
    let error = format!("{:#}", bench.session(NEVER).unwrap_err());
    assert!(error.starts_with("run/checkpoint.bin is of another run"), "{error}");
}

#[test]
fn a_plan_reads_back_and_its_hash_is_that_of_its_settings() {
    let plan = Bench::new(300).plan;
    let read: Plan = toml::from_str(&plan.to_toml().unwrap()).unwrap();
    assert_eq!(read, plan);
    let mut other = plan.clone();
    other.seeds = vec![4];
    assert_eq!(other.settings_hash(), plan.settings_hash());
    other.settings.insert("x".into(), 1.into());
    assert_ne!(other.settings_hash(), plan.settings_hash());
}
