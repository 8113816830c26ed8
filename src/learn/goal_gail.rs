//! Goal-conditioned adversarial imitation with hindsight: goalGAIL (Ding et al. 2019, algorithm 1).
//!
//! ```text
//! input: demonstrations D, replay R <- {}, pi_theta, Q_phi, D_psi, delta
//! repeat: R <- R + a rollout of pi towards a goal                              (Her::collect)
//!         repeat: (s, a, s', g) from R and from D
//!                 g  <- an achieved goal of its future, in R and in D          (hindsight)
//!                 r  <- (1 - delta) 1[s' = g] + delta w log D_psi(s, a, g)     (reward)
//!                 phi, theta  <- update Q, pi                                  (OffPolicy)
//!         repeat: psi <- min  -E_D[log D_psi] - E_R[log(1 - D_psi)]            (Discriminator)
//!         anneal delta
//! ```
//!
//! `relabel = 0` is Goal GAIL: adversarial imitation on `(s, a, g)` without hindsight. With
//! `sees = "next_state"` the discriminator sees `(s, g, s')` and no action is ever imitated. Rewards
//! are computed when a batch is drawn, with the discriminator as it is then, never stored.

use serde::{Deserialize, Serialize};

use super::LearnError;
use super::checkpoint::Checkpoint;
use super::demonstrations::DemonstrationSettings;
use super::discriminator::{Discriminator, DiscriminatorSettings};
use super::her::{Her, HerSettings, Means, judge};
use super::imitation_reward::ImitationReward;
use super::learner::{Figures, Learner};
use super::off_policy::{OffPolicySettings, Returns};
use super::rollout::Noise;
use crate::engine::Engine;
use crate::env::{ActionSpace, Env, EnvSpec};
use crate::goal::{Hindsight, ReplayBuffer, Transitions};
use crate::onnx::Graph;
use crate::rng::{Rng, Stream, item, stream};

/// What the discriminator sees beside state and goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sees {
    /// The action: `(s, g, a)`.
    #[default]
    Action,
    /// The next state: `(s, g, s')`, so that demonstrations need no actions.
    NextState,
    /// The way to the next state: `(s, g, s' - s)`, which a step far smaller than the space drowns
    /// in otherwise.
    Motion,
}

/// Settings; the defaults are the released code's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoalGailSettings {
    /// Rollouts, hindsight, updates.
    pub her: HerSettings,
    /// Actor and critic.
    pub learner: OffPolicySettings,
    /// The discriminator.
    pub discriminator: DiscriminatorSettings,
    /// The expert's episodes; none leaves HER, with `delta` 0.
    pub demonstrations: DemonstrationSettings,
    /// Demonstrated transitions in each update, beside the agent's.
    pub expert_batch: usize,
    /// Share of demonstrated transitions that get another goal.
    pub relabel_expert: f64,
    /// What the discriminator sees.
    pub sees: Sees,
    /// Discriminator updates per update of the critic.
    pub discriminator_updates: f64,
    /// Whether the discriminator learns from relabelled rows of the agent, which it then scores.
    pub discriminate_relabelled: bool,
    /// Deviation of the noise on actions that the discriminator sees, of both sides.
    pub action_noise: f32,
    /// The share of the discriminator in the reward, at first: `delta`.
    pub delta: f32,
    /// What is left of `delta` after each thousand steps in the environment.
    pub anneal: f32,
    /// The weight `w` of the discriminator's reward.
    pub scale: f32,
    /// The discriminator's reward.
    pub reward: ImitationReward,
}

impl Default for GoalGailSettings {
    fn default() -> Self {
        Self {
            her: HerSettings::default(),
            learner: OffPolicySettings::default(),
            discriminator: DiscriminatorSettings::default(),
            demonstrations: DemonstrationSettings::default(),
            expert_batch: 96,
            relabel_expert: 0.8,
            sees: Sees::default(),
            discriminator_updates: 0.5,
            discriminate_relabelled: false,
            action_noise: 0.15,
            delta: 1.0,
            anneal: 1.0,
            scale: 0.1,
            reward: ImitationReward::LogD,
        }
    }
}

/// The least that `log D` is: of a discriminator that is as sure as a single can say.
const LEAST_LOG: f32 = -18.4;

impl GoalGailSettings {
    /// The returns there can be: `log D` is never positive.
    fn returns(&self, gamma: f32) -> Returns {
        let indicator = self.delta < 1.0 || self.anneal < 1.0;
        let imitation = self.delta * self.scale * LEAST_LOG / (1.0 - gamma);
        let high = if indicator { 1.0 } else { 0.0 };
        let (low, high) = match self.reward {
            ImitationReward::LogD => (imitation.min(0.0), high),
            ImitationReward::MinusLogOneMinusD => (0.0, high - imitation),
            ImitationReward::Logit => (imitation, high - imitation),
        };
        Returns { low, high, ends: self.her.ends }
    }
}

