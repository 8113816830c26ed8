//! Learning from logged episodes, the environment and the store.

use std::path::Path;

use regoal::config::RobotConfig;
use regoal::engine::Engine;
use regoal::env::{ArmReach, Env as _};
use regoal::episode::{Episode, Source, Split, list};
use regoal::goal::reached;
use regoal::learn::finetune::{Experience, finetune};
use regoal::learn::gcbc::Gcbc;
use regoal::learn::{Rule, Schedule};
use regoal::onnx::{Builder, Dim, Tensor, Verified, splice, splice_metadata};
use regoal::policy::{
    Chunk, ChunkMode, METADATA_KEY, ObservationTerm, Policy, PolicyError, PolicySpec, Tensors,
    id_of, with_spec,
};
use regoal::rng::{Stream, item, normal, stream};
use regoal::storage::Disk;

const POLICY: &str = "models/reach/policy.onnx";

fn robot() -> RobotConfig {
    RobotConfig::load(&Disk, Path::new("firmware-config/emulated.toml")).unwrap()
}

fn policy() -> (Vec<u8>, PolicySpec) {
    let file = std::fs::read(POLICY).unwrap();
    let spec = PolicySpec::of(&Verified::from_bytes(&file).unwrap()).unwrap();
    (file, spec)
}

fn demonstrations() -> Vec<Episode> {
    let listed = list(&Disk, Path::new("models/reach/demonstrations")).unwrap();
    listed.iter().map(|s| Episode::read(&Disk, &s.path).unwrap()).collect()
}

#[test]
fn a_folder_read_by_all_processors_gives_its_episodes_in_their_order() {
    let (_, spec) = policy();
    let loaded = Experience::load(&Disk, &["models/reach/demonstrations".into()], &spec).unwrap();
    let read = Experience::of(&demonstrations(), &spec).unwrap();
    let [loaded, read] = [&loaded, &read].map(|all| all.training().demonstrations);
    assert!(read.trajectories().len() > 1 && loaded.columns() == read.columns());
    assert!(loaded.trajectories().eq(read.trajectories()));
}

#[test]
fn what_a_person_showed_in_an_attempt_is_a_demonstration_of_its_goal() {
    let (_, spec) = policy();
    let mut episode = demonstrations().remove(0);
    episode.header.source = Source::Run;
    let still = Experience::of(std::slice::from_ref(&episode), &spec).unwrap();
    assert_eq!(still.training().demonstrations.trajectories().len(), 0, "nobody took over");
    // From step 10 on a person steers for 20 steps, and then holds still for 30.
    for step in &mut episode.steps[10..60] {
        step.intervention = true;
    }
    let held = episode.steps[30].sent.clone();
    episode.steps[31..60].iter_mut().for_each(|step| step.sent.clone_from(&held));
    let experience = Experience::of(std::slice::from_ref(&episode), &spec).unwrap();
    let training = experience.training();
    assert_eq!(training.attempts.trajectories().len(), 1, "all of it is an attempt, too");
    let shown: Vec<_> = training.demonstrations.trajectories().collect();
    assert_eq!(shown.len(), 1);
    // One less than the steps in which it moved, and the last action's state is not known.
    assert!((15..=20).contains(&shown[0].last()), "{} steps", shown[0].last());
    assert_eq!(shown[0].desired_goal(), episode.goal().as_slice());
    assert_eq!(shown[0].achieved_goal(0), episode.steps[11].achieved_goal.as_slice());
    let (base, method) = (policy().0, Gcbc { steps: 2, batch: 32, ..Gcbc::default() });
    let (_, report) =
        finetune(&method, &Engine::tract(), &base, &experience, 0, &mut |_| true).unwrap();
    assert_eq!((report.demonstrations, report.attempts, report.corrections), (0, 1, 1));
    episode.header.split = Split::Validation;
    let kept = Experience::of(&[episode], &spec).unwrap();
    assert_eq!(kept.training().demonstrations.trajectories().len(), 0, "kept aside");
}

