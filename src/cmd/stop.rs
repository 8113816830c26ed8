//! `regoal stop`: give up the goal, or stop and latch.

use super::{Context, Daemon, say, say_json};
use crate::daemon::Command;

/// Stops the arm: it gives up its goal and holds where it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal stop                give up the goal and hold; new goals are taken
  regoal stop --emergency    stop at once; nothing moves before `regoal arm`")]
pub struct Args {
    /// Stop at once and take no goal until `regoal arm`. Torque stays on, so nothing falls.
    #[arg(short, long)]
    emergency: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No daemon, or the control loop does not answer.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let command = if args.emergency { Command::EmergencyStop } else { Command::Stop };
    args.daemon.client(context)?.command(command)?;
    if args.json {
        return say_json(&serde_json::json!({ "stopped": true, "latched": args.emergency }));
    }
    Ok(say(if args.emergency {
        "stopped: nothing moves before `regoal arm`"
    } else {
        "stopped: the arm holds and takes new goals"
    })?)
}
