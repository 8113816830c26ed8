//! `regoal policy install`: a policy into a robot's store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::json;

use super::{EngineChoice, engines, print, signed, trial};
use crate::cmd::{Context, say, say_json};
use crate::config::RobotConfig;
use crate::onnx::Verified;
use crate::policy::store::TRIALS;
use crate::policy::{PolicySpec, Store, Trust};

/// Checks a policy and puts it into a robot's store: the next `regoal run` tries it.
///
/// Where the robot trusts keys (`policy.trusted_keys`), the signatures beside the file are checked before
/// anything else of it. On trial, the policy is committed by the first goal that it reaches; one that
/// fails, or does not prove itself in three starts, gives way to the one before, without a person. It
/// is not taken again then but with `--again`.
///
/// Example: regoal policy install candidate/policy.onnx --robot my-arm.toml --store policies
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file
    pub policy: PathBuf,
    /// Which store
    #[command(flatten)]
    pub place: Place,
    /// Also when it was taken out of use before
    #[arg(long)]
    pub again: bool,
    /// Make it the active policy at once, without a trial
    #[arg(long)]
    pub commit: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which store of policies.
#[derive(Debug, ClapArgs)]
pub struct Place {
    /// The robot's configuration
    #[arg(long, value_name = "FILE", required_unless_present = "store")]
    pub robot: Option<PathBuf>,
    /// The store; by default that of the configuration's policy.store
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
}

impl Place {
    /// The robot's configuration.
    fn robot(&self, context: &Context) -> Result<RobotConfig> {
        let path = self
            .robot
            .as_ref()
            .context("for which robot? name its configuration with --robot FILE")?;
        Ok(RobotConfig::load(context.storage.as_ref(), path)?)
    }

    /// The store.
    pub(super) fn open(&self, context: &Context) -> Result<Store> {
        let folder = match &self.store {
            Some(folder) => folder.clone(),
            None => self.robot(context)?.policy.store.context(
                "which store? name one with --store FOLDER, or in the robot's configuration: [policy] store = \"policies\"",
            )?,
        };
        Ok(Store::open(Arc::clone(&context.storage), Arc::clone(&context.clock), &folder)?)
    }
}

/// Who runs this program, for what is remembered.
pub(super) fn person() -> String {
    std::env::var("USER").map_or("a person".into(), |user| crate::cmd::printable(&user))
}

const RUNS: u64 = 200;
const LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the verb.
///
/// # Errors
/// The policy is not one that this robot takes, and why; the store is as it was then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (robot, store) = (args.place.robot(context)?, args.place.open(context)?);
    let trust = Trust::of(&robot.policy)?;
    let (file, claims) = signed::admit(&args.policy, &trust, context)?;
    let named = || format!("{}", args.policy.display());
    if let Some(claims) = &claims {
        claims.check(&robot, context.clock.wall()).with_context(named)?;
    } else {
        eprintln!(
            "note: not signed by anybody this robot trusts: it takes every policy, as policy.trusted_keys is empty"
        );
    }
    let cost = try_out(&file, &robot, context).with_context(named)?;
    let id = store.install(&file, claims.as_ref(), args.again).with_context(named)?;
    if args.commit {
        store.commit(&format!("installed by {}", person()))?;
    }
    let version = claims.as_ref().map(|claims| claims.version);
    if args.json {
        return say_json(&json!({
            "policy": id.to_string(), "version": version, "committed": args.commit, "cost": cost,
        }));
    }
    say(format!("{}: {}", named(), print::cost_of(&cost)))?;
    let next = match args.commit {
        true => "it is the active policy now".into(),
        false => format!("`regoal run` tries it, up to {TRIALS} times until it reaches a goal"),
    };
    Ok(say(format!("policy {id} is installed: {next}"))?)
}

/// Whether the robot can use it, and what an action costs here.
fn try_out(file: &[u8], robot: &RobotConfig, context: &Context) -> Result<trial::Cost> {
    let graph = Verified::from_bytes(file)?;
    PolicySpec::of(&graph)?.joint_places(robot)?;
    let (engines, _) = engines(EngineChoice::Tract, None::<&Path>)?;
    let trial = trial::trial(&graph, &engines, context.clock.as_ref(), RUNS, LIMIT)?;
    anyhow::ensure!(trial.finite, "it gives numbers that are not finite on random inputs");
    let engine = trial.engines.into_iter().next().context("there is no engine")?;
    let reason = || engine.reason.clone().unwrap_or_default();
    engine.ticks.with_context(reason)
}