#[test]
fn validation_and_evaluation_episodes_are_never_trained_on() {
    let (_, spec) = policy();
    let mut episodes = demonstrations();
    for (i, episode) in episodes.iter_mut().enumerate() {
        episode.header.source =
            [Source::Demonstration, Source::Attempt, Source::Run, Source::Evaluation][i % 4];
        episode.header.split = if i < 8 { Split::Validation } else { Split::Training };
    }
    // Each episode's goals name it, so that a sample tells where it comes from.
    for (i, episode) in episodes.iter_mut().enumerate() {
        episode
            .steps
            .iter_mut()
            .for_each(|s| s.achieved_goal.iter_mut().for_each(|g| *g = i as f32));
    }
    let (base, _) = policy();
    let experience = Experience::of(&episodes, &spec).unwrap();
    let training = experience.training();
    for (buffer, count) in [(training.demonstrations, 3), (training.attempts, 6)] {
        assert!(buffer.trajectories().all(|t| t.achieved_goal(0)[0] >= 8.0));
        assert_eq!(buffer.trajectories().len(), count);
    }
    let method = Gcbc { steps: 2, batch: 32, ..Gcbc::default() };
    let (_, report) =
        finetune(&method, &Engine::tract(), &base, &experience, 0, &mut |_| true).unwrap();
    // Of 20: 3 demonstrations and 6 attempts to train on, 4 attempts kept aside, the rest unused.
    assert_eq!((report.demonstrations, report.attempts, report.validation), (3, 6, 4));
    assert!(report.held_out.is_some());
}

#[test]
fn fine_tuning_keeps_the_architecture_and_the_normaliser_and_names_its_base() {
    let (base, spec) = policy();
    let experience = Experience::of(&demonstrations(), &spec).unwrap();
    let method = Gcbc { steps: 40, batch: 64, ..Gcbc::default() };
    let tune = |seed| {
        finetune(&method, &Engine::tract(), &base, &experience, seed, &mut |_| true).unwrap()
    };
    let (candidate, report) = tune(3);
    let (old, new) =
        (Verified::from_bytes(&base).unwrap(), Verified::from_bytes(&candidate).unwrap());
    assert_eq!(old.nodes(), new.nodes());
    let (before, after) = (old.parameters().unwrap(), new.parameters().unwrap());
    for (name, tensor) in &before {
        let same = *tensor == after[name];
        assert_eq!(same, name.starts_with("normalizer."), "{name}");
    }
    let spec = PolicySpec::of(&new).unwrap();
    assert_eq!(spec.provenance["base"], id_of(&base).to_string());
    assert_eq!(report.candidate, id_of(&candidate).to_string());
    assert_eq!(tune(3).0, candidate, "the same seed gives the same file");
    assert_ne!(tune(4).0, candidate);
}

#[test]
fn an_average_of_the_weights_is_what_is_written() {
    let (base, spec) = policy();
    let experience = Experience::of(&demonstrations(), &spec).unwrap();
    let tuned = |steps, ema| {
        let method = Gcbc { steps, ema, batch: 64, ..Gcbc::default() };
        let (file, report) =
            finetune(&method, &Engine::tract(), &base, &experience, 3, &mut |_| true).unwrap();
        let weights = Verified::from_bytes(&file).unwrap().parameters().unwrap();
        (weights["layer0.weight"].data.clone(), report.losses)
    };
    let start = Verified::from_bytes(&base).unwrap().parameters().unwrap();
    let start = &start["layer0.weight"].data;
    let (last, losses) = tuned(1, None);
    let (average, same) = tuned(1, Some(0.75));
    assert_eq!(losses, same, "the average must not change the training");
    assert_ne!(&last, start);
    for ((start, last), average) in start.iter().zip(&last).zip(&average) {
        assert!((0.75 * start + 0.25 * last - average).abs() < 1e-7, "{start} {last} {average}");
    }
}

