//! Episodes done again by the loop, without an arm: the same inputs must give the same commands.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Args;
use crate::cmd::robot::{Which, calibrated};
use crate::cmd::{Context, Told, say, say_json};
use crate::config::RobotConfig;
use crate::control::{Difference, Replay, ReplayError, Replayed};
use crate::episode::{Episode, paths};

/// Does the episode, or each one of a folder, again.
///
/// # Errors
/// A file cannot be read, its robot is not known, or a step came out otherwise.
pub fn verify(args: &Args, context: &Context) -> Result<()> {
    let storage = context.storage.as_ref();
    let files = match storage.list(&args.episode) {
        Ok(_) => paths(storage, &args.episode)?,
        Err(_) => vec![args.episode.clone()],
    };
    anyhow::ensure!(!files.is_empty(), "expected episodes in {}", args.episode.display());
    let given = robot(args, context)?;
    let mut made = None;
    let mut sum = Sum::default();
    for path in files {
        context.check()?;
        let episode = Episode::read(storage, &path)?;
        if let Some(damage) = episode.damage {
            bail!("{}: {damage}; `regoal episodes repair` it first", path.display());
        }
        let told = replay(&episode, given.as_ref(), &mut made)
            .with_context(|| path.display().to_string())?;
        sum.add(&path, told, args.json)?;
    }
    sum.end(args.json)
}

/// The configuration that is to be used instead of the episodes' own.
fn robot(args: &Args, context: &Context) -> Result<Option<RobotConfig>> {
    let Some(robot) = args.robot.clone() else { return Ok(None) };
    calibrated(&Which { robot, port: args.port.clone() }, context).map(Some)
}

/// Does one episode again, by the loop made last where the robot is the same. None where it holds too
/// little.
fn replay(
    episode: &Episode,
    given: Option<&RobotConfig>,
    made: &mut Option<(String, Replay)>,
) -> Result<Option<Replayed>> {
    let header = &episode.header;
    if header.origin.is_none() {
        return Ok(None);
    }
    if given.is_none() && made.as_ref().is_some_and(|(config, _)| *config != header.config) {
        *made = None;
    }
    let (_, replay) = match made {
        Some(made) => made,
        None => {
            let robot = match given {
                Some(robot) => robot.clone(),
                None => serde_json::from_str(&header.config).context(
                    "its configuration is of another version: name its file with --robot",
                )?,
            };
            let replay = Replay::new(&robot).context("name its configuration with --robot")?;
            made.insert((header.config.clone(), replay))
        }
    };
    Ok(Some(replay.run(episode)?))
}

/// What came out of all episodes.
#[derive(Default)]
struct Sum {
    episodes: u64,
    /// Episodes that hold too little.
    without: u64,
    replayed: Replayed,
    /// Where the first difference is.
    first: Option<(PathBuf, Difference)>,
}

impl Sum {
    fn add(&mut self, path: &Path, replayed: Option<Replayed>, json: bool) -> Result<()> {
        self.episodes += 1;
        let Some(replayed) = replayed else {
            self.without += 1;
            if !json {
                say(format!("{}: {}", path.display(), ReplayError::NoInputs))?;
            }
            return Ok(());
        };
        self.replayed.compared += replayed.compared;
        self.replayed.unknown += replayed.unknown;
        self.replayed.different += replayed.different;
        if let Some(first) = replayed.first.filter(|_| self.first.is_none()) {
            self.first = Some((path.to_owned(), first));
        }
        Ok(())
    }

    /// # Errors
    /// There is a difference, or nothing was compared.
    fn end(self, json: bool) -> Result<()> {
        let Replayed { compared, unknown, different, .. } = self.replayed;
        if json {
            say_json(&json!({
                "episodes": self.episodes, "without_inputs": self.without, "ticks": compared,
                "unknown_ticks": unknown, "different_ticks": different,
                "first": self.first.as_ref().map(|(path, d)| json!({
                    "episode": path, "tick": d.tick, "value": d.value, "place": d.place,
                    "recorded": d.recorded, "replayed": d.replayed,
                })),
            }))?;
        } else {
            say(format!(
                "{compared} ticks of {} episodes done again: {different} came out otherwise",
                self.episodes
            ))?;
            if unknown > 0 {
                say(format!("{unknown} more come after lost steps: nobody can tell"))?;
            }
            if let Some((path, d)) = &self.first {
                say(format!(
                    "the first: {}, tick {}, {}[{}]: expected {}, found {}",
                    path.display(),
                    d.tick,
                    d.value,
                    d.place,
                    d.recorded,
                    d.replayed
                ))?;
            }
        }
        if different > 0 || compared == 0 { Err(Told.into()) } else { Ok(()) }
    }
}
