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

use serde::{Deserialize, Serialize};

use super::checkpoint::{Checkpoint, CheckpointError};
use super::learner::{Figures, Learner};
use super::rollout::{Noise, episode};
use super::{LearnError, Schedule};
use crate::engine::{Engine, Trainer};
use crate::env::Env;
use crate::onnx::{BcLoss, BehaviourCloning, Builder, Dim, Graph, OnnxError, Selection, Tensor};
use crate::onnx::{TrainStep, Value, Verified};
use crate::policy::tensor;
use crate::rng::{Rng, Stream, normal, stream};
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

/// Pictures and what an expert did on seeing them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pictures {
    /// Pixels along a side.
    pub size: usize,
    /// `[n, size, size, 3]` in `0 ..= 1`, from the upper left.
    pub pixels: Vec<f32>,
    /// `[n, a]`.
    pub actions: Vec<f32>,
    /// Numbers in an action.
    pub action: usize,
}

impl Pictures {
    /// How many.
    pub fn len(&self) -> usize {
        self.actions.len() / self.action.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Numbers in a picture.
    pub fn width(&self) -> usize {
        3 * self.size * self.size
    }

    /// A picture's numbers.
    pub fn picture(&self, i: usize) -> &[f32] {
        &self.pixels[i * self.width()..(i + 1) * self.width()]
    }

    fn action(&self, i: usize) -> &[f32] {
        &self.actions[i * self.action..(i + 1) * self.action]
    }

    /// What an environment's expert sees and does in episodes towards goals that are drawn, `size`
    /// pixels wide. With noise it gets to states beside its way; what is kept is what it wanted there.
    ///
    /// # Errors
    /// The environment has no expert, or failed.
    pub fn watch(
        env: &mut dyn Env,
        episodes: usize,
        size: usize,
        noise: Noise,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let spec = env.spec().clone();
        let mut seen = Self { size, action: spec.actions.size(), ..Self::default() };
        for _ in 0..episodes {
            let goal = env.sample_goal(rng);
            episode(env, &goal, spec.goal > 0, rng, &mut |env, action, rng| {
                seen.pixels.extend(env.scene().raster(size));
                action.copy_from_slice(&env.expert()?);
                seen.actions.extend_from_slice(action);
                noise.disturb(spec.actions, action, rng);
                Ok(())
            })?;
        }
        Ok(seen)
    }

    /// The mean squared error, per number, of always answering the mean of the actions `range`.
    fn variance(&self, range: std::ops::Range<usize>) -> f64 {
        let n = range.len().max(1) as f64;
        let mut sum = 0.0;
        for j in 0..self.action {
            let column = || range.clone().map(|i| f64::from(self.action(i)[j]));
            let mean = column().sum::<f64>() / n;
            sum += column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        }
        sum / self.action.max(1) as f64
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

/// A new policy, its normaliser from the first `training` pictures.
fn network(
    settings: &KeypointSettings,
    pictures: &Pictures,
    training: usize,
    rng: &mut Rng,
) -> Result<Graph, OnnxError> {
    let (size, k) = (pictures.size as i64, settings.keypoints as i64);
    let half = pictures.size.div_ceil(2);
    let mut b = Builder::new();
    let x = b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(pictures.width())]);
    let x = moving(&mut b, pictures, training, x);
    let x = b.reshape(x, &[-1, size, size, 3]);
    let x = b.transpose(x, &[0, 3, 1, 2]);
    let [w, bias] = layer(&mut b, "conv0", &[settings.maps, 3, 5, 5], rng);
    let h = b.conv(x, w, bias, 2, 2);
    let h = b.relu(h);
    let [w, bias] = layer(&mut b, "conv1", &[settings.keypoints, settings.maps, 3, 3], rng);
    let maps = b.conv(h, w, bias, 1, 1);
    let points = spatial_softmax(&mut b, maps, settings.keypoints, half);
    let points = b.reshape(points, &[-1, 2 * k]);
    let [w, bias] = layer(&mut b, "dense0", &[2 * settings.keypoints, settings.hidden], rng);
    let h = b.gemm(points, w, bias);
    let h = b.relu(h);
    let [w, bias] = layer(&mut b, "dense1", &[settings.hidden, pictures.action], rng);
    let action = b.gemm(h, w, bias);
    b.output(tensor::ACTION, action);
    b.output(KEYPOINTS, points);
    b.finish()
}

/// What differs from the mean picture, in deviations of all such differences: what never moves is
/// gone, and what moves is bright.
fn moving(b: &mut Builder, pictures: &Pictures, training: usize, x: Value) -> Value {
    let (width, n) = (pictures.width(), training as f64);
    let mut mean = vec![0.0f64; width];
    for i in 0..training {
        mean.iter_mut().zip(pictures.picture(i)).for_each(|(m, x)| *m += f64::from(*x) / n);
    }
    let squares =
        |i| pictures.picture(i).iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2));
    let variance = (0..training).flat_map(squares).sum::<f64>() / (n * width as f64);
    let mean = Tensor { dims: vec![1, width], data: mean.iter().map(|m| *m as f32).collect() };
    let mean = b.parameter("normalizer.mean", mean);
    let deviation = Tensor { dims: vec![1, 1], data: vec![variance.sqrt().max(1e-3) as f32] };
    let deviation = b.parameter("normalizer.deviation", deviation);
    let x = b.sub(x, mean);
    b.div(x, deviation)
}

