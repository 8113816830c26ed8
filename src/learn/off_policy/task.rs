//! What a learner's graphs need to know of its task, and the pieces that they share.

use super::Returns;
use crate::env::{ActionSpace, EnvSpec};
use crate::goal::Transitions;
use crate::learn::LearnError;
use crate::learn::network::Layers;
use crate::learn::normalizer;
use crate::onnx::{Builder, Dim, Value};

/// A task, as a learner's graphs see it.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) env: EnvSpec,
    /// Rows of a batch: `B`.
    pub(super) rows: usize,
    pub(super) gamma: f32,
    pub(super) returns: Returns,
}

impl Task {
    /// How many numbers an action has, and the largest of each.
    ///
    /// # Errors
    /// Actions are choices.
    pub(super) fn continuous(&self, method: &'static str) -> Result<(usize, f32), LearnError> {
        match self.env.actions {
            ActionSpace::Continuous { size, limit } => Ok((size, limit)),
            ActionSpace::Discrete { .. } => Err(self.unfit(method, "continuous actions")),
        }
    }

    /// How many choices there are.
    ///
    /// # Errors
    /// Actions are no choices.
    pub(super) fn choices(&self, method: &'static str) -> Result<usize, LearnError> {
        match self.env.actions {
            ActionSpace::Discrete { choices } => Ok(choices),
            ActionSpace::Continuous { .. } => Err(self.unfit(method, "discrete actions")),
        }
    }

    fn unfit(&self, method: &'static str, needs: &'static str) -> LearnError {
        let found = format!("{:?}", self.env.actions);
        LearnError::Unfit { method, needs, env: self.env.name, found }
    }

    /// Numbers that a network sees of `(s, g)`.
    pub(super) fn sight(&self) -> usize {
        self.env.observation + self.env.goal
    }

    /// An input `[B, width]`.
    pub(super) fn input(&self, b: &mut Builder, name: &str, width: usize) -> Value {
        b.input(name, &[Dim::Fixed(self.rows), Dim::Fixed(width)])
    }

    /// What networks see of each row's `(s, g)`.
    pub(super) fn now(&self, b: &mut Builder) -> Value {
        let [now] = self.sights(b, ["observation"]);
        now
    }

    /// What they see of `(s, g)`, and of `(s', g)`.
    pub(super) fn now_and_next(&self, b: &mut Builder) -> [Value; 2] {
        self.sights(b, ["observation", "next_observation"])
    }

    fn sights<const N: usize>(&self, b: &mut Builder, names: [&str; N]) -> [Value; N] {
        let EnvSpec { observation: o, goal: g, .. } = self.env;
        let normal = normalizer::given(b, "normalizer", o + g);
        let goal = (g > 0).then(|| self.input(b, "goal", g));
        names.map(|name| {
            let seen = self.input(b, name, o);
            let both = goal.map_or(seen, |goal| b.concat(&[seen, goal], 1));
            normalizer::apply(b, normal, both)
        })
    }

    /// `y = clip(r + gamma (1 - success) next)`, `[B, 1]`, where success ends a return; else
    /// `clip(r + gamma next)`. `next` is the value of what follows; inputs `reward`, `success` `[B, 1]`.
    pub(super) fn target(&self, b: &mut Builder, next: Value) -> Value {
        let reward = self.input(b, "reward", 1);
        let mut future = scaled(b, next, self.gamma);
        if self.returns.ends {
            let (one, success) = (b.scalar(1.0), self.input(b, "success", 1));
            let goes_on = b.sub(one, success);
            future = b.mul(goes_on, future);
        }
        let y = b.add(reward, future);
        b.clip(y, self.returns.low, self.returns.high)
    }

    /// The inputs of [`now`](Self::now).
    pub(super) fn now_inputs<'a>(
        &self,
        batch: &'a Transitions,
        normalizer: &'a [f32],
    ) -> Vec<(&'static str, &'a [f32])> {
        let mut inputs = vec![("normalizer", normalizer), ("observation", &batch.observation[..])];
        inputs.extend((self.env.goal > 0).then_some(("goal", &batch.goal[..])));
        inputs
    }

    /// The inputs of [`now_and_next`](Self::now_and_next) and [`target`](Self::target).
    pub(super) fn target_inputs<'a>(
        &self,
        batch: &'a Transitions,
        rewards: &'a [f32],
        normalizer: &'a [f32],
    ) -> Vec<(&'static str, &'a [f32])> {
        let mut inputs = self.now_inputs(batch, normalizer);
        inputs.extend([("next_observation", &batch.next_observation[..]), ("reward", rewards)]);
        inputs.extend(self.returns.ends.then_some(("success", &batch.success[..])));
        inputs
    }
}

/// `Q(s, g, a)`, `[B, 1]`; actions in units of the largest, `limit`.
pub(super) fn value(
    b: &mut Builder,
    critic: &Layers,
    sight: Value,
    action: Value,
    limit: f32,
) -> Value {
    let action = scaled(b, action, 1.0 / limit);
    let x = b.concat(&[sight, action], 1);
    critic.apply(b, x)
}

/// `mean (q - y)²`.
pub(super) fn squared_error(b: &mut Builder, q: Value, y: Value) -> Value {
    let error = b.sub(q, y);
    let square = b.mul(error, error);
    b.reduce_mean(square, &[], false)
}

/// `factor x`.
pub(super) fn scaled(b: &mut Builder, x: Value, factor: f32) -> Value {
    if factor == 1.0 {
        return x;
    }
    let factor = b.scalar(factor);
    b.mul(x, factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::env::named;
    use crate::onnx::Verified;

    fn task(returns: Returns) -> Task {
        let env = named("four_rooms").unwrap().spec().clone();
        Task { env, rows: 4, gamma: 0.5, returns }
    }

    /// `clip(r + gamma (1 - success) next)` with `gamma = 1/2`.
    fn targets(returns: Returns, reward: [f32; 4], success: [f32; 4], next: [f32; 4]) -> Vec<f32> {
        let (mut b, task) = (Builder::new(), task(returns));
        let value = task.input(&mut b, "next", 1);
        let y = task.target(&mut b, value);
        b.output("y", y);
        let graph = Verified::try_from(b.finish().unwrap()).unwrap();
        let mut session = Engine::tract().load(&graph).unwrap();
        let given = [("reward", reward), ("success", success), ("next", next)];
        let given = given.iter().filter(|(name, _)| returns.ends || *name != "success");
        let inputs: Vec<_> = given.map(|(name, x)| (*name, &[4, 1][..], &x[..])).collect();
        session.run(&inputs).unwrap().remove(0).data
    }

    #[test]
    fn success_ends_a_return_whatever_would_follow() {
        let found = targets(Returns::NONE, [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [8.0; 4]);
        assert_eq!(found, [4.0, 0.0, 5.0, 1.0]);
    }

    #[test]
    fn a_return_that_success_does_not_end_goes_on_at_the_goal() {
        let returns = Returns { ends: false, ..Returns::NONE };
        let found = targets(returns, [0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0], [8.0; 4]);
        assert_eq!(found, [4.0, 4.0, 5.0, 5.0]);
    }

    #[test]
    fn targets_stay_within_the_returns_there_can_be() {
        let next = [-30.0, -8.0, 1.0, 30.0];
        let returns = Returns { low: -5.0, high: 1.0, ends: true };
        assert_eq!(targets(returns, [0.0; 4], [0.0; 4], next), [-5.0, -4.0, 0.5, 1.0]);
        assert_eq!(targets(Returns::NONE, [0.0; 4], [0.0; 4], next), [-15.0, -4.0, 0.5, 15.0]);
    }
}
