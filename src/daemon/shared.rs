//! What all requests share: the robot, its turn, its queue, its lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::response::Json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::access::Access;
use super::api::{Code, Command, ErrorReply, GoalReply, Robot};
use super::episodes::Episodes;
use super::jobs::{Jobs, JobsError};
use super::lease::{Held, Leases};
use super::operation::Done;
use super::policies::Policies;
use super::queue::Queue;
use super::telemetry::{Sample, Telemetry};
use super::websocket::SOCKETS;
use crate::clock::Clock;

/// How often a waiting client's goal is looked at: the loop's reports are not fresher.
const POLL: Duration = Duration::from_millis(5);

/// What is served.
#[derive(Clone)]
pub struct Service {
    /// The robot.
    pub robot: Arc<dyn Robot>,
    /// The robot's clock.
    pub clock: Arc<dyn Clock>,
    /// Its episodes; none when nothing is logged.
    pub episodes: Option<Episodes>,
    /// Its fine-tunings; none where it has no policy store.
    pub jobs: Option<Arc<Jobs>>,
    /// Its policies; none when it has no store of them.
    pub policies: Option<Arc<dyn Policies>>,
}

/// What handlers share.
pub(super) struct Api {
    service: Service,
    /// Who else than the robot's owner may talk with it; none when nobody may.
    access: Option<Arc<Access>>,
    /// One permit: the loop takes one command a tick, so a second one waits here, where an
    /// emergency stop passes it.
    turn: Arc<Semaphore>,
    /// One permit: one client's episodes are read at a time.
    reading: Arc<Semaphore>,
    /// One permit: one client changes the policies.
    deploying: Arc<Semaphore>,
    /// A permit a WebSocket.
    sockets: Arc<Semaphore>,
    /// One permit: one person steers.
    seat: Arc<Semaphore>,
    leases: Mutex<Leases>,
    queue: Mutex<Queue>,
    sample: Mutex<Sample>,
    /// Becomes true when the server stops.
    stopping: watch::Receiver<bool>,
}

