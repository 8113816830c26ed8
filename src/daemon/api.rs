//! What is said over the API: plain values, SI units, one definition for server and clients.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::geometry::Geometry;
use super::steer::{Demonstration, Pad};
use super::telemetry::Telemetry;
use crate::control::{Jitter, LoopCounters, Quantiles};
use crate::episode::{Fault, Mode};
use crate::hal::arm;
use crate::joints::{GoalSpace, MAX_GOAL};

/// How a robot is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// The robot's name.
    pub robot: String,
    /// What the loop is doing, and the `fault` that stopped it if one did.
    #[serde(flatten)]
    pub mode: Mode,
    /// False when the control loop has ended: the rest is as it was then.
    pub alive: bool,
    /// Periods since the loop started.
    pub tick: u64,
    /// Ticks per second.
    pub rate_hz: f64,
    /// The joints, base first.
    pub joints: Vec<Joint>,
    /// What its goals are made of.
    pub goal_space: GoalSpace,
    /// The unit of distances between goals: m or rad.
    pub unit: String,
    /// The goal achieved now, in the goal space; empty while it is not known.
    pub achieved_goal: Vec<Option<f32>>,
    /// The goal being reached, in the goal space, if any.
    pub desired_goal: Option<Vec<f32>>,
    /// From one to the other, in `unit`.
    pub distance: Option<f32>,
    /// The policy that steers: its id in hexadecimal digits; none while none steers.
    pub policy: Option<String>,
    /// Counts since the loop started.
    pub counters: LoopCounters,
    /// Faults of the servo bus and of what came over it, since the loop started.
    pub faults: arm::Counters,
    /// How punctual the loop is.
    pub timing: Timing,
    /// The episode log; none when nothing is logged.
    pub log: Option<Log>,
}

/// One joint as measured last.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Joint {
    /// The joint's name.
    pub name: String,
    /// Position (rad); none when it is not known.
    pub position_rad: Option<f32>,
    /// Velocity (rad/s); none when it is not known.
    pub velocity_rad_s: Option<f32>,
    /// The servo's temperature (°C); none when it is not known.
    pub temperature_c: Option<f32>,
    /// Time since it was measured (ms).
    pub age_ms: f64,
}

/// How punctual the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timing {
    /// The control thread has real-time priority; none before it has asked.
    pub realtime: Option<bool>,
    /// From the scheduled to the real begin of a tick.
    pub lateness_us: Quantiles,
    /// From a tick's begin to its end.
    pub duration_us: Quantiles,
    /// From an observation to the policy's action.
    #[serde(default)]
    pub policy_us: Quantiles,
}

/// The episode log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Log {
    /// Episodes finished on the disk.
    pub episodes: u64,
    /// Steps handed to a file.
    pub steps: u64,
    /// Bytes of finished episodes.
    pub bytes: u64,
    /// Steps that could not be logged.
    pub unlogged: u64,
    /// Failures of the disk.
    pub failures: u64,
    /// The disk is full; the loop goes on without a log.
    pub disk_full: bool,
    /// What the disk said last.
    pub last_error: Option<String>,
}

/// A goal to reach: the body of `POST /v1/goal`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Goal {
    /// The goal in the robot's goal space: x, y, z (m, base frame) of the tip or of an object; all
    /// joints (rad); for a pose the nine numbers of
    /// [`EndEffectorPose`](GoalSpace::EndEffectorPose), or six: x, y, z (m), roll, pitch, yaw (rad).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub goal: Vec<f32>,
    /// Instead of it, joints by name (rad); those not named stay where they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub joints: BTreeMap<String, f32>,
    /// Reached within this distance (0.0001 to 1, m or rad); the robot's own when absent.
    pub tolerance: Option<f32>,
    /// Given up after this time (s, 0.01 to 3600); the robot's own when absent.
    pub timeout_s: Option<f64>,
    /// Take a goal that is out of reach too: failures teach.
    pub anyway: bool,
    /// Answer when the goal has ended, not when it was accepted.
    pub wait: bool,
}

