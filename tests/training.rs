//! `regoal train` as a program: the same seed gives the same files, however the work is cut.

use std::path::Path;
use std::process::{Command, Output};

/// A training of a second: small networks, few steps.
const SMALL: [&str; 16] = [
    "--engine",
    "tract",
    "--eval-every",
    "300",
    "--eval-goals",
    "3",
    "--set",
    "learner.ddpg.hidden=[8]",
    "--set",
    "her.iteration=300",
    "--set",
    "her.updates_per_step=0.02",
    "--set",
    "her.batch=16",
    "--set",
    "her.cut=false",
];

fn regoal(folder: &Path, args: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_regoal"));
    program.args(args).current_dir(folder).env_remove("RUST_LOG");
    program.output().unwrap()
}

fn ok(folder: &Path, args: &[&str]) -> String {
    let output = regoal(folder, args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert!(output.status.success(), "{args:?}: {}", text(output.stderr));
    text(output.stdout)
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A run's table without the processor's time.
fn table(folder: &Path, run: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(read(folder, &format!("{run}/progress.csv"))).unwrap();
    let row = |line: &str| {
        let cells = line.split(',').enumerate().filter(|(i, _)| *i != 2);
        cells.map(|(_, cell)| cell.to_owned()).collect()
    };
    text.lines().map(row).collect()
}

#[test]
fn seeds_give_the_same_files_alone_or_beside_each_other_and_resumed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let train = |steps: &str, more: &[&str]| {
        ok(at, &[&["train", "her", "--steps", steps], &SMALL[..], more].concat())
    };
    train("900", &["--seeds", "2", "--jobs", "2", "--out", "both"]);
    train("900", &["--seed", "1", "--out", "alone"]);
    train("300", &["--seed", "1", "--out", "parts"]);
    ok(at, &["train", "her", "--resume", "parts", "--steps", "900", "--engine", "tract"]);
    assert_eq!(table(at, "alone").len(), 5, "a head, and a row at 0, 300, 600 and 900 steps");
    for other in ["both/seed-1", "parts"] {
        assert_eq!(table(at, other), table(at, "alone"), "{other}");
        for name in ["policy.onnx", "best.onnx"] {
            let (own, alone) = (read(at, &format!("{other}/{name}")), format!("alone/{name}"));
            assert!(own == read(at, &alone), "{other}: {name}");
        }
    }
    assert!(read(at, "both/seed-0/policy.onnx") != read(at, "alone/policy.onnx"));
    for name in ["curve.svg", "curve.png", "run.toml"] {
        read(at, &format!("both/{name}"));
    }
    let shown = ok(at, &["train", "--compare", "both", "alone", "--out", "picture"]);
    assert!(
        shown.lines().any(|l| l.starts_with("both ")) && shown.contains("picture.png"),
        "{shown}"
    );
    let found = ok(at, &["train", "--evaluate", "alone/policy.onnx", "--eval-goals", "3"]);
    assert!(found.starts_with("alone/policy.onnx in four_rooms: success "), "{found}");
    let again = regoal(at, &["train", "her", "--out", "alone"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--resume alone"));
}

#[test]
fn a_run_is_repeated_by_its_own_file_and_says_each_evaluation_in_json() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    ok(
        at,
        &[&["train", "her"], &SMALL[..], &["--steps", "900", "--seed", "5", "--out", "first"]]
            .concat(),
    );
    let config = ["train", "her", "--config", "first/run.toml", "--out", "second"];
    let said = ok(at, &[&config[..], &["--engine", "tract", "--json"]].concat());
    assert!(read(at, "first/policy.onnx") == read(at, "second/policy.onnx"));
    assert!(read(at, "first/run.toml") == read(at, "second/run.toml"));
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<_> = lines.iter().filter_map(|line| line["steps"].as_u64()).collect();
    assert_eq!(steps, [0, 300, 600, 900]);
    assert!(lines.iter().all(|line| line["seed"] == 5 && line["any"].is_number()), "{said}");
}

#[test]
fn rollouts_and_trials_side_by_side_give_the_same_files_as_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let train = |rollouts: &str, jobs: &str| {
        let out = format!("{rollouts}-{jobs}");
        let more = ["--steps", "600", "--set", rollouts, "--jobs", jobs, "--out", &out];
        ok(at, &[&["train", "her"], &SMALL[..], &more].concat());
        (read(at, &format!("{out}/policy.onnx")), table(at, &out))
    };
    let one = train("her.rollouts=5", "1");
    for jobs in ["2", "3"] {
        assert!(train("her.rollouts=5", jobs) == one, "{jobs} jobs");
    }
    assert!(
        train("her.rollouts=1", "2") != one,
        "five rollouts of one policy are others than five of five"
    );
}
