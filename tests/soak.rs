//! C9: an arm at work for a long time, with a bus that damages packets, goals, swaps and a log. Ten
//! minutes of simulated time, or, with `REGOAL_REAL`, as long as it takes.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

#[path = "common/bench.rs"]
mod bench;
#[path = "common/policies.rs"]
mod policies;

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock, ManualClock, SystemClock, Time};
use regoal::cmd::simulate::{header_template, request};
use regoal::config::RobotConfig;
use regoal::control::{Actor, Command, GoalRequest, SwapError, Swapper, connect};
use regoal::engine::Engine;
use regoal::env::start_pose;
use regoal::episode::{LogWriter, Mode, Source, WriterConfig, log_queue};
use regoal::hal::FaultSpec;
use regoal::hal::fault::{Fault, Kind};
use regoal::joints::stack;
use regoal::policy::Policy;
use regoal::rng::{Rng, Stream, item};
use regoal::storage::Disk;
use serde_json::json;

use bench::{Bench, number, report};

/// Of all packets, by all kinds together.
const RATE: f64 = 0.001;
/// Ticks between two swaps.
const SWAP: u64 = 1000;
/// Ticks that the way back may take.
const BACK: u64 = 300;
/// Episodes that are kept on the disk.
const KEPT: usize = 4;
/// Ticks between two looks at what the system has given.
const SAMPLE: u64 = 100;
/// What the heap in use may grow by (%): it is counted to the byte.
const HEAP_GROWTH: f64 = 0.25;
/// What the system has given on average may grow by (%), in a run of [`SETTLED`] seconds or more.
const RESIDENT_GROWTH: f64 = 1.0;
/// Seconds, real or simulated: in fewer, even the average moves by nearly as much with where the
/// allocator happens to lay the large blocks of a policy.
const SETTLED: u64 = 3600;

fn faults() -> FaultSpec {
    use Kind::*;
    let kinds = [Drop, Flip, Swap, Truncate, Slow, Silent, WrongId, Echo];
    let rate = RATE / kinds.len() as f64;
    let delay = |kind| (kind == Slow).then_some(2000.0);
    let fault = |kind| Fault { rate, delay_us: delay(kind), ..Fault::new(kind) };
    FaultSpec { fault: kinds.map(fault).into() }
}

fn load(file: &[u8], robot: &RobotConfig) -> Box<dyn Actor> {
    Box::new(Policy::load(file, robot, &Engine::tract()).unwrap())
}

/// A policy to swap in.
#[derive(Debug, Clone, Copy)]
enum Offer {
    /// The one that is installed with the robot.
    Shipped,
    /// A small one that never gets anywhere.
    Still,
    /// One that asks for what the joints cannot do.
    Refused,
}

/// Again and again, so that each stretch of a run holds the same: who steers and who is kept behind
/// are both shipped, both small, or one of each, and each of them stands a candidate that is refused.
const ROUND: [Offer; 6] = {
    use Offer::*;
    [Shipped, Refused, Shipped, Still, Refused, Still]
};
/// Ticks before the first look: what is made once is made in the first round.
const WARM: u64 = SWAP * ROUND.len() as u64;

/// Bytes of the heap that are in use.
static IN_USE: AtomicU64 = AtomicU64::new(0);

struct Weighing;

// SAFETY: every call goes to the system's allocator unchanged; the counter allocates nothing.
unsafe impl GlobalAlloc for Weighing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        IN_USE.fetch_add(size as u64, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Weighing = Weighing;

/// What the process has in one half of the run.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// The least and the most of the heap that is in use (bytes). What nobody gives back raises the
    /// least, a buffer that grows for a while the most.
    heap: [u64; 2],
    /// The most that the system has given (bytes). The allocator gives back and takes again, so it
    /// is a matter of luck, and the average is judged: a leak raises both.
    resident: u64,
    /// What the system has given (bytes), of all looks together, and how many they were.
    looks: [u64; 2],
    /// The most.
    descriptors: usize,
}

impl Held {
    const NOTHING: Self = Self { heap: [u64::MAX, 0], resident: 0, looks: [0; 2], descriptors: 0 };

    fn weigh(&mut self) {
        let [least, most] = self.heap;
        let now = IN_USE.load(Ordering::Relaxed);
        self.heap = [least.min(now), most.max(now)];
    }

