//! Policies that a workstation sends to a robot: `regoal run` on an emulated arm, its store, and what
//! becomes of a deployment that is cut off, repeated, forged or bad.

#[path = "../common/bench.rs"]
mod bench;
#[path = "../common/policies.rs"]
mod policies;
#[path = "../common/processes.rs"]
mod processes;
mod trials;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rand::RngExt as _;
use regoal::clock::WallTime;
use regoal::config::RobotConfig;
use regoal::daemon::{Client, ClientError, Code, Command, Goal, Installation, PolicyReport};
use regoal::episode::PolicyId;
use regoal::onnx::{Builder, Dim, Tensor};
use regoal::policy::{Claims, id_of, with_spec};
use regoal::rng::{Stream, item};
use regoal::storage::{Disk, Storage as _};
use serde_json::{Value, json};
use tempfile::TempDir;

use bench::{number, report};
use policies::{Person, claims, policy, spec};
use processes::patience::{NEVER_HUNG, patient};
use processes::{FEETECH, Rig, wait_until};

/// Claims that hold on the day of the test.
fn claim(robot: &RobotConfig, file: &[u8], version: u64) -> Claims {
    let expires = WallTime::from_date("2199-12-31").unwrap();
    Claims { expires, ..claims(robot, file, version) }
}

/// `regoal run` with a store that is empty at first.
struct Robot {
    rig: Rig,
    store: TempDir,
}

impl Robot {
    /// One that trusts these people; everybody where there are none.
    fn trusting(people: &[&Person]) -> Self {
        let store = tempfile::tempdir().unwrap();
        let keys: Vec<String> =
            people.iter().map(|person| format!("{:?}", person.line())).collect();
        let text = format!("{FEETECH}\n[policy]\ntrusted_keys = [{}]\n", keys.join(", "));
        let folder = store.path().to_owned();
        let mut rig = Rig::found(&patient(&text, NEVER_HUNG), 0, |run| {
            run.args(["--arm", "--store"]).arg(folder.join("store"))
        });
        rig.wait_for_api();
        Self { rig, store }
    }

    fn client(&self) -> Client {
        Client::new(self.rig.socket())
    }

    fn folder(&self) -> PathBuf {
        self.store.path().join("store")
    }

    fn report(&self) -> PolicyReport {
        self.client().policies().unwrap()
    }

    /// How many files the store has of policies, and of uploads.
    fn files(&self) -> [usize; 2] {
        ["policies", "uploads"]
            .map(|folder| Disk.list(&self.folder().join(folder)).map_or(0, |found| found.len()))
    }

    /// A policy that moves each joint by so much a tick (rad).
    fn policy(&self, by: f32) -> Vec<u8> {
        policy(&self.rig.config, 8, by)
    }

    fn send(&self, file: &[u8]) -> PolicyId {
        let (client, id) = (self.client(), id_of(file));
        let mut here = client.received(id).unwrap();
        while here < file.len() as u64 {
            here = client.upload(id, file, here).unwrap();
        }
        id
    }

    /// Sends a file and has it installed.
    fn install(&self, file: &[u8], signatures: &[String], commit: bool) -> Result<Value, String> {
        let policy = self.send(file);
        let (signatures, again) = (signatures.to_vec(), false);
        match self.client().install(&Installation { policy, signatures, again, commit }) {
            Ok(installed) => Ok(serde_json::to_value(installed).unwrap()),
            Err(ClientError::Refused(reply)) => Err(reply.error),
            Err(error) => panic!("{error}"),
        }
    }

    /// `regoal policy ...` with the file beside the store.
    fn regoal(&self, arguments: &[&str], socket: &Path) -> Output {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.current_dir(self.store.path()).arg("policy").args(arguments);
        command.arg("--socket").arg(socket).output().unwrap()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        Disk.replace(&self.store.path().join(name), bytes).unwrap();
    }
}

