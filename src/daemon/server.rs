//! The server: one thread, a bounded number of connections, the newest always heard.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::body::READ_TIMEOUT;
use super::operations::{ESTOP, router};
use super::shared::Service;
use super::socket::{self, Bound};
use crate::storage::Storage;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A living daemon has the socket.
    #[error("another `regoal run` is serving {socket}: stop it, or give this one its own `--socket`",
        socket = socket.display())]
    Served {
        /// The socket.
        socket: PathBuf,
    },
    /// Something else is where the socket shall be.
    #[error("{socket} is there and is not a socket: remove it or give another `--socket`",
        socket = socket.display())]
    NotASocket {
        /// The path.
        socket: PathBuf,
    },
    /// Other users could put their own socket in its place.
    #[error("expected {folder} to belong to you and to be writable by nobody else, found owner \
        {owner} and mode {mode:o}: remove it or give another `--socket`", folder = folder.display())]
    Folder {
        /// The socket's folder.
        folder: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot listen on {socket}: {source}", socket = socket.display())]
    Bind {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The most connections open at once.
const CONNECTIONS: usize = 64;
/// Running requests get this long when the server stops.
const GRACE: Duration = Duration::from_millis(500);
/// After a refused accept (no descriptors left, say), so that the thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The API on a Unix socket; dropping it ends running requests and removes the socket.
pub struct Server {
    socket: PathBuf,
    storage: Arc<dyn Storage>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    _lock: Box<dyn Send>,
}

impl Server {
    /// Serves a robot on `socket` from a thread of its own.
    ///
    /// # Errors
    /// Another daemon serves there, something else is there, or the system refuses.
    pub fn start(
        socket: &Path,
        service: Service,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { socket: socket.into(), source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let Bound { listener, lock } = socket::bind(socket, storage.as_ref())?;
        drop(entered);
        let (stop, stopping) = watch::channel(false);
        let router = router(service, stopping.clone());
        let serve = move || {
            runtime.block_on(serve(listener, router, stopping));
            // A command that still waits for the loop is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("api".into()).spawn(serve).map_err(failed)?;
        Ok(Self { socket: socket.into(), storage, stop, thread: Some(thread), _lock: lock })
    }

    /// Where the server listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the API's thread panicked");
        }
        if let Err(e) = self.storage.remove(&self.socket) {
            log::warn!("cannot remove {}: {e}", self.socket.display());
        }
    }
}

/// What a connection is doing; when there are too many, the lowest and oldest is cut off.
const IDLE: u8 = 0;
const BUSY: u8 = 1;
const STOPPING_THE_ARM: u8 = 2;

struct Open {
    task: AbortHandle,
    doing: Arc<AtomicU8>,
}

async fn serve(listener: UnixListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::with_capacity(CONNECTIONS);
    let own = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) if allowed(&stream, own) => stream,
            Ok(_) => continue,
            Err(e) => {
                log::warn!("the API cannot accept a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|o| !o.task.is_finished());
        make_room(&mut open);
        let doing = Arc::new(AtomicU8::new(IDLE));
        let task = tasks.spawn(converse(stream, router.clone(), doing.clone(), stopping.clone()));
        open.push(Open { task, doing });
        // The new connection's request, if it is there, is read before the next connection comes.
        tokio::task::yield_now().await;
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Serves one connection over whatever carries its bytes.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    converse(stream, router, Arc::default(), stopping).await;
}

fn allowed(stream: &UnixStream, own: u32) -> bool {
    let allowed = stream.peer_cred().is_ok_and(|peer| socket::trusted(peer.uid(), own));
    if !allowed {
        log::warn!("the API refused a connection of another user");
    }
    allowed
}

fn make_room(open: &mut Vec<Open>) {
    if open.len() < CONNECTIONS {
        return;
    }
    // `min_by_key` takes the first, which is the oldest, of equals.
    let rank = |(_, o): &(usize, &Open)| o.doing.load(Ordering::Relaxed);
    if let Some((least, _)) = open.iter().enumerate().min_by_key(rank) {
        open.remove(least).task.abort();
    }
}

/// Serves one connection until it ends or becomes a WebSocket.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    doing: Arc<AtomicU8>,
    mut stopping: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let stops = request.uri().path() == ESTOP;
        doing.store(if stops { STOPPING_THE_ARM } else { BUSY }, Ordering::Relaxed);
        let (doing, response) = (doing.clone(), router.call(request));
        async move {
            let response = response.await;
            doing.store(IDLE, Ordering::Relaxed);
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        log::debug!("a connection to the API ended: {e}");
    }
}
