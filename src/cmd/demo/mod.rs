//! `regoal demo`: the whole circle on an emulated arm. Each stage is a verb's own piece, called in
//! order: emulate, run, practise, finetune, evaluate, swap.

mod learning;
mod live;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;

use self::report::{Report, Stages, Summary};
use super::engine::{Choice, EngineArgs};
use super::picture::{self, GoalOutcome, Labels};
use super::run::Running;
use super::{Context, finetune, say, train};
use crate::config::RobotConfig;
use crate::engine::{Device, Engine, runtime};
use crate::policy::Policy;
use crate::rng::Stream;

/// Shows the whole circle on an emulated arm: run, log, relabel, fine-tune, swap, improve.
///
/// An emulated arm on a pseudo terminal reaches for held-out goals with a mediocre policy. The robot
/// then practises, learns from every attempt with hindsight, failures included, and the better policy
/// is swapped in while the arm keeps moving. Takes one to two minutes and leaves a folder with
/// everything it made.
///
/// Example: regoal demo --seed 1 --json summary.json
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Seed of goals, noise and batches
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where everything goes; a folder made by an earlier demo is replaced
    #[arg(long, default_value = "regoal-demo", value_name = "FOLDER")]
    pub out: PathBuf,
    /// Write a summary here too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The robot's configuration
    #[arg(long, default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// The policy to start from; its demonstrations stand beside it
    #[arg(long, default_value = "models/reach/policy.onnx", value_name = "FILE")]
    pub policy: PathBuf,
    /// Held-out goals that success is measured on, in memory
    #[arg(long, default_value_t = 200)]
    pub goals: usize,
    /// Held-out goals that are run over the pseudo terminal, before and after
    #[arg(long, default_value_t = 10)]
    pub live_goals: usize,
    /// The robot's own attempts
    #[arg(long, default_value_t = 300)]
    pub attempts: usize,
    /// Training steps
    #[arg(long, default_value_t = 5000)]
    pub steps: usize,
    /// The engine of the fine-tuning
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// Lies in a folder that a demo made and may replace.
const MARKER: &str = ".regoal-demo";

/// Runs the verb.
///
/// # Errors
/// A stage fails, or somebody presses Ctrl-C: the arm is held and the log closed then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let demo = Demo::prepare(args, context)?;
    let report = demo.circle()?;
    demo.write(&report)?;
    say(report.table())?;
    say(format!("everything is in {}", args.out.display()))?;
    Ok(())
}

struct Demo<'a> {
    args: &'a Args,
    context: &'a Context,
    robot: RobotConfig,
    base: Vec<u8>,
    demonstrations: PathBuf,
    stages: Stages,
    /// Faults cleared on the live arm.
    faults: AtomicUsize,
}

impl<'a> Demo<'a> {
    fn prepare(args: &'a Args, context: &'a Context) -> Result<Self> {
        let stages = Stages::new(Arc::clone(&context.clock));
        let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
        let base = finetune::read(context, &args.policy)?;
        Policy::load(&base, &robot, &Engine::tract())
            .with_context(|| args.policy.display().to_string())?;
        let demonstrations = args.policy.with_file_name("demonstrations");
        if !demonstrations.is_dir() {
            bail!("expected the policy's demonstrations in {}", demonstrations.display());
        }
        fresh_folder(context, &args.out)?;
        Ok(Self { args, context, robot, base, demonstrations, stages, faults: AtomicUsize::new(0) })
    }

