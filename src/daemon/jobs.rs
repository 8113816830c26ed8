//! Fine-tunings that a daemon started, each a process of its own. What is known of them stands in their
//! folders: a daemon that was started anew finds them again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::learn::job::{Job, JobError, JobProgress, JobResult, JobState};
use crate::storage::Storage;

/// The fine-tunings of one robot, in folders named by their numbers.
pub struct Jobs {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    program: PathBuf,
    /// Those that this process started and has not yet seen end.
    children: Mutex<Vec<(u64, Child)>>,
}

/// What a job was started with (`job.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOrder {
    /// What `regoal finetune` is given beside its folder.
    pub arguments: Vec<String>,
    /// Episodes that the robot had logged.
    pub episodes: usize,
    /// How often it was started.
    pub starts: u32,
}

/// A job as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobReport {
    /// Its number.
    pub id: u64,
    /// What became of it.
    pub state: JobState,
    /// How it went so far, the oldest first.
    pub progress: Vec<JobProgress>,
    /// How it ended.
    pub result: Option<JobResult>,
}

impl Jobs {
    /// The jobs in a folder; new ones are run by `program`, which is regoal.
    pub fn new(storage: Arc<dyn Storage>, folder: &Path, program: &Path) -> Self {
        let (folder, program) = (folder.into(), program.into());
        Self { storage, folder, program, children: Mutex::new(Vec::new()) }
    }

    /// Starts a job; its number. `arguments` are those of `regoal finetune` but for its folder.
    ///
    /// # Errors
    /// Another one runs, the disk failed, or the process could not be started.
    pub fn start(&self, arguments: Vec<String>, episodes: usize) -> Result<u64, JobError> {
        let ids = self.list()?;
        self.alone(&ids)?;
        let id = ids.last().map_or(1, |last| last + 1);
        let folder = self.path(id);
        self.storage.create_folder(&folder).map_err(failed("create", &folder))?;
        self.spawn(id, JobOrder { arguments, episodes, starts: 0 })?;
        Ok(id)
    }

    /// Goes on with a job that was interrupted or cancelled.
    ///
    /// # Errors
    /// There is no such job, another one runs, the disk failed, or the process could not be started.
    pub fn resume(&self, id: u64) -> Result<(), JobError> {
        self.alone(&self.list()?)?;
        let missing = || failed("read", &self.path(id))(std::io::ErrorKind::NotFound.into());
        let order = self.order(id)?.ok_or_else(missing)?;
        self.spawn(id, order)
    }

    fn alone(&self, ids: &[u64]) -> Result<(), JobError> {
        for id in ids {
            if self.state(*id)? == JobState::Running {
                return Err(JobError::Busy { folder: self.path(*id) });
            }
        }
        Ok(())
    }

    fn spawn(&self, id: u64, order: JobOrder) -> Result<(), JobError> {
        let order = JobOrder { starts: order.starts + 1, ..order };
        let json = serde_json::to_vec_pretty(&order).unwrap_or_default();
        self.job(id).write("job.json", &json)?;
        let mut process = Command::new(&self.program);
        process.arg("finetune").args(&order.arguments).arg("--resume");
        process.arg("--out").arg(self.path(id)).stdin(Stdio::null()).stdout(Stdio::null());
        let child = process.spawn().map_err(failed("start", &self.program))?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).push((id, child));
        Ok(())
    }

    /// The numbers of all jobs, the oldest first.
    ///
    /// # Errors
    /// The disk failed.
    pub fn list(&self) -> Result<Vec<u64>, JobError> {
        let found = match self.storage.list(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            found => found.map_err(failed("list", &self.folder))?,
        };
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(found.iter().filter_map(number).collect())
    }

    /// What a job was started with; nothing where there is none of this number.
    ///
    /// # Errors
    /// The disk failed.
    pub fn order(&self, id: u64) -> Result<Option<JobOrder>, JobError> {
        self.job(id).json("job.json")
    }

    /// A job as it is now; nothing where there is none of this number.
    ///
    /// # Errors
    /// The disk failed.
    pub fn report(&self, id: u64) -> Result<Option<JobReport>, JobError> {
        if self.order(id)?.is_none() {
            return Ok(None);
        }
        let (job, state) = (self.job(id), self.state(id)?);
        Ok(Some(JobReport { id, state, progress: job.progress()?, result: job.result()? }))
    }

    /// What became of a job.
    ///
    /// # Errors
    /// The disk failed.
    pub fn state(&self, id: u64) -> Result<JobState, JobError> {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        // One that cannot be asked has ended.
        children.retain_mut(|(_, child)| matches!(child.try_wait(), Ok(None)));
        if children.iter().any(|(child, _)| *child == id) {
            return Ok(JobState::Running);
        }
        self.job(id).state()
    }

    /// Asks a job to end; it keeps what it can go on from.
    ///
    /// # Errors
    /// It does not run, or the system refuses.
    pub fn cancel(&self, id: u64) -> Result<(), JobError> {
        let not_running = || std::io::Error::other("it does not run");
        let pid = self.job(id).process()?;
        pid.ok_or_else(not_running)
            .and_then(crate::os::ask_to_end)
            .map_err(failed("cancel", &self.path(id)))
    }

    fn job(&self, id: u64) -> Job {
        Job::new(Arc::clone(&self.storage), &self.path(id))
    }

    /// The folder of a job.
    pub fn path(&self, id: u64) -> PathBuf {
        self.folder.join(format!("{id:06}"))
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> JobError + use<> {
    let path = path.to_owned();
    move |source| JobError::Io { action, path, source }
}