fn json_of(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_robot_takes_its_first_policy_and_tries_it_at_once_and_the_same_again_changes_nothing() {
    let robot = Robot::trusting(&[]);
    assert_eq!(robot.report().steering, None, "nobody yet");
    let file = robot.policy(1e-5);
    robot.put("policy.onnx", &file);
    let install = ["install", "policy.onnx", "--json"];
    let first = json_of(&robot.regoal(&install, &robot.rig.socket()));
    assert_eq!(
        (&first["policy"], &first["committed"]),
        (&json!(id_of(&file).to_string()), &json!(false))
    );
    assert!(first["cost"]["p50_us"].as_f64().unwrap() > 0.0, "{first}");
    let before = robot.report();
    assert_eq!(before.steering, Some(id_of(&file).to_string()), "it steers at once");
    assert_eq!(before.state.candidate.unwrap().starts, 1);
    assert_eq!(before.state.events.last().unwrap().why, "installed by the robot's user");
    let second = json_of(&robot.regoal(&install, &robot.rig.socket()));
    for same in ["policy", "version", "committed", "note"] {
        assert_eq!(first[same], second[same]);
    }
    assert_eq!((robot.report(), robot.files()), (before, [1, 0]));
    // A person may do without the trial.
    let committed =
        robot.regoal(&["install", "policy.onnx", "--commit", "--json"], &robot.rig.socket());
    assert_eq!(json_of(&committed)["committed"], true);
    let after = robot.report();
    assert_eq!((after.state.active.unwrap().policy, after.state.candidate), (id_of(&file), None));
    json_of(&robot.regoal(&["install", "policy.onnx", "--commit", "--json"], &robot.rig.socket()));
    assert_eq!(robot.report(), after);
    let listed = json_of(&robot.regoal(&["list", "--json"], &robot.rig.socket()));
    assert_eq!(listed["steering"], json!(id_of(&file).to_string()));
}

/// A goal, within reach or not.
fn goal(goal: [f32; 3]) -> Goal {
    Goal { goal: goal.to_vec(), timeout_s: Some(60.0), anyway: true, ..Goal::default() }
}

/// Who has steered in a goal that was just begun.
fn steers(robot: &Robot) -> Option<String> {
    let client = robot.client();
    client.reach(&goal([0.15, -0.2, 0.2])).unwrap();
    let mut steers = None;
    wait_until("somebody steers", || {
        steers = robot.rig.status().and_then(|status| status.policy);
        steers.is_some()
    });
    client.command(Command::Stop).unwrap();
    steers
}

#[test]
fn what_must_not_be_installed_is_refused_each_with_its_own_error_and_nothing_is_left() {
    let (person, stranger) = (Person::new(), Person::new());
    let robot = Robot::trusting(&[&person]);
    let config = &robot.rig.config;
    let good = robot.policy(1e-5);
    robot.install(&good, &[person.sign(&good, &claim(config, &good, 7))], true).unwrap();
    let before = robot.report();
    let file = robot.policy(2e-5);
    let said = claim(config, &file, 8);
    let of = |claims: &Claims| vec![person.sign(&file, claims)];
    let old = Claims { expires: WallTime::from_date("2020-01-31").unwrap(), ..said.clone() };
    let mut other = file.clone();
    *other.last_mut().unwrap() ^= 1;
    let rubbish = b"this is no policy at all".to_vec();
    let signed_rubbish = person.sign(&rubbish, &claim(config, &rubbish, 8));
    let mut fitting = spec(config);
    fitting.rate_hz = 17.0;
    let unfit = policies::described(&fitting, 8, 1e-5);
    let signed_unfit = person.sign(&unfit, &claim(config, &unfit, 8));
    let slow = slow(config);
    let signed_slow = person.sign(&slow, &claim(config, &slow, 8));
    for (what, file, signatures, says) in [
        ("unsigned", &file, vec![], "the policy is not signed"),
        ("a stranger's", &file, vec![stranger.sign(&file, &said)], "none of policy.trusted_keys"),
        ("another file", &other, of(&said), "is not of this file"),
        ("expired", &file, of(&old), "the signature expired on 2020-01-31"),
        (
            "an older one",
            &file,
            of(&Claims { version: 6, ..said.clone() }),
            "expected a version after 7",
        ),
        (
            "another robot's",
            &file,
            of(&Claims { robot: "so100".into(), ..said.clone() }),
            "signed for robots of type so100",
        ),
        ("no policy", &rubbish, vec![signed_rubbish], "tract cannot run this graph"),
        ("at another rate", &unfit, vec![signed_unfit], "17"),
        ("too slow", &slow, vec![signed_slow], "expected a median of at most 3000 µs"),
    ] {
        let refused = robot.install(file, &signatures, false).expect_err(what);
        assert!(refused.contains(says), "{what}: {refused}");
        assert_eq!((robot.report(), robot.files()), (before.clone(), [1, 0]), "{what}");
    }
    // What was refused for its signature is taken with the right one.
    robot.install(&file, &of(&said), true).unwrap();
    assert_eq!(robot.report().state.version, 8);
}

/// One that takes more than a tick for each action.
fn slow(robot: &RobotConfig) -> Vec<u8> {
    let (joints, width) = (robot.joint.len(), 1000);
    let mut b = Builder::new();
    let mut x = b.input("observation", &[Dim::Batch, Dim::Fixed(joints)]);
    for (name, rows, columns, times) in
        [("first", joints, width, 1), ("middle", width, width, 200), ("last", width, joints, 1)]
    {
        let weights = Tensor::new([rows, columns], vec![1e-3; rows * columns]).unwrap();
        let weights = b.parameter(name, weights);
        for _ in 0..times {
            x = b.matmul(x, weights);
        }
    }
    b.output("action", x);
    with_spec(&b.finish().unwrap().to_bytes(), &spec(robot)).unwrap()
}

/// A graph of small tensors whose products fill the memory of whoever loads it.
fn bomb(robot: &RobotConfig) -> Vec<u8> {
    let joints = robot.joint.len();
    let mut b = Builder::new();
    let x = b.input("observation", &[Dim::Batch, Dim::Fixed(joints)]);
    // Each product is just short of the most elements that a value may have.
    let n = 11_000;
    let [one, other] = [0, 1].map(|i| {
        let long = |dims: [usize; 2]| Tensor::new(dims, vec![1e-9; n]).unwrap();
        let tall = b.parameter(&format!("tall{i}"), long([n, 1]));
        let wide = b.parameter(&format!("wide{i}"), long([1, n]));
        b.matmul(tall, wide)
    });
    // Their product is there beside both.
    let all = b.matmul(one, other);
    let all = b.reduce_sum(all, &[0, 1], true);
    let action = b.add(x, all);
    b.output("action", action);
    with_spec(&b.finish().unwrap().to_bytes(), &spec(robot)).unwrap()
}

#[test]
fn a_policy_that_crashes_whoever_loads_it_harms_neither_the_daemon_nor_the_loop() {
    let robot = Robot::trusting(&[]);
    robot.install(&robot.policy(1e-5), &[], true).unwrap();
    let (before, control) = (robot.report(), robot.rig.control());
    let refused = robot.install(&bomb(&robot.rig.config), &[], false).unwrap_err();
    assert!(refused.contains("a process of its own"), "{refused}");
    assert_eq!((robot.report(), robot.files()), (before, [1, 0]));
    assert_eq!(robot.rig.control(), control, "it was not started anew");
    assert!(steers(&robot).is_some());
}

/// Passes bytes on to a daemon; some of the connections break after so many.
struct Proxy {
    socket: PathBuf,
    /// Bytes that went to the daemon.
    passed: Arc<AtomicU64>,
    /// Connections that were cut.
    cuts: Arc<AtomicU64>,
    _folder: TempDir,
}

impl Proxy {
    /// Cuts a connection after each of these numbers of bytes, counted over all of them.
    fn cutting(daemon: &Path, after: Vec<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("proxy");
        let listener = UnixListener::bind(&socket).unwrap();
        let (passed, cuts) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (daemon, counted, cut) = (daemon.to_owned(), passed.clone(), cuts.clone());
        let after = Arc::new(Mutex::new(after));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let daemon = UnixStream::connect(&daemon).unwrap();
                let (mut there, mut back) =
                    (client.try_clone().unwrap(), daemon.try_clone().unwrap());
                let (mut to, mut from) = (daemon, client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut back, &mut from);
                    let _ = from.shutdown(Shutdown::Both);
                });
                let (counted, cut, after) = (counted.clone(), cut.clone(), after.clone());
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(n @ 1..) = there.read(&mut buffer) {
                        let sum = counted.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
                        let mut after = after.lock().unwrap();
                        if after.first().is_some_and(|first| *first < sum) {
                            after.remove(0);
                            cut.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        drop(after);
                        if to.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = there.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        });
        Self { socket, passed, cuts, _folder: folder }
    }
}

