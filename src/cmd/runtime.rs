//! `regoal runtime`: the libraries that are not part of this program.

use std::path::PathBuf;

use super::{Context, say, say_json};
use crate::engine::{Device, Engine, runtime};
use crate::env::mujoco::install;
use crate::storage::Storage;
use crate::wheel::{Progress, Wheel};

/// What to do with the libraries that are not part of this program.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Puts ONNX Runtime's library, or MuJoCo's, into your cache folder, checked against its pinned hash.
    ///
    /// Without ONNX Runtime everything works, on the engine inside this program; training is slower
    /// then. MuJoCo is for the environments `fetch_...`, whose models come with it. No Python is
    /// needed with `--from`; without it, pip only fetches the wheels.
    ///
    /// Example: regoal runtime install --from WHEEL   (`regoal runtime info` names the file)
    Install {
        /// The wheel, or the folder with all wheels that are needed; for computers without internet.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The library for NVIDIA graphics cards, with what it needs.
        #[arg(long)]
        cuda: bool,
        /// MuJoCo and the models of the Fetch robot, in place of ONNX Runtime; `--from` is the folder
        /// with both wheels.
        #[arg(long, conflicts_with = "cuda")]
        mujoco: bool,
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
        Args::Install { from, cuda, mujoco, json } => {
            let (storage, from) = (context.storage.as_ref(), from.as_deref());
            let path = if *mujoco {
                install::install(storage, &install::folder()?, from, &mut tell)?.library()
            } else {
                runtime::install(storage, from, *cuda, &mut tell)?
            };
            if *json {
                return say_json(&serde_json::json!({ "library": path }));
            }
            Ok(say(format!("installed: {}", path.display()))?)
        }
        Args::Info { json } => info(context.storage.as_ref(), *json),
    }
}

fn tell(progress: Progress) {
    match progress {
        Progress::Present => remark!("it is there already"),
        Progress::Fetching(wheel) => remark!("fetching {}", wheel.file),
        Progress::Unpacking(wheel) => remark!("checking and unpacking {}", wheel.file),
    }
}

fn info(storage: &dyn Storage, json: bool) -> anyhow::Result<()> {
    let engine = Engine::best(None, Device::Cuda)?;
    let wheels = runtime::wheels(false).unwrap_or_default();
    let files = |wheels: &[Wheel]| match wheels {
        [] => "none for this computer".to_owned(),
        wheels => wheels.iter().map(|w| w.file).collect::<Vec<_>>().join(", "),
    };
    let pinned = |wheels: &[Wheel]| -> Vec<_> {
        let pinned = |w: &Wheel| serde_json::json!({ "file": w.file, "sha256": w.sha256 });
        wheels.iter().map(pinned).collect()
    };
    let simulators = install::wheels().unwrap_or_default();
    let simulator = install::folder().and_then(|folder| {
        Ok(install::Installed::open(storage, &folder)?.load(None)?.version().to_owned())
    });
    if json {
        return say_json(&serde_json::json!({
            "engine": engine.name(),
            "version": engine.version(),
            "cuda": engine.device() == Device::Cuda,
            "note": engine.note(),
            "cache": runtime::cache_folder(),
            "wheels": pinned(wheels),
            "mujoco": simulator.ok(),
            "mujoco_wheels": pinned(simulators),
        }));
    }
    say(format!("engine  {engine}"))?;
    if let Some(note) = engine.note() {
        say(format!("note    {note}"))?;
    }
    if let Some(cache) = runtime::cache_folder() {
        say(format!("cache   {}", cache.display()))?;
    }
    say(format!("wheel   {}", files(wheels)))?;
    say(match simulator {
        Ok(version) => format!("mujoco  {version}"),
        Err(error) => format!("mujoco  {error}"),
    })?;
    Ok(say(format!("wheels  {}", files(simulators)))?)
}
