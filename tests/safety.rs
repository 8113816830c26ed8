//! What stops the arm, how it is stopped, and what lets it move again: over the emulator, in virtual
//! time.

#[path = "common/bench.rs"]
mod bench;

use std::f64::consts::TAU;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bench::{Act, Bench, Lie, Line, drift, goal_positions, robot, torques};
use regoal::clock::{Clock as _, Time};
use regoal::config::{Exit, RobotConfig, StopCategory};
use regoal::control::{Command, Decision, Ending, GoalUpdate, Inline, Pilot, Refusal};
use regoal::episode::{Events, Fault, Mode};
use regoal::hal::servo::{Model, Register};
use regoal::joints::{JointVec, stack};
use regoal::policy::{ActionKind, Observation};

const DEGREE: f64 = TAU / 360.0;
/// The wrist's roll: nothing but its own motion changes it.
const ROLL: usize = 4;
/// A pose away from home, inside all limits (rad).
const AWAY: [f64; 6] = [0.5, -0.2, 0.3, 0.2, 0.8, 0.3];

fn with(change: impl FnOnce(&mut RobotConfig)) -> RobotConfig {
    let mut robot = robot();
    change(&mut robot);
    robot
}

fn away() -> Command {
    Command::Move(stack(AWAY))
}

/// The fastest that any joint was sent in the next `ticks` (rad/s).
fn fastest_sent(bench: &mut Bench, ticks: u64) -> f64 {
    let mut fastest = 0.0f64;
    for _ in 0..ticks {
        let before = bench.control.step().sent.clone();
        bench.run(1);
        let sent = bench.control.step().sent.iter().zip(&before);
        let period = bench.robot.period().as_secs_f64();
        fastest = sent.fold(fastest, |f, (a, b)| f.max(f64::from((a - b).abs()) / period));
    }
    fastest
}

/// Runs until a mode other than the one now; how many ticks that took.
fn until_mode_changes(bench: &mut Bench, most: u64) -> u64 {
    let before = bench.control.mode();
    (1..=most)
        .find(|_| {
            bench.run(1);
            bench.control.mode() != before
        })
        .unwrap_or_else(|| panic!("still {before:?} after {most} ticks"))
}

fn lie(bench: &Bench, id: u8, lie: Lie) {
    bench.line.lies.lock().unwrap().insert(id, lie);
}

/// A hand holds the roll joint at an angle while the loop runs.
fn held_by_hand(bench: &mut Bench, angle: f64, most: u64) -> u64 {
    let before = bench.control.mode();
    for tick in 1..=most {
        bench.emulator().servo(5).unwrap().place(angle);
        bench.run(1);
        if bench.control.mode() != before {
            return tick;
        }
    }
    most
}

// --- limits

#[test]
fn what_is_sent_leads_a_held_joint_by_its_limit_and_not_following_is_a_fault() {
    let mut bench = Bench::armed(robot(), drift(0.0));
    bench.control.command(&away()).unwrap();
    let ticks = held_by_hand(&mut bench, 0.0, 300);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Tracking));
    assert!((100..200).contains(&ticks), "after {ticks} ticks");
    let lead = f64::from(bench.control.step().sent[ROLL]);
    // The measured position is noisy by a few ticks.
    assert!((0.45..=0.51).contains(&lead), "led by {lead}");
}

#[test]
fn a_joint_that_pushes_against_something_is_latched_and_backs_off() {
    let mut bench = Bench::armed(robot(), drift(0.0));
    bench.control.command(&away()).unwrap();
    lie(&bench, 5, Lie { load: Some(800), ..Lie::default() });
    let ticks = held_by_hand(&mut bench, 0.1, 200);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Stall));
    // The way to the first 5 degrees of error, then 0.3 s.
    assert!((31..60).contains(&ticks), "after {ticks} ticks");
    for _ in 0..100 {
        bench.emulator().servo(5).unwrap().place(0.1);
        bench.run(1);
    }
    let sent = f64::from(bench.control.step().sent[ROLL]);
    assert!((sent - 0.1).abs() < 0.01, "still pushes toward {sent}");
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Stall));
}

