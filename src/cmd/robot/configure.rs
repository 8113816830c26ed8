//! `regoal robot configure`: the servos' settings as the configuration says.

use anyhow::Result;

use super::{Line, Which};
use crate::cmd::{Context, say, say_json};
use crate::config::RobotConfig;
use crate::hal::Bus;
use crate::hal::calibration::ArmCalibration;
use crate::hal::settings::{self, Difference};

/// Puts the configuration's limits, gains and protections into the servos
///
/// Reads first, writes only what differs, and reads that back: EEPROM wears out. Torque must be off.
/// With a calibration beside the configuration, the homing offsets are put in too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal robot configure --robot firmware-config/so101-follower.toml --dry-run    what differs
  regoal robot configure --robot firmware-config/so101-follower.toml              make it so")]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only show what differs.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// A file is wrong, a servo is missing, holds, or does not keep a value.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (robot, calibration) = args.which.load_applied(context)?;
    let line = Line::of(&robot, context)?;
    let differences = configure(&mut line.open()?, &robot, calibration.as_ref(), args.dry_run)?;
    if args.json {
        let rows: Vec<_> = differences.iter().map(row).collect();
        return say_json(&serde_json::json!({ "written": !args.dry_run, "differences": rows }));
    }
    for Difference { joint, id, register, found, expected } in &differences {
        say(format!("{joint:<14} {id:>3}  {:<24} {found:>6} -> {expected}", register.name))?;
    }
    Ok(say(match (differences.len(), args.dry_run) {
        (0, _) => "all servos are as configured".to_owned(),
        (count, true) => format!("{count} registers differ; nothing was written"),
        (count, false) => format!("{count} registers written and read back"),
    })?)
}

fn row(difference: &Difference) -> serde_json::Value {
    let Difference { joint, id, register, found, expected } = difference;
    serde_json::json!({
        "joint": joint, "id": id, "register": register.name, "found": found, "expected": expected,
    })
}

/// Brings the servos to what `robot`, its calibration applied, says; what differed. All are read
/// before any is written.
///
/// # Errors
/// A servo is missing, holds, or does not keep a value.
pub fn configure(
    bus: &mut Bus,
    robot: &RobotConfig,
    calibration: Option<&ArmCalibration>,
    dry_run: bool,
) -> Result<Vec<Difference>> {
    let mut all = Vec::new();
    for joint in &robot.joint {
        let entry = calibration.map(|all| all.joint(&joint.name)).transpose()?;
        let settings = settings::settings(joint, entry)?;
        all.push(settings::differences(bus, joint, &settings)?);
    }
    if !dry_run {
        for (joint, differences) in robot.joint.iter().zip(&all) {
            if !differences.is_empty() {
                settings::write(bus, joint, differences)?;
            }
        }
    }
    Ok(all.concat())
}
