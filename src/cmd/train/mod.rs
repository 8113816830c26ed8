//! `regoal train`: an environment and a method, a policy and its curve.

mod arm;
mod compare;
mod curve;
mod events;
mod export;
mod folder;
mod gan;
mod keypoints;
mod plan;
mod python;
mod report;
mod row;
mod seeds;
#[cfg(test)]
mod tests;
mod training;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;
use clap::builder::{PossibleValue, PossibleValuesParser};

use self::folder::{BEST, Folder};
use self::plan::{FILE, Plan, SOFTWARE};
use self::python::PythonArgs;
use self::row::{Along, Metric, Row};
use self::seeds::Seeds;
use self::training::{Ended, Training};
use super::engine::{Choice, EngineArgs};
use super::{Context, Interrupted, say};
use crate::engine::Engine;
use crate::learn::methods::{self, METHODS};

pub use arm::losses_csv;

/// Trains a policy from nothing.
///
/// A run is a folder: `run.toml` (everything that decided it), `progress.csv` and TensorBoard event
/// files (one row an evaluation), `curve.svg` and `.png`, `policy.onnx` (the latest), `best.onnx` and
/// `checkpoint.bin`. Ctrl-C finishes the iteration and saves; `--resume` goes on with the same result
/// as a run that was never stopped. Each evaluation runs the policy without noise on the same
/// held-out goals and counts success at any time, at the last step, and held over the last tenth.
///
/// `gcbc` without `--env` trains for a real arm: scripted demonstrations in the emulator, logged as
/// episodes, cloned with hindsight goals.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The method
    #[arg(value_parser = method_names(), required_unless_present_any = ["compare", "evaluate"])]
    pub method: Option<String>,
    /// The environment: four_rooms, block_pusher, bit_flip, arm_reach and others, or gym:NAME
    /// for one of Gymnasium: gym:ID, gym:MODULE:ID, gym:FILE.py:CALLABLE [default: four_rooms]
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Settings by name
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Lists the method's presets and the settings that they change
    #[arg(long)]
    pub list_presets: bool,
    /// A run.toml, whole or in part; it counts above the preset
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, such as her.relabel=0.5; it counts above all others; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Share of samples that get a hindsight goal; short for --set her.relabel=SHARE
    #[arg(long, value_name = "SHARE", conflicts_with = "resume")]
    pub relabel: Option<f64>,
    /// What the discriminator of goalgail sees; short for --set sees=action or next_state
    #[arg(long, value_enum, conflicts_with = "resume")]
    pub discriminator: Option<Sees>,
    /// Seed of weights, exploration, batches and demonstrations
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Trains with seeds 0 to N-1, each in a folder and a process of its own
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: Option<u64>,
    /// Seeds at a time or, of a single seed, trials and rollouts (--set her.rollouts=N), which changes
    /// no result [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// How long: steps in the environment, or training steps of a method that takes no other
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Steps between evaluations [default: a twentieth of all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub eval_every: Option<u64>,
    /// Episodes of an evaluation [default: all goals that the environment fixes, else 100]
    #[arg(long, value_name = "N")]
    pub eval_goals: Option<usize>,
    /// Where everything goes; must not exist [default: METHOD-ENV]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Goes on with a run that was stopped; with --steps also with one that was done
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["out", "env", "preset", "config", "set", "seed", "seeds", "eval_every", "eval_goals"])]
    pub resume: Option<PathBuf>,
    /// Draws the curves of these runs in one picture (--out, by default compare.svg and .png), with a
    /// table
    #[arg(long, value_name = "FOLDER", num_args = 1.., conflicts_with = "method")]
    pub compare: Vec<PathBuf>,
    /// Evaluates a policy file that a run wrote, in its own environment or in --env; `expert` is the
    /// scripted expert of --env
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "compare"])]
    pub evaluate: Option<PathBuf>,
    /// What --compare shows [default: any, or return without goals]
    #[arg(long, value_enum, requires = "compare")]
    pub metric: Option<Metric>,
    /// What its curves run along
    #[arg(long, value_enum, requires = "compare", default_value_t)]
    pub along: Along,
    /// After bc or gcbc: trains GAIL on the same demonstrations too and draws why cloning drifts away
    /// (shift.svg, .png, .csv): each one's error over time, and the states it visits
    #[arg(long, conflicts_with_all = ["compare", "evaluate"])]
    pub report: bool,
    /// Environment steps of that GAIL
    #[arg(long, value_name = "N", default_value_t = 50_000, requires = "report")]
    pub report_steps: u64,
    /// Prints a line of JSON for each evaluation
    #[arg(long)]
    pub json: bool,
    /// The robot's configuration, for an arm
    #[arg(long, value_name = "FILE", default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// The Python of an environment gym:NAME
    #[command(flatten)]
    pub python: PythonArgs,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Settings of gcbc on an arm
    #[command(flatten, next_help_heading = "gcbc on an arm (without --env)")]
    pub arm: arm::ArmArgs,
}

