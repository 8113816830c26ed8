//! A fine-tuning that a running robot does itself, seen from here.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::cmd::progress::Bar;
use crate::cmd::{Context, Daemon, say, say_json};
use crate::daemon::{Client, JobReport, JobRequest};
use crate::learn::job::{JobEnding, JobState};

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(500);

/// Lets the robot learn and shows how it goes; Ctrl-C leaves it at work.
///
/// # Errors
/// The robot does not answer or refuses, somebody asked to stop, or the job did not come to its end.
pub(super) fn run(
    daemon: &Daemon,
    request: JobRequest,
    json: bool,
    context: &Context,
) -> Result<()> {
    let client = daemon.client(context)?;
    let report = client.start_job(&request)?;
    let id = report.id;
    let report = follow(&client, report, context)?;
    if json {
        return say_json(&report);
    }
    match (report.state, report.result) {
        (JobState::Interrupted, _) => bail!("fine-tuning {id} ended without a word"),
        (_, Some(result)) => match result.ending {
            JobEnding::Staged | JobEnding::Passed => {
                Ok(say(format!("fine-tuning {id}: {}", result.why))?)
            }
            _ => bail!("fine-tuning {id}: {}", result.why),
        },
        (_, None) => Ok(()),
    }
}

fn follow(client: &Client, mut report: JobReport, context: &Context) -> Result<JobReport> {
    let mut bar = None;
    while report.state == JobState::Running {
        if let Some(line) = report.progress.last() {
            let bar = bar.get_or_insert_with(|| Bar::new("fine-tuning", line.steps));
            let loss = line.loss.map(|loss| format!("loss {loss:.4}")).unwrap_or_default();
            bar.set(line.step, &loss);
        }
        context.clock.sleep_until(context.clock.now() + LOOK);
        if let Err(interrupted) = context.check() {
            remark!("fine-tuning {} goes on without this program", report.id);
            return Err(interrupted.into());
        }
        report = client.job(report.id)?;
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(report)
}
