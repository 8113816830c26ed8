use super::*;
use crate::env::{BitFlip, named};
use crate::learn::off_policy::DdpgSettings;

/// Small enough for a moment.
fn small() -> GoalGailSettings {
    let ddpg = DdpgSettings { hidden: vec![16], ..DdpgSettings::default() };
    GoalGailSettings {
        her: HerSettings {
            batch: 64,
            updates_per_step: 0.05,
            iteration: 600,
            ..Default::default()
        },
        learner: OffPolicySettings { ddpg, ..OffPolicySettings::default() },
        discriminator: DiscriminatorSettings { hidden: vec![32], batch: 64, ..Default::default() },
        demonstrations: DemonstrationSettings { episodes: 4, ..Default::default() },
        expert_batch: 64,
        ..GoalGailSettings::default()
    }
}

fn learner(settings: &GoalGailSettings) -> GoalGail {
    GoalGail::new(&Engine::tract(), settings, named("four_rooms").unwrap(), 1).unwrap()
}

/// After a rollout: a batch of agent and expert, and its rewards.
fn judged(learner: &mut GoalGail) -> Transitions {
    learner.draw();
    learner.reward().unwrap();
    assert_eq!((learner.batch.len(), learner.rewards.len()), (128, 128));
    learner.batch.clone()
}

/// Two rows of an environment of two numbers, with goals of two and actions of `actions`.
fn rows(actions: &[f32]) -> Transitions {
    Transitions {
        observation: vec![1.0, 2.0, 3.0, 4.0],
        next_observation: vec![1.5, 2.0, 3.0, 3.0],
        goal: vec![7.0, 8.0, 9.0, 10.0],
        action: actions.to_vec(),
        success: vec![0.0; 2],
        achieved_goal: vec![0.0; 4],
        next_achieved_goal: vec![0.0; 4],
        demonstrated: vec![0.0; 2],
    }
}

#[test]
fn the_discriminator_sees_state_and_goal_and_what_was_asked_for() {
    let (env, mut rng) = (named("four_rooms").unwrap(), stream(1, Stream::Training));
    let batch = rows(&[0.1, 0.2, 0.3, 0.4]);
    let mut seen = |sees: Sees| {
        assert_eq!(sees.size(env.spec()), 6);
        sees.rows(&batch, env.spec(), 0.0, &mut rng)
    };
    let row = |a: [f32; 2], b: [f32; 2]| {
        [&[1.0, 2.0, 7.0, 8.0][..], &a, &[3.0, 4.0, 9.0, 10.0], &b].concat()
    };
    assert_eq!(seen(Sees::Action), row([0.1, 0.2], [0.3, 0.4]));
    assert_eq!(seen(Sees::NextState), row([1.5, 2.0], [3.0, 3.0]));
    assert_eq!(seen(Sees::Motion), row([0.5, 0.0], [0.0, -1.0]));
}

#[test]
fn noise_falls_on_actions_alone_and_choices_are_seen_one_hot() {
    let (rooms, bits) = (named("four_rooms").unwrap(), BitFlip::new(2));
    let mut rng = stream(2, Stream::Training);
    let noisy = Sees::Action.rows(&rows(&[0.1, 0.2, 1.0, 0.4]), rooms.spec(), 0.15, &mut rng);
    assert_eq!(
        (&noisy[..4], &noisy[6..10]),
        (&[1.0, 2.0, 7.0, 8.0][..], &[3.0, 4.0, 9.0, 10.0][..])
    );
    assert!(noisy[4] != 0.1 && noisy[10] <= 1.0, "{noisy:?}");
    let chosen = Sees::Action.rows(&rows(&[1.0, 0.0]), bits.spec(), 0.15, &mut rng);
    assert_eq!(Sees::Action.size(bits.spec()), 6);
    assert_eq!((&chosen[4..6], &chosen[10..12]), (&[0.0, 1.0][..], &[1.0, 0.0][..]));
}

#[test]
fn bounds_hold_the_returns_of_every_reward() {
    let returns = |reward, delta| {
        GoalGailSettings { reward, delta, ..GoalGailSettings::default() }.returns(0.9)
    };
    use ImitationReward as R;
    // 0.1 * 18.4 a step, ten steps long.
    let near = |found: Returns, low: f32, high: f32| {
        assert!((found.low - low).abs() < 1e-3 && (found.high - high).abs() < 1e-3, "{found:?}");
    };
    near(returns(R::LogD, 1.0), -18.4, 0.0);
    near(returns(R::LogD, 0.5), -9.2, 1.0);
    near(returns(R::LogD, 0.0), 0.0, 1.0);
    near(returns(R::MinusLogOneMinusD, 1.0), 0.0, 18.4);
    near(returns(R::Logit, 0.5), -9.2, 10.2);
}

