//! `regoal runtime`: ONNX Runtime's library.

use std::path::PathBuf;

use super::{Context, say, say_json};
use crate::engine::runtime::{self, Progress};
use crate::engine::{Device, Engine};

/// What to do with ONNX Runtime's library.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Puts ONNX Runtime's library into your cache folder, checked against its pinned hash.
    ///
    /// Without it everything works, on the engine inside this program; training is slower then. No
    /// Python is needed with `--from`; without it, pip only fetches the wheel.
    ///
    /// Example: regoal runtime install --from WHEEL   (`regoal runtime info` names the file)
    Install {
        /// The wheel, or the folder with all wheels that are needed; for computers without internet.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The library for NVIDIA graphics cards, with what it needs.
        #[arg(long)]
        cuda: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says which engine this computer trains with, and which wheels are pinned for it.
    ///
    /// Example: regoal runtime info --json
    Info {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the verb.
///
/// # Errors
/// A wheel cannot be fetched or is not the pinned one, or a file cannot be written.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    match args {
        Args::Install { from, cuda, json } => {
            let path =
                runtime::install(context.storage.as_ref(), from.as_deref(), *cuda, &mut tell)?;
            if *json {
                return say_json(&serde_json::json!({ "library": path }));
            }
            Ok(say(format!("installed: {}", path.display()))?)
        }
        Args::Info { json } => info(*json),
    }
}

fn tell(progress: Progress) {
    match progress {
        Progress::Present => remark!("it is there already"),
        Progress::Fetching(wheel) => remark!("fetching {}", wheel.file),
        Progress::Unpacking(wheel) => remark!("checking and unpacking {}", wheel.file),
    }
}

fn info(json: bool) -> anyhow::Result<()> {
    let engine = Engine::best(None, Device::Cuda)?;
    let wheels = runtime::wheels(false).unwrap_or_default();
    let files: Vec<_> = wheels.iter().map(|w| w.file).collect();
    if json {
        return say_json(&serde_json::json!({
            "engine": engine.name(),
            "version": engine.version(),
            "cuda": engine.device() == Device::Cuda,
            "note": engine.note(),
            "cache": runtime::cache_folder(),
            "wheels": wheels.iter()
                .map(|w| serde_json::json!({ "file": w.file, "sha256": w.sha256 }))
                .collect::<Vec<_>>(),
        }));
    }
    say(format!("engine  {engine}"))?;
    if let Some(note) = engine.note() {
        say(format!("note    {note}"))?;
    }
    if let Some(cache) = runtime::cache_folder() {
        say(format!("cache   {}", cache.display()))?;
    }
    Ok(say(format!(
        "wheel   {}",
        if files.is_empty() { "none for this computer".into() } else { files.join(", ") }
    ))?)
}
