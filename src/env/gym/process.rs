//! The child process: what it is asked, what it answers, and what became of it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::{GymError, Python};
use crate::os::SharedMemory;

/// What runs in Python, so that an installed program has it.
const BRIDGE: &str = include_str!("../../../tools/gym_bridge.py");
/// What its first line begins with, whatever was printed before.
const MARK: &[u8] = b"{\"regoal_bridge\": ";
/// The version of the protocol in `tools/gym_bridge.py`.
const VERSION: u64 = 2;
/// The longest line (bytes).
const LONGEST: usize = 1 << 20;
/// The most numbers of an action and what is seen after it, together.
const MOST: usize = 1 << 24;
/// The answer of a process that has done what it was asked.
const DONE: u8 = 0;
/// What is kept of its standard error (bytes).
const KEPT: usize = 4096;
/// Lines of it that an error shows.
const SHOWN: usize = 12;
/// How long a process that closes its end has until it is ended.
const GRACE: Duration = Duration::from_secs(5);

/// A first line.
#[derive(Deserialize)]
#[serde(untagged)]
enum First {
    Announced(Announced),
    Problem(Problem),
}

/// What an environment is.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Announced {
    pub observation: usize,
    pub goal: usize,
    pub actions: Actions,
    pub horizon: usize,
    pub tolerance: f32,
    pub ends: crate::env::Ends,
    pub expert: bool,
}

/// What its actions are.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Actions {
    Continuous { size: usize, limit: f32 },
    Discrete { choices: usize },
}

impl Actions {
    /// Numbers of one.
    fn size(self) -> usize {
        match self {
            Self::Continuous { size, .. } => size,
            Self::Discrete { .. } => 1,
        }
    }
}

/// What went wrong on the other side.
#[derive(Deserialize)]
struct Problem {
    error: String,
    text: String,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request<'a> {
    Reset { seed: u32 },
    Step { action: &'a [f32], limit: f32 },
    Expert,
}

/// An answer, but for its row.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    pub reward: f32,
    pub terminated: bool,
    pub truncated: bool,
    /// Whether the environment says that it was a success; nothing where it does not say.
    pub success: Option<bool>,
}

/// A child process.
pub(super) struct Process {
    name: String,
    limit: Duration,
    child: Child,
    stream: UnixStream,
    said: Arc<Mutex<VecDeque<u8>>>,
    /// Ends when nothing more can be said.
    silent: Receiver<()>,
    /// 64-bit floating-point numbers: seed, flags and reward in the head, then the action, then
    /// observation, achieved and desired goal. The process touches them between a request and its answer,
    /// this side at any other time.
    memory: SharedMemory,
    /// Numbers of an action.
    action: usize,
}

impl Process {
    /// Starts Python and waits for the environment.
    ///
    /// # Errors
    /// There is no such Python or environment, or it is none that can be learned in.
    pub(super) fn start(name: &str, python: &Python) -> Result<(Self, Announced), GymError> {
        let no_python = |source| GymError::NoPython { python: python.program.clone(), source };
        let (stream, theirs) = UnixStream::pair().map_err(no_python)?;
        let memory = SharedMemory::new(0).map_err(no_python)?;
        let shared = memory.as_fd().try_clone_to_owned().map_err(no_python)?;
        stream.set_read_timeout(Some(python.limit())).map_err(no_python)?;
        stream.set_write_timeout(Some(python.limit())).map_err(no_python)?;
        let mut command = Command::new(&python.program);
        command.args(["-c", BRIDGE, name]);
        command.stdin(Stdio::from(shared));
        command.stdout(Stdio::from(OwnedFd::from(theirs)));
        // A Ctrl-C of the terminal is this process's: an iteration is finished first.
        command.stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(no_python)?;
        // With it go this process's copies of the other end.
        drop(command);
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let (open, silent) = mpsc::channel();
        if let Some(errors) = child.stderr.take() {
            let said = Arc::clone(&said);
            std::thread::spawn(move || listen(errors, &said, &open));
        }
        let (name, limit) = (name.to_owned(), python.limit());
        let mut process = Self { name, limit, child, stream, said, silent, memory, action: 0 };
        let announced = process.announced(python)?;
        process.action = announced.actions.size();
        let room = process.room(&announced)?;
        process.memory = process.memory.grown(room).map_err(no_python)?;
        Ok((process, announced))
    }

    /// How many numbers there are after the head.
    fn room(&self, announced: &Announced) -> Result<usize, GymError> {
        let sizes = [self.action, announced.observation, announced.goal, announced.goal];
        let size = sizes.into_iter().fold(0, usize::saturating_add);
        if size <= MOST {
            return Ok(size);
        }
        let text = format!(
            "expected spaces of at most {MOST} numbers, found {size}: wrap the environment so that it \
             shows less"
        );
        Err(GymError::Unsupported { name: self.name.clone(), text })
    }

    fn announced(&mut self, python: &Python) -> Result<Announced, GymError> {
        let name = self.name.clone();
        let line = self.first_line()?;
        let found = || String::from_utf8_lossy(&line).into_owned();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap_or_default();
        let expected = "the first line of a bridge";
        let Some(version) = json.get("regoal_bridge").and_then(serde_json::Value::as_u64) else {
            return Err(GymError::Answer { name, expected, found: found() });
        };
        if version != VERSION {
            return Err(GymError::Version { name, expected: VERSION, found: version });
        }
        match serde_json::from_value(json) {
            Ok(First::Announced(announced)) => Ok(announced),
            Ok(First::Problem(problem)) if problem.error == "no_gymnasium" => {
                Err(GymError::NoGymnasium { python: python.program.clone(), text: problem.text })
            }
            Ok(First::Problem(problem)) => Err(self.problem(problem)),
            Err(_) => Err(GymError::Answer { name, expected, found: found() }),
        }
    }

