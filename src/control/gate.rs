//! The safety gate: whatever is wished for, what is sent is finite and inside the position, speed and
//! acceleration limits of each joint.

use crate::config::{JointConfig, RobotConfig};
use crate::joints::JointVec;

/// What one joint is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wish {
    /// Come to rest and stay.
    Hold,
    /// Go to this position and stop there (rad).
    Position(f64),
    /// Move on at this speed (rad/s).
    Velocity(f64),
}

/// One joint's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limits {
    min: f64,
    max: f64,
    velocity: f64,
    acceleration: f64,
}

/// Turns wishes into positions that may be sent, one call per tick.
///
/// With the position sent last `q`, its speed `v` and the tick's length `dt`, the next position
/// `q + v' dt` keeps these bounds, by construction and whatever the wish is:
/// `min <= q + v' dt <= max`, `|v'| <= velocity`, `|v' - v| <= acceleration dt`.
/// The first two hold always; the third can only give way to them when the joint was already outside
/// its limits or faster than allowed at the start.
#[derive(Debug, Clone)]
pub struct SafetyGate {
    limits: JointVec<Limits>,
    dt: f64,
    position: JointVec<f64>,
    velocity: JointVec<f64>,
}

impl SafetyGate {
    /// The gate of one arm; [`start`](Self::start) it before the first call.
    pub fn new(config: &RobotConfig) -> Self {
        let limits: JointVec<Limits> = config.joint.iter().map(Limits::of).collect();
        let zeros: JointVec<f64> = limits.iter().map(|_| 0.0).collect();
        Self { dt: config.period().as_secs_f64(), position: zeros.clone(), velocity: zeros, limits }
    }

    /// Starts from where the arm is: the first position sent is the measured one, at rest. A joint
    /// measured outside its limits stays where it is until it is moved inward.
    pub fn start(&mut self, measured: &[f64]) {
        for ((position, velocity), q) in
            self.position.iter_mut().zip(&mut self.velocity).zip(measured)
        {
            if q.is_finite() {
                *position = *q;
            }
            *velocity = 0.0;
        }
    }

    /// The positions sent last (rad).
    pub fn sent(&self) -> &JointVec<f64> {
        &self.position
    }

    /// The next positions to send (rad), and whether a wish had to be changed. A joint without a
    /// wish, or with a non-finite one, holds.
    pub fn step(&mut self, wishes: &[Wish]) -> (&JointVec<f64>, bool) {
        let mut changed = false;
        let joints = self.limits.iter().zip(&mut self.position).zip(&mut self.velocity);
        for (i, ((limits, position), velocity)) in joints.enumerate() {
            let wish = wishes.get(i).copied().unwrap_or(Wish::Hold);
            let (wished, finite) = match wish {
                Wish::Hold => (0.0, true),
                Wish::Velocity(v) if v.is_finite() => (v, true),
                Wish::Position(q) if q.is_finite() => (limits.toward(q - *position, self.dt), true),
                Wish::Velocity(_) | Wish::Position(_) => (0.0, false),
            };
            let allowed = limits.allow(*position, *velocity, wished, self.dt);
            changed |= !finite || (allowed - wished).abs() > 1e-9;
            *position = limits.inside(*position, *position + allowed * self.dt);
            *velocity = allowed;
        }
        (&self.position, changed)
    }
}

impl Limits {
    fn of(joint: &JointConfig) -> Self {
        Self {
            min: joint.min_rad,
            max: joint.max_rad,
            velocity: joint.max_velocity,
            acceleration: joint.max_acceleration,
        }
    }

    /// The highest speed from which `distance` ahead still suffices to stop, braking from the next
    /// tick on: `v dt + v²/2a <= d`.
    fn braking(&self, distance: f64, dt: f64) -> f64 {
        let per_tick = self.acceleration * dt;
        (per_tick.powi(2) + 2.0 * self.acceleration * distance.max(0.0)).sqrt() - per_tick
    }

    /// The speed that goes `distance` (signed) as fast as it can still be stopped in.
    fn toward(&self, distance: f64, dt: f64) -> f64 {
        self.braking(distance.abs(), dt).min(distance.abs() / dt).copysign(distance)
    }

    /// The speed nearest to `wished` inside all limits.
    fn allow(&self, position: f64, velocity: f64, wished: f64, dt: f64) -> f64 {
        let change = self.acceleration * dt;
        let reachable = wished.clamp(velocity - change, velocity + change);
        let up = self.velocity.min(self.braking(self.max - position, dt));
        let down = self.velocity.min(self.braking(position - self.min, dt));
        reachable.clamp(-down, up)
    }

    /// Rounding may not leave the limits; a joint that is outside may only come inward.
    fn inside(&self, from: f64, to: f64) -> f64 {
        to.clamp(self.min.min(from), self.max.max(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { min: -1.0, max: 1.5, velocity: 2.0, acceleration: 20.0 };
    const DT: f64 = 0.01;

    fn gate() -> SafetyGate {
        let one = |x| [x].into_iter().collect();
        SafetyGate {
            limits: [LIMITS].into_iter().collect(),
            dt: DT,
            position: one(0.0),
            velocity: one(0.0),
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_wishes_keep_position_speed_and_acceleration_limits(
            start in -1.0..1.5f64,
            wishes in prop::collection::vec(wish(), 1..100),
        ) {
            let mut gate = gate();
            gate.start(&[start]);
            let (mut q, mut v) = (start, 0.0);
            for wish in wishes {
                let next = gate.step(&[wish]).0[0];
                prop_assert!(next.is_finite());
                prop_assert!((LIMITS.min..=LIMITS.max).contains(&next), "{next}");
                let speed = (next - q) / DT;
                prop_assert!(speed.abs() <= LIMITS.velocity + 1e-9, "speed {speed}");
                prop_assert!((speed - v).abs() <= LIMITS.acceleration * DT + 1e-6, "{v} to {speed}");
                (q, v) = (next, speed);
            }
        }
    }

    #[test]
    fn a_reachable_position_is_reached_and_held_without_overshoot() {
        let mut gate = gate();
        let mut highest = f64::MIN;
        for _ in 0..300 {
            highest = highest.max(gate.step(&[Wish::Position(1.2)]).0[0]);
        }
        assert!((gate.sent()[0] - 1.2).abs() < 1e-3 && highest < 1.2 + 1e-9, "{highest}");
    }

    #[test]
    fn a_joint_that_starts_outside_its_limits_only_comes_inward() {
        let mut gate = gate();
        gate.start(&[1.7]);
        assert_eq!(gate.step(&[Wish::Velocity(1.0)]).0[0], 1.7);
        for _ in 0..50 {
            gate.step(&[Wish::Position(0.0)]);
        }
        assert!(gate.sent()[0] < 1.5);
    }

    #[test]
    fn a_non_finite_wish_holds_in_the_same_tick_and_is_reported() {
        let mut gate = gate();
        let (sent, changed) = gate.step(&[Wish::Velocity(f64::NAN)]);
        assert_eq!((sent[0], changed), (0.0, true));
    }
}