#[test]
fn momentum_learns_at_a_rate_for_losses_in_shares_of_the_largest_action() {
    let (base, spec) = policy();
    // It knows the demonstrations, so it forgets its last layer first.
    let mut last = Verified::from_bytes(&base).unwrap().parameters().unwrap();
    last.retain(|name, _| name == "layer2.weight");
    last.values_mut().for_each(|weight| weight.data.fill(0.0));
    let base = splice(&base, &last).unwrap();
    let experience = Experience::of(&demonstrations(), &spec).unwrap();
    let last_loss = |peak, nesterov| {
        let schedule = Schedule { peak, ..Schedule::default() };
        let rule = Rule::Sgd { momentum: 0.9, nesterov };
        let method = Gcbc { steps: 60, batch: 64, rule, schedule, ..Gcbc::default() };
        let (_, report) =
            finetune(&method, &Engine::tract(), &base, &experience, 3, &mut |_| true).unwrap();
        *report.losses.last().unwrap()
    };
    // The same batches, with steps 400 times too small: as if the loss were in squared radians.
    let still = last_loss(0.02 / 400.0, false);
    for nesterov in [false, true] {
        let learned = last_loss(0.02, nesterov);
        assert!(learned < 0.5 * still, "loss {learned}, not below {still}");
    }
}

#[test]
fn fine_tuning_changes_only_weights_and_its_own_entry_of_the_metadata() {
    let (mut base, spec) = policy();
    // A field that onnx.proto does not have: number 1000, a text.
    let unknown = b"\xc2\x3e\x0bour own way";
    base.extend_from_slice(unknown);
    let experience = Experience::of(&demonstrations(), &spec).unwrap();
    let method = Gcbc { steps: 2, batch: 64, ..Gcbc::default() };
    let (candidate, _) =
        finetune(&method, &Engine::tract(), &base, &experience, 3, &mut |_| true).unwrap();
    assert!(candidate.windows(unknown.len()).any(|w| w == unknown));
    // With the base's weights and entry put back, it is the base.
    let graph = Verified::from_bytes(&base).unwrap();
    let back = splice(&candidate, &graph.parameters().unwrap()).unwrap();
    let back = splice_metadata(&back, METADATA_KEY, &graph.metadata()[METADATA_KEY]).unwrap();
    assert_eq!(back, base);
}

/// A policy as somebody else might export it: one input for all that it sees, the goal among it, and
/// chunks of 4 actions.
fn foreign() -> Vec<u8> {
    let mut rng = stream(3, Stream::Weights);
    let mut random = |dims: [usize; 2]| {
        let count = dims[0] * dims[1];
        let data: Vec<f32> = (0..count).map(|_| 0.1 * normal(&mut rng) as f32).collect();
        Tensor::new(dims, data).unwrap()
    };
    let mut b = Builder::new();
    let x = b.input("obs", &[Dim::Batch, Dim::Fixed(13)]);
    let (w, v) = (b.parameter("body.weight", random([13, 32])), random([32, 20]));
    let bias = b.parameter("body.bias", Tensor::zeros([32]));
    let v = b.parameter("head.weight", v);
    let h = b.gemm(x, w, bias);
    let h = b.tanh(h);
    let y = b.matmul(h, v);
    let y = b.reshape(y, &[-1, 4, 5]);
    b.output("actions", y);
    b.finish().unwrap().to_bytes()
}

