//! `regoal episodes relabel`: what hindsight makes of a folder's goals, before anything is trained.

mod picture;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use crate::episode::Episode;
use crate::goal::{Hindsight, ReplayBuffer, Strategy, Trajectory, reached};
use crate::learn::{LearnError, dataset};
use crate::rng::{Stream, stream};
use crate::storage::Storage;

/// What to show of which folder.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder.
    #[arg(long, value_name = "FOLDER", required = true)]
    preview: PathBuf,
    /// Where goals come from: future, final, episode, random, none or geometric:GAMMA.
    #[arg(long, default_value = "future")]
    strategy: Strategy,
    /// Share of the samples that get another goal.
    #[arg(long, default_value_t = 0.8)]
    probability: f64,
    /// Leave out samples whose new goal is achieved already, within this distance (m).
    #[arg(long, value_name = "M")]
    already_achieved: Option<f32>,
    /// Seed of the samples.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw the distances and the times into this file, .svg or .png.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Samples that are looked at.
const SAMPLES: usize = 20_000;
const BINS: usize = 10;

/// What a strategy does to a folder.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Preview {
    episodes: usize,
    transitions: usize,
    /// How near counts as reached (the goal's unit).
    tolerance: f32,
    samples: usize,
    /// Share of the samples that got another goal.
    relabelled: f64,
    /// Share of the samples drawn whose new goal was achieved already and that were left out.
    left_out: f64,
    /// Share of the samples that reach their goal in their step, with the goals wished for.
    success_desired: f64,
    /// The same with the goals drawn.
    success: f64,
    /// From what a sample has achieved to what was wished for, and to the goal drawn for it.
    distance_desired: Histogram,
    distance: Histogram,
    /// Steps until a goal of the same episode is achieved, of the samples that got one.
    horizon: Histogram,
}

/// Shares of values in bins of one width, from 0 on.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Histogram {
    bin: f64,
    shares: Vec<f64>,
    median: f64,
}

impl Histogram {
    fn of(mut values: Vec<f64>, most: f64) -> Self {
        let bin = most.max(f64::MIN_POSITIVE) / BINS as f64;
        let mut shares = vec![0.0; BINS];
        for value in &values {
            shares[((value / bin) as usize).min(BINS - 1)] += 1.0 / values.len() as f64;
        }
        values.sort_by(f64::total_cmp);
        Self { bin, shares, median: values.get(values.len() / 2).copied().unwrap_or(0.0) }
    }
}

/// Runs the verb.
///
/// # Errors
/// The folder cannot be read or holds no goals, or the picture cannot be written.
pub fn run(args: &Args, storage: &dyn Storage, out: &mut dyn Write) -> anyhow::Result<()> {
    if !(0.0..=1.0).contains(&args.probability) {
        bail!("--probability: expected 0 to 1, found {}", args.probability);
    }
    let hindsight = Hindsight {
        strategy: args.strategy,
        probability: args.probability,
        already_achieved: args.already_achieved,
    };
    let (buffer, tolerance) = goals(storage, &args.preview)?;
    let preview = preview(&buffer, tolerance, &hindsight, args.seed);
    let title = format!("{}, probability {}", args.strategy, args.probability);
    if let Some(path) = &args.picture {
        let picture = picture::draw(&preview, &title, path)?;
        storage.replace(path, &picture).with_context(|| format!("writing {}", path.display()))?;
    }
    if args.json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&preview)?)?);
    }
    writeln!(out, "{}: {title}", args.preview.display())?;
    print(&preview, out)
}

/// The goals of a folder's episodes, cut as for training, and how near counts as reached.
fn goals(storage: &dyn Storage, folder: &Path) -> anyhow::Result<(ReplayBuffer, f32)> {
    let (mut buffer, mut tolerance) = (ReplayBuffer::default(), None);
    let of = |episode: Episode| (episode.header.goal_tolerance, trajectories(&episode));
    dataset::read_each(storage, folder, of, |(near, pieces)| {
        tolerance.get_or_insert(near);
        pieces?.iter().try_for_each(|piece| buffer.push(piece)).map_err(LearnError::from)
    })?;
    let Some(tolerance) = tolerance.filter(|_| buffer.transitions() > 0) else {
        bail!("{}: expected episodes with goals, found none", folder.display());
    };
    Ok((buffer, tolerance))
}

/// The goals of an episode's pieces, without observations and actions; pieces that wish for nothing
/// are left out.
fn trajectories(episode: &Episode) -> Result<Vec<Trajectory>, LearnError> {
    let wishing = |piece: &&[crate::episode::Step]| !piece[0].desired_goal.is_empty();
    let of = |piece: &[crate::episode::Step]| {
        let goals: Vec<f32> =
            piece[1..].iter().flat_map(|step| step.achieved_goal.iter().copied()).collect();
        let parts = [&[], goals.as_slice(), &[], &piece[0].desired_goal];
        Ok(Trajectory::of_parts(parts, piece.len() - 2)?)
    };
    dataset::pieces(episode).filter(wishing).map(of).collect()
}

