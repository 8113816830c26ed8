//! Environments in Python: what they say arrives, and nothing that they do harms a training. The
//! Gymnasium here is a small one of this test's own (`tests/gym/python`).
#![allow(clippy::disallowed_methods, reason = "files for Python to read")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regoal::env::{ActionSpace, Ends, Env, EnvError, Gym, GymError, Python};
use regoal::rng::{Rng, Stream, item};

/// A Python that has the small Gymnasium, and a file that says how often faulty environments fail.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        bench.faults(0);
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gym/python");
        let (packages, faults) = (packages.display(), bench.path("faults").display().to_string());
        let set = format!("PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{packages}' FAULTS='{faults}'");
        bench.script("python", &format!("{set} exec python3 \"$@\""));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(name), permissions).unwrap();
    }

    fn faults(&self, count: u32) {
        std::fs::write(self.path("faults"), count.to_string()).unwrap();
    }

    fn python(&self, program: &str, limit_s: u32) -> Python {
        Python { program: self.path(program), limit_s }
    }

    fn open(&self, name: &str) -> Gym {
        Gym::open(name, &self.python("python", 60)).unwrap()
    }

    fn refusal(&self, name: &str) -> GymError {
        Gym::open(name, &self.python("python", 60)).err().expect("it opens")
    }

    fn regoal(&self, args: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_regoal"));
        program.args(args).current_dir(self.folder.path()).env_remove("RUST_LOG");
        program.output().unwrap()
    }

    /// Trains with small networks, and gives what it said on standard error.
    fn train(&self, env: &str, more: &[&str]) -> (bool, String) {
        let settings = "--engine tract --eval-every 100 --eval-goals 5 --python ./python --python-limit 60 \
                        --set her.iteration=100 --set her.batch=16 --set her.updates_per_step=0.1 \
                        --set learner.ddpg.hidden=[8]";
        let settings: Vec<&str> = settings.split_whitespace().collect();
        let output = self.regoal(&[&["train", "her", "--env", env], &settings[..], more].concat());
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

fn generator(i: u64) -> Rng {
    item(1, Stream::Attempts, i)
}

/// What an environment shows: observation, achieved and desired goal.
fn shown(env: &dyn Env) -> [Vec<f32>; 3] {
    [env.observation(), env.achieved_goal(), env.desired_goal()].map(<[f32]>::to_vec)
}

#[test]
fn spaces_rows_rewards_and_success_are_the_environments_own() {
    let bench = Bench::new();
    let mut env = bench.open("Point-v0");
    let spec = env.spec().clone();
    assert_eq!((spec.name, spec.observation, spec.goal), ("gym:Point-v0", 2, 2));
    assert_eq!(spec.actions, ActionSpace::Continuous { size: 2, limit: 2.0 });
    assert_eq!((spec.horizon, spec.tolerance, spec.ends), (20, 0.15, Ends::Success));
    assert_eq!(env.sample_goal(&mut generator(0)), [0.0; 0]);
    env.reset(&[], &mut generator(0)).unwrap();
    let [before, _, goal] = shown(&env);
    // The second is clamped.
    env.step(&[-0.5, 9.0]).unwrap();
    let [after, achieved, still] = shown(&env);
    let expected = [before[0] - 0.05, before[1] + 0.2].map(|x| x.clamp(-1.0, 1.0));
    assert!(after.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-6), "{before:?} {after:?}");
    assert_eq!((achieved, &still), (after.clone(), &goal));
    let distance = (after[0] - goal[0]).hypot(after[1] - goal[1]);
    assert!((env.reward() + distance).abs() < 1e-6);
    for step in 1..20 {
        assert!(!env.ended(), "ended after {step} steps");
        let action = env.expert().unwrap();
        env.step(&action).unwrap();
        let [place, _, goal] = shown(&env);
        let distance = (place[0] - goal[0]).hypot(place[1] - goal[1]);
        assert_eq!(env.succeeded(), distance < 0.15, "{distance}");
    }
    assert!(env.succeeded() && !env.ended(), "the time limit is no end");
}

