//! Everything that decides a run: `run.toml`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use toml::Table;

use super::{Args, arm};
use crate::cmd::Context;
use crate::config::{RobotConfig, nearest_key};
use crate::engine::Engine;
use crate::env::{self, ArmPick, ArmReach, Env, GYM, Gym, Python};
use crate::learn::learner::Learner;
use crate::learn::methods::{self, METHODS, Method};
use crate::learn::settings;

/// The file's name in a run folder.
pub const FILE: &str = "run.toml";

/// The version of this program, which also decides a run.
pub const SOFTWARE: &str = concat!("regoal ", env!("CARGO_PKG_VERSION"));

/// The environments that are made of a robot's configuration.
const ARM: &str = "arm_reach";
const PICK: &str = "arm_pick_place";

/// Whether an environment is made of a robot's configuration.
pub fn has_arm(env: &str) -> bool {
    [ARM, PICK].contains(&env)
}

/// How many of an environment may stand side by side for `jobs` at a time. An emulated arm's noise goes
/// on from episode to episode, so that it stands alone.
pub fn beside(env: &str, jobs: usize) -> usize {
    if has_arm(env) { 1 } else { jobs.max(1) }
}

/// Whether an environment runs in Python.
pub fn is_gym(env: &str) -> bool {
    env.starts_with(GYM)
}

/// What decides a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The method.
    pub method: String,
    /// The environment.
    pub env: String,
    /// The preset that the settings began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// The robot, for an environment with an arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot: Option<PathBuf>,
    /// A run for each of them; with several each has a folder of its own.
    pub seeds: Vec<u64>,
    /// How long: environment steps, or training steps of a method that takes no other.
    pub steps: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Episodes of an evaluation; nothing: all the goals that the environment fixes, else 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_goals: Option<usize>,
    /// What ran it.
    pub engine: String,
    /// The version of this program.
    pub software: String,
    /// What runs an environment in Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<Python>,
    /// The method's settings, all of them.
    pub settings: Table,
}

/// A `--config` file: a [`Plan`] of which anything may be missing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wishes {
    method: Option<String>,
    env: Option<String>,
    preset: Option<String>,
    robot: Option<PathBuf>,
    seeds: Option<Vec<u64>>,
    steps: Option<u64>,
    eval_every: Option<u64>,
    eval_goals: Option<usize>,
    // What another run found; this one finds its own.
    #[serde(rename = "engine")]
    _engine: Option<String>,
    #[serde(rename = "software")]
    _software: Option<String>,
    python: Option<Python>,
    settings: Table,
}

/// Reads a TOML file of this program's own form.
fn read<T: serde::de::DeserializeOwned>(context: &Context, path: &Path) -> Result<T> {
    let bytes =
        context.storage.read(path).with_context(|| format!("reading {}", path.display()))?;
    let name = path.display().to_string();
    let table = settings::read(&String::from_utf8_lossy(&bytes), &name)?;
    Ok(settings::parse(table, &name)?)
}

impl Plan {
    /// The plan, but for the engine, that the arguments and the files they name make: defaults, below the preset, below
    /// the file, below what stands on the command line.
    ///
    /// # Errors
    /// Something is unknown or of the wrong type.
    pub fn new(args: &Args, method: &str, context: &Context) -> Result<Self> {
        let file = args.config.as_ref();
        let wishes: Wishes = file.map(|path| read(context, path)).transpose()?.unwrap_or_default();
        if let Some(other) = wishes.method.as_ref().filter(|m| *m != method) {
            bail!("expected a --config for {method}, found one for {other}");
        }
        let preset = args.preset.clone().or(wishes.preset);
        let method = find(method)?;
        let mut layers = Vec::new();
        if let Some(name) = &preset {
            layers.push((format!("preset {name}"), method.preset(name)?));
        }
        if let Some(path) = file {
            layers.push((path.display().to_string(), wishes.settings));
        }
        for text in args.assignments() {
            layers.push((format!("--set {text}"), settings::assignment(&text)?));
        }
        let wished = args.steps.or(wishes.steps);
        let (settings, steps) = length(method, layers, wished)?;
        let env = args.env.clone().or(wishes.env).unwrap_or_else(|| "four_rooms".into());
        let seeds = wishes.seeds.unwrap_or_else(|| vec![0]);
        let plan = Self {
            method: method.name.into(),
            preset,
            python: is_gym(&env).then(|| args.python.over(wishes.python)),
            robot: has_arm(&env).then(|| wishes.robot.unwrap_or_else(|| args.robot.clone())),
            env,
            seeds: match (args.seed, args.seeds) {
                (Some(seed), _) => vec![seed],
                (None, Some(count)) => (0..count).collect(),
                (None, None) => seeds,
            },
            steps,
            eval_every: args.eval_every.or(wishes.eval_every).unwrap_or((steps / 20).max(1)),
            eval_goals: args.eval_goals.or(wishes.eval_goals),
            engine: String::new(),
            software: SOFTWARE.into(),
            settings,
        };
        plan.check()?;
        Ok(plan)
    }

    /// Reads a run folder's plan.
    ///
    /// # Errors
    /// There is none, or it is another version's.
    pub fn read(folder: &Path, context: &Context) -> Result<Self> {
        let plan: Self = read(context, &folder.join(FILE))
            .with_context(|| format!("{} is no folder of `regoal train`", folder.display()))?;
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        ensure!(!self.seeds.is_empty(), "seeds: expected at least 1, found none");
        ensure!(self.steps > 0, "steps: expected at least 1, found 0");
        ensure!(self.eval_every > 0, "eval_every: expected at least 1, found 0");
        ensure!(self.eval_goals != Some(0), "eval_goals: expected at least 1, found 0");
        Ok(())
    }

