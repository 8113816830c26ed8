//! A dataset of LeRobot's to episodes.

use std::path::{Path, PathBuf};

use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;

use super::frames::{ACTION, Frames, STATE};
use super::meta::{Journal, data_path, info_path, journal_path};
use super::table::{Column, Values, read};
use super::{LeRobotError, Units};
use crate::episode::proto::{HeaderMessage, OutcomeMessage};
use crate::episode::{Episode, EpisodeError, EpisodeHeader, Outcome, Source, reason};
use crate::joints::GoalVec;
use crate::storage::Storage;

/// The goal achieved at joint positions (rad), in the goal space that a [`Foreign`] names.
pub type Achieved<'a> = &'a dyn Fn(&[f32]) -> GoalVec;

/// What somebody else's dataset does not say.
pub struct Foreign<'a> {
    /// What all episodes have in common: robot, goal space, tolerance. Joint names and rate are the
    /// dataset's.
    pub header: EpisodeHeader,
    /// LeRobot's number to rad.
    pub from: Units<'a>,
    /// The achieved goal.
    pub achieved: Achieved<'a>,
}

/// A dataset being read.
pub struct Import<'a> {
    storage: &'a dyn Storage,
    folder: PathBuf,
    info: Info,
    /// Of an export of ours.
    journal: Option<Journal>,
    tasks: Vec<(i64, String)>,
    rows: Vec<Row>,
    /// The data file read last.
    data: Option<((usize, usize), Vec<Column>)>,
}

#[derive(Deserialize)]
struct Info {
    codebase_version: String,
    fps: f64,
    data_path: String,
    #[serde(default)]
    video_path: Option<String>,
    #[serde(default)]
    robot_type: Option<String>,
    features: serde_json::Map<String, Value>,
}

/// An episode as `meta/episodes` tells it.
struct Row {
    length: usize,
    file: (usize, usize),
    /// Its first row in the file.
    from: usize,
    /// Video file, and from when to when in it, by camera.
    videos: Vec<String>,
}

impl<'a> Import<'a> {
    /// Reads what stands beside a dataset's frames.
    ///
    /// # Errors
    /// It is no dataset of version 3, or has no joint positions and actions of one length.
    pub fn open(storage: &'a dyn Storage, folder: &Path) -> Result<Self, LeRobotError> {
        let path = info_path(folder);
        let bytes = storage.read(&path).map_err(|e| EpisodeError::io("read", &path, e))?;
        let info: Info = serde_json::from_slice(&bytes).map_err(|e| {
            LeRobotError::dataset(&path, format!("expected a dataset's description: {e}"))
        })?;
        if !info.codebase_version.starts_with("v3.") {
            let message = format!(
                "expected a dataset of version v3, found {}: LeRobot's convert_dataset_v21_to_v30 makes one of a v2.1",
                info.codebase_version
            );
            return Err(LeRobotError::dataset(&path, message));
        }
        if !(info.fps > 0.0 && info.fps <= 1e6) {
            let message = format!("fps: expected a positive number, found {}", info.fps);
            return Err(LeRobotError::dataset(&path, message));
        }
        let mut import = Self {
            storage,
            folder: folder.into(),
            journal: journal(storage, folder)?,
            info,
            tasks: Vec::new(),
            rows: Vec::new(),
            data: None,
        };
        import.joints()?;
        import.tasks = import.read_tasks()?;
        import.rows = import.read_rows()?;
        Ok(import)
    }

    /// How many episodes there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What the joint positions are in, of an export of ours.
    pub fn units(&self) -> Option<&str> {
        self.journal.as_ref().map(|journal| journal.units.as_str())
    }

