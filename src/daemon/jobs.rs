//! Fine-tunings that a daemon started, each a process of its own. What is known of them stands in their
//! folders: a daemon that was started anew finds them again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Code, ErrorReply};
use super::operation::Body;
use super::shared::lock;
use crate::config::FinetuneConfig;
use crate::episode::paths;
use crate::learn::job::{Job, JobEnding, JobError, JobProgress, JobResult, JobState};
use crate::storage::Storage;

/// Why a fine-tuning was not started, resumed or cancelled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// Another one is at work.
    #[error("expected no fine-tuning at work, found number {id}: wait for it, or cancel it")]
    Running {
        /// The one at work.
        id: u64,
    },
    /// It is not at work.
    #[error("expected fine-tuning {id} to be at work, found that it is not")]
    NotRunning {
        /// Which.
        id: u64,
    },
    /// It has come to its end.
    #[error(
        "expected a fine-tuning that was interrupted, found that {id} has ended: start a new one"
    )]
    Ended {
        /// Which.
        id: u64,
    },
    /// There is none.
    #[error("no fine-tuning has the number {id}")]
    Unknown {
        /// The number.
        id: u64,
    },
    /// A number of steps that makes no sense.
    #[error("steps: expected 1 to {MOST_STEPS}, found {found}")]
    Steps {
        /// The number.
        found: usize,
    },
    /// A job's folder cannot be used.
    #[error(transparent)]
    Folder(#[from] JobError),
}

impl From<JobsError> for ErrorReply {
    fn from(e: JobsError) -> Self {
        let code = match &e {
            JobsError::Running { .. } => Code::Busy,
            JobsError::NotRunning { .. } | JobsError::Ended { .. } => Code::Refused,
            JobsError::Unknown { .. } => Code::NotFound,
            JobsError::Steps { .. } => Code::BadRequest,
            JobsError::Folder(error) => {
                // Names of folders are nobody's business but the daemon's.
                log::error!("fine-tuning: {error}");
                return Self::new(Code::Other, "the disk failed: the daemon's log says how");
            }
        };
        Self::new(code, e.to_string())
    }
}

/// The most training steps of a job.
const MOST_STEPS: usize = 1_000_000;
/// The newest lines of progress that a report has.
const LINES: usize = 500;
/// The newest jobs that are told of at once.
const NEWEST: usize = 50;

/// The newest jobs that keep what they can go on from, and their candidates.
const KEPT: usize = 5;

/// What the fine-tunings of a robot are made of.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// How it learns.
    pub config: FinetuneConfig,
    /// Its configuration's file.
    pub robot: PathBuf,
    /// Its policy store.
    pub store: PathBuf,
    /// The folder of its episodes.
    pub episodes: PathBuf,
}

/// The fine-tunings of one robot, one at a time, in folders named by their numbers.
pub struct Jobs {
    storage: Arc<dyn Storage>,
    settings: JobSettings,
    program: PathBuf,
    /// Those whose end nobody was told of yet; the process where this one started it.
    watched: Mutex<Vec<(u64, Option<Child>)>>,
}

/// What a fine-tuning shall be: the body of `POST /v1/jobs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JobRequest {
    /// Training steps: 1 to 1,000,000; those of the robot's configuration when absent.
    pub steps: Option<usize>,
}

impl Body for JobRequest {
    const EXAMPLE: &'static str = r#"{"steps": 4000} or {}"#;
}

/// What a job was started with (`job.json`).
#[derive(Debug, Clone, Serialize, Deserialize)]
struct JobOrder {
    /// What `regoal finetune` is given beside its folder.
    arguments: Vec<String>,
    /// Episodes that the robot had logged.
    episodes: usize,
    /// How often it was started since a person last wanted it to go on.
    starts: u32,
    /// Somebody cancelled it since.
    #[serde(default)]
    cancelled: bool,
}

/// A job as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobReport {
    /// Its number.
    pub id: u64,
    /// Episodes that the robot had logged when it was started.
    pub episodes: usize,
    /// How often it was started since a person last wanted it to go on.
    pub starts: u32,
    /// Somebody cancelled it.
    pub cancelled: bool,
    /// What became of it.
    pub state: JobState,
    /// How it went, the oldest first: at most the newest 500 lines, in a list of jobs the last one.
    pub progress: Vec<JobProgress>,
    /// How it ended.
    pub result: Option<JobResult>,
}

