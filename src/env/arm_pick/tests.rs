use super::*;
use crate::goal::reached;
use crate::rng::{Stream, item};

fn started(episode: u64) -> ArmPick {
    let mut env = ArmPick::shipped().unwrap();
    restart(&mut env, episode);
    env
}

fn restart(env: &mut ArmPick, episode: u64) {
    let mut rng = item(3, Stream::HeldOut, episode);
    let goal = env.sample_goal(&mut rng);
    env.reset(&goal, &mut rng).unwrap();
}

fn expert_step(env: &mut ArmPick) {
    let action = env.expert().unwrap();
    env.step(&action).unwrap();
}

/// Whether the expert brings the cube to its goal and keeps it there for half a second.
fn succeeds(env: &mut ArmPick) -> bool {
    let mut within = 0;
    for _ in 0..HORIZON {
        expert_step(env);
        let there = reached(&env.cube, &env.desired, env.spec.tolerance);
        within = if there { within + 1 } else { 0 };
        if within == 50 {
            return true;
        }
    }
    false
}

#[test]
fn the_expert_brings_the_cube_to_nearly_every_goal() {
    let mut env = ArmPick::shipped().unwrap();
    let (mut succeeded, mut on_table) = (0, 0);
    for episode in 0..100 {
        restart(&mut env, episode);
        on_table += usize::from(f64::from(env.desired[2]) < EDGE);
        succeeded += usize::from(succeeds(&mut env));
    }
    assert!(succeeded >= 96, "{succeeded} of 100");
    assert!((35..=65).contains(&on_table), "{on_table} goals of 100 on the table");
}

#[test]
fn an_episode_repeats_bit_by_bit_whatever_went_before() {
    let (mut fresh, mut used) = (started(7), started(8));
    (0..120).for_each(|_| expert_step(&mut used));
    restart(&mut used, 7);
    for _ in 0..160 {
        expert_step(&mut fresh);
        expert_step(&mut used);
        let bits = |env: &ArmPick| env.observation.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&fresh), bits(&used));
    }
}

#[test]
fn a_held_cube_keeps_the_jaws_apart_and_does_not_slip() {
    let mut env = started(2);
    assert!(succeeds(&mut env));
    let hold = |env: &mut ArmPick| (0..300).for_each(|_| env.step(&[0.0; 6]).unwrap());
    // The servos lag behind: what moves until they are where they were sent is no slip.
    hold(&mut env);
    let before = env.cube;
    hold(&mut env);
    let slipped = (point(&env.cube) - point(&before)).norm();
    assert!(slipped < 2e-3, "{slipped} m in 3 s");
    let (measured, sent) = (env.measured()[5], env.sent[5]);
    assert!(sent < world::CLOSED + 0.01 && measured > sent + 0.1, "{measured} {sent}");
}

#[test]
fn an_opened_hand_lets_the_cube_fall_onto_the_table() {
    let mut env = started(2);
    while env.cube[2] < 0.04 {
        expert_step(&mut env);
    }
    for _ in 0..100 {
        env.step(&[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]).unwrap();
    }
    assert!((f64::from(env.cube[2]) - 0.5 * EDGE).abs() < 1e-3, "{:?}", env.cube);
}

#[test]
fn the_table_stops_the_arm_and_lets_it_go_again() {
    let mut env = started(4);
    let lowest = |env: &ArmPick| env.bench.world().jaws()[0][1][2];
    for _ in 0..100 {
        env.step(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        assert!(lowest(&env) > -1e-3, "{}", lowest(&env));
    }
    let held_off = env.sent[1] - env.measured()[1];
    assert!(held_off > 0.1, "{held_off} rad");
    for _ in 0..100 {
        env.step(&[0.0, -1.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
    }
    assert!(lowest(&env) > 0.1 && (env.sent[1] - env.measured()[1]).abs() < 0.2);
}

#[test]
fn nothing_done_to_the_arm_breaks_the_world() {
    let mut rng = item(5, Stream::Exploration, 0);
    for episode in 0..5 {
        let mut env = started(episode);
        let mut action = [0.0; 6];
        for time in 0..HORIZON {
            if time % 25 == 0 {
                action = std::array::from_fn(|_| rng.random_range(-1.0..1.0));
            }
            env.step(&action).unwrap();
            assert!(env.observation.iter().all(|x| x.is_finite() && x.abs() < 10.0));
            assert!(f64::from(env.cube[2]) > 0.3 * EDGE, "{:?}", env.cube);
        }
    }
}

#[test]
fn a_robot_without_a_gripper_is_refused() {
    let mut robot = RobotConfig::parse(SHIPPED, Path::new("robot.toml")).unwrap();
    robot.joint.pop();
    assert!(matches!(ArmPick::new(&robot), Err(EnvError::NoGripper(joints)) if joints.len() == 5));
}
