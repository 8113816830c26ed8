//! `regoal policy verify`: is this file safe to load and usable?

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;
use serde_json::json;

use super::facts::Refusal;
use crate::cmd::{Context, finetune, say, say_json};
use crate::config::RobotConfig;
use crate::onnx::Verified;
use crate::policy::{PolicyError, PolicySpec};

/// Checks an ONNX file without running it; the exit code says whether it passed.
///
/// With `--robot` it must be a policy for that robot too.
///
/// Example: regoal policy verify models/reach/policy.onnx --robot firmware-config/emulated.toml
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file
    pub policy: PathBuf,
    /// It must be for this robot
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The file cannot be read or does not pass, and why.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let file = finetune::read(context, &args.policy)?;
    let robot = args.robot.as_deref().map(|path| RobotConfig::load(context.storage.as_ref(), path));
    let (robot, named) = (robot.transpose()?, args.policy.display());
    let refusal = match check(&file, robot.as_ref()) {
        Ok(()) => None,
        Err(PolicyError::Onnx(error)) => Some(Refusal::of(&error)),
        Err(error) => Some(Refusal {
            reason: error.to_string(),
            advice: "describe it for this robot with `regoal policy inspect FILE --write-spec OUT`",
        }),
    };
    if args.json {
        say_json(&json!({ "verified": refusal.is_none(), "refusal": refusal }))?;
    }
    match refusal {
        Some(Refusal { reason, advice }) => anyhow::bail!("{named}: {reason}\n  to do: {advice}"),
        None if args.json => Ok(()),
        None => Ok(say(format!("{named}: verified"))?),
    }
}

fn check(file: &[u8], robot: Option<&RobotConfig>) -> Result<(), PolicyError> {
    let graph = Verified::from_bytes(file)?;
    match robot {
        Some(robot) => PolicySpec::of(&graph)?.joint_places(robot).map(drop),
        None => Ok(()),
    }
}
