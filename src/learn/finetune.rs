//! Fine-tuning: the policy in use, its logged episodes and the demonstrations in; a better policy or
//! none out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gcbc::{Fit, Gcbc, OnProgress};
use super::{LearnError, dataset};
use crate::engine::Engine;
use crate::episode::{Episode, EpisodeHeader, Source, Split, paths};
use crate::goal::{Mix, ReplayBuffer, Trajectory};
use crate::onnx::{Graph, Verified, advice, lost, splice, splice_metadata, summary};
use crate::policy::{METADATA_KEY, PolicySpec, id_of};
use crate::rng::{Rng, Stream, stream};
use crate::storage::Storage;

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
    /// The same on the validation episodes, before and after; nothing without such episodes.
    pub validation_loss: Option<(f32, f32)>,
    /// Seed of batches and relabelling.
    pub seed: u64,
}

/// Episodes sorted by what learning may do with them.
#[derive(Debug, Clone, Default)]
pub struct Experience {
    demonstrations: ReplayBuffer,
    attempts: ReplayBuffer,
    validation: ReplayBuffer,
    counts: [usize; 4],
}

/// What learning does with an episode; one of evaluation is left out.
#[derive(Debug, Clone, Copy)]
enum Use {
    Demonstration,
    Attempt,
    Validation,
    /// What a person showed in an attempt.
    Correction,
}

impl Use {
    fn of(header: &EpisodeHeader) -> Option<Self> {
        match (header.source, header.split) {
            (Source::Demonstration, Split::Training) => Some(Self::Demonstration),
            (Source::Attempt | Source::Run, Split::Training) => Some(Self::Attempt),
            (Source::Attempt | Source::Run, Split::Validation) => Some(Self::Validation),
            (Source::Demonstration, Split::Validation) | (Source::Evaluation, _) => None,
        }
    }
}

impl Experience {
    /// Sorts logged episodes: demonstrations, own attempts (failures included), and those kept aside.
    /// Evaluation episodes are left out.
    ///
    /// # Errors
    /// An episode of another robot.
    pub fn of(episodes: &[Episode], spec: &PolicySpec) -> Result<Self, LearnError> {
        let mut all = Self::default();
        for episode in episodes {
            all.add(usable(episode, spec), episodes.len())?;
        }
        Ok(all)
    }

    /// The same of all episodes in some folders, of which only the numbers to learn from stay in
    /// memory.
    ///
    /// # Errors
    /// An episode of another robot, or a folder that cannot be read.
    pub fn load(
        storage: &dyn Storage,
        folders: &[PathBuf],
        spec: &PolicySpec,
    ) -> Result<Self, LearnError> {
        let mut all = Self::default();
        let mut files = 0;
        for folder in folders {
            files += paths(storage, folder)?.len();
        }
        for folder in folders {
            let of = |episode: Episode| usable(&episode, spec);
            dataset::read_each(storage, folder, of, |pieces| all.add(pieces, files))?;
        }
        Ok(all)
    }

    /// Adds one of about so many episodes.
    fn add(&mut self, usable: Usable, episodes: usize) -> Result<(), LearnError> {
        for (kind, pieces) in usable? {
            self.add_pieces(kind, &pieces, episodes)?;
        }
        Ok(())
    }

    fn add_pieces(
        &mut self,
        kind: Use,
        pieces: &[Trajectory],
        episodes: usize,
    ) -> Result<(), LearnError> {
        let buffer = match kind {
            Use::Demonstration | Use::Correction => &mut self.demonstrations,
            Use::Attempt => &mut self.attempts,
            Use::Validation => &mut self.validation,
        };
        let first = buffer.transitions() == 0;
        pieces.iter().try_for_each(|piece| buffer.push(piece))?;
        if first {
            buffer.reserve(episodes * pieces.len());
        }
        self.counts[kind as usize] += usize::from(!pieces.is_empty());
        Ok(())
    }

    /// Demonstrations and attempts to train on.
    pub fn training(&self) -> Mix<'_> {
        Mix { demonstrations: &self.demonstrations, attempts: &self.attempts }
    }

    /// The same without the robot's own episodes: the control of the experiment.
    #[must_use]
    pub fn demonstrations_only(mut self) -> Self {
        self.attempts = ReplayBuffer::default();
        self.counts[1] = 0;
        self
    }
}

/// An episode's pieces and what they are for; nothing where it is left out.
type Usable = Result<Vec<(Use, Vec<Trajectory>)>, LearnError>;

fn usable(episode: &Episode, spec: &PolicySpec) -> Usable {
    let Some(kind) = Use::of(&episode.header) else { return Ok(Vec::new()) };
    let mut usable = vec![(kind, dataset::trajectories(episode, spec)?)];
    if matches!(kind, Use::Attempt) {
        usable.push((Use::Correction, dataset::corrections(episode, spec)?));
    }
    Ok(usable)
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
    let graph = Verified::from_bytes(base)?;
    let mut spec = PolicySpec::of(&graph)?;
    let mut rng = stream(seed, Stream::Training);
    let Fit { parameters, losses, report } =
        method.fit(engine, &graph, experience.training(), &mut rng, on_progress)?;
    let [demonstrations, attempts, validation, corrections] = experience.counts;
    spec.provenance.insert("base".into(), id_of(base).to_string().into());
    spec.provenance.insert("finetune_seed".into(), seed.into());
    spec.provenance.insert("finetune_attempts".into(), attempts.into());
    let candidate = splice_metadata(&splice(base, &parameters)?, METADATA_KEY, &spec.to_json())?;
    let held = |file: &[u8]| validation_loss(method, engine, file, experience, seed);
    let validation_loss = match (held(base)?, held(&candidate)?) {
        (Some(before), Some(after)) => Some((before, after)),
        _ => None,
    };
    let report = FinetuneReport {
        base: id_of(base).to_string(),
        candidate: id_of(&candidate).to_string(),
        engine: engine.to_string(),
        demonstrations,
        attempts,
        corrections,
        validation,
        steps: method.steps,
        loss: method.loss(&spec).to_string(),
        losses,
        parameters: summary(&report),
        lost: lost_by_export(&graph)?,
        validation_loss,
        seed,
    };
    Ok((candidate, report))
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

/// Batches that a validation loss is measured on.
const VALIDATION_BATCHES: usize = 8;

fn validation_loss(
    method: &Gcbc,
    engine: &Engine,
    policy: &[u8],
    experience: &Experience,
    seed: u64,
) -> Result<Option<f32>, LearnError> {
    if experience.validation.transitions() == 0 {
        return Ok(None);
    }
    let graph = Verified::from_bytes(policy)?;
    let empty = ReplayBuffer::default();
    let data = Mix { demonstrations: &empty, attempts: &experience.validation };
    // The same rows for every policy.
    let mut rng: Rng = stream(seed, Stream::Validation);
    Ok(Some(method.loss_of(engine, &graph, data, VALIDATION_BATCHES, &mut rng)?))
}
