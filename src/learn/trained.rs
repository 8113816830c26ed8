//! A network that learns.

use super::LearnError;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::network::{Layers, Mlp};
use crate::engine::{Engine, StepReport, Trainer};
use crate::onnx::{Builder, Optimiser, TrainStep, Value};

/// A network, the training step of its loss, and its weights as they are now.
///
/// A learner of several networks is several of these: each has one loss, takes the others' weights
/// as inputs ([`Mlp::given`]), and hands out its own.
pub struct Trained {
    mlp: Mlp,
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
        let mut b = Builder::new();
        let layers = mlp.trained(&mut b, "network", &weights)?;
        let value = loss(&mut b, &layers);
        b.output("loss", value);
        let step = TrainStep::new(&b.finish()?, "loss", &mlp.names("network"), optimiser)?;
        let trainer = engine.train(&step, 1)?;
        Ok(Self { mlp: mlp.clone(), trainer, weights })
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

    /// The weights now, flat, in [`Mlp::given`]'s order.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The network.
    pub fn mlp(&self) -> &Mlp {
        &self.mlp
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

/// Moves a target network's weights towards a network's: `target <- tau weights + (1 - tau) target`.
pub fn follow(target: &mut [f32], weights: &[f32], tau: f32) {
    for (target, weight) in target.iter_mut().zip(weights) {
        *target += tau * (weight - *target);
    }
}