#[test]
fn an_upload_goes_on_where_a_cut_connection_or_a_killed_daemon_ended_it() {
    let mut robot = Robot::trusting(&[]);
    let file = policy(&robot.rig.config, 20_000, 1e-6);
    let (id, total) = (id_of(&file), file.len() as u64);
    assert!(total > 900_000, "{total}");
    // A daemon that dies keeps what it had taken.
    let half = robot.client().upload(id, &file, 0).unwrap();
    assert!(0 < half && half < total, "{half}");
    assert_eq!(robot.client().upload(id, &file, 0).unwrap(), half, "answered with the right place");
    let control = format!("/proc/{}", robot.rig.control().unwrap().as_raw_nonzero());
    robot.rig.supervisor.kill().unwrap();
    robot.rig.supervisor.wait().unwrap();
    wait_until("the control process has ended", || !Path::new(&control).exists());
    let folder = robot.folder();
    robot.rig.start_again(|run| run.args(["--arm", "--store"]).arg(&folder));
    robot.rig.wait_for_api();
    assert_eq!(robot.client().received(id).unwrap(), half);
    // A connection that breaks costs at most the piece that was on its way.
    let proxy = Proxy::cutting(&robot.rig.socket(), vec![100_000, 300_000, 500_000]);
    robot.put("policy.onnx", &file);
    let output = robot.regoal(&["install", "policy.onnx", "--json"], &proxy.socket);
    assert_eq!(json_of(&output)["policy"], json!(id.to_string()));
    assert_eq!(proxy.cuts.load(Ordering::Relaxed), 3);
    let (sent, piece) = (proxy.passed.load(Ordering::Relaxed), half);
    assert!(sent < total - half + 3 * piece + 20_000, "{sent} of {total}, pieces of {piece}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("going on at byte {half} of {total}")), "{said}");
    assert_eq!(robot.report().steering, Some(id.to_string()));
    // It is not sent again.
    let before = proxy.passed.load(Ordering::Relaxed);
    json_of(&robot.regoal(&["install", "policy.onnx", "--json"], &proxy.socket));
    assert!(proxy.passed.load(Ordering::Relaxed) - before < 10_000);
}

/// The status of the answer to a request that no client of ours makes.
fn raw(robot: &Robot, request: &str, body: &[u8]) -> u16 {
    let mut stream = UnixStream::connect(robot.rig.socket()).unwrap();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).get(9..12).map_or(0, |code| code.parse().unwrap())
}

