//! `regoal takeover`: a person steers instead of the policy, or lets go.

use super::{Context, Daemon, say, say_json};
use crate::daemon::Command;

/// Takes the arm over from its policy: a person steers until `--end`
///
/// With what `regoal run` was given: --leader or --keyboard. The goal and its episode stay, and what the
/// person does is marked in it as an intervention, which `regoal finetune` learns from as from a
/// demonstration. With --end the policy goes on toward the goal, as from a new beginning.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal takeover          you steer
  regoal takeover --end    the policy steers")]
pub struct Args {
    /// Let go.
    #[arg(long)]
    end: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// No daemon, or the command is refused: the arm is not armed, or nobody is there to steer.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let command = if args.end { Command::LetGo } else { Command::TakeOver };
    args.daemon.client(context)?.command(command)?;
    if args.json {
        return say_json(&serde_json::json!({ "person_steers": !args.end }));
    }
    Ok(say(if args.end { "let go: the policy steers" } else { "taken over: you steer" })?)
}
