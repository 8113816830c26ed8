//! Plays actions in a Fetch environment: a line of JSON in, a line of JSON out.
//!
//! In: `{"env": NAME, "blocks": [[x, y], ...], "goal": [...], "actions": [[a, ...], ...]}`.
//! Out: the observations in `f64`, that of the start first.

use std::io::Write as _;

use regoal::env::fetch::Fetch;
use regoal::env::mujoco::install::{Installed, folder};
use regoal::env::{Env as _, EnvError};
use regoal::storage::Disk;

#[derive(serde::Deserialize)]
struct Episode {
    env: String,
    blocks: Vec<[f64; 2]>,
    goal: Vec<f32>,
    actions: Vec<Vec<f32>>,
}

fn play(episode: &Episode) -> Result<Vec<Vec<f64>>, EnvError> {
    let installed = Installed::open(&Disk, &folder()?)?;
    let mut env = Fetch::open(&installed, None, &episode.env)?;
    env.place(&episode.blocks, &episode.goal)?;
    let mut seen = vec![env.exact().to_vec()];
    for action in &episode.actions {
        env.step(action)?;
        seen.push(env.exact().to_vec());
    }
    Ok(seen)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for line in std::io::stdin().lines() {
        let seen = play(&serde_json::from_str(&line?)?)?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&seen)?)?;
    }
    Ok(())
}
