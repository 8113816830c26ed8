//! The policies of one robot in a folder: staged, then committed, the one before kept.
//!
//! ```text
//! policies/<id>.onnx   content-addressed, never changed
//! staged               id of the candidate
//! active               id of the policy in use
//! previous             id of the one before
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{PolicyError, PolicySpec, id_of};
use crate::episode::PolicyId;
use crate::onnx::Verified;
use crate::storage::Storage;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk failed.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Nothing has been staged or committed.
    #[error("the policy store {folder} has no {which} policy: install one first", folder = folder.display())]
    Empty {
        /// The store.
        folder: PathBuf,
        /// `staged`, `active` or `previous`.
        which: &'static str,
    },
    /// A file of the store is not what its name says.
    #[error("{path} is damaged: expected policy {expected}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The id it should have.
        expected: String,
    },
}

/// The policy store of one robot.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
}

impl Store {
    /// Opens a store, creating its folder.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn open(storage: Arc<dyn Storage>, folder: &Path) -> Result<Self, StoreError> {
        let store = Self { storage, folder: folder.into() };
        let policies = store.folder.join("policies");
        store.storage.create_folder(&policies).map_err(|source| StoreError::Io {
            action: "create",
            path: policies,
            source,
        })?;
        Ok(store)
    }

    /// Checks a policy file and makes it the candidate.
    ///
    /// # Errors
    /// Not a policy, or the disk failed; the store is unchanged but for the file itself.
    pub fn stage(&self, file: &[u8]) -> Result<PolicyId, StoreError> {
        let graph = Verified::from_bytes(file).map_err(PolicyError::from)?;
        PolicySpec::of(&graph)?;
        let id = id_of(file);
        self.replace(&self.policy_path(id), file)?;
        self.replace(&self.folder.join("staged"), id.to_string().as_bytes())?;
        Ok(id)
    }

    /// Makes the candidate the active policy; the one before is kept as the previous.
    ///
    /// # Errors
    /// Nothing staged, or the disk failed: then the old policy is still the active one.
    pub fn commit(&self) -> Result<PolicyId, StoreError> {
        let staged = self.pointer("staged")?;
        self.read(&staged)?;
        if let Ok(active) = self.pointer("active")
            && active != staged
        {
            self.replace(&self.folder.join("previous"), active.as_bytes())?;
        }
        self.replace(&self.folder.join("active"), staged.as_bytes())?;
        let path = self.folder.join("staged");
        self.storage.remove(&path).map_err(|source| StoreError::Io {
            action: "remove",
            path,
            source,
        })?;
        parse(&staged, &self.folder)
    }

    /// The active policy's file.
    ///
    /// # Errors
    /// No active policy, or its file is damaged.
    pub fn active(&self) -> Result<Vec<u8>, StoreError> {
        self.read(&self.pointer("active")?)
    }

    /// The candidate's file.
    ///
    /// # Errors
    /// Nothing staged, or its file is damaged.
    pub fn staged(&self) -> Result<Vec<u8>, StoreError> {
        self.read(&self.pointer("staged")?)
    }

    fn policy_path(&self, id: PolicyId) -> PathBuf {
        self.folder.join("policies").join(format!("{id}.onnx"))
    }

    fn pointer(&self, which: &'static str) -> Result<String, StoreError> {
        let path = self.folder.join(which);
        match self.storage.read(&path) {
            Ok(bytes) => {
                let id = String::from_utf8_lossy(&bytes).trim().to_owned();
                parse(&id, &path).map(|id| id.to_string())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Empty { folder: self.folder.clone(), which })
            }
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    fn read(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.policy_path(parse(id, &self.folder)?);
        let file = self.storage.read(&path).map_err(|source| StoreError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        if id_of(&file).to_string() == id {
            Ok(file)
        } else {
            Err(StoreError::Damaged { path, expected: id.into() })
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        self.storage.replace(path, content).map_err(|source| StoreError::Io {
            action: "write",
            path: path.into(),
            source,
        })
    }
}

/// An id from its 32 hexadecimal digits.
fn parse(id: &str, path: &Path) -> Result<PolicyId, StoreError> {
    let damaged = || StoreError::Damaged { path: path.into(), expected: id.into() };
    let mut bytes = [0; 16];
    if id.len() != 32 || !id.is_ascii() {
        return Err(damaged());
    }
    for (byte, i) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&id[i..i + 2], 16).map_err(|_| damaged())?;
    }
    Ok(PolicyId(bytes))
}
