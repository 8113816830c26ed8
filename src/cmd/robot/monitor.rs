//! `regoal robot monitor`: what the servos say of themselves.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::operator::{Operator as _, Terminal};
use super::{Line, Which, calibrated};
use crate::clock::Time;
use crate::cmd::{Context, say, say_json};
use crate::config::{JointConfig, Protocol, RobotConfig};
use crate::hal::Bus;
use crate::hal::bus::BusError;
use crate::hal::calibration::Calibration;
use crate::hal::servo::{Model, Register, Unit, dynamixel, feetech, trouble};

const PATIENCE: Duration = Duration::from_millis(50);

/// Shows what the servos measure: position, goal, velocity, current, temperature, voltage, faults
///
/// Only reads: nothing is written, torque stays as it is. A servo that does not answer has an empty
/// row and hides no other. `regoal status` shows an arm that `regoal run` has.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal robot monitor --robot firmware-config/so101-follower.toml           until Ctrl-C
  regoal robot monitor --robot firmware-config/so101-follower.toml --once    one table
  regoal robot monitor --json | jq .joints[0].temperature                    one line a look")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Look once and end.
    #[arg(long)]
    once: bool,
    /// Print a line of JSON for each look.
    #[arg(long)]
    json: bool,
    /// Looks per second.
    #[arg(long, default_value_t = 10.0, value_name = "HZ")]
    rate: f64,
}

/// What one servo says of itself; what it does not say, or does not measure, is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Row {
    /// The joint.
    pub joint: String,
    /// The servo's bus id.
    pub id: u8,
    /// Whether it answered.
    pub answered: bool,
    /// Where it is (rad).
    pub position: Option<f64>,
    /// Where it is to go (rad).
    pub goal: Option<f64>,
    /// How fast it moves (rad/s).
    pub velocity: Option<f64>,
    /// How hard it drives, as a share of what it can.
    pub load: Option<f64>,
    /// What it draws (A).
    pub current: Option<f64>,
    /// Its motor (°C).
    pub temperature: Option<f64>,
    /// Its supply (V).
    pub voltage: Option<f64>,
    /// Whether it holds.
    pub torque: Option<bool>,
    /// Its troubles.
    pub faults: Vec<&'static str>,
}

/// One look at all servos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Look {
    /// When (s, of a clock that never jumps).
    pub time_s: f64,
    /// The servos, base first.
    pub joints: Vec<Row>,
}

impl Look {
    /// Whether any servo answered.
    fn heard(&self) -> bool {
        self.joints.iter().any(|row| row.answered)
    }
}

/// Why perhaps nobody answers.
fn nobody(robot: &RobotConfig) -> String {
    let bus = &robot.bus;
    format!(
        "expected servos to answer, none does; check power, cables, bus.protocol ({}) and bus.baud ({})",
        super::super::status::word(&bus.protocol),
        bus.baud
    )
}

/// Runs the verb.
///
/// # Errors
/// A file is wrong, the port fails; with `--once`, no servo answers.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    anyhow::ensure!(
        (0.1..=100.0).contains(&args.rate),
        "--rate: expected 0.1 to 100, found {}",
        args.rate
    );
    let robot = calibrated(&args.which, context)?;
    let line = Line::of(&robot, context)?;
    let mut bus = line.open()?;
    let mut terminal = Terminal::new(false);
    let live = std::io::stdout().is_terminal();
    // Lines that nobody takes back.
    let rate = if live || args.json { args.rate } else { args.rate.min(1.0) };
    loop {
        let next = bus.clock().now() + Duration::from_secs_f64(1.0 / rate);
        let look = look(&mut bus, &robot)?;
        match (args.json, args.once) {
            (true, _) => say_json(&look)?,
            (false, false) if live => terminal.show(&table(&look, &robot))?,
            (false, _) => table(&look, &robot).iter().try_for_each(say)?,
        }
        if args.once {
            anyhow::ensure!(look.heard(), "{}", nobody(&robot));
            return Ok(());
        }
        context.clock.sleep_until(next);
        context.check()?;
    }
}

/// Looks at all servos.
///
/// # Errors
/// The port fails.
pub fn look(bus: &mut Bus, robot: &RobotConfig) -> Result<Look> {
    let time = bus.clock().now();
    let joints = robot.joint.iter().map(|joint| row(bus, joint)).collect::<Result<_, _>>()?;
    Ok(Look { time_s: time.as_secs_f64(), joints })
}

