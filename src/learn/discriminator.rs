//! The discriminator: which of two sides does a row come from?
//!
//! ```text
//! D(x) = sigmoid(z_psi(x)),  expert = 1, agent = 0
//! min over psi of  - E_expert[log D(x)] - E_agent[log(1 - D(x))]         (cross-entropy)
//!                  + lambda E[(|| grad_x z_psi(x') || - 1)²]              (gradient penalty)
//! x' = u x_expert + (1 - u) x_agent,  u ~ U[0, 1] for each pair of rows
//! ```
//!
//! Goodfellow et al. 2014, section 3, with the penalty of Gulrajani et al. 2017, equation 3, on the
//! logit. At the optimum `D* = p / (p + q)`, where the loss is `log 4 - 2 JSD(p, q)`: minus the value
//! of the game. The penalty is the gradient of a gradient: it is built by differentiating the graph
//! twice. It is a wall around a slope of zero: rows of one number, where a slope cannot turn, keep the
//! sign that their first weights gave them.

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use super::LearnError;
use super::checkpoint::Checkpoint;
use super::imitation_reward::sigmoid;
use super::network::{Activation, Init, Layers, Mlp};
use super::trained::Trained;
use crate::engine::{Engine, Session};
use crate::onnx::{AdamW, Builder, Dim, OnnxError, Value, Verified, grad};
use crate::rng::Rng;

/// How a discriminator is made; the defaults are those of goalGAIL's authors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiscriminatorSettings {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Between the layers.
    pub activation: Activation,
    /// Learning rate of Adam.
    pub lr: f32,
    /// Weight of the gradient penalty; 0 leaves it out.
    pub gradient_penalty: f32,
    /// Rows of each side in a step.
    pub batch: usize,
    /// What is minimised.
    pub loss: AdversarialLoss,
}

impl Default for DiscriminatorSettings {
    fn default() -> Self {
        Self {
            hidden: vec![256, 256],
            activation: Activation::Tanh,
            lr: 1e-3,
            gradient_penalty: 10.0,
            batch: 256,
            loss: AdversarialLoss::CrossEntropy,
        }
    }
}

/// What a discriminator minimises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdversarialLoss {
    /// `- E_expert[log D] - E_agent[log(1 - D)]`.
    CrossEntropy,
    /// `E_expert[log(1 - D)] + E_agent[log D]`, the lecture's minimisation to the letter. It points the
    /// same way but has no minimum: it pushes hardest where `D` is right already. For comparison only.
    Literal,
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiscriminatorReport {
    /// The loss with its penalty, before the step.
    pub loss: f32,
    /// Mean `D` of expert rows, before the step.
    pub expert: f32,
    /// Mean `D` of agent rows, before the step.
    pub agent: f32,
    /// Share of rows on their own side of `D = 1/2`.
    pub accuracy: f32,
}

/// The rows of each side that a report looks at: the first of the batch, which are drawn like all
/// others. Looking at more would cost a tenth of the step.
const REPORTED: usize = 64;

/// A network that tells expert from agent.
pub struct Discriminator {
    settings: DiscriminatorSettings,
    network: Trained,
    session: Session,
    inputs: usize,
    mix: Vec<f32>,
    logits: Vec<f32>,
}

impl Discriminator {
    /// A discriminator of rows `[inputs]` with first weights from `rng`.
    ///
    /// # Errors
    /// The engine cannot run its loss.
    pub fn new(
        engine: &Engine,
        settings: &DiscriminatorSettings,
        inputs: usize,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let mlp = Mlp::new(inputs, &settings.hidden, 1, settings.activation);
        let weights = mlp.draw(Init::Orthogonal { gain: 1.0, last: 1.0 }, rng);
        let loss = |b: &mut Builder, layers: &Layers| loss(b, layers, settings, inputs);
        Ok(Self {
            network: Trained::new(engine, &mlp, weights, AdamW::default(), loss)?,
            session: engine.load(&scorer(&mlp)?)?,
            settings: settings.clone(),
            inputs,
            mix: vec![0.0; settings.batch],
            logits: Vec::new(),
        })
    }

