//! S6: the program ends, or the bus is deaf for a while, at every step of opening an arm, holding it
//! and letting it go.

use regoal::config::Protocol;
use regoal::hal::{Arm, ArmError};

use crate::rig::{JOINTS, PROTOCOLS, Rig, Site, robot};
use crate::{Failures, seed};

const DEGREE: f64 = std::f64::consts::TAU / 360.0;
/// Requests that are lost in a row: the first does not even need a second try of most.
const DEAF: [u64; 4] = [1, 3, 9, 60];

/// What became of a program that opens, holds and lets go.
#[derive(Debug)]
enum Outcome {
    Opening(ArmError),
    Holding(ArmError),
    LettingGo(ArmError),
    Done,
}

/// The arm stays open as long as the outcome is looked at.
fn live(site: &Site) -> (Outcome, Option<Arm>) {
    let mut arm = match site.open() {
        Ok(arm) => arm,
        Err(error) => return (Outcome::Opening(error), None),
    };
    let outcome = match arm.torque(true) {
        Err(error) => Outcome::Holding(error),
        Ok(()) => match arm.torque(false) {
            Err(error) => Outcome::LettingGo(error),
            Ok(()) => Outcome::Done,
        },
    };
    (outcome, Some(arm))
}

/// All requests of a whole life.
fn steps(protocol: Protocol) -> u64 {
    let site = Site::new(robot(protocol), seed());
    assert!(matches!(live(&site).0, Outcome::Done));
    site.wire().writes
}

/// An arm away from home, with goals of somebody else in its servos.
fn site(protocol: Protocol) -> Site {
    let site = Site::new(robot(protocol), seed());
    for joint in &site.robot.joint {
        let mut emulator = site.emulator.lock().unwrap();
        let servo = emulator.servo(joint.id).unwrap();
        servo.place(joint.home_rad + 0.3);
        let goal = &regoal::hal::servo::Model::of(joint.servo).goal;
        servo.set(goal, 2048);
    }
    site
}

/// The furthest that an energised servo is from its goal (rad).
fn pull(site: &Site) -> f64 {
    let holding = site.leads().into_iter().zip(site.torque()).filter(|(_, torque)| *torque != 0);
    holding.map(|(lead, _)| lead).fold(0.0, f64::max)
}

/// The program is killed before its `step`th request; then another one is started.
fn killed(protocol: Protocol, step: u64, failures: &mut Failures) -> bool {
    let name = || format!("{protocol:?} killed before request {step}");
    let site = site(protocol);
    let before = site.positions();
    site.wire().cut = Some(step);
    let (outcome, _) = live(&site);
    failures.unless(!matches!(outcome, Outcome::Done), || format!("{}: no message", name()));
    let energised = site.torque().iter().any(|torque| *torque != 0);
    site.clock.advance(std::time::Duration::from_millis(50));
    failures.unless(pull(&site) < DEGREE, || format!("{}: pulls {} rad", name(), pull(&site)));
    site.clock.advance(std::time::Duration::from_secs(2));
    let moved =
        site.positions().iter().zip(&before).map(|(q, p)| (q - p).abs()).fold(0.0, f64::max);
    failures.unless(moved < DEGREE, || format!("{}: moved by {moved} rad", name()));
    site.wire().cut = None;
    let (outcome, _) = live(&site);
    let again = matches!(outcome, Outcome::Done) && site.torque() == [0; JOINTS];
    failures.unless(again, || format!("{}: then {outcome:?}, {:?}", name(), site.torque()));
    energised
}

/// Nobody hears `count` requests from the `step`th on.
fn deaf(protocol: Protocol, step: u64, count: u64, failures: &mut Failures) -> Option<ArmError> {
    let name = || format!("{protocol:?} deaf to {count} from request {step}");
    let site = site(protocol);
    site.wire().deaf = step..step + count;
    let (outcome, _) = live(&site);
    let torque = site.torque();
    failures.unless(pull(&site) < DEGREE, || format!("{}: pulls {} rad", name(), pull(&site)));
    let (error, off) = match outcome {
        Outcome::Done => (None, torque == [0; JOINTS]),
        Outcome::Opening(error) => (Some(error), torque == [0; JOINTS]),
        Outcome::Holding(error) | Outcome::LettingGo(error) => {
            // Whoever may still hold is named.
            let named = |id: u8| matches!(&error, ArmError::TorqueOn { ids } if ids.contains(&id));
            let mut servos = site.robot.joint.iter().zip(&torque);
            let off = servos.all(|(joint, torque)| *torque == 0 || named(joint.id));
            (Some(error), off)
        }
    };
    failures.unless(off, || format!("{}: left holding {torque:?} with {error:?}", name()));
    error
}

/// What a control loop sends first is where the arm is.
fn first_command(protocol: Protocol, failures: &mut Failures) -> f64 {
    let mut rig = Rig::new(robot(protocol), seed());
    rig.swing = 0.0;
    rig.run(3);
    rig.arm();
    rig.tick();
    let lead = rig.site.leads().into_iter().fold(0.0, f64::max);
    failures.unless(lead < DEGREE, || format!("{protocol:?}: the first command is {lead} rad off"));
    lead
}

#[test]
fn s6_a_program_that_ends_anywhere_leaves_no_arm_that_moves_or_holds_unannounced() {
    let (mut runs, mut failures) = (0, Failures::default());
    let (mut left_holding, mut refused, mut lead) = (0u64, 0u64, 0.0f64);
    for protocol in PROTOCOLS {
        lead = lead.max(first_command(protocol, &mut failures));
        for step in 0..steps(protocol) {
            runs += 1 + DEAF.len() as u64;
            left_holding += u64::from(killed(protocol, step, &mut failures));
            for count in DEAF {
                refused += u64::from(deaf(protocol, step, count, &mut failures).is_some());
            }
        }
    }
    let figures = serde_json::json!({
        "killed_while_holding": left_holding, "ended_with_a_message": refused,
        "first_command_off_deg": lead / DEGREE,
    });
    failures.report("S6", runs, figures);
}