#[test]
fn a_load_without_an_error_slows_the_arm_and_does_not_stop_it() {
    let mut bench = Bench::armed(robot(), drift(0.0));
    lie(&bench, 2, Lie { load: Some(-1000), ..Lie::default() });
    bench.run(300);
    assert!(bench.control.step().events.contains(Events::SLOWED));
    bench.control.command(&away()).unwrap();
    let fastest = fastest_sent(&mut bench, 100);
    assert!((0.45..0.55).contains(&fastest), "a fifth of 2.5 rad/s, found {fastest}");
    assert_eq!(bench.control.mode(), Mode::Holding);
}

#[test]
fn heat_warns_then_slows_then_stops() {
    let mut bench = Bench::armed(robot(), drift(0.0));
    let heat_to = |bench: &mut Bench, celsius: f64| {
        // No faster than a motor can: faster is a damaged reading.
        let mut at = f64::from(bench.control.step().temperature[2]);
        while at < celsius {
            at = celsius.min(at + 3.0);
            bench.emulator().servo(3).unwrap().heat(at);
            bench.run(3);
        }
        (bench.control.step().events, bench.control.mode())
    };
    let (events, _) = heat_to(&mut bench, 53.0);
    assert!(!events.contains(Events::WARM));
    let (events, mode) = heat_to(&mut bench, 57.0);
    assert!(events.contains(Events::WARM) && !events.contains(Events::SLOWED));
    assert_eq!(mode, Mode::Holding);
    let (events, mode) = heat_to(&mut bench, 62.0);
    assert!(events.contains(Events::SLOWED) && mode == Mode::Holding);
    bench.control.command(&away()).unwrap();
    let fastest = fastest_sent(&mut bench, 60);
    assert!((1.0..2.0).contains(&fastest), "slowed to about 0.64, found {fastest}");
    assert_eq!(heat_to(&mut bench, 67.0).1, Mode::Faulted(Fault::Overheat));
}

#[test]
fn a_supply_out_of_its_window_stops_the_loop_and_one_bad_reading_does_not() {
    for voltage in [39, 155] {
        let mut bench = Bench::armed(robot(), drift(0.0));
        lie(&bench, 1, Lie { voltage: Some(voltage), ..Lie::default() });
        bench.run(2);
        bench.line.lies.lock().unwrap().clear();
        bench.run(2);
        assert_eq!(bench.control.mode(), Mode::Holding, "two readings are no brown-out");
        lie(&bench, 1, Lie { voltage: Some(voltage), ..Lie::default() });
        assert_eq!(until_mode_changes(&mut bench, 10), 3);
        assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Voltage));
    }
}

// --- servos

/// The emulated arm, and the same with the servos of a Koch arm.
fn of_both_protocols() -> [RobotConfig; 2] {
    let text = include_str!("../firmware-config/emulated.toml");
    let koch = text
        .replace("\"feetech\"", "\"dynamixel\"")
        .replacen("\"sts3215\"", "\"xl430-w250\"", 2)
        .replace("\"sts3215\"", "\"xl330-m288\"");
    [robot(), RobotConfig::parse(&koch, Path::new("koch.toml")).unwrap()]
}

/// What a register of each servo holds.
fn registers(bench: &Bench, of: impl Fn(&'static Model) -> Register) -> Vec<i32> {
    let mut emulator = bench.emulator();
    let joints = bench.robot.joint.iter();
    joints.map(|j| emulator.servo(j.id).unwrap().get(&of(Model::of(j.servo)))).collect()
}

fn brown_out(bench: &Bench, ids: impl IntoIterator<Item = u8>) {
    let mut emulator = bench.emulator();
    ids.into_iter().for_each(|id| emulator.servo(id).unwrap().power_cycle());
}

#[test]
fn an_arm_whose_supply_broke_down_for_a_moment_is_a_fault_at_once_and_holds_again_when_armed() {
    for robot in of_both_protocols() {
        let mut bench = Bench::armed(robot, drift(0.0));
        // Among them the watchdog and the profile of a Dynamixel servo, which live in RAM.
        let in_ram = |bench: &Bench| {
            let names = ["Torque_Limit", "Acceleration", "Profile_Velocity", "Bus_Watchdog"];
            names.map(|name| registers(bench, |m| *m.register(name).unwrap_or(&m.torque)))
        };
        let before = in_ram(&bench);
        brown_out(&bench, 1..=6);
        assert_eq!(registers(&bench, |model| model.torque), [0; 6]);
        let ticks = until_mode_changes(&mut bench, 30);
        assert!(ticks <= 13, "after {ticks} ticks");
        assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Servo));
        bench.run(100);
        assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Servo), "it stays");
        bench.control.command(&Command::Arm).unwrap();
        bench.run(200);
        assert_eq!(bench.control.mode(), Mode::Holding);
        assert_eq!(registers(&bench, |model| model.torque), [1; 6]);
        assert_eq!(in_ram(&bench), before);
    }
}

