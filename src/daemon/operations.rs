//! All operations of the API in one table: the router, the OpenAPI document and the checks of roles
//! come from it.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use tokio::sync::watch;

use super::api::{Code, ErrorReply, Robot};
use super::handlers::{self as handle, Api};
use super::operation::{Operation, Role, operation};

/// The emergency stop's path.
pub(super) const ESTOP: &str = "/v1/estop";

/// Every operation.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    let get = |name, path| (name, Method::GET, path);
    let post = |name, path| (name, Method::POST, path);
    vec![
        operation(get("status", "/v1/status"), Role::Observe,
            "How the robot is", handle::status),
        operation(post("estop", ESTOP), Role::Observe,
            "Stops the arm at once and latches; passes every queue", handle::estop),
        operation(post("stop", "/v1/stop"), Role::Goal,
            "Gives up the goal and holds", handle::stop),
        operation(post("arm", "/v1/arm"), Role::Goal,
            "Torque on and hold; clears a fault", handle::arm),
        operation(post("disarm", "/v1/disarm"), Role::Goal,
            "Torque off", handle::disarm),
        operation(post("reach", "/v1/goal"), Role::Goal,
            "Sets a goal; with `wait`, answers when it has ended", handle::reach),
        operation(get("goal", "/v1/goal/{id}"), Role::Observe,
            "A goal set before, and how it ended", handle::goal),
        operation(post("object", "/v1/object"), Role::Goal,
            "Tells where the object is that goals are for", handle::object),
        operation(get("openapi", "/v1/openapi.json"), Role::Observe,
            "This document", handle::openapi),
    ]
}

/// The API as a service: over connections, or in memory.
pub fn router(robot: Arc<dyn Robot>, stopping: watch::Receiver<bool>) -> Router {
    let table = operations().into_iter();
    table
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.route))
        .fallback(|| async {
            ErrorReply::new(Code::NotFound, "no such path: `regoal api` shows all")
        })
        .method_not_allowed_fallback(|| async {
            ErrorReply::new(Code::WrongMethod, "this path is asked with another method")
        })
        .with_state(Api::new(robot, stopping))
}
