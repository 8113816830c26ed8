//! The control loop in real time: its thread, the policy thread, and the courier that carries
//! reports out of it. The control thread itself never allocates, locks, logs or touches a file.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heapless::spsc::{Consumer, Producer, Queue};

use super::command::{GoalResult, LoopCounters};
use super::exchange::PolicyThread;
use super::jitter::{Jitter, Quantiles};
use super::modes::Refusal;
use super::swap::Swapper;
use super::tick::ControlLoop;
use crate::clock::Clock;
use crate::episode::{Command, GoalRequest, GoalUpdate, Step};
use crate::hal::arm::Counters;

/// What is known of a running loop.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// The last step.
    pub step: Step,
    /// Counts since the start.
    pub counters: LoopCounters,
    /// Bus faults by kind.
    pub bus: Counters,
    /// Lateness of the ticks.
    pub jitter: Jitter,
    /// How long the policy's answers take.
    pub policy: Quantiles,
    /// Some servo has torque, for all that is known, whether this loop gave it to it or not.
    pub energised: bool,
    /// The loop has ended.
    pub ended: bool,
}

/// Why a command had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// Refused in this mode.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The loop has ended or does not answer.
    #[error("the control loop does not answer: it has ended or is stuck")]
    NoAnswer,
}

struct Order {
    number: u64,
    command: Command,
}

struct Report {
    step: Step,
    counters: LoopCounters,
    bus: Counters,
    energised: bool,
    /// Lateness of this tick (ns), and how long it took (ns).
    lateness: u64,
    took: u64,
    answer: Option<(u64, Result<(), Refusal>)>,
    result: Option<GoalResult>,
    /// Emergency stops taken over so far.
    stops: u64,
}

const ORDERS: usize = 16;
const REPORTS: usize = 64;
const COURIER_PERIOD: Duration = Duration::from_millis(4);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const KEPT_RESULTS: usize = 1000;

#[derive(Default)]
struct Shared {
    status: Status,
    /// Answers to those who still wait for one.
    answers: HashMap<u64, Option<Result<(), Refusal>>>,
    results: VecDeque<GoalResult>,
    stops: u64,
}

struct Orders {
    queue: Producer<'static, Order>,
    next: u64,
}

/// Talks to a running loop from any thread; may be cloned.
#[derive(Clone)]
pub struct Handle {
    orders: Arc<Mutex<Orders>>,
    shared: Arc<(Mutex<Shared>, Condvar)>,
    swapper: Swapper,
    next_goal: Arc<AtomicU64>,
    /// An e-stop passes all queues.
    emergency: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

/// A running loop; dropping it stops the loop with the arm parked or held, as configured.
pub struct Runtime {
    handle: Handle,
    threads: Vec<JoinHandle<()>>,
}

/// A poisoned lock only means that a thread ended badly; the values in it are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Runtime {
    /// Starts the threads of a loop whose pilot is connected to `policy`.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(
        control: ControlLoop,
        policy: PolicyThread,
        swapper: Swapper,
        period: Duration,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        // For the life of the program, see `exchange::connect`.
        let (orders, ordered) = Box::leak(Box::new(Queue::<Order, ORDERS>::new())).split();
        let (report, reports) = Box::leak(Box::new(Queue::<Report, REPORTS>::new())).split();
        let stop = Arc::new(AtomicBool::new(false));
        let emergency = Arc::new(AtomicBool::new(false));
        let handle = Handle {
            orders: Arc::new(Mutex::new(Orders { queue: orders, next: 1 })),
            shared: Arc::default(),
            swapper,
            next_goal: Arc::new(AtomicU64::new(1)),
            emergency: emergency.clone(),
            stop: stop.clone(),
        };
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let ended = Arc::new(AtomicBool::new(false));
        let courier = Courier {
            reports,
            shared: handle.shared.clone(),
            clock: clock.clone(),
            ended: ended.clone(),
        };
        let ticker = Ticker {
            control,
            orders: ordered,
            reports: report,
            stop,
            emergency,
            period,
            clock,
            ended,
            stops: 0,
        };
        let threads = vec![
            named("policy").spawn(move || policy.run())?,
            named("control").spawn(move || ticker.run())?,
            named("courier").spawn(move || courier.run())?,
        ];
        Ok(Self { handle, threads })
    }

    /// Talks to the loop.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.handle.stop.store(true, Ordering::Release);
        // The policy thread ends when the last swapper is gone, the others within a tick.
        for thread in self.threads.drain(..).skip(1) {
            if thread.join().is_err() {
                log::error!("a thread of the control loop panicked");
            }
        }
    }
}