    /// The text of `run.toml`.
    ///
    /// # Errors
    /// The settings cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        let text = toml::to_string(self)?;
        Ok(format!(
            "# What decided this run. `regoal train {} --config run.toml` repeats it.\n{text}",
            self.method
        ))
    }

    /// The hash of the settings (SHA-256 of their TOML text, hexadecimal).
    pub fn settings_hash(&self) -> String {
        let digest = Sha256::digest(self.settings.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The plan of one of its seeds.
    pub fn of_seed(&self, seed: u64) -> Self {
        Self { seeds: vec![seed], ..self.clone() }
    }

    /// Makes the learner of a seed, for `jobs` rollouts at a time.
    ///
    /// # Errors
    /// The method does not fit the environment, or the engine cannot run it.
    pub fn learner(
        &self,
        seed: u64,
        engine: &Engine,
        jobs: usize,
        context: &Context,
    ) -> Result<Box<dyn Learner>> {
        let env = self.open_env(seed, context)?;
        let mut learner = (self.method()?.build)(self.settings.clone(), env, engine, seed)?;
        for _ in 1..beside(&self.env, jobs).min(learner.rollouts()) {
            learner.lend(self.open_env(seed, context)?);
        }
        Ok(learner)
    }

    /// The method.
    ///
    /// # Errors
    /// It is unknown.
    pub fn method(&self) -> Result<&'static Method> {
        find(&self.method)
    }

    /// What a picture or a table calls the run.
    pub fn label(&self) -> String {
        let preset = self.preset.as_ref().map(|name| format!(" {name}"));
        format!("{}{}", self.method, preset.unwrap_or_default())
    }

    /// The robot of the environment, if it has one.
    ///
    /// # Errors
    /// Its configuration cannot be read.
    pub fn robot(&self, context: &Context) -> Result<Option<RobotConfig>> {
        let load = |path: &PathBuf| RobotConfig::load(context.storage.as_ref(), path);
        Ok(self.robot.as_ref().map(load).transpose()?)
    }

    /// The robot that the policy can run on as it is. A policy that must also see a cube has none:
    /// the control loop measures joints only.
    ///
    /// # Errors
    /// Its configuration cannot be read.
    pub fn runs_on(&self, context: &Context) -> Result<Option<RobotConfig>> {
        if self.env == ARM { self.robot(context) } else { Ok(None) }
    }

    /// Opens the environment; `seed` is the run's.
    ///
    /// # Errors
    /// There is no such environment, or it does not open.
    pub fn open_env(&self, seed: u64, context: &Context) -> Result<Box<dyn Env>> {
        open_env(&self.env, self.robot(context)?.as_ref(), self.python.as_ref(), seed)
    }

    /// The name of the folder that it makes unless told otherwise.
    pub fn folder(&self) -> PathBuf {
        format!("{}-{}", self.method, self.env.replace(['/', ':'], "-")).into()
    }
}

/// Opens an environment by its name, for an arm that of a robot, in Python for one of Gymnasium's.
///
/// # Errors
/// There is no such environment, or it does not open.
pub fn open_env(
    name: &str,
    robot: Option<&RobotConfig>,
    python: Option<&Python>,
    seed: u64,
) -> Result<Box<dyn Env>> {
    if let (Some(name), Some(python)) = (name.strip_prefix(GYM), python) {
        return Ok(Box::new(Gym::open(name, python)?));
    }
    match robot {
        Some(robot) if name == PICK => Ok(Box::new(ArmPick::new(robot)?)),
        Some(robot) => Ok(Box::new(ArmReach::new(robot, arm::horizon(robot), seed)?)),
        None => env::named(name).map_err(|e| hint(e, name)),
    }
}

/// The settings, and how long the training is: in a method that takes no steps in the environment a
/// setting of its own.
fn length(
    method: &Method,
    mut layers: Vec<(String, Table)>,
    wished: Option<u64>,
) -> Result<(Table, u64)> {
    if let Some(steps) = method.steps {
        return Ok((method.settings(layers)?, wished.unwrap_or(steps)));
    }
    if let Some(steps) = wished {
        layers.push(("--steps".into(), settings::assignment(&format!("steps={steps}"))?));
    }
    let settings = method.settings(layers)?;
    let steps = settings.get("steps").and_then(toml::Value::as_integer).unwrap_or(0);
    Ok((settings, u64::try_from(steps)?))
}

fn find(name: &str) -> Result<&'static Method> {
    methods::named(name).with_context(|| {
        let known: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        format!("expected a method of {}, found {name}", known.join(", "))
    })
}

/// The error; of a name that is none, with the nearest there is.
fn hint(error: env::EnvError, name: &str) -> anyhow::Error {
    if !matches!(error, env::EnvError::Unknown { .. }) {
        return error.into();
    }
    let known: Vec<String> = env::names().chain([ARM]).map(|known| format!("`{known}`")).collect();
    match nearest_key(&format!("unknown field `{name}`, expected one of {}", known.join(", "))) {
        Some(near) => anyhow::anyhow!("{error}; did you mean `{near}`?"),
        None => error.into(),
    }
}
