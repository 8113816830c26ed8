//! Policies that others exported: described, verified, run in the loop; from the command line too.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};

use prost::Message as _;
use regoal::config::RobotConfig;
use regoal::engine::Engine;
use regoal::joints::{GoalSpace, JointVec, stack};
use regoal::onnx::proto::ModelProto;
use regoal::onnx::{Builder, Dim, Graph, OnnxError, Tensor, Verified};
use regoal::policy::{
    ActionKind, Chunk, ChunkMode, METADATA_KEY, Observation, ObservationTerm, Policy, PolicySpec,
    StateTensor, Tensors, VERSION, with_spec,
};
use regoal::storage::{Disk, Storage as _};

const ROBOT: &str = "firmware-config/emulated.toml";
const SHIPPED: &str = "models/reach/policy.onnx";

fn robot() -> RobotConfig {
    RobotConfig::load(&Disk, Path::new(ROBOT)).unwrap()
}

fn rows(n: usize) -> [Dim; 2] {
    [Dim::Batch, Dim::Fixed(n)]
}

/// What an exporter writes: `obs` (5 positions, 5 velocities, a goal) to `actions`, which are the
/// positions plus the goal's sum, and a value beside them.
fn foreign() -> Graph {
    let mut b = Builder::new();
    let obs = b.input("obs", &rows(13));
    let mut weight = vec![0.0; 13 * 5];
    (0..5).for_each(|j| weight[j * 5 + j] = 1.0);
    weight[10 * 5..].fill(1.0);
    let w = b.parameter("fc.weight", Tensor::new([13, 5], weight).unwrap());
    let bias = b.parameter("fc.bias", Tensor::zeros([5]));
    let action = b.gemm(obs, w, bias);
    let value = b.reduce_sum(obs, &[1], true);
    b.output("actions", action);
    b.output("value", value);
    b.finish().unwrap()
}

fn spec(observation: &str, action: &str) -> PolicySpec {
    PolicySpec {
        version: VERSION,
        model: robot().model,
        joints: robot().joint.iter().take(5).map(|j| j.name.clone()).collect(),
        rate_hz: robot().control.rate_hz,
        observation: vec![
            ObservationTerm::JointPosition,
            ObservationTerm::JointVelocity,
            ObservationTerm::DesiredGoal,
        ],
        goal_space: GoalSpace::EndEffectorPosition,
        action: ActionKind::JointPosition,
        tensors: Tensors {
            observation: observation.into(),
            achieved_goal: None,
            desired_goal: None,
            action: action.into(),
        },
        chunk: None,
        state: vec![],
        provenance: Default::default(),
    }
}

fn observation(tick: u64) -> Observation {
    let joints = |x: f32| -> JointVec<f32> { (0..6).map(|j| x + j as f32).collect() };
    Observation {
        tick,
        episode: 1,
        position: joints(0.1),
        velocity: joints(-3.0),
        sent: joints(0.5),
        achieved_goal: stack([9.0; 3]),
        desired_goal: stack([0.1, 0.2, 0.3]),
    }
}

fn regoal(args: &[&str]) -> Output {
    Process::new(env!("CARGO_BIN_EXE_regoal")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn written(folder: &tempfile::TempDir, name: &str, file: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    Disk.replace(&path, file).unwrap();
    path
}

#[test]
fn a_description_is_added_after_the_last_byte_and_replaced_in_place() {
    let file = foreign().to_bytes();
    let first = spec("obs", "actions");
    let described = with_spec(&file, &first).unwrap();
    assert_eq!(described[..file.len()], file);
    let graph = Graph::from_bytes(&described).unwrap();
    assert_eq!(PolicySpec::of(&graph).unwrap(), first);
    let mut bare = foreign();
    bare.set_metadata(METADATA_KEY, &first.to_json());
    assert_eq!(graph, bare, "something else changed");
    let second = PolicySpec { action: ActionKind::JointDelta, ..first };
    let again = Graph::from_bytes(&with_spec(&described, &second).unwrap()).unwrap();
    assert_eq!(PolicySpec::of(&again).unwrap(), second);
    assert_eq!(again.metadata().len(), 1);
}

#[test]
fn a_foreign_policy_with_everything_in_one_input_acts_on_every_engine() {
    let file = with_spec(&foreign().to_bytes(), &spec("obs", "actions")).unwrap();
    for engine in common::engines() {
        let mut policy = Policy::load(&file, &robot(), &engine).unwrap();
        let found = policy.act(&observation(1)).unwrap();
        // The gripper is not the policy's: it stays where it was sent.
        let expected = [0.7, 1.7, 2.7, 3.7, 4.7, 5.5];
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-5, "{engine}: {found:?}");
        }
    }
}

