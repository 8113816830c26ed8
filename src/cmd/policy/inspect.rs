//! `regoal policy inspect`: explains any ONNX file, and makes a policy of a foreign one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::describe::Words;
use super::facts::Facts;
use super::{EngineChoice, engines, operators, print};
use crate::cmd::{Context, finetune, say, say_json};
use crate::config::RobotConfig;
use crate::onnx::Verified;
use crate::policy::with_spec;

/// Explains an ONNX file: tensors, operators, engines, speed, what can be trained, what it is for.
///
/// Any file will do, from PyTorch, JAX or `regoal train`. With `--write-spec` a foreign one becomes a
/// policy: what its tensors mean is written into its metadata, everything else stays as it is.
///
/// Examples:
///   regoal policy inspect models/reach/policy.onnx
///   regoal policy inspect --operators
///   regoal policy inspect exported.onnx --write-spec policy.onnx
///     --robot firmware-config/emulated.toml --action joint_position
///     --observation joint_position,joint_velocity,desired_goal --goal ee_position
#[derive(Debug, ClapArgs)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The file
    #[arg(required_unless_present = "operators")]
    pub policy: Option<PathBuf>,
    /// Check it against this robot too
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Write the file with a description for this robot
    #[arg(long, value_name = "OUT", requires_all = ["robot", "action", "observation", "goal"])]
    pub write_spec: Option<PathBuf>,
    /// What the description says.
    #[command(flatten)]
    pub words: Words,
    /// Name every operator and parameter
    #[arg(long)]
    pub all: bool,
    /// The ONNX Runtime library; without it the cache and the system are searched
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Instead, list the operators that a file may hold, and its other limits
    #[arg(long, conflicts_with_all = ["policy", "robot", "write_spec", "all"])]
    pub operators: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The file cannot be read, is not usable, or does not fit the robot. What is known is printed first.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    match &args.policy {
        Some(policy) => explain(policy, args, context),
        None if args.json => say_json(&operators::json()),
        None => Ok(say(operators::list())?),
    }
}

fn explain(policy: &Path, args: &Args, context: &Context) -> Result<()> {
    let mut file = finetune::read(context, policy)?;
    let named = policy.display();
    let robot = args.robot.as_deref().map(|path| RobotConfig::load(context.storage.as_ref(), path));
    let robot = robot.transpose()?;
    if let (Some(out), Some(robot)) = (&args.write_spec, &robot) {
        file = described(&file, args, robot).with_context(|| format!("{named}"))?;
        write(context, out, &file)?;
    }
    let (engines, note) = engines(EngineChoice::All, args.onnxruntime.as_deref())?;
    let facts = Facts::of(&file, robot.as_ref(), &engines, context.clock.as_ref())?;
    if args.json {
        say_json(&facts)?;
    } else {
        if let Some(note) = note {
            remark!("note: {note}");
        }
        say(print::describe(&facts, args.all))?;
    }
    if let Some(refusal) = facts.refusal {
        anyhow::bail!("{named}: {}", refusal.reason);
    }
    match facts.robot.and_then(|fit| fit.reason) {
        Some(reason) => anyhow::bail!("{named}: {reason}"),
        None => Ok(()),
    }
}

fn described(file: &[u8], args: &Args, robot: &RobotConfig) -> Result<Vec<u8>> {
    let graph = Verified::from_bytes(file)?;
    let spec = args.words.spec(&graph, robot)?;
    spec.joint_places(robot)?;
    Ok(with_spec(file, &spec)?)
}

fn write(context: &Context, path: &Path, file: &[u8]) -> Result<()> {
    context.storage.replace(path, file).with_context(|| format!("writing {}", path.display()))
}
