//! `regoal train gan`: does a better discriminator teach the generator more?

use anyhow::Result;

use super::folder::Folder;
use super::{Args, say};
use crate::cmd::{Context, say_json};
use crate::learn::adversarial::{self, GameSettings, four_clusters};
use crate::learn::settings;

/// Steps of the discriminator: one, some, and as many as it takes to converge.
const STEPS: [usize; 3] = [1, 5, 1000];
/// Discriminators that a line is the mean of.
const ROUNDS: u64 = 3;

/// Prints the discriminator's accuracy against the generator's gradient for each number of
/// discriminator steps and both losses, and writes `gan.csv` to `--out`.
///
/// # Errors
/// A setting is unknown, or the engine or a file failed.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut table = settings::table(&GameSettings::default(), "defaults")?;
    for text in &args.set {
        settings::lay_over(&mut table, settings::assignment(text)?);
    }
    let game: GameSettings = settings::parse(table, "--set")?;
    let engine = args.engine.open()?;
    let lines = adversarial::report(&engine, &game, four_clusters, &STEPS, ROUNDS)?;
    if let Some(out) = &args.out {
        Folder::new(&context.storage, out).write("gan.csv", adversarial::csv(&lines).as_bytes())?;
    }
    if args.json {
        return say_json(&lines);
    }
    say("steps of D   loss of G         accuracy of D   gradient of G")?;
    for line in &lines {
        let loss = line.generator.name();
        say(format_args!(
            "{:>10}   {loss:<15} {:>15.2} {:>15.4}",
            line.k, line.accuracy, line.gradient
        ))?;
    }
    Ok(())
}
