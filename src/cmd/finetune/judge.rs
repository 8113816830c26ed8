//! Base and candidate against each other in the emulator.

use anyhow::{Context as _, Result};

use super::Args;
use crate::cmd::goals::Goals;
use crate::cmd::{Context, simulate};
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::learn::finetune::{Emulated, SuccessTest};
use crate::policy::Policy;
use crate::rng::Stream;

/// Both policies on the same goals.
///
/// # Errors
/// The configuration cannot be read, the base does not fit the robot, or somebody asked to stop.
pub(super) fn emulate(
    args: &Args,
    context: &Context,
    base: &[u8],
    candidate: &[u8],
) -> Result<Emulated> {
    let Some(path) = &args.robot else {
        return Ok(Emulated::None("not tried in the emulator: no --robot was named".into()));
    };
    let robot = RobotConfig::load(context.storage.as_ref(), path)?;
    if let Err(error) = Goals::of(&robot) {
        return Ok(Emulated::None(format!("not tried in the emulator: {error:#}")));
    }
    let before = successes(args, context, &robot, base)
        .with_context(|| format!("the base in the emulator of {}", path.display()))?;
    let after = successes(args, context, &robot, candidate);
    context.check()?;
    Ok(match after {
        Ok(after) => Emulated::Tried(SuccessTest::of(&before, &after)),
        Err(error) => Emulated::Failed(format!("{error:#}")),
    })
}

fn successes(
    args: &Args,
    context: &Context,
    robot: &RobotConfig,
    policy: &[u8],
) -> Result<Vec<bool>> {
    let policy = Policy::load(policy, robot, &Engine::tract())?;
    let goals = (Stream::Validation, args.seed, args.goals);
    let found = simulate::evaluate(context, robot, policy, goals, &|| ())?;
    Ok(found.trials.iter().map(|trial| trial.result.success).collect())
}
