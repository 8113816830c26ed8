//! Changing an episode's file: mending, relabelling, removing. The file is replaced as a whole.

use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::dataset::lock;
use super::encode::Encoder;
use super::ending::{Ending, ending};
use super::read::{Damage, Episode, no_episode, read_bytes};
use super::{EpisodeError, EpisodeHeader, Outcome, Writer, WriterConfig};
use crate::storage::Storage;

/// Reads every byte of a file and tells what is wrong with it, `None` when each is proven.
///
/// # Errors
/// The file cannot be read, or no header is left in it.
pub fn check(storage: &dyn Storage, path: &Path) -> Result<Option<Damage>, EpisodeError> {
    Ok(Episode::read(storage, path)?.damage)
}

/// Mends a damaged file. One that only breaks off is given its end; what was torn of it is kept beside
/// it as `.damaged`. Of any other, what is whole is written anew and takes the file's place, and the
/// original is kept so. A crash at any moment loses nothing that was whole, and doing it again finishes
/// it. A dataset that is being recorded into is left alone. Gives the damage that was mended, `None`
/// when there was none.
pub fn repair(storage: &dyn Storage, path: &Path) -> Result<Option<Damage>, EpisodeError> {
    let _lock = lock(storage, folder_of(path))?;
    let original = read_bytes(storage, path)?;
    if let Some(ending) = ending(&original) {
        end(storage, path, &original, &ending)?;
        return Ok(Some(ending.damage));
    }
    let episode = Episode::decode(&original).ok_or_else(|| no_episode(path, &original))?;
    if episode.damage.is_some() {
        keep(storage, path, &original)?;
        put(storage, path, &episode)?;
    }
    Ok(episode.damage)
}

/// Ends an unfinished file where it stands.
fn end(
    storage: &dyn Storage,
    path: &Path,
    original: &[u8],
    ending: &Ending,
) -> Result<(), EpisodeError> {
    let torn = original.get(ending.keeps..).unwrap_or_default();
    // What an earlier try wrote of the end is nobody's loss.
    if !ending.bytes.starts_with(torn) {
        keep(storage, path, torn)?;
    }
    let write = || {
        let mut file = storage.open(path)?;
        file.truncate(ending.keeps as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        file.write_all(&ending.bytes)?;
        file.sync()
    };
    write().map_err(|e| EpisodeError::io("end", path, e))
}

/// Changes what is known of an episode: its label, split, task. The steps stay bit for bit, and so
/// does the number, which they carry. A crash at any moment leaves the old file or the new one.
///
/// # Errors
/// The file is damaged (mend it first), or its dataset is being recorded into.
pub fn rewrite(
    storage: &dyn Storage,
    path: &Path,
    change: impl FnOnce(&mut EpisodeHeader, &mut Option<Outcome>),
) -> Result<(), EpisodeError> {
    let _lock = lock(storage, folder_of(path))?;
    amend(storage, path, change)
}

/// The same for the process that records into the dataset: an episode that is whole has ended, and its
/// [`LogWriter`](super::LogWriter) does not touch it any more.
///
/// # Errors
/// The file is damaged, or not finished yet.
pub fn amend(
    storage: &dyn Storage,
    path: &Path,
    change: impl FnOnce(&mut EpisodeHeader, &mut Option<Outcome>),
) -> Result<(), EpisodeError> {
    let mut episode = Episode::read(storage, path)?;
    if let Some(damage) = episode.damage {
        return Err(EpisodeError::Damaged { path: path.into(), damage });
    }
    let number = episode.header.number;
    change(&mut episode.header, &mut episode.outcome);
    episode.header.number = number;
    put(storage, path, &episode)
}

/// Adds an episode to a dataset, under the dataset's next number; on the disk when this returns. One
/// without an outcome gets an unknown one. Gives the file's path.
///
/// # Errors
/// The dataset is being recorded into, or the system refuses.
pub fn append(
    storage: &Arc<dyn Storage>,
    folder: &Path,
    episode: &Episode,
) -> Result<PathBuf, EpisodeError> {
    storage.create_folder(folder).map_err(|e| EpisodeError::io("create", folder, e))?;
    let _lock = lock(storage.as_ref(), folder)?;
    // Cut off, it is done again: one sync is enough.
    let config = WriterConfig { sync: Duration::MAX, ..WriterConfig::default() };
    let mut writer = Writer::create(storage, folder, episode.header.clone(), &config)?;
    episode.with_inputs().try_for_each(|(step, inputs)| {
        inputs.map_or(Ok(()), |inputs| writer.inputs(inputs))?;
        writer.push(step)
    })?;
    writer.finish(&episode.outcome.clone().unwrap_or_default())
}

/// Removes an episode for good; gone from the disk when this returns.
///
/// # Errors
/// Its dataset is being recorded into, or the system refuses.
pub fn remove(storage: &dyn Storage, path: &Path) -> Result<(), EpisodeError> {
    let folder = folder_of(path);
    let _lock = lock(storage, folder)?;
    storage.remove(path).map_err(|e| EpisodeError::io("remove", path, e))?;
    storage.sync_folder(folder).map_err(|e| EpisodeError::io("sync", folder, e))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Puts an episode in the place of a file.
fn put(storage: &dyn Storage, path: &Path, episode: &Episode) -> Result<(), EpisodeError> {
    let bytes =
        episode.encode().map_err(|source| EpisodeError::Encode { path: path.into(), source })?;
    storage.replace(path, &bytes).map_err(|e| EpisodeError::io("replace", path, e))
}

/// Keeps a copy of a damaged file under a free name.
fn keep(storage: &dyn Storage, path: &Path, original: &[u8]) -> Result<(), EpisodeError> {
    for attempt in 0u32.. {
        let mut copy = path.as_os_str().to_owned();
        copy.push(".damaged");
        if attempt > 0 {
            copy.push(format!("-{attempt}"));
        }
        let copy = PathBuf::from(copy);
        match storage.read(&copy) {
            Ok(kept) if kept == original => return Ok(()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return storage
                    .replace(&copy, original)
                    .map_err(|e| EpisodeError::io("keep", &copy, e));
            }
            Err(e) => return Err(EpisodeError::io("read", &copy, e)),
        }
    }
    Ok(())
}

impl Episode {
    /// The episode as a whole file's bytes.
    fn encode(&self) -> mcap::McapResult<Vec<u8>> {
        let mut encoder = Encoder::new(&self.header)?;
        let mut span = None;
        for (step, inputs) in self.with_inputs() {
            let this = step.time.0 / CHUNK_NS;
            if span.replace(this).is_some_and(|before| before != this) {
                encoder.end_chunk()?;
            }
            inputs.map_or(Ok(()), |inputs| encoder.inputs(inputs))?;
            encoder.step(step)?;
        }
        encoder.end_chunk()?;
        encoder.finish(self.outcome.as_ref())?;
        let mut bytes = Vec::new();
        encoder.take(&mut bytes);
        Ok(bytes)
    }
}

/// The span of a rewritten file's chunks, as a writer's by default.
const CHUNK_NS: u64 = 20_000_000;
