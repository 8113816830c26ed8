//! The two processes of `regoal run` on an emulated arm behind a pseudo terminal: what becomes of the
//! arm when either is killed or stopped. Times are printed, and judged only in the larger sizes of S9.

#[path = "common/bench.rs"]
mod bench;

#[path = "common/processes.rs"]
mod processes;

use std::io::Read as _;
use std::time::Duration;

use regoal::daemon::{Client, Goal};
use regoal::episode::{Fault, Mode};
use rustix::process::{Pid, Signal, kill_process};

use processes::patience::{NEVER_HUNG, patient};
use processes::{CLOSE, FEETECH, Rig, furthest, koch, now, slow, wait_until};

/// Does something to the control process of a moving arm; which it was, and after how long all
/// servos hold.
fn strike(rig: &mut Rig, signal: Signal) -> (Pid, Duration) {
    let (struck, was) = (now(), rig.control().unwrap());
    kill_process(was, signal).unwrap();
    wait_until("its goals are where it is", || rig.lag() < CLOSE);
    (was, now().since(struck))
}

/// Does something to the control process of a moving arm: the arm is held where it is, and a new
/// control process holds it there and takes goals.
fn held_after(signal: Signal, robot: &str, what: &str) {
    let mut rig = Rig::moving(&slow(robot), 0.15);
    let (last, before) = rig.goals_and_positions();
    let (dead, took) = strike(&mut rig, signal);
    let (held, _) = rig.goals_and_positions();
    println!(
        "{what}: held {took:?} after {signal:?}; {:.3} rad behind its goals before, moved by {:.3} rad",
        furthest(&last, &before),
        furthest(&held, &before)
    );
    assert!(furthest(&held, &last) > CLOSE, "it went on to its last goal: {last:?} {held:?}");
    assert_eq!(rig.torques(), [1; 6], "torque as it was");
    wait_until("another one controls it", || rig.control().is_some_and(|pid| pid != dead));
    let again = || rig.status().is_some_and(|s| s.mode == Mode::Holding && s.tick > 20);
    wait_until("it holds again", again);
    let (goals, positions) = rig.goals_and_positions();
    assert!(furthest(&held, &positions) < 2.0 * CLOSE, "it moved: {held:?} {positions:?}");
    assert!(furthest(&goals, &positions) < CLOSE, "it moves: {goals:?} {positions:?}");
    assert_eq!(rig.torques(), [1; 6], "it never dropped");
    rig.set_out(0.05);
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    let (code, said) = rig.end();
    assert_eq!(code, Some(130), "{said}");
    let told = said.lines().find(|line| line.contains("THE CONTROL PROCESS")).unwrap_or_default();
    println!("{told}");
    assert!(told.contains("servos [1, 2, 3, 4, 5, 6] were told to hold"), "{said}");
}

/// S9: from the death or the hanging of the control process to the moment in which all servos hold.
/// Times are judged where nothing else runs, in the sizes that set `REGOAL_JUDGE_TIME`: with the
/// heartbeat that an arm has by default, which a computer busy with tests would miss without a reason.
#[test]
fn s9_a_control_process_that_dies_or_hangs_costs_the_arm_a_moment() {
    const LIMIT: Duration = Duration::from_millis(200);
    let cases = bench::number("REGOAL_CASES", 1);
    let judged = bench::times_count();
    let heartbeat_s =
        if judged { regoal::config::SafetyConfig::default().heartbeat_s } else { 1.0 };
    let (mut figures, mut late) = (serde_json::Map::new(), 0);
    for (name, robot) in [("feetech", FEETECH.to_owned()), ("dynamixel", koch())] {
        for (how, signal) in [("killed", Signal::KILL), ("stopped", Signal::STOP)] {
            let held = (0..cases).map(|_| {
                let mut rig = Rig::watched(&slow(&robot), 0.15, heartbeat_s);
                strike(&mut rig, signal).1
            });
            let mut held: Vec<Duration> = held.collect();
            held.sort_unstable();
            late += held.iter().filter(|held| **held > LIMIT).count() as u64;
            let ms = |held: Option<&Duration>| held.map(|held| held.as_secs_f64() * 1e3);
            let figure = serde_json::json!({
                "median_ms": ms(held.get(held.len() / 2)), "longest_ms": ms(held.last()),
            });
            figures.insert(format!("{name}_{how}"), figure);
        }
    }
    figures.insert("over_200_ms".into(), late.into());
    figures.insert("judged".into(), judged.into());
    let failures = if judged { late } else { 0 };
    bench::report("S9", bench::number("REGOAL_SEED", 1), 4 * cases, failures, figures.into());
    assert_eq!(failures, 0);
}

