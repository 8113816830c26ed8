//! Soft actor-critic with automatic temperature (Haarnoja et al. 2018), on universal values.
//!
//! ```text
//! a'     ~  pi(s', g)
//! y      <- clip(r + gamma (1 - success) min_i Q_i'(s', g, a'))
//! phi    <- min  sum_i mean (Q_i(s, g, a) - y)²
//! theta  <- min  mean alpha log pi(a | s, g) - min_i Q_i(s, g, a),   a ~ pi(s, g)
//! alpha  <- such that the entropy of pi is -dim(a)
//! ```
//!
//! `pi` is a Gaussian squashed by tanh: `a = limit tanh(mu + sigma eps)`. Its log density is taken in
//! units of the largest action, so that one target entropy fits every environment.
//!
//! The paper's `y` also counts the entropy to come, `- alpha log pi(a' | s', g)`; that is the setting
//! `soft`. It is off by default because here success ends the return: an entropy that is paid in each
//! step until then makes arriving a loss, and no clip could hold such a return (sparse tasks of Ball
//! et al. 2023 leave it out too).

use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::task::{Task, scaled, squared_error, value};
use super::{OffPolicy, Returns};
use crate::engine::{Engine, Session};
use crate::goal::Transitions;
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::Figures;
use crate::learn::network::{Activation, Init, Layers, Mlp};
use crate::learn::normalizer;
use crate::learn::trained::{Trained, cut, follow};
use crate::onnx::{AdamW, Builder, Dim, Graph, Value, Verified};
use crate::rng::{Rng, normal, seed_from};

/// Settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacSettings {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Learning rate of actor, critics and temperature.
    pub lr: f32,
    /// The first temperature `alpha`.
    pub temperature: f32,
    /// Whether the temperature follows the entropy.
    pub automatic: bool,
    /// Whether targets count the entropy to come; they are then not clipped.
    pub soft: bool,
}

impl Default for SacSettings {
    fn default() -> Self {
        Self { hidden: vec![256, 256], lr: 1e-3, temperature: 0.1, automatic: true, soft: false }
    }
}

/// Actor, twin critics and their targets, temperature.
pub struct Sac {
    settings: SacSettings,
    nets: Networks,
    actor: Trained,
    critic: Trained,
    critic_target: Vec<f32>,
    /// From the actor's weights, states and noise to the mean log density.
    entropy: Session,
    log_alpha: f32,
    /// `eps`, `[B, a]`.
    noise: Vec<f32>,
    rng: Rng,
}

/// Log standard deviations stay within these.
const LOG_STD: [f32; 2] = [-20.0, 2.0];

/// What its graphs are made of.
struct Networks {
    task: Task,
    /// Numbers in an action, and the largest of each.
    a: usize,
    limit: f32,
    soft: bool,
    critics: Vec<Mlp>,
    actor: Mlp,
}

/// Actions and their log density.
struct Drawn {
    action: Value,
    /// `[B, 1]`.
    log_density: Value,
}

impl Sac {
    /// A learner of a task.
    ///
    /// # Errors
    /// The environment has discrete actions, or the engine cannot run the steps.
    pub(super) fn new(
        engine: &Engine,
        settings: &SacSettings,
        mut task: Task,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let (a, limit) = task.continuous("SAC")?;
        if settings.soft {
            task.returns = Returns { ends: task.returns.ends, ..Returns::NONE };
        }
        let (sight, hidden, relu) = (task.sight(), &settings.hidden, Activation::Relu);
        let critics = vec![Mlp::new(sight + a, hidden, 1, relu); 2];
        let actor = Mlp::new(sight, hidden, 2 * a, relu);
        let nets = Networks { task, a, limit, soft: settings.soft, critics, actor };
        let first = nets.actor.draw(Init::Xavier, rng);
        let critic_target: Vec<f32> =
            nets.critics.iter().flat_map(|mlp| mlp.draw(Init::Xavier, rng)).collect();
        let (adam, weights) = (AdamW::default(), critic_target.clone());
        let critic =
            Trained::joint(engine, &nets.critics, weights, adam, |b, q| nets.critic_loss(b, q))?;
        let actor = Trained::new(engine, &nets.actor, first, adam, |b, pi| nets.actor_loss(b, pi))?;
        Ok(Self {
            entropy: engine.load(&nets.entropy()?)?,
            settings: settings.clone(),
            noise: vec![0.0; nets.task.rows * a],
            nets,
            actor,
            critic,
            critic_target,
            log_alpha: settings.temperature.ln(),
            rng: Rng::seed_from_u64(seed_from(rng)),
        })
    }

