//! The safety gate: whatever is wished for, what is sent is finite and inside the limits of position,
//! speed, acceleration and jerk of each joint.

mod motion;

use self::motion::{Approach, Limits, Motion, Stop};
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

/// What the gate is told of the arm before it lets anything through.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// Measured positions (rad); what is missing or not finite bounds nothing.
    pub measured: &'a [f64],
    /// The share of each joint's highest speed that is allowed now (0 to 1).
    pub speed: f64,
}

/// Finer than this a target is met (rad).
const MET: f64 = 1e-9;
/// Slower is at rest (rad/s).
const REST: f64 = 1e-6;
/// Halvings of the interval between a wished speed and standing still.
const HALVINGS: usize = 32;

/// Turns wishes into positions that may be sent, one call per tick.
///
/// The gate keeps, per joint, a motion (q, v, a) that never leaves
/// `min <= q <= max`, `|v| <= velocity`, `|a| <= acceleration` and changes a by at most `jerk` per
/// second. What is sent are samples of q every `dt`.
///
/// **Bound.** The n-th difference of samples divided by dtⁿ is a weighted mean of the n-th derivative
/// between them, so what is sent keeps, for any wishes and in every tick, `min <= q <= max`,
/// `|Δq| <= velocity dt`, `|Δ²q| <= acceleration dt²` and `|Δ³q| <= jerk dt³`, up to rounding.
///
/// **Why it can.** A motion is *safe* when its fastest stop stays inside the limits. The rest of a
/// fastest stop is the fastest stop of what remains, so from a safe motion stopping is always safe.
/// The gate moves on toward the wished speed where that leads to a safe motion, else toward the
/// nearest slower one that does; standing still is the last, and always open. At [`start`](Self::start)
/// the motion is at rest, which is safe inside the limits; a joint that starts outside of them may
/// only come inward.
#[derive(Debug, Clone)]
pub struct SafetyGate {
    limits: JointVec<Limits>,
    dt: f64,
    /// How far the sent position may lead the measured one (rad).
    lead: f64,
    motions: JointVec<Motion>,
    sent: JointVec<f64>,
}

impl SafetyGate {
    /// The gate of one arm; [`start`](Self::start) it before the first call.
    pub fn new(config: &RobotConfig) -> Self {
        let margin = config.safety.limit_margin_rad;
        let limits: JointVec<Limits> =
            config.joint.iter().map(|joint| Limits::of(joint, margin)).collect();
        Self {
            dt: config.period().as_secs_f64(),
            lead: config.safety.max_lead_rad,
            motions: limits.iter().map(|_| Motion::default()).collect(),
            sent: limits.iter().map(|_| 0.0).collect(),
            limits,
        }
    }

    /// Starts from where the arm is: the first position sent is the measured one, at rest. A joint
    /// measured outside its limits stays where it is until it is moved inward.
    pub fn start(&mut self, measured: &[f64]) {
        for ((motion, sent), q) in self.motions.iter_mut().zip(&mut self.sent).zip(measured) {
            if q.is_finite() {
                *sent = *q;
            }
            *motion = Motion::at_rest(*sent);
        }
    }

    /// Each joint's position (rad), velocity (rad/s) and acceleration (rad/s²).
    pub fn motions(&self) -> JointVec<[f64; 3]> {
        self.motions.iter().map(|motion| [motion.q, motion.v, motion.a]).collect()
    }

    /// Goes on from these motions, as they were told by [`motions`](Self::motions).
    pub fn resume(&mut self, motions: &[[f64; 3]]) {
        for ((motion, sent), [q, v, a]) in self.motions.iter_mut().zip(&mut self.sent).zip(motions)
        {
            *motion = Motion { q: *q, v: *v, a: *a };
            *sent = *q;
        }
    }

    /// The positions sent last (rad).
    pub fn sent(&self) -> &JointVec<f64> {
        &self.sent
    }

    /// The positions inside the limits that are nearest to these (rad).
    pub fn nearest(&self, position: &[f64]) -> JointVec<f64> {
        let pairs = position.iter().zip(&self.limits);
        pairs.map(|(q, limits)| q.max(limits.min).min(limits.max)).collect()
    }

    /// Nothing moves.
    pub fn at_rest(&self) -> bool {
        self.motions.iter().all(|m| m.v.abs() < REST)
    }