    /// The first line that is the bridge's: what starts Python may print some before it.
    fn first_line(&mut self) -> Result<Vec<u8>, GymError> {
        loop {
            let line = self.line(Vec::new())?;
            if line.starts_with(MARK) {
                return Ok(line);
            }
            let found = String::from_utf8_lossy(&line);
            if line.len() == LONGEST {
                let (name, expected) = (self.name.clone(), "the first line of a bridge");
                let found = found.chars().take(80).collect();
                return Err(GymError::Answer { name, expected, found });
            }
            log::debug!("gym:{}: {}", self.name, found.trim_end());
        }
    }

    /// The rest of a line, up to its end or to the longest that there may be.
    fn line(&mut self, mut line: Vec<u8>) -> Result<Vec<u8>, GymError> {
        while line.last() != Some(&b'\n') && line.len() < LONGEST {
            line.push(self.byte()?);
        }
        Ok(line)
    }

    fn byte(&mut self) -> Result<u8, GymError> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).map_err(|error| self.lost(&error))?;
        let [byte] = byte;
        Ok(byte)
    }

    /// Asks, and writes the row of the answer: observation, achieved and desired goal, or an action.
    ///
    /// # Errors
    /// The process has ended, does not answer or answers otherwise; the environment failed. The row is
    /// then as it was.
    pub(super) fn ask(
        &mut self,
        request: Request<'_>,
        row: &mut [f32],
    ) -> Result<Answer, GymError> {
        let [seed_place, ..] = self.memory.head();
        let (op, skipped) = match request {
            Request::Reset { seed } => {
                put(seed_place, seed.into());
                (1, self.action)
            }
            Request::Step { action, limit } => {
                let places = self.memory.rest().iter().zip(action);
                places.for_each(|(place, a)| put(place, a.max(-limit).min(limit).into()));
                (2, self.action)
            }
            Request::Expert => (3, 0),
        };
        self.stream.write_all(&[op]).map_err(|error| self.lost(&error))?;
        let answer = self.byte()?;
        if answer != DONE {
            let line = self.line(vec![answer])?;
            return Err(self.refusal(&line));
        }
        let places = self.memory.rest().iter().skip(skipped);
        row.iter_mut().zip(places).for_each(|(number, place)| *number = get(place) as f32);
        let [_, flags, reward, ..] = self.memory.head();
        let (flags, reward) = (get(flags) as u8, get(reward) as f32);
        let has = |flag: u8| flags & flag != 0;
        let success = has(4).then_some(has(8));
        Ok(Answer { reward, terminated: has(1), truncated: has(2), success })
    }

    /// What a line says that is no first one.
    fn refusal(&self, line: &[u8]) -> GymError {
        serde_json::from_slice(line).map(|problem| self.problem(problem)).unwrap_or_else(|_| {
            let found = String::from_utf8_lossy(line).chars().take(80).collect();
            GymError::Answer { name: self.name.clone(), expected: "an answer of a bridge", found }
        })
    }

    fn problem(&self, problem: Problem) -> GymError {
        let (name, text) = (self.name.clone(), problem.text);
        match problem.error.as_str() {
            "unknown" => GymError::Unknown { name, text },
            "space" => GymError::Unsupported { name, text },
            "shape" => GymError::Shape { name, text },
            "raised" => GymError::Raised { name, text },
            _ => GymError::Answer { name, expected: "an answer of a bridge", found: text },
        }
    }

    /// Why the stream failed: the process was too slow, or has ended.
    fn lost(&mut self, error: &io::Error) -> GymError {
        let name = self.name.clone();
        if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            self.end();
            return GymError::Hung { name, limit: self.limit, said: self.said() };
        }
        self.wait();
        let status = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            _ => "it has closed its end".to_owned(),
        };
        self.end();
        GymError::Died { name, status, said: self.said() }
    }

    /// Gives the process a moment to end by itself.
    fn wait(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let ended = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        if let Some(ended) = ended {
            let time = Timespec { tv_sec: GRACE.as_secs() as i64, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&time));
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The last lines of its standard error.
    fn said(&self) -> String {
        // What it started may still hold its standard error.
        let _ = self.silent.recv_timeout(GRACE);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(said.make_contiguous());
        let lines: Vec<&str> = text.lines().collect();
        match lines.get(lines.len().saturating_sub(SHOWN)..) {
            None | Some([]) => "nothing".to_owned(),
            Some(last) => last.join("\n"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody asks any more: the environment is closed.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.wait();
        self.end();
    }
}

/// A byte on the stream comes between what one side writes and what the other reads: no other order is
/// needed.
fn put(place: &AtomicU64, number: f64) {
    place.store(number.to_bits(), Ordering::Relaxed);
}

fn get(place: &AtomicU64) -> f64 {
    f64::from_bits(place.load(Ordering::Relaxed))
}

/// Keeps the end of what a process says until it is silent.
fn listen(mut errors: ChildStderr, said: &Mutex<VecDeque<u8>>, _open: &Sender<()>) {
    let mut bytes = [0; KEPT];
    while let Ok(n @ 1..) = errors.read(&mut bytes) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend(&bytes[..n]);
        let over = said.len().saturating_sub(KEPT);
        said.drain(..over);
    }
}
