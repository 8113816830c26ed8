//! Generative adversarial imitation (Ho & Ermon, 2016, algorithm 1), without goals and with them.
//!
//! ```text
//! repeat: tau ~ pi_theta                                                     (rollouts)
//!         psi   <- a step on D_psi: expert = 1, agent = 0, cross-entropy     (Discriminator)
//!         r     <- log D_psi(s, g, a), or what fits the environment          (ImitationReward)
//!         theta <- a step of policy gradient on r                            (ppo, reinforce)
//! ```
//!
//! Rewards are scaled by `1 - gamma`: values are then weighted means of rewards and no larger than
//! these, whatever the horizon.

mod distribution;
mod ppo;
mod reinforce;
mod rollouts;
#[cfg(test)]
mod tests;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use self::distribution::Distribution;
use self::ppo::Critic;
use self::rollouts::{Pi, Rollouts, Standard, standardised};
use super::checkpoint::Checkpoint;
use super::demonstrations::DemonstrationSettings;
use super::learner::{Figures, Learner};
use super::network::{Activation, Init, Layers};
use super::normalizer::{self, Normalizer};
use super::trained::Trained;
use super::{
    Discriminator, DiscriminatorReport, DiscriminatorSettings, ImitationReward, LearnError,
};
use crate::engine::{Engine, Session};
use crate::env::{ActionSpace, Env};
use crate::goal::Trajectory;
use crate::onnx::{AdamW, Builder, Dim, Graph, Verified};
use crate::rng::{Rng, Stream, stream};

/// Which policy gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyGradient {
    /// Proximal policy optimisation with generalised advantages.
    Ppo,
    /// As on the slide; each step is learned from once.
    Reinforce,
}

/// Settings of the method; discount and lambda are those of Ho & Ermon's code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GailSettings {
    /// The expert's episodes.
    pub demonstrations: DemonstrationSettings,
    /// Which policy gradient.
    pub gradient: PolicyGradient,
    /// The reward; by default what fits the environment.
    pub reward: Option<ImitationReward>,
    /// Units of each hidden layer of policy and critic.
    pub hidden: Vec<usize>,
    /// Between their layers.
    pub activation: Activation,
    /// Steps in the environment per iteration, at least: episodes are whole.
    pub steps: usize,
    /// What a reward one step later is worth.
    pub gamma: f32,
    /// Of the generalised advantages: 0 trusts the critic, 1 the rewards.
    pub lambda: f32,
    /// PPO: times that each step is learned from.
    pub epochs: usize,
    /// Rows per step of policy and critic.
    pub minibatch: usize,
    /// PPO: how far the ratio of probabilities may be from 1.
    pub clip: f32,
    /// PPO: weight of the entropy.
    pub entropy: f32,
    /// Learning rate of policy and critic.
    pub lr: f32,
    /// The largest norm of their gradients.
    pub clip_norm: f32,
    /// First deviation of continuous actions, in units of the largest.
    pub deviation: f32,
    /// The discriminator. A table given in part takes the rest from [`DiscriminatorSettings`]' own
    /// defaults, whose penalty is larger.
    pub discriminator: DiscriminatorSettings,
    /// Its steps per iteration.
    pub discriminator_updates: usize,
}

impl Default for GailSettings {
    fn default() -> Self {
        Self {
            demonstrations: DemonstrationSettings::default(),
            gradient: PolicyGradient::Ppo,
            reward: None,
            hidden: vec![64, 64],
            activation: Activation::Tanh,
            steps: 4096,
            gamma: 0.995,
            lambda: 0.97,
            epochs: 10,
            minibatch: 256,
            clip: 0.2,
            entropy: 0.0,
            lr: 3e-4,
            clip_norm: 0.5,
            deviation: 0.6,
            // Rows are standardised: a slope of one per deviation need not be held as hard.
            discriminator: DiscriminatorSettings {
                gradient_penalty: 1.0,
                ..DiscriminatorSettings::default()
            },
            discriminator_updates: 16,
        }
    }
}

/// The method's state.
pub struct Gail {
    settings: GailSettings,
    engine: Engine,
    env: Box<dyn Env>,
    distribution: Distribution,
    standard: Standard,
    reward: ImitationReward,
    /// `(s, g, a)` of the demonstrations, `[M, n + k]`.
    expert: Vec<f32>,
    discriminator: Discriminator,
    policy: Trained,
    critic: Option<Critic>,
    env_steps: u64,
    exploration: Rng,
    rng: Rng,
}

