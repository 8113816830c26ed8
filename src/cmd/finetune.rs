//! `regoal finetune`: hindsight on logged episodes, behaviour cloning, a candidate policy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::engine::EngineArgs;
use super::progress::Bar;
use super::try_load::isolated;
use super::tuning::{Descent, Rates, Tuning};
use super::{Context, train};
use crate::learn::finetune::{Experience, FinetuneReport, finetune};
use crate::learn::gcbc::{Gcbc, Progress};
use crate::onnx::Verified;
use crate::policy::{PolicySpec, Store};

/// Fine-tunes a policy on logged episodes, failures included.
///
/// Every attempt is a success at the goals it did achieve: the episodes are relabelled with hindsight
/// goals, mixed with the demonstrations, and cloned. The training step is an ONNX graph that ONNX
/// Runtime runs, or tract where its library is missing.
///
/// Example: regoal finetune --policy models/reach/policy.onnx --episodes models/reach/demonstrations
/// --episodes my-robot/episodes --out candidate
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// The policy to start from
    #[arg(long, value_name = "FILE")]
    pub policy: PathBuf,
    /// Folders of episodes: demonstrations and the robot's own; may be given several times
    #[arg(long, value_name = "FOLDER", required = true)]
    pub episodes: Vec<PathBuf>,
    /// Where the candidate (`policy.onnx`) and its report go
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Stage the candidate in this policy store too: the next `regoal run` tries it
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Training steps
    #[arg(long, default_value_t = 4000)]
    pub steps: usize,
    /// Learning rates
    #[command(flatten)]
    pub rates: Rates,
    /// How parameters follow their gradient
    #[command(flatten)]
    pub descent: Descent,
    /// What is minimised, and over which parameters
    #[command(flatten)]
    pub tuning: Tuning,
    /// Seed of batches, relabelling and adapters
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Learn from the demonstrations alone: the control of an experiment
    #[arg(long)]
    pub demonstrations_only: bool,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// An unreadable policy or folder, nothing to learn from, or a diverging loss. Nothing is changed then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    // Beside a running control loop everything else comes first.
    crate::os::become_nice();
    let report = tune(args, context)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    report.lost.iter().for_each(|line| eprintln!("note: {line}"));
    report.parameters.iter().for_each(|line| println!("{line}"));
    let ends = (report.losses.first().copied(), report.losses.last().copied());
    if let (Some(first), Some(last)) = ends {
        println!("{} loss {first:.4} in the first epoch, {last:.4} in the last", report.loss);
    }
    println!(
        "{} -> {} ({} attempts, {} of them corrected by a person, {} demonstrations, {} steps, {})",
        args.policy.display(),
        args.out.join("policy.onnx").display(),
        report.attempts,
        report.corrections,
        report.demonstrations,
        report.steps,
        report.engine
    );
    Ok(())
}

/// Fine-tunes and writes `policy.onnx`, `report.json` and `losses.csv` into `args.out`.
///
/// # Errors
/// As [`run`].
pub fn tune(args: &Args, context: &Context) -> Result<FinetuneReport> {
    let method = Gcbc { steps: args.steps, schedule: args.rates.schedule(), ..Gcbc::default() };
    let method = args.descent.apply(args.tuning.apply(method, args.seed))?;
    let base = read(context, &args.policy)?;
    let spec = PolicySpec::of(&*Verified::from_bytes(&base)?)
        .with_context(|| format!("{}", args.policy.display()))?;
    let engine = args.engine.open()?;
    isolated(&base, &engine)?;
    let mut experience = Experience::load(context.storage.as_ref(), &args.episodes, &spec)?;
    if args.demonstrations_only {
        experience = experience.demonstrations_only();
    }
    let bar = Bar::new("fine-tuning", args.steps);
    let mut on_progress = |p: Progress| {
        bar.set(p.step, &format!("loss {:.4}", p.loss));
        context.check().is_ok()
    };
    let tuned = finetune(&method, &engine, &base, &experience, args.seed, &mut on_progress);
    bar.finish();
    context.check()?;
    let (candidate, report) = tuned?;
    train::write(context, &args.out.join("policy.onnx"), &candidate)?;
    train::write(context, &args.out.join("report.json"), &serde_json::to_vec_pretty(&report)?)?;
    let losses = train::losses_csv(&report.losses);
    train::write(context, &args.out.join("losses.csv"), losses.as_bytes())?;
    if let Some(folder) = &args.store {
        let (storage, clock) = (Arc::clone(&context.storage), Arc::clone(&context.clock));
        Store::open(storage, clock, folder)?.stage(&candidate, "fine-tuned")?;
    }
    Ok(report)
}

/// Reads a file, or says which one could not be read.
pub fn read(context: &Context, path: &Path) -> Result<Vec<u8>> {
    context.storage.read(path).with_context(|| format!("reading {}", path.display()))
}
