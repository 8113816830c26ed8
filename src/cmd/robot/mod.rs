//! `regoal robot`: sets up an arm, calibrates it, looks at its servos.

pub mod calibrate;
pub mod configure;
pub mod find_port;
pub mod monitor;
pub mod operator;
pub mod setup;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::{Context, emulate};
use crate::config::RobotConfig;
use crate::hal::calibration::ArmCalibration;
use crate::hal::{Bus, PtyServer, SerialPort};

/// The port of the built-in emulator.
pub(super) const EMULATED: &str = "emulated";

/// Which arm is meant.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// The robot's configuration
    #[arg(long, default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// The serial port, instead of the configuration's; `emulated` for the built-in emulator
    #[arg(long, value_name = "PATH")]
    pub port: Option<String>,
}

impl Which {
    /// The arm's configuration as the file says, and its calibration if there is one.
    ///
    /// # Errors
    /// A file is wrong.
    pub fn load(&self, context: &Context) -> Result<(RobotConfig, Option<ArmCalibration>)> {
        let mut robot = RobotConfig::load(context.storage.as_ref(), &self.robot)?;
        if let Some(port) = &self.port {
            robot.bus.port.clone_from(port);
        }
        let path = self.calibration_path();
        Ok((robot, ArmCalibration::load(context.storage.as_ref(), &path)?))
    }

    /// The same, the calibration applied. The built-in emulator begins anew each time and has none.
    ///
    /// # Errors
    /// A file is wrong, or the calibration is of another arm.
    pub fn load_applied(&self, context: &Context) -> Result<(RobotConfig, Option<ArmCalibration>)> {
        let (mut robot, calibration) = self.load(context)?;
        let calibration = calibration.filter(|_| robot.bus.port != EMULATED);
        if let Some(calibration) = &calibration {
            calibration
                .apply(&mut robot)
                .with_context(|| format!("applying {}", self.calibration_path().display()))?;
        }
        Ok((robot, calibration))
    }

    /// Where the arm's calibration is kept.
    pub fn calibration_path(&self) -> PathBuf {
        ArmCalibration::path_of(&self.robot)
    }
}

/// A robot's configuration with its calibration applied, if there is one.
///
/// # Errors
/// As [`Which::load_applied`].
pub fn calibrated(which: &Which, context: &Context) -> Result<RobotConfig> {
    Ok(which.load_applied(context)?.0)
}

/// A port to an arm; of an emulated one the emulator lives as long.
pub struct Line {
    path: String,
    context: Context,
    robot: RobotConfig,
    _emulator: Option<PtyServer>,
}

impl Line {
    /// Finds the port that a configuration names, or starts the emulator.
    ///
    /// # Errors
    /// A servo is not emulated, or the system gives no pseudo terminal.
    pub fn of(robot: &RobotConfig, context: &Context) -> Result<Self> {
        let emulator = match robot.bus.port.as_str() {
            EMULATED => Some(emulate::serve(robot, context)?),
            _ => None,
        };
        let path = match &emulator {
            Some(server) => server.path().display().to_string(),
            None => robot.bus.port.clone(),
        };
        Ok(Self { path, context: context.clone(), robot: robot.clone(), _emulator: emulator })
    }

    /// Where the port is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The bus at the configured speed.
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn open(&self) -> Result<Bus> {
        self.open_at(self.robot.bus.baud)
    }

    /// The bus at this speed (bit/s).
    ///
    /// # Errors
    /// The port cannot be opened.
    pub fn open_at(&self, baud: u32) -> Result<Bus> {
        let serial = SerialPort::open(&self.path, baud)?;
        let clock = Arc::clone(&self.context.clock);
        Ok(Bus::new(Box::new(serial), clock, self.robot.bus.protocol, baud))
    }
}
