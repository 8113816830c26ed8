//! Bytes with deadlines: what a servo bus hangs on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::clock::{Clock, SystemClock, Time};
use crate::storage::Storage;

/// Why bytes did not go through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The port does not exist.
    #[error(
        "expected a serial port at `{port}`, found none; ports here: {available}; plug the arm in or set bus.port"
    )]
    NotFound {
        /// The name asked for.
        port: String,
        /// The names there are.
        available: String,
    },
    /// The port may not be opened by this user.
    #[error(
        "no permission to open `{port}`; add the user to its group (`sudo usermod -aG dialout $USER`) and log in again"
    )]
    NoPermission {
        /// The name asked for.
        port: String,
    },
    /// Another program has the port.
    #[error("`{port}` is in use by another program; stop it first")]
    Busy {
        /// The name asked for.
        port: String,
    },
    /// The port cannot be opened or set up as a serial port.
    #[error("cannot set up `{port}` as a serial port of {baud} baud: {reason}")]
    Setup {
        /// The name asked for.
        port: String,
        /// The speed asked for.
        baud: u32,
        /// What the system said.
        reason: String,
    },
    /// The deadline passed first.
    #[error("no byte went through before the deadline")]
    TimedOut,
    /// The port is gone: unplugged, or its other end closed.
    #[error("the port is gone; plug the arm in again and reopen the port")]
    Lost,
    /// Anything else that the system said.
    #[error("the port failed: {0}")]
    Io(#[from] io::Error),
}

/// A bus end that bytes go in and out of. Deadlines are times of the clock that the port lives by.
pub trait Port: Send {
    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// [`PortError::TimedOut`] with a part of them sent, [`PortError::Lost`].
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError>;

    /// Waits for bytes and takes those that are there: at least one unless `buf` is empty.
    ///
    /// # Errors
    /// [`PortError::TimedOut`] when none came, [`PortError::Lost`].
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError>;

    /// Drops what was received and not read; how many bytes that were.
    ///
    /// # Errors
    /// [`PortError::Lost`].
    fn purge(&mut self) -> Result<usize, PortError>;
}

/// A serial port, or any descriptor that reads and writes a byte stream.
///
/// Deadlines are times of [`SystemClock`]. Nothing is allocated after opening.
#[derive(Debug)]
pub struct SerialPort {
    descriptor: OwnedFd,
}

impl SerialPort {
    /// Opens and locks a port: 8 data bits, no parity, 1 stop bit, no flow control, raw.
    ///
    /// # Errors
    /// The port is unknown (the error lists those there are), not permitted, busy, or no serial port.
    pub fn open(port: &str, baud: u32) -> Result<Self, PortError> {
        let tty = serialport::new(port, baud)
            .data_bits(serialport::DataBits::Eight)
            .parity(serialport::Parity::None)
            .stop_bits(serialport::StopBits::One)
            .flow_control(serialport::FlowControl::None)
            .open_native()
            .map_err(|error| open_error(port, baud, &error))?;
        let descriptor = crate::os::descriptor(tty);
        if let Err(error) = crate::os::set_low_latency(&descriptor) {
            // Many drivers have nothing to set; `doctor` looks at what USB adapters do instead.
            log::debug!("{port}: no low latency: {error}");
        }
        Ok(Self::from_descriptor(descriptor)?)
    }

    /// Takes a descriptor that is set up already: inherited, or one end of a socket pair.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// Whether it was unplugged, or its other end closed. Nothing is read.
    pub fn gone(&self) -> bool {
        let mut looked_at = [PollFd::new(&self.descriptor, PollFlags::empty())];
        let _ = poll(&mut looked_at, Some(&rustix::time::Timespec::default()));
        let [descriptor] = looked_at;
        descriptor.revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
    }

    /// Sleeps until the port is ready or gone.
    fn wait(&self, ready: PollFlags, deadline: Time) -> Result<(), PortError> {
        loop {
            let left = deadline.since(SystemClock.now());
            let timeout = rustix::time::Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::new(&self.descriptor, ready)], Some(&timeout)) {
                // Ready, or hung up: the next read or write says which.
                Ok(1..) => return Ok(()),
                Ok(0) if left == Duration::ZERO => return Err(PortError::TimedOut),
                Ok(0) | Err(Errno::INTR) => {}
                Err(error) => return Err(port_error(error)),
            }
        }
    }

    /// Reads what is there; `None` when that is nothing.
    fn try_read(&self, buf: &mut [u8]) -> Result<Option<usize>, PortError> {
        match rustix::io::read(&self.descriptor, buf) {
            Ok(0) => Err(PortError::Lost),
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(port_error(error)),
        }
    }
}

impl AsFd for SerialPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Port for SerialPort {
    fn write(&mut self, mut bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.descriptor, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(port_error(error)),
            }
        }
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.try_read(buf)? {
                return Ok(count);
            }
            self.wait(PollFlags::IN, deadline)?;
        }
    }

    fn purge(&mut self) -> Result<usize, PortError> {
        let mut sink = [0; 256];
        let mut purged = 0;
        // A line that babbles without end must not hold the caller.
        while purged < 1 << 16 {
            match self.try_read(&mut sink)? {
                Some(count) => purged += count,
                None => break,
            }
        }
        Ok(purged)
    }
}

