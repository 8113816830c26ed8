//! `regoal completions`: for the shell.

use super::Context;

/// Prints a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regoal completions bash > ~/.local/share/bash-completion/completions/regoal
  regoal completions fish > ~/.config/fish/completions/regoal.fish")]
pub struct Args {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Runs the verb for the arguments that `command` describes.
///
/// # Errors
/// Nobody reads the script.
pub fn run(args: &Args, mut command: clap::Command, _context: &Context) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "regoal", &mut script);
    Ok(std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?)
}
