//! The process that owns the port and watches over the one that controls the arm.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ratatui::crossterm;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Link;
use crate::clock::Time;
use crate::cmd::robot::Line;
use crate::cmd::{Context, GaveUp, Interrupted, Told};
use crate::config::RobotConfig;
use crate::control::{Pulse, Start};
use crate::daemon::supervisor::{LOOK, StartLimit, Watch};
use crate::daemon::systemd::{self, Systemd};
use crate::hal::SerialPort;
use crate::hal::arm::{Rescued, rescue};

/// Ending the log and the API may take so much longer than parking.
const LEAVING: Duration = Duration::from_secs(10);
/// Between two tries to open a port that is gone.
const PAUSE: Duration = Duration::from_millis(200);
/// A tick may be late by a few periods without being missed for good.
const PERIODS: u32 = 4;

/// The numbers of the descriptors of the port and of the shared page, and of the supervisor.
#[derive(Debug, Clone, Copy)]
pub(in crate::cmd) struct Inherited {
    port: i32,
    page: i32,
    parent: i32,
}

impl FromStr for Inherited {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<i32> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let [port, page, parent] = numbers[..] else { bail!("expected three numbers") };
        Ok(Self { port, page, parent })
    }
}

impl Inherited {
    /// The arm's port and the shared page, in the control process.
    pub(in crate::cmd) fn take(self, robot: &RobotConfig) -> Result<Link> {
        ensure!(crate::os::end_with_parent(self.parent)?, "the supervisor has ended");
        let port = crate::os::inherited(self.port).context("the port was not inherited")?;
        let page = crate::os::inherited(self.page).context("no page was inherited")?;
        let path = match robot.bus.port.as_str() {
            crate::cmd::robot::EMULATED => rustix::termios::ttyname(&port, Vec::new())?
                .into_string()
                .context("the port's name is no text")?,
            named => named.to_owned(),
        };
        let pulse = Some(Arc::new(Pulse::of(page)?));
        Ok(Link { port: SerialPort::from_descriptor(port)?, path, pulse })
    }
}

/// What is special about a control process.
#[derive(Debug, Clone, Copy)]
pub(in crate::cmd) struct Supervision {
    /// It powers up at once.
    pub arm: bool,
    /// It is started again after it died.
    pub restart: bool,
    /// It reads the terminal: it must be in our group, and gets Ctrl-C, too.
    pub terminal: bool,
}

/// Opens the arm's port and runs the control process until it is told to end.
///
/// # Errors
/// The port or the control process cannot be started; it died too often, and the arm is held.
pub(in crate::cmd) fn supervise(
    robot: &RobotConfig,
    supervision: Supervision,
    context: &Context,
) -> Result<()> {
    let line = Line::of(robot, context)?;
    let emergency = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, Arc::clone(&emergency))?;
    let port = Some(SerialPort::open(line.path(), robot.bus.baud)?);
    let pulse = Pulse::new()?;
    crate::os::hand_on(&pulse)?;
    // So that it is there when it is needed; the control process says what is missing.
    crate::os::lock_memory();
    let settings = tcgetattr(rustix::stdio::stdin()).ok().filter(|_| supervision.terminal);
    let systemd = Systemd::of_the_environment();
    Supervisor { robot, context, line, port, pulse, emergency, supervision, settings, systemd }
        .run(Start { arm: supervision.arm, ..Start::default() })
}

struct Supervisor<'a> {
    robot: &'a RobotConfig,
    context: &'a Context,
    line: Line,
    /// None while it is unplugged, or open in the control process only.
    port: Option<SerialPort>,
    pulse: Pulse,
    emergency: Arc<AtomicBool>,
    supervision: Supervision,
    /// The terminal's, before the control process changed them.
    settings: Option<Termios>,
    systemd: Systemd,
}

/// How a control process came to its end.
#[derive(Debug)]
enum End {
    /// By itself, or by a signal.
    Exited(ExitStatus),
    /// It hung, and was killed.
    Hung,
}

