//! `regoal object`: where the object is that goals are for.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Context, Daemon};
use crate::daemon::{Client, Object};

/// Tells where the object is that goals are for: metres in the base frame
///
/// For a robot with `control.goal_space = "object_position"`: something outside, such as a camera,
/// knows where the object is, and tells `regoal run` or `regoal record`. What was told is forgotten
/// after `control.stream_timeout_s`: then goals end with the arm held. So a place is told again and
/// again until Ctrl-C; without one, each line of standard input is. Programs may use the API
/// instead: POST /v1/object.
#[derive(Debug, clap::Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "Examples:
  regoal object 0.10 -0.25 0.02           it lies there, until Ctrl-C
  regoal object 0.10 -0.25 0.02 --once
  my-tracker | regoal object              a line \"x y z\" whenever it was seen"
)]
pub struct Args {
    /// X Y Z (m); if not given, lines of standard input are told.
    #[arg(value_name = "M", num_args = 3)]
    position: Vec<f32>,
    /// Tell it once and end.
    #[arg(long, requires = "position")]
    once: bool,
    #[command(flatten)]
    daemon: Daemon,
}

/// How often a place is told.
const PERIOD: Duration = Duration::from_millis(100);

/// Runs the verb.
///
/// # Errors
/// No daemon, its goals are not of an object, or a line is no place.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let client = args.daemon.client(context)?;
    let [x, y, z] = args.position[..] else { return follow(&client, context) };
    loop {
        client.object(Object { position: [x, y, z] })?;
        if args.once {
            return Ok(());
        }
        context.clock.sleep_until(context.clock.now() + PERIOD);
        context.check()?;
    }
}

/// Tells each line of standard input.
fn follow(client: &Client, context: &Context) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        context.check()?;
        let line = line?;
        let position = place(&line).with_context(|| format!("in the line {line:?}"))?;
        client.object(Object { position })?;
    }
    Ok(())
}

fn place(line: &str) -> anyhow::Result<[f32; 3]> {
    let numbers: Vec<f32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [x, y, z] = numbers[..] else {
        bail!("expected x y z (m), found {} numbers", numbers.len())
    };
    Ok([x, y, z])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_three_numbers() {
        assert_eq!(place(" 0.1 -0.2\t0 ").unwrap(), [0.1, -0.2, 0.0]);
        for wrong in ["", "0.1 0.2", "0 0 0 0", "a b c"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
