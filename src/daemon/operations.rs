//! All operations of the API in one table: the router, the OpenAPI document and the checks of roles
//! come from it.

use std::sync::Arc;

use axum::http::Method;
use axum::{Extension, Router};
use tokio::sync::watch;

use super::access::{Caller, handlers as access};
use super::api::{Code, ErrorReply};
use super::handlers as handle;
use super::operation::{Operation, Role, operation};
use super::page;
use super::policies;
use super::shared::{Api, Service};
use super::steer;

/// The emergency stop's path.
pub(super) const ESTOP: &str = "/v1/estop";

/// Every operation.
#[rustfmt::skip]
pub fn operations() -> Vec<Operation> {
    let get = |name, path| (name, Method::GET, path);
    let post = |name, path| (name, Method::POST, path);
    let delete = |name, path| (name, Method::DELETE, path);
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
        operation(post("takeover", "/v1/takeover"), Role::Goal,
            "A person steers, with the leader or the keyboard of the daemon; a goal stays",
            handle::takeover),
        operation(post("letgo", "/v1/letgo"), Role::Goal,
            "The person lets go: the policy goes on toward the goal", handle::letgo),
        operation(post("reach", "/v1/goal"), Role::Goal,
            "Sets a goal; with `wait`, answers when it has ended", handle::reach),
        operation(get("goal", "/v1/goal/{id}"), Role::Observe,
            "A goal set before, and how it ended", handle::goal),
        operation(get("stream", "/v1/stream"), Role::Goal,
            "A WebSocket: a goal a message, the last one counts, held when none comes any more",
            handle::stream),
        operation(post("enqueue", "/v1/queue"), Role::Goal,
            "Puts goals at the end of the queue, to be reached one after the other", handle::enqueue),
        operation(get("queue", "/v1/queue"), Role::Observe,
            "The queue, and what became of goals in it", handle::queue),
        operation(delete("clear_queue", "/v1/queue"), Role::Goal,
            "Takes back the goals that wait; the one on its way goes on", handle::clear_queue),
        operation(post("lease", "/v1/lease"), Role::Goal,
            "Asks for the arm, or to go on holding it: others' goals are refused meanwhile",
            handle::take_lease),
        operation(get("holder", "/v1/lease"), Role::Observe,
            "Who holds the arm", handle::holder),
        operation(delete("release", "/v1/lease"), Role::Goal,
            "Gives the arm back", handle::release),
        operation(post("object", "/v1/object"), Role::Goal,
            "Tells where the object is that goals are for", handle::object),
        operation(get("geometry", "/v1/geometry"), Role::Observe,
            "The arm as a chain of joints, to draw it", steer::geometry),
        operation(get("steer", "/v1/steer"), Role::Goal,
            "A WebSocket: a person steers with a pad while its button is held; the arm holds when not",
            steer::steer),
        operation(post("demonstrate", "/v1/demonstration"), Role::Goal,
            "What the person who steers does from now on is logged as a demonstration",
            steer::demonstrate),
        operation(post("conclude", "/v1/demonstration/end"), Role::Goal,
            "Ends the demonstration, and says how it went", steer::conclude),
        operation(get("telemetry", "/v1/telemetry"), Role::Observe,
            "A WebSocket: the last tick, again and again", handle::telemetry),
        operation(get("episodes", "/v1/episodes"), Role::Observe,
            "The robot's episodes, the newest first", handle::episodes),
        operation(get("episode", "/v1/episodes/{id}"), Role::Observe,
            "One episode and its curves", handle::episode),
        operation(post("label", "/v1/episodes/{id}/label"), Role::Goal,
            "Says how an episode ended, or what it was for", handle::label),
        operation(get("jobs", "/v1/jobs"), Role::Observe,
            "The newest fine-tunings, the newest first", handle::jobs),
        operation(post("start_job", "/v1/jobs"), Role::Deploy,
            "Starts a fine-tuning on the robot's episodes; what it stages is tried next",
            handle::start_job),
        operation(get("job", "/v1/jobs/{id}"), Role::Observe,
            "One fine-tuning and its curves", handle::job),
        operation(post("cancel_job", "/v1/jobs/{id}/cancel"), Role::Deploy,
            "Ends a fine-tuning; it can be resumed", handle::cancel_job),
        operation(post("resume_job", "/v1/jobs/{id}/resume"), Role::Deploy,
            "Goes on with a fine-tuning that was cancelled, interrupted or failed", handle::resume_job),
        operation(get("caller", "/v1/caller"), Role::Observe,
            "Who you are to the robot, and what you may", access::caller),
        operation(get("policies", "/v1/policies"), Role::Observe,
            "The robot's policies, and who steers", policies::report),
        operation(post("roll_back", "/v1/policies/rollback"), Role::Deploy,
            "Back to the policy before, which steers at once", policies::roll_back),
        operation(get("received", "/v1/uploads/{id}"), Role::Deploy,
            "How much of a policy has come", policies::received),
        operation(post("upload", "/v1/uploads/{id}"), Role::Deploy,
            "The next piece of a policy; answers from which byte on to go on", policies::upload),
        operation(post("install", "/v1/policies"), Role::Deploy,
            "Checks a policy that has come, measures it and tries it at once", policies::install),
        operation(get("keys", "/v1/keys"), Role::Admin,
            "Who has a key, and what it allows", access::keys),
        operation(post("revoke", "/v1/keys/revoke"), Role::Admin,
            "Takes a key back; whoever is connected with it is cut off", access::revoke),
        operation(post("pairing", "/v1/pairing"), Role::Admin,
            "A code by which a new client gets a key, at `POST /v1/pair`", access::pairing),
        operation(post("page_link", "/v1/link"), Role::Admin,
            "A new link to the page", access::link),
        operation(get("health", "/health"), Role::Observe,
            "Whether the robot is fit for work; if not, why", handle::health),
        operation(get("metrics", "/metrics"), Role::Observe,
            "What is counted, for Prometheus", handle::metrics),
        operation(get("openapi", "/v1/openapi.json"), Role::Observe,
            "This document", handle::openapi),
    ]
}

/// The API as a service for the robot's owner: over connections, or in memory.
pub fn router(service: Service, stopping: watch::Receiver<bool>) -> Router {
    routes(Api::new(service, None, stopping)).layer(Extension(Caller::owner()))
}

/// The API for whoever the door says a caller is; nobody may anything without one.
pub(super) fn routes(api: Arc<Api>) -> Router {
    let table = operations().into_iter();
    table
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.route))
        .fallback(|| async {
            ErrorReply::new(Code::NotFound, "no such path: `regoal api` shows all")
        })
        .method_not_allowed_fallback(|| async {
            ErrorReply::new(Code::WrongMethod, "this path is asked with another method")
        })
        .with_state(api)
        .merge(page::router())
}
