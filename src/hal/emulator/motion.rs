//! How an emulated servo moves: a position or speed loop with limits of speed, acceleration and
//! torque, against what pushes the joint and what is in its way.
//!
//! Ticks of the encoder, seconds, and torque as a signed fraction of what the motor gives at a
//! standstill. A simple model: it is there so that loads, sagging, overloads and heat come when
//! they should, not to predict a real arm.

/// The air around the servos (°C).
const AMBIENT: f64 = 25.0;
/// What full load adds to it in the end (°C).
const HEATING: f64 = 45.0;
/// How fast the motor's temperature follows (s).
const THERMAL_TIME: f64 = 120.0;
/// How fast an undriven joint stops (s): friction alone, and with the windings shorted.
const COASTING_TIME: f64 = 0.05;
const DAMPING_TIME: f64 = 0.02;
/// What the motor's whole torque accelerates a joint by that nothing drives (ticks/s²).
const FALLING: f64 = 40_000.0;

/// What the registers make of a servo at the moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Drive {
    /// Steers to a position.
    Position {
        goal: f64,
        /// Speed per error (1/s).
        gain: f64,
        max_velocity: f64,
        max_acceleration: f64,
        /// Torque per tick of error: what a push moves the joint off by.
        stiffness: f64,
        /// How fast the integral term takes that back (1/s).
        integral: f64,
        /// The most there is.
        torque: f64,
    },
    /// Keeps a speed.
    Velocity { goal: f64, max_acceleration: f64, torque: f64 },
    /// No torque.
    Off,
    /// Brakes only.
    Damping,
}

/// The moving part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Motion {
    /// Where the drive would have the joint; unbounded.
    pub position: f64,
    pub velocity: f64,
    /// The drive's torque.
    pub load: f64,
    /// °C.
    pub temperature: f64,
    /// Torque from outside: gravity, a hand.
    pub push: f64,
    /// How far something in its way holds the joint off its drive.
    pub held_off: f64,
    /// What the integral term adds to the goal.
    integral: f64,
}

impl Motion {
    pub(super) fn at(position: f64) -> Self {
        Self {
            position,
            velocity: 0.0,
            load: 0.0,
            temperature: AMBIENT,
            push: 0.0,
            held_off: 0.0,
            integral: 0.0,
        }
    }

    /// Moves on by `step` seconds; `free_velocity` is the speed at full drive.
    pub(super) fn step(&mut self, drive: &Drive, free_velocity: f64, step: f64) {
        match *drive {
            Drive::Off => self.coast(self.push, COASTING_TIME, step),
            Drive::Damping => self.coast(self.push, DAMPING_TIME, step),
            Drive::Position { torque, .. } | Drive::Velocity { torque, .. }
                if self.push.abs() > torque =>
            {
                let held = torque.copysign(self.push);
                self.coast(self.push - held, COASTING_TIME, step);
                self.load = -held;
            }
            Drive::Velocity { goal, max_acceleration, .. } => {
                self.accelerate(goal, max_acceleration, free_velocity, step);
            }
            Drive::Position { gain, max_velocity, max_acceleration, torque, .. } => {
                let error = self.target(drive, step) - self.position;
                // No faster than it can still brake in time.
                let braking = (2.0 * max_acceleration * error.abs()).sqrt();
                let limit = max_velocity.min(braking);
                let wanted = (gain * error).clamp(-limit, limit);
                self.accelerate(wanted, max_acceleration, free_velocity, step);
                self.load += self.contact(drive).clamp(-torque, torque);
            }
        }
        self.load = self.load.clamp(-1.0, 1.0);
        self.position += self.velocity * step;
        let settled = AMBIENT + HEATING * self.load * self.load;
        self.temperature += (settled - self.temperature) * step / THERMAL_TIME;
    }

    /// Where the position loop settles: off the goal as far as a push and its stiffness say, less
    /// what the integral term has taken back.
    fn target(&mut self, drive: &Drive, step: f64) -> f64 {
        let Drive::Position { goal, stiffness, integral, .. } = *drive else {
            return self.position;
        };
        let sag = self.push / stiffness;
        self.integral -= (sag + self.integral) * (integral * step).min(1.0);
        if integral == 0.0 {
            self.integral = 0.0;
        }
        goal + sag + self.integral
    }

