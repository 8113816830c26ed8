//! `regoal record`: demonstrations by a person, or by a script that stands in for one.

mod booth;
mod device;
mod headless;
mod screen;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use self::booth::Booth;
use self::device::DeviceArgs;
pub(super) use self::device::open_leader;
use super::actors::Nobody;
use super::robot::{EMULATED, Which, calibrated};
use super::run::{Crew, Inherited, Link, Running, Supervision, supervise};
use super::{Context, say};
use crate::config::RobotConfig;
use crate::control::{Handle, teleop_queue};
use crate::daemon::{self, Server};
use crate::joints::{GoalSpace, GoalVec, JointVec, stack};
use crate::storage::Storage;
use crate::teleop::{Follower, Session, SessionConfig, TeleopThread};

/// Less room than this on the disk is too little for an episode (bytes).
const ROOM: u64 = 200 << 20;

/// Records demonstrations: somebody steers the arm, each episode becomes a file
///
/// With a leader arm the joints mirror its joints; with the keyboard the tip moves along x, y and z;
/// with a gamepad as long as its left shoulder button is held; with --kinesthetic the arm itself is led by
/// hand, its torque off; --scripted needs nobody. All of it passes the safety gate, slowly at first: until
/// the arm has come to where it is wished.
///
/// A second process watches over the one that records: if that dies or hangs, it holds the arm where it
/// is, says so, and ends. What was recorded until then is in the folder; `regoal episodes check` tells.
///
/// An episode's goal is given (--goal X Y Z), marked in the middle of it (the key g), or else what was
/// achieved at its end: then every demonstration is one of its own goal.
///
/// Meanwhile `regoal status`, `regoal stop --emergency` and, where goals are of an object, `regoal object`
/// work as with `regoal run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Keys: space start/stop, n accept, r again, s success, f failure, g mark the goal, u undo the last
episode, a arm, q quit, e EMERGENCY STOP (works always). With --headless the same as words on standard
input: arm start stop accept again success failure mark undo quit estop. A gamepad's start, A, B, X, R1 and
select: start/stop, success, failure, again, mark, EMERGENCY STOP.

Examples:
  regoal record --scripted --count 3 --headless              see it on an emulated arm
  regoal record --robot firmware-config/so101-follower.toml --leader firmware-config/so101-leader.toml
  regoal record --robot firmware-config/so101-follower.toml --keyboard --task \"push the cube\"")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    device: DeviceArgs,
    /// Where episodes are logged.
    #[arg(long, default_value = "episodes", value_name = "FOLDER")]
    episodes: PathBuf,
    /// The API's socket; by default one named after the robot in the user's runtime folder.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Demonstrations to record.
    #[arg(long, default_value_t = 50, value_name = "N")]
    count: usize,
    /// What they show, in words.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    task: String,
    /// The goal: its numbers, in the robot's goal space; or `marked` or `hindsight`, in which both
    /// the last mark counts, or without one the end.
    #[arg(long, num_args = 1..=9, value_name = "GOAL", allow_negative_numbers = true)]
    goal: Vec<String>,
    /// A demonstration is cut after so many seconds.
    #[arg(long, default_value_t = 60.0, value_name = "S")]
    episode_time: f64,
    /// The way home between two demonstrations is given up after so many seconds.
    #[arg(long, default_value_t = 10.0, value_name = "S")]
    reset_time: f64,
    /// No screen: words on standard input, lines on standard output.
    #[arg(long)]
    headless: bool,
    /// Lines of JSON, one an event.
    #[arg(long, requires = "headless")]
    json: bool,
    /// Record with an arm that was not calibrated: its angles mean nothing to another arm.
    #[arg(long)]
    uncalibrated: bool,
    /// Seed of the script's goals.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What the control process inherits of its supervisor.
    #[arg(long, hide = true, value_name = "NUMBERS")]
    inherited: Option<Inherited>,
}

/// Runs the verb.
///
/// # Errors
/// The arm is not calibrated or too hot, the disk is full, the arm, device or folder cannot be used:
/// nothing has moved then. A script was stopped by a fault.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    ensure!(args.count > 0, "--count: expected 1 or more, found 0");
    let times = [("--episode-time", args.episode_time), ("--reset-time", args.reset_time)];
    for (name, seconds) in times {
        ensure!((0.1..=3600.0).contains(&seconds), "{name}: expected 0.1 to 3600, found {seconds}");
    }
    let robot = calibrated(&args.which, context)?;
    check_calibration(args, &robot)?;
    let goal = goal(args, &robot)?;
    context.storage.create_folder(&args.episodes)?;
    check_room(context.storage.as_ref(), &args.episodes)?;
    match args.inherited {
        None => {
            let supervision = Supervision { arm: false, restart: false, terminal: true };
            supervise(&robot, supervision, context)
        }
        Some(inherited) => {
            let link = inherited.take(&robot)?;
            record(args, robot, goal, link, context)
        }
    }
}

