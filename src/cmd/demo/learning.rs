//! Practice, fine-tuning, its control, and the judgement.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Demo, note};
use crate::cmd::finetune;
use crate::cmd::progress::Bar;
use crate::cmd::simulate::{self, Evaluation, Practice};
use crate::engine::Engine;
use crate::learn::finetune::FinetuneReport;
use crate::policy::{Policy, Store};
use crate::rng::Stream;

/// The robot practises, then learns, this often.
const ROUNDS: usize = 2;
/// One in this many attempts is kept aside.
const VALIDATION_EVERY: usize = 10;
/// Goals that a candidate must not do worse on.
const VALIDATION_GOALS: usize = 100;
/// Exploration noise: stationary deviation in largest actions, and what it forgets per tick.
const NOISE: (f64, f64) = (0.1, 0.05);
impl Demo<'_> {
    fn load(&self, policy: &[u8]) -> Result<Policy> {
        Ok(Policy::load(policy, &self.robot, &Engine::tract())?)
    }

    pub(super) fn evaluate(
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
    pub(super) fn learn(&self) -> Result<(Vec<FinetuneReport>, Vec<u8>)> {
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
    pub(super) fn control(&self) -> Result<Vec<u8>> {
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
        let mut process = Process::new(&self.context.program);
        process.arg("finetune").arg("--policy").arg(policy).arg("--out").arg(out);
        process.arg("--steps").arg(steps.to_string());
        process.arg("--seed").arg(self.args.seed.to_string()).arg("--json");
        for folder in episodes {
            process.arg("--episodes").arg(folder);
        }
        if control {
            process.arg("--demonstrations-only");
        }
        process.args(self.args.engine.arguments());
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

    /// Makes a policy the active one of the demo's store.
    pub(super) fn commit(&self, policy: &[u8]) -> Result<()> {
        let (storage, clock) = (&self.context.storage, &self.context.clock);
        let folder = self.args.out.join("store");
        let store = Store::open(Arc::clone(storage), Arc::clone(clock), &folder)?;
        store.stage(policy, "the demo")?;
        store.commit("it passed the demo's validation")?;
        Ok(())
    }

    /// Whether the candidate is no worse than the policy in use, on goals of its own.
    pub(super) fn validate(&self, candidate: &[u8]) -> Result<bool> {
        let of =
            |what, policy: &[u8]| self.evaluate(what, policy, Stream::Validation, VALIDATION_GOALS);
        let base = of("validation, old policy", &self.base)?;
        let new = of("validation, candidate", candidate)?;
        let accepted = new.rate().successes >= base.rate().successes;
        if !accepted {
            note("the candidate is worse and is refused: the old policy steers on");
        }
        Ok(accepted)
    }
}
