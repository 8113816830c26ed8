//! Loads an untrusted file in a process of its own first: engines have endless loops and crashes
//! that no check of ours foresees, and a control loop must outlive them.
//!
//! The program starts itself with a hidden verb, hands the file over in memory, and waits for one
//! line of JSON. What the other process does meanwhile, this one lives.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, Timespec, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::{Engine, EngineError};
use crate::clock::{Clock as _, SystemClock};
use crate::onnx::Verified;

/// The hidden verb that [`Isolation`] starts.
pub const VERB: &str = "try-load";

/// What a process that tries a file may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// The program with the hidden verb: this one.
    pub program: PathBuf,
    /// The longest it may take.
    pub time: Duration,
    /// The most memory it may take, in MiB, beside 16 times the file.
    pub memory_mib: u64,
}

/// What the other process says, as one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why the file was refused; nothing when it ran.
    pub refused: Option<String>,
}

/// The most of an answer that is read (bytes).
const ANSWER: u64 = 16 * 1024;

impl Isolation {
    /// This program, 10 seconds, 1 GiB.
    ///
    /// # Errors
    /// The system does not tell which file this program is.
    pub fn of_this_program() -> Result<Self, EngineError> {
        Ok(Self::of(std::env::current_exe().map_err(|e| alone(&e))?))
    }

    /// The same for a `regoal` program that is somewhere else.
    pub fn of(program: PathBuf) -> Self {
        Self { program, time: Duration::from_secs(10), memory_mib: 1024 }
    }

    /// Verifies and loads a file and runs it once on zeros, all in another process.
    ///
    /// # Errors
    /// The file was refused, or the other process crashed, took too long or could not be started.
    pub fn try_load(&self, file: &[u8], engine: &Engine) -> Result<(), EngineError> {
        let refused = |reason| EngineError::Load { engine: engine.name(), reason };
        let mut process = Process(self.start(file, engine).map_err(|e| alone(&e))?);
        let Some(status) = process.wait(self.time).map_err(|e| alone(&e))? else {
            let reason = format!("it did not answer within {:?}", self.time);
            return Err(EngineError::Untried { reason });
        };
        match process.answer() {
            Some(Answer { refused: None }) if status.success() => Ok(()),
            Some(Answer { refused: Some(reason) }) => Err(refused(reason)),
            _ => Err(refused(format!(
                "a process of its own with {} MiB of memory {} over this file",
                self.memory(file),
                ending(status)
            ))),
        }
    }

    fn memory(&self, file: &[u8]) -> u64 {
        self.memory_mib.saturating_add(16 * (file.len() as u64 >> 20))
    }

    fn start(&self, file: &[u8], engine: &Engine) -> std::io::Result<Child> {
        let mut memory = File::from(memfd_create("policy.onnx", MemfdFlags::CLOEXEC)?);
        memory.write_all(file)?;
        rustix::fs::seek(&memory, rustix::fs::SeekFrom::Start(0))?;
        let mut command = Command::new(&self.program);
        command.args([VERB, "--memory-mib", &self.memory(file).to_string()]);
        if let Some(library) = engine.library() {
            command.arg("--onnxruntime").arg(library);
        }
        command.stdin(OwnedFd::from(memory)).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    }
}

fn alone(error: &std::io::Error) -> EngineError {
    EngineError::Untried { reason: error.to_string() }
}

fn ending(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("crashed (signal {signal})"),
        None => format!("ended without an answer ({status})"),
    }
}

/// A process that does not outlive its owner.
struct Process(Child);

impl Process {
    /// Its end; nothing when it runs on after `time`.
    fn wait(&mut self, time: Duration) -> std::io::Result<Option<ExitStatus>> {
        let ended = pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty())?;
        let until = SystemClock.now() + time;
        loop {
            let left = until.since(SystemClock.now());
            let timeout = Timespec {
                tv_sec: left.as_secs().min(1 << 30) as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&ended.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) if left.is_zero() => return Ok(None),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.0.wait().map(Some),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        let mut said = Vec::new();
        self.0.stdout.take()?.take(ANSWER).read_to_end(&mut said).ok()?;
        serde_json::from_slice(&said).ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The other process's part: verifies and loads a file and runs it once on zeros.
pub fn answer(file: &[u8], engine: &Engine) -> Answer {
    // A character takes at most 12 bytes in JSON.
    let longest = ANSWER as usize / 16;
    let refused = run_on_zeros(file, engine).err().map(|e| e.to_string());
    Answer { refused: refused.map(|reason| reason.chars().take(longest).collect()) }
}

fn run_on_zeros(file: &[u8], engine: &Engine) -> Result<(), EngineError> {
    let mut session = engine.load(&Verified::from_bytes(file)?)?;
    let inputs: Vec<_> = session.inputs().iter().map(|i| (i.name.clone(), i.dims_at(1))).collect();
    let zeros: Vec<Vec<f32>> =
        inputs.iter().map(|(_, dims)| vec![0.0; dims.iter().product()]).collect();
    let given: Vec<_> = inputs
        .iter()
        .zip(&zeros)
        .map(|((name, dims), data)| (name.as_str(), dims.as_slice(), data.as_slice()))
        .collect();
    session.run(&given).map(drop)
}