/// The control process.
fn record(
    args: &Args,
    robot: RobotConfig,
    goal: Option<GoalVec>,
    link: Link,
    context: &Context,
) -> Result<()> {
    let (device, keys) = args.device.open(&robot, args.seed, context)?;
    ensure!(keys.is_none() || !args.headless, "--keyboard: expected a terminal, found --headless");
    let config = SessionConfig {
        count: args.count,
        episode: Duration::from_secs_f64(args.episode_time),
        reset: Duration::from_secs_f64(args.reset_time),
        autonomous: device.autonomous(),
        by_hand: device.lead().is_by_hand(),
    };
    let (sender, receiver) = teleop_queue();
    let crew = Crew {
        actor: Box::new(Nobody),
        teleop: Some(receiver),
        episodes: Some(&args.episodes),
        task: &args.task,
    };
    let running = Running::on(link, &robot, crew, context)?;
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, running.handle().emergency())?;
    running.wait_for_arm();
    check_heat(&robot, &running.handle())?;
    let server = serve(args, &robot, &running, context)?;
    let clock = Arc::clone(&context.clock);
    let look = look(running.handle(), Arc::clone(&clock));
    let teleop = TeleopThread::start(device, sender, look, robot.period(), clock)?;
    let mut booth = Booth::new(args, robot, goal, context, &running, teleop.seat());
    let mut session = Session::new(config);
    match args.headless {
        true => headless::run(&mut session, &mut booth, args.json, context)?,
        false => screen::run(&mut session, &mut booth, keys)?,
    }
    drop((server, teleop));
    ensure!(!session.failed(), "{}", session.message());
    let (kept, _) = session.progress();
    if !args.json {
        say(format!("{kept} episodes in {}; parking the arm", args.episodes.display()))?;
    }
    Ok(())
}

/// The API: how the arm is, an emergency stop, and where the object is. Where it cannot be served, only
/// who needs to be told of an object cannot record.
fn serve(
    args: &Args,
    robot: &RobotConfig,
    running: &Running,
    context: &Context,
) -> Result<Option<Server>> {
    let socket = args.socket.clone().unwrap_or_else(|| daemon::default_socket(&robot.name));
    let storage = Arc::clone(&context.storage);
    let episodes =
        daemon::Episodes { storage: Arc::clone(&storage), folder: args.episodes.clone() };
    let service = daemon::Service {
        robot: Arc::new(daemon::Served::new(running.handle(), running.facts())?.recording()),
        clock: Arc::clone(&context.clock),
        episodes: Some(episodes),
        policies: None,
        jobs: None,
    };
    match Server::start(&socket, service, storage, None) {
        Ok(server) => Ok(Some(server)),
        Err(error) if robot.control.goal_space == GoalSpace::ObjectPosition => Err(error.into()),
        Err(error) => {
            log::warn!("the API is not served: {error}");
            Ok(None)
        }
    }
}

/// Where the arm is, for a device.
pub(super) fn look(
    handle: Handle,
    clock: Arc<dyn crate::clock::Clock>,
) -> impl Fn() -> Follower + Send + 'static {
    move || {
        let step = handle.status().step;
        let long = |q: &JointVec<f32>| q.iter().map(|q| f64::from(*q)).collect();
        Follower { now: clock.now(), position: long(&step.position), sent: long(&step.sent) }
    }
}

fn check_calibration(args: &Args, robot: &RobotConfig) -> Result<()> {
    let known = !robot.calibration.is_empty() || robot.bus.port == EMULATED;
    ensure!(
        known || args.uncalibrated,
        "`{}` is not calibrated, so its angles mean nothing: `regoal robot calibrate --robot {}` first, \
         or --uncalibrated",
        robot.name,
        args.which.robot.display()
    );
    Ok(())
}

fn check_room(storage: &dyn Storage, folder: &Path) -> Result<()> {
    // Where it cannot be told, it is found out by writing.
    let free = storage.free(folder).unwrap_or(u64::MAX);
    ensure!(
        free >= ROOM,
        "expected {} MiB of room for episodes in {}, found {}: make room, or name another disk's folder \
         with --episodes",
        ROOM >> 20,
        folder.display(),
        free >> 20
    );
    Ok(())
}

pub(super) fn check_heat(robot: &RobotConfig, handle: &Handle) -> Result<()> {
    let warm = robot.safety.warn_temperature;
    let step = handle.status().step;
    let hot = robot.joint.iter().zip(&step.temperature).find(|(_, t)| f64::from(**t) >= warm);
    if let Some((joint, celsius)) = hot {
        bail!("joint `{}` has {celsius:.0} °C: let it cool below {warm:.0} °C first", joint.name);
    }
    Ok(())
}

/// The goal that is given; none where it is marked or told in hindsight.
fn goal(args: &Args, robot: &RobotConfig) -> Result<Option<GoalVec>> {
    let space = robot.control.goal_space;
    match args.goal.as_slice() {
        [] => return Ok(None),
        [word] if word == "marked" || word == "hindsight" => return Ok(None),
        _ => {}
    }
    let numbers: Vec<f32> = args
        .goal
        .iter()
        .map(|text| {
            text.parse().with_context(|| format!("--goal: expected a number, found `{text}`"))
        })
        .collect::<Result<_>>()?;
    let size = space.size(robot.joint.len());
    ensure!(
        numbers.len() == size && numbers.iter().all(|x| x.is_finite()),
        "--goal: expected {size} numbers, as goals are of `{}`, found {}",
        space.name(),
        args.goal.join(" ")
    );
    Ok(Some(stack(numbers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Failure, Memory};

    #[test]
    fn nothing_is_recorded_where_there_is_no_room_for_it() {
        let (storage, folder) = (Memory::default(), Path::new("episodes"));
        check_room(&storage, folder).unwrap();
        storage.fail(0, Failure::Full);
        let refused = check_room(&storage, folder).unwrap_err().to_string();
        assert!(
            refused.contains("expected 200 MiB") && refused.contains("--episodes"),
            "{refused}"
        );
    }
}