    fn ask_the_system(&mut self) {
        let ([sum, looks], now) = (self.looks, resident());
        self.looks = [sum + now, looks + 1];
        self.resident = self.resident.max(now);
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().count();
        self.descriptors = self.descriptors.max(descriptors);
    }

    /// Bytes.
    fn resident_mean(&self) -> u64 {
        let [sum, looks] = self.looks;
        sum / looks.max(1)
    }
}

/// In per cent.
fn growth(first: u64, second: u64) -> f64 {
    100.0 * (second as f64 / first as f64 - 1.0)
}

/// What the system has given the process (bytes).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    reached: u64,
    failed: u64,
    faults: u64,
    swaps: u64,
    refused: u64,
    wrong: u64,
}

/// An arm at work.
struct Soak {
    bench: Bench,
    swapper: Swapper,
    thread: JoinHandle<()>,
    log: LogWriter,
    folder: tempfile::TempDir,
    shipped: Vec<u8>,
    rng: Rng,
    tally: Tally,
    /// The last goal was not reached: the arm may be where the policy does not know its way.
    astray: bool,
    /// On the way back until this tick.
    back_by: u64,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let robot = bench::robot();
        let shipped = std::fs::read("models/reach/policy.onnx").unwrap();
        let (clock, thinking) = (ManualClock::default(), ManualClock::default());
        // The loop's time is far ahead, so that it always waits for the policy thread's answer.
        clock.advance(Duration::from_hours(1000));
        let actor = load(&shipped, &robot);
        let (pilot, thread, swapper) = connect(actor, Arc::new(thinking), robot.period()).unwrap();
        let swapper = swapper.within(&robot);
        let folder = tempfile::tempdir().unwrap();
        let (sender, receiver) = log_queue();
        let log = LogWriter::new(
            Arc::new(Disk),
            Arc::new(clock.clone()),
            folder.path().into(),
            header_template(&robot),
            WriterConfig::default(),
            receiver,
        );
        let seen = Arc::new(clock.clone());
        let pilot = Box::new(pilot);
        let bench = Bench::with_faults(robot, pilot, Some(sender), &faults(), clock, seen);
        Self {
            bench,
            swapper,
            thread: std::thread::spawn(|| thread.run()),
            log: log.unwrap(),
            folder,
            shipped,
            rng: item(seed, Stream::Training, 0),
            tally: Tally::default(),
            astray: false,
            back_by: 0,
        }
    }

    /// One tick, what its end asks for, and the log.
    fn tick(&mut self) {
        self.bench.run(1);
        // Nobody looks at what was sent.
        self.bench.line.take();
        self.log.drain();
        if let Some(result) = self.bench.control.take_result() {
            self.tally.reached += u64::from(result.success);
            self.tally.failed += u64::from(!result.success);
            self.astray |= !result.success;
            self.forget();
        }
        match self.bench.control.mode() {
            Mode::Holding if self.astray => self.bring_back(),
            Mode::Holding if self.bench.tick < self.back_by => {}
            Mode::Holding => self.reach(),
            Mode::Disarmed => self.arm(),
            Mode::Faulted(fault) => {
                eprintln!("tick {}: {fault}", self.bench.tick);
                self.tally.faults += 1;
                self.arm();
            }
            Mode::Reaching | Mode::Teleop => {}
        }
    }

    fn arm(&mut self) {
        // Not before all joints are known.
        let _ = self.bench.control.command(&Command::Arm);
    }

    /// Sends the arm to where the policy was taught to start, as an operator does.
    fn bring_back(&mut self) {
        let pose = start_pose(&self.bench.robot, &mut self.rng);
        self.bench.control.command(&Command::Move(pose)).unwrap();
        self.astray = false;
        self.back_by = self.bench.tick + BACK;
    }

    fn reach(&mut self) {
        let rng = &mut self.rng;
        let place = [rng.random_range(-0.2..0.2), -0.2, rng.random_range(0.15..0.25)];
        let goal = request(&self.bench.robot, stack(place), Source::Run);
        // The shipped policy is a beginner.
        let goal = GoalRequest { id: self.bench.tick, tolerance: 0.08, ..goal };
        self.bench.control.command(&Command::Reach(goal)).unwrap();
    }

    fn swap(&mut self, offer: Offer) {
        let robot = &self.bench.robot;
        let by = 1e-4 * (self.rng.random::<f32>() - 0.5);
        let file = match offer {
            Offer::Shipped => self.shipped.clone(),
            Offer::Still => policies::policy(robot, 32, by),
            Offer::Refused => policies::policy(robot, 4, 90.0),
        };
        match (offer, self.swapper.swap(load(&file, robot))) {
            (Offer::Shipped | Offer::Still, Ok(_)) => self.tally.swaps += 1,
            (Offer::Refused, Err(SwapError::OutOfLimits { .. })) => self.tally.refused += 1,
            (_, other) => {
                eprintln!("tick {}: {other:?}", self.bench.tick);
                self.tally.wrong += 1;
            }
        }
    }

    /// Old episodes go, as a person clears a full disk.
    fn forget(&self) {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        let is_episode = |path: &Path| path.extension().is_some_and(|end| end == "mcap");
        let mut episodes: Vec<_> = files.filter(|path| is_episode(path)).collect();
        episodes.sort();
        for old in episodes.iter().rev().skip(KEPT) {
            std::fs::remove_file(old).unwrap();
        }
    }
}

