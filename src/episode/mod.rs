//! What is logged: one episode, one MCAP file; a dataset is a folder.
//!
//! [`Writer`] writes one episode and [`Episode::read`] reads it, however it was torn; the control
//! loop hands its steps to a [`LogWriter`] through a [`log_queue`]. [`list`] looks into a folder;
//! [`check`], [`repair`], [`rewrite`] and [`remove`] look after its files.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod change;
mod command;
mod dataset;
mod encode;
mod ending;
mod error;
mod header;
mod inputs;
pub mod lerobot;
mod log;
mod proto;
mod queue;
mod read;
mod scan;
mod schema;
mod step;
mod write;

pub use change::{amend, append, check, remove, repair, rewrite};
pub use command::{Command, GoalRequest, GoalUpdate, Lead, TeleopAction};
pub use dataset::{Summary, list, paths, summary};
pub use error::EpisodeError;
pub use header::{EpisodeHeader, Outcome, Reason, Source, Split, reason};
pub use inputs::{Answered, Answers, Inputs, MAX_ORDERS, Order, Origin, Readings, Strain, Supply};
pub use log::{LogStatus, LogThread, LogWriter};
pub use queue::{Begin, LogReceiver, LogSender, Record, log_queue};
pub use read::{Damage, Episode};
pub use scan::Seal;
pub use step::{Events, Fault, Mode, PolicyId, Step};
pub use write::{Writer, WriterConfig, episode_number};
