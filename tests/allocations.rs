//! The control thread asks the allocator for nothing: counted, call by call.
//!
//! The allocator of this program counts its calls per thread, so that other tests and the policy
//! thread do not show. Freeing counts too: it takes the same locks.
#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock as _, ManualClock, SystemClock, Time};
use regoal::config::RobotConfig;
use regoal::control::{
    Actor, Command, ControlLoop, Ending, GoalRequest, GoalUpdate, Hardware, Inline, Lead, Pilot,
    Reconnect, Refusal, TeleopAction, connect, teleop_queue,
};
use regoal::episode::{Fault, LogReceiver, LogSender, PolicyId, Record, Source, Split, log_queue};
use regoal::hal::{Arm, Emulator, MemoryPort, Port, PortError};
use regoal::joints::{JointVec, stack};
use regoal::onnx::{Builder, Dim, Tensor, Verified};
use regoal::policy::{ActionKind, Observation, Policy, PolicyError, Times};
use regoal::storage::Disk;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; the counter allocates nothing, as it
// is a constant without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        unsafe { System.realloc(block, layout, size) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `f` called the allocator in this thread, and what it gave.
fn calls_of<R>(f: impl FnOnce() -> R) -> (u64, R) {
    let before = CALLS.get();
    let value = f();
    (CALLS.get() - before, value)
}

const CLEAR: u8 = 0;
const NOISY: u8 = 1;
const SILENT: u8 = 2;
const GONE: u8 = 3;

/// A wire that can be damaged.
struct Wire {
    inner: MemoryPort,
    state: Arc<AtomicU8>,
    reads: u32,
}

impl Port for Wire {
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        self.inner.write(bytes, deadline)
    }
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        self.reads += 1;
        match self.state.load(Ordering::Relaxed) {
            SILENT => self.inner.purge().and(Err(PortError::TimedOut)),
            GONE => Err(PortError::Lost),
            NOISY if self.reads.is_multiple_of(5) => {
                let count = self.inner.read(buf, deadline)?;
                buf[self.reads as usize % count] ^= 0x10;
                Ok(count)
            }
            _ => self.inner.read(buf, deadline),
        }
    }
    fn purge(&mut self) -> Result<usize, PortError> {
        self.inner.purge()
    }
}

/// A goal this high (m) makes [`Swing`] answer with NaN.
const NONSENSE: f32 = 9.0;

/// Moves a little to and fro.
struct Swing(u8);

impl Actor for Swing {
    fn act(&mut self, o: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let nonsense = o.desired_goal.get(2).is_some_and(|z| *z >= NONSENSE);
        let delta = 0.002 * (o.tick as f32 * 0.3).sin();
        Ok(stack(o.position.iter().map(|_| if nonsense { f32::NAN } else { delta })))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> PolicyId {
        PolicyId([self.0; 16])
    }
}

/// The arm that was lost is found again: nothing is made anew.
struct Replug {
    wire: Arc<AtomicU8>,
    spare: Option<Box<dyn Hardware>>,
}

impl Reconnect for Replug {
    fn lost(&mut self, arm: Box<dyn Hardware>) {
        assert!(self.spare.replace(arm).is_none(), "one arm is lost at a time");
    }
    fn found(&mut self) -> Option<Box<dyn Hardware>> {
        self.spare.take_if(|_| self.wire.load(Ordering::Relaxed) != GONE)
    }
}

struct Bench {
    robot: RobotConfig,
    clock: ManualClock,
    control: ControlLoop,
    wire: Arc<AtomicU8>,
    tick: u64,
    /// Calls of the allocator inside ticks, and inside commands.
    in_ticks: u64,
    in_commands: u64,
}

fn seed() -> u64 {
    std::env::var("REGOAL_SEED").map_or(1, |text| text.parse().unwrap())
}

fn robot() -> RobotConfig {
    RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap()
}

impl Bench {
    fn new(clock: ManualClock, pilot: Box<dyn Pilot>, log: Option<LogSender>) -> Self {
        let robot = robot();
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, seed())));
        let inner = MemoryPort::new(emulator, Arc::new(clock.clone()));
        let wire = Arc::new(AtomicU8::new(CLEAR));
        let port = Box::new(Wire { inner, state: wire.clone(), reads: 0 });
        let arm = Arm::open(&robot, port, Arc::new(clock.clone())).unwrap();
        let control = ControlLoop::new(&robot, arm, pilot, log, Arc::new(clock.clone()))
            .unwrap()
            .with_reconnect(Box::new(Replug { wire: wire.clone(), spare: None }));
        Self { robot, clock, control, wire, tick: 0, in_ticks: 0, in_commands: 0 }
    }

    fn tick(&mut self) {
        self.tick += 1;
        let start = self.clock.now();
        let (calls, ()) = calls_of(|| {
            self.control.tick(self.tick, start);
        });
        self.in_ticks += calls;
        self.clock.sleep_until(start + self.robot.period());
    }

    fn command(&mut self, command: &Command) -> Result<(), Refusal> {
        let (calls, answer) = calls_of(|| self.control.command(command));
        self.in_commands += calls;
        answer
    }

    fn reach(&mut self, goal: [f32; 3], timeout: Duration) {
        let request = GoalRequest {
            id: self.tick,
            goal: stack(goal),
            tolerance: 0.02,
            timeout,
            stream: (timeout == STREAMED).then_some(STREAM),
            end_when_reached: true,
            source: Source::Run,
            split: Split::Training,
            seed: None,
        };
        self.command(&Command::Reach(request)).unwrap();
    }

    fn here(&self) -> [f32; 3] {
        let at = &self.control.step().achieved_goal;
        [at[0], at[1], at[2]]
    }

    fn home(&self) -> Command {
        Command::Move(self.robot.joint.iter().map(|j| j.home_rad).collect())
    }
}

