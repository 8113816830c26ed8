//! The writer of one episode's file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::encode::Encoder;
use super::{EpisodeError, EpisodeHeader, Inputs, Outcome, Step};
use crate::clock::Time;
use crate::storage::{Storage, StorageFile};

/// How often an episode's bytes go to the file and to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterConfig {
    /// Steps that span this time are written as one chunk: what a killed program may lose.
    pub chunk: Duration,
    /// The file is synced this often: what a power cut may lose.
    pub sync: Duration,
    /// No step is taken any more when so many bytes are written.
    pub max_bytes: u64,
}

impl Default for WriterConfig {
    fn default() -> Self {
        Self {
            chunk: Duration::from_millis(20),
            sync: Duration::from_millis(250),
            // 3 hours at 100 Hz, whose index takes half as much again.
            max_bytes: 1 << 29,
        }
    }
}

/// Writes one episode. Every chunk is one write call; a failed write or sync kills the writer,
/// because a second sync after a failed one would report as safe what the system has dropped.
///
/// Dropped without [`Writer::finish`], it leaves the file as a kill would: readable, unfinished.
pub struct Writer {
    encoder: Encoder,
    path: PathBuf,
    number: u64,
    /// `None` once a write or a sync failed.
    file: Option<Box<dyn StorageFile>>,
    config: WriterConfig,
    tick: Duration,
    buffer: Vec<u8>,
    last_tick: Option<u64>,
    /// The time of the open chunk's first step.
    chunk_since: Option<Time>,
    /// The time of the first written step that is not synced.
    unsynced_since: Option<Time>,
    bytes: u64,
    written_steps: u64,
    synced_steps: u64,
}

impl Writer {
    /// Begins an episode: the dataset's next file, with its header, on the disk when this returns.
    /// `header.number` is ignored and given by the folder's content.
    pub fn create(
        storage: &Arc<dyn Storage>,
        folder: &Path,
        mut header: EpisodeHeader,
        config: &WriterConfig,
    ) -> Result<Self, EpisodeError> {
        storage.create_folder(folder).map_err(|e| EpisodeError::io("create", folder, e))?;
        let (number, path, file) = next_file(storage.as_ref(), folder)?;
        header.number = number;
        let encoder = Encoder::new(&header)
            .map_err(|source| EpisodeError::Encode { path: path.clone(), source })?;
        let tick = Duration::try_from_secs_f64(1.0 / header.rate_hz).unwrap_or_default();
        let mut writer = Self {
            encoder,
            path,
            number,
            file: Some(file),
            config: config.clone(),
            tick,
            buffer: Vec::new(),
            last_tick: None,
            chunk_since: None,
            unsynced_since: None,
            bytes: 0,
            written_steps: 0,
            synced_steps: 0,
        };
        let begun = writer.write_encoded().and_then(|()| writer.sync()).and_then(|()| {
            storage.sync_folder(folder).map_err(|e| EpisodeError::io("sync", folder, e))
        });
        if let Err(error) = begun {
            // It holds no step; left behind, a full disk would collect one with every attempt.
            let _ = storage.remove(&writer.path);
            return Err(error);
        }
        Ok(writer)
    }

    /// Adds a step; ends the chunk when the next step would be beyond its time, and syncs when due.
    /// A step out of order or beyond the file's limit is refused, and the writer lives on.
    pub fn push(&mut self, step: &Step) -> Result<(), EpisodeError> {
        self.alive()?;
        if self.bytes >= self.config.max_bytes {
            return Err(EpisodeError::Long {
                path: self.path.clone(),
                limit: self.config.max_bytes,
            });
        }
        if let Some(last) = self.last_tick.filter(|last| *last >= step.tick) {
            return Err(EpisodeError::OutOfOrder { last, found: step.tick });
        }
        self.last_tick = Some(step.tick);
        self.encoder.step(step).map_err(|source| self.encode_error(source))?;
        self.chunk_since.get_or_insert(step.time);
        self.settle(step.time + self.tick)
    }

    /// Adds what the step that comes next was given.
    pub fn inputs(&mut self, inputs: &Inputs) -> Result<(), EpisodeError> {
        self.alive()?;
        self.encoder.inputs(inputs).map_err(|source| self.encode_error(source))
    }

    /// Writes and syncs what is due at `now`; called when no steps come.
    pub fn settle(&mut self, now: Time) -> Result<(), EpisodeError> {
        self.alive()?;
        if self.chunk_since.is_some_and(|since| now.since(since) >= self.config.chunk) {
            self.write_chunk()?;
        }
        if self.unsynced_since.is_some_and(|since| now.since(since) >= self.config.sync) {
            self.sync()?;
        }
        Ok(())
    }

    /// Ends the episode; on the disk when this returns. Gives the file's path.
    pub fn finish(mut self, outcome: &Outcome) -> Result<PathBuf, EpisodeError> {
        self.alive()?;
        self.encoder.finish(Some(outcome)).map_err(|source| self.encode_error(source))?;
        self.write_encoded()?;
        self.sync()?;
        Ok(self.path)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The episode's number in its dataset.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Steps that a power cut cannot take back.
    pub fn synced_steps(&self) -> u64 {
        self.synced_steps
    }

    fn alive(&self) -> Result<(), EpisodeError> {
        match self.file {
            Some(_) => Ok(()),
            None => Err(EpisodeError::Dead { path: self.path.clone() }),
        }
    }

    fn write_chunk(&mut self) -> Result<(), EpisodeError> {
        self.encoder.end_chunk().map_err(|source| self.encode_error(source))?;
        self.write_encoded()?;
        self.unsynced_since = self.unsynced_since.or(self.chunk_since);
        self.chunk_since = None;
        Ok(())
    }

    /// Writes the chunks that were encoded, in one call.
    fn write_encoded(&mut self) -> Result<(), EpisodeError> {
        self.encoder.take(&mut self.buffer);
        self.bytes += self.buffer.len() as u64;
        let Some(file) = &mut self.file else { return self.alive() };
        file.write_all(&self.buffer).map_err(|e| {
            self.file = None;
            EpisodeError::io("write", &self.path, e)
        })?;
        self.written_steps = self.encoder.steps();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EpisodeError> {
        let Some(file) = &mut self.file else { return self.alive() };
        file.sync().map_err(|e| {
            self.file = None;
            EpisodeError::io("sync", &self.path, e)
        })?;
        self.unsynced_since = None;
        self.synced_steps = self.written_steps;
        Ok(())
    }

    fn encode_error(&mut self, source: mcap::McapError) -> EpisodeError {
        self.file = None;
        EpisodeError::Encode { path: self.path.clone(), source }
    }
}

/// Creates the file after the folder's last one.
fn next_file(
    storage: &dyn Storage,
    folder: &Path,
) -> Result<(u64, PathBuf, Box<dyn StorageFile>), EpisodeError> {
    let files = storage.list(folder).map_err(|e| EpisodeError::io("list", folder, e))?;
    let mut number =
        files.iter().filter_map(|path| episode_number(path)).max().map_or(0, |n| n + 1);
    loop {
        let path = folder.join(format!("episode-{number:06}.mcap"));
        match storage.create(&path) {
            Ok(file) => return Ok((number, path, file)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(EpisodeError::io("create", &path, e)),
        }
    }
}

/// The number in an episode's file name; damaged copies count, so that no number is used twice.
pub(super) fn episode_number(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix("episode-")?;
    let (digits, rest) = digits.split_once('.')?;
    rest.starts_with("mcap").then(|| digits.parse::<u32>().ok().map(u64::from))?
}
