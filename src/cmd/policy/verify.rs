//! `regoal policy verify`: is this file safe to load and usable?

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::json;

use super::facts::Refusal;
use super::signed;
use crate::cmd::{Context, say, say_json};
use crate::config::{PolicyConfig, RobotConfig};
use crate::onnx::Verified;
use crate::policy::{PolicyError, PolicySpec, Trust};

/// Checks an ONNX file without running it; the exit code says whether it passed.
///
/// With `--robot` it must be a policy for that robot too, and signed by those whom the robot trusts.
/// With `--key` it must be signed with that key. Signatures stand beside the file in `FILE.minisig`
/// and are checked before anything of the file is parsed.
///
/// Example: regoal policy verify models/reach/policy.onnx --robot firmware-config/emulated.toml
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file
    pub policy: PathBuf,
    /// It must be for this robot
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// It must be signed with this public key: a file, or its line itself
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The file cannot be read or does not pass, and why.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = args.robot.as_deref().map(|path| RobotConfig::load(context.storage.as_ref(), path));
    let (robot, named) = (robot.transpose()?, args.policy.display());
    let trust = trust(args, robot.as_ref(), context)?;
    let (file, claims) = signed::admit(&args.policy, &trust, context)?;
    if let Some((claims, robot)) = claims.as_ref().zip(robot.as_ref()) {
        claims.check(robot, context.clock.wall()).with_context(|| format!("{named}"))?;
    }
    let refusal = match check(&file, robot.as_ref()) {
        Ok(()) => None,
        Err(PolicyError::Onnx(error)) => Some(Refusal::of(&error)),
        Err(error) => Some(Refusal {
            reason: error.to_string(),
            advice: "describe it for this robot with `regoal policy inspect FILE --write-spec OUT`",
        }),
    };
    let signed = claims.as_ref().map(ToString::to_string);
    if args.json {
        say_json(&json!({ "verified": refusal.is_none(), "refusal": refusal, "signed": signed }))?;
    }
    match refusal {
        Some(Refusal { reason, advice }) => anyhow::bail!("{named}: {reason}\n  to do: {advice}"),
        None if args.json => Ok(()),
        None => {
            let signed = signed.map(|claims| {
                format!(", signed: {}", claims.split('\t').skip(1).collect::<Vec<_>>().join(", "))
            });
            Ok(say(format!("{named}: verified{}", signed.unwrap_or_default()))?)
        }
    }
}

/// The key that is named, or those that the robot trusts.
fn trust(args: &Args, robot: Option<&RobotConfig>, context: &Context) -> Result<Trust> {
    let config = robot.map(|robot| robot.policy.clone()).unwrap_or_default();
    let Some(key) = &args.key else { return Ok(Trust::of(&config)?) };
    let file = context.storage.read(Path::new(key)).ok().map(String::from_utf8);
    let trusted_keys = vec![file.transpose()?.unwrap_or_else(|| key.clone())];
    Ok(Trust::of(&PolicyConfig { trusted_keys, threshold: 1, ..config })?)
}

fn check(file: &[u8], robot: Option<&RobotConfig>) -> Result<(), PolicyError> {
    let graph = Verified::from_bytes(file)?;
    match robot {
        Some(robot) => PolicySpec::of(&graph)?.joint_places(robot).map(drop),
        None => Ok(()),
    }
}