/// A poisoned lock only means that a request ended badly; the values in it are whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Api {
    pub(super) fn new(
        service: Service,
        access: Option<Arc<Access>>,
        stopping: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let permits = |n| Arc::new(Semaphore::new(n));
        Arc::new(Self {
            service,
            access,
            turn: permits(1),
            reading: permits(1),
            deploying: permits(1),
            sockets: permits(SOCKETS),
            seat: permits(1),
            leases: Mutex::default(),
            queue: Mutex::default(),
            sample: Mutex::default(),
            stopping,
        })
    }

    pub(super) fn robot(&self) -> &dyn Robot {
        self.service.robot.as_ref()
    }

    pub(super) fn access(&self) -> Result<Arc<Access>, ErrorReply> {
        self.access.clone().ok_or_else(|| {
            let error = "only its own user reaches this robot, by its socket: start it by \
                         `regoal run --listen ADDR:PORT` or `--page`";
            ErrorReply::new(Code::Refused, error)
        })
    }

    pub(super) fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.clone()
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.service.clock.as_ref()
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    pub(super) fn cancel_queue(&self) {
        self.queue().cancel();
    }

    pub(super) fn check_lease(&self, held: Held) -> Result<(), ErrorReply> {
        self.leases().check(held, self.clock().now())
    }

    pub(super) fn socket(&self) -> Result<OwnedSemaphorePermit, ErrorReply> {
        self.sockets.clone().try_acquire_owned().map_err(|_| {
            ErrorReply::new(Code::Busy, format!("expected at most {SOCKETS} WebSockets at once"))
        })
    }

    pub(super) fn seat(&self) -> Result<OwnedSemaphorePermit, ErrorReply> {
        self.seat.clone().try_acquire_owned().map_err(|_| {
            ErrorReply::new(Code::Busy, "somebody else steers: ask again when they have ended")
        })
    }

    /// The last tick: made anew for the first client that asks after it.
    pub(super) fn sample(&self) -> Arc<Telemetry> {
        let now = self.clock().now();
        let mut sample = lock(&self.sample);
        // A fifth of the shortest period, so that no tick is missed for it.
        let fresh = |taken| now.since(taken) < Duration::from_micros(400);
        if !sample.taken.is_some_and(fresh) {
            let telemetry = Arc::new(self.robot().telemetry());
            *sample = Sample { taken: Some(now), telemetry };
        }
        sample.telemetry.clone()
    }

    /// Whatever an operator commands at once, no goal that waits follows it.
    pub(super) async fn command(&self, command: Command) -> Result<Json<Done>, ErrorReply> {
        self.cancel_queue();
        self.in_turn(move |robot| robot.command(command)).await?;
        Ok(Json(Done {}))
    }

    pub(super) async fn wait(&self, id: u64) -> Result<GoalReply, ErrorReply> {
        let gone = |error: &str| Err(ErrorReply::new(Code::NoAnswer, error));
        loop {
            match self.robot().goal(id) {
                Some(GoalReply { result: None, .. }) if !self.robot().status().alive => {
                    return gone("the control loop has ended");
                }
                Some(GoalReply { result: None, .. }) if *self.stopping.borrow() => {
                    return gone("the daemon is stopping");
                }
                Some(GoalReply { result: None, .. }) => tokio::time::sleep(POLL).await,
                Some(reply) => return Ok(reply),
                None => {
                    return Err(ErrorReply::new(Code::NotFound, format!("goal {id} is forgotten")));
                }
            }
        }
    }

    /// Begins one goal of the queue after the other, until none waits.
    pub(super) async fn serve_queue(self: Arc<Self>) {
        loop {
            let under_way = self.queue().under_way();
            if let Some(id) = under_way {
                match self.robot().goal(id) {
                    Some(GoalReply { result: None, .. }) if self.robot().status().alive => {}
                    Some(GoalReply { result: Some(result), .. }) => self.queue().ended(result),
                    _ => {
                        let gone = ErrorReply::new(Code::NoAnswer, "the control loop has ended");
                        self.queue().begun(Err(gone));
                    }
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            let api = self.clone();
            // What is due is looked up in the turn: a stop that came before has taken it back, one
            // that comes later finds the goal begun.
            let begin = move |robot: &dyn Robot| {
                let Some((goal, held)) = api.queue().due() else { return Ok(false) };
                let begun = api.check_lease(held).and_then(|()| robot.reach(&goal, false));
                api.queue().begun(begun);
                Ok(true)
            };
            if !self.in_turn(begin).await.unwrap_or_default() {
                let mut queue = self.queue();
                if queue.due().is_none() && queue.under_way().is_none() {
                    queue.served = false;
                    return;
                }
            }
        }
    }

    /// Runs what waits for the loop, after those that came before.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn Robot) -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let turn = self.turn.clone().acquire_owned().await;
        let robot = self.service.robot.clone();
        // The turn ends with the work, not with a client that went away before.
        off_thread(move || {
            let _turn = turn;
            run(robot.as_ref())
        })
        .await
    }

    pub(super) fn policies(&self) -> Result<Arc<dyn Policies>, ErrorReply> {
        self.service.policies.clone().ok_or_else(no_store)
    }

    /// Changes the policies, while nobody else does.
    pub(super) async fn deploy<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn Policies) -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<T, ErrorReply> {
        let policies = self.policies()?;
        let deploying = self.deploying.clone().try_acquire_owned().map_err(|_| {
            ErrorReply::new(Code::Busy, "somebody else changes the policies: try again")
        })?;
        off_thread(move || {
            let _deploying = deploying;
            run(policies.as_ref())
        })
        .await
    }

    /// Reads files, after those who came before.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Episodes) -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<Json<T>, ErrorReply> {
        let Some(episodes) = self.service.episodes.clone() else {
            return Err(ErrorReply::new(Code::NotFound, "this robot logs no episodes"));
        };
        self.after_others(move || run(&episodes)).await
    }

    /// Looks after fine-tunings, after those who came before.
    pub(super) async fn jobs<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Jobs) -> Result<T, JobsError> + Send + 'static,
    ) -> Result<Json<T>, ErrorReply> {
        let jobs = self.service.jobs.clone().ok_or_else(no_store)?;
        self.after_others(move || Ok(run(&jobs)?)).await
    }

    async fn after_others<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
    ) -> Result<Json<T>, ErrorReply> {
        let reading = self.reading.clone().acquire_owned().await;
        off_thread(move || {
            let _reading = reading;
            run().map(Json)
        })
        .await
    }
}

fn no_store() -> ErrorReply {
    let error = "this robot has no store of policies: start it by `regoal run --store FOLDER`, or \
                 name one in its configuration: [policy] store = \"policies\"";
    ErrorReply::new(Code::NotFound, error)
}

/// Runs what may wait where it holds up nobody.
pub(super) async fn off_thread<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, ErrorReply> + Send + 'static,
) -> Result<T, ErrorReply> {
    let failed = |_| Err(ErrorReply::new(Code::NoAnswer, "the request's thread ended badly"));
    tokio::task::spawn_blocking(run).await.unwrap_or_else(failed)
}
