//! When a person at a leader wants the arm, and when they have let go of it: both told by how the
//! leader moves.

use std::time::Duration;

use crate::clock::Time;
use crate::control::{Command, Lead};
use crate::episode::Mode;
use crate::joints::JointVec;

/// What counts as moving a leader, and as holding it still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InterventionConfig {
    /// Any joint moved by more than this is a wish to steer (rad).
    pub threshold: f64,
    /// All joints within [`threshold`](Self::threshold) for so long is a wish to let go.
    pub still: Duration,
}

/// Takes over while a policy reaches for a goal and the leader is moved, and lets go when it is held
/// still. Who takes over by a command lets go by a command.
#[derive(Debug, Clone)]
pub struct Intervention {
    config: InterventionConfig,
    /// Where the leader was (rad) when it moved last, or was last found still, and when that was.
    reference: JointVec<f64>,
    since: Time,
    /// It was the leader's movement that took over.
    by_movement: bool,
}

impl Intervention {
    /// Nobody moves the leader yet.
    pub fn new(config: InterventionConfig) -> Self {
        Self { config, reference: JointVec::new(), since: Time::ZERO, by_movement: false }
    }

    /// Takes where the leader is (rad) and what the loop does; what to ask of the loop. A leader that
    /// creeps moves by less than the threshold in the time that counts as still.
    pub fn observe(&mut self, now: Time, leader: &[f64], mode: Mode) -> Option<Command> {
        let known = self.reference.len() == leader.len();
        let pairs = leader.iter().zip(&self.reference);
        let moved = !known || pairs.clone().any(|(q, at)| (q - at).abs() > self.config.threshold);
        let still = !moved && now.since(self.since) >= self.config.still;
        if moved || still {
            (self.reference, self.since) = (leader.iter().copied().collect(), now);
        }
        self.by_movement &= mode == Mode::Teleop;
        match mode {
            Mode::Reaching if known && moved => Some(Command::TakeOver(Lead::Device)),
            Mode::Teleop if self.by_movement && still => Some(Command::LetGo),
            _ => None,
        }
    }

    /// The loop has taken over what [`observe`](Self::observe) asked for.
    pub fn granted(&mut self, command: &Command) {
        self.by_movement = matches!(command, Command::TakeOver(_));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::Fault;

    const CONFIG: InterventionConfig =
        InterventionConfig { threshold: 0.05, still: Duration::from_secs(1) };

    /// A loop that does what it is asked, looked at every 20 ms.
    struct World {
        intervention: Intervention,
        now: Time,
        mode: Mode,
        asked: Vec<Command>,
    }

    impl World {
        fn new(mode: Mode) -> Self {
            let intervention = Intervention::new(CONFIG);
            Self { intervention, now: Time(1), mode, asked: Vec::new() }
        }

        /// The leader moves at this speed (rad/s) from here on.
        fn lead(&mut self, at: &mut f64, speed: f64, looks: usize) {
            for _ in 0..looks {
                self.now = self.now + Duration::from_millis(20);
                *at += speed * 0.02;
                let Some(command) = self.intervention.observe(self.now, &[0.3, *at], self.mode)
                else {
                    continue;
                };
                self.intervention.granted(&command);
                self.mode = match command {
                    Command::LetGo => Mode::Reaching,
                    _ => Mode::Teleop,
                };
                self.asked.push(command);
            }
        }
    }

    #[test]
    fn moving_the_leader_takes_over_and_holding_it_still_lets_go() {
        let (mut world, mut at) = (World::new(Mode::Reaching), 0.0);
        world.lead(&mut at, 0.0, 100);
        assert_eq!(world.asked, [], "wherever it lies at first");
        world.lead(&mut at, 0.5, 10);
        assert_eq!(world.asked, [Command::TakeOver(Lead::Device)]);
        world.lead(&mut at, 0.5, 100);
        world.lead(&mut at, 0.0, 40);
        assert_eq!(world.mode, Mode::Teleop, "a moment is not long enough");
        world.lead(&mut at, 0.0, 20);
        assert_eq!((world.mode, world.asked.len()), (Mode::Reaching, 2));
        world.lead(&mut at, 0.0, 200);
        assert_eq!(world.asked.len(), 2, "and it stays so");
        world.lead(&mut at, -0.5, 10);
        assert_eq!(world.asked.len(), 3);
    }

    #[test]
    fn a_leader_that_sinks_slowly_does_not_take_over() {
        let (mut world, mut at) = (World::new(Mode::Reaching), 0.0);
        world.lead(&mut at, 0.02, 2000);
        assert_eq!(world.asked, []);
    }

    #[test]
    fn it_takes_over_from_a_policy_only() {
        for mode in [Mode::Disarmed, Mode::Holding, Mode::Faulted(Fault::Servo)] {
            let (mut world, mut at) = (World::new(mode), 0.0);
            world.lead(&mut at, 0.5, 100);
            assert_eq!(world.asked, [], "{mode:?}");
        }
    }

    #[test]
    fn who_took_over_by_a_command_is_not_sent_away_for_holding_still() {
        let (mut world, mut at) = (World::new(Mode::Teleop), 0.0);
        world.lead(&mut at, 0.5, 50);
        world.lead(&mut at, 0.0, 200);
        assert_eq!(world.asked, []);
    }
}
