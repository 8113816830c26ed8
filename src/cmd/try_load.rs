//! `regoal try-load`: the hidden verb behind [`isolate`](crate::engine::isolate).

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;

use super::{Context, say_json};
use crate::engine::isolate::answer;
use crate::engine::{Device, Engine};

/// Loads a policy from stdin and runs it once on zeros, with little memory.
///
/// Other verbs start it for files from elsewhere, so that a file that crashes an engine, or that it
/// never finishes loading, harms only this process.
///
/// Example: regoal try-load < policy.onnx
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The most memory it may take
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// Load it in this ONNX Runtime instead of tract
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
}

/// Runs the verb: prints `{"refused": null}`, or the reason in place of null.
///
/// # Errors
/// Stdin cannot be read, or the library cannot be used.
pub fn run(args: &Args, _context: &Context) -> Result<()> {
    if let Some(mib) = args.memory_mib {
        crate::os::limit_memory(mib.saturating_mul(1 << 20))?;
    }
    let engine = match &args.onnxruntime {
        Some(library) => Engine::ort(library, Device::Cpu)?,
        None => Engine::tract(),
    };
    let mut file = Vec::new();
    std::io::stdin().lock().read_to_end(&mut file)?;
    say_json(&answer(&file, &engine))
}
