//! Policies that take longer than a tick, in simulated time: what reaches the arm and when.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock as _, ManualClock, Time};
use regoal::config::RobotConfig;
use regoal::control::{Command, ControlLoop, Decision, GoalRequest, Pilot};
use regoal::episode::{Events, Mode, Source, Split};
use regoal::hal::{Arm, Emulator, MemoryPort};
use regoal::joints::stack;
use regoal::policy::{ActionKind, Observation, Plan};
use regoal::storage::Disk;

type Answer = Box<dyn FnMut(&Observation) -> Decision + Send>;

/// A policy thread in simulated time: one observation after the other, the newest each time, an
/// answer after `latency`.
struct Slow {
    clock: ManualClock,
    latency: Duration,
    answer: Answer,
    waiting: Option<Observation>,
    /// The answer in the making, and when it is done.
    busy: Option<(Time, Decision)>,
    newest: Option<Decision>,
}

impl Pilot for Slow {
    fn exchange(&mut self, observation: &Observation, deadline: Time) -> Option<Decision> {
        self.waiting = Some(observation.clone());
        let mut free = self.clock.now();
        loop {
            match self.busy.take() {
                Some((done, decision)) if done <= deadline => {
                    free = free.max(done);
                    self.newest = Some(decision);
                }
                Some(unfinished) => {
                    self.busy = Some(unfinished);
                    break;
                }
                None => match self.waiting.take() {
                    Some(next) => self.busy = Some((free + self.latency, (self.answer)(&next))),
                    None => break,
                },
            }
        }
        self.newest.clone()
    }
}

struct Bench {
    robot: RobotConfig,
    clock: ManualClock,
    control: ControlLoop,
    tick: u64,
}

impl Bench {
    fn new(ticks: f64, answer: impl FnMut(&Observation) -> Decision + Send + 'static) -> Self {
        let robot = RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap();
        let clock = ManualClock::default();
        let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 3)));
        let port = MemoryPort::new(emulator, Arc::new(clock.clone()));
        let arm = Arm::open(&robot, Box::new(port), Arc::new(clock.clone())).unwrap();
        let latency = robot.period().mul_f64(ticks);
        let answer: Answer = Box::new(answer);
        let pilot =
            Slow { clock: clock.clone(), latency, answer, waiting: None, busy: None, newest: None };
        let clock_ = Arc::new(clock.clone());
        let control = ControlLoop::new(&robot, arm, Box::new(pilot), None, clock_).unwrap();
        let mut bench = Self { robot, clock, control, tick: 0 };
        bench.run(1);
        bench.control.command(&Command::Arm).unwrap();
        bench.run(5);
        bench.reach();
        bench
    }

    fn reach(&mut self) {
        let request = GoalRequest {
            id: 1,
            goal: stack([0.1, -0.2, 0.2]),
            tolerance: 0.001,
            timeout: Duration::from_secs(100),
            stream: None,
            end_when_reached: true,
            source: Source::Run,
            split: Split::Training,
            seed: None,
        };
        self.control.command(&Command::Reach(request)).unwrap();
    }

    fn run(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick += 1;
            let start = self.clock.now();
            self.control.tick(self.tick, start);
            self.clock.sleep_until(start + self.robot.period());
        }
    }

    /// Per tick: the number in the action used, if any, and the first joint's goal position.
    fn watch(&mut self, ticks: usize) -> Vec<(Option<f32>, f32)> {
        let mut seen = Vec::new();
        for _ in 0..ticks {
            self.run(1);
            let step = self.control.step();
            assert_eq!(self.control.mode(), Mode::Reaching);
            seen.push((step.action.get(1).copied(), step.sent[0]));
        }
        seen
    }
}

/// Joint 0 gets `first`; joint 1 gets the tick that the action is for, as a number to know it by.
fn decision(o: &Observation, kind: ActionKind, first: f32, ahead: usize) -> Decision {
    let action =
        |later: usize| stack([first, 1e-6 * (o.tick + later as u64) as f32, 0., 0., 0., 0.]);
    let ahead: Plan = (1..=ahead).map(action).collect();
    Decision {
        tick: o.tick,
        episode: o.episode,
        action: action(0),
        ahead,
        kind,
        policy: regoal::episode::PolicyId([7; 16]),
    }
}

