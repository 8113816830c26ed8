//! What a policy reaches: in the evaluations of a run, and for a file.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::export::KEY;
use super::plan::{beside, has_arm, is_gym, open_env};
use super::row::Row;
use super::{Args, say};
use crate::cmd::engine::for_policy;
use crate::cmd::{Context, say_json};
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::env::Env;
use crate::learn::evaluate::{self, Trials};
use crate::learn::rollout::Actor;
use crate::onnx::Graph;

/// Goals, starts and the emulator's noise of evaluations are those of this seed, whatever the run's.
pub const SEED: u64 = 0;
/// What stands in the place of a file for the environment's own expert.
const EXPERT: &str = "expert";
/// Episodes of an evaluation where the environment fixes no goals.
const EPISODES: usize = 100;

/// What a policy reaches without noise: on all goals that the environment fixes or, with a `count`,
/// on so many of them, evenly spread. Each environment, one or more, takes a share of them.
///
/// # Errors
/// The policy or the environment failed.
pub fn trials(
    envs: &mut [Box<dyn Env>],
    policy: &Graph,
    engine: &Engine,
    count: Option<usize>,
) -> Result<Trials> {
    let mut envs: Vec<_> = envs.iter_mut().map(|env| env.as_mut() as &mut dyn Env).collect();
    let env = envs.first().context("expected an environment to evaluate in, found none")?;
    let space = env.spec().actions;
    let goals = goals(&**env, count);
    let actor = || Actor::new(engine, policy, space);
    Ok(evaluate::beside(&mut envs, &actor, &goals, SEED)?)
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
    let count = beside(&name, args.jobs());
    let mut envs = open(args, &name, count, context)?;
    let found = trials(&mut envs, &policy, &engine, args.eval_goals)
        .with_context(|| format!("{} in {name}", path.display()))?;
    tell(args, &format!("{} in {name}", path.display()), &envs, &found)
}

/// `regoal train --evaluate expert`.
fn expert(args: &Args, context: &Context) -> Result<()> {
    let name = args.env.clone().context("expected --env beside --evaluate expert")?;
    let mut envs = open(args, &name, 1, context)?;
    let env = envs.first_mut().context("expected an environment, found none")?;
    let goals = goals(env.as_ref(), args.eval_goals);
    let found = evaluate::expert(env.as_mut(), &goals, SEED)?;
    tell(args, &format!("the expert of {name}"), &envs, &found)
}

/// So many of an environment.
fn open(args: &Args, name: &str, count: usize, context: &Context) -> Result<Vec<Box<dyn Env>>> {
    let load = || RobotConfig::load(context.storage.as_ref(), &args.robot);
    let robot = has_arm(name).then(load).transpose()?;
    let python = is_gym(name).then(|| args.python.over(None));
    (0..count).map(|_| open_env(name, robot.as_ref(), python.as_ref(), SEED)).collect()
}

fn tell(args: &Args, what: &str, envs: &[Box<dyn Env>], found: &Trials) -> Result<()> {
    if args.json {
        return say_json(found);
    }
    let row = Row::new((0, 0), 0.0, found, envs.iter().any(|env| env.spec().goal > 0));
    Ok(say(format_args!("{what}: {}", row.says()))?)
}

/// The environment that a policy's provenance names.
fn origin(json: &str) -> Option<String> {
    let facts: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(facts.get("env")?.as_str()?.to_owned())
}
