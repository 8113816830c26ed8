//! `regoal goal`: where the gripper shall go.

use std::time::Duration;

use anyhow::bail;

use super::{Context, Daemon, Interrupted, say, say_json};
use crate::daemon::{Client, Command, Ending, Goal, GoalReply, GoalResult};

/// Sends the arm to a goal: where the gripper's tip shall be, metres in the base frame
///
/// x is to the right, y to the back (the SO-101 reaches along -y), z up; the origin is the base.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  regoal goal 0.10 -0.25 0.12           sets the goal and returns
  regoal goal 0.10 -0.25 0.12 --wait    returns when it has ended; exit code 1 if it was missed"
)]
pub struct Args {
    /// To the right of the base (m).
    x: f32,
    /// To the back of the base (m): in front of the arm is negative.
    y: f32,
    /// Above the base (m).
    z: f32,
    /// Reached within this distance (m); the robot's own if not given.
    #[arg(short, long, value_name = "M")]
    tolerance: Option<f32>,
    /// Give up after this time (s); the robot's own if not given.
    #[arg(long, value_name = "S")]
    timeout: Option<f64>,
    /// Wait until the goal has ended. Ctrl-C takes it back.
    #[arg(short, long)]
    wait: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How often the daemon is asked whether the goal has ended.
const POLL: Duration = Duration::from_millis(20);

/// Runs the verb.
///
/// # Errors
/// No daemon, the goal is refused, or it was missed.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let client = args.daemon.client(context)?;
    let goal = Goal {
        goal: [args.x, args.y, args.z],
        tolerance_m: args.tolerance,
        timeout_s: args.timeout,
        wait: false,
    };
    goal.check().map_err(|reply| anyhow::anyhow!(reply.error))?;
    let mut reply = client.reach(&goal)?;
    if args.wait {
        reply = wait(&client, reply, context)?;
    }
    if args.json {
        say_json(&reply)?;
    } else {
        say(describe(&reply))?;
    }
    match reply.result {
        Some(result) if !result.success => bail!("the goal was not reached"),
        _ => Ok(()),
    }
}

fn wait(client: &Client, mut reply: GoalReply, context: &Context) -> anyhow::Result<GoalReply> {
    while reply.result.is_none() {
        if let Err(Interrupted) = context.check() {
            client.command(Command::Stop)?;
            return Err(Interrupted.into());
        }
        context.clock.sleep_until(context.clock.now() + POLL);
        reply = client.goal(reply.id)?;
    }
    Ok(reply)
}

fn describe(reply: &GoalReply) -> String {
    let Some(result) = &reply.result else {
        return format!("goal {}: on the way; `regoal status` shows how far", reply.id);
    };
    let GoalResult { ending, fault, success, distance_m, ticks } = result;
    let ending = match (ending, fault) {
        (Ending::Reached, _) => "reached".to_owned(),
        (Ending::TimedOut, _) => "the time was up".to_owned(),
        (Ending::Stopped, _) => "stopped".to_owned(),
        (Ending::StreamEnded, _) => "its stream ended".to_owned(),
        (Ending::ObjectLost, _) => "the object was lost".to_owned(),
        (Ending::Replaced, _) => "another goal took its place".to_owned(),
        (Ending::Faulted, fault) => format!("stopped by a fault ({})", super::status::word(fault)),
    };
    let distance =
        distance_m.map_or_else(|| "unknown".to_owned(), |m| format!("{:.1} mm", m * 1e3));
    let verdict = if *success { "success" } else { "missed" };
    format!("goal {}: {verdict}, {ending} after {ticks} ticks, {distance} from it", reply.id)
}
