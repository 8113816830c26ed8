//! `regoal episodes check|label|split|merge|delete`: looking after a folder of episodes.

use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use clap::{Args, ValueEnum};
use rand::seq::SliceRandom as _;
use serde_json::json;

use super::elsewhere;
use crate::cmd::{Context, Endpoint};
use crate::daemon::{self, Verdict};
use crate::episode::{Damage, Episode, EpisodeError, Split, append, check, paths, remove, rewrite};
use crate::rng::{Stream, stream};
use crate::storage::Storage;

/// Reads every byte of episodes and says what is wrong with them; exit code 1 when something is.
///
/// Example: regoal episodes check episodes
#[derive(Debug, Args)]
pub struct Check {
    /// Episodes, or folders of them
    #[arg(required = true)]
    what: Vec<PathBuf>,
    /// Print JSON, one line an episode
    #[arg(long)]
    json: bool,
}

/// How an episode ended, as a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ended {
    Success,
    Failure,
    Unknown,
}

/// What learning may use an episode for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum For {
    Training,
    Validation,
}

/// Says how episodes ended, what they were for, or what learning may use them for. What was measured
/// stays bit for bit.
///
/// Example: regoal episodes label episodes/episode-000004.mcap --outcome failure
///
/// Example: regoal episodes label 4 --to https://robot:7423 --outcome failure
#[derive(Debug, Args)]
pub struct Label {
    /// Episodes, or folders of them; of a running robot (--to, --socket) their numbers
    #[arg(required = true)]
    what: Vec<PathBuf>,
    #[command(flatten)]
    at: Endpoint,
    /// How they ended
    #[arg(long)]
    outcome: Option<Ended>,
    /// The task, in words
    #[arg(long, value_name = "TEXT")]
    task: Option<String>,
    /// What learning may use them for
    #[arg(long)]
    split: Option<For>,
}

