//! `regoal robot setup`: ids and speeds, one servo at a time.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::operator::{Operator, Terminal};
use super::{Line, Which};
use crate::cmd::Context;
use crate::config::{JointConfig, RobotConfig};
use crate::hal::Bus;
use crate::hal::bus::{BusError, Found};
use crate::hal::servo::{Model, Register};
use crate::hal::settings::{self, SettingError};

/// How long a search at one speed takes: every servo waits for its turn to answer.
const SEARCH: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(200);

/// Gives new servos their ids and speed, one at a time
///
/// New servos all have the same id, so only one may be connected at a time. The gripper comes first,
/// the base last. Each is looked for at every speed, told its id and speed, and asked for both.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal robot setup --robot firmware-config/so101-follower.toml
  regoal robot setup --robot firmware-config/so101-follower.toml --joint gripper    only this one")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only these joints.
    #[arg(long, value_name = "NAME")]
    joint: Vec<String>,
    /// Print plain lines only; Enter is a line on standard input.
    #[arg(long)]
    headless: bool,
}

/// Runs the verb.
///
/// # Errors
/// The configuration is wrong, no servo or several are found, or one does not keep what it is told.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (robot, _) = args.which.load(context)?;
    let line = Line::of(&robot, context)?;
    let mut operator = Terminal::new(args.headless);
    set_up(&robot, &args.joint, &mut operator, |baud| line.open_at(baud))
}

/// Sets up the joints named in `only`, all if that is empty, the last one first. `open` opens the
/// bus at a speed (bit/s).
///
/// # Errors
/// As [`run`].
pub fn set_up(
    robot: &RobotConfig,
    only: &[String],
    operator: &mut dyn Operator,
    mut open: impl FnMut(u32) -> Result<Bus>,
) -> Result<()> {
    for name in only {
        let known = robot.joint.iter().any(|joint| joint.name == *name);
        ensure!(known, "expected a joint of `{}`, found `{name}`", robot.name);
    }
    for joint in robot.joint.iter().rev() {
        if !only.is_empty() && !only.contains(&joint.name) {
            continue;
        }
        operator.ask(&format!(
            "connect only the servo of `{}` ({}), then press Enter",
            joint.name,
            Model::of(joint.servo).name
        ))?;
        let (baud, found) = search(joint, robot.bus.baud, &mut open)?;
        introduce(joint, robot.bus.baud, &found, baud, &mut open)?;
        operator.say(&format!(
            "`{}`: id {} at {} baud (was {} at {baud})",
            joint.name, joint.id, robot.bus.baud, found.id
        ))?;
    }
    operator.say("done: connect all servos; `regoal robot monitor --once` shows them")
}

/// The one servo that is connected, and the speed it listens at.
fn search(
    joint: &JointConfig,
    configured: u32,
    open: &mut impl FnMut(u32) -> Result<Bus>,
) -> Result<(u32, Found)> {
    let model = Model::of(joint.servo);
    // Most likely it is there already.
    let others = model.bauds.iter().copied().filter(|baud| *baud != configured);
    for baud in std::iter::once(configured).chain(others) {
        let found = scan(&mut open(baud)?, joint)?;
        match found.as_slice() {
            [] => {}
            [one] => {
                let name = one.model.map_or("an unknown model", |model| model.name);
                ensure!(
                    one.number == model.number,
                    "expected a {} for `{}`, found {name} ({}) with id {}",
                    model.name,
                    joint.name,
                    one.number,
                    one.id
                );
                return Ok((baud, *one));
            }
            several => {
                let ids: Vec<_> = several.iter().map(|servo| servo.id.to_string()).collect();
                bail!(
                    "expected one servo, found {} ({}); unplug the others",
                    several.len(),
                    ids.join(", ")
                );
            }
        }
    }
    bail!("expected a servo at any speed, found none; check its power and cable")
}

/// Who answers at this speed. A servo that is deaf to a broadcast ping is asked by its ids.
fn scan(bus: &mut Bus, joint: &JointConfig) -> Result<Vec<Found>> {
    let deadline = bus.clock().now() + SEARCH;
    if Model::of(joint.servo).broadcast_ping {
        return Ok(bus.scan(deadline)?.into_iter().collect());
    }
    let mut found = Vec::new();
    for id in [1, joint.id] {
        let deadline = bus.clock().now() + PATIENCE;
        match bus.ping(id, deadline) {
            Ok(servo) => found.push(servo),
            Err(BusError::NoAnswer { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    found.dedup_by_key(|servo| servo.id);
    Ok(found)
}

/// Tells a servo its id and speed, and asks it for both.
fn introduce(
    joint: &JointConfig,
    baud: u32,
    found: &Found,
    at: u32,
    open: &mut impl FnMut(u32) -> Result<Bus>,
) -> Result<()> {
    let model = Model::of(joint.servo);
    let code = model.baud_code(baud).with_context(|| {
        let known: Vec<_> = model.bauds.iter().map(u32::to_string).collect();
        format!("expected bus.baud to be one of {}, found {baud}", known.join(", "))
    })?;
    let mut bus = open(at)?;
    let tell = |bus: &mut Bus, id: u8, register: &Register, value: i32| {
        let deadline = bus.clock().now() + PATIENCE;
        match bus.write(id, register, value, deadline) {
            // It may answer with its new id, or at its new speed: it is asked below.
            Ok(_) | Err(BusError::NoAnswer { .. }) => Ok(()),
            Err(source) => Err(SettingError::Bus { joint: joint.name.clone(), source }),
        }
    };
    tell(&mut bus, found.id, &model.torque, 0)?;
    let lock = model.register(crate::hal::servo::feetech::LOCK.name);
    if let Some(lock) = lock {
        tell(&mut bus, found.id, lock, 0)?;
    }
    if found.id != joint.id {
        tell(&mut bus, found.id, &model.id, i32::from(joint.id))?;
    }
    if at != baud {
        tell(&mut bus, joint.id, &model.baud_rate, code)?;
        drop(bus);
        bus = open(baud)?;
    }
    if let Some(lock) = lock {
        tell(&mut bus, joint.id, lock, 1)?;
    }
    for (register, expected) in [(model.id, i32::from(joint.id)), (model.baud_rate, code)] {
        let found = settings::read(&mut bus, &joint.name, joint.id, &register)?;
        ensure!(
            found == expected,
            "`{}`: {}: expected {expected} after writing it, found {found}",
            joint.name,
            register.name
        );
    }
    Ok(())
}
