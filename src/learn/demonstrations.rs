//! Demonstrations by an environment's scripted expert.

use super::LearnError;
use super::rollout::{Noise, episode};
use crate::env::Env;
use crate::goal::Trajectory;
use crate::rng::Rng;

/// Episodes of the expert towards goals that the environment draws, each cut where its goal is
/// reached: what an expert does at a goal says nothing about the way there. Disturbed actions are
/// kept as they were taken, so noise makes a sub-optimal expert.
///
/// # Errors
/// The environment has no expert, or failed.
pub fn collect(
    env: &mut dyn Env,
    episodes: usize,
    noise: Noise,
    rng: &mut Rng,
) -> Result<Vec<Trajectory>, LearnError> {
    let spec = env.spec().clone();
    let mut act = |env: &mut dyn Env, action: &mut [f32], rng: &mut Rng| {
        action.copy_from_slice(&env.expert()?);
        noise.disturb(spec.actions, action, rng);
        Ok(())
    };
    let mut one = || {
        let goal = env.sample_goal(rng);
        episode(env, &goal, spec.goal > 0, rng, &mut act)
    };
    (0..episodes).map(|_| one()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::FourRooms;
    use crate::goal::reached;
    use crate::rng::{Stream, stream};

    fn shown(noise: Noise) -> Vec<Trajectory> {
        let mut rng = stream(4, Stream::Demonstrations);
        collect(&mut FourRooms::new(), 10, noise, &mut rng).unwrap()
    }

    #[test]
    fn a_demonstration_ends_where_its_goal_is_reached_and_not_before() {
        for shown in shown(Noise::default()) {
            let at = |t: usize| reached(shown.achieved_goal(t), shown.desired_goal(), 1.0);
            assert!(at(shown.last()) && (1..shown.last()).all(|t| !at(t)));
        }
    }

    #[test]
    fn a_noisy_expert_takes_longer() {
        let steps = |noise| shown(noise).iter().map(Trajectory::last).sum::<usize>();
        let (clean, noisy) = (steps(Noise::default()), steps(Noise { gaussian: 0.3, random: 0.3 }));
        assert!(noisy as f64 > 1.2 * clean as f64, "{noisy} for {clean}");
    }
}
