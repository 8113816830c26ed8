//! Paths to handlers. A command waits for the control loop off the server's thread, one at a time;
//! an emergency stop never waits for another request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use tokio::sync::{Semaphore, watch};

use super::api::{Code, Command, ErrorReply, Goal, GoalReply, Object, Robot, Status};

/// The longest body read (bytes).
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// A request must have come whole within this time of its begin.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a waiting client's goal is looked at: the loop's reports are not fresher.
const POLL: Duration = Duration::from_millis(5);

/// The emergency stop's path.
pub(super) const ESTOP: &str = "/v1/estop";

#[derive(Clone)]
pub(super) struct Api {
    robot: Arc<dyn Robot>,
    /// One permit: the loop takes one command a tick, so a second one waits here, where an
    /// emergency stop passes it.
    turn: Arc<Semaphore>,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// `{}`
type Empty = serde_json::Map<String, serde_json::Value>;
type Answer<T> = Result<Json<T>, ErrorReply>;

pub(super) fn router(robot: Arc<dyn Robot>, stopping: watch::Receiver<bool>) -> Router {
    let command = |command| post(move |State(api): State<Api>| api.command(command));
    Router::new()
        .route("/v1/status", get(|State(api): State<Api>| async move { api.status() }))
        .route("/v1/goal", post(|State(api): State<Api>, request: Request| api.reach(request)))
        .route(
            "/v1/goal/{id}",
            get(|State(api): State<Api>, id: Path<String>| async move { api.goal(&id) }),
        )
        .route("/v1/object", post(|State(api): State<Api>, request: Request| api.object(request)))
        .route("/v1/arm", command(Command::Arm))
        .route("/v1/disarm", command(Command::Disarm))
        .route("/v1/stop", command(Command::Stop))
        .route("/v1/takeover", command(Command::TakeOver))
        .route("/v1/letgo", command(Command::LetGo))
        .route(ESTOP, command(Command::EmergencyStop))
        .fallback(|| async { error(Code::NotFound, "no such path: see `regoal::daemon` for all") })
        .method_not_allowed_fallback(|| async {
            error(Code::WrongMethod, "this path is asked with another method")
        })
        .with_state(Api { robot, turn: Arc::new(Semaphore::new(1)), stopping })
}

impl Api {
    fn status(&self) -> Json<Status> {
        Json(self.robot.status())
    }

    async fn command(self, command: Command) -> Answer<Empty> {
        let robot = self.robot.clone();
        match command {
            Command::EmergencyStop => off_thread(move || robot.command(command)).await?,
            _ => self.in_turn(move || robot.command(command)).await?,
        }
        Ok(Json(Empty::new()))
    }

    async fn object(self, request: Request) -> Answer<Empty> {
        let object: Object = read_json(request, OBJECT_SHAPE).await?;
        let robot = self.robot.clone();
        self.in_turn(move || robot.object(object)).await?;
        Ok(Json(Empty::new()))
    }

    async fn reach(self, request: Request) -> Answer<GoalReply> {
        let goal: Goal = read_json(request, GOAL_SHAPE).await?;
        goal.check()?;
        let (robot, wait) = (self.robot.clone(), goal.wait);
        let id = self.in_turn(move || robot.reach(&goal)).await?;
        if wait { self.wait(id).await } else { Ok(Json(GoalReply { id, result: None })) }
    }

    fn goal(&self, id: &str) -> Answer<GoalReply> {
        let id: u64 = id
            .parse()
            .map_err(|_| error(Code::BadRequest, format!("expected a goal's id, found {id:?}")))?;
        self.robot.goal(id).map(Json).ok_or_else(|| {
            error(Code::NotFound, format!("goal {id} was never set, or too long ago"))
        })
    }

    async fn wait(&self, id: u64) -> Answer<GoalReply> {
        loop {
            match self.robot.goal(id) {
                Some(GoalReply { result: None, .. }) if !self.robot.status().alive => {
                    return Err(error(Code::NoAnswer, "the control loop has ended"));
                }
                Some(GoalReply { result: None, .. }) if *self.stopping.borrow() => {
                    return Err(error(Code::NoAnswer, "the daemon is stopping"));
                }
                Some(GoalReply { result: None, .. }) => tokio::time::sleep(POLL).await,
                Some(reply) => return Ok(Json(reply)),
                None => return Err(error(Code::NotFound, format!("goal {id} is forgotten"))),
            }
        }
    }

    /// Runs what waits for the loop, after those that came before.
    async fn in_turn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = self.turn.clone().acquire_owned().await;
        // The turn ends with the work, not with a client that went away before.
        off_thread(move || {
            let _turn = turn;
            run()
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
) -> Result<T, ErrorReply> {
    tokio::task::spawn_blocking(run)
        .await
        .unwrap_or_else(|_| Err(error(Code::NoAnswer, "the request's thread ended badly")))
}

const GOAL_SHAPE: &str = r#"{"goal": [x, y, z], "tolerance": 0.02, "timeout_s": 3, "anyway": false, "wait": false} or {"joints": {"NAME": rad}}"#;
const OBJECT_SHAPE: &str = r#"{"position": [x, y, z]}"#;

async fn read_json<T: serde::de::DeserializeOwned>(
    request: Request,
    shape: &str,
) -> Result<T, ErrorReply> {
    let read = axum::body::to_bytes(request.into_body(), BODY_LIMIT);
    let bytes = tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .map_err(|_| {
            error(Code::TooSlow, format!("the body did not come within {READ_TIMEOUT:?}"))
        })?
        .map_err(|e| unread(&e))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| error(Code::BadRequest, format!("expected {shape}, found a body with {e}")))
}

fn unread(cause: &axum::Error) -> ErrorReply {
    let mut source = std::error::Error::source(cause);
    while let Some(e) = source {
        if e.is::<http_body_util::LengthLimitError>() {
            return error(Code::TooLong, format!("expected at most {BODY_LIMIT} bytes of body"));
        }
        source = e.source();
    }
    error(Code::BadRequest, format!("the body could not be read: {cause}"))
}

fn error(code: Code, error: impl Into<String>) -> ErrorReply {
    ErrorReply { error: error.into(), code }
}

impl IntoResponse for ErrorReply {
    fn into_response(self) -> Response {
        let status = match self.code {
            Code::BadRequest => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Code::Refused => StatusCode::CONFLICT,
            Code::OutOfReach => StatusCode::UNPROCESSABLE_ENTITY,
            Code::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Code::NoAnswer => StatusCode::SERVICE_UNAVAILABLE,
            Code::Other => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self)).into_response()
    }
}
