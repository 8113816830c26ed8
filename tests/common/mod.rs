//! What several test programs need.
#![allow(dead_code, reason = "each program uses its own part")]

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
    let on_card = Some(best(Device::Cuda)).filter(|engine| engine.device() == Device::Cuda);
    [Engine::tract(), on_cpu].into_iter().chain(on_card).collect()
}

/// The best engine there is for a device.
pub fn best(device: Device) -> Engine {
    let explicit = std::env::var_os("REGOAL_ONNXRUNTIME").map(PathBuf::from);
    Engine::best(explicit.as_deref(), device).unwrap()
}

/// ONNX Runtime on the CPU.
pub fn onnx_runtime() -> Engine {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        if best(Device::Cpu).name() == "tract" {
            runtime::install(&Disk, None, false, &mut |_| ()).unwrap_or_else(|e| {
                panic!("ONNX Runtime is missing ({e}): REGOAL_TRACT_ONLY=1 tests without it")
            });
        }
    });
    let engine = best(Device::Cpu);
    assert_eq!(engine.name(), "ort", "{:?}", engine.note());
    engine
}
