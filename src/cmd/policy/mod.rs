//! `regoal policy`: looks at policy files, makes foreign ones usable, signs and deploys them.

pub mod bench;
pub mod describe;
pub mod diff;
mod facts;
mod finetunable;
mod graph;
pub mod inspect;
pub mod install;
pub mod keygen;
pub mod list;
mod operators;
mod print;
pub mod rollback;
pub(super) mod send;
pub mod sign;
mod signed;
mod trial;
pub mod verify;

use std::path::Path;

use anyhow::Result;

use crate::engine::{Device, Engine};

/// Which engines are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum EngineChoice {
    /// All that are there
    #[default]
    All,
    /// The one in this program
    Tract,
    /// ONNX Runtime on the CPU
    Ort,
    /// ONNX Runtime on the GPU
    Cuda,
}

/// The engines of a choice, and what is to be said of those that are missing.
fn engines(choice: EngineChoice, library: Option<&Path>) -> Result<(Vec<Engine>, Option<String>)> {
    let tract = Engine::tract();
    if choice == EngineChoice::Tract {
        return Ok((vec![tract], None));
    }
    let device = if choice == EngineChoice::Cuda { Device::Cuda } else { Device::Cpu };
    let found = Engine::best(library, device)?;
    let note = found.note().map(str::to_owned);
    let there = found.name() != "tract" && found.device() == device;
    match choice {
        EngineChoice::All if there => Ok((vec![tract, found], note)),
        EngineChoice::All => Ok((vec![tract], note)),
        _ if there => Ok((vec![found], note)),
        _ => Err(anyhow::anyhow!(note.unwrap_or_else(|| "this engine is not there".into()))),
    }
}
