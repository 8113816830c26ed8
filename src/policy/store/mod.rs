//! The policies of one robot in a folder: staged, then on trial, then active, the one before kept.
//!
//! ```text
//! policies/<id>.onnx   the policies, each named by its content, never changed
//! uploads/             what is on its way here
//! state.json           which of them is active, previous and on trial, and what happened
//! lock                 held while one of these is changed
//! ```
//! One file says all, and it is replaced whole: after a cut at any moment the old state or the new
//! one is there.

mod state;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::signature::MAX_POLICY;
use super::{Claims, PolicyError, PolicySpec, id_of};
use crate::clock::Clock;
use crate::episode::PolicyId;
use crate::onnx::Verified;
use crate::storage::Storage;

pub(crate) use state::hex;
pub use state::{Candidate, Change, Entry, Event, MAX_STEP, State, TRIALS};

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
    #[error("{path} is damaged: expected {expected}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: String,
    },
    /// Another program is changing the store.
    #[error("another program is changing the policy store {folder}: try again", folder = folder.display())]
    Busy {
        /// The store.
        folder: PathBuf,
    },
    /// An older policy than the one that was in use.
    #[error(
        "expected a version after {newest}, found {found}: an old policy is not taken for a new one; \
             `regoal policy rollback` goes back"
    )]
    Rollback {
        /// Its version.
        found: u64,
        /// The newest that was committed.
        newest: u64,
    },
    /// A version that is too far ahead.
    #[error(
        "expected a version up to {MAX_STEP} after {newest}, found {found}: sign it with the next number"
    )]
    FastForward {
        /// Its version.
        found: u64,
        /// The newest that was committed.
        newest: u64,
    },
    /// Longer than a policy may be.
    #[error("expected a policy of at most {limit} bytes, found {found}", limit = MAX_POLICY)]
    TooLong {
        /// Its length (bytes).
        found: u64,
    },
    /// The disk is too full for it.
    #[error("expected {needed} bytes of free disk for it, found {free}: make room first")]
    NoRoom {
        /// Bytes that it takes while it is installed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// It has not come, or what came was another file.
    #[error("policy {policy} has not come whole: send it, from the byte that the robot names")]
    NotReceived {
        /// The policy.
        policy: PolicyId,
    },
    /// It failed before.
    #[error(
        "policy {policy} was taken out of use ({why}): `regoal policy install --again` tries it again"
    )]
    Demoted {
        /// The policy.
        policy: PolicyId,
        /// Why.
        why: String,
    },
}

/// A policy to start with.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// Its id.
    pub policy: PolicyId,
    /// Its file.
    pub file: Vec<u8>,
    /// Which start of its trial this is; none of a committed one.
    pub trial: Option<u32>,
    /// The committed policy's file, which a policy on trial gives way to.
    pub fallback: Option<Vec<u8>>,
}

/// The policy store of one robot.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
}

