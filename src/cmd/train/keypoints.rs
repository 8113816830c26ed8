//! `regoal train keypoints`: cloning from pictures, through what a network looks at.

use anyhow::{Context as _, Result, ensure};

use super::folder::{BEST, Folder};
use super::trial::SEED;
use super::{Args, say};
use crate::cmd::progress::Bar;
use crate::cmd::{Context, keypoints, picture};
use crate::engine::Session;
use crate::env::{self, Env};
use crate::goal::reached;
use crate::learn::evaluate::{self, Rate};
use crate::learn::keypoints::{KeypointSettings, Keypoints, Pictures};
use crate::learn::learner::Learner as _;
use crate::learn::rollout::{Noise, episode};
use crate::learn::settings;
use crate::onnx::{Graph, Verified};
use crate::rng::{Stream, stream};

/// Pixels along a side of what the network sees.
const SIZE: usize = 64;
/// Episodes of the expert that are watched, and steps between two pictures: with a tenth of the
/// episodes nothing general is learned.
const WATCHED: (usize, usize) = (400, 5);
/// Goals that the policy is tried on.
const GOALS: usize = 49;

/// Trains on pictures of the environment's expert, tries the policy, and writes `best.onnx` and the
/// keypoints over a picture, `keypoints.svg` and `.png`, to `--out`.
///
/// # Errors
/// The environment has no expert or no picture, a setting is unknown, or the engine or a file failed.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let name = args.env.as_deref().unwrap_or("four_rooms");
    let mut env = env::named(name)?;
    let folder = args.out.clone().unwrap_or_else(|| format!("keypoints-{name}").into());
    let folder = Folder::new(&context.storage, &folder);
    let at = folder.path().display();
    ensure!(folder.read(BEST)?.is_none(), "{at} holds a policy: choose another --out");
    let mut table = settings::table(&KeypointSettings::default(), "defaults")?;
    let steps = args.steps.map(|steps| format!("steps={steps}"));
    for text in args.set.iter().chain(&steps) {
        settings::lay_over(&mut table, settings::assignment(text)?);
    }
    let settings: KeypointSettings = settings::parse(table, "--set")?;
    let (engine, seed) = (args.engine.open()?, args.seed.unwrap_or(0));
    let mut rng = stream(seed, Stream::Demonstrations);
    let pictures = Pictures::watch(env.as_mut(), WATCHED, SIZE, Noise::default(), &mut rng)?;
    remark!("{} pictures of {} episodes", pictures.len(), WATCHED.0);
    let bar = Bar::of_steps("keypoints", settings.steps as u64);
    let mut learner = Keypoints::new(&engine, pictures, settings, seed)?;
    while !learner.done() {
        let figures = learner.iterate()?;
        let shown: Vec<String> = figures.iter().map(|(n, x)| format!("{n} {x:.3}")).collect();
        let step = figures.first().map_or(0.0, |(_, step)| *step);
        bar.set(step as usize, &shown[1..].join(", "));
        context.check()?;
    }
    bar.finish();
    let policy = learner.policy()?;
    folder.write(BEST, &policy.to_bytes())?;
    let rate = try_out(env.as_mut(), &policy, &engine)?;
    draw(env.as_mut(), &policy, &engine, &folder)?;
    if let Some([loss, mean]) = learner.held_out()? {
        say(format_args!("held-out loss {loss:.3}; always answering the mean: {mean:.3}"))?;
    }
    say(format_args!("goals reached from pictures alone: {rate}"))?;
    Ok(say(format_args!("{}", folder.path().join("keypoints.png").display()))?)
}

fn load(policy: &Graph, engine: &crate::engine::Engine) -> Result<Session> {
    Ok(engine.load(&Verified::try_from(policy.clone())?)?)
}

/// Success at any time on goals from everywhere.
fn try_out(env: &mut dyn Env, policy: &Graph, engine: &crate::engine::Engine) -> Result<Rate> {
    let mut session = load(policy, engine)?;
    let all = evaluate::goals(env, GOALS, SEED);
    let (tolerance, mut rate) = (env.spec().tolerance, Rate::default());
    let mut rng = stream(SEED, Stream::HeldOut);
    for goal in all.iter().step_by(all.len().div_ceil(GOALS)) {
        let found = episode(env, goal, true, &mut rng, &mut |env, action, _| {
            Ok(session.run_into(&[&env.scene().raster(SIZE)], action)?)
        })?;
        rate.n += 1;
        rate.successes += usize::from(reached(found.achieved_goal(found.last()), goal, tolerance));
    }
    Ok(rate)
}

/// The keypoints of a first picture.
fn draw(
    env: &mut dyn Env,
    policy: &Graph,
    engine: &crate::engine::Engine,
    folder: &Folder,
) -> Result<()> {
    let mut rng = stream(SEED, Stream::HeldOut);
    let goal = env.sample_goal(&mut rng);
    env.reset(&goal, &mut rng)?;
    let scene = env.scene();
    let found = load(policy, engine)?.run(&[(
        "observation",
        &[1, 3 * SIZE * SIZE],
        &scene.raster(SIZE),
    )])?;
    let points = found.get(1).context("a policy with keypoints has two outputs")?;
    let svg = keypoints::svg(&scene, &points.data, 480.0);
    folder.write("keypoints.svg", svg.as_bytes())?;
    folder.write("keypoints.png", &picture::png(&svg)?)
}
