//! How an emulated servo moves: a position loop with limits of speed and acceleration.

/// The air around the servos (°C).
const AMBIENT: f64 = 25.0;
/// What full load adds to it in the end (°C).
const HEATING: f64 = 45.0;
/// How fast the motor's temperature follows (s).
const THERMAL_TIME: f64 = 120.0;
/// How fast an undriven joint stops (s): friction alone, and with the windings shorted.
const COASTING_TIME: f64 = 0.05;
const DAMPING_TIME: f64 = 0.02;

/// What the registers make of a servo at the moment. Ticks and seconds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Drive {
    /// Steers to a position.
    Position { goal: f64, gain: f64, max_velocity: f64, max_acceleration: f64 },
    /// No torque.
    Off,
    /// Brakes only.
    Damping,
}

/// The moving part: ticks of the encoder, unbounded, and seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    pub position: f64,
    pub velocity: f64,
    /// Fraction of the full drive, signed.
    pub load: f64,
    /// °C.
    pub temperature: f64,
}

impl Motion {
    pub(super) fn at(position: f64) -> Self {
        Self { position, velocity: 0.0, load: 0.0, temperature: AMBIENT }
    }

    /// Moves on by `step` seconds; `free_velocity` is the speed at full drive.
    pub(super) fn step(&mut self, drive: &Drive, free_velocity: f64, step: f64) {
        let before = self.velocity;
        match *drive {
            Drive::Position { goal, gain, max_velocity, max_acceleration } => {
                let error = goal - self.position;
                // No faster than it can still brake in time.
                let braking = (2.0 * max_acceleration * error.abs()).sqrt();
                let limit = max_velocity.min(braking);
                let wanted = (gain * error).clamp(-limit, limit);
                let change = max_acceleration * step;
                self.velocity += (wanted - before).clamp(-change, change);
                // Half the drive for speed, a third for acceleration at the limit.
                self.load = 0.5 * self.velocity / free_velocity;
                if change > 0.0 {
                    self.load += (self.velocity - before) / change / 3.0;
                }
            }
            Drive::Off => self.coast(COASTING_TIME, step),
            Drive::Damping => self.coast(DAMPING_TIME, step),
        }
        self.position += self.velocity * step;
        let settled = AMBIENT + HEATING * self.load * self.load;
        self.temperature += (settled - self.temperature) * step / THERMAL_TIME;
    }

    fn coast(&mut self, time: f64, step: f64) {
        self.velocity -= self.velocity * (step / time);
        self.load = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVE: Drive = Drive::Position {
        goal: 1000.0,
        gain: 30.0,
        max_velocity: 2000.0,
        max_acceleration: 40_000.0,
    };

    #[test]
    fn a_joint_reaches_its_goal_without_passing_its_limits_or_the_goal() {
        let mut motion = Motion::at(0.0);
        for _ in 0..2000 {
            let before = motion.velocity;
            motion.step(&DRIVE, 3000.0, 0.001);
            assert!(motion.velocity.abs() <= 2000.0);
            assert!((motion.velocity - before).abs() <= 40.0 + 1e-9);
            assert!(motion.position < 1001.0, "{motion:?}");
        }
        assert!((motion.position - 1000.0).abs() < 0.01, "{motion:?}");
        assert!(motion.velocity.abs() < 0.1 && motion.load.abs() < 0.01, "{motion:?}");
    }

    #[test]
    fn an_undriven_joint_stops_where_it_is_and_brakes_harder_when_damped() {
        let run = |drive: Drive| {
            let mut motion = Motion { velocity: 1000.0, ..Motion::at(0.0) };
            (0..1000).for_each(|_| motion.step(&drive, 3000.0, 0.001));
            assert!(motion.velocity.abs() < 1e-3);
            motion.position
        };
        let (off, damped) = (run(Drive::Off), run(Drive::Damping));
        assert!(0.0 < damped && damped < off && off < 60.0, "{damped} {off}");
    }
}