impl Goal {
    /// Whether every number is one that a robot can be asked for.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn check(&self) -> Result<(), ErrorReply> {
        let bad = |error: String| Err(ErrorReply { error, code: Code::BadRequest });
        // No arm on a desk reaches or turns further; a bound also keeps distances finite.
        let found: Vec<f32> = self.goal.iter().chain(self.joints.values()).copied().collect();
        if found.len() > MAX_GOAL {
            return bad(format!(
                "goal: expected at most {MAX_GOAL} numbers, found {}",
                found.len()
            ));
        }
        if found.iter().any(|x| !(-10.0..=10.0).contains(x)) {
            return bad(format!(
                "goal: expected numbers from -10 to 10 (m or rad), found {found:?}"
            ));
        }
        if !self.goal.is_empty() && !self.joints.is_empty() {
            return bad("expected `goal` or `joints`, found both".into());
        }
        match (self.tolerance, self.timeout_s) {
            (Some(tolerance), _) if !(1e-4..=1.0).contains(&tolerance) => {
                bad(format!("tolerance: expected 0.0001 to 1 (m or rad), found {tolerance}"))
            }
            (_, Some(s)) if !(0.01..=3600.0).contains(&s) => {
                bad(format!("timeout_s: expected 0.01 to 3600 (s), found {s}"))
            }
            _ => Ok(()),
        }
    }
}

/// Where the object is that goals are for: the body of `POST /v1/object`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// x, y, z (m, base frame).
    pub position: [f32; 3],
}

/// A goal that was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalReply {
    /// Names the goal in `GET /v1/goal/{id}`.
    pub id: u64,
    /// How it ended; none while it is being reached.
    pub result: Option<GoalResult>,
}

/// How a goal ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GoalResult {
    /// Why it ended.
    pub ending: Ending,
    /// The fault that ended it, if one did.
    pub fault: Option<Fault>,
    /// The goal was within its tolerance at the end.
    pub success: bool,
    /// The distance at the end, in `unit`; none when it is not known.
    pub distance: Option<f32>,
    /// m or rad.
    pub unit: String,
    /// Ticks it took.
    pub ticks: u64,
}

/// Why a goal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Held within the tolerance.
    Reached,
    /// The time was up.
    TimedOut,
    /// Taken back.
    Stopped,
    /// Another goal took its place.
    Replaced,
    /// No update of its stream came in time.
    StreamEnded,
    /// Where the object is was not told in time.
    ObjectLost,
    /// A fault stopped the arm.
    Faulted,
}

/// What a robot is told to do at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Torque on and hold; clears a fault.
    Arm,
    /// Torque off.
    Disarm,
    /// Give up the goal and hold.
    Stop,
    /// Stop at once and latch.
    EmergencyStop,
    /// A person steers, with the leader or the keyboard of the daemon; a goal stays.
    TakeOver,
    /// The person lets go: the policy goes on toward the goal.
    LetGo,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReply {
    /// For people: what was expected, what was found, what to do.
    pub error: String,
    /// For programs.
    pub code: Code,
}

impl ErrorReply {
    /// An error of this kind.
    pub fn new(code: Code, error: impl Into<String>) -> Self {
        Self { error: error.into(), code }
    }
}

/// Kinds of errors, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// 400: not what the API expects.
    BadRequest,
    /// 401: without a key, or with one that is not valid.
    Unauthorized,
    /// 403: not with this key.
    Forbidden,
    /// 404: no such path or goal.
    NotFound,
    /// 405: this path is asked with another method.
    WrongMethod,
    /// 408: the request did not come whole in time.
    TooSlow,
    /// 409: not in this mode.
    Refused,
    /// 409: a fault stopped the arm.
    Faulted,
    /// 409: what the goal depends on was not heard of lately.
    Stale,
    /// 409: taken back before its turn.
    Cancelled,
    /// 413: the body is too long.
    TooLong,
    /// 422: a goal out of the arm's reach.
    OutOfReach,
    /// 422: a goal beyond a joint's limits.
    OutOfLimits,
    /// 423: somebody else holds the arm.
    NoLease,
    /// 503: too many ask at once.
    Busy,
    /// 503: the control loop does not answer.
    NoAnswer,
    /// A newer server's.
    #[serde(other)]
    Other,
}

/// JSON has no number for what is not known.
pub(super) fn finite(x: f32) -> Option<f32> {
    x.is_finite().then_some(x)
}

