//! What can go wrong with episodes on a disk.

use std::io;
use std::path::{Path, PathBuf};

use super::Damage;

/// Why an episode could not be written, read or mended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpisodeError {
    /// A file operation failed.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room left.
    #[error(
        "the disk is full: cannot {doing} {path}; what was synced is kept, free some room and start a new episode",
        path = path.display()
    )]
    DiskFull {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// An earlier write or sync of this file failed, so nothing more may be trusted to it.
    #[error(
        "expected a working file, but an earlier write to {path} failed: start a new episode",
        path = path.display()
    )]
    Dead {
        /// The file.
        path: PathBuf,
    },
    /// Another program records into this folder or mends it.
    #[error(
        "expected to be the only one that changes {folder}, but another program holds its lock: stop it or choose another folder",
        folder = folder.display()
    )]
    Locked {
        /// The dataset.
        folder: PathBuf,
    },
    /// A step's tick is not after the last one's.
    #[error("expected a tick after {last}, found {found}: one episode's ticks only grow")]
    OutOfOrder {
        /// The last step's tick.
        last: u64,
        /// The refused step's tick.
        found: u64,
    },
    /// The bytes are not an episode's, or so few are whole that not even the header is left.
    #[error(
        "expected an episode (an MCAP file with a whole /episode message), found {found} in {path}",
        path = path.display()
    )]
    NoEpisode {
        /// The file.
        path: PathBuf,
        /// What there is instead.
        found: String,
    },
    /// A damaged file is mended before anything else is done to it.
    #[error("expected a whole episode, found {path}: {damage}; repair it first", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The episode has become as long as one may be.
    #[error("expected at most {limit} bytes in one episode: {path} is full, start a new one", path = path.display())]
    Long {
        /// The file.
        path: PathBuf,
        /// What one episode may take.
        limit: u64,
    },
    /// No episode is that large, and none is read that would fill the memory.
    #[error(
        "expected an episode of at most {limit} bytes, found {bytes} in {path}",
        path = path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// What one episode may take.
        limit: u64,
    },
    /// The MCAP encoder refused a record.
    #[error("cannot encode {path} as MCAP: {source}", path = path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: mcap::McapError,
    },
}

impl EpisodeError {
    /// A failed file operation; a full disk is told apart.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { doing, path: path.into() }
            }
            _ => Self::Io { doing, path: path.into(), source },
        }
    }
}
