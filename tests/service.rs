//! `regoal run` as a service under a manager that does what systemd does: what it tells, and what
//! becomes of the arm when any part of it hangs or dies (A7). Times are printed, never judged.

#[path = "common/bench.rs"]
mod bench;
#[path = "common/processes.rs"]
mod processes;
#[path = "common/systemd.rs"]
mod systemd;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock, ManualClock, SystemClock};
use regoal::control::{Actor, Command, ControlLoop, Jitter, Runtime, connect};
use regoal::daemon::{
    self, Client, ErrorReply, Facts, Goal, GoalReply, Object, Served, Server, Telemetry,
};
use regoal::episode::{Fault, Mode, PolicyId};
use regoal::hal::{Arm, Emulator, MemoryPort};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation, PolicyError};
use regoal::storage::Disk;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use bench::{Act, Bench, number, report};
use processes::{CLOSE, FEETECH, Rig, furthest, now, slow, wait_until};
use systemd::Service;

#[test]
fn it_is_ready_when_clients_are_served_feeds_the_watchdog_and_says_how_it_is_and_that_it_stops() {
    let mut service = Service::start(FEETECH, None);
    service.wait_until("it is ready", |s| s.times_ready() == 1);
    assert_eq!(service.rig.status().expect("it is served").mode, Mode::Disarmed);
    let said = |s: &Service, line: &str| s.told.iter().any(|told| told == line);
    service.wait_until("it is disarmed", |s| said(s, "STATUS=disarmed"));
    let client = Client::new(service.rig.socket());
    client.command(daemon::Command::Arm).unwrap();
    service.wait_until("it is powered", |s| said(s, "STATUS=powered"));
    client.command(daemon::Command::EmergencyStop).unwrap();
    let stopped = "STATUS=stopped by a fault: emergency stop";
    service.wait_until("it is stopped", |s| said(s, stopped));
    let so_far = service.told.len();
    let fed = |s: &Service| s.told[so_far..].iter().any(|line| line == "WATCHDOG=1");
    service.wait_until("the watchdog is fed", fed);
    kill_process(Pid::from_child(&service.rig.supervisor), Signal::TERM).unwrap();
    service.wait_until("it has ended", |s| s.down);
    let at = |line: &str| service.told.iter().position(|told| told == line).expect(line);
    for order in
        [["READY=1", "STATUS=powered", "STOPPING=1"], ["STATUS=disarmed", stopped, "STOPPING=1"]]
    {
        assert!(order.map(at).is_sorted(), "{:?}", service.told);
    }
    assert_eq!(service.starts.len(), 1, "who is told to end is not started again");
}

#[test]
fn while_no_tick_is_done_nobody_feeds_the_watchdog() {
    // So short that it would be fed many times before the process counts as hung.
    let mut service = Service::start(FEETECH, Some(Duration::from_millis(40)));
    service.wait_until("it is ready", |s| s.times_ready() == 1);
    let control = service.rig.control().unwrap();
    kill_process(control, Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", control.as_raw_nonzero());
    let stopped = || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "));
    wait_until("it is stopped", stopped);
    service.hear();
    let before = service.told.len();
    let hung = "STATUS=HOLDING THE ARM: the control process HANGS and was killed";
    service.wait_until("it is found", |s| s.told.iter().any(|told| told == hung));
    let found = service.told.iter().position(|told| told == hung).unwrap();
    let fed = service.told[before.min(found)..found].iter().filter(|l| *l == "WATCHDOG=1").count();
    assert!(fed <= 1, "for the tick before; told: {:?}", service.told);
    let again = |s: &Service| s.told[found..].iter().any(|told| told == "STATUS=disarmed");
    service.wait_until("it is back", again);
}

#[test]
fn a_robot_goes_on_whether_anybody_reads_what_it_says_or_not() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mute = |run: &mut std::process::Command| {
        let [out, err] = [0; 2].map(|_| writer.try_clone().unwrap());
        run.stdout(out).stderr(err);
    };
    let mut rig = Rig::with(FEETECH, |run| {
        mute(run);
        run
    });
    wait_until("it is served", || rig.status().is_some());
    let client = Client::new(rig.socket());
    client.command(daemon::Command::Arm).unwrap();
    wait_until("it holds", || rig.status().is_some_and(|s| s.mode == Mode::Holding));
    let control = rig.control().unwrap();
    kill_process(control, Signal::KILL).unwrap();
    let another = || rig.control().is_some_and(|now| now != control) && rig.status().is_some();
    wait_until("what its supervisor says of it stops nothing", another);
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    let code = rig.supervisor.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
}

