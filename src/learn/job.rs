//! A fine-tuning seen from outside: the files in its folder, which outlive whoever started it.
//!
//! | file | what it holds |
//! |---|---|
//! | `lock` | held while a process works at it |
//! | `pid` | that process |
//! | `progress.jsonl` | a [`JobProgress`] a line |
//! | `base.onnx`, `experience.bin`, `checkpoint.bin` | what it goes on from when it was stopped |
//! | `policy.onnx`, `report.json`, `report.svg`, `losses.csv` | the candidate and how it was made |
//! | `result.json` | the [`JobResult`], once it has ended |

use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::storage::Storage;

/// Why a job's folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Another process works at it.
    #[error("{folder}: expected a folder of its own, found another fine-tuning at work in it: wait, or choose another folder", folder = folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The disk failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reads the episodes.
    Reading,
    /// Trains.
    Training,
    /// Tries base and candidate against each other.
    Judging,
}

/// One line of progress.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobProgress {
    /// What it is doing.
    pub phase: Phase,
    /// Training steps done.
    pub step: usize,
    /// Training steps to do.
    pub steps: usize,
    /// Mean loss of the epoch that ended.
    pub loss: Option<f32>,
    /// The loss on episodes kept aside.
    pub validation: Option<f32>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobEnding {
    /// The candidate passed and is staged: it is tried next.
    Staged,
    /// The candidate passed; no store was named.
    Passed,
    /// The candidate was refused.
    Refused,
    /// Somebody stopped it; it can go on.
    Cancelled,
    /// It failed.
    Failed,
}

/// How a job ended, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobResult {
    /// How.
    pub ending: JobEnding,
    /// Why, in words.
    pub why: String,
    /// The candidate's id, where there is one.
    pub candidate: Option<String>,
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A process works at it.
    Running,
    /// Its process ended without a word: killed, out of memory, or the power went. It can go on.
    Interrupted,
    /// It has a result.
    Ended,
}

/// The folder of a job.
#[derive(Clone)]
pub struct Job {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
}

impl Job {
    /// The job in a folder, whatever became of it.
    pub fn new(storage: Arc<dyn Storage>, folder: &Path) -> Self {
        Self { storage, folder: folder.into() }
    }

    /// Begins to work at it, alone until the guard is dropped; what an earlier one left is taken away
    /// unless this one is to `resume` it.
    ///
    /// # Errors
    /// Somebody else works at it, or the disk failed.
    pub fn begin(&self, pid: u32, resume: bool) -> Result<Box<dyn Send>, JobError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JobError::Io { action, path, source }
        };
        self.storage.create_folder(&self.folder).map_err(failed("create", &self.folder))?;
        let alone = self.lock()?;
        self.forget("result.json")?;
        if !resume {
            self.forget("progress.jsonl")?;
            self.let_go()?;
        }
        self.write("pid", pid.to_string().as_bytes())?;
        Ok(alone)
    }

    fn lock(&self) -> Result<Box<dyn Send>, JobError> {
        let path = self.path("lock");
        self.storage.lock(&path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => JobError::Busy { folder: self.folder.clone() },
            _ => JobError::Io { action: "lock", path, source },
        })
    }

    /// The path of one of its files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// One of its files; nothing where it is not there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, JobError> {
        let path = self.path(name);
        match self.storage.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JobError::Io { action: "read", path, source }),
        }
    }

    /// Replaces one of its files, whole.
    ///
    /// # Errors
    /// The disk failed.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), JobError> {
        let path = self.path(name);
        self.storage.replace(&path, content).map_err(|source| JobError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// Removes one of its files.
    ///
    /// # Errors
    /// The disk failed.
    pub fn forget(&self, name: &str) -> Result<(), JobError> {
        let path = self.path(name);
        match self.storage.remove(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(JobError::Io { action: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// Removes what it could go on from: resumed, it begins anew.
    ///
    /// # Errors
    /// The disk failed.
    pub fn let_go(&self) -> Result<(), JobError> {
        ["checkpoint.bin", "experience.bin", "base.onnx"]
            .iter()
            .try_for_each(|name| self.forget(name))
    }

    /// Adds a line of progress.
    ///
    /// # Errors
    /// The disk failed.
    pub fn note(&self, progress: &JobProgress) -> Result<(), JobError> {
        let path = self.path("progress.jsonl");
        let line = serde_json::to_string(progress).unwrap_or_default() + "\n";
        let append = || {
            let mut file = match self.storage.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.storage.create(&path)?
                }
                file => file?,
            };
            file.seek(SeekFrom::End(0))?;
            file.write_all(line.as_bytes())
        };
        append().map_err(|source| JobError::Io { action: "write", path: path.clone(), source })
    }

    /// Writes how it ended.
    ///
    /// # Errors
    /// The disk failed.
    pub fn end(&self, result: &JobResult) -> Result<(), JobError> {
        self.write("result.json", &serde_json::to_vec_pretty(result).unwrap_or_default())
    }

    /// Its lines of progress, the oldest first; a line that was cut short is left out.
    ///
    /// # Errors
    /// The disk failed.
    pub fn progress(&self) -> Result<Vec<JobProgress>, JobError> {
        let text = self.read("progress.jsonl")?.unwrap_or_default();
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// How it ended; nothing before it has.
    ///
    /// # Errors
    /// The disk failed.
    pub fn result(&self) -> Result<Option<JobResult>, JobError> {
        self.json("result.json")
    }

    /// One of its files as JSON; nothing where it is not there, or something else.
    ///
    /// # Errors
    /// The disk failed.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JobError> {
        Ok(self.read(name)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// What became of it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn state(&self) -> Result<JobState, JobError> {
        // In this order: it writes its result before it lets go.
        let running = matches!(self.lock(), Err(JobError::Busy { .. }));
        Ok(match self.result()? {
            _ if running => JobState::Running,
            Some(_) => JobState::Ended,
            None => JobState::Interrupted,
        })
    }

    /// The process that works at it; nothing when none does.
    ///
    /// # Errors
    /// The disk failed.
    pub fn process(&self) -> Result<Option<u32>, JobError> {
        Ok(match self.state()? {
            JobState::Running => self.json("pid")?,
            JobState::Interrupted | JobState::Ended => None,
        })
    }
}
