//! Graphs on ONNX Runtime, opened at run time.

mod operators;
mod single;
mod slot;
mod training;

pub(super) use training::Training;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep::CUDA;
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;

use super::session::Input;
use super::{Device, EngineError};
use crate::onnx::{Builder, Dim, Graph, Precision, Tensor, ValueInfo, Verified};

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
    path: PathBuf,
    version: String,
    device: Device,
    /// That of training steps.
    precision: Precision,
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ONNX Runtime {} ({})", self.version, self.device)
    }
}

/// What a session is for.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Inference,
    /// A graph that runs again and again with everything bound at fixed addresses. On a card it is a
    /// CUDA graph, without a launch a node, where the card takes all of its nodes. On a processor
    /// numbers below 1e-38 count as zero: an optimiser's averages of vanished gradients are full of
    /// them, and they are slow (a tenth of a small network's step).
    Training,
}

impl Library {
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
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
        Ok(Self {
            environment,
            version: version(&path),
            path,
            device: Device::Cpu,
            precision: Precision::F32,
        })
    }

    /// The same on CUDA, or why that does not work. Only a result shows it: the provider may lack a
    /// library, the computer a card, and the card its machine code.
    pub(super) fn with_cuda(&self) -> Result<Self, String> {
        preload_cuda(&self.path);
        let library = Self { device: Device::Cuda, ..self.clone() };
        let probe = || -> Result<(), EngineError> {
            let two = Tensor::new([1, 1], [2.0])?;
            let mut b = Builder::new();
            let x = b.input("x", &[Dim::Fixed(1), Dim::Fixed(1)]);
            let product = b.matmul(x, x);
            let y = b.relu(product);
            b.output("y", y);
            let graph = Verified::try_from(b.finish()?)?;
            let inputs = [(two.dims.as_slice(), two.data.as_slice())];
            let found = Inference::new(&library, &graph, &graph)?.run(&graph.inputs()?, &inputs)?;
            match found.as_slice() {
                [four] if four.data == [4.0] => Ok(()),
                _ => Err(run_error(format!("expected 2 * 2 = 4, found {found:?}"))),
            }
        };
        match probe() {
            Ok(()) => Ok(library),
            Err(EngineError::Load { reason, .. } | EngineError::Run { reason, .. }) => {
                Err(cause(&reason).to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn device(&self) -> Device {
        self.device
    }

    pub(super) fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// CUDA is asked for strictly, because ONNX Runtime would else fall back without a word, and
    /// with whole float32 products: its default, TF32, keeps 10 bits of each factor.
    ///
    /// `graph` is verified, or a training step's [`Form`](crate::onnx::Form).
    fn session(&self, graph: &Graph, threads: usize) -> Result<Session, EngineError> {
        self.session_with(graph, threads, Use::Inference)
    }

    /// The same for a training step.
    fn training_session(&self, graph: &Graph, threads: usize) -> Result<Session, EngineError> {
        self.session_with(graph, threads, Use::Training).or_else(|error| {
            if self.device == Device::Cpu {
                return Err(error);
            }
            log::warn!("training without CUDA graphs: {error}");
            self.session(graph, threads)
        })
    }

    fn session_with(
        &self,
        graph: &Graph,
        threads: usize,
        used: Use,
    ) -> Result<Session, EngineError> {
        let training = used == Use::Training;
        let cuda = || {
            let card = CUDA::default().with_tf32(false).with_cuda_graph(training);
            card.build().error_on_failure()
        };
        let providers = if self.device == Device::Cuda { vec![cuda()] } else { Vec::new() };
        let spinning = training && threads > 1;
        let build = || -> Result<Session, String> {
            let _alone = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
            let said = |error: &dyn std::fmt::Display| error.to_string();
            Session::builder(&self.environment)
                .map_err(|e| said(&e))?
                .with_intra_threads(threads.max(1))
                .map_err(|e| said(&e))?
                .with_intra_op_spinning(spinning)
                .map_err(|e| said(&e))?
                .with_config_entry("session.intra_op.spin_duration_us", SPIN_US)
                .map_err(|e| said(&e))?
                .with_config_entry("session.force_spinning_stop", "1")
                .map_err(|e| said(&e))?
                .with_config_entry("session.set_denormal_as_zero", if training { "1" } else { "0" })
                .map_err(|e| said(&e))?
                .with_config_entry("optimization.disable_specified_optimizers", LOSES_VALUES)
                .map_err(|e| said(&e))?
                .with_execution_providers(providers)
                .map_err(|e| said(&e))?
                .with_operators(operators::operators().map_err(|e| said(&e))?)
                .map_err(|e| said(&e))?
                .commit_from_memory(&graph.to_bytes())
                .map_err(|e| said(&e))
        };
        build().map_err(|reason| EngineError::Load { engine: ENGINE, reason })
    }
}

/// One session at a time is made: ONNX Runtime notes the domains of operators for the whole process, and
/// two that are noted at the same moment are one too many.
static LOADING: Mutex<()> = Mutex::new(());

/// How long a thread of a training step waits awake for its share of the next operator (µs): longer than
/// there is between two, which is less than waking it takes. Between steps none does.
const SPIN_US: &str = "100";

/// The rewrite of `1 / a * b` to `b / a`, after which ONNX Runtime may drop the node that makes `b`
/// and refuse the graph (microsoft/onnxruntime issue 32414, pull request 32703).
const LOSES_VALUES: &str = "DivMulFusion";

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

/// The part of ONNX Runtime's words that says what is missing; around it stand the functions and
/// files of its source.
fn cause(said: &str) -> &str {
    let from = |mark: &str| said.rsplit_once(mark).map(|(_, rest)| rest);
    let start = said.find("CUDA failure").or_else(|| said.find("CUBLAS failure"));
    let told = from(" with error: ").or_else(|| said.get(start?..)?.split(" ; ").next());
    told.unwrap_or(said).trim().trim_end_matches('.')
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
    library: Library,
    graph: Verified,
    /// For a batch of 1, with everything bound.
    one: single::Single,
    /// For other batches, made when it is first needed.
    any: Option<Session>,
}

impl Inference {
    /// `one` is the graph with a batch of 1.
    pub(super) fn new(
        library: &Library,
        graph: &Verified,
        one: &Verified,
    ) -> Result<Self, EngineError> {
        let one = single::Single::new(library.session(one, 1)?, library.device, one)?;
        Ok(Self { library: library.clone(), graph: graph.clone(), one, any: None })
    }

    pub(super) fn device(&self) -> Device {
        self.library.device
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
        inputs: &[&[f32]],
        outputs: &mut [&mut [f32]],
    ) -> Result<(), EngineError> {
        self.one.run(inputs, outputs)
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
        let session = match &mut self.any {
            Some(session) => session,
            empty => empty.insert(self.library.session(&self.graph, 1)?),
        };
        session.run(values).map_err(run_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_onnx_runtime_says_of_missing_cuda_is_cut_to_its_cause() {
        let library = "provider_bridge_ort.cc:1988 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to \
            load library /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot \
            open shared object file: No such file or directory\n    ";
        let card = "cuda_call.cc:154 void CudaCall(ERRTYPE) cuda_call.cc:146 [with bool THRW = true] \
            CUDA failure 100: no CUDA-capable device is detected ; GPU=0 ; hostname=robot ; file=x";
        let cases = [
            (
                library,
                "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            ),
            (card, "CUDA failure 100: no CUDA-capable device is detected"),
            ("CUDA is not enabled in this build.", "CUDA is not enabled in this build"),
        ];
        for (said, expected) in cases {
            assert_eq!(cause(said), expected);
        }
    }
}
