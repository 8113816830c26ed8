//! Hindsight experience replay (Andrychowicz et al. 2017).
//!
//! ```text
//! repeat: g  <- a goal;  R <- R + a rollout of pi towards g, with noise      (collect)
//!         repeat: (s, a, s', g) from R
//!                 g  <- with probability p an achieved goal of its future    (hindsight)
//!                 r  <- 1[s' = g]                                           (goal::reward)
//!                 update Q, pi on (s, a, s', g, r)                          (OffPolicy)
//!         target networks follow
//! ```

use rand::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::LearnError;
use super::beside::side_by_side;
use super::checkpoint::Checkpoint;
use super::learner::{Figures, Learner};
use super::normalizer::Normalizer;
use super::off_policy::{OffPolicy, OffPolicySettings, Returns};
use super::rollout::{Actor, Noise, episode};
use crate::engine::Engine;
use crate::env::Env;
use crate::goal::{Hindsight, ReplayBuffer, Strategy, Trajectory, Transitions, reached};
use crate::onnx::Graph;
use crate::rng::{Rng, Stream, seed_from, stream};

/// Settings of the loop around the learner; the defaults are goalGAIL's (released code), with target
/// networks that follow a little in each update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HerSettings {
    /// Transitions of the agent in each update.
    pub batch: usize,
    /// Updates per step in the environment.
    pub updates_per_step: f64,
    /// Steps in the environment per iteration, at least.
    pub iteration: u64,
    /// Rollouts of one policy before the updates that are their due; so many may go side by side.
    pub rollouts: usize,
    /// Share of transitions that get another goal: 0 is no hindsight, `k / (k + 1)` is HER's `k`.
    pub relabel: f64,
    /// Where those goals come from.
    pub strategy: Strategy,
    /// Whether a rollout stops at its goal, or goes on to the horizon as in the released code.
    pub cut: bool,
    /// Whether success ends a return: what comes after the goal is not learned from. Else each step to
    /// the goal gives `1 - gamma`, so that staying there is worth as much, for tasks that are judged
    /// at their last step.
    pub ends: bool,
    /// Deviation of the exploration noise, in units of the largest action.
    pub noise: f32,
    /// Share of actions drawn at random.
    pub random: f64,
    /// How far target networks go in each update.
    pub tau: f32,
    /// How far they go after each rollout instead, as in the released code; 0 leaves it out.
    pub tau_rollout: f32,
}

impl Default for HerSettings {
    fn default() -> Self {
        Self {
            batch: 256,
            updates_per_step: 2.0 / 3.0,
            iteration: 3000,
            rollouts: 1,
            relabel: 0.8,
            strategy: Strategy::Future,
            cut: true,
            ends: true,
            noise: 0.15,
            random: 0.3,
            tau: 0.005,
            tau_rollout: 0.0,
        }
    }
}

impl HerSettings {
    /// How the agent's own transitions are relabelled.
    pub fn hindsight(&self) -> Hindsight {
        Hindsight { strategy: self.strategy, probability: self.relabel, already_achieved: None }
    }
}

/// The loop's state: environment, replay buffer, learner.
pub struct Her {
    pub(super) settings: HerSettings,
    pub(super) engine: Engine,
    pub(super) env: Box<dyn Env>,
    /// More of them, for rollouts side by side.
    lent: Vec<Box<dyn Env>>,
    pub(super) learner: Box<dyn OffPolicy>,
    pub(super) replay: ReplayBuffer,
    pub(super) normalizer: Normalizer,
    /// The reward of a step to the goal.
    pub(super) at_goal: f32,
    pub(super) env_steps: u64,
    /// Updates that rollouts have earned and that were not made yet.
    pub(super) due: f64,
    pub(super) exploration: Rng,
    pub(super) rng: Rng,
    batch: Transitions,
    rewards: Vec<f32>,
}

/// What `train her` is told.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HerTraining {
    /// Rollouts, hindsight, updates.
    pub her: HerSettings,
    /// The learner under it.
    pub learner: OffPolicySettings,
}

impl Her {
    /// The loop with a new learner; rewards are 1 at the goal, which ends the return.
    ///
    /// # Errors
    /// The environment has no goals, the learner does not fit its actions, or the engine cannot run
    /// its steps.
    pub fn new(
        engine: &Engine,
        training: &HerTraining,
        env: Box<dyn Env>,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let returns = Returns { low: 0.0, high: 1.0, ends: training.her.ends };
        let (rows, gamma) = (training.her.batch, training.learner.gamma(env.spec()));
        let mut weights = stream(seed, Stream::Weights);
        let learner = training.learner.build(engine, env.spec(), rows, returns, &mut weights)?;
        Self::around(engine, &training.her, env, learner, gamma, seed)
    }