fn port_error(error: Errno) -> PortError {
    match error {
        Errno::IO | Errno::NXIO | Errno::NODEV | Errno::PIPE | Errno::CONNRESET | Errno::BADF => {
            PortError::Lost
        }
        error => PortError::Io(error.into()),
    }
}

fn open_error(port: &str, baud: u32, error: &serialport::Error) -> PortError {
    use io::ErrorKind::{NotFound, PermissionDenied, WouldBlock};
    use serialport::ErrorKind;
    let port = port.to_owned();
    match error.kind {
        ErrorKind::Io(NotFound) => PortError::NotFound { port, available: available() },
        ErrorKind::Io(PermissionDenied) => PortError::NoPermission { port },
        ErrorKind::NoDevice | ErrorKind::Io(WouldBlock) => PortError::Busy { port },
        _ => PortError::Setup { port, baud, reason: error.description.clone() },
    }
}

/// How long the USB adapter of a serial port gathers bytes before it hands them on, where its driver
/// says so: 16 ms on an FTDI adapter unless it was set to 1. `None`: it does not gather (CDC-ACM),
/// or is no USB adapter.
pub fn usb_latency(storage: &dyn Storage, port: &str) -> Option<Duration> {
    let text = storage.read(&latency_timer(port)?).ok()?;
    let ms = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
    Some(Duration::from_millis(ms))
}

/// Where the driver of a port keeps that: a number of ms, which root may write.
pub fn latency_timer(port: &str) -> Option<PathBuf> {
    // Names such as /dev/serial/by-id/... are links.
    let link = rustix::fs::readlink(port, Vec::new()).ok();
    let target = link.and_then(|target| target.into_string().ok());
    let name = Path::new(target.as_deref().unwrap_or(port)).file_name()?;
    Some(Path::new("/sys/class/tty").join(name).join("device/latency_timer"))
}

/// The names of the serial ports of this computer, joined.
fn available() -> String {
    let ports = serialport::available_ports().unwrap_or_default();
    let names: Vec<String> = ports.into_iter().map(|port| port.port_name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (SerialPort, SerialPort) {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        (
            SerialPort::from_descriptor(a.into()).unwrap(),
            SerialPort::from_descriptor(b.into()).unwrap(),
        )
    }

    fn soon() -> Time {
        SystemClock.now() + Duration::from_millis(500)
    }

    #[test]
    fn a_read_waits_for_its_deadline_and_no_less() {
        let (mut port, _other) = pair();
        let deadline = SystemClock.now() + Duration::from_millis(3);
        assert!(matches!(port.read(&mut [0; 8], deadline), Err(PortError::TimedOut)));
        assert!(SystemClock.now() >= deadline);
    }

    #[test]
    fn a_purge_drops_all_that_came_and_counts_it() {
        let (mut port, mut other) = pair();
        other.write(&[1; 700], soon()).unwrap();
        assert_eq!(port.purge().unwrap(), 700);
        other.write(&[2, 3], soon()).unwrap();
        let mut buf = [0; 8];
        assert_eq!(port.read(&mut buf, soon()).unwrap(), 2);
        assert_eq!(buf[..2], [2, 3]);
    }

    #[test]
    fn a_full_line_times_out_and_a_closed_one_is_lost() {
        let (mut port, other) = pair();
        let deadline = SystemClock.now() + Duration::from_millis(3);
        assert!(matches!(port.write(&vec![0; 1 << 22], deadline), Err(PortError::TimedOut)));
        assert!(!port.gone());
        drop(other);
        assert!(port.gone());
        assert!(matches!(port.write(&[0], soon()), Err(PortError::Lost)));
        assert!(matches!(port.read(&mut [0; 8], soon()), Err(PortError::Lost)));
        assert!(matches!(port.purge(), Err(PortError::Lost)));
    }

    #[test]
    fn an_unknown_port_is_named_with_those_there_are() {
        let error = SerialPort::open("/dev/ttyNONE", 1_000_000).unwrap_err();
        assert!(matches!(error, PortError::NotFound { .. }), "{error:?}");
        assert!(
            error.to_string().contains("/dev/ttyNONE") && error.to_string().contains("ports here:")
        );
    }

    #[test]
    fn the_latency_of_a_usb_adapter_is_found_by_the_name_of_its_port_or_a_link_to_it() {
        let storage = crate::storage::Memory::default();
        let timer = Path::new("/sys/class/tty/ttyUSB7/device/latency_timer");
        storage.create_folder(timer.parent().unwrap()).unwrap();
        storage.replace(timer, b"16\n").unwrap();
        assert_eq!(usb_latency(&storage, "/dev/ttyUSB7"), Some(Duration::from_millis(16)));
        assert_eq!(usb_latency(&storage, "/dev/ttyACM0"), None);
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("usb-FTDI-if00");
        std::os::unix::fs::symlink("../../ttyUSB7", &link).unwrap();
        let found = usb_latency(&storage, link.to_str().unwrap());
        assert_eq!(found, Some(Duration::from_millis(16)));
    }

    #[test]
    fn a_port_that_has_no_latency_to_set_says_so_and_serves_all_the_same() {
        let (port, _other) = pair();
        assert!(crate::os::set_low_latency(&port.descriptor).is_err());
    }

    #[test]
    fn a_file_that_is_no_serial_port_is_refused() {
        let error = SerialPort::open("/dev/null", 1_000_000).unwrap_err();
        assert!(matches!(error, PortError::Setup { .. }), "{error:?}");
    }
}
