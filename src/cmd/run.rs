//! `regoal run`: the goal-reaching daemon of one arm. The process that a user starts is a supervisor:
//! it opens the port and starts a second one, which inherits it and does everything else.

mod deployment;
mod doors;
mod intervene;
mod learning;
mod pedal;
mod supervise;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use self::deployment::{Deployment, First};
use self::doors::DoorArgs;
use self::intervene::{Desk, PersonArgs};
use self::learning::Learning;
pub(super) use self::supervise::{Inherited, Supervision, supervise};
use super::actors::Reacher;
use super::robot::{Line, Which, calibrated};
use super::{Context, engine, finetune, simulate};
use crate::clock::{Clock, Time};
use crate::config::RobotConfig;
use crate::control::{
    Actor, Command, CommandError, ControlLoop, Handle, Pulse, Refusal, Runtime, Searcher, Start,
    Swapped, TeleopReceiver, connect, search, teleop_queue,
};
use crate::daemon;
use crate::episode::{
    EpisodeHeader, LogSender, LogStatus, LogThread, LogWriter, Mode, WriterConfig, log_queue,
};
use crate::hal::bus::BusError;
use crate::hal::{Arm, SerialPort};
use crate::policy::Policy;

/// Runs the goal-reaching daemon of one arm until Ctrl-C.
///
/// Nothing moves before `regoal arm`; then `regoal goal` says where to go. Each goal becomes an
/// episode, failures included. Without a policy the arm goes straight to the goal, through inverse
/// kinematics where the goal is a place or a pose: good demonstrations to learn from. At the end the arm is parked and its torque goes off, unless
/// `safety.on_exit` says "hold"; one stopped by a fault is left holding. SIGUSR1 is an e-stop.
///
/// Two processes: if the one that controls the arm dies or hangs, the other one holds the arm where
/// it is, says so, and starts it again, up to three times a minute. It then holds and waits for goals.
/// As a systemd service (firmware-config/linux/regoal@.service) the other one tells systemd how it is and
/// feeds its watchdog as long as ticks are done.
///
/// Exit codes: 0 and 130 the arm was left as configured (130: told to end), 1 an error, 2 wrong
/// arguments, 3 the process that controls the arm died too often and the arm is held: look at it.
///
/// A person may take over in mid-episode, by moving a leader arm (--leader), with a key (--keyboard) or by
/// `regoal takeover`, and give it back: the episode goes on, and what they did in it is marked as an
/// intervention, which `regoal finetune` learns from as from a demonstration.
///
/// Example: regoal run --robot firmware-config/emulated.toml --policy models/reach/policy.onnx
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which arm
    #[command(flatten)]
    pub which: Which,
    /// The policy file; without a policy the arm goes straight to its goals
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub policy: Option<PathBuf>,
    /// Take the policy of this store instead; by default that of the configuration's policy.store. Into
    /// one that is empty `regoal policy install --to` brings the first
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Where episodes are logged
    #[arg(long, default_value = "episodes", value_name = "FOLDER")]
    pub episodes: PathBuf,
    /// The API's socket; by default one named after the robot in the user's runtime folder
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How the robot is reached from elsewhere
    #[command(flatten)]
    doors: DoorArgs,
    /// Who may take over
    #[command(flatten)]
    person: PersonArgs,
    /// Any key of this input device is an e-stop: a pedal, a button; so is its loss
    #[arg(long, value_name = "/dev/input/eventN")]
    estop_device: Option<PathBuf>,
    /// Power up at once: torque on, hold
    #[arg(long)]
    pub arm: bool,
    /// What the control process inherits of its supervisor
    #[arg(long, hide = true, value_name = "NUMBERS")]
    inherited: Option<Inherited>,
}

/// Runs the verb.
///
/// # Errors
/// The configuration, port, arm, policy, folder or socket cannot be used: nothing has moved then.
/// The control process died too often: the arm is held ([`GaveUp`](super::GaveUp)).
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = calibrated(&args.which, context)?;
    match args.inherited {
        None => {
            let terminal = args.person.keyboard;
            let supervision = Supervision { arm: args.arm, restart: true, terminal };
            supervise(&robot, supervision, context)
        }
        Some(inherited) => control(args, &robot, inherited.take(&robot)?, context),
    }
}

