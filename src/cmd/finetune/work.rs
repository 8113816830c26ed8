//! A fine-tuning from its episodes to its verdict, which leaves in its folder what it can go on from.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Args, judge, read};
use crate::cmd::progress::Bar;
use crate::cmd::{Context, train};
use crate::engine::isolate::Isolation;
use crate::engine::{Device, Engine};
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::finetune::{Experience, FinetuneReport, Finetuning, Gate, picture};
use crate::learn::gcbc::Gcbc;
use crate::learn::job::{Job, JobEnding, JobProgress, Phase};
use crate::onnx::Verified;
use crate::policy::{PolicySpec, Store, id_of};

/// The longest that the policy may take to be loaded by a process that gets what nobody else wants of the
/// processor.
const IN_THE_BACKGROUND: Duration = Duration::from_secs(120);

/// One fine-tuning.
pub(super) struct Work<'a> {
    pub args: &'a Args,
    pub context: &'a Context,
    pub job: &'a Job,
}

impl Work<'_> {
    /// All of it: trains, judges, writes the candidate and its report, and stages it if that was asked
    /// for and it passed.
    ///
    /// # Errors
    /// As [`run`](super::run), but for a candidate that did not pass.
    pub fn done(&self) -> Result<(FinetuneReport, JobEnding)> {
        let args = self.args;
        let method = args.method()?;
        self.note(Phase::Reading, 0)?;
        let base = self.base()?;
        let engine = args.engine.open()?;
        let mut isolation = Isolation::of(self.context.program.clone());
        if args.background.is_some() {
            isolation.time = IN_THE_BACKGROUND;
        }
        isolation.try_load(&base, &engine)?;
        if let Some(mib) = args.memory_mib {
            crate::os::limit_memory(mib.saturating_mul(1 << 20)).context("--memory-mib")?;
            remark!("memory: {mib} MiB at most; if an allocation fails, raise --memory-mib");
        }
        let experience = self.experience(&base)?;
        let of_the_card = |error: &anyhow::Error| {
            let error = error.downcast_ref::<LearnError>();
            error.is_some_and(|error| error.is_of_the_card(engine.device()))
        };
        let (candidate, mut report) = match self.train(&method, &engine, &base, &experience) {
            Err(error) if of_the_card(&error) => {
                remark!("{error:#}: beginning anew on the processor");
                self.job.forget("checkpoint.bin")?;
                let engine = Engine::best(args.engine.onnxruntime.as_deref(), Device::Cpu)?;
                self.train(&method, &engine, &base, &experience)?
            }
            trained => trained?,
        };
        self.note(Phase::Judging, args.steps())?;
        let emulated = judge::emulate(args, self.context, &base, &candidate)?;
        let gate = report.gate.insert(Gate::judge(report.held_out, emulated));
        let passed = gate.passed();
        self.job.write("policy.onnx", &candidate)?;
        self.job.write("report.json", &serde_json::to_vec_pretty(&report)?)?;
        self.job.write("report.svg", picture(&report).as_bytes())?;
        self.job.write("losses.csv", train::losses_csv(&report.losses).as_bytes())?;
        let ending = match (passed, &args.store) {
            (false, _) => JobEnding::Refused,
            (true, None) => JobEnding::Passed,
            (true, Some(_)) => {
                self.stage(&base, &candidate, &report)?;
                JobEnding::Staged
            }
        };
        self.job.let_go()?;
        Ok((report, ending))
    }

    /// A line of progress at the begin of a phase.
    fn note(&self, phase: Phase, step: usize) -> Result<()> {
        let steps = self.args.steps();
        Ok(self.job.note(&JobProgress { phase, step, steps, loss: None, validation: None })?)
    }

    /// The policy to start from: the one it was begun with, whatever is in its place now.
    fn base(&self) -> Result<Vec<u8>> {
        if let Some(begun) = self.job.read("base.onnx")? {
            return Ok(begun);
        }
        let base = match (&self.args.policy, self.store()?) {
            (Some(path), _) => read(self.context, path)?,
            (None, Some(store)) => store.active()?,
            (None, None) => anyhow::bail!("expected --policy or --store, found neither"),
        };
        PolicySpec::of(&*Verified::from_bytes(&base)?)?;
        self.still_active(&base)?;
        self.job.write("base.onnx", &base)?;
        Ok(base)
    }

    /// What to learn from: what it was begun with, whatever was logged since.
    fn experience(&self, base: &[u8]) -> Result<Experience> {
        let args = self.args;
        if let Some(begun) = self.job.read("experience.bin")? {
            return Ok(Experience::restore(&Checkpoint::from_bytes(&begun)?)?);
        }
        let spec = PolicySpec::of(&*Verified::from_bytes(base)?)?;
        let storage = self.context.storage.as_ref();
        let mut experience = Experience::load(storage, &args.episodes, &spec)?;
        if args.demonstrations_only {
            experience = experience.demonstrations_only();
        }
        let experience = experience.hold_out(args.holdout, args.seed)?;
        self.job.write("experience.bin", &experience.save().to_bytes())?;
        Ok(experience)
    }

    fn train(
        &self,
        method: &Gcbc,
        engine: &Engine,
        base: &[u8],
        experience: &Experience,
    ) -> Result<(Vec<u8>, FinetuneReport)> {
        let mut tuning = Finetuning::new(method, engine, base, experience, self.args.seed)?;
        if let Some(kept) = self.job.read("checkpoint.bin")? {
            tuning.restore(&Checkpoint::from_bytes(&kept)?)?;
            remark!("going on after step {}", tuning.steps());
        }
        self.note(Phase::Training, tuning.steps())?;
        let bar = Bar::new("fine-tuning", method.steps);
        let trained = self.steps(&mut tuning, &bar);
        bar.finish();
        trained?;
        Ok(tuning.finish()?)
    }

    /// Trains to the end; keeps what it can go on from after each epoch and when it is told to stop.
    fn steps(&self, tuning: &mut Finetuning<'_>, bar: &Bar) -> Result<()> {
        while !tuning.done() {
            let epoch = tuning.advance()?;
            let stopped = self.context.check();
            if epoch.is_some() || stopped.is_err() {
                self.job.write("checkpoint.bin", &tuning.save()?.to_bytes())?;
            }
            if let Some(p) = epoch {
                bar.set(p.step, &format!("loss {:.4}", p.loss));
                self.job.note(&JobProgress {
                    phase: Phase::Training,
                    step: p.step,
                    steps: p.steps,
                    loss: Some(p.loss),
                    validation: p.validation,
                })?;
            }
            stopped?;
        }
        Ok(())
    }

    fn store(&self) -> Result<Option<Store>> {
        let (storage, clock) = (Arc::clone(&self.context.storage), Arc::clone(&self.context.clock));
        let store = self.args.store.as_ref().map(|folder| Store::open(storage, clock, folder));
        Ok(store.transpose()?)
    }

    /// A candidate takes the place of the policy that it was compared with, of no other.
    fn still_active(&self, base: &[u8]) -> Result<()> {
        let active = self.store()?.map(|store| store.state()).transpose()?;
        let Some(active) = active.and_then(|state| state.active) else { return Ok(()) };
        ensure!(
            active.policy == id_of(base),
            "expected {} to be the store's active policy, found {}: fine-tune that one",
            id_of(base),
            active.policy
        );
        Ok(())
    }

    /// Stages a candidate that passed, its report beside it.
    fn stage(&self, base: &[u8], candidate: &[u8], report: &FinetuneReport) -> Result<()> {
        let (Some(store), Some(folder)) = (self.store()?, &self.args.store) else { return Ok(()) };
        self.still_active(base)?;
        let beside = folder.join("reports");
        let path = |ending: &str| beside.join(format!("{}.{ending}", report.candidate));
        train::write(self.context, &path("json"), &serde_json::to_vec_pretty(report)?)?;
        train::write(self.context, &path("svg"), picture(report).as_bytes())?;
        store.stage(candidate, "fine-tuned")?;
        Ok(())
    }
}
