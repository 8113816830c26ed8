//! Policies that are exchanged while the arm reaches: bad ones never steer (D4), and one that fails
//! in use gives way within its tick (D5). In virtual time, with a real policy thread.

#[path = "common/bench.rs"]
mod bench;
#[path = "common/policies.rs"]
mod policies;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock as _, ManualClock, WallTime};
use regoal::config::RobotConfig;
use regoal::control::{Actor, Command, Demotion, GoalRequest, SwapError, Swapper, connect};
use regoal::engine::Engine;
use regoal::episode::{Events, Mode, PolicyId};
use regoal::joints::JointVec;
use regoal::policy::store::Change;
use regoal::policy::{ActionKind, Observation, Policy, PolicyError, Store, StoreError, id_of};
use regoal::rng::{Rng, Stream, item};
use regoal::storage::Memory;
use serde_json::json;

use bench::{Bench, number, report};
use policies::{described, policy, spec};

/// What a policy does that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// An action that is no number.
    NotANumber,
    /// No action.
    Error,
    /// An action of too few numbers.
    Short,
    /// Each action takes as long as two ticks.
    Slow,
}

const IN_USE: [Fault; 3] = [Fault::NotANumber, Fault::Error, Fault::Short];

/// A policy that goes wrong after so many observations.
struct Faulty {
    policy: Policy,
    fault: Fault,
    after: u32,
    thinking: ManualClock,
}

impl Actor for Faulty {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        let mut action = self.policy.act(observation)?;
        if self.after > 0 {
            self.after -= 1;
            return Ok(action);
        }
        match self.fault {
            Fault::NotANumber => action[0] = f32::NAN,
            Fault::Error => return Err(PolicyError::NoSpec),
            Fault::Short => action.truncate(3),
            Fault::Slow => self.thinking.advance(Duration::from_millis(20)),
        }
        Ok(action)
    }
    fn kind(&self) -> ActionKind {
        self.policy.spec().action
    }
    fn id(&self) -> PolicyId {
        self.policy.id()
    }
}

/// An arm that reaches for what it never gets to, beside a policy thread.
struct Rig {
    bench: Bench,
    swapper: Swapper,
    /// The policy thread's own time: what a slow policy uses up.
    thinking: ManualClock,
    thread: Option<JoinHandle<()>>,
    active: PolicyId,
    /// The furthest that a joint was sent in one tick, as a share of what its speed allows.
    largest_step: f64,
}

impl Rig {
    fn new(rate_hz: f64) -> Self {
        let mut robot = bench::robot();
        robot.control.rate_hz = rate_hz;
        let first = policy(&robot, 4, 1e-4);
        let (clock, thinking) = (ManualClock::default(), ManualClock::default());
        // The loop's time is far ahead, so that it always waits for the policy thread's answer,
        // however slow this computer is.
        clock.advance(Duration::from_hours(1000));
        let actor = load(&first, &robot).unwrap();
        let (pilot, thread, swapper) =
            connect(Box::new(actor), Arc::new(thinking.clone()), robot.period()).unwrap();
        let swapper = swapper.within(&robot);
        let thread = Some(std::thread::spawn(|| thread.run()));
        let seen = Arc::new(clock.clone());
        let mut bench = Bench::with_clock(robot, Box::new(pilot), clock, seen);
        bench.run(1);
        bench.control.command(&Command::Arm).unwrap();
        bench.run(110);
        let goal = GoalRequest {
            tolerance: 1e-4,
            timeout: Duration::from_hours(1000),
            ..bench.goal([0.1, -0.2, 0.2])
        };
        bench.control.command(&Command::Reach(goal)).unwrap();
        let active = id_of(&first);
        let mut rig = Self { bench, swapper, thinking, thread, active, largest_step: 0.0 };
        assert_eq!(rig.ticks(110), Vec::<String>::new(), "before the first swap");
        rig
    }

    fn faulty(&self, file: &[u8], fault: Fault, after: u32) -> Box<dyn Actor> {
        let (policy, thinking) = (load(file, &self.bench.robot).unwrap(), self.thinking.clone());
        Box::new(Faulty { policy, fault, after, thinking })
    }

