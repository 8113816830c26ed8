//! The control loop over the emulator, in virtual time.

#[path = "common/bench.rs"]
mod bench;

use bench::{Act, Bench, Line, goal_positions, robot};
use regoal::control::{Actor, Command, Ending, Inline, Refusal};
use regoal::episode::{Events, Fault, Mode};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation};

/// The bench steered by a function that moves the joints (rad a tick).
fn disarmed(f: impl FnMut(&Observation) -> JointVec<f32> + Send + 'static) -> Bench {
    Bench::new(robot(), steered(f))
}

/// The same, armed.
fn armed(f: impl FnMut(&Observation) -> JointVec<f32> + Send + 'static) -> Bench {
    Bench::armed(robot(), steered(f))
}

fn steered(f: impl FnMut(&Observation) -> JointVec<f32> + Send + 'static) -> Box<Inline> {
    let actor: Box<dyn Actor> = Box::new(Act(ActionKind::JointDelta, f));
    Box::new(Inline::new(actor))
}

fn still(_: &Observation) -> JointVec<f32> {
    stack([0.0; 6])
}

#[test]
fn nothing_moves_and_no_goal_is_taken_before_arming() {
    let mut bench = disarmed(|_: &Observation| stack([0.02; 6]));
    bench.run(3);
    let before = bench.emulator.lock().unwrap().positions();
    let refused = bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2])));
    assert_eq!(refused, Err(Refusal::Disarmed));
    bench.run(100);
    assert_eq!(bench.emulator.lock().unwrap().positions(), before);
    assert_eq!(bench.control.mode(), Mode::Disarmed);
}

#[test]
fn the_first_position_sent_after_arming_is_the_measured_one() {
    let mut bench = disarmed(still);
    bench.run(1);
    bench.control.command(&Command::Arm).unwrap();
    bench.run(1);
    let step = bench.control.step();
    for (sent, measured) in step.sent.iter().zip(&step.position) {
        assert!((sent - measured).abs() < 0.01, "sent {sent}, measured {measured}");
    }
    assert_eq!(step.mode, Mode::Holding);
}

#[test]
fn a_goal_that_is_achieved_already_ends_as_reached_and_one_far_away_times_out() {
    let mut bench = armed(still);
    let here = bench.control.step().achieved_goal.clone();
    let here = [here[0], here[1], here[2]];
    bench.control.command(&Command::Reach(bench.goal(here))).unwrap();
    let result = bench.until_ended();
    assert_eq!((result.ending, result.success), (Ending::Reached, true));
    bench.control.command(&Command::Reach(bench.goal([here[0], here[1], here[2] + 0.1]))).unwrap();
    let result = bench.until_ended();
    assert_eq!((result.ending, result.success), (Ending::TimedOut, false));
    assert!((result.distance - 0.1).abs() < 0.01, "{result:?}");
    assert_eq!(bench.control.mode(), Mode::Holding);
}

#[test]
fn e_stop_latches_within_a_tick_and_the_arm_comes_to_rest() {
    let mut bench = armed(|_: &Observation| stack([0.02; 6]));
    bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2]))).unwrap();
    bench.run(30);
    bench.control.command(&Command::EmergencyStop).unwrap();
    bench.run(1);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::EmergencyStop));
    bench.run(100);
    let rest = bench.emulator.lock().unwrap().positions();
    bench.run(100);
    let later = bench.emulator.lock().unwrap().positions();
    for (a, b) in rest.iter().zip(&later) {
        assert!((a - b).abs() < 1e-3, "moved from {a} to {b} after the stop");
    }
    let refused = bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2])));
    assert_eq!(refused, Err(Refusal::Faulted(Fault::EmergencyStop)));
}

#[test]
fn an_e_stop_of_a_disarmed_arm_latches_and_sends_nothing() {
    let mut bench = disarmed(still);
    bench.run(3);
    bench.control.command(&Command::EmergencyStop).unwrap();
    bench.line.written.lock().unwrap().clear();
    bench.run(10);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::EmergencyStop));
    let written = bench.line.written.lock().unwrap().clone();
    assert!(written.iter().all(|packet| goal_positions(packet).is_empty()), "{written:?}");
    bench.control.command(&Command::Arm).unwrap();
    bench.run(3);
    assert_eq!(bench.control.mode(), Mode::Holding);
}

