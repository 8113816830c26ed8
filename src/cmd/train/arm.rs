//! `regoal train gcbc`: scripted demonstrations, goal-conditioned behaviour cloning, a policy file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;

use super::plan::SOFTWARE;
use super::write;
use crate::cmd::goals::Goals;
use crate::cmd::progress::Bar;
use crate::cmd::tuning::{Descent, Rates};
use crate::cmd::{Context, simulate};
use crate::config::RobotConfig;
use crate::joints::GoalSpace;
use crate::kinematics::Chain;
use crate::learn::finetune::Experience;
use crate::learn::gcbc::{self, Gcbc};
use crate::policy::{ActionKind, ObservationTerm, Policy, PolicySpec, Tensors};
use crate::rng::{self, Stream};

/// Settings of the method on an arm. A scripted expert demonstrates reaching in the emulator, places
/// on the arm's right side only; the policy clones it, with hindsight goals. The result is a folder
/// with `policy.onnx`, the demonstrations (one MCAP file each) and the loss per epoch.
#[derive(Debug, Clone, ClapArgs)]
pub struct ArmArgs {
    /// Scripted demonstrations
    #[arg(long, default_value_t = 20, conflicts_with = "env")]
    pub demonstrations: usize,
    /// Folders of logged episodes to learn from instead, failures included; may be given several times
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["env", "demonstrations"])]
    pub episodes: Vec<PathBuf>,
    /// Learning rates
    #[command(flatten)]
    pub rates: Rates,
    /// How parameters follow their gradient
    #[command(flatten)]
    pub descent: Descent,
    /// Units of each hidden layer
    #[arg(long, value_delimiter = ',', default_values_t = [256, 256], conflicts_with = "env")]
    pub hidden: Vec<usize>,
    /// Held-out goals to evaluate on
    #[arg(long, default_value_t = 200, conflicts_with = "env")]
    pub goals: usize,
}

/// Training steps unless said otherwise.
const STEPS: u64 = 3000;

/// What was asked for.
struct Wish<'a> {
    out: PathBuf,
    steps: usize,
    seed: u64,
    arm: &'a ArmArgs,
}

impl<'a> Wish<'a> {
    fn of(args: &'a super::Args) -> Result<Self> {
        let foreign = [
            ("--preset", args.preset.is_some()),
            ("--set", !args.set.is_empty()),
            ("--relabel", args.relabel.is_some()),
            ("--discriminator", args.discriminator.is_some()),
            ("--seeds", args.seeds.is_some()),
            ("--jobs", args.jobs.is_some()),
            ("--eval-every", args.eval_every.is_some()),
            ("--eval-goals", args.eval_goals.is_some()),
            ("--json", args.json),
        ];
        for (flag, given) in foreign {
            ensure!(!given, "expected --env beside {flag}: gcbc without it trains for an arm");
        }
        let out = args.out.clone().unwrap_or_else(|| "reach".into());
        ensure!(!out.exists(), "{} exists: choose another --out, or remove it", out.display());
        let steps = usize::try_from(args.steps.unwrap_or(STEPS))?;
        Ok(Self { out, steps, seed: args.seed.unwrap_or(0), arm: &args.arm })
    }

    /// The folders of episodes to learn from; demonstrations are made unless some are named.
    fn folders(&self, robot: &RobotConfig, context: &Context) -> Result<Vec<PathBuf>> {
        if !self.arm.episodes.is_empty() {
            return Ok(self.arm.episodes.clone());
        }
        let (n, folder) = (self.arm.demonstrations, self.out.join("demonstrations"));
        let shown = simulate::demonstrate(context, robot, n, self.seed, &folder)?;
        remark!("{} demonstrations, {} of them reached their goal", shown.n, shown.successes);
        Ok(vec![folder])
    }

