//! What a policy reaches: in the evaluations of a run, and for a file.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::export::KEY;
use super::plan::{has_arm, open_env};
use super::row::Row;
use super::{Args, say};
use crate::cmd::engine::for_policy;
use crate::cmd::{Context, say_json};
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::env::Env;
use crate::learn::evaluate::{self, Trials};
use crate::learn::rollout::{Actor, Noise};
use crate::onnx::Graph;

/// Goals, starts and the emulator's noise of evaluations are those of this seed, whatever the run's.
pub const SEED: u64 = 0;
/// What stands in the place of a file for the environment's own expert.
const EXPERT: &str = "expert";
/// Episodes of an evaluation where the environment fixes no goals.
const EPISODES: usize = 100;

/// What a policy reaches without noise: on all goals that the environment fixes or, with a `count`,
/// on so many of them, evenly spread.
///
/// # Errors
/// The policy or the environment failed.
pub fn trials(
    env: &mut dyn Env,
    policy: &Graph,
    engine: &Engine,
    count: Option<usize>,
) -> Result<Trials> {
    let goals = goals(env, count);
    let mut actor = Actor::new(engine, policy, env.spec().actions)?;
    Ok(evaluate::run(env, &mut actor, &goals, Noise::default(), SEED)?)
}

/// All goals that the environment fixes, else [`EPISODES`]; with a `count` so many, evenly spread.
fn goals(env: &dyn Env, count: Option<usize>) -> Vec<Vec<f32>> {
    let all = evaluate::goals(env, count.unwrap_or(EPISODES), SEED);
    let count = count.unwrap_or(all.len()).min(all.len());
    (0..count).map(|i| all[i * all.len() / count].clone()).collect()
}

/// `regoal train --evaluate`.
///
/// # Errors
/// The file is no policy, or of another environment.
pub fn run(args: &Args, path: &Path, context: &Context) -> Result<()> {
    if path == Path::new(EXPERT) {
        return expert(args, context);
    }
    let file = context.storage.read(path).with_context(|| format!("reading {}", path.display()))?;
    let engine = for_policy(&file, context.clock.as_ref())?;
    let policy = Graph::from_bytes(&file)?;
    let written = policy.metadata().get(KEY).and_then(|json| origin(json));
    let name = args.env.clone().or(written);
    let name = name.context("the file does not say its environment: name it with --env")?;
    let mut env = open(args, &name, context)?;
    let found = trials(env.as_mut(), &policy, &engine, args.eval_goals)
        .with_context(|| format!("{} in {name}", path.display()))?;
    tell(args, &format!("{} in {name}", path.display()), env.as_ref(), &found)
}

/// `regoal train --evaluate expert`.
fn expert(args: &Args, context: &Context) -> Result<()> {
    let name = args.env.clone().context("expected --env beside --evaluate expert")?;
    let mut env = open(args, &name, context)?;
    let goals = goals(env.as_ref(), args.eval_goals);
    let found = evaluate::expert(env.as_mut(), &goals, SEED)?;
    tell(args, &format!("the expert of {name}"), env.as_ref(), &found)
}

fn open(args: &Args, name: &str, context: &Context) -> Result<Box<dyn Env>> {
    let load = || RobotConfig::load(context.storage.as_ref(), &args.robot);
    let robot = has_arm(name).then(load).transpose()?;
    open_env(name, robot.as_ref(), SEED)
}

fn tell(args: &Args, what: &str, env: &dyn Env, found: &Trials) -> Result<()> {
    if args.json {
        return say_json(found);
    }
    let row = Row::new((0, 0), 0.0, found, env.spec().goal > 0);
    Ok(say(format_args!("{what}: {}", row.says()))?)
}

/// The environment that a policy's provenance names.
fn origin(json: &str) -> Option<String> {
    let facts: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(facts.get("env")?.as_str()?.to_owned())
}
