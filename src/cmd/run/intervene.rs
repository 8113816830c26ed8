//! Who may take the arm over from its policy in mid-episode, and with what.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Running;
use crate::cmd::Context;
use crate::cmd::record::{look, open_leader};
use crate::cmd::robot::Which;
use crate::config::RobotConfig;
use crate::control::{Command, Handle, Lead, TeleopReceiver, TeleopSender, teleop_queue};
use crate::episode::Mode;
use crate::teleop::{
    Intervention, InterventionConfig, KEYS, Keys, Mapping, TeleopThread, Teleoperator, keyboard,
};

/// With what a person steers instead of the policy.
#[derive(Debug, clap::Args)]
pub struct PersonArgs {
    /// A second arm of this configuration: moving it takes over in mid-episode, and the arm is moved by
    /// as much; holding it still lets go
    #[arg(long, value_name = "FILE", conflicts_with = "keyboard")]
    leader: Option<PathBuf>,
    /// The leader's serial port, instead of its configuration's
    #[arg(long, value_name = "PATH", requires = "leader")]
    leader_port: Option<String>,
    /// Another joint of the leader for a joint of the arm, or so many times its angle
    #[arg(long, value_name = "JOINT=LEADER_JOINT[*SCALE]", requires = "leader")]
    map: Vec<Mapping>,
    /// So far any joint of the leader is moved to take over (rad)
    #[arg(long, default_value_t = 0.06, value_name = "RAD")]
    takeover_rad: f64,
    /// So long the leader is held still to let go (s)
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    letgo_time: f64,
    /// The keys of this terminal: t takes over and lets go, the others move the arm's tip
    #[arg(long)]
    pub(super) keyboard: bool,
}

/// A person's device that was opened, before there is a loop.
pub(super) struct Person {
    device: Box<dyn Teleoperator>,
    keys: Option<Keys>,
    intervention: Option<Intervention>,
    sender: TeleopSender,
}

impl PersonArgs {
    /// Opens the device if there is to be one, and where the loop hears of it.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn open(
        &self,
        robot: &RobotConfig,
        context: &Context,
    ) -> Result<Option<(Person, TeleopReceiver)>> {
        let (threshold, still) = (self.takeover_rad, self.letgo_time);
        for (name, value, most) in
            [("--takeover-rad", threshold, 1.0), ("--letgo-time", still, 60.0)]
        {
            ensure!(
                (0.01..=most).contains(&value),
                "{name}: expected 0.01 to {most}, found {value}"
            );
        }
        let (sender, receiver) = teleop_queue();
        let person = if let Some(file) = &self.leader {
            let which = Which { robot: file.clone(), port: self.leader_port.clone() };
            let leader = open_leader(&which, robot, &self.map, context)?.relative();
            let still = Duration::from_secs_f64(still);
            let intervention = Intervention::new(InterventionConfig { threshold, still });
            Person {
                device: Box::new(leader),
                keys: None,
                intervention: Some(intervention),
                sender,
            }
        } else if self.keyboard {
            use std::io::IsTerminal as _;
            ensure!(std::io::stdin().is_terminal(), "--keyboard: expected a terminal, found none");
            let (keyboard, keys) = keyboard(robot)?;
            Person { device: Box::new(keyboard), keys: Some(keys), intervention: None, sender }
        } else {
            return Ok(None);
        };
        Ok(Some((person, receiver)))
    }
}

/// A person's place beside a running loop.
pub(super) struct Desk {
    handle: Handle,
    context: Context,
    thread: TeleopThread,
    intervention: Option<Intervention>,
    keys: Option<(Keys, Unechoed)>,
    /// The person steers, as far as was told.
    steers: bool,
    /// What was wrong with the device, as far as was told.
    trouble: Option<String>,
}

impl Desk {
    /// Polls the device from now on.
    ///
    /// # Errors
    /// The system gives no thread, or the terminal cannot be set.
    pub(super) fn start(
        person: Person,
        running: &Running,
        robot: &RobotConfig,
        context: &Context,
    ) -> Result<Self> {
        let (handle, clock) = (running.handle(), Arc::clone(&context.clock));
        let Person { device, keys, intervention, sender } = person;
        let look = look(handle.clone(), Arc::clone(&clock));
        let thread = TeleopThread::start(device, sender, look, robot.period(), clock)?;
        let keys = keys.map(|keys| Ok::<_, anyhow::Error>((keys, Unechoed::new()?))).transpose()?;
        if keys.is_some() {
            tell!("t takes over and lets go · {KEYS} · e EMERGENCY STOP · q ends");
        }
        let (steers, trouble) = (false, None);
        Ok(Self { handle, context: context.clone(), thread, intervention, keys, steers, trouble })
    }

    /// Looks at the person, their device and the loop; false when they want to end.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(super) fn look(&mut self) -> Result<bool> {
        let mode = self.handle.status().step.mode;
        let steers = mode == Mode::Teleop;
        if steers != self.steers {
            self.steers = steers;
            let follower = look(self.handle.clone(), Arc::clone(&self.context.clock))();
            self.thread.seat().with(|device| device.engage(steers, &follower));
            tell!("{}", if steers { "a person steers" } else { "nobody steers by hand" });
        }
        let trouble = self.thread.seat().error();
        if let Some(trouble) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            log::warn!("{trouble}: the arm holds while a person steers");
        }
        let fine = trouble.is_none();
        self.trouble = trouble;
        if fine {
            self.watch(mode);
        }
        self.read_keys(mode)
    }

    /// Asks the loop for what the leader's movement says.
    fn watch(&mut self, mode: Mode) {
        let Some(intervention) = &mut self.intervention else { return };
        let Some(hand) = self.thread.seat().with(|device| device.hand().cloned()) else { return };
        let command = intervention.observe(self.context.clock.now(), &hand, mode);
        let Some(command) = command else { return };
        match self.handle.command(command.clone()) {
            Ok(()) => intervention.granted(&command),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Does what the keys say.
    fn read_keys(&mut self, mode: Mode) -> Result<bool> {
        let Some((keys, _)) = &self.keys else { return Ok(true) };
        // All that is there: a held key must not fall behind.
        while event::poll(Duration::ZERO)? {
            let Event::Key(key) = event::read()? else { continue };
            let command = match key.code {
                _ if key.kind == KeyEventKind::Release => continue,
                KeyCode::Char('q') => return Ok(false),
                KeyCode::Char('e') => Command::EmergencyStop,
                KeyCode::Char('t') if mode == Mode::Teleop => Command::LetGo,
                KeyCode::Char('t') => Command::TakeOver(Lead::Device),
                code => {
                    keys.press(code);
                    continue;
                }
            };
            if let Err(error) = self.handle.command(command) {
                tell!("{error}");
            }
        }
        Ok(true)
    }
}

/// A terminal that hands on each key at once and does not show it, until dropped. Ctrl-C stays a signal.
struct Unechoed(Termios);

impl Unechoed {
    fn new() -> Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut settings = before.clone();
        settings.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &settings)?;
        Ok(Self(before))
    }
}

impl Drop for Unechoed {
    fn drop(&mut self) {
        // Where it fails there is no terminal any more.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
