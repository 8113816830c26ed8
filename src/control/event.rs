//! Signals between two threads that neither lock nor allocate.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};

pub(super) fn new() -> std::io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)
}

pub(super) fn signal(event: &OwnedFd) {
    // A full counter means that the other side has been signalled already.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Waits for a signal and takes it; false at the deadline.
pub(super) fn wait(event: &OwnedFd, timeout: Option<Duration>) -> bool {
    let timeout = timeout.and_then(|t| rustix::time::Timespec::try_from(t).ok());
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    let ready = rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|n| n > 0);
    if ready {
        let _ = rustix::io::read(event, &mut [0u8; 8]);
    }
    ready
}
