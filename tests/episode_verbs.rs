//! What `regoal episodes` does to a folder: it loses nothing that it was not told to.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use regoal::clock::Time;
use regoal::episode::{Episode, EpisodeHeader, Outcome, Source, Split, Step, append, paths};
use regoal::joints::stack;
use regoal::storage::{Disk, Storage};

fn regoal(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_regoal")).args(["episodes"]).args(args).output().unwrap()
}

/// What it prints.
fn says(args: &[&str]) -> String {
    let output = regoal(args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// How it refuses.
fn refuses(args: &[&str]) -> String {
    let output = regoal(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn episode(seed: u64) -> Episode {
    let step = |tick: u64| Step {
        tick,
        time: Time(tick * 10_000_000),
        position: stack([tick as f32 * 0.1 + seed as f32, -0.5]),
        sent: stack([tick as f32 * 0.1, -0.5]),
        temperature: stack([30.0, 41.0]),
        achieved_goal: stack([0.1, 0.2, tick as f32 * 0.01]),
        desired_goal: stack([0.1, 0.2, 0.1]),
        ..Step::default()
    };
    Episode {
        header: EpisodeHeader {
            robot: "arm".into(),
            joints: vec!["pan".into(), "lift".into()],
            rate_hz: 100.0,
            goal_space: "end_effector_position".into(),
            source: Source::Attempt,
            seed: Some(seed),
            ..EpisodeHeader::default()
        },
        steps: (0..20).map(step).collect(),
        outcome: Some(Outcome { success: Some(false), ticks: 20, ..Outcome::default() }),
        inputs: Vec::new(),
        damage: None,
    }
}

/// A folder of episodes with these seeds.
fn folder(at: &Path, seeds: std::ops::Range<u64>) -> String {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    for seed in seeds {
        append(&storage, at, &episode(seed)).unwrap();
    }
    at.to_str().unwrap().to_owned()
}

fn seeds(folder: &str) -> Vec<u64> {
    let seed = |path: &PathBuf| {
        let episode = Episode::read(&Disk, path).unwrap();
        assert!(episode.damage.is_none());
        episode.header.seed.unwrap()
    };
    paths(&Disk, Path::new(folder)).unwrap().iter().map(seed).collect()
}

#[test]
fn splitting_and_merging_keep_every_episode() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name).to_str().unwrap().to_owned();
    let all = folder(&temporary.path().join("all"), 0..10);
    says(&["split", &all, &path("some"), "--episodes", "1,4-5"]);
    assert_eq!((seeds(&all), seeds(&path("some"))), (vec![0, 2, 3, 6, 7, 8, 9], vec![1, 4, 5]));
    says(&["split", &all, &path("share"), "--share", "0.3", "--seed", "5"]);
    assert_eq!((seeds(&all).len(), seeds(&path("share")).len()), (5, 2));
    says(&["merge", &all, &path("some"), &path("share"), "--into", &path("merged")]);
    let mut merged = seeds(&path("merged"));
    merged.sort_unstable();
    assert_eq!(merged, (0..10).collect::<Vec<_>>());
    let error = refuses(&["split", &all, &path("some"), "--episodes", "1"]);
    assert!(error.contains("expected numbers of the folder's, found 1"), "{error}");
    let error = refuses(&["merge", &all, "--into", &all]);
    assert!(error.contains("expected another folder"), "{error}");
}

#[test]
fn a_label_changes_what_is_said_and_not_what_was_measured() {
    let temporary = tempfile::tempdir().unwrap();
    let all = folder(temporary.path(), 0..3);
    let file = format!("{all}/episode-000001.mcap");
    says(&["label", &file, "--outcome", "success", "--task", "stack", "--split", "validation"]);
    let labelled = Episode::read(&Disk, Path::new(&file)).unwrap();
    assert_eq!(
        (labelled.header.task.as_str(), labelled.header.split),
        ("stack", Split::Validation)
    );
    assert_eq!(labelled.outcome.unwrap().success, Some(true));
    assert_eq!(labelled.steps, episode(1).steps);
    assert!(refuses(&["label", &file]).contains("what shall be said?"));
    let stats: serde_json::Value = serde_json::from_str(&says(&["stats", &all, "--json"])).unwrap();
    assert_eq!(
        (&stats["episodes"], &stats["kinds"]["attempt"]["successes"]),
        (&3.into(), &1.into())
    );
}

#[test]
fn damage_is_found_and_nothing_is_deleted_unasked() {
    let temporary = tempfile::tempdir().unwrap();
    let all = folder(temporary.path(), 0..3);
    assert!(says(&["check", &all]).contains("3 of 3 whole"));
    let file = format!("{all}/episode-000002.mcap");
    let mut bytes = Disk.read(Path::new(&file)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    Disk.replace(Path::new(&file), &bytes).unwrap();
    let error = refuses(&["check", &all]);
    assert!(error.contains("1 of 3 damaged") && error.contains("episodes repair"), "{error}");
    let error = refuses(&["label", &file, "--task", "x"]);
    assert!(error.contains("episode-000002.mcap"), "{error}");
    assert!(refuses(&["delete", &file]).contains("--yes"));
    let other = temporary.path().join("notes.txt");
    Disk.replace(&other, b"mine").unwrap();
    let error = refuses(&["delete", "--yes", other.to_str().unwrap()]);
    assert!(error.contains("expected an episode's file"), "{error}");
    says(&["delete", "--yes", &file]);
    assert_eq!(seeds(&all), [0, 1]);
    assert_eq!(Disk.read(&other).unwrap(), b"mine");
}

#[test]
fn a_dataset_of_lerobots_goes_out_and_comes_in() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name).to_str().unwrap().to_owned();
    let all = folder(&temporary.path().join("all"), 0..4);
    says(&["export", "lerobot", &all, &path("dataset")]);
    says(&["import", "lerobot", &path("dataset"), &path("back")]);
    assert_eq!(seeds(&path("back")), [0, 1, 2, 3]);
    let steps = |folder: &str| {
        let paths = paths(&Disk, Path::new(folder)).unwrap();
        paths.iter().map(|p| Episode::read(&Disk, p).unwrap().steps).collect::<Vec<_>>()
    };
    assert_eq!(steps(&path("back")), steps(&all));
    let error = refuses(&["export", "lerobot", &all, &path("dataset"), "--units", "degrees"]);
    assert!(error.contains("expected positions in degrees, found radians"), "{error}");
    let error = refuses(&["export", "lerobot", &all, &path("other"), "--units", "lerobot"]);
    assert!(error.contains("--robot FILE"), "{error}");
    let error = refuses(&["import", "lerobot", &all, &path("x")]);
    assert!(error.contains("info.json"), "{error}");
}