/// The control process.
fn control(args: &Args, robot: &RobotConfig, link: Link, context: &Context) -> Result<()> {
    let start = link.start();
    let (first, actor) = args.first(robot, context)?;
    let (person, teleop) = args.person.open(robot, context)?.unzip();
    // Without a device of its own, the arm is steered over the API.
    let (sender, teleop) = match teleop {
        Some(teleop) => (None, teleop),
        None => {
            let (sender, teleop) = teleop_queue();
            (Some(sender), teleop)
        }
    };
    let crew = Crew { actor, teleop: Some(teleop), episodes: Some(&args.episodes), task: "" };
    let running = Running::on(link, robot, crew, context)?;
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, running.handle().emergency())?;
    if let Some(path) = &args.estop_device {
        pedal::watch(path, running.handle().emergency())?;
    }
    running.wait_for_arm();
    let deployment = first.map(|first| Arc::new(Deployment::new(first, &running, context)));
    let jobs = args.store(robot).map(|store| args.jobs(robot, store, context)).transpose()?;
    let served = (deployment.clone(), jobs.clone());
    let server = args.serve(&running, sender, served, context)?;
    match &deployment {
        Some(deployment) => deployment.begin(),
        None if args.policy.is_none() => tell!("no policy: the arm goes straight to its goals"),
        None => {}
    }
    power_up(start, &running)?;
    let desk = person.map(|person| Desk::start(person, &running, robot, context));
    let learning = jobs.map(|jobs| Learning::new(jobs, robot.finetune.every, &context.clock));
    let ended = attend(&running, (deployment, learning), desk.transpose()?, context);
    // Nobody commands an arm that is being parked.
    drop(server);
    running.leave();
    ended
}

/// Powers up if that was asked for; else says what does.
fn power_up(start: Start, running: &Running) -> Result<()> {
    let status = running.handle().status();
    if start.arm {
        running.arm()?;
    } else if let Mode::Faulted(fault) = status.step.mode {
        tell!("stopped by a fault before ({fault}): `regoal arm` clears it");
    } else if status.energised {
        tell!(
            "TORQUE IS ON, as it was found, and Ctrl-C leaves it on: `regoal arm` takes the arm over, \
             `regoal arm --off` switches it off (hold the arm, it may sink)"
        );
    } else {
        tell!("disarmed: `regoal arm` powers it up, Ctrl-C parks it and ends");
    }
    Ok(())
}

impl Args {
    /// The store that the robot's policies come from, if they come from one.
    fn store<'a>(&'a self, robot: &'a RobotConfig) -> Option<&'a Path> {
        let store = self.store.as_deref().or(robot.policy.store.as_deref());
        store.filter(|_| self.policy.is_none())
    }

    /// Who steers first, and what a store says of it.
    fn first(
        &self,
        robot: &RobotConfig,
        context: &Context,
    ) -> Result<(Option<First>, Box<dyn Actor>)> {
        if let Some(path) = &self.policy {
            let file = finetune::read(context, path)?;
            return Ok((None, load(&file, robot, context.clock.as_ref())?));
        }
        let Some(store) = self.store(robot) else {
            return Ok((None, Box::new(Reacher::new(robot)?)));
        };
        let (first, actor) = First::of(store, robot, context)?;
        Ok((Some(first), actor))
    }

    /// The fine-tunings of a robot with a policy store.
    fn jobs(
        &self,
        robot: &RobotConfig,
        store: &Path,
        context: &Context,
    ) -> Result<Arc<daemon::Jobs>> {
        let settings = daemon::JobSettings {
            config: robot.finetune.clone(),
            robot: self.which.robot.clone(),
            store: store.into(),
            episodes: self.episodes.clone(),
        };
        Ok(Arc::new(daemon::Jobs::open(Arc::clone(&context.storage), settings, &context.program)?))
    }
}

/// Between two looks at the loop and at whoever may take over.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until somebody ends the loop.
fn attend(
    running: &Running,
    (deployment, mut learning): (Option<Arc<Deployment>>, Option<Learning>),
    mut desk: Option<Desk>,
    context: &Context,
) -> Result<()> {
    while context.check().is_ok() && !running.asked_to_stop() {
        context.clock.sleep_until(context.clock.now() + LOOK);
        anyhow::ensure!(!running.handle().status().ended, "the control loop has ended");
        if let Some(deployment) = &deployment {
            deployment.watch();
            if learning.as_mut().is_some_and(Learning::look) {
                deployment.take_up();
            }
        }
        if let Some(desk) = &mut desk
            && !desk.look()?
        {
            return Ok(());
        }
    }
    Ok(context.check()?)
}

