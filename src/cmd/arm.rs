//! `regoal arm`: torque on or off.

use super::{Context, Daemon, say, say_json};
use crate::daemon::Command;

/// Turns the arm's torque on: it holds where it is and takes goals. Also clears a fault
///
/// Whatever stopped the arm, nothing moves again before this.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal arm          torque on, hold; clears a fault
  regoal arm --off    torque off: the arm may sink, hold it")]
pub struct Args {
    /// Torque off: the joints move freely, the arm may sink.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No daemon, or the command is refused.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let command = if args.off { Command::Disarm } else { Command::Arm };
    args.daemon.client(context)?.command(command)?;
    if args.json {
        return say_json(&serde_json::json!({ "armed": !args.off }));
    }
    Ok(say(if args.off {
        "disarmed: torque is off"
    } else {
        "armed: the arm holds and takes goals"
    })?)
}