/// The mean place `[N, k, 2]` of each of `k` maps `[N, k, side, side]`, which are logarithms of
/// weights up to a constant.
fn spatial_softmax(b: &mut Builder, maps: Value, k: usize, side: usize) -> Value {
    let cells = side * side;
    let flat = b.reshape(maps, &[-1, k as i64, cells as i64]);
    let weights = b.softmax(flat, -1);
    let along = |i: usize| (2 * i + 1) as f32 / side as f32 - 1.0;
    let places = (0..cells).flat_map(|i| [along(i % side), -along(i / side)]).collect();
    let places = b.constant(Tensor { dims: vec![cells, 2], data: places });
    b.matmul(weights, places)
}

/// `NAME.weight` of these axes, drawn as He et al. 2015 do, and `NAME.bias`, zero. Dense weights are
/// `[inputs, outputs]`, filters `[outputs, inputs, height, width]`.
fn layer(b: &mut Builder, name: &str, dims: &[usize], rng: &mut Rng) -> [Value; 2] {
    let (inputs, outputs) = match dims {
        [outputs, rest @ ..] if dims.len() == 4 => (rest.iter().product(), *outputs),
        _ => (dims[0], dims[1]),
    };
    let scale = (2.0 / inputs as f64).sqrt();
    let n = dims.iter().product();
    let data = (0..n).map(|_| (scale * normal(rng)) as f32).collect();
    let weight = b.parameter(&format!("{name}.weight"), Tensor { dims: dims.to_vec(), data });
    [weight, b.parameter(&format!("{name}.bias"), Tensor::zeros([outputs]))]
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
    fn a_keypoint_is_where_its_map_is_large() {
        let mut b = Builder::new();
        let maps = b.input("maps", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)]);
        let points = spatial_softmax(&mut b, maps, 1, 4);
        b.output("points", points);
        let graph = Verified::try_from(b.finish().unwrap()).unwrap();
        let mut session = Engine::tract().load(&graph).unwrap();
        let mut map = [0.0; 16];
        let mut point = [0.0; 2];
        session.run_into(&[&map], &mut point).unwrap();
        assert!(point.iter().all(|x| x.abs() < 1e-6), "{point:?}");
        map[3] = 20.0;
        session.run_into(&[&map], &mut point).unwrap();
        assert!(point.iter().all(|x| (x - 0.75).abs() < 1e-3), "{point:?}");
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