#[test]
fn what_is_said_to_the_journal_has_priorities_and_elsewhere_it_has_none() {
    let said = |stream: fn(u64, u64) -> String| {
        let file = tempfile::NamedTempFile::new().unwrap();
        let metadata = file.as_file().metadata().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.args(["policy", "inspect", "/nowhere.onnx"]).stderr(file.reopen().unwrap());
        command.env("JOURNAL_STREAM", stream(metadata.dev(), metadata.ino()));
        assert!(!command.status().unwrap().success());
        std::fs::read_to_string(file.path()).unwrap()
    };
    let journal = said(|device, inode| format!("{device}:{inode}"));
    assert!(journal.contains("/nowhere.onnx"), "{journal}");
    assert!(journal.lines().all(|line| line.starts_with("<3>")), "{journal}");
    let file = said(|device, inode| format!("{device}:{}", inode + 1));
    assert!(file.starts_with("error: "), "{file}");
}

/// Who is struck.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Process {
    Control,
    Supervisor,
}

/// Strikes a process of a moving arm; what is wrong about what comes of it, and when it is back.
fn struck(process: Process, signal: Signal) -> (Vec<&'static str>, Duration) {
    let mut service = Service::start(&slow(FEETECH), None);
    service.wait_until("it is ready", |s| s.times_ready() == 1);
    service.rig.set_out(0.15);
    // Hears what was told meanwhile, and sees that there is torque.
    service.wait_until("it is powered", |s| s.told.iter().any(|told| told == "STATUS=powered"));
    let (control, main) = (service.rig.control(), service.rig.supervisor.id());
    let (begun, told) = (now(), service.told.len());
    match process {
        Process::Control => kill_process(control.unwrap(), signal).unwrap(),
        Process::Supervisor => {
            kill_process(Pid::from_child(&service.rig.supervisor), signal).unwrap()
        }
    }
    service.wait_until("another one controls it", |s| {
        let new = s.rig.control();
        let starting = s.told[told..].iter().any(|line| line == "STATUS=starting");
        new.is_some() && new != control && starting
    });
    service.wait_until("it is back", |s| s.rig.status().is_some_and(|s| s.tick > 20));
    let took = now().since(begun);
    let (goals, held) = service.rig.goals_and_positions();
    let later = service.rig.status().map_or(0, |status| status.tick) + 50;
    service.wait_until("ticks go on", |s| s.rig.status().is_some_and(|s| s.tick > later));
    let (_, positions) = service.rig.goals_and_positions();
    let mode = service.rig.status().unwrap().mode;
    let expected = match process {
        // The arm was powered, so it holds again.
        Process::Control => Mode::Holding,
        Process::Supervisor => Mode::Disarmed,
    };
    let restarted = (service.rig.supervisor.id() != main) == (process == Process::Supervisor);
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what| (!holds).then(|| wrong.push(what));
    check(furthest(&goals, &held) < CLOSE, "its goals are not where it is");
    check(furthest(&held, &positions) < CLOSE, "it moves by itself");
    check(!service.dropped && service.rig.torques() == [1; 6], "it dropped");
    check(mode == expected, "its mode");
    check(restarted, "the wrong process was started again");
    // It moves when somebody says so.
    service.rig.set_out(0.05);
    (wrong, took)
}

