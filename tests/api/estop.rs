//! A3: emergency stops through the API over a real loop, in simulated time, while goals, floods and a
//! log that takes nothing are under way.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use rand::RngExt as _;
use regoal::clock::{Clock, ManualClock, Time, WallTime};
use regoal::config::RobotConfig;
use regoal::control::{self, Actor, ControlLoop, Handle, Runtime};
use regoal::daemon::{Facts, Served, Service, router};
use regoal::episode::{Fault, Mode, PolicyId, log_queue};
use regoal::hal::{Arm, Emulator, MemoryPort};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation, PolicyError};
use regoal::rng::Rng;
use regoal::storage::Disk;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bench::{number, report};
use crate::{rng, seed};

/// Time that stands still until all threads that sleep for long do, and the test moves it on.
#[derive(Default)]
struct Lockstep {
    state: Mutex<(Time, Vec<Time>)>,
    changed: Condvar,
    sleepers: usize,
    released: AtomicBool,
}

/// Shorter sleeps, such as a wire's, move the time on themselves.
const SHORT: Duration = Duration::from_millis(2);

impl Lockstep {
    /// Moves the time to the next moment that somebody waits for, and waits until all sleep again.
    fn step(&self) {
        let mut state = self.state.lock().unwrap();
        if let Some(next) = state.1.iter().min().copied() {
            state.0 = state.0.max(next);
        }
        self.changed.notify_all();
        let busy = |state: &mut (Time, Vec<Time>)| {
            state.1.len() < self.sleepers || state.1.iter().any(|due| *due <= state.0)
        };
        drop(self.changed.wait_while(state, busy).unwrap());
    }

    /// Lets whoever sleeps move the time on from now on.
    fn release(&self) {
        let mut state = self.state.lock().unwrap();
        self.released.store(true, Ordering::Relaxed);
        state.0 = state.1.iter().max().copied().unwrap_or(state.0);
        self.changed.notify_all();
    }
}

impl Clock for Lockstep {
    fn now(&self) -> Time {
        self.state.lock().unwrap().0
    }
    fn wall(&self) -> WallTime {
        WallTime(ManualClock::EPOCH.0 + self.now().0)
    }
    fn sleep_until(&self, deadline: Time) {
        let mut state = self.state.lock().unwrap();
        if deadline.since(state.0) < SHORT || self.released.load(Ordering::Relaxed) {
            state.0 = state.0.max(deadline);
            return;
        }
        state.1.push(deadline);
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.0 < deadline).unwrap();
        let at = state.1.iter().position(|due| *due == deadline).unwrap();
        state.1.swap_remove(at);
    }
}

/// Stays where it is.
struct Stay(u8);
impl Actor for Stay {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        Ok(stack(observation.position.iter().map(|_| 0.0)))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> PolicyId {
        PolicyId([self.0; 16])
    }
}

struct Rig {
    clock: Arc<Lockstep>,
    handle: Handle,
    router: axum::Router,
    period: Duration,
    tokio: tokio::runtime::Runtime,
}

impl Rig {
    /// A loop whose log nobody empties, and its API.
    fn start(robot: &RobotConfig) -> (Self, Runtime, watch::Sender<bool>) {
        // The control thread and the courier sleep.
        let clock = Arc::new(Lockstep { sleepers: 2, ..Lockstep::default() });
        let emulator = Arc::new(Mutex::new(Emulator::new(robot, seed())));
        let port = MemoryPort::new(emulator, clock.clone());
        let arm = Arm::open(robot, Box::new(port), clock.clone()).unwrap();
        let (pilot, thread, swapper) =
            control::connect(Box::new(Stay(1)), clock.clone(), robot.period()).unwrap();
        let (sender, receiver) = log_queue();
        // For as long as the loop: nobody takes from it, as when the disk is full or stalls.
        std::mem::forget(receiver);
        let control =
            ControlLoop::new(robot, arm, Box::new(pilot), Some(sender), clock.clone()).unwrap();
        let runtime =
            Runtime::start(control, thread, swapper, robot.period(), clock.clone()).unwrap();
        let facts = Facts { robot: robot.clone(), log: None, clock: clock.clone() };
        let served = Arc::new(Served::new(runtime.handle(), facts).unwrap());
        let service = Service {
            robot: served,
            clock: clock.clone(),
            episodes: None,
            policies: None,
            jobs: None,
        };
        let (stop, stopping) = watch::channel(false);
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_time()
            .build()
            .unwrap();
        let (handle, period) = (runtime.handle(), robot.period());
        let router = router(service, stopping);
        (Self { clock, handle, router, period, tokio }, runtime, stop)
    }

