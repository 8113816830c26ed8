//! `regoal policy rollback`: back to the policy before.

use anyhow::Result;
use clap::Args as ClapArgs;
use serde_json::json;

use super::install::{Place, person};
use crate::cmd::{Context, say, say_json};

/// Goes back: a policy that is staged or on trial is dropped, else the policy before is the active one
/// again. Of a robot that runs (--to, --socket) it steers at once; in a store, from the next start on.
///
/// Example: regoal policy rollback --store policies --why "drops the cup"
///
/// Example: regoal policy rollback --to https://robot:7423 --why "drops the cup"
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which store
    #[command(flatten)]
    pub place: Place,
    /// Why, for those who ask `regoal policy list`
    #[arg(long, value_name = "TEXT", default_value = "no reason given")]
    pub why: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
///
/// # Errors
/// There is nothing to go back to.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let active = match args.place.client(context)? {
        Some(client) => client.roll_back(&args.why)?.state.active.map(|entry| entry.policy),
        None => {
            let store = args.place.open(context)?;
            store.roll_back(&format!("{} by {}", args.why, person()))?
        }
    };
    let active = active.map(|policy| policy.to_string());
    match active {
        active if args.json => say_json(&json!({ "active": active })),
        Some(active) => Ok(say(format!("policy {active} is the active one"))?),
        None => Ok(say("no policy is active: the one on trial was the first")?),
    }
}
