//! A training under way, which can be kept in a checkpoint and taken up again.

use serde::{Deserialize, Serialize};

use super::{Fit, Gcbc, Progress};
use crate::engine::{Engine, Trainer};
use crate::goal::Mix;
use crate::learn::LearnError;
use crate::learn::batch::Batch;
use crate::learn::checkpoint::Checkpoint;
use crate::onnx::{Graph, ParameterReport, TrainStep};
use crate::policy::PolicySpec;
use crate::rng::Rng;

/// What the rows of the batches were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drawn {
    /// Rows of demonstrations with the goal that was wished for.
    pub demonstrated: u64,
    /// Rows of demonstrations with a goal told in hindsight.
    pub demonstrated_in_hindsight: u64,
    /// Rows of the robot's own attempts, their goals told in hindsight.
    pub attempted: u64,
}

impl Drawn {
    /// All rows.
    pub fn total(&self) -> u64 {
        self.demonstrated + self.demonstrated_in_hindsight + self.attempted
    }
}

/// A training of a policy by a [`Gcbc`], step by step. On a processor a training that is taken up again
/// ends with the same bits as one that was never stopped.
pub struct Training<'a> {
    method: &'a Gcbc,
    data: Mix<'a>,
    trainer: Trainer,
    batch: Batch,
    rng: Rng,
    unit: f32,
    report: Vec<ParameterReport>,
    steps: usize,
    losses: Vec<f32>,
    /// Of the epoch that is under way.
    sum: f32,
}

/// A training has so many epochs.
const EPOCHS: usize = 20;

impl<'a> Training<'a> {
    /// A training before its first step; the policy's architecture, metadata and normaliser stay.
    ///
    /// # Errors
    /// A policy that cannot be differentiated, or an engine that fails.
    pub fn new(
        method: &'a Gcbc,
        engine: &Engine,
        policy: &Graph,
        data: Mix<'a>,
        rng: Rng,
    ) -> Result<Self, LearnError> {
        let spec = PolicySpec::of(policy)?;
        let how = method.cloning(policy, &spec)?;
        let step = TrainStep::behaviour_cloning(policy, &how)?;
        Ok(Self {
            method,
            data,
            trainer: engine.train(&step, 1)?,
            batch: Batch::new(method, &spec, step.batch_inputs())?,
            rng,
            unit: method.unit(&spec),
            report: step.report().to_vec(),
            steps: 0,
            losses: Vec::new(),
            sum: 0.0,
        })
    }

    /// One step; the progress where it ends an epoch.
    ///
    /// # Errors
    /// Nothing to learn from, a diverging loss, or an engine that fails.
    pub fn advance(&mut self) -> Result<Option<Progress>, LearnError> {
        let (step, steps, unit) = (self.steps + 1, self.method.steps, self.unit);
        self.batch.fill(self.method, self.data, &mut self.rng)?;
        let lr = self.method.schedule.at(step, steps);
        let rate = lr * self.method.rule.rate(unit);
        let loss = self.trainer.step(&self.batch.inputs(), rate)?.loss / unit;
        if !loss.is_finite() {
            return Err(LearnError::Diverged { step, loss, lr });
        }
        self.steps = step;
        self.sum += loss;
        let epoch = steps.div_ceil(EPOCHS).max(1);
        if !step.is_multiple_of(epoch) && step != steps {
            return Ok(None);
        }
        let count = (step - 1) % epoch + 1;
        let loss = std::mem::take(&mut self.sum) / count as f32;
        self.losses.push(loss);
        Ok(Some(Progress { step, steps, loss, validation: None }))
    }

    /// Whether all steps are done.
    pub fn done(&self) -> bool {
        self.steps >= self.method.steps
    }

    /// Steps done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// What the rows so far were.
    pub fn drawn(&self) -> Drawn {
        self.batch.drawn
    }

    /// What training gives, or gives so far.
    ///
    /// # Errors
    /// The engine cannot give the parameters.
    pub fn fit(&self) -> Result<Fit, LearnError> {
        let parameters = self.trainer.averaged()?;
        Ok(Fit { parameters, losses: self.losses.clone(), report: self.report.clone() })
    }

    /// All that decides how the training goes on, but for its data.
    ///
    /// # Errors
    /// The engine cannot give its state.
    pub fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        for (place, data) in self.trainer.save()?.into_iter().enumerate() {
            kept.put(&format!("state.{place}"), data);
        }
        kept.put("losses", &*self.losses);
        kept.put("sum", vec![self.sum]);
        kept.put_rng("rng", &self.rng);
        let Drawn { demonstrated, demonstrated_in_hindsight, attempted } = self.batch.drawn;
        kept.put_count("drawn.demonstrated", demonstrated);
        kept.put_count("drawn.demonstrated_in_hindsight", demonstrated_in_hindsight);
        kept.put_count("drawn.attempted", attempted);
        kept.put_count("steps", self.steps as u64);
        Ok(kept)
    }

    /// Goes on from what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// It is of another training.
    pub fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        let places = self.trainer.save()?.len();
        let state = (0..places).map(|place| kept.tensor(&format!("state.{place}")));
        let state: Vec<Vec<f32>> =
            state.map(|data| data.map(<[f32]>::to_vec)).collect::<Result<_, _>>()?;
        self.trainer.restore(&state)?;
        self.losses = kept.tensor("losses")?.to_vec();
        self.sum = kept.tensor_of("sum", 1)?.iter().sum();
        self.rng = kept.rng("rng")?;
        self.batch.drawn = Drawn {
            demonstrated: kept.count("drawn.demonstrated")?,
            demonstrated_in_hindsight: kept.count("drawn.demonstrated_in_hindsight")?,
            attempted: kept.count("drawn.attempted")?,
        };
        self.steps = kept.count("steps")? as usize;
        Ok(())
    }
}
