//! One joint's motion under limits of acceleration and jerk, in closed form.

/// Limits of one joint's motion. All positive, SI units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limits {
    /// Lowest and highest position (rad).
    pub(super) min: f64,
    pub(super) max: f64,
    /// rad/s.
    pub(super) velocity: f64,
    /// rad/s².
    pub(super) acceleration: f64,
    /// rad/s³.
    pub(super) jerk: f64,
}

/// Position, velocity and acceleration at one instant (rad, s).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Motion {
    pub(super) q: f64,
    pub(super) v: f64,
    pub(super) a: f64,
}

impl Motion {
    pub(super) fn at_rest(q: f64) -> Self {
        Self { q, v: 0.0, a: 0.0 }
    }

    fn after(self, jerk: f64, t: f64) -> Self {
        Self {
            q: self.q + t * (self.v + t * (self.a / 2.0 + t * jerk / 6.0)),
            v: self.v + t * (self.a + t * jerk / 2.0),
            a: self.a + t * jerk,
        }
    }

    /// The velocity that is left when the acceleration is taken away as fast as allowed.
    pub(super) fn coasting(self, limits: &Limits) -> f64 {
        self.v + self.a * self.a.abs() / (2.0 * limits.jerk)
    }
}

/// The fastest change to a constant velocity: three phases of constant jerk, the second without any.
#[derive(Debug, Clone, Copy)]
pub(super) struct Approach {
    /// Jerk and duration.
    phases: [(f64, f64); 3],
    velocity: f64,
}

impl Approach {
    /// From a motion to `velocity`, acceleration and jerk at their limits.
    pub(super) fn new(from: Motion, velocity: f64, limits: &Limits) -> Self {
        let Limits { acceleration: most, jerk, .. } = *limits;
        let up = if velocity >= from.coasting(limits) { 1.0 } else { -1.0 };
        let (change, a) = (up * (velocity - from.v), up * from.a);
        // The velocity won by going from a up to the peak p and down to 0: (2 p² - a²) / 2 jerk.
        let peak = (jerk * change + a * a / 2.0).max(0.0).sqrt();
        let (peak, hold) = if peak > most {
            (most, (change - (2.0 * most * most - a * a) / (2.0 * jerk)) / most)
        } else {
            (peak, 0.0)
        };
        let phases = [(up * jerk, (peak - a) / jerk), (0.0, hold), (-up * jerk, peak / jerk)];
        Self { phases: phases.map(|(jerk, t)| (jerk, t.max(0.0))), velocity }
    }

    /// Where it leads from `from` within `t` seconds.
    pub(super) fn follow(&self, from: Motion, mut t: f64) -> Motion {
        let mut motion = from;
        for (jerk, duration) in self.phases {
            if t < duration {
                return motion.after(jerk, t);
            }
            motion = motion.after(jerk, duration);
            t -= duration;
        }
        // Rounding has left nearly no acceleration: end it.
        Motion { q: motion.q + self.velocity * t, v: self.velocity, a: 0.0 }
    }
}

/// What a joint runs through while it stops as fast as it can (rad).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stop {
    pub(super) lowest: f64,
    pub(super) highest: f64,
    pub(super) end: f64,
}

impl Stop {
    /// Stopping from a motion.
    pub(super) fn of(from: Motion, limits: &Limits) -> Self {
        let mut stop = Self { lowest: from.q, highest: from.q, end: from.q };
        let mut motion = from;
        for (jerk, duration) in Approach::new(from, 0.0, limits).phases {
            // The turning points: v + a t + jerk t²/2 = 0.
            for t in roots(jerk / 2.0, motion.a, motion.v) {
                if 0.0 < t && t < duration {
                    stop.pass(motion.after(jerk, t).q);
                }
            }
            motion = motion.after(jerk, duration);
            stop.pass(motion.q);
        }
        Self { end: motion.q, ..stop }
    }

    fn pass(&mut self, q: f64) {
        self.lowest = self.lowest.min(q);
        self.highest = self.highest.max(q);
    }
}

/// The real roots of `a x² + b x + c`; NaN for those there are not.
fn roots(a: f64, b: f64, c: f64) -> [f64; 2] {
    // Without the cancellation of the schoolbook's formula.
    let half = -0.5 * (b + (b * b - 4.0 * a * c).sqrt().copysign(b));
    [half / a, c / half]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits =
        Limits { min: -1.0, max: 1.5, velocity: 2.0, acceleration: 20.0, jerk: 900.0 };

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Against the definition: small steps of the motion's own equations.
        #[test]
        fn an_approach_keeps_its_limits_and_ends_at_its_velocity(
            v in -2.0..2.0f64, a in -20.0..20.0f64, to in -2.0..2.0f64,
        ) {
            let from = Motion { q: 0.3, v, a };
            let approach = Approach::new(from, to, &LIMITS);
            let total: f64 = approach.phases.iter().map(|(_, t)| t).sum();
            let (mut before, n) = (from, 400);
            for i in 1..=n {
                let now = approach.follow(from, total * f64::from(i) / f64::from(n));
                let dt = total / f64::from(n);
                prop_assert!(now.a.abs() <= LIMITS.acceleration + 1e-9);
                prop_assert!((now.a - before.a).abs() <= LIMITS.jerk * dt + 1e-9);
                prop_assert!((now.v - before.v).abs() <= LIMITS.acceleration * dt + 1e-9);
                let slow = dt * (before.v + now.v) / 2.0;
                prop_assert!((now.q - before.q - slow).abs() <= LIMITS.jerk * dt.powi(3) + 1e-9);
                before = now;
            }
            prop_assert!((before.v - to).abs() < 1e-9 && before.a.abs() < 1e-6, "{before:?}");
        }

        #[test]
        fn a_stop_is_what_following_it_runs_through(v in -2.0..2.0f64, a in -20.0..20.0f64) {
            let from = Motion { q: 0.3, v, a };
            let (stop, approach) = (Stop::of(from, &LIMITS), Approach::new(from, 0.0, &LIMITS));
            let path = (0..=2000).map(|i| approach.follow(from, f64::from(i) * 5e-4).q);
            let (low, high) = path.fold((f64::MAX, f64::MIN), |(l, h), q| (l.min(q), h.max(q)));
            prop_assert!((stop.lowest - low).abs() < 1e-5 && stop.lowest <= low + 1e-12);
            prop_assert!((stop.highest - high).abs() < 1e-5 && stop.highest >= high - 1e-12);
            prop_assert!((stop.end - approach.follow(from, 1.0).q).abs() < 1e-9);
        }

        /// What remains of the fastest stop is the fastest stop of what remains: so whoever keeps a
        /// stop inside the limits can keep one from then on.
        #[test]
        fn the_rest_of_a_stop_is_a_stop(
            v in -2.0..2.0f64, a in -20.0..20.0f64, t in 0.0..0.2f64,
        ) {
            let from = Motion { q: 0.3, v, a };
            let later = Approach::new(from, 0.0, &LIMITS).follow(from, t);
            let (first, rest) = (Stop::of(from, &LIMITS), Stop::of(later, &LIMITS));
            prop_assert!((first.end - rest.end).abs() < 1e-8, "{first:?} {rest:?}");
            prop_assert!(rest.highest <= first.highest + 1e-8);
            prop_assert!(rest.lowest >= first.lowest - 1e-8);
        }
    }
}
