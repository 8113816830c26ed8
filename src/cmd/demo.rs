//! `regoal demo`: the whole circle on an emulated arm. Each stage is a verb's own piece, called in
//! order: emulate, run, practise, finetune, evaluate, swap.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args as ClapArgs;

use super::picture::{self, GoalOutcome, Labels};
use super::progress::Bar;
use super::report::{Report, Stages, Summary};
use super::run::Running;
use super::simulate::{self, Evaluation, Practice};
use super::{Context, finetune, say, train};
use crate::config::RobotConfig;
use crate::control::{Command, GoalRequest};
use crate::engine::{Device, Engine, runtime};
use crate::env::{Workspace, start_pose};
use crate::episode::{Episode, Mode, Source};
use crate::joints::JointVec;
use crate::kinematics::Chain;
use crate::learn::finetune::FinetuneReport;
use crate::policy::{Policy, Store};
use crate::rng::{self, Stream};

/// Shows the whole circle on an emulated arm: run, log, relabel, fine-tune, swap, improve.
///
/// An emulated arm on a pseudo terminal reaches for held-out goals with a mediocre policy. The robot
/// then practises, learns from every attempt with hindsight, failures included, and the better policy
/// is swapped in while the arm keeps moving. Takes two to three minutes and leaves a folder with
/// everything it made.
///
/// Example: regoal demo --seed 1 --json summary.json
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Seed of goals, noise and batches
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Where everything goes; a folder made by an earlier demo is replaced
    #[arg(long, default_value = "regoal-demo", value_name = "FOLDER")]
    pub out: PathBuf,
    /// Write a summary here too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The robot's configuration
    #[arg(long, default_value = "firmware-config/emulated.toml")]
    pub robot: PathBuf,
    /// The policy to start from; its demonstrations stand beside it
    #[arg(long, default_value = "models/reach/policy.onnx", value_name = "FILE")]
    pub policy: PathBuf,
    /// Held-out goals that success is measured on, in memory
    #[arg(long, default_value_t = 200)]
    pub goals: usize,
    /// Held-out goals that are run over the pseudo terminal, before and after
    #[arg(long, default_value_t = 10)]
    pub live_goals: usize,
    /// The robot's own attempts
    #[arg(long, default_value_t = 300)]
    pub attempts: usize,
    /// Training steps
    #[arg(long, default_value_t = 5000)]
    pub steps: usize,
    /// Run the training step in tract, whatever else there is
    #[arg(long)]
    pub tract: bool,
}

/// The robot practises, then learns, this often.
const ROUNDS: usize = 2;
/// One in this many attempts is kept aside.
const VALIDATION_EVERY: usize = 10;
/// Goals that a candidate must not do worse on.
const VALIDATION_GOALS: usize = 100;
/// Exploration noise: stationary deviation in largest actions, and what it forgets per tick.
const NOISE: (f64, f64) = (0.1, 0.05);
/// Lies in a folder that a demo made and may replace.
const MARKER: &str = ".regoal-demo";

/// Runs the verb.
///
/// # Errors
/// A stage fails, or somebody presses Ctrl-C: the arm is held and the log closed then.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let demo = Demo::prepare(args, context)?;
    let report = demo.circle()?;
    demo.write(&report)?;
    say(report.table())?;
    say(format!("everything is in {}", args.out.display()))?;
    Ok(())
}

struct Demo<'a> {
    args: &'a Args,
    context: &'a Context,
    robot: RobotConfig,
    base: Vec<u8>,
    demonstrations: PathBuf,
    stages: Stages,
    /// Faults cleared on the live arm.
    faults: AtomicUsize,
}

