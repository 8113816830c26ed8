//! `regoal keys`: who may talk with a robot from elsewhere.

use std::fmt::Write as _;

use super::{Context, Daemon, printable, say, say_json};
use crate::clock::WallTime;
use crate::daemon::Key;

/// Shows and takes back the keys of a robot's clients
///
/// A client gets its key by `regoal pair`. The robot keeps the SHA-256 of each key only, so a lost key
/// cannot be shown again: take it back and pair anew.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Shows who has a key, and what it allows.
    #[command(after_help = "Example: regoal keys ls")]
    Ls {
        /// The robot.
        #[command(flatten)]
        daemon: Daemon,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes a key back; whoever is connected with it is cut off.
    #[command(after_help = "Example: regoal keys revoke tablet")]
    Revoke {
        /// Whose key.
        name: String,
        /// The robot.
        #[command(flatten)]
        daemon: Daemon,
    },
}

/// Runs the verb.
///
/// # Errors
/// No daemon, not this role, or nobody has the name.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    match args {
        Args::Ls { daemon, json } => {
            let keys = daemon.client(context)?.keys()?;
            if *json {
                return say_json(&keys);
            }
            Ok(say(table(&keys, context.clock.wall()))?)
        }
        Args::Revoke { name, daemon } => {
            daemon.client(context)?.revoke(name)?;
            Ok(say(format!("the key of {} is taken back", printable(name)))?)
        }
    }
}

fn table(keys: &[Key], now: WallTime) -> String {
    if keys.is_empty() {
        return "no keys: `regoal pair` gives a client one".into();
    }
    let width = keys.iter().map(|key| printable(&key.name).chars().count()).max().unwrap_or(0);
    let date = |seconds: u64| WallTime(seconds.saturating_mul(1_000_000_000)).date();
    let mut text = format!("{:<width$}  {:<8} {:<10}  until", "name", "role", "since");
    for key in keys {
        let until = match key.expires {
            _ if key.revoked => "taken back".into(),
            Some(end) if !key.is_valid(now) => format!("{}, expired", date(end)),
            Some(end) => date(end),
            None => "it is taken back".into(),
        };
        let (name, role) = (printable(&key.name), key.role.to_string());
        let _ = write!(text, "\n{name:<width$}  {role:<8} {}  {until}", date(key.created));
    }
    text
}
