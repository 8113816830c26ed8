//! `regoal finetune`: hindsight on logged episodes, behaviour cloning, a candidate policy that was judged.

mod elsewhere;
mod judge;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;

use self::work::Work;
use super::engine::EngineArgs;
use super::tuning::{Descent, Rates, Tuning};
use super::{Context, Daemon, Endpoint, Interrupted};
use crate::config::FinetuneConfig;
use crate::daemon::JobRequest;
use crate::learn::finetune::FinetuneReport;
use crate::learn::gcbc::Gcbc;
use crate::learn::job::{Job, JobEnding, JobResult};

/// Fine-tunes a policy on logged episodes, failures included.
///
/// Every attempt is a success at the goals it did achieve: the episodes are relabelled with hindsight
/// goals, mixed with the demonstrations, and cloned. The training step is an ONNX graph that ONNX
/// Runtime runs, or tract where its library is missing.
///
/// The candidate is judged before anything else may use it: on episodes that were kept aside, and with
/// --robot in the emulator, on the same goals as the policy it was made from. One that is worse by more
/// than chance explains is not staged. What was learned from, the curves and the verdict stand in
/// report.json and report.svg.
///
/// A fine-tuning that was stopped or killed goes on with --resume; on a processor its result is the same,
/// bit by bit. The folder tells how far it is: progress.jsonl, and at the end result.json.
///
/// With --to or --socket a running robot does it itself, on its own episodes and as its configuration
/// says, and tries the candidate if it passes; Ctrl-C leaves it at work.
///
/// Example: regoal finetune --policy models/reach/policy.onnx --episodes models/reach/demonstrations
/// --episodes my-robot/episodes --out candidate
#[derive(Debug, Clone, ClapArgs)]
#[command(
    mut_arg("to", |arg| arg.conflicts_with_all(HERE)),
    mut_arg("socket", |arg| arg.conflicts_with_all(HERE))
)]
pub struct Args {
    /// The policy to start from; by default the active one of the store
    #[arg(long, value_name = "FILE", required_unless_present_any = ["store", "to", "socket"])]
    pub policy: Option<PathBuf>,
    /// Folders of episodes: demonstrations and the robot's own; may be given several times
    #[arg(long, value_name = "FOLDER", required_unless_present_any = ["to", "socket"])]
    pub episodes: Vec<PathBuf>,
    /// Where the candidate (`policy.onnx`), its report and what a resumption needs go
    #[arg(long, value_name = "FOLDER", required_unless_present_any = ["to", "socket"])]
    pub out: Option<PathBuf>,
    /// Stage the candidate in this policy store too, if it passes: the next `regoal run` tries it
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Go on with what was begun in the folder; from the beginning where nothing was
    #[arg(long)]
    pub resume: bool,
    /// Training steps; 4000 by default, for a running robot those of its configuration
    #[arg(long)]
    pub steps: Option<usize>,
    /// Judge the candidate in the emulator of this robot too
    #[arg(long, value_name = "FILE")]
    pub robot: Option<PathBuf>,
    /// Goals in the emulator
    #[arg(long, default_value_t = FinetuneConfig::default().goals)]
    pub goals: usize,
    /// Keep this share of the episodes aside to judge by, unless their recording has kept some aside
    #[arg(long, value_name = "SHARE", default_value_t = FinetuneConfig::default().holdout)]
    pub holdout: f64,
    /// Learning rates
    #[command(flatten)]
    pub rates: Rates,
    /// How parameters follow their gradient
    #[command(flatten)]
    pub descent: Descent,
    /// What is minimised, and over which parameters
    #[command(flatten)]
    pub tuning: Tuning,
    /// Seed of batches, relabelling, adapters and of what is kept aside
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Learn from the demonstrations alone: the control of an experiment
    #[arg(long)]
    pub demonstrations_only: bool,
    /// The engine
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Stay in the background of a running robot: run only when nothing else wants to, on these cores
    /// (`1,2`), or on all but the first
    #[arg(long, value_name = "CORES", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = cores)]
    pub background: Option<Cores>,
    /// The most memory that training may take
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// Let a running robot do it
    #[command(flatten)]
    pub at: Endpoint,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a running robot decides itself.
const HERE: [&str; 16] = [
    "policy",
    "episodes",
    "out",
    "store",
    "resume",
    "robot",
    "goals",
    "holdout",
    "Rates",
    "Descent",
    "Tuning",
    "seed",
    "demonstrations_only",
    "EngineArgs",
    "background",
    "memory_mib",
];

/// Cores of the processor, counted from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cores(pub Vec<usize>);

fn cores(text: &str) -> Result<Cores, String> {
    let core = |word: &str| word.trim().parse().map_err(|e| format!("core {word:?}: {e}"));
    let words = text.split(',').filter(|word| !word.trim().is_empty());
    Ok(Cores(words.map(core).collect::<Result<_, _>>()?))
}

impl Args {
    fn steps(&self) -> usize {
        self.steps.unwrap_or(FinetuneConfig::default().steps)
    }