/// A service whose control process, or supervisor, dies again and again.
fn crash_loop(process: Process) -> Vec<&'static str> {
    let mut service = Service::start(FEETECH, None);
    service.wait_until("it is ready", |s| s.times_ready() == 1);
    service.rig.set_out(0.05);
    let (mut last, deaths) = (None, if process == Process::Control { 4 } else { 3 });
    for death in 1..=deaths {
        match process {
            Process::Control => {
                service.wait_until("it runs", |s| {
                    s.rig.control().is_some_and(|pid| last != Some(pid))
                });
                last = service.rig.control();
                kill_process(last.unwrap(), Signal::KILL).unwrap();
            }
            Process::Supervisor => {
                service.wait_until("it is ready", |s| s.times_ready() == death);
                service.rig.supervisor.kill().unwrap();
            }
        }
    }
    service.wait_until("it stays down", |s| s.down);
    let starts =
        if process == Process::Control { 1 } else { systemd::setting("StartLimitBurst")[0] };
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what| (!holds).then(|| wrong.push(what));
    check(service.starts.len() as u64 == starts, "it was started another number of times");
    check(!service.dropped && service.rig.torques() == [1; 6], "it dropped");
    wait_until("it comes to rest", || service.rig.lag() < CLOSE);
    wrong
}

/// A policy that never answers: it waits for what does not come, or goes round in circles.
struct Never {
    spins: bool,
    freed: Receiver<()>,
}

impl Actor for Never {
    fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
        if self.spins {
            while self.freed.try_recv() == Err(TryRecvError::Empty) {
                std::hint::spin_loop();
            }
        } else {
            // An error is that it was freed.
            let _ = self.freed.recv();
        }
        Ok(stack(observation.position.iter().map(|_| 0.0)))
    }
    fn kind(&self) -> ActionKind {
        ActionKind::JointDelta
    }
    fn id(&self) -> PolicyId {
        PolicyId([9; 16])
    }
}

/// The loop beside a policy that never answers.
fn policy_hangs(spins: bool) -> Vec<&'static str> {
    let (free, freed) = channel();
    let (clock, robot) = (ManualClock::default(), bench::robot());
    let actor = Box::new(Never { spins, freed });
    let (pilot, thread, swapper) = connect(actor, Arc::new(clock.clone()), robot.period()).unwrap();
    let thread = std::thread::spawn(|| thread.run());
    let seen = Arc::new(clock.clone());
    let mut bench = Bench::with_clock(robot, Box::new(pilot), clock, seen);
    bench.run(1);
    bench.control.command(&Command::Arm).unwrap();
    bench.run(110);
    let before = bench.positions();
    let goal = bench.goal([0.1, -0.2, 0.2]);
    bench.control.command(&Command::Reach(goal)).unwrap();
    bench.run(300);
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what| (!holds).then(|| wrong.push(what));
    let mode = bench.control.mode();
    check(mode == Mode::Faulted(Fault::PolicyLate), "no fault says that the policy hangs");
    check(bench.control.counters().ticks == bench.tick, "ticks are missing");
    check(bench.moved_since(&before) < CLOSE, "it moves");
    check(bench.torque() == [1; 6], "it dropped");
    println!("policy {}: {mode:?}", if spins { "spins" } else { "waits" });
    drop((bench, swapper, free));
    thread.join().unwrap();
    wrong
}

/// A robot that never says how it is.
struct Hanging {
    served: Served,
    asked: AtomicBool,
    freed: Mutex<Receiver<()>>,
}

impl daemon::Robot for Hanging {
    fn status(&self) -> daemon::Status {
        self.asked.store(true, Ordering::Release);
        // An error is that it was freed.
        let _ = self.freed.lock().unwrap().recv();
        self.served.status()
    }
    fn command(&self, command: daemon::Command) -> Result<(), ErrorReply> {
        self.served.command(command)
    }
    fn reach(&self, goal: &Goal, streamed: bool) -> Result<u64, ErrorReply> {
        self.served.reach(goal, streamed)
    }
    fn follow(&self, id: u64, sequence: u64, goal: &Goal) -> Result<(), ErrorReply> {
        self.served.follow(id, sequence, goal)
    }
    fn object(&self, object: Object) -> Result<(), ErrorReply> {
        self.served.object(object)
    }
    fn goal(&self, id: u64) -> Option<GoalReply> {
        self.served.goal(id)
    }
    fn telemetry(&self) -> Telemetry {
        self.served.telemetry()
    }
    fn jitter(&self) -> Jitter {
        self.served.jitter()
    }
}

