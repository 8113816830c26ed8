//! Goals of every space: at the control loop in virtual time, and those of a Koch's joints through
//! `regoal run` on an emulated Dynamixel bus.

#[path = "common/bench.rs"]
mod bench;
#[path = "common/patience.rs"]
mod patience;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command as Program, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bench::{Bench, drift, robot};
use patience::{NEVER_HUNG, patient};
use regoal::clock::{Clock as _, SystemClock};
use regoal::config::RobotConfig;
use regoal::control::{Command, Ending, GoalRequest, Refusal};
use regoal::daemon::{Client, Goal};
use regoal::episode::{Episode, Mode, Source};
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use regoal::joints::{GoalSpace, GoalVec, stack};
use regoal::kinematics::{Chain, pose_goal};
use regoal::storage::{Disk, Storage as _};

const SPACES: [GoalSpace; 5] = [
    GoalSpace::EndEffectorPosition,
    GoalSpace::EndEffectorPose,
    GoalSpace::JointPosition,
    GoalSpace::ObjectPosition,
    GoalSpace::None,
];

/// An armed arm that drifts while it reaches.
fn bench(space: GoalSpace) -> Bench {
    let mut robot = robot();
    robot.control.goal_space = space;
    Bench::armed(robot, drift(0.002))
}

fn request(bench: &Bench, goal: &[f32]) -> GoalRequest {
    GoalRequest { goal: stack(goal.iter().copied()), ..bench.goal([0.0; 3]) }
}

fn object(x: f32) -> Command {
    Command::Object(stack([x, -0.2, 0.02]))
}

#[test]
fn the_achieved_goal_is_what_the_space_says_of_the_measured_joints() {
    for space in SPACES {
        let mut bench = bench(space);
        let step = bench.control.step().clone();
        let measured: Vec<f64> = step.position.iter().map(|q| f64::from(*q)).collect();
        let chain = Chain::of(&bench.robot).unwrap();
        let expected: GoalVec = match space {
            GoalSpace::EndEffectorPosition => {
                stack(chain.position(&measured).iter().map(|x| *x as f32))
            }
            GoalSpace::EndEffectorPose => {
                stack(pose_goal(&chain.pose(&measured)).iter().map(|x| *x as f32))
            }
            GoalSpace::JointPosition => step.position.iter().copied().collect(),
            GoalSpace::ObjectPosition | GoalSpace::None => GoalVec::new(),
        };
        assert_eq!(step.achieved_goal.len(), expected.len(), "{space:?}");
        for (found, expected) in step.achieved_goal.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5, "{space:?}: {found} is not {expected}");
        }
        let told = bench.control.command(&object(0.1));
        bench.run(1);
        if space == GoalSpace::ObjectPosition {
            assert_eq!(told, Ok(()));
            assert_eq!(bench.control.step().achieved_goal[..], [0.1, -0.2, 0.02]);
        } else {
            assert_eq!(told, Err(Refusal::NoObject { space: space.name() }));
        }
    }
}

#[test]
fn goals_of_another_size_or_not_finite_are_refused_and_the_arm_holds_on() {
    for space in SPACES {
        let mut bench = bench(space);
        let size = space.size(bench.robot.joint.len());
        if space == GoalSpace::ObjectPosition {
            bench.control.command(&object(0.1)).unwrap();
        }
        let mut wrong: Vec<Vec<f32>> = vec![vec![0.1; size + 1]];
        if size > 0 {
            wrong.push(vec![0.1; size - 1]);
            wrong.push([vec![0.1; size - 1], vec![f32::NAN]].concat());
        }
        // More numbers than any goal has do not get into one.
        for goal in wrong.iter().filter(|goal| goal.len() <= 9) {
            let refused = bench.control.command(&Command::Reach(request(&bench, goal)));
            let Err(Refusal::BadGoal { expected, .. }) = refused else {
                panic!("{space:?} {goal:?}: {refused:?}")
            };
            assert_eq!(expected, size, "{space:?}");
            assert_eq!(bench.control.mode(), Mode::Holding);
        }
        let goal = request(&bench, &vec![0.1; size]);
        bench.control.command(&Command::Reach(goal)).unwrap();
        assert_eq!(bench.control.mode(), Mode::Reaching, "{space:?}");
    }
}

#[test]
fn a_goal_ends_with_the_arm_held_when_its_object_is_lost() {
    let mut bench = bench(GoalSpace::ObjectPosition);
    let goal = request(&bench, &[0.3, -0.2, 0.02]);
    let unknown = bench.control.command(&Command::Reach(goal.clone()));
    assert_eq!(unknown, Err(Refusal::ObjectUnknown));
    bench.control.command(&object(0.1)).unwrap();
    bench.control.command(&Command::Reach(goal)).unwrap();
    let before = bench.positions();
    for tick in 0..80 {
        bench.control.command(&object(0.1 + 0.001 * tick as f32)).unwrap();
        bench.run(1);
        assert_eq!(bench.control.mode(), Mode::Reaching, "{tick}");
    }
    assert!(bench.moved_since(&before) > 0.05, "it moves while it is told where the object is");
    let result = bench.until_ended();
    assert_eq!((result.ending, result.success), (Ending::ObjectLost, false));
    let timeout = bench.robot.control.stream_timeout_s / bench.robot.period().as_secs_f64();
    assert!((result.ticks as f64 - 80.0 - timeout).abs() < 5.0, "{result:?}");
    assert_eq!(bench.control.mode(), Mode::Holding);
    // Past the time that stopping takes.
    bench.run(50);
    let held = bench.positions();
    bench.run(100);
    assert!(bench.moved_since(&held) < 2e-3, "it moves on");
}

