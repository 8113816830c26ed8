//! The API of a running robot, defined once, its server on a Unix socket and, for clients with a key
//! ([`Access`]), over TLS, and its client; and when a robot's process counts as hung ([`supervisor`]),
//! and what systemd is told of it ([`systemd`]).
//!
//! HTTP/1 with JSON and WebSockets, SI units. All operations stand in one table, [`operations`]; from
//! it come the router and the OpenAPI document ([`document`], `regoal api`). What is not done is
//! answered by an [`ErrorReply`].
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod access;
mod api;
mod body;
mod client;
mod entrance;
mod episodes;
mod geometry;
mod goals;
mod handlers;
mod health;
mod jobs;
mod lease;
mod metrics;
mod openapi;
mod operation;
mod operations;
mod page;
mod policies;
mod queue;
mod remote;
mod served;
mod server;
mod shared;
mod socket;
mod steer;
mod stream;
pub mod supervisor;
pub mod systemd;
mod telemetry;
mod text;
mod websocket;

pub use access::{Access, AccessError, Digest, Key, Paired, PairingReply, PairingRequest, Proofs};
pub use api::{
    Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Joint, Log, Object, Robot,
    Status, Timing,
};
pub use client::{Client, ClientError};
pub use entrance::serve_connection;
pub use episodes::{EpisodeCurves, EpisodePage, EpisodeSummary, Episodes, Label, Verdict};
pub use geometry::{Frame, Geometry, JointGeometry};
pub use health::Health;
pub use jobs::{JobReport, JobRequest, JobSettings, Jobs, JobsError};
pub use lease::{LeaseReply, LeaseRequest};
pub use openapi::document;
pub use operation::{Operation, Role};
pub use operations::{operations, router};
pub use policies::{Installation, Installed, Policies, PolicyReport, Received, Rollback};
pub use queue::{QueueReply, QueueRequest, Queued};
pub use remote::{KeyFile, RemoteAddress, pair};
pub use served::{Facts, Served};
pub use server::{Doors, Server, ServerError};
pub use shared::Service;
pub use socket::{default_access, default_socket, find_sockets};
pub use steer::{Conclusion, Demonstration, Pad};
pub use telemetry::Telemetry;
pub use text::printable;
