//! The client of a running daemon: blocking, one connection a request.

mod calls;

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

use super::access::Digest;
use super::api::{Code, ErrorReply};
use super::entrance::Wire;
use super::remote::{self, KeyFile};
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
