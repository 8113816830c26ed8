//! Graphs on ONNX Runtime, opened at run time.

mod training;

pub(super) use training::Training;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::ep::{CUDA, ExecutionProviderDispatch};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;

use super::session::{Input, copy_out};
use super::{Device, EngineError};
use crate::onnx::{Tensor, ValueInfo, Verified};

const ENGINE: &str = "ONNX Runtime";

fn run_error(error: impl std::fmt::Display) -> EngineError {
    EngineError::Run { engine: ENGINE, reason: error.to_string() }
}

/// The library of this process: ONNX Runtime can be opened only once.
static LOADED: Mutex<Option<(PathBuf, ort::environment::Environment)>> = Mutex::new(None);

/// ONNX Runtime, opened.
#[derive(Clone)]
pub(super) struct Library {
    environment: ort::environment::Environment,
    version: String,
    device: Device,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ONNX Runtime {} ({})", self.version, self.device)
    }
}

impl Library {
    pub(super) fn open(path: &Path, device: Device) -> Result<Self, EngineError> {
        let refused = |reason: String| EngineError::Library { path: path.into(), reason };
        let path = path.canonicalize().map_err(|error| refused(error.to_string()))?;
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let environment = match &*loaded {
            Some((other, environment)) if *other == path => environment.clone(),
            Some((other, _)) => {
                return Err(EngineError::OtherLibrary { loaded: other.clone(), asked: path });
            }
            None => {
                warn_of_telemetry(&path);
                let builder = ort::init_from(&path).map_err(|error| refused(error.to_string()))?;
                let environment = builder.with_name("regoal").with_telemetry(false).build();
                let environment = environment.map_err(|error| refused(error.to_string()))?;
                environment.set_log_level(ort::logging::LogLevel::Error);
                loaded.insert((path.clone(), environment)).1.clone()
            }
        };
        if device == Device::Cuda {
            preload_cuda(&path);
        }
        Ok(Self { environment, version: version(&path), device })
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// A session and where it runs. A CUDA session is asked for strictly, because ONNX Runtime
    /// would else fall back without a word, and a missing card shows only when it is built.
    fn session(&self, graph: &Verified, threads: usize) -> Result<(Session, Device), EngineError> {
        let bytes = graph.to_bytes();
        if self.device == Device::Cuda {
            match self.build(&bytes, threads, &[CUDA::default().build().error_on_failure()]) {
                Ok(session) => return Ok((session, Device::Cuda)),
                Err(error) => log::warn!("CUDA is not usable, so this runs on the CPU: {error}"),
            }
        }
        Ok((self.build(&bytes, threads, &[])?, Device::Cpu))
    }

    fn build(
        &self,
        bytes: &[u8],
        threads: usize,
        providers: &[ExecutionProviderDispatch],
    ) -> Result<Session, EngineError> {
        let build = || -> Result<Session, String> {
            let said = |error: &dyn std::fmt::Display| error.to_string();
            Session::builder(&self.environment)
                .map_err(|e| said(&e))?
                .with_intra_threads(threads.max(1))
                .map_err(|e| said(&e))?
                .with_intra_op_spinning(false)
                .map_err(|e| said(&e))?
                .with_execution_providers(providers)
                .map_err(|e| said(&e))?
                .commit_from_memory(bytes)
                .map_err(|e| said(&e))
        };
        build().map_err(|reason| EngineError::Load { engine: ENGINE, reason })
    }
}

/// Opens the CUDA libraries that `regoal runtime install --cuda` puts beside the engine; without it
/// the system's own are used.
fn preload_cuda(library: &Path) {
    let names = ort::ep::cuda::CUDA_DYLIBS.iter().chain(ort::ep::cuda::CUDNN_DYLIBS);
    for path in names.map(|name| library.with_file_name(name)) {
        if path.exists()
            && let Err(error) = ort::util::preload_dylib(&path)
        {
            log::warn!("cannot open {}: {error}", path.display());
        }
    }
}

/// Official builds from 1.29 on write a device id and report to Microsoft as soon as they are
/// opened; switching that off through their interface comes too late.
fn warn_of_telemetry(path: &Path) {
    let minor = version(path).split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    if minor.is_some_and(|minor| minor >= 29) && std::env::var_os("ORT_DISABLE_TELEMETRY").is_none()
    {
        log::warn!(
            "{} may report its use to Microsoft: set ORT_DISABLE_TELEMETRY=1, or use the version of \
             `regoal runtime install`",
            path.display()
        );
    }
}

/// The version in the library's file name, `libonnxruntime.so.1.32.0`.
fn version(path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.split_once(".so.").map_or("of unknown version", |(_, version)| version).to_owned()
}

pub(super) struct Inference {
    session: Session,
    device: Device,
}

impl Inference {
    pub(super) fn new(library: &Library, graph: &Verified) -> Result<Self, EngineError> {
        let (session, device) = library.session(graph, 1)?;
        Ok(Self { session, device })
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn run(
        &mut self,
        infos: &[ValueInfo],
        inputs: &[Input],
    ) -> Result<Vec<Tensor>, EngineError> {
        let outputs = self.outputs(infos, inputs.iter().copied())?;
        let tensor = |(_, value): (&str, ort::value::ValueRef<'_>)| {
            let (dims, data) = value.try_extract_tensor::<f32>().map_err(run_error)?;
            let dims = dims.iter().map(|d| usize::try_from(*d)).collect::<Result<Vec<_>, _>>();
            Ok(Tensor { dims: dims.map_err(run_error)?, data: data.to_vec() })
        };
        outputs.iter().map(tensor).collect()
    }

    pub(super) fn run_into(
        &mut self,
        infos: &[ValueInfo],
        inputs: &[&[f32]],
        output: &mut [f32],
    ) -> Result<(), EngineError> {
        let dims: Vec<Vec<usize>> = infos.iter().map(|info| info.dims_at(1)).collect();
        let outputs =
            self.outputs(infos, dims.iter().map(Vec::as_slice).zip(inputs.iter().copied()))?;
        let (_, first) = outputs.iter().next().ok_or_else(|| run_error("no output"))?;
        let (_, data) = first.try_extract_tensor::<f32>().map_err(run_error)?;
        copy_out(data, output)
    }

    fn outputs<'a>(
        &mut self,
        infos: &'a [ValueInfo],
        inputs: impl Iterator<Item = Input<'a>>,
    ) -> Result<SessionOutputs<'_>, EngineError> {
        let value = |(info, (dims, data)): (&'a ValueInfo, Input<'a>)| {
            let tensor = TensorRef::from_array_view((dims, data)).map_err(run_error)?;
            Ok((info.name.as_str(), SessionInputValue::from(tensor)))
        };
        let values =
            infos.iter().zip(inputs).map(value).collect::<Result<Vec<_>, EngineError>>()?;
        self.session.run(values).map_err(run_error)
    }
}
