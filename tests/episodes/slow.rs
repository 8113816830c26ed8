//! L5: a disk that stalls. The writer runs on its own thread and waits for virtual time, which only
//! the control loop moves.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock, ManualClock, Time, WallTime};
use regoal::control::{Command, ControlLoop};
use regoal::episode::*;
use regoal::hal::{Arm, Emulator, MemoryPort};
use regoal::rng::Rng;
use regoal::storage::{Memory, Storage, StorageFile};
use serde_json::json;

use crate::bench::{self, drift, number, report};
use crate::fixtures::*;

/// Where the writer waits until virtual time has come so far.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    now: Time,
    /// Until when the writer waits, while it does.
    until: Option<Time>,
    /// Nobody waits any more.
    ended: bool,
}

impl Gate {
    /// Moves time on, and returns when the writer has done all it can do by then.
    fn advance(&self, now: Time) {
        let mut state = self.state.lock().unwrap();
        state.now = now;
        self.changed.notify_all();
        while state.until.is_none_or(|until| until <= now) {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.changed.notify_all();
    }
}

/// The writer's clock.
impl Clock for Gate {
    fn now(&self) -> Time {
        self.state.lock().unwrap().now
    }
    fn wall(&self) -> WallTime {
        WallTime(ManualClock::EPOCH.0 + self.now().0)
    }
    fn sleep_until(&self, deadline: Time) {
        let mut state = self.state.lock().unwrap();
        state.until = Some(deadline);
        self.changed.notify_all();
        while state.now < deadline && !state.ended {
            state = self.changed.wait(state).unwrap();
        }
        state.until = None;
    }
}

/// Stalls in one of 200 calls that write or sync, for 1 ms to 10 s.
#[derive(Clone)]
struct Slow {
    inner: Memory,
    gate: Arc<Gate>,
    stalls: Arc<Mutex<Stalls>>,
}

struct Stalls {
    rng: Rng,
    count: u64,
    longest: Duration,
}

impl Slow {
    fn stall(&self) {
        let mut stalls = self.stalls.lock().unwrap();
        if stalls.rng.random_bool(0.995) {
            return;
        }
        let stall = Duration::from_secs_f64(10f64.powf(stalls.rng.random_range(-3.0..1.0)));
        stalls.count += 1;
        stalls.longest = stalls.longest.max(stall);
        drop(stalls);
        self.gate.sleep_until(self.gate.now() + stall);
    }

    fn file(&self, file: Box<dyn StorageFile>) -> Box<dyn StorageFile> {
        Box::new(SlowFile(self.clone(), file))
    }
}

struct SlowFile(Slow, Box<dyn StorageFile>);

impl Read for SlowFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1.read(buf)
    }
}

impl Write for SlowFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.stall();
        self.1.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

impl Seek for SlowFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.1.seek(to)
    }
}

impl StorageFile for SlowFile {
    fn sync(&mut self) -> io::Result<()> {
        self.0.stall();
        self.1.sync()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.1.truncate(len)
    }
}

impl Storage for Slow {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(self.inner.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(self.file(self.inner.open(path)?))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.inner.read(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send>> {
        self.inner.lock(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner.list(folder)
    }
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.inner.create_folder(folder)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.stall();
        self.inner.sync_folder(folder)
    }
}

/// Runs a robot that logs to a slow disk; gives the disk, the ticks that were handed over and those
/// that were missed, and what the writer told.
fn record(seconds: u64, gate: &Arc<Gate>, slow: &Slow) -> (u64, u64, Arc<LogStatus>) {
    let mut robot = bench::robot();
    robot.control.rate_hz = 200.0;
    let clock = ManualClock::default();
    let (sender, receiver) = log_queue();
    let writer = LogWriter::new(
        Arc::new(slow.clone()),
        gate.clone(),
        FOLDER.into(),
        EpisodeHeader { rate_hz: 200.0, ..header() },
        WriterConfig::default(),
        receiver,
    );
    let thread = writer.unwrap().spawn().unwrap();
    let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
    let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
    let arm = Arm::open(&robot, Box::new(port), Arc::new(clock.clone())).unwrap();
    let mut control =
        ControlLoop::new(&robot, arm, drift(0.001), Some(sender), Arc::new(clock.clone())).unwrap();
    let mut request = bench::Bench::new(robot.clone(), drift(0.0)).goal([0.1, -0.2, 0.2]);
    request.timeout = Duration::from_secs(15);
    let mut handed = 0;
    for tick in 0..seconds * 200 {
        if tick == 10 {
            control.command(&Command::Arm).unwrap();
        }
        if tick > 10 && control.mode() == Mode::Holding {
            control.command(&Command::Reach(request.clone())).unwrap();
        }
        let start = clock.now();
        handed += u64::from(!control.tick(tick + 1, start).desired_goal.is_empty());
        clock.sleep_until(start + robot.period());
        gate.advance(clock.now());
    }
    gate.end();
    let status = thread.status();
    thread.stop();
    (handed, control.counters().missed, status)
}

/// What the files tell: the steps in them, the gaps marked, the jumps of the tick that are not, and
/// the steps that the outcomes count and that are not there.
fn logged(disk: &Memory) -> [u64; 4] {
    let (mut steps, mut gaps, mut unmarked, mut absent) = (0, 0, 0, 0);
    for summary in list(disk, Path::new(FOLDER)).unwrap() {
        let read = Episode::read(disk, &summary.path).unwrap();
        assert_eq!(read.damage, None);
        steps += read.steps.len() as u64;
        absent += read.outcome.unwrap().ticks.saturating_sub(read.steps.len() as u64);
        for pair in read.steps.windows(2) {
            let jumped = pair[1].tick != pair[0].tick + 1;
            let marked = pair[1].events.contains(Events::LOG_GAP);
            gaps += u64::from(jumped && marked);
            unmarked += u64::from(jumped != marked);
        }
    }
    [steps, gaps, unmarked, absent]
}

#[test]
fn l5_a_disk_that_stalls_costs_no_tick_and_what_is_lost_is_counted_and_marked() {
    let seconds = number("REGOAL_SECONDS", 120);
    let gate = Arc::<Gate>::default();
    let stalls = Stalls { rng: rng(0), count: 0, longest: Duration::ZERO };
    let slow =
        Slow { inner: Memory::default(), gate: gate.clone(), stalls: Arc::new(Mutex::new(stalls)) };
    let (handed, missed, status) = record(seconds, &gate, &slow);
    let [steps, gaps, unmarked, absent] = logged(&slow.inner);
    let lost = status.lost() + status.unlogged();
    let uncounted = handed.abs_diff(steps + lost) + lost.saturating_sub(absent);
    let stalls = slow.stalls.lock().unwrap();
    let failures = missed + unmarked + uncounted + status.failures();
    let figures = json!({
        "seconds": seconds, "stalls": stalls.count, "longest_stall_s": stalls.longest.as_secs_f64(),
        "steps": handed, "missed_ticks": missed, "lost_steps": lost, "told_by_files": absent,
        "gaps": gaps,
    });
    report("L5", seed(), stalls.count, failures, figures);
    assert_eq!((missed, unmarked, uncounted, status.failures()), (0, 0, 0, 0));
    assert!(stalls.count > 0 && steps > 0);
}
