//! `regoal emulate`: an emulated servo bus on a pseudo terminal that any program can open.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;

use super::Context;
use crate::config::RobotConfig;
use crate::hal::{Emulator, PtyServer};

/// Emulates a robot's servo bus on a pseudo terminal, until Ctrl-C.
///
/// Any program that speaks the servos' protocol can open the printed path as a serial port.
///
/// Example: regoal emulate --link /tmp/arm   (then: regoal run --port /tmp/arm)
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The robot's configuration
    #[arg(default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// Seed of the measurement noise
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Make this a symbolic link to the port; removed at the end
    #[arg(long, value_name = "PATH")]
    pub link: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// The configuration is wrong or the system gives no pseudo terminal.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
    let server = serve(&robot, args.seed, context)?;
    let path = server.path().to_owned();
    if let Some(link) = &args.link {
        std::os::unix::fs::symlink(&path, link)
            .with_context(|| format!("linking {} to {}", link.display(), path.display()))?;
    }
    println!("{}", path.display());
    while context.check().is_ok() {
        context.clock.sleep_until(context.clock.now() + Duration::from_millis(50));
    }
    if let Some(link) = &args.link {
        std::fs::remove_file(link).with_context(|| format!("removing {}", link.display()))?;
    }
    Ok(context.check()?)
}

/// Starts the emulator of a robot on a pseudo terminal.
///
/// # Errors
/// The system gives no pseudo terminal.
pub fn serve(robot: &RobotConfig, seed: u64, context: &Context) -> Result<PtyServer> {
    let emulator = Arc::new(Mutex::new(Emulator::new(robot, seed)));
    PtyServer::start(emulator, Arc::clone(&context.clock)).context("opening a pseudo terminal")
}
