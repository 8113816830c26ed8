//! The loop of eight calls, the safety gate, the modes. No file or network I/O.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod actor;
mod command;
mod exchange;
mod gate;
mod jitter;
mod modes;
mod runtime;
mod tick;

pub use actor::{Actor, Decision, Inline, Pilot};
pub use command::{Command, Ending, GoalRequest, GoalResult, LoopCounters};
pub use exchange::{SwapError, Swapped, Swapper, connect};
pub use gate::{SafetyGate, Wish};
pub use jitter::{Histogram, Jitter, Quantiles};
pub use modes::{Event, Refusal, next};
pub use runtime::{CommandError, Handle, Runtime, Status};
pub use tick::{ControlLoop, distance};