#[test]
fn any_single_servo_that_restarted_is_found_within_a_round_of_them_all() {
    for robot in of_both_protocols() {
        for id in 1..=6 {
            let mut bench = Bench::armed(robot.clone(), drift(0.0));
            brown_out(&bench, [id]);
            let ticks = until_mode_changes(&mut bench, 100);
            assert!(ticks <= 6 * 8 + 5, "servo {id} after {ticks} ticks");
            assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Servo));
            let others = registers(&bench, |model| model.torque).iter().sum::<i32>();
            assert_eq!(others, 5, "the others hold on");
        }
    }
}

#[test]
fn a_feetech_servo_tells_its_current_while_it_holds_and_too_much_of_it_is_a_fault() {
    let limited = with(|robot| robot.joint[ROLL].tuning.max_current = Some(1.0));
    let mut bench = Bench::armed(limited, drift(0.0));
    bench.emulator().servo(5).unwrap().push(0.5);
    bench.run(60);
    // 2.7 A when it drives with all it has.
    let current = bench.control.step().current[ROLL].abs();
    assert!((current - 1.35).abs() < 0.1, "{current} A");
    let ticks = until_mode_changes(&mut bench, 300);
    assert!((140..=205).contains(&ticks), "after {ticks} ticks");
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Servo));
    bench.control.command(&Command::Disarm).unwrap();
    bench.run(2);
    assert!(bench.control.step().current.is_empty(), "nobody asks an arm that is off");
}

// --- stops

/// In fast motion, with these settings.
fn moving(change: impl FnOnce(&mut RobotConfig)) -> Bench {
    let mut bench = Bench::armed(with(change), drift(0.0));
    bench.control.command(&away()).unwrap();
    bench.run(15);
    assert!(fastest_sent(&mut bench, 1) > 1.0);
    bench.line.take();
    bench
}

#[test]
fn a_controlled_stop_slows_down_along_the_limits_and_holds() {
    let mut bench = moving(|_| ());
    let mut speed = fastest_sent(&mut bench, 1);
    bench.control.command(&Command::EmergencyStop).unwrap();
    for _ in 0..30 {
        let next = fastest_sent(&mut bench, 1);
        assert!(next < speed + 0.01, "goes faster: {speed} to {next}");
        assert!(speed - next <= 30.0 * 0.01 + 0.01, "brakes too hard: {speed} to {next}");
        speed = next;
    }
    assert!(speed < 1e-6 && bench.torque() == [1; 6]);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::EmergencyStop));
}

#[test]
fn a_hold_sends_each_joint_to_where_it_is_at_once() {
    let mut bench = moving(|r| r.safety.on_emergency = StopCategory::Hold);
    let here = bench.control.step().position.clone();
    bench.control.command(&Command::EmergencyStop).unwrap();
    bench.run(1);
    for (sent, here) in bench.control.step().sent.iter().zip(&here) {
        assert!((sent - here).abs() < 1e-4, "sent to {sent} from {here}");
    }
    assert_eq!(bench.torque(), [1; 6]);
}

#[test]
fn damping_brakes_every_servo_within_a_tick_and_sends_nothing_more() {
    let mut bench = moving(|r| r.safety.on_emergency = StopCategory::Damp);
    bench.control.command(&Command::EmergencyStop).unwrap();
    bench.run(1);
    assert_eq!(bench.torque(), [2; 6]);
    bench.line.take();
    bench.run(50);
    assert!(bench.line.take().iter().all(|packet| goal_positions(packet).is_empty()));
    bench.control.command(&Command::Arm).unwrap();
    let before = bench.positions();
    bench.run(50);
    assert_eq!((bench.torque(), bench.control.mode()), (vec![1; 6], Mode::Holding));
    assert!(bench.moved_since(&before) < DEGREE);
}

