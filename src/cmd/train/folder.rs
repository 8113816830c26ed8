//! A run folder: what stands where.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::row::{self, Row};
use crate::learn::checkpoint::Checkpoint;
use crate::storage::Storage;

/// The policy at the last evaluation.
pub const POLICY: &str = "policy.onnx";
/// The policy at the best evaluation.
pub const BEST: &str = "best.onnx";
/// The table of evaluations.
pub const PROGRESS: &str = "progress.csv";
/// All that decides how the training goes on.
pub const CHECKPOINT: &str = "checkpoint.bin";
/// The picture's name, without its ending.
pub const CURVE: &str = "curve";

/// A run folder.
#[derive(Clone)]
pub struct Folder {
    storage: Arc<dyn Storage>,
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which need not exist.
    pub fn new(storage: &Arc<dyn Storage>, path: &Path) -> Self {
        Self { storage: Arc::clone(storage), path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files.
    pub fn storage(&self) -> &dyn Storage {
        self.storage.as_ref()
    }

    /// The folder of one seed.
    pub fn of_seed(&self, seed: u64) -> Self {
        Self { path: self.path.join(format!("seed-{seed}")), ..self.clone() }
    }

    /// Writes a file so that after a crash the old or the new one is there, whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        self.storage.create_folder(&self.path)?;
        self.storage.replace(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file; nothing if there is none.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        match self.storage.read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(Some).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// The evaluations so far.
    ///
    /// # Errors
    /// The table is damaged.
    pub fn rows(&self) -> Result<Vec<Row>> {
        let Some(bytes) = self.read(PROGRESS)? else { return Ok(Vec::new()) };
        let table = || self.path.join(PROGRESS).display().to_string();
        row::from_csv(&String::from_utf8_lossy(&bytes)).with_context(table)
    }

    /// Where the training stood.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let Some(bytes) = self.read(CHECKPOINT)? else { return Ok(None) };
        let kept = Checkpoint::from_bytes(&bytes);
        Ok(Some(kept.with_context(|| self.path.join(CHECKPOINT).display().to_string())?))
    }
}
