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
mod hardware;
mod jitter;
pub mod modes;
mod pulse;
mod reconnect;
mod replay;
mod runtime;
mod swap;
mod teleop;
mod tick;

pub use actor::{Actor, Decision, Inline, Pilot};
pub use command::{Ending, GoalCounters, GoalResult, LoopCounters};
pub use exchange::{PolicyThread, connect};
pub use gate::{Bounds, SafetyGate, Wish};
pub use hardware::Hardware;
pub use jitter::{Histogram, Jitter, Quantiles};
pub use modes::{Event, Refusal, events, modes, next};
pub use pulse::{Pulse, Start};
pub use reconnect::{Reconnect, Search, Searcher, search};
pub use replay::{Difference, Replay, ReplayError, Replayed};
pub use runtime::{CommandError, Handle, Runtime, Status};
pub(crate) use swap::time_allowed;
pub use swap::{Demotion, SwapError, Swapped, Swapper};
pub use teleop::{TeleopReceiver, TeleopSender, teleop_queue};
pub use tick::{ControlLoop, distance};

pub use crate::episode::{Command, GoalRequest, GoalUpdate, Lead, TeleopAction};