#[test]
fn a_policy_that_gives_nonsense_is_held_in_the_same_tick_and_stopped_after_three() {
    for nonsense in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38] {
        let mut bench = armed(move |_: &Observation| stack([nonsense; 6]));
        bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2]))).unwrap();
        bench.run(1);
        let first = bench.control.step().clone();
        if !nonsense.is_finite() {
            assert!(first.events.contains(Events::ACTION_REFUSED), "{nonsense}: {first:?}");
            bench.run(2);
            assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BadAction), "{nonsense}");
        }
        bench.run(50);
        // What went over the wire, not what the gate says: sync writes of goal positions.
        let limits: Vec<(i32, i32)> = bench
            .robot
            .joint
            .iter()
            .map(|j| regoal::hal::calibration::Calibration::new(j).limits())
            .collect();
        for packet in bench.line.written.lock().unwrap().iter() {
            for (joint, ticks) in goal_positions(packet) {
                let (low, high) = limits[joint];
                assert!((low..=high).contains(&ticks), "{nonsense}: joint {joint} sent to {ticks}");
            }
        }
    }
}

#[test]
fn an_action_of_the_wrong_length_is_refused() {
    let mut bench = armed(|_: &Observation| stack([0.01; 5]));
    bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2]))).unwrap();
    bench.run(3);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BadAction));
}

#[test]
fn a_silent_bus_is_held_then_a_fault_and_needs_an_operator() {
    let mut bench = armed(|_: &Observation| stack([0.01; 6]));
    bench.control.command(&Command::Reach(bench.goal([0.1, -0.2, 0.2]))).unwrap();
    bench.run(20);
    Line::set(&bench.line.silent, true);
    bench.run(2);
    assert_eq!(bench.control.mode(), Mode::Reaching, "two stale ticks are no fault");
    assert!(bench.control.step().events.contains(Events::STALE_JOINT));
    bench.run(2);
    let held = bench.control.step().clone();
    assert!(held.action.is_empty(), "an old state must not steer: {held:?}");
    bench.run(10);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BusSilent));
    Line::set(&bench.line.silent, false);
    bench.run(20);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BusSilent), "a fault stays");
    bench.control.command(&Command::Arm).unwrap();
    bench.run(2);
    assert_eq!(bench.control.mode(), Mode::Holding);
}

#[test]
fn a_hot_servo_stops_the_loop() {
    let mut bench = armed(still);
    let mut celsius = f64::from(bench.control.step().temperature[2]);
    while celsius < 65.0 {
        assert_eq!(bench.control.mode(), Mode::Holding, "at {celsius} °C");
        celsius += 3.0;
        bench.emulator.lock().unwrap().servo(3).unwrap().heat(celsius);
        bench.run(3);
    }
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Overheat));
}

#[test]
fn a_move_goes_there_inside_the_limits_and_holds() {
    let mut bench = armed(still);
    let home: JointVec<f64> = bench.robot.joint.iter().map(|j| j.home_rad).collect();
    bench.control.command(&Command::Move(home.clone())).unwrap();
    bench.run(300);
    for (q, home) in bench.control.step().position.iter().zip(&home) {
        assert!((f64::from(*q) - home).abs() < 0.02, "{q} is not {home}");
    }
    let nan = Command::Move(home.iter().map(|_| f64::NAN).collect());
    assert!(matches!(bench.control.command(&nan), Err(Refusal::BadGoal { .. })));
}

#[test]
fn missed_ticks_are_counted_and_marked() {
    let mut bench = armed(still);
    bench.tick += 4;
    bench.run(1);
    assert!(bench.control.step().events.contains(Events::MISSED_TICK));
    assert_eq!(bench.control.counters().missed, 4);
}