#[test]
fn no_upload_is_longer_than_a_policy_or_leaves_its_folder_and_few_are_kept() {
    let robot = Robot::trusting(&[]);
    let id = "0".repeat(32);
    for (path, status) in [
        (format!("{id}?offset=0&total=999999999999"), 413),
        (format!("{id}?offset=18446744073709551615&total=1"), 413),
        (format!("{id}?offset=0"), 400),
        (format!("{id}?offset=-1&total=1"), 400),
        ("..%2f..%2f..%2ftmp%2fx?offset=0&total=1".into(), 400),
        ("%2fetc%2fpasswd?offset=0&total=1".into(), 400),
        (format!("{id}%00?offset=0&total=1"), 400),
        (format!("{id}.onnx?offset=0&total=1"), 400),
        ("../../x?offset=0&total=1".into(), 404),
    ] {
        assert_eq!(raw(&robot, &format!("POST /v1/uploads/{path}"), b"x"), status, "{path}");
    }
    let long = vec![0; 300_000];
    assert_eq!(raw(&robot, &format!("POST /v1/uploads/{id}?offset=0&total=300000"), &long), 413);
    assert_eq!(robot.files(), [0, 0]);
    for i in 0..10 {
        let path = format!("POST /v1/uploads/{i:032x}?offset=0&total=100");
        assert_eq!(raw(&robot, &path, b"x"), 200);
    }
    assert_eq!(robot.files(), [0, 2]);
    // What has not come whole is not installed, and stays.
    let order = |policy| Installation { policy, signatures: vec![], again: false, commit: false };
    let policy = PolicyId::from_hex(&format!("{:032x}", 9)).unwrap();
    let refused = robot.client().install(&order(policy));
    assert!(matches!(refused, Err(ClientError::Refused(reply)) if reply.code == Code::NotFound));
    assert_eq!(robot.files(), [0, 2]);
}

