//! `regoal train gcbc`: scripted demonstrations, goal-conditioned behaviour cloning, a policy file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::engine::EngineArgs;
use super::tuning::{Descent, Rates};
use super::{Context, simulate};
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::env::{ArmReach, Env as _};
use crate::episode::Split;
use crate::goal::ReplayBuffer;
use crate::learn::dataset;
use crate::learn::evaluate::Rate;
use crate::learn::gcbc::{self, Data, Gcbc, Normalizer};
use crate::onnx::Verified;
use crate::policy::{ActionKind, GoalSpace, ObservationTerm, PolicySpec, Tensors};
use crate::rng::{self, Stream};

/// Trains a goal-reaching policy by goal-conditioned behaviour cloning.
///
/// A scripted expert demonstrates reaching in simulation, on the arm's right side only; the policy
/// clones it, with hindsight goals. The result is a folder with `policy.onnx`, the demonstrations
/// (one MCAP file each) and the loss per epoch.
///
/// Example: regoal train gcbc --out models/reach
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The robot's configuration
    #[arg(long, default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// Where the policy and the demonstrations go; must not exist
    #[arg(long, default_value = "reach")]
    pub out: PathBuf,
    /// Scripted demonstrations
    #[arg(long, default_value_t = 20)]
    pub demonstrations: usize,
    /// Training steps
    #[arg(long, default_value_t = 3000)]
    pub steps: usize,
    /// Learning rates
    #[command(flatten)]
    pub rates: Rates,
    /// How parameters follow their gradient
    #[command(flatten)]
    pub descent: Descent,
    /// Units of each hidden layer
    #[arg(long, value_delimiter = ',', default_values_t = [256, 256])]
    pub hidden: Vec<usize>,
    /// Seed of demonstrations, weights and batches
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Held-out goals to evaluate on
    #[arg(long, default_value_t = 200)]
    pub goals: usize,
}

/// Runs the verb.
///
/// # Errors
/// The configuration is wrong, the folder exists, or training fails.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let method = Gcbc { steps: args.steps, schedule: args.rates.schedule(), ..Gcbc::default() };
    let method = args.descent.apply(method)?;
    let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
    let engine = args.engine.open()?;
    anyhow::ensure!(
        !args.out.exists(),
        "{} exists: choose another --out, or remove it",
        args.out.display()
    );
    let folder = args.out.join("demonstrations");
    let shown = simulate::demonstrate(context, &robot, args.demonstrations, args.seed, &folder)?;
    eprintln!("{} demonstrations, {} of them reached their goal", shown.n, shown.successes);

    let spec = spec(&robot, args);
    let episodes =
        super::episodes::read_all(context.storage.as_ref(), std::slice::from_ref(&folder))?;
    let mut demonstrations = ReplayBuffer::default();
    dataset::extend(&mut demonstrations, &episodes, Split::Training, &spec)?;
    let env = ArmReach::new(&robot, horizon(&robot), args.seed)?;
    let mut weights = rng::stream(args.seed, Stream::Weights);
    let normalizer = normalizer(&robot, &env);
    let policy = gcbc::network(&spec, &normalizer, &args.hidden, &mut weights)?;

    let data = Data { demonstrations: &demonstrations, attempts: &ReplayBuffer::default() };
    let bar = super::progress::Bar::new("training", args.steps);
    let mut on_progress = |p: gcbc::Progress| {
        bar.set(p.step, &format!("loss {:.4}", p.loss));
        context.check().is_ok()
    };
    let mut batches = rng::stream(args.seed, Stream::Training);
    let fit = method.fit(&engine, &policy, data, &mut batches, &mut on_progress);
    bar.finish();
    context.check()?;
    let fit = fit?;
    let file = policy.with_parameters(&fit.parameters)?.to_bytes();
    write(context, &args.out.join("policy.onnx"), &file)?;
    write(context, &args.out.join("losses.csv"), losses_csv(&fit.losses).as_bytes())?;

    let rate = evaluate(context, &robot, &engine, &file, args)?;
    println!("{}: held-out goals reached in the environment: {rate}", args.out.display());
    Ok(())
}

/// What the new policy is for.
fn spec(robot: &RobotConfig, args: &Args) -> PolicySpec {
    let joints = crate::kinematics::Chain::named(&robot.model).map_or(0, |chain| chain.joints());
    PolicySpec {
        version: 1,
        model: robot.model.clone(),
        joints: robot.joint.iter().take(joints).map(|j| j.name.clone()).collect(),
        rate_hz: robot.control.rate_hz,
        observation: vec![ObservationTerm::JointPosition, ObservationTerm::SentPosition],
        goal_space: GoalSpace::EndEffectorPosition,
        action: ActionKind::JointDelta,
        tensors: Tensors::default(),
        chunk: None,
        state: Vec::new(),
        provenance: [
            ("method".into(), "gcbc".into()),
            ("demonstrations".into(), args.demonstrations.into()),
            ("steps".into(), args.steps.into()),
            ("seed".into(), args.seed.into()),
            ("max_delta".into(), robot.max_delta().into()),
            ("software".into(), concat!("regoal ", env!("CARGO_PKG_VERSION")).into()),
        ]
        .into(),
    }
}

fn normalizer(robot: &RobotConfig, env: &ArmReach) -> Normalizer {
    let half = |j: &crate::config::JointConfig| (0.25 * (j.max_rad - j.min_rad)) as f32;
    let (mean, deviation) = env.workspace().moments();
    Normalizer {
        joint_range: robot.joint.iter().take(env.chain().joints()).map(half).collect(),
        goal_mean: mean.to_vec(),
        goal_deviation: deviation.to_vec(),
    }
}

/// Ticks that a goal may take.
fn horizon(robot: &RobotConfig) -> usize {
    (robot.control.goal_timeout_s * robot.control.rate_hz) as usize
}

/// Success on held-out goals in the environment: the policy's last distance.
fn evaluate(
    context: &Context,
    robot: &RobotConfig,
    engine: &Engine,
    policy: &[u8],
    args: &Args,
) -> Result<Rate> {
    let mut env = ArmReach::new(robot, horizon(robot), args.seed)?;
    let mut session = engine.load(&Verified::from_bytes(policy)?)?;
    let mut action = vec![0.0; env.spec().actions.size()];
    let mut rate = Rate::default();
    for i in 0..args.goals as u64 {
        context.check()?;
        let mut rng = rng::item(args.seed, Stream::HeldOut, i);
        let goal = env.sample_goal(&mut rng);
        env.reset(&goal, &mut rng)?;
        for _ in 0..env.spec().horizon {
            let inputs = [env.observation(), env.achieved_goal(), env.desired_goal()];
            session.run_into(&inputs, &mut action)?;
            env.step(&action)?;
        }
        let success =
            crate::goal::reached(env.achieved_goal(), env.desired_goal(), env.spec().tolerance);
        rate.n += 1;
        rate.successes += usize::from(success);
    }
    Ok(rate)
}

/// Loss per epoch as a table.
pub fn losses_csv(losses: &[f32]) -> String {
    let rows = losses.iter().enumerate().map(|(i, loss)| format!("{},{loss}\n", i + 1));
    std::iter::once("epoch,loss\n".to_owned()).chain(rows).collect()
}

/// Writes a file so that it is whole or not there.
pub fn write(context: &Context, path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        context.storage.create_folder(folder)?;
    }
    context.storage.replace(path, content).with_context(|| format!("writing {}", path.display()))
}