#[test]
fn c9_an_arm_at_work_for_hours_keeps_its_memory_its_descriptors_and_its_deadlines() {
    let seed = number("REGOAL_SEED", 1);
    let seconds = number("REGOAL_SECONDS", 600);
    let real = std::env::var_os("REGOAL_REAL").is_some();
    let mut soak = Soak::new(seed);
    let period = soak.bench.robot.period();
    let ticks = (seconds as f64 / period.as_secs_f64()) as u64;
    let (begun, mut late, mut halves) = (SystemClock.now(), 0, [Held::NOTHING; 2]);
    let mut first_half = 0;
    for tick in 1..=ticks {
        soak.tick();
        if tick == ticks / 2 {
            first_half = soak.tally.reached;
        }
        if tick % SWAP == 0 {
            soak.swap(ROUND[(tick / SWAP) as usize % ROUND.len()]);
        }
        let half = &mut halves[usize::from(tick > ticks / 2)];
        if tick > WARM {
            half.weigh();
        }
        if tick > WARM && tick % SAMPLE == 0 {
            half.ask_the_system();
        }
        if real {
            let due: Time = begun + period.mul_f64(tick as f64);
            late += u64::from(SystemClock.now() > due + period);
            SystemClock.sleep_until(due);
        }
    }
    let [first, second] = halves;
    let heap = [0, 1].map(|i| growth(first.heap[i], second.heap[i]));
    let resident = growth(first.resident_mean(), second.resident_mean());
    let (counters, status) = (soak.bench.control.counters(), soak.log.status());
    let Tally { reached, failed, faults, swaps, refused, wrong } = soak.tally;
    let figures = json!({
        "seconds": seconds, "real": real, "ticks": ticks, "missed": counters.missed,
        "late_by_the_clock": real.then_some(late),
        "reached": [first_half, reached - first_half], "failed": failed, "faults": faults,
        "swaps": swaps, "refused": refused, "episodes": status.episodes(), "lost": status.lost(),
        "heap_least_bytes": halves.map(|half| half.heap[0]),
        "heap_most_bytes": halves.map(|half| half.heap[1]), "heap_growth_percent": heap,
        "resident_mean_kib": halves.map(|half| half.resident_mean() >> 10),
        "resident_most_kib": halves.map(|half| half.resident >> 10),
        "resident_growth_percent": resident,
        "descriptors": [first.descriptors, second.descriptors],
    });
    let checks = [
        (heap.into_iter().all(|growth| growth <= HEAP_GROWTH), "the heap in use grows"),
        (seconds < SETTLED || resident <= RESIDENT_GROWTH, "what the system has given grows"),
        (second.descriptors <= first.descriptors, "descriptors grow"),
        (counters.missed == 0, "ticks were missed"),
        (faults == 0, "faults"),
        (wrong == 0, "candidates were judged wrongly"),
        (status.lost() == 0 && status.failures() == 0, "the log lost steps"),
        (reached > 10 && 2 * (reached - first_half) > first_half, "goals are reached no more"),
        (swaps > 0 && status.episodes() > 10, "too little happened"),
    ];
    let failures = checks.iter().filter(|(holds, _)| !holds).count() as u64;
    report("C9", seed, 1, failures, figures);
    let Soak { bench, swapper, thread, .. } = soak;
    drop((bench, swapper));
    thread.join().unwrap();
    for (holds, what) in checks {
        assert!(holds, "{what}");
    }
}