impl Gail {
    /// A policy that knows nothing yet, beside the demonstrations it will imitate.
    ///
    /// # Errors
    /// There are no demonstrations, or the engine cannot run a loss.
    pub fn new(
        engine: &Engine,
        settings: &GailSettings,
        env: Box<dyn Env>,
        demonstrations: &[Trajectory],
        seed: u64,
    ) -> Result<Self, LearnError> {
        let distribution = Distribution(env.spec().actions);
        let standard = standard(env.as_ref(), demonstrations)?;
        let expert = expert(&standard, distribution, demonstrations);
        let (n, k) = (standard.size(), distribution.width());
        let mut weights = stream(seed, Stream::Weights);
        let critic = || Critic::new(engine, settings, n, &mut stream(seed, Stream::Validation));
        Ok(Self {
            policy: policy(engine, settings, distribution, n, &mut weights)?,
            discriminator: Discriminator::new(
                engine,
                &settings.discriminator,
                n + k,
                &mut weights,
            )?,
            critic: (settings.gradient == PolicyGradient::Ppo).then(critic).transpose()?,
            reward: settings.reward.unwrap_or(ImitationReward::fitting(env.spec().ends).0),
            settings: settings.clone(),
            engine: engine.clone(),
            env,
            distribution,
            standard,
            expert,
            env_steps: 0,
            exploration: stream(seed, Stream::Exploration),
            rng: stream(seed, Stream::Training),
        })
    }

    /// What the policy gets from the discriminator.
    pub fn reward(&self) -> ImitationReward {
        self.reward
    }

    /// `tau ~ pi_theta`.
    fn rollouts(&mut self) -> Result<Rollouts, LearnError> {
        let mut pi = Pi {
            session: acting(&self.engine, &self.policy)?,
            log_std: free(&self.policy),
            distribution: self.distribution,
            standard: &self.standard,
        };
        let mut rollouts = Rollouts::default();
        while rollouts.len() < self.settings.steps.max(self.settings.minibatch) {
            rollouts.collect(self.env.as_mut(), &mut pi, &mut self.exploration)?;
        }
        self.env_steps += rollouts.len() as u64;
        Ok(rollouts)
    }

    /// Steps on the discriminator; what the last one found.
    fn discriminate(&mut self, judged: &[f32]) -> Result<Option<DiscriminatorReport>, LearnError> {
        let (rows, width) = (self.settings.discriminator.batch, self.discriminator.mlp().inputs);
        let draw = |from: &[f32], rng: &mut Rng| -> Vec<f32> {
            let one = |_| {
                let i = rng.random_range(0..from.len() / width);
                from[i * width..(i + 1) * width].iter().copied()
            };
            (0..rows).flat_map(one).collect()
        };
        for left in (0..self.settings.discriminator_updates).rev() {
            let (expert, agent) = (draw(&self.expert, &mut self.rng), draw(judged, &mut self.rng));
            if left == 0 {
                return Ok(Some(self.discriminator.update(&expert, &agent, &mut self.rng)?));
            }
            self.discriminator.step(&expert, &agent, &mut self.rng)?;
        }
        Ok(None)
    }

    /// `r(s, g, a)` of each step, times `1 - gamma`.
    fn rewards(&mut self, judged: &[f32]) -> Result<Vec<f32>, LearnError> {
        let mut rewards = Vec::new();
        self.discriminator.logits(judged, &mut rewards)?;
        let scale = 1.0 - self.settings.gamma;
        rewards.iter_mut().for_each(|r| *r = scale * self.reward.of(*r));
        Ok(rewards)
    }

    /// Steps of policy gradient.
    fn improve(&mut self, rollouts: &Rollouts, rewards: &[f32]) -> Result<(), LearnError> {
        let settings = &self.settings;
        let (advantages, targets, epochs) = match &mut self.critic {
            Some(critic) => {
                let (advantages, targets) = critic.judge(rollouts, rewards, settings)?;
                (standardised(advantages), targets, settings.epochs)
            }
            None => (reinforce::returns(rollouts, rewards, settings.gamma), Vec::new(), 1),
        };
        let mut order: Vec<usize> = (0..rollouts.len()).collect();
        let (n, k) = (self.standard.size(), self.distribution.width());
        for _ in 0..epochs {
            order.shuffle(&mut self.rng);
            // What does not fill a batch is learned from in another epoch.
            for rows in order.chunks_exact(settings.minibatch) {
                let seen = gather(&rollouts.seen, n, rows);
                let action = gather(&rollouts.actions, k, rows);
                let advantage = gather(&advantages, 1, rows);
                let mut batch =
                    vec![("seen", &seen[..]), ("action", &action), ("advantage", &advantage)];
                let log_prob = gather(&rollouts.log_probs, 1, rows);
                if let Some(critic) = &mut self.critic {
                    batch.push(("log_prob", &log_prob));
                    let target = gather(&targets, 1, rows);
                    let batch = [("seen", &seen[..]), ("target", &target)];
                    critic.network.step(&batch, settings.lr)?;
                }
                self.policy.step(&batch, settings.lr)?;
            }
        }
        Ok(())
    }
}

impl Learner for Gail {
    fn iterate(&mut self) -> Result<Figures, LearnError> {
        let rollouts = self.rollouts()?;
        let report = self.discriminate(&rollouts.judged)?;
        let rewards = self.rewards(&rollouts.judged)?;
        self.improve(&rollouts, &rewards)?;
        let (n, episodes) = (rollouts.len() as f64, rollouts.episodes.len() as f64);
        let gained: f64 = rollouts.episodes.iter().map(|e| e.gained).sum();
        let ended = rollouts.episodes.iter().filter(|e| e.ended).count() as f64;
        let scale = f64::from(1.0 - self.settings.gamma);
        let reward = rewards.iter().copied().map(f64::from).sum::<f64>() / n / scale;
        let mut figures = vec![
            ("rollout_return", gained / episodes),
            ("rollout_ended", ended / episodes),
            ("rollout_steps", n / episodes),
            ("imitation_reward", reward),
        ];
        figures.extend(report.iter().flat_map(|report| {
            [
                ("discriminator_loss", f64::from(report.loss)),
                ("d_expert", f64::from(report.expert)),
                ("d_agent", f64::from(report.agent)),
                ("d_accuracy", f64::from(report.accuracy)),
            ]
        }));
        Ok(figures)
    }

