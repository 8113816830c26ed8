//! The mode machine: which events lead from which mode to which.
//!
//! A cell is the mode after the event; `·` means that the mode stays. Only `arm`, an operator's own
//! doing, leads out of a fault. This table is made from the code:
//!
#![doc = include_str!("modes.md")]

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
    /// Nobody steers, so nothing can be recorded.
    #[error("expected somebody to steer the arm, found nobody: take over first")]
    NotTeleoperated,
    /// No device tells where the joints are to be.
    #[error("nothing was heard of the leader lately: is it plugged in and powered?")]
    NobodySteers,
    /// The leader is too far from the arm.
    #[error(
        "joint {} (from the base) of the leader is further from the arm's than \
         safety.max_mismatch_rad: bring the leader near the arm's pose",
        joint + 1
    )]
    Mismatch {
        /// The joint's place, from 0.
        joint: usize,
    },
    /// No demonstration is being recorded.
    #[error("no demonstration is being recorded")]
    NotRecording,
    /// Not every joint was measured lately.
    #[error("the arm's position is not known: the servos do not answer")]
    StateUnknown,
    /// The goal is not finite or has the wrong length.
    #[error("expected {expected} finite numbers (m; joint positions in rad), found {found}")]
    BadGoal {
        /// Numbers in the goal space.
        expected: usize,
        /// Finite numbers given.
        found: usize,
    },
    /// Goals are for an object, and nobody tells where it is.
    #[error("where the object is was not told lately: send its position first")]
    ObjectUnknown,
    /// An object's position is of no use to this robot.
    #[error(
        "expected control.goal_space = \"object_position\" to take an object's position, found {space}"
    )]
    NoObject {
        /// The goal space.
        space: &'static str,
    },
    /// A goal is streamed, but not this one.
    #[error("goal {id} is not being streamed: another one took its place, or it has ended")]
    NotStreamed {
        /// The goal that was to be moved.
        id: u64,
    },
    /// A newer goal of the stream came first.
    #[error("expected an update after number {last}, found {found}: it came out of order")]
    OutOfOrder {
        /// The newest one's number.
        last: u64,
        /// This one's.
        found: u64,
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
        (M::Reaching | M::Holding, E::GoalEnded) => Ok(M::Holding),
        (M::Reaching | M::Holding, E::LetGo) => Ok(mode),
        (M::Teleop, E::LetGo) => Ok(M::Holding),
        (M::Teleop, E::GoalEnded | E::TakeOver) => Ok(M::Teleop),
        (M::Holding | M::Reaching, E::TakeOver) => Ok(M::Teleop),
    }
}

/// Every mode, with every fault.
pub fn modes() -> impl Iterator<Item = Mode> {
    [Mode::Disarmed, Mode::Holding, Mode::Reaching, Mode::Teleop]
        .into_iter()
        .chain(Fault::all().map(Mode::Faulted))
}

/// Every event, with every fault.
pub fn events() -> impl Iterator<Item = Event> {
    [Event::Arm, Event::Disarm, Event::Goal, Event::GoalEnded, Event::TakeOver, Event::LetGo]
        .into_iter()
        .chain(Fault::all().map(Event::Fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One fault beside the e-stop stands for all others, as `next` tells apart only these two.
    const MODES: [Mode; 6] = [
        Mode::Disarmed,
        Mode::Holding,
        Mode::Reaching,
        Mode::Teleop,
        Mode::Faulted(Fault::BusSilent),
        Mode::Faulted(Fault::EmergencyStop),
    ];
    const EVENTS: [(&str, Event); 8] = [
        ("arm", Event::Arm),
        ("disarm", Event::Disarm),
        ("goal", Event::Goal),
        ("goal ended", Event::GoalEnded),
        ("take over", Event::TakeOver),
        ("let go", Event::LetGo),
        ("fault", Event::Fault(Fault::BusSilent)),
        ("e-stop", Event::Fault(Fault::EmergencyStop)),
    ];

    fn name(mode: Mode) -> &'static str {
        match mode {
            Mode::Disarmed => "disarmed",
            Mode::Holding => "holding",
            Mode::Reaching => "reaching",
            Mode::Teleop => "teleop",
            Mode::Faulted(Fault::EmergencyStop) => "e-stopped",
            Mode::Faulted(_) => "faulted",
        }
    }

    /// The table of the documentation.
    fn table() -> String {
        let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let heads = EVENTS.iter().map(|(event, _)| (*event).to_owned());
        let mut text = row(std::iter::once("mode".to_owned()).chain(heads).collect());
        text.push_str(&row(vec!["---".into(); EVENTS.len() + 1]));
        for mode in MODES {
            let cell = |event| match next(mode, event) {
                Err(_) => "refused".to_owned(),
                Ok(after) if after == mode => "·".to_owned(),
                Ok(after) => format!("**{}**", name(after)),
            };
            let cells = EVENTS.iter().map(|(_, event)| cell(*event));
            text.push_str(&row(std::iter::once(name(mode).to_owned()).chain(cells).collect()));
        }
        text
    }

    /// `REGOAL_WRITE_DOCS=1 cargo test --lib control::modes` brings the table up to date.
    #[test]
    fn the_table_in_the_documentation_is_what_the_code_does() {
        if std::env::var_os("REGOAL_WRITE_DOCS").is_some() {
            use crate::storage::{Disk, Storage as _};
            let path = std::path::Path::new("src/control/modes.md");
            Disk.replace(path, table().as_bytes()).unwrap();
            return;
        }
        assert_eq!(include_str!("modes.md"), table());
    }

    #[test]
    fn two_faults_stand_for_all() {
        for (mode, event) in modes().flat_map(|m| events().map(move |e| (m, e))) {
            let stand_in = |fault| match fault {
                Fault::EmergencyStop => Fault::EmergencyStop,
                _ => Fault::BusSilent,
            };
            let plain = |mode| match mode {
                Mode::Faulted(fault) => Mode::Faulted(stand_in(fault)),
                mode => mode,
            };
            let event_like = match event {
                Event::Fault(fault) => Event::Fault(stand_in(fault)),
                event => event,
            };
            let (one, other) = (next(mode, event).map(plain), next(plain(mode), event_like));
            assert_eq!(one.ok(), other.ok(), "{mode:?} {event:?}");
        }
    }

    #[test]
    fn the_first_fault_is_kept_as_the_cause() {
        let faulted = Mode::Faulted(Fault::BusSilent);
        assert_eq!(next(faulted, Event::Fault(Fault::Tracking)), Ok(faulted));
    }
}