impl<'a> Demo<'a> {
    fn prepare(args: &'a Args, context: &'a Context) -> Result<Self> {
        let stages = Stages::new(Arc::clone(&context.clock));
        let robot = RobotConfig::load(context.storage.as_ref(), &args.robot)?;
        let base = finetune::read(context, &args.policy)?;
        Policy::load(&base, &robot, &Engine::tract())
            .with_context(|| args.policy.display().to_string())?;
        let demonstrations = args.policy.with_file_name("demonstrations");
        if !demonstrations.is_dir() {
            bail!("expected the policy's demonstrations in {}", demonstrations.display());
        }
        fresh_folder(context, &args.out)?;
        Ok(Self { args, context, robot, base, demonstrations, stages, faults: AtomicUsize::new(0) })
    }

    /// The six stages.
    fn circle(&self) -> Result<Report> {
        let engine = self.stages.time("runtime", || self.engine())?;
        let episodes = self.args.out.join("episodes/live");
        let mut robot = self.robot.clone();
        robot.bus.port = "emulated".into();
        let running = self.stages.time("start", || {
            let running = Running::start(&robot, &self.base, &episodes, self.context)?;
            running.arm()?;
            anyhow::Ok(running)
        })?;
        note(format!("emulated arm `{}` on {}", robot.name, running.port));
        // The loop's threads are running: all that follows comes after them.
        crate::os::become_nice();

        let live_before = self.stages.time("live_before", || self.live(&running, "before"))?;
        let before = self.stages.time("measure_before", || {
            self.evaluate("success before", &self.base, Stream::HeldOut, self.args.goals)
        })?;
        let (tuned, candidate) = self.learn()?;
        let control = self.stages.time("control", || self.control())?;
        let demos_only = self.stages.time("measure_control", || {
            self.evaluate("demonstrations only", &control, Stream::HeldOut, self.args.goals)
        })?;
        let after = self.stages.time("measure_after", || {
            self.evaluate("success after", &candidate, Stream::HeldOut, self.args.goals)
        })?;
        let accepted = self.stages.time("validate", || self.validate(&candidate))?;
        let swapped = self.stages.time("swap", || match accepted {
            true => self.swap_while_reaching(&running, &candidate),
            false => Ok(false),
        })?;
        let live_after = self.stages.time("live_after", || self.live(&running, "after"))?;
        let status = running.handle().status();
        let logged = running.log().episodes() as usize + self.args.attempts;
        if let Some(error) = running.log().last_error() {
            bail!("an episode was not logged: {error}");
        }
        Ok(Report {
            summary: Summary {
                seed: self.args.seed,
                engine,
                goals: self.args.goals,
                success_before: before.rate().value(),
                success_demos_only: demos_only.rate().value(),
                success_after: after.rate().value(),
                accepted,
                live_before,
                live_after,
                episodes: logged,
                ticks: status.counters.ticks,
                missed_ticks: status.counters.missed,
                faults_cleared: self.faults.load(Ordering::Relaxed),
                realtime: crate::os::realtime(),
                lateness_us: status.jitter.lateness.quantiles(),
                swapped_while_running: swapped,
                loss_first_epoch: tuned.first().and_then(|r| r.losses.first().copied()),
                loss_last_epoch: tuned.last().and_then(|r| r.losses.last().copied()),
                stages: self.stages.seconds(),
            },
            before,
            demos_only,
            after,
        })
    }

    /// Puts ONNX Runtime in place when it is missing; without it the training step runs in tract.
    fn engine(&self) -> Result<String> {
        if self.args.tract {
            return Ok(Engine::tract().name().to_owned());
        }
        let mut engine = Engine::best(None, Device::Cpu)?;
        if engine.name() == "tract" {
            note("ONNX Runtime is missing: fetching it (`regoal runtime install`)");
            let storage = self.context.storage.as_ref();
            match runtime::install(storage, None, false, &mut |_| ()) {
                Ok(_) => engine = Engine::best(None, Device::Cpu)?,
                Err(error) => note(format!("{error}\n  training in tract instead")),
            }
        }
        note(format!("training steps run in {} {}", engine.name(), engine.version()));
        Ok(engine.name().to_owned())
    }

