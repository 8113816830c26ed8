//! `regoal doctor`: whether this computer and arm are fit, and how to mend what is not.

mod arm;
mod computer;
mod timing;

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::robot::{Which, calibrated};
use super::{Context, Told, say, say_json};

/// What `--help` tells beyond the options.
const PAGE: &str =
    "A warning costs something: late ticks, slow training. With a problem the arm will not run, or
not safely. Nothing is written to the arm, and it does not move; its port must be free.

Of the computer: kernel, clock source, processor governor, real-time limits (rtprio, memlock,
rttime), how late a thread wakes up at rest and beside busy processors, the round trip over a
terminal, the group of serial ports, ONNX Runtime, disk space. Of the arm: its port and USB
adapter, each servo (model, firmware, supply, heat, faults), the time of a read of all against
what its bytes need.

Examples:
  regoal doctor                                         this computer
  regoal doctor firmware-config/so101-follower.toml     and an arm
  regoal doctor firmware-config/emulated.toml --port /tmp/arm --json | jq .checks[]";

/// Says whether this computer and an arm are fit, and how to mend what is not
///
/// Each line is ok, a warning or a problem; the exit code is 1 if there is a problem.
#[derive(Debug, clap::Args)]
#[command(after_long_help = PAGE)]
pub struct Args {
    /// The robot's configuration; without it only the computer is looked at
    robot: Option<PathBuf>,
    /// The serial port, instead of the configuration's; `emulated` for the built-in emulator
    #[arg(long, value_name = "PATH", requires = "robot")]
    port: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It costs something.
    Warning,
    /// The arm will not run, or not safely.
    Problem,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// How to mend it, if it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// What was measured, where something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<serde_json::Value>,
}

impl Check {
    fn new(name: &str, verdict: Verdict, found: impl Into<String>, mend: &str) -> Self {
        let mend = (verdict != Verdict::Ok).then(|| mend.to_owned());
        Self { name: name.into(), verdict, found: found.into(), mend, figures: None }
    }

    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, found, "")
    }

    fn with(self, figures: impl Serialize) -> Self {
        Self { figures: serde_json::to_value(figures).ok(), ..self }
    }
}

/// Runs the verb.
///
/// # Errors
/// There is a problem, or the configuration is wrong.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let which = args.robot.clone().map(|robot| Which { robot, port: args.port.clone() });
    let robot = which.as_ref().map(|which| calibrated(which, context)).transpose()?;
    if !args.json {
        say("measuring for a few seconds ...")?;
    }
    let mut checks = computer::checks(context);
    checks.extend(timing::checks(context)?);
    if let Some(robot) = &robot {
        checks.extend(arm::checks(robot, context)?);
    }
    context.check()?;
    let count = |of| checks.iter().filter(|check| check.verdict == of).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    if args.json {
        let fit = problems == 0;
        say_json(
            &serde_json::json!({ "fit": fit, "warnings": warnings, "problems": problems, "checks": checks }),
        )?;
    } else {
        checks.iter().flat_map(lines).try_for_each(say)?;
        say(format!("problems: {problems}, warnings: {warnings}"))?;
    }
    if problems > 0 { Err(Told.into()) } else { Ok(()) }
}

fn lines(check: &Check) -> Vec<String> {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "PROBLEM",
    };
    let mut lines = vec![format!("{verdict:<8} {:<20} {}", check.name, check.found)];
    lines.extend(check.mend.iter().map(|mend| format!("{:<29} -> {mend}", "")));
    lines
}
