//! The person at the arm: what they are told, and when they press Enter.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::{Result, bail};

/// Somebody, or a script, who follows instructions.
pub trait Operator {
    /// Tells a line.
    ///
    /// # Errors
    /// Nobody listens any more.
    fn say(&mut self, line: &str) -> Result<()>;

    /// Shows lines in place of those shown before; a script sees nothing of it.
    ///
    /// # Errors
    /// Nobody listens any more.
    fn show(&mut self, lines: &[String]) -> Result<()>;

    /// Tells what to do and waits until it is done; what was typed.
    ///
    /// # Errors
    /// Nobody answers any more.
    fn ask(&mut self, line: &str) -> Result<String>;

    /// Whether Enter was pressed since it was asked last.
    ///
    /// # Errors
    /// Nobody answers any more.
    fn pressed(&mut self) -> Result<bool>;
}

/// The terminal, or whatever standard input is.
pub struct Terminal {
    lines: Receiver<String>,
    /// Lines can be taken back.
    live: bool,
    shown: usize,
}

impl Terminal {
    /// Reads standard input from now on. `headless`: prints plain lines only.
    pub fn new(headless: bool) -> Self {
        let (sender, lines) = channel();
        // It ends with the program: nothing interrupts a read of standard input.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { lines, live: !headless && std::io::stdout().is_terminal(), shown: 0 }
    }
}

impl Operator for Terminal {
    fn say(&mut self, line: &str) -> Result<()> {
        self.shown = 0;
        Ok(super::super::say(line)?)
    }

    fn show(&mut self, lines: &[String]) -> Result<()> {
        if !self.live {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if self.shown > 0 {
            write!(out, "\x1b[{}A", self.shown)?;
        }
        for line in lines {
            writeln!(out, "\x1b[2K{line}")?;
        }
        self.shown = lines.len();
        Ok(out.flush()?)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.say(line)?;
        match self.lines.recv() {
            Ok(line) => Ok(line),
            Err(_) => bail!("expected Enter, found the end of the input"),
        }
    }

    fn pressed(&mut self) -> Result<bool> {
        match self.lines.try_recv() {
            Ok(_) => Ok(true),
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => bail!("expected Enter, found the end of the input"),
        }
    }
}
