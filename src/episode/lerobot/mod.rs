//! LeRobot's dataset format, version 3.0, out and in: a folder of Parquet files that its loaders and
//! trainers take.
//!
//! What LeRobot has a name for stands under it: `observation.state` (the measured joint positions),
//! `action` (where the joints were sent, or a person wished them to be),
//! `observation.environment_state` (the goal), `timestamp`, `task`. All else of a step has a column of its
//! own that LeRobot's policies leave alone, so that an exported dataset comes back as it was. Missing
//! numbers are NaN.
//!
//! Format: LeRobot 0.6.1's reader, which takes other versions of 3.x too.

mod export;
mod frames;
mod import;
mod meta;
mod stats;
mod table;

use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

pub use export::Export;
pub use import::{Foreign, Import};

use super::EpisodeError;

/// How a joint position (rad) is told in `observation.state` and `action`: of a joint's place and its
/// position, LeRobot's number; and back.
pub type Units<'a> = &'a dyn Fn(usize, f32) -> f32;

/// Why a dataset could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeRobotError {
    /// A file operation failed, or an episode is not one.
    #[error(transparent)]
    Episode(#[from] EpisodeError),
    /// The bytes are not what they should be.
    #[error("{path}: {source}", path = path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ParquetError,
    },
    /// A file says something else than expected.
    #[error("{path}: {message}", path = path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// An episode does not go into this dataset.
    #[error("{episode} does not fit the dataset: {message}")]
    Differs {
        /// The episode's file.
        episode: String,
        /// What was expected and what was found.
        message: String,
    },
}

impl LeRobotError {
    fn dataset(path: &Path, message: impl Into<String>) -> Self {
        Self::Dataset { path: path.into(), message: message.into() }
    }

    fn parquet(path: &Path) -> impl Fn(ParquetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Parquet { path: path.clone(), source }
    }
}
