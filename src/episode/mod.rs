//! What is logged: one episode, one MCAP file; a dataset is a folder.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod step;

pub use step::{Events, Fault, Mode, PolicyId, Step};