/// What the server serves: a running control loop, or a stand-in for one.
pub trait Robot: Send + Sync + 'static {
    /// How the robot is; returns at once.
    fn status(&self) -> Status;
    /// Returns when the loop has taken the command over; may wait for a few ticks.
    ///
    /// # Errors
    /// Refused in this mode, or the loop does not answer.
    fn command(&self, command: Command) -> Result<(), ErrorReply>;
    /// Sets a checked goal, which [`follow`](Self::follow) moves on when it is streamed; its id. May
    /// wait for a few ticks.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    fn reach(&self, goal: &Goal, streamed: bool) -> Result<u64, ErrorReply>;
    /// Moves a streamed goal to a checked one; updates are numbered, so that none comes late. May wait
    /// for a few ticks.
    ///
    /// # Errors
    /// As [`command`](Self::command), or the goal has ended.
    fn follow(&self, id: u64, sequence: u64, goal: &Goal) -> Result<(), ErrorReply>;
    /// Takes over where the object is. May wait for a few ticks.
    ///
    /// # Errors
    /// As [`command`](Self::command), or goals are not of an object.
    fn object(&self, object: Object) -> Result<(), ErrorReply>;
    /// A goal set before; none when the id is not known, or no longer. Returns at once.
    fn goal(&self, id: u64) -> Option<GoalReply>;
    /// The last tick; returns at once.
    fn telemetry(&self) -> Telemetry;
    /// What the arm looks like; returns at once.
    fn geometry(&self) -> Geometry {
        Geometry::default()
    }
    /// A person moves the arm so from now until the next call, or has let go; returns at once. It is
    /// moved only after [`Command::TakeOver`].
    ///
    /// # Errors
    /// Nobody can steer this robot over the API.
    fn steer(&self, pad: Option<&Pad>) -> Result<(), ErrorReply> {
        let _ = pad;
        Err(ErrorReply::new(Code::Refused, "this robot is not steered over the API"))
    }
    /// A person who steers begins or ends a demonstration. May wait for a few ticks.
    ///
    /// # Errors
    /// As [`command`](Self::command), or nobody steers.
    fn demonstrate(&self, demonstration: Demonstration) -> Result<(), ErrorReply> {
        let _ = demonstration;
        Err(ErrorReply::new(Code::Refused, "this robot is not shown anything over the API"))
    }
    /// How punctual the loop is; returns at once.
    fn jitter(&self) -> Jitter;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_same_after_its_way_through_json() {
        for mode in [Mode::Holding, Mode::Faulted(Fault::Overheat)] {
            let joints = vec![Joint { position_rad: None, ..Joint::default() }];
            let status = Status { mode, joints, distance: Some(0.25), ..Status::default() };
            let text = serde_json::to_string(&status).unwrap();
            assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status, "{text}");
        }
    }

    #[test]
    fn the_mode_and_its_fault_stand_side_by_side() {
        let status = Status { mode: Mode::Faulted(Fault::EmergencyStop), ..Status::default() };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!((&json["mode"], &json["fault"]), (&"faulted".into(), &"emergency_stop".into()));
    }

    #[test]
    fn an_unknown_error_code_of_a_newer_server_is_read() {
        let reply: ErrorReply = serde_json::from_str(r#"{"error": "x", "code": "new"}"#).unwrap();
        assert_eq!(reply.code, Code::Other);
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_what_was_expected() {
        let good = Goal { goal: vec![0.1, -0.2, 0.1], ..Goal::default() };
        assert_eq!(good.check(), Ok(()));
        let infinite = Goal { goal: vec![0.0, f32::INFINITY, 0.0], ..good.clone() };
        let joints = BTreeMap::from([("pan".to_owned(), 0.1)]);
        for (bad, says) in [
            (Goal { goal: vec![f32::NAN, 0.0], ..good.clone() }, "found [NaN, 0.0]"),
            (infinite, "expected numbers from -10 to 10 (m or rad)"),
            (Goal { joints, ..good.clone() }, "found both"),
            (Goal { tolerance: Some(f32::NAN), ..good.clone() }, "tolerance: expected 0.0001"),
            (Goal { timeout_s: Some(-1.0), ..good.clone() }, "(s), found -1"),
        ] {
            let reply = bad.check().unwrap_err();
            assert!(reply.code == Code::BadRequest && reply.error.contains(says), "{reply:?}");
        }
    }
}