    /// The loop around a learner.
    pub(super) fn around(
        engine: &Engine,
        settings: &HerSettings,
        env: Box<dyn Env>,
        learner: Box<dyn OffPolicy>,
        gamma: f32,
        seed: u64,
    ) -> Result<Self, LearnError> {
        let (spec, found) = (env.spec(), "none".to_owned());
        if spec.goal == 0 {
            let (method, needs) = ("hindsight experience replay", "goals");
            return Err(LearnError::Unfit { method, needs, env: spec.name, found });
        }
        let inputs = spec.observation + spec.goal;
        Ok(Self {
            settings: settings.clone(),
            engine: engine.clone(),
            env,
            lent: Vec::new(),
            learner,
            replay: ReplayBuffer::default(),
            normalizer: Normalizer::new(inputs),
            at_goal: if settings.ends { 1.0 } else { 1.0 - gamma },
            env_steps: 0,
            due: 0.0,
            exploration: stream(seed, Stream::Exploration),
            rng: stream(seed, Stream::Training),
            batch: Transitions::default(),
            rewards: Vec::new(),
        })
    }

    /// Adds rollouts of the policy as it is now, with noise; how many reached their goal, and how many
    /// there were.
    pub(super) fn collect(&mut self) -> Result<[u32; 2], LearnError> {
        let trajectories = self.roll_out()?;
        let (mut reached, rollouts) = (0, trajectories.len() as u32);
        for trajectory in trajectories {
            reached += u32::from(self.learn_from(trajectory)?);
        }
        Ok([reached, rollouts])
    }

    fn roll_out(&mut self) -> Result<Vec<Trajectory>, LearnError> {
        let policy = self.learner.explorer(&self.normalizer.vector())?;
        let (engine, space) = (&self.engine, self.env.spec().actions);
        let noise = Noise { gaussian: self.settings.noise, random: self.settings.random };
        let cut = self.settings.cut;
        let actor = || Actor::new(engine, &policy, space);
        let rollout = |env: &mut dyn Env, actor: &mut Actor, rng: &mut Rng| {
            let goal = env.sample_goal(rng);
            let mut act = |env: &mut dyn Env, action: &mut [f32], rng: &mut Rng| {
                actor.act(env, action, rng)?;
                noise.disturb(space, action, rng);
                Ok(())
            };
            episode(env, &goal, cut, rng, &mut act)
        };
        let n = self.settings.rollouts;
        if n <= 1 {
            return Ok(vec![rollout(self.env.as_mut(), &mut actor()?, &mut self.exploration)?]);
        }
        // Each draws from its own generator, whichever comes first.
        let seeds: Vec<u64> = (0..n).map(|_| seed_from(&mut self.exploration)).collect();
        let mut envs: Vec<&mut dyn Env> = vec![self.env.as_mut()];
        envs.extend(self.lent.iter_mut().map(|env| env.as_mut() as &mut dyn Env));
        side_by_side(&mut envs, &actor, n, &|env, actor, i| {
            rollout(env, actor, &mut Rng::seed_from_u64(seeds[i]))
        })
    }

    /// Takes a rollout in; true when it reached its goal.
    fn learn_from(&mut self, trajectory: Trajectory) -> Result<bool, LearnError> {
        self.env_steps += trajectory.last() as u64;
        self.due += trajectory.last() as f64 * self.settings.updates_per_step;
        let tolerance = self.env.spec().tolerance;
        let trajectory =
            if self.settings.ends { trajectory.until_reached(tolerance) } else { trajectory };
        let end = trajectory.achieved_goal(trajectory.last());
        let reached = reached(end, trajectory.desired_goal(), tolerance);
        let mut newest = ReplayBuffer::default();
        newest.push(&trajectory)?;
        self.observe(&newest);
        self.replay.push(&trajectory)?;
        Ok(reached)
    }

