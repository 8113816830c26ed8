//! Goal-conditioned behaviour cloning with hindsight.
//!
//! ```text
//! repeat: draw transitions (s_t, ag_t) of demonstrations and attempts
//!         g   <- an achieved goal of the same episode's future         (hindsight)
//!         a   <- the motion that led there                              (label::Reach)
//!         min over theta of  mean || pi_theta(s_t, ag_t, g) - a ||²     (TrainStep, AdamW)
//! ```

use serde::{Deserialize, Serialize};

use super::{Layout, LearnError, Reach};
use crate::engine::Engine;
use crate::goal::{Hindsight, ReplayBuffer, Strategy};
use crate::onnx::{AdamW, BehaviourCloning, Builder, Dim, Graph, Tensor, TrainStep};
use crate::policy::{ActionKind, METADATA_KEY, PolicySpec, tensor};
use crate::rng::{Rng, normal};

/// Settings of the method; the defaults are the measured ones for reaching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gcbc {
    /// Rows per step.
    pub batch: usize,
    /// Training steps.
    pub steps: usize,
    /// Learning rate; falls to 2 % of it along half a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm.
    pub clip_norm: f64,
    /// How many ticks ahead the label looks.
    pub horizon: usize,
    /// Share of demonstrations in a batch that also has attempts.
    pub demonstration_share: f64,
    /// Share of demonstration samples that keep the desired goal: they reached it.
    pub keep_desired: f64,
    /// Where hindsight goals come from.
    pub strategy: Strategy,
}

impl Default for Gcbc {
    fn default() -> Self {
        Self {
            batch: 256,
            steps: 3000,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            clip_norm: 10.0,
            horizon: 30,
            demonstration_share: 0.5,
            keep_desired: 0.5,
            strategy: Strategy::Future,
        }
    }
}

/// What is learned from.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    /// Episodes that reached what they wished for.
    pub demonstrations: &'a ReplayBuffer,
    /// The robot's own episodes, failures included; may be empty.
    pub attempts: &'a ReplayBuffer,
}

/// One line of progress: an epoch is a twentieth of the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps to do.
    pub steps: usize,
    /// Mean loss of the epoch.
    pub loss: f32,
}

/// Asked after each epoch; false stops.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// A finished training.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The policy with its new parameters.
    pub policy: Graph,
    /// Mean loss per epoch: squared error as a share of the largest action.
    pub losses: Vec<f32>,
}

const EPOCHS: usize = 20;

impl Gcbc {
    /// Trains `policy` on `data`; the policy's architecture, metadata and normaliser stay.
    ///
    /// # Errors
    /// Nothing to learn from, a diverging loss, a policy that cannot be differentiated, or an engine
    /// that fails.
    pub fn fit(
        &self,
        engine: &Engine,
        policy: &Graph,
        data: Data<'_>,
        rng: &mut Rng,
        on_progress: OnProgress<'_>,
    ) -> Result<Fit, LearnError> {
        let spec = PolicySpec::of(policy)?;
        let mut batch = Batch::new(self, &spec)?;
        let step = TrainStep::behaviour_cloning(
            policy,
            &BehaviourCloning {
                batch: self.batch,
                outputs: vec![tensor::ACTION.into()],
                adam: AdamW {
                    weight_decay: self.weight_decay as f32,
                    // The step's loss is in rad², the limit in shares of the largest action.
                    clip_norm: Some(self.clip_norm as f32 * batch.unit.powi(2)),
                    ..AdamW::default()
                },
                ..BehaviourCloning::default()
            },
        )?;
        let mut trainer = engine.train(&step, 1)?;
        let epoch = self.steps.div_ceil(EPOCHS).max(1);
        let (mut losses, mut sum, mut count) = (Vec::new(), 0.0, 0);
        for n in 1..=self.steps {
            batch.fill(self, data, rng)?;
            let lr = self.learning_rate_at(n);
            let loss = trainer.step(&batch.inputs(), lr)?.loss / batch.unit.powi(2);
            if !loss.is_finite() {
                return Err(LearnError::Diverged { step: n, loss, lr });
            }
            (sum, count) = (sum + loss, count + 1);
            if n % epoch == 0 || n == self.steps {
                let loss = sum / count as f32;
                losses.push(loss);
                (sum, count) = (0.0, 0);
                if !on_progress(Progress { step: n, steps: self.steps, loss }) {
                    return Err(LearnError::Stopped);
                }
            }
        }
        Ok(Fit { policy: policy.with_parameters(&trainer.parameters()?)?, losses })
    }