impl Jobs {
    /// The jobs in the store's folder `jobs`; new ones are run by `program`, which is regoal.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open(
        storage: Arc<dyn Storage>,
        settings: JobSettings,
        program: &Path,
    ) -> Result<Self, JobsError> {
        let jobs = Self { storage, settings, program: program.into(), watched: Mutex::default() };
        let ids = jobs.list()?;
        for id in &ids {
            let watch = match jobs.job(*id).state()? {
                // Of an earlier run, and not always the last: an older one may have been resumed.
                JobState::Running => true,
                JobState::Interrupted => ids.last() == Some(id),
                JobState::Ended => false,
            };
            if watch {
                lock(&jobs.watched).push((*id, None));
            }
        }
        Ok(jobs)
    }

    /// Starts a job on what the robot has logged; its number. Of old jobs only reports and curves stay
    /// on the disk.
    ///
    /// # Errors
    /// Another one is at work, the disk failed, or the process could not be started.
    pub fn start(&self, request: JobRequest) -> Result<u64, JobsError> {
        let steps = request.steps.unwrap_or(self.settings.config.steps);
        if request.steps.is_some_and(|steps| !(1..=MOST_STEPS).contains(&steps)) {
            return Err(JobsError::Steps { found: steps });
        }
        let mut watched = lock(&self.watched);
        self.check_alone(&mut watched)?;
        let ids = self.list()?;
        // The one that begins is the newest.
        for old in ids.iter().rev().skip(KEPT - 1) {
            self.job(*old).let_go()?;
            self.job(*old).forget("policy.onnx")?;
        }
        let id = ids.last().map_or(1, |last| last + 1);
        let folder = self.path(id);
        self.storage.create_folder(&folder).map_err(failed("create", &folder))?;
        let (arguments, episodes) = (self.settings.arguments(steps), self.logged());
        let order = JobOrder { arguments, episodes, starts: 0, cancelled: false };
        self.spawn(id, order, &mut watched)?;
        Ok(id)
    }

    /// Goes on with a job that was interrupted or cancelled, or failed, because a person wants it: what
    /// has gone wrong before is not held against it.
    ///
    /// # Errors
    /// There is no such job, it has ended, another one is at work, the disk failed, or the process
    /// could not be started.
    pub fn resume(&self, id: u64) -> Result<(), JobsError> {
        let mut watched = lock(&self.watched);
        let order = self.resumable(id, &mut watched)?;
        self.spawn(id, JobOrder { starts: 0, ..order }, &mut watched)
    }

    /// Goes on with a job whose process has ended without a word. Where it cannot,
    /// [`next_ended`](Self::next_ended) tells of it again.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub fn go_on(&self, id: u64) -> Result<(), JobsError> {
        let mut watched = lock(&self.watched);
        let order = self.resumable(id, &mut watched);
        let begun = order.and_then(|order| self.spawn(id, order, &mut watched));
        if begun.is_err() && !watched.iter().any(|(watched, _)| *watched == id) {
            watched.push((id, None));
        }
        begun
    }

    /// What a job was started with that can go on now.
    fn resumable(
        &self,
        id: u64,
        watched: &mut [(u64, Option<Child>)],
    ) -> Result<JobOrder, JobsError> {
        self.check_alone(watched)?;
        let order = self.order(id)?.ok_or(JobsError::Unknown { id })?;
        let ending = self.job(id).result()?.map(|result| result.ending);
        if !matches!(ending, None | Some(JobEnding::Cancelled | JobEnding::Failed)) {
            return Err(JobsError::Ended { id });
        }
        Ok(order)
    }

    fn check_alone(&self, watched: &mut [(u64, Option<Child>)]) -> Result<(), JobsError> {
        for (id, child) in watched {
            if self.state(*id, child)? == JobState::Running {
                return Err(JobsError::Running { id: *id });
            }
        }
        Ok(())
    }

    fn spawn(
        &self,
        id: u64,
        order: JobOrder,
        watched: &mut Vec<(u64, Option<Child>)>,
    ) -> Result<(), JobsError> {
        let order = JobOrder { starts: order.starts + 1, cancelled: false, ..order };
        self.keep(id, &order)?;
        // Until it has written its own, no number is better than that of its last start: somebody else
        // may have that by now.
        self.job(id).forget("pid")?;
        let mut process = Command::new(&self.program);
        process.arg("finetune").args(&order.arguments).arg("--resume");
        process.arg("--out").arg(self.path(id)).stdin(Stdio::null()).stdout(Stdio::null());
        let child = process.spawn().map_err(failed("start", &self.program))?;
        watched.retain(|(other, _)| *other != id);
        watched.push((id, Some(child)));
        Ok(())
    }

    fn keep(&self, id: u64, order: &JobOrder) -> Result<(), JobError> {
        self.job(id).write("job.json", &serde_json::to_vec_pretty(order).unwrap_or_default())
    }

    /// Asks a job to end; it keeps what it can go on from.
    ///
    /// # Errors
    /// There is no such job, it is not at work, the disk failed, or the system refuses.
    pub fn cancel(&self, id: u64) -> Result<(), JobsError> {
        let mut watched = lock(&self.watched);
        let order = self.order(id)?.ok_or(JobsError::Unknown { id })?;
        let own = watched.iter_mut().find(|(watched, _)| *watched == id);
        let own = own.and_then(|(_, child)| child.as_mut()).and_then(alive);
        // One that has only just begun has not yet written its number down.
        let pid = match own {
            None => self.job(id).process()?,
            own => own,
        };
        let pid = pid.ok_or(JobsError::NotRunning { id })?;
        self.keep(id, &JobOrder { cancelled: true, ..order })?;
        Ok(crate::os::ask_to_end(pid).map_err(failed("cancel", &self.path(id)))?)
    }

    /// A job that has ended since the last call, or whose process has without a word.
    ///
    /// # Errors
    /// The disk failed.
    pub fn next_ended(&self) -> Result<Option<JobReport>, JobsError> {
        let mut watched = lock(&self.watched);
        for (place, (id, child)) in watched.iter_mut().enumerate() {
            if self.state(*id, child)? != JobState::Running {
                let id = *id;
                let report = self.read(id, child)?;
                watched.remove(place);
                return Ok(report);
            }
        }
        Ok(None)
    }

    /// Whether one is at work, or has ended and nobody was told yet.
    pub fn is_busy(&self) -> bool {
        !lock(&self.watched).is_empty()
    }

    /// Episodes that the robot has logged.
    pub fn logged(&self) -> usize {
        // There is no folder before the first.
        paths(self.storage.as_ref(), &self.settings.episodes).map_or(0, |found| found.len())
    }

    /// Episodes that were logged since the last job was started.
    ///
    /// # Errors
    /// The disk failed.
    pub fn unlearned(&self) -> Result<usize, JobsError> {
        let last = self.list()?.last().copied();
        let order = last.map(|id| self.order(id)).transpose()?.flatten();
        // Old episodes may have been taken away since: the count goes on from what is left then.
        let logged = self.logged();
        Ok(logged - order.map_or(0, |order| order.episodes.min(logged)))
    }

    /// The numbers of all jobs, the oldest first.
    fn list(&self) -> Result<Vec<u64>, JobError> {
        let folder = self.settings.store.join("jobs");
        let found = match self.storage.list(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(failed("list", &folder))?,
        };
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        let mut ids: Vec<u64> = found.iter().filter_map(number).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    fn order(&self, id: u64) -> Result<Option<JobOrder>, JobError> {
        self.job(id).json("job.json")
    }

    /// The newest jobs, the newest first; of their progress the last line.
    ///
    /// # Errors
    /// The disk failed.
    pub fn newest(&self) -> Result<Vec<JobReport>, JobsError> {
        let ids = self.list()?;
        let mut reports = Vec::new();
        for id in ids.into_iter().rev().take(NEWEST) {
            match self.report(id) {
                Ok(report) => {
                    let last = report.progress.last().copied().into_iter().collect();
                    reports.push(JobReport { progress: last, ..report });
                }
                // A folder that holds no job.
                Err(JobsError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(reports)
    }

    /// A job as it is now.
    ///
    /// # Errors
    /// There is no such job, or the disk failed.
    pub fn report(&self, id: u64) -> Result<JobReport, JobsError> {
        let mut watched = lock(&self.watched);
        let own = watched.iter_mut().find(|(watched, _)| *watched == id);
        let report = match own {
            Some((_, child)) => self.read(id, child),
            None => self.read(id, &mut None),
        };
        report?.ok_or(JobsError::Unknown { id })
    }

    fn read(&self, id: u64, child: &mut Option<Child>) -> Result<Option<JobReport>, JobsError> {
        let Some(order) = self.order(id)? else { return Ok(None) };
        let JobOrder { episodes, starts, cancelled, .. } = order;
        let (job, state) = (self.job(id), self.state(id, child)?);
        let mut progress = job.progress()?;
        progress.drain(..progress.len().saturating_sub(LINES));
        // What an earlier start has left is no result of one that is at work.
        let result = if state == JobState::Running { None } else { job.result()? };
        Ok(Some(JobReport { id, episodes, starts, cancelled, state, progress, result }))
    }

    fn state(&self, id: u64, child: &mut Option<Child>) -> Result<JobState, JobError> {
        match child.as_mut().and_then(alive) {
            Some(_) => Ok(JobState::Running),
            None => self.job(id).state(),
        }
    }

    fn job(&self, id: u64) -> Job {
        Job::new(Arc::clone(&self.storage), &self.path(id))
    }

    fn path(&self, id: u64) -> PathBuf {
        self.settings.store.join("jobs").join(format!("{id:06}"))
    }
}

/// The number of a process that has not ended; one that cannot be asked has.
fn alive(child: &mut Child) -> Option<u32> {
    matches!(child.try_wait(), Ok(None)).then(|| child.id())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> JobError + use<> {
    let path = path.to_owned();
    move |source| JobError::Io { action, path, source }
}

impl JobSettings {
    /// What `regoal finetune` is given beside its folder.
    fn arguments(&self, steps: usize) -> Vec<String> {
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
            ("--steps", steps.to_string()),
            ("--goals", config.goals.to_string()),
            ("--holdout", config.holdout.to_string()),
            ("--memory-mib", config.memory_mib.to_string()),
        ] {
            arguments.extend([flag.to_owned(), value]);
        }
        arguments
    }
}
