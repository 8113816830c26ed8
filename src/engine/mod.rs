//! Runs verified graphs: tract everywhere, ONNX Runtime where its library is.
//!
//! A graph means the same on every engine (`tests/engines.rs` runs one suite over all of them);
//! they differ in speed and in what must be installed. Inference with [`Engine::load`], training
//! with [`Engine::train`].
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod choose;
mod dense;
mod find;
pub mod isolate;
mod ort;
mod relu;
pub mod runtime;
mod session;
mod stateless;
mod tract;
mod trainer;
mod update;

use std::path::{Path, PathBuf};

pub use session::Session;
pub use trainer::{StepReport, Trainer};

use crate::onnx::{OnnxError, Precision, TrainStep, Verified};

/// Why an engine could not be opened or could not run a graph.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The file is not a usable ONNX Runtime library.
    #[error("cannot use {path} as ONNX Runtime: {reason}; run `regoal runtime install`", path = path.display())]
    Library {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A process can use one ONNX Runtime library only.
    #[error("expected one ONNX Runtime library in a process, found {asked} asked for while {loaded} is loaded",
        asked = asked.display(), loaded = loaded.display())]
    OtherLibrary {
        /// The library in use.
        loaded: PathBuf,
        /// The library asked for.
        asked: PathBuf,
    },
    /// The engine refused a verified graph.
    #[error("{engine} cannot run this graph: {reason}")]
    Load {
        /// The engine.
        engine: &'static str,
        /// What it said.
        reason: String,
    },
    /// Nobody could try the file, or in time: nothing is known of it.
    #[error("the file could not be tried in a process of its own: {reason}; try again")]
    Untried {
        /// Why.
        reason: String,
    },
    /// An input or output has the wrong name or size.
    #[error("{at}: expected {expected}, found {found}")]
    Shape {
        /// The input or output.
        at: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The engine failed while it ran.
    #[error("{engine} failed while running: {reason}")]
    Run {
        /// The engine.
        engine: &'static str,
        /// What it said.
        reason: String,
    },
    /// Training gave something that is not a number. The parameters are those before the step.
    #[error(
        "expected a finite loss and gradient, found loss {loss} and gradient norm {gradient_norm}; lower the learning rate or check the data"
    )]
    NotFinite {
        /// The loss.
        loss: f32,
        /// The norm of the gradient.
        gradient_norm: f32,
    },
    /// The graph itself is wrong.
    #[error(transparent)]
    Graph(#[from] OnnxError),
}

impl EngineError {
    fn shape(
        at: impl Into<String>,
        expected: impl std::fmt::Debug,
        found: impl std::fmt::Debug,
    ) -> Self {
        Self::Shape {
            at: at.into(),
            expected: format!("{expected:?}"),
            found: format!("{found:?}"),
        }
    }
}

/// Where a graph runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card.
    Cuda,
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
        })
    }
}

/// Something that runs graphs.
#[derive(Debug, Clone)]
pub struct Engine {
    backend: Backend,
    note: Option<String>,
    /// Whether training steps run as plain nodes although this engine has our operators.
    plain: bool,
}

#[derive(Debug, Clone)]
enum Backend {
    Tract,
    Ort(ort::Library),
}

impl Engine {
    fn of(backend: Backend, note: Option<String>) -> Self {
        Self { backend, note, plain: false }
    }

    /// The same engine with training steps of plain nodes only: what an engine without our
    /// operators runs. Slower, and equal up to rounding.
    #[must_use]
    pub fn plain(self) -> Self {
        Self { plain: true, ..self }
    }

    /// The same engine with the products of training steps in this precision, which pays on a card.
    /// On a processor ONNX Runtime leaves rounding to f16 out and has no bf16.
    ///
    /// # Errors
    /// The engine does not have this precision.
    pub fn with_precision(self, precision: Precision) -> Result<Self, EngineError> {
        let refused = |engine: &Self| {
            Err(EngineError::shape(format!("precision of {engine}"), Precision::F32, precision))
        };
        match (&self.backend, precision, self.device()) {
            (_, Precision::F32, _) => Ok(self),
            (Backend::Tract, ..) | (_, Precision::Bf16, Device::Cpu) => refused(&self),
            (Backend::Ort(library), ..) => {
                let backend = Backend::Ort(library.clone().with_precision(precision));
                Ok(Self { backend, ..self })
            }
        }
    }

