//! Checking, relabelling and removing episodes.

use std::path::Path;
use std::sync::Arc;

use regoal::episode::*;
use regoal::storage::{Memory, Storage};

use crate::fixtures::*;

#[test]
fn a_new_label_leaves_every_step_and_the_number() {
    let mut rng = rng(0);
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    write(&storage, 3, true);
    let mut writer = create(&storage).unwrap();
    let steps: Vec<Step> = (0..200).map(|tick| any_step(&mut rng, tick)).collect();
    steps.iter().for_each(|step| writer.push(step).unwrap());
    let path = writer.finish(&outcome()).unwrap();
    rewrite(storage.as_ref(), &path, |header, outcome| {
        header.number = 77;
        header.split = Split::Validation;
        header.task = "put it there".into();
        outcome.as_mut().unwrap().success = Some(false);
    })
    .unwrap();
    let read = Episode::read(storage.as_ref(), &path).unwrap();
    assert_eq!((read.damage, read.header.number), (None, 1));
    assert_eq!((read.header.split, read.header.task.as_str()), (Split::Validation, "put it there"));
    assert_eq!(read.outcome, Some(Outcome { success: Some(false), ..outcome() }));
    assert_eq!(read.steps.len(), steps.len());
    assert!(read.steps.iter().zip(&steps).all(|(a, b)| same(a, b)));
    let listed = &list(storage.as_ref(), Path::new(FOLDER)).unwrap()[1];
    assert_eq!((listed.steps, listed.header.as_ref()), (200, Some(&read.header)));
}

#[test]
fn a_change_that_changes_nothing_gives_the_same_bytes_again_and_again() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (path, _) = write(&storage, 20, true);
    rewrite(storage.as_ref(), &path, |_, _| ()).unwrap();
    let once = storage.read(&path).unwrap();
    rewrite(storage.as_ref(), &path, |_, _| ()).unwrap();
    assert_eq!(storage.read(&path).unwrap(), once);
}

#[test]
fn a_damaged_episode_is_neither_called_good_nor_relabelled() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let (path, _) = write(&storage, 6, false);
    let before = storage.read(&path).unwrap();
    let found = check(storage.as_ref(), &path).unwrap();
    assert_eq!(found.unwrap().seal, Seal::Missing);
    let refused = rewrite(storage.as_ref(), &path, |header, _| header.task.clear());
    assert!(matches!(refused, Err(EpisodeError::Damaged { .. })));
    assert_eq!(storage.read(&path).unwrap(), before);
}

#[test]
fn what_is_removed_is_gone_and_its_neighbours_stay() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::default());
    let paths = [2, 3, 4].map(|steps| write(&storage, steps, true).0);
    remove(storage.as_ref(), &paths[1]).unwrap();
    let left = list(storage.as_ref(), Path::new(FOLDER)).unwrap();
    assert_eq!(left.iter().map(|s| s.steps).collect::<Vec<_>>(), [2, 4]);
    assert!(matches!(remove(storage.as_ref(), &paths[1]), Err(EpisodeError::Io { .. })));
}
