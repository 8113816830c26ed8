//! What a session and whoever runs it say to each other.

use std::time::Duration;

use crate::clock::Time;
use crate::episode::Mode;

/// What a session is to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionConfig {
    /// Demonstrations to record.
    pub count: usize,
    /// A demonstration is cut after this time.
    pub episode: Duration,
    /// The way home between two demonstrations is given up after this time.
    pub reset: Duration,
    /// Nobody says when to begin and when to end: whoever steers does it all.
    pub autonomous: bool,
    /// Whoever takes over has the arm in their hands, its torque off: not before they say so, and the
    /// arm does not move by itself in between.
    pub by_hand: bool,
}

/// What an operator may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Power the arm up; also clears a fault.
    Arm,
    /// Begin a demonstration; arms first where that is to be done.
    Start,
    /// No more of it: its worth is said later.
    Stop,
    /// Keep it, and go on.
    Accept,
    /// Throw it away and do it again.
    Again,
    /// Keep it as a success.
    Success,
    /// Keep it as a failure.
    Failure,
    /// The goal is what is achieved now.
    Mark,
    /// Throw away the one kept last.
    Undo,
    /// End the session; what is open is kept.
    Quit,
    /// Stop at once and latch.
    EmergencyStop,
}

impl Word {
    /// Every word, as it is typed.
    pub const ALL: [(&'static str, Self); 11] = [
        ("arm", Self::Arm),
        ("start", Self::Start),
        ("stop", Self::Stop),
        ("accept", Self::Accept),
        ("again", Self::Again),
        ("success", Self::Success),
        ("failure", Self::Failure),
        ("mark", Self::Mark),
        ("undo", Self::Undo),
        ("quit", Self::Quit),
        ("estop", Self::EmergencyStop),
    ];

    /// The word of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, word)| *word)
    }
}

/// Where a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The arm is not armed, or a fault has stopped it.
    Idle,
    /// On the way home, then to whoever steers.
    Reset,
    /// Somebody steers; nothing is recorded.
    Armed,
    /// A demonstration is recorded.
    Recording,
    /// It is cut; what it is worth is still to be said.
    Review,
    /// It goes to the disk.
    Saving,
    /// The session is over.
    Finished,
}

/// What a session asks for. They are done in order; one that is [refused](super::Session::refused) ends the
/// row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Torque on.
    Arm,
    /// Stop at once.
    EmergencyStop,
    /// Move to the home pose.
    GoHome,
    /// Whoever steers takes over,
    TakeOver,
    /// and lets go.
    LetGo,
    /// Begin a demonstration.
    Record,
    /// Its goal is what is achieved now.
    Mark,
    /// Log no more steps of it.
    Cut,
    /// End it, with what is said of it.
    Conclude(Option<bool>),
    /// Remove the newest finished file.
    Remove,
}

/// What a session is told of the arm, the device and the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Now.
    pub now: Time,
    /// The loop's mode.
    pub mode: Mode,
    /// The arm is at home.
    pub home: bool,
    /// The arm is where it is wished to be.
    pub together: bool,
    /// What there was to show was shown.
    pub done: bool,
    /// Files finished so far.
    pub files: u64,
    /// Files that could not be written so far.
    pub failures: u64,
}
