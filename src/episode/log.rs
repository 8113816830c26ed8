//! The log writer: records from the queue to files, on its own thread or called in virtual time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::dataset::lock;
use super::queue::{Begin, LogReceiver, Record};
use super::{EpisodeError, EpisodeHeader, Outcome, Writer, WriterConfig, reason};
use crate::clock::Clock;
use crate::storage::Storage;

/// What the log writer tells others; shared, and read without a lock but for the error's text.
#[derive(Debug, Default)]
pub struct LogStatus {
    episodes: AtomicU64,
    steps: AtomicU64,
    unlogged: AtomicU64,
    lost: Arc<AtomicU64>,
    bytes: AtomicU64,
    failures: AtomicU64,
    disk_full: AtomicBool,
    last_error: Mutex<Option<String>>,
    newest: Mutex<Option<PathBuf>>,
}

impl LogStatus {
    /// Episodes finished on the disk.
    pub fn episodes(&self) -> u64 {
        self.episodes.load(Ordering::Acquire)
    }

    /// The file finished last: with as many episodes as were counted before it was asked, or more.
    pub fn newest(&self) -> Option<PathBuf> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Steps handed to a file.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Steps that came in and had no working file.
    pub fn unlogged(&self) -> u64 {
        self.unlogged.load(Ordering::Relaxed)
    }

    /// Records that did not fit the queue.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Bytes of finished episodes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Errors so far.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether the last error was a full disk and no episode was begun since.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// The last error.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes records off the queue and writes them as episodes into one folder, which it locks.
pub struct LogWriter {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    folder: PathBuf,
    template: EpisodeHeader,
    config: WriterConfig,
    receiver: LogReceiver,
    open: Option<Writer>,
    status: Arc<LogStatus>,
    _lock: Box<dyn Send>,
}

impl LogWriter {
    /// Locks the dataset; nothing is written before an episode begins. `template` is what the
    /// headers of all episodes have in common.
    pub fn new(
        storage: Arc<dyn Storage>,
        clock: Arc<dyn Clock>,
        folder: PathBuf,
        template: EpisodeHeader,
        config: WriterConfig,
        receiver: LogReceiver,
    ) -> Result<Self, EpisodeError> {
        storage.create_folder(&folder).map_err(|e| EpisodeError::io("create", &folder, e))?;
        let lock = lock(storage.as_ref(), &folder)?;
        let status = Arc::new(LogStatus { lost: receiver.lost.clone(), ..LogStatus::default() });
        Ok(Self {
            storage,
            clock,
            folder,
            template,
            config,
            receiver,
            open: None,
            status,
            _lock: lock,
        })
    }

    /// What it tells others.
    pub fn status(&self) -> Arc<LogStatus> {
        self.status.clone()
    }

    /// Writes all that is in the queue, and what is due by now. A failure ends the episode it
    /// happened in and is told by the status; the next episode gets a new file. So does the limit of
    /// a file's length, but its episode ends whole.
    pub fn drain(&mut self) {
        while let Some(record) = self.receiver.receive() {
            let result = match record {
                Record::Begin(begin) => self.begin(begin),
                Record::Step(step) => match &mut self.open {
                    Some(writer) => {
                        self.status.steps.fetch_add(1, Ordering::Relaxed);
                        writer.push(&step)
                    }
                    None => {
                        self.status.unlogged.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    }
                },
                Record::Inputs(inputs) => {
                    self.open.as_mut().map_or(Ok(()), |writer| writer.inputs(&inputs))
                }
                Record::End(outcome) => self.end(&outcome),
            };
            self.note(result);
        }
        if let Some(writer) = &mut self.open {
            let result = writer.settle(self.clock.now());
            self.note(result);
        }
    }

    /// Writes what is left; an open episode ends with an unknown outcome.
    pub fn close(mut self) {
        self.drain();
        self.end_open("log closed");
    }

    /// Writes on a thread of its own, looking into the queue every 5 ms.
    pub fn spawn(mut self) -> std::io::Result<LogThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let status = self.status();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                self.drain();
                self.clock.sleep_until(self.clock.now() + Duration::from_millis(5));
            }
            self.close();
        })?;
        Ok(LogThread { stop, status, thread: Some(thread) })
    }

    fn begin(&mut self, begin: Begin) -> Result<(), EpisodeError> {
        self.end_open("no end was logged");
        let header = EpisodeHeader {
            source: begin.source,
            split: begin.split,
            policy: begin.policy,
            seed: begin.seed,
            started: begin.started,
            origin: begin.origin,
            ..self.template.clone()
        };
        self.open = Some(Writer::create(&self.storage, &self.folder, header, &self.config)?);
        self.status.disk_full.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn end(&mut self, outcome: &Outcome) -> Result<(), EpisodeError> {
        let Some(writer) = self.open.take() else { return Ok(()) };
        let path = writer.finish(outcome)?;
        let bytes = self.storage.len(&path).map_err(|e| EpisodeError::io("look at", &path, e))?;
        self.status.bytes.fetch_add(bytes, Ordering::Relaxed);
        *self.status.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        self.status.episodes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn end_open(&mut self, why: &str) {
        let result = self.end(&Outcome { reason: reason(why), ..Outcome::default() });
        self.note(result);
    }

    fn note(&mut self, result: Result<(), EpisodeError>) {
        let Err(error) = result else { return };
        if matches!(error, EpisodeError::Long { .. }) {
            self.end_open("the file is full");
        }
        log::error!("{error}");
        self.status.failures.fetch_add(1, Ordering::Relaxed);
        // A step out of order is refused alone; any other failure is the file's end.
        if !matches!(error, EpisodeError::OutOfOrder { .. }) {
            self.open = None;
            let full = matches!(error, EpisodeError::DiskFull { .. });
            self.status.disk_full.store(full, Ordering::Relaxed);
        }
        let mut last = self.status.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(error.to_string());
    }
}

/// A log writer on its thread; ends it when dropped.
pub struct LogThread {
    stop: Arc<AtomicBool>,
    status: Arc<LogStatus>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// What the writer tells others.
    pub fn status(&self) -> Arc<LogStatus> {
        self.status.clone()
    }

    /// Writes what is left in the queue and returns when it is on the disk.
    pub fn stop(self) {}
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was printed by its hook; there is nothing more to do about it.
            let _ = thread.join();
        }
    }
}
