//! The programs that figures are compared with: processes of `peers.py`, which take turns with ours.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use regoal::onnx::Graph;

use super::measure::{Contender, ROUND};

/// The Python that has a peer: `REGOAL_PEERS`, or what `tools/bench/run --setup` made; for
/// `imitation`, which needs other versions, the one within that.
pub fn python(peer: &str) -> Option<PathBuf> {
    let made = || Some(cache()?.join("bin/python"));
    let common = std::env::var_os("REGOAL_PEERS").map(PathBuf::from).or_else(made)?;
    let python = match peer {
        IMITATION => common.parent()?.parent()?.join("imitation/bin/python"),
        _ => common,
    };
    python.exists().then_some(python)
}

const IMITATION: &str = "imitation";

fn cache() -> Option<PathBuf> {
    Some(dirs::cache_dir()?.join("regoal/peers"))
}

fn command(peer: &str) -> Option<Command> {
    let mut command = Command::new(python(peer)?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bench/peers.py"));
    Some(command)
}

/// A peer at work; it ends when this is dropped.
struct Peer {
    child: Child,
    /// `None` once it is to end.
    orders: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    fn start(name: &str, figure: &str, threads: usize) -> Option<Self> {
        let mut command = command(name)?;
        command.args([name, figure]).env("THREADS", threads.to_string());
        let peer = Self::of(command);
        if peer.is_none() {
            eprintln!("no {name} for {figure}: see `tools/bench/peers.py {name} {figure}`");
        }
        peer
    }

    /// One that is run by this command.
    fn of(mut command: Command) -> Option<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take()?).lines();
        let mut peer = Self { child, orders, answers };
        let ready = peer.answers.by_ref().map_while(Result::ok).any(|line| line == "ready");
        ready.then_some(peer)
    }

    /// The numbers of one round.
    fn round<const N: usize>(&mut self) -> Option<[f64; N]> {
        writeln!(self.orders.as_mut()?, "round {}", ROUND.as_secs_f64()).ok()?;
        let line = self.answers.next()?.ok()?;
        let numbers: Option<Vec<f64>> = line.split(' ').map(|x| x.parse().ok()).collect();
        numbers?.try_into().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// A peer that takes turns with ours; it answers nothing where it is not installed.
pub fn contender<const N: usize>(
    name: &str,
    figure: &str,
    threads: usize,
) -> Contender<'static, N> {
    let mut peer = Peer::start(name, figure, threads);
    Box::new(move || peer.as_mut()?.round())
}

/// The same of a program that takes the same orders; nothing where there is no command.
pub fn contender_of<const N: usize>(command: Option<Command>, name: &str) -> Contender<'static, N> {
    let mut peer = command.and_then(Peer::of);
    if peer.is_none() {
        eprintln!("no {name}");
    }
    Box::new(move || peer.as_mut()?.round())
}

/// A policy of the peers as PyTorch exports it, kept in the user's cache; `None` where they are not
/// installed.
pub fn exported(model: &str, batch: usize) -> Option<Graph> {
    let path = cache()?.join(format!("{model}-{batch}.onnx"));
    if !path.exists() {
        std::fs::create_dir_all(path.parent()?).ok()?;
        let mut command = command("export")?;
        command.args(["export", model, &batch.to_string()]).arg(&path);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
        done.success().then_some(())?;
    }
    Graph::from_bytes(&std::fs::read(path).ok()?).ok()
}
