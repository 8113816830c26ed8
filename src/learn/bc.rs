//! Behaviour cloning: the demonstrated actions are made likely.
//!
//! ```text
//! theta* = argmax over theta of  sum_ij log pi_theta(a_ij | s_ij)                       (likelihood)
//!
//! goal-conditioned, demonstration i achieving goal g_i at its end, hindsight with probability p:
//!     g      <- g_i, or an achieved goal ag_it' of the same demonstration     (goal::Strategy)
//!     w      <- gamma^k,  k = |t' - t| the steps until g is achieved          (horizon; else 1)
//!     theta* = argmax over theta of  sum_it w log pi_theta(a_it | s_it, g)
//!
//! stop when the likelihood of held-out demonstrations has not grown for `patience` iterations;
//! keep the parameters for which it was largest
//! ```
//! A demonstration shows how to reach every state that it passes, so each of them may stand as the
//! goal (Ding et al. 2019, section 4.1: expert relabelling). What `pi` is: see [`Likelihood`].

mod head;
mod rows;

use serde::{Deserialize, Serialize};

use self::head::Head;
pub use self::head::Likelihood;
use self::rows::Rows;
use super::checkpoint::Checkpoint;
use super::demonstrations::DemonstrationSettings;
use super::learner::{Figures, Learner};
use super::network::{Activation, Init, Layers, Mlp};
use super::normalizer;
use super::trained::Trained;
use super::{LearnError, Schedule};
use crate::engine::{Engine, Session};
use crate::env::{ActionSpace, EnvSpec};
use crate::goal::{Hindsight, ReplayBuffer, Strategy, Trajectory, TrajectoryError};
use crate::onnx::{AdamW, BcLoss, Builder, Dim, Graph, OnnxError, Value, Verified};
use crate::policy::tensor;
use crate::rng::{Rng, Stream, stream};
use rand::seq::SliceRandom as _;

/// Settings of behaviour cloning, with goals and without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BcSettings {
    /// The expert's episodes.
    pub demonstrations: DemonstrationSettings,
    /// What the policy says of an action; by default a Gaussian of fixed covariance, or a
    /// categorical distribution where actions are choices.
    pub likelihood: Option<Likelihood>,
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// What stands between the layers.
    pub activation: Activation,
    /// Training steps at most.
    pub steps: usize,
    /// Training steps of one iteration, after which the held-out demonstrations are asked.
    pub iteration: usize,
    /// Rows per step.
    pub batch: usize,
    /// Learning rates over `steps`.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Share of the demonstrations that is held out, at least one; 0 holds none out and trains to
    /// the last step. Of 20 demonstrations two are a poor judge: in four rooms training on all of
    /// them reached 0.655 of the goals, stopping early 0.583 (6 seeds).
    pub validation: f64,
    /// Iterations without a better likelihood of the held-out demonstrations before it stops.
    pub patience: u64,
    /// Which achieved goals take the place of the desired one.
    pub hindsight: Hindsight,
    /// `gamma` of the horizon weights; without it all samples weigh the same.
    pub horizon: Option<f64>,
}

impl Default for BcSettings {
    fn default() -> Self {
        Self {
            demonstrations: DemonstrationSettings::default(),
            likelihood: None,
            hidden: vec![256, 256],
            activation: Activation::Relu,
            steps: 3000,
            iteration: 100,
            batch: 256,
            schedule: Schedule::default(),
            weight_decay: 0.0,
            validation: 0.1,
            patience: 10,
            hindsight: Hindsight {
                strategy: Strategy::None,
                probability: 0.0,
                already_achieved: None,
            },
            horizon: None,
        }
    }
}

impl BcSettings {
    /// The same with hindsight: 80 % of the samples get a goal from later in their demonstration.
    pub fn goal_conditioned() -> Self {
        let hindsight =
            Hindsight { strategy: Strategy::Future, probability: 0.8, already_achieved: None };
        Self { hindsight, ..Self::default() }
    }

    fn head(&self, env: &EnvSpec) -> Result<Head, LearnError> {
        if env.goal == 0 && self.hindsight.probability > 0.0 {
            let (method, needs) = ("hindsight", "goals");
            return Err(LearnError::Unfit { method, needs, env: env.name, found: "none".into() });
        }
        let likelihood = self.likelihood.unwrap_or(match env.actions {
            ActionSpace::Continuous { .. } => Likelihood::FixedGaussian,
            ActionSpace::Discrete { .. } => Likelihood::Categorical,
        });
        Head::new(env.actions, likelihood).ok_or_else(|| LearnError::Unfit {
            method: "bc",
            needs: "actions of its likelihood (categorical: choices, else numbers)",
            env: env.name,
            found: format!("{:?} for {likelihood:?}", env.actions),
        })
    }
}

