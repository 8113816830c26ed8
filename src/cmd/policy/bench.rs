//! `regoal policy bench`: what an action costs on this computer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::trial::trial;
use super::{EngineChoice, engines, print};
use crate::cmd::{Context, finetune, say, say_json};
use crate::onnx::Verified;

/// Measures how long an action takes: median, 99th percentile and longest, batch 1, one thread.
///
/// Example: regoal policy bench models/reach/policy.onnx --engine tract --runs 10000
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The file
    pub policy: PathBuf,
    /// Which engine
    #[arg(long, value_enum, default_value_t)]
    pub engine: EngineChoice,
    /// Runs on each engine; slow ones end after 20 s
    #[arg(long, value_name = "N", default_value_t = 2000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub runs: u64,
    /// The ONNX Runtime library; without it the cache and the system are searched
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const LIMIT: Duration = Duration::from_secs(20);

/// Runs the verb.
///
/// # Errors
/// The file is not usable, or no engine runs it.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let file = finetune::read(context, &args.policy)?;
    let graph =
        Verified::from_bytes(&file).with_context(|| format!("{}", args.policy.display()))?;
    let (engines, note) = engines(args.engine, args.onnxruntime.as_deref())?;
    let trial = trial(&graph, &engines, context.clock.as_ref(), args.runs, LIMIT)?;
    if args.json {
        say_json(&trial)?;
    } else {
        note.inspect(|note| remark!("note: {note}"));
        for engine in &trial.engines {
            let (reason, name) = (engine.reason.as_deref().unwrap_or("unknown"), &engine.engine);
            let how =
                engine.ticks.as_ref().map_or(format!("cannot run it: {reason}"), print::cost_of);
            say(format!("{name}: {how}, loaded in {:.0} ms", engine.load_ms))?;
        }
    }
    anyhow::ensure!(trial.engines.iter().any(|e| e.runs), "no engine runs this policy");
    Ok(())
}