/// Looks at one servo.
///
/// # Errors
/// The port fails.
pub fn row(bus: &mut Bus, joint: &JointConfig) -> Result<Row, BusError> {
    let model = Model::of(joint.servo);
    let mut row = Row { joint: joint.name.clone(), id: joint.id, ..Row::default() };
    let deadline = patience(bus);
    let answer = match bus.read_block(joint.id, model.health, deadline) {
        Ok(answer) => answer,
        Err(error @ BusError::Port(_)) => return Err(error),
        Err(_) => return Ok(row),
    };
    row.answered = true;
    let calibration = Calibration::new(joint);
    let raw = |register: &Register| register.decode_at(model.health.address, &answer.data);
    let scaled = |register: &Register| Some(f64::from(raw(register)?) * register.unit.scale()?);
    row.position = raw(&model.position).map(|ticks| calibration.radians(ticks));
    row.temperature = scaled(&model.temperature);
    row.voltage = scaled(&model.voltage);
    match model.effort.unit {
        Unit::Ampere(_) => row.current = scaled(&model.effort),
        _ => row.load = scaled(&model.effort).map(|load| calibration.velocity(load)),
    }
    let mut ask = |register: Option<&Register>| asked(bus, joint.id, register);
    let speed = match model.velocity.unit {
        Unit::Speed => ask(model.register(feetech::PHASE.name))?.map(feetech::speed_unit),
        unit => unit.scale(),
    };
    row.velocity = raw(&model.velocity)
        .zip(speed)
        .map(|(raw, unit)| calibration.velocity(f64::from(raw) * unit));
    row.goal = ask(Some(&model.goal))?.map(|ticks| calibration.radians(ticks));
    row.torque = ask(Some(&model.torque))?.map(|torque| torque != 0);
    if row.current.is_none()
        && let Some(register) = model.register(feetech::PRESENT_CURRENT.name)
    {
        let unit = register.unit.scale().unwrap_or(1.0);
        row.current = ask(Some(register))?.map(|raw| f64::from(raw) * unit);
    }
    let bits = match model.protocol {
        Protocol::Feetech => answer.status,
        Protocol::Dynamixel => {
            ask(Some(&dynamixel::HARDWARE_ERROR))?.map_or(0, dynamixel::troubles)
        }
    };
    row.faults = faults(bits);
    Ok(row)
}

/// The value of a register, `None` when there is no such register or no answer.
fn asked(bus: &mut Bus, id: u8, register: Option<&Register>) -> Result<Option<i32>, BusError> {
    let Some(register) = register else { return Ok(None) };
    let deadline = patience(bus);
    match bus.read(id, register, deadline) {
        Ok((value, _)) => Ok(Some(value)),
        Err(error @ BusError::Port(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn patience(bus: &Bus) -> Time {
    bus.clock().now() + PATIENCE
}

fn faults(bits: u8) -> Vec<&'static str> {
    [
        (trouble::VOLTAGE, "voltage"),
        (trouble::ANGLE, "angle"),
        (trouble::OVERHEAT, "overheat"),
        (trouble::OVERCURRENT, "overcurrent"),
        (trouble::OVERLOAD, "overload"),
    ]
    .into_iter()
    .filter(|(bit, _)| bits & bit != 0)
    .map(|(_, name)| name)
    .collect()
}

fn table(look: &Look, robot: &RobotConfig) -> Vec<String> {
    let head = format!(
        "{:<16} {:>3} {:>9} {:>9} {:>9} {:>6} {:>8} {:>6} {:>6} {:>7}  faults",
        "joint", "id", "position", "goal", "velocity", "load", "current", "temp", "volt", "torque"
    );
    let units = format!(
        "{:<16} {:>3} {:>9} {:>9} {:>9} {:>6} {:>8} {:>6} {:>6} {:>7}",
        "", "", "rad", "rad", "rad/s", "%", "A", "°C", "V", ""
    );
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let rows = look.joints.iter().map(|row| {
        if !row.answered {
            return format!("{:<16} {:>3} no answer", row.joint, row.id);
        }
        format!(
            "{:<16} {:>3} {:>9} {:>9} {:>9} {:>6} {:>8} {:>6} {:>6} {:>7}  {}",
            row.joint,
            row.id,
            number(row.position, 3),
            number(row.goal, 3),
            number(row.velocity, 2),
            number(row.load.map(|load| 100.0 * load), 0),
            number(row.current, 2),
            number(row.temperature, 0),
            number(row.voltage, 1),
            row.torque.map_or("-", |on| if on { "on" } else { "off" }),
            row.faults.join(", ")
        )
    });
    let hint = (!look.heard()).then(|| nobody(robot));
    [head, units].into_iter().chain(rows).chain(hint).collect()
}