/// What a discriminator sees beside the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sees {
    /// State and action
    Sa,
    /// State and next state: demonstrations need no actions
    Ss,
}

impl Args {
    /// How many things at a time.
    fn jobs(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or_else(processors, usize::from)
    }

    /// The single settings, the flags that are short for one first.
    fn assignments(&self) -> Vec<String> {
        let relabel = self.relabel.map(|share| format!("her.relabel={share}"));
        let sees = self.discriminator.map(|sees| match sees {
            Sees::Sa => "sees=action".to_owned(),
            Sees::Ss => "sees=next_state".to_owned(),
        });
        relabel.into_iter().chain(sees).chain(self.set.iter().cloned()).collect()
    }
}

const EXAMPLES: &str = "Examples:
  regoal train her --env four_rooms --steps 50000         one run, in the folder her-four_rooms
  regoal train her --preset best --seeds 5 --jobs 2 --out runs/her
  regoal train her --list-presets
  regoal train her --set her.relabel=0.5 --set learner.ddpg.actor_lr=3e-4 --out runs/half
  regoal train goalgail --preset best --relabel 0 --discriminator ss
  regoal train her --config runs/half/run.toml --seed 7 --out runs/again
  regoal train her --resume runs/her                      goes on after Ctrl-C
  regoal train her --env gym:gymnasium_robotics:FetchReach-v4 --python venv/bin/python
  regoal train bc --env cart_pole --set demonstrations.episodes=1 --report
  regoal train gan                                        the slide's question: k = 1, 5, convergence
  regoal train --compare runs/her runs/half --out her     her.svg, her.png and a table
  regoal train --evaluate runs/her/seed-0/best.onnx --eval-goals 200
  regoal train gcbc --out models/reach                    a policy for the arm of --robot
  tensorboard --logdir runs";

/// The method that trains for an arm where no environment is named.
const GCBC: &str = "gcbc";

/// What is no run of a method: a report, and a policy that sees pictures.
const LESSONS: [(&str, &str); 2] = [
    ("gan", "prints what a better discriminator costs the generator, on a known distribution"),
    ("keypoints", "behaviour cloning from pictures, through a spatial softmax"),
];

fn method_names() -> PossibleValuesParser {
    let methods = METHODS.iter().map(|m| (m.name, m.about));
    PossibleValuesParser::new(
        methods.chain(LESSONS).map(|(name, about)| PossibleValue::new(name).help(about)),
    )
}

/// Runs the verb.
///
/// # Errors
/// Something asked for is unknown or wrong, the folder exists, or training fails.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if let Some(policy) = &args.evaluate {
        return trial::run(args, policy, context);
    }
    let Some(method) = args.method.as_deref() else {
        let stem = args.out.clone().unwrap_or_else(|| "compare".into());
        let how = (args.metric, args.along, args.json);
        return compare::compare(&args.compare, how, &stem, context);
    };
    match method {
        "gan" => return gan::run(args, context),
        "keypoints" => return keypoints::run(args, context),
        _ => {}
    }
    if args.list_presets {
        return list_presets(method);
    }
    ensure!(
        !args.report || ["bc", GCBC].contains(&method),
        "--report is about behaviour cloning: expected bc or {GCBC}, found {method}"
    );
    let own = args.env.is_none() && args.config.is_none() && args.resume.is_none();
    if method == GCBC && own {
        return arm::run(args, context);
    }
    if let Some(folder) = &args.resume {
        return resume(args, method, folder, context);
    }
    let mut plan = Plan::new(args, method, context)?;
    let out = args.out.clone().unwrap_or_else(|| plan.folder());
    let folder = Folder::new(&context.storage, &out);
    if folder.read(FILE)?.is_some() {
        let at = folder.path().display();
        bail!(
            "{at} holds a run: go on with `regoal train {method} --resume {at}`, or choose another --out"
        );
    }
    plan.open_env(0, context)?;
    let engine = args.engine.open()?;
    plan.engine = engine.to_string();
    // What does not fit is found before anything is written.
    plan.learner(0, &engine, 1, context)?;
    folder.write(FILE, plan.to_toml()?.as_bytes())?;
    go_on(args, &plan, &folder, &engine, context)?;
    if args.report { report::run(args, &plan, &folder, context) } else { Ok(()) }
}