/// The loop beside an API whose thread hangs.
fn api_hangs() -> Vec<&'static str> {
    let (robot, clock) = (bench::robot(), Arc::new(SystemClock) as Arc<dyn Clock>);
    let port = MemoryPort::new(Arc::new(Mutex::new(Emulator::new(&robot, 0))), clock.clone());
    let arm = Arm::open(&robot, Box::new(port), clock.clone()).unwrap();
    let stay = |observation: &Observation| stack(observation.position.iter().map(|_| 0.0));
    let stay = Box::new(Act(ActionKind::JointDelta, stay));
    let (pilot, thread, swapper) = connect(stay, clock.clone(), robot.period()).unwrap();
    let control = ControlLoop::new(&robot, arm, Box::new(pilot), None, clock.clone()).unwrap();
    let runtime = Runtime::start(control, thread, swapper, robot.period(), clock.clone()).unwrap();
    let handle = runtime.handle();
    let (free, freed) = channel::<()>();
    let facts = Facts { robot, log: None, clock: clock.clone() };
    let hanging = Arc::new(Hanging {
        served: Served::new(handle.clone(), facts).unwrap(),
        asked: AtomicBool::new(false),
        freed: Mutex::new(freed),
    });
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("api");
    let service = daemon::Service {
        robot: hanging.clone(),
        clock,
        episodes: None,
        policies: None,
        jobs: None,
    };
    let server = Server::start(&socket, service, Arc::new(Disk), None).unwrap();
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(b"GET /v1/status HTTP/1.1\r\nHost: arm\r\n\r\n").unwrap();
    wait_until("it hangs", || hanging.asked.load(Ordering::Acquire));
    let tick = || handle.status().step.tick;
    let hung = tick();
    wait_until("ticks go on", || tick() > hung + 100);
    handle.emergency().store(true, Ordering::Release);
    let stopped = Mode::Faulted(Fault::EmergencyStop);
    wait_until("it is stopped by another way", || handle.status().step.mode == stopped);
    client.set_nonblocking(true).unwrap();
    let unanswered = client.read(&mut [0; 1]).is_err();
    drop(free);
    drop(server);
    if unanswered { Vec::new() } else { vec!["the API did not hang: nothing was tested"] }
}

#[test]
fn a7_whatever_hangs_the_arm_is_held_the_service_is_back_and_nothing_moves_by_itself() {
    let (seed, rounds) = (number("REGOAL_SEED", 1), number("REGOAL_CASES", 1).max(1));
    let (mut runs, mut failures, mut back) = (0, 0, Vec::new());
    let mut count = |what: String, wrong: Vec<&'static str>| {
        runs += 1;
        failures += u64::from(!wrong.is_empty());
        wrong.iter().for_each(|wrong| eprintln!("{what}: {wrong}"));
    };
    for _ in 0..rounds {
        for process in [Process::Control, Process::Supervisor] {
            for signal in [Signal::STOP, Signal::KILL] {
                let (wrong, took) = struck(process, signal);
                let what = format!("{process:?} {signal:?}");
                back.push(json!([what, took.as_secs_f64()]));
                count(what, wrong);
            }
            count(format!("{process:?} dies again and again"), crash_loop(process));
        }
        for spins in [false, true] {
            count(format!("a policy hangs, spinning: {spins}"), policy_hangs(spins));
        }
        count("the API hangs".into(), api_hangs());
    }
    let figures = json!({
        "watchdog_s": systemd::setting("WatchdogSec")[0],
        "restart_s": systemd::span("RestartSec").as_secs_f64(),
        "starts": systemd::setting("StartLimitBurst")[0],
        "back_s": back,
    });
    report("A7", seed, runs, failures, figures);
    assert_eq!(failures, 0);
}
