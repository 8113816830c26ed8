//! The easiest task that is continuous: a point goes to a place in a square.

use rand::RngExt as _;
use regoal::env::{ActionSpace, Ends, Env, EnvError, EnvSpec};
use regoal::rng::Rng;

/// Observation and goal `[2]`: a place in the square of side 2. Action `[2]` in `-2 ..= 2`: a way of
/// a tenth of it. 20 steps, reached within 0.15.
pub struct Point {
    spec: EnvSpec,
    place: [f32; 2],
    goal: [f32; 2],
}

impl Point {
    pub fn new() -> Self {
        let spec = EnvSpec {
            name: "point",
            observation: 2,
            goal: 2,
            actions: ActionSpace::Continuous { size: 2, limit: 2.0 },
            horizon: 20,
            tolerance: 0.15,
            ends: Ends::Never,
        };
        Self { spec, place: [0.0; 2], goal: [0.0; 2] }
    }

    fn draw(rng: &mut Rng) -> [f32; 2] {
        std::array::from_fn(|_| rng.random_range(-1.0..1.0))
    }
}

impl Env for Point {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }

    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        Self::draw(rng).to_vec()
    }

    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        self.goal.copy_from_slice(goal);
        self.place = Self::draw(rng);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        for (x, a) in self.place.iter_mut().zip(action) {
            *x = (*x + 0.1 * a.clamp(-2.0, 2.0)).clamp(-1.0, 1.0);
        }
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.place
    }

    fn achieved_goal(&self) -> &[f32] {
        &self.place
    }

    fn desired_goal(&self) -> &[f32] {
        &self.goal
    }
}
