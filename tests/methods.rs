//! The methods that learn by themselves: each reaches what it should, the same seed gives the same
//! policy, and a training that was broken off goes on bit for bit.

#[path = "methods/point.rs"]
mod point;

use point::Point;
use regoal::engine::Engine;
use regoal::env::{Env, named};
use regoal::learn::LearnError;
use regoal::learn::checkpoint::Checkpoint;
use regoal::learn::evaluate::{self, Trials};
use regoal::learn::learner::Learner;
use regoal::learn::methods::{self, METHODS};
use regoal::learn::rollout::{Actor, Noise};
use regoal::learn::settings;

/// A learner with these settings: a preset's, where one is named, below a TOML text.
fn learner(
    [method, preset]: [&str; 2],
    text: &str,
    env: Box<dyn Env>,
    seed: u64,
) -> Result<Box<dyn Learner>, LearnError> {
    let method = methods::named(method).unwrap();
    let mut layers = Vec::new();
    if !preset.is_empty() {
        layers.push((preset.to_owned(), method.preset(preset).unwrap()));
    }
    layers.push(("test".to_owned(), settings::read(text, "test").unwrap()));
    (method.build)(method.settings(layers).unwrap(), env, &Engine::tract(), seed)
}

/// Learns for so many steps in the environment.
fn learn(learner: &mut dyn Learner, steps: u64) {
    while learner.env_steps() < steps {
        learner.iterate().unwrap();
    }
}

/// What a learner's policy reaches on `count` of the environment's goals, evenly spread.
fn trials(learner: &dyn Learner, env: &mut dyn Env, count: usize) -> Trials {
    let policy = learner.policy().unwrap();
    let mut actor = Actor::new(&Engine::tract(), &policy, env.spec().actions).unwrap();
    let all = evaluate::goals(env, count, 0);
    let goals: Vec<_> = (0..count).map(|i| all[i * all.len() / count].clone()).collect();
    evaluate::run(env, &mut actor, &goals, Noise::default(), 0).unwrap()
}

fn success(learner: &dyn Learner, env: &mut dyn Env, count: usize) -> f64 {
    trials(learner, env, count).any.value()
}

/// Success in the square after so many steps, and before.
fn point(text: &str, steps: u64) -> [f64; 2] {
    let mut learner = learner(["her", ""], text, Box::new(Point::new()), 0).unwrap();
    let before = success(learner.as_ref(), &mut Point::new(), 200);
    learn(learner.as_mut(), steps);
    [success(learner.as_ref(), &mut Point::new(), 200), before]
}

/// A saturated tanh keeps an actor that climbs its critic where it is; the square of the action frees
/// it.
const SMALL_HER: &str = "
    her.batch = 64
    her.updates_per_step = 1.0
    her.iteration = 500
    her.tau = 0.02
    learner.ddpg.action_l2 = 0.05
    learner.ddpg.hidden = [64, 64]
    learner.ddpg.actor_lr = 1e-3
    learner.ddpg.critic_lr = 1e-3
    learner.sac.hidden = [64, 64]
    learner.gamma = 0.95
";

#[test]
fn every_continuous_learner_reaches_under_hindsight() {
    for (kind, wanted) in [("ddpg", 0.7), ("td3", 0.7), ("sac", 0.9)] {
        let text = format!("{SMALL_HER}\nlearner.kind = '{kind}'");
        let [after, before] = point(&text, 2500);
        println!("{kind}: {before} before, {after} after");
        assert!(after > wanted && before < 0.15, "{kind}: {before} before, {after} after");
    }
}

#[test]
fn every_strategy_of_hindsight_learns() {
    let strategies =
        ["'future'", "'final'", "'episode'", "'random'", "{ geometric = { gamma = 0.8 } }"];
    for strategy in strategies {
        let text = format!("{SMALL_HER}\nlearner.kind = 'sac'\nher.strategy = {strategy}");
        let [after, before] = point(&text, 2000);
        println!("{strategy}: {before} before, {after} after");
        assert!(after > 0.6 && before < 0.15, "{strategy}: {before} before, {after} after");
    }
}

#[test]
fn fifteen_bits_are_solved_with_hindsight_and_not_without() {
    let solved = |preset: &str| {
        let mut env = named("bit_flip").unwrap();
        let mut learner = learner(["her", preset], "", named("bit_flip").unwrap(), 0).unwrap();
        learn(learner.as_mut(), 42_000);
        success(learner.as_ref(), env.as_mut(), 200)
    };
    let (with, without) = (solved("bits"), solved("bits-no-hindsight"));
    assert!(with > 0.9 && without < 0.1, "{with} with hindsight, {without} without");
}

const SMALL_GOAL_GAIL: &str = "
    her.batch = 128
    her.updates_per_step = 0.3
    her.iteration = 1500
    expert_batch = 48
    learner.ddpg.hidden = [64, 64]
    learner.ddpg.actor_lr = 1e-3
    learner.ddpg.critic_lr = 1e-3
    discriminator.hidden = [64]
    discriminator.batch = 64
    discriminator.gradient_penalty = 1.0
    her.tau = 0.02
";

