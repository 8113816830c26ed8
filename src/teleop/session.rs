//! The session in which demonstrations are recorded, as a state machine without time, threads or a
//! terminal of its own: words and observations go in, effects come out.

mod terms;

use std::time::Duration;

pub use terms::{Effect, Observed, SessionConfig, State, Word};

use crate::clock::Time;
use crate::episode::Mode;

/// Between two tries to take over.
const RETRY: Duration = Duration::from_millis(500);
/// A file that is not finished after this time is given up.
const SAVED_BY: Duration = Duration::from_secs(5);

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    config: SessionConfig,
    state: State,
    /// Since when.
    since: Time,
    now: Time,
    kept: usize,
    /// The one that is being saved is kept.
    keep: bool,
    quitting: bool,
    /// Taking over is tried again then.
    retry: Time,
    /// They have said that they have the arm in their hands.
    in_hand: bool,
    /// Files finished, and failed, when the demonstration began.
    before: (u64, u64),
    files: (u64, u64),
    message: String,
    trouble: bool,
}

type Effects = Vec<Effect>;

impl Session {
    /// One that has not begun.
    pub fn new(config: SessionConfig) -> Self {
        Self {
            config,
            state: State::Idle,
            since: Time::ZERO,
            now: Time::ZERO,
            kept: 0,
            keep: false,
            quitting: false,
            retry: Time::ZERO,
            in_hand: false,
            before: (0, 0),
            files: (0, 0),
            message: String::new(),
            trouble: false,
        }
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// How long it has been there.
    pub fn lasted(&self) -> Duration {
        self.now.since(self.since)
    }

    /// Demonstrations kept, and to record.
    pub fn progress(&self) -> (usize, usize) {
        (self.kept, self.config.count)
    }

    /// What the operator is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// It ended before it was done, and the message says why.
    pub fn failed(&self) -> bool {
        self.trouble && self.state == State::Finished
    }

    fn tell(&mut self, message: impl Into<String>) {
        self.message = message.into();
    }

    fn enter(&mut self, state: State) {
        if state != self.state {
            (self.state, self.since) = (state, self.now);
        }
    }

    /// Takes a word of the operator.
    pub fn word(&mut self, word: Word) -> Effects {
        use State as S;
        use Word as W;
        match (word, self.state) {
            (W::EmergencyStop, _) => vec![Effect::EmergencyStop],
            (W::Arm | W::Start, S::Idle) => {
                let mut effects = vec![Effect::Arm];
                effects.extend(self.reset());
                effects
            }
            (W::Start, S::Reset) if self.config.by_hand => {
                self.in_hand = true;
                Vec::new()
            }
            (W::Start, S::Armed) => self.begin(),
            (W::Stop, S::Recording) => self.cut("cut: success, failure, accept or again?"),
            (W::Success, S::Recording | S::Review) => self.conclude(Some(true), true),
            (W::Failure, S::Recording | S::Review) => self.conclude(Some(false), true),
            (W::Accept, S::Recording | S::Review) => self.conclude(None, true),
            (W::Again, S::Recording | S::Review) => self.conclude(None, false),
            (W::Mark, S::Recording) => {
                self.tell("goal marked");
                vec![Effect::Mark]
            }
            (W::Undo, S::Idle | S::Reset | S::Armed) if self.kept > 0 => {
                self.kept -= 1;
                self.tell("the last episode is removed");
                vec![Effect::Remove]
            }
            (W::Quit, S::Recording | S::Review) => {
                self.quitting = true;
                self.conclude(None, true)
            }
            (W::Quit, S::Saving) => {
                self.quitting = true;
                Vec::new()
            }
            (W::Quit, _) => self.finish(),
            (word, state) => {
                let name = Word::ALL.iter().find(|(_, known)| *known == word).map_or("", |w| w.0);
                self.tell(format!("`{name}` says nothing while {state:?}"));
                Vec::new()
            }
        }
    }

    /// Takes what was seen; called many times a second.
    pub fn observe(&mut self, seen: &Observed) -> Effects {
        self.now = seen.now;
        self.files = (seen.files, seen.failures);
        if let Some(effects) = self.stopped(seen) {
            return effects;
        }
        match self.state {
            State::Idle if self.config.autonomous => self.word(Word::Arm),
            State::Reset if seen.mode == Mode::Teleop => {
                self.enter(State::Armed);
                if !self.config.autonomous {
                    self.tell("it follows you: start begins a demonstration");
                }
                Vec::new()
            }
            State::Reset => {
                let over = match self.config.by_hand {
                    true => self.in_hand,
                    false => seen.home || self.lasted() >= self.config.reset,
                };
                if !over || self.now < self.retry {
                    return Vec::new();
                }
                self.retry = self.now + RETRY;
                vec![Effect::TakeOver]
            }
            State::Armed if self.config.autonomous && seen.together => self.begin(),
            State::Recording => self.recording(seen),
            State::Saving => self.saving(seen),
            _ => Vec::new(),
        }
    }

    /// A fault, or somebody else, has stopped the arm: what was recorded is kept, as the loop has
    /// ended it.
    fn stopped(&mut self, seen: &Observed) -> Option<Effects> {
        let why = trouble(seen.mode)?;
        match self.state {
            // Not before the loop was told to arm.
            State::Reset if self.lasted() < RETRY => return None,
            State::Reset | State::Armed => self.enter(State::Idle),
            State::Recording | State::Review => {
                self.keep = true;
                self.enter(State::Saving);
            }
            State::Idle | State::Saving | State::Finished => return None,
        }
        self.tell(why);
        if self.config.autonomous {
            (self.trouble, self.quitting) = (true, true);
            if self.state == State::Idle {
                return Some(self.finish());
            }
        }
        Some(Vec::new())
    }

    fn reset(&mut self) -> Effects {
        self.retry = self.now;
        self.enter(State::Reset);
        if self.config.by_hand {
            self.in_hand = false;
            self.tell("hold the arm, then start lets go of it: IT WILL FALL");
            return vec![Effect::LetGo];
        }
        self.tell("going home");
        vec![Effect::LetGo, Effect::GoHome]
    }

    fn begin(&mut self) -> Effects {
        self.before = self.files;
        self.enter(State::Recording);
        self.tell("recording");
        vec![Effect::Record]
    }

    fn cut(&mut self, message: &str) -> Effects {
        self.enter(State::Review);
        self.tell(message);
        vec![Effect::Cut]
    }

    fn conclude(&mut self, verdict: Option<bool>, keep: bool) -> Effects {
        self.keep = keep;
        self.enter(State::Saving);
        vec![Effect::Conclude(verdict)]
    }

    fn recording(&mut self, seen: &Observed) -> Effects {
        let late = self.lasted() >= self.config.episode;
        match (self.config.autonomous, late, seen.done) {
            (true, true, _) | (true, _, true) => self.conclude(None, true),
            (false, true, _) => self.cut("the time is up: success, failure, accept or again?"),
            _ => Vec::new(),
        }
    }

    fn saving(&mut self, seen: &Observed) -> Effects {
        let (saved, failed) = (seen.files > self.before.0, seen.failures > self.before.1);
        if !saved && !failed && self.lasted() < SAVED_BY {
            return Vec::new();
        }
        let mut effects = Vec::new();
        match (saved, self.keep) {
            (true, true) => {
                self.kept += 1;
                self.tell(format!("episode {} of {} kept", self.kept, self.config.count));
            }
            (true, false) => {
                self.tell("thrown away: once more");
                effects.push(Effect::Remove);
            }
            (false, _) => self.tell("NOT SAVED: the log has nothing of it"),
        }
        let (kept, why) = (std::mem::take(&mut self.message), trouble(seen.mode));
        let over = self.quitting || self.kept >= self.config.count;
        match &why {
            _ if over => effects.extend(self.finish()),
            Some(_) => self.enter(State::Idle),
            None => effects.extend(self.reset()),
        }
        // What became of the episode, then what comes next.
        let next = why.unwrap_or_else(|| std::mem::take(&mut self.message));
        self.tell(if next.is_empty() { kept } else { format!("{kept} · {next}") });
        effects
    }

    fn finish(&mut self) -> Effects {
        self.enter(State::Finished);
        vec![Effect::LetGo]
    }

    /// An effect was refused.
    pub fn refused(&mut self, effect: Effect, why: &str) {
        self.tell(why);
        match effect {
            Effect::Arm | Effect::GoHome => self.enter(State::Idle),
            Effect::Record => self.enter(State::Armed),
            Effect::Cut => self.enter(State::Recording),
            _ => {}
        }
        let lost = matches!(effect, Effect::Arm | Effect::GoHome | Effect::Record);
        if self.config.autonomous && lost {
            self.trouble = true;
            self.enter(State::Finished);
        }
    }
}

/// Why an arm in this mode cannot go on.
fn trouble(mode: Mode) -> Option<String> {
    match mode {
        Mode::Faulted(fault) => Some(format!("stopped by a fault ({fault}): arm clears it")),
        Mode::Disarmed => Some("the arm is disarmed".into()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "session/tests.rs"]
mod tests;