/// Moves some episodes of a folder into another one.
///
/// Example: regoal episodes split episodes held-out --share 0.2 --seed 1
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub struct Divide {
    /// The folder
    folder: PathBuf,
    /// Where they go
    into: PathBuf,
    /// Their numbers, such as 3,5-9
    #[arg(long, value_name = "NUMBERS", group = "which")]
    episodes: Option<String>,
    /// Their share, drawn at random
    #[arg(long, value_name = "SHARE", group = "which")]
    share: Option<f64>,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Copies the episodes of folders into one, numbered anew. Damaged ones are left out and named.
///
/// Example: regoal episodes merge monday tuesday --into week
#[derive(Debug, Args)]
pub struct Merge {
    /// The folders
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// Where they go
    #[arg(long, value_name = "FOLDER")]
    into: PathBuf,
}

/// Deletes episodes for good.
///
/// Example: regoal episodes delete episodes/episode-000004.mcap
#[derive(Debug, Args)]
pub struct Delete {
    /// The episodes
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// The files meant: an episode's own, or all of a folder.
fn files(storage: &dyn Storage, what: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in what {
        match path.extension() {
            Some(extension) if extension == "mcap" => files.push(path.clone()),
            _ => files.extend(paths(storage, path)?),
        }
    }
    ensure!(!files.is_empty(), "expected at least one episode, found none");
    Ok(files)
}

impl Check {
    /// Runs the verb.
    ///
    /// # Errors
    /// An episode is damaged, or cannot be read.
    pub fn run(&self, storage: &dyn Storage, out: &mut dyn Write) -> Result<()> {
        let files = files(storage, &self.what)?;
        let mut damaged = 0;
        for file in &files {
            let found = match check(storage, file) {
                Ok(None) => None,
                Ok(Some(damage)) => Some(damage.to_string()),
                Err(error @ EpisodeError::NoEpisode { .. }) => Some(error.to_string()),
                Err(error) => return Err(error.into()),
            };
            damaged += usize::from(found.is_some());
            if self.json {
                writeln!(
                    out,
                    "{}",
                    json!({"file": file, "whole": found.is_none(), "damage": found})
                )?;
            } else if let Some(found) = found {
                writeln!(out, "{}: {found}", file.display())?;
            }
        }
        let whole = files.len() - damaged;
        if !self.json {
            writeln!(out, "{whole} of {} whole", files.len())?;
        }
        ensure!(
            damaged == 0,
            "{damaged} of {} damaged: `regoal episodes repair FILE...` mends what is whole in them",
            files.len()
        );
        Ok(())
    }
}

impl Label {
    /// Runs the verb.
    ///
    /// # Errors
    /// Nothing to say, an episode is damaged, or its folder is being recorded into.
    pub fn run(&self, context: &Context, out: &mut dyn Write) -> Result<()> {
        let label = daemon::Label {
            outcome: self.outcome.map(|ended| match ended {
                Ended::Success => Verdict::Success,
                Ended::Failure => Verdict::Failure,
                Ended::Unknown => Verdict::Unknown,
            }),
            task: self.task.clone(),
            split: self.split.map(|split| match split {
                For::Training => Split::Training,
                For::Validation => Split::Validation,
            }),
        };
        ensure!(
            label != daemon::Label::default(),
            "what shall be said? --outcome, --task or --split"
        );
        if let Some(client) = self.at.client(context)? {
            return elsewhere::label(&client, &self.what, &label, out);
        }
        let storage = context.storage.as_ref();
        for file in files(storage, &self.what)? {
            rewrite(storage, &file, |header, outcome| label.apply(header, outcome))?;
            writeln!(out, "{}: labelled", file.display())?;
        }
        Ok(())
    }
}

impl Divide {
    /// Runs the verb.
    ///
    /// # Errors
    /// A number is none of the folder's, an episode is damaged, or a folder is being recorded into.
    pub fn run(&self, storage: &Arc<dyn Storage>, out: &mut dyn Write) -> Result<()> {
        let all = paths(storage.as_ref(), &self.folder)?;
        let chosen = match (&self.episodes, self.share) {
            (Some(numbers), _) => numbered(&all, numbers)?,
            (None, share) => drawn(all, share.unwrap_or(0.0), self.seed)?,
        };
        for file in &chosen {
            let episode = whole(storage.as_ref(), file)?
                .map_err(|damage| EpisodeError::Damaged { path: file.clone(), damage })?;
            let new = append(storage, &self.into, &episode)?;
            remove(storage.as_ref(), file)?;
            writeln!(out, "{} -> {}", file.display(), new.display())?;
        }
        Ok(writeln!(out, "{} episodes moved", chosen.len())?)
    }
}

/// The files of these numbers.
fn numbered(all: &[PathBuf], numbers: &str) -> Result<Vec<PathBuf>> {
    let mut wanted = BTreeSet::new();
    for part in numbers.split(',').map(str::trim) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (Ok(from), Ok(to)) = (from.trim().parse::<u64>(), to.trim().parse::<u64>()) else {
            bail!("--episodes: expected numbers such as 3,5-9, found `{part}`");
        };
        ensure!(
            from <= to && to - from < 1_000_000,
            "--episodes: expected a range, found `{part}`"
        );
        wanted.extend(from..=to);
    }
    let of = |number: &u64| {
        let name = format!("episode-{number:06}.mcap");
        all.iter().find(|path| path.ends_with(&name)).cloned().ok_or_else(|| {
            anyhow::anyhow!("--episodes: expected numbers of the folder's, found {number}")
        })
    };
    wanted.iter().map(of).collect()
}

/// A share of the files, by a seed.
fn drawn(mut all: Vec<PathBuf>, share: f64, seed: u64) -> Result<Vec<PathBuf>> {
    ensure!(
        share > 0.0 && share < 1.0,
        "--share: expected a number between 0 and 1, found {share}"
    );
    let count = (all.len() as f64 * share).round() as usize;
    all.shuffle(&mut stream(seed, Stream::Validation));
    all.truncate(count);
    all.sort();
    Ok(all)
}

/// The episode, if every byte of it is proven.
fn whole(storage: &dyn Storage, file: &Path) -> Result<Result<Episode, Damage>> {
    let episode = Episode::read(storage, file)?;
    Ok(match episode.damage {
        Some(damage) => Err(damage),
        None => Ok(episode),
    })
}

impl Merge {
    /// Runs the verb.
    ///
    /// # Errors
    /// A folder cannot be read, or the one they go into is being recorded into.
    pub fn run(&self, storage: &Arc<dyn Storage>, out: &mut dyn Write) -> Result<()> {
        ensure!(
            !self.folders.contains(&self.into),
            "--into: expected another folder than those that are merged, found {}",
            self.into.display()
        );
        let (mut merged, mut damaged) = (0, 0);
        for file in files(storage.as_ref(), &self.folders)? {
            match whole(storage.as_ref(), &file)? {
                Ok(episode) => {
                    append(storage, &self.into, &episode)?;
                    merged += 1;
                }
                Err(damage) => {
                    damaged += 1;
                    writeln!(out, "{}: left out, {damage}", file.display())?;
                }
            }
        }
        writeln!(out, "{merged} episodes in {}", self.into.display())?;
        if damaged > 0 {
            writeln!(out, "{damaged} left out: `regoal episodes repair` mends them")?;
        }
        Ok(())
    }
}

impl Delete {
    /// Runs the verb.
    ///
    /// # Errors
    /// Nobody said yes, or a folder is being recorded into.
    pub fn run(&self, storage: &dyn Storage, out: &mut dyn Write) -> Result<()> {
        for file in &self.files {
            // What is no episode's file is never deleted.
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            let ours = name.is_some_and(|n| n.starts_with("episode-") && n.contains(".mcap"));
            ensure!(ours, "expected an episode's file, found {}", file.display());
            storage.len(file).map_err(|e| anyhow::anyhow!("{}: {e}", file.display()))?;
        }
        if !self.yes {
            ensure!(
                std::io::stdin().is_terminal(),
                "expected --yes where nobody can be asked: {} episodes would be gone for good",
                self.files.len()
            );
            write!(out, "delete {} episodes for good? [y/N] ", self.files.len())?;
            out.flush()?;
            let mut answer = String::new();
            std::io::stdin().lock().read_line(&mut answer)?;
            ensure!(matches!(answer.trim(), "y" | "Y" | "yes"), "nothing was deleted");
        }
        for file in &self.files {
            remove(storage, file)?;
            writeln!(out, "{}: deleted", file.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_name_files_of_the_folder() {
        let all: Vec<PathBuf> =
            [0, 3, 5, 6, 9].iter().map(|n| format!("d/episode-{n:06}.mcap").into()).collect();
        let named = |text| numbered(&all, text).map(|files| files.len());
        assert_eq!(named("3, 5-6").unwrap(), 3);
        for wrong in ["", "4", "9-3", "x", "-1", "1-999999999999"] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_drawn_by_its_seed() {
        let all: Vec<PathBuf> = (0..50).map(|n| format!("episode-{n:06}.mcap").into()).collect();
        let draw = |share, seed| drawn(all.clone(), share, seed).map_err(|e| e.to_string());
        assert_eq!(draw(0.2, 1).unwrap().len(), 10);
        assert!(draw(0.2, 1) == draw(0.2, 1) && draw(0.2, 1) != draw(0.2, 2));
        for wrong in [0.0, 1.0, -1.0, f64::NAN] {
            assert!(draw(wrong, 1).unwrap_err().contains("between 0 and 1"), "{wrong}");
        }
    }
}
