//! Where connections come in: a bounded number by each entrance, the newest always heard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::access::{Access, Door};
use super::body::READ_TIMEOUT;
use super::operations::ESTOP;
use super::socket;

/// The most connections open at once by one entrance.
const CONNECTIONS: usize = 64;
/// Running requests get this long when the server stops.
const GRACE: Duration = Duration::from_millis(500);
/// After a refused accept (no descriptors left, say), so that the thread does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A place where connections come in. None takes the connections of another.
pub(super) enum Entrance {
    /// For the daemon's user and root.
    Socket(UnixListener),
    /// For clients with a key.
    Tls(TcpListener, TlsAcceptor, Arc<Access>),
    /// For browsers on this computer.
    Page(TcpListener, Arc<Access>),
}

/// What came in.
enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A connection's bytes, whatever carries them.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl Entrance {
    async fn accept(&self) -> io::Result<Raw> {
        match self {
            Self::Socket(listener) => Ok(Raw::Unix(listener.accept().await?.0)),
            Self::Tls(listener, ..) | Self::Page(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Raw::Tcp(stream))
            }
        }
    }

    fn door(&self) -> Door {
        match self {
            Self::Socket(_) => Door::Socket,
            Self::Tls(_, _, access) => Door::Tls(Arc::clone(access)),
            Self::Page(_, access) => Door::Page(Arc::clone(access)),
        }
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        match self {
            Self::Tls(_, acceptor, _) => Some(acceptor.clone()),
            _ => None,
        }
    }
}

/// The connection once it may carry requests; none for another user's, or one that speaks no TLS.
async fn greet(raw: Raw, acceptor: Option<TlsAcceptor>) -> Option<Box<dyn Wire>> {
    match (raw, acceptor) {
        (Raw::Unix(stream), _) => Some(Box::new(stream)),
        (Raw::Tcp(stream), None) => Some(Box::new(stream)),
        (Raw::Tcp(stream), Some(acceptor)) => {
            match tokio::time::timeout(READ_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Some(Box::new(stream)),
                Ok(Err(e)) => {
                    log::debug!("a connection was refused: {e}");
                    None
                }
                Err(_) => None,
            }
        }
    }
}

/// Serves all entrances until the server stops.
pub(super) async fn serve_all(
    entrances: Vec<Entrance>,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    for entrance in entrances {
        tasks.spawn(serve(entrance, router.clone(), stopping.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if let Err(e) = ended {
            log::error!("a part of the API ended: {e}");
        }
    }
}

/// What a connection is doing; when there are too many, the lowest and oldest is cut off.
const UNKNOWN: u8 = 0;
const IDLE: u8 = 1;
const BUSY: u8 = 2;
const STOPPING_THE_ARM: u8 = 3;

struct Open {
    task: AbortHandle,
    doing: Arc<AtomicU8>,
}

async fn serve(entrance: Entrance, router: Router, mut stopping: watch::Receiver<bool>) {
    let mut tasks = JoinSet::new();
    let mut open: Vec<Open> = Vec::with_capacity(CONNECTIONS);
    let own = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = entrance.accept() => accepted,
            _ = stopping.changed() => break,
        };
        let raw = match accepted {
            Ok(Raw::Unix(stream)) if !allowed(&stream, own) => continue,
            Ok(raw) => raw,
            Err(e) => {
                log::warn!("the API cannot accept a connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        open.retain(|o| !o.task.is_finished());
        make_room(&mut open);
        let door = entrance.door();
        let begin = if door.knows_its_peer() { IDLE } else { UNKNOWN };
        let doing = Arc::new(AtomicU8::new(begin));
        let talk = Talk { router: router.clone(), door, doing: doing.clone() };
        let (acceptor, stopping) = (entrance.acceptor(), stopping.clone());
        let task = tasks.spawn(async move {
            if let Some(wire) = greet(raw, acceptor).await {
                talk.converse(wire, stopping).await;
            }
        });
        open.push(Open { task, doing });
        // The new connection's request, if it is there, is read before the next connection comes.
        tokio::task::yield_now().await;
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all).await;
}

/// Serves one connection of the robot's owner over whatever carries its bytes.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stopping: watch::Receiver<bool>,
) {
    let talk = Talk { router, door: Door::Socket, doing: Arc::default() };
    talk.converse(stream, stopping).await;
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

/// One connection.
struct Talk {
    router: Router,
    door: Door,
    doing: Arc<AtomicU8>,
}

impl Talk {
    /// Serves the connection until it ends or becomes a WebSocket.
    async fn converse(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        mut stopping: watch::Receiver<bool>,
    ) {
        let Self { router, door, doing } = self;
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let (router, door, doing) = (router.clone(), door.clone(), doing.clone());
            async move {
                let caller = match door.admit(&request).await {
                    Ok(caller) => caller,
                    Err(answer) => return Ok(*answer),
                };
                request.extensions_mut().insert(caller);
                let stops = request.uri().path() == ESTOP;
                doing.store(if stops { STOPPING_THE_ARM } else { BUSY }, Ordering::Relaxed);
                let response = router.call(request).await;
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
}