#[test]
fn a_generator_decides_start_and_goal() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.open("Point-v0"), bench.open("Point-v0"));
    one.reset(&[], &mut generator(1)).unwrap();
    let first = shown(&one);
    one.step(&[1.0, 1.0]).unwrap();
    for env in [&mut one, &mut other] {
        env.reset(&[], &mut generator(1)).unwrap();
        assert_eq!(shown(env), first);
    }
    other.reset(&[], &mut generator(2)).unwrap();
    assert_ne!(shown(&other), first);
    let error = other.reset(&[0.0, 0.0], &mut generator(1)).unwrap_err();
    assert!(matches!(error, EnvError::Goal { expected: 0, found: 2 }), "{error}");
}

#[test]
fn choices_count_from_their_start_and_printing_does_not_harm_the_answers() {
    let bench = Bench::new();
    let mut env = bench.open("Corridor-v0");
    assert_eq!(env.spec().actions, ActionSpace::Discrete { choices: 2 });
    assert_eq!((env.spec().goal, env.spec().ends), (0, Ends::Success));
    env.reset(&[], &mut generator(0)).unwrap();
    for (choice, place) in [(0.0, 3.0), (1.0, 4.0), (1.0, 5.0), (1.0, 6.0), (1.0, 7.0)] {
        env.step(&[choice]).unwrap();
        assert_eq!((env.observation(), env.reward()), (&[place][..], 3.0 + choice));
        assert!(!env.ended() && !env.succeeded());
    }
    env.step(&[1.0]).unwrap();
    assert!(env.ended());
    let error = env.step(&[2.0]).unwrap_err();
    assert!(matches!(error, EnvError::Action { .. }), "{error}");
    assert!(matches!(env.expert(), Err(EnvError::NoExpert("gym:Corridor-v0"))));
}

#[test]
fn bounds_that_are_uneven_are_stretched_to_both_sides_of_zero() {
    let bench = Bench::new();
    let mut env = bench.open("Uneven-v0");
    assert_eq!(env.spec().actions, ActionSpace::Continuous { size: 2, limit: 1.0 });
    env.reset(&[], &mut generator(0)).unwrap();
    for (action, expected) in [([-1.0, -1.0], [0.0, -1.0]), ([0.5, 2.0], [7.5, 1.0])] {
        env.step(&action).unwrap();
        assert_eq!(env.observation(), expected);
    }
}

#[test]
fn an_environment_is_found_in_a_file_and_in_a_module_of_ones_own() {
    let bench = Bench::new();
    let file = "import gymnasium\ndef Make():\n    return gymnasium.make('Corridor-v0')\n";
    std::fs::write(bench.path("own.py"), file).unwrap();
    let path = bench.path("own.py").display().to_string();
    assert_eq!(bench.open(&format!("{path}:Make")).spec().horizon, 30);
    assert_eq!(bench.open("string:Corridor-v0").spec().horizon, 30);
    let error = bench.refusal(&format!("{path}:Other")).to_string();
    assert!(error.contains("own.py has no callable Other"), "{error}");
    std::fs::write(bench.path("own.py"), "def Make():\n    return 1 // 0\n").unwrap();
    let error = bench.refusal(&format!("{path}:Make")).to_string();
    assert!(error.contains("ZeroDivisionError") && error.contains("mend"), "{error}");
}

