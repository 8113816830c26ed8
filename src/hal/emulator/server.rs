//! The emulator behind a descriptor, in real time: a pseudo terminal for any program that opens a
//! serial port, a socket pair for a child process and for tests of timing.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::Timespec;

use super::{Emulator, MemoryPort};
use crate::clock::{Clock, Time};
use crate::hal::fault::{FaultInjector, FaultSpec};
use crate::hal::port::{Port, PortError};

/// How often a terminal that nobody has open, or a port that is unplugged, is looked at.
const IDLE: Duration = Duration::from_millis(5);

/// Serves an emulator at the path of a pseudo terminal until dropped. Clients come and go; when it
/// is dropped, a client finds its port lost. The speed that a client sets is that of the wire.
#[derive(Debug)]
pub struct PtyServer {
    path: Arc<Mutex<PathBuf>>,
    _service: Service,
}

impl PtyServer {
    /// Opens a pseudo terminal and serves it from a thread of its own, with faults if there are any.
    ///
    /// # Errors
    /// The system gives no pseudo terminal or thread.
    pub fn start(
        emulator: Arc<Mutex<Emulator>>,
        faults: &FaultSpec,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (mut master, path) = open_terminal()?;
        let path = Arc::new(Mutex::new(path));
        let published = Arc::clone(&path);
        let line = MemoryPort::new(emulator, Arc::clone(&clock)).with_faults(faults);
        let service = Service::start(line, clock, move |server| {
            while server.run(&master, true) == End::Unplugged {
                // Dropped at once: a client finds its port gone.
                let Some(Ok((next, path))) = server.plugged_in(master) else { return };
                master = next;
                *published.lock().unwrap_or_else(PoisonError::into_inner) = path;
            }
        })?;
        Ok(Self { path, _service: service })
    }

    /// What to open as a serial port. Another one after the port was [lost].
    ///
    /// [lost]: crate::hal::fault::Kind::Lost
    pub fn path(&self) -> PathBuf {
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves an emulator at the other end of a socket pair until dropped or closed.
#[derive(Debug)]
pub struct SocketServer {
    _service: Service,
}

impl SocketServer {
    /// Makes a socket pair and serves one end from a thread; the other end is the client's
    /// ([`SerialPort::from_descriptor`](crate::hal::SerialPort::from_descriptor) takes it).
    ///
    /// # Errors
    /// The system gives no socket pair or thread.
    pub fn start(
        emulator: Arc<Mutex<Emulator>>,
        faults: &FaultSpec,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let ours = OwnedFd::from(ours);
        let line = MemoryPort::new(emulator, Arc::clone(&clock)).with_faults(faults);
        let service = Service::start(line, clock, move |server| {
            server.run(&ours, false);
        })?;
        Ok((Self { _service: service }, theirs.into()))
    }
}

/// A thread that serves until dropped.
#[derive(Debug)]
struct Service {
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    fn start(
        line: FaultInjector<MemoryPort>,
        clock: Arc<dyn Clock>,
        serve: impl FnOnce(&mut Server) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let mut server = Server { stop: Arc::clone(&stop), line, clock };
        let thread = std::thread::Builder::new().name("emulator".into()).spawn(move || {
            // It stands in for hardware, which does not wait for a processor.
            crate::os::become_realtime(crate::os::Priority::Hardware);
            serve(&mut server);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if rustix::io::write(&self.stop, &1u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // The thread owns the descriptor: after the join it is closed.
            let _ = thread.join();
        }
    }
}

/// Why serving a descriptor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Dropped, or the other end closed for good.
    Over,
    /// A fault.
    Unplugged,
}

struct Server {
    stop: Arc<OwnedFd>,
    line: FaultInjector<MemoryPort>,
    clock: Arc<dyn Clock>,
}

impl Server {
    /// Serves a descriptor; a terminal is one that clients may close and open again.
    fn run(&mut self, descriptor: &OwnedFd, terminal: bool) -> End {
        let mut chunk = [0; 1024];
        loop {
            let due = self.due();
            let wait = due.map(|due| timespec(due.since(self.clock.now())));
            let mut ready =
                [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(descriptor, PollFlags::IN)];
            match poll(&mut ready, wait.as_ref()) {
                Err(Errno::INTR) => continue,
                Err(_) => return End::Over,
                Ok(_) => {}
            }
            let [stop, readable] = ready.map(|descriptor| !descriptor.revents().is_empty());
            if stop {
                return End::Over;
            }
            let mut done = Ok(());
            if readable {
                match rustix::io::read(descriptor, &mut chunk) {
                    Ok(0) => return End::Over,
                    Ok(count) => {
                        if terminal {
                            self.take_speed(descriptor);
                        }
                        let bytes = chunk.get(..count).unwrap_or_default();
                        done = self.line.write(bytes, self.clock.now());
                    }
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    // Nobody has it open; that is reported at once, for ever, so wait beside it.
                    Err(Errno::IO) if terminal => {
                        if self.stopped_within_idle() {
                            return End::Over;
                        }
                    }
                    Err(_) => return End::Over,
                }
            }
            if due.is_some_and(|due| due <= self.clock.now()) {
                done = done.and_then(|()| self.deliver(descriptor));
            }
            if matches!(done, Err(PortError::Lost)) {
                return End::Unplugged;
            }
        }
    }

    /// When something is to be handed to the client: what a request is answered with goes in one
    /// piece, as a USB adapter does it, but for what a fault makes come later.
    fn due(&self) -> Option<Time> {
        self.line.inner().last_due().or(self.line.first_due())
    }

    /// The speed that the client has set for the terminal.
    fn take_speed(&mut self, terminal: &OwnedFd) {
        if let Ok(settings) = tcgetattr(terminal) {
            self.line.inner().emulator().set_baud(settings.output_speed());
        }
    }

    fn deliver(&mut self, descriptor: &OwnedFd) -> Result<(), PortError> {
        let mut chunk = [0; 1024];
        loop {
            let count = match self.line.read(&mut chunk, self.clock.now()) {
                Ok(count) => count,
                Err(PortError::TimedOut) => return Ok(()),
                Err(error) => return Err(error),
            };
            let mut rest = chunk.get(..count).unwrap_or_default();
            while !rest.is_empty() {
                match rustix::io::write(descriptor, rest) {
                    Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    // The client is gone; that is seen when it is read from.
                    Err(_) => return Ok(()),
                }
            }
        }
    }

    /// Closes a terminal and opens another when the port is back; `None` when it is stopped first.
    fn plugged_in(&mut self, terminal: OwnedFd) -> Option<io::Result<(OwnedFd, PathBuf)>> {
        drop(terminal);
        while matches!(self.line.purge(), Err(PortError::Lost)) {
            if self.stopped_within_idle() {
                return None;
            }
        }
        Some(open_terminal())
    }

    fn stopped_within_idle(&self) -> bool {
        let mut stop = [PollFd::new(&self.stop, PollFlags::IN)];
        poll(&mut stop, Some(&timespec(IDLE))) == Ok(1)
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// The master of a raw pseudo terminal, and the path of its other end.
fn open_terminal() -> io::Result<(OwnedFd, PathBuf)> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.into_bytes();
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    let mut settings = tcgetattr(&master)?;
    settings.make_raw();
    tcsetattr(&master, OptionalActions::Now, &settings)?;
    Ok((master, path))
}
