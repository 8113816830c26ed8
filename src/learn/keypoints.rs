//! Behaviour cloning from pictures through a bottleneck of keypoints.
//!
//! ```text
//! h      = relu(conv_5x5/2(picture))                        [N, 16, s/2, s/2]
//! l      = conv_3x3(h)                                      [N, 32, s/2, s/2]
//! p_cij  = exp(l_cij) / sum_i'j' exp(l_ci'j')               (spatial softmax)
//! (x, y)_c = sum_ij p_cij (x_ij, y_ij)                      [N, 32, 2], the keypoints
//! a      = dense(relu(dense_64(keypoints)))
//! min over theta of  mean ||a - a*||²
//! ```
//! A map's keypoint is where the map expects its feature to be, in `-1 ..= 1` to the right and
//! upward: a network that must act on 64 numbers learns to look at what moves (Levine et al. 2016,
//! "End-to-End Training of Deep Visuomotor Policies", section 5.1; Finn et al. 2016).

mod network;
mod pictures;

use serde::{Deserialize, Serialize};

use self::network::network;
pub use self::pictures::Pictures;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::learner::{Figures, Learner};
use super::{LearnError, Schedule};
use crate::engine::{Engine, Trainer};
use crate::onnx::{BcLoss, BehaviourCloning, Graph, Selection, TrainStep, Verified};
use crate::policy::tensor;
use crate::rng::{Rng, Stream, stream};
use rand::RngExt as _;

/// The policy's second output: `[N, 2 k]`, x and y of each keypoint.
pub const KEYPOINTS: &str = "keypoints";

/// Settings of the network and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeypointSettings {
    /// Maps of the first convolution.
    pub maps: usize,
    /// Maps of the second: keypoints.
    pub keypoints: usize,
    /// Units of the hidden dense layer.
    pub hidden: usize,
    /// Training steps.
    pub steps: usize,
    /// Training steps of one iteration.
    pub iteration: usize,
    /// Pictures per step.
    pub batch: usize,
    /// Learning rates over `steps`.
    pub schedule: Schedule,
    /// Share of the pictures, the last ones, that is held out.
    pub validation: f64,
}

impl Default for KeypointSettings {
    fn default() -> Self {
        Self {
            maps: 16,
            keypoints: 32,
            hidden: 64,
            steps: 2000,
            iteration: 100,
            batch: 32,
            schedule: Schedule::default(),
            validation: 0.1,
        }
    }
}

/// A training from pictures.
pub struct Keypoints {
    engine: Engine,
    settings: KeypointSettings,
    pictures: Pictures,
    /// Pictures that are trained on; the rest is held out.
    training: usize,
    policy: Graph,
    trainer: Trainer,
    rng: Rng,
    steps: usize,
}

impl Keypoints {
    /// A training on pictures; those of one episode should stand together, so that what is held out
    /// is new.
    ///
    /// # Errors
    /// There are no pictures, or the network cannot be built.
    pub fn new(
        engine: &Engine,
        pictures: Pictures,
        settings: KeypointSettings,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let held_out = (settings.validation * pictures.len() as f64).round() as usize;
        let training = pictures.len().saturating_sub(held_out);
        if training == 0 || pictures.pixels.len() != pictures.len() * pictures.width() {
            let found = format!("{} pictures, {training} to train on", pictures.len());
            return Err(LearnError::NoData(found));
        }
        let policy = network(&settings, &pictures, training, &mut stream(seed, Stream::Weights))?;
        let selection = Selection { freeze: vec!["normalizer.*".into()], ..Selection::default() };
        let how =
            BehaviourCloning { batch: settings.batch, selection, ..BehaviourCloning::default() };
        let trainer = engine.train(&TrainStep::behaviour_cloning(&policy, &how)?, 1)?;
        let (engine, rng) = (engine.clone(), stream(seed, Stream::Training));
        Ok(Self { engine, settings, pictures, training, policy, trainer, rng, steps: 0 })
    }

    fn step(&mut self) -> Result<f32, LearnError> {
        self.steps += 1;
        let (mut pixels, mut target) = (Vec::new(), Vec::new());
        for _ in 0..self.settings.batch {
            let i = self.rng.random_range(0..self.training);
            pixels.extend_from_slice(self.pictures.picture(i));
            target.extend_from_slice(self.pictures.action(i));
        }
        let weight = vec![1.0; self.settings.batch];
        let batch = [
            (tensor::OBSERVATION, &pixels[..]),
            (BcLoss::TARGET, &target),
            (BcLoss::WEIGHT, &weight),
        ];
        let lr = self.settings.schedule.at(self.steps, self.settings.steps);
        Ok(self.trainer.step(&batch, lr)?.loss)
    }

