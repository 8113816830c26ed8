//! How the robot is, again and again, for many clients at once.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};

use super::shared::Api;
use super::websocket::{receive, send};
use crate::clock::Time;
use crate::episode::Mode;

/// One message of `GET /v1/telemetry`: the last tick. Joints in the order of the status.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Telemetry {
    /// Periods since the loop started.
    pub tick: u64,
    /// The tick's begin (s, the robot's monotonic clock).
    pub time_s: f64,
    /// What the loop is doing, and the `fault` that stopped it if one did.
    #[serde(flatten)]
    pub mode: Mode,
    /// False when the control loop has ended.
    pub alive: bool,
    /// Measured positions (rad).
    pub positions_rad: Vec<Option<f32>>,
    /// Measured velocities (rad/s).
    pub velocities_rad_s: Vec<Option<f32>>,
    /// Measured loads (fraction of the stall torque, signed).
    pub loads: Vec<Option<f32>>,
    /// Temperatures (°C).
    pub temperatures_c: Vec<Option<f32>>,
    /// The goal positions written to the servos (rad); empty when torque is off.
    pub sent_rad: Vec<Option<f32>>,
    /// The goal achieved now.
    pub achieved_goal: Vec<Option<f32>>,
    /// The goal being reached; empty when there is none.
    pub desired_goal: Vec<Option<f32>>,
    /// From one to the other (m or rad).
    pub distance: Option<f32>,
    /// The policy that steers: its id in hexadecimal digits.
    pub policy: Option<String>,
    /// A person steers.
    pub intervention: bool,
    /// How late the tick began (µs).
    pub lateness_us: f64,
    /// How long it took (µs).
    pub duration_us: f64,
    /// Messages that this client was too slow for, since the one before.
    pub lost: u64,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rate {
    /// Messages a second (0.1 or more; 20 if absent): at most one a tick of the loop.
    pub(super) rate: Option<f64>,
}

/// What all clients are told within one tick; made when the first of them asks.
#[derive(Default)]
pub(super) struct Sample {
    pub(super) taken: Option<Time>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// Sends telemetry until the client or the server ends it. A client that takes its time misses
/// messages, and the next one says how many: nothing is kept for it.
pub(super) async fn talk(api: Arc<Api>, mut socket: WebSocket, period: Duration) {
    let mut beat = tokio::time::interval(period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut stopping = api.stopping();
    let mut before: Option<Instant> = None;
    loop {
        let due = tokio::select! {
            due = beat.tick() => due,
            // What a client says is of no interest, but that it has gone is.
            said = receive(&mut socket) => match said {
                Some(_) => continue,
                None => return,
            },
            _ = stopping.changed() => return,
        };
        let lost = before.map_or(0, |before| missed(due.duration_since(before), period));
        before = Some(due);
        let telemetry = Telemetry { lost, ..Telemetry::clone(&api.sample()) };
        if !send(&mut socket, &telemetry).await {
            return;
        }
    }
}

/// Messages that were not sent in a pause between two that were.
fn missed(pause: Duration, period: Duration) -> u64 {
    let beats = (pause.as_secs_f64() / period.as_secs_f64().max(1e-9)).round();
    (beats as u64).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_slow_client_missed_is_counted() {
        let period = Duration::from_millis(50);
        for (pause, lost) in [(50, 0), (52, 0), (100, 1), (1000, 19)] {
            assert_eq!(missed(Duration::from_millis(pause), period), lost, "{pause}");
        }
    }
}
