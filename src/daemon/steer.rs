//! A person steers from a screen: a pad whose button must be held (a deadman's switch), heard of again
//! and again. Who lets go, or is not heard any more, moves nothing: the arm holds.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use axum::response::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Code, Command, ErrorReply};
use super::body::parse_json;
use super::episodes::Verdict;
use super::geometry::Geometry;
use super::lease::Held;
use super::operation::{Body, Done, Query};
use super::shared::Api;
use super::stream::{Turn, told};
use super::websocket::{Upgrade, Upgraded, receive, send};
use crate::clock::Time;
use crate::episode::Mode;

/// A pad that was not heard of for so long is not held any more.
const HEARTBEAT: Duration = Duration::from_millis(200);
/// The loop is told so often where the arm is to be: more often than its wishes grow old.
const PERIOD: Duration = Duration::from_millis(10);

/// What a person does at the pad: a message of `GET /v1/steer`, sent at least every 100 ms while the
/// button is held. Speeds are shares of the highest, -1 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pad {
    /// The deadman's button is held: nothing moves without it.
    pub held: bool,
    /// The tip along x, y, z of the base; without a geometry, the first three joints.
    pub linear: [f64; 3],
    /// The hand up and down.
    pub pitch: f64,
    /// The hand about its own axis.
    pub roll: f64,
    /// The gripper, to open.
    pub gripper: f64,
}

impl Pad {
    fn check(self) -> Result<Self, ErrorReply> {
        let [x, y, z] = self.linear;
        let shares = [x, y, z, self.pitch, self.roll, self.gripper];
        if shares.iter().all(|share| (-1.0..=1.0).contains(share)) {
            return Ok(self);
        }
        let error = format!("pad: expected shares of the speed from -1 to 1, found {shares:?}");
        Err(ErrorReply::new(Code::BadRequest, error))
    }
}

/// What is done with a demonstration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demonstration {
    /// What the person who steers does from now on is logged.
    Begin,
    /// It ends, and the person says how it went.
    End(Verdict),
}

/// How a demonstration went: the body of `POST /v1/demonstration/end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conclusion {
    /// As the person says.
    pub outcome: Verdict,
}

/// What who steers is told.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum SteerReply {
    /// Whether the pad moves the arm from now on.
    Steering {
        /// It does.
        steering: bool,
    },
    /// It does not, and why; the button is to be let go and pressed again.
    Refused(ErrorReply),
}

/// The deadman's button.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Button {
    #[default]
    Free,
    /// So, as last heard at this time.
    Pressed(Pad, Time),
    /// It may be pressed, but counts for nothing before it was let go.
    Lapsed,
}

impl Button {
    /// Takes a message; whether the button was pressed with it.
    fn hear(&mut self, pad: Pad, now: Time) -> bool {
        let before = *self;
        *self = match before {
            _ if !pad.held => Self::Free,
            Self::Lapsed => Self::Lapsed,
            Self::Free | Self::Pressed(..) => Self::Pressed(pad, now),
        };
        before == Self::Free && pad.held
    }

    /// The pad while it is held; what was not heard of in time has lapsed.
    fn pad(&mut self, now: Time) -> Option<Pad> {
        match *self {
            Self::Pressed(pad, heard) if now.since(heard) <= HEARTBEAT => Some(pad),
            Self::Pressed(..) => {
                *self = Self::Lapsed;
                None
            }
            Self::Free | Self::Lapsed => None,
        }
    }
}

/// One person's place at the arm.
struct Seat {
    api: Arc<Api>,
    held: Held,
    button: Button,
    /// The loop is being asked to let the person steer.
    turn: Option<Turn<Json<Done>>>,
    /// The loop has let them.
    steers: bool,
    /// What the client was told last.
    told: bool,
}

/// Lets a person steer until the client or the server ends it; the arm holds then.
pub(super) async fn talk(api: Arc<Api>, mut socket: WebSocket, held: Held) {
    let mut stopping = api.stopping();
    let mut beat = tokio::time::interval(PERIOD);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let button = Button::Free;
    let mut seat = Seat { api, held, button, turn: None, steers: false, told: false };
    loop {
        let refusal = tokio::select! {
            said = receive(&mut socket) => match said {
                Some(said) => seat.hear(&said).err(),
                None => break,
            },
            done = told(&mut seat.turn) => seat.granted(done).err(),
            _ = beat.tick() => seat.beat().err(),
            _ = stopping.changed() => break,
        };
        if let Some(reply) = seat.reply(refusal)
            && !send(&mut socket, &reply).await
        {
            break;
        }
    }
    seat.leave().await;
}

impl Seat {
    fn hear(&mut self, said: &[u8]) -> Result<(), ErrorReply> {
        let now = self.api.clock().now();
        let pad = parse_json::<Pad>(said, Pad::EXAMPLE).and_then(Pad::check);
        let allowed = self.api.check_lease(self.held);
        let pad = pad.and_then(|pad| allowed.map(|()| pad)).inspect_err(|_| self.lapse())?;
        if self.button.hear(pad, now) {
            // The loop lets nobody steer of whom it has not heard.
            self.beat()?;
            let api = self.api.clone();
            self.turn = Some(Box::pin(async move { api.command(Command::TakeOver).await }));
        }
        Ok(())
    }

