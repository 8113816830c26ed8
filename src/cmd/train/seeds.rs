//! Several seeds: each is a process of its own, so that none can change another's result.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::folder::Folder;
use super::plan::{FILE, Plan};
use crate::cmd::engine::EngineArgs;
use crate::cmd::progress::Bar;
use crate::cmd::{Context, say};

/// The folders of a plan's seeds: its own where it has one seed.
pub fn folders(plan: &Plan, folder: &Folder) -> Vec<Folder> {
    match plan.seeds.as_slice() {
        [_] => vec![folder.clone()],
        seeds => seeds.iter().map(|seed| folder.of_seed(*seed)).collect(),
    }
}

/// How the seeds are run.
pub struct Seeds<'a> {
    /// Signals and clock.
    pub context: &'a Context,
    /// What decides them.
    pub plan: &'a Plan,
    /// Where they go.
    pub folder: &'a Folder,
    /// The choice of an engine, handed on.
    pub engine: &'a EngineArgs,
    /// How many at a time.
    pub jobs: usize,
    /// Whether the seeds' lines of JSON are printed.
    pub json: bool,
}

/// A seed that runs.
struct Job {
    seed: u64,
    child: Child,
    /// What it wrote on standard error, once it has ended.
    errors: std::thread::JoinHandle<String>,
}

impl Seeds<'_> {
    /// Runs all seeds that are not done, `jobs` at a time; true when it was told to end before that.
    ///
    /// # Errors
    /// A seed failed: the others are then told to end.
    pub fn run(&self) -> Result<bool> {
        for seed in &self.plan.seeds {
            let folder = self.folder.of_seed(*seed);
            if folder.read(FILE)?.is_none() {
                folder.write(FILE, self.plan.of_seed(*seed).to_toml()?.as_bytes())?;
            }
        }
        let (sender, lines) = mpsc::channel();
        let total = self.plan.steps * self.plan.seeds.len() as u64;
        let bar = Bar::of_steps(
            &format!("{}, {} seeds", self.plan.label(), self.plan.seeds.len()),
            total,
        );
        let mut waiting: VecDeque<u64> = self.plan.seeds.iter().copied().collect();
        let (mut jobs, mut told, mut failed) = (Vec::new(), false, None);
        let mut reached = vec![0; self.plan.seeds.len()];
        while !(jobs.is_empty() && (waiting.is_empty() || told)) {
            while jobs.len() < self.jobs && !told {
                let Some(seed) = waiting.pop_front() else { break };
                jobs.push(self.start(seed, sender.clone())?);
            }
            self.show(&lines, &mut reached, &bar)?;
            if let Err(error) = reap(&mut jobs) {
                failed.get_or_insert(error);
            }
            if !told && (self.context.check().is_err() || failed.is_some()) {
                // Each finishes its iteration and saves.
                jobs.iter().for_each(interrupt);
                told = true;
            }
            let clock = &self.context.clock;
            clock.sleep_until(clock.now() + Duration::from_millis(20));
        }
        self.show(&lines, &mut reached, &bar)?;
        bar.finish();
        failed.map_or(Ok(told), Err)
    }

    fn start(&self, seed: u64, lines: Sender<String>) -> Result<Job> {
        let mut process = Command::new(&self.context.program);
        process.arg("train").arg(&self.plan.method).arg("--json");
        process.arg("--resume").arg(self.folder.of_seed(seed).path());
        process.arg("--steps").arg(self.plan.steps.to_string());
        let share = (self.jobs / self.plan.seeds.len()).max(1);
        process.arg("--jobs").arg(share.to_string());
        process.args(self.engine.arguments());
        // A Ctrl-C of the terminal reaches this process, which hands it on: a second one would end
        // them before they have saved.
        process.process_group(0);
        process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = process.spawn().context("starting a seed")?;
        let (out, mut err) = (child.stdout.take(), child.stderr.take());
        std::thread::spawn(move || {
            let read = out.into_iter().flat_map(|out| BufReader::new(out).lines());
            read.map_while(Result::ok).for_each(|line| drop(lines.send(line)));
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            if let Some(err) = &mut err {
                let _ = err.read_to_string(&mut text);
            }
            text
        });
        Ok(Job { seed, child, errors })
    }

    /// Shows what the seeds have said.
    fn show(&self, lines: &Receiver<String>, reached: &mut [u64], bar: &Bar) -> Result<()> {
        for line in lines.try_iter() {
            if self.json {
                say(&line)?;
            }
            let Ok(row) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let number = |key: &str| row.get(key).and_then(serde_json::Value::as_f64);
            let (Some(seed), Some(steps)) = (row["seed"].as_u64(), row["steps"].as_u64()) else {
                continue;
            };
            let place = self.plan.seeds.iter().position(|s| *s == seed);
            if let Some(reached) = place.and_then(|place| reached.get_mut(place)) {
                *reached = steps.min(self.plan.steps);
            }
            let result = match (number("any"), number("return")) {
                (Some(any), _) => format!("success {:.1} % at any time", 100.0 * any),
                (None, found) => format!("return {:.1}", found.unwrap_or(f64::NAN)),
            };
            if !self.json {
                let cpu = number("cpu_seconds").unwrap_or(0.0);
                bar.note(&format!("  seed {seed} {steps:>9} steps {cpu:>8.1} cpu-s  {result}"));
            }
            bar.set(reached.iter().sum::<u64>() as usize, &result);
        }
        Ok(())
    }
}

fn interrupt(job: &Job) {
    if let Some(pid) = rustix::process::Pid::from_raw(job.child.id() as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    }
}

/// Takes the jobs out that have ended.
///
/// # Errors
/// One of them failed.
fn reap(jobs: &mut Vec<Job>) -> Result<()> {
    let mut i = 0;
    while i < jobs.len() {
        let Some(status) = jobs[i].child.try_wait()? else {
            i += 1;
            continue;
        };
        let job = jobs.swap_remove(i);
        let errors = job.errors.join().unwrap_or_default();
        // 130: told to end, and saved.
        if !status.success() && status.code() != Some(130) {
            let last = errors.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("");
            bail!("seed {} failed ({status}): {last}", job.seed);
        }
    }
    Ok(())
}
