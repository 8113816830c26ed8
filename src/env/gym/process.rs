//! The child process: what it is asked, what it answers, and what became of it.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::{GymError, Python};

/// What runs in Python, so that an installed program has it.
const BRIDGE: &str = include_str!("../../../tools/gym_bridge.py");
/// What its first line begins with, whatever was printed before.
const MARK: &[u8] = b"{\"regoal_bridge\": ";
/// The version of the protocol in `tools/gym_bridge.py`.
const VERSION: u64 = 1;
/// The longest first line, and the longest text of an error (bytes).
const LONGEST: usize = 1 << 20;
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
    Step { action: &'a [f32] },
    Expert,
}

/// An answer, but for its rows.
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
    /// Numbers in an action row.
    action: usize,
    bytes: Vec<u8>,
}

/// Status, flags, two bytes without a meaning, size, reward.
const HEADER: usize = 12;

impl Process {
    /// Starts Python and waits for the environment.
    ///
    /// # Errors
    /// There is no such Python or environment, or it is none that can be learned in.
    pub(super) fn start(name: &str, python: &Python) -> Result<(Self, Announced), GymError> {
        let no_python = |source| GymError::NoPython { python: python.program.clone(), source };
        let (stream, theirs) = UnixStream::pair().map_err(no_python)?;
        let also_theirs = theirs.try_clone().map_err(no_python)?;
        stream.set_read_timeout(Some(python.limit())).map_err(no_python)?;
        stream.set_write_timeout(Some(python.limit())).map_err(no_python)?;
        let mut command = Command::new(&python.program);
        command.args(["-c", BRIDGE, name]);
        command.stdin(Stdio::from(OwnedFd::from(also_theirs)));
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
        let mut process =
            Self { name, limit, child, stream, said, silent, action: 0, bytes: Vec::new() };
        let announced = process.announced(python)?;
        process.action = match announced.actions {
            Actions::Continuous { size, .. } => size,
            Actions::Discrete { .. } => 1,
        };
        Ok((process, announced))
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
            let mut line = Vec::new();
            let mut byte = [0];
            while line.len() < LONGEST {
                match (&self.stream).read(&mut byte) {
                    Ok(0) => return Err(self.lost(None)),
                    Ok(_) if byte == *b"\n" => break,
                    Ok(_) => line.extend(byte),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.lost(Some(&error))),
                }
            }
            if line.starts_with(MARK) {
                return Ok(line);
            }
            let found = String::from_utf8_lossy(&line);
            if line.len() == LONGEST {
                let (name, expected) = (self.name.clone(), "the first line of a bridge");
                let found = found.chars().take(80).collect();
                return Err(GymError::Answer { name, expected, found });
            }
            log::debug!("gym:{}: {found}", self.name);
        }
    }

    /// Asks, and writes the rows of the answer.
    ///
    /// # Errors
    /// The process has ended, does not answer or answers otherwise; the environment failed.
    pub(super) fn ask(
        &mut self,
        request: Request<'_>,
        rows: &mut [f32],
    ) -> Result<Answer, GymError> {
        self.bytes.clear();
        let op: u32 = match request {
            Request::Reset { .. } => 1,
            Request::Step { .. } => 2,
            Request::Expert => 3,
        };
        self.bytes.extend(op.to_le_bytes());
        match request {
            Request::Reset { seed } => self.bytes.extend(seed.to_le_bytes()),
            Request::Step { action } => {
                action.iter().for_each(|a| self.bytes.extend(a.to_le_bytes()));
            }
            Request::Expert => {}
        }
        self.bytes.resize(4 + 4 * self.action.max(1), 0);
        if let Err(error) = self.stream.write_all(&self.bytes) {
            return Err(self.lost(Some(&error)));
        }
        self.answer(rows)
    }

    fn answer(&mut self, rows: &mut [f32]) -> Result<Answer, GymError> {
        self.bytes.clear();
        self.receive(HEADER + 4 * rows.len(), HEADER)?;
        let Some((header, _)) = self.bytes.split_first_chunk::<HEADER>() else {
            return Err(self.lost(None));
        };
        let [status, flags, _, _, a, b, c, d, reward @ ..] = *header;
        let size = u32::from_le_bytes([a, b, c, d]) as usize;
        let expected = 4 * rows.len();
        if status == 0 && size != expected || status > 1 || size > LONGEST.max(expected) {
            let found = format!("status {status} with {size} bytes");
            let (name, expected) = (self.name.clone(), "an answer of the size announced");
            return Err(GymError::Answer { name, expected, found });
        }
        self.receive(HEADER + size, HEADER + size)?;
        let body = &self.bytes[HEADER..];
        if status == 1 {
            let (name, found) = (self.name.clone(), String::from_utf8_lossy(body).into_owned());
            let expected = "an answer of a bridge";
            let problem = serde_json::from_slice(body);
            return Err(problem.map_or(GymError::Answer { name, expected, found }, |problem| {
                self.problem(problem)
            }));
        }
        for (row, bytes) in rows.iter_mut().zip(body.as_chunks::<4>().0) {
            *row = f32::from_le_bytes(*bytes);
        }
        let has = |flag: u8| flags & flag != 0;
        Ok(Answer {
            reward: f32::from_le_bytes(reward),
            terminated: has(1),
            truncated: has(2),
            success: has(4).then_some(has(8)),
        })
    }

    /// Reads until `least` bytes are there, at most `most`.
    fn receive(&mut self, most: usize, least: usize) -> Result<(), GymError> {
        let mut have = self.bytes.len();
        self.bytes.resize(most.max(have), 0);
        while have < least {
            match (&self.stream).read(&mut self.bytes[have..]) {
                Ok(0) => return Err(self.lost(None)),
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(Some(&error))),
            }
        }
        self.bytes.truncate(have);
        Ok(())
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
    fn lost(&mut self, error: Option<&io::Error>) -> GymError {
        let late = |error: &&io::Error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
        };
        let name = self.name.clone();
        if error.filter(late).is_some() {
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