    /// Ticks; whatever was not as it must be.
    fn ticks(&mut self, count: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        for _ in 0..count {
            let before = self.bench.control.step().sent.clone();
            self.bench.run(1);
            let (step, robot) = (self.bench.control.step(), &self.bench.robot);
            for ((joint, sent), before) in robot.joint.iter().zip(&step.sent).zip(&before) {
                let allowed = joint.max_velocity * robot.period().as_secs_f64();
                self.largest_step =
                    self.largest_step.max(f64::from((sent - before).abs()) / allowed);
            }
            if step.policy != self.active {
                wrong.push(format!("{} steers, not {}", step.policy, self.active));
            }
            if step.mode != Mode::Reaching {
                wrong.push(format!("mode {:?}", step.mode));
            }
            for event in [Events::ACTION_LATE, Events::ACTION_REFUSED, Events::MISSED_TICK] {
                if step.events.contains(event) {
                    wrong.push(format!("event {event:?}"));
                }
            }
        }
        wrong
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // The policy thread ends with its other side, which these stand in for.
        let idle =
            connect(Box::new(Nobody), Arc::new(ManualClock::default()), Duration::ZERO).unwrap();
        self.bench.control.set_pilot(Box::new(idle.0));
        self.swapper = idle.2;
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Nobody;

impl Actor for Nobody {
    fn act(&mut self, _: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Err(PolicyError::NoSpec)
    }
    fn kind(&self) -> ActionKind {
        ActionKind::default()
    }
    fn id(&self) -> PolicyId {
        PolicyId::default()
    }
}

fn load(file: &[u8], robot: &RobotConfig) -> Result<Policy, PolicyError> {
    Policy::load(file, robot, &Engine::tract())
}

/// Processor time of this thread (ns).
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Offers a bad candidate; what is wrong about how it was refused.
fn offer_bad(rig: &mut Rig, file: &[u8], rng: &mut Rng) -> Option<String> {
    let after = rng.random_range(0..99);
    let robot = rig.bench.robot.clone();
    let (what, answer) = match rng.random_range(0..6) {
        0 => ("far", rig.swapper.swap(Box::new(load(&policy(&robot, 4, 90.0), &robot).unwrap()))),
        1 => {
            let mut spec = spec(&robot);
            match rng.random_range(0..3) {
                0 => spec.rate_hz += 1.0,
                1 => spec.model = "another".into(),
                _ => spec.joints[2] = "tail".into(),
            }
            let refused = load(&described(&spec, 4, 1e-4), &robot);
            let right = matches!(refused, Err(PolicyError::WrongRobot { .. }));
            return (!right).then(|| "another robot's policy is loaded".into());
        }
        2 => ("slow", rig.swapper.swap(rig.faulty(file, Fault::Slow, after.min(90)))),
        fault => {
            let fault = IN_USE[fault - 3];
            ("unsound", rig.swapper.swap(rig.faulty(file, fault, after)))
        }
    };
    let right = matches!(
        (what, &answer),
        ("far", Err(SwapError::OutOfLimits { .. }))
            | ("slow", Err(SwapError::Slow { .. }))
            | ("unsound", Err(SwapError::Shadow { runs: 100, .. }))
    );
    (!right).then(|| format!("a {what} candidate: {answer:?}"))
}

#[test]
fn d4_swaps_cost_no_tick_and_a_bad_candidate_never_steers() {
    let seed = number("REGOAL_SEED", 1);
    let cases = number("REGOAL_CASES", 500);
    let (mut failures, mut bad, mut largest_step, mut missed) = (0, 0, 0.0f64, 0);
    let mut swap_ticks = Vec::new();
    for (part, rate) in [100.0, 200.0].into_iter().enumerate() {
        let mut rig = Rig::new(rate);
        for case in (part as u64..cases).step_by(2) {
            let mut rng = item(seed, Stream::Faults, case);
            let width = [2, 32, 256][rng.random_range(0..3)];
            let by = 1e-3 * (rng.random::<f32>() - 0.5) + case as f32 * 1e-9;
            let file = policy(&rig.bench.robot, width, by);
            let mut wrong = Vec::new();
            if rng.random() {
                bad += 1;
                wrong.extend(offer_bad(&mut rig, &file, &mut rng));
            } else {
                match rig.swapper.swap(Box::new(load(&file, &rig.bench.robot).unwrap())) {
                    Ok(swapped) if swapped.shadow_runs == 100 => rig.active = swapped.policy,
                    other => wrong.push(format!("{other:?}")),
                }
            }
            let start = thread_time();
            wrong.extend(rig.ticks(1));
            swap_ticks.push(thread_time() - start);
            wrong.extend(rig.ticks(rng.random_range(1..10)));
            for what in &wrong {
                eprintln!("case {case}: {what}");
            }
            failures += u64::from(!wrong.is_empty());
        }
        largest_step = largest_step.max(rig.largest_step);
        missed += rig.bench.control.counters().missed;
        assert_eq!(rig.swapper.demotions(), []);
    }
    swap_ticks.sort_unstable();
    let p99 = swap_ticks[(swap_ticks.len() - 1) * 99 / 100] as f64 * 1e-3;
    let figures = json!({
        "bad": bad, "missed_ticks": missed, "largest_step_of_speed_limit": largest_step,
        "swap_tick_cpu_us_p99_with_emulator": p99,
    });
    failures += missed + u64::from(largest_step > 1.0 + 1e-3);
    report("D4", seed, cases, failures, figures);
    assert_eq!(failures, 0);
    assert!(bad > cases / 3, "{bad}");
}

/// What the store remembers is that the policy failed, and only a person has it tried again.
fn demoted_for_good(files: [&[u8]; 2], demotion: &Demotion) -> Result<(), StoreError> {
    let (storage, clock) = (Arc::new(Memory::default()), Arc::new(ManualClock::default()));
    let store = Store::open(storage, clock.clone(), Path::new("store"))?;
    for file in files {
        store.stage(file, "a test")?;
        store.commit("a test")?;
    }
    assert!(store.demote(demotion.failed, demotion.why)?);
    assert_eq!(store.active()?, files[0]);
    let state = store.state()?;
    let event = state.events.last().unwrap();
    assert_eq!((event.policy, event.change), (id_of(files[1]), Change::Demoted));
    assert_eq!((event.why.as_str(), WallTime(event.at)), (demotion.why, clock.wall()));
    assert!(matches!(store.stage(files[1], "a test"), Err(StoreError::Demoted { .. })));
    store.install(files[1], None, true, "a test").map(drop)
}

#[test]
fn d5_a_policy_that_fails_in_use_gives_way_in_its_tick_and_is_not_tried_again() {
    let seed = number("REGOAL_SEED", 1);
    let cases = number("REGOAL_CASES", 300);
    let mut rig = Rig::new(100.0);
    let mut old = policy(&rig.bench.robot, 4, 1e-4);
    let mut failures = 0;
    for case in 0..cases {
        let mut rng = item(seed, Stream::Exploration, case);
        let file = policy(&rig.bench.robot, 4, 1e-3 * (rng.random::<f32>() - 0.5));
        let fault = IN_USE[rng.random_range(0..3)];
        let good = rng.random_range(0..10);
        // It passes its shadow runs, and fails later.
        rig.swapper.swap(rig.faulty(&file, fault, 100 + good)).unwrap();
        rig.active = id_of(&file);
        let mut wrong = rig.ticks(u64::from(good));
        rig.active = id_of(&old);
        wrong.extend(rig.ticks(5));
        match &rig.swapper.demotions()[..] {
            [demotion] if demotion.failed == id_of(&file) && demotion.back == Some(rig.active) => {
                demoted_for_good([&old, &file], demotion).unwrap();
            }
            other => wrong.push(format!("{other:?}")),
        }
        // Whoever steers is exchanged at times, too.
        if rng.random_range(0..10) == 0 {
            old = policy(&rig.bench.robot, 4, 1e-3 * (rng.random::<f32>() - 0.5));
            rig.swapper.swap(Box::new(load(&old, &rig.bench.robot).unwrap())).unwrap();
            rig.active = id_of(&old);
            wrong.extend(rig.ticks(1));
        }
        for what in &wrong {
            eprintln!("case {case}, {fault:?} after {good}: {what}");
        }
        failures += u64::from(!wrong.is_empty());
    }
    let figures = json!({ "missed_ticks": rig.bench.control.counters().missed });
    report("D5", seed, cases, failures, figures);
    assert_eq!(failures, 0);
}