impl Supervisor<'_> {
    fn run(mut self, mut start: Start) -> Result<()> {
        let mut limit = StartLimit::default();
        while limit.start(self.context.clock.now()) {
            self.pulse.begin(start);
            let mut child = self.spawn()?;
            let end = self.watch(&mut child)?;
            if let End::Exited(status) = end
                && (self.pulse.ended() || !start.again && never_ran(&self.pulse, status))
            {
                return self.left(status);
            }
            let active = self.pulse.active();
            let rescued = self.hold(&end);
            self.restore_terminal();
            if self.pulse.asked_to_stop() {
                bail!("the arm was to be parked, but its process died: it is held where it is");
            }
            if !self.supervision.restart {
                bail!(
                    "the arm is left as said above; what was finished is in its folder: start again"
                );
            }
            let arm = active && rescued.is_some_and(|rescued| rescued.holds());
            start = Start { arm, again: true, fault: self.pulse.fault() };
            log::warn!("starting the control process again");
        }
        Err(GaveUp.into())
    }

    /// The same program with the same arguments.
    fn spawn(&mut self) -> Result<Child> {
        let port = match self.port.take() {
            Some(port) if !port.gone() => port,
            _ => self.reopen()?,
        };
        crate::os::hand_on(&port)?;
        let (bus, page) = (port.as_fd().as_raw_fd(), self.pulse.as_fd().as_raw_fd());
        self.port = Some(port);
        let mut command = Command::new("/proc/self/exe");
        command.args(std::env::args_os().skip(1));
        command.arg(format!("--inherited={bus},{page},{}", std::process::id()));
        for ours in systemd::VARIABLES {
            command.env_remove(ours);
        }
        if !self.supervision.terminal {
            // Ctrl-C in a terminal is for us: its own group does not get it.
            command.process_group(0);
        }
        command.spawn().context("starting the control process")
    }

    /// A control process that died may have left its screen behind.
    fn restore_terminal(&self) {
        let Some(settings) = &self.settings else { return };
        // Where it fails there is no terminal any more.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, settings);
        let _ = crossterm::execute!(
            std::io::stdout(),
            crossterm::terminal::LeaveAlternateScreen,
            crossterm::cursor::Show
        );
    }

    /// Waits for a port that is gone.
    fn reopen(&mut self) -> Result<SerialPort> {
        self.systemd.status("waiting for the arm's port");
        loop {
            self.systemd.alive(self.context.clock.now());
            match SerialPort::open(self.line.path(), self.robot.bus.baud) {
                Ok(port) => return Ok(port),
                Err(error) => log::debug!("the arm's port is not there yet: {error}"),
            }
            self.context.check()?;
            self.pause(PAUSE);
        }
    }

    fn pause(&self, time: Duration) {
        self.context.clock.sleep_until(self.context.clock.now() + time);
    }

    /// Watches over the control process until it has ended or was killed, and passes on what we are
    /// told.
    fn watch(&mut self, child: &mut Child) -> Result<End> {
        let clock = &self.context.clock;
        let limit = Duration::from_secs_f64(self.robot.safety.heartbeat_s);
        let limit = limit.max(self.robot.period() * PERIODS);
        let mut watch = Watch::new(limit, clock.now());
        let mut leave_by = None;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(End::Exited(status));
            }
            let now = clock.now();
            if leave_by.is_none() && self.context.check().is_err() {
                self.pulse.ask_to_stop();
                self.systemd.stopping();
                let parking = Duration::from_secs_f64(self.robot.safety.park_timeout_s);
                leave_by = Some(now + parking + LEAVING);
            }
            if self.emergency.swap(false, Ordering::AcqRel) {
                self.stop_at_once(child);
            }
            // Else the system would call it by another name when it is plugged in again.
            self.port.take_if(|port| port.gone());
            let hung = !self.pulse.ended() && watch.is_stuck(self.pulse.ticks(), now);
            if hung || leave_by.is_some_and(|by| now > by) {
                child.kill()?;
                child.wait()?;
                return Ok(End::Hung);
            }
            self.tell_systemd(watch.grows(), leave_by.is_some(), now);
            self.pause(LOOK);
        }
    }

    /// How it is; and that all is well, but only while ticks are done or none are due.
    fn tell_systemd(&mut self, ticking: bool, leaving: bool, now: Time) {
        let loading = self.pulse.ticks() == 0;
        match (self.pulse.fault(), self.pulse.active()) {
            _ if leaving => self.systemd.status("parking the arm"),
            _ if loading => self.systemd.status("starting"),
            (Some(fault), _) => self.systemd.status(&format!("stopped by a fault: {fault}")),
            (None, true) => self.systemd.status("powered"),
            (None, false) => self.systemd.status("disarmed"),
        }
        if self.pulse.serving() {
            self.systemd.ready();
        }
        if ticking || loading || leaving && self.pulse.ended() {
            self.systemd.alive(now);
        }
    }

    /// An e-stop; a process that has not begun to control has nothing to stop, and shall not arm.
    fn stop_at_once(&self, child: &Child) {
        self.pulse.do_not_arm();
        if self.pulse.ticks() > 0 {
            // One that ends at this moment is seen in the next look.
            let _ = kill_process(Pid::from_child(child), Signal::USR1);
        }
    }

    /// Holds the arm and says so, loudly; `None` when it cannot be reached.
    fn hold(&mut self, end: &End) -> Option<Rescued> {
        let clock = &self.context.clock;
        let begun = clock.now();
        let why = match end {
            End::Hung => "HANGS and was killed".to_owned(),
            End::Exited(status) => match status.signal() {
                Some(signal) => format!("DIED of signal {signal}"),
                None => format!("DIED ({status})"),
            },
        };
        self.systemd.status(&format!("HOLDING THE ARM: the control process {why}"));
        let rescued =
            self.reach().map(|port| rescue(self.robot, Box::new(port), Arc::clone(clock)));
        let took = clock.now().since(begun).as_secs_f64() * 1e3;
        self.systemd.alive(clock.now());
        match &rescued {
            Ok(Rescued { held, limp, unknown }) => log::error!(
                "THE CONTROL PROCESS {why}: in {took:.0} ms servos {held:?} were told to hold where they \
                 are; without torque: {limp:?}; without an answer: {unknown:?}"
            ),
            Err(error) => log::error!(
                "THE CONTROL PROCESS {why}, AND THE ARM IS OUT OF REACH ({error}): it may go on to its \
                 last goal; cut its power if it must not"
            ),
        }
        rescued.ok()
    }

    /// The control process has ended as it should, or said why it did not begin.
    fn left(&self, status: ExitStatus) -> Result<()> {
        match status.code() {
            Some(0) => Ok(self.context.check()?),
            Some(130) => Err(Interrupted.into()),
            _ => Err(Told.into()),
        }
    }

    /// The port that the control process had, or else the one that is there now.
    fn reach(&mut self) -> Result<SerialPort> {
        match self.port.take_if(|port| port.gone()) {
            None if self.port.is_some() => {}
            _ => self.port = Some(SerialPort::open(self.line.path(), self.robot.bus.baud)?),
        }
        let port = self.port.as_ref().context("the port is gone")?;
        Ok(SerialPort::from_descriptor(port.as_fd().try_clone_to_owned()?)?)
    }
}

/// It has ended before its first tick, and said why.
fn never_ran(pulse: &Pulse, status: ExitStatus) -> bool {
    pulse.ticks() == 0 && status.code().is_some()
}
