//! The emulator behind descriptors, in real time: what a client sees of speeds, faults and ends; and
//! as a Dynamixel arm, in virtual time.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use regoal::clock::{Clock, ManualClock, SystemClock};
use regoal::config::{Protocol, RobotConfig};
use regoal::hal::emulator::SocketServer;
use regoal::hal::{
    Arm, ArmState, Bus, BusError, Emulator, FaultSpec, MemoryPort, PortError, PtyServer, SerialPort,
};
use regoal::joints::JointVec;
use regoal::storage::{Disk, Storage as _};

/// Time for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for what must not happen.
const WHILE: Duration = Duration::from_millis(30);

fn emulator() -> Arc<Mutex<Emulator>> {
    let text = include_str!("../firmware-config/emulated.toml");
    let config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    Arc::new(Mutex::new(Emulator::new(&config, 1)))
}

fn faults(text: &str) -> FaultSpec {
    FaultSpec::parse(text, Path::new("faults.toml")).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn pty(spec: &str) -> PtyServer {
    PtyServer::start(emulator(), &faults(spec), clock()).unwrap()
}

fn open(server: &PtyServer, baud: u32) -> Bus {
    let port = SerialPort::open(server.path().to_str().unwrap(), baud).unwrap();
    Bus::new(Box::new(port), clock(), Protocol::Feetech, baud)
}

fn ping(bus: &mut Bus, within: Duration) -> Result<u8, BusError> {
    bus.ping(1, SystemClock.now() + within).map(|found| found.status)
}

#[test]
fn a_terminal_has_the_speed_that_its_client_sets_and_servos_hear_only_their_own() {
    let server = pty("");
    assert!(matches!(ping(&mut open(&server, 57_600), WHILE), Err(BusError::NoAnswer { id: 1 })));
    assert_eq!(ping(&mut open(&server, 1_000_000), PATIENCE).unwrap(), 0);
}

#[test]
fn a_client_comes_back_after_another() {
    let server = pty("");
    for _ in 0..3 {
        assert_eq!(ping(&mut open(&server, 1_000_000), PATIENCE).unwrap(), 0);
    }
}

#[test]
fn an_unplugged_terminal_is_lost_to_its_client_and_comes_back_at_a_new_path() {
    let server = pty("[[fault]]\nkind = 'lost'\ntransaction = 9\nfor_s = 0.05");
    let path = server.path();
    let mut bus = open(&server, 1_000_000);
    ping(&mut bus, PATIENCE).unwrap();
    let lost = (0..20).find_map(|_| ping(&mut bus, PATIENCE).err());
    assert!(matches!(lost, Some(BusError::Port(PortError::Lost))), "{lost:?}");
    let deadline = SystemClock.now() + PATIENCE;
    while server.path() == path {
        assert!(SystemClock.now() < deadline, "it did not come back");
        SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(5));
    }
    assert_eq!(ping(&mut open(&server, 1_000_000), PATIENCE).unwrap(), 0);
}

#[test]
fn faults_of_the_line_reach_a_terminal_s_client() {
    let server = pty("[[fault]]\nkind = 'garbage'\ncount = 9\ntransaction = 0");
    let mut bus = open(&server, 1_000_000);
    assert_eq!(ping(&mut bus, PATIENCE).unwrap(), 0);
    assert!(bus.counters().garbage_bytes > 0, "{:?}", bus.counters());
}

#[test]
fn a_socket_pair_is_a_bus_and_ends_when_either_end_does() {
    let bus = |descriptor: OwnedFd| {
        let port = SerialPort::from_descriptor(descriptor).unwrap();
        Bus::new(Box::new(port), clock(), Protocol::Feetech, 1_000_000)
    };
    let (server, client) = SocketServer::start(emulator(), &FaultSpec::default(), clock()).unwrap();
    let mut client = bus(client);
    assert_eq!(ping(&mut client, PATIENCE).unwrap(), 0);
    drop(server);
    let lost = ping(&mut client, PATIENCE);
    assert!(matches!(lost, Err(BusError::Port(PortError::Lost))), "{lost:?}");
    let (server, client) = SocketServer::start(emulator(), &FaultSpec::default(), clock()).unwrap();
    drop(client);
    drop(server);
}

fn emulate(arguments: &[&str]) -> std::process::Output {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-config/emulated.toml");
    Command::new(env!("CARGO_BIN_EXE_regoal"))
        .args(["emulate", config])
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_command_inherits_its_end_of_the_socket_pair_and_its_end_is_ours() {
    let inherits =
        emulate(&["--socketpair", "--", "sh", "-c", "test -S /proc/self/fd/$REGOAL_BUS_FD"]);
    assert!(inherits.status.success(), "{inherits:?}");
    let fails = emulate(&["--socketpair", "--", "sh", "-c", "exit 3"]);
    assert!(!fails.status.success());
    let error = String::from_utf8(fails.stderr).unwrap();
    assert!(error.contains("sh ended with exit status: 3"), "{error}");
}

#[test]
fn a_wrong_fault_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.toml");
    let text = b"[[fault]]\nkind = 'drop'\nrat = 1\n";
    Disk.create(&path).unwrap().write_all(text).unwrap();
    let refused = emulate(&["--faults", path.to_str().unwrap()]);
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("spec.toml:3: unknown field `rat`"), "{error}");
}

/// A Koch arm: two XL430-W250 and four XL330-M288 on one Dynamixel bus.
fn koch() -> RobotConfig {
    let text = include_str!("../firmware-config/emulated.toml")
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"");
    RobotConfig::parse(&text, Path::new("koch.toml")).unwrap()
}

#[test]
fn an_arm_of_two_dynamixel_models_is_opened_driven_and_stopped_by_its_watchdog() {
    let clock = ManualClock::default();
    let emulator = Arc::new(Mutex::new(Emulator::new(&koch(), 1)));
    let port = MemoryPort::new(Arc::clone(&emulator), Arc::new(clock.clone()));
    let mut arm = Arm::open(&koch(), Box::new(port), Arc::new(clock.clone())).unwrap();
    arm.torque(true).unwrap();
    let goal: JointVec<f64> = [0.4, -0.4, 0.4, 0.4, 0.4, 0.4].into_iter().collect();
    let mut state = ArmState::default();
    for _ in 0..200 {
        let deadline = clock.now() + Duration::from_millis(10);
        arm.write(&goal, deadline).unwrap();
        assert_eq!(arm.read(&mut state, deadline).unwrap(), 6);
        clock.sleep_until(deadline);
    }
    for (joint, goal) in state.joints.iter().zip(&goal) {
        assert!((joint.position - goal).abs() < 0.02, "{joint:?} {goal}");
    }
    let far: JointVec<f64> = [-1.0; 6].into_iter().collect();
    arm.write(&far, clock.now() + Duration::from_millis(10)).unwrap();
    // The host is dead.
    let positions = |after: u64| {
        clock.sleep_until(clock.now() + Duration::from_millis(after));
        let mut emulator = emulator.lock().unwrap();
        emulator.advance(clock.now());
        emulator.positions()
    };
    let (stopped, later) = (positions(180), positions(2000));
    for (stopped, later) in stopped.iter().zip(&later) {
        assert!((stopped - later).abs() < 1e-3 && *later > -0.9, "{stopped} {later}");
    }
}
