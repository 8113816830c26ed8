//! Bit flipping (Andrychowicz et al. 2017, section 3.1): the smallest task that shows why a learner
//! needs hindsight. With random actions one of 2^n goals is all but never reached.
//!
//! Observation `[n]` and goal `[n]`: bits, 0 or 1. Action: the index of the bit that is flipped.
//! Start and goal are drawn uniformly; n steps; reached when all bits are right.

use rand::RngExt as _;

use super::{ActionSpace, Colour, Ends, Env, EnvError, EnvSpec, Scene, check_action, check_goal};
use crate::rng::Rng;

/// The environment.
#[derive(Debug, Clone)]
pub struct BitFlip {
    bits: Vec<f32>,
    desired: Vec<f32>,
    spec: EnvSpec,
}

impl Default for BitFlip {
    /// 15 bits.
    fn default() -> Self {
        Self::new(15)
    }
}

impl BitFlip {
    /// The environment with this many bits, all of them 0.
    pub fn new(bits: usize) -> Self {
        let spec = EnvSpec {
            name: "bit_flip",
            observation: bits,
            goal: bits,
            actions: ActionSpace::Discrete { choices: bits },
            horizon: bits,
            // One wrong bit is a distance of 1.
            tolerance: 0.5,
            ends: Ends::Success,
        };
        Self { bits: vec![0.0; bits], desired: vec![0.0; bits], spec }
    }

    /// The environment of a name such as `bit_flip_8`: 1 to 64 bits.
    pub(super) fn named(name: &str) -> Option<Self> {
        let bits = name.strip_prefix("bit_flip_")?.parse().ok()?;
        (1..=64).contains(&bits).then(|| Self::new(bits))
    }

    fn draw(&self, rng: &mut Rng) -> Vec<f32> {
        self.bits.iter().map(|_| f32::from(rng.random::<bool>())).collect()
    }
}

impl Env for BitFlip {
    fn spec(&self) -> &EnvSpec {
        &self.spec
    }
    fn sample_goal(&self, rng: &mut Rng) -> Vec<f32> {
        self.draw(rng)
    }

    fn reset(&mut self, goal: &[f32], rng: &mut Rng) -> Result<(), EnvError> {
        check_goal(&self.spec, goal)?;
        self.desired.copy_from_slice(goal);
        self.bits = self.draw(rng);
        Ok(())
    }

    fn step(&mut self, action: &[f32]) -> Result<(), EnvError> {
        check_action(&self.spec, action)?;
        let bit = &mut self.bits[action[0] as usize];
        *bit = 1.0 - *bit;
        Ok(())
    }

    fn observation(&self) -> &[f32] {
        &self.bits
    }
    fn achieved_goal(&self) -> &[f32] {
        &self.bits
    }
    fn desired_goal(&self) -> &[f32] {
        &self.desired
    }

    /// Flips the first wrong bit; the first bit where none is wrong, as something must be flipped.
    fn expert(&mut self) -> Result<Vec<f32>, EnvError> {
        let wrong = self.bits.iter().zip(&self.desired).position(|(bit, wished)| bit != wished);
        Ok(vec![wrong.unwrap_or(0) as f32])
    }

    /// The bits in a row over those wished for: dark where set, a dot in between where right.
    fn scene(&self) -> Scene {
        let mut scene = Scene::new([0.0, 0.0], [self.bits.len() as f32, 3.0]);
        for (i, (bit, wished)) in self.bits.iter().zip(&self.desired).enumerate() {
            let x = i as f32 + 0.5;
            for (y, bit) in [(2.5, *bit), (0.5, *wished)] {
                let fill = if bit > 0.5 { Colour::WALL } else { Colour::FAINT };
                scene.square([x, y], 0.9, fill);
            }
            if bit == wished {
                scene.circle([x, 1.5], 0.2, Colour::GOAL);
            }
        }
        scene
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Stream, stream};

    #[test]
    fn only_all_bits_right_is_rewarded_and_the_expert_gets_there_in_time() {
        for seed in 0..50 {
            let mut rng = stream(seed, Stream::Attempts);
            let mut env = BitFlip::default();
            let goal = env.sample_goal(&mut rng);
            env.reset(&goal, &mut rng).unwrap();
            let wrong = env.bits.iter().zip(&goal).filter(|(a, b)| a != b).count();
            for left in (0..wrong).rev() {
                let action = env.expert().unwrap();
                env.step(&action).unwrap();
                assert_eq!(env.reward(), if left == 0 { 1.0 } else { 0.0 });
            }
            assert!(wrong <= env.spec().horizon);
        }
    }

    #[test]
    fn flipping_twice_changes_nothing() {
        let (mut env, mut rng) = (BitFlip::new(6), stream(1, Stream::Attempts));
        env.reset(&[0.0; 6], &mut rng).unwrap();
        let before = env.bits.clone();
        env.step(&[5.0]).unwrap();
        assert_ne!(env.bits, before);
        env.step(&[5.0]).unwrap();
        assert_eq!(env.bits, before);
    }

    #[test]
    fn a_bit_that_is_not_there_is_refused() {
        let mut env = BitFlip::new(3);
        for action in [&[3.0][..], &[-1.0], &[f32::NAN], &[], &[0.0, 1.0]] {
            assert!(matches!(env.step(action), Err(EnvError::Action { .. })), "{action:?}");
        }
    }
}
