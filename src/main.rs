//! The `regoal` program.

use std::io::Write as _;
use std::process::ExitCode;

use regoal::cli::{self, Cli};
use regoal::cmd::{Context, GaveUp, Interrupted, Told};
use regoal::daemon::{printable, systemd};

fn main() -> ExitCode {
    let cli = cli::parse();
    start_log(cli.verbose);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.is::<Interrupted>() => {
            let _ = writeln!(std::io::stderr(), "interrupted");
            ExitCode::from(130)
        }
        Err(e) if e.is::<Told>() => ExitCode::FAILURE,
        // Whoever read the output has read enough.
        Err(e) if is_broken_pipe(&e) => ExitCode::FAILURE,
        Err(e) => {
            print_error(&e);
            if e.is::<GaveUp>() { ExitCode::from(3) } else { ExitCode::FAILURE }
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    cli.verb.run(&Context::of_the_machine()?)
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    // tract warns of every file newer than its own tests; `tests/corpus.rs` covers them.
    let filter = format!("{level},tract_onnx=error");
    let environment = env_logger::Env::default().default_filter_or(filter);
    let mut builder = env_logger::Builder::from_env(environment);
    if systemd::writes_to_journal() {
        builder.format(|to, record| {
            let text = format!("{}: {}", record.target(), record.args());
            write!(to, "{}", systemd::journal_lines(record.level(), &text))
        });
    }
    builder.init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io =
        |e: &(dyn std::error::Error + 'static)| Some(e.downcast_ref::<std::io::Error>()?.kind());
    error.chain().any(|e| io(e) == Some(std::io::ErrorKind::BrokenPipe))
}

fn print_error(error: &anyhow::Error) {
    let mut said = error.to_string();
    let mut text = format!("error: {}\n", clean(&said));
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors tell their cause themselves.
        if !said.contains(&cause) {
            text += &format!("  because {}\n", clean(&cause));
            said = cause;
        }
    }
    if systemd::writes_to_journal() {
        text = systemd::journal_lines(log::Level::Error, &text);
    }
    eprint!("{text}");
}

/// An error may quote what came from elsewhere; its lines are its own.
fn clean(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
