//! A network that learns.

use super::LearnError;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::network::{Layers, Mlp};
use crate::engine::{Engine, StepReport, Trainer};
use crate::onnx::{Builder, Optimiser, TrainStep, Value};

/// Networks with one loss, the training step of that loss, and their weights as they are now.
///
/// A learner with several losses is several of these: each takes the others' weights as inputs
/// ([`Mlp::given`]), and hands out its own.
pub struct Trained {
    mlps: Vec<Mlp>,
    trainer: Trainer,
    weights: Vec<f32>,
}

impl Trained {
    /// A network with these first weights that minimises what `loss` builds: a scalar.
    ///
    /// # Errors
    /// The loss cannot be built or differentiated, or the engine cannot run it.
    pub fn new(
        engine: &Engine,
        mlp: &Mlp,
        weights: Vec<f32>,
        optimiser: impl Into<Optimiser>,
        loss: impl FnOnce(&mut Builder, &Layers) -> Value,
    ) -> Result<Self, LearnError> {
        let only = |b: &mut Builder, layers: &[Layers]| loss(b, &layers[0]);
        Self::joint(engine, std::slice::from_ref(mlp), weights, optimiser, only)
    }

    /// Several networks with one loss; `weights` holds them one behind the other.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn joint(
        engine: &Engine,
        mlps: &[Mlp],
        weights: Vec<f32>,
        optimiser: impl Into<Optimiser>,
        loss: impl FnOnce(&mut Builder, &[Layers]) -> Value,
    ) -> Result<Self, LearnError> {
        let mut b = Builder::new();
        let (mut names, mut layers) = (Vec::new(), Vec::new());
        for (i, (mlp, weights)) in mlps.iter().zip(cut(mlps, &weights)).enumerate() {
            let name = format!("network{i}");
            layers.push(mlp.trained(&mut b, &name, weights)?);
            names.extend(mlp.names(&name));
        }
        let value = loss(&mut b, &layers);
        b.output("loss", value);
        let step = TrainStep::new(&b.finish()?, "loss", &names, optimiser)?;
        let trainer = engine.train(&step, 1)?;
        Ok(Self { mlps: mlps.to_vec(), trainer, weights })
    }

    /// One step on a batch, given as (input, elements).
    ///
    /// # Errors
    /// The engine failed, or the loss is not finite; the weights are then those before.
    pub fn step(&mut self, batch: &[(&str, &[f32])], lr: f32) -> Result<StepReport, LearnError> {
        let report = self.trainer.step(batch, lr)?;
        self.trainer.flat_into(&mut self.weights)?;
        Ok(report)
    }

    /// The weights now, flat, in [`Mlp::given`]'s order, one network behind the other.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The networks.
    pub fn mlps(&self) -> &[Mlp] {
        &self.mlps
    }

    /// All that decides its next step.
    ///
    /// # Errors
    /// The engine cannot give it.
    pub fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        for (i, data) in self.trainer.save()?.into_iter().enumerate() {
            kept.put(&format!("state{i}"), data);
        }
        Ok(kept)
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// The checkpoint is another network's.
    pub fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        let state: Vec<Vec<f32>> = (0..)
            .map_while(|i| kept.tensor(&format!("state{i}")).ok().map(<[f32]>::to_vec))
            .collect();
        if state.is_empty() {
            return Err(CheckpointError::Missing("state0".into()).into());
        }
        self.trainer.restore(&state)?;
        Ok(self.trainer.flat_into(&mut self.weights)?)
    }
}

/// The weights of each of several networks.
pub fn cut<'a>(mlps: &'a [Mlp], mut weights: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
    mlps.iter().map(move |mlp| {
        let (own, rest) = weights.split_at(mlp.size().min(weights.len()));
        weights = rest;
        own
    })
}

/// Moves a target network's weights towards a network's: `target <- tau weights + (1 - tau) target`.
pub fn follow(target: &mut [f32], weights: &[f32], tau: f32) {
    for (target, weight) in target.iter_mut().zip(weights) {
        *target += tau * (weight - *target);
    }
}
