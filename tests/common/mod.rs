//! What several test programs need.

use std::path::PathBuf;
use std::sync::OnceLock;

use regoal::engine::{Device, Engine, runtime};
use regoal::storage::Disk;

/// Every engine: tract, and ONNX Runtime from `REGOAL_ONNXRUNTIME`, the cache or the system; it is
/// installed when it is missing, and runs on a card too where its library is the one for CUDA and
/// CUDA works. `REGOAL_TRACT_ONLY=1` leaves it out where it cannot be had.
pub fn engines() -> Vec<Engine> {
    if std::env::var_os("REGOAL_TRACT_ONLY").is_some() {
        return vec![Engine::tract()];
    }
    let on_cpu = onnx_runtime();
    let explicit = std::env::var_os("REGOAL_ONNXRUNTIME").map(PathBuf::from);
    let on_card = Engine::best(explicit.as_deref(), Device::Cuda).ok();
    let on_card = on_card.filter(|engine| engine.device() == Device::Cuda);
    [Engine::tract(), on_cpu].into_iter().chain(on_card).collect()
}

/// ONNX Runtime.
pub fn onnx_runtime() -> Engine {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let explicit = std::env::var_os("REGOAL_ONNXRUNTIME").map(PathBuf::from);
        let found = Engine::best(explicit.as_deref(), Device::Cpu);
        if explicit.is_none() && found.is_ok_and(|engine| engine.name() == "tract") {
            runtime::install(&Disk, None, false, &mut |_| ()).unwrap_or_else(|e| {
                panic!("ONNX Runtime is missing ({e}): REGOAL_TRACT_ONLY=1 tests without it")
            });
        }
        explicit
    });
    let engine = Engine::best(library.as_deref(), Device::Cpu).unwrap();
    assert_eq!(engine.name(), "ort", "{:?}", engine.note());
    engine
}