/// Goes on with a run folder.
fn resume(args: &Args, method: &str, path: &Path, context: &Context) -> Result<()> {
    let mut plan = Plan::read(path, context)?;
    ensure!(
        plan.method == method,
        "{}: expected a run of {method}, found {}",
        path.display(),
        plan.method
    );
    ensure!(
        plan.software == SOFTWARE,
        "{}: expected a run of {SOFTWARE}, found {}",
        path.display(),
        plan.software
    );
    plan.python = plan.python.map(|python| args.python.over(Some(python)));
    let engine = same_engine(args, &plan)?;
    if let Some(steps) = args.steps.filter(|steps| *steps != plan.steps) {
        ensure!(
            plan.method()?.steps.is_some(),
            "{method} cannot be made longer: its learning rates follow its length"
        );
        plan.steps = steps;
    }
    let folder = Folder::new(&context.storage, path);
    folder.write(FILE, plan.to_toml()?.as_bytes())?;
    go_on(args, &plan, &folder, &engine, context)?;
    if args.report { report::run(args, &plan, &folder, context) } else { Ok(()) }
}

/// The engine of the run: another one would give other bits.
fn same_engine(args: &Args, plan: &Plan) -> Result<Engine> {
    let mut wanted = args.engine.clone();
    if wanted.engine == Choice::Auto && plan.engine.starts_with("tract") {
        wanted.engine = Choice::Tract;
    }
    let engine = wanted.open()?;
    ensure!(
        engine.to_string() == plan.engine,
        "expected the engine of the run, {}, found {engine}: it would not give the same result",
        plan.engine
    );
    Ok(engine)
}

fn go_on(
    args: &Args,
    plan: &Plan,
    folder: &Folder,
    engine: &Engine,
    context: &Context,
) -> Result<()> {
    let folders = seeds::folders(plan, folder);
    let interrupted = if let [seed] = plan.seeds.as_slice() {
        let (jobs, json) = (args.jobs(), args.json);
        let learner = plan.learner(*seed, engine, jobs, context)?;
        let open_env = |seed| plan.open_env(seed, context);
        let (open_env, jobs) = (&open_env, plan::beside(&plan.env, jobs));
        let training = Training { context, plan, folder, engine, learner, open_env, jobs, json };
        let Ended { interrupted, .. } = training.run()?;
        interrupted
    } else {
        let (jobs, json) = (args.jobs(), args.json);
        Seeds { context, plan, folder, engine: &args.engine, jobs, json }.run()?
    };
    let runs = folders.iter().map(Folder::rows).collect::<Result<Vec<_>>>()?;
    let runs: Vec<Vec<Row>> = runs.into_iter().filter(|rows| !rows.is_empty()).collect();
    curve::save_run(folder, &plan.label(), &plan.env, &runs)?;
    if interrupted {
        let (method, at) = (&plan.method, folder.path().display());
        remark!("stopped and saved; go on with `regoal train {method} --resume {at}`");
        return Err(Interrupted.into());
    }
    if args.json { Ok(()) } else { summary(plan, &folders, &runs) }
}

/// What was reached, and where the policies lie.
fn summary(plan: &Plan, folders: &[Folder], runs: &[Vec<Row>]) -> Result<()> {
    for ((folder, rows), seed) in folders.iter().zip(runs).zip(&plan.seeds) {
        let better = |best: &Row, row: &Row| row.score() > best.score();
        let best = rows.iter().reduce(|best, row| if better(best, row) { row } else { best });
        let (Some(end), Some(best)) = (rows.last(), best) else { continue };
        say(format_args!(
            "{} on {}, seed {seed}, {} steps: {}",
            plan.label(),
            plan.env,
            end.steps,
            end.says()
        ))?;
        say(format_args!("  best at {} steps: {}", best.steps, best.says()))?;
        say(format_args!("  {}", folder.path().join(BEST).display()))?;
    }
    if let Some(curve) = curve::of_runs(plan.label(), runs)
        && let Some(curve::Point { mean, interval: Some((low, high)), .. }) = curve.points.last()
    {
        let seeds = curve.seeds;
        say(format_args!(
            "mean over {seeds} seeds: {mean:.3}, 95 % interval {low:.3} to {high:.3}"
        ))?;
    }
    Ok(())
}

fn list_presets(method: &str) -> Result<()> {
    let method = methods::named(method)
        .with_context(|| format!("{method} on an arm has no presets: its options are in --help"))?;
    for preset in method.presets {
        say(format_args!("{}\n  {}", preset.name, preset.about()))?;
        let mut settings = preset.text.lines().skip(1).filter(|line| !line.trim().is_empty());
        settings.try_for_each(|line| say(format_args!("    {line}")))?;
    }
    say("\nAll settings, as they are without a preset:")?;
    let all = (method.resolve)(toml::Table::new(), "defaults")?.to_string();
    Ok(all
        .lines()
        .filter(|l| !l.is_empty())
        .try_for_each(|line| say(format_args!("    {line}")))?)
}

/// Writes a file so that it is whole or not there.
pub fn write(context: &Context, path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        context.storage.create_folder(folder)?;
    }
    context.storage.replace(path, content).with_context(|| format!("writing {}", path.display()))
}
