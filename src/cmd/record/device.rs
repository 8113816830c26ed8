//! Which device a person steers with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use crate::cmd::Context;
use crate::cmd::robot::{Line, Which, calibrated};
use crate::config::{JointConfig, Protocol, RobotConfig};
use crate::hal::bus::BusError;
use crate::hal::{Arm, SerialPort};
use crate::teleop::{Keys, Kinesthetic, Leader, Mapping, Scripted, Teleoperator, keyboard};

/// The devices; one of them.
#[derive(Debug, clap::Args)]
#[group(skip)]
#[command(group(clap::ArgGroup::new("device").required(true)))]
pub struct DeviceArgs {
    /// A second arm of this configuration, moved by hand: the joints mirror it by name.
    #[arg(long, value_name = "FILE", group = "device")]
    leader: Option<PathBuf>,
    /// The keys of this terminal move the arm's tip.
    #[arg(long, group = "device")]
    keyboard: bool,
    /// A gamepad moves the arm's tip, while its left shoulder button is held; of several, this one.
    #[arg(long, num_args = 0..=1, value_name = "/dev/input/eventN", group = "device")]
    gamepad: Option<Option<PathBuf>>,
    /// The arm itself is led by hand, its torque off: hold it.
    #[arg(long, group = "device")]
    kinesthetic: bool,
    /// The motors brake while the arm is led by hand, and it sinks slowly: Feetech servos can.
    #[arg(long, requires = "kinesthetic")]
    damped: bool,
    /// A script reaches for goals that it draws.
    #[arg(long, group = "device")]
    scripted: bool,
    /// The leader's serial port, instead of its configuration's.
    #[arg(long, value_name = "PATH", requires = "leader")]
    leader_port: Option<String>,
    /// Another joint of the leader for a joint of the arm, or so many times its angle.
    #[arg(long, value_name = "JOINT=LEADER_JOINT[*SCALE]", requires = "leader")]
    map: Vec<Mapping>,
}

impl DeviceArgs {
    /// Opens the device; of a keyboard, also where its keys come from.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open(
        &self,
        robot: &RobotConfig,
        seed: u64,
        context: &Context,
    ) -> Result<(Box<dyn Teleoperator>, Option<Keys>)> {
        if let Some(file) = &self.leader {
            let which = Which { robot: file.clone(), port: self.leader_port.clone() };
            return Ok((Box::new(open_leader(&which, robot, &self.map, context)?), None));
        }
        if self.keyboard {
            let (keyboard, keys) = keyboard(robot)?;
            return Ok((Box::new(keyboard), Some(keys)));
        }
        if let Some(path) = &self.gamepad {
            return Ok((gamepad(path.as_deref(), robot, context)?, None));
        }
        if self.kinesthetic {
            self.check_brakes(robot)?;
            return Ok((Box::new(Kinesthetic { damped: self.damped }), None));
        }
        Ok((Box::new(Scripted::new(robot, seed)?), None))
    }
}

impl DeviceArgs {
    fn check_brakes(&self, robot: &RobotConfig) -> Result<()> {
        let unable = |joint: &&JointConfig| joint.servo.protocol() != Protocol::Feetech;
        if let Some(joint) = robot.joint.iter().find(unable).filter(|_| self.damped) {
            bail!(
                "--damped: expected Feetech servos, which brake without torque, found joint `{}` with \
                 another: leave it out, and hold the arm",
                joint.name
            );
        }
        Ok(())
    }
}

/// Opens a leader arm on its port; an emulated one on a pseudo terminal.
///
/// # Errors
/// Its configuration is wrong, it does not open, or a joint has no counterpart.
pub fn open_leader(
    which: &Which,
    robot: &RobotConfig,
    map: &[Mapping],
    context: &Context,
) -> Result<Leader> {
    let config = calibrated(which, context)?;
    let line = Line::of(&config, context)?;
    let clock = Arc::clone(&context.clock);
    let arm = config.clone();
    let open = move || {
        let serial = SerialPort::open(line.path(), arm.bus.baud).map_err(BusError::from)?;
        Arm::listen(&arm, Box::new(serial), Arc::clone(&clock))
    };
    Leader::open(robot, &config, map, open)
        .with_context(|| format!("opening the leader `{}`", config.name))
}

/// Opens a gamepad: the one named, or the first that the system knows as one.
#[cfg(feature = "gamepad")]
fn gamepad(
    path: Option<&Path>,
    robot: &RobotConfig,
    context: &Context,
) -> Result<Box<dyn Teleoperator>> {
    use rustix::fs::{Mode, OFlags, open};
    const KNOWN: &str = "/dev/input/by-id";
    let is_pad = |path: &PathBuf| path.to_string_lossy().ends_with("-event-joystick");
    let found = || context.storage.list(Path::new(KNOWN)).ok()?.into_iter().find(is_pad);
    let path = path.map(Path::to_owned).or_else(found);
    let path = path.with_context(|| {
        format!("expected a gamepad in {KNOWN}, found none: plug it in, or name it: --gamepad PATH")
    })?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = open(&path, flags, Mode::empty()).with_context(|| {
        format!("opening {} (who may: group `input`, or a udev rule)", path.display())
    })?;
    let range = |device: &std::fs::File, axis| crate::os::axis_range(device, axis).ok();
    let pad = crate::teleop::Gamepad::new(robot, std::fs::File::from(device), range)?;
    log::info!("{}: {}", path.display(), crate::teleop::CONTROLS);
    Ok(Box::new(pad))
}

#[cfg(not(feature = "gamepad"))]
fn gamepad(_: Option<&Path>, _: &RobotConfig, _: &Context) -> Result<Box<dyn Teleoperator>> {
    bail!(
        "this program was built without gamepads: build it with `cargo build --release --features gamepad`"
    )
}
