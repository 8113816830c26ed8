//! Opening ONNX Runtime's library, in a process of its own: it can be opened only once.

use regoal::engine::{Device, Engine};

#[test]
fn files_that_are_not_onnx_runtime_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("libonnxruntime.so");
    let error = Engine::ort(&missing, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("regoal runtime install"), "{error}");
    let libc = folder.path().join("not-elf.so");
    std::fs::copy("Cargo.toml", &libc).unwrap();
    let error = Engine::ort(&libc, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("regoal runtime install"), "{error}");
}
