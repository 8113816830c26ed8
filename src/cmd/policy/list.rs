//! `regoal policy list`: what a robot's store holds, and what happened there.

use anyhow::Result;
use clap::Args as ClapArgs;

use super::install::Place;
use crate::clock::WallTime;
use crate::cmd::{Context, printable, say, say_json};
use crate::daemon::PolicyReport;
use crate::policy::store::{Change, Entry, Event, State, TRIALS};

/// Lists the policies of a robot's store: active, on trial, the one before; and what happened to them,
/// when and why.
///
/// Example: regoal policy list --store policies
///
/// Example: regoal policy list --to https://robot:7423
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which store
    #[command(flatten)]
    pub place: Place,
    /// So many of the last events
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub events: usize,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// The store cannot be read.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut running = args.place.client(context)?.map(|client| client.policies()).transpose()?;
    let mut stored = match running {
        Some(_) => State::default(),
        None => args.place.open(context)?.state()?,
    };
    let state = running.as_mut().map_or(&mut stored, |running| &mut running.state);
    let last = state.events.len().saturating_sub(args.events);
    state.events.drain(..last);
    match running {
        Some(running) if args.json => say_json(&running),
        None if args.json => say_json(&stored),
        Some(PolicyReport { steering, state }) => {
            let steering = steering.map_or("no policy".into(), |id| printable(&id));
            Ok(say(format!("{:<10} {steering}\n{}", "steers", lines(&state).join("\n")))?)
        }
        None => Ok(say(lines(&stored).join("\n"))?),
    }
}

fn lines(state: &State) -> Vec<String> {
    let entry = |what: &str, entry: Option<Entry>| {
        let entry = entry?;
        let version = entry.version.map_or("unsigned".into(), |v| format!("version {v}"));
        Some(format!("{what:<10} {}  {version}", entry.policy))
    };
    let candidate = state.candidate.and_then(|candidate| {
        let line = entry(
            if candidate.starts == 0 { "staged" } else { "on trial" },
            Some(candidate.entry),
        )?;
        Some(format!("{line}, started {} of {TRIALS} times", candidate.starts))
    });
    let slots = [entry("active", state.active), candidate, entry("previous", state.previous)];
    let mut lines: Vec<String> = slots.into_iter().flatten().collect();
    if lines.is_empty() {
        lines.push("no policy: `regoal policy install FILE` puts one in".into());
    }
    lines.extend(state.events.iter().map(line));
    lines
}

fn line(event: &Event) -> String {
    let change = match event.change {
        Change::Staged => "staged",
        Change::Committed => "committed",
        Change::Demoted => "DEMOTED",
        Change::RolledBack => "rolled back",
    };
    let date = WallTime(event.at).date();
    format!("{date}  {change:<11} {}  {}", event.policy, printable(&event.why))
}