    /// Goals over the pseudo terminal in real time; how many were reached.
    fn live(&self, running: &Running, what: &str) -> Result<usize> {
        let bar = Bar::new(&format!("over the pty, {what}"), self.args.live_goals);
        let workspace = Workspace::new(&Chain::named(&self.robot.model)?);
        let mut reached = 0;
        for i in 0..self.args.live_goals as u64 {
            let mut rng = rng::item(self.args.seed, Stream::HeldOut, i);
            let goal = workspace.sample(&mut rng);
            let start = start_pose(&self.robot, &mut rng);
            self.go_to(running, &start)?;
            let request = simulate::request(&self.robot, goal, Source::Evaluation);
            let id = running.handle().reach(request)?;
            reached += usize::from(self.wait_for(running, id)?);
            bar.inc();
        }
        bar.finish();
        note(format!("{reached} of {} goals reached over the pty", self.args.live_goals));
        Ok(reached)
    }

    /// Waits for a goal's end; whether it was reached.
    fn wait_for(&self, running: &Running, id: u64) -> Result<bool> {
        loop {
            self.stop_if_interrupted(running)?;
            if let Some(result) = running.handle().wait_for(id, Duration::from_millis(100)) {
                return Ok(result.success);
            }
            if running.handle().status().ended {
                bail!("the control loop has ended");
            }
        }
    }

    fn go_to(&self, running: &Running, pose: &JointVec<f64>) -> Result<()> {
        self.clear_fault(running)?;
        running.handle().command(Command::Move(pose.clone()))?;
        let clock = &self.context.clock;
        let until = clock.now() + Duration::from_secs(3);
        loop {
            self.stop_if_interrupted(running)?;
            let step = running.handle().status().step;
            let there = step.position.iter().zip(pose);
            let there = there.into_iter().all(|(q, p)| (f64::from(*q) - p).abs() < 0.02);
            if there || clock.now() > until {
                return Ok(());
            }
            clock.sleep_until(clock.now() + Duration::from_millis(10));
        }
    }

    /// The demo is its own operator: it says what stopped the arm, and clears it.
    fn clear_fault(&self, running: &Running) -> Result<()> {
        if let Mode::Faulted(fault) = running.handle().status().step.mode {
            note(format!("the arm was stopped by a fault ({fault:?}); clearing it"));
            self.faults.fetch_add(1, Ordering::Relaxed);
            running.handle().command(Command::Arm)?;
        }
        Ok(())
    }

    /// Ctrl-C: the arm is held; dropping what runs closes the log.
    fn stop_if_interrupted(&self, running: &Running) -> Result<()> {
        if self.context.check().is_err() {
            running.handle().command(Command::Stop)?;
        }
        Ok(self.context.check()?)
    }

    fn load(&self, policy: &[u8]) -> Result<Policy> {
        Ok(Policy::load(policy, &self.robot, &Engine::tract())?)
    }

    fn evaluate(
        &self,
        what: &str,
        policy: &[u8],
        stream: Stream,
        goals: usize,
    ) -> Result<Evaluation> {
        let bar = Bar::new(what, goals);
        let policy = self.load(policy)?;
        let of = (stream, self.args.seed, goals);
        let evaluation = simulate::evaluate(self.context, &self.robot, policy, of, &|| bar.inc());
        bar.finish();
        let evaluation = evaluation?;
        note(format!("{what}: {}", evaluation.rate()));
        Ok(evaluation)
    }

    /// Practises and learns, in rounds: the reports and the candidate.
    fn learn(&self) -> Result<(Vec<FinetuneReport>, Vec<u8>)> {
        let mut policy = self.args.policy.clone();
        let mut folders = vec![self.demonstrations.clone()];
        let mut reports = Vec::new();
        for round in 0..ROUNDS {
            let folder = self.args.out.join(format!("episodes/attempts-{}", round + 1));
            self.stages.time("attempts", || self.practise(round, &policy, &folder))?;
            folders.push(folder);
            let out = self.args.out.join(format!("round-{}", round + 1));
            let report =
                self.stages.time("finetune", || self.finetune(&policy, &folders, &out, false))?;
            policy = out.join("policy.onnx");
            reports.push(report);
        }
        Ok((reports, finetune::read(self.context, &policy)?))
    }

