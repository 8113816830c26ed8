//! `regoal status`: how the robot is.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use super::{Context, Daemon, printable, say, say_json};
use crate::control::Quantiles;
use crate::daemon::Status;
use crate::episode::Mode;
use crate::joints::GoalSpace;
use crate::kinematics::goal_pose;

/// Shows how the arm is: what it does, joints and goal, and the health of bus, loop and log
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal status
  regoal status --watch                     twice a second until Ctrl-C
  regoal status --json | jq .distance       for programs")]
pub struct Args {
    /// Again and again, twice a second, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON, one line each time.
    #[arg(long)]
    json: bool,
}

const WATCH_PERIOD: Duration = Duration::from_millis(500);

/// Runs the verb.
///
/// # Errors
/// No daemon, or it does not answer.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let client = args.daemon.client(context)?;
    let clear = args.watch && std::io::stdout().is_terminal();
    loop {
        let status = client.status()?;
        if args.json {
            say_json(&status)?;
        } else {
            // Clears the screen and goes to its top left corner.
            say(format!("{}{}", if clear { "\x1b[2J\x1b[H" } else { "" }, describe(&status)))?;
        }
        if !args.watch || context.check().is_err() {
            return Ok(());
        }
        context.clock.sleep_until(context.clock.now() + WATCH_PERIOD);
        if context.check().is_err() {
            return Ok(());
        }
    }
}

/// A value as the API calls it, for people: `emergency_stop` is "emergency stop".
pub(super) fn word(value: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap_or_default();
    let name = json.get("mode").unwrap_or(&json);
    name.as_str().unwrap_or("unknown").replace('_', " ")
}

fn describe(s: &Status) -> String {
    let mode = match s.mode {
        Mode::Faulted(fault) => format!("faulted ({fault}): clear it with `regoal arm`"),
        mode => word(&mode),
    };
    let mut text = format!("{}: {mode}\n", printable(&s.robot));
    if !s.alive {
        text.push_str("the control loop has ENDED: what follows is how it was then\n");
    }
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9} {value}");
    };
    let name = match s.goal_space {
        GoalSpace::ObjectPosition => "object",
        _ => "tip",
    };
    let away = s.distance.map_or(String::new(), |far| format!("{} away", distance(far, &s.unit)));
    if matches!(s.goal_space, GoalSpace::JointPosition | GoalSpace::None) {
        // Each joint and its goal stand in the table.
        let goal = s.desired_goal.as_ref().filter(|goal| !goal.is_empty());
        goal.iter().for_each(|_| line("goal", away.clone()));
    } else {
        line(name, at(&s.achieved_goal));
        if let Some(goal) = &s.desired_goal {
            let goal: Vec<_> = goal.iter().copied().map(Some).collect();
            line("goal", at(&goal) + if away.is_empty() { "" } else { ", " } + &away);
        }
    }
    if let Some(policy) = &s.policy {
        line("policy", printable(policy));
    }
    joints(&mut text, s);
    health(&mut text, s);
    text.trim_end().to_owned()
}

/// A distance between goals, for people.
pub(super) fn distance(far: f32, unit: &str) -> String {
    if unit == "m" { format!("{:.1} mm", far * 1e3) } else { format!("{far:.3} {unit}") }
}

/// A place (m), and how the tool is turned there (rad) if it says so.
fn at(goal: &[Option<f32>]) -> String {
    let known: Vec<f32> = goal.iter().copied().flatten().collect();
    if known.is_empty() || known.len() < goal.len() {
        return "?".into();
    }
    let write =
        |numbers: &[f32]| numbers.iter().map(|x| format!("{x:+.3}")).collect::<Vec<_>>().join(" ");
    let place = format!("{} m", write(&known[..known.len().min(3)]));
    match goal_pose(&known) {
        Some(pose) => {
            let (roll, pitch, yaw) = pose.rotation.euler_angles();
            let turn = write(&[roll, pitch, yaw].map(|angle| angle as f32));
            format!("{place}, roll pitch yaw {turn} rad")
        }
        None => place,
    }
}

