//! `regoal train bc --report`: why cloning alone fails, as a picture from real rollouts.

use anyhow::{Context as _, Result};

use super::folder::{BEST, Folder};
use super::plan::Plan;
use super::trial::SEED;
use super::{Args, say};
use crate::cmd::{Context, shift};
use crate::engine::Engine;
use crate::learn::rollout::Actor;
use crate::onnx::Graph;

/// Goals, or starts, that are looked at.
const EPISODES: usize = 60;

/// Trains GAIL on the same demonstrations in the sub-folder `gail` of a run of cloning, and draws the
/// errors of both over time and the states that they and the expert visit, to `shift.svg`, `.png` and
/// `.csv`. Where there are goals GAIL is goalGAIL without hindsight and without cloning.
///
/// # Errors
/// Training fails, the environment has no expert, or a file cannot be written.
pub fn run(args: &Args, plan: &Plan, folder: &Folder, context: &Context) -> Result<()> {
    let mut env = plan.open_env(SEED, context)?;
    let beside = Folder::new(&context.storage, &folder.path().join("gail"));
    if beside.read(BEST)?.is_none() {
        super::run(&gail(args, plan, env.spec().goal > 0, &beside), context)?;
    }
    let engine = Engine::tract();
    let load = |folder: &Folder| -> Result<Actor> {
        let file = folder.read(BEST)?;
        let at = || format!("{} holds no {BEST}", folder.path().display());
        let policy = Graph::from_bytes(&file.with_context(at)?)?;
        Ok(Actor::new(&engine, &policy, env.spec().actions)?)
    };
    let seeds = super::seeds::folders(plan, folder);
    let cloned = load(seeds.first().context("a run has a seed")?)?;
    let mut policies = [("BC", cloned), ("GAIL", load(&beside)?)];
    let to = (EPISODES, SEED);
    let found =
        shift::report(context.storage.as_ref(), env.as_mut(), &mut policies, to, folder.path())?;
    for policy in &found.policies {
        let (there, own) = (policy.error_on_expert.mean(), policy.error_on_own.mean());
        let reached = match env.spec().goal {
            0 => String::new(),
            _ => format!("; {} of {} episodes reached their goal", policy.reached, found.episodes),
        };
        let name = &policy.name;
        say(format_args!(
            "{name}: error {there:.3} on the expert's states, {own:.3} on its own{reached}"
        ))?;
    }
    Ok(say(format_args!("{}", folder.path().join("shift.png").display()))?)
}

/// The arguments of the training beside.
fn gail(args: &Args, plan: &Plan, goals: bool, beside: &Folder) -> Args {
    let setting = |key: &str| {
        let value = plan.settings.get("demonstrations")?.get(key)?;
        Some(format!("demonstrations.{key}={value}"))
    };
    let shown = ["episodes", "noise", "random"].into_iter().filter_map(setting);
    let mut set: Vec<String> = shown.collect();
    if goals {
        set.extend(["her.relabel=0.0".into(), "learner.ddpg.bc=0.0".into()]);
    }
    Args {
        method: Some(if goals { "goalgail" } else { "gail" }.into()),
        env: Some(plan.env.clone()),
        preset: goals.then(|| "best".into()),
        config: None,
        set,
        seed: plan.seeds.first().copied(),
        seeds: None,
        steps: Some(args.report_steps),
        eval_every: None,
        out: Some(beside.path().into()),
        resume: None,
        report: false,
        ..args.clone()
    }
}