    fn practise(&self, round: usize, policy: &Path, folder: &Path) -> Result<()> {
        let first = self.args.attempts * round / ROUNDS;
        let attempts = self.args.attempts * (round + 1) / ROUNDS - first;
        let how = Practice {
            attempts,
            first: first as u64,
            seed: self.args.seed,
            noise: NOISE.0,
            forget: NOISE.1,
            validation_every: VALIDATION_EVERY,
        };
        let bar = Bar::new(&format!("own attempts, round {}", round + 1), attempts);
        let policy = self.load(&finetune::read(self.context, policy)?)?;
        let on_goal = || bar.inc();
        let practised =
            simulate::practise(self.context, &self.robot, policy, &how, folder, &on_goal);
        bar.finish();
        let (rate, _) = practised?;
        let failures = rate.n - rate.successes;
        note(format!("{attempts} own attempts logged, {failures} of them failures"));
        Ok(())
    }

    /// The control of the experiment: as many steps on the demonstrations alone.
    fn control(&self) -> Result<Vec<u8>> {
        let out = self.args.out.join("demonstrations-only");
        let folders = [self.demonstrations.clone()];
        self.finetune(&self.args.policy, &folders, &out, true)?;
        finetune::read(self.context, &out.join("policy.onnx"))
    }

    /// `regoal finetune` as a process of its own that cannot disturb the loop.
    fn finetune(
        &self,
        policy: &Path,
        episodes: &[PathBuf],
        out: &Path,
        control: bool,
    ) -> Result<FinetuneReport> {
        let steps = if control { self.args.steps } else { self.args.steps / ROUNDS };
        let mut process = Process::new(std::env::current_exe()?);
        process.arg("finetune").arg("--policy").arg(policy).arg("--out").arg(out);
        process.arg("--steps").arg(steps.to_string());
        process.arg("--seed").arg(self.args.seed.to_string()).arg("--json");
        for folder in episodes {
            process.arg("--episodes").arg(folder);
        }
        if control {
            process.arg("--demonstrations-only");
        }
        if self.args.tract {
            process.arg("--tract");
        }
        let mut child = process.stdout(Stdio::null()).spawn().context("starting `finetune`")?;
        let clock = &self.context.clock;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.context.check().is_err() {
                child.kill()?;
                child.wait()?;
            }
            self.context.check()?;
            clock.sleep_until(clock.now() + Duration::from_millis(20));
        };
        self.context.check()?;
        anyhow::ensure!(status.success(), "`regoal finetune` failed ({status})");
        let report = finetune::read(self.context, &out.join("report.json"))?;
        let report: FinetuneReport = serde_json::from_slice(&report)?;
        note(format!(
            "loss {:.4} -> {:.4}{}",
            report.losses.first().copied().unwrap_or(f32::NAN),
            report.losses.last().copied().unwrap_or(f32::NAN),
            if control { " (demonstrations only)" } else { "" }
        ));
        Ok(report)
    }

    /// Whether the candidate is no worse than the policy in use, on goals of its own.
    fn validate(&self, candidate: &[u8]) -> Result<bool> {
        let of =
            |what, policy: &[u8]| self.evaluate(what, policy, Stream::Validation, VALIDATION_GOALS);
        let base = of("validation, old policy", &self.base)?;
        let new = of("validation, candidate", candidate)?;
        let accepted = new.rate().successes >= base.rate().successes;
        if !accepted {
            note("the candidate is worse and is refused: the old policy steers on");
        }
        let store = Store::open(Arc::clone(&self.context.storage), &self.args.out.join("store"))?;
        store.stage(&self.base)?;
        store.commit()?;
        if accepted {
            store.stage(candidate)?;
            store.commit()?;
        }
        Ok(accepted)
    }

    /// Swaps the candidate in while the arm reaches for a goal, and reads back from the episode's
    /// file that two consecutive ticks were steered by the old and the new policy.
    fn swap_while_reaching(&self, running: &Running, candidate: &[u8]) -> Result<bool> {
        let workspace = Workspace::new(&Chain::named(&self.robot.model)?);
        let mut rng = rng::item(self.args.seed, Stream::Validation, u64::from(u32::MAX));
        self.go_to(running, &start_pose(&self.robot, &mut rng))?;
        let goal = workspace.sample(&mut rng);
        let asked = GoalRequest {
            end_when_reached: false,
            ..simulate::request(&self.robot, goal, Source::Evaluation)
        };
        let id = running.handle().reach(asked)?;
        let clock = &self.context.clock;
        clock.sleep_until(clock.now() + Duration::from_millis(500));
        let swapped = running.swap(candidate)?;
        note(format!(
            "swapped in after {} shadow runs (p99 {:?} per action)",
            swapped.shadow_runs, swapped.p99
        ));
        self.wait_for(running, id)?;
        let file = self.newest_episode(running)?;
        let episode = Episode::read(self.context.storage.as_ref(), &file)?;
        let (old, new) = (crate::policy::id_of(&self.base), swapped.policy);
        let seen = episode.steps.windows(2).any(|pair| {
            pair[0].policy == old && pair[1].policy == new && pair[1].tick == pair[0].tick + 1
        });
        note(format!("{}: old and new policy in consecutive ticks: {seen}", file.display()));
        Ok(seen)
    }

    /// The last episode's file, once its log is closed.
    fn newest_episode(&self, running: &Running) -> Result<PathBuf> {
        let log = running.log();
        let goals = self.args.live_goals as u64 + 1;
        let clock = &self.context.clock;
        let until = clock.now() + Duration::from_secs(5);
        while log.episodes() < goals && log.failures() == 0 && clock.now() < until {
            clock.sleep_until(clock.now() + Duration::from_millis(20));
        }
        let folder = self.args.out.join("episodes/live");
        let listed = crate::episode::list(self.context.storage.as_ref(), &folder)?;
        listed.last().map(|s| s.path.clone()).context("no episode was logged")
    }

    fn write(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_vec_pretty(&report.summary)?;
        let out = |name: &str| self.args.out.join(name);
        train::write(self.context, &out("summary.json"), &json)?;
        train::write(self.context, &out("table.txt"), report.table().as_bytes())?;
        if let Some(path) = &self.args.json {
            train::write(self.context, path, &json)?;
        }
        let pairs = report.before.trials.iter().zip(&report.after.trials);
        let outcomes: Vec<GoalOutcome> = pairs
            .filter_map(|(before, after)| {
                Some(GoalOutcome {
                    goal: before.goal.as_slice().try_into().ok()?,
                    before: before.result.success,
                    after: after.result.success,
                })
            })
            .collect();
        let labels = Labels {
            title: "Learned from its own attempts, failures included".into(),
            subtitle: format!(
                "regoal demo --seed {}: the same {} held-out goals, tolerance 2 cm, seen from above",
                self.args.seed, self.args.goals
            ),
            before: "before".into(),
            after: "after".into(),
        };
        picture::save(self.context.storage.as_ref(), &out("success"), &outcomes, &labels)
    }
}

/// Makes an empty folder, over one that an earlier demo made.
fn fresh_folder(context: &Context, folder: &Path) -> Result<()> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        std::fs::remove_dir_all(folder)
            .with_context(|| format!("removing the earlier demo in {}", folder.display()))?;
    } else if folder.exists() {
        bail!(
            "{} exists and was not made by `regoal demo`: choose another --out",
            folder.display()
        );
    }
    train::write(context, &marker, b"made by `regoal demo`, which may replace this folder\n")
}

/// A line about a stage, on standard error.
fn note(line: impl std::fmt::Display) {
    eprintln!("  {line}");
}
