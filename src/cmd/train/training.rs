//! One run: iterate, evaluate, write everything down; from the beginning or from a checkpoint.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::events::Events;
use super::export::{self, Provenance};
use super::folder::{BEST, CHECKPOINT, Folder, POLICY, PROGRESS};
use super::plan::{Plan, is_gym};
use super::row::{self, Row};
use super::trial;
use crate::clock;
use crate::cmd::{Context, progress::Bar, say_json};
use crate::engine::Engine;
use crate::env::Env;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::{Figures, Learner};
use crate::onnx::Graph;

/// A run that goes on.
pub struct Training<'a> {
    /// Files, clock, signals.
    pub context: &'a Context,
    /// What decides it, of one seed.
    pub plan: &'a Plan,
    /// Where it is written.
    pub folder: &'a Folder,
    /// What runs policies.
    pub engine: &'a Engine,
    /// What learns.
    pub learner: Box<dyn Learner>,
    /// Opens the environment for an evaluation: a new one each time, so that none leaves a trace, but
    /// in Python, where that takes long.
    pub open_env: &'a dyn Fn(u64) -> Result<Box<dyn Env>>,
    /// Trials at a time.
    pub jobs: usize,
    /// Whether each evaluation is a line of JSON on standard output.
    pub json: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// All evaluations; at least the one of the beginning.
    pub rows: Vec<Row>,
    /// Whether it was told to end before it was done.
    pub interrupted: bool,
}

/// What grows while a run goes on.
struct Log {
    rows: Vec<Row>,
    figures: Means,
    events: Events,
    /// Environments in Python that evaluations keep.
    kept: Vec<Box<dyn Env>>,
    /// Processor time of the sessions before this one.
    before: Duration,
    /// This process's own when the session began; evaluations since are left out.
    began: Duration,
}

impl Log {
    /// Processor time of learning.
    fn used(&self) -> Duration {
        self.before + clock::processor_time().saturating_sub(self.began)
    }
}