/// Ticks of one round of [`Bench::act_out`].
const ROUND: u64 = 800;
/// A goal of this timeout is streamed, with updates this far apart at most.
const STREAMED: Duration = Duration::from_secs(9);
const STREAM: Duration = Duration::from_millis(100);
const FAR: [f32; 3] = [0.1, -0.2, 0.2];

impl Bench {
    /// What an operator, the wire and the computer do before tick `at` of a round.
    fn act_out(&mut self, at: u64) {
        let two_seconds = Duration::from_secs(2);
        match at {
            10 | 480 | 530 | 545 | 580 => self.command(&Command::Arm).unwrap(),
            20 => self.reach(self.here(), two_seconds),
            40 => self.reach(FAR, two_seconds),
            60 | 200 | 420 | 490 | 555 | 610 => self.reach(FAR.map(|x| 0.9 * x), two_seconds),
            100 | 460 | 620 => self.command(&Command::Stop).unwrap(),
            110 => self.command(&self.home()).unwrap(),
            470 => self.reach([0.1, 0.1, NONSENSE], two_seconds),
            540 => self.command(&Command::EmergencyStop).unwrap(),
            550 => self.tick += 3,
            600 => self.control.set_pilot(Box::new(Inline::new(Box::new(Swing(2))))),
            640 => self.reach(FAR, STREAMED),
            645 | 650 => {
                let update =
                    GoalUpdate { id: self.tick - (at - 640), sequence: at, goal: stack(FAR) };
                self.command(&Command::Follow(update)).unwrap();
            }
            680 => self.command(&Command::Park).unwrap(),
            790 => self.command(&Command::Disarm).unwrap(),
            _ => {}
        }
        match at {
            430 => self.wire.store(NOISY, Ordering::Relaxed),
            500 => self.wire.store(SILENT, Ordering::Relaxed),
            560 => self.wire.store(GONE, Ordering::Relaxed),
            450 | 520 | 570 => self.wire.store(CLEAR, Ordering::Relaxed),
            _ => {}
        }
    }
}

/// Takes all records; how many were steps.
fn drain(log: &mut LogReceiver) -> usize {
    std::iter::from_fn(|| log.receive()).filter(|r| matches!(r, Record::Step(_))).count()
}

