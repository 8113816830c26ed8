//! The API over a real socket: a stand-in robot for what a control loop seldom does.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::Duration;

use regoal::clock::SystemClock;
use regoal::control::Jitter;
use regoal::daemon::{
    Client, ClientError, Code, Command, Ending, ErrorReply, Goal, GoalReply, GoalResult, Object,
    Robot, Server, ServerError, Service, Status, Telemetry,
};
use regoal::storage::Disk;
use tempfile::TempDir;

/// A robot that remembers what it was told.
#[derive(Default)]
struct Fake {
    told: Mutex<Vec<Command>>,
    goals: AtomicU64,
    object: Mutex<Option<Object>>,
    results: Mutex<Vec<GoalReply>>,
    /// Commands but an emergency stop wait here while it is true.
    stuck: Mutex<bool>,
    freed: Condvar,
    refuses: Option<ErrorReply>,
    dead: bool,
}

impl Robot for Fake {
    fn status(&self) -> Status {
        Status { robot: "fake".into(), alive: !self.dead, ..Status::default() }
    }

    fn command(&self, command: Command) -> Result<(), ErrorReply> {
        if command != Command::EmergencyStop {
            drop(self.freed.wait_while(self.stuck.lock().unwrap(), |stuck| *stuck).unwrap());
        }
        self.told.lock().unwrap().push(command);
        self.refuses.clone().map_or(Ok(()), Err)
    }

