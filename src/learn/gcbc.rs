//! Goal-conditioned behaviour cloning with hindsight.
//!
//! ```text
//! repeat: draw transitions (s_t, ag_t) of demonstrations and attempts
//!         g   <- an achieved goal of the same episode's future         (hindsight)
//!         a   <- the motion that led there                              (label::Reach)
//!         min over theta of  mean || pi_theta(s_t, ag_t, g) - a ||²     (TrainStep, AdamW)
//!                            or another loss of pi_theta's outputs      (BcLoss)
//! ```

mod training;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::{Layout, LearnError, Rule, Schedule};
use crate::engine::Engine;
use crate::goal::{Mix, Strategy};
use crate::joints::GoalSpace;
use crate::onnx::{
    Adapter, BcLoss, BehaviourCloning, Builder, Dim, Distance, Graph, ParameterReport, Selection,
    Tensor, Verified,
};
use crate::policy::{ActionKind, METADATA_KEY, PolicySpec, tensor};
use crate::rng::{Rng, normal};

pub use training::{Drawn, Training};

/// Settings of the method; the defaults are the measured ones for reaching.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gcbc {
    /// Rows per step.
    pub batch: usize,
    /// Training steps.
    pub steps: usize,
    /// Learning rates.
    pub schedule: Schedule,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm.
    pub clip_norm: f64,
    /// How the parameters follow the gradient.
    pub rule: Rule,
    /// Decay of a moving average of the parameters, which is then what training gives.
    pub ema: Option<f64>,
    /// How many ticks ahead the label looks.
    pub horizon: usize,
    /// Share of demonstrations in a batch that also has attempts.
    pub demonstration_share: f64,
    /// Share of demonstration samples that keep the desired goal: they reached it.
    pub keep_desired: f64,
    /// Where hindsight goals come from.
    pub strategy: Strategy,
    /// What is minimised; by default what fits the policy: its chunks, or its actions' squared error.
    pub loss: Option<BcLoss>,
    /// The policy's values that the loss takes, in its order; by default its action.
    pub outputs: Vec<String>,
    /// Which parameters are trained.
    pub selection: Selection,
    /// Low-rank adapters, trained instead of whole layers.
    pub adapter: Option<Adapter>,
}

impl Default for Gcbc {
    fn default() -> Self {
        Self {
            batch: 256,
            steps: 3000,
            schedule: Schedule::default(),
            weight_decay: 1e-4,
            clip_norm: 10.0,
            rule: Rule::default(),
            ema: None,
            horizon: 30,
            demonstration_share: 0.5,
            keep_desired: 0.5,
            strategy: Strategy::Future,
            loss: None,
            outputs: Vec::new(),
            selection: Selection::default(),
            adapter: None,
        }
    }
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
    /// The loss on episodes kept aside, where there are any.
    pub validation: Option<f32>,
}

/// Asked after each epoch; false stops.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// A finished training.
#[derive(Debug, Clone)]
pub struct Fit {
    /// The policy's new parameters, or their average if the method keeps one.
    pub parameters: BTreeMap<String, Tensor>,
    /// Mean loss per epoch; distances are shares of the largest action.
    pub losses: Vec<f32>,
    /// What happened to each of the policy's tensors.
    pub report: Vec<ParameterReport>,
}

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
        data: Mix<'_>,
        rng: Rng,
        on_progress: OnProgress<'_>,
    ) -> Result<Fit, LearnError> {
        let mut training = Training::new(self, engine, policy, data, rng)?;
        while !training.done() {
            if training.advance()?.is_some_and(|progress| !on_progress(progress)) {
                return Err(LearnError::Stopped);
            }
        }
        training.fit()
    }

    /// How a policy is trained: its own batch if its export fixed one.
    fn cloning(&self, policy: &Graph, spec: &PolicySpec) -> Result<BehaviourCloning, LearnError> {
        let batch = policy.fixed_batch()?.unwrap_or(self.batch);
        let unit = self.unit(spec);
        Ok(BehaviourCloning {
            batch,
            loss: self.loss(spec),
            outputs: match self.outputs.as_slice() {
                [] => vec![spec.tensors.action.clone()],
                named => named.to_vec(),
            },
            selection: self.selection.clone(),
            adapter: self.adapter.clone(),
            optimiser: self.rule.optimiser(unit, self.weight_decay, self.clip_norm, self.ema),
        })
    }

    /// The loss for a policy.
    pub fn loss(&self, spec: &PolicySpec) -> BcLoss {
        let fitting = || match spec.chunk {
            Some(_) => BcLoss::Chunk(Distance::Absolute),
            None => BcLoss::default(),
        };
        self.loss.unwrap_or_else(fitting)
    }

    /// The unit of the loss: the largest action (rad) to the power that the loss has, so that losses
    /// compare between robots.
    fn unit(&self, spec: &PolicySpec) -> f32 {
        let unit = match spec.action {
            ActionKind::JointDelta => max_delta(spec),
            ActionKind::JointPosition => 1.0,
        };
        unit.powi(self.loss(spec).unit_power())
    }

    /// The loss of a policy on each of `rounds` batches, in the unit of [`Fit::losses`].
    ///
    /// # Errors
    /// As [`Gcbc::fit`].
    pub fn losses_of(
        &self,
        engine: &Engine,
        policy: &Graph,
        data: Mix<'_>,
        rounds: usize,
        rng: &mut Rng,
    ) -> Result<Vec<f32>, LearnError> {
        let spec = PolicySpec::of(policy)?;
        let loss = Verified::try_from(self.cloning(policy, &spec)?.loss(policy)?)?;
        let inputs = loss.inputs()?;
        let mut batch = Batch::new(self, &spec, &inputs)?;
        let mut session = engine.load(&loss)?;
        let dims: Vec<Vec<usize>> = inputs.iter().map(|input| input.dims_at(1)).collect();
        let unit = self.unit(&spec);
        let mut losses = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            batch.fill(self, data, rng)?;
            let rows = batch.inputs();
            let given = inputs.iter().zip(&dims).filter_map(|(input, dims)| {
                let (name, data) = rows.iter().find(|(name, _)| *name == input.name)?;
                Some((*name, dims.as_slice(), *data))
            });
            let found = session.run(&given.collect::<Vec<_>>())?;
            let loss = found.first().and_then(|loss| loss.data.first()).copied();
            losses.push(loss.unwrap_or(f32::NAN) / unit);
        }
        Ok(losses)
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
    /// Mean of the goals (m or rad), `[g]`.
    pub goal_mean: Vec<f32>,
    /// Standard deviation of the goals (m or rad), `[g]`.
    pub goal_deviation: Vec<f32>,
}

/// Scale of `sent - measured` (rad).
const LAG_SCALE: f32 = 0.05;

/// Scale of `desired - achieved` (m or rad).
fn offset_scale(space: GoalSpace) -> f32 {
    if space == GoalSpace::JointPosition { 0.5 } else { 0.1 }
}

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
    let (n, g) = (spec.joints.len(), spec.goal_size());
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
    let (mean, deviation) = normalizer.rows(n, offset_scale(spec.goal_space));
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
    fn rows(&self, joints: usize, offset: f32) -> (Vec<f32>, Vec<f32>) {
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
            .chain(std::iter::repeat_n(offset, g))
            .collect();
        (mean, deviation)
    }
}
