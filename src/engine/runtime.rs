//! Puts ONNX Runtime's library into the user's cache, from the wheels of the Python package index.
//!
//! The pinned version is the last one without telemetry: official Linux builds from 1.29 on report
//! sessions to Microsoft unless `ORT_DISABLE_TELEMETRY` is set before the library is opened.

use std::path::{Path, PathBuf};

use crate::storage::Storage;
use crate::wheel::{self, Progress, Wheel, WheelError};

/// Why a library was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// There is no library for this computer.
    #[error(
        "no pinned ONNX Runtime for {found}; expected linux on x86_64 or aarch64, CUDA on x86_64 only; without it tract is used"
    )]
    Platform {
        /// This computer.
        found: String,
    },
    /// A wheel cannot be had, or a file not be written.
    #[error(transparent)]
    Wheel(#[from] WheelError),
}

const CPU_X86_64: [Wheel; 1] = [Wheel {
    project: "onnxruntime",
    version: "1.28.0",
    file: "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256: "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
    contents: &["onnxruntime/capi/libonnxruntime.so.1.28.0"],
}];

const CPU_AARCH64: [Wheel; 1] = [Wheel {
    project: "onnxruntime",
    version: "1.28.0",
    file: "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    sha256: "4e81a23df16e7acb9d51b06d30cc098e49315ef9180f97bc2221d167b4b04d9c",
    contents: &["onnxruntime/capi/libonnxruntime.so.1.28.0"],
}];

/// The engine for CUDA 13, those of NVIDIA's libraries that it is linked to, and cuDNN, which it opens
/// for convolutions; the driver must be there already.
const CUDA_X86_64: [Wheel; 5] = [
    Wheel {
        project: "onnxruntime-gpu",
        version: "1.28.0",
        file: "onnxruntime_gpu-1.28.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "3b3a63cecd239d72432cd44569d047de8f4d69e471cd5f60f7ac7fc8769be5ec",
        contents: &[
            "onnxruntime/capi/libonnxruntime.so.1.28.0",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
        ],
    },
    Wheel {
        project: "nvidia-cublas",
        version: "13.10.0.20",
        file: "nvidia_cublas-13.10.0.20-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl",
        sha256: "dcc6d63884c53d07e267ce7e6feac17b2538cebaafec5db865736c3e28e4dc84",
        contents: &["nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"],
    },
    Wheel {
        project: "nvidia-cuda-runtime",
        version: "13.5.37",
        file: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
        contents: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        project: "nvidia-curand",
        version: "10.4.5.25",
        file: "nvidia_curand-10.4.5.25-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529",
        contents: &["nvidia/cu13/lib/libcurand.so.10"],
    },
    Wheel {
        project: "nvidia-cudnn-cu13",
        version: "9.28.1.4",
        file: "nvidia_cudnn_cu13-9.28.1.4-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec",
        contents: &[
            "nvidia/cudnn/lib/libcudnn.so.9",
            "nvidia/cudnn/lib/libcudnn_adv.so.9",
            "nvidia/cudnn/lib/libcudnn_cnn.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_precompiled.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_runtime_compiled.so.9",
            "nvidia/cudnn/lib/libcudnn_engines_tensor_ir.so.9",
            "nvidia/cudnn/lib/libcudnn_ext.so.9",
            "nvidia/cudnn/lib/libcudnn_graph.so.9",
            "nvidia/cudnn/lib/libcudnn_heuristic.so.9",
            "nvidia/cudnn/lib/libcudnn_ops.so.9",
        ],
    },
];

/// The wheels for this computer, the engine's own first.
///
/// # Errors
/// When none is pinned for its processor or system.
pub fn wheels(cuda: bool) -> Result<&'static [Wheel], RuntimeError> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    match (system, processor, cuda) {
        ("linux", "x86_64", false) => Ok(&CPU_X86_64),
        ("linux", "aarch64", false) => Ok(&CPU_AARCH64),
        ("linux", "x86_64", true) => Ok(&CUDA_X86_64),
        _ => Err(RuntimeError::Platform {
            found: format!("{system} on {processor}{}", if cuda { " with CUDA" } else { "" }),
        }),
    }
}

/// The folder that holds one folder a version: `regoal/onnxruntime` in the user's cache.
pub fn cache_folder() -> Option<PathBuf> {
    wheel::cache_folder("onnxruntime").ok()
}

/// Installs the library into the user's cache and returns its path; does nothing when it is there.
/// `from` is the wheel, or the folder that holds all the [`wheels`]; without it they are fetched
/// with pip.
///
/// # Errors
/// When a wheel cannot be fetched or is not the pinned one, or a file cannot be written.
pub fn install(
    storage: &dyn Storage,
    from: Option<&Path>,
    cuda: bool,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, RuntimeError> {
    let cache = wheel::cache_folder("onnxruntime")?;
    let wheels = wheels(cuda)?;
    let Some((engine, others)) = wheels.split_first() else {
        return Err(RuntimeError::Platform { found: "no wheels".into() });
    };
    let folder =
        cache.join(format!("{}{}", engine.version, if others.is_empty() { "" } else { "-cuda" }));
    wheel::install(storage, &folder, wheels, from, progress, |_| Ok::<_, RuntimeError>(()))?;
    Ok(folder.join(engine.contents.first().map_or("", |inside| wheel::file_name(inside))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pinned_wheel_has_a_whole_hash_and_a_library() {
        for wheel in CPU_X86_64.iter().chain(&CPU_AARCH64).chain(&CUDA_X86_64) {
            assert!(
                wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()),
                "{}",
                wheel.file
            );
            assert!(
                !wheel.contents.is_empty() && wheel.file.contains(wheel.version),
                "{}",
                wheel.file
            );
        }
    }
}