    /// The joints' names, without LeRobot's `.pos`.
    ///
    /// # Errors
    /// The dataset has no joint positions and actions of one length.
    pub fn joints(&self) -> Result<Vec<String>, LeRobotError> {
        let path = info_path(&self.folder);
        let size = |name: &str| {
            let shape = self.info.features.get(name)?.get("shape")?.as_array()?;
            usize::try_from(shape.first()?.as_u64()?).ok()
        };
        let most = crate::joints::MAX_JOINTS;
        let (Some(n), Some(actions)) = (size(STATE), size(ACTION)) else {
            let found: Vec<&str> = self.info.features.keys().map(String::as_str).collect();
            let message = format!("expected the features {STATE} and {ACTION}, found {found:?}");
            return Err(LeRobotError::dataset(&path, message));
        };
        if n != actions || !(1..=most).contains(&n) {
            let message = format!(
                "expected 1 to {most} joint positions and as many actions, found {n} and {actions}"
            );
            return Err(LeRobotError::dataset(&path, message));
        }
        let names = self.info.features.get(STATE).and_then(|f| f.get("names")?.as_array());
        let name = |i: usize| {
            let given = names.and_then(|names| names.get(i)?.as_str());
            given
                .map_or(format!("joint_{}", i + 1), |name| name.trim_end_matches(".pos").to_owned())
        };
        Ok((0..n).map(name).collect())
    }

    /// Reads an episode; what an export of ours does not know of somebody else's is in `foreign`.
    ///
    /// # Errors
    /// There is no such episode, its file cannot be read or lacks what it should have.
    pub fn episode(&mut self, i: usize, foreign: &Foreign<'_>) -> Result<Episode, LeRobotError> {
        let joints = self.joints()?;
        let Some(Row { length, file, from, videos }) = self.rows.get(i) else {
            let message = format!("expected an episode below {}, found {i}", self.rows.len());
            return Err(LeRobotError::dataset(&self.folder, message));
        };
        let (length, file, from, videos) = (*length, *file, *from, videos.clone());
        let path = data_path(&self.folder, &self.info.data_path, file.0, file.1);
        self.load(file, &path)?;
        let columns = self.data.as_ref().map_or(&[][..], |(_, columns)| columns);
        let frames = Frames { columns, from, to: from + length };
        let (steps, ours) = match &self.journal {
            Some(_) => (frames.steps(joints.len(), foreign.from), true),
            None => (frames.foreign(self.info.fps, foreign.from, foreign.achieved), false),
        };
        let Some(steps) = steps else {
            let message = format!("expected {length} whole frames from row {from} on, found fewer");
            return Err(LeRobotError::dataset(&path, message));
        };
        if ours {
            let (header, outcome) = self.described(i)?;
            return Ok(Episode { header, steps, inputs: Vec::new(), outcome, damage: None });
        }
        let last = (from + length).saturating_sub(1);
        let task = frames.int("task_index", from).unwrap_or(0);
        let task = self.tasks.iter().find(|(number, _)| *number == task);
        let outcome = Outcome {
            success: frames.bool("next.success", last),
            ticks: length as u64,
            reason: reason("imported"),
            ..Outcome::default()
        };
        let header = EpisodeHeader {
            number: i as u64,
            joints,
            rate_hz: self.info.fps,
            source: Source::Demonstration,
            videos,
            task: task.map_or(String::new(), |(_, task)| task.clone()),
            robot: match (&self.info.robot_type, foreign.header.robot.as_str()) {
                (Some(robot), "") => robot.clone(),
                (_, robot) => robot.to_owned(),
            },
            ..foreign.header.clone()
        };
        Ok(Episode { header, steps, inputs: Vec::new(), outcome: Some(outcome), damage: None })
    }

    /// The header and outcome of an export of ours.
    fn described(&self, i: usize) -> Result<(EpisodeHeader, Option<Outcome>), LeRobotError> {
        let entry = self.journal.as_ref().and_then(|journal| journal.episodes.get(i));
        let header = entry.and_then(|entry| {
            HeaderMessage::decode(&unhex(&entry.header)?[..]).ok()?.into_header()
        });
        let outcome = entry
            .filter(|entry| !entry.outcome.is_empty())
            .and_then(|entry| OutcomeMessage::decode(&unhex(&entry.outcome)?[..]).ok()?.outcome());
        let path = journal_path(&self.folder);
        let missing = || LeRobotError::dataset(&path, format!("expected episode {i}, found none"));
        Ok((header.ok_or_else(missing)?, outcome))
    }

    /// Reads a data file, if it is not the one read last.
    fn load(&mut self, file: (usize, usize), path: &Path) -> Result<(), LeRobotError> {
        if self.data.as_ref().is_none_or(|(loaded, _)| *loaded != file) {
            // A camera's pictures are many times the rest: they are left where they are.
            let pictures = |name: &str| {
                let kind = self.info.features.get(name).and_then(|f| f.get("dtype")?.as_str());
                matches!(kind, Some("image" | "video"))
            };
            let columns = self.table(path, |name| !pictures(name))?;
            self.data = Some((file, columns));
        }
        Ok(())
    }

