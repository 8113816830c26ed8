//! The gate's bounds as properties; millions of cases are in the campaign C2.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits =
    Limits { min: -1.0, max: 1.5, velocity: 2.0, acceleration: 20.0, jerk: 1000.0 };
const DT: f64 = 0.01;
const FREE: Bounds<'_> = Bounds { measured: &[], speed: 1.0 };

fn gate() -> SafetyGate {
    SafetyGate {
        limits: [LIMITS].into_iter().collect(),
        dt: DT,
        lead: 0.5,
        motions: [Motion::default()].into_iter().collect(),
        sent: [0.0].into_iter().collect(),
    }
}

fn wish() -> impl Strategy<Value = Wish> {
    let number = prop_oneof![
        4 => -10.0..10.0f64,
        1 => prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(-f64::INFINITY), Just(1e38), Just(5e-324)],
    ];
    prop_oneof![
        Just(Wish::Hold),
        number.clone().prop_map(Wish::Position),
        number.prop_map(Wish::Velocity)
    ]
}

/// A gate in any motion that wishes can bring it into.
fn moving() -> impl Strategy<Value = SafetyGate> {
    (-1.0..1.5f64, prop::collection::vec(wish(), 0..40)).prop_map(|(start, wishes)| {
        let mut gate = gate();
        gate.start(&[start]);
        for wish in wishes {
            gate.step(&[wish], FREE);
        }
        gate
    })
}

fn sent(gate: &SafetyGate, wish: Wish) -> f64 {
    gate.clone().step(&[wish], FREE).0[0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_wishes_keep_all_limits(
        start in -1.0..1.5f64,
        wishes in prop::collection::vec((wish(), 0.0..1.2f64), 1..150),
    ) {
        let mut gate = gate();
        gate.start(&[start]);
        let (mut q, mut v, mut a) = (start, 0.0, 0.0);
        for (wish, speed) in wishes {
            let next = gate.step(&[wish], Bounds { speed, ..FREE }).0[0];
            prop_assert!((LIMITS.min..=LIMITS.max).contains(&next), "{next}");
            let velocity = (next - q) / DT;
            let acceleration = (velocity - v) / DT;
            let jerk = (acceleration - a) / DT;
            prop_assert!(velocity.abs() <= LIMITS.velocity + 1e-9, "velocity {velocity}");
            prop_assert!(acceleration.abs() <= LIMITS.acceleration + 1e-7, "{acceleration}");
            prop_assert!(jerk.abs() <= LIMITS.jerk + 1e-4, "jerk {jerk}");
            (q, v, a) = (next, velocity, acceleration);
        }
        for _ in 0..40 {
            gate.step(&[Wish::Hold], FREE);
        }
        prop_assert!(gate.at_rest(), "from anywhere the arm stops within 0.4 s");
    }

    /// Idempotent: what the gate made of a wish passes it as it is.
    #[test]
    fn what_passed_the_gate_passes_it_unchanged(gate in moving(), v in -2.0..2.0f64) {
        let (stop, from) = (Stop::of(gate.motions[0], &LIMITS), gate.motions[0]);
        let allowed = |v| LIMITS.allowed(from, &stop, LIMITS.aim(Wish::Velocity(v), &stop, 1.0), DT);
        let once = allowed(v);
        prop_assert!((v.min(0.0)..=v.max(0.0)).contains(&once));
        prop_assert_eq!(allowed(once), once);
        prop_assert_eq!(sent(&gate, Wish::Velocity(once)), sent(&gate, Wish::Velocity(v)));
    }

    #[test]
    fn a_faster_wish_never_sends_a_joint_less_far(gate in moving()) {
        let speeds = (-200..=200).map(|i| 0.015 * f64::from(i));
        let sent: Vec<f64> = speeds.map(|v| sent(&gate, Wish::Velocity(v))).collect();
        prop_assert!(sent.is_sorted_by(|a, b| *a <= *b + 1e-9), "{sent:?}");
    }

    #[test]
    fn what_is_sent_is_continuous_in_the_wish(gate in moving(), v in -2.5..2.5f64) {
        // Of the root of a difference in the wish, as a change of speed needs the root of itself.
        for difference in [1e-2, 1e-4, 1e-6, 1e-8f64] {
            let moved = sent(&gate, Wish::Velocity(v + difference)) - sent(&gate, Wish::Velocity(v));
            prop_assert!(moved.abs() <= DT * difference.sqrt() + 1e-10, "{difference}: {moved}");
        }
    }

    #[test]
    fn a_position_inside_the_limits_is_reached_without_passing_it(
        start in -1.0..1.5f64, to in -1.0..1.5f64,
    ) {
        let mut gate = gate();
        gate.start(&[start]);
        for _ in 0..250 {
            let q = gate.step(&[Wish::Position(to)], FREE).0[0];
            prop_assert!((start.min(to) - 1e-9..=start.max(to) + 1e-9).contains(&q), "{q}");
        }
        prop_assert!((gate.sent()[0] - to).abs() < 1e-6 && gate.at_rest());
    }
}

#[test]
fn a_joint_that_starts_outside_its_limits_only_comes_inward() {
    let mut gate = gate();
    gate.start(&[1.7]);
    assert_eq!(gate.step(&[Wish::Velocity(1.0)], FREE).0[0], 1.7);
    for _ in 0..80 {
        gate.step(&[Wish::Position(0.0)], FREE);
    }
    assert!(gate.sent()[0] < 1.5);
}

#[test]
fn a_non_finite_wish_holds_in_the_same_tick_and_is_reported() {
    let mut gate = gate();
    for wish in [Wish::Velocity(f64::NAN), Wish::Position(f64::INFINITY)] {
        let (sent, changed) = gate.step(&[wish], FREE);
        assert_eq!((sent[0], changed), (0.0, true));
    }
}

#[test]
fn what_is_sent_leads_what_is_measured_by_no_more_than_allowed() {
    let mut gate = gate();
    for _ in 0..200 {
        gate.step(&[Wish::Velocity(2.0)], Bounds { measured: &[0.1], speed: 1.0 });
        assert!(gate.sent()[0] <= 0.6 + 1e-9, "{:?}", gate.sent());
    }
    assert!(gate.sent()[0] > 0.59);
    // Whoever is ahead may come back.
    gate.step(&[Wish::Velocity(-2.0)], Bounds { measured: &[-0.5], speed: 1.0 });
    for _ in 0..20 {
        gate.step(&[Wish::Velocity(-2.0)], Bounds { measured: &[-0.5], speed: 1.0 });
    }
    assert!(gate.sent()[0] < 0.5);
}

#[test]
fn a_slowed_joint_moves_at_the_share_of_its_speed() {
    let mut gate = gate();
    gate.start(&[-1.0]);
    for _ in 0..30 {
        gate.step(&[Wish::Position(1.5)], Bounds { speed: 0.25, ..FREE });
    }
    assert!((gate.motions[0].v - 0.5).abs() < 1e-9, "{:?}", gate.motions);
    gate.step(&[Wish::Position(1.5)], Bounds { speed: f64::NAN, ..FREE });
    assert!(gate.motions[0].v < 0.5, "an unknown share is none");
}
