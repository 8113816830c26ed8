//! What each operation does. A command waits for the control loop off the server's thread, one at a
//! time; an emergency stop never waits for another request.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Json;

use super::api::{Code, Command, ErrorReply, Goal, GoalReply, Object, Status};
use super::episodes::{Detail, EpisodeCurves, EpisodePage, Label, Page};
use super::health::Health;
use super::jobs::{JobReport, JobRequest, Jobs};
use super::lease::{Held, LeaseReply, LeaseRequest};
use super::metrics::{self, Metrics};
use super::openapi;
use super::operation::{Body, Done, Id, Query};
use super::queue::{QueueReply, QueueRequest};
use super::shared::{Api, off_thread};
use super::stream::{self, StreamReply};
use super::telemetry::{self, Rate, Telemetry};
use super::websocket::{Upgrade, Upgraded};

/// Messages of telemetry a second, if the client does not say.
const TELEMETRY_HZ: f64 = 20.0;

type Answer<T> = Result<Json<T>, ErrorReply>;

impl Body for Goal {
    const EXAMPLE: &'static str = r#"{"goal": [x, y, z], "tolerance": 0.02, "timeout_s": 3, "anyway": false, "wait": false} or {"joints": {"NAME": rad}}"#;
}

impl Body for Object {
    const EXAMPLE: &'static str = r#"{"position": [x, y, z]}"#;
}

impl Body for QueueRequest {
    const EXAMPLE: &'static str = r#"{"goals": [{"goal": [x, y, z]}, ...]}"#;
}

impl Body for LeaseRequest {
    const EXAMPLE: &'static str = r#"{"holder": "NAME", "seconds": 10, "lease": number or none}"#;
}

pub(super) async fn status(api: Arc<Api>, (): ()) -> Answer<Status> {
    Ok(Json(api.robot().status()))
}

