use super::*;
use crate::storage::Memory;

/// One episode that goes on by 0.1 a step and wishes for what it reaches at its end.
fn buffer(last: usize) -> ReplayBuffer {
    let goals: Vec<f32> = (0..=last).map(|t| t as f32 * 0.1).collect();
    let mut buffer = ReplayBuffer::default();
    let parts = [&[], goals.as_slice(), &[], &[last as f32 * 0.1]];
    buffer.push(&Trajectory::of_parts(parts, last).unwrap()).unwrap();
    buffer
}

fn hindsight(strategy: Strategy) -> Hindsight {
    Hindsight { strategy, probability: 1.0, already_achieved: None }
}

#[test]
fn a_preview_counts_what_the_strategy_does() {
    let final_goal = preview(&buffer(20), 0.05, &hindsight(Strategy::Final), 1);
    // The wish is the end: nothing changes but the label.
    assert_eq!(final_goal.distance, final_goal.distance_desired);
    assert_eq!((final_goal.relabelled, final_goal.samples), (1.0, SAMPLES));
    assert_eq!(final_goal.success, final_goal.success_desired);
    assert!((final_goal.success - 0.05).abs() < 0.01, "{final_goal:?}");
    let kept = preview(&buffer(20), 0.05, &hindsight(Strategy::None), 1);
    assert_eq!((kept.relabelled, kept.horizon.shares.iter().sum::<f64>()), (0.0, 0.0));
    let future = preview(&buffer(20), 0.05, &hindsight(Strategy::Future), 1);
    // The mean over t of 1 / (T - t).
    let expected = (1..=20).map(|left| 1.0 / f64::from(left)).sum::<f64>() / 20.0;
    assert!((future.success - expected).abs() < 0.02, "{future:?}");
    assert!(future.distance.median < future.distance_desired.median);
    assert_eq!(future.horizon.bin, 2.0);
    assert!(future.horizon.shares.is_sorted_by(|a, b| a > b), "{future:?}");
}

#[test]
fn samples_that_the_filter_leaves_out_are_counted() {
    let filter = Hindsight { already_achieved: Some(0.15), ..hindsight(Strategy::Future) };
    let found = preview(&buffer(20), 0.05, &filter, 1);
    // The next state is 0.1 away, the one after it 0.2.
    assert!(found.left_out > 0.1 && found.success == 0.0, "{found:?}");
}

#[test]
fn a_folder_without_goals_is_refused() {
    let storage = Memory::default();
    storage.create_folder(Path::new("empty")).unwrap();
    let error = goals(&storage, Path::new("empty")).unwrap_err().to_string();
    assert!(error.contains("expected episodes with goals"), "{error}");
}

#[test]
fn a_picture_is_what_its_name_says() {
    let found = preview(&buffer(9), 0.05, &hindsight(Strategy::Future), 1);
    let drawn = |name: &str| picture::draw(&found, "future", Path::new(name));
    assert!(drawn("x.svg").unwrap().starts_with(b"<svg "));
    assert!(drawn("x.png").unwrap().starts_with(b"\x89PNG"));
    assert!(drawn("x.jpg").is_err());
}