#[test]
fn ticks_of_goals_faults_and_lost_ports_never_call_the_allocator() {
    let (sender, mut log) = log_queue();
    let pilot = Box::new(Inline::new(Box::new(Swing(1))));
    let mut bench = Bench::new(ManualClock::default(), pilot, Some(sender));
    let (mut endings, mut policies) = (HashSet::new(), HashSet::new());
    let (mut handed_over, mut logged) = (0, 0);
    let ticks = std::env::var("REGOAL_TICKS").map_or(20_000, |text| text.parse().unwrap());
    for tick in 0..ticks {
        bench.act_out(tick % ROUND);
        bench.tick();
        let step = bench.control.step();
        policies.insert(step.policy);
        handed_over += usize::from(!step.desired_goal.is_empty());
        endings.extend(bench.control.take_result().map(|r| format!("{:?}", r.ending)));
        // In the rounds between, the writer lags until the ring is full.
        if (tick / ROUND).is_multiple_of(3) {
            logged += drain(&mut log);
        }
    }
    let swaps = beside_swaps();
    let in_ticks = bench.in_ticks + swaps.in_ticks;
    let calls = in_ticks + bench.in_commands;
    println!(
        "{}",
        serde_json::json!({
            "id": "C7", "seed": seed(), "runs": bench.tick + swaps.ticks, "failures": calls,
            "figures": {
                "calls_in_ticks": in_ticks, "calls_in_commands": bench.in_commands,
                "swaps": swaps.swaps, "ticks_beside_swaps": swaps.ticks,
            },
            "pass": calls == 0,
        })
    );
    // What was meant to happen did happen.
    let faults = [Fault::BadAction, Fault::BusSilent, Fault::PortLost].map(Ending::Faulted);
    let others =
        [Ending::Reached, Ending::TimedOut, Ending::Stopped, Ending::Replaced, Ending::StreamEnded];
    for ending in others.into_iter().chain(faults) {
        assert!(endings.contains(&format!("{ending:?}")), "no goal ended as {ending:?}");
    }
    let bus = bench.control.bus().bus;
    assert!(bus.checksum > 0 && bus.retries > 0, "{bus:?}");
    assert!(bench.control.counters().missed > 0);
    assert_eq!(policies.len(), 3, "{policies:?}");
    assert!(1000 < logged && logged < handed_over, "{logged} of {handed_over} steps logged");
    assert_eq!((in_ticks, bench.in_commands), (0, 0));
}

#[test]
fn ticks_and_commands_of_a_person_who_steers_never_call_the_allocator() {
    let (sender, mut log) = log_queue();
    let pilot = Box::new(Inline::new(Box::new(Swing(1))));
    let mut bench = Bench::new(ManualClock::default(), pilot, Some(sender));
    let (mut leader, source) = teleop_queue();
    bench.control = bench.control.with_teleop(source);
    let mut steps = 0;
    for at in 0..700u64 {
        let position: JointVec<f64> = bench.robot.joint.iter().map(|j| j.home_rad).collect();
        // It falls silent for a while.
        if !(200..250).contains(&at) {
            leader.send(TeleopAction { stamp: bench.clock.now(), position });
        }
        let request = GoalRequest {
            id: 1,
            goal: stack([]),
            tolerance: 0.02,
            timeout: Duration::from_secs(9),
            stream: None,
            end_when_reached: false,
            source: Source::Demonstration,
            split: Split::Training,
            seed: None,
        };
        match at {
            5 | 560 => bench.command(&Command::Arm).unwrap(),
            10 | 330 => bench.command(&Command::TakeOver(Lead::Device)).unwrap(),
            20 | 130 | 460 => bench.command(&Command::Record(request)).unwrap(),
            60 => bench.command(&Command::Mark).unwrap(),
            100 => bench.command(&Command::Cut).unwrap(),
            120 | 300 | 500 => bench.command(&Command::Conclude(Some(true))).unwrap(),
            310 => bench.command(&Command::LetGo).unwrap(),
            320 => bench.reach(FAR, Duration::from_secs(2)),
            400 => bench.command(&Command::LetGo).unwrap(),
            430 => bench.command(&Command::Stop).unwrap(),
            440 => bench.command(&Command::TakeOver(Lead::ByHand)).unwrap(),
            550 => bench.command(&Command::EmergencyStop).unwrap(),
            _ => {}
        }
        bench.tick();
        steps += drain(&mut log);
    }
    assert!(steps > 300, "{steps}");
    assert_eq!((bench.in_ticks, bench.in_commands), (0, 0));
}

struct Swaps {
    swaps: u8,
    ticks: u64,
    in_ticks: u64,
}

