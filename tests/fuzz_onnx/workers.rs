//! Processes that verify damaged files: this program started again, so that a crash ends only one of
//! them and their memory is their own.

use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock};

use crate::seeds::Seed;
use crate::{case, outcome};

/// What a worker does, handed over in the environment.
pub enum Job {
    /// Verify these cases.
    Verify { seed: u64, cases: Range<u64> },
    /// Load those of them that verify.
    Load { seed: u64, cases: Range<u64>, engine: String },
}

const VARIABLE: &str = "REGOAL_F1_WORKER";

impl Job {
    /// The job of this process.
    pub fn given() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        let words: Vec<&str> = text.split(' ').collect();
        let number = |i: usize| words[i].parse::<u64>().unwrap();
        let (seed, cases) = (number(1), number(2)..number(3));
        Some(match words[0] {
            "verify" => Self::Verify { seed, cases },
            engine => Self::Load { seed, cases, engine: engine.to_owned() },
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Verify { seed, cases } => format!("verify {seed} {} {}", cases.start, cases.end),
            Self::Load { seed, cases, engine } => {
                format!("{engine} {seed} {} {}", cases.start, cases.end)
            }
        }
    }
}

/// A worker and the lines it says, each of them after the mark.
pub struct Worker {
    process: Child,
    lines: Receiver<String>,
}

const MARK: &str = "F1 ";

/// Says something to the campaign.
pub fn say(what: impl std::fmt::Display) {
    println!("{MARK}{what}");
}

impl Worker {
    pub fn start(job: &Job) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["worker", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, job.text()).stdout(Stdio::piped());
        // What a worker says of its cases is for those who look into one.
        if std::env::var_os("REGOAL_CASES").is_none() {
            command.stderr(Stdio::null());
        }
        let mut process = command.spawn().unwrap();
        let (sender, lines) = channel();
        let said = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // The test harness writes before the first mark on its line.
                if let Some((_, line)) = line.split_once(MARK)
                    && sender.send(line.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Self { process, lines }
    }

    /// The next line; `Ok(None)` at the end, an error when nothing comes within `time`.
    pub fn line(&self, time: Duration) -> Result<Option<String>, ()> {
        use std::sync::mpsc::RecvTimeoutError as Wait;
        match self.lines.recv_timeout(time) {
            Ok(line) => Ok(Some(line)),
            Err(Wait::Disconnected) => Ok(None),
            Err(Wait::Timeout) => Err(()),
        }
    }

    /// Whether it ended well; it is ended if it runs on.
    pub fn end(mut self, kill: bool) -> bool {
        if kill {
            self.process.kill().unwrap();
        }
        self.process.wait().unwrap().success()
    }
}

/// What verification made of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Verified,
    Refused,
    Panicked,
}

/// What all workers found.
#[derive(Debug, Default)]
pub struct Figures {
    pub verified: u64,
    pub refused: u64,
    pub panics: Vec<u64>,
    pub crashes: Vec<u64>,
    pub peak_kib: u64,
    pub slowest_ms: u64,
}

/// Cases between two reports of a worker.
const STRIDE: u64 = 500;
/// The longest that so many may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Verifies all cases in two processes.
pub fn verify_all(seed: u64, cases: Range<u64>) -> Figures {
    let middle = cases.start + (cases.end - cases.start) / 2;
    let halves = [cases.start..middle, middle..cases.end];
    let run = |half: Range<u64>| std::thread::spawn(move || verify_half(seed, half));
    let all = halves.map(run).map(|thread| thread.join().unwrap());
    all.into_iter().fold(Figures::default(), |mut sum, half| {
        sum.verified += half.verified;
        sum.refused += half.refused;
        sum.panics.extend(half.panics);
        sum.crashes.extend(half.crashes);
        sum.peak_kib = sum.peak_kib.max(half.peak_kib);
        sum.slowest_ms = sum.slowest_ms.max(half.slowest_ms);
        sum
    })
}

/// Verifies cases in a process, and in a new one after a crash.
fn verify_half(seed: u64, cases: Range<u64>) -> Figures {
    let (mut figures, mut next) = (Figures::default(), cases.start);
    while next < cases.end {
        let worker = Worker::start(&Job::Verify { seed, cases: next..cases.end });
        let mut hung = false;
        loop {
            let Ok(line) = worker.line(PATIENCE) else {
                hung = true;
                break;
            };
            let Some(line) = line else { break };
            let words: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| words[i].parse::<u64>().unwrap();
            match words[0] {
                "panic" => figures.panics.push(number(1)),
                _ => {
                    next = number(1);
                    figures.verified += number(2);
                    figures.refused += number(3);
                    figures.peak_kib = figures.peak_kib.max(number(4));
                    figures.slowest_ms = figures.slowest_ms.max(number(5));
                }
            }
        }
        let well = worker.end(hung);
        if !well && next < cases.end {
            // Somewhere among the next ones: said as the first, the rest is left out.
            figures.crashes.push(next);
            next += STRIDE;
        } else if next < cases.end {
            figures.crashes.push(next);
            break;
        }
    }
    figures
}

/// A worker's part: verifies cases and reports now and then.
pub fn verify(seed: u64, cases: Range<u64>, seeds: &[Seed]) {
    let (mut verified, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    for index in cases.clone() {
        let file = case(seed, index, seeds);
        let start = SystemClock.now();
        match outcome(&file) {
            Outcome::Verified => verified += 1,
            Outcome::Refused => refused += 1,
            Outcome::Panicked => say(format_args!("panic {index}")),
        }
        slowest = slowest.max(SystemClock.now().since(start));
        if (index + 1) % STRIDE == 0 || index + 1 == cases.end {
            let (peak, slowest) = (peak_kib(), slowest.as_millis());
            say(format_args!("done {} {verified} {refused} {peak} {slowest}", index + 1));
            (verified, refused) = (0, 0);
        }
    }
}

/// The most memory this process has had (KiB).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
