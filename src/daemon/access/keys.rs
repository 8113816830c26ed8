//! The keys of clients: who may what, and until when. Of a key only its SHA-256 is kept.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::AccessError;
use super::secret::{Digest, Secret};
use crate::clock::WallTime;
use crate::daemon::operation::Role;
use crate::storage::Storage;

/// The most keys kept, revoked and expired ones among them.
const KEYS: usize = 64;

/// One client's key, as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Key {
    /// Whose it is.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made (s since 1970, UTC).
    pub created: u64,
    /// When it ends (s since 1970, UTC); none when it does not by itself.
    pub expires: Option<u64>,
    /// It was taken back.
    pub revoked: bool,
}

impl Key {
    /// Whether it opens anything at this time.
    pub fn is_valid(&self, now: WallTime) -> bool {
        !self.revoked && self.expires.is_none_or(|end| seconds(now) < end)
    }
}

/// Whole seconds since 1970.
pub(super) fn seconds(time: WallTime) -> u64 {
    time.0 / 1_000_000_000
}

#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    sha256: Digest,
    #[serde(flatten)]
    key: Key,
}

/// All keys, in `keys.json`, which is replaced whole before a change counts.
pub(super) struct Keys {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    kept: Vec<Kept>,
}

impl Keys {
    pub(super) fn open(storage: Arc<dyn Storage>, path: PathBuf) -> Result<Self, AccessError> {
        let kept = match storage.read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| AccessError::Damaged { path: path.clone(), reason: e.to_string() })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(AccessError::File { path, source }),
        };
        Ok(Self { storage, path, kept })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Key> {
        self.kept.iter().map(|kept| &kept.key)
    }

    /// The valid key with this digest. How long it takes does not depend on which it is.
    pub(super) fn find(&self, digest: &Digest, now: WallTime) -> Option<&Key> {
        let mut found = u32::MAX;
        for (i, kept) in (0..).zip(&self.kept) {
            let same: Choice = kept.sha256.ct_eq(digest);
            found.conditional_assign(&i, same);
        }
        let kept = self.kept.get(usize::try_from(found).ok()?)?;
        kept.key.is_valid(now).then_some(&kept.key)
    }

    /// Whether a new key may have this name.
    pub(super) fn check_free(&self, name: &str, now: WallTime) -> Result<(), AccessError> {
        match self.all().any(|key| key.name == name && key.is_valid(now)) {
            true => Err(AccessError::Taken { name: name.into() }),
            false => Ok(()),
        }
    }

    /// Keeps a new client's key, in the place of one with its name that is no longer valid.
    pub(super) fn add(
        &mut self,
        secret: &Secret,
        key: Key,
        now: WallTime,
    ) -> Result<(), AccessError> {
        self.check_free(&key.name, now)?;
        let mut kept = self.kept.clone();
        kept.retain(|old| old.key.name != key.name);
        if kept.len() >= KEYS {
            let ended = kept.iter().position(|old| !old.key.is_valid(now));
            kept.remove(ended.ok_or(AccessError::TooMany { most: KEYS })?);
        }
        kept.push(Kept { sha256: secret.digest(), key });
        self.keep(kept)
    }

    /// Takes the key with this name back.
    pub(super) fn revoke(&mut self, name: &str) -> Result<(), AccessError> {
        let mut kept = self.kept.clone();
        let found = kept.iter_mut().find(|kept| kept.key.name == name);
        found.ok_or_else(|| AccessError::Unknown { name: name.into() })?.key.revoked = true;
        self.keep(kept)
    }

    fn keep(&mut self, kept: Vec<Kept>) -> Result<(), AccessError> {
        let failed = |source| AccessError::File { path: self.path.clone(), source };
        let bytes = serde_json::to_vec_pretty(&kept).map_err(|e| failed(e.into()))?;
        self.storage.replace_private(&self.path, &bytes).map_err(failed)?;
        self.kept = kept;
        Ok(())
    }
}
