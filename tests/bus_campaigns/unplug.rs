//! S5: the cable is pulled at every phase of a tick, and put back.

use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::Clock as _;
use regoal::episode::{Fault, Mode};

use crate::bench::number;
use crate::rig::{PROTOCOLS, Rig, robot};
use crate::{Failures, rng, seed};

/// Parts of a tick in which the cable is pulled.
const PHASES: u64 = 50;
const DEGREE: f64 = std::f64::consts::TAU / 360.0;

/// The furthest that a joint is from where it was (rad).
fn furthest(rig: &Rig, from: &[f64]) -> f64 {
    rig.site.positions().iter().zip(from).map(|(q, p)| (q - p).abs()).fold(0.0, f64::max)
}

#[test]
fn s5_an_unplugged_arm_is_noticed_and_moves_no_more_until_an_operator_arms_it() {
    let runs = number("REGOAL_CASES", 100);
    let (mut failures, mut slowest, mut furthest_moved) = (Failures::default(), 0, 0.0f64);
    for (protocol, run) in PROTOCOLS.into_iter().flat_map(|p| (0..runs).map(move |run| (p, run))) {
        let mut rng = rng(run);
        let mut rig = Rig::swinging(robot(protocol), seed() + run);
        rig.run(rng.random_range(0..100));
        let period = rig.site.robot.period();
        let away = Duration::from_secs_f64(10f64.powf(rng.random_range(-2.0..=1.0)));
        let from = rig.site.clock.now() + period * (run % PHASES) as u32 / PHASES as u32;
        let until = from + away;
        rig.site.wire().gone = Some((from, until));
        let name = format!("{protocol:?} run {run}, away {away:?}");
        let noticed = (1..=4).find(|_| {
            rig.tick();
            rig.control.mode() == Mode::Faulted(Fault::PortLost)
        });
        let noticed = noticed.unwrap_or(u64::MAX);
        slowest = slowest.max(noticed);
        failures.unless(noticed <= 3, || format!("{name}: noticed after {noticed} ticks"));
        // The servos have lost their power with the cable.
        let dark = rng.random_bool(0.3);
        while rig.site.clock.now() < until {
            rig.tick();
        }
        let mut before = rig.site.positions();
        if dark {
            rig.site.emulator.lock().unwrap().power_cycle();
        }
        rig.run(60);
        // What was in motion when it was pulled has come to rest, at the latest by now: from there on
        // nothing may move it. Without power it may have sunk.
        if dark || away < Duration::from_secs(1) {
            before = rig.site.positions();
        }
        rig.run(100);
        failures.unless(rig.faulted(), || format!("{name}: the fault went by itself"));
        rig.arm();
        rig.swing = 0.0;
        let leads = rig.site.leads().into_iter().fold(0.0, f64::max);
        failures.unless(leads < DEGREE, || format!("{name}: armed with goals {leads} rad off"));
        rig.run(100);
        let moved = furthest(&rig, &before);
        furthest_moved = furthest_moved.max(moved);
        failures.unless(moved < DEGREE, || format!("{name}: moved by {moved} rad, dark {dark}"));
        let holds = rig.control.mode() == Mode::Holding && rig.site.torque() == [1; 6];
        failures
            .unless(holds, || format!("{name}: {:?} {:?}", rig.control.mode(), rig.site.torque()));
    }
    let figures = serde_json::json!({
        "slowest_detection_ticks": slowest, "furthest_moved_deg": furthest_moved / DEGREE,
    });
    failures.report("S5", 2 * runs, figures);
}
