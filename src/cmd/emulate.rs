//! `regoal emulate`: an emulated servo bus that any program can open, with faults on demand.

use std::ffi::OsString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;

use super::Context;
use crate::config::{RobotConfig, ServoModel};
use crate::env::World;
use crate::hal::{Emulator, FaultSpec, Hand, PtyServer, SocketServer};
use crate::kinematics::Chain;

/// How often it is looked whether anything has changed.
const LOOK: Duration = Duration::from_millis(50);
/// The environment variable that tells a child process the number of its descriptor.
const DESCRIPTOR: &str = "REGOAL_BUS_FD";

/// What `--help` tells beyond the options.
const PAGE: &str = r#"With --socketpair COMMAND gets one end of a socket pair instead, which is far more punctual than
a terminal: its number stands in the environment variable REGOAL_BUS_FD. In Python:
socket.socket(fileno=int(os.environ["REGOAL_BUS_FD"])).

With --faults things go wrong as a TOML file says, one [[fault]] table each. It happens whenever
all its conditions hold, with probability `rate`:

  [[fault]]
  kind = "flip"        # two bits change
  count = 2
  rate = 0.01          # in one of a hundred answers

  [[fault]]
  kind = "drop"        # byte 5 of what servo 3 answers to request 12 is lost
  transaction = 12
  id = 3
  byte = 5

  [[fault]]
  kind = "lost"        # unplugged after a minute, for two seconds
  from_s = 60.0
  until_s = 61.0
  for_s = 2.0

Of the line: drop, duplicate, insert, swap, flip, truncate, garbage, merge, echo, wrong_id,
wrong_length, late, slow, drift, lost. Of a servo: silent, stuck, offset, mirror, status,
eeprom_refused, brown_out. firmware-config/faults.toml shows and explains each. The same seed and
the same requests give the same faults. A port that comes back after `lost` has a new path, which
is printed; --link follows it.

With --move a hand leads the joints wherever no torque holds them, from the first request on: a leader
arm that somebody moves. `sine` swings all joints about the home pose; else a TOML file says when they
are where (rad; joints that are not named stay), from the home pose on:

  repeat = true
  [[knot]]
  at_s = 2.0           # still until then
  [[knot]]
  at_s = 3.0
  joints = { shoulder_pan = 0.4, gripper = 0.8 }

Examples:
  regoal emulate --link /tmp/arm      (then: regoal run --port /tmp/arm)
  regoal emulate firmware-config/emulated.toml --faults firmware-config/faults.toml --seed 7
  regoal emulate firmware-config/so101-leader.toml --link /tmp/leader --move sine
  regoal emulate --socketpair -- python3 my_program.py"#;

/// Emulates a robot's servo bus, until Ctrl-C or until COMMAND ends.
///
/// Any program that speaks the servos' protocol can open the printed path as a serial port, at the
/// speed that the servos are set to. Servos have their registers, torque, limits, loads, heat and
/// protections; the wire takes its time.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = PAGE)]
pub struct Args {
    /// The robot's configuration
    #[arg(default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// Seed of the measurement noise and the faults
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What goes wrong, and when
    #[arg(long, value_name = "SPEC.toml")]
    pub faults: Option<PathBuf>,
    /// A hand leads the joints: `sine`, or a file that says where to
    #[arg(long = "move", value_name = "SCRIPT.toml")]
    pub hand: Option<PathBuf>,
    /// A pseudo terminal; this is so if nothing else is asked for
    #[arg(long, conflicts_with = "socketpair")]
    pub pty: bool,
    /// A socket pair for COMMAND
    #[arg(long, requires = "command", conflicts_with = "link")]
    pub socketpair: bool,
    /// Make this a symbolic link to the port; removed at the end
    #[arg(long, value_name = "PATH")]
    pub link: Option<PathBuf>,
    /// Put the arm at a table with a cube at this place (m, base frame), as in the environment
    /// `arm_pick_place`; where the cube is at the end is printed
    #[arg(long, num_args = 2, value_names = ["X", "Y"], allow_negative_numbers = true)]
    pub cube: Option<Vec<f64>>,
    /// What to run with one end of the socket pair
    #[arg(last = true, requires = "socketpair")]
    pub command: Vec<OsString>,
}