/// The sign test: an agent that gained by looking unlike the expert would learn the opposite.
#[test]
fn expert_rows_earn_more_than_agent_rows_after_training() {
    for sees in [Sees::Action, Sees::Motion] {
        let mut settings = GoalGailSettings { sees, discriminator_updates: 4.0, ..small() };
        settings.discriminator.gradient_penalty = 1.0;
        let mut learner = learner(&settings);
        (0..3).for_each(|_| assert!(!learner.iterate().unwrap().is_empty()));
        let batch = judged(&mut learner);
        let mean = |side: f32| {
            let of_side = learner.rewards.iter().zip(&batch.demonstrated);
            let rewards: Vec<f32> = of_side.filter(|(_, d)| **d == side).map(|(r, _)| *r).collect();
            rewards.iter().sum::<f32>() / rewards.len() as f32
        };
        let (expert, agent) = (mean(1.0), mean(0.0));
        assert!(expert > agent + 0.01, "{sees:?}: expert {expert}, agent {agent}");
        assert!(learner.rewards.iter().all(|r| *r <= 0.0), "log D");
    }
}

#[test]
fn the_reward_is_delta_of_the_discriminator_and_the_rest_of_the_goal() {
    let settings = GoalGailSettings { delta: 0.25, scale: 2.0, sees: Sees::NextState, ..small() };
    let mut learner = learner(&settings);
    learner.her.collect().unwrap();
    let batch = judged(&mut learner);
    let spec = learner.her.env.spec();
    let rows = settings.sees.rows(&batch, spec, 0.0, &mut stream(0, Stream::Training));
    let mut logits = Vec::new();
    learner.discriminator.as_mut().unwrap().logits(&rows, &mut logits).unwrap();
    assert!(batch.success.contains(&1.0));
    for ((reward, z), success) in learner.rewards.iter().zip(logits).zip(&batch.success) {
        let log_d = -(1.0 + (-z).exp()).ln();
        assert!((reward - (0.75 * success + 0.25 * 2.0 * log_d)).abs() < 1e-5);
    }
}

#[test]
fn delta_is_annealed_by_the_steps_in_the_environment() {
    let mut learner = learner(&GoalGailSettings { delta: 0.8, anneal: 0.5, ..small() });
    for _ in 0..2 {
        let figures = learner.iterate().unwrap();
        let expected = 0.8 * 0.5f64.powf(learner.env_steps() as f64 / 1000.0);
        let found = figures.iter().find(|(name, _)| *name == "delta").unwrap().1;
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}

#[test]
fn goal_gail_keeps_the_goals_of_the_agent_and_hindsight_changes_them() {
    let kept = |relabel: f64| {
        let mut settings = GoalGailSettings { relabel_expert: 0.0, ..small() };
        settings.her.relabel = relabel;
        let mut learner = learner(&settings);
        learner.iterate().unwrap();
        let batch = judged(&mut learner);
        let wished = |goal: &[f32], of: &ReplayBuffer| {
            of.trajectories().any(|episode| episode.desired_goal() == goal)
        };
        let (agent, expert) = batch.goal.split_at(2 * settings.her.batch);
        assert!(expert.chunks(2).all(|goal| wished(goal, &learner.demonstrations)));
        let agent = agent.chunks(2).filter(|goal| wished(goal, &learner.her.replay)).count();
        agent as f64 / settings.her.batch as f64
    };
    assert_eq!(kept(0.0), 1.0);
    assert!((0.05..0.45).contains(&kept(0.8)));
}

#[test]
fn without_demonstrations_it_is_hindsight_experience_replay() {
    let mut settings = small();
    settings.demonstrations.episodes = 0;
    let mut learner = learner(&settings);
    assert_eq!((learner.delta, learner.discriminator.is_none()), (0.0, true));
    learner.iterate().unwrap();
    learner.draw();
    learner.reward().unwrap();
    let batch = &learner.batch;
    assert_eq!((batch.len(), &learner.rewards), (settings.her.batch, &batch.success));
    assert!(batch.success.contains(&1.0));
}