    /// The next positions to send (rad), and whether a wish had to be changed. A joint without a
    /// wish, or with a non-finite one, holds.
    pub fn step(&mut self, wishes: &[Wish], bounds: Bounds<'_>) -> (&JointVec<f64>, bool) {
        let mut changed = false;
        let joints = self.limits.iter().zip(&mut self.motions).zip(&mut self.sent);
        for (i, ((limits, motion), sent)) in joints.enumerate() {
            let wish = wishes.get(i).copied().unwrap_or(Wish::Hold);
            let measured = bounds.measured.get(i).copied().filter(|q| q.is_finite());
            let around = measured.map_or((f64::MIN, f64::MAX), |q| (q - self.lead, q + self.lead));
            let stop = Stop::of(*motion, limits);
            let aim = limits.aim(wish, &stop, bounds.speed);
            *motion = limits.advance(*motion, &stop, aim.inside(around), self.dt);
            *sent = motion.q;
            changed |=
                aim.changed || matches!(wish, Wish::Velocity(v) if (motion.v - v).abs() > MET);
        }
        (&self.sent, changed)
    }
}

/// The speed to go at, and the positions that stopping then may not leave.
#[derive(Debug, Clone, Copy)]
struct Aim {
    velocity: f64,
    window: (f64, f64),
    changed: bool,
}

impl Aim {
    fn inside(self, (low, high): (f64, f64)) -> Self {
        Self { window: (self.window.0.max(low), self.window.1.min(high)), ..self }
    }
}

impl Limits {
    fn of(joint: &JointConfig, margin: f64) -> Self {
        Self {
            min: joint.min_rad + margin,
            max: joint.max_rad - margin,
            velocity: joint.max_velocity,
            acceleration: joint.max_acceleration,
            jerk: joint.max_jerk,
        }
    }

    /// What a wish comes to for a joint whose stop would end at `stop`.
    fn aim(&self, wish: Wish, stop: &Stop, speed: f64) -> Aim {
        let fastest = self.velocity * if speed.is_finite() { speed.clamp(0.0, 1.0) } else { 0.0 };
        let window = (self.min, self.max);
        let still = Aim { velocity: 0.0, window, changed: false };
        match wish {
            Wish::Hold => still,
            Wish::Velocity(v) if v.is_finite() => {
                Aim { velocity: v.clamp(-fastest, fastest), ..still }
            }
            Wish::Position(q) if q.is_finite() => {
                let target = q.clamp(self.min, self.max);
                let changed = target != q;
                // On while stopping would end short of it, back when beyond.
                match target - stop.end {
                    ahead if ahead > MET => {
                        Aim { velocity: fastest, window: (self.min, target), changed }
                    }
                    ahead if ahead < -MET => {
                        Aim { velocity: -fastest, window: (target, self.max), changed }
                    }
                    _ => Aim { changed, ..still },
                }
            }
            Wish::Velocity(_) | Wish::Position(_) => Aim { changed: true, ..still },
        }
    }

    /// The motion one tick later.
    fn advance(&self, from: Motion, stop: &Stop, aim: Aim, dt: f64) -> Motion {
        let speed = self.allowed(from, stop, aim, dt);
        let to = Approach::new(from, speed, self).follow(from, dt);
        // Rounding may not leave the limits; a joint that is outside may only come inward.
        Motion { q: to.q.clamp(self.min.min(from.q), self.max.max(from.q)), ..to }
    }

    /// The wished speed, or the nearest one to it on the way to standing still that can still be
    /// stopped from inside the window after a tick of going toward it.
    fn allowed(&self, from: Motion, stop: &Stop, aim: Aim, dt: f64) -> f64 {
        // What stopping at once runs through cannot be avoided.
        let window = (aim.window.0.min(stop.lowest), aim.window.1.max(stop.highest));
        let safe =
            |speed: f64| self.safe(Approach::new(from, speed, self).follow(from, dt), window);
        if aim.velocity == 0.0 || safe(aim.velocity) {
            return aim.velocity;
        }
        let (mut low, mut high) = (0.0, aim.velocity);
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            *(if safe(middle) { &mut low } else { &mut high }) = middle;
        }
        low
    }

    fn safe(&self, motion: Motion, (low, high): (f64, f64)) -> bool {
        let stop = Stop::of(motion, self);
        low <= stop.lowest && stop.highest <= high && motion.coasting(self).abs() <= self.velocity
    }
}

#[cfg(test)]
mod tests;
