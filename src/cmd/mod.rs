//! One verb, one file: `Args` and `run`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

/// Says a line on standard output, if anybody reads it: nobody has to, least of all a robot at work.
macro_rules! tell {
    ($($line:tt)*) => {
        $crate::cmd::tell_to(std::io::stdout(), format_args!($($line)*))
    };
}

/// The same on standard error, for what is no result.
macro_rules! remark {
    ($($line:tt)*) => {
        $crate::cmd::tell_to(std::io::stderr(), format_args!($($line)*))
    };
}

mod actors;
pub mod api;
pub mod arm;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod emulate;
pub mod engine;
pub mod episodes;
pub mod finetune;
pub mod goal;
pub mod goals;
pub mod keypoints;
pub mod keys;
pub mod object;
pub mod pair;
pub mod picture;
pub mod policy;
pub mod progress;
pub mod record;
pub mod replay;
pub mod robot;
pub mod run;
pub mod runtime;
pub mod shift;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod takeover;
pub mod train;
pub mod try_load;
mod tuning;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};

use crate::clock::{Clock, SystemClock};
pub(crate) use crate::daemon::printable;
use crate::daemon::{self, Client, KeyFile, RemoteAddress};
use crate::storage::{Disk, Storage};

/// What every verb gets from `main`.
#[derive(Clone)]
pub struct Context {
    /// The files.
    pub storage: Arc<dyn Storage>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Becomes true at Ctrl-C or when the program is told to end.
    pub interrupted: Arc<AtomicBool>,
    /// The `regoal` program, for what works in a process of its own.
    pub program: PathBuf,
}

/// The program was told to end before it was done.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Something failed, and the user was told what: only the exit code is left to say.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("failed")]
pub struct Told;

/// Starting again would not help: a person must look at the arm.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "the control process died too often; the arm is left as said above: look at it, then start again"
)]
pub struct GaveUp;

impl Context {
    /// The machine's files, clock and signals: the first SIGINT, SIGTERM or SIGHUP sets
    /// [`interrupted`](Self::interrupted), a second one ends the program at once.
    ///
    /// # Errors
    /// The system lets no signal be handled, or does not tell which file this program is.
    pub fn of_the_machine() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // In this order: the first signal finds the flag unset and sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 130, interrupted.clone())?;
            signal_hook::flag::register(signal, interrupted.clone())?;
        }
        let program = std::env::current_exe()?;
        Ok(Self { storage: Arc::new(Disk), clock: Arc::new(SystemClock), interrupted, program })
    }

    /// For loops that a person may end.
    ///
    /// # Errors
    /// The program was told to end.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }
}

/// Which running robot is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Daemon {
    /// The robot's name, as in its configuration. With one robot running it need not be given.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["socket", "to"])]
    robot: Option<String>,
    #[command(flatten)]
    at: Endpoint,
}

/// Where a running robot is reached.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Endpoint {
    /// The daemon's socket, for one started with `regoal run --socket`.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A robot elsewhere, such as https://robot:7423; `regoal pair` gives the key for it.
    #[arg(long, value_name = "URL", conflicts_with = "socket")]
    to: Option<RemoteAddress>,
    /// The key's file for --to; by default where `regoal pair` has put it.
    #[arg(long, value_name = "FILE", requires = "to", conflicts_with = "socket")]
    key: Option<PathBuf>,
}

/// Where the key for a robot elsewhere is kept unless told otherwise.
fn key_path(authority: &str) -> anyhow::Result<PathBuf> {
    let folder = dirs::config_dir().context("no configuration folder is known: give a file")?;
    Ok(folder.join("regoal/keys").join(format!("{}.json", authority.replace([':', '/'], "_"))))
}

impl Endpoint {
    fn elsewhere(&self, to: &RemoteAddress, context: &Context) -> anyhow::Result<Client> {
        let path = self.key.clone().map_or_else(|| key_path(&to.authority), Ok)?;
        let at = &to.authority;
        let bytes = context.storage.read(&path).with_context(|| {
            format!("no key in {}: get one by `regoal pair --to https://{at}`", path.display())
        })?;
        let mut key: KeyFile = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not a key of `regoal pair`", path.display()))?;
        key.address.clone_from(at);
        Ok(Client::with_key(&key))
    }

    /// The client of the daemon there; none where nothing was named.
    fn client(&self, context: &Context) -> anyhow::Result<Option<Client>> {
        match (&self.to, &self.socket) {
            (Some(to), _) => self.elsewhere(to, context).map(Some),
            (None, Some(socket)) => Ok(Some(Client::new(socket))),
            (None, None) => Ok(None),
        }
    }
}

impl Daemon {
    /// The client of the daemon that is meant.
    fn client(&self, context: &Context) -> anyhow::Result<Client> {
        if let Some(client) = self.at.client(context)? {
            return Ok(client);
        }
        if let Some(robot) = &self.robot {
            return Ok(Client::new(daemon::default_socket(robot)));
        }
        let found = daemon::find_sockets(context.storage.as_ref());
        match found.as_slice() {
            [] => bail!("no robot is running: start one with `regoal run`, or name its `--socket`"),
            [one] => Ok(Client::new(one)),
            several => {
                let names: Vec<_> =
                    several.iter().filter_map(|p| p.file_stem()?.to_str()).collect();
                bail!(
                    "expected one running robot, found {}: choose with `--robot`",
                    names.join(", ")
                )
            }
        }
    }
}

fn tell_to(mut stream: impl std::io::Write, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(stream, "{line}");
}

/// Prints a line; an error when nobody reads any more.
fn say(line: impl std::fmt::Display) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}

/// Prints a value as one line of JSON.
fn say_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    Ok(say(serde_json::to_string(value)?)?)
}
