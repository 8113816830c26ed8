//! Episodes on good and bad disks: what was synced is never lost, and what is not proven is never
//! returned.
//!
//! The campaigns L1 to L7 and F3 print one JSON line each and are run in any size by
//! `tools/campaign/run ID`. `REGOAL_SEED` seeds them, `REGOAL_CASES` sizes them.

#[path = "../common/bench.rs"]
mod bench;
mod changing;
mod fixtures;
mod full;
mod fuzz;
mod golden;
mod kill;
mod log;
mod operator;
#[path = "../common/patience.rs"]
mod patience;
mod power;
mod readers;
mod reading;
mod rot;
mod slow;
