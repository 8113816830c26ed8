//! What systemd does with a service, as the shipped unit says: it hears what the main process tells,
//! aborts one that does not feed the watchdog, kills what is left, and starts it again.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use regoal::clock::Time;
use rustix::process::{Pid, Signal, kill_process};

use crate::processes::{PATIENCE, Rig, now, pause};

const UNIT: &str = include_str!("../../firmware-config/linux/regoal@.service");

fn text(key: &str) -> &'static str {
    let value = |line: &'static str| line.strip_prefix(key)?.strip_prefix('=');
    UNIT.lines().find_map(value).unwrap_or_else(|| panic!("the unit has no {key}"))
}

/// What the unit sets a key to; of several values the numbers.
pub fn setting(key: &str) -> Vec<u64> {
    text(key).split_whitespace().map(|number| number.parse().unwrap()).collect()
}

/// A span of time that the unit sets, in seconds or with the unit `ms`.
pub fn span(key: &str) -> Duration {
    let value = text(key);
    match value.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.parse().unwrap()),
        None => Duration::from_secs(value.parse().unwrap()),
    }
}

/// A service of one arm under such a manager.
pub struct Service {
    pub rig: Rig,
    /// All that was told since the first start.
    pub told: Vec<String>,
    /// When it was started.
    pub starts: Vec<Time>,
    /// It is not started again.
    pub down: bool,
    /// A servo had no torque although the arm was powered before.
    pub dropped: bool,
    socket: UnixDatagram,
    folder: tempfile::TempDir,
    watchdog: Duration,
    /// It aborts who does not feed the watchdog.
    aborts: bool,
    ready: bool,
    fed: Time,
    control: Option<Pid>,
    powered: bool,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill_rest();
    }
}

impl Service {
    /// Starts it, with a watchdog as in the unit, or with one that is only listened to.
    pub fn start(robot: &str, watchdog: Option<Duration>) -> Self {
        let aborts = watchdog.is_none();
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let watchdog = watchdog.unwrap_or_else(|| span("WatchdogSec"));
        let rig = Rig::with(robot, environment(&folder, watchdog));
        Self {
            rig,
            told: Vec::new(),
            starts: vec![now()],
            down: false,
            dropped: false,
            socket,
            folder,
            watchdog,
            aborts,
            ready: false,
            fed: now(),
            control: None,
            powered: false,
        }
    }

    /// Looks after the service until it holds.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = now() + PATIENCE;
        while !holds(self) {
            assert!(now() < deadline, "{what}; told: {:?}", self.told);
            self.look();
            pause(1);
        }
    }

    /// How often it has become ready.
    pub fn times_ready(&self) -> usize {
        self.told.iter().filter(|line| *line == "READY=1").count()
    }

    /// Takes in what was told.
    pub fn hear(&mut self) {
        let mut buffer = [0; 512];
        while let Ok(size) = self.socket.recv(&mut buffer) {
            let line = String::from_utf8(buffer[..size].to_vec()).unwrap();
            self.ready |= line == "READY=1";
            if line == "READY=1" || line == "WATCHDOG=1" {
                self.fed = now();
            }
            self.told.push(line);
        }
    }

    fn look(&mut self) {
        self.hear();
        let torques = self.rig.torques();
        self.dropped |= self.powered && torques.contains(&0);
        self.powered |= !torques.contains(&0);
        if self.down {
            return;
        }
        self.control = self.rig.control().or(self.control);
        if let Some(status) = self.rig.supervisor.try_wait().unwrap() {
            self.ended(status);
        } else if self.aborts && self.ready && now().since(self.fed) > self.watchdog {
            let main = Pid::from_child(&self.rig.supervisor);
            kill_process(main, Signal::ABORT).unwrap();
            kill_process(main, Signal::CONT).unwrap();
            self.fed = now();
        }
    }

    /// `KillMode=mixed`: what the main process leaves behind is killed. Then `Restart=on-failure`.
    fn ended(&mut self, status: ExitStatus) {
        self.kill_rest();
        self.ready = false;
        let is = |key| status.code().is_some_and(|code| setting(key).contains(&(code as u64)));
        let succeeded = status.success() || is("SuccessExitStatus");
        println!("the service ended: {status}, signal {:?}", status.signal());
        let window = span("StartLimitIntervalSec");
        let recent = self.starts.iter().filter(|start| now().since(**start) < window).count();
        let limit = setting("StartLimitBurst")[0] as usize;
        if succeeded || is("RestartPreventExitStatus") || recent >= limit {
            self.down = true;
            return;
        }
        pause(span("RestartSec").as_millis() as u64);
        self.starts.push(now());
        self.rig.start_again(environment(&self.folder, self.watchdog));
    }

    fn kill_rest(&mut self) {
        if let Some(control) = self.control.take() {
            // It may have ended by itself.
            let _ = kill_process(control, Signal::KILL);
        }
    }
}

fn environment(
    folder: &tempfile::TempDir,
    watchdog: Duration,
) -> impl Fn(&mut Command) -> &mut Command {
    let socket = folder.path().join("notify");
    move |command| {
        command.env("NOTIFY_SOCKET", &socket);
        command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command.env_remove("WATCHDOG_PID")
    }
}