/// A training by behaviour cloning.
pub struct Bc {
    settings: BcSettings,
    env: EnvSpec,
    head: Head,
    /// Of observation and goal, `[2 (o + g)]`.
    normalizer: Vec<f32>,
    training: ReplayBuffer,
    held_out: Option<HeldOut>,
    network: Trained,
    best: Best,
    rows: Rows,
    rng: Rng,
    /// Training steps done.
    steps: usize,
    /// Transitions of all demonstrations.
    demonstrated: usize,
}

/// Rows of held-out demonstrations, drawn once, and their loss as a function of the weights.
struct HeldOut {
    rows: Rows,
    loss: Session,
}

/// The weights of the largest likelihood.
struct Best {
    loss: f32,
    weights: Vec<f32>,
    /// Iterations since.
    age: u64,
}

/// Held-out rows at most.
const HELD_OUT_ROWS: usize = 4096;

impl Bc {
    /// A training on an environment's demonstrations.
    ///
    /// # Errors
    /// There are none, or the settings do not fit the environment.
    pub fn new(
        engine: &Engine,
        settings: &BcSettings,
        env: &EnvSpec,
        demonstrations: &[Trajectory],
        seed: u64,
    ) -> Result<Self, LearnError> {
        if demonstrations.is_empty() {
            return Err(LearnError::NoData("no demonstrations".into()));
        }
        let head = settings.head(env)?;
        let mut rng = stream(seed, Stream::Training);
        let normalizer = rows::normalizer(demonstrations);
        let mut order = demonstrations.to_vec();
        order.shuffle(&mut rng);
        let demonstrated = demonstrations.iter().map(Trajectory::last).sum();
        let (validation, training) = split(&order, settings.validation)?;
        let mlp =
            Mlp::new(normalizer.len() / 2, &settings.hidden, head.outputs(), settings.activation);
        let weights = mlp.draw(Init::Xavier, &mut stream(seed, Stream::Weights));
        let held_out = if validation.transitions() == 0 {
            None
        } else {
            Some(HeldOut::new(engine, &validation, settings, &head, &mlp, &normalizer, &mut rng)?)
        };
        let adam = AdamW { weight_decay: settings.weight_decay, ..AdamW::default() };
        let network = Trained::new(engine, &mlp, weights.clone(), adam, |b, layers| {
            let rows = settings.batch;
            let x = b.input("x", &[Dim::Fixed(rows), Dim::Fixed(mlp.inputs)]);
            let y = network(b, layers, &normalizer, x);
            head.loss(b, y, rows).unwrap_or_else(|error| refused(b, error, y))
        })?;
        let best = Best { loss: f32::INFINITY, weights, age: 0 };
        let (env, rows) = (env.clone(), Rows::default());
        Ok(Self {
            settings: settings.clone(),
            env,
            head,
            normalizer,
            training,
            held_out,
            network,
            best,
            rows,
            rng,
            steps: 0,
            demonstrated,
        })
    }

    /// One training step on a batch; its loss.
    fn step(&mut self) -> Result<f32, LearnError> {
        self.steps += 1;
        let settings = &self.settings;
        self.rows.draw(settings.batch, &self.training, settings, &self.head, &mut self.rng)?;
        let lr = settings.schedule.at(self.steps, settings.steps);
        let rows = &self.rows;
        let batch =
            [("x", &rows.x[..]), (BcLoss::TARGET, &rows.target), (BcLoss::WEIGHT, &rows.weight)];
        Ok(self.network.step(&batch, lr)?.loss)
    }

    /// Keeps the weights if held-out demonstrations have become likelier.
    fn keep_best(&mut self) -> Result<Option<f32>, LearnError> {
        let weights = self.network.weights();
        let loss = self.held_out.as_mut().map(|held_out| held_out.loss_of(weights)).transpose()?;
        if loss.is_none_or(|loss| loss < self.best.loss) {
            self.best =
                Best { loss: loss.unwrap_or(f32::INFINITY), weights: weights.to_vec(), age: 0 };
        } else {
            self.best.age += 1;
        }
        Ok(loss)
    }
}