    fn learning_rate_at(&self, step: usize) -> f32 {
        let done = step as f64 / self.steps.max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        (self.learning_rate * (0.02 + 0.98 * cosine)) as f32
    }
}

/// The rows of one training step, row-major.
pub struct Batch {
    layout: Layout,
    reach: Reach,
    rows: usize,
    joints: usize,
    observation: Vec<f32>,
    achieved_goal: Vec<f32>,
    desired_goal: Vec<f32>,
    target: Vec<f32>,
    weight: Vec<f32>,
    /// The largest action (rad): losses count as shares of it, so that they compare between robots.
    unit: f32,
}

impl Batch {
    /// Room for `method.batch` rows of a policy.
    ///
    /// # Errors
    /// The policy does not observe what the label needs.
    pub fn new(method: &Gcbc, spec: &PolicySpec) -> Result<Self, LearnError> {
        let max_delta = max_delta(spec);
        let joints = spec.joints.len();
        let unit = match spec.action {
            ActionKind::JointDelta => max_delta,
            ActionKind::JointPosition => 1.0,
        };
        Ok(Self {
            layout: Layout::of(spec)?,
            reach: Reach { horizon: method.horizon, max_delta, kind: spec.action },
            rows: method.batch,
            joints,
            observation: Vec::with_capacity(method.batch * spec.observation_size()),
            achieved_goal: Vec::with_capacity(method.batch * spec.goal_space.size()),
            desired_goal: Vec::with_capacity(method.batch * spec.goal_space.size()),
            target: vec![0.0; method.batch * joints],
            weight: vec![1.0; method.batch],
            unit,
        })
    }

    /// Draws new rows: demonstrations first, then attempts.
    ///
    /// # Errors
    /// There is nothing to draw from.
    pub fn fill(&mut self, method: &Gcbc, data: Data<'_>, rng: &mut Rng) -> Result<(), LearnError> {
        let share = match (data.demonstrations.transitions(), data.attempts.transitions()) {
            (0, _) => 0.0,
            (_, 0) => 1.0,
            _ => method.demonstration_share.clamp(0.0, 1.0),
        };
        let demonstrations = (share * self.rows as f64).round() as usize;
        self.observation.clear();
        self.achieved_goal.clear();
        self.desired_goal.clear();
        let keep = 1.0 - method.keep_desired;
        for row in 0..self.rows {
            let (buffer, probability) = if row < demonstrations {
                (data.demonstrations, keep)
            } else {
                // A goal that was wished for and missed says nothing about the actions taken.
                (data.attempts, 1.0)
            };
            let hindsight =
                Hindsight { strategy: method.strategy, probability, already_achieved: None };
            let sample = buffer.sample(&hindsight, rng).ok_or_else(|| {
                LearnError::NoData("the folder has no usable training episodes".into())
            })?;
            self.observation.extend_from_slice(sample.trajectory.observation(sample.t));
            self.achieved_goal.extend_from_slice(sample.trajectory.achieved_goal(sample.t));
            self.desired_goal.extend_from_slice(sample.goal);
            let target = &mut self.target[row * self.joints..(row + 1) * self.joints];
            self.reach.write(&self.layout, &sample, target);
        }
        Ok(())
    }

    /// The rows under their names in the training step.
    pub fn inputs(&self) -> [(&'static str, &[f32]); 5] {
        [
            (tensor::OBSERVATION, &self.observation),
            (tensor::ACHIEVED_GOAL, &self.achieved_goal),
            (tensor::DESIRED_GOAL, &self.desired_goal),
            (BehaviourCloning::TARGET, &self.target),
            (BehaviourCloning::WEIGHT, &self.weight),
        ]
    }

    /// Mean squared error of a loaded policy on these rows, as a share of the largest action.
    ///
    /// # Errors
    /// The engine fails.
    pub fn loss(&self, session: &mut crate::engine::Session) -> Result<f32, LearnError> {
        let size = |flat: &[f32]| flat.len() / self.rows;
        let row = |flat: &[f32], i: usize| -> Vec<f32> {
            flat[i * size(flat)..(i + 1) * size(flat)].to_vec()
        };
        let mut action = vec![0.0; self.joints];
        let mut sum = 0.0;
        for i in 0..self.rows {
            let inputs = [
                row(&self.observation, i),
                row(&self.achieved_goal, i),
                row(&self.desired_goal, i),
            ];
            session.run_into(&[&inputs[0], &inputs[1], &inputs[2]], &mut action)?;
            let error: f32 =
                action.iter().zip(&row(&self.target, i)).map(|(a, t)| (a - t).powi(2)).sum();
            sum += error / self.joints as f32;
        }
        Ok(sum / self.rows as f32 / self.unit.powi(2))
    }
}

/// The largest change of a goal position per tick that a policy was made for (rad).
pub fn max_delta(spec: &PolicySpec) -> f32 {
    let written = spec.provenance.get("max_delta").and_then(serde_json::Value::as_f64);
    written.unwrap_or(2.5 / spec.rate_hz) as f32
}

/// Mean and standard deviation that inputs are normalised with; physical ranges, not statistics of
/// the first data: what a policy learns later may lie elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalizer {
    /// Half ranges of the joints (rad), `[n]`.
    pub joint_range: Vec<f32>,
    /// Mean of the goals (m), `[g]`.
    pub goal_mean: Vec<f32>,
    /// Standard deviation of the goals (m), `[g]`.
    pub goal_deviation: Vec<f32>,
}

