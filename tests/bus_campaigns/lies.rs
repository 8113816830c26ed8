//! S4: valid packets with values that are not true.

use rand::RngExt as _;
use regoal::hal::fault::{Fault, FaultSpec, Kind};
use regoal::hal::servo::TICKS_PER_TURN;

use crate::bench::number;
use crate::rig::{JOINTS, PROTOCOLS, Rig, robot};
use crate::{Failures, rng, seed};

/// What a servo says instead of its position.
#[derive(Debug, Clone, Copy)]
enum Lie {
    Stuck,
    /// A turn more or less.
    Wrapped(i32),
    /// Ticks.
    Offset(i32),
    Mirrored,
    /// Two servos answer for each other.
    Swapped,
}

impl Lie {
    const ALL: [Self; 10] = [
        Self::Stuck,
        Self::Wrapped(TICKS_PER_TURN),
        Self::Wrapped(-TICKS_PER_TURN),
        Self::Offset(20),
        Self::Offset(-60),
        Self::Offset(200),
        Self::Offset(-800),
        Self::Offset(2048),
        Self::Mirrored,
        Self::Swapped,
    ];

    /// Makes servo `id` lie from now on.
    fn begin(self, rig: &Rig, id: u8) {
        let fault = |kind| Fault { id: Some(id), ..Fault::new(kind) };
        let fault = match self {
            Self::Stuck => fault(Kind::Stuck),
            Self::Wrapped(ticks) | Self::Offset(ticks) => {
                Fault { ticks: Some(ticks), ..fault(Kind::Offset) }
            }
            Self::Mirrored => fault(Kind::Mirror),
            Self::Swapped => return swap(rig, id, id % JOINTS as u8 + 1),
        };
        rig.site.inject(&FaultSpec { fault: vec![fault] });
    }
}

/// Gives two servos each other's id.
fn swap(rig: &Rig, one: u8, other: u8) {
    let register = &regoal::hal::servo::Model::of(rig.site.robot.joint[0].servo).id;
    let mut emulator = rig.site.emulator.lock().unwrap();
    for (from, to) in [(one, 200), (other, one), (200, other)] {
        emulator.servo(from).unwrap().set(register, i32::from(to));
    }
}

#[test]
fn s4_a_lie_is_noticed_within_three_ticks_or_stays_inside_the_limits() {
    let seeds = number("REGOAL_CASES", 20);
    let (mut runs, mut failures) = (0, Failures::default());
    let (mut soon, mut later, mut bounded, mut without) = (0u64, 0u64, 0u64, 0u64);
    let (mut fastest, mut beyond) = (0.0f64, 0.0f64);
    let cases = PROTOCOLS.into_iter().flat_map(|p| Lie::ALL.map(|lie| (p, lie)));
    for (protocol, lie) in cases {
        for (id, case) in (1..=JOINTS as u8).flat_map(|id| (0..seeds).map(move |case| (id, case))) {
            runs += 1;
            let mut rng = rng(case);
            let mut rig = Rig::swinging(robot(protocol), seed() + case);
            rig.run(rng.random_range(0..100));
            lie.begin(&rig, id);
            let mut noticed = None;
            // A servo of one turn says the same a turn later: then there is no lie.
            let mut truthful = true;
            let mut before = rig.site.positions();
            for tick in 1..=150 {
                let look = rig.tick();
                let name = || format!("{protocol:?} {lie:?} servo {id} case {case} tick {tick}");
                truthful &= look.age == 0 && look.wrong == 0;
                failures.unless(look.out_of_limits == 0, || format!("goals: {}", name()));
                if rig.faulted() {
                    noticed.get_or_insert(tick);
                }
                let now = rig.site.positions();
                for ((joint, q), p) in rig.site.robot.joint.iter().zip(&now).zip(&before) {
                    let speed = (q - p).abs() / rig.site.robot.period().as_secs_f64();
                    let outside = (joint.min_rad - q).max(q - joint.max_rad);
                    fastest = fastest.max(speed / joint.max_velocity);
                    beyond = beyond.max(outside);
                    failures.unless(speed <= 1.2 * joint.max_velocity, || {
                        format!("{speed} rad/s: {}", name())
                    });
                    failures.unless(outside < 0.02, || format!("{q} rad: {}", name()));
                }
                before = now;
            }
            match noticed {
                Some(..=3) => soon += 1,
                Some(_) => later += 1,
                None if truthful => without += 1,
                None => bounded += 1,
            }
            // A whole turn can be nothing but a lie.
            let turn = matches!(lie, Lie::Wrapped(_));
            failures.unless(!turn || truthful || noticed.is_some_and(|tick| tick <= 3), || {
                format!("{protocol:?} servo {id} case {case}: a turn noticed after {noticed:?}")
            });
        }
    }
    let figures = serde_json::json!({
        "noticed_within_3_ticks": soon, "noticed_later": later, "inside_the_limits_throughout": bounded,
        "without_effect": without, "fastest_of_limit": fastest, "furthest_beyond_limits_rad": beyond.max(0.0),
    });
    failures.report("S4", runs, figures);
}
