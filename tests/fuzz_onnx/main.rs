//! Campaign F1: damaged ONNX files never panic, crash or eat the memory, and those that still verify
//! do not crash or hang an engine. Each case is a function of its seed and number alone:
//!
//! ```text
//! REGOAL_MUTATIONS=10000000 cargo test --release --test fuzz_onnx damaged -- --nocapture
//! REGOAL_SEED=7 REGOAL_CASES=1234..1235 cargo test --release --test fuzz_onnx damaged
//! ```

#[path = "../common/mod.rs"]
mod common;
mod loads;
mod mutate;
mod seeds;
mod workers;

use std::ops::Range;

use rand::RngExt as _;
use regoal::onnx::Verified;
use regoal::rng::{Stream, item};

use seeds::Seed;
use workers::{Job, Outcome};

/// Cases without `REGOAL_MUTATIONS`.
const MUTATIONS: u64 = 100_000;
/// Files loaded in each engine without `REGOAL_MUTATIONS`.
const LOADS: u64 = 400;
/// The most memory that reading and verifying may take (KiB).
const MEMORY_KIB: u64 = 512 * 1024;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The damaged file of a case.
fn case(seed: u64, index: u64, seeds: &[Seed]) -> Vec<u8> {
    let mut rng = item(seed, Stream::Training, index);
    let pick = |rng: &mut regoal::rng::Rng| &seeds[rng.random_range(0..seeds.len())].model;
    let (first, other) = (pick(&mut rng), pick(&mut rng));
    mutate::damaged(&mut rng, first, other)
}

/// `REGOAL_CASES`, or `0..REGOAL_MUTATIONS`.
fn cases() -> Range<u64> {
    let Ok(text) = std::env::var("REGOAL_CASES") else {
        return 0..number("REGOAL_MUTATIONS", MUTATIONS);
    };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn every_family_has_a_seed() {
    let seeds = seeds::all();
    println!("{} seeds", seeds.len());
    for name in ["mlp", "attention", "arrangement", "dynamic batch", "reductions", "selection"] {
        assert!(seeds.iter().any(|seed| seed.name == name), "{name} does not verify");
    }
}

#[test]
fn damaged_files_neither_panic_nor_crash_nor_eat_the_memory() {
    let (seed, cases) = (number("REGOAL_SEED", 1), cases());
    let figures = workers::verify_all(seed, cases.clone());
    let loads = loads::load_all(seed, &cases, number("REGOAL_LOADS", LOADS.min(cases.end)));
    let harmful = loads.crashed + loads.hung + loads.escaped;
    let failures = figures.panics.len() as u64 + figures.crashes.len() as u64 + harmful;
    let pass = failures == 0 && figures.peak_kib <= MEMORY_KIB;
    println!(
        "{}",
        serde_json::json!({
            "id": "F1", "seed": seed, "runs": cases.end - cases.start, "failures": failures,
            "figures": {
                "verified": figures.verified, "refused": figures.refused,
                "peak_mib": figures.peak_kib >> 10, "slowest_ms": figures.slowest_ms,
                "loads": loads.json(),
            },
            "pass": pass,
        })
    );
    assert!(figures.panics.is_empty(), "seed {seed}, panics in cases {:?}", figures.panics);
    assert!(figures.crashes.is_empty(), "seed {seed}, crashes in cases {:?}", figures.crashes);
    assert!(figures.peak_kib <= MEMORY_KIB, "{} KiB of memory", figures.peak_kib);
    assert_eq!(harmful, 0, "seed {seed}: {:?}", loads.cases);
    // Damage that always breaks a file tests only the first checks.
    assert!(cases.end - cases.start < 1000 || figures.verified * 50 > figures.refused);
}

/// A process of the campaign, started by it.
#[test]
#[ignore = "started by the campaign, in a process of its own"]
fn worker() {
    let Some(job) = Job::given() else { return };
    let seeds = seeds::all();
    match job {
        Job::Verify { seed, cases } => workers::verify(seed, cases, &seeds),
        Job::Load { seed, cases, engine } => loads::load(seed, cases, &engine, &seeds),
    }
}

/// What verification makes of a file.
fn outcome(file: &[u8]) -> Outcome {
    match std::panic::catch_unwind(|| Verified::from_bytes(file).is_ok()) {
        Ok(true) => Outcome::Verified,
        Ok(false) => Outcome::Refused,
        Err(_) => Outcome::Panicked,
    }
}