    /// The torque against what is in the joint's way.
    fn contact(&self, drive: &Drive) -> f64 {
        match drive {
            Drive::Position { stiffness, .. } => -self.held_off * stiffness,
            _ => 0.0,
        }
    }

    fn accelerate(&mut self, wanted: f64, max_acceleration: f64, free_velocity: f64, step: f64) {
        let before = self.velocity;
        let change = max_acceleration * step;
        self.velocity += (wanted - before).clamp(-change, change);
        // Half the drive for speed, a third for acceleration at the limit, and what is held.
        self.load = 0.5 * self.velocity / free_velocity - self.push;
        if change > 0.0 {
            self.load += (self.velocity - before) / change / 3.0;
        }
    }

    fn coast(&mut self, torque: f64, time: f64, step: f64) {
        self.velocity += torque * FALLING * step - self.velocity * (step / time);
        self.load = 0.0;
        self.integral = 0.0;
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
        stiffness: 0.01,
        integral: 0.0,
        torque: 1.0,
    };

    fn run(motion: &mut Motion, drive: &Drive, steps: usize) {
        (0..steps).for_each(|_| motion.step(drive, 3000.0, 0.001));
    }

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
        let travel = |drive: Drive| {
            let mut motion = Motion { velocity: 1000.0, ..Motion::at(0.0) };
            run(&mut motion, &drive, 1000);
            assert!(motion.velocity.abs() < 1e-3);
            motion.position
        };
        let (off, damped) = (travel(Drive::Off), travel(Drive::Damping));
        assert!(0.0 < damped && damped < off && off < 60.0, "{damped} {off}");
    }

    #[test]
    fn a_push_moves_a_held_joint_by_its_stiffness_and_an_undriven_one_away() {
        let mut held = Motion { push: -0.3, ..Motion::at(1000.0) };
        run(&mut held, &DRIVE, 2000);
        assert!((held.position - 970.0).abs() < 0.1 && (held.load - 0.3).abs() < 0.01, "{held:?}");
        let fallen = |drive: Drive| {
            let mut motion = Motion { push: -0.3, ..Motion::at(1000.0) };
            run(&mut motion, &drive, 1000);
            motion.position
        };
        let (off, damped) = (fallen(Drive::Off), fallen(Drive::Damping));
        assert!(off < damped && damped < 900.0, "{off} {damped}");
    }

    #[test]
    fn the_integral_term_brings_a_pushed_joint_back_to_its_goal() {
        let Drive::Position {
            goal, gain, max_velocity, max_acceleration, stiffness, torque, ..
        } = DRIVE
        else {
            unreachable!()
        };
        let drive = Drive::Position {
            goal,
            gain,
            max_velocity,
            max_acceleration,
            stiffness,
            integral: 2.0,
            torque,
        };
        let mut motion = Motion { push: -0.3, ..Motion::at(1000.0) };
        run(&mut motion, &drive, 5000);
        assert!((motion.position - 1000.0).abs() < 0.1, "{motion:?}");
        assert!((motion.load - 0.3).abs() < 0.01, "it still holds the push: {motion:?}");
    }

    #[test]
    fn a_push_beyond_the_torque_moves_the_joint_and_shows_as_all_the_load_there_is() {
        let mut motion = Motion { push: -1.2, ..Motion::at(1000.0) };
        run(&mut motion, &DRIVE, 500);
        assert!(motion.position < 900.0 && motion.load == 1.0, "{motion:?}");
    }

    #[test]
    fn what_is_in_the_way_shows_as_load() {
        let mut motion = Motion { held_off: -40.0, ..Motion::at(1000.0) };
        run(&mut motion, &DRIVE, 100);
        assert!((motion.load - 0.4).abs() < 0.01, "{motion:?}");
        motion.held_off = -4000.0;
        run(&mut motion, &DRIVE, 100);
        assert_eq!(motion.load, 1.0);
    }
}
