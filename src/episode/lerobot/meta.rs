//! What stands beside a dataset's frames: what they are, which episodes there are, their statistics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use parquet::errors::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::frames::{ACTION, STATE};
use super::stats::{QUANTILES, Stats};
use super::table::{self, Column, Rows, Values};
use crate::episode::EpisodeHeader;

/// Where a data file is, as LeRobot spells it.
pub(super) const DATA_PATH: &str = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet";
/// The most files of a folder.
pub(super) const CHUNK: usize = 1000;

/// `meta/info.json`; written last, so that a dataset is there when it is.
pub(super) fn info_path(folder: &Path) -> PathBuf {
    folder.join("meta/info.json")
}

/// What was exported so far, and all that LeRobot's own files have no place for.
pub(super) fn journal_path(folder: &Path) -> PathBuf {
    folder.join("meta/regoal.json")
}

/// A data file's path from LeRobot's template.
pub(super) fn data_path(folder: &Path, template: &str, chunk: usize, file: usize) -> PathBuf {
    let path = template
        .replace("{chunk_index:03d}", &format!("{chunk:03}"))
        .replace("{file_index:03d}", &format!("{file:03}"));
    folder.join(path)
}

/// The export so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    /// What the joint positions are in.
    pub(super) units: String,
    /// Episodes a second.
    pub(super) fps: u32,
    pub(super) robot: String,
    /// The features, as in `info.json`.
    pub(super) features: Value,
    pub(super) episodes: Vec<Entry>,
}

/// One exported episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The file it came from.
    pub(super) source: String,
    /// `regoal.EpisodeHeader` as protobuf, in hex.
    pub(super) header: String,
    /// `regoal.Outcome` likewise; empty when there is none.
    pub(super) outcome: String,
    pub(super) task: String,
    /// Frames.
    pub(super) length: usize,
    /// The data file's number.
    pub(super) file: usize,
    pub(super) stats: BTreeMap<String, Stats>,
}

impl Journal {
    /// Frames so far.
    pub(super) fn frames(&self) -> usize {
        self.episodes.iter().map(|episode| episode.length).sum()
    }

    /// The tasks, in the order of their numbers.
    pub(super) fn tasks(&self) -> Vec<String> {
        let mut tasks: Vec<String> = Vec::new();
        for Entry { task, .. } in &self.episodes {
            if !tasks.contains(task) {
                tasks.push(task.clone());
            }
        }
        tasks
    }

    pub(super) fn info(&self) -> Value {
        json!({
            "codebase_version": "v3.0",
            "robot_type": self.robot,
            "total_episodes": self.episodes.len(),
            "total_frames": self.frames(),
            "total_tasks": self.tasks().len(),
            "chunks_size": CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": format!("0:{}", self.episodes.len())},
            "data_path": DATA_PATH,
            "video_path": null,
            "features": self.features,
        })
    }

    /// `meta/stats.json`: of the features that have statistics in every episode.
    pub(super) fn stats(&self) -> BTreeMap<&str, Stats> {
        self.counted()
            .into_iter()
            .map(|name| {
                let all: Vec<&Stats> =
                    self.episodes.iter().filter_map(|e| e.stats.get(name)).collect();
                (name, Stats::over(&all))
            })
            .collect()
    }

    fn counted(&self) -> Vec<&str> {
        let first = self.episodes.first().map(|episode| episode.stats.keys()).into_iter().flatten();
        let everywhere = |name: &&String| self.episodes.iter().all(|e| e.stats.contains_key(*name));
        first.filter(everywhere).map(String::as_str).collect()
    }

    /// `meta/tasks.parquet`: a pandas table whose index is the task.
    pub(super) fn tasks_file(&self) -> Result<Vec<u8>> {
        let tasks = self.tasks();
        let column = |name: &str, kind: &str, numpy: &str| {
            json!({"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy,
                   "metadata": null})
        };
        let pandas = json!({
            "index_columns": ["task"],
            "column_indexes": [],
            "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
            "creator": {"library": "regoal", "version": env!("CARGO_PKG_VERSION")},
            "pandas_version": "2.2.3",
        });
        let columns = [
            Column::new("task_index", Values::Int((0..tasks.len() as i64).collect()), 1),
            Column::new("task", Values::Text(tasks), 1),
        ];
        table::file(&columns, Some(("pandas", pandas.to_string())))
    }