#[test]
fn goal_gail_learns_four_rooms_from_actions_and_from_states_alone() {
    // Without hindsight it takes longer.
    for (what, steps) in [
        ("sees = 'action'", 20_000),
        ("sees = 'next_state'", 20_000),
        ("her.relabel = 0.0", 40_000),
    ] {
        let text = format!("{SMALL_GOAL_GAIL}\n{what}");
        let mut env = named("four_rooms").unwrap();
        let mut learner =
            learner(["goalgail", ""], &text, named("four_rooms").unwrap(), 0).unwrap();
        let chance = success(learner.as_ref(), env.as_mut(), 122);
        learn(learner.as_mut(), steps);
        let found = success(learner.as_ref(), env.as_mut(), 122);
        println!("{what}: {chance} before, {found} after");
        assert!(found > 2.5 * chance && found > 0.08, "{what}: {chance} before, {found} after");
    }
}

/// Environments and settings with which a method takes a moment.
fn quick(method: &str) -> Vec<(&'static str, String)> {
    const CLONE: &str = "hidden = [8]\nbatch = 16\nsteps = 60\niteration = 10\nvalidation = 0.3";
    const ADVERSARIAL: &str = "
        hidden = [8]
        steps = 60
        epochs = 2
        minibatch = 32
        discriminator = { hidden = [8], batch = 16 }
        discriminator_updates = 2";
    const HINDSIGHT: &str = "
        her = { batch = 16, updates_per_step = 0.1, iteration = 50 }
        learner.ddpg.hidden = [8]
        learner.sac.hidden = [8]
        learner.dqn.hidden = [8]";
    const IMITATION: &str = "
        expert_batch = 8
        discriminator = { hidden = [8], batch = 16 }
        demonstrations.episodes = 3
        delta = 0.9
        anneal = 0.7";
    let with = |text: &str, more: &str| format!("{text}\n{more}");
    let kind = |kind: &str| format!("{HINDSIGHT}\nlearner.kind = '{kind}'");
    match method {
        "bc" | "gcbc" => vec![("four_rooms", CLONE.into())],
        "gail" => vec![
            ("cart_pole", ADVERSARIAL.into()),
            ("four_rooms", with(ADVERSARIAL, "gradient = 'reinforce'")),
        ],
        "her" => vec![
            ("four_rooms", kind("ddpg")),
            ("four_rooms", kind("td3")),
            ("four_rooms", with(&kind("sac"), "learner.sac.soft = true")),
            ("bit_flip", kind("dqn")),
        ],
        "goalgail" => vec![
            ("four_rooms", with(&kind("ddpg"), IMITATION)),
            ("block_pusher", with(&kind("sac"), &with(IMITATION, "sees = 'next_state'"))),
            ("bit_flip", with(&kind("dqn"), IMITATION)),
        ],
        other => panic!("{other}: say what makes it quick"),
    }
}

/// The exported policy and all that decides how it goes on.
fn state(learner: &dyn Learner) -> (Vec<u8>, Checkpoint) {
    (learner.policy().unwrap().to_bytes(), learner.save().unwrap())
}

#[test]
fn a_training_that_was_broken_off_goes_on_bit_for_bit_and_a_seed_decides_it() {
    for (method, env, text) in METHODS.iter().flat_map(|method| {
        quick(method.name).into_iter().map(move |(env, text)| (method.name, env, text))
    }) {
        let after = |seed: u64, iterations: u32, from: Option<&Checkpoint>| {
            let mut learner = learner([method, ""], &text, named(env).unwrap(), seed).unwrap();
            from.iter().for_each(|kept| learner.restore(kept).unwrap());
            (0..iterations).for_each(|_| assert!(!learner.iterate().unwrap().is_empty()));
            state(learner.as_ref())
        };
        let (unbroken, half) = (after(3, 4, None), after(3, 2, None));
        let kept = Checkpoint::from_bytes(&half.1.to_bytes()).unwrap();
        assert!(after(3, 2, Some(&kept)) == unbroken, "{method} in {env}, resumed");
        assert!(after(3, 2, None) == half, "{method} in {env}, the same seed twice");
        assert!(after(4, 2, None).0 != half.0, "{method} in {env}, another seed");
        assert!(half.0 != unbroken.0, "{method} in {env} learns");
    }
}

#[test]
fn a_checkpoint_of_other_sizes_is_refused() {
    let with = |hidden: &str| {
        let text = format!("her.iteration = 50\nlearner.ddpg.hidden = {hidden}");
        learner(["her", ""], &text, named("four_rooms").unwrap(), 0).unwrap()
    };
    let kept = with("[8]").save().unwrap();
    assert!(with("[16]").restore(&kept).is_err());
    assert!(with("[8]").restore(&kept).is_ok());
}

#[test]
fn what_does_not_fit_an_environment_is_refused() {
    for (method, kind, env) in [
        ("her", "dqn", "cart_pole"),
        ("goalgail", "dqn", "cart_pole"),
        ("her", "ddpg", "bit_flip"),
        ("her", "sac", "bit_flip"),
        ("her", "dqn", "four_rooms"),
    ] {
        let text = format!("learner.kind = '{kind}'");
        let refused = learner([method, ""], &text, named(env).unwrap(), 0).err();
        assert!(matches!(refused, Some(LearnError::Unfit { .. })), "{method} {kind} {env}");
    }
}

#[test]
fn without_goals_nothing_is_a_success() {
    let mut env = named("cart_pole").unwrap();
    let text = &quick("gail")[0].1;
    let learner = learner(["gail", ""], text, named("cart_pole").unwrap(), 0).unwrap();
    let found = trials(learner.as_ref(), env.as_mut(), 3);
    assert_eq!(
        [found.any, found.last, found.held].map(|rate| (rate.successes, rate.n)),
        [(0, 3); 3]
    );
    assert!(found.mean_return > 0.0);
}
