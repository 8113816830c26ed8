//! What environments cost that are no arm.

use regoal::env::{Env as _, FourRooms, named};
use regoal::rng::{Stream, stream};

use super::measure::{Contender, Figure, Unit, alone, in_turns, pinned, rate, typical_us};
use super::peers;

/// Steps between two looks at the clock.
const STEPS: usize = 1000;

/// Steps as learners take them: through the trait, to and fro in the first room, into its walls and
/// along them. The peer is the same in plain Python.
pub fn four_rooms() -> Vec<Figure> {
    let name = "env/four_rooms";
    let mut env = named("four_rooms").unwrap();
    env.reset(&[0.0, 0.0], &mut stream(1, Stream::Attempts)).unwrap();
    let ours: Contender<'_, 1> = Box::new(move || {
        let thousands = rate(|| {
            for i in 0..STEPS {
                let way = if i < STEPS / 2 { 1.0 } else { -1.0 };
                env.step(&[way, 0.5 * way]).unwrap();
            }
            std::hint::black_box(env.observation());
        });
        Some([thousands * STEPS as f64])
    });
    let values = pinned(1, || in_turns(&mut [ours, peers::contender("python", name, 1)]));
    let value = |i: usize| values[i].map(|[steps]| steps);
    let figure = Figure::new(name, value(0).unwrap_or(0.0), Unit::Steps);
    vec![figure.against("python", value(1))]
}

/// A picture of 64 by 64 pixels, against the limit that we set ourselves.
pub fn raster() -> Vec<Figure> {
    let env = FourRooms::new();
    let mut draw = || drop(std::hint::black_box(env.scene().raster(64)));
    let value = alone(|| typical_us(&mut draw));
    let figure = Figure::new("env/four_rooms/raster", value, Unit::Microseconds);
    vec![figure.against("limit", Some(50.0))]
}
