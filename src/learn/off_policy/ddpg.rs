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

use super::OffPolicy;
use super::task::{Task, scaled, squared_error, value};
use crate::engine::Engine;
use crate::goal::Transitions;
use crate::learn::LearnError;
use crate::learn::checkpoint::Checkpoint;
use crate::learn::learner::Figures;
use crate::learn::network::{Activation, Init, Layers, Mlp};
use crate::learn::normalizer;
use crate::learn::trained::{Trained, cut, follow};
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
    /// Decoupled weight decay of the actor: with few demonstrations it is what clones them best.
    pub actor_decay: f32,
    /// Weight of the mean square action.
    pub action_l2: f32,
    /// Weight of cloning demonstrated actions.
    pub bc: f32,
    /// Weight of cloning the agent's own actions, for the goals that hindsight gives them, where the
    /// critic prefers them to the policy's (Oh et al. 2018). A gradient finds no way out of a corner
    /// of the action space or over a flat of the critic; an action that was tried may.
    pub self_imitation: f32,
    /// Share of the way that the deployed policy follows the actor in each of its updates: it is a
    /// running mean of actors, steadier than the newest one, which explores. 1 is the actor itself.
    pub averaging: f32,
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
            actor_decay: 0.0,
            action_l2: 0.0,
            bc: 0.0,
            self_imitation: 0.0,
            averaging: 1.0,
            q_filter: false,
            twin: false,
            target_noise: 0.0,
            policy_delay: 1,
        }
    }
}

impl DdpgSettings {
    /// Whether any action is cloned.
    fn clones(&self) -> bool {
        self.bc > 0.0 || self.self_imitation > 0.0
    }

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
    nets: Networks,
    actor: Trained,
    critic: Trained,
    actor_target: Vec<f32>,
    deployed: Vec<f32>,
    critic_target: Vec<f32>,
    /// The targets' smoothing noise, `[B, a]`.
    smoothing: Vec<f32>,
    updates: u64,
    rng: Rng,
}

/// The noise on target actions is cut off here (TD3).
const SMOOTHING_CLIP: f32 = 0.5;

/// What its graphs are made of.
struct Networks {
    task: Task,
    /// Numbers in an action, and the largest of each.
    a: usize,
    limit: f32,
    critics: Vec<Mlp>,
    actor: Mlp,
}

impl Ddpg {
    /// A learner of a task.
    ///
    /// # Errors
    /// The environment has discrete actions, or the engine cannot run the steps.
    pub(super) fn new(
        engine: &Engine,
        settings: &DdpgSettings,
        task: Task,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let (a, limit) = task.continuous("DDPG")?;
        let (sight, hidden, relu) = (task.sight(), &settings.hidden, Activation::Relu);
        let critic = Mlp::new(sight + a, hidden, 1, relu);
        let critics = vec![critic; if settings.twin { 2 } else { 1 }];
        let nets = Networks { task, a, limit, critics, actor: Mlp::new(sight, hidden, a, relu) };
        let actor_target = nets.actor.draw(Init::Xavier, rng);
        let critic_target: Vec<f32> =
            nets.critics.iter().flat_map(|mlp| mlp.draw(Init::Xavier, rng)).collect();
        let (adam, first) = (AdamW::default(), critic_target.clone());
        let critic = Trained::joint(engine, &nets.critics, first, adam, |b, critics| {
            nets.critic_loss(b, critics)
        })?;
        let (first, adam) =
            (actor_target.clone(), AdamW { weight_decay: settings.actor_decay, ..adam });
        let actor = Trained::new(engine, &nets.actor, first, adam, |b, actor| {
            nets.actor_loss(b, actor, settings)
        })?;
        Ok(Self {
            settings: settings.clone(),
            smoothing: vec![0.0; nets.task.rows * a],
            nets,
            actor,
            critic,
            deployed: actor_target.clone(),
            actor_target,
            critic_target,
            updates: 0,
            rng: Rng::seed_from_u64(seed_from(rng)),
        })
    }
}

impl Ddpg {
    /// The policy file of an actor's weights.
    fn graph(&self, actor: &[f32], normalizer: &[f32]) -> Result<Graph, LearnError> {
        let mut b = Builder::new();
        let sight = normalizer::deployed(&mut b, &self.nets.task.env, normalizer);
        let actor = self.nets.actor.trained(&mut b, "actor", actor)?;
        let action = self.nets.act(&mut b, &actor, sight);
        b.output("action", action);
        Ok(b.finish()?)
    }
}

impl Networks {
    /// `pi(s, g) = limit tanh(network)`.
    fn act(&self, b: &mut Builder, actor: &Layers, sight: Value) -> Value {
        let y = actor.apply(b, sight);
        let y = b.tanh(y);
        scaled(b, y, self.limit)
    }

