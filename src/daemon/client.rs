//! The client of a running daemon: blocking, one connection a request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::access::handlers::{PageLink, Revocation};
use super::access::{Digest, Key, PairingReply, PairingRequest};
use super::api::{Code, Command, ErrorReply, Goal, GoalReply, Object, Status};
use super::body::{PIECE_LIMIT, PIECE_TIMEOUT};
use super::entrance::Wire;
use super::episodes::{EpisodeCurves, EpisodePage, Label};
use super::jobs::{JobReport, JobRequest};
use super::policies::{Installation, Installed, PolicyReport, Received, Rollback};
use super::queue::{QueueReply, QueueRequest};
use super::remote::{self, KeyFile};
use super::socket::trusted;
use crate::episode::PolicyId;

/// Why the daemon gave no answer, or not the one wished for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no daemon at {socket}: start one with `regoal run`", socket = socket.display())]
    NoDaemon {
        /// The socket asked.
        socket: PathBuf,
    },
    /// Nobody listens elsewhere.
    #[error("cannot reach {at}: {source}; is it started with `regoal run --listen`?")]
    Unreachable {
        /// The address asked.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else has the robot's address, or the robot has a new certificate.
    #[error(
        "{at} shows another certificate than the one it was paired with: nothing was sent to it; \
        if it was set up anew, pair again by `regoal pair --to https://{at}`"
    )]
    Certificate {
        /// The address asked.
        at: String,
    },
    /// Who answered did not know the code.
    #[error("{at} could not prove that it knows the code: somebody else may stand in between")]
    Impostor {
        /// The address asked.
        at: String,
    },
    /// The socket is another user's.
    #[error("no permission to use {socket}: ask as the user who started `regoal run`, or as root",
        socket = socket.display())]
    Permission {
        /// The socket asked.
        socket: PathBuf,
    },
    /// Another user listens.
    #[error("the daemon at {socket} runs as user {uid}, not as yours: nothing was sent to it",
        socket = socket.display())]
    Untrusted {
        /// The socket asked.
        socket: PathBuf,
        /// Who listens.
        uid: u32,
    },
    /// No answer in time.
    #[error("the daemon at {at} did not answer within {after:?}: it is stuck or busy")]
    Timeout {
        /// The socket or address asked.
        at: String,
        /// How long was waited.
        after: Duration,
    },
    /// The daemon answered that it did not do it.
    #[error("{}", .0.error)]
    Refused(ErrorReply),
    /// The connection broke, or what came is not this API.
    #[error("the connection to {at} broke: {reason}; see `regoal status`")]
    Broken {
        /// The socket or address asked.
        at: String,
        /// What happened.
        reason: String,
    },
}

impl ClientError {
    /// Whether the same request may be answered a while later: the robot is out of reach or busy.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(reply) => matches!(reply.code, Code::Busy | Code::TooSlow),
            Self::NoDaemon { .. } | Self::Unreachable { .. } | Self::Timeout { .. } => true,
            Self::Broken { .. } => true,
            _ => false,
        }
    }
}

/// Within this time every request but a waiting one is answered, also by a daemon under load.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The same for requests at which the robot loads a policy.
const LOADING: Duration = Duration::from_secs(60);
/// The length of a policy's pieces (bytes).
const PIECE: usize = PIECE_LIMIT / 2;
/// How often a request is made that may be made again.
const TRIES: u32 = 10;
/// The longest answer read (bytes).
const ANSWER_LIMIT: usize = 1 << 20;

/// Asks one daemon.
#[derive(Clone)]
pub struct Client {
    place: Place,
}

/// Where a daemon is asked.
#[derive(Clone)]
enum Place {
    Socket(PathBuf),
    Elsewhere { address: String, fingerprint: Digest, authorization: String },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(socket) => write!(f, "{}", socket.display()),
            Self::Elsewhere { address, .. } => f.write_str(address),
        }
    }
}

