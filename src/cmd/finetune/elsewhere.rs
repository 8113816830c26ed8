//! A fine-tuning that a running robot does itself, seen from here.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::Time;
use crate::cmd::policy::send::patiently;
use crate::cmd::progress::Bar;
use crate::cmd::{Context, Daemon, printable, say, say_json};
use crate::daemon::{ClientError, JobReport, JobRequest};
use crate::learn::job::{JobEnding, JobState};

/// Between two looks at the job.
const LOOK: Duration = Duration::from_millis(500);
/// A robot goes on by itself with a job that was interrupted, unless it has done so too often.
const RESUMED: Duration = Duration::from_secs(5);

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
    let bar = Bar::new("fine-tuning", 0);
    let followed = follow(report, &bar, context, || client.job(id));
    bar.finish();
    let report =
        followed.inspect_err(|_| remark!("fine-tuning {id} goes on without this program"))?;
    if json {
        return say_json(&report);
    }
    Ok(say(format!("fine-tuning {id}: {}", told(&report)?))?)
}

/// Looks at a job until it has come to its end, or to a halt.
fn follow(
    mut report: JobReport,
    bar: &Bar,
    context: &Context,
    look: impl Fn() -> Result<JobReport, ClientError>,
) -> Result<JobReport> {
    let mut until: Option<Time> = None;
    loop {
        let now = context.clock.now();
        match report.state {
            JobState::Running => until = None,
            JobState::Interrupted
                if !report.cancelled && now < *until.get_or_insert(now + RESUMED) => {}
            JobState::Interrupted | JobState::Ended => return Ok(report),
        }
        if let Some(line) = report.progress.last() {
            let loss = line.loss.map(|loss| format!("loss {loss:.4}")).unwrap_or_default();
            bar.set_total(line.steps);
            bar.set(line.step, &loss);
        }
        context.clock.sleep_until(now + LOOK);
        context.check()?;
        let seen = patiently(bar, context, &look);
        context.check()?;
        report = seen?;
    }
}

/// What to tell of a job that is not at work any more.
fn told(report: &JobReport) -> Result<String> {
    let id = report.id;
    let ending = report.result.as_ref().map(|result| (result.ending, printable(&result.why)));
    match ending {
        Some((JobEnding::Staged | JobEnding::Passed, why)) => Ok(why),
        Some((JobEnding::Refused | JobEnding::Failed, why)) => bail!("fine-tuning {id}: {why}"),
        Some((JobEnding::Cancelled, _)) => bail!("fine-tuning {id} was cancelled"),
        None if report.cancelled => bail!("fine-tuning {id} was cancelled"),
        None => bail!(
            "fine-tuning {id} was interrupted and the robot has not gone on with it: its log says why"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::learn::job::JobResult;
    use crate::storage::Memory;

    fn report(state: JobState) -> JobReport {
        JobReport {
            id: 7,
            episodes: 0,
            starts: 1,
            cancelled: false,
            state,
            progress: Vec::new(),
            result: None,
        }
    }

    fn ended(why: &str, ending: JobEnding) -> JobReport {
        let result = JobResult { ending, why: why.into(), candidate: None };
        JobReport { result: Some(result), ..report(JobState::Ended) }
    }

    /// What is told of a job that is seen like this, one look after the other.
    fn seen(looks: Vec<Result<JobReport, ClientError>>) -> Result<String> {
        let context = Context {
            storage: Arc::new(Memory::default()),
            clock: Arc::new(ManualClock::default()),
            interrupted: Arc::default(),
            program: "regoal".into(),
        };
        let looks = RefCell::new(looks.into_iter());
        let look =
            || looks.borrow_mut().next().unwrap_or_else(|| Ok(report(JobState::Interrupted)));
        let bar = Bar::new("a test", 0);
        let last = follow(report(JobState::Running), &bar, &context, look)?;
        told(&last)
    }

    #[test]
    fn a_job_is_followed_over_cuts_and_crashes_and_cancellations_are_told_as_such() {
        let lost = || Err(ClientError::Timeout { at: "a robot".into(), after: LOOK });
        let interrupted = || Ok(report(JobState::Interrupted));
        let staged = || Ok(ended("better", JobEnding::Staged));
        assert_eq!(seen(vec![lost(), lost(), staged()]).unwrap(), "better");
        assert_eq!(
            seen(vec![interrupted(), Ok(report(JobState::Running)), staged()]).unwrap(),
            "better"
        );
        let says = |looks| seen(looks).unwrap_err().to_string();
        assert!(says(vec![]).contains("has not gone on"), "{}", says(vec![]));
        for how in [report(JobState::Interrupted), ended("interrupted", JobEnding::Cancelled)] {
            assert_eq!(
                says(vec![Ok(JobReport { cancelled: true, ..how })]),
                "fine-tuning 7 was cancelled"
            );
        }
        assert_eq!(
            says(vec![Ok(ended("worse\u{1b}[2J", JobEnding::Refused))]),
            format!("fine-tuning 7: {}", printable("worse\u{1b}[2J"))
        );
        assert!(!says(vec![Ok(ended("worse\u{1b}[2J", JobEnding::Refused))]).contains('\u{1b}'));
    }
}