    /// One update on a batch of the rollouts so far, relabelled; the target networks follow.
    ///
    /// # Errors
    /// The engine failed or the loss diverged.
    pub fn update(&mut self) -> Result<Figures, LearnError> {
        let (hindsight, tolerance) = (self.settings.hindsight(), self.env.spec().tolerance);
        let (rows, rng) = (self.settings.batch, &mut self.rng);
        self.batch.clear();
        self.batch.draw(rows, &self.replay, &hindsight, tolerance, false, rng);
        judge(self.env.as_ref(), &mut self.batch);
        self.rewards.clear();
        self.rewards.extend(self.batch.success.iter().map(|success| self.at_goal * success));
        let normalizer = self.normalizer.vector();
        let figures = self.learner.update(&self.batch, &self.rewards, &normalizer)?;
        self.learner.follow(self.settings.tau);
        Ok(figures)
    }

    /// Takes episodes into the normaliser, with goals as they are learned with.
    pub(super) fn observe(&mut self, episodes: &ReplayBuffer) {
        let mut seen = Transitions::default();
        let (rows, hindsight) = (episodes.transitions(), self.settings.hindsight());
        seen.draw(rows, episodes, &hindsight, self.env.spec().tolerance, false, &mut self.rng);
        let (o, g) = (self.env.spec().observation, self.env.spec().goal);
        for i in 0..seen.len() {
            let mut row = seen.observation[i * o..(i + 1) * o].to_vec();
            row.extend_from_slice(&seen.goal[i * g..(i + 1) * g]);
            self.normalizer.observe(&row);
        }
    }
}

/// Has the environment say which rows are success: it may want more than to be near the goal.
pub(super) fn judge(env: &dyn Env, batch: &mut Transitions) {
    let (o, g) = (env.spec().observation, env.spec().goal);
    let states =
        batch.next_observation.chunks_exact(o).zip(batch.next_achieved_goal.chunks_exact(g));
    let rows = states.zip(batch.goal.chunks_exact(g));
    for (success, ((observation, achieved), goal)) in batch.success.iter_mut().zip(rows) {
        *success = f32::from(u8::from(env.succeeds(observation, achieved, goal)));
    }
}

impl Learner for Her {
    fn iterate(&mut self) -> Result<Figures, LearnError> {
        let until = self.env_steps + self.settings.iteration.max(1);
        let (mut reached, mut rollouts) = (0, 0);
        let mut means = Means::default();
        while self.env_steps < until {
            let [successes, count] = self.collect()?;
            (reached, rollouts) = (reached + successes, rollouts + count);
            while self.due >= 1.0 {
                self.due -= 1.0;
                means.add(self.update()?);
            }
            if self.settings.tau_rollout > 0.0 {
                self.learner.follow(self.settings.tau_rollout);
            }
        }
        let mut figures = vec![("rollout_success", f64::from(reached) / f64::from(rollouts))];
        figures.extend(means.figures());
        Ok(figures)
    }

    fn env_steps(&self) -> u64 {
        self.env_steps
    }

    fn rollouts(&self) -> usize {
        self.settings.rollouts
    }

    fn lend(&mut self, env: Box<dyn Env>) {
        self.lent.push(env);
    }

    fn policy(&self) -> Result<Graph, LearnError> {
        self.learner.policy(&self.normalizer.vector())
    }

    fn save(&self) -> Result<Checkpoint, LearnError> {
        let mut kept = Checkpoint::default();
        kept.put_all("learner", self.learner.save()?);
        kept.put_replay("replay", &self.replay);
        self.normalizer.save("normalizer", &mut kept);
        kept.put_count("env_steps", self.env_steps);
        kept.put_count("due", self.due.to_bits());
        kept.put_rng("exploration", &self.exploration);
        kept.put_rng("rng", &self.rng);
        Ok(kept)
    }

    fn restore(&mut self, kept: &Checkpoint) -> Result<(), LearnError> {
        let spec = self.env.spec();
        let sizes = [spec.observation, spec.goal, spec.actions.size()];
        self.learner.restore(&kept.part("learner"))?;
        self.replay = kept.replay("replay", sizes)?;
        self.normalizer.restore("normalizer", kept)?;
        self.env_steps = kept.count("env_steps")?;
        self.due = f64::from_bits(kept.count("due")?);
        self.exploration = kept.rng("exploration")?;
        self.rng = kept.rng("rng")?;
        Ok(())
    }
}

/// Means of figures over an iteration.
#[derive(Debug, Default)]
pub(super) struct Means {
    sums: Vec<(&'static str, f64, u32)>,
}

impl Means {
    pub(super) fn add(&mut self, figures: Figures) {
        for (name, value) in figures {
            match self.sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.sums.push((name, value, 1)),
            }
        }
    }

    pub(super) fn figures(&self) -> Figures {
        self.sums.iter().map(|(name, sum, count)| (*name, sum / f64::from(*count))).collect()
    }
}
