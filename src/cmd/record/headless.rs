//! Without a screen: words on standard input, what happens as lines on standard output.

use std::io::BufRead as _;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::booth::{Booth, Filed};
use crate::cmd::{Context, say, say_json};
use crate::teleop::{Session, State, Word};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Runs a session to its end.
///
/// # Errors
/// The loop has ended, or nobody reads the lines.
pub fn run(session: &mut Session, booth: &mut Booth, json: bool, context: &Context) -> Result<()> {
    let words = words();
    let mut told = Told { json, state: None, message: String::new() };
    let (mut listening, mut quit) = (true, false);
    while session.state() != State::Finished {
        booth.look(session)?;
        told.tell(session, booth)?;
        match words.try_recv() {
            Ok(line) => match Word::named(&line) {
                Some(word) => booth.say(session, word),
                None => told.note(&unknown(&line))?,
            },
            // Who steers alone needs no words.
            Err(TryRecvError::Disconnected) if listening => {
                listening = false;
                quit = !booth.seat.with(|device| device.autonomous());
            }
            Err(_) => {}
        }
        if booth.is_to_end() || std::mem::take(&mut quit) {
            booth.say(session, Word::Quit);
        }
        context.clock.sleep_until(context.clock.now() + LOOK);
    }
    told.tell(session, booth)
}

fn unknown(line: &str) -> String {
    let known: Vec<&str> = Word::ALL.iter().map(|(name, _)| *name).collect();
    format!("expected one of {}, found `{line}`", known.join(" "))
}

/// Lines of standard input, in small letters.
fn words() -> Receiver<String> {
    let (sender, lines) = channel();
    // It ends with the program: nothing interrupts a read of standard input.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let line = line.trim().to_lowercase();
            if !line.is_empty() && sender.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// What was told last.
struct Told {
    json: bool,
    state: Option<State>,
    message: String,
}

impl Told {
    fn tell(&mut self, session: &Session, booth: &mut Booth) -> Result<()> {
        for filed in booth.filed() {
            let (event, path) = match &filed {
                Filed::Saved(path) => ("saved", path),
                Filed::Removed(path) => ("removed", path),
            };
            let value = json!({ "event": event, "path": path });
            self.line(&format!("{event} {}", path.display()), &value)?;
        }
        let state = session.state();
        if self.state != Some(state) {
            self.state = Some(state);
            let (kept, of) = session.progress();
            let missed = booth.status.counters.missed;
            let value = json!({
                "event": "state", "state": state, "kept": kept, "count": of, "missed_ticks": missed,
            });
            self.line(&format!("{} ({kept} of {of})", name(state)), &value)?;
        }
        if session.message() != self.message {
            self.message = session.message().to_owned();
            self.note(session.message())?;
        }
        Ok(())
    }

    fn note(&self, message: &str) -> Result<()> {
        self.line(&format!("  {message}"), &json!({ "event": "message", "text": message }))
    }

    fn line(&self, text: &str, value: &Value) -> Result<()> {
        if self.json { say_json(value) } else { Ok(say(text)?) }
    }
}

/// A state, as people read it.
pub fn name(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Reset => "reset",
        State::Armed => "armed",
        State::Recording => "recording",
        State::Review => "review",
        State::Saving => "saving",
        State::Finished => "finished",
    }
}
