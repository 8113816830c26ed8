//! `regoal emulate`: an emulated servo bus on a pseudo terminal that any program can open.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;

use super::Context;
use crate::config::RobotConfig;
use crate::env::World;
use crate::hal::{Emulator, PtyServer};
use crate::kinematics::Chain;

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
    /// Put the arm at a table with a cube at this place (m, base frame), as in the environment
    /// `arm_pick_place`; where the cube is at the end is printed
    #[arg(long, num_args = 2, value_names = ["X", "Y"], allow_negative_numbers = true)]
    pub cube: Option<Vec<f64>>,
}

/// Runs the verb.
///
/// # Errors
/// The configuration is wrong or the system gives no pseudo terminal.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
    let world = args.cube.as_deref().map(|cube| table(&robot, cube)).transpose()?;
    let server = serve(&robot, args.seed, world.clone(), context)?;
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
    if let Some(world) = world {
        let [x, y, z] = world.lock().unwrap_or_else(PoisonError::into_inner).cube();
        println!("cube at {x:.3} {y:.3} {z:.3}");
    }
    Ok(context.check()?)
}

/// The arm at home at a table with a cube.
fn table(robot: &RobotConfig, cube: &[f64]) -> Result<Arc<Mutex<World>>> {
    let [x, y] = *cube else { bail!("--cube: expected X and Y, found {} numbers", cube.len()) };
    ensure!(x.is_finite() && y.is_finite(), "--cube: expected two lengths, found {x} and {y}");
    let home: Vec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
    Ok(Arc::new(Mutex::new(World::new(&Chain::of(robot)?, &home, [x, y]))))
}

/// Starts the emulator of a robot on a pseudo terminal, in a world if there is one.
///
/// # Errors
/// The system gives no pseudo terminal.
pub fn serve(
    robot: &RobotConfig,
    seed: u64,
    world: Option<Arc<Mutex<World>>>,
    context: &Context,
) -> Result<PtyServer> {
    let mut emulator = Emulator::new(robot, seed);
    if let Some(world) = world {
        emulator.surround(world);
    }
    let emulator = Arc::new(Mutex::new(emulator));
    PtyServer::start(emulator, Arc::clone(&context.clock)).context("opening a pseudo terminal")
}
