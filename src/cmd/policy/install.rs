//! `regoal policy install`: a policy into a robot's store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use serde_json::json;

use super::send::send;
use super::{EngineChoice, engines, print, signed, trial};
use crate::clock::Clock;
use crate::cmd::{Context, Endpoint, printable, say, say_json};
use crate::config::RobotConfig;
use crate::control::time_allowed;
use crate::daemon::{Client, Installation, Installed};
use crate::onnx::Verified;
use crate::policy::signature::{MAX_POLICY, read_at_most};
use crate::policy::store::TRIALS;
use crate::policy::{Cost, PolicySpec, Store, Trust, id_of};

/// Checks a policy and puts it into a robot's store: the next `regoal run` tries it, or with --to the
/// one that runs, at once.
///
/// Where the robot trusts keys (`policy.trusted_keys`), the signatures beside the file are checked before
/// anything else of it. On trial, the policy is committed by the first goal that it reaches; one that
/// fails, or does not prove itself in three starts, gives way to the one before, without a person. It
/// is not taken again then but with `--again`.
///
/// With --to or --socket the file is sent to a running robot, which checks it, measures it on its own
/// processor and answers what that takes. After a cut the same command goes on where it ended; a policy
/// that steers already is not sent again.
///
/// Example: regoal policy install candidate/policy.onnx --robot my-arm.toml --store policies
///
/// Example: regoal policy install candidate/policy.onnx --to https://robot:7423
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

/// Which store of policies: one of this computer's, or that of a running robot.
#[derive(Debug, Default, ClapArgs)]
pub struct Place {
    /// The robot's configuration
    #[arg(long, value_name = "FILE", required_unless_present_any = ["store", "socket", "to"])]
    pub robot: Option<PathBuf>,
    /// The store; by default that of the configuration's policy.store
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// The running robot
    #[command(flatten)]
    pub at: Endpoint,
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

    /// The running robot, if one is meant.
    pub(super) fn client(&self, context: &Context) -> Result<Option<Client>> {
        let client = self.at.client(context)?;
        let both = client.is_some() && (self.robot.is_some() || self.store.is_some());
        anyhow::ensure!(
            !both,
            "expected --robot and --store of this computer, or --to, found both"
        );
        Ok(client)
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
const LIMIT: Duration = Duration::from_secs(2);

/// Runs the verb.
///
/// # Errors
/// The policy is not one that this robot takes, and why; the store is as it was then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if let Some(client) = args.place.client(context)? {
        return send_to(&client, args, context);
    }
    let (robot, store) = (args.place.robot(context)?, args.place.open(context)?);
    let trust = Trust::of(&robot.policy)?;
    let (file, claims) = signed::admit(&args.policy, &trust, context)?;
    let named = || format!("{}", args.policy.display());
    if let Some(claims) = &claims {
        claims.check(&robot, context.clock.wall()).with_context(named)?;
    } else {
        remark!(
            "note: not signed by anybody this robot trusts: it takes every policy, as policy.trusted_keys is empty"
        );
    }
    let cost = try_out(&file, &robot, context.clock.as_ref()).with_context(named)?;
    let why = format!("installed by {}", person());
    let id = store.install(&file, claims.as_ref(), args.again, &why).with_context(named)?;
    if args.commit && !store.prove(id, &why)? {
        let active = store.state()?.active.is_some_and(|entry| entry.policy == id);
        anyhow::ensure!(active, "another policy was staged meanwhile: try again");
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

/// The same on a robot that runs.
fn send_to(client: &Client, args: &Args, context: &Context) -> Result<()> {
    let named = || format!("{}", args.policy.display());
    let file = read_at_most(context.storage.as_ref(), &args.policy, MAX_POLICY)
        .with_context(|| format!("reading {}", named()))?
        .with_context(named)?;
    let signatures = signed::signatures(&args.policy, context)?.into_iter().collect();
    let (policy, again, commit) = (id_of(&file), args.again, args.commit);
    let order = Installation { policy, signatures, again, commit };
    let installed = send(client, &file, &order, context).with_context(named)?;
    if args.json {
        return say_json(&installed);
    }
    let Installed { policy, version, cost, note, .. } = installed;
    let version = version.map_or(String::new(), |version| format!(", version {version}"));
    say(format!("{}: on the robot {}", named(), print::cost_of(&cost)))?;
    Ok(say(format!("policy {}{version} is installed: {}", printable(&policy), printable(&note)))?)
}

/// Whether the robot can use it, and what an action costs here: half of them must come in the time that
/// the loop leaves them (what a busy computer adds to the others is judged where the policy steers).
pub(in crate::cmd) fn try_out(file: &[u8], robot: &RobotConfig, clock: &dyn Clock) -> Result<Cost> {
    let graph = Verified::from_bytes(file)?;
    let spec = PolicySpec::of(&graph)?;
    spec.joint_places(robot)?;
    let (engines, _) = engines(EngineChoice::Tract, None::<&Path>)?;
    let trial = trial::trial(&graph, &engines, clock, RUNS, LIMIT)?;
    anyhow::ensure!(trial.finite, "it gives numbers that are not finite on random inputs");
    let engine = trial.engines.into_iter().next().context("there is no engine")?;
    let reason = || engine.reason.clone().unwrap_or_default();
    let cost = engine.ticks.with_context(reason)?;
    let allowed = time_allowed(robot.period(), spec.chunk().patience()).as_secs_f64() * 1e6;
    anyhow::ensure!(
        cost.p50_us <= allowed,
        "expected a median of at most {allowed:.0} µs (30 % of a tick at {} Hz, and the ticks that its chunks \
         leave it), found {:.0} µs: make it smaller, let it answer with chunks, or lower control.rate_hz",
        robot.control.rate_hz,
        cost.p50_us
    );
    Ok(cost)
}
