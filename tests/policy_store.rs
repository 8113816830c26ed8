//! The store of policies: what its verbs mean, and that a cut at any moment leaves a policy (D1).

#[path = "common/bench.rs"]
mod bench;
#[path = "common/policies.rs"]
mod policies;

use std::path::Path;
use std::sync::Arc;

use rand::RngExt as _;
use regoal::clock::ManualClock;
use regoal::episode::PolicyId;
use regoal::policy::store::{Change, TRIALS};
use regoal::policy::{Store, StoreError, id_of};
use regoal::rng::{Stream, item};
use regoal::storage::{Failure, Memory, Storage};
use serde_json::json;

use bench::{number, report, robot};
use policies::policy;

const FOLDER: &str = "robot/store";

fn store(memory: &Memory) -> Store {
    let clock = Arc::new(ManualClock::default());
    Store::open(Arc::new(memory.clone()), clock, Path::new(FOLDER)).unwrap()
}

/// A store with one active policy, on the disk.
fn with_active(file: &[u8]) -> Memory {
    let memory = Memory::default();
    let store = store(&memory);
    store.stage(file, "a test").unwrap();
    store.commit("a test").unwrap();
    memory
}

fn two() -> [Vec<u8>; 2] {
    [1e-3, 2e-3].map(|by| policy(&robot(), 2, by))
}

#[test]
fn a_policy_is_active_only_once_it_is_committed_and_whole() {
    let [first, second] = two();
    let memory = Memory::default();
    let store = store(&memory);
    assert!(matches!(store.start(), Err(StoreError::Empty { .. })));
    store.stage(&first, "a test").unwrap();
    assert!(matches!(store.active(), Err(StoreError::Empty { .. })), "staged is not active");
    assert_eq!(store.commit("a test").unwrap(), id_of(&first));
    store.stage(&second, "a test").unwrap();
    assert_eq!(store.active().unwrap(), first);
    assert!(store.stage(b"not a policy", "a test").is_err());
    assert_eq!(store.commit("a test").unwrap(), id_of(&second));
    assert_eq!(store.active().unwrap(), second);
    assert!(matches!(store.commit("a test"), Err(StoreError::Empty { .. })), "nothing is staged");
}

#[test]
fn a_policy_that_does_not_prove_itself_in_three_starts_gives_way_without_a_person() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    store.stage(&new, "a test").unwrap();
    for trial in 1..=TRIALS {
        let started = store.start().unwrap();
        assert_eq!((started.trial, &started.file), (Some(trial), &new));
        assert_eq!(started.fallback.as_deref(), Some(&old[..]));
    }
    for _ in 0..10 {
        let started = store.start().unwrap();
        assert_eq!((started.trial, &started.file), (None, &old));
    }
    let events = store.state().unwrap().events;
    let last = events.last().unwrap();
    assert_eq!((last.policy, last.change), (id_of(&new), Change::Demoted));
    // Only a person has it tried again.
    assert!(matches!(store.stage(&new, "a test"), Err(StoreError::Demoted { .. })));
    assert!(matches!(store.install(&new, None, false, "a test"), Err(StoreError::Demoted { .. })));
    store.install(&new, None, true, "a test").unwrap();
    assert_eq!(store.start().unwrap().trial, Some(1));
}

#[test]
fn no_other_policy_is_committed_than_the_one_that_is_meant() {
    let [old, new] = two();
    let other = policy(&robot(), 2, 3e-3);
    let store = store(&with_active(&old));
    store.stage(&new, "a test").unwrap();
    store.stage(&other, "another program").unwrap();
    assert!(!store.prove(id_of(&new), "a test").unwrap());
    assert_eq!(store.active().unwrap(), old);
    assert!(store.prove(id_of(&other), "a test").unwrap());
    assert_eq!(store.active().unwrap(), other);
}

#[test]
fn a_start_in_which_a_policy_never_steered_does_not_count() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    store.stage(&new, "a test").unwrap();
    for _ in 0..10 {
        assert_eq!(store.start().unwrap().trial, Some(1));
        store.unused(id_of(&new)).unwrap();
    }
}

