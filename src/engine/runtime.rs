//! placeholder
use std::path::PathBuf;

/// The user's cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("regoal").join("onnxruntime"))
}
