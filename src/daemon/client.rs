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

use super::api::{Code, Command, ErrorReply, Goal, GoalReply, Object, Status};
use super::socket::trusted;

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
    #[error("the daemon at {socket} did not answer within {after:?}: it is stuck or busy",
        socket = socket.display())]
    Timeout {
        /// The socket asked.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// The daemon answered that it did not do it.
    #[error("{}", .0.error)]
    Refused(ErrorReply),
    /// The connection broke, or what came is not this API.
    #[error("the connection to {socket} broke: {reason}; see `regoal status`", socket = socket.display())]
    Broken {
        /// The socket asked.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Within this time every request but a waiting one is answered, also by a daemon under load.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request is made that may be made again.
const TRIES: u32 = 10;
/// The longest answer read (bytes).
const ANSWER_LIMIT: usize = 1 << 20;

/// Asks the daemon at one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon at `socket`; connects at each request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket asked.
    pub fn socket(&self) -> &Path {
        &self.socket
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

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let body = body.map(serde_json::to_vec).transpose().map_err(|e| self.broken(e))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| self.broken(e))?;
        let exchange = async {
            let exchange = self.exchange(&method, path, body.unwrap_or_default().into());
            tokio::time::timeout(timeout, exchange).await
        };
        let answer = runtime.block_on(exchange).unwrap_or_else(|_| {
            Err(ClientError::Timeout { socket: self.socket.clone(), after: timeout })
        });
        // A thread that still tries to connect is not waited for.
        runtime.shutdown_background();
        let (status, answer) = answer?;
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
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let mut left = if body.is_empty() { TRIES } else { 1 };
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
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "regoal")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
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

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let (socket, path) = (|| self.socket.clone(), self.socket.clone());
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
        ClientError::Broken { socket: self.socket.clone(), reason: reason.to_string() }
    }
}