    fn granted(&mut self, done: Result<Json<Done>, ErrorReply>) -> Result<(), ErrorReply> {
        self.steers = done.inspect_err(|_| self.lapse()).is_ok();
        Ok(())
    }

    /// Tells the loop where the arm is to be.
    fn beat(&mut self) -> Result<(), ErrorReply> {
        let robot = self.api.robot();
        if self.steers && robot.telemetry().mode != Mode::Teleop {
            self.steers = false;
            self.button = Button::Lapsed;
        }
        let pad = self.button.pad(self.api.clock().now());
        robot.steer(pad.as_ref()).inspect_err(|_| self.button = Button::Lapsed)
    }

    fn lapse(&mut self) {
        self.button = match self.button {
            Button::Free => Button::Free,
            Button::Pressed(..) | Button::Lapsed => Button::Lapsed,
        };
    }

    fn reply(&mut self, refusal: Option<ErrorReply>) -> Option<SteerReply> {
        let steering = self.steers && matches!(self.button, Button::Pressed(..));
        let changed = std::mem::replace(&mut self.told, steering) != steering;
        match refusal {
            Some(refusal) => Some(SteerReply::Refused(refusal)),
            None => changed.then_some(SteerReply::Steering { steering }),
        }
    }

    /// Nobody is there any more: nothing goes on by itself, no policy either.
    async fn leave(mut self) {
        let granted = self.turn.is_some() && told(&mut self.turn).await.is_ok();
        // Where nobody can steer, nobody has to let go.
        let _ = self.api.robot().steer(None);
        if !(self.steers || granted) || self.api.robot().telemetry().mode != Mode::Teleop {
            return;
        }
        for command in [Command::Stop, Command::LetGo] {
            if let Err(e) = self.api.command(command).await {
                log::warn!("who steered has gone, and the arm was not told to hold: {}", e.error);
            }
        }
    }
}

impl Body for Pad {
    const EXAMPLE: &'static str =
        r#"{"held": true, "linear": [0, 0, 1], "pitch": 0, "roll": 0, "gripper": 0}"#;
}

impl Body for Conclusion {
    const EXAMPLE: &'static str = r#"{"outcome": "success" or "failure" or "unknown"}"#;
}

pub(super) async fn steer(
    api: Arc<Api>,
    (Query(held), upgrade): (Query<Held>, Upgrade<Pad, SteerReply>),
) -> Result<Upgraded, ErrorReply> {
    api.check_lease(held)?;
    let (seat, permit) = (api.seat()?, api.socket()?);
    Ok(upgrade.talk(permit, move |socket| async move {
        let _seat = seat;
        talk(api, socket, held).await;
    }))
}

pub(super) async fn demonstrate(
    api: Arc<Api>,
    Query(held): Query<Held>,
) -> Result<Json<Done>, ErrorReply> {
    tell(api, held, Demonstration::Begin).await
}

pub(super) async fn conclude(
    api: Arc<Api>,
    (Query(held), Json(conclusion)): (Query<Held>, Json<Conclusion>),
) -> Result<Json<Done>, ErrorReply> {
    tell(api, held, Demonstration::End(conclusion.outcome)).await
}

async fn tell(
    api: Arc<Api>,
    held: Held,
    demonstration: Demonstration,
) -> Result<Json<Done>, ErrorReply> {
    api.check_lease(held)?;
    api.in_turn(move |robot| robot.demonstrate(demonstration)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn geometry(api: Arc<Api>, (): ()) -> Result<Json<Geometry>, ErrorReply> {
    Ok(Json(api.robot().geometry()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Pad = Pad { held: true, linear: [0.0; 3], pitch: 0.0, roll: 0.0, gripper: 0.0 };
    const FREE: Pad = Pad { held: false, ..HELD };

    fn at(ms: u64) -> Time {
        Time(1_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn a_button_counts_while_it_is_heard_of() {
        let mut button = Button::default();
        assert!(button.hear(HELD, at(0)), "pressed");
        assert!(!button.hear(HELD, at(150)), "held on");
        assert_eq!(button.pad(at(350)), Some(HELD));
        assert_eq!(button.pad(at(351)), None);
    }

    #[test]
    fn who_was_not_heard_of_must_let_go_before_the_arm_moves_again() {
        let mut button = Button::default();
        button.hear(HELD, at(0));
        assert_eq!(button.pad(at(201)), None);
        assert!(!button.hear(HELD, at(210)));
        assert_eq!(button.pad(at(210)), None);
        button.hear(FREE, at(220));
        assert_eq!(button.pad(at(220)), None);
        assert!(button.hear(HELD, at(230)));
        assert_eq!(button.pad(at(230)), Some(HELD));
    }

    #[test]
    fn nobody_moves_faster_than_the_highest_speed() {
        for share in [1.1, -2.0, f64::NAN, f64::INFINITY] {
            let refused = Pad { linear: [0.0, share, 0.0], ..HELD }.check().unwrap_err();
            assert_eq!(refused.code, Code::BadRequest, "{share}");
            assert!(Pad { gripper: share, ..HELD }.check().is_err(), "{share}");
        }
        assert_eq!(HELD.check(), Ok(HELD));
    }
}
