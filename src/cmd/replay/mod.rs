//! `regoal replay`: an episode played again, on the arm or through the loop.

mod fit;
mod play;
mod verify;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::Context;

/// Plays an episode's motion again on the arm, or verifies how it came about
///
/// What is played are the goals that were sent to the servos, or with --measured where the joints were;
/// --from and --to choose a part. All of it passes the safety gate: the arm first goes to where the motion
/// begins, starts slowly, and keeps the limits of its configuration. Ctrl-C stops it along those limits,
/// SIGUSR1 is an e-stop. At the end each joint's tracking error is told: where it was measured, less where
/// it was wished in that tick.
///
/// An episode of another robot, calibration or limits is refused; --anyway plays what the limits allow.
///
/// With --verify nothing moves: the control loop itself does the episode again, in its recorded state and
/// with its recorded inputs (what was measured and when, commands, the policy's answers, a person's
/// wishes), and every command must come out byte for byte as it was sent. The first difference is told,
/// and the exit code is 1. With --robot it tells what another limit would have changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  regoal record --scripted --count 1 --headless                a motion to play, of the emulated arm
  regoal replay episodes/episode-000000.mcap                   plays it on the emulated arm
  regoal replay episodes/episode-000000.mcap --robot firmware-config/so101-follower.toml --speed 0.5
  regoal replay --verify episodes                              were these commands made by this loop?")]
pub struct Args {
    /// The episode; with --verify also a folder of episodes.
    episode: PathBuf,
    /// No arm: the loop does it again.
    #[arg(long, conflicts_with_all = ["speed", "from", "to", "measured", "anyway", "arm"])]
    verify: bool,
    /// The robot's configuration: the emulated arm's; with --verify the one that the episode tells.
    #[arg(long, value_name = "FILE")]
    robot: Option<PathBuf>,
    /// The serial port, instead of the configuration's; `emulated` for the built-in emulator.
    #[arg(long, value_name = "PATH")]
    port: Option<String>,
    /// So many times as fast as it was recorded.
    #[arg(long, default_value_t = 1.0, value_name = "TIMES")]
    speed: f64,
    /// Begin so many seconds after the episode's begin.
    #[arg(long, default_value_t = 0.0, value_name = "S")]
    from: f64,
    /// End so many seconds after the episode's begin.
    #[arg(long, value_name = "S")]
    to: Option<f64>,
    /// Play where the joints were measured, instead of where they were sent.
    #[arg(long)]
    measured: bool,
    /// Play it although it is of another robot, calibration or limits: what is beyond a limit is cut.
    #[arg(long)]
    anyway: bool,
    /// Power up at once; else a real arm waits for Enter.
    #[arg(long)]
    arm: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The episode cannot be read or does not fit the arm, the arm cannot be used: nothing has moved then.
/// It was stopped by a fault or by Ctrl-C.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.verify {
        return verify::verify(args, context);
    }
    let speeds = 0.01..=10.0;
    ensure!(speeds.contains(&args.speed), "--speed: expected 0.01 to 10, found {}", args.speed);
    let to = args.to.unwrap_or(f64::INFINITY);
    ensure!(
        args.from >= 0.0 && args.from < to,
        "--from and --to: expected 0 <= from < to, found {} and {to}",
        args.from
    );
    play::play(args, (args.from, to), context)
}