/// The learner.
pub struct GoalGail {
    settings: GoalGailSettings,
    her: Her,
    demonstrations: ReplayBuffer,
    discriminator: Option<Discriminator>,
    delta: f32,
    /// Discriminator updates that are due.
    due: f64,
    batch: Transitions,
    rewards: Vec<f32>,
    rng: Rng,
}

impl GoalGail {
    /// A learner with its own demonstrations by the environment's expert.
    ///
    /// # Errors
    /// The environment has no expert or no goals, the learner does not fit its actions, or the engine
    /// cannot run the steps.
    pub fn new(
        engine: &Engine,
        settings: &GoalGailSettings,
        mut env: Box<dyn Env>,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let spec = env.spec().clone();
        let mut demonstrations = ReplayBuffer::default();
        let shown = settings.demonstrations.collect(env.as_mut(), seed)?;
        shown.iter().try_for_each(|episode| demonstrations.push(episode))?;
        let shown = demonstrations.transitions() > 0;
        let mut settings = settings.clone();
        if !shown {
            settings.delta = 0.0;
        }
        let gamma = settings.learner.gamma(&spec);
        let expert_rows = if shown { settings.expert_batch } else { 0 };
        let mut weights = stream(seed, Stream::Weights);
        let (rows, returns) = (settings.her.batch + expert_rows, settings.returns(gamma));
        let learner = settings.learner.build(engine, &spec, rows, returns, &mut weights)?;
        let inputs = settings.sees.size(&spec);
        let discriminator = (settings.delta > 0.0)
            .then(|| Discriminator::new(engine, &settings.discriminator, inputs, &mut weights))
            .transpose()?;
        let mut her = Her::around(engine, &settings.her, env, learner, gamma, seed)?;
        her.observe(&demonstrations);
        Ok(Self {
            delta: settings.delta,
            settings,
            her,
            demonstrations,
            discriminator,
            due: 0.0,
            batch: Transitions::default(),
            rewards: Vec::new(),
            rng: item(seed, Stream::Training, 1),
        })
    }

    /// How demonstrations are relabelled.
    fn expert_hindsight(&self) -> Hindsight {
        Hindsight { probability: self.settings.relabel_expert, ..self.settings.her.hindsight() }
    }

    /// One update of actor and critic; the target networks follow.
    ///
    /// # Errors
    /// The engine failed or the loss diverged.
    pub fn update(&mut self) -> Result<Figures, LearnError> {
        self.draw();
        self.reward()?;
        let normalizer = self.her.normalizer.vector();
        let figures = self.her.learner.update(&self.batch, &self.rewards, &normalizer)?;
        self.her.learner.follow(self.settings.her.tau);
        Ok(figures)
    }

    /// `(s, a, s', g)` of the agent, then of the demonstrations, each relabelled.
    fn draw(&mut self) {
        let tolerance = self.her.env.spec().tolerance;
        let (agent, expert) = (self.settings.her.hindsight(), self.expert_hindsight());
        let batch = &mut self.batch;
        batch.clear();
        let rows = self.settings.her.batch;
        batch.draw(rows, &self.her.replay, &agent, tolerance, false, &mut self.rng);
        let rows = self.settings.expert_batch;
        batch.draw(rows, &self.demonstrations, &expert, tolerance, true, &mut self.rng);
        judge(self.her.env.as_ref(), batch);
    }

    /// `r <- (1 - delta) 1[s' = g] + delta w log D(s, a, g)`.
    fn reward(&mut self) -> Result<(), LearnError> {
        let (batch, at_goal) = (&self.batch, (1.0 - self.delta) * self.her.at_goal);
        let indicator = batch.success.iter().map(|success| at_goal * success);
        self.rewards.clear();
        self.rewards.extend(indicator);
        let Some(discriminator) = &mut self.discriminator else { return Ok(()) };
        let (sees, noise) = (self.settings.sees, self.settings.action_noise);
        let rows = sees.rows(batch, self.her.env.spec(), noise, &mut self.rng);
        let mut logits = Vec::with_capacity(batch.len());
        discriminator.logits(&rows, &mut logits)?;
        let weight = self.delta * self.settings.scale;
        for (reward, z) in self.rewards.iter_mut().zip(&logits) {
            *reward += weight * self.settings.reward.of(*z).clamp(LEAST_LOG, -LEAST_LOG);
        }
        Ok(())
    }