    /// One step on `batch` rows of each side, row by row: `[batch, inputs]`.
    ///
    /// # Errors
    /// The rows are of another number, or the loss is not finite.
    pub fn update(
        &mut self,
        expert: &[f32],
        agent: &[f32],
        rng: &mut Rng,
    ) -> Result<DiscriminatorReport, LearnError> {
        let (expert_d, expert_right) = self.look(expert, 1.0)?;
        let (agent_d, agent_right) = self.look(agent, -1.0)?;
        Ok(DiscriminatorReport {
            loss: self.step(expert, agent, rng)?,
            expert: expert_d,
            agent: agent_d,
            accuracy: 0.5 * (expert_right + agent_right),
        })
    }

    /// The same step without a report, which costs a twentieth of it: the loss, before the step.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn step(
        &mut self,
        expert: &[f32],
        agent: &[f32],
        rng: &mut Rng,
    ) -> Result<f32, LearnError> {
        let mut batch = vec![("expert", expert), ("agent", agent)];
        if self.settings.gradient_penalty > 0.0 {
            self.mix.fill_with(|| rng.random());
            batch.push(("mix", &self.mix));
        }
        Ok(self.network.step(&batch, self.settings.lr)?.loss)
    }

    /// Mean `D` of the first rows, and the share whose logit has the side's sign.
    fn look(&mut self, rows: &[f32], side: f32) -> Result<(f32, f32), LearnError> {
        let mut logits = std::mem::take(&mut self.logits);
        logits.clear();
        let some = rows.len().min(REPORTED * self.inputs);
        self.logits(&rows[..some], &mut logits)?;
        let n = logits.len().max(1) as f32;
        let d = logits.iter().map(|z| sigmoid(*z)).sum::<f32>() / n;
        let right = logits.iter().filter(|z| side * **z > 0.0).count() as f32 / n;
        self.logits = logits;
        Ok((d, right))
    }

    /// Appends the logits of rows `[n, inputs]` to `out`.
    ///
    /// # Errors
    /// The rows are not of this length, or the engine failed.
    pub fn logits(&mut self, rows: &[f32], out: &mut Vec<f32>) -> Result<(), LearnError> {
        if rows.is_empty() {
            return Ok(());
        }
        let weights = self.network.weights();
        let dims = [rows.len() / self.inputs, self.inputs];
        let inputs = [("rows", &dims[..], rows), ("weights", &[weights.len()], weights)];
        let found = self.session.run(&inputs)?;
        out.extend(found.iter().take(1).flat_map(|logits| &logits.data));
        Ok(())
    }

    /// The weights now, flat, in [`Mlp::given`]'s order.
    pub fn weights(&self) -> &[f32] {
        self.network.weights()
    }

    /// The network from rows to one logit.
    pub fn mlp(&self) -> &Mlp {
        &self.network.mlps()[0]
    }

    /// How it was made.
    pub fn settings(&self) -> &DiscriminatorSettings {
        &self.settings
    }

    /// All that decides its next step.
    ///
    /// # Errors
    /// The engine cannot give it.
    pub fn save(&self) -> Result<Checkpoint, LearnError> {
        self.network.save()
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// The checkpoint is another network's.
    pub fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.network.restore(kept)
    }
}

/// The loss of a batch: inputs `expert` and `agent` `[batch, inputs]` and, with a penalty, `mix`
/// `[batch, 1]`.
fn loss(b: &mut Builder, d: &Layers, settings: &DiscriminatorSettings, inputs: usize) -> Value {
    let rows = [Dim::Fixed(settings.batch), Dim::Fixed(inputs)];
    let (expert, agent) = (b.input("expert", &rows), b.input("agent", &rows));
    // Both sides at once: one large product is faster than two.
    let both = b.concat(&[expert, agent], 0);
    let z = d.apply(b, both);
    let sides = b.split(z, 0, &[settings.batch as i64; 2]);
    let (z_expert, z_agent) = (sides[0], sides[1]);
    let (not_expert, not_agent) = (b.neg(z_expert), b.neg(z_agent));
    // - log D = softplus(-z) and - log(1 - D) = softplus(z).
    let value = match settings.loss {
        AdversarialLoss::CrossEntropy => {
            let (miss, alarm) = (b.softplus(not_expert), b.softplus(z_agent));
            b.add(miss, alarm)
        }
        AdversarialLoss::Literal => {
            let (hit, pass) = (b.softplus(z_expert), b.softplus(not_agent));
            let sum = b.add(hit, pass);
            b.neg(sum)
        }
    };
    let value = b.reduce_mean(value, &[], false);
    if settings.gradient_penalty == 0.0 {
        return value;
    }
    let u = b.input("mix", &[Dim::Fixed(settings.batch), Dim::Fixed(1)]);
    let way = b.sub(expert, agent);
    let part = b.mul(u, way);
    let between = b.add(agent, part);
    let penalty = gradient_penalty(b, d, between);
    let lambda = b.scalar(settings.gradient_penalty);
    let penalty = b.mul(lambda, penalty);
    b.add(value, penalty)
}

