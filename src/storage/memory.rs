//! Files in memory that fail and lose power on demand.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Storage, StorageFile};

/// A disk's sector: what a power cut tears files into.
const SECTOR: usize = 512;

/// Files in memory: what was synced and what was not is kept apart, any call can be made to fail,
/// and [`Memory::after_power_cut`] gives what a disk might hold after one. Clones share the files.
#[derive(Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

/// How the chosen call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Once, with an input/output error (EIO).
    Once,
    /// A write stops half way, and it and every later write and creation finds the disk full (ENOSPC).
    Full,
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, usize>,
    durable_files: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last folder sync, in order; each happens whole or not at all.
    names: Vec<Vec<Name>>,
    contents: Vec<Content>,
    locks: BTreeSet<PathBuf>,
    calls: u64,
    failure: Option<(u64, Failure)>,
}

/// A path and the content it names from now on.
type Name = (PathBuf, Option<usize>);

#[derive(Default, Clone)]
struct Content {
    now: Vec<u8>,
    synced: Vec<u8>,
}

impl State {
    /// Counts one call that changes something, and fails it if it is the chosen one.
    fn call(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.failure {
            Some((at, Failure::Once)) if self.calls == at => Err(io::Error::other("injected EIO")),
            _ => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        matches!(self.failure, Some((at, Failure::Full)) if self.calls >= at)
    }

    fn change(&mut self, names: Vec<Name>) {
        apply(&mut self.files, &names);
        self.names.push(names);
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.files.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn apply(files: &mut BTreeMap<PathBuf, usize>, names: &[Name]) {
    for (path, content) in names {
        match content {
            Some(index) => files.insert(path.clone(), *index),
            None => files.remove(path),
        };
    }
}

impl Memory {
    /// The `at`-th call from now that changes something (from 1) fails.
    pub fn fail(&self, at: u64, failure: Failure) {
        let mut state = self.state();
        state.failure = Some((state.calls + at, failure));
    }

    /// Calls so far that changed something: creations, writes, syncs, names.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// What a disk may hold after a power cut now: of each file the synced bytes, of the bytes
    /// since then any subset of sectors, the last of them torn; of the changes of names since the
    /// last folder sync any prefix. `below(n)` draws a number below `n`.
    pub fn after_power_cut(&self, below: &mut dyn FnMut(usize) -> usize) -> Self {
        let state = self.state();
        let mut files = state.durable_files.clone();
        let kept = below(state.names.len() + 1);
        state.names.iter().take(kept).for_each(|names| apply(&mut files, names));
        let contents: Vec<Content> =
            state.contents.iter().map(|c| c.after_power_cut(below)).collect();
        let state = State { durable_files: files.clone(), files, contents, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn after_power_cut(&self, below: &mut dyn FnMut(usize) -> usize) -> Self {
        let (short, long) =
            (self.synced.len().min(self.now.len()), self.synced.len().max(self.now.len()));
        let len = short + below(long - short + 1);
        let mut bytes = self.synced.clone();
        bytes.resize(len, 0);
        for start in (0..len).step_by(SECTOR) {
            let whole = (start + SECTOR).min(len).min(self.now.len());
            let end = match below(3) {
                0 => start,
                1 => start + below(whole.saturating_sub(start) + 1),
                _ => whole,
            };
            if start < end {
                bytes[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
        Self { now: bytes.clone(), synced: bytes }
    }
}

struct MemoryFile {
    storage: Memory,
    content: usize,
    at: usize,
}

impl Read for MemoryFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.storage.state();
        let mut rest = state.contents[self.content].now.get(self.at..).unwrap_or(&[]);
        let count = rest.read(buf)?;
        self.at += count;
        Ok(count)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.storage.state();
        let was_full = state.is_full();
        state.call()?;
        let count = match (was_full, state.is_full()) {
            (true, _) => return Err(io::ErrorKind::StorageFull.into()),
            (false, true) => buf.len().div_ceil(2),
            (false, false) => buf.len(),
        };
        let bytes = &mut state.contents[self.content].now;
        let end = self.at + count;
        bytes.resize(bytes.len().max(end), 0);
        bytes[self.at..end].copy_from_slice(&buf[..count]);
        self.at = end;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (0, i64::try_from(at).unwrap_or(i64::MAX)),
            SeekFrom::End(by) => (self.storage.state().contents[self.content].now.len(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        self.at = usize::try_from(base as i64 + by)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at as u64)
    }
}

impl StorageFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.storage.state();
        state.call()?;
        let content = &mut state.contents[self.content];
        content.synced = content.now.clone();
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.storage.state();
        state.call()?;
        state.contents[self.content].now.resize(len as usize, 0);
        Ok(())
    }
}

struct MemoryLock(Memory, PathBuf);

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.0.state().locks.remove(&self.1);
    }
}

impl Storage for Memory {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let mut state = self.state();
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.call()?;
        if state.is_full() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let content = state.contents.len();
        state.contents.push(Content::default());
        state.change(vec![(path.into(), Some(content))]);
        Ok(Box::new(MemoryFile { storage: self.clone(), content, at: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        let content = self.state().find(path)?;
        Ok(Box::new(MemoryFile { storage: self.clone(), content, at: 0 }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.contents[state.find(path)?].now.clone())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        if self.state().locks.insert(path.into()) {
            Ok(Box::new(MemoryLock(self.clone(), path.into())))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let content = state.find(from)?;
        state.change(vec![(to.into(), Some(content)), (from.into(), None)]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.find(path)?;
        state.call()?;
        state.change(vec![(path.into(), None)]);
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state().files.keys().filter(|p| p.parent() == Some(folder)).cloned().collect())
    }

    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free(&self, _folder: &Path) -> io::Result<u64> {
        Ok(if self.state().is_full() { 0 } else { u64::MAX })
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call()?;
        let (synced, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut state.names)
            .into_iter()
            .partition(|names| names.iter().any(|(path, _)| path.parent() == Some(folder)));
        state.names = kept;
        synced.iter().for_each(|names| apply(&mut state.durable_files, names));
        Ok(())
    }
}
