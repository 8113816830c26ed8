//! Learning from what the robot did while it goes on: a fine-tuning after every so many episodes, or when
//! somebody asks for one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::clock::{Clock, Time};
use crate::daemon::{JobReport, JobRequest, Jobs};
use crate::learn::job::{JobEnding, JobState};

/// Starts fine-tunings and tells what became of them, whoever started them.
pub(super) struct Learning {
    clock: Arc<dyn Clock>,
    jobs: Arc<Jobs>,
    /// Episodes between two fine-tunings; 0: only when somebody asks.
    every: usize,
    next: Time,
    /// The last look failed.
    troubled: bool,
}

/// Between two looks at the episodes.
const LOOK: Duration = Duration::from_secs(1);
/// A job whose process ends without a word is started so often.
const STARTS: u32 = 3;

impl Learning {
    /// Learning after every so many episodes.
    pub(super) fn new(jobs: Arc<Jobs>, every: usize, clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), jobs, every, next: Time::ZERO, troubled: false }
    }

    /// Looks after the jobs; whether a candidate has just been staged. What fails is tried again at the
    /// next look: the arm goes on.
    pub(super) fn look(&mut self) -> bool {
        let now = self.clock.now();
        if now < self.next {
            return false;
        }
        self.next = now + LOOK;
        match self.tend() {
            Ok(staged) => {
                self.troubled = false;
                staged
            }
            Err(error) => {
                if !self.troubled {
                    log::error!("fine-tuning: {error:#}");
                }
                self.troubled = true;
                false
            }
        }
    }

    fn tend(&self) -> Result<bool> {
        if let Some(report) = self.jobs.next_ended()? {
            return self.conclude(&report);
        }
        if self.every == 0 || self.jobs.is_busy() {
            return Ok(false);
        }
        let unlearned = self.jobs.unlearned()?;
        if unlearned >= self.every {
            let id = self.jobs.start(JobRequest::default())?;
            tell!("fine-tuning {id} begins: {unlearned} episodes are new to it");
        }
        Ok(false)
    }

    fn conclude(&self, report: &JobReport) -> Result<bool> {
        let JobReport { id, starts, .. } = *report;
        match (report.state, &report.result) {
            (JobState::Interrupted, _) if report.cancelled => {
                tell!("fine-tuning {id} was cancelled");
            }
            (JobState::Interrupted, _) if starts < STARTS => {
                self.jobs.go_on(id)?;
                tell!("fine-tuning {id} was interrupted and goes on");
            }
            (JobState::Interrupted, _) => log::error!(
                "fine-tuning {id} ended {starts} times without a word: its memory may be too little \
                 (finetune.memory_mib)"
            ),
            (_, Some(result)) => {
                tell!("fine-tuning {id}: {}", result.why);
                return Ok(result.ending == JobEnding::Staged);
            }
            (_, None) => {}
        }
        Ok(false)
    }
}
