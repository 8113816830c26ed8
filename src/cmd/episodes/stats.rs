//! `regoal episodes stats`: what a folder of episodes holds, in numbers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::print::table;
use crate::episode::{Episode, Summary, list};
use crate::storage::Storage;

/// Tells how many episodes of each kind a folder holds, how they ended, how long they took, and between
/// which positions each joint was.
///
/// Example: regoal episodes stats episodes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder
    #[arg(default_value = "episodes")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A folder in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Stats {
    episodes: usize,
    damaged: usize,
    steps: u64,
    seconds: f64,
    bytes: u64,
    missed_ticks: u64,
    /// By source.
    kinds: BTreeMap<String, Kind>,
    /// By name.
    joints: BTreeMap<String, Joint>,
}

/// The episodes of one source.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Kind {
    episodes: usize,
    successes: usize,
    failures: usize,
    /// Of those whose distance at the end is known, in the goal space's unit.
    mean_final_distance: Option<f64>,
}

/// Where one joint was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Joint {
    /// rad
    min: f32,
    /// rad
    max: f32,
    /// °C; nothing where no temperature was logged.
    hottest: Option<f32>,
}

/// Runs the verb.
///
/// # Errors
/// The folder cannot be read or holds no episode.
pub fn run(args: &Args, storage: &dyn Storage, out: &mut dyn Write) -> Result<()> {
    let stats = stats(storage, &args.folder)?;
    if args.json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&stats)?)?);
    }
    print(&stats, out)
}

fn stats(storage: &dyn Storage, folder: &Path) -> Result<Stats> {
    let summaries = list(storage, folder)?;
    ensure!(!summaries.is_empty(), "{}: expected episodes, found none", folder.display());
    let mut stats = Stats { episodes: summaries.len(), ..Stats::default() };
    let mut distances: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for summary in &summaries {
        stats.count(summary);
        let distance = summary.outcome.as_ref().and_then(|outcome| outcome.final_distance);
        if let (Some(header), Some(distance)) = (&summary.header, distance) {
            distances.entry(header.source.to_string()).or_default().push(distance.into());
            stats.range(&Episode::read(storage, &summary.path)?);
        }
    }
    for (kind, distances) in distances {
        let finite: Vec<f64> = distances.into_iter().filter(|d| d.is_finite()).collect();
        if let (Some(kind), false) = (stats.kinds.get_mut(&kind), finite.is_empty()) {
            kind.mean_final_distance = Some(finite.iter().sum::<f64>() / finite.len() as f64);
        }
    }
    Ok(stats)
}

impl Stats {
    fn count(&mut self, summary: &Summary) {
        self.damaged += usize::from(summary.damage.is_some());
        self.steps += summary.steps;
        self.seconds += summary.duration.as_secs_f64();
        self.bytes += summary.bytes;
        self.missed_ticks += summary.outcome.as_ref().map_or(0, |outcome| outcome.missed_ticks);
        let Some(header) = &summary.header else { return };
        let kind = self.kinds.entry(header.source.to_string()).or_default();
        kind.episodes += 1;
        match summary.outcome.as_ref().and_then(|outcome| outcome.success) {
            Some(true) => kind.successes += 1,
            Some(false) => kind.failures += 1,
            None => {}
        }
    }

    fn range(&mut self, episode: &Episode) {
        for step in &episode.steps {
            for (i, name) in episode.header.joints.iter().enumerate() {
                let Some(position) = step.position.get(i).copied() else { continue };
                let fresh = Joint { min: position, max: position, hottest: None };
                let joint = self.joints.entry(name.clone()).or_insert(fresh);
                joint.min = joint.min.min(position);
                joint.max = joint.max.max(position);
                if let Some(temperature) = step.temperature.get(i).copied() {
                    let hottest = joint.hottest.map_or(temperature, |h| h.max(temperature));
                    joint.hottest = Some(hottest);
                }
            }
        }
    }
}

fn print(stats: &Stats, out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "{} episodes, {} damaged, {} steps in {:.1} s, {} ticks missed, {:.1} MB",
        stats.episodes,
        stats.damaged,
        stats.steps,
        stats.seconds,
        stats.missed_ticks,
        stats.bytes as f64 * 1e-6
    )?;
    let mut rows =
        vec![["source", "episodes", "successes", "failures", "mean distance"].map(String::from)];
    rows.extend(stats.kinds.iter().map(|(name, kind)| {
        let distance = kind.mean_final_distance.map_or("-".into(), |d| format!("{d:.4}"));
        let counts = [kind.episodes, kind.successes, kind.failures].map(|n| n.to_string());
        let [episodes, successes, failures] = counts;
        [name.clone(), episodes, successes, failures, distance]
    }));
    table(&rows, out)?;
    let mut rows = vec![["joint", "min rad", "max rad", "hottest"].map(String::from)];
    rows.extend(stats.joints.iter().map(|(name, joint)| {
        let hottest = joint.hottest.map_or("-".into(), |t| format!("{t:.0} °C"));
        [name.clone(), format!("{:+.3}", joint.min), format!("{:+.3}", joint.max), hottest]
    }));
    Ok(table(&rows, out)?)
}