impl Store {
    /// Opens a store, creating its folder.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub fn open(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        folder: &Path,
    ) -> Result<Self, StoreError> {
        let store = Self { storage, clock, folder: folder.into() };
        let policies = store.folder.join("policies");
        store.storage.create_folder(&policies).map_err(failed("create", policies))?;
        Ok(store)
    }

    /// Checks a policy that was made here and makes it the candidate.
    ///
    /// # Errors
    /// Not a policy, demoted before, or the disk failed: the state is unchanged then.
    pub fn stage(&self, file: &[u8], why: &str) -> Result<PolicyId, StoreError> {
        self.install(file, None, false, why)
    }

    /// Makes a policy from elsewhere the candidate; `claims` are what its signature says, checked
    /// before; `why` says who wishes it. A demoted one is taken only `again`, which a person must wish.
    ///
    /// # Errors
    /// As [`stage`](Self::stage), or its version is not the next.
    pub fn install(
        &self,
        file: &[u8],
        claims: Option<&Claims>,
        again: bool,
        why: &str,
    ) -> Result<PolicyId, StoreError> {
        let graph = Verified::from_bytes(file).map_err(PolicyError::from)?;
        PolicySpec::of(&graph)?;
        let entry = Entry { policy: id_of(file), version: claims.map(|claims| claims.version) };
        let at = self.clock.wall();
        self.change(|state| {
            claims.map_or(Ok(()), |claims| state.admit(claims))?;
            state.stage(entry, again, (why, at))?;
            if self.read(entry.policy).is_err() {
                self.replace(&self.policy_path(entry.policy), file)?;
            }
            Ok(())
        })?;
        if let Err(error) = self.tidy() {
            log::warn!("old policies are left in the store: {error}");
        }
        Ok(entry.policy)
    }

    /// The policy to start with: the candidate while it is on trial, else the active one. One that
    /// has used up its trial, or whose file is damaged, is demoted, and the one before is back.
    ///
    /// # Errors
    /// No policy is left, or the disk failed.
    pub fn start(&self) -> Result<Started, StoreError> {
        loop {
            let at = self.clock.wall();
            let Some((entry, trial)) = self.change(|state| Ok(state.start(at)))? else {
                return Err(self.empty("active"));
            };
            let file = match self.read(entry.policy) {
                Err(StoreError::Damaged { .. })
                    if self.demote(entry.policy, "its file is damaged")? =>
                {
                    continue;
                }
                file => file?,
            };
            let (policy, trial) = (entry.policy, (trial > 0).then_some(trial));
            let fallback = trial.and_then(|_| self.active().ok());
            return Ok(Started { policy, file, trial, fallback });
        }
    }

    /// Makes the candidate the active policy; the one before is kept as the previous.
    ///
    /// # Errors
    /// Nothing staged, its file is damaged, or the disk failed: the old policy is still active then.
    pub fn commit(&self, why: &str) -> Result<PolicyId, StoreError> {
        let at = self.clock.wall();
        self.change(|state| {
            let candidate = state.candidate.ok_or_else(|| self.empty("staged"))?;
            self.read(candidate.entry.policy)?;
            Ok(state.commit(why, at).map_or(candidate.entry.policy, |entry| entry.policy))
        })
    }

    /// Makes this policy the active one as long as it is the candidate; false where another one is.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn prove(&self, policy: PolicyId, why: &str) -> Result<bool, StoreError> {
        let at = self.clock.wall();
        self.change(|state| {
            let proven = state.candidate.is_some_and(|c| c.entry.policy == policy);
            if proven {
                self.read(policy)?;
                state.commit(why, at);
            }
            Ok(proven)
        })
    }

    /// Takes a policy that failed out of use; false where it is not in use or is the only one.
    ///
    /// # Errors
    /// The disk failed.
    pub fn demote(&self, policy: PolicyId, why: &str) -> Result<bool, StoreError> {
        let at = self.clock.wall();
        self.change(|state| Ok(state.demote(policy, (why, at))))
    }

    /// A start of the candidate's trial in which it was never used does not count.
    ///
    /// # Errors
    /// The disk failed.
    pub fn unused(&self, policy: PolicyId) -> Result<(), StoreError> {
        self.change(|state| {
            state.unused(policy);
            Ok(())
        })
    }

    /// Goes back: drops the candidate, or without one returns to the policy before. What is active
    /// then is given: none where the candidate was the first policy.
    ///
    /// # Errors
    /// There is nothing to go back from or to, or the disk failed.
    pub fn roll_back(&self, why: &str) -> Result<Option<PolicyId>, StoreError> {
        let at = self.clock.wall();
        self.change(|state| {
            let back = match state.candidate {
                Some(_) => state.active,
                None => Some(state.previous.ok_or_else(|| self.empty("previous"))?),
            };
            back.map_or(Ok(Vec::new()), |back| self.read(back.policy))?;
            state.roll_back(why, at);
            Ok(back.map(|back| back.policy))
        })
    }

    /// The active policy's file.
    ///
    /// # Errors
    /// No active policy, or its file is damaged.
    pub fn active(&self) -> Result<Vec<u8>, StoreError> {
        self.read(self.state()?.active.ok_or_else(|| self.empty("active"))?.policy)
    }

    /// What the store remembers.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn state(&self) -> Result<State, StoreError> {
        let path = self.folder.join("state.json");
        match self.storage.read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| StoreError::Damaged {
                path,
                expected: format!("a store's state: {e}"),
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    /// Changes what the store remembers, alone; nothing is written where nothing changed.
    fn change<R>(
        &self,
        change: impl FnOnce(&mut State) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let path = self.folder.join("lock");
        let _alone = self.storage.lock(&path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Busy { folder: self.folder.clone() },
            _ => StoreError::Io { action: "lock", path, source },
        })?;
        let before = self.state()?;
        let mut state = before.clone();
        let changed = change(&mut state)?;
        if state != before {
            let text = serde_json::to_vec_pretty(&state).unwrap_or_default();
            self.replace(&self.folder.join("state.json"), &text)?;
        }
        Ok(changed)
    }

    /// Removes policies that nothing needs any more.
    fn tidy(&self) -> Result<(), StoreError> {
        self.change(|state| {
            let kept: Vec<PathBuf> = state.in_use().map(|id| self.policy_path(id)).collect();
            let folder = self.folder.join("policies");
            let found = self.storage.list(&folder).map_err(failed("list", folder))?;
            let mut old = found.into_iter().filter(|path| !kept.contains(path));
            old.try_for_each(|path| self.storage.remove(&path).map_err(failed("remove", path)))
        })
    }

    fn policy_path(&self, id: PolicyId) -> PathBuf {
        self.folder.join("policies").join(format!("{id}.onnx"))
    }

    fn empty(&self, which: &'static str) -> StoreError {
        StoreError::Empty { folder: self.folder.clone(), which }
    }

    fn read(&self, id: PolicyId) -> Result<Vec<u8>, StoreError> {
        let path = self.policy_path(id);
        let damaged = |path| StoreError::Damaged { path, expected: format!("policy {id}") };
        match self.storage.read(&path) {
            Ok(file) if id_of(&file) == id => Ok(file),
            Ok(_) => Err(damaged(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(damaged(path)),
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        self.storage.replace(path, content).map_err(failed("write", path.into()))
    }
}

fn failed(action: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { action, path, source }
}
