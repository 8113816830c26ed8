//! Fine-tuning beside a busy control loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock};
use regoal::engine::Engine;
use regoal::onnx::{BehaviourCloning, TrainStep, Verified};
use regoal::rng::{Stream, stream};
use rustix::time::{ClockId, clock_gettime};

use super::Setup;
use super::learning::{batch_of, mlp};
use super::measure::{Contender, Figure, ROUND, Unit, in_turns, pinned};

/// The control loop's tick (200 Hz), and how much of it the policy takes.
const TICK: Duration = Duration::from_millis(5);
const BUSY: Duration = Duration::from_millis(2);

/// How much a step may slow down, in the training thread's own processor time.
const SLOWER: f64 = 1.3;

/// Training steps of the MLP at batch 256 for each second of processor time that the training thread
/// gets, while a control loop asks the same policy on the same processor; the floor is what it does
/// alone over 1.3. Both take turns: it is the caches that they share.
pub fn beside(setup: &Setup) -> Vec<Figure> {
    setup.engines().map(|engine| of(engine, &setup.tract)).collect()
}

fn of(engine: &Engine, control: &Engine) -> Figure {
    let policy = Verified::try_from(mlp(&mut stream(1, Stream::Weights))).unwrap();
    let step = TrainStep::behaviour_cloning(&policy, &BehaviourCloning::default()).unwrap();
    let (busy, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let [alone, beside] = pinned(1, || {
        std::thread::scope(|scope| {
            scope.spawn(|| control_loop(control, &policy, &busy, &done));
            let batch = batch_of(&step);
            let batch: Vec<(&str, &[f32])> = batch.iter().map(|(n, d)| (*n, &d[..])).collect();
            let contender = |on| {
                let mut trainer = engine.train(&step, 1).unwrap();
                let (busy, batch) = (&busy, &batch);
                Box::new(move || {
                    busy.store(on, Ordering::Relaxed);
                    let mut step = || {
                        trainer.step(batch, 1e-4).unwrap();
                    };
                    Some([rate_of_thread(&mut step)])
                }) as Contender<'_, 1>
            };
            let rates = in_turns(&mut [contender(false), contender(true)]);
            done.store(true, Ordering::Relaxed);
            [rates[0].unwrap()[0], rates[1].unwrap()[0]]
        })
    });
    let name = format!("train_step/mlp/256/beside/{}", engine.name());
    Figure::new(name, beside, Unit::StepsOfThread).against("floor", Some(alone / SLOWER))
}

/// Acts for [`BUSY`] in each tick while `busy`, until `done`.
fn control_loop(engine: &Engine, policy: &Verified, busy: &AtomicBool, done: &AtomicBool) {
    let mut session = engine.load(policy).unwrap();
    let elements = |dims: Vec<usize>| dims.iter().product::<usize>();
    let observation = vec![0.5; elements(session.inputs()[0].dims_at(1))];
    let mut action = vec![0.0; elements(session.outputs()[0].dims_at(1))];
    let mut tick = SystemClock.now();
    while !done.load(Ordering::Relaxed) {
        while busy.load(Ordering::Relaxed) && SystemClock.now().since(tick) < BUSY {
            session.run_into(&[&observation], &mut action).unwrap();
        }
        tick = tick + TICK;
        SystemClock.sleep_until(tick);
    }
}

/// Calls for each second that this thread was on a processor, over a round.
fn rate_of_thread(mut call: impl FnMut()) -> f64 {
    let (start, begin) = (SystemClock.now(), of_thread());
    for calls in 1.. {
        call();
        if SystemClock.now().since(start) >= ROUND {
            return f64::from(calls) / (of_thread() - begin);
        }
    }
    f64::INFINITY
}

/// This thread's time on a processor (s).
pub fn of_thread() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
