//! What a client may ask, one function an operation.

use std::time::Duration;

use hyper::Method;

use super::super::access::handlers::{PageLink, Revocation};
use super::super::access::{Key, PairingReply, PairingRequest};
use super::super::api::{Command, Goal, GoalReply, Object, Status};
use super::super::body::{PIECE_LIMIT, PIECE_TIMEOUT};
use super::super::episodes::{EpisodeCurves, EpisodePage, Label};
use super::super::jobs::{JobReport, JobRequest};
use super::super::policies::{Installation, Installed, PolicyReport, Received, Rollback};
use super::super::queue::{QueueReply, QueueRequest};
use super::{Client, ClientError, TIMEOUT};
use crate::episode::PolicyId;

/// The longest wait for requests at which the robot loads a policy.
const LOADING: Duration = Duration::from_secs(60);
/// The length of a policy's pieces (bytes).
const PIECE: usize = PIECE_LIMIT / 2;

impl Client {
    /// How the robot is.
    ///
    /// # Errors
    /// No daemon, no permission, or no answer within 5 s.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.request(Method::GET, "/v1/status", None::<&()>, TIMEOUT)
    }

    /// Sets a goal; with `wait`, returns when it has ended.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the goal is refused.
    pub fn reach(&self, goal: &Goal) -> Result<GoalReply, ClientError> {
        // The robot's own timeout may be any up to the longest.
        let patience = goal.timeout_s.filter(|s| (0.0..=3600.0).contains(s)).unwrap_or(3600.0);
        let wait = if goal.wait { Duration::from_secs_f64(patience) } else { Duration::ZERO };
        self.request(Method::POST, "/v1/goal", Some(goal), TIMEOUT + wait)
    }

    /// Puts a goal at the end of the queue.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the queue is full.
    pub fn enqueue(&self, goal: &Goal) -> Result<QueueReply, ClientError> {
        let request = QueueRequest { goals: vec![goal.clone()] };
        self.request(Method::POST, "/v1/queue", Some(&request), TIMEOUT)
    }

    /// A goal set before.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the id is not known.
    pub fn goal(&self, id: u64) -> Result<GoalReply, ClientError> {
        self.request(Method::GET, &format!("/v1/goal/{id}"), None::<&()>, TIMEOUT)
    }

    /// Tells the robot where the object is.
    ///
    /// # Errors
    /// As [`status`](Self::status), or goals are not of an object.
    pub fn object(&self, object: Object) -> Result<(), ClientError> {
        let told = self.request(Method::POST, "/v1/object", Some(&object), TIMEOUT);
        told.map(|_: serde_json::Value| ())
    }

    /// Tells the robot what to do; returns when the control loop has taken it over.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the command is refused in this mode.
    pub fn command(&self, command: Command) -> Result<(), ClientError> {
        let path = match command {
            Command::Arm => "/v1/arm",
            Command::Disarm => "/v1/disarm",
            Command::Stop => "/v1/stop",
            Command::EmergencyStop => "/v1/estop",
            Command::TakeOver => "/v1/takeover",
            Command::LetGo => "/v1/letgo",
        };
        self.request::<serde_json::Value>(Method::POST, path, None::<&()>, TIMEOUT).map(drop)
    }

    /// The newest fine-tunings, the newest first; of their progress the last line.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the robot has no policy store.
    pub fn jobs(&self) -> Result<Vec<JobReport>, ClientError> {
        self.ask(Method::GET, "/v1/jobs")
    }

    /// One fine-tuning and its curves.
    ///
    /// # Errors
    /// As [`jobs`](Self::jobs), or there is none of this number.
    pub fn job(&self, id: u64) -> Result<JobReport, ClientError> {
        self.ask(Method::GET, &format!("/v1/jobs/{id}"))
    }

    /// Starts a fine-tuning on the robot's episodes.
    ///
    /// # Errors
    /// As [`jobs`](Self::jobs), or another one is at work.
    pub fn start_job(&self, request: &JobRequest) -> Result<JobReport, ClientError> {
        self.request(Method::POST, "/v1/jobs", Some(request), TIMEOUT)
    }

    /// Ends a fine-tuning; it can be resumed.
    ///
    /// # Errors
    /// As [`job`](Self::job), or it is not at work.
    pub fn cancel_job(&self, id: u64) -> Result<(), ClientError> {
        let done = self.ask(Method::POST, &format!("/v1/jobs/{id}/cancel"));
        done.map(|_: serde_json::Value| ())
    }

    /// Goes on with a fine-tuning that was cancelled, interrupted or failed.
    ///
    /// # Errors
    /// As [`job`](Self::job), or it has come to its end, or another one is at work.
    pub fn resume_job(&self, id: u64) -> Result<(), ClientError> {
        let done = self.ask(Method::POST, &format!("/v1/jobs/{id}/resume"));
        done.map(|_: serde_json::Value| ())
    }

    /// A code by which a new client gets its key.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the name is taken, or the robot is not reached from elsewhere.
    pub fn start_pairing(&self, request: &PairingRequest) -> Result<PairingReply, ClientError> {
        self.request(Method::POST, "/v1/pairing", Some(request), TIMEOUT)
    }

    /// A new link to the page.
    ///
    /// # Errors
    /// As [`status`](Self::status), or no page is served.
    pub fn page_link(&self) -> Result<String, ClientError> {
        self.ask(Method::POST, "/v1/link").map(|PageLink { link }| link)
    }

    /// Who has a key.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn keys(&self) -> Result<Vec<Key>, ClientError> {
        self.ask(Method::GET, "/v1/keys")
    }

    /// Which policies the robot has, and who steers.
    ///
    /// # Errors
    /// As [`status`](Self::status), or it has no store of them.
    pub fn policies(&self) -> Result<PolicyReport, ClientError> {
        self.ask(Method::GET, "/v1/policies")
    }

    /// Back to the policy before, which steers at once.
    ///
    /// # Errors
    /// As [`status`](Self::status), or there is nothing to go back to.
    pub fn roll_back(&self, why: &str) -> Result<PolicyReport, ClientError> {
        let request = Rollback { why: why.into() };
        self.request(Method::POST, "/v1/policies/rollback", Some(&request), LOADING)
    }

    /// So many bytes of a policy have come.
    ///
    /// # Errors
    /// As [`status`](Self::status).
    pub fn received(&self, policy: PolicyId) -> Result<u64, ClientError> {
        let received = self.ask(Method::GET, &format!("/v1/uploads/{policy}"));
        received.map(|Received { received }| received)
    }

    /// Sends the piece of a policy that begins at `offset`, and says from where to go on.
    ///
    /// # Errors
    /// As [`status`](Self::status), or the robot does not take it.
    pub fn upload(&self, policy: PolicyId, file: &[u8], offset: u64) -> Result<u64, ClientError> {
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..));
        let piece: Vec<u8> = rest.unwrap_or_default().iter().copied().take(PIECE).collect();
        let path = format!("/v1/uploads/{policy}?offset={offset}&total={}", file.len());
        let kind = "application/octet-stream";
        let received = self.send(Method::POST, &path, (piece.into(), kind), PIECE_TIMEOUT);
        received.map(|Received { received }| received)
    }

    /// Has the robot check, measure and try a policy that has come.
    ///
    /// # Errors
    /// As [`status`](Self::status), or why the robot does not take it.
    pub fn install(&self, order: &Installation) -> Result<Installed, ClientError> {
        self.request(Method::POST, "/v1/policies", Some(order), LOADING)
    }

    /// The robot's episodes from the `offset`th newest on, at most `count`.
    ///
    /// # Errors
    /// As [`status`](Self::status), or it logs none.
    pub fn episodes(&self, offset: usize, count: usize) -> Result<EpisodePage, ClientError> {
        self.ask(Method::GET, &format!("/v1/episodes?offset={offset}&count={count}"))
    }

    /// One episode, its curves in so many points.
    ///
    /// # Errors
    /// As [`status`](Self::status), or there is none of this number.
    pub fn episode(&self, id: u64, points: usize) -> Result<EpisodeCurves, ClientError> {
        self.ask(Method::GET, &format!("/v1/episodes/{id}?points={points}"))
    }

    /// Says how an episode ended, or what it was for.
    ///
    /// # Errors
    /// As [`status`](Self::status), or there is none of this number.
    pub fn label(&self, id: u64, label: &Label) -> Result<(), ClientError> {
        let path = format!("/v1/episodes/{id}/label");
        let done = self.request(Method::POST, &path, Some(label), TIMEOUT);
        done.map(|_: serde_json::Value| ())
    }

    /// Takes a key back.
    ///
    /// # Errors
    /// As [`status`](Self::status), or nobody has the name.
    pub fn revoke(&self, name: &str) -> Result<(), ClientError> {
        let request = Revocation { name: name.into() };
        let done = self.request(Method::POST, "/v1/keys/revoke", Some(&request), TIMEOUT);
        done.map(|_: serde_json::Value| ())
    }
}