    /// The mean squared error per number on held-out pictures, and that of answering their mean.
    ///
    /// # Errors
    /// The engine failed.
    pub fn held_out(&self) -> Result<Option<[f64; 2]>, LearnError> {
        let held_out = self.training..self.pictures.len();
        if held_out.is_empty() {
            return Ok(None);
        }
        let mut session = self.engine.load(&Verified::try_from(self.policy()?)?)?;
        let (mut found, mut sum) = (vec![0.0; self.pictures.action], 0.0);
        for i in held_out.clone() {
            session.run_into(&[self.pictures.picture(i)], &mut found)?;
            let errors = found.iter().zip(self.pictures.action(i)).map(|(a, b)| a - b);
            sum += errors.map(|e| f64::from(e * e)).sum::<f64>() / found.len() as f64;
        }
        Ok(Some([sum / held_out.len() as f64, self.pictures.variance(held_out)]))
    }
}

impl Learner for Keypoints {
    fn iterate(&mut self) -> Result<Figures, LearnError> {
        if self.done() {
            return Ok(vec![("step", self.steps as f64)]);
        }
        let steps = self.settings.iteration.clamp(1, self.settings.steps - self.steps);
        let mut sum = 0.0;
        for _ in 0..steps {
            sum += f64::from(self.step()?);
        }
        let mut figures = vec![("step", self.steps as f64), ("loss", sum / steps as f64)];
        if let Some([loss, mean]) = self.held_out()? {
            figures.extend([("held_out_loss", loss), ("held_out_loss_of_the_mean", mean)]);
        }
        Ok(figures)
    }

    fn done(&self) -> bool {
        self.steps >= self.settings.steps
    }

    fn env_steps(&self) -> u64 {
        self.pictures.len() as u64
    }

    /// `observation [N, size size 3]`, a picture, to `action [N, a]` and [`KEYPOINTS`].
    fn policy(&self) -> Result<Graph, LearnError> {
        Ok(self.policy.with_parameters(&self.trainer.parameters()?)?)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        for (i, data) in self.trainer.save()?.into_iter().enumerate() {
            kept.put(&format!("state{i}"), data);
        }
        kept.put_count("steps", self.steps as u64);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        let state = |i: usize| kept.tensor(&format!("state{i}")).ok().map(<[f32]>::to_vec);
        let state: Vec<Vec<f32>> = (0..).map_while(state).collect();
        if state.is_empty() {
            return Err(CheckpointError::Missing("state0".into()).into());
        }
        self.trainer.restore(&state)?;
        self.steps = kept.count("steps")? as usize;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White pictures with a red and a blue spot; the expert goes from the red to the blue one.
    fn spots(n: usize, size: usize) -> Pictures {
        let mut rng = stream(3, Stream::Demonstrations);
        let mut pictures = Pictures { size, action: 2, ..Pictures::default() };
        for _ in 0..n {
            let [from, to] = [(); 2].map(|()| [(); 2].map(|()| rng.random_range(-0.8f32..0.8)));
            for i in 0..size * size {
                let along = |i: usize| (2 * i + 1) as f32 / size as f32 - 1.0;
                let (x, y) = (along(i % size), -along(i / size));
                let ink =
                    |[sx, sy]: [f32; 2]| (-((x - sx).powi(2) + (y - sy).powi(2)) / 0.02).exp();
                pictures.pixels.extend([1.0 - ink(to), 1.0 - ink(from) - ink(to), 1.0 - ink(from)]);
            }
            pictures.actions.extend([0.5 * (to[0] - from[0]), 0.5 * (to[1] - from[1])]);
        }
        pictures
    }

    fn small() -> KeypointSettings {
        KeypointSettings {
            maps: 6,
            keypoints: 6,
            hidden: 32,
            steps: 300,
            batch: 16,
            schedule: Schedule { peak: 5e-3, ..Schedule::default() },
            ..KeypointSettings::default()
        }
    }

    #[test]
    fn it_learns_from_pictures_what_the_mean_action_does_not_say() {
        let mut learner = Keypoints::new(&Engine::tract(), spots(600, 16), small(), 1).unwrap();
        while !learner.done() {
            learner.iterate().unwrap();
        }
        let [loss, mean] = learner.held_out().unwrap().unwrap();
        assert!(loss < 0.1 * mean, "{loss} for {mean}");
    }

    #[test]
    fn a_restored_training_goes_on_with_the_same_bits() {
        let settings = KeypointSettings { iteration: 3, ..small() };
        let start =
            || Keypoints::new(&Engine::tract(), spots(40, 16), settings.clone(), 2).unwrap();
        let (mut unbroken, mut restored) = (start(), start());
        unbroken.iterate().unwrap();
        restored.restore(&unbroken.save().unwrap()).unwrap();
        assert_eq!(unbroken.iterate().unwrap(), restored.iterate().unwrap());
        let files = [&unbroken, &restored].map(|l| l.policy().unwrap().to_bytes());
        assert_eq!(files[0], files[1]);
    }
}