/// Runs the verb.
///
/// # Errors
/// The configuration or the faults are wrong, the system gives no pseudo terminal, COMMAND fails.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
    let faults = match &args.faults {
        Some(path) => FaultSpec::load(context.storage.as_ref(), path)?,
        None => FaultSpec::default(),
    };
    check_ids(&faults, &robot)?;
    let world = args.cube.as_deref().map(|cube| table(&robot, cube)).transpose()?;
    let mut emulator = emulator(&robot, args.seed, world.clone())?;
    if let Some(path) = &args.hand {
        emulator.lead(match path.to_str() {
            Some("sine") => Hand::sine(&robot),
            _ => Hand::load(context.storage.as_ref(), path, &robot)?,
        });
    }
    let (emulator, clock) = (Arc::new(Mutex::new(emulator)), Arc::clone(&context.clock));
    let ended = if args.socketpair {
        let (_server, client) =
            SocketServer::start(emulator, &faults, clock).context("opening a socket pair")?;
        attend(client, &args.command, context)
    } else {
        let server =
            PtyServer::start(emulator, &faults, clock).context("opening a pseudo terminal")?;
        show(&server, args.link.as_deref(), context)
    };
    if let Some(world) = world {
        let [x, y, z] = world.lock().unwrap_or_else(PoisonError::into_inner).cube();
        tell!("cube at {x:.3} {y:.3} {z:.3}");
    }
    ended
}

/// A fault of a servo that is not there would never happen.
fn check_ids(faults: &FaultSpec, robot: &RobotConfig) -> Result<()> {
    for (number, id) in (1..).zip(faults.fault.iter().map(|fault| fault.id)) {
        let Some(id) = id else { continue };
        let ids: Vec<u8> = robot.joint.iter().map(|joint| joint.id).collect();
        ensure!(
            ids.contains(&id),
            "[[fault]] {number}: id: expected a servo of `{}`, one of {ids:?}, found {id}",
            robot.name
        );
    }
    Ok(())
}

/// Prints where the port is, and again when it has moved, until interrupted.
fn show(server: &PtyServer, link: Option<&Path>, context: &Context) -> Result<()> {
    let mut shown = None;
    while context.check().is_ok() {
        let path = server.path();
        if shown.as_ref() != Some(&path) {
            if let Some(link) = link {
                if shown.is_some() {
                    unlink(link)?;
                }
                std::os::unix::fs::symlink(&path, link)
                    .with_context(|| format!("linking {} to {}", link.display(), path.display()))?;
            }
            tell!("{}", path.display());
            shown = Some(path);
        }
        context.clock.sleep_until(context.clock.now() + LOOK);
    }
    link.map_or(Ok(()), unlink)?;
    Ok(context.check()?)
}

fn unlink(link: &Path) -> Result<()> {
    std::fs::remove_file(link).with_context(|| format!("removing {}", link.display()))
}

/// Runs a command that inherits the descriptor, and waits for its end; it ends with us.
fn attend(client: OwnedFd, command: &[OsString], context: &Context) -> Result<()> {
    let [program, arguments @ ..] = command else { bail!("expected a COMMAND after `--`") };
    rustix::io::fcntl_setfd(&client, rustix::io::FdFlags::empty())
        .context("handing the descriptor on")?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(DESCRIPTOR, client.as_raw_fd().to_string())
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    drop(client);
    while context.check().is_ok() {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{} ended with {status}", program.display());
            return Ok(());
        }
        context.clock.sleep_until(context.clock.now() + LOOK);
    }
    child.kill().and_then(|()| child.wait()).context("ending the command")?;
    Ok(context.check()?)
}

/// The arm at home at a table with a cube.
fn table(robot: &RobotConfig, cube: &[f64]) -> Result<Arc<Mutex<World>>> {
    let [x, y] = *cube else { bail!("--cube: expected X and Y, found {} numbers", cube.len()) };
    ensure!(x.is_finite() && y.is_finite(), "--cube: expected two lengths, found {x} and {y}");
    let home: Vec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
    Ok(Arc::new(Mutex::new(World::new(&Chain::of(robot)?, &home, [x, y]))))
}

/// Starts the emulator of a robot on a pseudo terminal.
///
/// # Errors
/// A servo is not emulated, or the system gives no pseudo terminal.
pub fn serve(robot: &RobotConfig, context: &Context) -> Result<PtyServer> {
    let emulator = Arc::new(Mutex::new(emulator(robot, 0, None)?));
    PtyServer::start(emulator, &FaultSpec::default(), Arc::clone(&context.clock))
        .context("opening a pseudo terminal")
}

fn emulator(robot: &RobotConfig, seed: u64, world: Option<Arc<Mutex<World>>>) -> Result<Emulator> {
    for joint in &robot.joint {
        ensure!(
            joint.servo != ServoModel::Scs0009,
            "joint `{}`: expected a servo of the STS or X series, found an SCS0009, which is not emulated",
            joint.name
        );
    }
    let mut emulator = Emulator::new(robot, seed);
    if let Some(world) = world {
        emulator.surround(world);
    }
    Ok(emulator)
}
