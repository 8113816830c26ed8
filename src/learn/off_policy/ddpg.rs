//! DDPG, and TD3 as three options of it.
//!
//! ```text
//! y      <- clip(r + gamma (1 - success) Q'(s', g, pi'(s', g)))
//! phi    <- min  mean (Q_phi(s, g, a) - y)²
//! theta  <- min  mean -Q_phi(s, g, pi_theta(s, g)) + l2 ||pi||² + bc 1[demonstrated] ||pi - a||²
//! ```
//!
//! Lillicrap et al. 2016, with what goal-reaching adds: success ends the return (`1 - success`,
//! relabelled goals too), targets are clipped to the returns there can be, and demonstrated actions
//! may be cloned beside the critic's advice (Nair et al. 2018), where they are better if asked for
//! (the Q-filter). TD3 (Fujimoto et al. 2018) is twin critics whose smaller value counts, smoothed
//! target actions, and an actor that waits.

use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::{Bounds, OffPolicy, Rows, deployed_sight, scaled, squared_error};
use crate::engine::Engine;
use crate::env::{ActionSpace, EnvSpec};
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::Figures;
use crate::learn::network::{Activation, Init, Layers, Mlp};
use crate::learn::trained::{Trained, cut, follow};
use crate::learn::transitions::Transitions;
use crate::onnx::{AdamW, Builder, Graph, Value};
use crate::rng::{Rng, normal, seed_from};

/// Settings; the defaults are goalGAIL's (Ding et al. 2019, released code).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DdpgSettings {
    /// Units of each hidden layer.
    pub hidden: Vec<usize>,
    /// Learning rate of the actor.
    pub actor_lr: f32,
    /// Learning rate of the critic.
    pub critic_lr: f32,
    /// Discount; by default `1 - 1 / horizon`.
    pub gamma: Option<f32>,
    /// Weight of the mean square action.
    pub action_l2: f32,
    /// Weight of cloning demonstrated actions.
    pub bc: f32,
    /// Whether demonstrated actions are cloned only where the critic prefers them.
    pub q_filter: bool,
    /// Twin critics, whose smaller value counts (TD3).
    pub twin: bool,
    /// Deviation of the noise on target actions, in units of the largest action (TD3: 0.2).
    pub target_noise: f32,
    /// Updates of the critic for one of the actor (TD3: 2).
    pub policy_delay: u64,
}

impl Default for DdpgSettings {
    fn default() -> Self {
        Self {
            hidden: vec![256, 256],
            actor_lr: 1e-4,
            critic_lr: 1e-4,
            gamma: None,
            action_l2: 0.0,
            bc: 0.0,
            q_filter: false,
            twin: false,
            target_noise: 0.0,
            policy_delay: 1,
        }
    }
}

impl DdpgSettings {
    /// The same with TD3's three changes, as far as they are not set already.
    #[must_use]
    pub fn td3(self) -> Self {
        let target_noise = if self.target_noise > 0.0 { self.target_noise } else { 0.2 };
        Self { twin: true, target_noise, policy_delay: self.policy_delay.max(2), ..self }
    }
}

/// Actor, critics and their targets.
pub struct Ddpg {
    settings: DdpgSettings,
    env: EnvSpec,
    critics: Vec<Mlp>,
    actor: Trained,
    critic: Trained,
    actor_target: Vec<f32>,
    critic_target: Vec<f32>,
    /// The targets' smoothing noise, `[B, a]`.
    smoothing: Vec<f32>,
    updates: u64,
    rng: Rng,
}

/// The noise on target actions is cut off here (TD3).
const SMOOTHING_CLIP: f32 = 0.5;

/// The sizes that every piece of the graphs needs.
struct Sizes {
    rows: usize,
    a: usize,
    limit: f32,
    gamma: f32,
    bounds: Bounds,
    critics: Vec<Mlp>,
    actor: Mlp,
}

