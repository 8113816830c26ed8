//! Getting a policy of 3 million parameters ready to be trained.

use regoal::clock::{Clock as _, SystemClock};
use regoal::engine::Engine;
use regoal::onnx::Verified;

use super::learning::squared_error;
use super::measure::{Figure, Unit};
use super::{Setup, peers};

/// How often it is done; the best counts, as nothing but other work can make it slower.
const TIMES: usize = 5;

/// Reading, verifying, differentiating and building the session, against the limits that we set
/// ourselves: 2 seconds, and at its peak 10 times the file's size in memory.
pub fn load(setup: &Setup) -> Vec<Figure> {
    let Some(policy) = peers::exported("act", 32) else {
        eprintln!("no load/act: the peers export the policy; run `tools/bench/run --setup`");
        return Vec::new();
    };
    let file = policy.to_bytes();
    drop(policy);
    setup.engines().flat_map(|engine| of(engine, &file)).collect()
}

fn of(engine: &Engine, file: &[u8]) -> [Figure; 2] {
    let name = format!("load/act/{}", engine.name());
    let before = kib("VmRSS");
    forget_peak();
    let mut best = f64::INFINITY;
    let mut peak = 0.0;
    for round in 0..TIMES {
        let start = SystemClock.now();
        let graph = Verified::from_bytes(file).unwrap();
        let step = squared_error(&graph).unwrap();
        let trainer = engine.train(&step, 1).unwrap();
        best = best.min(SystemClock.now().since(start).as_secs_f64() * 1e6);
        if round == 0 {
            peak = (kib("VmHWM") - before) * 1024.0 / file.len() as f64;
        }
        drop(trainer);
    }
    [
        Figure::new(&name, best, Unit::Microseconds).against("limit", Some(2e6)),
        Figure::new(format!("{name}/memory"), peak, Unit::FileSizes).against("limit", Some(10.0)),
    ]
}

/// From here on the peak is counted anew.
#[allow(clippy::disallowed_methods, reason = "a file of the kernel, about this process")]
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// A line of `/proc/self/status` about memory.
pub fn kib(what: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