#[test]
fn a_description_that_does_not_fit_says_what_was_expected_and_found() {
    let file = foreign().to_bytes();
    let base = spec("obs", "actions");
    let cases = [
        (spec("state", "actions"), "expected inputs `state` of 13, found `obs` of 13"),
        (spec("obs", "value"), "expected outputs `value` of 5, found `actions` of 5, `value` of 1"),
        (
            PolicySpec { observation: vec![ObservationTerm::JointPosition], ..base.clone() },
            "`obs` of 5, found `obs` of 13",
        ),
        (PolicySpec { version: 3, ..base.clone() }, "expected version 1 to 2, found 3"),
        (
            PolicySpec {
                chunk: Some(Chunk { horizon: 4, execute: 5, ..Chunk::default() }),
                ..base.clone()
            },
            "chunk.execute: expected 1 to 4, found 5",
        ),
        (
            PolicySpec { goal_space: GoalSpace::None, ..base.clone() },
            "expected no goal without a goal space",
        ),
        (PolicySpec { joints: vec![], ..base }, "joints: expected 1 to 8, found 0"),
    ];
    for (spec, says) in cases {
        let error = with_spec(&file, &spec).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_shipped_policy_and_its_description_of_version_1_stay_valid() {
    let graph = Graph::from_bytes(&std::fs::read(SHIPPED).unwrap()).unwrap();
    let spec = PolicySpec::of(&graph).unwrap();
    assert_eq!((spec.version, &spec.tensors), (1, &Tensors::default()));
    // Nothing new is written where nothing new is used.
    let old: serde_json::Value = serde_json::from_str(&graph.metadata()[METADATA_KEY]).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), old);
}

/// `h' = h + 1`, an action of `[N, 3, 5]`: element j is 10 h' + j.
fn counting(chunk: ChunkMode, execute: usize) -> Vec<u8> {
    let mut b = Builder::new();
    let obs = b.input("obs", &rows(13));
    let h = b.input("h", &rows(1));
    let one = b.scalar(1.0);
    let next = b.add(h, one);
    let ten = b.scalar(10.0);
    let tens = b.mul(next, ten);
    let zero = b.scalar(0.0);
    let sum = b.reduce_sum(obs, &[1], true);
    let nothing = b.mul(sum, zero);
    let tens = b.add(tens, nothing);
    let steps: Vec<f32> = (0..15).map(|i| (i / 5) as f32).collect();
    let steps = b.constant(Tensor::new([1, 15], steps).unwrap());
    let flat = b.add(tens, steps);
    let action = b.reshape(flat, &[-1, 3, 5]);
    b.output("h_next", next);
    b.output("chunk", action);
    let spec = PolicySpec {
        chunk: Some(Chunk { horizon: 3, mode: chunk, execute, decay: 0.0 }),
        state: vec![StateTensor { input: "h".into(), output: "h_next".into(), dims: vec![1, 1] }],
        ..spec("obs", "chunk")
    };
    with_spec(&b.finish().unwrap().to_bytes(), &spec).unwrap()
}

#[test]
fn state_is_kept_from_one_run_to_the_next_and_zero_again_after_a_reset() {
    for engine in common::engines() {
        let mut policy = Policy::load(&counting(ChunkMode::Replan, 2), &robot(), &engine).unwrap();
        let acted = |policy: &mut Policy, tick| policy.act(&observation(tick)).unwrap()[0];
        let found: Vec<f32> = (1..=5).map(|tick| acted(&mut policy, tick)).collect();
        assert_eq!(found, [10.0, 11.0, 20.0, 21.0, 30.0], "{engine}");
        let mut plan = Default::default();
        policy.ahead(&mut plan);
        assert_eq!(plan.iter().map(|a| a[0]).collect::<Vec<_>>(), [31.0, 32.0]);
        policy.reset();
        assert_eq!(acted(&mut policy, 6), 10.0, "{engine}");
    }
}

#[test]
fn an_ensemble_is_the_mean_of_the_chunks_that_reach_a_tick() {
    let file = counting(ChunkMode::Ensemble, 1);
    let mut policy = Policy::load(&file, &robot(), &Engine::tract()).unwrap();
    let found: Vec<f32> = (1..=4).map(|t| policy.act(&observation(t)).unwrap()[0]).collect();
    // At tick 3: 10 + 2, 20 + 1, 30 + 0 of the chunks of ticks 1, 2 and 3.
    assert_eq!(found, [10.0, 15.5, 21.0, 31.0]);
}