/// Ticks of a loop whose policy thread swaps one policy after another in, and what they cost.
fn beside_swaps() -> Swaps {
    const LAST: u8 = 20;
    let clock = ManualClock::default();
    // In virtual time no candidate is slow.
    let (pilot, policy, swapper) =
        connect(Box::new(Swing(1)), Arc::new(clock.clone()), Duration::from_millis(10)).unwrap();
    let thread = std::thread::spawn(|| policy.run());
    let mut bench = Bench::new(clock, Box::new(pilot), None);
    bench.tick();
    bench.command(&Command::Arm).unwrap();
    bench.reach(FAR, Duration::from_secs(100_000));
    for candidate in 2..=LAST {
        for _ in 0..100 {
            bench.tick();
        }
        let swapping = std::thread::spawn({
            let swapper = swapper.clone();
            move || swapper.swap(Box::new(Swing(candidate))).unwrap()
        });
        while !swapping.is_finished() {
            bench.tick();
        }
        assert_eq!(swapping.join().unwrap().policy, PolicyId([candidate; 16]));
        let mut patience = 1000;
        while bench.control.step().policy != PolicyId([candidate; 16]) {
            assert!(patience > 0, "candidate {candidate} never steered");
            patience -= 1;
            bench.tick();
        }
    }
    let done =
        Swaps { swaps: LAST - 1, ticks: bench.tick, in_ticks: bench.in_ticks + bench.in_commands };
    drop((bench, swapper));
    thread.join().unwrap();
    done
}

#[test]
fn an_action_of_the_shipped_policy_never_calls_the_allocator_on_a_processor() {
    let robot = robot();
    let file = std::fs::read("models/reach/policy.onnx").unwrap();
    for engine in common::engines() {
        let mut policy = Policy::load(&file, &robot, &engine).unwrap();
        let zeros: JointVec<f32> = robot.joint.iter().map(|_| 0.0).collect();
        let mut observation = Observation {
            position: zeros.clone(),
            velocity: zeros.clone(),
            sent: zeros,
            achieved_goal: stack([0.0, -0.3, 0.2]),
            desired_goal: stack(FAR),
            ..Observation::default()
        };
        policy.act(&observation).unwrap();
        let (times, mut plan) = (Times::default(), Default::default());
        let (calls, ()) = calls_of(|| {
            for tick in 0..1000 {
                observation.tick = tick;
                let start = SystemClock.now();
                policy.act(&observation).unwrap();
                policy.ahead(&mut plan);
                times.record(SystemClock.now().since(start));
            }
        });
        let [p50, p99] = [0.5, 0.99].map(|q| times.quantile(q));
        let max = times.longest();
        println!(
            "{engine}: {calls} allocator calls in 1000 actions, p50 {p50:?}, p99 {p99:?}, max {max:?}"
        );
        assert_eq!(calls, 0, "{engine}");
        assert_eq!(times.count(), 1000);
    }
}

#[test]
fn a_run_in_an_engine_calls_the_allocator_equally_often_each_time() {
    // The normalisation is what our own loops do not run.
    let mut b = Builder::new();
    let mut x = b.input("observation", &[Dim::Batch, Dim::Fixed(64)]);
    let scale = b.constant(Tensor::new([64], [1.0; 64]).unwrap());
    for layer in 0..4 {
        let w = b.parameter(&format!("w{layer}"), Tensor::new([64, 64], [0.01; 4096]).unwrap());
        x = b.gemm(x, w, scale);
        x = b.layer_normalization(x, scale, scale, 1e-5);
        x = b.relu(x);
    }
    b.output("action", x);
    let graph = Verified::try_from(b.finish().unwrap()).unwrap();
    for engine in common::engines() {
        let mut session = engine.load(&graph).unwrap();
        let mut action = [0.0; 64];
        let mut run = || calls_of(|| session.run_into(&[&[0.5; 64]], &mut action).unwrap()).0;
        run();
        let counts: Vec<u64> = (0..1000).map(|_| run()).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        println!("{engine}: {least} to {most} allocator calls a run of 12 nodes");
        assert_eq!(least, most, "{engine}: calls per run grow or vary");
        assert!(*most <= 500, "{engine}: {most}");
    }
}
