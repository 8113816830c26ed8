//! The campaigns S2 to S7 and F2: the bus and what is read from files, in virtual time. Each prints
//! one JSON line and is run in any size by `tools/campaign/run ID`. `REGOAL_SEED` seeds them,
//! `REGOAL_CASES` sizes them.

#[path = "../common/bench.rs"]
mod bench;
mod configs;
mod lies;
mod rates;
mod rig;
mod single;
mod starting;
mod timing;
mod unplug;

use bench::number;
use regoal::rng::{Rng, Stream, item};

fn seed() -> u64 {
    number("REGOAL_SEED", 1)
}

fn rng(index: u64) -> Rng {
    item(seed(), Stream::Training, index)
}

/// Keeps what failed, and only the first of it at length.
#[derive(Default)]
struct Failures(u64, Vec<String>);

impl Failures {
    fn unless(&mut self, held: bool, why: impl FnOnce() -> String) {
        if !held {
            self.0 += 1;
            if self.1.len() < 20 {
                self.1.push(why());
            }
        }
    }

    /// The campaign's line; panics when anything failed.
    fn report(self, id: &str, runs: u64, figures: serde_json::Value) {
        bench::report(id, seed(), runs, self.0, figures);
        assert_eq!(self.0, 0, "{:#?}", self.1);
    }
}
