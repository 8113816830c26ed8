//! `regoal api`: the API's description.

use super::{Context, say};
use crate::daemon;

/// Prints the API of a running robot as an OpenAPI document, for programs that talk to it
///
/// It is of OpenAPI 3.1, and the same is at /v1/openapi.json of every running robot. `x-role` says who
/// may what: observe, goal, deploy, admin, each more than the one before.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal api > regoal.json
  regoal api | jq -r '.paths | keys[]'
  curl --unix-socket $XDG_RUNTIME_DIR/regoal/so101.sock http://robot/v1/status")]
pub struct Args {}

/// Runs the verb.
///
/// # Errors
/// Nobody reads any more.
pub fn run(_: &Args, _: &Context) -> anyhow::Result<()> {
    Ok(say(serde_json::to_string_pretty(&daemon::document())?)?)
}
