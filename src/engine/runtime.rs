//! Puts ONNX Runtime's library into the user's cache, from the wheels of the Python package index.
//!
//! Each wheel is pinned by its SHA-256, which is checked before the archive is opened; only the
//! libraries named here are taken out of it. Python's pip is used to fetch a wheel, and not at all
//! when the file is given.
//!
//! The pinned version is the last one without telemetry: official Linux builds from 1.29 on report
//! sessions to Microsoft unless `ORT_DISABLE_TELEMETRY` is set before the library is opened.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::storage::Storage;

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
    /// The user's cache folder is not known.
    #[error("no cache folder: expected HOME or XDG_CACHE_HOME to be set")]
    NoCache,
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A wheel is not the one that is pinned.
    #[error("{path}: expected {file} with SHA-256 {expected}, found {found}; download it again", path = path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// The wheel's name.
        file: &'static str,
        /// Its pinned SHA-256.
        expected: &'static str,
        /// The file's SHA-256.
        found: String,
    },
    /// A wheel with the right hash could not be opened.
    #[error("{file}: {reason}")]
    Archive {
        /// The wheel's name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// pip could not fetch a wheel.
    #[error(
        "cannot fetch {file} with pip: {reason}; or download it elsewhere and use `regoal runtime install --from FILE`"
    )]
    Fetch {
        /// The wheel's name.
        file: &'static str,
        /// What went wrong.
        reason: String,
    },
}

/// One pinned archive of the Python package index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    /// The project on the index.
    pub project: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The wheel's file name.
    pub file: &'static str,
    /// The SHA-256 of the file, in hex.
    pub sha256: &'static str,
    /// The libraries that are taken out of it, by their path inside.
    pub libraries: &'static [&'static str],
}

const CPU_X86_64: [Wheel; 1] = [Wheel {
    project: "onnxruntime",
    version: "1.28.0",
    file: "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256: "0a83bdb70d143cede762b677789bf2a7acca54b3fb82565601d5c30695aa933c",
    libraries: &["onnxruntime/capi/libonnxruntime.so.1.28.0"],
}];

const CPU_AARCH64: [Wheel; 1] = [Wheel {
    project: "onnxruntime",
    version: "1.28.0",
    file: "onnxruntime-1.28.0-cp312-cp312-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
    sha256: "4e81a23df16e7acb9d51b06d30cc098e49315ef9180f97bc2221d167b4b04d9c",
    libraries: &["onnxruntime/capi/libonnxruntime.so.1.28.0"],
}];

