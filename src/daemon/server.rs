//! The server: one thread for all that listens.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::entrance::{Entrance, serve_all};
use super::operations::routes;
use super::shared::{Api, Service};
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
    #[error("cannot listen on {place}: {source}")]
    Bind {
        /// The socket, or the address.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a robot is reached from elsewhere than its socket.
pub struct Doors {
    /// Who may.
    pub access: Arc<Access>,
    /// Where clients with a key are served over TLS.
    pub listen: Option<SocketAddr>,
    /// The port of this computer on which the page is served; 0 for any.
    pub page: Option<u16>,
}

/// The API on a Unix socket, and by other doors; dropping it ends running requests and removes the
/// socket.
pub struct Server {
    socket: PathBuf,
    listening: Option<SocketAddr>,
    storage: Arc<dyn Storage>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    _lock: Box<dyn Send>,
}

impl Server {
    /// Serves a robot on `socket`, and by the doors if there are some, from a thread of its own.
    ///
    /// # Errors
    /// Another daemon serves there, something else is there, or the system refuses.
    pub fn start(
        socket: &Path,
        service: Service,
        storage: Arc<dyn Storage>,
        doors: Option<Doors>,
    ) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { place: socket.display().to_string(), source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let Bound { listener, lock } = socket::bind(socket, storage.as_ref())?;
        drop(entered);
        let mut entrances = vec![Entrance::Socket(listener)];
        let mut listening = None;
        let access = doors.as_ref().map(|doors| Arc::clone(&doors.access));
        if let Some(doors) = doors {
            listening = runtime.block_on(open(doors, &mut entrances))?;
        }
        let (stop, stopping) = watch::channel(false);
        let router = routes(Api::new(service, access, stopping.clone()));
        let serve = move || {
            runtime.block_on(serve_all(entrances, router, stopping));
            // A command that still waits for the loop is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("api".into()).spawn(serve).map_err(failed)?;
        let socket = socket.into();
        Ok(Self { socket, listening, storage, stop, thread: Some(thread), _lock: lock })
    }

    /// Where clients with a key are served, if they are.
    pub fn listening(&self) -> Option<SocketAddr> {
        self.listening
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

/// Opens the doors; where clients with a key are served then.
async fn open(
    doors: Doors,
    entrances: &mut Vec<Entrance>,
) -> Result<Option<SocketAddr>, ServerError> {
    let Doors { access, listen, page } = doors;
    let mut listening = None;
    if let Some(address) = listen {
        let (listener, bound) = bind(address).await?;
        let [clients, browsers] = [name_of(bound), number_of(bound)];
        access.listens_at(format!("https://{clients}"), format!("https://{browsers}"));
        listening = Some(bound);
        let acceptor = TlsAcceptor::from(access.tls());
        entrances.push(Entrance::Tls(listener, acceptor, Arc::clone(&access)));
    }
    if let Some(port) = page {
        let (listener, bound) = bind((Ipv4Addr::LOCALHOST, port).into()).await?;
        access.shows_page_at(bound.port());
        entrances.push(Entrance::Page(listener, access));
    }
    Ok(listening)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Bind { place: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The same as a number: tablets often know no name of another computer.
fn number_of(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    // The one that the system would send from; nothing is sent to that address, which is nobody's.
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.connect(("192.0.2.1", 9)).and_then(|()| socket.local_addr()));
    own.map_or_else(|_| name_of(address), |own| format!("{}:{}", own.ip(), address.port()))
}

/// How others call this address: one that stands for all of a computer's goes by its name.
fn name_of(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let name = rustix::system::uname();
    format!("{}:{}", name.nodename().to_string_lossy(), address.port())
}