fn tick_of(number: f32) -> u64 {
    (number * 1e6).round() as u64
}

#[test]
fn an_answer_after_three_and_a_half_ticks_steers_until_it_is_too_old() {
    let mut bench = Bench::new(3.5, |o| decision(o, ActionKind::JointDelta, 0.001, 0));
    let begin = bench.tick;
    let seen = bench.watch(60);
    let mut ages = Vec::new();
    for (i, (used, _)) in seen.iter().enumerate() {
        let now = begin + 1 + i as u64;
        ages.extend(used.map(|number| now - tick_of(number)));
    }
    // An answer takes so long that its observation is 3 or 4 ticks old; 4 is too old.
    assert!(!ages.is_empty() && ages.iter().all(|age| *age == 3), "{ages:?}");
    assert!(ages.len() < 60 && bench.control.counters().late_actions == 60, "{ages:?}");
}

#[test]
fn an_answer_older_than_the_limit_never_reaches_the_arm() {
    let mut bench = Bench::new(4.5, |o| decision(o, ActionKind::JointDelta, 0.02, 0));
    let before = bench.control.step().sent.clone();
    // Less than the half second after which it is a fault.
    for (used, first) in bench.watch(45) {
        assert_eq!(used, None);
        assert_eq!(first, before[0], "moved by a stale action");
    }
}

#[test]
fn a_slow_policy_that_plans_ahead_steers_every_tick_with_the_action_meant_for_it() {
    let mut bench = Bench::new(3.5, |o| decision(o, ActionKind::JointDelta, 0.001, 10));
    let begin = bench.tick;
    let seen = bench.watch(60);
    let used: Vec<u64> = seen.iter().filter_map(|(number, _)| number.map(tick_of)).collect();
    // Nothing for the first answer's latency; then every tick has its own action.
    let expected: Vec<u64> = (begin + 4..=begin + 60).collect();
    assert_eq!(used, expected);
    assert!(bench.control.step().events.contains(Events::ACTION_LATE));
}

#[test]
fn a_plan_that_has_run_out_is_stale() {
    // Of four actions, those for ticks 0 to 2 are past when the answer comes after 4.5 ticks.
    let mut bench = Bench::new(4.5, |o| decision(o, ActionKind::JointDelta, 0.02, 3));
    assert!(bench.watch(45).iter().all(|(used, _)| used.is_none()));
}

#[test]
fn between_two_answers_a_position_is_approached_evenly() {
    // A ramp; the answers come every two ticks.
    let mut ramp = None;
    let mut bench = Bench::new(1.9, move |o| {
        let (tick, position) = *ramp.get_or_insert((o.tick, o.sent[0]));
        decision(o, ActionKind::JointPosition, position + 0.002 * (o.tick - tick) as f32, 0)
    });
    bench.watch(30);
    let mut before = bench.control.step().sent[0];
    let steps: Vec<f32> = bench
        .watch(30)
        .iter()
        .map(|(_, sent)| {
            let step = sent - before;
            before = *sent;
            step
        })
        .collect();
    assert!(steps.iter().all(|step| (step - 0.002).abs() < 2e-4), "not even: {steps:?}");
}

#[test]
fn an_answer_to_the_goal_before_is_not_used_for_the_next() {
    let mut bench = Bench::new(2.5, |o| decision(o, ActionKind::JointDelta, 0.001, 10));
    bench.watch(20);
    bench.reach();
    let begin = bench.tick;
    let seen = bench.watch(10);
    assert!(seen[0].0.is_none() && seen[1].0.is_none(), "{seen:?}");
    let used = seen.iter().filter_map(|(number, _)| number.map(tick_of));
    assert!(used.clone().count() > 3 && used.clone().all(|tick| tick > begin), "{seen:?}");
}
