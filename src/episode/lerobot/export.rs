//! Episodes to a dataset of LeRobot's: frames into data files, what stands beside them at the end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message as _;
use serde::Serialize;

use super::frames::{Place, columns};
use super::meta::{CHUNK, DATA_PATH, Entry, Journal, data_path, features, info_path, journal_path};
use super::stats::Stats;
use super::table::{Column, Writer};
use super::{LeRobotError, Units};
use crate::episode::proto::{HeaderMessage, OutcomeMessage};
use crate::episode::{Episode, EpisodeError};
use crate::storage::Storage;

/// A data file is closed at this many bytes.
const FILE_BYTES: usize = 32 << 20;

/// A dataset being written.
///
/// Each data file goes onto the disk whole, and then what it holds into a journal: an export that was
/// cut off goes on after the last whole file, and an export into a finished dataset adds to it.
/// `meta/info.json`, without which there is no dataset, is taken away before anything else changes
/// and written last.
pub struct Export<'a> {
    storage: &'a dyn Storage,
    folder: PathBuf,
    to: Units<'a>,
    /// What stands in whole data files.
    journal: Journal,
    /// What stands in the open one.
    open: Vec<Entry>,
    writer: Option<Writer>,
    changed: bool,
}

impl<'a> Export<'a> {
    /// Begins or goes on with a dataset in `folder` whose joint positions are told in `units` by
    /// `to`.
    ///
    /// # Errors
    /// The folder holds a dataset of somebody else's, or one in other units.
    pub fn open(
        storage: &'a dyn Storage,
        folder: &Path,
        units: &str,
        to: Units<'a>,
    ) -> Result<Self, LeRobotError> {
        let path = journal_path(folder);
        let journal = match storage.read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                LeRobotError::dataset(&path, format!("expected what an export wrote: {e}"))
            })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Journal { units: units.to_owned(), ..Journal::default() }
            }
            Err(e) => return Err(EpisodeError::io("read", &path, e).into()),
        };
        if journal.episodes.is_empty() && storage.len(&info_path(folder)).is_ok() {
            let message =
                "expected no dataset, or one that was exported before: choose a new folder";
            return Err(LeRobotError::dataset(&info_path(folder), message));
        }
        if journal.units != units {
            let message = format!("expected positions in {units}, found {}", journal.units);
            return Err(LeRobotError::dataset(&path, message));
        }
        Ok(Self {
            storage,
            folder: folder.into(),
            to,
            journal,
            open: Vec::new(),
            writer: None,
            changed: false,
        })
    }

    /// Adds an episode, which `source` names, with its header's task or else `task`. False when it
    /// was there already.
    ///
    /// # Errors
    /// It does not fit the others, it was added before and has changed since, or the disk fails.
    pub fn push(
        &mut self,
        source: &str,
        episode: &Episode,
        task: &str,
    ) -> Result<bool, LeRobotError> {
        let differs = |message: String| LeRobotError::Differs { episode: source.into(), message };
        let header = &episode.header;
        let encoded = hex(&HeaderMessage::from(header).encode_to_vec());
        let length = episode.steps.len();
        let known = self.journal.episodes.iter().chain(&self.open).find(|e| e.source == source);
        if let Some(known) = known {
            let same = known.header == encoded && known.length == length;
            return if same {
                Ok(false)
            } else {
                Err(differs("it was exported before and is another one now".into()))
            };
        }
        if length == 0 {
            return Err(differs("expected at least one step, found none".into()));
        }
        let task = if header.task.is_empty() { task } else { &header.task };
        let place = self.place(task);
        let columns = columns(episode, place, self.to);
        self.fits(&columns, episode).map_err(differs)?;
        self.write(&columns)?;
        let stats: BTreeMap<String, Stats> = columns
            .iter()
            .filter_map(|column| Some((column.name.clone(), Stats::of(column)?)))
            .collect();
        let outcome = episode.outcome.as_ref().map_or(String::new(), |outcome| {
            hex(&OutcomeMessage::new(outcome, length as u64, 0).encode_to_vec())
        });
        self.open.push(Entry {
            source: source.to_owned(),
            header: encoded,
            outcome,
            task: task.to_owned(),
            length,
            file: self.next_file(),
            stats,
        });
        if self.writer.as_ref().is_some_and(|writer| writer.bytes() >= FILE_BYTES) {
            self.close_file()?;
        }
        Ok(true)
    }

    /// Writes what stands beside the frames; the dataset is whole when this returns. Gives the number
    /// of its episodes and frames.
    ///
    /// # Errors
    /// No episode was added, or the disk fails.
    pub fn finish(mut self) -> Result<(usize, usize), LeRobotError> {
        self.close_file()?;
        let (folder, journal) = (&self.folder, &self.journal);
        if journal.episodes.is_empty() {
            return Err(LeRobotError::dataset(folder, "expected at least one episode to export"));
        }
        if self.changed || self.storage.len(&info_path(folder)).is_err() {
            let tasks = folder.join("meta/tasks.parquet");
            let file = journal.tasks_file().map_err(LeRobotError::parquet(&tasks))?;
            self.replace(&tasks, &file)?;
            let episodes = folder.join("meta/episodes/chunk-000/file-000.parquet");
            let file = journal.episodes_file().map_err(LeRobotError::parquet(&episodes))?;
            self.replace(&episodes, &file)?;
            self.replace(&folder.join("meta/stats.json"), &text(&journal.stats()))?;
            self.replace(&info_path(folder), &text(&journal.info()))?;
        }
        Ok((journal.episodes.len(), journal.frames()))
    }

    fn place(&self, task: &str) -> Place {
        let mut tasks = self.journal.tasks();
        tasks.extend(self.open.iter().map(|entry| entry.task.clone()));
        let mut distinct: Vec<String> = Vec::new();
        for task in tasks {
            if !distinct.contains(&task) {
                distinct.push(task);
            }
        }
        Place {
            episode: self.journal.episodes.len() + self.open.len(),
            first: self.journal.frames() + self.open.iter().map(|e| e.length).sum::<usize>(),
            task: distinct.iter().position(|t| t == task).unwrap_or(distinct.len()),
        }
    }

    /// Whether an episode's columns are those of the dataset; the first one says what they are.
    fn fits(&mut self, columns: &[Column], episode: &Episode) -> Result<(), String> {
        let header = &episode.header;
        let rate = header.rate_hz;
        let fps = rate.round();
        if !(1.0..=1e6).contains(&fps) || (rate - fps).abs() > 1e-9 {
            return Err(format!("expected a whole number of ticks a second, found {rate}"));
        }
        let features = features(columns, header);
        if self.journal.features.is_null() {
            self.journal.features = features;
            self.journal.fps = fps as u32;
            self.journal.robot = header.robot.clone();
            return Ok(());
        }
        if f64::from(self.journal.fps) != fps {
            return Err(format!("expected {} ticks a second, found {rate}", self.journal.fps));
        }
        let (ours, theirs) = (&self.journal.features, &features);
        let names = [ours, theirs].map(|f| f.as_object().into_iter().flat_map(|map| map.keys()));
        let other = names.into_iter().flatten().find(|name| ours.get(name) != theirs.get(name));
        match other {
            None => Ok(()),
            Some(name) => {
                let word = |value: Option<&serde_json::Value>| {
                    value.map_or("no such column".into(), ToString::to_string)
                };
                let (expected, found) = (word(ours.get(name)), word(theirs.get(name)));
                Err(format!("`{name}`: expected {expected}, found {found}"))
            }
        }
    }

    fn next_file(&self) -> usize {
        self.journal.episodes.last().map_or(0, |entry| entry.file + 1)
    }

    fn write(&mut self, columns: &[Column]) -> Result<(), LeRobotError> {
        let path = data_path(&self.folder, DATA_PATH, 0, self.next_file());
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => self
                .writer
                .insert(Writer::new(columns, None).map_err(LeRobotError::parquet(&path))?),
        };
        writer.group(columns).map_err(LeRobotError::parquet(&path))
    }

    /// The open data file onto the disk, and then its episodes into the journal.
    fn close_file(&mut self) -> Result<(), LeRobotError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = self.next_file();
        let path = data_path(&self.folder, DATA_PATH, file / CHUNK, file % CHUNK);
        let bytes = writer.finish().map_err(LeRobotError::parquet(&path))?;
        let info = info_path(&self.folder);
        match self.storage.remove(&info) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(EpisodeError::io("remove", &info, e).into());
            }
            _ => self.changed = true,
        }
        self.replace(&path, &bytes)?;
        self.journal.episodes.append(&mut self.open);
        self.replace(&journal_path(&self.folder), &text(&self.journal))
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), LeRobotError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        self.storage
            .create_folder(folder)
            .and_then(|()| self.storage.replace(path, bytes))
            .map_err(|e| EpisodeError::io("write", path, e).into())
    }
}

fn text(value: &impl Serialize) -> Vec<u8> {
    // Numbers and texts under texts: there is nothing that JSON does not have.
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