/// Runs one exchange to its end on this thread.
pub(super) fn block_on<T>(
    at: impl std::fmt::Display,
    timeout: Duration,
    exchange: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| ClientError::Broken { at: at.to_string(), reason: e.to_string() })?;
    let answer = runtime
        .block_on(async { tokio::time::timeout(timeout, exchange).await })
        .unwrap_or_else(|_| Err(ClientError::Timeout { at: at.to_string(), after: timeout }));
    // A thread that still tries to connect is not waited for.
    runtime.shutdown_background();
    answer
}

impl Client {
    /// A client of the daemon at `socket`; connects at each request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { place: Place::Socket(socket.into()) }
    }

    /// A client of a robot elsewhere, with the key it gave.
    pub fn with_key(key: &KeyFile) -> Self {
        Self::elsewhere(&key.address, key.fingerprint, format!("Bearer {}", key.key))
    }

    pub(super) fn elsewhere(address: &str, fingerprint: Digest, authorization: String) -> Self {
        Self { place: Place::Elsewhere { address: address.into(), fingerprint, authorization } }
    }

    /// Asks without a body.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        self.request(method, path, None::<&()>, TIMEOUT)
    }

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

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| self.broken(e))?;
        self.send(method, path, (body.unwrap_or_default().into(), "application/json"), timeout)
    }

    /// Asks with a body of some kind.
    fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: (Bytes, &str),
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let exchange = self.exchange(&method, path, body);
        let (status, answer) = block_on(&self.place, timeout, exchange)?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&answer).map_err(|e| self.broken(e));
        }
        let reply = serde_json::from_slice(&answer).unwrap_or_else(|_| ErrorReply {
            error: format!("the daemon answered `{status}`"),
            code: Code::Other,
        });
        Err(ClientError::Refused(reply))
    }

    /// Asks again when the connection broke, as a flooded daemon cuts connections off. What has a
    /// body sets a goal, which is not set twice.
    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: (Bytes, &str),
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let mut left = if body.0.is_empty() { TRIES } else { 1 };
        loop {
            left -= 1;
            match self.exchange_once(method, path, body.clone()).await {
                Err(ClientError::Broken { .. }) if left > 0 => {}
                answer => return answer,
            }
        }
    }

    async fn exchange_once(
        &self,
        method: &Method,
        path: &str,
        (body, kind): (Bytes, &str),
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let (stream, host, authorization): (Box<dyn Wire>, _, _) = match &self.place {
            Place::Socket(socket) => (Box::new(self.connect(socket).await?), "regoal", None),
            Place::Elsewhere { address, fingerprint, authorization } => {
                let stream = remote::connect(address, Some(*fingerprint)).await?;
                (Box::new(stream), address.as_str(), Some(authorization))
            }
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", host)
            .header("content-type", kind);
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Full::new(body)).map_err(|e| self.broken(e))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|e| self.broken(e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
            Ok((status, body.map_err(|e| self.broken(e))?.to_bytes()))
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            // A daemon may answer and close before it has read all: the answer counts.
            _ = connection => answer.await,
        }
    }

    async fn connect(&self, socket: &Path) -> Result<UnixStream, ClientError> {
        let (socket, path) = (|| socket.to_owned(), socket.to_owned());
        // A blocking connect stands in line at a busy daemon; another one would be sent away.
        let connect = move || {
            let stream = std::os::unix::net::UnixStream::connect(path)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        };
        let connected = tokio::task::spawn_blocking(connect).await.map_err(|e| self.broken(e))?;
        let stream =
            connected.and_then(UnixStream::from_std).map_err(|e: io::Error| match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ClientError::NoDaemon { socket: socket() }
                }
                io::ErrorKind::PermissionDenied => ClientError::Permission { socket: socket() },
                _ => self.broken(e),
            })?;
        let uid = stream.peer_cred().map_err(|e| self.broken(e))?.uid();
        let own = rustix::process::geteuid().as_raw();
        // Root may look after everybody's robot.
        if own == 0 || trusted(uid, own) {
            Ok(stream)
        } else {
            Err(ClientError::Untrusted { socket: socket(), uid })
        }
    }

    fn broken(&self, reason: impl std::fmt::Display) -> ClientError {
        ClientError::Broken { at: self.place.to_string(), reason: reason.to_string() }
    }
}