    /// The engine that is part of this program.
    pub fn tract() -> Self {
        Self::of(Backend::Tract, None)
    }

    /// ONNX Runtime from a library file (`libonnxruntime.so`, version 1.24 or newer). Where CUDA does
    /// not work it runs on the processor, with a [`note`](Self::note) that says why.
    ///
    /// # Errors
    /// When the file is missing, is not ONNX Runtime or is too old, or when another one is loaded.
    pub fn ort(path: &Path, device: Device) -> Result<Self, EngineError> {
        let library = ort::Library::open(path)?;
        if device == Device::Cpu {
            return Ok(Self::of(Backend::Ort(library), None));
        }
        let (library, note) = match library.with_cuda() {
            Ok(on_cuda) => (on_cuda, None),
            Err(reason) => (library, Some(no_cuda(&reason))),
        };
        Ok(Self::of(Backend::Ort(library), note))
    }

    /// The fastest engine there is: ONNX Runtime from `explicit`, or from the user's cache (what
    /// `regoal runtime install` fills) or the system's library folders; else tract, with a
    /// [`note`](Self::note) that says why.
    ///
    /// # Errors
    /// When `explicit` is given and cannot be used.
    pub fn best(explicit: Option<&Path>, device: Device) -> Result<Self, EngineError> {
        if let Some(path) = explicit {
            return Self::ort(path, device);
        }
        let mut reasons = Vec::new();
        for path in find::libraries(&crate::storage::Disk, &find::folders(), device) {
            match Self::ort(&path, device) {
                Ok(engine) => return Ok(engine),
                Err(error) => reasons.push(error.to_string()),
            }
        }
        let none = || {
            "no ONNX Runtime library found; run `regoal runtime install` for faster training".into()
        };
        let note = if reasons.is_empty() { none() } else { reasons.join("; ") };
        Ok(Self::of(Backend::Tract, Some(note)))
    }

    /// Why this is not the engine one might expect.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// `tract` or `ort`.
    pub fn name(&self) -> &'static str {
        match self.backend {
            Backend::Tract => "tract",
            Backend::Ort(_) => "ort",
        }
    }

    /// The library it was opened from; none for the engine that is part of this program.
    pub fn library(&self) -> Option<&Path> {
        match &self.backend {
            Backend::Tract => None,
            Backend::Ort(library) => Some(library.path()),
        }
    }

    /// The engine's own version.
    pub fn version(&self) -> &str {
        match &self.backend {
            Backend::Tract => tract::VERSION,
            Backend::Ort(library) => library.version(),
        }
    }

    /// Where graphs run: CUDA only after it has run one.
    pub fn device(&self) -> Device {
        match &self.backend {
            Backend::Tract => Device::Cpu,
            Backend::Ort(library) => library.device(),
        }
    }

    /// Prepares a graph for inference, on one thread. All its inputs and outputs must be f32.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub fn load(&self, graph: &Verified) -> Result<Session, EngineError> {
        Session::new(&self.backend, graph)
    }

    /// Prepares a training step on `threads` threads; tract always uses one.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub fn train(&self, step: &TrainStep, threads: usize) -> Result<Trainer, EngineError> {
        Trainer::new(&self.backend, step, None, self.plain, threads)
    }

    /// As [`train`](Self::train) over a data set that goes to the engine once, given as (input name,
    /// all its rows): [`Trainer::step_on`] then draws each batch where the data is, and only the
    /// rows' numbers are handed over. On a card nothing else moves.
    ///
    /// # Errors
    /// When a batch input has no data or the numbers of rows differ, or the engine cannot run it.
    pub fn train_on(
        &self,
        step: &TrainStep,
        data: &[(&str, &[f32])],
        threads: usize,
    ) -> Result<Trainer, EngineError> {
        Trainer::new(&self.backend, step, Some(data), self.plain, threads)
    }
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} on {}", self.name(), self.version(), self.device())
    }
}

fn no_cuda(reason: &str) -> String {
    format!(
        "CUDA does not work, so this runs on the CPU: {reason}; expected an NVIDIA card, its driver \
         (580 or newer) and the libraries of `regoal runtime install --cuda`"
    )
}
