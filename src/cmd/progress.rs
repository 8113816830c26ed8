//! A progress bar on the terminal; a line now and then where there is none.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar on standard error. It prints nothing where standard error is no terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar over `total` things.
    pub fn new(what: &str, total: usize) -> Self {
        let style = "  {prefix:<34} {bar:30.green} {pos:>5}/{len:<5} {elapsed_precise} {msg}";
        Self::styled(style, what, total as u64)
    }

    /// A bar over many steps, with the time that is left.
    pub fn of_steps(what: &str, steps: u64) -> Self {
        let style = "  {prefix} {bar:24.green} {human_pos} of {human_len} steps, {eta} left, {msg}";
        Self::styled(style, what, steps)
    }

    /// A bar over a file's bytes.
    pub fn of_bytes(what: &str, bytes: u64) -> Self {
        let style =
            "  {prefix} {bar:24.green} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        Self::styled(style, what, bytes)
    }

    fn styled(style: &str, what: &str, total: u64) -> Self {
        let bar = ProgressBar::new(total);
        let style = ProgressStyle::with_template(style);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what.to_owned());
        Self(bar)
    }

    /// So many things there are.
    pub fn set_total(&self, total: usize) {
        self.0.set_length(total as u64);
    }

    /// So many bytes are done.
    pub fn set_bytes(&self, done: u64) {
        self.0.set_position(done);
    }

    /// A line that stays, on standard error, with or without a terminal.
    pub fn note(&self, line: &str) {
        self.0.suspend(|| remark!("{line}"));
    }

    /// So many are done.
    pub fn set(&self, done: usize, message: &str) {
        self.0.set_position(done as u64);
        self.0.set_message(message.to_owned());
    }

    /// One more is done.
    pub fn inc(&self) {
        self.0.inc(1);
    }

    /// Leaves the terminal clean.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}