impl Handle {
    /// Sends a command and waits until the loop has taken it over.
    ///
    /// # Errors
    /// Refused in this mode, or the loop does not answer.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        if command == Command::EmergencyStop {
            return self.emergency_stop();
        }
        let number = {
            let mut orders = lock(&self.orders);
            let number = orders.next;
            orders.next += 1;
            lock(&self.shared.0).answers.insert(number, None);
            if orders.queue.enqueue(Order { number, command }).is_err() {
                lock(&self.shared.0).answers.remove(&number);
                return Err(CommandError::NoAnswer);
            }
            number
        };
        let (shared, changed) = &*self.shared;
        let (mut shared, _) = changed
            .wait_timeout_while(lock(shared), ANSWER_TIMEOUT, |s| {
                s.answers.get(&number).is_some_and(Option::is_none) && !s.status.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        match shared.answers.remove(&number).flatten() {
            Some(answer) => Ok(answer?),
            None => Err(CommandError::NoAnswer),
        }
    }

    /// Stops at once and latches, past everything that waits.
    fn emergency_stop(&self) -> Result<(), CommandError> {
        let (shared, changed) = &*self.shared;
        let shared = lock(shared);
        let before = shared.stops;
        self.emergency.store(true, Ordering::Release);
        let (shared, _) = changed
            .wait_timeout_while(shared, ANSWER_TIMEOUT, |s| s.stops == before && !s.status.ended)
            .unwrap_or_else(PoisonError::into_inner);
        if shared.stops == before { Err(CommandError::NoAnswer) } else { Ok(()) }
    }

    /// Starts reaching for a goal and gives the id it was given.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn reach(&self, request: GoalRequest) -> Result<u64, CommandError> {
        let id = self.next_goal.fetch_add(1, Ordering::Relaxed);
        self.command(Command::Reach(GoalRequest { id, ..request }))?;
        Ok(id)
    }

    /// Moves a streamed goal on.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    pub fn follow(&self, update: GoalUpdate) -> Result<(), CommandError> {
        self.command(Command::Follow(update))
    }

    /// Stops at once and latches when it becomes true: for a signal handler, a pedal, a button.
    pub fn emergency(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.emergency)
    }

    /// What is known of the loop, at most a few milliseconds old.
    pub fn status(&self) -> Status {
        let status = lock(&self.shared.0).status.clone();
        Status { policy: Quantiles::of(self.swapper.times()), ..status }
    }

    /// How goal `id` ended; waits up to `timeout` for it.
    pub fn wait_for(&self, id: u64, timeout: Duration) -> Option<GoalResult> {
        let (shared, changed) = &*self.shared;
        let find = |s: &Shared| s.results.iter().rev().find(|r| r.id == id).copied();
        let (shared, _) = changed
            .wait_timeout_while(lock(shared), timeout, |s| find(s).is_none() && !s.status.ended)
            .unwrap_or_else(PoisonError::into_inner);
        find(&shared)
    }

    /// Goals ended lately, oldest first.
    pub fn results(&self) -> Vec<GoalResult> {
        lock(&self.shared.0).results.iter().copied().collect()
    }

    /// Swaps policies.
    pub fn swapper(&self) -> &Swapper {
        &self.swapper
    }
}

struct Ticker {
    control: ControlLoop,
    orders: Consumer<'static, Order>,
    reports: Producer<'static, Report>,
    stop: Arc<AtomicBool>,
    emergency: Arc<AtomicBool>,
    period: Duration,
    clock: Arc<dyn Clock>,
    ended: Arc<AtomicBool>,
    stops: u64,
}

