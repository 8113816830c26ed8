//! Learning from what the robot did while it goes on: a fine-tuning after every so many episodes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::clock::Time;
use crate::cmd::Context;
use crate::config::FinetuneConfig;
use crate::daemon::{JobReport, Jobs};
use crate::episode::paths;
use crate::learn::job::{JobEnding, JobState};

/// Starts fine-tunings and tells what became of them.
pub(super) struct Learning {
    context: Context,
    jobs: Jobs,
    config: FinetuneConfig,
    /// Of the robot's configuration, its store and its episodes.
    robot: PathBuf,
    store: PathBuf,
    episodes: PathBuf,
    current: Option<u64>,
    next: Time,
    /// The last look failed.
    troubled: bool,
}

/// Between two looks at the episodes.
const LOOK: Duration = Duration::from_secs(1);
/// A job whose process ends without a word is started so often.
const STARTS: u32 = 3;

impl Learning {
    /// Learning as the configuration says; nothing where it says never.
    ///
    /// # Errors
    /// The jobs so far cannot be listed.
    pub(super) fn new(
        (config, robot): (&FinetuneConfig, &Path),
        store: &Path,
        episodes: &Path,
        context: &Context,
    ) -> Result<Option<Self>> {
        if config.every == 0 {
            return Ok(None);
        }
        let jobs = Jobs::new(Arc::clone(&context.storage), &store.join("jobs"), &context.program);
        Ok(Some(Self {
            context: context.clone(),
            // One of an earlier run may still be at work, or may have been interrupted.
            current: jobs.list()?.last().copied(),
            jobs,
            config: config.clone(),
            robot: robot.into(),
            store: store.into(),
            episodes: episodes.into(),
            next: Time::ZERO,
            troubled: false,
        }))
    }

    /// Looks after the jobs; whether a candidate has just been staged. What fails is tried again at the
    /// next look: the arm goes on.
    pub(super) fn look(&mut self) -> bool {
        let now = self.context.clock.now();
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

    fn tend(&mut self) -> Result<bool> {
        if let Some(id) = self.current {
            let Some(report) = self.jobs.report(id)? else {
                self.current = None;
                return Ok(false);
            };
            return self.follow(report);
        }
        let logged = match paths(self.context.storage.as_ref(), &self.episodes) {
            Ok(found) => found.len(),
            // Nothing was logged yet.
            Err(_) => 0,
        };
        let last = self.jobs.list()?.last().copied();
        let order = last.map(|id| self.jobs.order(id)).transpose()?.flatten();
        // Old episodes may have been taken away since.
        let before = order.map_or(0, |order| order.episodes.min(logged));
        if logged - before >= self.config.every {
            let id = self.jobs.start(self.arguments(), logged)?;
            println!("fine-tuning {id} learns from {logged} episodes");
            self.current = Some(id);
        }
        Ok(false)
    }

    fn follow(&mut self, report: JobReport) -> Result<bool> {
        let id = report.id;
        match (report.state, report.result) {
            (JobState::Running, _) => return Ok(false),
            (JobState::Interrupted, _) => {
                let starts = self.jobs.order(id)?.map_or(STARTS, |order| order.starts);
                if starts < STARTS {
                    println!("fine-tuning {id} was interrupted and goes on");
                    self.jobs.resume(id)?;
                    return Ok(false);
                }
                log::error!(
                    "fine-tuning {id} ended {starts} times without a word: its memory may be too little \
                     (finetune.memory_mib)"
                );
            }
            (JobState::Ended, Some(result)) => {
                self.current = None;
                println!("fine-tuning {id}: {}", result.why);
                return Ok(result.ending == JobEnding::Staged);
            }
            (JobState::Ended, None) => {}
        }
        self.current = None;
        Ok(false)
    }

    /// What `regoal finetune` is given.
    fn arguments(&self) -> Vec<String> {
        let config = &self.config;
        let text = |path: &Path| path.as_os_str().to_string_lossy().into_owned();
        let cores: Vec<String> = config.cores.iter().map(ToString::to_string).collect();
        let mut arguments = vec![
            "--store".into(),
            text(&self.store),
            "--robot".into(),
            text(&self.robot),
            format!("--background={}", cores.join(",")),
        ];
        for folder in config.demonstrations.iter().chain([&self.episodes]) {
            arguments.extend(["--episodes".into(), text(folder)]);
        }
        for (flag, value) in [
            ("--steps", config.steps.to_string()),
            ("--goals", config.goals.to_string()),
            ("--holdout", config.holdout.to_string()),
            ("--memory-mib", config.memory_mib.to_string()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments
    }
}