#[test]
fn parking_on_a_fault_goes_to_the_pose_before_torque_goes_off() {
    let mut bench = moving(|r| r.safety.on_fault = StopCategory::Park);
    for celsius in (27..=68).step_by(3) {
        bench.emulator().servo(3).unwrap().heat(f64::from(celsius));
        bench.run(2);
        if matches!(bench.control.mode(), Mode::Faulted(_)) {
            break;
        }
    }
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::Overheat));
    while bench.control.parking() {
        assert_eq!(bench.torque(), [1; 6], "dropped on the way");
        bench.run(1);
    }
    assert_eq!(
        (bench.torque(), bench.control.mode()),
        (vec![0; 6], Mode::Faulted(Fault::Overheat))
    );
    for (q, joint) in bench.positions().iter().zip(&bench.robot.joint) {
        assert!((q - joint.park_rad()).abs() < 0.07, "{}: dropped at {q}", joint.name);
    }
}

#[test]
fn an_arm_that_cannot_be_parked_is_held_and_never_dropped() {
    let mut bench = moving(|r| {
        r.safety.on_emergency = StopCategory::Park;
        r.safety.max_tracking_error = 0.5;
        r.safety.tracking_time_s = 60.0;
    });
    bench.control.command(&Command::EmergencyStop).unwrap();
    held_by_hand(&mut bench, 0.9, 1000);
    assert!(!bench.control.parking());
    assert_eq!(bench.torque(), [1; 6]);
    let written = bench.line.take();
    assert!(written.iter().all(|packet| torques(packet).is_empty()), "torque was touched");
}

#[test]
fn a_fault_without_a_known_position_neither_parks_nor_drops() {
    for category in [StopCategory::Hold, StopCategory::Park] {
        let mut bench = moving(|r| r.safety.on_fault = category);
        Line::set(&bench.line.silent, true);
        bench.run(100);
        assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BusSilent));
        assert!(!bench.control.parking() && bench.torque() == [1; 6]);
    }
}

#[test]
fn every_category_leaves_the_limits_on_the_wire_intact() {
    use StopCategory::{Controlled, Damp, Hold, Park};
    for category in [Hold, Controlled, Damp, Park] {
        let mut bench = moving(|r| r.safety.on_emergency = category);
        bench.control.command(&Command::EmergencyStop).unwrap();
        bench.run(300);
        for (joint, ticks) in bench.line.take().iter().flat_map(|packet| goal_positions(packet)) {
            let limits = regoal::hal::calibration::Calibration::new(&bench.robot.joint[joint]);
            assert!((limits.limits().0..=limits.limits().1).contains(&ticks), "{category:?}");
        }
    }
}

#[test]
fn a_normal_exit_parks_before_torque_goes_off_or_holds_as_configured() {
    let mut bench = moving(|_| ());
    bench.control.leave();
    let mut ticks = 0;
    while bench.control.parking() {
        assert_eq!(bench.torque(), [1; 6]);
        bench.run(1);
        ticks += 1;
    }
    assert!(ticks < 600, "{ticks}");
    assert_eq!((bench.torque(), bench.control.mode()), (vec![0; 6], Mode::Disarmed));
    let mut bench = moving(|r| r.safety.on_exit = Exit::Hold);
    bench.control.leave();
    assert!(!bench.control.parking());
    assert_eq!(bench.torque(), [1; 6]);
}

#[test]
fn an_arm_stopped_by_a_fault_is_left_holding_when_the_program_ends() {
    let mut bench = moving(|_| ());
    bench.control.command(&Command::EmergencyStop).unwrap();
    bench.run(20);
    bench.control.leave();
    assert!(!bench.control.parking());
    bench.run(5);
    assert_eq!(bench.torque(), [1; 6]);
}

#[test]
fn e_stop_works_from_every_mode_within_a_tick() {
    let prepare: [fn(&mut Bench); 6] = [
        |bench| bench.run(1),
        |bench| {
            bench.run(1);
            bench.control.command(&Command::Arm).unwrap();
        },
        |bench| {
            bench.run(1);
            bench.control.command(&Command::Arm).unwrap();
            bench.run(1);
            let goal = bench.goal([0.1, -0.2, 0.2]);
            bench.control.command(&Command::Reach(goal)).unwrap();
        },
        |bench| {
            bench.run(1);
            bench.control.command(&Command::Arm).unwrap();
            Line::set(&bench.line.silent, true);
            bench.run(20);
        },
        |bench| {
            bench.run(1);
            bench.control.command(&Command::Arm).unwrap();
            bench.control.command(&Command::Park).unwrap();
            bench.run(1);
        },
        |bench| {
            bench.run(1);
            bench.control.command(&Command::Arm).unwrap();
            Line::set(&bench.line.gone, true);
            bench.run(2);
        },
    ];
    for (i, prepare) in prepare.into_iter().enumerate() {
        let mut bench = Bench::new(robot(), drift(0.01));
        prepare(&mut bench);
        bench.control.command(&Command::EmergencyStop).unwrap();
        bench.run(1);
        assert_eq!(bench.control.mode(), Mode::Faulted(Fault::EmergencyStop), "case {i}");
        assert!(bench.control.step().action.is_empty(), "case {i}: steered after the stop");
    }
}