#[test]
fn a_committed_policy_that_fails_gives_way_to_the_one_before_and_the_last_one_stays() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    store.stage(&new, "a test").unwrap();
    store.commit("a test").unwrap();
    assert!(store.demote(id_of(&new), "it broke a cup").unwrap());
    assert_eq!(store.active().unwrap(), old);
    assert!(!store.demote(id_of(&old), "so did this one").unwrap());
    assert_eq!(store.active().unwrap(), old);
    assert!(store.state().unwrap().events.iter().any(|event| event.why == "it broke a cup"));
}

#[test]
fn the_first_policy_on_trial_can_be_gone_back_from() {
    let [first, second] = two();
    let store = store(&Memory::default());
    store.stage(&first, "a test").unwrap();
    store.start().unwrap();
    assert_eq!(store.roll_back("a test").unwrap(), None);
    assert!(matches!(store.start(), Err(StoreError::Empty { .. })));
    store.stage(&second, "a test").unwrap();
    assert_eq!(store.start().unwrap().policy, id_of(&second));
}

#[test]
fn what_a_person_went_back_from_does_not_return_when_the_older_one_fails() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    store.stage(&new, "a test").unwrap();
    store.commit("a test").unwrap();
    assert_eq!(store.roll_back("drops the cup").unwrap(), Some(id_of(&old)));
    assert!(!store.demote(id_of(&old), "it failed").unwrap());
    assert_eq!(store.active().unwrap(), old);
    // A person wants it after all: now either may take over from the other.
    assert_eq!(store.roll_back("it was the gripper").unwrap(), Some(id_of(&new)));
    assert!(store.demote(id_of(&new), "it failed").unwrap());
    assert_eq!(store.active().unwrap(), old);
}

#[test]
fn a_person_goes_back_and_forth_between_two_policies() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    assert!(matches!(store.roll_back("a test"), Err(StoreError::Empty { .. })));
    store.stage(&new, "a test").unwrap();
    assert_eq!(store.roll_back("a test").unwrap(), Some(id_of(&old)), "the staged one is dropped");
    assert!(store.state().unwrap().candidate.is_none());
    store.stage(&new, "a test").unwrap();
    store.commit("a test").unwrap();
    assert_eq!(store.roll_back("a test").unwrap(), Some(id_of(&old)));
    assert_eq!(store.roll_back("a test").unwrap(), Some(id_of(&new)));
    assert_eq!(store.active().unwrap(), new);
}

#[test]
fn to_install_the_same_again_changes_nothing() {
    let [old, new] = two();
    let store = store(&with_active(&old));
    let before = store.state().unwrap();
    store.install(&old, None, false, "a test").unwrap();
    assert_eq!(store.state().unwrap(), before);
    store.install(&new, None, false, "a test").unwrap();
    let before = store.state().unwrap();
    store.install(&new, None, false, "a test").unwrap();
    assert_eq!(store.state().unwrap(), before);
}

#[test]
fn a_damaged_file_costs_its_own_policy_only() {
    let [old, new] = two();
    let memory = with_active(&old);
    let store = store(&memory);
    store.stage(&new, "a test").unwrap();
    store.commit("a test").unwrap();
    let path = Path::new(FOLDER).join("policies").join(format!("{}.onnx", id_of(&new)));
    memory.replace(&path, &old).unwrap();
    assert!(matches!(store.active(), Err(StoreError::Damaged { .. })));
    assert_eq!(store.start().unwrap().file, old);
    assert_eq!(store.active().unwrap(), old);
}

#[test]
fn no_more_policies_are_kept_than_may_be_needed() {
    let memory = Memory::default();
    let store = store(&memory);
    for i in 0..20 {
        store.stage(&policy(&robot(), 2, 1e-3 * i as f32), "a test").unwrap();
        store.commit("a test").unwrap();
    }
    let kept = memory.list(&Path::new(FOLDER).join("policies")).unwrap();
    assert!(kept.len() <= 3, "{kept:?}");
}

#[test]
fn two_programs_never_change_a_store_at_once() {
    let memory = with_active(&two()[0]);
    let store = store(&memory);
    let held = memory.lock(&Path::new(FOLDER).join("lock")).unwrap();
    assert!(matches!(store.start(), Err(StoreError::Busy { .. })));
    drop(held);
    store.start().unwrap();
}

type Act = fn(&Store, &[u8]) -> Result<(), StoreError>;