    /// How is learnt.
    fn method(&self) -> Result<Gcbc> {
        let method =
            Gcbc { steps: self.steps(), schedule: self.rates.schedule(), ..Gcbc::default() };
        self.descent.apply(self.tuning.apply(method, self.seed))
    }
}

/// Runs the verb.
///
/// # Errors
/// An unreadable policy or folder, nothing to learn from, a diverging loss, or a candidate that was to be
/// staged and did not pass. The store is unchanged then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let Some(out) = &args.out else {
        let daemon = Daemon { at: args.at.clone(), ..Daemon::default() };
        return elsewhere::run(&daemon, JobRequest { steps: args.steps }, args.json, context);
    };
    // Beside a running control loop everything else comes first.
    match &args.background {
        Some(Cores(cores)) => crate::os::step_back(cores)
            .with_context(|| format!("expected cores to run on, found {cores:?}"))?,
        None => crate::os::become_nice(),
    }
    ensure!(
        (0.0..=0.5).contains(&args.holdout) && args.goals > 0,
        "expected --holdout from 0 to 0.5 and --goals from 1 on, found {} and {}",
        args.holdout,
        args.goals
    );
    // Before anything is written.
    args.method()?;
    let job = Job::new(Arc::clone(&context.storage), out);
    let _alone = job.begin(std::process::id(), args.resume)?;
    let made = Work { args, context, job: &job }.done();
    let result = match &made {
        Ok((report, ending)) => JobResult {
            ending: *ending,
            why: report.gate.as_ref().map(ToString::to_string).unwrap_or_default(),
            candidate: Some(report.candidate.clone()),
        },
        Err(error) => JobResult {
            ending: match error.is::<Interrupted>() {
                true => JobEnding::Cancelled,
                false => JobEnding::Failed,
            },
            why: format!("{error:#}"),
            candidate: None,
        },
    };
    let told = job.end(&result);
    // Why it failed comes before what that did to its folder.
    let (report, ending) = made?;
    told?;
    if args.json {
        tell!("{}", serde_json::to_string(&report)?);
    } else {
        print(out, &report);
    }
    if ending == JobEnding::Refused && args.store.is_some() {
        bail!("the candidate was not staged, the store is as it was: {}", result.why);
    }
    Ok(())
}

fn print(out: &Path, report: &FinetuneReport) {
    report.lost.iter().for_each(|line| remark!("note: {line}"));
    report.parameters.iter().for_each(|line| tell!("{line}"));
    let ends = (report.losses.first().copied(), report.losses.last().copied());
    if let (Some(first), Some(last)) = ends {
        tell!("{} loss {first:.4} in the first epoch, {last:.4} in the last", report.loss);
    }
    tell!(
        "{} -> {} ({} attempts, {} of them corrected by a person, {} demonstrations, {} steps, {})",
        report.base,
        out.join("policy.onnx").display(),
        report.attempts,
        report.corrections,
        report.demonstrations,
        report.steps,
        report.engine
    );
    if report.copies > 0 {
        tell!("{} episodes were copies of others and were left out", report.copies);
    }
    report.gate.iter().for_each(|gate| tell!("{gate}"));
}

/// Reads a file, or says which one could not be read.
pub fn read(context: &Context, path: &Path) -> Result<Vec<u8>> {
    context.storage.read(path).with_context(|| format!("reading {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_numbers_with_commas_between_them() {
        assert_eq!(cores(""), Ok(Cores(vec![])));
        assert_eq!(cores("1, 3"), Ok(Cores(vec![1, 3])));
        assert!(cores("one").is_err() && cores("-1").is_err());
    }
}
