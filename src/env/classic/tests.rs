use serde::Deserialize;

use super::{Acrobot, CartPole, Classic, Env, MountainCar, System};
use crate::rng::{Stream, item, stream};

#[derive(Deserialize)]
struct Reference {
    episodes: Vec<Episode>,
}

#[derive(Deserialize)]
struct Episode {
    env: String,
    start: Vec<f64>,
    steps: Vec<Step>,
    /// After the last step.
    observation: Vec<f32>,
}

#[derive(Deserialize)]
struct Step {
    action: usize,
    state: Vec<f64>,
    reward: f32,
    ended: bool,
}

/// The largest difference between a whole motion and its reference.
fn difference<S: System<State = [f64; N]>, const N: usize>(reference: &Episode) -> f64 {
    let mut env = Classic::<S>::at(reference.start.clone().try_into().unwrap());
    let mut largest = 0f64;
    for step in &reference.steps {
        env.step(&[step.action as f32]).unwrap();
        assert_eq!((env.reward(), env.ended()), (step.reward, step.ended));
        largest =
            env.state.iter().zip(&step.state).map(|(a, b)| (a - b).abs()).fold(largest, f64::max);
    }
    let observed = env.observation().iter().zip(&reference.observation);
    assert!(observed.clone().all(|(a, b)| (a - b).abs() < 1e-5) && observed.len() > 0);
    largest
}

#[test]
fn motions_rewards_and_ends_are_those_of_gymnasium() {
    let text = include_str!("../../../tests/data/classic.json");
    let reference: Reference = serde_json::from_str(text).unwrap();
    assert_eq!(reference.episodes.len(), 8);
    for episode in &reference.episodes {
        let difference = match episode.env.as_str() {
            "cart_pole" => difference::<CartPole, 4>(episode),
            "mountain_car" => difference::<MountainCar, 2>(episode),
            "acrobot" => difference::<Acrobot, 4>(episode),
            other => panic!("{other}"),
        };
        assert!(difference < 1e-6, "{} from {:?}: {difference}", episode.env, episode.start);
    }
}

/// The expert's mean return over 100 seeded starts.
fn expert<S: System>() -> f64 {
    let mut env = Classic::<S>::default();
    let episode = |i| {
        env.reset(&[], &mut item(1, Stream::HeldOut, i)).unwrap();
        let mut sum = 0.0;
        for _ in 0..S::SPEC.horizon {
            let action = env.expert().unwrap();
            env.step(&action).unwrap();
            sum += f64::from(env.reward());
            if env.ended() {
                break;
            }
        }
        sum
    };
    (0..100).map(episode).sum::<f64>() / 100.0
}

#[test]
fn every_expert_is_at_least_as_good_as_that_of_the_gail_paper() {
    assert_eq!(expert::<CartPole>(), 200.0);
    let (mountain_car, acrobot) = (expert::<MountainCar>(), expert::<Acrobot>());
    println!("cart_pole 200, mountain_car {mountain_car}, acrobot {acrobot}");
    assert!(mountain_car > -98.8, "{mountain_car}");
    assert!(acrobot > -75.2, "{acrobot}");
}

/// The number of pixels that two states' pictures differ in, of 32 x 32.
fn repainted<S: System>(a: S::State, b: S::State) -> usize {
    let [a, b] = [a, b].map(|state| Classic::<S>::at(state).scene().raster(32));
    a.chunks(3).zip(b.chunks(3)).filter(|(a, b)| a != b).count()
}

#[test]
fn what_moves_is_seen_to_move() {
    assert!(repainted::<CartPole>([0.0; 4], [0.5, 0.0, 0.0, 0.0]) > 10);
    assert!(repainted::<CartPole>([0.0; 4], [0.0, 0.0, 0.2, 0.0]) > 3);
    assert!(repainted::<MountainCar>([-0.5, 0.0], [0.0, 0.0]) > 3);
    assert!(repainted::<Acrobot>([0.0; 4], [0.5, 0.0, 0.0, 0.0]) > 10);
    assert!(repainted::<Acrobot>([0.0; 4], [0.0, 1.0, 0.0, 0.0]) > 10);
    assert_eq!(repainted::<Acrobot>([0.5, 1.0, 0.0, 0.0], [0.5, 1.0, 3.0, 3.0]), 0);
}

#[test]
fn a_goal_or_an_action_that_does_not_fit_is_an_error() {
    let mut rng = stream(1, Stream::HeldOut);
    let mut env = Classic::<CartPole>::default();
    assert!(env.reset(&[0.5], &mut rng).is_err());
    for action in [&[][..], &[2.0], &[-1.0], &[f32::NAN], &[0.0, 1.0]] {
        assert!(env.step(action).is_err(), "{action:?}");
    }
}