    /// The six stages.
    fn circle(&self) -> Result<Report> {
        let engine = self.stages.time("runtime", || self.engine())?;
        let episodes = self.args.out.join("episodes/live");
        let mut robot = self.robot.clone();
        robot.bus.port = "emulated".into();
        let running = self.stages.time("start", || {
            let running = Running::start(&robot, &self.base, &episodes, self.context)?;
            running.arm()?;
            anyhow::Ok(running)
        })?;
        note(format!("emulated arm `{}` on {}", robot.name, running.port));
        // The loop's threads are running: all that follows comes after them.
        crate::os::become_nice();

        let live_before = self.stages.time("live_before", || self.live(&running, "before"))?;
        let before = self.stages.time("measure_before", || {
            self.evaluate("success before", &self.base, Stream::HeldOut, self.args.goals)
        })?;
        let (tuned, candidate) = self.learn()?;
        let control = self.stages.time("control", || self.control())?;
        let demos_only = self.stages.time("measure_control", || {
            self.evaluate("demonstrations only", &control, Stream::HeldOut, self.args.goals)
        })?;
        let after = self.stages.time("measure_after", || {
            self.evaluate("success after", &candidate, Stream::HeldOut, self.args.goals)
        })?;
        let accepted = self.stages.time("validate", || self.validate(&candidate))?;
        let swapped = self.stages.time("swap", || {
            // Active is what steers: the candidate only once it does.
            self.commit(&self.base)?;
            let swapped = accepted && self.swap_while_reaching(&running, &candidate)?;
            if accepted {
                self.commit(&candidate)?;
            }
            anyhow::Ok(swapped)
        })?;
        let live_after = self.stages.time("live_after", || self.live(&running, "after"))?;
        let status = running.handle().status();
        let live = running.handle().results().len();
        self.wait_for_log(&running, live)?;
        Ok(Report {
            summary: Summary {
                seed: self.args.seed,
                engine,
                goals: self.args.goals,
                success_before: before.rate().value(),
                success_demos_only: demos_only.rate().value(),
                success_after: after.rate().value(),
                accepted,
                live_before,
                live_after,
                episodes: live + self.args.attempts,
                ticks: status.counters.ticks,
                missed_ticks: status.counters.missed,
                faults_cleared: self.faults.load(Ordering::Relaxed),
                realtime: crate::os::realtime(),
                lateness_us: status.jitter.lateness.quantiles(),
                swapped_while_running: swapped,
                loss_first_epoch: tuned.first().and_then(|r| r.losses.first().copied()),
                loss_last_epoch: tuned.last().and_then(|r| r.losses.last().copied()),
                stages: self.stages.seconds(),
            },
            before,
            demos_only,
            after,
        })
    }

    /// Puts ONNX Runtime in place when it is missing; without it the training step runs in tract.
    fn engine(&self) -> Result<String> {
        let args = &self.args.engine;
        let automatic = args.engine == Choice::Auto && args.onnxruntime.is_none();
        if automatic && Engine::best(None, Device::Cpu)?.name() == "tract" {
            note("ONNX Runtime is missing: fetching it (`regoal runtime install`)");
            let storage = self.context.storage.as_ref();
            if let Err(error) = runtime::install(storage, None, false, &mut |_| ()) {
                note(format!("{error}\n  training in tract instead"));
            }
        }
        Ok(args.open()?.name().to_owned())
    }

    fn write(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_vec_pretty(&report.summary)?;
        let out = |name: &str| self.args.out.join(name);
        train::write(self.context, &out("summary.json"), &json)?;
        train::write(self.context, &out("table.txt"), report.table().as_bytes())?;
        if let Some(path) = &self.args.json {
            train::write(self.context, path, &json)?;
        }
        let pairs = report.before.trials.iter().zip(&report.after.trials);
        let outcomes: Vec<GoalOutcome> = pairs
            .filter_map(|(before, after)| {
                Some(GoalOutcome {
                    goal: before.goal.as_slice().try_into().ok()?,
                    before: before.result.success,
                    after: after.result.success,
                })
            })
            .collect();
        let labels = Labels {
            title: "Learned from its own attempts, failures included".into(),
            subtitle: format!(
                "regoal demo --seed {}: the same {} held-out goals, tolerance 2 cm, seen from above",
                self.args.seed, self.args.goals
            ),
            before: "before".into(),
            after: "after".into(),
        };
        picture::save(self.context.storage.as_ref(), &out("success"), &outcomes, &labels)
    }
}

/// Makes an empty folder, over one that an earlier demo made.
fn fresh_folder(context: &Context, folder: &Path) -> Result<()> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing the earlier demo in {}", folder.display()))?;
    } else if folder.exists() {
        bail!(
            "{} exists and was not made by `regoal demo`: choose another --out",
            folder.display()
        );
    }
    train::write(context, &marker, b"made by `regoal demo`, which may replace this folder\n")
}

/// A line about a stage, on standard error.
fn note(line: impl std::fmt::Display) {
    remark!("  {line}");
}
