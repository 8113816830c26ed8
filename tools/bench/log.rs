//! What the log costs the control thread.

use std::hint::black_box;

use regoal::clock::{Time, WallTime};
use regoal::episode::{Begin, PolicyId, Step, log_queue};
use regoal::joints::{JointVec, stack};

use super::Setup;
use super::measure::{Contender, Figure, Unit, in_turns, latency_us};

/// Handing one step of six joints over to the log's thread, and a read of the clock (us): the median,
/// and what one of a hundred takes. The floor is a copy of the step that is never handed over.
pub fn handover(_: &Setup) -> Vec<Figure> {
    let joints: JointVec<f32> = stack([0.25; 6]);
    let step = Step {
        time: Time(1),
        wall: WallTime(1),
        stamps: stack([Time(1); 6]),
        position: joints.clone(),
        velocity: joints.clone(),
        load: joints.clone(),
        current: joints.clone(),
        temperature: joints.clone(),
        achieved_goal: stack([0.1, -0.2, 0.2]),
        desired_goal: stack([0.1, -0.2, 0.2]),
        action: joints.clone(),
        sent: joints,
        policy: PolicyId([1; 16]),
        ..Step::default()
    };
    let (mut sender, mut receiver) = log_queue();
    sender.begin(Begin::default());
    let mut waiting = 0;
    let mut hand_over = || {
        sender.step(black_box(&step).clone());
        waiting += 1;
        // Rarer than one in a hundred, so that it does not show.
        if waiting == 400 {
            while receiver.receive().is_some() {}
            waiting = 0;
        }
    };
    let mut copy = step.clone();
    let mut contenders: [Contender<'_, 2>; 2] = [
        Box::new(|| Some(latency_us(&mut hand_over))),
        Box::new(|| Some(latency_us(|| copy.clone_from(black_box(&step))))),
    ];
    let values = in_turns(&mut contenders);
    drop(contenders);
    black_box(copy);
    assert_eq!(sender.lost(), 0);
    ["median", "p99"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| {
            let [ours, floor] = [0, 1].map(|contender: usize| values[contender].map(|v| v[i]));
            Figure::new(format!("log/handover/{name}"), ours.unwrap(), Unit::Microseconds)
                .against("floor", floor)
        })
        .collect()
}