fn joints(text: &mut String, s: &Status) {
    let names = s.joints.iter().map(|j| printable(&j.name)).collect::<Vec<_>>();
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).max(5);
    let goals = s.desired_goal.as_ref().filter(|_| s.goal_space == GoalSpace::JointPosition);
    let head = if goals.is_some() { "     goal" } else { "" };
    let _ = writeln!(
        text,
        "\n{:<width$}  {:>8} {:>8} {:>6} {:>8}{head}",
        "joint", "rad", "rad/s", "°C", "age ms"
    );
    for (i, (name, joint)) in names.iter().zip(&s.joints).enumerate() {
        let goal = goals.and_then(|goals| goals.get(i));
        let goal = goal.map_or(String::new(), |goal| format!(" {goal:>8.4}"));
        let number = |x: Option<f32>, digits| x.map_or("?".into(), |x| format!("{x:.digits$}"));
        let _ = writeln!(
            text,
            "{name:<width$}  {:>8} {:>8} {:>6} {:>8.1}{goal}",
            number(joint.position_rad, 4),
            number(joint.velocity_rad_s, 3),
            number(joint.temperature_c, 0),
            joint.age_ms
        );
    }
    text.push('\n');
}

fn health(text: &mut String, s: &Status) {
    let (c, b) = (s.counters, s.faults.bus);
    let realtime = match s.timing.realtime {
        Some(true) => ", real-time priority",
        Some(false) => ", no real-time priority",
        None => "",
    };
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<9} {value}");
    };
    line("loop", format!("tick {} at {} Hz, {} missed{realtime}", s.tick, s.rate_hz, c.missed));
    line("late", quantiles(s.timing.lateness_us));
    line("took", quantiles(s.timing.duration_us));
    line("actions", format!("{} late, {} refused", c.late_actions, c.refused_actions));
    line(
        "bus",
        format!(
            "{} timeouts, {} bad checksums, {} wrong answers, {} retries; {} stale ticks, {} failed writes",
            b.timeouts,
            b.checksum + b.crc,
            b.wrong_id + b.wrong_length + s.faults.implausible,
            b.retries,
            c.stale_ticks,
            c.failed_writes
        ),
    );
    let log = s.log.as_ref().map_or("off".to_owned(), |log| {
        let mut told = format!(
            "{} episodes, {:.1} MB, {} steps lost",
            log.episodes,
            log.bytes as f64 * 1e-6,
            log.unlogged
        );
        if log.disk_full {
            told.push_str("; the DISK IS FULL");
        }
        if let Some(error) = &log.last_error {
            let _ = write!(told, "; last error: {}", printable(error));
        }
        told
    });
    line("log", log);
}

fn quantiles(q: Quantiles) -> String {
    format!("{:.0} µs in the median, {:.0} µs p99, {:.0} µs at most", q.p50, q.p99, q.max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::Joint;
    use crate::episode::Fault;
    use crate::kinematics::{pose, pose_goal};

    #[test]
    fn goals_stand_in_the_unit_of_their_space() {
        let goal_space = GoalSpace::JointPosition;
        let mut status =
            Status { goal_space, unit: "rad".into(), alive: true, ..Status::default() };
        status.joints = vec![Joint { name: "pan".into(), ..Joint::default() }];
        (status.desired_goal, status.distance) = (Some(vec![0.25]), Some(0.5));
        let text = describe(&status);
        assert!(text.contains("goal      0.500 rad away"), "{text}");
        assert!(text.contains("0.0   0.2500") && !text.contains("tip"), "{text}");
        let pose = pose_goal(&pose([0.1, -0.2, 0.3], [0.5, 0.25, -0.5]));
        status.goal_space = GoalSpace::EndEffectorPose;
        status.desired_goal = Some(pose.map(|x| x as f32).to_vec());
        let text = describe(&status);
        assert!(
            text.contains("+0.100 -0.200 +0.300 m, roll pitch yaw +0.500 +0.250 -0.500 rad"),
            "{text}"
        );
    }

    #[test]
    fn a_status_for_people_says_what_is_unknown_and_how_to_clear_a_fault() {
        let mut status = Status { robot: "a\x1b[2J".into(), alive: true, ..Status::default() };
        status.mode = Mode::Faulted(Fault::EmergencyStop);
        status.joints =
            vec![Joint { name: "pan".into(), position_rad: Some(0.5), ..Joint::default() }];
        let text = describe(&status);
        assert!(text.contains("faulted (emergency stop): clear it with `regoal arm`"), "{text}");
        assert!(text.contains("pan      0.5000        ?      ?"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
