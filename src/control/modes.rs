//! The mode machine: which events lead from which mode to which.

use crate::episode::{Fault, Mode};

/// What an operator, a client or the loop itself may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Torque on, hold; also the only way out of a fault.
    Arm,
    /// Torque off.
    Disarm,
    /// A goal to reach.
    Goal,
    /// The goal was reached, timed out or was taken back.
    GoalEnded,
    /// A person takes over.
    TakeOver,
    /// A person lets go.
    LetGo,
    /// Something is wrong; e-stop is [`Fault::EmergencyStop`].
    Fault(Fault),
}

/// Why an event does not lead anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Nothing moves without arming.
    #[error("the arm is disarmed: arm it first (`regoal arm`)")]
    Disarmed,
    /// A fault is latched.
    #[error("the arm is stopped by a fault ({0}): clear it with `regoal arm`")]
    Faulted(Fault),
    /// A person steers.
    #[error("a person steers the arm: wait until they let go")]
    Teleoperated,
    /// Not every joint was measured lately.
    #[error("the arm's position is not known: the servos do not answer")]
    StateUnknown,
    /// The goal is not finite or has the wrong length.
    #[error("expected {expected} finite numbers (a goal in m, a pose in rad), found {found}")]
    BadGoal {
        /// Numbers in the goal space.
        expected: usize,
        /// Finite numbers given.
        found: usize,
    },
    /// No policy is loaded.
    #[error("no policy is loaded: install one (`regoal policy install`)")]
    NoPolicy,
}

/// The mode after `event` in `mode`.
///
/// # Errors
/// The event is refused in this mode; the mode stays.
pub fn next(mode: Mode, event: Event) -> Result<Mode, Refusal> {
    use Event as E;
    use Mode as M;
    match (mode, event) {
        (_, E::Disarm) => Ok(M::Disarmed),
        // The first fault is the cause: later ones do not hide it, but for an operator's stop.
        (M::Faulted(_), E::Fault(Fault::EmergencyStop)) => Ok(M::Faulted(Fault::EmergencyStop)),
        (M::Faulted(_), E::Fault(_) | E::GoalEnded | E::LetGo) => Ok(mode),
        (_, E::Fault(fault)) => Ok(M::Faulted(fault)),
        (M::Faulted(_) | M::Disarmed, E::Arm) => Ok(M::Holding),
        (_, E::Arm) => Ok(mode),
        (M::Faulted(fault), E::Goal | E::TakeOver) => Err(Refusal::Faulted(fault)),
        (M::Disarmed, E::Goal | E::TakeOver) => Err(Refusal::Disarmed),
        (M::Disarmed, E::GoalEnded | E::LetGo) => Ok(M::Disarmed),
        (M::Teleop, E::Goal) => Err(Refusal::Teleoperated),
        (M::Holding | M::Reaching, E::Goal) => Ok(M::Reaching),
        (M::Reaching | M::Holding, E::GoalEnded | E::LetGo) => Ok(M::Holding),
        (M::Teleop, E::LetGo) => Ok(M::Holding),
        (M::Teleop, E::GoalEnded | E::TakeOver) => Ok(M::Teleop),
        (M::Holding | M::Reaching, E::TakeOver) => Ok(M::Teleop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 6] = [
        Mode::Disarmed,
        Mode::Holding,
        Mode::Reaching,
        Mode::Teleop,
        Mode::Faulted(Fault::EmergencyStop),
        Mode::Faulted(Fault::BusSilent),
    ];
    const EVENTS: [Event; 8] = [
        Event::Arm,
        Event::Disarm,
        Event::Goal,
        Event::GoalEnded,
        Event::TakeOver,
        Event::LetGo,
        Event::Fault(Fault::EmergencyStop),
        Event::Fault(Fault::BusSilent),
    ];

    #[test]
    fn e_stop_stops_from_every_mode() {
        for mode in MODES {
            let after = next(mode, Event::Fault(Fault::EmergencyStop));
            assert_eq!(after, Ok(Mode::Faulted(Fault::EmergencyStop)), "{mode:?}");
        }
    }

    /// Every sequence of six events from every mode: motion after a fault or a disarming needs an
    /// `Arm` in between.
    #[test]
    fn nothing_moves_after_a_fault_or_disarming_without_an_arm() {
        fn walk(mode: Mode, locked: bool, depth: usize, paths: &mut usize) {
            *paths += 1;
            if depth == 0 {
                return;
            }
            for event in EVENTS {
                let after = next(mode, event).unwrap_or(mode);
                let stops = matches!(after, Mode::Disarmed | Mode::Faulted(_));
                let locked = if event == Event::Arm { false } else { locked || stops };
                let moves = matches!(after, Mode::Reaching | Mode::Teleop);
                assert!(!(moves && locked), "{mode:?} {event:?} leads to {after:?}");
                walk(after, locked && !matches!(after, Mode::Holding), depth - 1, paths);
            }
        }
        let mut paths = 0;
        for mode in MODES {
            walk(mode, matches!(mode, Mode::Disarmed | Mode::Faulted(_)), 6, &mut paths);
        }
        assert!(paths > 1_000_000);
    }

    #[test]
    fn no_mode_is_a_dead_end() {
        for mode in MODES {
            let armed = next(mode, Event::Arm).unwrap();
            let free = next(armed, Event::LetGo).unwrap();
            assert_eq!(next(free, Event::Goal), Ok(Mode::Reaching), "from {mode:?}");
        }
    }

    #[test]
    fn the_first_fault_is_kept_as_the_cause() {
        let faulted = Mode::Faulted(Fault::BusSilent);
        assert_eq!(next(faulted, Event::Fault(Fault::Tracking)), Ok(faulted));
    }
}