// --- starting

#[test]
fn an_armed_arm_sets_out_slowly() {
    let mut bench = Bench::new(robot(), drift(0.0));
    bench.run(1);
    bench.control.command(&Command::Arm).unwrap();
    bench.control.command(&away()).unwrap();
    let first = fastest_sent(&mut bench, 10);
    assert!(first <= 2.5 * (0.1 + 0.9 * 0.11) + 0.01, "{first}");
    assert!(fastest_sent(&mut bench, 40) > first);
}

#[test]
fn attaching_to_an_arm_that_holds_neither_moves_nor_drops_it() {
    let mut bench = Bench::armed(robot(), drift(0.0));
    bench.control.command(&away()).unwrap();
    bench.run(200);
    let Bench { robot, clock, emulator, .. } = bench;
    // Another program, on the same arm.
    let line = Arc::<Line>::default();
    let shared = Arc::new(clock.clone());
    let port = bench::Wire::new(
        regoal::hal::MemoryPort::new(emulator.clone(), shared.clone()),
        line.clone(),
    );
    let before = emulator.lock().unwrap().positions();
    let arm = regoal::hal::Arm::open(&robot, Box::new(port), shared.clone()).unwrap();
    let control = regoal::control::ControlLoop::new(&robot, arm, drift(0.0), None, shared).unwrap();
    let mut bench = Bench { robot, clock, control, emulator, line, tick: 0 };
    for command in [None, Some(Command::Arm)] {
        if let Some(command) = command {
            bench.control.command(&command).unwrap();
        }
        bench.run(100);
        assert!(bench.moved_since(&before) < DEGREE, "moved");
        assert_eq!(bench.torque(), [1; 6]);
    }
    let off =
        bench.line.take().iter().flat_map(|packet| torques(packet)).filter(|t| *t != 1).count();
    assert_eq!(off, 0, "torque was switched off in between");
}

#[test]
fn a_policy_that_begins_far_from_the_arm_is_refused_and_one_nearby_is_not() {
    let start = |by: f32| {
        let act = Act(ActionKind::JointPosition, move |o: &Observation| {
            o.position.iter().map(|q| q + by).collect::<JointVec<f32>>()
        });
        let mut bench = Bench::reaching(robot(), Box::new(Inline::new(Box::new(act))));
        let before = bench.positions();
        bench.run(3);
        (bench.control.mode(), bench.moved_since(&before))
    };
    let (mode, moved) = start(1.2);
    assert!(mode == Mode::Faulted(Fault::BadAction) && moved < DEGREE, "{mode:?} {moved}");
    assert_eq!(start(0.2).0, Mode::Reaching);
}

// --- the port

#[test]
fn a_port_lost_and_found_again_moves_nothing_until_the_operator_arms() {
    let mut bench = moving(|_| ());
    Line::set(&bench.line.gone, true);
    assert_eq!(until_mode_changes(&mut bench, 3), 1, "detected in the same tick");
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::PortLost));
    bench.run(100);
    // Without a host the servos have gone where they were sent last.
    let now = bench.clock.now();
    bench.emulator().advance(now);
    let before = bench.positions();
    Line::set(&bench.line.gone, false);
    bench.run(100);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::PortLost), "a fault stays");
    assert!(bench.moved_since(&before) < DEGREE && bench.torque() == [1; 6]);
    bench.control.command(&Command::Arm).unwrap();
    bench.run(50);
    assert_eq!(bench.control.mode(), Mode::Holding);
    assert!(bench.moved_since(&before) < DEGREE);
    bench.control.command(&away()).unwrap();
    bench.run(250);
    for (q, to) in bench.control.step().position.iter().zip(AWAY) {
        assert!((f64::from(*q) - to).abs() < 0.02);
    }
}