/// Scale of `sent - measured` (rad) and of `desired - achieved` (m).
const LAG_SCALE: f32 = 0.05;
const OFFSET_SCALE: f32 = 0.1;

/// A new policy: `[q, sent - q, ag, g, g - ag]`, normalised, through a ReLU network to changes of the
/// goal positions.
///
/// # Errors
/// The sizes do not fit the description.
pub fn network(
    spec: &PolicySpec,
    normalizer: &Normalizer,
    hidden: &[usize],
    rng: &mut Rng,
) -> Result<Graph, LearnError> {
    let layout = Layout::of(spec)?;
    let (n, g) = (spec.joints.len(), spec.goal_space.size());
    let mut b = Builder::new();
    let observation =
        b.input(tensor::OBSERVATION, &[Dim::Batch, Dim::Fixed(spec.observation_size())]);
    let achieved = b.input(tensor::ACHIEVED_GOAL, &[Dim::Batch, Dim::Fixed(g)]);
    let desired = b.input(tensor::DESIRED_GOAL, &[Dim::Batch, Dim::Fixed(g)]);
    let (measured, sent) = layout.starts();
    let part =
        |b: &mut Builder, from: usize| b.slice(observation, 1, from as i64, (from + n) as i64);
    let (q, sent) = (part(&mut b, measured), part(&mut b, sent));
    let lag = b.sub(sent, q);
    let offset = b.sub(desired, achieved);
    let x = b.concat(&[q, lag, achieved, desired, offset], 1);
    let (mean, deviation) = normalizer.rows(n);
    let width = mean.len();
    let mean = b.parameter("normalizer.mean", Tensor::new(vec![1, width], mean)?);
    let deviation = b.parameter("normalizer.deviation", Tensor::new(vec![1, width], deviation)?);
    let centred = b.sub(x, mean);
    let mut h = b.div(centred, deviation);
    let mut inputs = width;
    for (layer, outputs) in hidden.iter().copied().chain([n]).enumerate() {
        let last = layer == hidden.len();
        // He et al. 2015; the last layer starts small, so that a new policy hardly moves.
        let scale = (2.0 / inputs as f64).sqrt() * if last { 0.1 } else { 1.0 };
        let weight: Vec<f32> =
            (0..inputs * outputs).map(|_| (scale * normal(rng)) as f32).collect();
        let w = b.parameter(
            &format!("layer{layer}.weight"),
            Tensor::new(vec![inputs, outputs], weight)?,
        );
        let bias = b.parameter(&format!("layer{layer}.bias"), Tensor::zeros(vec![outputs]));
        h = b.gemm(h, w, bias);
        if !last {
            h = b.relu(h);
        }
        inputs = outputs;
    }
    let unit = b.parameter("normalizer.action", Tensor::new(vec![1, 1], vec![max_delta(spec)])?);
    let action = b.mul(h, unit);
    b.output(tensor::ACTION, action);
    let mut graph = b.finish()?;
    graph.set_metadata(METADATA_KEY, &spec.to_json());
    Ok(graph)
}

impl Normalizer {
    fn rows(&self, joints: usize) -> (Vec<f32>, Vec<f32>) {
        let g = self.goal_mean.len();
        let zeros = |n: usize| std::iter::repeat_n(0.0, n);
        let mean = zeros(2 * joints)
            .chain(self.goal_mean.iter().copied())
            .chain(self.goal_mean.iter().copied())
            .chain(zeros(g))
            .collect();
        let deviation = self
            .joint_range
            .iter()
            .copied()
            .chain(std::iter::repeat_n(LAG_SCALE, joints))
            .chain(self.goal_deviation.iter().copied())
            .chain(self.goal_deviation.iter().copied())
            .chain(std::iter::repeat_n(OFFSET_SCALE, g))
            .collect();
        (mean, deviation)
    }
}