/// What is done to a store with one active policy, and whether the old policy, the new one or
/// either may be started when it was done.
const ACTS: [(&str, Act); 6] = [
    ("stage", |store, new| store.stage(new, "a test").map(drop)),
    ("trial", |store, _| store.start().map(drop)),
    ("commit", |store, _| store.commit("a test").map(drop)),
    ("roll back", |store, _| store.roll_back("a test").map(drop)),
    ("roll forward", |store, _| store.roll_back("a test").map(drop)),
    ("demote", |store, new| store.demote(id_of(new), "a test").map(drop)),
];

/// Does all of it until a call fails; how far it came.
fn act(memory: &Memory, new: &[u8]) -> usize {
    let store = store(memory);
    ACTS.iter().take_while(|(_, act)| act(&store, new).is_ok()).count()
}

/// Which of the two may be active when so many acts were done and the next may be, or not.
fn may_be_active(done: usize, [old, new]: [PolicyId; 2]) -> Vec<PolicyId> {
    let after = [old, old, old, new, old, new, old];
    let mut may = vec![after[done]];
    may.extend(after.get(done + 1));
    may
}

/// Why a disk is not as it must be after so many acts: one policy active, and it stays so over
/// reboots, in which a trial comes to its end.
fn judge(disk: &Memory, done: usize, files: &[Vec<u8>; 2]) -> Result<(), String> {
    let say = |e: StoreError| e.to_string();
    let ids = [id_of(&files[0]), id_of(&files[1])];
    let store = store(disk);
    let active = id_of(&store.active().map_err(say)?);
    if !may_be_active(done, ids).contains(&active) {
        return Err(format!("{active} is active"));
    }
    let mut trials = 0;
    for _ in 0..2 * TRIALS {
        let started = store.start().map_err(say)?;
        if !ids.contains(&started.policy) || id_of(&started.file) != started.policy {
            return Err(format!("{} starts", started.policy));
        }
        trials += u32::from(started.trial.is_some());
        if started.trial.is_none() && started.policy != active {
            return Err(format!("{} starts, {active} is active", started.policy));
        }
    }
    if trials > TRIALS {
        return Err(format!("{trials} trials"));
    }
    // And all goes on from there.
    store.install(&files[1], None, true, "a test").map_err(say)?;
    if store.state().map_err(say)?.candidate.is_some() {
        store.commit("a test").map_err(say)?;
    }
    (store.active().map_err(say)? == files[1]).then_some(()).ok_or("not committed".into())
}

#[test]
fn d1_a_cut_at_any_moment_leaves_one_valid_policy() {
    let seed = number("REGOAL_SEED", 1);
    let files = two();
    let whole = with_active(&files[0]);
    let before = whole.calls();
    assert_eq!(act(&whole, &files[1]), ACTS.len());
    let points = whole.calls() - before;
    let images = number("REGOAL_CASES", 4000).div_ceil(points);
    let (mut runs, mut failures) = (0, 0);
    for at in 1..=points {
        let memory = with_active(&files[0]);
        memory.fail(at, Failure::Once);
        let done = act(&memory, &files[1]);
        let mut rng = item(seed, Stream::Faults, at);
        for case in 0..=images {
            // The first is what a killed process leaves: all that it had done.
            let disk = memory.after_power_cut(&mut |n| match case {
                0 => n - 1,
                _ => rng.random_range(0..n),
            });
            runs += 1;
            if let Err(why) = judge(&disk, done, &files) {
                eprintln!("call {at}, image {case}: after {done} acts: {why}");
                failures += 1;
            }
        }
    }
    let figures = json!({ "points": points, "images_each": images + 1, "acts": ACTS.len() });
    report("D1", seed, runs, failures, figures);
    assert_eq!(failures, 0);
}

#[test]
fn a_full_disk_leaves_the_store_as_it_was() {
    let files = two();
    for at in 1..100 {
        let memory = with_active(&files[0]);
        memory.fail(at, Failure::Full);
        let done = act(&memory, &files[1]);
        let disk = memory.after_power_cut(&mut |n| n - 1);
        judge(&disk, done, &files).unwrap_or_else(|why| panic!("call {at}: {why}"));
        if done == ACTS.len() {
            return;
        }
    }
    panic!("it never came to its end");
}
