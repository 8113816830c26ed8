//! The API in memory: its behaviour with a robot that remembers what it was told, and the campaigns
//! F4, A3 and A4. Each prints one JSON line and is run in any size by `tools/campaign/run ID`.
//! `REGOAL_SEED` seeds them, `REGOAL_CASES` sizes them.

mod behaviour;
#[path = "../common/bench.rs"]
mod bench;
mod deploy;
mod estop;
mod fuzz;
mod names;
mod steer;
mod stub;

use bench::number;
use regoal::rng::{Rng, Stream, item};

fn seed() -> u64 {
    number("REGOAL_SEED", 1)
}

fn rng(index: u64) -> Rng {
    item(seed(), Stream::Training, index)
}