impl Ddpg {
    /// A learner for batches of `rows`, whose returns lie within `bounds`.
    ///
    /// # Errors
    /// The environment has discrete actions, or the engine cannot run the steps.
    pub fn new(
        engine: &Engine,
        settings: &DdpgSettings,
        env: &EnvSpec,
        rows: usize,
        bounds: Bounds,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let ActionSpace::Continuous { size: a, limit } = env.actions else {
            return Err(LearnError::Unfit {
                method: "DDPG",
                needs: "continuous actions",
                env: env.name,
                found: format!("{:?}", env.actions),
            });
        };
        let sight = env.observation + env.goal;
        let critic = Mlp::new(sight + a, &settings.hidden, 1, Activation::Relu);
        let sizes = Sizes {
            rows,
            a,
            limit,
            gamma: settings.gamma.unwrap_or(1.0 - 1.0 / env.horizon as f32),
            bounds,
            critics: vec![critic; if settings.twin { 2 } else { 1 }],
            actor: Mlp::new(sight, &settings.hidden, a, Activation::Relu),
        };
        let actor_target = sizes.actor.draw(Init::Xavier, rng);
        let critic_target: Vec<f32> =
            sizes.critics.iter().flat_map(|mlp| mlp.draw(Init::Xavier, rng)).collect();
        let critic = Trained::joint(
            engine,
            &sizes.critics,
            critic_target.clone(),
            AdamW::default(),
            |b, critics| sizes.critic_loss(b, critics, env),
        )?;
        let actor = Trained::new(
            engine,
            &sizes.actor,
            actor_target.clone(),
            AdamW::default(),
            |b, actor| sizes.actor_loss(b, actor, env, settings),
        )?;
        Ok(Self {
            settings: settings.clone(),
            env: env.clone(),
            critics: sizes.critics,
            actor,
            critic,
            actor_target,
            critic_target,
            smoothing: vec![0.0; rows * a],
            updates: 0,
            rng: Rng::seed_from_u64(seed_from(rng)),
        })
    }
}

impl Sizes {
    /// `pi(s, g) = limit tanh(network)`.
    fn act(&self, b: &mut Builder, actor: &Layers, sight: Value) -> Value {
        let y = actor.apply(b, sight);
        let y = b.tanh(y);
        scaled(b, y, self.limit)
    }

    /// `Q(s, g, a)`, `[B, 1]`; actions in units of the largest.
    fn value(&self, b: &mut Builder, critic: &Layers, sight: Value, action: Value) -> Value {
        let action = scaled(b, action, 1.0 / self.limit);
        let x = b.concat(&[sight, action], 1);
        critic.apply(b, x)
    }

    /// `mean (Q(s, g, a) - y)²`.
    fn critic_loss(&self, b: &mut Builder, critics: &[Layers], env: &EnvSpec) -> Value {
        let rows = Rows::new(b, env, self.rows);
        let [now, next] = rows.sights(b);
        let action = rows.input(b, "action", self.a);
        let smoothing = rows.input(b, "smoothing", self.a);

        let actor = self.actor.given(b, "actor_target");
        let next_action = self.act(b, &actor, next);
        let next_action = b.add(next_action, smoothing);
        let next_action = b.clip(next_action, -self.limit, self.limit);
        let targets = self.critics.iter().enumerate().map(|(i, mlp)| {
            let target = mlp.given(b, TARGETS[i]);
            self.value(b, &target, next, next_action)
        });
        let targets: Vec<Value> = targets.collect();
        let worth = targets.into_iter().reduce(|x, y| b.min(x, y)).unwrap_or(now);
        let y = self.bounds.target(b, &rows, self.gamma, worth);

        let losses = critics.iter().map(|critic| {
            let q = self.value(b, critic, now, action);
            squared_error(b, q, y)
        });
        let losses: Vec<Value> = losses.collect();
        losses.into_iter().reduce(|x, y| b.add(x, y)).unwrap_or(y)
    }