/// The engine for CUDA 13, those of NVIDIA's libraries that it is linked to, and cuDNN, which it opens
/// for convolutions; the driver must be there already.
const CUDA_X86_64: [Wheel; 5] = [
    Wheel {
        project: "onnxruntime-gpu",
        version: "1.28.0",
        file: "onnxruntime_gpu-1.28.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        sha256: "3b3a63cecd239d72432cd44569d047de8f4d69e471cd5f60f7ac7fc8769be5ec",
        libraries: &[
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
        libraries: &["nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libcublasLt.so.13"],
    },
    Wheel {
        project: "nvidia-cuda-runtime",
        version: "13.5.37",
        file: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
        libraries: &["nvidia/cu13/lib/libcudart.so.13"],
    },
    Wheel {
        project: "nvidia-curand",
        version: "10.4.5.25",
        file: "nvidia_curand-10.4.5.25-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "22bb226a857e5888fe6b54ae465fc4371296bcff13a35f79e19691bcf454f529",
        libraries: &["nvidia/cu13/lib/libcurand.so.10"],
    },
    Wheel {
        project: "nvidia-cudnn-cu13",
        version: "9.28.1.4",
        file: "nvidia_cudnn_cu13-9.28.1.4-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "a54f205b1db1f2895d99f398754db1369816f0569dd459731f925635cf7b65ec",
        libraries: &[
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

/// What an installation is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The library is there already.
    Present,
    /// A wheel is being fetched.
    Fetching(&'static Wheel),
    /// A wheel is being checked and unpacked.
    Unpacking(&'static Wheel),
}

/// The folder that holds one folder a version: `regoal/onnxruntime` in the user's cache.
pub fn cache_folder() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("regoal").join("onnxruntime"))
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
    let cache = cache_folder().ok_or(RuntimeError::NoCache)?;
    install_into(storage, &cache, wheels(cuda)?, from, progress)
}

fn install_into(
    storage: &dyn Storage,
    cache: &Path,
    wheels: &'static [Wheel],
    from: Option<&Path>,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, RuntimeError> {
    let Some((engine, others)) = wheels.split_first() else {
        return Err(RuntimeError::Platform { found: "no wheels".into() });
    };
    let folder =
        cache.join(format!("{}{}", engine.version, if others.is_empty() { "" } else { "-cuda" }));
    let library = folder.join(engine.libraries.first().map_or("", |inside| file_name(inside)));
    // The folder appears by one rename when it is whole, so what is there is whole.
    if !storage.list(&folder).unwrap_or_default().is_empty() {
        progress(Progress::Present);
        return Ok(library);
    }
    let new = cache.join("new");
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RuntimeError::File { path, source }
    };
    storage.create_folder(&new).map_err(at(&new))?;
    for left in storage.list(&new).map_err(at(&new))? {
        storage.remove(&left).map_err(at(&left))?;
    }
    for wheel in wheels {
        let path = match from {
            Some(given) if storage.list(given).is_ok() => given.join(wheel.file),
            Some(given) => given.to_owned(),
            None => {
                progress(Progress::Fetching(wheel));
                fetch(storage, wheel, &cache.join("download"))?
            }
        };
        progress(Progress::Unpacking(wheel));
        let bytes = storage.read(&path).map_err(at(&path))?;
        check(wheel, &path, &bytes)?;
        unpack(storage, wheel, &bytes, &new)?;
        if from.is_none() {
            storage.remove(&path).map_err(at(&path))?;
        }
    }
    storage.rename(&new, &folder).map_err(at(&folder))?;
    storage.sync_folder(cache).map_err(at(cache))?;
    Ok(library)
}

/// Has pip download one wheel, whatever Python this computer has, and returns its path.
fn fetch(storage: &dyn Storage, wheel: &Wheel, folder: &Path) -> Result<PathBuf, RuntimeError> {
    let failed = |reason: String| RuntimeError::Fetch { file: wheel.file, reason };
    storage
        .create_folder(folder)
        .map_err(|source| RuntimeError::File { path: folder.into(), source })?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]);
    pip.args(["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]);
    for platform in ["manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"] {
        pip.args(["--platform", &format!("{platform}_{}", std::env::consts::ARCH)]);
    }
    pip.arg(format!("{}=={}", wheel.project, wheel.version)).arg("--dest").arg(folder);
    let output =
        pip.output().map_err(|error| failed(format!("python3 does not start: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.lines().last().unwrap_or("it gave no reason").to_owned()));
    }
    Ok(folder.join(wheel.file))
}

fn check(wheel: &Wheel, path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    let found: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    if found == wheel.sha256 {
        return Ok(());
    }
    Err(RuntimeError::Hash { path: path.into(), file: wheel.file, expected: wheel.sha256, found })
}

/// Takes the pinned libraries out of a wheel. Names inside the archive never become paths: a
/// library is looked up by its whole name and written under the last part of that.
fn unpack(
    storage: &dyn Storage,
    wheel: &Wheel,
    bytes: &[u8],
    folder: &Path,
) -> Result<(), RuntimeError> {
    let broken = |reason: String| RuntimeError::Archive { file: wheel.file, reason };
    let mut archive =
        zip::ZipArchive::new(io::Cursor::new(bytes)).map_err(|e| broken(e.to_string()))?;
    for inside in wheel.libraries {
        let mut entry = archive.by_name(inside).map_err(|e| broken(format!("{inside}: {e}")))?;
        let path = folder.join(file_name(inside));
        let write = |entry: &mut dyn Read| -> io::Result<()> {
            let mut file = storage.create(&path)?;
            io::copy(entry, &mut file)?;
            file.sync()
        };
        write(&mut entry).map_err(|source| RuntimeError::File { path: path.clone(), source })?;
    }
    storage.sync_folder(folder).map_err(|source| RuntimeError::File { path: folder.into(), source })
}

fn file_name(inside: &str) -> &str {
    inside.rsplit('/').next().unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::io::Write as _;

    const LIBRARY: &str = "onnxruntime/capi/libonnxruntime.so.9.9.9";

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in entries {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn pinned(bytes: &[u8]) -> &'static [Wheel] {
        let sha256: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        let wheel = Wheel {
            project: "onnxruntime",
            version: "9.9.9",
            file: "test.whl",
            sha256: Box::leak(sha256.into_boxed_str()),
            libraries: &[LIBRARY],
        };
        Box::leak(Box::new([wheel]))
    }

    #[test]
    fn a_pinned_wheel_is_unpacked_and_nothing_else_of_it() {
        let home = tempfile::tempdir().unwrap();
        let bytes =
            archive(&[("../../evil.so", "evil"), (LIBRARY, "library"), ("other.so", "other")]);
        let (wheel, cache) = (home.path().join("any-name.whl"), home.path().join("cache/deep"));
        Disk.replace(&wheel, &bytes).unwrap();
        let mut seen = Vec::new();
        let mut install = || {
            install_into(&Disk, &cache, pinned(&bytes), Some(&wheel), &mut |p| seen.push(p))
                .unwrap()
        };
        let library = install();
        assert_eq!(Disk.read(&library).unwrap(), b"library");
        assert_eq!(Disk.list(&cache).unwrap(), [cache.join("9.9.9")]);
        assert_eq!(
            Disk.list(&cache.join("9.9.9")).unwrap().as_slice(),
            std::slice::from_ref(&library)
        );
        assert_eq!(install(), library);
        assert_eq!(seen.last(), Some(&Progress::Present));
    }

    #[test]
    fn a_wheel_with_another_hash_is_never_opened() {
        let home = tempfile::tempdir().unwrap();
        let good = archive(&[(LIBRARY, "library")]);
        let bad = archive(&[(LIBRARY, "trojan")]);
        Disk.replace(&home.path().join("test.whl"), &bad).unwrap();
        let cache = home.path().join("cache");
        let error =
            install_into(&Disk, &cache, pinned(&good), Some(home.path()), &mut |_| ()).unwrap_err();
        assert!(matches!(error, RuntimeError::Hash { .. }), "{error}");
        assert_eq!(Disk.list(&cache.join("new")).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn what_a_broken_installation_left_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let bytes = archive(&[(LIBRARY, "library")]);
        let cache = home.path().join("cache");
        Disk.create_folder(&cache.join("new")).unwrap();
        Disk.replace(&cache.join("new").join("libonnxruntime.so.9.9.9"), b"half").unwrap();
        let wheel = home.path().join("test.whl");
        Disk.replace(&wheel, &bytes).unwrap();
        let library =
            install_into(&Disk, &cache, pinned(&bytes), Some(&wheel), &mut |_| ()).unwrap();
        assert_eq!(Disk.read(&library).unwrap(), b"library");
    }

    #[test]
    fn every_pinned_wheel_has_a_whole_hash_and_a_library() {
        for wheel in CPU_X86_64.iter().chain(&CPU_AARCH64).chain(&CUDA_X86_64) {
            assert!(
                wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()),
                "{}",
                wheel.file
            );
            assert!(
                !wheel.libraries.is_empty() && wheel.file.contains(wheel.version),
                "{}",
                wheel.file
            );
        }
    }
}