    /// `meta/episodes/chunk-000/file-000.parquet`.
    pub(super) fn episodes_file(&self) -> Result<Vec<u8>> {
        let n = self.episodes.len();
        let ints = |name: &str, of: &dyn Fn(&Entry) -> usize| {
            let values = self.episodes.iter().map(|episode| of(episode) as i64).collect();
            Column::new(name, Values::Int(values), 1)
        };
        let mut ends: Vec<i64> = Vec::with_capacity(n);
        for episode in &self.episodes {
            ends.push(ends.last().copied().unwrap_or(0) + episode.length as i64);
        }
        let starts = std::iter::once(0).chain(ends.iter().copied()).take(n).collect();
        let tasks = self.episodes.iter().map(|episode| episode.task.clone()).collect();
        let mut columns = vec![
            Column::new("episode_index", Values::Int((0..n as i64).collect()), 1),
            Column::lists("tasks", Values::Text(tasks), vec![1; n]),
            ints("length", &|episode| episode.length),
            ints("data/chunk_index", &|episode| episode.file / CHUNK),
            ints("data/file_index", &|episode| episode.file % CHUNK),
            Column::new("dataset_from_index", Values::Int(starts), 1),
            Column::new("dataset_to_index", Values::Int(ends), 1),
        ];
        for name in self.counted() {
            columns.extend(self.stats_columns(name));
        }
        columns.push(ints("meta/episodes/chunk_index", &|_| 0));
        columns.push(ints("meta/episodes/file_index", &|_| 0));
        table::file(&columns, None)
    }

    fn stats_columns(&self, name: &str) -> Vec<Column> {
        let all = || self.episodes.iter().filter_map(|episode| episode.stats.get(name));
        let list = |key: &str, of: &dyn Fn(&Stats) -> Vec<f64>| {
            let lengths = all().map(|stats| of(stats).len()).collect();
            let values = Values::Double(all().flat_map(of).collect());
            Column::lists(&format!("stats/{name}/{key}"), values, lengths)
        };
        let counts = Values::Int(all().map(|stats| stats.count[0] as i64).collect());
        let mut columns = vec![
            list("min", &|stats| stats.min.clone()),
            list("max", &|stats| stats.max.clone()),
            list("mean", &|stats| stats.mean.clone()),
            list("std", &|stats| stats.std.clone()),
            Column::lists(&format!("stats/{name}/count"), counts, vec![1; all().count()]),
        ];
        columns.extend(QUANTILES.iter().enumerate().map(|(i, (key, _))| {
            list(key, &|stats| stats.quantiles().get(i).map_or(Vec::new(), |q| (*q).clone()))
        }));
        columns
    }
}

/// The features of `info.json`.
pub(super) fn features(columns: &[Column], header: &EpisodeHeader) -> Value {
    let feature = |column: &Column| {
        let dtype = match column.values {
            Values::Float(_) => "float32",
            Values::Double(_) => "float64",
            Values::Int(_) => "int64",
            Values::Bool(_) => "bool",
            Values::Text(_) => "string",
        };
        let width = if let Rows::Width(width) = column.rows { width } else { 1 };
        let names = names(&column.name, width, header);
        (column.name.clone(), json!({"dtype": dtype, "shape": [width], "names": names}))
    };
    Value::Object(columns.iter().map(feature).collect())
}

fn names(column: &str, width: usize, header: &EpisodeHeader) -> Value {
    let joints = &header.joints;
    match (column, width) {
        // LeRobot's arms name their positions so.
        (STATE | ACTION, _) => joints.iter().map(|joint| format!("{joint}.pos")).collect(),
        ("observation.environment_state" | "goal" | "achieved_goal", 3) => json!(["x", "y", "z"]),
        ("policy", _) => json!(["high", "low"]),
        (_, width) if width == joints.len() && width > 1 => json!(joints),
        _ => Value::Null,
    }
}