    /// `mean (Q(s, g, a) - y)²`.
    fn critic_loss(&self, b: &mut Builder, critics: &[Layers]) -> Value {
        let [now, next] = self.task.now_and_next(b);
        let action = self.task.input(b, "action", self.a);
        let smoothing = self.task.input(b, "smoothing", self.a);

        let actor = self.actor.given(b, "actor_target");
        let next_action = self.act(b, &actor, next);
        let next_action = b.add(next_action, smoothing);
        let next_action = b.clip(next_action, -self.limit, self.limit);
        let targets = self.critics.iter().enumerate().map(|(i, mlp)| {
            let target = mlp.given(b, TARGETS[i]);
            value(b, &target, next, next_action, self.limit)
        });
        let targets: Vec<Value> = targets.collect();
        let worth = targets.into_iter().reduce(|x, y| b.min(x, y)).unwrap_or(now);
        let y = self.task.target(b, worth);

        let losses = critics.iter().map(|critic| {
            let q = value(b, critic, now, action, self.limit);
            squared_error(b, q, y)
        });
        let losses: Vec<Value> = losses.collect();
        losses.into_iter().reduce(|x, y| b.add(x, y)).unwrap_or(y)
    }

    /// `mean -Q(s, g, pi) + l2 ||pi||² + bc 1[demonstrated] ||pi - a||²`.
    fn actor_loss(&self, b: &mut Builder, actor: &Layers, settings: &DdpgSettings) -> Value {
        let sight = self.task.now(b);
        let critic = self.critics[0].given(b, "critic");
        let action = self.act(b, actor, sight);
        let q = value(b, &critic, sight, action, self.limit);
        let q_mean = b.reduce_mean(q, &[], false);
        let mut loss = b.neg(q_mean);
        if settings.action_l2 > 0.0 {
            let square = b.mul(action, action);
            let square = b.reduce_mean(square, &[], false);
            let square = scaled(b, square, settings.action_l2);
            loss = b.add(loss, square);
        }
        if settings.clones() {
            let taken = self.task.input(b, "action", self.a);
            let worth = value(b, &critic, sight, taken, self.limit);
            let weight = self.cloned(b, settings, worth, q);
            let error = b.sub(action, taken);
            let square = b.mul(error, error);
            let square = b.reduce_sum(square, &[1], true);
            let square = b.mul(square, weight);
            let cloning = b.reduce_mean(square, &[], false);
            loss = b.add(loss, cloning);
        }
        loss
    }

    /// How much each row's action is cloned, `[B, 1]`: what it is worth, and the policy's action `q`.
    fn cloned(&self, b: &mut Builder, settings: &DdpgSettings, worth: Value, q: Value) -> Value {
        let demonstrated = self.task.input(b, "demonstrated", 1);
        let better = b.greater(worth, q);
        let better = b.to_f32(better);
        let mut shown = scaled(b, demonstrated, settings.bc);
        if settings.q_filter {
            shown = b.mul(shown, better);
        }
        if settings.self_imitation == 0.0 {
            return shown;
        }
        let one = b.scalar(1.0);
        let own = b.sub(one, demonstrated);
        let own = b.mul(own, better);
        let own = scaled(b, own, settings.self_imitation);
        b.add(shown, own)
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
            for x in &mut self.smoothing {
                let noise = self.settings.target_noise * normal(rng) as f32;
                *x = self.nets.limit * noise.clamp(-SMOOTHING_CLIP, SMOOTHING_CLIP);
            }
        }
        let (task, critics) = (&self.nets.task, &self.nets.critics);
        let mut inputs = task.target_inputs(batch, rewards, normalizer);
        inputs.extend([
            ("action", &batch.action[..]),
            ("smoothing", &self.smoothing),
            ("actor_target", &self.actor_target),
        ]);
        inputs.extend(TARGETS.into_iter().zip(cut(critics, &self.critic_target)));
        let critic_loss = self.critic.step(&inputs, self.settings.critic_lr)?.loss;
        let mut figures = vec![("critic_loss", f64::from(critic_loss))];

        self.updates += 1;
        if self.updates.is_multiple_of(self.settings.policy_delay.max(1)) {
            let first = cut(critics, self.critic.weights()).next().unwrap_or(&[]);
            let mut inputs = task.now_inputs(batch, normalizer);
            inputs.push(("critic", first));
            if self.settings.clones() {
                inputs
                    .extend([("action", &batch.action[..]), ("demonstrated", &batch.demonstrated)]);
            }
            let actor_loss = self.actor.step(&inputs, self.settings.actor_lr)?.loss;
            follow(&mut self.deployed, self.actor.weights(), self.settings.averaging);
            figures.push(("actor_loss", f64::from(actor_loss)));
        }
        Ok(figures)
    }

    fn follow(&mut self, tau: f32) {
        follow(&mut self.actor_target, self.actor.weights(), tau);
        follow(&mut self.critic_target, self.critic.weights(), tau);
    }

    fn policy(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        self.graph(&self.deployed, normalizer)
    }

    fn explorer(&self, normalizer: &[f32]) -> Result<Graph, LearnError> {
        self.graph(self.actor.weights(), normalizer)
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("actor", self.actor.save()?);
        kept.put_all("critic", self.critic.save()?);
        kept.put("deployed", self.deployed.clone());
        kept.put("actor_target", self.actor_target.clone());
        kept.put("critic_target", self.critic_target.clone());
        kept.put_count("updates", self.updates);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        self.actor.restore(&kept.part("actor"))?;
        self.critic.restore(&kept.part("critic"))?;
        self.deployed = kept.tensor_of("deployed", self.deployed.len())?;
        self.actor_target = kept.tensor_of("actor_target", self.actor_target.len())?;
        self.critic_target = kept.tensor_of("critic_target", self.critic_target.len())?;
        self.updates = kept.count("updates")?;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}