impl Drop for Ticker {
    /// Also when the thread panics.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl Ticker {
    /// The control thread.
    fn run(mut self) {
        crate::os::prefault_stack();
        crate::os::become_realtime(crate::os::Priority::Control);
        let origin = self.clock.now();
        let mut number = 1;
        let mut leaving = false;
        while !leaving || self.control.parking() {
            let scheduled = origin + self.period.saturating_mul(number);
            self.clock.sleep_until(scheduled);
            let start = self.clock.now();
            if self.emergency.swap(false, Ordering::AcqRel) {
                let _ = self.control.command(&Command::EmergencyStop);
                self.stops += 1;
            }
            self.control.tick(u64::from(number), start);
            // After the tick, so that the first command finds the arm measured.
            let orders = (!leaving).then_some(&mut self.orders);
            let answer = orders
                .and_then(Consumer::dequeue)
                .map(|order| (order.number, self.control.command(&order.command)));
            self.report(answer, start.since(scheduled), self.clock.now().since(start));
            number = self.next(origin, number);
            if !leaving && self.stop.load(Ordering::Acquire) {
                leaving = true;
                // Also closes what is open in the log.
                self.control.leave();
            }
        }
        self.control.end();
    }

    /// The next tick that is still to come: missed ones are skipped, never made up for.
    fn next(&self, origin: crate::clock::Time, number: u32) -> u32 {
        let elapsed = self.clock.now().since(origin).as_nanos();
        let now = u32::try_from(elapsed / self.period.as_nanos().max(1)).unwrap_or(u32::MAX);
        number.max(now).saturating_add(1)
    }

    fn report(
        &mut self,
        answer: Option<(u64, Result<(), Refusal>)>,
        lateness: Duration,
        took: Duration,
    ) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let mut step = self.control.step().clone();
        // A command that was taken over after the tick may have changed it.
        step.mode = self.control.mode();
        let report = Report {
            step,
            counters: self.control.counters(),
            bus: self.control.bus(),
            energised: self.control.energised(),
            lateness: nanos(lateness),
            took: nanos(took),
            answer,
            result: self.control.take_result(),
            stops: self.stops,
        };
        // A full queue means that the courier was not scheduled for 64 ticks; the next report says
        // the same and more, but for an answer, which its sender then misses and says so.
        let _ = self.reports.enqueue(report);
    }
}

struct Courier {
    reports: Consumer<'static, Report>,
    shared: Arc<(Mutex<Shared>, Condvar)>,
    clock: Arc<dyn Clock>,
    ended: Arc<AtomicBool>,
}

impl Courier {
    /// The courier thread; ends when the control thread has ended and all is delivered.
    fn run(mut self) {
        loop {
            let last = self.ended.load(Ordering::Acquire);
            if !self.deliver() && last {
                break;
            }
            self.clock.sleep_until(self.clock.now() + COURIER_PERIOD);
        }
        lock(&self.shared.0).status.ended = true;
        self.shared.1.notify_all();
    }

    fn deliver(&mut self) -> bool {
        let mut any = false;
        while let Some(report) = self.reports.dequeue() {
            any = true;
            let mut shared = lock(&self.shared.0);
            shared.status.jitter.record(report.lateness, report.took);
            shared.status.step = report.step;
            shared.status.counters = report.counters;
            shared.status.bus = report.bus;
            shared.stops = report.stops;
            shared.status.energised = report.energised;
            if let Some((number, answer)) = report.answer {
                // Whoever has given up waiting has taken its place away.
                if let Some(waiting) = shared.answers.get_mut(&number) {
                    *waiting = Some(answer);
                }
            }
            if let Some(result) = report.result {
                if shared.results.len() == KEPT_RESULTS {
                    shared.results.pop_front();
                }
                shared.results.push_back(result);
            }
        }
        if any {
            self.shared.1.notify_all();
        }
        any
    }
}
