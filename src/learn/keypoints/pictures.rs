//! What an expert sees and does.

use crate::env::Env;
use crate::learn::LearnError;
use crate::learn::rollout::{Noise, episode};
use crate::rng::Rng;

/// Pictures and what an expert did on seeing them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pictures {
    /// Pixels along a side.
    pub size: usize,
    /// `[n, size, size, 3]` in `0 ..= 1`, from the upper left.
    pub pixels: Vec<f32>,
    /// `[n, a]`.
    pub actions: Vec<f32>,
    /// Numbers in an action.
    pub action: usize,
}

impl Pictures {
    /// How many.
    pub fn len(&self) -> usize {
        self.actions.len() / self.action.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    /// Numbers in a picture.
    pub fn width(&self) -> usize {
        3 * self.size * self.size
    }

    /// A picture's numbers.
    pub fn picture(&self, i: usize) -> &[f32] {
        &self.pixels[i * self.width()..(i + 1) * self.width()]
    }

    pub(super) fn action(&self, i: usize) -> &[f32] {
        &self.actions[i * self.action..(i + 1) * self.action]
    }

    /// What an environment's expert sees and does in episodes towards goals that are drawn, `size`
    /// pixels wide; of each episode every `every`-th step is kept, for those beside it look alike.
    /// With noise it gets to states beside its way; what is kept is what it wanted there.
    ///
    /// # Errors
    /// The environment has no expert, or failed.
    pub fn watch(
        env: &mut dyn Env,
        (episodes, every): (usize, usize),
        size: usize,
        noise: Noise,
        rng: &mut Rng,
    ) -> Result<Self, LearnError> {
        let spec = env.spec().clone();
        let mut seen = Self { size, action: spec.actions.size(), ..Self::default() };
        for _ in 0..episodes {
            let (goal, mut t) = (env.sample_goal(rng), 0);
            episode(env, &goal, spec.goal > 0, rng, &mut |env, action, rng| {
                action.copy_from_slice(&env.expert()?);
                if t % every.max(1) == 0 {
                    seen.pixels.extend(env.scene().raster(size));
                    seen.actions.extend_from_slice(action);
                }
                t += 1;
                noise.disturb(spec.actions, action, rng);
                Ok(())
            })?;
        }
        Ok(seen)
    }

    /// The mean squared error, per number, of always answering the mean of the actions `range`.
    pub(super) fn variance(&self, range: std::ops::Range<usize>) -> f64 {
        let n = range.len().max(1) as f64;
        let mut sum = 0.0;
        for j in 0..self.action {
            let column = || range.clone().map(|i| f64::from(self.action(i)[j]));
            let mean = column().sum::<f64>() / n;
            sum += column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        }
        sum / self.action.max(1) as f64
    }
}
