//! The cycle over one pseudo terminal, with the emulator at its other end and a wire that takes its
//! time: ours, rustypot's (`tools/bench/rustypot`) and LeRobot's, one after the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use regoal::clock::{Clock, SystemClock};
use regoal::config::RobotConfig;
use regoal::hal::{Arm, ArmState, Emulator, FaultSpec, PtyServer, SerialPort};
use regoal::joints::JointVec;
use regoal::storage::Disk;

use super::Setup;
use super::measure::{Contender, Figure, Unit, in_turns, typical_us};
use super::peers::contender_of;

/// One read of six servos and one write of their goals. Ours reads all that a tick must know, also
/// speeds, loads, voltage and temperature; the peers read positions.
pub fn bus_cycle(_: &Setup) -> Vec<Figure> {
    let arms = [("feetech", "emulated"), ("dynamixel", "koch-follower")];
    arms.into_iter().flat_map(|(protocol, config)| of(protocol, config)).collect()
}

fn of(protocol: &str, config: &str) -> [Figure; 2] {
    let path = format!("firmware-config/{config}.toml");
    let robot = RobotConfig::load(&Disk, Path::new(&path)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let emulator = Arc::new(Mutex::new(Emulator::new(&robot, 1)));
    let server = PtyServer::start(emulator, &FaultSpec::default(), clock).unwrap();
    let port = server.path();
    let (rustypot, lerobot) = (rustypot(&port, protocol), lerobot(&port, protocol));
    let mut contenders: [Contender<'_, 1>; 3] = [
        Box::new(|| Some([ours(&robot, &port)])),
        contender_of(rustypot, "rustypot"),
        contender_of(lerobot, "lerobot"),
    ];
    let values = in_turns(&mut contenders);
    let value = |i: usize| values[i].map(|[us]| us);
    let name = format!("bus_cycle/pty/{protocol}");
    let figure = Figure::new(name, value(0).unwrap(), Unit::Microseconds);
    [figure.clone().against("rustypot", value(1)), figure.against("lerobot", value(2))]
}

fn ours(robot: &RobotConfig, port: &Path) -> f64 {
    let serial = SerialPort::open(port.to_str().unwrap(), robot.bus.baud).unwrap();
    let mut arm = Arm::open(robot, Box::new(serial), Arc::new(SystemClock)).unwrap();
    let goal: JointVec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
    let mut state = ArmState::default();
    typical_us(|| {
        let deadline = SystemClock.now() + 5 * robot.period();
        arm.read(&mut state, deadline).unwrap();
        arm.write(&goal, deadline).unwrap();
    })
}

/// Built here, in a folder of its own.
fn rustypot(port: &Path, protocol: &str) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/rustypot-cycle");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--release", "--manifest-path"]);
    build.arg(root.join("tools/bench/rustypot/Cargo.toml")).arg("--target-dir").arg(&target);
    build.status().ok()?.success().then_some(())?;
    let mut command = Command::new(target.join("release/rustypot-cycle"));
    command.arg(port).arg(protocol);
    Some(command)
}

/// With the Python that `tools/lerobot/run` made.
fn lerobot(port: &Path, protocol: &str) -> Option<Command> {
    let python: PathBuf = dirs::cache_dir()?.join("regoal/lerobot/bin/python");
    let mut command = python.exists().then(|| Command::new(python))?;
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bench/lerobot_cycle.py"));
    command.arg(port).arg(protocol);
    Some(command)
}
