//! Goals that move: one a message, the last one counts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::WebSocket;
use schemars::JsonSchema;
use serde::Serialize;

use super::api::{Code, ErrorReply, Goal, GoalReply};
use super::body::parse_json;
use super::lease::Held;
use super::operation::Body as _;
use super::shared::Api;
use super::websocket::{receive, send};

/// How often it is looked at whether the goal has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a stream of goals is answered.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum StreamReply {
    /// The goal has begun, or ended: then nothing more comes.
    Goal(GoalReply),
    /// A message was not taken over, and why; the goal before it stays.
    Refused(ErrorReply),
}

/// The loop is being told something.
pub(super) type Turn<T> = Pin<Box<dyn Future<Output = Result<T, ErrorReply>> + Send>>;

/// A goal that moves with each message of a client.
struct Stream {
    api: Arc<Api>,
    held: Held,
    /// The goal's id once it has begun.
    id: Option<u64>,
    sequence: u64,
    /// The newest goal that the loop was not told yet; older ones are of no use.
    newest: Option<Goal>,
    /// The loop is being told of one.
    turn: Option<Turn<u64>>,
}

/// Takes goals until the client, the goal or the server ends it. When nothing comes any more the loop
/// itself gives the goal up and holds.
pub(super) async fn talk(api: Arc<Api>, mut socket: WebSocket, held: Held) {
    let mut stopping = api.stopping();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stream = Stream { api, held, id: None, sequence: 0, newest: None, turn: None };
    loop {
        let reply = tokio::select! {
            said = receive(&mut socket) => match said {
                Some(said) => stream.hear(&said),
                None => return,
            },
            done = told(&mut stream.turn) => stream.told(done),
            _ = look.tick() => stream.ended(),
            _ = stopping.changed() => return,
        };
        stream.tell();
        if let Some(reply) = reply {
            let last = matches!(reply, StreamReply::Goal(GoalReply { result: Some(_), .. }));
            if !send(&mut socket, &reply).await || last {
                return;
            }
        }
    }
}

/// Waits for the loop if it is being told something, else for ever.
pub(super) async fn told<T>(turn: &mut Option<Turn<T>>) -> Result<T, ErrorReply> {
    match turn {
        Some(telling) => {
            let done = telling.await;
            *turn = None;
            done
        }
        None => std::future::pending().await,
    }
}

impl Stream {
    fn hear(&mut self, said: &[u8]) -> Option<StreamReply> {
        let goal = parse_json::<Goal>(said, Goal::EXAMPLE);
        match goal.and_then(|goal| goal.check().map(|()| goal)) {
            Ok(goal) => {
                self.newest = Some(goal);
                None
            }
            Err(refusal) => Some(StreamReply::Refused(refusal)),
        }
    }

    /// Tells the loop of the newest goal, unless it is still being told of the one before.
    fn tell(&mut self) {
        if self.turn.is_some() {
            return;
        }
        let Some(goal) = self.newest.take() else { return };
        self.sequence += 1;
        let (api, held, id, sequence) = (self.api.clone(), self.held, self.id, self.sequence);
        self.turn = Some(Box::pin(async move {
            api.check_lease(held)?;
            match id {
                Some(id) => {
                    api.in_turn(move |robot| robot.follow(id, sequence, &goal)).await?;
                    Ok(id)
                }
                None => {
                    api.cancel_queue();
                    api.in_turn(move |robot| robot.reach(&goal, true)).await
                }
            }
        }));
    }

    fn told(&mut self, done: Result<u64, ErrorReply>) -> Option<StreamReply> {
        match done {
            Ok(id) if self.id.is_none() => {
                self.id = Some(id);
                Some(StreamReply::Goal(GoalReply { id, result: None }))
            }
            Ok(_) => None,
            // That its goal has ended is told with how.
            Err(ErrorReply { code: Code::Refused, .. }) if self.ended_now().is_some() => None,
            Err(refusal) => Some(StreamReply::Refused(refusal)),
        }
    }

    fn ended(&self) -> Option<StreamReply> {
        self.ended_now().map(StreamReply::Goal)
    }

    fn ended_now(&self) -> Option<GoalReply> {
        self.api.robot().goal(self.id?).filter(|reply| reply.result.is_some())
    }
}