/// A policy that fits the robot, ready to act.
fn load(file: &[u8], robot: &RobotConfig, clock: &dyn Clock) -> Result<Box<dyn Actor>> {
    let engine = engine::for_policy(file, clock)?;
    Ok(Box::new(Policy::load(file, robot, &engine)?))
}

/// Who steers an arm, and where that is logged.
pub struct Crew<'a> {
    /// Reaches for goals.
    pub actor: Box<dyn Actor>,
    /// A person's wishes.
    pub teleop: Option<TeleopReceiver>,
    /// Where episodes are logged; none are without it.
    pub episodes: Option<&'a Path>,
    /// What they are for, in words.
    pub task: &'a str,
}

/// What an arm is reached by.
pub(super) struct Link {
    port: SerialPort,
    /// Where it is found again after it was lost.
    path: String,
    /// Of a process that is watched over.
    pulse: Option<Arc<Pulse>>,
}

impl Link {
    /// How its watcher wants the loop to begin.
    fn start(&self) -> Start {
        self.pulse.as_ref().map(|pulse| pulse.start()).unwrap_or_default()
    }
}

/// A robot in service: the threads behind it end when it is dropped, the arm is left as configured.
pub struct Running {
    // Dropped in this order: the loop first, then its log, then the emulator.
    runtime: Runtime,
    log: Option<LogThread>,
    _line: Option<Line>,
    /// The port that was opened.
    pub port: String,
    pulse: Option<Arc<Pulse>>,
    robot: RobotConfig,
    clock: Arc<dyn Clock>,
}

/// Looks for the arm on its port whenever it was lost, in a thread of its own.
fn search_for(robot: &RobotConfig, port: &str, clock: &Arc<dyn Clock>) -> Result<Searcher> {
    let (robot, port, clock) = (robot.clone(), port.to_owned(), Arc::clone(clock));
    let (searcher, search) = search(move || {
        let serial = SerialPort::open(&port, robot.bus.baud).map_err(BusError::from)?;
        Arm::open(&robot, Box::new(serial), Arc::clone(&clock))
    })?;
    // It ends with the loop, at most a pause later.
    std::thread::Builder::new().name("search".into()).spawn(|| search.run())?;
    Ok(searcher)
}

/// The control loop's end of the log, and what writes it.
fn log_for(
    robot: &RobotConfig,
    (episodes, task): (&Path, &str),
    context: &Context,
) -> Result<(LogSender, LogWriter)> {
    let (sender, receiver) = log_queue();
    let writer = WriterConfig {
        sync: Duration::from_millis(robot.control.sync_ms),
        ..WriterConfig::default()
    };
    let writer = LogWriter::new(
        Arc::clone(&context.storage),
        Arc::clone(&context.clock),
        episodes.into(),
        EpisodeHeader { task: task.to_owned(), ..simulate::header_template(robot) },
        writer,
        receiver,
    )?;
    Ok((sender, writer))
}

/// How long arming waits for the arm's first complete measurement.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

impl Running {
    /// Opens the arm on its port (an emulated one on a pseudo terminal), loads the policy and starts
    /// the loop, disarmed.
    ///
    /// # Errors
    /// The port, arm, policy or folder cannot be used.
    pub fn start(
        robot: &RobotConfig,
        policy: &[u8],
        episodes: &Path,
        context: &Context,
    ) -> Result<Self> {
        let actor = load(policy, robot, context.clock.as_ref())?;
        Self::with(robot, Crew { actor, teleop: None, episodes: Some(episodes), task: "" }, context)
    }

    /// The same with whoever steers.
    ///
    /// # Errors
    /// The port, arm or folder cannot be used.
    pub fn with(robot: &RobotConfig, crew: Crew<'_>, context: &Context) -> Result<Self> {
        let line = Line::of(robot, context)?;
        let path = line.path().to_owned();
        let link = Link { port: SerialPort::open(&path, robot.bus.baud)?, path, pulse: None };
        let running = Self::on(link, robot, crew, context)?;
        Ok(Self { _line: Some(line), ..running })
    }