    /// A request that is under way.
    fn send(&self, path: &str, body: &str) -> JoinHandle<u16> {
        let request = Request::builder().method("POST").uri(path);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let router = TowerToHyperService::new(self.router.clone());
        self.tokio.spawn(async move { router.call(request).await.unwrap().status().as_u16() })
    }

    /// Moves the time on until a request is answered.
    fn answer(&self, request: JoinHandle<u16>) -> u16 {
        while !request.is_finished() {
            self.clock.step();
            std::thread::yield_now();
        }
        self.tokio.block_on(request).unwrap()
    }

    fn mode(&self) -> Mode {
        self.handle.status().step.mode
    }

    /// What else goes on: goals, queues, stops of goals, swaps, nonsense.
    fn load(&self, rng: &mut Rng) -> Vec<JoinHandle<u16>> {
        let goal = r#"{"goal": [0.1, -0.2, 0.2], "anyway": true}"#;
        let queue = format!(r#"{{"goals": [{goal}, {goal}]}}"#);
        let wait = goal.replace("true", "true, \"wait\": true");
        (0..rng.random_range(0..12))
            .map(|_| match rng.random_range(0..7) {
                0 | 1 => self.send("/v1/goal", goal),
                2 => self.send("/v1/goal", &wait),
                3 => self.send("/v1/queue", &queue),
                4 => self.send("/v1/stop", ""),
                5 => self.send("/v1/goal", "{{{{"),
                _ => {
                    let (swapper, id) = (self.handle.swapper().clone(), rng.random_range(1..9));
                    self.tokio.spawn_blocking(move || {
                        swapper.swap(Box::new(Stay(id))).map_or(500, |_| 200)
                    })
                }
            })
            .collect()
    }

    /// One emergency stop; how long after it the tick was that stopped the arm.
    fn case(&self, rng: &mut Rng) -> Result<Duration, String> {
        if rng.random_range(0..8) > 0 {
            let armed = self.answer(self.send("/v1/arm", ""));
            if armed != 200 {
                return Err(format!("arming was answered {armed}"));
            }
        }
        let load = self.load(rng);
        (0..rng.random_range(0..8)).for_each(|_| self.clock.step());
        let (asked, already) = (self.clock.now(), matches!(self.mode(), Mode::Faulted(_)));
        let stop = self.send("/v1/estop", "");
        while !self.handle.emergency().load(Ordering::Acquire) && !stop.is_finished() {
            std::thread::yield_now();
        }
        let mut stopped = None;
        while !stop.is_finished() || stopped.is_none() {
            self.clock.step();
            let step = self.handle.status().step;
            if stopped.is_none() && step.mode == Mode::Faulted(Fault::EmergencyStop) {
                stopped = Some(step.time);
            }
            if self.clock.now().since(asked) > Duration::from_secs(1) {
                return Err("it was not taken".into());
            }
        }
        let status = self.tokio.block_on(stop).unwrap();
        for other in load {
            self.answer(other);
        }
        let after = stopped.map_or(Duration::MAX, |at| at.since(asked));
        match (status, self.mode()) {
            (200, Mode::Faulted(Fault::EmergencyStop)) if already || after <= self.period => {
                Ok(if already { Duration::ZERO } else { after })
            }
            found => Err(format!("{found:?}, stopped after {after:?}")),
        }
    }
}

#[test]
fn a3_every_emergency_stop_is_taken_within_a_tick_whatever_else_goes_on() {
    let cases = number("REGOAL_CASES", 200);
    println!("seed {}", seed());
    let path = Path::new("firmware-config/emulated.toml");
    let robot = RobotConfig::load(&Disk, path).unwrap();
    let (rig, runtime, _stop) = Rig::start(&robot);
    (0..20).for_each(|_| rig.clock.step());
    let (mut longest, mut failed) = (Duration::ZERO, Vec::new());
    for case in 0..cases {
        match rig.case(&mut rng(case)) {
            Ok(after) => longest = longest.max(after),
            Err(why) => failed.push(format!("case {case}: {why}")),
        }
    }
    let ticks = rig.handle.status().counters;
    let figures = json!({
        "longest_ms": longest.as_secs_f64() * 1e3, "period_ms": rig.period.as_secs_f64() * 1e3,
        "ticks": ticks.ticks, "missed_ticks": ticks.missed, "goals": ticks.goals.ended(),
    });
    report("A3", seed(), cases, failed.len() as u64, figures);
    rig.clock.release();
    drop(runtime);
    assert!(failed.is_empty(), "{failed:#?}");
}
