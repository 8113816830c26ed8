//! Copies of one environment, stepped together: a policy is asked once for all of them.

use super::{Env, EnvError, EnvSpec};
use crate::rng::{Rng, Stream, item};

/// `N` copies, each with its own generator: what happens in one depends on no other.
pub struct Vectorised {
    copies: Vec<Box<dyn Env>>,
    generators: Vec<Rng>,
    spec: EnvSpec,
    observations: Vec<f32>,
    achieved: Vec<f32>,
    desired: Vec<f32>,
}

impl Vectorised {
    /// `n` copies, not yet reset; copy `i` draws from item `i` of the seed's stream.
    ///
    /// # Errors
    /// An environment cannot be made.
    ///
    /// # Panics
    /// `n` is 0.
    pub fn new(
        n: usize,
        seed: u64,
        purpose: Stream,
        make: impl Fn() -> Result<Box<dyn Env>, EnvError>,
    ) -> Result<Self, EnvError> {
        let copies = (0..n).map(|_| make()).collect::<Result<Vec<_>, _>>()?;
        let spec = copies.first().expect("at least one copy").spec().clone();
        Ok(Self {
            generators: (0..n).map(|i| item(seed, purpose, i as u64)).collect(),
            observations: vec![0.0; n * spec.observation],
            achieved: vec![0.0; n * spec.goal],
            desired: vec![0.0; n * spec.goal],
            copies,
            spec,
        })
    }

    /// What each of them is.
    pub fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    /// `N`, 1 or more.
    #[allow(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.copies.len()
    }

    /// Starts an episode with a goal of its own in each copy.
    ///
    /// # Errors
    /// An environment cannot be started.
    pub fn reset(&mut self) -> Result<(), EnvError> {
        (0..self.len()).try_for_each(|copy| self.reset_copy(copy, None))
    }

    /// Starts an episode in one copy, to a goal given, or drawn.
    ///
    /// # Errors
    /// The goal has the wrong length, or the environment cannot be started.
    ///
    /// # Panics
    /// There is no such copy.
    pub fn reset_copy(&mut self, copy: usize, goal: Option<&[f32]>) -> Result<(), EnvError> {
        let (env, rng) = (&mut self.copies[copy], &mut self.generators[copy]);
        let goal = goal.map_or_else(|| env.sample_goal(rng), <[f32]>::to_vec);
        env.reset(&goal, rng)?;
        self.sense(copy);
        Ok(())
    }

    /// One step of every copy, actions `[N, a]`.
    ///
    /// # Errors
    /// There are too few or too many numbers, or an environment refuses its action or failed.
    pub fn step(&mut self, actions: &[f32]) -> Result<(), EnvError> {
        let size = self.spec.actions.size();
        let (expected, found) = (self.len() * size, actions.len());
        if expected != found {
            return Err(EnvError::Action { expected, found });
        }
        for (copy, action) in actions.chunks_exact(size).enumerate() {
            self.copies[copy].step(action)?;
            self.sense(copy);
        }
        Ok(())
    }

    /// Observations now, `[N, o]`.
    pub fn observations(&self) -> &[f32] {
        &self.observations
    }
    /// Goals achieved now, `[N, g]`.
    pub fn achieved_goals(&self) -> &[f32] {
        &self.achieved
    }
    /// Goals wished for, `[N, g]`.
    pub fn desired_goals(&self) -> &[f32] {
        &self.desired
    }
    /// One copy: its reward, whether it ended, its expert, its picture.
    pub fn copy(&mut self, copy: usize) -> &mut dyn Env {
        self.copies[copy].as_mut()
    }
    /// Where the generators stand; what decides, with the episodes' states, how it goes on.
    pub fn generators_mut(&mut self) -> &mut [Rng] {
        &mut self.generators
    }

    fn sense(&mut self, copy: usize) {
        let env = &self.copies[copy];
        let rows = [
            (&mut self.observations, env.observation()),
            (&mut self.achieved, env.achieved_goal()),
            (&mut self.desired, env.desired_goal()),
        ];
        for (all, row) in rows {
            all[copy * row.len()..][..row.len()].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::named;
    use crate::rng::stream;
    use rand::RngExt as _;

    fn copies(n: usize, name: &str) -> Vectorised {
        Vectorised::new(n, 5, Stream::Attempts, || named(name)).unwrap()
    }

    #[test]
    fn each_copy_goes_its_own_way_however_many_others_there_are() {
        for name in crate::env::NAMES {
            let (mut many, mut few) = (copies(5, name), copies(2, name));
            let (o, g, a) = (many.spec().observation, many.spec().goal, many.spec().actions.size());
            many.reset().unwrap();
            few.reset().unwrap();
            let mut rng = stream(1, Stream::Exploration);
            for time in 0..20 {
                let actions: Vec<f32> = (0..5 * a).map(|_| rng.random()).collect();
                many.step(&actions).unwrap();
                few.step(&actions[..2 * a]).unwrap();
                if time == 10 {
                    many.reset_copy(4, None).unwrap();
                }
                assert_eq!(many.observations()[..2 * o], *few.observations());
                assert_eq!(many.achieved_goals()[..2 * g], *few.achieved_goals());
                assert_eq!(many.desired_goals()[..2 * g], *few.desired_goals());
            }
            assert!(g == 0 || many.desired_goals()[..g] != many.desired_goals()[g..2 * g]);
        }
    }

    #[test]
    fn rows_are_what_the_copies_say() {
        let mut envs = copies(3, "block_pusher");
        envs.reset_copy(1, Some(&[0.1, 0.2, 0.3, 0.4])).unwrap();
        envs.step(&[0.5, 0.0, 0.0, -1.0, 0.0, 0.0]).unwrap();
        assert_eq!(envs.desired_goals()[4..8], [0.1, 0.2, 0.3, 0.4]);
        let second = envs.copy(1).observation().to_vec();
        assert_eq!(envs.observations()[6..12], second);
        assert_eq!(envs.achieved_goals()[4..6], [0.0, -0.2]);
        assert_eq!(envs.len(), 3);
    }

    #[test]
    fn actions_of_other_than_all_copies_are_refused() {
        let error = copies(3, "four_rooms").step(&[0.0; 4]).unwrap_err();
        assert!(matches!(error, EnvError::Action { expected: 6, found: 4 }), "{error}");
    }
}
