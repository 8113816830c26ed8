//! Fine-tuning: the policy in use, its logged episodes and the demonstrations in; a better policy or
//! none out.

mod experience;
mod gate;
mod picture;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::LearnError;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::gcbc::{Drawn, Gcbc, OnProgress, Progress, Training};
use crate::engine::Engine;
use crate::goal::{Mix, ReplayBuffer};
use crate::onnx::{Graph, Verified, advice, lost, splice, splice_metadata, summary};
use crate::policy::{METADATA_KEY, PolicySpec, id_of};
use crate::rng::{Rng, Stream, stream};

pub use experience::Experience;
pub use gate::{Emulated, Gate, LossTest, SuccessTest};
pub use picture::picture;

/// What a fine-tuning did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinetuneReport {
    /// The policy it started from.
    pub base: String,
    /// The candidate.
    pub candidate: String,
    /// The engine that ran the training step, and where.
    pub engine: String,
    /// Demonstrations used.
    pub demonstrations: usize,
    /// The robot's own episodes used, failures included.
    pub attempts: usize,
    /// Those of them in which a person took over: what they showed there counts as a demonstration.
    #[serde(default)]
    pub corrections: usize,
    /// Episodes kept aside.
    pub validation: usize,
    /// Episodes left out because they were copies of others, number for number.
    #[serde(default)]
    pub copies: usize,
    /// Where hindsight goals came from.
    #[serde(default)]
    pub strategy: String,
    /// What the rows of all batches were.
    #[serde(default)]
    pub drawn: Drawn,
    /// Training steps.
    pub steps: usize,
    /// What was minimised.
    #[serde(default)]
    pub loss: String,
    /// Mean loss per epoch; distances are shares of the largest action.
    pub losses: Vec<f32>,
    /// What happened to the policy's tensors, a line for each fate.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Parameters that the policy's export lost, and the export that keeps them.
    #[serde(default)]
    pub lost: Vec<String>,
    /// The same on the episodes kept aside, after each epoch; empty without such episodes.
    #[serde(default)]
    pub validation_losses: Vec<f32>,
    /// The test on the episodes kept aside; nothing without such episodes.
    pub held_out: Option<LossTest>,
    /// Whether the candidate may be staged, and why not; nothing before it was judged.
    #[serde(default)]
    pub gate: Option<Gate>,
    /// Seed of batches and relabelling.
    pub seed: u64,
}

/// Fine-tunes a policy file. The candidate is the same architecture with better parameters; its
/// provenance names the base.
///
/// # Errors
/// Nothing to learn from, a diverging loss, an unusable policy, or an engine that fails.
pub fn finetune(
    method: &Gcbc,
    engine: &Engine,
    base: &[u8],
    experience: &Experience,
    seed: u64,
    on_progress: OnProgress<'_>,
) -> Result<(Vec<u8>, FinetuneReport), LearnError> {
    let mut tuning = Finetuning::new(method, engine, base, experience, seed)?;
    while !tuning.done() {
        if tuning.advance()?.is_some_and(|progress| !on_progress(progress)) {
            return Err(LearnError::Stopped);
        }
    }
    tuning.finish()
}

/// A [`finetune`] under way, which can be kept in a checkpoint and taken up again.
pub struct Finetuning<'a> {
    method: &'a Gcbc,
    engine: &'a Engine,
    base: &'a [u8],
    graph: Verified,
    spec: PolicySpec,
    experience: &'a Experience,
    seed: u64,
    training: Training<'a>,
    validation_losses: Vec<f32>,
}

/// Batches that the loss on episodes kept aside is measured on, for its curve and for the gate.
const CURVE_BATCHES: usize = 4;
const GATE_BATCHES: usize = 32;

impl<'a> Finetuning<'a> {
    /// A fine-tuning before its first step.
    ///
    /// # Errors
    /// Nothing to learn from, an unusable policy, or an engine that fails.
    pub fn new(
        method: &'a Gcbc,
        engine: &'a Engine,
        base: &'a [u8],
        experience: &'a Experience,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let graph = Verified::from_bytes(base)?;
        let spec = PolicySpec::of(&graph)?;
        let rng = stream(seed, Stream::Training);
        let training = Training::new(method, engine, &graph, experience.training(), rng)?;
        let validation_losses = Vec::new();
        Ok(Self {
            method,
            engine,
            base,
            graph,
            spec,
            experience,
            seed,
            training,
            validation_losses,
        })
    }