    fn draw_noise(&mut self) {
        let rng = &mut self.rng;
        self.noise.fill_with(|| normal(rng) as f32);
    }

    /// The policy, with noise `[N, a]` as a further input, or at its mode.
    fn graph(&self, normalizer: &[f32], drawn: bool) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let sight = normalizer::deployed(&mut b, &self.nets.task.env, normalizer);
        let actor = self.nets.actor.trained(&mut b, "actor", self.actor.weights())?;
        let [mean, deviation] = gaussian(&mut b, &actor, sight, self.nets.a);
        let u = if drawn {
            let noise = b.input("noise", &[Dim::Batch, Dim::Fixed(self.nets.a)]);
            let noise = b.mul(noise, deviation);
            b.add(mean, noise)
        } else {
            mean
        };
        let y = b.tanh(u);
        let action = scaled(&mut b, y, self.nets.limit);
        b.output("action", action);
        Ok(b.finish()?)
    }
}

/// `mu` and `sigma`, `[B, a]` each.
fn gaussian(b: &mut Builder, actor: &Layers, sight: Value, a: usize) -> [Value; 2] {
    let y = actor.apply(b, sight);
    let a = a as i64;
    let (mean, log_std) = (b.slice(y, 1, 0, a), b.slice(y, 1, a, 2 * a));
    let log_std = b.clip(log_std, LOG_STD[0], LOG_STD[1]);
    [mean, b.exp(log_std)]
}

impl Networks {
    fn draw(&self, b: &mut Builder, actor: &Layers, sight: Value, noise: Value) -> Drawn {
        let [mean, deviation] = gaussian(b, actor, sight, self.a);
        let away = b.mul(deviation, noise);
        let u = b.add(mean, away);
        // log N(u) = -(eps² + log 2 pi) / 2 - log sigma; log(1 - tanh² u) = 2 (log 2 - u -
        // softplus(-2 u)), which does not underflow.
        let square = b.mul(noise, noise);
        let half = scaled(b, square, -0.5);
        let log_std = b.log(deviation);
        let gauss = b.sub(half, log_std);
        let twice = scaled(b, u, -2.0);
        let soft = b.softplus(twice);
        let both = b.add(u, soft);
        let slope = scaled(b, both, 2.0);
        let sum = b.add(gauss, slope);
        let constant = -0.5 * std::f32::consts::TAU.ln() - 2.0 * std::f32::consts::LN_2;
        let constant = b.scalar(constant);
        let each = b.add(sum, constant);
        let log_density = b.reduce_sum(each, &[1], true);
        let y = b.tanh(u);
        Drawn { action: scaled(b, y, self.limit), log_density }
    }

    /// `min_i Q_i(s, g, a)`, `[B, 1]`.
    fn least(&self, b: &mut Builder, critics: &[Layers], sight: Value, action: Value) -> Value {
        let values: Vec<Value> =
            critics.iter().map(|q| value(b, q, sight, action, self.limit)).collect();
        values.into_iter().reduce(|x, y| b.min(x, y)).unwrap_or(sight)
    }

    fn given(&self, b: &mut Builder, names: [&str; 2]) -> Vec<Layers> {
        self.critics.iter().zip(names).map(|(mlp, name)| mlp.given(b, name)).collect()
    }

    fn critic_loss(&self, b: &mut Builder, critics: &[Layers]) -> Value {
        let [now, next] = self.task.now_and_next(b);
        let action = self.task.input(b, "action", self.a);
        let noise = self.task.input(b, "noise", self.a);
        let actor = self.actor.given(b, "actor");
        let drawn = self.draw(b, &actor, next, noise);
        let targets = self.given(b, TARGETS);
        let mut worth = self.least(b, &targets, next, drawn.action);
        if self.soft {
            let alpha = b.input("alpha", &[]);
            let entropy = b.mul(alpha, drawn.log_density);
            worth = b.sub(worth, entropy);
        }
        let y = self.task.target(b, worth);
        let errors = critics.iter().map(|critic| {
            let q = value(b, critic, now, action, self.limit);
            squared_error(b, q, y)
        });
        let errors: Vec<Value> = errors.collect();
        errors.into_iter().reduce(|x, y| b.add(x, y)).unwrap_or(y)
    }

