//! Who may talk with the daemon: the campaigns A1, A2 and A5. Each prints one JSON line and is run in
//! any size by `tools/campaign/run ID`. `REGOAL_SEED` seeds them, `REGOAL_CASES` sizes them.

mod abuse;
#[path = "../common/bench.rs"]
mod bench;
mod deploy;
mod matrix;
mod page;
mod pairing;
#[path = "../common/patience.rs"]
mod patience;
#[path = "../common/policies.rs"]
mod policies;
mod rig;
mod secrets;
#[path = "../api/stub.rs"]
#[allow(dead_code, reason = "only its robot is needed here")]
mod stub;

fn seed() -> u64 {
    bench::number("REGOAL_SEED", 1)
}
