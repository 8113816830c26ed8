//! `regoal robot calibrate`: finds the middle and the ends of each joint's travel.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::operator::{Operator, Terminal};
use super::{EMULATED, Line, Which, configure};
use crate::cmd::{Context, say};
use crate::config::{JointConfig, RobotConfig};
use crate::hal::Bus;
use crate::hal::bus::Ask;
use crate::hal::calibration::{ArmCalibration, Plan, Sweep};
use crate::hal::servo::{Block, Model, Register, dynamixel};
use crate::hal::settings;
use crate::joints::JointVec;

/// Between two looks at the joints: a hand turns none by half a turn in this time.
const PERIOD: Duration = Duration::from_millis(20);
/// How far a joint may be beyond its range after the offsets are written (ticks): it is in a hand.
const PLAY: i32 = 40;

/// Finds the middle and the ends of each joint's travel
///
/// Torque goes off: hold the arm. Then lead every joint from one end of its travel to the other, in
/// any order, as often as you like, and press Enter; a joint that turns without end is to be left at
/// its middle. The offsets that follow are written into the servos, read back, and kept beside the
/// configuration as NAME.calibration.toml. Nothing is written before you press Enter.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal robot calibrate --robot firmware-config/so101-follower.toml
  regoal robot calibrate --robot so101.toml --import my_arm.json    LeRobot's file; then `configure`
  regoal robot calibrate --robot so101.toml --export my_arm.json    for LeRobot")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Take LeRobot's calibration file instead; the servos are not touched.
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    import: Option<PathBuf>,
    /// Write the calibration as LeRobot's file; the servos are not touched.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Print plain lines only; Enter is a line on standard input.
    #[arg(long)]
    headless: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file is wrong, a servo is missing, a joint was not swept, or a servo does not keep its offset.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (robot, calibration) = args.which.load(context)?;
    let (storage, path) = (context.storage.as_ref(), args.which.calibration_path());
    if let Some(file) = &args.export {
        let calibration = calibration
            .with_context(|| format!("{} is not there; calibrate first", path.display()))?;
        let json = calibration.to_lerobot()?;
        storage.replace(file, json.as_bytes()).with_context(|| file.display().to_string())?;
        return Ok(say(format!("wrote {}", file.display()))?);
    }
    if let Some(file) = &args.import {
        let json = storage.read(file).with_context(|| file.display().to_string())?;
        let calibration =
            ArmCalibration::from_lerobot(&robot.name, &String::from_utf8_lossy(&json))?;
        calibration.apply(&mut robot.clone())?;
        calibration.save(storage, &path)?;
        return Ok(say(format!("wrote {}; now `regoal robot configure`", path.display()))?);
    }
    ensure!(
        robot.bus.port != EMULATED,
        "the built-in emulator begins anew each time; start `regoal emulate --link /tmp/arm` and \
         calibrate with --port /tmp/arm"
    );
    let line = Line::of(&robot, context)?;
    let mut operator = Terminal::new(args.headless);
    let calibration = calibrate(&mut line.open()?, &robot, &mut operator, context)?;
    calibration.save(storage, &path)?;
    Ok(say(format!("wrote {} ({})", path.display(), calibration.hash()?))?)
}

/// Calibrates an arm: sweeps, writes offsets and limits, reads them back.
///
/// # Errors
/// As [`run`].
pub fn calibrate(
    bus: &mut Bus,
    robot: &RobotConfig,
    operator: &mut dyn Operator,
    context: &Context,
) -> Result<ArmCalibration> {
    operator.ask("torque goes off: hold the arm, then press Enter")?;
    for joint in &robot.joint {
        let deadline = bus.clock().now() + 10 * PERIOD;
        bus.write(joint.id, &Model::of(joint.servo).torque, 0, deadline)?;
    }
    operator.say("lead every joint from end to end, leave it near its middle, then press Enter")?;
    let sweep = sweep(bus, robot, operator, context)?;
    let calibration = sweep.finish(&robot.name)?;
    let mut calibrated = robot.clone();
    calibration.apply(&mut calibrated)?;
    let written = configure::configure(bus, &calibrated, Some(&calibration), false)?;
    operator.say(&format!("{} registers written and read back", written.len()))?;
    let positions = positions(bus, robot)?;
    for (entry, position) in calibration.joint.iter().zip(&positions) {
        let (lowest, highest) = (entry.range_min - PLAY, entry.range_max + PLAY);
        ensure!(
            position.is_none_or(|at| (lowest..=highest).contains(&at)),
            "`{}`: expected a position of {lowest} to {highest} with its new offset, found {}; \
             calibrate again",
            entry.name,
            position.unwrap_or_default()
        );
    }
    Ok(calibration)
}

/// Looks at the joints until Enter is pressed.
fn sweep(
    bus: &mut Bus,
    robot: &RobotConfig,
    operator: &mut dyn Operator,
    context: &Context,
) -> Result<Sweep> {
    let mut plans = Vec::new();
    for joint in &robot.joint {
        plans.push(Plan::of(joint, offset(bus, joint)?));
    }
    let mut sweep = Sweep::new(plans);
    while !operator.pressed()? {
        context.check()?;
        let next = bus.clock().now() + PERIOD;
        for (i, position) in positions(bus, robot)?.iter().enumerate() {
            if let Some(position) = position {
                sweep.see(i, *position);
            }
        }
        operator.show(&table(robot, &sweep))?;
        bus.clock().sleep_until(next);
    }
    Ok(sweep)
}

/// What a servo adds to its encoder, or takes off it (ticks).
fn offset(bus: &mut Bus, joint: &JointConfig) -> Result<i32> {
    let model = Model::of(joint.servo);
    let Some(homing) = model.homing else { return Ok(0) };
    let mut read = |register| settings::read(bus, &joint.name, joint.id, register);
    let written = read(&homing.register)?;
    let mode = model.register(dynamixel::MODE.name).map(&mut read).transpose()?;
    Ok(mode.map_or(written, |mode| homing.counts(written, mode)))
}

/// Where the servos say they are (ticks); `None` of one that does not answer.
fn positions(bus: &mut Bus, robot: &RobotConfig) -> Result<JointVec<Option<i32>>> {
    let register = |servo| Model::of(servo).position;
    let asks: JointVec<Ask> = robot
        .joint
        .iter()
        .map(|joint| {
            let Register { address, size, .. } = register(joint.servo);
            let together = Model::of(joint.servo).sync_read;
            Ask { id: joint.id, block: Block { address, size }, together }
        })
        .collect();
    let deadline = bus.clock().now() + PERIOD;
    let answers = bus.read_many(&asks, deadline)?;
    let position = |(joint, answer): (&JointConfig, &Result<_, _>)| {
        let answer: &crate::hal::bus::Answer = answer.as_ref().ok()?;
        register(joint.servo).decode(&answer.data)
    };
    Ok(robot.joint.iter().zip(&answers).map(position).collect())
}

fn table(robot: &RobotConfig, sweep: &Sweep) -> Vec<String> {
    let row = |(i, joint): (usize, &JointConfig)| {
        let turn = f64::from(Model::of(joint.servo).ticks);
        let degrees = sweep.travelled(i).unwrap_or(0) as f64 / turn * 360.0;
        let far = if sweep.is_swept(i) { "enough" } else { "" };
        format!("{:<16} {degrees:>6.1}° {far}", joint.name)
    };
    robot.joint.iter().enumerate().map(row).collect()
}
