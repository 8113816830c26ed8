//! What only the operating system can give, behind safe functions. The one file with `unsafe`.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// The descriptor of a configured serial port, which keeps its settings and its exclusive lock.
pub fn descriptor(port: serialport::TTYPort) -> OwnedFd {
    // SAFETY: `TTYPort::into_raw_fd` hands over an open descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(port.into_raw_fd()) }
}
