//! A folder of episodes: whose it is, and what is in it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::EpisodeError;
use super::header::{EpisodeHeader, Outcome};
use super::proto::PlaceMessage;
use super::read::{Contents, Damage, MAX_FILE, glance};
use super::scan::{self, FOOTER, Seal};
use super::write::episode_number;
use crate::storage::Storage;

/// What [`list`] tells of one episode.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// What was known before the first step; `None` when no header is left.
    pub header: Option<EpisodeHeader>,
    /// Steps in the file.
    pub steps: u64,
    /// From the first step to the last.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What is wrong with the file. Of a finished file only the end is looked at here;
    /// [`Episode::read`](super::Episode::read) checks all of it.
    pub damage: Option<Damage>,
}

/// Makes the caller the only one that changes this dataset, until the guard is dropped.
pub(super) fn lock(storage: &dyn Storage, folder: &Path) -> Result<Box<dyn Send>, EpisodeError> {
    let path = folder.join(".lock");
    storage.lock(&path).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => EpisodeError::Locked { folder: folder.into() },
        _ => EpisodeError::io("lock", &path, e),
    })
}

/// The episodes of a dataset, by number. Reads the ends of finished files only.
pub fn list(storage: &dyn Storage, folder: &Path) -> Result<Vec<Summary>, EpisodeError> {
    paths(storage, folder)?.into_iter().map(|path| summarize(storage, path)).collect()
}

/// The files of a dataset's episodes, by number; none is opened.
pub fn paths(storage: &dyn Storage, folder: &Path) -> Result<Vec<PathBuf>, EpisodeError> {
    let paths = storage.list(folder).map_err(|e| EpisodeError::io("list", folder, e))?;
    let mut paths: Vec<(u64, PathBuf)> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "mcap"))
        .filter_map(|path| Some((episode_number(&path)?, path)))
        .collect();
    paths.sort();
    Ok(paths.into_iter().map(|(_, path)| path).collect())
}

fn summarize(storage: &dyn Storage, path: PathBuf) -> Result<Summary, EpisodeError> {
    let reading = |e| EpisodeError::io("read", &path, e);
    let bytes = storage.len(&path).map_err(reading)?;
    let mut summary = Summary {
        path: path.clone(),
        bytes,
        header: None,
        steps: 0,
        duration: Duration::ZERO,
        outcome: None,
        damage: None,
    };
    if let Some(end) = last_chunk(storage, &path, bytes).map_err(reading)? {
        summary.header = end.header;
        if let Some(message) = end.outcome {
            summary.steps = message.steps;
            summary.duration = Duration::from_nanos(message.duration_ns);
            summary.outcome = message.outcome();
            return Ok(summary);
        }
    }
    match glance(storage, &path) {
        Ok(episode) => {
            summary.steps = episode.steps.len() as u64;
            if let (Some(first), Some(last)) = (episode.steps.first(), episode.steps.last()) {
                summary.duration = last.time.since(first.time);
            }
            summary.header = Some(episode.header);
            summary.outcome = episode.outcome;
            summary.damage = episode.damage;
        }
        Err(EpisodeError::NoEpisode { .. } | EpisodeError::TooLarge { .. }) => {
            summary.damage = Some(Damage { lost_bytes: bytes, ..Damage::none_but(Seal::Missing) });
        }
        Err(error) => return Err(error),
    }
    Ok(summary)
}

/// What the last chunk of a finished file holds; `None` when the file's end is not proven.
fn last_chunk(
    storage: &dyn Storage,
    path: &Path,
    len: u64,
) -> io::Result<Option<Contents<PlaceMessage>>> {
    let Some(footer_at) = len.checked_sub(FOOTER as u64) else { return Ok(None) };
    let footer = storage.read_at(path, footer_at, FOOTER)?;
    let summary_at = footer.first_chunk().and_then(scan::footer).map(|(summary_at, _)| summary_at);
    let Some((summary_at, end)) = summary_at.and_then(|at| Some((at, scan::end_len(len, at)?)))
    else {
        return Ok(None);
    };
    if end > MAX_FILE {
        return Ok(None);
    }
    let end = storage.read_at(path, len - end, end as usize)?;
    let chunk = scan::summary(&end).and_then(scan::last_chunk);
    let Some((at, size)) = chunk.filter(|(at, size)| {
        *size <= MAX_FILE && at.checked_add(*size).is_some_and(|end| end <= summary_at)
    }) else {
        return Ok(None);
    };
    let bytes = storage.read_at(path, at, size as usize)?;
    Ok(scan::chunk(&bytes).map(|(chunk, _)| {
        let mut contents = Contents::default();
        contents.chunk(chunk);
        contents
    }))
}
