//! `regoal goal`: where the arm shall go.

use std::time::Duration;

use anyhow::bail;

use super::{Context, Daemon, Interrupted, say, say_json, status};
use crate::daemon::{Client, Command, Ending, Goal, GoalReply, GoalResult};

/// Sends the arm to a goal: a place, a pose or joint angles, as its goal space is
///
/// The goal space is `control.goal_space` of the arm's configuration.
/// A place or a pose of the gripper's tip is in metres and radians in the base frame: x is to the
/// right, y to the back (the SO-101 reaches along -y), z up; the origin is the base. A goal of joints
/// is in radians, by name or all of them, base first. What the arm cannot reach is refused.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  regoal goal 0.10 -0.25 0.12           sets the goal and returns
  regoal goal 0.10 -0.25 0.12 --wait    returns when it has ended; exit code 1 if it was missed
  regoal goal 0.10 -0.25 0.12 0 1.57 0  a pose: roll, pitch and yaw too
  regoal goal 0.15 -0.20 0.12 --queue   after the goals before it, not instead of them
  regoal goal --joints shoulder_pan=0.2,elbow_flex=-0.4    the other joints stay"
)]
pub struct Args {
    /// X Y Z (m), for a pose X Y Z ROLL PITCH YAW (m, rad), or all joints (rad).
    #[arg(value_name = "NUMBER", conflicts_with = "joints")]
    goal: Vec<f32>,
    /// Joints by name (rad); those not named stay where they are.
    #[arg(long, value_name = "NAME=RAD", value_delimiter = ',', value_parser = named)]
    joints: Vec<(String, f32)>,
    /// Reached within this distance (m or rad); the robot's own if not given.
    #[arg(short, long, value_name = "DISTANCE")]
    tolerance: Option<f32>,
    /// Give up after this time (s); the robot's own if not given.
    #[arg(long, value_name = "S")]
    timeout: Option<f64>,
    /// Try a goal that is out of reach too: the arm learns from failures.
    #[arg(long)]
    anyway: bool,
    /// Wait until the goal has ended. Ctrl-C takes it back.
    #[arg(short, long)]
    wait: bool,
    /// Reach it after the goals that were given before, not instead of them.
    #[arg(short, long, conflicts_with = "wait")]
    queue: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn named(text: &str) -> Result<(String, f32), String> {
    let wrong = || format!("expected NAME=RAD, such as elbow_flex=-0.4, found {text}");
    let (name, angle) = text.split_once('=').ok_or_else(wrong)?;
    Ok((name.trim().to_owned(), angle.trim().parse().map_err(|_| wrong())?))
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
        goal: args.goal.clone(),
        joints: args.joints.iter().cloned().collect(),
        tolerance: args.tolerance,
        timeout_s: args.timeout,
        anyway: args.anyway,
        wait: false,
    };
    goal.check().map_err(|reply| anyhow::anyhow!(reply.error))?;
    if args.queue {
        return enqueue(&client, &goal, args.json);
    }
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

fn enqueue(client: &Client, goal: &Goal, json: bool) -> anyhow::Result<()> {
    let queue = client.enqueue(goal)?;
    if json {
        return say_json(&queue);
    }
    let before = queue.entries.iter().filter(|e| e.result.is_none() && e.refusal.is_none()).count();
    Ok(say(format!("queued, {} before it", before.saturating_sub(1)))?)
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
    let GoalResult { ending, fault, success, distance, unit, ticks } = result;
    let ending = match (ending, fault) {
        (Ending::Reached, _) => "reached".to_owned(),
        (Ending::TimedOut, _) => "the time was up".to_owned(),
        (Ending::Stopped, _) => "stopped".to_owned(),
        (Ending::StreamEnded, _) => "its stream ended".to_owned(),
        (Ending::ObjectLost, _) => "the object was lost".to_owned(),
        (Ending::Replaced, _) => "another goal took its place".to_owned(),
        (Ending::Faulted, fault) => format!("stopped by a fault ({})", status::word(fault)),
    };
    let distance = distance
        .map_or_else(|| "an unknown distance".to_owned(), |far| status::distance(far, unit));
    let verdict = if *success { "success" } else { "missed" };
    format!("goal {}: {verdict}, {ending} after {ticks} ticks, {distance} from it", reply.id)
}