    fn actor_loss(&self, b: &mut Builder, actor: &Layers) -> Value {
        let sight = self.task.now(b);
        let (noise, alpha) = (self.task.input(b, "noise", self.a), b.input("alpha", &[]));
        let drawn = self.draw(b, actor, sight, noise);
        let critics = self.given(b, CRITICS);
        let worth = self.least(b, &critics, sight, drawn.action);
        let entropy = b.mul(alpha, drawn.log_density);
        let loss = b.sub(entropy, worth);
        b.reduce_mean(loss, &[], false)
    }

    /// From the actor's weights to the mean log density of what it does.
    fn entropy(&self) -> Result<Verified, LearnError> {
        let mut b = Builder::new();
        let sight = self.task.now(&mut b);
        let noise = self.task.input(&mut b, "noise", self.a);
        let actor = self.actor.given(&mut b, "actor");
        let drawn = self.draw(&mut b, &actor, sight, noise);
        let mean = b.reduce_mean(drawn.log_density, &[], false);
        b.output("mean", mean);
        Ok(b.finish()?.try_into()?)
    }
}

const TARGETS: [&str; 2] = ["critic_target0", "critic_target1"];
const CRITICS: [&str; 2] = ["critic0", "critic1"];

impl OffPolicy for Sac {
    fn update(
        &mut self,
        batch: &Transitions,
        rewards: &[f32],
        normalizer: &[f32],
    ) -> Result<Figures, LearnError> {
        let alpha = [self.log_alpha.exp()];
        self.draw_noise();
        let (task, critics) = (&self.nets.task, &self.nets.critics);
        let mut inputs = task.target_inputs(batch, rewards, normalizer);
        inputs.extend([
            ("action", &batch.action[..]),
            ("noise", &self.noise),
            ("actor", self.actor.weights()),
        ]);
        inputs.extend(self.settings.soft.then_some(("alpha", &alpha[..])));
        inputs.extend(TARGETS.into_iter().zip(cut(critics, &self.critic_target)));
        let critic_loss = self.critic.step(&inputs, self.settings.lr)?.loss;

        self.noise.fill_with(|| normal(&mut self.rng) as f32);
        let mut inputs = task.now_inputs(batch, normalizer);
        inputs.extend([("noise", &self.noise[..]), ("alpha", &alpha)]);
        inputs.extend(CRITICS.into_iter().zip(cut(critics, self.critic.weights())));
        let actor_loss = self.actor.step(&inputs, self.settings.lr)?.loss;

        let mut inputs = task.now_inputs(batch, normalizer);
        inputs.extend([("noise", &self.noise[..]), ("actor", self.actor.weights())]);
        let dims = inputs.iter().map(|(name, data)| match *name {
            "normalizer" | "actor" => vec![data.len()],
            _ => vec![batch.len(), data.len() / batch.len()],
        });
        let dims: Vec<Vec<usize>> = dims.collect();
        let inputs: Vec<_> = inputs
            .iter()
            .zip(&dims)
            .map(|((name, data), dims)| (*name, &dims[..], *data))
            .collect();
        let found = self.entropy.run(&inputs)?;
        let log_density = found.first().and_then(|t| t.data.first()).copied().unwrap_or(0.0);
        if self.settings.automatic {
            let target = -(self.nets.a as f32);
            self.log_alpha += self.settings.lr * (log_density + target).clamp(-10.0, 10.0);
        }
        Ok(vec![
            ("critic_loss", f64::from(critic_loss)),
            ("actor_loss", f64::from(actor_loss)),
            ("entropy", f64::from(-log_density)),
            ("alpha", f64::from(alpha[0])),
        ])
    }

    fn follow(&mut self, tau: f32) {
        follow(&mut self.critic_target, self.critic.weights(), tau);
    }

    fn policy(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        self.graph(normalizer, false)
    }

    fn explorer(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        self.graph(normalizer, true)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("actor", self.actor.save()?);
        kept.put_all("critic", self.critic.save()?);
        kept.put("critic_target", self.critic_target.clone());
        kept.put("log_alpha", [self.log_alpha]);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.actor.restore(&kept.part("actor"))?;
        self.critic.restore(&kept.part("critic"))?;
        self.critic_target = kept.tensor_of("critic_target", self.critic_target.len())?;
        self.log_alpha = kept.tensor("log_alpha")?.first().copied().unwrap_or(0.0);
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}