    /// One step of the discriminator: demonstrations relabelled, the agent's rows by default not. A
    /// `report` of how it tells them apart costs a twentieth of the step.
    ///
    /// # Errors
    /// The engine failed or the loss diverged.
    pub fn discriminate(&mut self, report: bool) -> Result<Figures, LearnError> {
        let (tolerance, expert) = (self.her.env.spec().tolerance, self.expert_hindsight());
        let mut agent = self.settings.her.hindsight();
        if !self.settings.discriminate_relabelled {
            agent.probability = 0.0;
        }
        let Some(discriminator) = &mut self.discriminator else { return Ok(Vec::new()) };
        let rows = self.settings.discriminator.batch;
        let (sees, noise) = (self.settings.sees, self.settings.action_noise);
        let (spec, rng) = (self.her.env.spec(), &mut self.rng);
        let mut batch = Transitions::default();
        batch.draw(rows, &self.demonstrations, &expert, tolerance, true, rng);
        let shown = sees.rows(&batch, spec, noise, rng);
        batch.clear();
        batch.draw(rows, &self.her.replay, &agent, tolerance, false, rng);
        let own = sees.rows(&batch, spec, noise, rng);
        if !report {
            let loss = discriminator.step(&shown, &own, rng)?;
            return Ok(vec![("discriminator_loss", f64::from(loss))]);
        }
        let report = discriminator.update(&shown, &own, rng)?;
        Ok(vec![
            ("discriminator_loss", f64::from(report.loss)),
            ("d_expert", f64::from(report.expert)),
            ("d_agent", f64::from(report.agent)),
        ])
    }
}

impl Sees {
    /// Numbers in a row.
    fn size(self, env: &EnvSpec) -> usize {
        let beside = match self {
            Self::Action => match env.actions {
                ActionSpace::Continuous { size, .. } => size,
                ActionSpace::Discrete { choices } => choices,
            },
            Self::NextState | Self::Motion => env.observation,
        };
        env.observation + env.goal + beside
    }

    /// What the discriminator sees of a batch, `[B, size]`; choices are one-hot.
    fn rows(self, batch: &Transitions, env: &EnvSpec, noise: f32, rng: &mut Rng) -> Vec<f32> {
        let (o, g, a) = (env.observation, env.goal, env.actions.size());
        let noise = Noise { gaussian: noise, random: 0.0 };
        let mut rows = Vec::with_capacity(batch.len() * self.size(env));
        for i in 0..batch.len() {
            let state = &batch.observation[i * o..(i + 1) * o];
            let next = &batch.next_observation[i * o..(i + 1) * o];
            rows.extend_from_slice(state);
            rows.extend_from_slice(&batch.goal[i * g..(i + 1) * g]);
            match self {
                Self::Action => {
                    let action = &batch.action[i * a..(i + 1) * a];
                    if let ActionSpace::Discrete { choices } = env.actions {
                        let chosen = |choice| f32::from(u8::from(choice as f32 == action[0]));
                        rows.extend((0..choices).map(chosen));
                        continue;
                    }
                    let start = rows.len();
                    rows.extend_from_slice(action);
                    noise.disturb(env.actions, &mut rows[start..], rng);
                }
                Self::NextState => rows.extend_from_slice(next),
                Self::Motion => rows.extend(next.iter().zip(state).map(|(next, s)| next - s)),
            }
        }
        rows
    }
}

impl Learner for GoalGail {
    fn iterate(&mut self) -> Result<Figures, LearnError> {
        let start = self.her.env_steps;
        let mut means = Means::default();
        while self.her.env_steps < start + self.settings.her.iteration.max(1) {
            let before = self.her.env_steps;
            let [reached, rollouts] = self.her.collect()?;
            means.add(vec![("rollout_success", f64::from(reached) / f64::from(rollouts))]);
            while self.her.due >= 1.0 {
                self.her.due -= 1.0;
                means.add(self.update()?);
                self.due += self.settings.discriminator_updates;
            }
            if self.settings.her.tau_rollout > 0.0 {
                self.her.learner.follow(self.settings.her.tau_rollout);
            }
            while self.due >= 1.0 {
                self.due -= 1.0;
                means.add(self.discriminate(self.due < 1.0)?);
            }
            let thousands = (self.her.env_steps - before) as f32 / 1000.0;
            self.delta *= self.settings.anneal.powf(thousands);
        }
        let mut figures = means.figures();
        figures.push(("delta", f64::from(self.delta)));
        Ok(figures)
    }

    fn rollouts(&self) -> usize {
        self.settings.her.rollouts
    }

    fn lend(&mut self, env: Box<dyn Env>) {
        self.her.lend(env);
    }

    fn env_steps(&self) -> u64 {
        self.her.env_steps
    }

    fn policy(&self) -> Result<Graph, LearnError> {
        Learner::policy(&self.her)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = self.her.save()?;
        if let Some(discriminator) = &self.discriminator {
            kept.put_all("discriminator", discriminator.save()?);
        }
        kept.put("delta", [self.delta]);
        kept.put_count("discriminator_due", self.due.to_bits());
        kept.put_rng("own_rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.her.restore(kept)?;
        if let Some(discriminator) = &mut self.discriminator {
            discriminator.restore(&kept.part("discriminator"))?;
        }
        self.delta = kept.tensor("delta")?.first().copied().unwrap_or(0.0);
        self.due = f64::from_bits(kept.count("discriminator_due")?);
        self.rng = kept.rng("own_rng")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
