use super::*;
use crate::goal::reached;
use crate::rng::{Stream, item};

/// Runs the expert; the cube's path (m).
fn expert_episode(env: &mut ArmPick, episode: u64) -> Vec<[f32; 3]> {
    let mut rng = item(3, Stream::HeldOut, episode);
    let goal = env.sample_goal(&mut rng);
    env.reset(&goal, &mut rng).unwrap();
    (0..env.spec.horizon)
        .map(|_| {
            let action = env.expert().unwrap();
            env.step(&action).unwrap();
            env.cube
        })
        .collect()
}

#[test]
fn explore() {
    let mut env = ArmPick::shipped().unwrap();
    let n: u64 = std::env::var("N").map_or(20, |n| n.parse().unwrap());
    let start = std::time::Instant::now();
    let mut good = 0;
    for episode in 0..n {
        let path = expert_episode(&mut env, episode);
        let first = path.iter().position(|c| reached(c, &env.desired, 0.02));
        let last = reached(path.last().unwrap(), &env.desired, 0.02);
        let goal = env.desired.clone();
        good += usize::from(last);
        println!(
            "{episode}: first {first:?} last {last} goal {goal:.3?} start {:.3?} end {:.3?} grip {:.2}",
            path[0],
            path.last().unwrap(),
            env.measured()[5]
        );
        if std::env::var("TRACE").is_ok_and(|t| t == episode.to_string()) {
            let mut rng = item(3, Stream::HeldOut, episode);
            let goal = env.sample_goal(&mut rng);
            env.reset(&goal, &mut rng).unwrap();
            for t in 0..400 {
                let action = env.expert().unwrap();
                env.step(&action).unwrap();
                if t % 8 == 0 {
                    let at = (env.chain.hand(&env.measured())
                        * nalgebra::Point3::from(world::grasp()))
                    .coords;
                    println!(
                        "{t}: cube {:.4?} grasp {:.4?} sent {:.3?} grip {:.3}",
                        env.cube,
                        at.as_slice(),
                        env.sent.as_slice(),
                        env.measured()[5]
                    );
                }
            }
        }
    }
    println!(
        "{good} of {n}, {:.1} us/step",
        start.elapsed().as_secs_f64() * 1e6 / (n as f64 * 400.0)
    );
}