impl Training<'_> {
    /// Goes on from the folder's checkpoint, or from the beginning, until the plan's steps are done.
    ///
    /// # Errors
    /// The checkpoint is damaged or another's, or learning, evaluating or writing failed.
    pub fn run(mut self) -> Result<Ended> {
        let mut log = self.open()?;
        let bar =
            Bar::of_steps(&format!("{}, seed {}", self.plan.label(), self.seed()), self.plan.steps);
        if log.rows.is_empty() {
            self.evaluate(&mut log, &bar)?;
        }
        let interrupted = self.go_on(&mut log, &bar).map_err(|error| self.stopped(error, &log))?;
        if interrupted {
            self.save(&log)?;
        }
        bar.finish();
        Ok(Ended { rows: log.rows, interrupted })
    }

    /// Learns and evaluates until it is over; true when it was told to end before that.
    fn go_on(&mut self, log: &mut Log, bar: &Bar) -> Result<bool> {
        let mut interrupted = false;
        while !self.over() && !interrupted {
            let before = self.learner.steps() / self.plan.eval_every;
            log.figures.add(self.learner.iterate()?);
            bar.set(self.learner.steps() as usize, &self.shown(log));
            if self.over() || self.learner.steps() / self.plan.eval_every > before {
                self.evaluate(log, bar)?;
            }
            interrupted = self.context.check().is_err();
        }
        Ok(interrupted && !self.over())
    }

    /// An error with what it leaves: the checkpoint of the last evaluation.
    fn stopped(&self, error: anyhow::Error, log: &Log) -> anyhow::Error {
        let Some(last) = log.rows.last() else { return error };
        let (steps, method) = (last.steps, &self.plan.method);
        let at = self.folder.path().display();
        error.context(format!(
            "stopped; what was learned in {steps} steps is kept: when the cause is mended, go on with \
             `regoal train {method} --resume {at}`"
        ))
    }

    fn over(&self) -> bool {
        self.learner.steps() >= self.plan.steps || self.learner.done()
    }

    fn seed(&self) -> u64 {
        self.plan.seeds.first().copied().unwrap_or(0)
    }

    /// Takes up what the folder holds.
    fn open(&mut self) -> Result<Log> {
        let now = self.context.clock.wall();
        let storage = self.folder.storage();
        storage.create_folder(self.folder.path())?;
        let events = Events::create(storage, self.folder.path(), now)?;
        let (began, before) = (clock::processor_time(), Duration::ZERO);
        let (rows, kept, figures) = (Vec::new(), Vec::new(), Means::default());
        let mut log = Log { rows, figures, events, kept, before, began };
        if let Some(kept) = self.folder.checkpoint()? {
            let damaged =
                || format!("{} is of another run", self.folder.path().join(CHECKPOINT).display());
            self.learner.restore(&kept.part("learner")).with_context(damaged)?;
            let rows = kept.count("rows").with_context(damaged)? as usize;
            log.rows = self.folder.rows()?;
            ensure!(
                log.rows.len() >= rows,
                "{PROGRESS}: expected {rows} rows, found {}",
                log.rows.len()
            );
            // Whoever was stopped between the table and the checkpoint evaluates once more.
            log.rows.truncate(rows);
            log.figures = Means::restore(&kept.part("figures"));
            log.before = Duration::from_micros(kept.count("cpu_us").with_context(damaged)?);
        }
        Ok(log)
    }

    /// Evaluates the policy and writes down what was found.
    fn evaluate(&mut self, log: &mut Log, bar: &Bar) -> Result<()> {
        let (used, paused) = (log.used(), clock::processor_time());
        let policy = self.learner.policy()?;
        let mut envs = std::mem::take(&mut log.kept);
        while envs.len() < self.jobs {
            envs.push((self.open_env)(trial::SEED)?);
        }
        let trials = trial::trials(&mut envs, &policy, self.engine, self.plan.eval_goals)?;
        let has_goals = envs.iter().any(|env| env.spec().goal > 0);
        if is_gym(&self.plan.env) {
            log.kept = envs;
        }
        let steps = (self.learner.steps(), self.learner.env_steps());
        log.began += clock::processor_time().saturating_sub(paused);
        let cpu_seconds = used.as_secs_f64();
        // As the table keeps it, so that what is read back is the same.
        let cpu_seconds = (cpu_seconds * 100.0).round() / 100.0;
        let mut row = Row::new(steps, cpu_seconds, &trials, has_goals);
        row.figures = log.figures.take();
        let is_best = log.rows.iter().all(|other| row.score() > other.score());
        let file = self.export(policy, &row)?;
        self.folder.write(POLICY, &file)?;
        if is_best {
            self.folder.write(BEST, &file)?;
        }
        self.say(&row, bar)?;
        let now = self.context.clock.wall();
        log.events.figures(now, row.steps, row.figures_named())?;
        log.rows.push(row);
        self.folder.write(PROGRESS, row::to_csv(&log.rows).as_bytes())?;
        // The last: it says that all the others are there.
        self.save(log)
    }

    fn export(&self, policy: Graph, row: &Row) -> Result<Vec<u8>> {
        let robot = self.plan.runs_on(self.context)?;
        export::file(policy, &Provenance::new(self.plan, row), robot.as_ref())
    }

    fn say(&self, row: &Row, bar: &Bar) -> Result<()> {
        if self.json {
            let run = self.folder.path().display().to_string();
            let mut line = serde_json::to_value(row)?;
            if let Some(line) = line.as_object_mut() {
                line.insert("run".into(), run.into());
                line.insert("seed".into(), self.seed().into());
            }
            return say_json(&line);
        }
        bar.note(&format!("{:>9} steps {:>8.1} cpu-s  {}", row.steps, row.cpu_seconds, row.says()));
        Ok(())
    }

    fn shown(&self, log: &Log) -> String {
        let score = |row: &Row| match row.any {
            Some(any) => format!("success {:.1} %", 100.0 * any),
            None => format!("return {:.1}", row.mean_return),
        };
        log.rows.last().map(score).unwrap_or_default()
    }

    fn save(&self, log: &Log) -> Result<()> {
        let mut kept = Checkpoint::default();
        kept.put_all("learner", self.learner.save()?);
        kept.put_all("figures", log.figures.save());
        kept.put_count("rows", log.rows.len() as u64);
        kept.put_count("cpu_us", u64::try_from(log.used().as_micros())?);
        self.folder.write(CHECKPOINT, &kept.to_bytes())
    }
}

/// Means of figures over the iterations since the last evaluation.
#[derive(Debug, Default, PartialEq)]
struct Means(Vec<(String, f64, u64)>);

impl Means {
    fn add(&mut self, figures: Figures) {
        for (name, value) in figures {
            match self.0.iter_mut().find(|(known, ..)| known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.0.push((name.to_owned(), value, 1)),
            }
        }
    }

    fn take(&mut self) -> Vec<(String, f64)> {
        std::mem::take(&mut self.0)
            .into_iter()
            .map(|(name, sum, n)| (name, sum / n as f64))
            .collect()
    }

    /// The names carry their place, which a checkpoint does not keep.
    fn save(&self) -> Checkpoint {
        let mut kept = Checkpoint::default();
        for (i, (name, sum, count)) in self.0.iter().enumerate() {
            kept.put_count(&format!("{i:04}.sum.{name}"), sum.to_bits());
            kept.put_count(&format!("{i:04}.count.{name}"), *count);
        }
        kept
    }

    fn restore(kept: &Checkpoint) -> Self {
        let names = kept.counts().filter_map(|(name, bits)| {
            let (place, name) = name.split_once(".sum.")?;
            let count = kept.count(&format!("{place}.count.{name}")).ok()?;
            Some((name.to_owned(), f64::from_bits(bits), count))
        });
        Self(names.collect())
    }
}
