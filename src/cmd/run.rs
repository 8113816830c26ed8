//! `regoal run`: the goal-reaching daemon of one arm.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::robot::{Which, calibrated};
use super::{Context, emulate, engine, finetune, simulate};
use crate::clock::Clock;
use crate::config::RobotConfig;
use crate::control::{
    Command, CommandError, ControlLoop, Handle, Refusal, Runtime, Searcher, Swapped, connect,
    search,
};
use crate::daemon;
use crate::episode::{LogStatus, LogThread, LogWriter, WriterConfig, log_queue};
use crate::hal::bus::BusError;
use crate::hal::{Arm, FaultSpec, PtyServer, SerialPort};
use crate::policy::{Policy, Store};

/// Runs the goal-reaching daemon of one arm until Ctrl-C.
///
/// Nothing moves before `regoal arm`; then `regoal goal X Y Z` reaches for points. Each goal becomes
/// an episode, failures included. At the end the arm is parked and its torque goes off, unless
/// `safety.on_exit` says "hold"; one stopped by a fault is left holding. SIGUSR1 is an e-stop.
///
/// Example: regoal run --robot firmware-config/emulated.toml --policy models/reach/policy.onnx
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which arm
    #[command(flatten)]
    pub which: Which,
    /// The policy file
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub policy: Option<PathBuf>,
    /// Take the active policy of this store instead
    #[arg(long, value_name = "FOLDER")]
    pub store: Option<PathBuf>,
    /// Where episodes are logged
    #[arg(long, default_value = "episodes", value_name = "FOLDER")]
    pub episodes: PathBuf,
    /// The API's socket; by default one named after the robot in the user's runtime folder
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Power up at once: torque on, hold
    #[arg(long)]
    pub arm: bool,
}

/// Runs the verb.
///
/// # Errors
/// The configuration, port, arm, policy, folder or socket cannot be used: nothing has moved then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = calibrated(&args.which, context)?;
    let policy = match (&args.policy, &args.store) {
        (Some(path), _) => finetune::read(context, path)?,
        (None, Some(store)) => Store::open(Arc::clone(&context.storage), store)?.active()?,
        (None, None) => anyhow::bail!(
            "which policy? name one with --policy FILE (models/reach/policy.onnx is shipped) or --store FOLDER"
        ),
    };
    let running = Running::start(&robot, &policy, &args.episodes, context)?;
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, running.handle().emergency())?;
    let socket = args.socket.clone().unwrap_or_else(|| daemon::default_socket(&robot.name));
    let served = daemon::Served::new(running.handle(), running.facts(context));
    let storage = Arc::clone(&context.storage);
    let _server = daemon::Server::start(&socket, Arc::new(served), storage)?;
    println!("{} on {}, API at {}", robot.name, running.port, socket.display());
    if args.arm {
        running.arm()?;
    } else {
        println!("disarmed: `regoal arm` powers it up, Ctrl-C parks it and ends");
    }
    while context.check().is_ok() {
        context.clock.sleep_until(context.clock.now() + Duration::from_millis(50));
        anyhow::ensure!(!running.handle().status().ended, "the control loop has ended");
    }
    Ok(context.check()?)
}

/// A robot in service: the threads behind it end when it is dropped, the arm is left as configured.
pub struct Running {
    // Dropped in this order: the loop first, then its log, then the emulator.
    runtime: Runtime,
    log: LogThread,
    _emulator: Option<PtyServer>,
    /// The port that was opened.
    pub port: String,
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
        let emulator = match robot.bus.port.as_str() {
            "emulated" => Some(emulate::serve(robot, 0, &FaultSpec::default(), None, context)?),
            _ => None,
        };
        let port = match &emulator {
            Some(server) => server.path().display().to_string(),
            None => robot.bus.port.clone(),
        };
        let clock = &context.clock;
        let engine = engine::for_policy(policy, clock.as_ref())?;
        let policy = Policy::load(policy, robot, &engine)?;
        let serial = SerialPort::open(&port, robot.bus.baud)?;
        let arm = Arm::open(robot, Box::new(serial), Arc::clone(clock))
            .with_context(|| format!("opening the arm `{}` on {port}", robot.name))?;
        let (sender, receiver) = log_queue();
        let writer = WriterConfig {
            sync: Duration::from_millis(robot.control.sync_ms),
            ..WriterConfig::default()
        };
        let log = LogWriter::new(
            Arc::clone(&context.storage),
            Arc::clone(clock),
            episodes.into(),
            simulate::header_template(robot),
            writer,
            receiver,
        )?;
        let period = robot.period();
        let (pilot, thread, swapper) = connect(Box::new(policy), Arc::clone(clock), period)?;
        let searcher = search_for(robot, &port, clock)?;
        let control =
            ControlLoop::new(robot, arm, Box::new(pilot), Some(sender), Arc::clone(clock))?
                .with_reconnect(Box::new(searcher));
        let log = log.spawn()?;
        let runtime = Runtime::start(control, thread, swapper, period, Arc::clone(clock))?;
        if !crate::os::lock_memory() {
            log::warn!("memory is not locked: ticks may wait for the disk (raise `ulimit -l`)");
        }
        Ok(Self {
            runtime,
            log,
            _emulator: emulator,
            port,
            robot: robot.clone(),
            clock: Arc::clone(clock),
        })
    }

    /// Talks to the loop.
    pub fn handle(&self) -> Handle {
        self.runtime.handle()
    }

    /// What the log writer says.
    pub fn log(&self) -> Arc<LogStatus> {
        self.log.status()
    }

    /// Torque on, hold.
    ///
    /// # Errors
    /// The loop refuses or does not answer.
    pub fn arm(&self) -> Result<()> {
        if crate::os::realtime() == Some(false) {
            log::warn!("no real-time scheduling: ticks may be late (raise `ulimit -r`)");
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
        let engine = engine::for_policy(file, self.clock.as_ref())?;
        let policy = Policy::load(file, &self.robot, &engine)?;
        Ok(self.handle().swapper().swap(Box::new(policy))?)
    }

    /// What the API tells of the robot besides the loop's status.
    fn facts(&self, context: &Context) -> daemon::Facts {
        let robot = &self.robot;
        daemon::Facts {
            robot: robot.name.clone(),
            joints: robot.joint.iter().map(|j| j.name.clone()).collect(),
            rate_hz: robot.control.rate_hz,
            tolerance_m: robot.control.goal_tolerance_m,
            timeout_s: robot.control.goal_timeout_s,
            log: Some(self.log()),
            clock: Arc::clone(&context.clock),
        }
    }
}