    fn reach(&self, _: &Goal, _: bool) -> Result<u64, ErrorReply> {
        match &self.refuses {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(self.goals.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }

    fn follow(&self, _: u64, _: u64, _: &Goal) -> Result<(), ErrorReply> {
        self.refuses.clone().map_or(Ok(()), Err)
    }

    fn telemetry(&self) -> Telemetry {
        Telemetry::default()
    }

    fn jitter(&self) -> Jitter {
        Jitter::default()
    }

    fn object(&self, object: Object) -> Result<(), ErrorReply> {
        *self.object.lock().unwrap() = Some(object);
        self.refuses.clone().map_or(Ok(()), Err)
    }

    fn goal(&self, id: u64) -> Option<GoalReply> {
        let ended = self.results.lock().unwrap().iter().find(|r| r.id == id).cloned();
        let known = (1..=self.goals.load(Ordering::Relaxed)).contains(&id);
        ended.or(known.then_some(GoalReply { id, result: None }))
    }
}

impl Fake {
    fn refusing(code: Code) -> Self {
        Self { refuses: Some(ErrorReply { error: "not now".into(), code }), ..Self::default() }
    }

    fn stick(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.freed.notify_all();
    }
}

fn goal() -> Goal {
    Goal { goal: vec![0.1, -0.2, 0.1], ..Goal::default() }
}

struct Fixture {
    robot: Arc<Fake>,
    server: Server,
    folder: TempDir,
}

impl Fixture {
    fn new(robot: Fake) -> Self {
        let (folder, robot) = (tempfile::tempdir().unwrap(), Arc::new(robot));
        let server = start(&folder.path().join("arm.sock"), robot.clone()).unwrap();
        Self { robot, server, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("arm.sock")
    }

    fn client(&self) -> Client {
        Client::new(self.socket())
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.server.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// What comes back for raw bytes until the server closes: all of it, or what came before a
    /// reset.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn post(&self, path: &str, body: &str) -> String {
        let length = body.len();
        self.raw(
            format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
    }
}

fn start(socket: &Path, robot: Arc<Fake>) -> Result<Server, ServerError> {
    let service =
        Service { robot, clock: Arc::new(SystemClock), episodes: None, policies: None, jobs: None };
    Server::start(socket, service, Arc::new(Disk), None)
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> ErrorReply {
    match answer.unwrap_err() {
        ClientError::Refused(reply) => reply,
        other => panic!("{other}"),
    }
}

#[test]
fn every_verb_reaches_the_robot() {
    let fixture = Fixture::new(Fake::default());
    let client = fixture.client();
    assert_eq!(client.status().unwrap().robot, "fake");
    let commands = [Command::Arm, Command::Stop, Command::EmergencyStop, Command::Disarm];
    for command in commands {
        client.command(command).unwrap();
    }
    assert_eq!(*fixture.robot.told.lock().unwrap(), commands);
    assert_eq!(client.reach(&goal()).unwrap(), GoalReply { id: 1, result: None });
    assert_eq!(client.goal(1).unwrap().result, None);
    let object = Object { position: [0.1, 0.2, 0.3] };
    client.object(object).unwrap();
    assert_eq!(*fixture.robot.object.lock().unwrap(), Some(object));
    assert_eq!(refusal(client.goal(2)).code, Code::NotFound);
}

#[test]
fn a_waiting_client_is_answered_when_its_goal_has_ended() {
    let fixture = Fixture::new(Fake::default());
    let waiting = std::thread::spawn({
        let client = fixture.client();
        move || client.reach(&Goal { wait: true, ..goal() })
    });
    while fixture.robot.goals.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let result = GoalResult {
        ending: Ending::Reached,
        fault: None,
        success: true,
        distance: Some(0.01),
        unit: "m".into(),
        ticks: 80,
    };
    let ended = GoalReply { id: 1, result: Some(result) };
    fixture.robot.results.lock().unwrap().push(ended.clone());
    assert_eq!(waiting.join().unwrap().unwrap(), ended);
}

#[test]
fn each_refusal_has_its_status_and_its_reason() {
    for (code, status) in [(Code::Refused, "409"), (Code::NoAnswer, "503")] {
        let fixture = Fixture::new(Fake::refusing(code));
        let client = fixture.client();
        let reply = ErrorReply { error: "not now".into(), code };
        assert_eq!(refusal(client.command(Command::Arm)), reply);
        assert_eq!(refusal(client.reach(&goal())), reply);
        let answer = fixture.post("/v1/arm", "");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[test]
fn a_client_waiting_on_a_dead_loop_is_told_so() {
    let fixture = Fixture::new(Fake { dead: true, ..Fake::default() });
    let reply = refusal(fixture.client().reach(&Goal { wait: true, ..goal() }));
    assert_eq!(reply.code, Code::NoAnswer);
}

#[test]
fn wrong_bodies_are_refused_with_what_was_expected() {
    let fixture = Fixture::new(Fake::default());
    for (body, says) in [
        ("", "EOF"),
        ("3", "expected struct Goal"),
        (r#"{"goal": [NaN, 0, 0]}"#, "expected value"),
        (r#"{"goal": [null, 0, 0]}"#, "invalid type: null"),
        (r#"{"goal": [1e39, 0, 0]}"#, "number out of range"),
        (r#"{"goal": [1e38, 0, 0]}"#, "expected numbers from -10 to 10"),
        (r#"{"joints": {"pan": "far"}}"#, "invalid type: string"),
        (r#"{"goal": [0], "joints": {"pan": 0}}"#, "found both"),
        (r#"{"goal": [0, 0, 0], "speed": 9}"#, "unknown field `speed`"),
        (r#"{"goal": [0, 0, 0], "tolerance": -1}"#, "tolerance: expected 0.0001 to 1"),
        (r#"{"goal": [0, 0, 0], "timeout_s": 1e9}"#, "timeout_s: expected 0.01 to 3600"),
        (&"[".repeat(10_000), "found a body with"),
    ] {
        let answer = fixture.post("/v1/goal", body);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(says), "{body}: {answer}");
    }
    assert_eq!(fixture.robot.goals.load(Ordering::Relaxed), 0);
    let answer = fixture.post("/v1/object", r#"{"position": [0, 0]}"#);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("invalid length 2"), "{answer}");
    assert_eq!(*fixture.robot.object.lock().unwrap(), None);
}

#[test]
fn wrong_paths_and_methods_are_refused() {
    let fixture = Fixture::new(Fake::default());
    let get = |path| {
        fixture
            .raw(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    };
    for (path, status) in [
        ("/v2/status", "404"),
        ("/v1/../../etc/passwd", "404"),
        ("/v1/goal/18446744073709551616", "400"),
        ("/v1/goal/%00", "400"),
        ("/v1/estop", "405"),
    ] {
        let answer = get(path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.contains(r#""code":"#), "{path}: {answer}");
    }
    assert!(fixture.robot.told.lock().unwrap().is_empty());
}

#[test]
fn a_body_over_the_limit_is_refused_whether_announced_or_not() {
    let fixture = Fixture::new(Fake::default());
    let body = format!(r#"{{"goal": [0, 0, 0]{}}}"#, " ".repeat(65 * 1024));
    let announced = fixture.post("/v1/goal", &body);
    let mut chunked =
        b"POST /v1/goal HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.as_bytes().chunks(1000) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    for answer in [announced, fixture.raw(&chunked)] {
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    assert_eq!(fixture.robot.goals.load(Ordering::Relaxed), 0);
}

#[test]
fn garbage_never_stops_the_server() {
    use rand::{Rng as _, SeedableRng as _};
    let fixture = Fixture::new(Fake::default());
    let seed = 7;
    println!("seed {seed}");
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let request = b"POST /v1/goal HTTP/1.1\r\nhost: x\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"goal\": [0, 0, 0.1]}";
    for round in 0..200 {
        let mut bytes = if round % 2 == 0 { request.to_vec() } else { vec![0; 300] };
        for _ in 0..1 + round / 4 {
            let at = rng.next_u32() as usize % bytes.len();
            bytes[at] = rng.next_u32() as u8;
        }
        let mut stream = fixture.connect();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(fixture.client().status().unwrap().robot, "fake");
}

#[test]
fn a_request_that_never_comes_whole_is_given_up() {
    let fixture = Fixture::new(Fake::default());
    for part in [
        &b"GET /v1/sta"[..],
        b"",
        b"POST /v1/goal HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"goal\"",
    ] {
        let mut stream = fixture.connect();
        stream.write_all(part).unwrap();
        // Ends only when the server closes, or fails after the read timeout.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn an_emergency_stop_is_taken_while_other_commands_are_stuck_and_connections_are_used_up() {
    let fixture = Fixture::new(Fake::default());
    fixture.robot.stick(true);
    let idle: Vec<_> = (0..500).map(|_| fixture.connect()).collect();
    let mut stuck: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = fixture.connect();
            stream.write_all(b"POST /v1/arm HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    fixture.client().command(Command::EmergencyStop).unwrap();
    assert_eq!(*fixture.robot.told.lock().unwrap(), [Command::EmergencyStop]);
    assert_eq!(fixture.client().status().unwrap().robot, "fake");
    for stream in &mut stuck[..200 - 64] {
        // Closed although their requests still run: newer ones took their place.
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    fixture.robot.stick(false);
    let mut answer = [0; 12];
    stuck[199].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(idle);
}

#[test]
fn every_emergency_stop_is_taken_during_a_flood_of_connections() {
    let fixture = Fixture::new(Fake::default());
    let (socket, client, over) = (fixture.socket(), fixture.client(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut open = Vec::new();
                while over.load(Ordering::Relaxed) == 0 {
                    open.extend(UnixStream::connect(&socket));
                    if open.len() > 100 {
                        open.clear();
                    }
                }
            });
        }
        let stop = |_| client.command(Command::EmergencyStop).err();
        let failed: Vec<_> = (0..50).filter_map(stop).collect();
        over.store(1, Ordering::Relaxed);
        assert!(failed.is_empty(), "{failed:?}");
    });
    // A stop whose answer was cut off may have been sent again.
    assert!(fixture.robot.told.lock().unwrap().len() >= 50);
}

#[test]
fn many_clients_at_once_are_all_answered() {
    let fixture = Fixture::new(Fake::default());
    let (clients, each) = (32, 20);
    let barrier = Barrier::new(clients);
    let client = fixture.client();
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..each {
                    client.reach(&goal()).unwrap();
                }
            });
        }
    });
    assert_eq!(fixture.robot.goals.load(Ordering::Relaxed), (clients * each) as u64);
}

#[test]
fn only_the_owner_can_open_the_socket_and_it_goes_with_its_server() {
    let fixture = Fixture::new(Fake::default());
    let mode = std::fs::metadata(fixture.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (socket, client) = (fixture.socket(), fixture.client());
    drop(fixture.server);
    assert!(!socket.exists());
    let error = client.status().unwrap_err();
    assert!(error.to_string().contains("start one with `regoal run`"), "{error}");
}

#[test]
fn a_living_daemon_is_not_replaced_and_a_dead_ones_socket_is() {
    let fixture = Fixture::new(Fake::default());
    let second = start(&fixture.socket(), Arc::default()).err().unwrap();
    assert!(second.to_string().starts_with("another `regoal run` is serving"), "{second}");
    fixture.client().status().unwrap();
    drop(fixture.server);

    let socket = fixture.folder.path().join("arm.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(Client::new(&socket).status(), Err(ClientError::NoDaemon { .. })));
    // It died while it was binding.
    std::fs::create_dir(socket.with_extension("binding")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(socket.with_extension("binding").join("s")));
    let _server = start(&socket, Arc::default()).unwrap();
    Client::new(&socket).status().unwrap();
    assert!(!socket.with_extension("binding").exists());
}

#[test]
fn a_file_in_the_sockets_place_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("arm.sock");
    std::os::unix::fs::symlink("/etc/hostname", &socket).unwrap();
    let error = start(&socket, Arc::default()).err().unwrap();
    assert!(matches!(error, ServerError::NotASocket { .. }), "{error}");
    assert!(socket.is_symlink());
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = start(&folder.path().join("arm.sock"), Arc::default()).err().unwrap();
    assert!(matches!(error, ServerError::Folder { mode: 0o777, .. }), "{error}");
}

#[test]
fn a_server_ends_while_clients_wait_and_commands_are_stuck() {
    let fixture = Fixture::new(Fake::default());
    fixture.robot.stick(true);
    let mut stuck = fixture.connect();
    stuck.write_all(b"POST /v1/arm HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut waiting = fixture.connect();
    let body = r#"{"goal": [0, 0, 0], "wait": true}"#;
    let head =
        format!("POST /v1/goal HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    waiting.write_all((head + body).as_bytes()).unwrap();
    drop(fixture.server);
    for mut stream in [stuck, waiting] {
        let _ = stream.read_to_end(&mut Vec::new());
    }
    fixture.robot.stick(false);
}

/// The program asking this fixture's daemon.
fn regoal(fixture: &Fixture, args: &[&str]) -> (Option<i32>, String, String) {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_regoal"));
    let output = program.args(args).arg("--socket").arg(fixture.socket()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_verbs_print_what_the_daemon_says_and_exit_accordingly() {
    let fixture = Fixture::new(Fake::default());
    let result = |success| GoalResult {
        ending: if success { Ending::Reached } else { Ending::TimedOut },
        fault: None,
        success,
        distance: Some(0.0125),
        unit: "m".into(),
        ticks: 80,
    };
    for (id, success) in [(1, true), (2, false)] {
        let reply = GoalReply { id, result: Some(result(success)) };
        fixture.robot.results.lock().unwrap().push(reply);
    }
    let wait = ["goal", "0.1", "-0.2", "0.1", "--wait"];
    for (args, code, says) in [
        (&wait[..], 0, "goal 1: success, reached after 80 ticks, 12.5 mm from it"),
        (&wait, 1, "goal 2: missed, the time was up after 80 ticks"),
        (&["goal", "0.1", "-0.2", "0.1"], 0, "goal 3: on the way"),
        (&["goal", "0.1", "-0.2", "0.1", "--json"], 0, r#"{"id":4,"result":null}"#),
        (&["goal", "--joints", "pan=0.5,lift=-1"], 0, "goal 5: on the way"),
        (&["goal", "0.1", "-0.2", "0.1", "--queue"], 0, "queued, 0 before it"),
        (&["goal", "--joints", "pan"], 2, "expected NAME=RAD"),
        (&["object", "0.1", "-0.2", "0.3", "--once"], 0, ""),
        (&["object", "0.1", "-0.2"], 2, "3 values required"),
        (&["arm"], 0, "armed"),
        (&["stop", "--emergency"], 0, "nothing moves before `regoal arm`"),
        (&["stop", "--json"], 0, r#"{"latched":false,"stopped":true}"#),
        (&["takeover"], 0, "taken over: you steer"),
        (&["takeover", "--end", "--json"], 0, r#"{"person_steers":false}"#),
        (&["arm", "--off"], 0, "disarmed"),
        (&["status"], 0, "fake: disarmed"),
        (&["status", "--json"], 0, r#""robot":"fake","mode":"disarmed""#),
    ] {
        let (found, out, err) = regoal(&fixture, args);
        assert_eq!(found, Some(code), "{args:?}: {out}{err}");
        assert!(out.contains(says) || code != 0 && err.contains(says), "{args:?}: {out}{err}");
    }
    use Command::{Arm, Disarm, EmergencyStop, LetGo, Stop, TakeOver};
    let expected = [Arm, EmergencyStop, Stop, TakeOver, LetGo, Disarm];
    assert_eq!(*fixture.robot.told.lock().unwrap(), expected);
}

#[test]
fn ctrl_c_takes_back_the_goal_that_is_waited_for() {
    let fixture = Fixture::new(Fake::default());
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_regoal"));
    program.args(["goal", "0.1", "-0.2", "0.1", "--wait", "--socket"]).arg(fixture.socket());
    let mut waiting = program.stderr(std::process::Stdio::null()).spawn().unwrap();
    while fixture.robot.goals.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let id = rustix::process::Pid::from_child(&waiting);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    assert_eq!(*fixture.robot.told.lock().unwrap(), [Command::Stop]);
}

mod over_a_control_loop {
    use super::*;
    use regoal::clock::Clock;
    use regoal::config::RobotConfig;
    use regoal::control::{self, Actor, ControlLoop, Runtime};
    use regoal::daemon::{Facts, Served};
    use regoal::episode::{Fault, Mode, PolicyId};
    use regoal::hal::{Arm, Emulator, MemoryPort};
    use regoal::joints::{JointVec, stack};
    use regoal::policy::{ActionKind, Observation, PolicyError};

    /// Stays where it is.
    struct Stay;
    impl Actor for Stay {
        fn act(&mut self, observation: &Observation) -> Result<JointVec<f32>, PolicyError> {
            Ok(stack(observation.position.iter().map(|_| 0.0)))
        }
        fn kind(&self) -> ActionKind {
            ActionKind::JointDelta
        }
        fn id(&self) -> PolicyId {
            PolicyId([7; 16])
        }
    }

    fn runtime(robot: &RobotConfig, clock: &Arc<dyn Clock>) -> Runtime {
        let emulator = Arc::new(Mutex::new(Emulator::new(robot, 0)));
        let port = MemoryPort::new(emulator, clock.clone());
        let arm = Arm::open(robot, Box::new(port), clock.clone()).unwrap();
        let (pilot, thread, swapper) =
            control::connect(Box::new(Stay), clock.clone(), robot.period()).unwrap();
        let control = ControlLoop::new(robot, arm, Box::new(pilot), None, clock.clone()).unwrap();
        Runtime::start(control, thread, swapper, robot.period(), clock.clone()).unwrap()
    }

    fn status_when(client: &Client, found: impl Fn(&Status) -> bool) -> Status {
        loop {
            let status = client.status().unwrap();
            if found(&status) {
                return status;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_arm_is_armed_sent_stopped_and_cleared() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let path = Path::new("firmware-config/emulated.toml");
        let robot = RobotConfig::load(&Disk, path).unwrap();
        let runtime = runtime(&robot, &clock);
        let facts = Facts { robot, log: None, clock: clock.clone() };
        let folder = tempfile::tempdir().unwrap();
        let robot = Arc::new(Served::new(runtime.handle(), facts).unwrap());
        let service = Service { robot, clock, episodes: None, policies: None, jobs: None };
        let socket = folder.path().join("a.sock");
        let server = Server::start(&socket, service, Arc::new(Disk), None).unwrap();
        let client = Client::new(server.socket());

        let start = status_when(&client, |s| s.tick > 10);
        assert!(start.alive && start.joints.len() == 6 && start.mode == Mode::Disarmed);
        assert!(start.joints.iter().all(|j| j.position_rad.is_some()), "{start:?}");
        let reply = refusal(client.reach(&goal()));
        assert_eq!(reply.code, Code::Refused);
        assert!(reply.error.contains("`regoal arm`"), "{reply:?}");

        client.command(Command::Arm).unwrap();
        let here: Vec<_> = start.achieved_goal.iter().map(|x| x.unwrap()).collect();
        let near = Goal { goal: here, wait: true, ..goal() };
        let reached = client.reach(&near).unwrap().result.unwrap();
        assert!(reached.success && reached.ending == Ending::Reached, "{reached:?}");
        let far = Goal { goal: vec![5.0, 0.0, 0.0], ..goal() };
        let refused = refusal(client.reach(&far));
        assert_eq!(refused.code, Code::OutOfReach, "{refused:?}");
        assert!(refused.error.contains("out of reach: the arm gets within 4."), "{refused:?}");
        let far = Goal { anyway: true, timeout_s: Some(0.1), wait: true, ..far };
        let missed = client.reach(&far).unwrap();
        let result = missed.result.clone().unwrap();
        assert!(!result.success && result.ending == Ending::TimedOut, "{missed:?}");
        assert_eq!(client.goal(missed.id).unwrap(), missed);

        let on_the_way = client.reach(&Goal { timeout_s: None, wait: false, ..far }).unwrap();
        assert_eq!(client.goal(on_the_way.id).unwrap().result, None);
        let reaching = status_when(&client, |s| s.mode == Mode::Reaching && s.policy.is_some());
        assert_eq!(reaching.policy, Some("07".repeat(16)));
        client.command(Command::EmergencyStop).unwrap();
        let stopped = status_when(&client, |s| s.mode != Mode::Reaching);
        assert_eq!(stopped.mode, Mode::Faulted(Fault::EmergencyStop));
        let result = client.goal(on_the_way.id).unwrap().result.unwrap();
        assert_eq!((result.ending, result.fault), (Ending::Faulted, Some(Fault::EmergencyStop)));
        assert_eq!(refusal(client.reach(&goal())).code, Code::Faulted);
        client.command(Command::Arm).unwrap();
        client.command(Command::Disarm).unwrap();
        status_when(&client, |s| s.mode == Mode::Disarmed);
        assert_eq!(refusal(client.goal(1000)).code, Code::NotFound);

        drop(runtime);
        status_when(&client, |s| !s.alive);
        assert_eq!(refusal(client.command(Command::Arm)).code, Code::NoAnswer);
    }
}
