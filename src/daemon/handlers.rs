//! What each operation does. A command waits for the control loop off the server's thread, one at a
//! time; an emergency stop never waits for another request.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Json;
use tokio::sync::{Semaphore, watch};

use super::api::{Code, Command, ErrorReply, Goal, GoalReply, Object, Robot, Status};
use super::openapi;
use super::operation::{Body, Done, Id};

/// How often a waiting client's goal is looked at: the loop's reports are not fresher.
const POLL: Duration = Duration::from_millis(5);

/// What handlers share.
#[derive(Clone)]
pub(super) struct Api {
    robot: Arc<dyn Robot>,
    /// One permit: the loop takes one command a tick, so a second one waits here, where an
    /// emergency stop passes it.
    turn: Arc<Semaphore>,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

type Answer<T> = Result<Json<T>, ErrorReply>;

impl Body for Goal {
    const EXAMPLE: &'static str = r#"{"goal": [x, y, z], "tolerance": 0.02, "timeout_s": 3, "anyway": false, "wait": false} or {"joints": {"NAME": rad}}"#;
}

impl Body for Object {
    const EXAMPLE: &'static str = r#"{"position": [x, y, z]}"#;
}

pub(super) async fn status(api: Api, (): ()) -> Answer<Status> {
    Ok(Json(api.robot.status()))
}

pub(super) async fn estop(api: Api, (): ()) -> Answer<Done> {
    off_thread(move || api.robot.command(Command::EmergencyStop)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn stop(api: Api, (): ()) -> Answer<Done> {
    api.command(Command::Stop).await
}

pub(super) async fn arm(api: Api, (): ()) -> Answer<Done> {
    api.command(Command::Arm).await
}

pub(super) async fn disarm(api: Api, (): ()) -> Answer<Done> {
    api.command(Command::Disarm).await
}

pub(super) async fn object(api: Api, Json(object): Json<Object>) -> Answer<Done> {
    api.in_turn(move |robot| robot.object(object)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn reach(api: Api, Json(goal): Json<Goal>) -> Answer<GoalReply> {
    goal.check()?;
    let wait = goal.wait;
    let id = api.in_turn(move |robot| robot.reach(&goal)).await?;
    if wait { api.wait(id).await } else { Ok(Json(GoalReply { id, result: None })) }
}

pub(super) async fn goal(api: Api, Id(id): Id) -> Answer<GoalReply> {
    api.robot.goal(id).map(Json).ok_or_else(|| {
        ErrorReply::new(Code::NotFound, format!("goal {id} was never set, or too long ago"))
    })
}

pub(super) async fn openapi(_: Api, (): ()) -> Answer<serde_json::Value> {
    Ok(Json(openapi::document()))
}

impl Api {
    pub(super) fn new(robot: Arc<dyn Robot>, stopping: watch::Receiver<bool>) -> Self {
        Self { robot, turn: Arc::new(Semaphore::new(1)), stopping }
    }

    async fn command(&self, command: Command) -> Answer<Done> {
        self.in_turn(move |robot| robot.command(command)).await?;
        Ok(Json(Done {}))
    }

    async fn wait(&self, id: u64) -> Answer<GoalReply> {
        let gone = |error: &str| Err(ErrorReply::new(Code::NoAnswer, error));
        loop {
            match self.robot.goal(id) {
                Some(GoalReply { result: None, .. }) if !self.robot.status().alive => {
                    return gone("the control loop has ended");
                }
                Some(GoalReply { result: None, .. }) if *self.stopping.borrow() => {
                    return gone("the daemon is stopping");
                }
                Some(GoalReply { result: None, .. }) => tokio::time::sleep(POLL).await,
                Some(reply) => return Ok(Json(reply)),
                None => {
                    return Err(ErrorReply::new(Code::NotFound, format!("goal {id} is forgotten")));
                }
            }
        }
    }

    /// Runs what waits for the loop, after those that came before.
    async fn in_turn<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn Robot) -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = self.turn.clone().acquire_owned().await;
        let robot = self.robot.clone();
        // The turn ends with the work, not with a client that went away before.
        off_thread(move || {
            let _turn = turn;
            run(robot.as_ref())
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
) -> Result<T, ErrorReply> {
    let failed = |_| Err(ErrorReply::new(Code::NoAnswer, "the request's thread ended badly"));
    tokio::task::spawn_blocking(run).await.unwrap_or_else(failed)
}