/// Draws samples and counts.
fn preview(buffer: &ReplayBuffer, tolerance: f32, hindsight: &Hindsight, seed: u64) -> Preview {
    let mut rng = stream(seed, Stream::Training);
    let (mut desired, mut drawn, mut horizon) = (Vec::new(), Vec::new(), Vec::new());
    let [mut relabelled, mut success_desired, mut success] = [0; 3];
    while let Some(sample) = buffer.sample(hindsight, &mut rng).filter(|_| drawn.len() < SAMPLES) {
        let (episode, t) = (&sample.trajectory, sample.t);
        let (now, next) = (episode.achieved_goal(t), episode.achieved_goal(t + 1));
        desired.push(distance(now, episode.desired_goal()));
        drawn.push(distance(now, sample.goal));
        horizon.extend(sample.achieved_at.map(|_| sample.horizon() as f64));
        relabelled += usize::from(sample.relabelled());
        success_desired += usize::from(reached(next, episode.desired_goal(), tolerance));
        success += usize::from(reached(next, sample.goal, tolerance));
    }
    let samples = drawn.len();
    let share = |count: usize| count as f64 / samples.max(1) as f64;
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    let farthest = most(&desired).max(most(&drawn));
    // A bin holds whole steps.
    let longest = (most(&horizon) / BINS as f64).ceil().max(1.0) * BINS as f64;
    Preview {
        episodes: buffer.trajectories().len(),
        transitions: buffer.transitions(),
        tolerance,
        samples,
        relabelled: share(relabelled),
        left_out: left_out(buffer, hindsight, seed),
        success_desired: share(success_desired),
        success: share(success),
        distance_desired: Histogram::of(desired, farthest),
        distance: Histogram::of(drawn, farthest),
        // k = 1 is the first value of the first bin.
        horizon: Histogram::of(horizon.into_iter().map(|k| k - 1.0).collect(), longest),
    }
}

/// The share of samples that the filter leaves out.
fn left_out(buffer: &ReplayBuffer, hindsight: &Hindsight, seed: u64) -> f64 {
    let Some(tolerance) = hindsight.already_achieved else { return 0.0 };
    let unfiltered = Hindsight { already_achieved: None, ..*hindsight };
    let mut rng = stream(seed, Stream::Training);
    let achieved = (0..SAMPLES)
        .filter_map(|_| buffer.sample(&unfiltered, &mut rng))
        .filter(|s| s.relabelled() && reached(s.trajectory.achieved_goal(s.t), s.goal, tolerance));
    achieved.count() as f64 / SAMPLES as f64
}

/// Euclidean.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

fn print(preview: &Preview, out: &mut dyn Write) -> anyhow::Result<()> {
    let percent = |share: f64| format!("{:5.1} %", 100.0 * share);
    let Preview { episodes, transitions, samples, tolerance, .. } = preview;
    writeln!(out, "  {episodes} episodes, {transitions} transitions, {samples} samples")?;
    writeln!(out, "  another goal      {}", percent(preview.relabelled))?;
    writeln!(out, "  left out          {}  achieved already", percent(preview.left_out))?;
    writeln!(
        out,
        "  success           {}  within {tolerance}; {} with the goals wished for",
        percent(preview.success),
        percent(preview.success_desired).trim()
    )?;
    let (desired, drawn) = (&preview.distance_desired, &preview.distance);
    writeln!(out, "\n  distance     wished for                drawn")?;
    for bin in 0..BINS {
        let (from, shares) = (desired.bin * bin as f64, [desired, drawn].map(|h| h.shares[bin]));
        let [wished, drawn] = shares.map(|share| format!("{} {}", percent(share), bar(share)));
        writeln!(out, "  from {from:.3}  {wished:<25} {drawn}")?;
    }
    writeln!(out, "  median      {:7.3}                   {:7.3}", desired.median, drawn.median)?;
    writeln!(out, "\n  steps until it is achieved")?;
    for (bin, share) in preview.horizon.shares.iter().enumerate() {
        let from = preview.horizon.bin * bin as f64 + 1.0;
        writeln!(out, "  from {from:<5}  {} {}", percent(*share), bar(*share))?;
    }
    Ok(())
}

/// A share as a row of blocks; one is 4 %.
fn bar(share: f64) -> String {
    "█".repeat((25.0 * share).round().min(16.0) as usize)
}

#[cfg(test)]
mod tests;