    /// The same over a port that is open.
    ///
    /// # Errors
    /// The arm or folder cannot be used.
    pub(super) fn on(
        link: Link,
        robot: &RobotConfig,
        crew: Crew<'_>,
        context: &Context,
    ) -> Result<Self> {
        let again = link.start().again;
        let Link { port: serial, path: port, pulse } = link;
        let clock = &context.clock;
        let open = if again { Arm::attach } else { Arm::open };
        let arm = open(robot, Box::new(serial), Arc::clone(clock))
            .with_context(|| format!("opening the arm `{}` on {port}", robot.name))?;
        let log = crew.episodes.map(|folder| log_for(robot, (folder, crew.task), context));
        let (sender, log) = log.transpose()?.unzip();
        let period = robot.period();
        let (pilot, thread, swapper) = connect(crew.actor, Arc::clone(clock), period)?;
        let swapper = swapper.within(robot);
        let searcher = search_for(robot, &port, clock)?;
        let mut control = ControlLoop::new(robot, arm, Box::new(pilot), sender, Arc::clone(clock))?
            .with_reconnect(Box::new(searcher));
        if let Some(pulse) = &pulse {
            control = control.with_pulse(Arc::clone(pulse));
        }
        if let Some(teleop) = crew.teleop {
            control = control.with_teleop(teleop);
        }
        let log = log.map(LogWriter::spawn).transpose()?;
        let runtime = Runtime::start(control, thread, swapper, period, Arc::clone(clock))?;
        if !crate::os::lock_memory() {
            log::warn!(
                "MEMORY IS NOT LOCKED: ticks may wait for the disk (raise `ulimit -l`; `regoal doctor` says how)"
            );
        }
        let (robot, clock) = (robot.clone(), Arc::clone(clock));
        Ok(Self { runtime, log, _line: None, port, pulse, robot, clock })
    }

    /// Ends the loop, the arm left as configured, and says so where its torque stays on.
    pub(super) fn leave(self) {
        let handle = self.handle();
        drop(self);
        if handle.status().energised {
            tell!(
                "THE ARM'S TORQUE IS STILL ON: it holds until it is without power; `regoal run`, then \
                 `regoal arm --off` switches it off (hold the arm, it may sink)"
            );
        }
    }

    /// Whoever watches over this process wants it to end.
    pub(super) fn asked_to_stop(&self) -> bool {
        self.pulse.as_ref().is_some_and(|pulse| pulse.asked_to_stop())
    }

    /// Tells whoever watches over this process that clients are served.
    pub(super) fn serve(&self) {
        if let Some(pulse) = &self.pulse {
            pulse.serve();
        }
    }

    /// Talks to the loop.
    pub fn handle(&self) -> Handle {
        self.runtime.handle()
    }

    /// What the log writer says.
    pub fn log(&self) -> Arc<LogStatus> {
        self.log.as_ref().map(LogThread::status).unwrap_or_default()
    }

    /// Waits until the arm was measured, so that the first client may arm it; for a while only.
    pub(super) fn wait_for_arm(&self) {
        let until = self.clock.now() + FIRST_ANSWER;
        let measured = || {
            let step = self.handle().status().step;
            // Temperatures are told in turn.
            let known = step.temperature.iter().all(|celsius| *celsius != 0.0);
            known && !step.stamps.is_empty() && step.stamps.iter().all(|t| *t != Time::ZERO)
        };
        while !measured() && self.clock.now() < until {
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(5));
        }
    }

    /// Torque on, hold.
    ///
    /// # Errors
    /// The loop refuses or does not answer.
    pub fn arm(&self) -> Result<()> {
        if crate::os::realtime() == Some(false) {
            log::warn!(
                "NO REAL-TIME SCHEDULING: ticks may be late (raise `ulimit -r`; `regoal doctor` says how)"
            );
        }
        // The first answers of a port may take a while.
        let until = self.clock.now() + FIRST_ANSWER;
        loop {
            match self.handle().command(Command::Arm) {
                Err(CommandError::Refused(Refusal::StateUnknown)) if self.clock.now() < until => {
                    self.clock.sleep_until(self.clock.now() + Duration::from_millis(20));
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Loads a policy file and swaps it in between two ticks.
    ///
    /// # Errors
    /// The policy does not fit, or fails its shadow runs: the old one steers on.
    pub fn swap(&self, file: &[u8]) -> Result<Swapped> {
        let candidate = load(file, &self.robot, self.clock.as_ref())?;
        Ok(self.handle().swapper().swap(candidate)?)
    }

    /// What the API tells of the robot besides the loop's status.
    pub(super) fn facts(&self) -> daemon::Facts {
        daemon::Facts {
            robot: self.robot.clone(),
            log: Some(self.log()),
            clock: Arc::clone(&self.clock),
        }
    }
}