#[test]
fn what_cannot_be_opened_is_refused_with_what_to_do() {
    let bench = Bench::new();
    for (name, says) in [
        ("Nowhere-v0", "`gym:Nowhere-v0` (Environment `Nowhere-v0` doesn't exist.): it is gym:ID"),
        ("no_such_module:Point-v0", "cannot import no_such_module"),
        ("nowhere.py:Make", "there is no file nowhere.py"),
        ("NoLimit-v0", "wrap the environment with gymnasium.wrappers.TimeLimit"),
        ("NoTolerance-v0", "attribute distance_threshold"),
        ("NoBounds-v0", "give the action space bounds"),
        ("Bits-v0", "expected a Box or Discrete, found MultiBinary"),
        ("Words-v0", "gymnasium.wrappers.FlattenObservation"),
        ("Parts-v0", "observation, achieved_goal, desired_goal, found camera"),
    ] {
        let error = bench.refusal(name);
        assert!(error.to_string().contains(says), "{name}: {error}");
        assert!(!error.is_passing(), "{name}");
    }
    bench.script("bare", "PYTHONPATH= exec python3 -I -S \"$@\"");
    bench.script("newer", "echo hello; echo '{\"regoal_bridge\": 99}'");
    bench.script("silent", "exit 3");
    bench.script("talker", "echo '{\"regoal_bridge\": 2, \"observation\": \"many\"}'");
    for (python, says) in [
        ("nowhere", "install Python 3, or name another with --python PATH"),
        ("bare", "-m pip install gymnasium"),
        ("newer", "expected a bridge of version 2, found 99"),
        ("silent", "has ended (exit status: 3); it said last:\nnothing"),
        ("talker", "expected the first line of a bridge, found {\"regoal_bridge\": 2"),
    ] {
        let error = Gym::open("Point-v0", &bench.python(python, 60)).err().unwrap();
        assert!(error.to_string().contains(says), "{python}: {error}");
    }
}

/// A bridge that announces so many numbers of an observation, and then says something more.
fn impostor(observation: usize, more: &str) -> String {
    let rest = "\"goal\": 0, \"actions\": {\"choices\": 2}, \"horizon\": 9, \"tolerance\": 0, \
                \"ends\": \"never\", \"expert\": false";
    format!("echo '{{\"regoal_bridge\": 2, \"observation\": {observation}, {rest}}}'; {more}")
}

#[test]
fn what_a_bridge_says_of_itself_is_not_believed_further_than_it_can_be_checked() {
    let bench = Bench::new();
    bench.script("vast", &impostor(usize::MAX, ""));
    let error = Gym::open("Point-v0", &bench.python("vast", 10)).err().unwrap().to_string();
    assert!(error.contains("expected spaces of at most 16777216 numbers, found"), "{error}");
    for (more, says) in [
        ("echo; sleep 60", "expected an answer of a bridge, found \n"),
        ("echo '{\"error\": \"shape\", \"text\": \"no\"}'; sleep 60", "than its spaces say: no"),
        ("sleep 60", "did not answer within 2s"),
    ] {
        bench.script("impostor", &impostor(3, more));
        let mut env = Gym::open("Point-v0", &bench.python("impostor", 2)).unwrap();
        let error = env.reset(&[], &mut generator(0)).unwrap_err().to_string();
        assert!(error.contains(says) && env.observation() == [0.0; 3], "{more}: {error}");
    }
}

#[test]
fn an_environment_that_is_another_one_when_started_anew_is_refused() {
    let bench = Bench::new();
    let write = |size: u32| {
        let lines = [
            "import gymnasium, os",
            "class Make(gymnasium.Corridor):",
            &format!("    observation_space = gymnasium.box({size})"),
            &format!("    def reset(self, seed=None): return [1.0] * {size}, {{}}"),
            "    def step(self, action): os._exit(3)",
        ];
        std::fs::write(bench.path("own.py"), lines.join("\n")).unwrap();
    };
    write(2);
    let mut env = bench.open(&format!("{}:Make", bench.path("own.py").display()));
    env.reset(&[], &mut generator(0)).unwrap();
    write(3);
    let error = env.step(&[0.0]).unwrap_err().to_string();
    assert!(error.contains("has ended (exit status: 3)"), "{error}");
    let error = env.reset(&[], &mut generator(0)).unwrap_err().to_string();
    assert!(error.contains("observation: 3") && error.contains("when started anew"), "{error}");
    assert_eq!(env.observation(), [1.0; 2]);
}