pub(super) async fn estop(api: Arc<Api>, (): ()) -> Answer<Done> {
    api.cancel_queue();
    off_thread(move || api.robot().command(Command::EmergencyStop)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn stop(api: Arc<Api>, (): ()) -> Answer<Done> {
    api.command(Command::Stop).await
}

pub(super) async fn arm(api: Arc<Api>, Query(held): Query<Held>) -> Answer<Done> {
    api.check_lease(held)?;
    api.command(Command::Arm).await
}

pub(super) async fn disarm(api: Arc<Api>, Query(held): Query<Held>) -> Answer<Done> {
    api.check_lease(held)?;
    api.command(Command::Disarm).await
}

pub(super) async fn takeover(api: Arc<Api>, Query(held): Query<Held>) -> Answer<Done> {
    api.check_lease(held)?;
    api.command(Command::TakeOver).await
}

pub(super) async fn letgo(api: Arc<Api>, Query(held): Query<Held>) -> Answer<Done> {
    api.check_lease(held)?;
    api.command(Command::LetGo).await
}

pub(super) async fn object(api: Arc<Api>, Json(object): Json<Object>) -> Answer<Done> {
    api.in_turn(move |robot| robot.object(object)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn reach(
    api: Arc<Api>,
    (Query(held), Json(goal)): (Query<Held>, Json<Goal>),
) -> Answer<GoalReply> {
    goal.check()?;
    api.check_lease(held)?;
    api.cancel_queue();
    let wait = goal.wait;
    let id = api.in_turn(move |robot| robot.reach(&goal, false)).await?;
    if wait { api.wait(id).await.map(Json) } else { Ok(Json(GoalReply { id, result: None })) }
}

pub(super) async fn goal(api: Arc<Api>, Id(id): Id) -> Answer<GoalReply> {
    api.robot().goal(id).map(Json).ok_or_else(|| {
        ErrorReply::new(Code::NotFound, format!("goal {id} was never set, or too long ago"))
    })
}

pub(super) async fn stream(
    api: Arc<Api>,
    (Query(held), upgrade): (Query<Held>, Upgrade<Goal, StreamReply>),
) -> Result<Upgraded, ErrorReply> {
    api.check_lease(held)?;
    let permit = api.socket()?;
    Ok(upgrade.talk(permit, move |socket| stream::talk(api, socket, held)))
}

pub(super) async fn enqueue(
    api: Arc<Api>,
    (Query(held), Json(request)): (Query<Held>, Json<QueueRequest>),
) -> Answer<QueueReply> {
    api.check_lease(held)?;
    let mut queue = api.queue();
    queue.add(request.goals, held)?;
    if !std::mem::replace(&mut queue.served, true) {
        tokio::spawn(api.clone().serve_queue());
    }
    Ok(Json(queue.reply()))
}

pub(super) async fn queue(api: Arc<Api>, (): ()) -> Answer<QueueReply> {
    Ok(Json(api.queue().reply()))
}

pub(super) async fn clear_queue(api: Arc<Api>, Query(held): Query<Held>) -> Answer<QueueReply> {
    api.check_lease(held)?;
    api.cancel_queue();
    Ok(Json(api.queue().reply()))
}

pub(super) async fn take_lease(
    api: Arc<Api>,
    Json(request): Json<LeaseRequest>,
) -> Answer<LeaseReply> {
    let clock = api.clock();
    api.leases().grant(&request, (clock.now(), clock.wall())).map(Json)
}

pub(super) async fn holder(api: Arc<Api>, (): ()) -> Answer<LeaseReply> {
    Ok(Json(api.leases().reply(api.clock().now())))
}

pub(super) async fn release(api: Arc<Api>, Query(held): Query<Held>) -> Answer<Done> {
    api.leases().release(held, api.clock().now())?;
    Ok(Json(Done {}))
}

pub(super) async fn telemetry(
    api: Arc<Api>,
    (Query(Rate { rate }), upgrade): (Query<Rate>, Upgrade<(), Telemetry>),
) -> Result<Upgraded, ErrorReply> {
    let rate = rate.unwrap_or(TELEMETRY_HZ);
    if rate.is_nan() || rate < 0.1 {
        let error = format!("rate: expected 0.1 or more (messages a second), found {rate}");
        return Err(ErrorReply::new(Code::BadRequest, error));
    }
    let permit = api.socket()?;
    let fastest = api.robot().status().rate_hz.max(1.0);
    let period = Duration::try_from_secs_f64(1.0 / rate.min(fastest)).unwrap_or_default();
    Ok(upgrade.talk(permit, move |socket| telemetry::talk(api, socket, period)))
}

pub(super) async fn episodes(api: Arc<Api>, Query(page): Query<Page>) -> Answer<EpisodePage> {
    api.read(move |episodes| episodes.page(page)).await
}

pub(super) async fn episode(
    api: Arc<Api>,
    (Id(id), Query(detail)): (Id, Query<Detail>),
) -> Answer<EpisodeCurves> {
    api.read(move |episodes| episodes.curves(id, detail)).await
}

pub(super) async fn label(api: Arc<Api>, (Id(id), Json(label)): (Id, Json<Label>)) -> Answer<Done> {
    api.read(move |episodes| episodes.label(id, &label).map(|()| Done {})).await
}

pub(super) async fn jobs(api: Arc<Api>, (): ()) -> Answer<Vec<JobReport>> {
    api.jobs(Jobs::newest).await
}

pub(super) async fn job(api: Arc<Api>, Id(id): Id) -> Answer<JobReport> {
    api.jobs(move |jobs| jobs.report(id)).await
}

pub(super) async fn start_job(api: Arc<Api>, Json(request): Json<JobRequest>) -> Answer<JobReport> {
    api.jobs(move |jobs| jobs.start(request).and_then(|id| jobs.report(id))).await
}

pub(super) async fn cancel_job(api: Arc<Api>, Id(id): Id) -> Answer<Done> {
    api.jobs(move |jobs| jobs.cancel(id).map(|()| Done {})).await
}

pub(super) async fn resume_job(api: Arc<Api>, Id(id): Id) -> Answer<Done> {
    api.jobs(move |jobs| jobs.resume(id).map(|()| Done {})).await
}

pub(super) async fn health(api: Arc<Api>, (): ()) -> Result<Health, ErrorReply> {
    Ok(Health::of(&api.robot().status()))
}

pub(super) async fn metrics(api: Arc<Api>, (): ()) -> Result<Metrics, ErrorReply> {
    Ok(metrics::metrics(&api.robot().status(), &api.robot().jitter()))
}

pub(super) async fn openapi(_: Arc<Api>, (): ()) -> Answer<serde_json::Value> {
    Ok(Json(openapi::document()))
}
