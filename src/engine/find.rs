//! Where ONNX Runtime's library may be.

use std::path::{Path, PathBuf};

use super::{Device, runtime};
use crate::storage::Storage;

/// The folders to look in, the user's own cache first.
pub(super) fn folders() -> Vec<PathBuf> {
    let system = [
        "/usr/local/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
    ];
    runtime::cache_folder().into_iter().chain(system.map(PathBuf::from)).collect()
}

/// The libraries in these folders and in the version folders below the first, newest version first.
/// For CUDA, those that stand beside their CUDA provider come before all others.
pub(super) fn libraries(
    storage: &dyn Storage,
    folders: &[PathBuf],
    device: Device,
) -> Vec<PathBuf> {
    let list = |folder: &Path| storage.list(folder).unwrap_or_default();
    let mut all = Vec::new();
    for (i, folder) in folders.iter().enumerate() {
        let mut below = if i == 0 { list(folder) } else { Vec::new() };
        // Other folders are unfinished installations.
        below.retain(|path| !version(path).0.is_empty());
        below.sort_by_key(|path| std::cmp::Reverse(version(path)));
        below.push(folder.clone());
        for folder in below {
            let files = list(&folder);
            let cuda = files.iter().any(|f| name(f) == "libonnxruntime_providers_cuda.so");
            let engines = files.into_iter().filter(|f| name(f).starts_with("libonnxruntime.so"));
            all.extend(engines.map(|path| (device == Device::Cuda && !cuda, path)));
        }
    }
    all.sort_by_key(|(last, _)| *last);
    all.into_iter().map(|(_, path)| path).collect()
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|n| n.to_str()).unwrap_or("")
}

/// The numbers of a folder called `1.32.0` or `1.31.1-cuda`; plain ones come before those with CUDA.
fn version(path: &Path) -> (Vec<u32>, bool) {
    let (number, suffix) = name(path).split_once('-').unwrap_or((name(path), ""));
    (number.split('.').map_while(|part| part.parse().ok()).collect(), suffix.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn the_newest_whole_version_comes_first_for_cuda_with_its_provider() {
        let cache = tempfile::tempdir().unwrap();
        for file in [
            "1.9.0/libonnxruntime.so.1.9.0",
            "1.32.0/libonnxruntime.so.1.32.0",
            "1.32.0/libonnxruntime_providers_shared.so",
            "new/libonnxruntime.so.1.40.0",
            "1.31.1-cuda/libonnxruntime.so.1.31.1",
            "1.31.1-cuda/libonnxruntime_providers_cuda.so",
        ] {
            let path = cache.path().join(file);
            Disk.create_folder(path.parent().unwrap()).unwrap();
            Disk.create(&path).unwrap();
        }
        let found = |device| -> Vec<String> {
            let all = libraries(&Disk, &[cache.path().to_owned()], device);
            all.iter().map(|path| name(path).to_owned()).collect()
        };
        let all =
            ["libonnxruntime.so.1.32.0", "libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0"];
        assert_eq!(found(Device::Cpu), all);
        let cuda =
            ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.32.0", "libonnxruntime.so.1.9.0"];
        assert_eq!(found(Device::Cuda), cuda);
    }
}