#[test]
fn a_disarmed_arm_is_found_again_too() {
    let mut bench = Bench::new(robot(), drift(0.0));
    bench.run(3);
    Line::set(&bench.line.gone, true);
    bench.run(20);
    assert_eq!(bench.control.mode(), Mode::Disarmed, "what cannot move is no fault");
    assert_eq!(bench.control.command(&Command::Arm), Err(Refusal::StateUnknown));
    Line::set(&bench.line.gone, false);
    bench.run(3);
    bench.control.command(&Command::Arm).unwrap();
    bench.run(3);
    assert_eq!(bench.control.mode(), Mode::Holding);
}

// --- the policy

/// A pilot that answers what it is told to and counts how often it was demoted.
struct Told<F>(F, Arc<AtomicU32>);

impl<F: FnMut(&Observation) -> Option<Decision> + Send> Pilot for Told<F> {
    fn exchange(&mut self, observation: &Observation, _deadline: Time) -> Option<Decision> {
        (self.0)(observation)
    }
    fn demote(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn answer(o: &Observation, x: f32) -> Decision {
    let (tick, episode, action) = (o.tick, o.episode, stack([x; 6]));
    Decision { tick, episode, action, kind: ActionKind::JointDelta, ..Decision::default() }
}

#[test]
fn a_policy_that_fails_three_times_in_a_row_is_held_each_time_then_demoted() {
    let demoted = Arc::<AtomicU32>::default();
    let mut answers = 0;
    let pilot = Told(
        move |o: &Observation| {
            answers += 1;
            // Two failures are forgotten after a sound answer.
            Some(answer(o, if answers % 3 == 0 && answers < 30 { 0.001 } else { f32::NAN }))
        },
        demoted.clone(),
    );
    let mut bench = Bench::reaching(robot(), Box::new(pilot));
    bench.run(29);
    assert_eq!((bench.control.mode(), demoted.load(Ordering::Relaxed)), (Mode::Reaching, 0));
    assert_eq!(bench.control.counters().refused_actions, 20);
    bench.run(1);
    let step = bench.control.step();
    assert!(step.events.contains(Events::ACTION_REFUSED) && step.action.is_empty());
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::BadAction));
    assert_eq!(demoted.load(Ordering::Relaxed), 1);
}

#[test]
fn a_policy_that_falls_silent_is_held_soon_then_a_fault_and_demoted() {
    let demoted = Arc::<AtomicU32>::default();
    let mut last: Option<Decision> = None;
    let pilot = Told(
        move |o: &Observation| {
            if last.as_ref().is_none_or(|d| d.episode != o.episode || o.tick < d.episode + 20) {
                last = Some(answer(o, 0.002));
            }
            last.clone()
        },
        demoted.clone(),
    );
    let mut bench = Bench::reaching(robot(), Box::new(pilot));
    bench.run(20);
    bench.run(3);
    assert!(!bench.control.step().action.is_empty(), "three ticks old may still be used");
    bench.run(1);
    assert!(bench.control.step().action.is_empty(), "four may not");
    assert_eq!(until_mode_changes(&mut bench, 60), 50);
    assert_eq!(bench.control.mode(), Mode::Faulted(Fault::PolicyLate));
    assert_eq!(demoted.load(Ordering::Relaxed), 1);
}

// --- goals

#[test]
fn a_stream_moves_its_goal_and_ends_when_it_dries_up() {
    let mut bench = Bench::armed(robot(), drift(0.001));
    let mut request = bench.goal([0.1, -0.2, 0.2]);
    request.timeout = Duration::from_secs(60);
    request.stream = Some(Duration::from_millis(500));
    bench.control.command(&Command::Reach(request)).unwrap();
    for sequence in 1..=20 {
        let goal = stack([0.1, -0.2, 0.2 + 0.001 * sequence as f32]);
        bench.control.command(&Command::Follow(GoalUpdate { id: 1, sequence, goal })).unwrap();
        bench.run(10);
        assert_eq!(bench.control.step().desired_goal[2], 0.2 + 0.001 * sequence as f32);
    }
    let silent = bench.clock.now();
    let result = bench.until_ended();
    assert_eq!((result.ending, bench.control.mode()), (Ending::StreamEnded, Mode::Holding));
    let waited = bench.clock.now().since(silent).as_millis();
    assert!(
        (400..=420).contains(&waited),
        "500 ms after the last update, 100 of them before: {waited}"
    );
}
