//! The benchmarks: `tools/bench/run [NAME...]`.
//!
//! One JSON line a figure on stdout, a table on stderr. What a figure is measured over stands at the
//! function that measures it. Contenders take turns, round by round, and the median round counts:
//! what else the computer does then hits all of them alike.

mod acting;
mod arm;
mod beside;
mod envs;
mod learning;
mod loading;
mod log;
mod measure;
mod peers;
mod pty;
mod relabel;
mod updates;

use std::path::{Path, PathBuf};

use measure::Figure;
use regoal::config::RobotConfig;
use regoal::engine::{Device, Engine};
use regoal::storage::Disk;

/// How the names of a benchmark's figures begin, and what measures them.
type Benchmark = (&'static str, fn(&Setup) -> Vec<Figure>);

const BENCHMARKS: [Benchmark; 30] = [
    ("train_step/mlp/32/", |setup| learning::mlp_steps(setup, 32, 1)),
    ("train_step/mlp/256/", |setup| learning::mlp_steps(setup, 256, 1)),
    ("train_step/mlp/256/2_threads/", |setup| learning::mlp_steps(setup, 256, 2)),
    ("train_step/mlp/256/beside/", beside::beside),
    ("train_step/mlp/1024/", |setup| learning::mlp_steps(setup, 1024, 1)),
    ("train_step/act/32/", |setup| learning::exported_steps(setup, "act", 32)),
    ("train_step/cnn/32/", |setup| learning::exported_steps(setup, "cnn", 32)),
    ("load/act/", loading::load),
    ("act/mlp/", |setup| acting::act(setup, "mlp")),
    ("act/act/", |setup| acting::act(setup, "act")),
    ("act/cnn/", |setup| acting::act(setup, "cnn")),
    ("act/reach/", arm::act),
    ("bus_cycle/", arm::bus_cycle),
    ("bus_cycle/pty/", pty::bus_cycle),
    ("bus_cycle/cpu", arm::bus_cpu),
    ("relabel/256", |_| relabel::relabel(256)),
    ("relabel/2048", |_| relabel::relabel(2048)),
    ("load/episodes", relabel::load),
    ("env/arm_reach", arm::env),
    ("env/four_rooms", |_| envs::four_rooms()),
    ("env/four_rooms/raster", |_| envs::raster()),
    ("env/fetch_pick_place", |_| envs::fetch()),
    ("env/gym", |_| envs::gym()),
    ("tick/arm_reach", arm::tick),
    ("log/handover/", log::handover),
    ("log/re", log::recovery),
    ("update/ddpg_her/256", |setup| updates::ddpg_her(setup, 256)),
    ("update/ddpg_her/64", |setup| updates::ddpg_her(setup, 64)),
    ("update/goalgail/256", updates::goalgail),
    ("update/gail/256", updates::gail),
];

/// What benchmarks share.
struct Setup {
    robot: RobotConfig,
    /// The shipped policy.
    policy: Vec<u8>,
    tract: Engine,
    /// ONNX Runtime, where it is installed.
    ort: Option<Engine>,
}

impl Setup {
    fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.ort.iter().chain([&self.tract])
    }

    /// ONNX Runtime, or tract where that is not installed.
    fn best(&self) -> &Engine {
        self.ort.as_ref().unwrap_or(&self.tract)
    }

    fn new() -> Self {
        let explicit = std::env::var_os("REGOAL_ONNXRUNTIME").map(PathBuf::from);
        let best = Engine::best(explicit.as_deref(), Device::Cpu).unwrap();
        let ort = (best.name() == "ort").then_some(best.clone());
        match best.note() {
            Some(note) => eprintln!("tract only: {note}"),
            None => eprintln!("{} and {best}", Engine::tract()),
        }
        Self {
            robot: RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap(),
            policy: std::fs::read("models/reach/policy.onnx").unwrap(),
            tract: Engine::tract(),
            ort,
        }
    }
}

fn main() {
    // Cargo adds `--bench`.
    let wished: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let wished_for = |f: &dyn Fn(&str) -> bool| wished.is_empty() || wished.iter().any(|w| f(w));
    let setup = Setup::new();
    eprintln!("{}", Figure::HEADING);
    let mut found = false;
    for (prefix, benchmark) in BENCHMARKS {
        if !wished_for(&|w| prefix.starts_with(w) || w.starts_with(prefix)) {
            continue;
        }
        for figure in benchmark(&setup) {
            if wished_for(&|w| figure.name.starts_with(w)) {
                println!("{}", figure.json());
                eprintln!("{figure}");
                found = true;
            }
        }
    }
    if !found {
        let known = BENCHMARKS.map(|(prefix, _)| prefix);
        eprintln!("expected the beginning of a figure's name, {known:?}, found {wished:?}");
        std::process::exit(2);
    }
}