impl Learner for Bc {
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
        if let Some(loss) = self.keep_best()? {
            figures.push(("held_out_loss", loss.into()));
            figures.push(("best_held_out_loss", self.best.loss.into()));
        }
        Ok(figures)
    }

    fn done(&self) -> bool {
        self.steps >= self.settings.steps || self.best.age >= self.settings.patience.max(1)
    }

    /// Those of the demonstrations: nothing else is asked of the environment.
    fn env_steps(&self) -> u64 {
        self.demonstrated as u64
    }

    fn steps(&self) -> u64 {
        self.steps as u64
    }

    fn policy(&self) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let mut x = b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(self.env.observation)]);
        if self.env.goal > 0 {
            let goal = b.input(tensor::DESIRED_GOAL, &[Dim::Batch, Dim::Fixed(self.env.goal)]);
            x = b.concat(&[x, goal], 1);
        }
        let layers = self.network.mlps()[0].trained(&mut b, "policy", &self.best.weights)?;
        let y = network(&mut b, &layers, &self.normalizer, x);
        let action = self.head.action(&mut b, y);
        b.output(tensor::ACTION, action);
        Ok(b.finish()?)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("network", self.network.save()?);
        kept.put("best.weights", self.best.weights.clone());
        kept.put("best.loss", vec![self.best.loss]);
        kept.put_count("best.age", self.best.age);
        kept.put_count("steps", self.steps as u64);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.network.restore(&kept.part("network"))?;
        let loss = kept.tensor("best.loss")?.first().copied().unwrap_or(f32::INFINITY);
        let weights = kept.tensor("best.weights")?.to_vec();
        self.best = Best { loss, weights, age: kept.count("best.age")? };
        self.steps = kept.count("steps")? as usize;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}

impl HeldOut {
    fn new(
        engine: &Engine,
        demonstrations: &ReplayBuffer,
        settings: &BcSettings,
        head: &Head,
        mlp: &Mlp,
        normalizer: &[f32],
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let n = demonstrations.transitions().min(HELD_OUT_ROWS);
        let mut rows = Rows::default();
        rows.draw(n, demonstrations, settings, head, rng)?;
        let mut b = Builder::new();
        let x = b.input("x", &[Dim::Fixed(n), Dim::Fixed(mlp.inputs)]);
        let layers = mlp.given(&mut b, "weights");
        let y = network(&mut b, &layers, normalizer, x);
        let loss = head.loss(&mut b, y, n)?;
        b.output("loss", loss);
        Ok(Self { rows, loss: engine.load(&Verified::try_from(b.finish()?)?)? })
    }

    /// The loss of these weights.
    fn loss_of(&mut self, weights: &[f32]) -> Result<f32, LearnError> {
        let n = self.rows.weight.len();
        let wide = |data: &[f32]| [n, data.len() / n];
        let (x, target) = (wide(&self.rows.x), wide(&self.rows.target));
        let found = self.loss.run(&[
            ("x", &x, &self.rows.x),
            ("weights", &[weights.len()], weights),
            (BcLoss::TARGET, &target, &self.rows.target),
            (BcLoss::WEIGHT, &[n], &self.rows.weight),
        ])?;
        Ok(found.first().and_then(|loss| loss.data.first()).copied().unwrap_or(f32::NAN))
    }
}

/// Whole demonstrations for validation and for training; one for training at least.
fn split(
    demonstrations: &[Trajectory],
    share: f64,
) -> Result<(ReplayBuffer, ReplayBuffer), TrajectoryError> {
    let most = demonstrations.len() - 1;
    let wanted = (share * demonstrations.len() as f64).round() as usize;
    let held = if share > 0.0 { wanted.clamp(1.min(most), most) } else { 0 };
    let mut buffers = (ReplayBuffer::default(), ReplayBuffer::default());
    for (i, demonstration) in demonstrations.iter().enumerate() {
        if i < held { &mut buffers.0 } else { &mut buffers.1 }.push(demonstration)?;
    }
    Ok(buffers)
}

/// The head's numbers for observations and goals `x` `[N, o + g]` in their own units.
fn network(b: &mut Builder, layers: &Layers, normalizer: &[f32], x: Value) -> Value {
    let moments = normalizer::stored(b, normalizer);
    let x = normalizer::apply(b, moments, x);
    layers.apply(b, x)
}

/// Keeps a mistake for the builder's end, where it is reported.
fn refused(b: &mut Builder, error: OnnxError, instead: Value) -> Value {
    b.fail(error);
    instead
}

#[cfg(test)]
mod tests;