#[test]
fn an_object_at_its_goal_is_a_goal_reached() {
    let mut bench = bench(GoalSpace::ObjectPosition);
    bench.control.command(&object(0.1)).unwrap();
    let goal = request(&bench, &[0.3, -0.2, 0.02]);
    bench.control.command(&Command::Reach(goal)).unwrap();
    let mut way = (0..150).map(|tick| (0.1 + 0.002 * tick as f32).min(0.3));
    let result = way.find_map(|x| {
        bench.control.command(&object(x)).unwrap();
        bench.run(1);
        bench.control.take_result()
    });
    let result = result.unwrap();
    assert_eq!((result.ending, result.success), (Ending::Reached, true));
}

#[test]
fn to_be_told_of_an_object_does_not_keep_an_arm_from_parking() {
    let mut bench = bench(GoalSpace::ObjectPosition);
    bench.control.command(&Command::Park).unwrap();
    for _ in 0..1000 {
        bench.control.command(&object(0.1)).unwrap();
        bench.run(1);
    }
    assert_eq!((bench.control.mode(), bench.torque()), (Mode::Disarmed, vec![0; 6]));
}

/// Time for what must happen, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kochs_joints_are_sent_and_the_episode_says_so() {
    let text = include_str!("../firmware-config/koch-follower.toml");
    let text = patient(text, NEVER_HUNG).replace("watchdog_ms = 100", "watchdog_ms = 2000");
    let config = RobotConfig::parse(&text, Path::new("koch.toml")).unwrap();
    let emulator = Arc::new(Mutex::new(Emulator::new(&config, 1)));
    let server =
        PtyServer::start(emulator.clone(), &FaultSpec::default(), Arc::new(SystemClock)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    Disk.replace(&at("koch.toml"), text.as_bytes()).unwrap();
    let mut run = Program::new(env!("CARGO_BIN_EXE_regoal"));
    run.args(["run", "--arm", "--robot"]).arg(at("koch.toml")).arg("--port").arg(server.path());
    run.arg("--socket").arg(at("api")).arg("--episodes").arg(at("episodes"));
    let mut run = Running(run.env_remove("RUST_LOG").stdout(Stdio::piped()).spawn().unwrap());
    let said = BufReader::new(run.0.stdout.take().unwrap()).lines();
    let mut said = said.map_while(Result::ok);
    assert!(said.any(|line| line.contains("no policy: the arm goes straight to its goals")));

    let client = Client::new(at("api"));
    let deadline = SystemClock.now() + PATIENCE;
    while client.status().unwrap().mode != Mode::Holding {
        assert!(SystemClock.now() < deadline, "not armed: {:?}", client.status());
        std::thread::yield_now();
    }
    let goal = |arguments: &[&str]| {
        let mut program = Program::new(env!("CARGO_BIN_EXE_regoal"));
        program.args(["goal", "--socket"]).arg(at("api")).args(arguments).output().unwrap()
    };
    let sent = goal(&["--joints", "shoulder_pan=0.2,elbow_flex=-0.4", "--wait", "--timeout", "30"]);
    let text = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(
        text.contains("success, reached after") && text.contains(" rad from it"),
        "{sent:?} {:?}",
        client.status()
    );
    let status = client.status().unwrap();
    assert_eq!((status.goal_space, status.unit.as_str()), (GoalSpace::JointPosition, "rad"));
    let reached = emulator.lock().unwrap().positions();
    for (q, expected) in reached.iter().zip([0.2, 0.0, -0.4, 0.0, 0.0, 0.0]) {
        assert!((q - expected).abs() < 0.1, "{reached:?}");
    }
    for (arguments, says) in [
        (&["0.1", "0.2", "0.3"][..], "goals of `koch-follower` are of joint_position"),
        (
            &["--joints", "elbow_flex=2"],
            "joint `elbow_flex`: expected -1.590 to 1.590 (rad), found 2",
        ),
        (&["--joints", "elbow=1"], "found `elbow`"),
    ] {
        let refused = goal(arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains(says), "{says}: {text}");
    }
    let far = Goal { joints: [("elbow_flex".into(), 2.0)].into(), ..Goal::default() };
    let far = Goal { anyway: true, wait: true, timeout_s: Some(0.5), ..far };
    let missed = client.reach(&far).unwrap().result.unwrap();
    assert!(!missed.success && missed.unit == "rad", "{missed:?}");

    let id = rustix::process::Pid::from_child(&run.0);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.0.wait().unwrap().code(), Some(130));
    let episode = Episode::read(&Disk, &at("episodes").join("episode-000000.mcap")).unwrap();
    assert_eq!(episode.header.goal_space, "joint_position");
    assert_eq!(episode.header.source, Source::Run);
    let wished = &episode.steps[0].desired_goal;
    assert_eq!((wished.len(), wished[0], wished[2]), (6, 0.2, -0.4));
}