#[test]
fn the_episodes_of_a_robot_elsewhere_are_listed_shown_and_labelled_as_those_of_a_folder() {
    let robot = Robot::trusting(&[]);
    robot.install(&robot.policy(1e-5), &[], true).unwrap();
    steers(&robot);
    let logged = |status: regoal::daemon::Status| status.log.is_some_and(|log| log.episodes > 0);
    wait_until("it is logged", || robot.rig.status().is_some_and(logged));
    let (socket, folder) = (robot.rig.socket(), robot.rig.folder.path().join("episodes"));
    let file = regoal::episode::paths(&Disk, &folder).unwrap().remove(0);
    let (socket, folder) = (socket.to_str().unwrap(), folder.to_str().unwrap());
    let says = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_regoal"));
        let output = command.arg("episodes").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(says(&["ls", "--socket", socket]), says(&["ls", folder]));
    let number = regoal::episode::episode_number(&file).unwrap().to_string();
    let (here, there) =
        (says(&["show", file.to_str().unwrap()]), says(&["show", &number, "--socket", socket]));
    let policy = here.lines().find(|line| line.starts_with("  policy")).unwrap();
    assert!(there.contains(policy), "{there}");
    for joint in &robot.rig.config.joint {
        assert!(there.lines().any(|line| line.starts_with(&joint.name)), "{there}");
    }
    let label = ["--outcome", "success", "--task", "reach", "--split", "validation"];
    says(&[&["label", &number, "--socket", socket], &label[..]].concat());
    let labelled = says(&["show", file.to_str().unwrap()]);
    for label in ["outcome   success", "task      reach", "validation"] {
        assert!(labelled.contains(label), "{labelled}");
    }
    let picture = robot.rig.folder.path().join("episode.svg");
    says(&["show", &number, "--socket", socket, "--picture", picture.to_str().unwrap()]);
    let picture = std::fs::read_to_string(picture).unwrap();
    for joint in &robot.rig.config.joint {
        assert!(picture.contains(&joint.name), "{picture}");
    }
}

#[test]
fn d2_of_mutated_bundles_a_robot_takes_none() {
    let person = Person::new();
    let robot = Robot::trusting(&[&person]);
    let config = &robot.rig.config;
    let (file, seed) = (robot.policy(1e-5), number("REGOAL_SEED", 1));
    let text = person.sign(&file, &claim(config, &file, 3));
    let (cases, mut accepted) = (number("REGOAL_CASES", 40), 0);
    for case in 0..cases {
        let mut rng = item(seed, Stream::Validation, case);
        // The first line is a comment that nobody signs.
        let (comment, signed) = text.split_at(text.find('\n').unwrap() + 1);
        let (mut file, mut signed) = (file.clone(), signed.as_bytes().to_vec());
        let bytes = if rng.random_range(0..2) == 0 { &mut file } else { &mut signed };
        match rng.random_range(0..3) {
            0 => {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << rng.random_range(0..7);
            }
            1 => bytes.truncate(rng.random_range(0..bytes.len())),
            _ => bytes.extend(b"more"),
        }
        let text = comment.to_owned() + &String::from_utf8(signed).unwrap();
        accepted += u64::from(!file.is_empty() && robot.install(&file, &[text], false).is_ok());
        assert_eq!(robot.files(), [0, 0], "case {case}");
    }
    report("D2/api", seed, cases, accepted, json!({ "accepted": accepted }));
    assert_eq!((accepted, robot.report().state.candidate), (0, None));
    robot.install(&file, &[text], false).unwrap();
}