    fn table(
        &self,
        path: &Path,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Column>, LeRobotError> {
        let bytes = self.storage.read(path).map_err(|e| EpisodeError::io("read", path, e))?;
        read(bytes, wanted).map_err(LeRobotError::parquet(path))
    }

    fn read_tasks(&self) -> Result<Vec<(i64, String)>, LeRobotError> {
        let columns = self.table(&self.folder.join("meta/tasks.parquet"), |_| true)?;
        let numbers = columns.iter().find_map(|column| match &column.values {
            Values::Int(numbers) => Some(numbers.clone()),
            _ => None,
        });
        let texts = columns.iter().find_map(|column| match &column.values {
            Values::Text(texts) => Some(texts.clone()),
            _ => None,
        });
        Ok(numbers.into_iter().flatten().zip(texts.into_iter().flatten()).collect())
    }

    /// The episodes, by their numbers.
    fn read_rows(&self) -> Result<Vec<Row>, LeRobotError> {
        let folder = self.folder.join("meta/episodes");
        let mut rows: Vec<(i64, Row)> = Vec::new();
        let chunks =
            self.storage.list(&folder).map_err(|e| EpisodeError::io("list", &folder, e))?;
        for chunk in chunks {
            let files =
                self.storage.list(&chunk).map_err(|e| EpisodeError::io("list", &chunk, e))?;
            for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "parquet")) {
                let columns = self.table(file, |name| !name.starts_with("stats/"))?;
                let some = self.rows_of(&columns);
                rows.extend(some.ok_or_else(|| {
                    LeRobotError::dataset(
                        file,
                        "expected episode_index, length and data/file_index",
                    )
                })?);
            }
        }
        rows.sort_by_key(|(number, _)| *number);
        let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        // Episodes stand in their file in the order of their numbers.
        let mut next = ((usize::MAX, usize::MAX), 0);
        for row in &mut rows {
            row.from = if next.0 == row.file { next.1 } else { 0 };
            next = (row.file, row.from + row.length);
        }
        Ok(rows)
    }

    fn rows_of(&self, columns: &[Column]) -> Option<Vec<(i64, Row)>> {
        let frames = Frames { columns, from: 0, to: 0 };
        let count = columns.iter().find(|column| column.name == "episode_index")?.values.len();
        let at = |name: &str, i: usize| usize::try_from(frames.int(name, i)?).ok();
        (0..count)
            .map(|i| {
                let file = (at("data/chunk_index", i)?, at("data/file_index", i)?);
                let row = Row {
                    length: at("length", i)?,
                    file,
                    from: 0,
                    videos: self.videos_of(columns, i),
                };
                Some((frames.int("episode_index", i)?, row))
            })
            .collect()
    }

    fn videos_of(&self, columns: &[Column], i: usize) -> Vec<String> {
        let frames = Frames { columns, from: 0, to: 0 };
        let seconds = |name: &str| {
            let column = columns.iter().find(|column| column.name == name)?;
            match &column.values {
                Values::Double(values) => values.get(i).copied(),
                Values::Float(values) => values.get(i).map(|x| f64::from(*x)),
                _ => None,
            }
        };
        let video = |camera: &String| {
            let at = |key: &str| format!("videos/{camera}/{key}");
            let number = |key: &str| usize::try_from(frames.int(&at(key), i)?).ok();
            let template = self.info.video_path.as_ref()?.replace("{video_key}", camera);
            let (chunk, file) = (number("chunk_index")?, number("file_index")?);
            let path = data_path(&self.folder, &template, chunk, file);
            let (from, to) = (seconds(&at("from_timestamp"))?, seconds(&at("to_timestamp"))?);
            Some(format!("{camera}={}#t={from},{to}", path.display()))
        };
        self.info.features.keys().filter_map(video).collect()
    }
}

fn journal(storage: &dyn Storage, folder: &Path) -> Result<Option<Journal>, LeRobotError> {
    let path = journal_path(folder);
    match storage.read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            LeRobotError::dataset(&path, format!("expected what an export wrote: {e}"))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(EpisodeError::io("read", &path, e).into()),
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    bytes.chunks_exact(2).map(pair).collect()
}