#[test]
fn an_episode_that_fails_says_how_and_the_next_one_goes_well() {
    let bench = Bench::new();
    for (name, says) in [
        ("Dies-v0", "has ended (exit status: 7); it said last:\nthese are the last words"),
        ("Hangs-v0", "did not answer within 10s"),
        ("Raises-v0", "ZeroDivisionError: a mistake in the environment"),
        ("Shapes-v0", "achieved_goal: expected 2 numbers, found 3"),
        ("Short-v0", "achieved_goal: expected 2 numbers, found 1"),
        ("Shifted-v0", "observation: expected 2 numbers, found 3"),
        ("Shrinks-v0", "PermissionError: [Errno 1] Operation not permitted"),
        ("Diverges-v0", "what it shows is not finite at step 3"),
    ] {
        let mut env = Gym::open(name, &bench.python("python", 10)).unwrap();
        env.reset(&[], &mut generator(0)).unwrap();
        let start = shown(&env);
        bench.faults(1);
        (0..2).for_each(|_| env.step(&[0.1, 0.1]).unwrap());
        let error = env.step(&[0.1, 0.1]).unwrap_err();
        assert!(error.is_passing() && error.to_string().contains(says), "{name}: {error}");
        env.reset(&[], &mut generator(0)).unwrap();
        assert_eq!(shown(&env), start, "{name}");
        (0..4).for_each(|_| env.step(&[0.1, 0.1]).unwrap());
    }
}

#[test]
fn a_training_drops_what_is_lost_and_when_too_much_is_goes_on_from_its_checkpoint() {
    let bench = Bench::new();
    // One process at a time counts the faults down.
    let train = |steps: &str, out: &str| {
        bench.train("gym:Dies-v0", &["--jobs", "1", "--steps", steps, "--out", out])
    };
    let (done, said) = train("200", "whole");
    assert!(done, "{said}");
    bench.faults(3);
    let (done, said) = train("100", "parts");
    assert!(done, "{said}");
    for lost in ["is dropped (1 in a row)", "is dropped (3 in a row)", "these are the last words"] {
        assert!(said.contains(lost), "{said}");
    }
    // The trials of the first evaluation were lost, and made again as they were.
    let resume = "train her --resume parts --engine tract --steps 200 --jobs 1";
    let resume: Vec<&str> = resume.split(' ').collect();
    bench.faults(1000);
    let output = bench.regoal(&resume);
    let said = String::from_utf8(output.stderr).unwrap();
    let hint = "what was learned in 100 steps is kept: when the cause is mended, go on with \
                `regoal train her --resume parts`";
    assert!(!output.status.success() && said.contains(hint), "{said}");
    assert!(said.contains("these are the last words"), "{said}");
    bench.faults(0);
    let output = bench.regoal(&resume);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(bench.read("parts/policy.onnx") == bench.read("whole/policy.onnx"));
}

#[test]
fn a_run_keeps_its_python_and_a_policy_is_evaluated_where_it_was_trained() {
    let bench = Bench::new();
    let (done, said) = bench.train("gym:Point-v0", &["--steps", "100"]);
    assert!(done, "{said}");
    let plan = String::from_utf8(bench.read("her-gym-Point-v0/run.toml")).unwrap();
    assert!(plan.contains("program = \"./python\"\nlimit_s = 60"), "{plan}");
    let policy = "her-gym-Point-v0/policy.onnx";
    let found = bench.regoal(&["train", "--evaluate", policy, "--python", "./python"]);
    let text = String::from_utf8(found.stdout).unwrap();
    assert!(text.starts_with(&format!("{policy} in gym:Point-v0: success ")), "{text}");
    let (done, said) = bench.train("gym:Corridor-v0", &["--set", "learner.kind=dqn"]);
    assert!(!done && said.contains("needs an environment with goals"), "{said}");
}

#[test]
fn processes_side_by_side_give_the_same_policy_as_one() {
    let bench = Bench::new();
    let train = |jobs: &str| {
        let more = ["--steps", "200", "--set", "her.rollouts=3", "--jobs", jobs, "--out", jobs];
        let (done, said) = bench.train("gym:Point-v0", &more);
        assert!(done, "{said}");
        bench.read(&format!("{jobs}/policy.onnx"))
    };
    let one = train("1");
    assert!(one == train("2") && one == train("3"));
}