/// `E[(|| grad_x z(x) || - 1)²]` at rows `x`.
fn gradient_penalty(b: &mut Builder, d: &Layers, x: Value) -> Value {
    let z = d.apply(b, x);
    // Rows do not mix, so the gradient of the sum holds every row's own gradient.
    let sum = b.reduce_sum(z, &[], false);
    let gradient = match grad::gradients(b, sum, &[x]).as_deref() {
        Ok(&[Some(gradient)]) => gradient,
        Ok(_) => b.sub(x, x),
        Err(error) => {
            b.fail(error.clone());
            x
        }
    };
    let squares = b.mul(gradient, gradient);
    let squares = b.reduce_sum(squares, &[1], false);
    // A root has no slope at zero.
    let tiny = b.scalar(1e-12);
    let squares = b.add(squares, tiny);
    let (norm, one) = (b.sqrt(squares), b.scalar(1.0));
    let off = b.sub(norm, one);
    let squares = b.mul(off, off);
    b.reduce_mean(squares, &[], false)
}

/// `rows [N, inputs]` and `weights` to logits `[N, 1]`.
fn scorer(mlp: &Mlp) -> Result<Verified, OnnxError> {
    let mut b = Builder::new();
    let rows = b.input("rows", &[Dim::Batch, Dim::Fixed(mlp.inputs)]);
    let layers = mlp.given(&mut b, "weights");
    let z = layers.apply(&mut b, rows);
    b.output("logits", z);
    Verified::try_from(b.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::ImitationReward;
    use crate::rng::{Stream, normal, stream};

    /// A normal distribution.
    #[derive(Clone, Copy)]
    struct Normal {
        mean: f64,
        deviation: f64,
    }

    const EXPERT: Normal = Normal { mean: -0.8, deviation: 0.7 };
    const AGENT: Normal = Normal { mean: 0.6, deviation: 1.0 };

    impl Normal {
        fn density(self, x: f64) -> f64 {
            let z = (x - self.mean) / self.deviation;
            (-0.5 * z * z).exp() / (self.deviation * std::f64::consts::TAU.sqrt())
        }

        fn rows(self, n: usize, rng: &mut Rng) -> Vec<f32> {
            (0..n).map(|_| (self.mean + self.deviation * normal(rng)) as f32).collect()
        }
    }

    fn settings() -> DiscriminatorSettings {
        let small = DiscriminatorSettings { hidden: vec![32], batch: 512, ..Default::default() };
        DiscriminatorSettings { gradient_penalty: 0.0, lr: 3e-3, ..small }
    }

    /// Trained on rows of independent numbers.
    fn trained(
        settings: &DiscriminatorSettings,
        inputs: usize,
        steps: usize,
    ) -> (Discriminator, Rng) {
        let mut rng = stream(1, Stream::Training);
        let mut d = Discriminator::new(&Engine::tract(), settings, inputs, &mut rng).unwrap();
        for _ in 0..steps {
            advance(&mut d, &mut rng);
        }
        (d, rng)
    }

    fn advance(d: &mut Discriminator, rng: &mut Rng) -> DiscriminatorReport {
        let n = d.settings().batch * d.mlp().inputs;
        let (expert, agent) = (EXPERT.rows(n, rng), AGENT.rows(n, rng));
        d.update(&expert, &agent, rng).unwrap()
    }

    fn of(d: &mut Discriminator, rows: &[f32]) -> Vec<f32> {
        let mut logits = Vec::new();
        d.logits(rows, &mut logits).unwrap();
        logits
    }

    /// Goodfellow et al. 2014, proposition 1 and theorem 1.
    #[test]
    fn it_reaches_the_optimal_d_and_the_value_of_the_game() {
        let mut d = trained(&settings(), 1, 3000).0;
        let step = 0.01;
        let grid: Vec<f64> = (-600..=600).map(|i| step * f64::from(i)).collect();
        let logits = of(&mut d, &grid.iter().map(|x| *x as f32).collect::<Vec<_>>());
        let (mut error, mut support, mut value, mut jsd) = (0.0, 0.0, 0.0, 0.0);
        for (x, z) in grid.iter().zip(logits) {
            let (p, q) = (EXPERT.density(*x), AGENT.density(*x));
            let found = 1.0 / (1.0 + (-f64::from(z)).exp());
            if p.max(q) > 0.01 {
                error += (found - p / (p + q)).abs();
                support += 1.0;
            }
            value += step * (p * found.ln() + q * (1.0 - found).ln());
            jsd += step * 0.5 * (p * (2.0 * p / (p + q)).ln() + q * (2.0 * q / (p + q)).ln());
        }
        let (error, best) = (error / support, 2.0 * jsd - 4.0f64.ln());
        assert!(error < 0.02, "mean |D - D*| = {error}");
        assert!((value - best).abs() < 0.02, "value {value}, 2 JSD - log 4 = {best}");
    }

    /// The sign test: a discriminator that learned the wrong way round rewards the agent for itself.
    #[test]
    fn every_reward_prefers_expert_rows_whatever_is_minimised() {
        use ImitationReward as R;
        for loss in [AdversarialLoss::CrossEntropy, AdversarialLoss::Literal] {
            let settings = DiscriminatorSettings { loss, gradient_penalty: 1.0, ..settings() };
            let (mut d, mut rng) = trained(&settings, 2, 100);
            let (expert, agent) = (EXPERT.rows(1000, &mut rng), AGENT.rows(1000, &mut rng));
            let (expert, agent) = (of(&mut d, &expert), of(&mut d, &agent));
            for reward in [R::LogD, R::MinusLogOneMinusD, R::Logit] {
                let mean = |z: &[f32]| z.iter().map(|z| reward.of(*z)).sum::<f32>() / 500.0;
                let (expert, agent) = (mean(&expert), mean(&agent));
                assert!(expert > agent + 0.05, "{loss:?} {reward:?}: {expert} {agent}");
            }
        }
    }

    #[test]
    fn the_penalty_pulls_the_logits_slope_to_one() {
        let slope = |gradient_penalty: f32| {
            let settings = DiscriminatorSettings { gradient_penalty, ..settings() };
            let mut d = trained(&settings, 2, 600).0;
            // Along the line between the means.
            let z = of(&mut d, &[-0.41, -0.39, -0.01, 0.01, 0.39, 0.41].map(|x| [x, x]).concat());
            let way = 0.02 * 2.0f32.sqrt();
            z.as_chunks::<2>().0.iter().map(|[a, b]| (a - b) / way).sum::<f32>() / 3.0
        };
        let (with, without) = (slope(100.0), slope(0.0));
        assert!((with - 1.0).abs() < 0.15, "{with}");
        assert!(without > 1.3, "{without}");
    }

    #[test]
    fn saved_and_restored_it_goes_on_bit_for_bit_and_a_seed_decides_it() {
        let settings = DiscriminatorSettings { gradient_penalty: 10.0, ..settings() };
        let (mut d, mut rng) = trained(&settings, 2, 5);
        let (mut again, mut same) = (trained(&settings, 2, 0).0, rng.clone());
        again.restore(&d.save().unwrap()).unwrap();
        assert_eq!(again.weights(), trained(&settings, 2, 5).0.weights());
        for _ in 0..5 {
            assert_eq!(advance(&mut d, &mut rng), advance(&mut again, &mut same));
        }
        assert_eq!(d.weights(), again.weights());
        for _ in 0..100 {
            advance(&mut d, &mut rng);
        }
        let report = advance(&mut d, &mut rng);
        assert!(report.expert > report.agent && report.accuracy > 0.7, "{report:?}");
    }
}