    /// `mean -Q(s, g, pi) + l2 ||pi||² + bc 1[demonstrated] ||pi - a||²`.
    fn actor_loss(
        &self,
        b: &mut Builder,
        actor: &Layers,
        env: &EnvSpec,
        settings: &DdpgSettings,
    ) -> Value {
        let rows = Rows::new(b, env, self.rows);
        let sight = rows.sight(b);
        let critic = self.critics[0].given(b, "critic");
        let action = self.act(b, actor, sight);
        let q = self.value(b, &critic, sight, action);
        let q_mean = b.reduce_mean(q, &[], false);
        let mut loss = b.neg(q_mean);
        if settings.action_l2 > 0.0 {
            let square = b.mul(action, action);
            let square = b.reduce_mean(square, &[], false);
            let square = scaled(b, square, settings.action_l2);
            loss = b.add(loss, square);
        }
        if settings.bc > 0.0 {
            let shown = rows.input(b, "action", self.a);
            let mut counts = rows.input(b, "demonstrated", 1);
            if settings.q_filter {
                let better = self.value(b, &critic, sight, shown);
                let better = b.greater(better, q);
                let better = b.to_f32(better);
                counts = b.mul(counts, better);
            }
            let error = b.sub(action, shown);
            let square = b.mul(error, error);
            let square = b.reduce_sum(square, &[1], true);
            let square = b.mul(square, counts);
            let cloning = b.reduce_mean(square, &[], false);
            let cloning = scaled(b, cloning, settings.bc);
            loss = b.add(loss, cloning);
        }
        loss
    }
}

const TARGETS: [&str; 2] = ["critic_target0", "critic_target1"];

impl OffPolicy for Ddpg {
    fn update(
        &mut self,
        batch: &Transitions,
        rewards: &[f32],
        normalizer: &[f32],
    ) -> Result<Figures, LearnError> {
        let rng = &mut self.rng;
        if self.settings.target_noise > 0.0 {
            let limit = match self.env.actions {
                ActionSpace::Continuous { limit, .. } => limit,
                ActionSpace::Discrete { .. } => 1.0,
            };
            for x in &mut self.smoothing {
                let noise = self.settings.target_noise * normal(rng) as f32;
                *x = limit * noise.clamp(-SMOOTHING_CLIP, SMOOTHING_CLIP);
            }
        }
        let mut inputs = vec![
            ("normalizer", normalizer),
            ("observation", &batch.observation),
            ("next_observation", &batch.next_observation),
            ("action", &batch.action),
            ("reward", rewards),
            ("success", &batch.success),
            ("smoothing", &self.smoothing),
            ("actor_target", &self.actor_target),
        ];
        inputs.extend((self.env.goal > 0).then_some(("goal", &batch.goal[..])));
        inputs.extend(TARGETS.into_iter().zip(cut(&self.critics, &self.critic_target)));
        let critic_loss = self.critic.step(&inputs, self.settings.critic_lr)?.loss;
        let mut figures = vec![("critic_loss", f64::from(critic_loss))];

        self.updates += 1;
        if self.updates.is_multiple_of(self.settings.policy_delay.max(1)) {
            let first = cut(&self.critics, self.critic.weights()).next().unwrap_or(&[]);
            let mut inputs = vec![
                ("normalizer", normalizer),
                ("observation", &batch.observation),
                ("critic", first),
            ];
            inputs.extend((self.env.goal > 0).then_some(("goal", &batch.goal[..])));
            if self.settings.bc > 0.0 {
                inputs
                    .extend([("action", &batch.action[..]), ("demonstrated", &batch.demonstrated)]);
            }
            let actor_loss = self.actor.step(&inputs, self.settings.actor_lr)?.loss;
            figures.push(("actor_loss", f64::from(actor_loss)));
        }
        Ok(figures)
    }

    fn follow(&mut self, tau: f32) {
        follow(&mut self.actor_target, self.actor.weights(), tau);
        follow(&mut self.critic_target, self.critic.weights(), tau);
    }

    fn policy(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let sight = deployed_sight(&mut b, &self.env, normalizer);
        let actor = self.actor.mlps()[0].trained(&mut b, "actor", self.actor.weights())?;
        let y = actor.apply(&mut b, sight);
        let y = b.tanh(y);
        let action = match self.env.actions {
            ActionSpace::Continuous { limit, .. } => scaled(&mut b, y, limit),
            ActionSpace::Discrete { .. } => y,
        };
        b.output("action", action);
        Ok(b.finish()?)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("actor", self.actor.save()?);
        kept.put_all("critic", self.critic.save()?);
        kept.put("actor_target", self.actor_target.clone());
        kept.put("critic_target", self.critic_target.clone());
        kept.put_count("updates", self.updates);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.actor.restore(&kept.part("actor"))?;
        self.critic.restore(&kept.part("critic"))?;
        self.actor_target = kept.tensor_of("actor_target", self.actor_target.len())?;
        self.critic_target = kept.tensor_of("critic_target", self.critic_target.len())?;
        self.updates = kept.count("updates")?;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}
