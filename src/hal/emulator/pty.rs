//! The emulator on a pseudo terminal, for any program that opens a serial port.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustix::time::Timespec;

use super::{Emulator, memory::lock};
use crate::clock::Clock;

/// How often a terminal that nobody has open is looked at.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Serves an emulator at the path of a pseudo terminal, in the time of a clock, until dropped.
/// Clients come and go; when it is dropped, a client finds its port lost.
#[derive(Debug)]
pub struct PtyServer {
    path: PathBuf,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl PtyServer {
    /// Opens a pseudo terminal and serves it from a thread of its own.
    ///
    /// # Errors
    /// The system gives no pseudo terminal or thread.
    pub fn start(emulator: Arc<Mutex<Emulator>>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname(&master, Vec::new())?.into_bytes();
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        let mut settings = tcgetattr(&master)?;
        settings.make_raw();
        tcsetattr(&master, OptionalActions::Now, &settings)?;
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let server = Server { master, stop: Arc::clone(&stop), emulator, clock };
        let thread = std::thread::Builder::new().name("emulator".into()).spawn(move || {
            // It stands in for hardware, which does not wait for a processor.
            crate::os::become_realtime(crate::os::Priority::Hardware);
            server.run();
        })?;
        Ok(Self { path, stop, thread: Some(thread) })
    }

    /// What to open as a serial port, at any speed.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PtyServer {
    fn drop(&mut self) {
        if rustix::io::write(&self.stop, &1u64.to_ne_bytes()).is_ok()
            && let Some(thread) = self.thread.take()
        {
            // The thread owns the terminal: after the join the path is gone.
            let _ = thread.join();
        }
    }
}

struct Server {
    master: OwnedFd,
    stop: Arc<OwnedFd>,
    emulator: Arc<Mutex<Emulator>>,
    clock: Arc<dyn Clock>,
}

impl Server {
    fn run(self) {
        let mut chunk = [0; 1024];
        let mut answers = Vec::new();
        loop {
            let mut ready =
                [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.master, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                Err(_) => return,
                Ok(_) if !ready[0].revents().is_empty() => return,
                Ok(_) => {}
            }
            match rustix::io::read(&self.master, &mut chunk) {
                Ok(count) => self.serve(chunk.get(..count).unwrap_or_default(), &mut answers),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // Nobody has it open; that is reported at once, for ever, so wait beside it.
                Err(Errno::IO) => {
                    let mut stop = [PollFd::new(&self.stop, PollFlags::IN)];
                    if poll(&mut stop, Some(&IDLE)) == Ok(1) {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Answers what came when the wire would have carried the last answer, in one piece as a USB
    /// adapter does.
    fn serve(&self, bytes: &[u8], answers: &mut Vec<u8>) {
        answers.clear();
        let mut delay = Duration::ZERO;
        let now = self.clock.now();
        let sent = {
            let mut emulator = lock(&self.emulator);
            let sent = now + emulator.wire_time(bytes.len());
            emulator.advance(now);
            emulator.request(bytes, |after, answer| {
                delay = after;
                answers.extend_from_slice(answer);
            });
            sent
        };
        if answers.is_empty() {
            return;
        }
        self.clock.sleep_until(sent + delay);
        let mut rest = answers.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&self.master, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