#[test]
fn an_arm_that_is_found_with_torque_keeps_it_and_its_user_is_told_before_and_after() {
    for (torque, told) in [(1, true), (0, false)] {
        let mut rig = Rig::found(&patient(FEETECH, NEVER_HUNG), torque, |run| run);
        wait_until("it runs", || rig.status().is_some_and(|s| s.tick > 20));
        kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
        let mut said = String::new();
        rig.supervisor.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(rig.end().0, Some(130));
        assert_eq!(said.contains("TORQUE IS ON, as it was found"), told, "{said}");
        assert_eq!(said.contains("TORQUE IS STILL ON"), told, "{said}");
        assert_eq!(rig.torques(), [torque; 6]);
    }
}

#[test]
fn a_feetech_arm_is_held_when_its_process_is_killed_and_moves_again_only_when_told() {
    held_after(Signal::KILL, FEETECH, "feetech");
}

#[test]
fn a_dynamixel_arm_is_held_when_its_process_is_killed_and_moves_again_only_when_told() {
    held_after(Signal::KILL, &koch(), "dynamixel");
}

#[test]
fn a_process_that_hangs_is_killed_and_the_arm_held() {
    held_after(Signal::STOP, FEETECH, "feetech");
}

#[test]
fn a_latched_fault_outlives_the_process_it_came_in() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let client = Client::new(rig.socket());
    client.command(regoal::daemon::Command::EmergencyStop).unwrap();
    let stopped = Mode::Faulted(Fault::EmergencyStop);
    wait_until("it is stopped", || rig.status().is_some_and(|s| s.mode == stopped));
    let dead = rig.control().unwrap();
    kill_process(dead, Signal::KILL).unwrap();
    wait_until("another one controls it", || rig.control().is_some_and(|pid| pid != dead));
    wait_until("it runs", || rig.status().is_some_and(|s| s.tick > 20));
    assert_eq!(rig.status().unwrap().mode, stopped);
    let goal = Goal { goal: vec![0.2, -0.2, 0.2], ..Goal::default() };
    let refused = client.reach(&goal).unwrap_err().to_string();
    assert!(refused.contains("emergency stop"), "{refused}");
    client.command(regoal::daemon::Command::Arm).unwrap();
    client.reach(&goal).unwrap();
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    assert_eq!(rig.end().0, Some(130));
}

#[test]
fn told_to_end_it_parks_the_arm_and_both_processes_end() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let control = rig.control().unwrap();
    kill_process(Pid::from_child(&rig.supervisor), Signal::TERM).unwrap();
    let (code, said) = rig.end();
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(rig.torques(), [0; 6], "{said}");
    let park: Vec<f64> = rig.config.joint.iter().map(|joint| joint.park_rad()).collect();
    let (_, positions) = rig.goals_and_positions();
    assert!(furthest(&park, &positions) < 0.1, "{positions:?}: {said}");
    assert!(rustix::process::test_kill_process(control).is_err(), "it lives on");
}

#[test]
fn sigusr1_to_either_process_is_an_emergency_stop_that_stays_until_somebody_arms() {
    let rig = Rig::moving(FEETECH, 0.05);
    for process in [Pid::from_child(&rig.supervisor), rig.control().unwrap()] {
        kill_process(process, Signal::USR1).unwrap();
        let stopped = Mode::Faulted(Fault::EmergencyStop);
        wait_until("it stops", || rig.status().is_some_and(|s| s.mode == stopped));
        let goal = Goal { goal: vec![0.2, -0.2, 0.2], ..Goal::default() };
        assert!(Client::new(rig.socket()).reach(&goal).is_err(), "it moves on by itself");
        rig.set_out(0.05);
    }
}

#[test]
fn without_its_supervisor_the_control_process_parks_the_arm_and_ends() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let control = rig.control().unwrap();
    rig.supervisor.kill().unwrap();
    wait_until("it parks and ends", || rustix::process::test_kill_process(control).is_err());
    assert_eq!(rig.torques(), [0; 6]);
}

#[test]
fn an_arm_whose_process_dies_again_and_again_stays_held_and_is_left_to_a_person() {
    let mut rig = Rig::moving(FEETECH, 0.05);
    let mut last = None;
    for _ in 0..4 {
        wait_until("it runs", || rig.control().is_some_and(|pid| last != Some(pid)));
        last = rig.control();
        kill_process(last.unwrap(), Signal::KILL).unwrap();
    }
    let (code, said) = rig.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("died too often"), "{said}");
    assert_eq!(rig.torques(), [1; 6], "{said}");
    assert!(rig.lag() < CLOSE, "{said}");
}

#[test]
fn a_first_start_that_fails_is_not_tried_again() {
    let mut rig = Rig::start(FEETECH, &["--policy", "/nowhere.onnx"]);
    let (code, said) = rig.end();
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("/nowhere.onnx").count(), 1, "{said}");
    assert!(!said.contains("again"), "{said}");
    assert_eq!(rig.torques(), [0; 6]);
}