#[test]
fn a_foreign_policy_with_its_goal_in_the_observation_learns_its_chunks() {
    let (_, ours) = policy();
    let spec = PolicySpec {
        version: 2,
        observation: vec![
            ObservationTerm::JointPosition,
            ObservationTerm::SentPosition,
            ObservationTerm::DesiredGoal,
        ],
        tensors: Tensors {
            observation: "obs".into(),
            achieved_goal: None,
            desired_goal: None,
            action: "actions".into(),
        },
        chunk: Some(Chunk { horizon: 4, mode: ChunkMode::Ensemble, execute: 1, decay: 0.01 }),
        ..ours
    };
    let base = with_spec(&foreign(), &spec).unwrap();
    let experience = Experience::of(&demonstrations(), &spec).unwrap();
    let method = Gcbc { steps: 100, batch: 64, ..Gcbc::default() };
    let (tuned, report) =
        finetune(&method, &Engine::tract(), &base, &experience, 0, &mut |_| true).unwrap();
    assert_eq!(report.loss, "chunk");
    let (first, last) = (report.losses[0], *report.losses.last().unwrap());
    assert!(last < 0.5 * first, "loss {first} -> {last}");
    Policy::load(&tuned, &robot(), &Engine::tract()).unwrap();
}

#[test]
fn nothing_to_learn_from_is_said_and_changes_nothing() {
    let (base, spec) = policy();
    let nothing = Experience::of(&[], &spec).unwrap();
    let error = finetune(&Gcbc::default(), &Engine::tract(), &base, &nothing, 0, &mut |_| true)
        .unwrap_err();
    assert!(error.to_string().contains("no usable training episodes"), "{error}");
}

#[test]
fn the_scripted_expert_reaches_goals_all_over_the_workspace() {
    let robot = robot();
    let mut env = ArmReach::new(&robot, 200, 5).unwrap();
    let (mut successes, n) = (0, 25);
    for i in 0..n {
        let mut rng = item(11, Stream::Training, i);
        let goal = env.sample_goal(&mut rng);
        env.reset(&goal, &mut rng).unwrap();
        // A goal that the inverse does not find counts as missed.
        let Ok(expert) = env.demonstrator() else { continue };
        for _ in 0..env.spec().horizon {
            let action = expert.act(&env.observation()[env.spec().actions.size()..]);
            env.step(&action).unwrap();
        }
        successes += u64::from(reached(env.achieved_goal(), &goal, env.spec().tolerance));
    }
    assert!(successes * 100 >= n * 95, "{successes} of {n}");
}

#[test]
fn an_action_that_does_not_fit_is_refused_before_it_is_sent() {
    let mut env = ArmReach::new(&robot(), 10, 5).unwrap();
    env.reset(&[0.2, -0.2, 0.2], &mut item(1, Stream::Training, 0)).unwrap();
    assert!(env.step(&[0.0; 3]).is_err());
    assert!(env.step(&[f32::NAN; 5]).is_err());
    assert!(env.step(&[0.0; 5]).is_ok());
}

#[test]
fn a_policy_for_another_arm_is_refused_and_both_are_named() {
    let (file, _) = policy();
    let mut other = robot();
    other.name = "bench-arm".into();
    other.joint[2].name = "forearm".into();
    let Err(error) = Policy::load(&file, &other, &Engine::tract()) else { panic!("accepted") };
    let text = error.to_string();
    assert!(text.contains("elbow_flex") && text.contains("bench-arm"), "{text}");
    let mut faster = robot();
    faster.control.rate_hz = 200.0;
    assert!(matches!(
        Policy::load(&file, &faster, &Engine::tract()),
        Err(PolicyError::WrongRobot { .. })
    ));
}

#[test]
fn an_onnx_file_without_or_with_a_wrong_description_is_refused() {
    let (file, mut spec) = policy();
    let mut graph = Verified::from_bytes(&file).unwrap().into_graph();
    spec.joints.pop();
    graph.set_metadata(METADATA_KEY, &spec.to_json());
    let refused = PolicySpec::of(&graph);
    assert!(matches!(refused, Err(PolicyError::BadTensors { .. })), "{refused:?}");
    graph.set_metadata(METADATA_KEY, "{}");
    assert!(matches!(PolicySpec::of(&graph), Err(PolicyError::BadSpec(_))));
}
