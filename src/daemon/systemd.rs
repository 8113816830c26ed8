//! What a service tells systemd: the notify protocol, datagrams of `NAME=value` to a socket whose
//! address stands in the environment (`sd_notify(3)`), and lines for its journal (`sd-daemon(3)`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::clock::Time;

/// What systemd tells a service in its environment, and is meant for its main process only.
pub const VARIABLES: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// The watchdog hears of us so often within its time, so that one message that is late is not missed.
const FEEDS: u32 = 4;

/// The service manager, if one has started this process. Telling it something never waits.
#[derive(Debug, Default)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Between two messages for the watchdog, if there is one.
    pause: Option<Duration>,
    fed: Option<Time>,
    told: BTreeMap<&'static str, String>,
}

impl Systemd {
    /// The one that the environment names; without one, what it is told goes nowhere.
    pub fn of_the_environment() -> Self {
        Self::named(|name| std::env::var_os(name))
    }

    fn named(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let pause = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        let socket = variable("NOTIFY_SOCKET").and_then(|address| connect(&address));
        Self { socket, pause: pause.map(|time| time / FEEDS), ..Self::default() }
    }

    /// The service is up.
    pub fn ready(&mut self) {
        self.tell("READY", "1");
    }

    /// The service ends.
    pub fn stopping(&mut self) {
        self.tell("STOPPING", "1");
    }

    /// How it is, in one line, as `systemctl status` shows it.
    pub fn status(&mut self, text: &str) {
        self.tell("STATUS", text);
    }

    /// All is well: feeds the watchdog when it is time to.
    pub fn alive(&mut self, now: Time) {
        let due = |pause| self.fed.is_none_or(|fed| now.since(fed) >= pause);
        if self.pause.is_some_and(due) && self.send("WATCHDOG=1") {
            self.fed = Some(now);
        }
    }

    /// Tells what it has not been told yet.
    fn tell(&mut self, name: &'static str, value: &str) {
        let new = self.told.get(name).is_none_or(|told| told != value);
        if new && self.send(&format!("{name}={value}")) {
            self.told.insert(name, value.to_owned());
        }
    }

    fn send(&self, message: &str) -> bool {
        let sent = |(socket, to): &(UnixDatagram, SocketAddr)| {
            socket.send_to_addr(message.as_bytes(), to).is_ok()
        };
        self.socket.as_ref().is_some_and(sent)
    }
}

/// A path, or after an `@` a name that stands in no file system.
fn connect(address: &OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let to = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(address),
    };
    let socket = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        Ok((socket, to?))
    });
    socket.inspect_err(|e| log::warn!("systemd cannot be told how it is: {e}")).ok()
}

/// Whether what this process writes to stderr goes to systemd's journal, which knows the time itself.
pub fn writes_to_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    named == *format!("{}:{}", stderr.st_dev, stderr.st_ino)
}

/// Lines as the journal takes them: each with the priority of syslog in front.
pub fn journal_lines(level: log::Level, text: &str) -> String {
    let priority = match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    };
    text.lines().map(|line| format!("<{priority}>{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> Vec<String> {
        socket.set_nonblocking(true).unwrap();
        let next = || {
            let mut buffer = [0; 256];
            let size = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8(buffer[..size].into()).unwrap())
        };
        std::iter::from_fn(next).collect()
    }

    fn environment(of: &[(&str, &str)]) -> Systemd {
        let of: BTreeMap<_, _> = of.iter().copied().collect();
        Systemd::named(|name| of.get(name).map(OsString::from))
    }

    #[test]
    fn each_thing_is_told_once_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("regoal-test-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}"),
            ),
        ];
        for (socket, address) in sockets {
            let mut systemd = environment(&[("NOTIFY_SOCKET", &address)]);
            for _ in 0..2 {
                systemd.ready();
                systemd.status("holding");
                systemd.alive(Time::ZERO);
            }
            systemd.status("disarmed");
            systemd.stopping();
            let expected = ["READY=1", "STATUS=holding", "STATUS=disarmed", "STOPPING=1"];
            assert_eq!(read(&socket), expected, "{address}");
        }
    }

    #[test]
    fn the_watchdog_is_fed_four_times_within_its_time_and_only_by_whom_it_watches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let own = std::process::id();
        for (pid, expected) in [(own, 9), (own + 1, 0)] {
            let mut systemd = environment(&[
                ("NOTIFY_SOCKET", path.to_str().unwrap()),
                ("WATCHDOG_USEC", "2000000"),
                ("WATCHDOG_PID", &pid.to_string()),
            ]);
            for ms in 0..=4000 {
                systemd.alive(Time(ms * 1_000_000));
            }
            assert_eq!(read(&socket), vec!["WATCHDOG=1"; expected]);
        }
    }

    #[test]
    fn nobody_listening_stops_nobody_and_is_told_once_somebody_does() {
        environment(&[]).ready();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let mut systemd = environment(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
        systemd.ready();
        let socket = UnixDatagram::bind(&path).unwrap();
        systemd.ready();
        assert_eq!(read(&socket), ["READY=1"]);
    }

    #[test]
    fn every_line_for_the_journal_has_its_priority() {
        assert_eq!(journal_lines(log::Level::Error, "a\nb"), "<3>a\n<3>b\n");
        assert_eq!(journal_lines(log::Level::Info, "a"), "<6>a\n");
    }
}