    /// One step; the progress where it ends an epoch.
    ///
    /// # Errors
    /// Nothing to learn from, a diverging loss, or an engine that fails.
    pub fn advance(&mut self) -> Result<Option<Progress>, LearnError> {
        let Some(progress) = self.training.advance()? else { return Ok(None) };
        if self.experience.validation().transitions() > 0 {
            let losses = self.held_out(&self.file()?, CURVE_BATCHES)?;
            self.validation_losses.push(losses.iter().sum::<f32>() / CURVE_BATCHES as f32);
        }
        Ok(Some(Progress { validation: self.validation_losses.last().copied(), ..progress }))
    }

    /// Whether all steps are done.
    pub fn done(&self) -> bool {
        self.training.done()
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.training.steps()
    }

    /// All that decides how it goes on, but for the experience, which keeps itself.
    ///
    /// # Errors
    /// The engine cannot give its state.
    pub fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("training", self.training.save()?);
        kept.put("validation_losses", &*self.validation_losses);
        kept.put_count("identity", self.identity());
        Ok(kept)
    }

    /// Goes on from what [`save`](Self::save) gave, with the same result on a processor as if it had
    /// never been stopped.
    ///
    /// # Errors
    /// It is of another policy, experience, engine, or of other settings.
    pub fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        if kept.count("identity")? != self.identity() {
            return Err(CheckpointError::Foreign.into());
        }
        self.training.restore(&kept.part("training"))?;
        self.validation_losses = kept.tensor("validation_losses")?.to_vec();
        Ok(())
    }

    /// Tells two fine-tunings apart that would not give the same.
    fn identity(&self) -> u64 {
        let mut hash = Sha256::new();
        hash.update(self.base);
        hash.update(format!("{:?} {} {}", self.method, self.engine, self.seed));
        hash.update(self.experience.fingerprint().to_le_bytes());
        hash.finalize().iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
    }

    /// The policy as it is so far.
    fn file(&self) -> Result<Vec<u8>, LearnError> {
        Ok(splice(self.base, &self.training.fit()?.parameters)?)
    }

    /// The losses of a policy on episodes kept aside: the same rows for every policy.
    fn held_out(&self, policy: &[u8], batches: usize) -> Result<Vec<f32>, LearnError> {
        let graph = Verified::from_bytes(policy)?;
        let empty = ReplayBuffer::default();
        let data = Mix { demonstrations: &empty, attempts: self.experience.validation() };
        let mut rng: Rng = stream(self.seed, Stream::Validation);
        self.method.losses_of(self.engine, &graph, data, batches, &mut rng)
    }

    /// The candidate and what was done, before anybody judged it.
    ///
    /// # Errors
    /// The engine fails.
    pub fn finish(mut self) -> Result<(Vec<u8>, FinetuneReport), LearnError> {
        let fit = self.training.fit()?;
        let counts = self.experience.counts();
        let provenance = &mut self.spec.provenance;
        provenance.insert("base".into(), id_of(self.base).to_string().into());
        provenance.insert("finetune_seed".into(), self.seed.into());
        provenance.insert("finetune_attempts".into(), counts.attempts.into());
        let candidate = splice(self.base, &fit.parameters)?;
        let candidate = splice_metadata(&candidate, METADATA_KEY, &self.spec.to_json())?;
        let held_out = match self.experience.validation().transitions() {
            0 => None,
            _ => Some(LossTest::of(
                &self.held_out(self.base, GATE_BATCHES)?,
                &self.held_out(&candidate, GATE_BATCHES)?,
            )),
        };
        let report = FinetuneReport {
            base: id_of(self.base).to_string(),
            candidate: id_of(&candidate).to_string(),
            engine: self.engine.to_string(),
            demonstrations: counts.demonstrations,
            attempts: counts.attempts,
            corrections: counts.corrections,
            validation: counts.validation,
            copies: counts.copies,
            strategy: self.method.strategy.to_string(),
            drawn: self.training.drawn(),
            steps: self.method.steps,
            loss: self.method.loss(&self.spec).to_string(),
            losses: fit.losses,
            parameters: summary(&fit.report),
            lost: lost_by_export(&self.graph)?,
            validation_losses: self.validation_losses,
            held_out,
            gate: None,
            seed: self.seed,
        };
        Ok((candidate, report))
    }
}

/// What an export lost, in lines; the last says how to export again.
///
/// # Errors
/// A tensor's data does not fit its shape.
pub fn lost_by_export(graph: &Graph) -> Result<Vec<String>, LearnError> {
    let mut lines: Vec<String> = lost(graph)?.iter().map(ToString::to_string).collect();
    if let Some(advice) = advice(graph).filter(|_| !lines.is_empty()) {
        lines.push(format!("this export keeps every parameter: {advice}"));
    }
    Ok(lines)
}