    fn env_steps(&self) -> u64 {
        self.env_steps
    }

    fn policy(&self) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let sight = normalizer::deployed(&mut b, self.env.spec(), &self.standard.0);
        let pi = self.policy.mlps()[0].trained(&mut b, "policy", self.policy.weights())?;
        let mut y = pi.apply(&mut b, sight);
        if let ActionSpace::Continuous { limit, .. } = self.env.spec().actions {
            y = b.clip(y, -1.0, 1.0);
            let unit = b.scalar(limit);
            y = b.mul(y, unit);
        }
        b.output("action", y);
        Ok(b.finish()?)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("policy", self.policy.save()?);
        kept.put_all("discriminator", self.discriminator.save()?);
        if let Some(critic) = &self.critic {
            kept.put_all("critic", critic.network.save()?);
        }
        kept.put_count("env_steps", self.env_steps);
        kept.put_rng("exploration", &self.exploration);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.policy.restore(&kept.part("policy"))?;
        self.discriminator.restore(&kept.part("discriminator"))?;
        if let Some(critic) = &mut self.critic {
            critic.network.restore(&kept.part("critic"))?;
        }
        self.env_steps = kept.count("env_steps")?;
        self.exploration = kept.rng("exploration")?;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}

/// Means and deviations of `(s, g)` over the demonstrations.
fn standard(env: &dyn Env, demonstrations: &[Trajectory]) -> Result<Standard, LearnError> {
    let mut normalizer = Normalizer::new(env.spec().observation + env.spec().goal);
    for trajectory in demonstrations {
        for t in 0..trajectory.last() {
            let row = [trajectory.observation(t), trajectory.desired_goal()].concat();
            normalizer.observe(&row);
        }
    }
    match demonstrations.len() {
        0 => Err(LearnError::NoData("expected at least one demonstration, found none".into())),
        _ => Ok(Standard(normalizer.vector())),
    }
}

/// `(s, g, a)` of the demonstrations.
fn expert(
    standard: &Standard,
    distribution: Distribution,
    demonstrations: &[Trajectory],
) -> Vec<f32> {
    let mut rows = Vec::new();
    for trajectory in demonstrations {
        for t in 0..trajectory.last() {
            standard.row(trajectory.observation(t), trajectory.desired_goal(), &mut rows);
            distribution.row(trajectory.action(t), &mut rows);
        }
    }
    rows
}

/// The policy and its loss.
fn policy(
    engine: &Engine,
    settings: &GailSettings,
    distribution: Distribution,
    n: usize,
    rng: &mut Rng,
) -> Result<Trained, LearnError> {
    let mlp = distribution.mlp(n, &settings.hidden, settings.activation);
    // A small last layer: a new policy prefers nothing.
    let init = Init::Orthogonal { gain: std::f32::consts::SQRT_2, last: 0.01 };
    let mut weights = mlp.draw(init, rng);
    let fixed = weights.len() - mlp.free;
    weights[fixed..].fill(settings.deviation.ln());
    let adam = AdamW { clip_norm: Some(settings.clip_norm), ..AdamW::default() };
    Trained::new(engine, &mlp, weights, adam, |b: &mut Builder, pi: &Layers| {
        match settings.gradient {
            PolicyGradient::Ppo => ppo::loss(b, pi, distribution, n, settings),
            PolicyGradient::Reinforce => {
                reinforce::loss(b, pi, distribution, n, settings.minibatch)
            }
        }
    })
}

/// The policy network alone, its weights inside: one sample at a time, on loops of our own.
fn acting(engine: &Engine, policy: &Trained) -> Result<Session, LearnError> {
    let mlp = &policy.mlps()[0];
    let mut b = Builder::new();
    let seen = b.input("seen", &[Dim::Batch, Dim::Fixed(mlp.inputs)]);
    let pi = mlp.trained(&mut b, "policy", policy.weights())?;
    let y = pi.apply(&mut b, seen);
    b.output("y", y);
    Ok(engine.load(&Verified::try_from(b.finish()?)?)?)
}

/// The numbers beside the policy network: logarithms of deviations.
fn free(policy: &Trained) -> &[f32] {
    let weights = policy.weights();
    &weights[weights.len() - policy.mlps()[0].free..]
}

/// Rows of `size` numbers by their places.
fn gather(from: &[f32], size: usize, rows: &[usize]) -> Vec<f32> {
    let mut gathered = Vec::with_capacity(rows.len() * size);
    rows.iter().for_each(|i| gathered.extend_from_slice(&from[i * size..(i + 1) * size]));
    gathered
}