    fn provenance(&self, robot: &RobotConfig) -> Provenance {
        let scripted = if self.arm.episodes.is_empty() { self.arm.demonstrations } else { 0 };
        [
            ("method".into(), "gcbc".into()),
            ("demonstrations".into(), scripted.into()),
            ("steps".into(), self.steps.into()),
            ("seed".into(), self.seed.into()),
            ("max_delta".into(), robot.max_delta().into()),
            ("software".into(), SOFTWARE.into()),
        ]
        .into()
    }
}

/// Facts about a policy's origin by name.
type Provenance = BTreeMap<String, serde_json::Value>;

/// Trains for the arm.
///
/// # Errors
/// The configuration is wrong, the folder exists, or training fails.
pub(super) fn run(args: &super::Args, context: &Context) -> Result<()> {
    let wish = Wish::of(args)?;
    let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
    let engine = args.engine.open()?;
    let space = robot.control.goal_space;
    let spec = spec(&robot, space, Tensors::default(), wish.provenance(&robot));
    let folders = wish.folders(&robot, context)?;
    let experience = Experience::load(context.storage.as_ref(), &folders, &spec)?;
    let mut weights = rng::stream(wish.seed, Stream::Weights);
    let normalizer = Goals::of(&robot)?.normalizer(&robot, spec.joints.len());
    let policy = gcbc::network(&spec, &normalizer, &wish.arm.hidden, &mut weights)?;

    let schedule = wish.arm.rates.schedule();
    let method = Gcbc { steps: wish.steps, schedule, ..Gcbc::default() };
    let method = wish.arm.descent.apply(method)?;
    let bar = Bar::new("training", wish.steps);
    let mut on_progress = |p: gcbc::Progress| {
        bar.set(p.step, &format!("loss {:.4}", p.loss));
        context.check().is_ok()
    };
    let batches = rng::stream(wish.seed, Stream::Training);
    let fit = method.fit(&engine, &policy, experience.training(), batches, &mut on_progress);
    bar.finish();
    context.check()?;
    let fit = fit?;
    let file = policy.with_parameters(&fit.parameters)?.to_bytes();
    write(context, &wish.out.join("policy.onnx"), &file)?;
    write(context, &wish.out.join("losses.csv"), losses_csv(&fit.losses).as_bytes())?;

    let policy = Policy::load(&file, &robot, &engine)?;
    let held_out = (Stream::HeldOut, wish.seed, wish.arm.goals);
    let found = simulate::evaluate(context, &robot, policy, held_out, &|| ())?;
    tell!("{}: held-out goals reached in the emulator: {}", wish.out.display(), found.rate());
    Ok(())
}

/// What a policy with such goals is for: it moves the joints that they are about.
pub(super) fn spec(
    robot: &RobotConfig,
    goal_space: GoalSpace,
    tensors: Tensors,
    provenance: Provenance,
) -> PolicySpec {
    let joints = match goal_space {
        GoalSpace::JointPosition => robot.joint.len(),
        _ => Chain::of(robot).map_or(0, |chain| chain.joints()),
    };
    PolicySpec {
        version: if tensors == Tensors::default() { 1 } else { 2 },
        model: robot.model.clone(),
        joints: robot.joint.iter().take(joints).map(|j| j.name.clone()).collect(),
        rate_hz: robot.control.rate_hz,
        observation: vec![ObservationTerm::JointPosition, ObservationTerm::SentPosition],
        goal_space,
        action: ActionKind::JointDelta,
        tensors,
        chunk: None,
        state: Vec::new(),
        provenance,
    }
}

/// Ticks that a goal may take.
pub(super) fn horizon(robot: &RobotConfig) -> usize {
    (robot.control.goal_timeout_s * robot.control.rate_hz) as usize
}

/// Loss per epoch as a table.
pub fn losses_csv(losses: &[f32]) -> String {
    let rows = losses.iter().enumerate().map(|(i, loss)| format!("{},{loss}\n", i + 1));
    std::iter::once("epoch,loss\n".to_owned()).chain(rows).collect()
}
