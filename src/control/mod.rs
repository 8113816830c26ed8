//! The loop of eight calls, the safety gate, the modes. No file or network I/O.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod actor;
mod command;
mod event;
mod exchange;
mod gate;
mod jitter;
pub mod modes;
mod pulse;
mod reconnect;
mod runtime;
mod teleop;
mod tick;

pub use actor::{Actor, Decision, Inline, Pilot};
pub use command::{
    Command, Ending, GoalCounters, GoalRequest, GoalResult, GoalUpdate, LoopCounters,
};
pub use exchange::{SwapError, Swapped, Swapper, connect};
pub use gate::{Bounds, SafetyGate, Wish};
pub use jitter::{Histogram, Jitter, Quantiles};
pub use modes::{Event, Refusal, events, modes, next};
pub use pulse::{Pulse, Start};
pub use reconnect::{Reconnect, Search, Searcher, search};
pub use runtime::{CommandError, Handle, Runtime, Status};
pub use teleop::{Lead, TeleopAction, TeleopReceiver, TeleopSender, teleop_queue};
pub use tick::{ControlLoop, distance};
