//! The API of a running robot, defined once, its server on a Unix socket and its client; and when a
//! robot's process counts as hung ([`supervisor`]).
//!
//! HTTP/1 with JSON, SI units:
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/goal` | [`Goal`] | [`GoalReply`] |
//! | `GET /v1/goal/{id}` | | [`GoalReply`] |
//! | `POST /v1/object` | [`Object`] | `{}` |
//! | `POST /v1/arm`, `disarm`, `stop`, `estop`, `takeover`, `letgo` | | `{}` |
//!
//! What is not done is answered by an [`ErrorReply`].
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod api;
mod client;
mod goals;
mod routes;
mod served;
mod server;
mod socket;
pub mod supervisor;

pub use api::{
    Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Joint, Log, Object, Robot,
    Status, Timing,
};
pub use client::{Client, ClientError};
pub use served::{Facts, Served};
pub use server::{Server, ServerError};
pub use socket::{default_socket, find_sockets};