#[test]
fn the_listed_operators_are_those_that_a_file_may_hold() {
    let output = regoal(&["policy", "inspect", "--operators", "--json"]);
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let listed: Vec<&str> = facts["operators"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["operator"].as_str().unwrap())
        .collect();
    assert!(listed.len() > 100 && listed.is_sorted());
    assert_eq!(facts["opsets"], serde_json::json!([13, 22]));
    let refused = |op: &str| {
        let mut model = ModelProto::decode(foreign().to_bytes().as_slice()).unwrap();
        model.graph.as_mut().unwrap().node[0].op_type = Some(op.into());
        let verified = Verified::from_bytes(&model.encode_to_vec());
        verified.is_err_and(|error| matches!(error, OnnxError::UnknownOp { .. }))
    };
    let unlisted = ["Loop", "NonZero", "Multinomial", "Resize", "StringNormalizer"];
    assert!(listed.iter().all(|op| !refused(op)));
    assert!(unlisted.iter().all(|op| refused(op) && !listed.contains(op)));
    let text = text(&regoal(&["policy", "inspect", "--operators"]).stdout);
    for op in listed {
        let lines = text.lines().filter(|l| l.split_whitespace().next() == Some(op)).count();
        assert_eq!(lines, 1, "{op}");
    }
}

#[test]
fn inspect_explains_a_foreign_file_and_makes_a_policy_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "foreign.onnx", &foreign().to_bytes());
    let path = path.to_str().unwrap();
    let output = regoal(&["policy", "inspect", path]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for word in [
        "obs [N, 13] f32",
        "actions [N, 5] f32",
        "Gemm 1",
        "70 numbers in 2",
        "tract",
        "fine-tuning yes",
        "policy      no: the ONNX file does not say",
        "--write-spec",
    ] {
        assert!(said.contains(word), "no `{word}`: {said}");
    }
    let out = folder.path().join("policy.onnx");
    let output = regoal(&[
        "policy",
        "inspect",
        path,
        "--write-spec",
        out.to_str().unwrap(),
        "--robot",
        ROBOT,
        "--action",
        "joint_position",
        "--goal",
        "ee_position",
        "--tensor",
        "action=actions",
        "--observation",
        "joint_position,joint_velocity,desired_goal",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json["robot"]["fits"], &json["finetunable"]["possible"]),
        (&true.into(), &true.into())
    );
    assert_eq!(json["spec"]["tensors"]["observation"], "obs");
    let file = std::fs::read(&out).unwrap();
    assert!(file.starts_with(&foreign().to_bytes()));
    Policy::load(&file, &robot(), &Engine::tract()).unwrap().act(&observation(1)).unwrap();
}

#[test]
fn a_file_that_cannot_be_fine_tuned_or_verified_says_which_node_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut b = Builder::new();
    let x = b.input("x", &rows(2));
    let w = b.parameter("w", Tensor::new([2, 2], [1.0; 4]).unwrap());
    let y = b.matmul(x, w);
    b.output("y", y);
    let file = b.finish().unwrap().to_bytes();
    // The same name in the same length keeps the file whole.
    let at = file.windows(6).position(|w| w == b"MatMul").unwrap();
    let mut strange = file.clone();
    strange[at..at + 6].copy_from_slice(b"MutMal");
    let path = written(&folder, "strange.onnx", &strange);
    for verb in ["inspect", "verify"] {
        let output = regoal(&["policy", verb, path.to_str().unwrap()]);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("operator `MutMal` is not supported"), "{said}");
        assert!(said.contains("to do"), "{said}");
    }
    let good = written(&folder, "good.onnx", &file);
    assert!(regoal(&["policy", "verify", good.to_str().unwrap()]).status.success());
    let strict = regoal(&["policy", "verify", good.to_str().unwrap(), "--robot", ROBOT, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&strict.stdout).unwrap();
    assert_eq!((strict.status.code(), &json["verified"]), (Some(1), &false.into()));
}

#[test]
fn bench_measures_as_many_runs_as_asked_for() {
    let output =
        regoal(&["policy", "bench", SHIPPED, "--engine", "tract", "--runs", "25", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ticks = &json["engines"][0]["ticks"];
    assert_eq!((json["engines"].as_array().unwrap().len(), &ticks["runs"]), (1, &25.into()));
    let [p50, p99, max] = ["p50_us", "p99_us", "max_us"].map(|key| ticks[key].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{ticks}");
}
